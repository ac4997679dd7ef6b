// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The state of a virtual machine, without the contents of its memory and of its services' windows.
///
/// It contains what the guest can observe, and nothing about the host: no file, no descriptor. Restore it into a machine with the same
/// configuration. A decoder needs that machine's kinds of state: `VirtualMachine.stateKinds`.
public struct SavedMachine: Codable, Sendable {
    /// The version of this layout. Parts have versions of their own.
    public static let currentVersion = 1

    /// A part with its name.
    struct Part: Codable, Sendable {
        var name: String
        var state: SavedState
    }

    var version = SavedMachine.currentVersion
    var memoryByteCount: UInt64
    var clock: ClockState
    var vcpus: [VCPUState]
    var interruptControllers: InterruptControllerState
    var intervalTimer: IntervalTimerState
    /// In the order of the buses.
    var devices: [Part]
    /// Nil when the VM does not offer the interface.
    var symbiotic: SavedState?
    var services: [Part]
}
