// SPDX-License-Identifier: Apache-2.0

package import CSandbox
package import VMMBase

/// Compiles the calls that a role is allowed into a program for seccomp(2): classic BPF over struct seccomp_data.
///
///     architecture is not x86-64, or the number is one of the x32 interface -> the other action
///     the role's hot call, by one comparison                                -> its checks
///     a binary search over the numbers                                      -> allow, the call's checks, or the other action
///     the checks of each call that has some: alternatives, of which each compares both halves of 64-bit arguments
///
/// Pure. The kernel decides calls without checks from a bitmap that it computes once, so only calls with checks execute the program.
package struct FilterCompiler {
    /// Codes of instructions (linux/bpf_common.h).
    enum Code {
        static let load: UInt16 = 0x20  // BPF_LD | BPF_W | BPF_ABS
        static let jump: UInt16 = 0x05  // BPF_JMP | BPF_JA
        static let jumpEqual: UInt16 = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
        static let jumpGreaterOrEqual: UInt16 = 0x35  // BPF_JMP | BPF_JGE | BPF_K
        static let jumpSet: UInt16 = 0x45  // BPF_JMP | BPF_JSET | BPF_K
        static let result: UInt16 = 0x06  // BPF_RET | BPF_K
    }

    /// Offsets in struct seccomp_data (linux/seccomp.h).
    enum Offset {
        static let number: UInt32 = 0
        static let architecture: UInt32 = 4
        static let instructionPointer: UInt32 = 8
        static func argument(_ index: Int) -> UInt32 { 16 + 8 * UInt32(index) }
    }

    /// AUDIT_ARCH_X86_64.
    static let architecture: UInt32 = 0xc000_003e
    /// The first number of the x32 interface (__X32_SYSCALL_BIT): the same calls with other structures.
    static let firstOfX32: UInt32 = 0x4000_0000
    /// Most instructions of a program (BPF_MAXINSNS).
    static let limit = 4096

    /// What happens to a call that is not allowed: a SECCOMP_RET_ value.
    package var otherAction: UInt32
    /// The number of the process, for `ArgumentCheck.ownProcess`.
    package var process: UInt32
    /// Allows any call by the system call instruction before this address; nil for none.
    package var trustedAddress: UInt64?
    /// The call that is compared first; nil for none.
    package var hotCall: SystemCall?

    /// Creates a compiler.
    package init(otherAction: UInt32, process: UInt32, trustedAddress: UInt64? = nil, hotCall: SystemCall? = nil) {
        self.otherAction = otherAction
        self.process = process
        self.trustedAddress = trustedAddress
        self.hotCall = hotCall
    }

    /// What the search finds for a number: not allowed, allowed, or the first of the calls in the table whose checks decide.
    private enum Target: Equatable {
        case refuse
        case allow
        case checks(Int)
    }

    /// Numbers from `first` up to the next interval's have one target.
    private struct Interval {
        let first: UInt32
        let target: Target
    }

    /// A program that grows. Plain arrays: a VM compiles its filters at its start, and the first use of each generic type costs time.
    private struct Program {
        var instructions: [csandbox_instruction] = []
        /// Jumps to the checks of a call: where the jump is, and the index of the call in the table.
        var references: [(position: Int, index: Int)] = []

        mutating func append(_ code: UInt16, _ k: UInt32, _ isTrue: UInt8 = 0, _ isFalse: UInt8 = 0) {
            instructions.append(csandbox_instruction(code: code, jump_true: isTrue, jump_false: isFalse, k: k))
        }
    }

    /// Compiles a role's calls.
    ///
    /// - Throws: `VMMError` of kind bug if the program is longer than the kernel or a jump allows.
    package func compile(_ allowed: [AllowedCall]) throws(VMMError) -> [csandbox_instruction] {
        var program = Program()
        program.instructions.reserveCapacity(192)
        appendProlog(&program)
        if let hotCall {
            let target = target(of: hotCall.rawValue, allowed)
            program.append(Code.jumpEqual, hotCall.rawValue, 0, 1)
            append(target, to: &program)
        }
        let intervals = intervals(allowed)
        try append(intervals, 0, intervals.count, to: &program)
        // The checks of each call, once.
        var done: [Int] = []
        for reference in program.references where !done.contains(reference.index) {
            done.append(reference.index)
            let start = program.instructions.count
            for other in program.references where other.index == reference.index {
                program.instructions[other.position].k = UInt32(start - other.position - 1)
            }
            try appendChecks(of: allowed[reference.index].call, allowed, to: &program)
        }
        guard program.instructions.count <= FilterCompiler.limit else { throw .bug("a filter is too long") }
        return program.instructions
    }

    private func appendProlog(_ program: inout Program) {
        program.append(Code.load, Offset.architecture)
        program.append(Code.jumpEqual, FilterCompiler.architecture, 1, 0)
        program.append(Code.result, otherAction)
        if let trustedAddress {
            program.append(Code.load, Offset.instructionPointer)
            program.append(Code.jumpEqual, UInt32(truncatingIfNeeded: trustedAddress), 0, 3)
            program.append(Code.load, Offset.instructionPointer + 4)
            program.append(Code.jumpEqual, UInt32(truncatingIfNeeded: trustedAddress >> 32), 0, 1)
            program.append(Code.result, FilterCompiler.allow)
        }
        program.append(Code.load, Offset.number)
    }

    private func target(of number: UInt32, _ allowed: [AllowedCall]) -> Target {
        var target = Target.refuse
        for index in allowed.indices where allowed[index].call.rawValue == number {
            if allowed[index].checks.isEmpty { return .allow }
            if target == .refuse { target = .checks(index) }
        }
        return target
    }

    /// The intervals of all numbers, ascending from 0. Neighbours have different targets.
    private func intervals(_ allowed: [AllowedCall]) -> [Interval] {
        // The hot call has been compared already.
        var numbers: [UInt32] = []
        for call in allowed where call.call != hotCall && !numbers.contains(call.call.rawValue) { numbers.append(call.call.rawValue) }
        numbers.sort()
        var intervals = [Interval(first: 0, target: .refuse)]
        intervals.reserveCapacity(2 * numbers.count + 2)
        for number in numbers {
            let target = target(of: number, allowed)
            FilterCompiler.begin(number, target, &intervals)
            FilterCompiler.begin(number + 1, .refuse, &intervals)
        }
        FilterCompiler.begin(FilterCompiler.firstOfX32, .refuse, &intervals)
        return intervals
    }

    private static func begin(_ first: UInt32, _ target: Target, _ intervals: inout [Interval]) {
        if intervals.last?.first == first { intervals.removeLast() }
        if intervals.last?.target != target { intervals.append(Interval(first: first, target: target)) }
    }

    private func append(_ target: Target, to program: inout Program) {
        switch target {
        case .refuse: program.append(Code.result, otherAction)
        case .allow: program.append(Code.result, FilterCompiler.allow)
        case .checks(let index):
            program.references.append((program.instructions.count, index))
            program.append(Code.jump, 0)
        }
    }

    /// Compares the number with the middle of the intervals `first ..< end`. The recursion is as deep as the logarithm of their number.
    private func append(_ intervals: [Interval], _ first: Int, _ end: Int, to program: inout Program) throws(VMMError) {
        guard end - first > 1 else { return append(intervals[first].target, to: &program) }
        let middle = first + (end - first) / 2
        // The upper half follows the lower one. A conditional jump reaches 255 instructions, a plain one any distance.
        let comparison = program.instructions.count
        program.append(Code.jumpGreaterOrEqual, intervals[middle].first)
        let isFar = end - first > 120
        if isFar {
            program.instructions[comparison].jump_false = 1
            program.append(Code.jump, 0)
        }
        let lower = program.instructions.count
        try append(intervals, first, middle, to: &program)
        let length = program.instructions.count - lower
        if isFar {
            program.instructions[comparison + 1].k = UInt32(length)
        } else {
            program.instructions[comparison].jump_true = try FilterCompiler.distance(length)
        }
        try append(intervals, middle, end, to: &program)
    }

    // MARK: Checks

    /// The alternatives of a call, one after the other. One that fails continues with the next, the last with the other action.
    private func appendChecks(of call: SystemCall, _ allowed: [AllowedCall], to program: inout Program) throws(VMMError) {
        for alternative in allowed where alternative.call == call {
            // A failed check jumps over the rest of the alternative, of which the last instruction allows the call.
            var rest = alternative.checks.reduce(1) { $0 + length(of: $1) }
            for check in alternative.checks {
                rest -= length(of: check)
                try append(check, restLength: rest, to: &program)
            }
            program.append(Code.result, FilterCompiler.allow)
        }
        program.append(Code.result, otherAction)
    }

    /// Number of instructions of a check.
    private func length(of check: ArgumentCheck) -> Int {
        switch check {
        case .with(_, let bits): 1 + bits.nonzeroBitCount
        case .without: 2
        case .ownProcess: 4
        case .oneOf(_, let values): FilterCompiler.groups(values).reduce(0) { $0 + 3 + $1.lower.count }
        }
    }

    /// Falls through if the check is met, and otherwise jumps over `restLength` instructions more.
    private func append(_ check: ArgumentCheck, restLength: Int, to program: inout Program) throws(VMMError) {
        switch check {
        case .with(let argument, let bits):
            program.append(Code.load, Offset.argument(argument))
            // One bit at a time: JSET is true if any bit is set.
            var left = bits
            while left != 0 {
                let bit = left & ~(left - 1)
                left &= ~bit
                program.append(Code.jumpSet, bit, 0, try FilterCompiler.distance(left.nonzeroBitCount + restLength))
            }
        case .without(let argument, let bits):
            program.append(Code.load, Offset.argument(argument))
            program.append(Code.jumpSet, bits, try FilterCompiler.distance(restLength), 0)
        case .ownProcess(let argument):
            try append(.oneOf(argument, [UInt64(process)]), restLength: restLength, to: &program)
        case .oneOf(let argument, let values):
            // Values with the same upper half follow its comparison.
            let groups = FilterCompiler.groups(values)
            var after = groups.reduce(0) { $0 + 3 + $1.lower.count }
            for group in groups {
                after -= 3 + group.lower.count
                let failed = after == 0 ? restLength : 0
                program.append(Code.load, Offset.argument(argument) + 4)
                program.append(Code.jumpEqual, group.upper, 0, try FilterCompiler.distance(group.lower.count + 1 + failed))
                program.append(Code.load, Offset.argument(argument))
                for (position, lower) in group.lower.enumerated() {
                    let left = group.lower.count - position - 1
                    program.append(
                        Code.jumpEqual, lower, try FilterCompiler.distance(left + after), try FilterCompiler.distance(left > 0 ? 0 : failed)
                    )
                }
            }
        }
    }

    private static func groups(_ values: [UInt64]) -> [(upper: UInt32, lower: [UInt32])] {
        var groups: [(upper: UInt32, lower: [UInt32])] = []
        for value in values {
            let (upper, lower) = (UInt32(truncatingIfNeeded: value >> 32), UInt32(truncatingIfNeeded: value))
            if let index = groups.firstIndex(where: { $0.upper == upper }) {
                groups[index].lower.append(lower)
            } else {
                groups.append((upper, [lower]))
            }
        }
        return groups
    }

    /// A conditional jump's distance has 8 bits.
    private static func distance(_ instructions: Int) throws(VMMError) -> UInt8 {
        guard let distance = UInt8(exactly: instructions) else { throw .bug("a filter's check is too long") }
        return distance
    }

    private static let allow = UInt32(CSANDBOX_RETURN_ALLOW)
}
