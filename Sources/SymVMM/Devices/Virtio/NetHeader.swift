// SPDX-License-Identifier: Apache-2.0

/// struct virtio_net_hdr of a frame to send (virtio 1.2, section 5.1.6.2), little-endian.
struct NetHeader: BitwiseCopyable {
    var flags: UInt8 = 0
    var segmentation: UInt8 = 0
    var headerLength: UInt16 = 0
    var segmentSize: UInt16 = 0
    var checksumStart: UInt16 = 0
    var checksumOffset: UInt16 = 0
    var bufferCount: UInt16 = 0

    private static let needsChecksum: UInt8 = 1  // VIRTIO_NET_HDR_F_NEEDS_CSUM

    /// Whether the frame's checksum is left to the device.
    var needsChecksum: Bool { flags & NetHeader.needsChecksum != 0 }

    private enum Segmentation {
        static let none: UInt8 = 0  // VIRTIO_NET_HDR_GSO_NONE
        static let tcp4: UInt8 = 1  // VIRTIO_NET_HDR_GSO_TCPV4
        static let tcp6: UInt8 = 4  // VIRTIO_NET_HDR_GSO_TCPV6
    }

    /// Checks the header against the negotiated features, and clears what a device must not use: unknown flags, and fields without meaning
    /// (virtio 1.2, section 5.1.6.2.2). The host checks that the checksum's place lies in the frame.
    ///
    /// - Parameters:
    ///   - features: the negotiated features.
    ///   - frameByteCount: length of the frame without the header.
    /// - Returns: false if the frame asks for something that was not negotiated.
    mutating func prepare(features: UInt64, frameByteCount: Int) -> Bool {
        flags &= NetHeader.needsChecksum
        if flags == 0 {
            (checksumStart, checksumOffset) = (0, 0)
        } else if features & NetFeature.checksum == 0 {
            return false
        }
        bufferCount = 0
        switch segmentation {
        case Segmentation.none:
            (segmentSize, headerLength) = (0, 0)
            return true
        case Segmentation.tcp4: return prepareSegments(features & NetFeature.hostSegmentation4, frameByteCount)
        case Segmentation.tcp6: return prepareSegments(features & NetFeature.hostSegmentation6, frameByteCount)
        default: return false
        }
    }

    private mutating func prepareSegments(_ feature: UInt64, _ frameByteCount: Int) -> Bool {
        guard feature != 0, flags == NetHeader.needsChecksum, segmentSize != 0 else { return false }
        // A hint, which may be wrong; the host refuses one beyond the frame.
        headerLength = min(UInt16(littleEndian: headerLength), UInt16(clamping: frameByteCount)).littleEndian
        return true
    }
}
