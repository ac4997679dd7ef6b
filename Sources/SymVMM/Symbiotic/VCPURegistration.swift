// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI
internal import VMMBase

/// What the guest has registered for one vCPU, and that vCPU's local page. Only the vCPU's thread uses it.
@safe final class VCPURegistration {
    private let interface: SymbioticInterface
    private let tasks: TaskRecorder
    /// Valid in the generation below. The interface starts a new generation when the guest drops its registration.
    private var msrs = SymbioticMSRs()
    private var generation: UInt64 = 0
    /// SAFETY: the local page in guest memory. `write` has checked it, and guest memory stays mapped as long as vCPUs run.
    private var localPage: UnsafeMutableRawPointer?

    init(interface: SymbioticInterface, tasks: TaskRecorder) {
        self.interface = interface
        self.tasks = tasks
    }

    /// The MSRs in force.
    @inline(__always)
    var current: SymbioticMSRs {
        if generation != interface.generation { drop() }
        return msrs
    }

    private func drop() {
        generation = interface.generation
        msrs = SymbioticMSRs()
        unsafe localPage = nil
        tasks.forget()
    }

    /// Handles a WRMSR of this vCPU. False means #GP.
    func write(_ index: UInt32, _ value: UInt64, addressBits: Int) -> Bool {
        var next = current
        let isAccepted = next.write(
            index, value, addressBits: addressBits, hasGlobalPage: interface.globalPage != 0, isPage: interface.isPage)
        guard isAccepted else { return false }
        msrs = next
        if index == SYMBIOTIC_MSR_LOCAL_PAGE {
            // SAFETY: pointer(_:byteCount:) checks that the whole page lies in guest memory.
            unsafe localPage = value == 0 ? nil : try? interface.memory.pointer(value, byteCount: Int(GuestMemory.pageSize))
            unsafe tasks.watch(localPage: localPage, interface.generationCounter)
        }
        if index == SYMBIOTIC_MSR_RIP { store(value == 0 ? 0 : 1, at: LocalPage.enabled) }
        return true
    }

    /// Offsets in the local page (docs/ABI.md, section 3.2).
    enum LocalPage {
        static let enabled = Int(SYMBIOTIC_LOCAL_ENABLED)
        static let active = Int(SYMBIOTIC_LOCAL_ACTIVE)
        static let aborts = Int(SYMBIOTIC_LOCAL_ABORTS)
        static let failures = Int(SYMBIOTIC_LOCAL_FAILURES)
        static let completed = Int(SYMBIOTIC_LOCAL_COMPLETED)
    }

    /// Writes a 32-bit field of the local page. Does nothing when the guest has none.
    @inline(__always)
    func store(_ value: UInt32, at offset: Int) {
        guard let page = unsafe registeredLocalPage else { return }
        // SAFETY: the offset is one of LocalPage's, within the page and aligned.
        unsafe page.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
    }

    /// Adds one to a 64-bit field of the local page. Does nothing when the guest has none.
    @inline(__always)
    func increment(_ offset: Int) {
        guard let page = unsafe registeredLocalPage else { return }
        // SAFETY: as above.
        unsafe page.storeBytes(of: page.load(fromByteOffset: offset, as: UInt64.self) &+ 1, toByteOffset: offset, as: UInt64.self)
    }

    /// The local page in the VMM's address space; nil when the guest has dropped it.
    @inline(__always)
    private var registeredLocalPage: UnsafeMutableRawPointer? {
        interface.generation == generation ? unsafe localPage : nil
    }
}
