// SPDX-License-Identifier: Apache-2.0

internal import VMMBase
internal import VMMModel

extension TerminationReason {
    /// A phrase for logs, such as `the guest powered off`.
    package var summary: String {
        switch self {
        case .powerOff: "the guest powered off"
        case .reset: "the guest requested a reset"
        case .killed: "killed"
        case .crashed(let report): "the guest crashed: \(report.reason)"
        case .reported(let value): "the guest reported \(value)"
        }
    }
}

extension CrashReport {
    /// The report for users: the reason, then the registers, RIP first, three per line.
    package func text(of name: String) -> String {
        var text = "symvmm: \(name.printable): the guest crashed on vCPU \(vcpu): \(reason.printable)"
        for (index, register) in registers.enumerated() {
            let digits = String(register.value, radix: 16)
            let padding = String(repeating: "0", count: max(0, 16 - digits.count))
            let space = String(repeating: " ", count: max(0, 6 - register.name.count))
            text += (index % 3 == 0 ? "\n  " : "  ") + space + register.name + " " + padding + digits
        }
        return text
    }
}
