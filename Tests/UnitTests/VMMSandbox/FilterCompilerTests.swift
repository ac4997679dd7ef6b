// SPDX-License-Identifier: Apache-2.0

import CSandbox
import Testing
import VMMBase
import VMMSandbox

@Suite struct FilterCompilerTests {
    private let refused = UInt32(CSANDBOX_RETURN_KILL_PROCESS)
    private let allowed = UInt32(CSANDBOX_RETURN_ALLOW)
    private let process: UInt32 = 4711

    private func filter(_ calls: [AllowedCall], hot: SystemCall? = nil, trusted: UInt64? = nil) throws -> FilterInterpreter {
        let compiler = FilterCompiler(otherAction: refused, process: process, trustedAddress: trusted, hotCall: hot)
        return FilterInterpreter(program: try compiler.compile(calls))
    }

    /// The action for a call by the table's own words.
    private func expected(_ calls: [AllowedCall], _ input: FilterInput) -> UInt32 {
        let isAllowed = calls.contains { allowed in
            guard allowed.call.rawValue == input.number else { return false }
            return allowed.checks.allSatisfy { check in
                switch check {
                case .oneOf(let argument, let values): values.contains(input.arguments[argument])
                case .with(let argument, let bits): UInt32(truncatingIfNeeded: input.arguments[argument]) & bits == bits
                case .without(let argument, let bits): UInt32(truncatingIfNeeded: input.arguments[argument]) & bits == 0
                case .ownProcess(let argument): input.arguments[argument] == UInt64(process)
                }
            }
        }
        return isAllowed ? self.allowed : refused
    }

    /// Values that show a check's edges.
    private func values(for checks: [ArgumentCheck], _ index: Int) -> [UInt64] {
        var values: Set<UInt64> = [0, 1, .max]
        for check in checks {
            switch check {
            case .oneOf(index, let known):
                for value in known { values.formUnion([value, value ^ 1, value | 1 << 32, value << 32, value | 1 << 63]) }
            case .with(index, let bits), .without(index, let bits):
                for bit in 0..<32 { values.insert(1 << UInt64(bit)) }
                values.formUnion([UInt64(bits), UInt64(bits) | 0xffff_ffff_0000_0000, ~UInt64(bits), UInt64(bits) << 32])
            case .ownProcess(index):
                values.formUnion([UInt64(process), UInt64(process) + 1, UInt64(process) | 1 << 32, UInt64(process) << 32])
            default: continue
            }
        }
        return values.sorted()
    }

    /// Compares a filter with the table it was made of: every number, and every combination of the checked arguments' edges.
    private func compare(_ calls: [AllowedCall], hot: SystemCall? = nil) throws {
        let filter = try filter(calls, hot: hot)
        for number in UInt32(0)...600 {
            let checks = calls.filter { $0.call.rawValue == number }.flatMap(\.checks)
            var inputs = [FilterInput(number: number)]
            for index in 0..<6 {
                let values = values(for: checks, index)
                guard values.count > 3 else { continue }
                inputs = inputs.flatMap { input in
                    values.map { value in
                        var changed = input
                        changed.arguments[index] = value
                        return changed
                    }
                }
            }
            for input in inputs {
                let action = try filter.action(for: input)
                guard action != expected(calls, input) else { continue }
                Issue.record("number \(number), arguments \(input.arguments): \(String(action, radix: 16))")
                return
            }
        }
    }

    @Test(arguments: ThreadRole.allCases) func filterOfARoleDoesWhatTheTableSays(_ role: ThreadRole) throws {
        guard let calls = SandboxTable.calls(of: role) else { return }
        try compare(calls, hot: SandboxTable.hotCall(of: role))
        try compare(calls)
    }

    @Test func alternativesAndManyValues() throws {
        let many = (0..<12).map { UInt64($0) * 3 | UInt64($0 % 3) << 32 }
        try compare([
            .allow(.ioctl, "", .oneOf(1, many)), .allow(.ioctl, "", .oneOf(1, [77]), .without(2, 8), .with(2, 0x10)),
            .allow(.fcntl, "", .with(2, 0x8000_0001)), .allow(.tgkill, "", .ownProcess(0)), .allow(.read, ""),
        ])
        // A call that is allowed with any arguments stays so.
        try compare([.allow(.ioctl, "", .oneOf(1, [1])), .allow(.ioctl, "")])
    }

    @Test func everyCallOfTheTableAtOnce() throws {
        try compare(SystemCall.allCases.map { .allow($0, "") })
        try compare(SystemCall.allCases.map { .allow($0, "", .oneOf(0, [UInt64($0.rawValue)])) }, hot: .futex)
        try compare([])
    }

    @Test func otherInterfacesAreRefused() throws {
        let filter = try filter(SystemCall.allCases.map { .allow($0, "") })
        #expect(try filter.action(for: FilterInput(number: 0)) == allowed)
        // 32-bit programs have other numbers; x32 has the same with a bit.
        for architecture in [0x4000_0003, 0xc000_00b7, 0] as [UInt32] {
            #expect(try filter.action(for: FilterInput(number: 0, architecture: architecture)) == refused)
        }
        for number in [0x4000_0000, 0x4000_0001, 0x8000_0000, .max] as [UInt32] {
            #expect(try filter.action(for: FilterInput(number: number)) == refused)
        }
    }

    @Test func onlyTheTrustedInstructionMayCallAnything() throws {
        let address: UInt64 = 0x7f01_2345_6789
        let filter = try filter([.allow(.read, "")], trusted: address)
        #expect(try filter.action(for: FilterInput(number: 59, instructionPointer: address)) == allowed)
        for other in [address + 1, address | 1 << 63, address & 0xffff_ffff, 0] {
            #expect(try filter.action(for: FilterInput(number: 59, instructionPointer: other)) == refused)
        }
        #expect(try filter.action(for: FilterInput(number: 0)) == allowed)
        #expect(throws: Never.self) {
            try filter.action(for: FilterInput(number: 59, architecture: 0x4000_0003, instructionPointer: address))
        }
        #expect(try filter.action(for: FilterInput(number: 59, architecture: 0x4000_0003, instructionPointer: address)) == refused)
    }

    @Test func longDistances() throws {
        // More than 255 instructions lie between a comparison and its target.
        let calls = SystemCall.allCases.flatMap { call in
            (0..<3).map { AllowedCall.allow(call, "", .oneOf($0, (0..<12).map { UInt64($0) })) }
        }
        let filter = try filter(calls)
        #expect(filter.program.count > 1000)
        for call in SystemCall.allCases {
            for index in 0..<3 {
                var input = FilterInput(number: call.rawValue, arguments: [99, 99, 99, 99, 99, 99])
                #expect(try filter.action(for: input) == refused)
                input.arguments[index] = 11
                #expect(try filter.action(for: input) == allowed)
            }
        }
        // A check that is longer than a jump is an error of the table, and never a wrong filter.
        #expect(throws: VMMError.self) {
            try self.filter([.allow(.ioctl, "", .oneOf(1, (0..<300).map { UInt64($0) }), .oneOf(2, (0..<300).map { UInt64($0) }))])
        }
    }
}
