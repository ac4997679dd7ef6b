// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMBase
internal import VMMClient
internal import VMMModel
internal import VMMPresentation

struct Ps: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ps", abstract: "List the running VMs.",
        discussion: "EXITS/S is measured over 0.1 s.\n\nExample:\n  symvmm ps --json")

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let machines = try RatedMachine.all { name in Terminal.error("symvmm: \(RunningMachines.killedError(name))".printable) }
        if json { return try Terminal.json(machines) }
        var table = TextTable([
            .text("NAME"), .numbers("PID"), .text("STATE"), .numbers("VCPUS"), .numbers("MEMORY"), .numbers("UPTIME"), .numbers("EXITS"),
            .numbers("EXITS/S"), .text("SYMBIOTIC"), .text("SANDBOX"), .text("SOCKET"),
        ])
        for machine in machines {
            let summary = machine.summary
            table.add([
                summary.name, "\(summary.pid)", summary.state, "\(summary.vcpuCount)", "\(summary.memoryMebibytes)M",
                Format.duration(summary.uptimeNanoseconds), Format.count(summary.exitCount),
                machine.exitsPerSecond.map(Format.rate) ?? "-", summary.symbiotic ? "on" : "off", summary.sandbox ?? "-",
                summary.socket ?? "-",
            ])
        }
        let warnings = machines.flatMap { machine in
            (machine.summary.warnings ?? []).map { "warning: \(machine.summary.name): \($0)".printable + "\n" }
        }
        Terminal.output(table.text + warnings.joined())
    }
}
