// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

extension TerminationReason {
    /// In words, for a log.
    package var words: String {
        switch self {
        case .powerOff: "the guest powered off"
        case .reset: "the guest asked for a reset"
        case .killed: "it was killed"
        case .crashed(let report): "the guest crashed: \(report.reason)"
        }
    }
}

extension CrashReport {
    /// The report for people: the reason, then the registers, RIP first, three to a line.
    package func text(of name: String) -> String {
        var text = "symvmm: \(name): the guest crashed on vCPU \(vcpu): \(reason)"
        for (index, register) in registers.enumerated() {
            let digits = String(register.value, radix: 16)
            let padding = String(repeating: "0", count: max(0, 16 - digits.count))
            let space = String(repeating: " ", count: max(0, 6 - register.name.count))
            text += (index % 3 == 0 ? "\n  " : "  ") + space + register.name + " " + padding + digits
        }
        return text
    }
}
