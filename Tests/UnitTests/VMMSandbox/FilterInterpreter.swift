// SPDX-License-Identifier: Apache-2.0

import CSandbox
import VMMSandbox

/// What a filter sees of a system call: struct seccomp_data.
struct FilterInput {
    var number: UInt32
    var architecture: UInt32 = 0xc000_003e
    var instructionPointer: UInt64 = 0
    var arguments: [UInt64] = [0, 0, 0, 0, 0, 0]

    /// A word of the structure at an offset in bytes; nil if there is none.
    func word(at offset: UInt32) -> UInt32? {
        let longs = [UInt64(architecture) << 32 | UInt64(number), instructionPointer] + arguments
        guard offset % 4 == 0, Int(offset / 8) < longs.count else { return nil }
        return UInt32(truncatingIfNeeded: longs[Int(offset / 8)] >> (offset % 8 == 0 ? 0 : 32))
    }
}

/// Executes classic BPF as the kernel does, and refuses what its checker refuses (bpf_check_classic, seccomp_check_filter).
struct FilterInterpreter {
    enum Fault: Error {
        case unknownInstruction(Int)
        case outside(Int)
        case endless
    }

    let program: [csandbox_instruction]

    /// Executes the program; returns the action.
    func action(for input: FilterInput) throws -> UInt32 {
        var (position, accumulator) = (0, UInt32(0))
        for _ in 0...program.count {
            guard program.indices.contains(position) else { throw Fault.outside(position) }
            let instruction = program[position]
            position += 1
            switch instruction.code {
            case 0x20:
                guard let word = input.word(at: instruction.k) else { throw Fault.outside(position) }
                accumulator = word
            case 0x05: position += Int(instruction.k)
            case 0x15: position += Int(accumulator == instruction.k ? instruction.jump_true : instruction.jump_false)
            case 0x35: position += Int(accumulator >= instruction.k ? instruction.jump_true : instruction.jump_false)
            case 0x45: position += Int(accumulator & instruction.k != 0 ? instruction.jump_true : instruction.jump_false)
            case 0x06: return instruction.k
            default: throw Fault.unknownInstruction(position)
            }
        }
        throw Fault.endless
    }
}
