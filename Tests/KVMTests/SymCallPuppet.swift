// SPDX-License-Identifier: Apache-2.0

import CKVM
import Glibc
import Synchronization

@testable import SymVMM

/// A symbiotic guest of a few hundred instructions that does what a test tells it to: it polls a port for commands. docs/ABI.md is all that it
/// knows of the VMM.
final class SymCallPuppet: @unchecked Sendable {
    /// What the guest can do.
    enum Command: UInt32 {
        case poll, writeMSR, readMSR, doorbell, strayReturn, strayFail, registerLoop, outLoop, spin, halt, stringDoorbell, user, reset
        case doorbellLoop
    }

    /// Where things are in guest memory.
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
        /// In the bitmap, but not for direct injection.
        static let needsDoorbell: UInt32 = 2
    }

    /// The first 512 GiB once more, in the kernel's half.
    static let high: UInt64 = 0xffff_8000_0000_0000

    let machine: VirtualMachine
    let memory: GuestMemory
    fileprivate let strings: Strings

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
            enter: { vcpu throws(KVMError) in
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

    deinit {
        machine.kill()
        _ = machine.wait()
    }

    // MARK: What a test asks

    /// Lets the guest do something and waits for what it says about it; nil when it says nothing in time.
    @discardableResult
    func perform(_ command: Command, _ words: UInt32..., timeout: Int = 10_000) -> UInt32? {
        begin(command, words)
        return strings.answer(within: timeout)
    }

    /// Lets the guest do something without waiting.
    func begin(_ command: Command, _ words: [UInt32] = []) {
        strings.enqueue([command.rawValue] + words)
    }

    /// Waits for what `begin` started.
    func answer(timeout: Int = 10_000) -> UInt32? {
        strings.answer(within: timeout)
    }

    /// WRMSR; false when the guest got #GP.
    func write(_ index: UInt32, _ value: UInt64) -> Bool {
        perform(.writeMSR, index, UInt32(truncatingIfNeeded: value >> 32), UInt32(truncatingIfNeeded: value)) == 1
    }

    /// RDMSR; nil when the guest got #GP.
    func read(_ index: UInt32) -> UInt64? {
        guard perform(.readMSR, index) == 1 else { return nil }
        return strings.value
    }

    /// Fills the shared pages and registers, all but RIP.
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

    /// One of the interface's counters.
    func counter(_ name: String) -> UInt64 {
        machine.symbiotic?.counters.all.first { $0.name == name }?.value ?? .max
    }

    /// Exits with a value written to a port.
    func writes(to port: UInt64) -> UInt64 {
        machine.exitStatistics().rows.filter { $0.reason == .portWrite && $0.address == port }.reduce(0) { $0 + $1.latency.count }
    }

    /// A word of guest memory.
    func word(_ address: UInt64) -> UInt64 {
        (try? memory.load(address)) ?? .max
    }

    /// Sets a word of guest memory.
    func set(_ address: UInt64, _ value: UInt64) {
        try? memory.store(value, at: address)
    }

    /// The registers that a command left behind and that differ from what it put into them.
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
        // DF and CF were set; the loop's own instruction decides about ZF, AF, SF, PF and OF.
        let flags = word(Place.registers + 128)
        if flags & 0x3f_f701 != 0x3401 { changed.append("rflags 0x\(String(flags, radix: 16))") }
        return changed
    }

    fileprivate static func pattern(_ register: GeneralRegister) -> UInt64 {
        0x0123_4567_89ab_cdef &* (UInt64(register.rawValue) &* 2 &+ 3)
    }

    // MARK: The guest's memory

    private static func fill(_ memory: GuestMemory) throws {
        try BootEntry.writeTables(into: memory)
        // Everything for user mode, too; and the kernel's half.
        for page in 0..<6 {
            for entry in 0..<512 {
                let at = BootLayout.pageTables + UInt64(page) * 4096 + UInt64(entry) * 8
                let value: UInt64 = try memory.load(at)
                if value & 1 == 1 { try memory.store(value | 4, at: at) }
            }
        }
        let root: UInt64 = try memory.load(BootLayout.pageTables)
        try memory.store(root, at: BootLayout.pageTables + 256 * 8)
        try memory.write(Place.code, bytes: try finished(program()))
        try memory.write(Place.handler, bytes: try finished(handler()))
        try writeFaultTables(memory)
        try fillPages(memory)
    }

    struct MissingLabel: Error {}

    private static func finished(_ code: Assembler) throws -> [UInt8] {
        guard let bytes = code.finished() else { throw MissingLabel() }
        return bytes
    }

    static func fillPages(_ memory: GuestMemory) throws {
        let global = Place.globalPage
        try memory.zero(global, byteCount: 4096)
        try memory.store(SYMBIOTIC_GLOBAL_MAGIC, at: global)
        try memory.store(SYMBIOTIC_ABI_VERSION, at: global + 8)
        try memory.store(UInt32(4096), at: global + 12)
        try memory.store(UInt64(Place.buffer), at: global + 0x18)
        try memory.store(UInt32(0x1_0000), at: global + 0x20)
        try memory.store(UInt64(7), at: global + 0x70)
        try memory.store(UInt64(3), at: global + 0xb0)
        // 0x1e0 to 0x1ef
        try memory.store(UInt64(0xffff) << 32, at: global + 0x70 + 56)
        try memory.store(UInt64(0xffff) << 32, at: global + 0xb0 + 56)
        try memory.zero(Place.localPage, byteCount: 4096)
        try memory.store(SYMBIOTIC_LOCAL_MAGIC, at: Place.localPage)
        try memory.store(UInt32(2), at: Place.localPage + 0x20)
        try memory.store(UInt32(99), at: Place.localPage + 0x28)
    }

    private static func writeFaultTables(_ memory: GuestMemory) throws {
        let withCode: Set<Int> = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30]
        for vector in 0..<32 {
            var stub = Assembler(origin: Place.faults + UInt64(vector) * 64)
            stub.move32(UInt32(vector), .rbx)
            if withCode.contains(vector) { stub.raw(0x59) } else { stub.move32(0, .rcx) }  // pop rcx
            stub.raw(0x5a)  // pop rdx: RIP
            stub.raw(0x0f, 0x20, 0xd6)  // mov rsi, cr2
            stub.raw(0x48, 0x89, 0xe7)  // mov rdi, rsp
            stub.move32(7, .rax)
            stub.out(UInt8(SYMBIOTIC_PORT_FAIL))
            stub.raw(0xf4)
            try memory.write(stub.origin, bytes: try finished(stub))
            try writeGate(memory, Place.handlerTable, vector, high + stub.origin)
        }
        // Its own faults: on with what R15 says.
        var refused = Assembler(origin: Place.faults + 0x900)
        refused.move(Place.stack, .rsp)
        refused.raw(0x41, 0xff, 0xe7)  // jmp r15
        try memory.write(refused.origin, bytes: try finished(refused))
        for vector in 0..<32 { try writeGate(memory, Place.ownTable, vector, refused.origin) }
    }

    private static func writeGate(_ memory: GuestMemory, _ table: UInt64, _ vector: Int, _ address: UInt64) throws {
        let at = table + UInt64(vector) * 16
        try memory.store(UInt16(truncatingIfNeeded: address), at: at)
        try memory.store(UInt16(0x10), at: at + 2)
        try memory.store(UInt16(0x8e00), at: at + 4)
        try memory.store(UInt16(truncatingIfNeeded: address >> 16), at: at + 6)
        try memory.store(UInt32(truncatingIfNeeded: address >> 32), at: at + 8)
    }

    /// The symcalls' handler. It spoils what it may not rely on being saved by anybody but the VMM.
    private static func handler() -> Assembler {
        var code = Assembler(origin: Place.handler)
        code.increment(Place.handlerCalls)
        for (number, label) in [
            (SYMBIOTIC_SYMCALL_PING, "ping"), (SYMBIOTIC_SYMCALL_TASK, "task"), (Call.needsDoorbell, "ping"), (Call.spin, "spin"),
            (Call.invalidOpcode, "ud"), (Call.pageFault, "pf"), (Call.doorbell, "doorbell"), (Call.twice, "twice"), (Call.halt, "halt"),
            (Call.stringReturn, "string"), (Call.drop, "drop"), (Call.error, "error"), (Call.disarm, "disarm"),
            (Call.generalProtection, "gp"),
        ] {
            code.compareEAX(number)
            code.jumpIfEqual(label)
        }
        code.label("unknown")
        code.move32(1, .rax)
        code.jump("leave")
        code.label("ping")
        for register: GeneralRegister in [.rbp, .r8, .r9, .r10, .r11, .r12, .r13, .r14, .r15] { code.move(.max, register) }
        code.raw(0xfd)  // std
        code.label("done")
        code.move32(0, .rax)
        code.label("leave")
        code.out(UInt8(SYMBIOTIC_PORT_RETURN))
        code.increment(Place.marker)  // never reached
        code.raw(0xf4)
        code.label("task")
        code.move(99 << 32 | 98, .rbx)
        code.move(1000, .rcx)
        code.move(0x0000_7465_7070_7570, .rdx)  // "puppet"
        code.move(0, .rsi)
        code.move(5, .rdi)
        code.jump("done")
        code.label("spin")
        code.jump("spin")
        code.label("ud")
        code.raw(0x0f, 0x0b)
        code.label("pf")
        code.raw(0x48, 0x8b, 0x1b)  // mov rbx, [rbx]
        code.jump("done")
        code.label("gp")
        code.move(0x8000_0000_0000_0000, .rbx)
        code.raw(0x48, 0x8b, 0x1b)
        code.jump("done")
        code.label("doorbell")
        code.move32(0, .rax)
        code.out(UInt8(SYMBIOTIC_PORT_DOORBELL))
        code.raw(0x48, 0xff, 0xc3)  // inc rbx
        code.jump("done")
        code.label("twice")
        code.move32(0, .rax)
        for _ in 0..<2 { code.out(UInt8(SYMBIOTIC_PORT_RETURN)) }
        code.out(UInt8(SYMBIOTIC_PORT_FAIL))
        code.increment(Place.marker)
        code.label("halt")
        code.raw(0xf4)
        code.jump("halt")
        code.label("string")
        code.move32(UInt32(SYMBIOTIC_PORT_RETURN), .rdx)
        code.move(Place.text, .rsi)
        code.move32(5, .rcx)
        code.move32(0, .rax)
        code.raw(0xfc, 0xf3, 0x6e)  // cld; rep outsb
        code.increment(Place.marker)
        code.jump("halt")
        code.label("drop")
        writeZero(&code, SYMBIOTIC_MSR_GLOBAL_PAGE)
        code.jump("done")
        code.label("disarm")
        writeZero(&code, SYMBIOTIC_MSR_RIP)
        code.jump("done")
        code.label("error")
        code.move32(4, .rax)
        code.jump("leave")
        return code
    }

    private static func writeZero(_ code: inout Assembler, _ index: UInt32) {
        code.move32(index, .rcx)
        code.move32(0, .rax)
        code.move32(0, .rdx)
        code.raw(0x0f, 0x30)  // wrmsr
    }

    private static func program() -> Assembler {
        var code = Assembler(origin: Place.code)
        code.label("poll")
        code.in32(Strings.commandPort)
        for command: Command in [
            .writeMSR, .readMSR, .doorbell, .strayReturn, .strayFail, .registerLoop, .outLoop, .spin, .halt, .stringDoorbell, .user, .reset,
            .doorbellLoop,
        ] {
            code.compareEAX(command.rawValue)
            code.jumpIfEqual("\(command)")
        }
        code.jump("poll")
        addRegisters(&code)
        addPorts(&code)
        addLoops(&code)
        addUser(&code)
        return code
    }

    private static func addRegisters(_ code: inout Assembler) {
        code.label("writeMSR")
        code.in32(Strings.commandPort)
        code.raw(0x89, 0xc1)  // mov ecx, eax
        code.in32(Strings.commandPort)
        code.raw(0x89, 0xc2)  // mov edx, eax
        code.in32(Strings.commandPort)
        code.moveAddress(of: "refused", .r15)
        code.raw(0x0f, 0x30)
        code.label("accepted")
        code.move32(1, .rax)
        code.out32(Strings.answerPort)
        code.jump("poll")
        code.label("readMSR")
        code.in32(Strings.commandPort)
        code.raw(0x89, 0xc1)
        code.moveAddress(of: "refused", .r15)
        code.raw(0x0f, 0x32)  // rdmsr
        code.out32(Strings.lowPort)
        code.raw(0x89, 0xd0)  // mov eax, edx
        code.out32(Strings.highPort)
        code.jump("accepted")
        code.label("refused")
        code.move32(0, .rax)
        code.out32(Strings.answerPort)
        code.jump("poll")
    }

    /// Known values in all registers but RAX and RSP, DF and CF set.
    private static func addPatterns(_ code: inout Assembler) {
        for register in GeneralRegister.allCases where register != .rax && register != .rsp { code.move(pattern(register), register) }
        code.raw(0xfd, 0xf9)  // std; stc
    }

    private static func addDump(_ code: inout Assembler) {
        for register in GeneralRegister.allCases { code.store(register, at: Place.registers + 8 * UInt64(register.rawValue)) }
        code.storeFlags(at: Place.registers + 128)
        code.raw(0xfc)  // cld
    }

    private static func addPorts(_ code: inout Assembler) {
        code.label("doorbell")
        code.in32(Strings.commandPort)
        addPatterns(&code)
        code.out(UInt8(SYMBIOTIC_PORT_DOORBELL))
        addDump(&code)
        code.jump("accepted")
        for (label, port) in [("strayReturn", SYMBIOTIC_PORT_RETURN), ("strayFail", SYMBIOTIC_PORT_FAIL)] {
            code.label(label)
            code.out(UInt8(port))
            code.jump("accepted")
        }
        code.label("stringDoorbell")
        code.in32(Strings.commandPort)
        code.raw(0x89, 0xc1)  // mov ecx, eax
        code.move32(UInt32(SYMBIOTIC_PORT_DOORBELL), .rdx)
        code.move(Place.text, .rsi)
        code.raw(0xf3, 0x6e)  // rep outsb
        code.store(.rcx, at: Place.registers)
        code.store(.rsi, at: Place.registers + 8)
        code.jump("accepted")
        code.label("reset")
        code.move32(0xfe, .rax)
        code.out(0x64)
        code.raw(0xf4)
    }

    private static func addLoops(_ code: inout Assembler) {
        for (label, body) in [("registerLoop", []), ("outLoop", [0xe6, 0x80]), ("doorbellLoop", [0xe6, UInt8(SYMBIOTIC_PORT_DOORBELL)])] {
            code.label(label)
            code.in32(Strings.commandPort)
            code.store(.rax, at: Place.counter)
            code.move(label == "doorbellLoop" ? 0x30 : 0xf0, .rax)
            addPatterns(&code)
            code.label(label + ".again")
            for byte in body { code.raw(byte) }
            code.decrement(Place.counter)
            code.jumpIfNotZero(label + ".again")
            addDump(&code)
            code.jump("accepted")
        }
        code.label("spin")
        code.move(0xf0, .rax)
        addPatterns(&code)
        code.label("spin.again")
        code.compare(Place.flag, 0)
        code.jumpIfEqual("spin.again")
        code.raw(0xf9)  // stc: the comparison has cleared it
        addDump(&code)
        code.jump("accepted")
        code.label("halt")
        code.raw(0xf4)
        code.increment(Place.marker)
        code.jump("accepted")
    }

    /// The ports of the symbiotic interface from user mode.
    private static func addUser(_ code: inout Assembler) {
        code.label("user")
        code.out(Strings.userPort)
        for _ in 0..<3 { code.out(UInt8(SYMBIOTIC_PORT_DOORBELL)) }
        code.out(UInt8(SYMBIOTIC_PORT_RETURN))
        code.out(UInt8(SYMBIOTIC_PORT_FAIL))
        code.label("user.again")
        code.compare(Place.flag, 0)
        code.jumpIfEqual("user.again")
        code.out(Strings.kernelPort)
        code.jump("accepted")
    }
}

/// The ports by which the test pulls the strings.
private final class Strings: BusDevice, @unchecked Sendable {
    static let base: UInt16 = 0x90
    static let commandPort: UInt8 = 0x90
    static let answerPort: UInt8 = 0x94
    static let lowPort: UInt8 = 0x95
    static let highPort: UInt8 = 0x96
    static let userPort: UInt8 = 0x97
    static let kernelPort: UInt8 = 0x98

    private struct State {
        var commands: [UInt32] = []
        var answers: [UInt32] = []
        var low: UInt32 = 0
        var high: UInt32 = 0
    }

    private let state = Mutex(State())

    init() {
        super.init(name: "strings")
    }

    func enqueue(_ words: [UInt32]) {
        state.withLock { $0.commands += words }
    }

    var value: UInt64 {
        state.withLock { UInt64($0.high) << 32 | UInt64($0.low) }
    }

    func answer(within milliseconds: Int) -> UInt32? {
        for _ in 0..<(milliseconds * 10) {
            if let answer = state.withLock({ $0.answers.isEmpty ? nil : $0.answers.removeFirst() }) { return answer }
            usleep(100)
        }
        return nil
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        UInt64(state.withLock { $0.commands.isEmpty ? 0 : $0.commands.removeFirst() })
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from processor: VirtualProcessor) {
        let word = UInt32(truncatingIfNeeded: value)
        switch UInt8(Strings.base) + UInt8(offset) {
        case Strings.answerPort: state.withLock { $0.answers.append(word) }
        case Strings.lowPort: state.withLock { $0.low = word }
        case Strings.highPort: state.withLock { $0.high = word }
        case Strings.userPort: setPrivilege(3, processor)
        case Strings.kernelPort: setPrivilege(0, processor)
        default: break
        }
    }

    /// Puts the vCPU into another ring: this KVM may not know the instructions for it.
    private func setPrivilege(_ level: UInt8, _ processor: VirtualProcessor) {
        guard var special = try? processor.handle.specialRegisters() else { return }
        special.cs.dpl = level
        special.ss.dpl = level
        special.cs.selector = special.cs.selector & ~3 | UInt16(level)
        special.ss.selector = special.ss.selector & ~3 | UInt16(level)
        try? processor.handle.setSpecialRegisters(special)
    }
}
