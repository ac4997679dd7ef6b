// SPDX-License-Identifier: Apache-2.0

import CKVM
import Glibc
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// Guests of a few instructions in real mode, in complete machines on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(1))) struct RealModeTests {
    /// Makes a machine whose first vCPU starts at 0:0x1000 in real mode with `code` there.
    static func machine(
        _ code: [UInt8], vcpus: Int = 1, console: ConsoleOutput = ConsoleOutput(), services: [SymbioticService] = [],
        adjust: (inout DeviceManager) -> Void = { _ in }
    ) throws -> VirtualMachine {
        var configuration = MachineConfiguration(name: "tiny", kernelPath: "")
        configuration.memoryByteCount = 1 << 20
        configuration.vcpuCount = vcpus
        let memory = try GuestMemory(byteCount: 1 << 20)
        try memory.write(0x1000, bytes: code)
        return try VirtualMachine(bare: configuration, memory: memory, console: console, services: services, adjust: adjust) {
            vcpu throws(VMMError) in
            var special = try vcpu.specialRegisters()
            special.cs.base = 0
            special.cs.selector = 0
            try vcpu.setSpecialRegisters(special)
            var registers = try vcpu.registers()
            registers.rip = 0x1000
            registers.rsp = 0x8000
            registers.rflags = 2
            try vcpu.setRegisters(registers)
        }
    }

    private static let reset: [UInt8] = [0xb0, 0xfe, 0xe6, 0x64]  // mov al, 0xfe; out 0x64, al

    @Test func aGuestResetsTheMachine() throws {
        let machine = try RealModeTests.machine(RealModeTests.reset + [0xf4])
        try machine.start()
        #expect(machine.wait() == .reset)
        #expect(machine.state == .ended)
    }

    @Test func aJumpToTheBIOSResetsTheMachine() throws {
        let machine = try RealModeTests.machine([0xea, 0xf0, 0xff, 0x00, 0xf0])  // ljmp f000:fff0
        try SoftReset.write(into: machine.memory)
        try machine.start()
        #expect(machine.wait() == .reset)
    }

    @Test func exitsAreCountedExactly() throws {
        // mov cx, 1000; again: out 0x80, al; loop again; in al, 0x71; then reset
        let code: [UInt8] = [0xb9, 0xe8, 0x03, 0xe6, 0x80, 0xe2, 0xfc, 0xe4, 0x71]
        let machine = try RealModeTests.machine(code + RealModeTests.reset)
        try machine.start()
        #expect(machine.wait() == .reset)
        let statistics = machine.exitStatistics()
        let counts = statistics.rows.filter { $0.reason != .interrupted }.map { ($0.reason, $0.device, $0.address, $0.latency.count) }
        #expect(counts.count == 3)
        #expect(counts.contains { $0 == (.pioWrite, "none", 0x80, 1000) })
        #expect(counts.contains { $0 == (.pioRead, "cmos", 0x71, 1) })
        #expect(counts.contains { $0 == (.pioWrite, "i8042", 0x64, 1) })
        let total = statistics.rows.reduce(0) { $0 + $1.latency.total }
        #expect(statistics.vcpus[0].vmmNanoseconds == total)
        #expect(statistics.vcpus[0].guestNanoseconds > 0)
    }

    @Test func aStringOutputIsOneExitOfManyValues() throws {
        // mov dx, 0x3f8; mov si, 0x1100; mov cx, 5; cld; rep outsb; then reset
        let code: [UInt8] = [0xba, 0xf8, 0x03, 0xbe, 0x00, 0x11, 0xb9, 0x05, 0x00, 0xfc, 0xf3, 0x6e]
        let collected = Collector()
        let padding = [UInt8](repeating: 0x90, count: 0x100 - code.count - RealModeTests.reset.count)
        let machine = try RealModeTests.machine(code + RealModeTests.reset + padding + Array("hello".utf8), console: collected)
        try machine.start()
        #expect(machine.wait() == .reset)
        #expect(String(decoding: collected.bytes, as: UTF8.self) == "hello")
    }

    @Test func pauseStopsTheGuestAndResumeContinuesIt() throws {
        // again: inc word [0x2000]; out 0x80, al; jmp again
        let machine = try RealModeTests.machine([0xff, 0x06, 0x00, 0x20, 0xe6, 0x80, 0xeb, 0xf8])
        try machine.start()
        machine.pause()
        #expect(machine.state == .paused)
        let before = machine.exitStatistics().exitCount
        let counter: UInt16 = try machine.memory.load(0x2000)
        Thread.sleep(milliseconds: 20)
        #expect(machine.exitStatistics().exitCount == before)
        #expect(try machine.memory.load(0x2000) == counter)
        machine.resume()
        Thread.sleep(milliseconds: 50)
        #expect(machine.exitStatistics().exitCount > before)
        machine.kill()
        #expect(machine.wait() == .killed)
    }

    @Test func aGuestWithoutExitsIsKilledAlsoWhilePaused() throws {
        let spinning = try RealModeTests.machine([0xeb, 0xfe])
        try spinning.start()
        spinning.kill()
        #expect(spinning.wait() == .killed)
        let paused = try RealModeTests.machine([0xeb, 0xfe], vcpus: 4)
        try paused.start()
        paused.pause()
        paused.kill()
        #expect(paused.wait() == .killed)
    }

    @Test func allExitsOfAGuestThatReadsManyPortsAreCounted() throws {
        let code: [UInt8] = [
            0xba, 0x00, 0x10,  // mov dx, 0x1000
            0xec, 0x42,  // in al, dx; inc dx
            0x81, 0xfa, 0x58, 0x12,  // cmp dx, 0x1258: 600 ports
            0x75, 0xf8,  // jne
        ]
        let machine = try RealModeTests.machine(code + RealModeTests.reset)
        try machine.start()
        #expect(machine.wait() == .reset)
        let reads = machine.exitStatistics().rows.filter { $0.reason == .pioRead }
        #expect(reads.reduce(0) { $0 + $1.latency.count } == 600)
        #expect(reads.contains { $0.address == nil })
    }
}

/// Collects the guest's output.
final class Collector: ConsoleOutput, @unchecked Sendable {
    private(set) var bytes: [UInt8] = []
    override func write(_ byte: UInt8) {
        bytes.append(byte)
    }
}

extension VMMBase.Thread {
    static func sleep(milliseconds: UInt32) {
        usleep(milliseconds * 1000)
    }
}
