// SPDX-License-Identifier: Apache-2.0

public import VMMModel

/// A device's view of the vCPU whose access it handles. On that vCPU's thread only, except `end(_:)`.
///
/// A class, not a protocol: the run loop passes it on every exit, and a class reference crosses no existential.
open class VCPUContext: @unchecked Sendable {
    /// Index of the vCPU, from 0; also its APIC ID.
    public let index: Int

    /// Creates a context, for a machine or for tests of a device.
    public init(index: Int) {
        self.index = index
    }

    /// Ends the machine's run, because the guest requested it or cannot continue. Any thread.
    open func end(_ outcome: TerminationReason) {
    }
}
