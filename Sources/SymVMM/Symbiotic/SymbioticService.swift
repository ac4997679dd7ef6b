// SPDX-License-Identifier: Apache-2.0

public import VMMBase

/// A service of the VMM that cooperates with the guest: it handles doorbells, and may make symcalls in them.
///
/// SymVMM contains no service; the program that embeds it passes them to `VirtualMachine.init`. A service may have virtio devices, windows in
/// guest-physical address space, and counters. Every method does nothing unless a subclass overrides it.
open class SymbioticService: @unchecked Sendable {
    /// The parts of the symbiotic interface that the service uses alone.
    public let claims: ServiceClaims

    /// Name in messages and statistics.
    public var name: String { claims.name }

    /// Describes a service.
    public init(claims: ServiceClaims) {
        self.claims = claims
    }

    /// The service's virtio devices. The guest finds them after the machine's. Called once, while the machine is built.
    open func devices() -> [VirtioDevice] {
        []
    }

    /// The machine is complete, and no vCPU runs yet. A service must keep only a weak reference to it, because the machine owns its services.
    open func prepare(on machine: any ServiceHost) throws(VMMError) {
    }

    /// Copies the contents of the windows of the same service in another machine.
    ///
    /// A service must also be `Snapshotable`, or its machine cannot be saved. The order is: restore its state, copy these contents,
    /// start the machine.
    /// So the windows are at their saved addresses before the first vCPU runs.
    open func copyContents(from other: SymbioticService) throws(VMMError) {
    }

    /// The run has ended: no vCPU and no device runs. Called once.
    open func end() {
    }

    /// Handles a doorbell that the guest's kernel rang. On the vCPU's thread, inside the exit, where `vcpu.symcall` is allowed.
    ///
    /// - Parameters:
    ///   - doorbell: its number.
    ///   - values: the guest's RBX, RCX, RDX, RSI and RDI, which are not trustworthy.
    ///   - vcpu: the vCPU that rang the doorbell.
    open func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
    }

    /// The service's counters, in the order to print. Any thread.
    ///
    /// A counter only grows, except `…_bytes`, which is a level, and `guest_…`, which the guest writes.
    open func counters() -> [(name: String, value: UInt64)] {
        []
    }
}
