// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// A vCPU as the symbiotic interface and its services see it: what every device may ask of it, and calls into its guest.
///
/// The machine's vCPU is the one subclass. It overrides what needs the run loop, which lies in a layer above.
open class SymbioticVCPU: VCPUContext, @unchecked Sendable {
    /// This vCPU's side of the symbiotic interface; nil when the guest is not offered one.
    let symbiotic: SymbioticProcessor?

    init(index: Int, symbiotic: SymbioticProcessor?) {
        self.symbiotic = symbiotic
        super.init(index: index)
    }

    /// Calls the guest. Only while a device takes a write of this vCPU, or from the run loop between two exits.
    ///
    /// The results are the guest's word: check them before use.
    public func symcall(_ number: UInt32, _ arguments: SymCallValues = SymCallValues()) throws(SymCallError) -> SymCallValues {
        throw .notOffered
    }

    /// The guest wrote to the doorbell's port. False when it counts for nothing: from a program, from a handler, from an unfinished exit.
    func handleDoorbellWrite(_ number: UInt8) -> Bool {
        false
    }

    /// Linear-address bits in use: 57 with five-level paging, else 48 (SDM volume 3A, 4.5). In a WRMSR's exit.
    func linearAddressBits() -> Int {
        48
    }

    /// Makes a running KVM_RUN return, or the next one not start. Any thread.
    func kick(_ thread: Thread) {
    }
}
