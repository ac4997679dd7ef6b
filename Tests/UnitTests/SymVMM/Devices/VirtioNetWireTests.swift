// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// A network interface whose wire is a socket pair, so that a test chooses each byte of a frame and needs no tap.
@Suite struct VirtioNetWireTests {
    private static let mergeableBuffers: UInt64 = 1 << 15

    private final class Bench {
        let thread: IOThread
        let driver: VirtioTestDriver
        private let wire: OwnedFileDescriptor

        init() throws {
            var ends: [Int32] = [-1, -1]
            let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
            guard unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw VMMError.last("socketpair") }
            wire = OwnedFileDescriptor(owning: ends[0])
            let tap = TapInterface(owning: OwnedFileDescriptor(owning: ends[1]))
            thread = try IOThread.running()
            driver = try VirtioTestDriver(VirtioNet(id: "test", mac: MACAddress(derivedFrom: "test"), tap: tap, on: thread))
        }

        /// Sends a frame with its virtio header to the guest.
        func send(_ frame: [UInt8]) {
            #expect(unsafe Glibc.send(wire.rawValue, frame, frame.count, Int32(MSG_NOSIGNAL)) == frame.count)
        }

        /// Stops the device and its thread.
        func end() {
            driver.transport.stop()
            thread.stop()
        }
    }

    /// Buffers of one byte, some of them in the guest's own rings: the frame itself raises the available index while the device copies it, so that
    /// there is always one buffer more.
    @Test func aGuestThatNeverRunsOutOfBuffersLosesTheFrame() throws {
        let bench = try Bench()
        defer { bench.end() }
        let driver = bench.driver
        let queue = try driver.bringUp(VirtioTestDriver.ringFeatures | VirtioNetWireTests.mergeableBuffers, queues: 2, size: 256)[0]
        let scratch = driver.allocate(16)
        for slot in UInt16(0)..<256 {
            let place = queue.table + 16 * UInt64(slot)
            let address =
                switch slot {
                // The length of the first buffer, which begins with 12 bytes.
                case 1: queue.table + 8
                // The high byte of the available index.
                case 255: queue.available + 3
                default: scratch
                }
            try queue.setDescriptor(at: place, .init(address: address, length: slot == 0 ? 12 : 1, isWritable: true))
            try queue.offer(slot)
        }
        // Byte 11 + N of the frame goes to the buffer N.
        var frame = [UInt8](repeating: 0, count: 12 + 18 + (64 << 10))
        for buffer in 1..<(frame.count - 11) {
            if buffer % 256 == 1 { frame[11 + buffer] = 1 }
            if buffer % 256 == 255 { frame[11 + buffer] = UInt8(truncatingIfNeeded: buffer / 256 + 2) }
        }
        bench.send(frame)
        #expect(waitUntil(within: 20) { driver.counter("rx_dropped") == 1 })
        #expect(driver.counter("rx_frames") == 0)
        // The index is now ahead of what the device has taken by more than the queue has.
        bench.send(frame)
        #expect(waitUntil(within: 20) { driver.status & 64 != 0 })
        driver.write(0x70, 0)
        #expect(driver.status == 0)
    }
}
