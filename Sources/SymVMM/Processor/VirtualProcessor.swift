// SPDX-License-Identifier: Apache-2.0

/// A vCPU: its thread, its run loop, its statistics.
public final class VirtualProcessor: Sendable {
    /// Number of the vCPU, from 0; also its APIC id.
    public let index: Int

    init(index: Int) {
        self.index = index
    }
}
