// SPDX-License-Identifier: Apache-2.0

import SymbioticABI

@testable import SymVMM

/// The guest's memory: tables, pages, code.
extension SymCallPuppet {
    static func fill(_ memory: GuestMemory) throws {
        try BootEntry.writeTables(into: memory)
        // Makes all pages accessible to user mode, and maps the kernel's half.
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

    static func finished(_ code: Assembler) throws -> [UInt8] {
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
        // The guest's own faults: continue at the address in R15.
        var refused = Assembler(origin: Place.faults + 0x900)
        refused.move(Place.stack, .rsp)
        refused.raw(0x41, 0xff, 0xe7)  // jmp r15
        try memory.write(refused.origin, bytes: try finished(refused))
        for vector in 0..<32 { try writeGate(memory, Place.ownTable, vector, refused.origin) }
        for (register, table) in [(Place.ownTableRegister, Place.ownTable), (Place.handlerTableRegister, high + Place.handlerTable)] {
            try memory.store(UInt16(0xfff), at: register)
            try memory.store(table, at: register + 2)
        }
    }

    private static func writeGate(_ memory: GuestMemory, _ table: UInt64, _ vector: Int, _ address: UInt64) throws {
        let at = table + UInt64(vector) * 16
        try memory.store(UInt16(truncatingIfNeeded: address), at: at)
        try memory.store(UInt16(0x10), at: at + 2)
        try memory.store(UInt16(0x8e00), at: at + 4)
        try memory.store(UInt16(truncatingIfNeeded: address >> 16), at: at + 6)
        try memory.store(UInt32(truncatingIfNeeded: address >> 32), at: at + 8)
    }
}
