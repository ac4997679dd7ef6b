// SPDX-License-Identifier: Apache-2.0

internal import VMMBase
internal import VMMModel

extension ExitReport {
    /// Table of exits by guest process: reasons and VMM time, the longest time first.
    ///
    /// - Parameters:
    ///   - rowLimit: maximum number of processes.
    ///   - rates: whether to add a column of exits per second.
    package func taskTable(rowLimit: Int = 40, rates: Bool = false) -> String {
        guard !tasks.isEmpty else {
            if symbiotic?.active == true { return "\(name.printable): no exits\n" }
            return symbiotic == nil
                ? "\(name.printable): guest processes unknown: the VM was started with --symbiotic off\n"
                : "\(name.printable): guest processes unknown: the guest has not loaded symbiotic.ko\n"
        }
        let processes = processes
        let whole = processes.reduce(0) { $0 &+ $1.totalNanoseconds }
        var table = TextTable(
            [.numbers("PROCESS"), .text("NAME"), .numbers("EXITS")] + (rates ? [.numbers("PER S")] : []) + [
                .numbers("VMM TIME"), .numbers("TIME%"), .numbers("MEAN"), .text("REASONS"),
            ])
        for process in processes.prefix(max(1, rowLimit)) {
            table.add(
                [process.tgid.map { "\($0)" } ?? "", process.name, Format.count(process.count)]
                    + (rates ? [Format.rate(process.count, in: countedNanoseconds)] : []) + [
                        Format.duration(process.totalNanoseconds), Format.percent(process.totalNanoseconds, of: whole),
                        Format.duration(process.count == 0 ? 0 : process.totalNanoseconds / process.count), process.reasons,
                    ])
        }
        let rest = processes.dropFirst(max(1, rowLimit))
        let note = rest.isEmpty ? "" : "(\(rest.count) more processes)\n"
        return table.text + note
    }

    /// Table of the symbiotic interface's counters; empty if all are zero.
    func symbioticTable() -> String {
        guard let symbiotic, symbiotic.counters.values.contains(where: { $0 > 0 }) || symbiotic.active else { return "" }
        var text = "SYMBIOTIC: " + (symbiotic.active ? "active" : "inactive (\((symbiotic.unavailableReason ?? "").printable))")
        let counted = symbiotic.counters.filter { $0.value > 0 }.sorted { $0.key < $1.key }
        if !counted.isEmpty { text += "; " + counted.map { "\($0.key.printable) \(Format.count($0.value))" }.joined(separator: ", ") }
        text += "\n"
        guard !symbiotic.symcalls.isEmpty else { return text }
        var table = TextTable([.text("SYMCALL"), .numbers("COUNT"), .numbers("MEAN"), .numbers("P50"), .numbers("P99"), .numbers("MAX")])
        for call in symbiotic.symcalls {
            table.add([
                SymCallName.of(call.number), Format.count(call.count),
                Format.duration(call.meanNanoseconds), Format.duration(call.medianNanoseconds),
                Format.duration(call.p99Nanoseconds), Format.duration(call.maximumNanoseconds),
            ])
        }
        return text + "\n" + table.text
    }
}

/// The names of symcalls (docs/ABI.md, 4.4).
enum SymCallName {
    private static let names = ["ping", "task", "uname", "tasks", "memory", "log"]

    /// The symcall's name, or its number.
    static func of(_ number: UInt32) -> String {
        Int(number) < names.count ? names[Int(number)] : "0x" + String(number, radix: 16)
    }
}
