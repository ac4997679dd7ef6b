// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// A network interface whose wire is a socket pair, so that a test chooses each byte of a frame and needs no tap.
@Suite struct VirtioNetWireTests {
    private static let mergeableBuffers: UInt64 = 1 << 15
    private static let mtu: UInt64 = 1 << 3

    private final class Bench {
        let thread: IOThread
        let driver: VirtioTestDriver
        private let wire: OwnedFileDescriptor

        init(mtu: UInt16? = nil, responder: FrameResponder? = nil) throws {
            var ends: [Int32] = [-1, -1]
            let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
            guard unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw VMMError.last("socketpair") }
            wire = OwnedFileDescriptor(owning: ends[0])
            let tap = TapInterface(owning: OwnedFileDescriptor(owning: ends[1]))
            thread = try IOThread.running()
            let device = VirtioNet(
                id: "test", mac: MACAddress(derivedFrom: "test"), tap: tap, mtu: mtu, responder: responder, on: thread)
            driver = try VirtioTestDriver(device)
        }

        /// Ends the wire, as if the tap had been deleted.
        func cut() {
            shutdown(wire.rawValue, Int32(SHUT_RDWR))
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

    @Test func framesAboveTheMTUAreDropped() throws {
        let bench = try Bench(mtu: 1400)
        defer { bench.end() }
        let driver = bench.driver
        for (features, longest) in [(VirtioNetWireTests.mtu, 18 + 1400), (0, 4000)] {
            let queue = try driver.bringUp(VirtioTestDriver.ringFeatures | features, queues: 2, size: 16)[0]
            let place = driver.allocate(4096)
            let dropped = driver.counter("rx_dropped")
            for length in [longest + 1, longest] where length <= 4000 {
                try queue.add([.init(address: place, length: 4096, isWritable: true)])
                bench.send([UInt8](repeating: 0, count: 12 + length))
            }
            #expect(try queue.take()?.written == UInt32(12 + longest), "features \(features)")
            #expect(driver.counter("rx_dropped") - dropped == (features == 0 ? 0 : 1))
        }
    }

    /// Sends each frame back.
    private final class Echo: FrameResponder, @unchecked Sendable {
        private var frames: [[UInt8]] = []

        override func takes(_ start: UnsafeRawBufferPointer) -> Bool { true }

        override func handle(_ frame: UnsafeRawBufferPointer, isChecked: Bool) {
            frames.append(unsafe [UInt8](frame))
        }

        override func next(into buffer: UnsafeMutableRawBufferPointer) -> Int {
            guard !frames.isEmpty else { return 0 }
            let frame = frames.removeFirst()
            unsafe buffer.copyBytes(from: frame)
            return frame.count
        }

        override var hasNext: Bool { !frames.isEmpty }
    }

    @Test func aLostTapIsCountedOnceAndTheResponderGoesOn() throws {
        let bench = try Bench(responder: Echo())
        defer { bench.end() }
        let driver = bench.driver
        let queues = try driver.bringUp(queues: 2, size: 16)
        bench.cut()
        #expect(waitUntil { driver.counter("tap_lost") == 1 })
        let (answers, frame) = (driver.allocate(3 * 2048), driver.allocate(100))
        try driver.memory.zero(frame, byteCount: 100)
        for number in UInt64(0)..<3 {
            try queues[0].add([.init(address: answers + 2048 * number, length: 2048, isWritable: true)])
            try queues[1].add([.init(address: frame, length: 100, isWritable: false)])
            queues[1].kick()
            #expect(try queues[0].take()?.written == 100)
        }
        #expect(driver.counter("tap_lost") == 1)
    }
}
