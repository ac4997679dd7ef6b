// SPDX-License-Identifier: Apache-2.0

import CKVM
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// Serialized: a process that one test starts holds all our descriptors until its exec, so a tap that another test closes meanwhile would stay
/// busy.
@Suite(.serialized) struct VirtioNetTests {
    private func failure(_ tap: String) throws -> VMMError? {
        let thread = try IOThread.running()
        defer { thread.stop() }
        do throws(VMMError) {
            _ = try VirtioNet(configuration: .init(id: "eth0", tap: tap), machineName: "test", on: thread)
            return nil
        } catch {
            return error
        }
    }

    @Test func tapsThatCannotBe() throws {
        #expect(try failure("nosuchtap0")?.errno == .operationNotSupportedByDevice)
        #expect(try failure("nosuchtap0")?.advice.contains("ip tuntap add nosuchtap0") == true)
        #expect(try failure("nosuchtap0") != nil, "and asking has not made it")
        #expect(try failure("")?.errno == .invalidArgument)
        #expect(try failure("a-name-too-long-for-linux")?.errno == .invalidArgument)
        #expect(try failure("../lo")?.errno == .invalidArgument)
        #expect(try failure("lo") != nil, "an interface, but no tap")
    }

    /// Runs `body` on a thread in a network namespace of its own. The namespace ends with the thread.
    private func inNetworkNamespace(_ body: @escaping @Sendable () throws -> Void) throws {
        let box = Box("did not run")
        let thread = try Thread(.command, "netns") {
            guard VirtioNetTests.leaveNetworkNamespace() == 0 else { return box.set("unshare: \(errno)") }
            do {
                try body()
                box.set(nil)
            } catch {
                box.set("\(error)")
            }
        }
        thread.join()
        let message = box.get()
        #expect(message == nil)
    }

    /// unshare(2) for this thread. The C library's headers declare it only with GNU extensions, which Swift's Glibc module does not request.
    private static func leaveNetworkNamespace() -> Int32 {
        guard let symbol = unsafe dlsym(nil, "unshare") else { return -1 }
        // SAFETY: the C library's unshare is int (int).
        let call = unsafe unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Int32).self)
        return call(0x4000_0000)  // CLONE_NEWNET
    }

    private final class Box: Sendable {
        let value: Mutex<String?>
        init(_ text: String?) { value = Mutex(text) }
        func set(_ text: String?) { value.withLock { $0 = text } }
        func get() -> String? { value.withLock { $0 } }
    }

    @discardableResult
    private static func run(_ arguments: [String]) -> Int32 {
        var pid = pid_t()
        var words = unsafe arguments.map { unsafe strdup($0) } + [nil]
        defer { unsafe words.forEach { unsafe free($0) } }
        guard unsafe posix_spawnp(&pid, arguments[0], nil, nil, &words, environ) == 0 else { return -1 }
        var status: Int32 = 0
        _ = unsafe waitpid(pid, &status, 0)
        return status
    }

    private static let canMakeTaps = unsafe geteuid() == 0 && access("/dev/net/tun", R_OK) == 0 && run(["ip", "-V"]) == 0

    @Test(.enabled(if: canMakeTaps, "making a tap needs root, /dev/net/tun and ip"))
    func aBusyTapIsSaid() throws {
        try inNetworkNamespace {
            try #require(VirtioNetTests.run(["ip", "tuntap", "add", "busy0", "mode", "tap"]) == 0)
            let holder = unsafe ckvm_open_tap("busy0", 12)
            try #require(holder >= 0)
            let error = try VirtioNetTests().failure("busy0")
            #expect(error?.errno == .resourceBusy)
            close(holder)
            #expect(try VirtioNetTests().failure("busy0") == nil)
            try #require(VirtioNetTests.run(["ip", "tuntap", "add", "tun0", "mode", "tun"]) == 0)
            #expect(try VirtioNetTests().failure("tun0")?.advice.contains("not a plain tap") == true)
        }
    }

    @Test func aHeaderMayUseOnlyWhatWasNegotiated() {
        let (checksum, both) = (NetFeature.checksum, NetFeature.checksum | NetFeature.hostSegmentation4)
        // Flags, gso_type, gso_size, features; whether the frame is sent.
        let cases: [(UInt8, UInt8, UInt16, UInt64, Bool)] = [
            (0, 0, 0, 0, true), (0xfe, 0, 9, 0, true), (1, 0, 0, 0, false), (1, 0, 0, checksum, true), (1, 1, 100, checksum, false),
            (1, 1, 100, both, true), (0, 1, 100, both, false), (1, 1, 0, both, false), (1, 4, 100, both, false),
            (1, 0x81, 100, both, false),
            (1, 3, 100, both, false), (1, 5, 100, .max, false), (1, 4, 100, .max, true),
        ]
        for (flags, segmentation, size, features, isSent) in cases {
            var header = NetHeader(
                flags: flags, segmentation: segmentation, headerLength: .max, segmentSize: size, checksumStart: 40, checksumOffset: 16,
                bufferCount: 3)
            let isGood = header.prepare(features: features, frameByteCount: 60)
            #expect(isGood == isSent, "\(flags), \(segmentation)")
            guard isSent else { continue }
            #expect(header.bufferCount == 0)
            #expect(header.flags == flags & 1, "unknown flags are ignored")
            #expect(header.checksumStart == (flags & 1 == 0 ? 0 : 40))
            #expect(header.headerLength == (segmentation == 0 ? 0 : 60), "the hint stays inside the frame")
        }
        #expect(MemoryLayout<NetHeader>.size == TapInterface.headerSize)
    }

    @Test(.enabled(if: canMakeTaps, "making a tap needs root, /dev/net/tun and ip"), arguments: [true, false])
    func framesPassBothWays(_ isMerging: Bool) throws {
        try inNetworkNamespace {
            try #require(VirtioNetTests.run(["ip", "tuntap", "add", "tap0", "mode", "tap"]) == 0)
            try #require(VirtioNetTests.run(["sysctl", "-q", "-w", "net.ipv6.conf.tap0.disable_ipv6=1"]) >= 0)
            try #require(VirtioNetTests.run(["ip", "link", "set", "tap0", "up"]) == 0)
            let wire = try Wire(interface: "tap0")
            let thread = try IOThread.running()
            defer { thread.stop() }
            let device = try VirtioNet(configuration: .init(id: "eth0", tap: "tap0"), machineName: "test", on: thread)
            let driver = try VirtioTestDriver(device)
            #expect(device.mac == MACAddress(derivedFrom: "test/eth0"))
            #expect((0..<6).map { UInt8(driver.transport.read(offset: 0x100 + UInt64($0), size: 1)) } == device.mac.bytes)
            #expect(driver.transport.read(offset: 0x106, size: 2) == 1)
            #expect(driver.negotiate(VirtioTestDriver.ringFeatures | 1 << 7 & driver.offered) == false, "GUEST_TSO4 without GUEST_CSUM")
            let queues = try driver.bringUp(VirtioTestDriver.ringFeatures | 1 << 5 | (isMerging ? 1 << 15 : 0), queues: 2, size: 16)
            let (receive, transmit) = (queues[0], queues[1])

            // Transmit.
            let out = driver.allocate(2048)
            try driver.memory.zero(out, byteCount: 12)
            let sent = Wire.frame(length: 1000, seed: 1)
            try driver.memory.write(out + 12, bytes: sent)
            try transmit.add([
                .init(address: out, length: 12, isWritable: false), .init(address: out + 12, length: 1000, isWritable: false),
            ])
            transmit.kick()
            #expect(try transmit.take() != nil)
            #expect(wire.receive() == sent)
            // The device drops a frame with an invalid header, and continues.
            try driver.memory.write(out, bytes: [UInt8](repeating: 0xff, count: 12))
            try transmit.add([.init(address: out, length: 1012, isWritable: false)])
            transmit.kick()
            #expect(try transmit.take() != nil)
            #expect(driver.counter("tx_dropped") == 1)

            // The kernel detects the carrier after some time, and drops frames that are sent before.
            #expect(waitUntil { VirtioNetTests.run(["sh", "-c", "ip link show tap0 | grep -q 'state U[PN]'"]) == 0 })
            usleep(20_000)
            // Receive before there are buffers: the frames wait, and the device does not poll the tap.
            let frames = (0..<3).map { Wire.frame(length: 300 + 300 * $0, seed: UInt64($0 + 10)) }
            for frame in frames { wire.send(frame) }
            #expect(waitUntil { driver.counter("rx_pauses") == 1 })
            let room = 256
            let place = driver.allocate(16 * 2048)
            let each = isMerging ? room : 1514 + 12
            for number in 0..<(isMerging ? 10 : 3) {
                let old = receive.nextAvailable
                try receive.add([.init(address: place + UInt64(number * 2048), length: UInt32(each), isWritable: true)])
                // Notify only if the device has requested it, and slowly: the device must request it again each time that it has too few
                // buffers.
                if try receive.kickIfWanted(since: old, eventIndex: true) { usleep(2000) }
            }
            var buffer = 0
            for frame in frames {
                var bytes: [UInt8] = []
                var left = 1
                while left > 0 {
                    let taken = try #require(try receive.take())
                    let start = place + UInt64(buffer * 2048)
                    bytes += try driver.memory.read(start, byteCount: Int(taken.written))
                    if bytes.count == Int(taken.written) { left = Int(try driver.memory.load(start + 10, as: UInt16.self)) }
                    buffer += 1
                    left -= 1
                }
                #expect(Array(bytes.dropFirst(12)) == frame)
                #expect(bytes[0] == 0 && bytes[1] == 0)
            }
            #expect(driver.counter("rx_frames") == 3)
            #expect(driver.counter("rx_bytes") == 300 + 600 + 900)
            if !isMerging {
                // A buffer that is too small for the frame: the device drops the frame and keeps the buffer.
                try receive.add([.init(address: place, length: 100, isWritable: true)])
                wire.send(Wire.frame(length: 200, seed: 5))
                #expect(waitUntil { driver.counter("rx_dropped") == 1 })
                let small = Wire.frame(length: 80, seed: 6)
                wire.send(small)
                #expect(try receive.take()?.written == 92)
                #expect(try driver.memory.read(place + 12, byteCount: 80) == small)
            }
            // After the interface is deleted, the thread does not spin and the device stops cleanly.
            try #require(VirtioNetTests.run(["ip", "link", "del", "tap0"]) == 0)
            #expect(waitUntil { driver.counter("tap_lost") == 1 })
            driver.write(0x70, 0)
            #expect(driver.status == 0)
        }
    }

    @Test(.enabled(if: canMakeTaps, "making a tap needs root, /dev/net/tun and ip"))
    func framesWaitForTheirTokens() throws {
        try inNetworkNamespace {
            try #require(VirtioNetTests.run(["ip", "tuntap", "add", "tap0", "mode", "tap"]) == 0)
            try #require(VirtioNetTests.run(["sysctl", "-q", "-w", "net.ipv6.conf.tap0.disable_ipv6=1"]) >= 0)
            try #require(VirtioNetTests.run(["ip", "link", "set", "tap0", "up"]) == 0)
            let wire = try Wire(interface: "tap0")
            let thread = try IOThread.running()
            defer { thread.stop() }
            var configuration = NetworkInterfaceConfiguration(id: "eth0", tap: "tap0")
            configuration.transmitLimiter = RateLimiterConfiguration(operations: .init(size: 2, refillMilliseconds: 100))
            configuration.receiveLimiter = RateLimiterConfiguration(bandwidth: .init(size: 1000, refillMilliseconds: 100))
            let device = try VirtioNet(configuration: configuration, machineName: "test", on: thread)
            let driver = try VirtioTestDriver(device)
            let queues = try driver.bringUp(VirtioTestDriver.ringFeatures | 1 << 5, queues: 2, size: 16)
            let (receive, transmit) = (queues[0], queues[1])

            let out = driver.allocate(1024)
            try driver.memory.zero(out, byteCount: 12)
            let sent = Wire.frame(length: 500, seed: 1)
            try driver.memory.write(out + 12, bytes: sent)
            var start = TickClock.monotonicNanoseconds()
            for _ in 0..<8 {
                try transmit.add([.init(address: out, length: 512, isWritable: false)])
                transmit.kick()
            }
            for _ in 0..<8 { #expect(try transmit.take(within: 60) != nil) }
            // Two from the full bucket, six more at 50 ms each.
            #expect(TickClock.monotonicNanoseconds() - start >= 300_000_000)
            #expect(driver.counter("tx_throttled") >= 1)
            #expect(driver.counter("tx_frames") == 8)

            #expect(waitUntil { VirtioNetTests.run(["sh", "-c", "ip link show tap0 | grep -q 'state U[PN]'"]) == 0 })
            usleep(20_000)
            let place = driver.allocate(16 * 2048)
            for number in 0..<6 { try receive.add([.init(address: place + UInt64(number * 2048), length: 1526, isWritable: true)]) }
            receive.kick()
            start = TickClock.monotonicNanoseconds()
            for _ in 0..<6 { wire.send(sent) }
            for _ in 0..<6 { #expect(try receive.take(within: 60)?.written == 512) }
            #expect(TickClock.monotonicNanoseconds() - start >= 200_000_000)
            #expect(driver.counter("rx_throttled") >= 1)

            // Frames wait for tomorrow's tokens until the limits change, or the device is reset.
            device.changeRateLimiters(
                receive: nil, transmit: RateLimiterConfiguration(operations: .init(size: 1, refillMilliseconds: 86_400_000)))
            for _ in 0..<3 { try transmit.add([.init(address: out, length: 512, isWritable: false)]) }
            transmit.kick()
            #expect(try transmit.take(within: 60) != nil)
            device.changeRateLimiters(
                receive: nil, transmit: RateLimiterConfiguration(operations: .init(size: 0, refillMilliseconds: 0)))
            for _ in 0..<2 { #expect(try transmit.take(within: 60) != nil) }
            driver.write(0x70, 0)
            #expect(driver.status == 0)
        }
    }

    /// The host's side of the tap: a packet socket.
    private struct Wire: ~Copyable {
        private let socket: OwnedFileDescriptor

        init(interface: String) throws {
            socket = OwnedFileDescriptor(owning: Glibc.socket(AF_PACKET, Int32(SOCK_RAW.rawValue), 0x0300))  // ETH_P_ALL, big-endian
            // struct sockaddr_ll: family, protocol, index, and twelve bytes that bind(2) does not read.
            var address = [UInt8](repeating: 0, count: 20)
            address[0] = 17
            address[2] = 0
            address[3] = 3
            let index = unsafe if_nametoindex(interface)
            for byte in 0..<4 { address[4 + byte] = UInt8(truncatingIfNeeded: index >> (8 * UInt32(byte))) }
            let result = unsafe address.withUnsafeBytes { bytes in
                unsafe bind(socket.rawValue, bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self), 20)
            }
            guard result == 0 else { throw VMMError(call: "bind", errno: errno) }
            var limit = timeval(tv_sec: 5, tv_usec: 0)
            _ = unsafe setsockopt(socket.rawValue, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        }

        func send(_ frame: [UInt8]) {
            _ = unsafe Glibc.send(socket.rawValue, frame, frame.count, 0)
        }

        /// The next frame of the tests' type. Skips frames that the kernel sends by itself.
        func receive() -> [UInt8]? {
            var room = [UInt8](repeating: 0, count: 65536)
            while true {
                let bytes = unsafe recv(socket.rawValue, &room, room.count, 0)
                guard bytes > 0 else { return nil }
                if bytes > 14, room[12] == 0x88, room[13] == 0xb5 { return Array(room.prefix(bytes)) }
            }
        }

        /// A broadcast frame of the type for local experiments.
        static func frame(length: Int, seed: UInt64) -> [UInt8] {
            var random = VirtioTestRandom(state: seed)
            let head: [UInt8] = [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]
            return head + (0..<(length - 14)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        }
    }
}
