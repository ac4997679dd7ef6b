// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// A vCPU as the symbiotic interface and its services see it: the device's view, and symcalls.
///
/// The machine's vCPU is the only subclass. It overrides what needs the run loop, which lies in a layer above.
open class SymbioticVCPU: VCPUContext, @unchecked Sendable {
    /// Makes symcalls on this vCPU; nil when the VM does not offer the symbiotic interface.
    let symCallEngine: SymCallEngine?
    /// Counts this vCPU's exits by guest process; nil when the VM does not offer the symbiotic interface.
    let tasks: TaskRecorder?

    init(index: Int, symbiotic: SymbioticSetup?) throws(VMMError) {
        if let symbiotic {
            let recorder = try TaskRecorder()
            tasks = recorder
            symCallEngine = try SymCallEngine(interface: symbiotic.interface, watchdog: symbiotic.watchdog, tasks: recorder)
        } else {
            tasks = nil
            symCallEngine = nil
        }
        super.init(index: index)
    }

    /// Makes a symcall. On the vCPU's thread: in a device's `write`, in a service's `handle`, or in the run loop between two exits.
    ///
    /// The guest chooses the results: check them before use.
    public func symcall(_ number: UInt32, _ arguments: SymCallValues = SymCallValues()) throws(SymCallFailure) -> SymCallValues {
        throw .notOffered
    }

    /// Linear-address bits in use: 57 with five-level paging, else 48 (SDM volume 3A, 4.5). In a WRMSR's exit.
    func linearAddressBits() -> Int {
        48
    }

    /// Makes a running KVM_RUN return, or the next one return at once. Any thread.
    func kick(_ thread: Thread) {
    }
}
