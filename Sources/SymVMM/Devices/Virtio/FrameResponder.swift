// SPDX-License-Identifier: Apache-2.0

/// Answers some of the guest's frames itself, in place of the network behind a tap: for instance the metadata service.
///
/// The base class answers none. One responder belongs to one interface. The interface's I/O thread makes all calls, so a responder needs no lock of its
/// own and must not block. Frames come from the guest and are hostile; they begin with the Ethernet header, without a virtio header.
open class FrameResponder: @unchecked Sendable {
    /// Makes the responder of the interface with an identifier; nil: none.
    public typealias Maker = @Sendable (String) -> FrameResponder?

    /// Bytes of a frame's start that `takes(_:)` gets, or fewer if the frame is shorter: Ethernet and IPv4 headers, or an ARP packet.
    public static let startByteCount = 42
    /// The longest frame that `next(into:)` may make.
    public static let frameByteLimit = 1514

    /// Makes a responder.
    public init() {
    }

    /// Whether the responder gets the frame, which then does not reach the tap.
    open func takes(_ start: UnsafeRawBufferPointer) -> Bool {
        false
    }

    /// Handles a frame.
    ///
    /// - Parameters:
    ///   - frame: the whole frame, at most 64 KiB.
    ///   - isChecked: whether its transport checksum is complete; false if the guest leaves it to the device (VIRTIO_NET_HDR_F_NEEDS_CSUM).
    open func handle(_ frame: UnsafeRawBufferPointer, isChecked: Bool) {
    }

    /// Copies the next frame for the guest into a buffer of `frameByteLimit` bytes.
    ///
    /// - Returns: its length; 0 if there is none now.
    open func next(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        0
    }

    /// Whether `next(into:)` has a frame now.
    open var hasNext: Bool {
        false
    }

    /// When to call `next(into:)` although the guest has sent nothing, in nanoseconds of CLOCK_MONOTONIC; nil: never.
    open var deadline: UInt64? {
        nil
    }

    /// The driver has reset the device: forgets what the guest has begun.
    open func reset() {
    }

    /// Counters of what was handled and refused, in the order to print.
    open func counters() -> [(name: String, value: UInt64)] {
        []
    }
}
