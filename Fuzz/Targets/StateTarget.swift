// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import VMMBase

@testable import SwapBypass
@testable import SymVMM
@testable import VMMAPI

extension FuzzTarget {
    static let state = FuzzTarget(
        name: "state", summary: "hostile saved states of each device, and the devices after the restore", dictionary: "state.dict",
        seeds: { try StateFuzz().seeds() }, prepare: { try StateFuzz().run })
}

final class StateFuzz {
    private let thread: IOThread
    private let store: SwapStore

    init() throws {
        thread = try IOThread()
        try thread.start()
        store = try SwapStore.make(SwapConfiguration(byteCount: 1 << 20))
    }

    private func makeDriver(isDisk: Bool) throws -> FuzzDriver {
        try FuzzDriver(isDisk ? try VirtioBlock(id: "fuzz", storage: store) : VirtioRng(on: thread))
    }

    func run(_ input: inout FuzzInput) throws {
        let part = input.byte() % 7
        let bytes = input.rest()
        switch part {
        case 0:
            let serial = try Serial8250(interrupt: InterruptLine(unconnected: 4), output: ConsoleOutput())
            guard restore(bytes, to: serial) else { return }
            serial.resume()
            try checkSame(serial, restoredFrom: bytes)
            for offset in 0..<8 as Range<UInt64> { expect(serial.read(offset: offset, size: 1) <= 0xff) }
            for _ in 0..<70 { _ = serial.read(offset: 0, size: 1) }
        case 1:
            let clock = CMOSClock()
            if restore(bytes, to: clock) { expect(clock.read(offset: 1, size: 1) <= 0xff) }
        case 2:
            let power = PowerManagement(interrupt: LevelInterrupt(unconnected: 9))
            if restore(bytes, to: power) { expect(power.read(offset: 4, size: 2) & 0x2001 == 1, "SCI_EN is clear, or SLP_EN is set") }
        case 3, 4:
            let driver = try makeDriver(isDisk: part == 4)
            guard restore(bytes, to: driver.transport as VirtioTransport) else { return }
            driver.transport.resume()
            for offset in [0, 0x34, 0x44, 0x60, 0x70, 0xfc, 0x100] as [UInt64] { _ = driver.read(offset) }
            driver.kick()
            try TransportFuzz.checkWork(driver, isDisk: part == 4)
        case 5:
            let memory = try GuestMemory(byteCount: 1 << 20)
            let interface = SymbioticInterface(memory: memory, interrupt: try InterruptLine(unconnected: 3))
            guard restore(bytes, to: interface) else { return }
            expect(interface.globalPage == 0 || memory.contains(interface.globalPage, byteCount: 4096), "a global page outside memory")
        default:
            let service = try SwapBypassService(SwapConfiguration(byteCount: 1 << 20))
            if restore(bytes, to: service) { expect(try service.saveState().byteCount == 1 << 20) }
        }
    }

    /// Decodes and restores. False if either refuses, which both may; they do it with one line.
    private func restore<Part: Snapshotable>(_ bytes: [UInt8], to part: Part) -> Bool {
        guard let state = decode(Part.State.self, bytes) else { return false }
        do throws(VMMError) {
            try part.restoreState(state)
            return true
        } catch {
            Answers.check(error)
            expect(error.kind == .user || error.kind == .host, "\(error)")
            return false
        }
    }

    private func decode<State: Decodable>(_ type: State.Type, _ bytes: [UInt8]) -> State? {
        guard JSONLimits.answer.violation(bytes) == nil else { return nil }
        let decoder = JSONDecoder()
        var kinds = StateKinds()
        kinds.add(VirtioRng(on: thread))
        if let disk = try? VirtioBlock(id: "fuzz", storage: store) { kinds.add(disk) }
        if let key = StateKinds.key { decoder.userInfo[key] = kinds }
        return try? decoder.decode(type, from: Data(bytes))
    }

    /// What was restored is what is saved.
    private func checkSame<Part: Snapshotable>(_ part: Part, restoredFrom bytes: [UInt8]) throws where Part.State: Equatable {
        expect(decode(Part.State.self, bytes) == (try part.saveState()), "a restored state differs")
    }

    /// The states of new and of working devices.
    func seeds() throws -> [[UInt8]] {
        var all: [[UInt8]] = []
        func add<Part: Snapshotable>(_ number: UInt8, _ part: Part) throws {
            let text = try JSONEncoder().encode(part.saveState())
            all.append([number] + Array(text))
        }
        try add(0, Serial8250(interrupt: InterruptLine(unconnected: 4), output: ConsoleOutput()))
        try add(1, CMOSClock())
        try add(2, PowerManagement(interrupt: LevelInterrupt(unconnected: 9)))
        for (number, isDisk) in [(UInt8(3), false), (4, true)] {
            let driver = try makeDriver(isDisk: isDisk)
            try add(number, driver.transport as VirtioTransport)
            expect(try driver.bringUp())
            driver.transport.suspend()
            try add(number, driver.transport as VirtioTransport)
            driver.transport.stop()
        }
        try add(5, SymbioticInterface(memory: GuestMemory(byteCount: 1 << 20), interrupt: InterruptLine(unconnected: 3)))
        try add(6, SwapBypassService(SwapConfiguration(byteCount: 1 << 20)))
        return all
    }
}
