// SPDX-License-Identifier: Apache-2.0

public import VMMModel

/// What a device may know and ask of the vCPU whose access it answers. On that vCPU's thread only, save `end(_:)`.
///
/// A class, not a protocol: it is passed on every exit, and a class reference crosses no existential.
open class VCPUContext: @unchecked Sendable {
    /// Number of the vCPU, from 0; also its APIC id.
    public let index: Int

    /// For the machine, and for tests of a device without one.
    public init(index: Int) {
        self.index = index
    }

    /// Ends the machine's run: the guest asked for it, or cannot go on. Any thread.
    open func end(_ outcome: TerminationReason) {
    }
}
