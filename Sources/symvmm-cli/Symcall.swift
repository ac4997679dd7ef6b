// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMModel
internal import VMMPresentation

struct Symcall: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "symcall", abstract: "Call a function of a symbiotic guest's module.",
        discussion: """
            ping     echoes five values, on one vCPU, whatever it executes
            task     the current task of a vCPU
            tasks    all processes; threads: all threads
            memory   memory use of the guest
            log      the latest kernel messages
            uname    system name and kernel release

            Examples:
              symvmm symcall vm1 tasks
              symvmm symcall vm1 task --vcpu 1 --json
            """)

    private static let calls = SymCallResource.Call.allCases.map(\.rawValue)

    @OptionGroup var target: Target
    @Argument(help: "The call.", completion: .list(Symcall.calls))
    var call: String
    @Option(parsing: .unconditional, help: ArgumentHelp("The vCPU for ping and task.", valueName: "number"))
    var vcpu = 0
    @Option(parsing: .unconditionalSingleValue, help: ArgumentHelp("A value for ping; up to five.", valueName: "number"))
    var value: [Int64] = []
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        guard let kind = SymCallResource.Call.allCases.first(where: { $0.rawValue == call }) else {
            throw VMMError.user("'\(call)' is not a symcall: give \(Symcall.calls.joined(separator: ", "))")
        }
        let client = APIClient()
        defer { client.stop() }
        let question = try JSONText.encode(SymCallResource(call: kind, vcpu: Int64(vcpu), values: value))
        let body = try client.perform(.put, "/symcalls", body: question, socket: target.socket())
        if json { return Terminal.output(String(decoding: body, as: UTF8.self).printableLines + "\n") }
        do {
            Terminal.output(try text(body))
        } catch {
            throw VMMError.host("\(target.name): cannot decode the answer: the VM may run another version of symvmm")
        }
    }

    private func text(_ body: [UInt8]) throws -> String {
        switch call {
        case "ping":
            let values = try JSONText.decode([String: [UInt64]].self, from: body)["values"] ?? []
            return values.map { "\($0)" }.joined(separator: " ").printable + "\n"
        case "uname":
            let names = try JSONText.decode([String: String].self, from: body)
            return ["sysname", "nodename", "release", "version", "machine"].compactMap { names[$0] }.joined(separator: " ").printable + "\n"
        case "log": return try JSONText.decode([String: String].self, from: body)["text"]?.printableLines ?? ""
        case "memory":
            let use = try JSONText.decode(GuestMemoryUse.self, from: body)
            var table = TextTable([.text("MEMORY"), .numbers("KIB")])
            for name in GuestMemoryUse.names { table.add([name, use.values[name].map { Format.count($0 / 1024) } ?? "unknown"]) }
            return table.text
        case "task":
            let task = try JSONText.decode(GuestTask.self, from: body)
            let (name, context) = (task.name.printable, (task.context ?? "").printable)
            return "vCPU \(vcpu): \(name) (process \(task.tgid), thread \(task.pid), user \(task.uid)), \(context)"
                + (task.isKernelThread ? ", kernel thread" : "") + "\n"
        default: return tasksText(try JSONText.decode([GuestTask].self, from: body))
        }
    }

    private func tasksText(_ tasks: [GuestTask]) -> String {
        var table = TextTable([
            .numbers("PID"), .numbers("PROCESS"), .numbers("PARENT"), .numbers("USER"), .text("STATE"), .numbers("VCPU"),
            .numbers("THREADS"), .numbers("CPU TIME"), .text("NAME"),
        ])
        for task in tasks {
            let time = (task.userNanoseconds ?? 0) &+ (task.systemNanoseconds ?? 0)
            table.add([
                "\(task.pid)", "\(task.tgid)", task.parent.map { "\($0)" } ?? "", "\(task.uid)", task.state ?? "",
                task.vcpu.map { "\($0)" } ?? "", task.threadCount.map { "\($0)" } ?? "", Format.duration(time),
                task.isKernelThread ? "[\(task.name)]" : task.name,
            ])
        }
        return table.text
    }
}
