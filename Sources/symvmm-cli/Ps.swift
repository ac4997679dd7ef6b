// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMClient
internal import VMMModel
internal import VMMPresentation

struct Ps: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ps", abstract: "List the running VMs.",
        discussion: "EXITS/S is measured over a tenth of a second.\n\nExample:\n  symvmm ps --json")

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let machines = try RatedMachine.all()
        if json { return try Words.json(machines) }
        var table = TextTable([
            .words("NAME"), .numbers("PID"), .words("STATE"), .numbers("VCPUS"), .numbers("MEMORY"), .numbers("UPTIME"), .numbers("EXITS"),
            .numbers("EXITS/S"), .words("SYMBIOTIC"),
        ])
        for machine in machines {
            let summary = machine.summary
            table.add([
                summary.name, "\(summary.pid)", summary.state, "\(summary.vcpuCount)", "\(summary.memoryMebibytes)M",
                Format.duration(summary.uptimeNanoseconds), Format.count(summary.exitCount),
                machine.exitsPerSecond.map(Format.rate) ?? "-", summary.symbiotic ? "on" : "off",
            ])
        }
        Words.output(table.text)
    }
}
