// SPDX-License-Identifier: Apache-2.0

import SymbioticABI

/// The guest's instructions.
extension SymCallPuppet {
    /// The symcalls' handler. It changes registers that only the VMM restores.
    static func handler() -> Assembler {
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

    static func program() -> Assembler {
        var code = Assembler(origin: Place.code)
        code.label("poll")
        code.in32(Strings.commandPort)
        for command: Command in [
            .writeMSR, .readMSR, .doorbell, .strayReturn, .strayFail, .registerLoop, .outLoop, .spin, .halt, .stringDoorbell, .user, .reset,
            .doorbellLoop, .fastDoorbell, .fastDoorbellLoop,
        ] {
            code.compareEAX(command.rawValue)
            code.jumpIfEqual("\(command)")
        }
        code.jump("poll")
        addRegisters(&code)
        addPorts(&code)
        addLoops(&code)
        addUser(&code)
        addFastDoorbells(&code)
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
        code.out32(Strings.handlePIO)
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
        code.out32(Strings.handlePIO)
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
        code.raw(0xf9)  // stc: the comparison cleared CF
        addDump(&code)
        code.jump("accepted")
        code.label("halt")
        code.raw(0xf4)
        code.increment(Place.marker)
        code.jump("accepted")
    }

    /// Code that rings the fast doorbell: in the kernel's half, with the handlers' IDT.
    private static func addFastDoorbells(_ code: inout Assembler) {
        for (label, isLoop) in [("fastDoorbell", false), ("fastDoorbellLoop", true)] {
            code.label(label)
            code.in32(Strings.commandPort)
            if isLoop {
                code.store(.rax, at: Place.counter)
                code.move(0x30, .rax)
            }
            code.moveAddress(of: label + ".high", .r15)
            code.move(high, .r14)
            code.raw(0x4d, 0x01, 0xf7, 0x41, 0xff, 0xe7)  // add r15, r14; jmp r15
            code.label(label + ".high")
            addPatterns(&code)
            code.loadTable(from: Place.handlerTableRegister)
            code.label(label + ".out")
            code.out(UInt8(SYMBIOTIC_PORT_DOORBELL))
            if isLoop {
                code.decrement(Place.counter)
                code.jumpIfNotZero(label + ".out")
            }
            code.loadTable(from: Place.ownTableRegister)
            addDump(&code)
            code.moveAddress(of: "accepted", .r15)
            code.raw(0x41, 0xff, 0xe7)  // jmp r15
        }
    }

    /// Uses the ports of the symbiotic interface in user mode.
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
