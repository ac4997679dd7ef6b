// SPDX-License-Identifier: Apache-2.0

/// A service of the VMM that works together with the guest: it answers doorbells, and may make symcalls while it does so.
///
/// The command puts services and the VMM together; SymVMM knows none of them. A service may bring virtio devices, memory beside the guest's
/// RAM, and counters; each hook does nothing unless it is overridden.
open class SymbioticService: @unchecked Sendable {
    /// Name in messages and statistics.
    public let name: String
    /// The doorbells that are the service's (docs/ABI.md, section 6).
    public let doorbells: ClosedRange<UInt8>

    /// Feature bits that tell the guest of the service (docs/ABI.md, section 1).
    public let features: UInt32

    /// Describes a service.
    public init(name: String, features: UInt32, doorbells: ClosedRange<UInt8>) {
        self.name = name
        self.features = features
        self.doorbells = doorbells
    }

    /// Devices that the service brings; the guest finds them behind the machine's own. Asked for once, while the machine is put together.
    open func devices() -> [VirtioDevice] {
        []
    }

    /// The machine is complete, and nothing runs yet. A service that keeps it does so weakly: the machine holds its services.
    open func prepare(on machine: VirtualMachine) throws(MachineError) {
    }

    /// The run is over: no vCPU runs, no device works. Called once.
    open func end() {
    }

    /// Answers a doorbell that the guest's kernel rang. On the vCPU's thread, inside the exit: `processor.symcall` may be used.
    ///
    /// - Parameters:
    ///   - values: the guest's RBX, RCX, RDX, RSI and RDI. They may hold anything.
    open func answer(doorbell: UInt8, _ values: SymCallValues, on processor: VirtualProcessor) {
    }

    /// What the service has counted, in the order to print. Any thread.
    ///
    /// Counts only grow, with two exceptions that their names tell: `…_bytes` is a level, and `guest_…` is the guest's word, which may do
    /// anything.
    open func counters() -> [(name: String, value: UInt64)] {
        []
    }
}
