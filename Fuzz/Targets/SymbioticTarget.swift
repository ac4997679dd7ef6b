// SPDX-License-Identifier: Apache-2.0

import SwapBypassABI
import SymbioticABI
import VMMBase
import VMMModel

@testable import SwapBypass
@testable import SymVMM

extension FuzzTarget {
    static let symbiotic = FuzzTarget(
        name: "symbiotic", summary: "the symbiotic guest: MSRs, doorbells, pages, and the answers of its module",
        seeds: { SymbioticFuzz.seeds }, prepare: { { input in try SymbioticFuzz(&input).run(&input) } })
}

/// A vCPU whose handler answers what the input says.
private final class LyingVCPU: SymbioticVCPU, @unchecked Sendable {
    var answers = FuzzInput([])
    var calls: [(number: UInt32, values: SymCallValues)] = []

    override func symcall(_ number: UInt32, _ arguments: SymCallValues) throws(SymCallFailure) -> SymCallValues {
        calls.append((number, arguments))
        switch answers.byte() % 8 {
        case 0: throw .failed(code: answers.quad())
        case 1: throw .faulted(vector: answers.edge(), errorCode: answers.edge(), rip: answers.edge(), address: answers.edge())
        case 2: throw .timedOut
        default: return SymCallValues(answers.edge(), answers.edge(), answers.edge(), answers.edge(), answers.edge())
        }
    }
}

/// The machine as a service sees it.
private final class FuzzHost: ServiceHost, @unchecked Sendable {
    let memory: GuestMemory
    weak var interface: SymbioticInterface?
    private var mapped: Set<UInt64> = []

    init(_ memory: GuestMemory) { self.memory = memory }

    var isRunning: Bool { true }
    func registers(of device: VirtioDevice) -> UInt64? { 0xd000_0000 }
    func reserveWindow(byteCount: UInt64) throws(VMMError) -> UInt64 { 1 << 40 + (byteCount > 1 << 20 ? 0 : 1 << 30) }

    func map(_ mapping: borrowing MemoryMapping, at gpa: UInt64, readOnly: Bool) throws(VMMError) {
        expect(mapped.insert(gpa).inserted, "mapped twice: 0x\(String(gpa, radix: 16))")
    }

    func withGlobalPage(of service: SymbioticService, _ body: (ServicePage) -> Void) -> Bool {
        interface?.withGlobalPage { page in
            body(ServicePage(memory: memory, address: page, part: service.claims.globalPage ?? 0..<0))
        } ?? false
    }

    func symcall(_ number: UInt32, _ arguments: SymCallValues, vcpu: Int?) throws(SymCallFailure) -> SymCallValues { throw .noModule }
}

private final class SymbioticFuzz {
    static let seeds: [[UInt8]] = [
        // The global page, the local page, what RIP needs, RIP; then doorbells.
        [0, 0, 0, 0, 1, 0, 1, 2, 0, 2, 3, 1, 3, 2, 1, 5, 4, 0, 4, 1, 1, 6, 1, 3, 17, 0, 0, 0, 0, 0, 4, 6, 7, 8],
        [1, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [2, 6, 255, 255, 255, 255, 255, 255, 255, 255], [0, 7, 1, 1, 1, 1, 1, 1, 1],
    ]
    private let memory: GuestMemory
    private let interface: SymbioticInterface
    private let vcpu: LyingVCPU
    private let service: SwapBypassService
    private let host: FuzzHost
    private let tasks: TaskRecorder?

    init(_ input: inout FuzzInput) throws {
        memory = try GuestMemory(byteCount: 1 << 20)
        service = try SwapBypassService(SwapConfiguration(byteCount: 1 << 20, bypass: input.flag()))
        host = FuzzHost(memory)
        try service.prepare(on: host)
        interface = SymbioticInterface(memory: memory, interrupt: try InterruptLine(unconnected: 3), services: [service])
        host.interface = interface
        let setup = SymbioticSetup(interface: interface, watchdog: try SymCallWatchdog(), features: 0)
        vcpu = try LyingVCPU(index: 0, symbiotic: setup)
        tasks = vcpu.tasks
    }

    func run(_ input: inout FuzzInput) throws {
        while !input.isEmpty {
            switch input.byte() % 9 {
            case 0, 1: writeMSR(&input)
            case 2: try memory.store(input.edge(), at: UInt64(input.byte() % 16) << 12 | UInt64(input.word() % 0x3f8) & ~7)
            case 3: try ring(&input)
            case 4: checkPages()
            case 5: checkRecords(&input)
            case 6: try checkTasks(&input)
            case 7: try submit(&input)
            default: try checkState()
            }
        }
        for counter in service.counters() { expect(!counter.name.isEmpty) }
    }

    private func value(_ input: inout FuzzInput) -> UInt64 {
        switch input.byte() % 6 {
        case 0: UInt64(input.byte() % 16) << 12
        case 1: 0xffff_ffff_c000_0000 | UInt64(input.word()) << 4
        case 2: 0
        case 3: 0x10
        case 4: input.edge()
        default: 0xffff_8000_0000_0000 &+ input.edge()
        }
    }

    /// docs/ABI.md, section 2: an accepted value reads back, a refused one is counted and changes nothing.
    private func writeMSR(_ input: inout FuzzInput) {
        let index = SymbioticInterface.registers.lowerBound &+ UInt32(input.byte() % 20)
        let value = value(&input)
        let before = SymbioticInterface.registers.map { interface.read($0, from: vcpu) }
        let refused = refusedRegistrations
        let isAccepted = interface.write(index, value, from: vcpu)
        if isAccepted {
            expect(interface.read(index, from: vcpu) == value, "MSR 0x\(String(index, radix: 16)) does not read back")
            if index == SYMBIOTIC_MSR_GLOBAL_PAGE, value == 0 {
                for index in SymbioticInterface.registers {
                    expect(
                        (interface.read(index, from: vcpu) ?? 0) == 0, "without a global page, MSR 0x\(String(index, radix: 16)) is not 0")
                }
            }
        } else {
            expect(SymbioticInterface.registers.map { interface.read($0, from: vcpu) } == before, "a refused write changed an MSR")
            expect(refusedRegistrations == refused + 1, "a refused write is not counted")
        }
        let pages = [SYMBIOTIC_MSR_GLOBAL_PAGE, SYMBIOTIC_MSR_LOCAL_PAGE].compactMap { interface.read($0, from: vcpu) }
        for page in pages where page != 0 { expect(page % 4096 == 0 && memory.contains(page, byteCount: 4096), "a page outside memory") }
    }

    private var refusedRegistrations: UInt64 {
        interface.counters.all.first { $0.name == "registrations_refused" }?.value ?? 0
    }

    private func ring(_ input: inout FuzzInput) throws {
        let number = input.byte() < 200 ? input.pick([0x10, 0x11, 0x12, 0, 1, 2] as [UInt8]) : input.byte()
        let values = SymCallValues(input.edge(), input.edge(), input.flag() ? input.edge() : UInt64(input.byte()) << 32, input.edge(), 0)
        vcpu.answers = FuzzInput(input.chunk(atMost: 64))
        vcpu.calls = []
        interface.dispatchDoorbell(number, values, vcpu)
        for call in vcpu.calls where call.number == SYMBIOTIC_SYMCALL_SWAP_MAP {
            let (first, count) = (call.values.rbx, call.values.rcx)
            expect(first < 512 && count > 0 && count <= 512 - first, "pages \(first) + \(count) of a region of 512")
            let entry = values.rbx >> 12 & 511
            expect(first <= entry && entry < first + count, "the faulting page \(entry) is not among \(first) + \(count)")
        }
    }

    private func checkPages() {
        if let buffer = interface.sharedBuffer {
            expect(
                memory.contains(buffer.address, byteCount: buffer.byteCount) && buffer.byteCount >= 4096, "a shared buffer outside memory")
        }
        for number in [0, 63, 64, SYMBIOTIC_SYMCALL_COUNT - 1, SYMBIOTIC_SYMCALL_COUNT, .max] as [UInt32] {
            if interface.has(number) || interface.mayInject(number) { expect(number < SYMBIOTIC_SYMCALL_COUNT) }
        }
        _ = interface.unavailableReason
    }

    private func checkRecords(_ input: inout FuzzInput) {
        let bytes = input.chunk(atMost: 255)
        let record = GuestRecord(bytes: bytes[...])
        let task = GuestTask(record: record)
        let second = GuestTask(
            SymCallValues(input.edge(), input.edge(), input.edge(), input.edge(), 0), vcpu: 0, fromUserMode: input.flag())
        for name in [task.name, second.name] {
            expect(
                name.utf8.count <= 64 && !name.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7f },
                "a task named \(name.debugDescription)")
        }
        _ = GuestMemoryUse(record)
        _ = GuestRecord(bytes: bytes.dropFirst(3)).text(Int(input.byte()), Int(input.byte()))
    }

    /// Exits by process: the guest changes the page between two exits.
    private func checkTasks(_ input: inout FuzzInput) throws {
        guard let tasks else { return }
        let before = tasks.lines().reduce(UInt64(0)) { $0 &+ $1.exits.reduce(0) { $0 &+ $1.count } }
        let page = interface.read(SYMBIOTIC_MSR_LOCAL_PAGE, from: vcpu) ?? 0
        for _ in 0..<4 {
            if page != 0 { try memory.write(page, bytes: input.chunk(atMost: 128)) }
            tasks.record(input.pick(ExitReason.allCases), ticks: input.edge())
        }
        let after = tasks.lines().reduce(UInt64(0)) { $0 &+ $1.exits.reduce(0) { $0 &+ $1.count } }
        expect(after &- before <= 4, "\(after &- before) of 4 exits are counted")
        for line in tasks.lines() { expect(!line.name.unicodeScalars.contains { $0.value < 0x20 }, "\(line.name.debugDescription)") }
    }

    private func submit(_ input: inout FuzzInput) throws {
        let request = try SymCallRequest(input.long(), SymCallValues(input.edge()))
        interface.submit(request)
        if input.flag() { interface.withdraw(request) }
    }

    private func checkState() throws {
        let state = try interface.saveState()
        let other = SymbioticInterface(memory: memory, interrupt: try InterruptLine(unconnected: 3))
        try other.restoreState(state)
        expect(try other.saveState() == state, "a restored interface differs")
        if let engine = vcpu.symCallEngine {
            let registration = engine.saveRegistration()
            let next = try SymCallEngine(interface: other, watchdog: try SymCallWatchdog(), tasks: try TaskRecorder())
            try next.restoreRegistration(registration, addressBits: 48)
            expect(next.saveRegistration() == registration, "restored MSRs differ")
        }
    }
}
