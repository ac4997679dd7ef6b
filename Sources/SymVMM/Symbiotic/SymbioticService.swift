// SPDX-License-Identifier: Apache-2.0

public import VMMBase

/// A service of the VMM that works together with the guest: it answers doorbells, and may make symcalls while it does so.
///
/// The command puts services and the VMM together; SymVMM knows none of them. A service may bring virtio devices, windows beside the guest's
/// RAM, and counters; each hook does nothing unless it is overridden.
open class SymbioticService: @unchecked Sendable {
    /// What of the symbiotic interface is the service's alone.
    public let claims: ServiceClaims

    /// Name in messages and statistics.
    public var name: String { claims.name }

    /// Describes a service.
    public init(claims: ServiceClaims) {
        self.claims = claims
    }

    /// Devices that the service brings; the guest finds them behind the machine's own. Asked for once, while the machine is put together.
    open func devices() -> [VirtioDevice] {
        []
    }

    /// The machine is complete, and nothing runs yet. A service that keeps it does so weakly: the machine holds its services.
    open func prepare(on machine: any ServiceHost) throws(MachineError) {
    }

    /// The run is over: no vCPU runs, no device works. Called once.
    open func end() {
    }

    /// Answers a doorbell that the guest's kernel rang. On the vCPU's thread, inside the exit: `vcpu.symcall` may be used.
    ///
    /// - Parameters:
    ///   - values: the guest's RBX, RCX, RDX, RSI and RDI. They may hold anything.
    open func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
    }

    /// What the service has counted, in the order to print. Any thread.
    ///
    /// Counts only grow, with two exceptions that their names tell: `…_bytes` is a level, and `guest_…` is the guest's word, which may do
    /// anything.
    open func counters() -> [(name: String, value: UInt64)] {
        []
    }
}
