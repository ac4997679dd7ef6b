// SPDX-License-Identifier: Apache-2.0

package import VMMModel

internal import VMMBase

extension TimeBudget {
    /// The parts as a bar of letters, one for each tenth: `GGGGGGKHHH`. The largest remainders get the last tenths.
    package var bar: String {
        guard wallNanoseconds > 0 else { return "" }
        let tenths = Part.allCases.map { Double(self[$0]) / Double(wallNanoseconds) * 10 }
        var counts = tenths.map { Int(min(max($0, 0), 10)) }
        let order = tenths.indices.sorted { tenths[$0] - Double(counts[$0]) > tenths[$1] - Double(counts[$1]) }
        for index in order where counts.reduce(0, +) < 10 { counts[index] += 1 }
        return String(zip(Part.allCases, counts).map { String(repeating: $0.letter, count: $1) }.joined().prefix(10))
    }

    /// The budgets of several vCPUs as one.
    package static func sum(_ budgets: [TimeBudget]) -> TimeBudget? {
        guard let first = budgets.first else { return nil }
        return budgets.dropFirst().reduce(first) { $0.adding($1) }
    }
}

extension TimeBudget.Part {
    /// The letter in a bar.
    var letter: String {
        switch self {
        case .guest: "G"
        case .kvm: "K"
        case .vmm: "V"
        case .halted: "h"
        case .stolen: "S"
        case .waiting: "W"
        case .paused: "p"
        }
    }
}

extension ExitReport {
    /// The budget of all vCPUs together; nil without one.
    package var budget: TimeBudget? {
        TimeBudget.sum(vcpus.compactMap(\.budget))
    }

    /// Where each vCPU's time went, in percent; empty without a budget.
    func budgetTable() -> String {
        guard vcpus.contains(where: { $0.budget != nil }) else { return "" }
        let estimated = Set(vcpus.flatMap { $0.budget?.estimated ?? [] })
        func heading(_ part: TimeBudget.Part) -> TextTable.Column {
            .numbers(part.rawValue.uppercased() + (estimated.contains(part) ? "~%" : "%"))
        }
        var table = TextTable([.numbers("VCPU"), .numbers("TIME")] + TimeBudget.Part.allCases.map(heading))
        for processor in vcpus {
            guard let budget = processor.budget else { continue }
            table.add(
                ["\(processor.vcpu)", Format.duration(budget.wallNanoseconds)]
                    + TimeBudget.Part.allCases.map { part in
                        budget.parts[part].map { Format.percent($0, of: budget.wallNanoseconds) } ?? "-"
                    })
        }
        return table.text + "\n"
    }
}
