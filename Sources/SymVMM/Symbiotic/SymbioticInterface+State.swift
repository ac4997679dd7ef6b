// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI
internal import Synchronization
internal import VMMBase

/// The VM's registration. Symcalls that wait for a doorbell are not part of it, because threads of this process wait for them.
extension SymbioticInterface: Snapshotable {
    struct State: Codable, Sendable, Equatable {
        /// GPA of the global page; 0 when there is none.
        var globalPage: UInt64
        /// A handler exceeded its time limit.
        var isDisabled: Bool
        /// The guest unloads its module.
        var isUnloading: Bool
    }

    static let stateKind = "symbiotic"

    func saveState() throws(VMMError) -> State {
        State(
            globalPage: globalPage, isDisabled: isDisabled.load(ordering: .relaxed), isUnloading: isUnloading.load(ordering: .relaxed))
    }

    /// Registers the page like the guest's WRMSR, with the same checks. The guest's memory must have its contents.
    func restoreState(_ state: State) throws(VMMError) {
        guard state.globalPage == 0 || writeGlobalPage(state.globalPage) else {
            throw .user("the symbiotic global page 0x\(String(state.globalPage, radix: 16)) is not a page of the guest's memory")
        }
        isUnloading.store(state.isUnloading, ordering: .relaxed)
        if state.isDisabled { disable() }
    }
}

/// One vCPU's registration: its MSRs.
struct VCPURegistrationState: Codable, Sendable, Equatable {
    /// In an order in which WRMSR accepts them: RIP, which arms the vCPU, is last.
    static let registers: [UInt32] = [
        SYMBIOTIC_MSR_LOCAL_PAGE, SYMBIOTIC_MSR_RSP, SYMBIOTIC_MSR_CS, SYMBIOTIC_MSR_GS_BASE, SYMBIOTIC_MSR_FS_BASE,
        SYMBIOTIC_MSR_CR3_CLEAR, SYMBIOTIC_MSR_IDT, SYMBIOTIC_MSR_FAST_DOORBELL, SYMBIOTIC_MSR_RIP,
    ]

    /// One for each of `registers`.
    var values: [UInt64]
}

extension SymCallEngine {
    /// Returns the vCPU's registration.
    func saveRegistration() -> VCPURegistrationState {
        let msrs = registration.current
        return VCPURegistrationState(values: VCPURegistrationState.registers.map { msrs.read($0) ?? 0 })
    }

    /// Registers the vCPU like the guest's WRMSRs, with the same checks. The interface must be restored first.
    ///
    /// - Parameter addressBits: linear-address bits that the restored vCPU uses.
    func restoreRegistration(_ state: VCPURegistrationState, addressBits: Int) throws(VMMError) {
        guard state.values.count == VCPURegistrationState.registers.count else {
            throw .user("\(state.values.count) symbiotic MSRs, not \(VCPURegistrationState.registers.count)")
        }
        for (index, value) in zip(VCPURegistrationState.registers, state.values) where value != 0 {
            guard registration.write(index, value, addressBits: addressBits) else {
                throw .user("symbiotic MSR 0x\(String(index, radix: 16)) cannot be 0x\(String(value, radix: 16))")
            }
        }
    }
}
