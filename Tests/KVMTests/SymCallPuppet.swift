// SPDX-License-Identifier: Apache-2.0

import CKVM
import SymbioticABI

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// A symbiotic guest of a few hundred instructions that polls a port for the commands of a test. It relies on docs/ABI.md only.
final class SymCallPuppet: @unchecked Sendable {
    /// The guest's commands.
    enum Command: UInt32 {
        case poll, writeMSR, readMSR, doorbell, strayReturn, strayFail, registerLoop, outLoop, spin, halt, stringDoorbell, user, reset
        case doorbellLoop, fastDoorbell, fastDoorbellLoop
    }

    /// Addresses in guest memory.
    enum Place {
        static let code: UInt64 = 0x10_0000
        static let handler: UInt64 = 0x11_0000
        static let faults: UInt64 = 0x11_1000
        static let handlerTable: UInt64 = 0x12_0000
        static let ownTable: UInt64 = 0x12_1000
        static let handlerStack: UInt64 = 0x13_1000
        static let globalPage: UInt64 = 0x14_0000
        static let localPage: UInt64 = 0x14_1000
        static let buffer: UInt64 = 0x15_0000
        static let registers: UInt64 = 0x16_0000
        static let counter: UInt64 = 0x16_0200
        static let flag: UInt64 = 0x16_0208
        static let marker: UInt64 = 0x16_0210
        static let handlerCalls: UInt64 = 0x16_0218
        static let ownTableRegister: UInt64 = 0x16_0220
        static let handlerTableRegister: UInt64 = 0x16_0230
        static let text: UInt64 = 0x17_0000
        static let stack: UInt64 = 0x18_0000
    }

    /// Symcalls of the guest beside PING and TASK.
    enum Call {
        static let spin: UInt32 = 0x1e0
        static let invalidOpcode: UInt32 = 0x1e1
        static let pageFault: UInt32 = 0x1e2
        static let doorbell: UInt32 = 0x1e4
        static let twice: UInt32 = 0x1e9
        static let halt: UInt32 = 0x1ea
        static let stringReturn: UInt32 = 0x1eb
        static let drop: UInt32 = 0x1ec
        static let error: UInt32 = 0x1ed
        static let disarm: UInt32 = 0x1ee
        static let generalProtection: UInt32 = 0x1ef
        /// In the bitmap of symcalls, but not in that for direct injection.
        static let needsDoorbell: UInt32 = 2
    }

    /// The kernel's half, where the first 512 GiB are mapped a second time.
    static let high: UInt64 = 0xffff_8000_0000_0000

    let machine: VirtualMachine
    let memory: GuestMemory
    let strings: Strings

    /// Makes the machine and starts it.
    init(vcpus: Int = 1, services: [SymbioticService] = [], symbiotic: Bool = true, setUp: (VirtualMachine) -> Void = { _ in }) throws {
        var configuration = MachineConfiguration(name: "puppet", kernelPath: "")
        configuration.memoryByteCount = 4 << 20
        configuration.vcpuCount = vcpus
        configuration.symbiotic = symbiotic
        let memory = try GuestMemory(byteCount: 4 << 20)
        let strings = Strings()
        try SymCallPuppet.fill(memory)
        let entry = BootEntry(
            instructionPointer: Place.code, bootParameters: 0, stackPointer: Place.stack, pageTableRoot: BootLayout.pageTables,
            gdtAddress: BootLayout.gdt, isLinux: false)
        machine = try VirtualMachine(
            bare: configuration, memory: memory, services: services,
            adjust: { _ = $0.ports.attach(strings, base: Strings.base, count: 16) },
            enter: { vcpu throws(VMMError) in
                var registers = entry.registers()
                registers.rflags = 0x3002  // IOPL 3, for the part in user mode
                try vcpu.setRegisters(registers)
                var special = entry.specialRegisters(from: try vcpu.specialRegisters())
                special.idt.base = Place.ownTable
                special.idt.limit = 0xfff
                try vcpu.setSpecialRegisters(special)
            })
        self.memory = memory
        self.strings = strings
        setUp(machine)
        try machine.start()
    }

    /// The guest of another puppet, which is paused, in a machine of its own.
    init(continuing other: SymCallPuppet, restore: (VirtualMachine) throws -> Void) throws {
        let memory = try GuestMemory(byteCount: other.memory.byteCount)
        try memory.copy(from: other.memory)
        let strings = other.strings
        machine = try VirtualMachine(
            bare: other.machine.configuration, memory: memory,
            adjust: { _ = $0.ports.attach(strings, base: Strings.base, count: 16) }, enter: { (_) in })
        self.memory = memory
        self.strings = strings
        try restore(machine)
        try machine.start()
    }

    deinit {
        machine.kill()
        _ = machine.wait()
    }

    // MARK: Commands of a test

    /// Gives the guest a command and waits for its answer; nil if there is none in time.
    @discardableResult
    func perform(_ command: Command, _ words: UInt32..., timeout: Int = 10_000) -> UInt32? {
        begin(command, words)
        return strings.answer(within: timeout)
    }

    /// Gives the guest a command without waiting for the answer.
    func begin(_ command: Command, _ words: [UInt32] = []) {
        strings.enqueue([command.rawValue] + words)
    }

    /// Waits for the answer to the command of `begin`.
    func answer(timeout: Int = 10_000) -> UInt32? {
        strings.answer(within: timeout)
    }

    /// WRMSR; false if the guest got #GP.
    func write(_ index: UInt32, _ value: UInt64) -> Bool {
        perform(.writeMSR, index, UInt32(truncatingIfNeeded: value >> 32), UInt32(truncatingIfNeeded: value)) == 1
    }

    /// RDMSR; nil if the guest got #GP.
    func read(_ index: UInt32) -> UInt64? {
        guard perform(.readMSR, index) == 1 else { return nil }
        return strings.value
    }

    /// Writes all registration MSRs except RIP.
    func prepare() -> Bool {
        write(SYMBIOTIC_MSR_GLOBAL_PAGE, 0) && write(SYMBIOTIC_MSR_GLOBAL_PAGE, Place.globalPage)
            && write(SYMBIOTIC_MSR_LOCAL_PAGE, Place.localPage) && write(SYMBIOTIC_MSR_RSP, SymCallPuppet.high + Place.handlerStack)
            && write(SYMBIOTIC_MSR_CS, 0x10) && write(SYMBIOTIC_MSR_GS_BASE, 0xffff_8000_0000_1111) && write(SYMBIOTIC_MSR_FS_BASE, 0x2222)
            && write(SYMBIOTIC_MSR_CR3_CLEAR, 0x18) && write(SYMBIOTIC_MSR_IDT, SymCallPuppet.high + Place.handlerTable)
    }

    /// Registers and arms.
    func arm() -> Bool {
        prepare() && write(SYMBIOTIC_MSR_RIP, SymCallPuppet.high + Place.handler)
    }

    /// The same with a fast doorbell; the command `fastDoorbellLoop` has a different one.
    func arm(fastDoorbell command: Command) -> Bool {
        prepare() && write(SYMBIOTIC_MSR_FAST_DOORBELL, SymCallPuppet.high + SymCallPuppet.program().address("\(command).out"))
            && write(SYMBIOTIC_MSR_RIP, SymCallPuppet.high + Place.handler)
    }

    /// One of the interface's counters.
    func counter(_ name: String) -> UInt64 {
        machine.symbiotic?.counters.all.first { $0.name == name }?.value ?? .max
    }

    /// The number of exits by writes to a port.
    func writes(to port: UInt64) -> UInt64 {
        machine.exitStatistics().rows.filter { $0.reason == .pioWrite && $0.address == port }.reduce(0) { $0 + $1.latency.count }
    }

    /// A word of guest memory.
    func word(_ address: UInt64) -> UInt64 {
        (try? memory.load(address)) ?? .max
    }

    /// Sets a word of guest memory.
    func set(_ address: UInt64, _ value: UInt64) {
        try? memory.store(value, at: address)
    }

    /// The registers whose values after a command differ from those before it.
    func changedRegisters(rax: UInt64) -> [String] {
        var changed: [String] = []
        for register in GeneralRegister.allCases {
            let expected =
                switch register {
                case .rax: rax
                case .rsp: Place.stack
                default: SymCallPuppet.pattern(register)
                }
            let found = word(Place.registers + 8 * UInt64(register.rawValue))
            if found != expected { changed.append("\(register) 0x\(String(found, radix: 16))") }
        }
        // DF and CF were set; ZF, AF, SF, PF and OF are those of the loop's instruction.
        let flags = word(Place.registers + 128)
        if flags & 0x3f_f701 != 0x3401 { changed.append("rflags 0x\(String(flags, radix: 16))") }
        return changed
    }

    static func pattern(_ register: GeneralRegister) -> UInt64 {
        0x0123_4567_89ab_cdef &* (UInt64(register.rawValue) &* 2 &+ 3)
    }
}
