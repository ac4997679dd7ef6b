// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI

/// The registration MSRs of one vCPU, and which values they accept (docs/ABI.md, section 2).
struct SymbioticMSRs: Equatable, Sendable {
    var localPage: UInt64 = 0
    var rip: UInt64 = 0
    var rsp: UInt64 = 0
    var cs: UInt64 = 0
    var gsBase: UInt64 = 0
    var fsBase: UInt64 = 0
    var cr3Clear: UInt64 = 0
    var idt: UInt64 = 0
    /// Address of the fast doorbell's OUT; 0 when the guest has none.
    var fastDoorbell: UInt64 = 0

    /// The vCPU accepts symcalls.
    var isArmed: Bool { rip != 0 }

    /// The value of an MSR; nil when it does not belong to the vCPU.
    func read(_ index: UInt32) -> UInt64? {
        switch index {
        case SYMBIOTIC_MSR_LOCAL_PAGE: localPage
        case SYMBIOTIC_MSR_RIP: rip
        case SYMBIOTIC_MSR_RSP: rsp
        case SYMBIOTIC_MSR_CS: cs
        case SYMBIOTIC_MSR_GS_BASE: gsBase
        case SYMBIOTIC_MSR_FS_BASE: fsBase
        case SYMBIOTIC_MSR_CR3_CLEAR: cr3Clear
        case SYMBIOTIC_MSR_IDT: idt
        case SYMBIOTIC_MSR_FAST_DOORBELL: fastDoorbell
        default: nil
        }
    }

    /// Handles a WRMSR. False means #GP; nothing has changed then.
    ///
    /// - Parameters:
    ///   - addressBits: linear-address bits in use, 48 or 57.
    ///   - hasGlobalPage: the guest has registered its global page.
    ///   - isPage: whether a GPA is that of a page of RAM.
    mutating func write(_ index: UInt32, _ value: UInt64, addressBits: Int, hasGlobalPage: Bool, isPage: (UInt64) -> Bool) -> Bool {
        // An armed vCPU accepts only RIP = 0, which disarms it.
        if isArmed, index != SYMBIOTIC_MSR_RIP || value != 0 { return false }
        let isKernelAddress = value >> 63 == 1 && SymbioticMSRs.isCanonical(value, addressBits)
        switch index {
        case SYMBIOTIC_MSR_LOCAL_PAGE:
            guard value == 0 || (hasGlobalPage && isPage(value)) else { return false }
            localPage = value
        case SYMBIOTIC_MSR_RIP:
            guard value == 0 || (isKernelAddress && localPage != 0 && rsp != 0 && cs != 0 && idt != 0) else { return false }
            rip = value
        case SYMBIOTIC_MSR_RSP:
            guard value == 0 || (isKernelAddress && value % 16 == 0) else { return false }
            rsp = value
        case SYMBIOTIC_MSR_CS:
            guard value == 0 || (8...0xfff0).contains(value) && value % 8 == 0 else { return false }
            cs = value
        case SYMBIOTIC_MSR_GS_BASE:
            guard SymbioticMSRs.isCanonical(value, addressBits) else { return false }
            gsBase = value
        case SYMBIOTIC_MSR_FS_BASE:
            guard SymbioticMSRs.isCanonical(value, addressBits) else { return false }
            fsBase = value
        case SYMBIOTIC_MSR_CR3_CLEAR:
            guard value & ~SYMBIOTIC_CR3_CLEAR_ALLOWED == 0 else { return false }
            cr3Clear = value
        case SYMBIOTIC_MSR_IDT:
            guard value == 0 || (isKernelAddress && value % 16 == 0) else { return false }
            idt = value
        case SYMBIOTIC_MSR_FAST_DOORBELL:
            guard value == 0 || isKernelAddress else { return false }
            fastDoorbell = value
        default:
            return false
        }
        return true
    }

    /// Whether the bits above the address bits all equal the highest address bit (SDM volume 1, 3.3.7.1).
    static func isCanonical(_ address: UInt64, _ addressBits: Int) -> Bool {
        let unused = 64 - addressBits
        return UInt64(bitPattern: Int64(bitPattern: address << UInt64(unused)) >> Int64(unused)) == address
    }
}
