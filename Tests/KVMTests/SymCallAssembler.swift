// SPDX-License-Identifier: Apache-2.0

/// A general register, by its number in an instruction (SDM volume 2A, 2.1).
enum GeneralRegister: UInt8, CaseIterable {
    case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
}

/// Assembles the long-mode instructions that the tests' guests need. Memory operands are absolute addresses below 2 GiB.
struct Assembler {
    let origin: UInt64
    private(set) var bytes: [UInt8] = []
    private var labels: [String: UInt64] = [:]
    private var jumps: [(at: Int, label: String)] = []
    private var addresses: [(at: Int, label: String)] = []

    init(origin: UInt64) {
        self.origin = origin
    }

    /// The code with all labels resolved; nil if one is missing.
    func finished() -> [UInt8]? {
        var code = bytes
        for (at, label) in jumps {
            guard let target = labels[label] else { return nil }
            let next = origin + UInt64(at) + 4
            code.replaceSubrange(at..<at + 4, with: Assembler.little(UInt32(truncatingIfNeeded: target &- next)))
        }
        for (at, label) in addresses {
            guard let target = labels[label] else { return nil }
            code.replaceSubrange(at..<at + 8, with: Assembler.little(target))
        }
        return code
    }

    /// The address of a label; 0 if the code does not have it yet.
    func address(_ label: String) -> UInt64 {
        labels[label] ?? 0
    }

    mutating func label(_ name: String) {
        labels[name] = origin + UInt64(bytes.count)
    }

    mutating func raw(_ code: UInt8...) {
        bytes += code
    }

    mutating func jump(_ label: String) {
        bytes.append(0xe9)
        target(label)
    }

    mutating func jumpIfEqual(_ label: String) {
        bytes += [0x0f, 0x84]
        target(label)
    }

    mutating func jumpIfNotZero(_ label: String) {
        bytes += [0x0f, 0x85]
        target(label)
    }

    private mutating func target(_ label: String) {
        jumps.append((bytes.count, label))
        bytes += [0, 0, 0, 0]
    }

    mutating func move(_ value: UInt64, _ register: GeneralRegister) {
        bytes += [register.rawValue < 8 ? 0x48 : 0x49, 0xb8 | register.rawValue & 7] + Assembler.little(value)
    }

    mutating func moveAddress(of label: String, _ register: GeneralRegister) {
        move(0, register)
        addresses.append((bytes.count - 8, label))
    }

    /// MOV EAX, or another of the first eight, which clears the upper half.
    mutating func move32(_ value: UInt32, _ register: GeneralRegister) {
        bytes += [0xb8 | register.rawValue & 7] + Assembler.little(value)
    }

    mutating func store(_ register: GeneralRegister, at address: UInt64) {
        bytes += [register.rawValue < 8 ? 0x48 : 0x4c, 0x89]
        absolute(register.rawValue, address)
    }

    mutating func load(_ register: GeneralRegister, from address: UInt64) {
        bytes += [register.rawValue < 8 ? 0x48 : 0x4c, 0x8b]
        absolute(register.rawValue, address)
    }

    /// INC QWORD.
    mutating func increment(_ address: UInt64) {
        bytes += [0x48, 0xff]
        absolute(0, address)
    }

    /// DEC QWORD.
    mutating func decrement(_ address: UInt64) {
        bytes += [0x48, 0xff]
        absolute(1, address)
    }

    /// CMP DWORD, imm32.
    mutating func compare(_ address: UInt64, _ value: UInt32) {
        bytes.append(0x81)
        absolute(7, address)
        bytes += Assembler.little(value)
    }

    /// LIDT.
    mutating func loadTable(from address: UInt64) {
        bytes += [0x0f, 0x01]
        absolute(3, address)
    }

    /// CMP EAX, imm32.
    mutating func compareEAX(_ value: UInt32) {
        bytes += [0x3d] + Assembler.little(value)
    }

    /// PUSHFQ, POP QWORD.
    mutating func storeFlags(at address: UInt64) {
        bytes += [0x9c, 0x8f]
        absolute(0, address)
    }

    private mutating func absolute(_ register: UInt8, _ address: UInt64) {
        bytes += [(register & 7) << 3 | 4, 0x25] + Assembler.little(UInt32(truncatingIfNeeded: address))
    }

    /// OUT imm8, AL.
    mutating func out(_ port: UInt8) {
        raw(0xe6, port)
    }

    /// OUT imm8, EAX.
    mutating func out32(_ port: UInt8) {
        raw(0xe7, port)
    }

    /// IN EAX, imm8.
    mutating func in32(_ port: UInt8) {
        raw(0xe5, port)
    }

    static func little<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        (0..<(Value.bitWidth / 8)).map { UInt8(truncatingIfNeeded: value >> Value(8 * $0)) }
    }
}
