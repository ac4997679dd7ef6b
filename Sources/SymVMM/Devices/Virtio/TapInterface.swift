// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// The offloads that the host may use in frames that it sends to the guest (TUNSETOFFLOAD).
struct TapOffload: OptionSet, Sendable {
    let rawValue: UInt32

    static let checksum = TapOffload(rawValue: 1)  // TUN_F_CSUM
    static let segmentation4 = TapOffload(rawValue: 2)  // TUN_F_TSO4
    static let segmentation6 = TapOffload(rawValue: 4)  // TUN_F_TSO6
}

/// An attached tap interface of the host: whole Ethernet frames, each after a virtio-net header. Reads and writes never block.
struct TapInterface: ~Copyable, Sendable {
    /// Bytes of struct virtio_net_hdr_v1.
    static let headerSize = 12

    let descriptor: OwnedFileDescriptor
    /// Whether the tap supports checksum and segmentation offload.
    let canOffload: Bool

    /// Attaches to an existing interface.
    ///
    /// - Throws: `VMMError` with advice: no such interface, not a tap, in use, not permitted, no tun module.
    init(name: String) throws(VMMError) {
        let call = "tap \(name)"
        guard (1...15).contains(name.utf8.count), !name.utf8.contains(UInt8(ascii: "/")) else {
            throw VMMError(call: call, errno: EINVAL, advice: "an interface's name has 1 to 15 characters and no '/'")
        }
        // Attaching to a name that does not exist would create an unconfigured interface.
        // SAFETY: the string lives for the call.
        guard unsafe if_nametoindex(name) != 0 else {
            throw VMMError(call: call, errno: ENODEV, advice: "no such interface: make it with 'ip tuntap add \(name) mode tap user $USER'")
        }
        // SAFETY: the string lives for the call.
        let number = unsafe ckvm_open_tap(name, Int32(TapInterface.headerSize))
        guard number >= 0 else { throw VMMError(call: call, errno: -number, advice: TapInterface.advice(-number)) }
        descriptor = OwnedFileDescriptor(owning: number)
        let all: TapOffload = [.checksum, .segmentation4, .segmentation6]
        canOffload = ckvm_set_tap_offload(number, all.rawValue) >= 0
        // Resets the offloads that an earlier user of the interface has set.
        _ = ckvm_set_tap_offload(number, 0)
    }

    /// Takes over a descriptor that moves whole frames, such as a socket. For tests and fuzz targets.
    init(owning descriptor: consuming OwnedFileDescriptor) {
        self.descriptor = descriptor
        canOffload = false
    }

    /// Sets the offloads of frames for the guest.
    func setOffload(_ offload: TapOffload) throws(VMMError) {
        _ = try VMMError.check(ckvm_set_tap_offload(descriptor.rawValue, offload.rawValue), "TUNSETOFFLOAD")
    }

    /// Reads one frame.
    ///
    /// - Returns: its length with the header; nil if there is none now; 0 if the interface no longer exists.
    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        while true {
            // SAFETY: the buffer has `count` bytes.
            let bytes = unsafe read(descriptor.rawValue, buffer.baseAddress, buffer.count)
            if bytes >= 0 { return bytes }
            if errno == EAGAIN { return nil }
            if errno != EINTR { return 0 }
        }
    }

    /// Sends one frame with its header.
    ///
    /// - Returns: whether the host accepted it.
    func send(_ frame: borrowing GuestVectors) -> Bool {
        while true {
            let number = descriptor.rawValue
            let bytes = unsafe frame.withVectors { base, count in
                // SAFETY: the vectors describe guest memory, which writev only reads.
                unsafe writev(number, base, count)
            }
            if bytes >= 0 { return true }
            if errno != EINTR { return false }
        }
    }

    private static func advice(_ errno: Int32) -> String {
        switch errno {
        case EBUSY: "it is in use by another process: end that one, or make another tap"
        case EPERM, EACCES: "not permitted: make the tap for this user ('ip tuntap add NAME mode tap user $USER'), or run as root"
        case EINVAL: "not a plain tap interface: make one with 'ip tuntap add NAME mode tap', without multi_queue"
        case ENOENT, ENODEV, ENXIO: "this host has no /dev/net/tun: load the tun module"
        default: ""
        }
    }
}
