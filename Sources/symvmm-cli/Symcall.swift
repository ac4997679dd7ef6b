// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMControl
internal import VMMModel
internal import VMMPresentation

struct Symcall: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "symcall", abstract: "Ask a symbiotic guest: the VMM calls a function of the guest's module.",
        discussion: """
            ping     five values there and back, on one vCPU, whatever it is doing
            task     what runs on a vCPU now
            tasks    all processes; threads: all threads
            memory   how the guest uses its memory
            log      the newest kernel messages
            uname    the guest's name for itself

            Examples:
              symvmm symcall vm1 tasks
              symvmm symcall vm1 task --vcpu 1 --json
            """)

    @OptionGroup var target: Target
    @Argument(help: "What to ask.", completion: .list(SymCallRoutes.calls))
    var call: String
    @Option(help: ArgumentHelp("The vCPU for ping and task.", valueName: "number"))
    var vcpu = 0
    @Option(help: ArgumentHelp("A value for ping; up to five.", valueName: "number"))
    var value: [UInt64] = []
    @Flag(help: "Print JSON.")
    var json = false

    private struct Question: Encodable {
        let call: String
        let vcpu: Int
        let values: [UInt64]
    }

    func run() throws {
        guard SymCallRoutes.calls.contains(call) else {
            throw ControlError.usage("'\(call)' is not a symcall: give \(SymCallRoutes.calls.joined(separator: ", "))")
        }
        let client = APIClient()
        defer { client.stop() }
        let question = try JSONText.encode(Question(call: call, vcpu: vcpu, values: value))
        let body = try client.perform(.put, "/symcalls", body: question, socket: target.socket())
        if json { return Words.output(String(decoding: body, as: UTF8.self) + "\n") }
        do {
            Words.output(try text(body))
        } catch {
            throw ControlError.host("\(target.name): the answer is not understood: is it another version of symvmm?")
        }
    }

    private func text(_ body: [UInt8]) throws -> String {
        switch call {
        case "ping":
            let values = try JSONText.decode([String: [UInt64]].self, from: body)["values"] ?? []
            return values.map { "\($0)" }.joined(separator: " ") + "\n"
        case "uname":
            let names = try JSONText.decode([String: String].self, from: body)
            return ["sysname", "nodename", "release", "version", "machine"].compactMap { names[$0] }.joined(separator: " ") + "\n"
        case "log": return try JSONText.decode([String: String].self, from: body)["text"] ?? ""
        case "memory":
            let use = try JSONText.decode(GuestMemoryUse.self, from: body)
            var table = TextTable([.words("MEMORY"), .numbers("KIB")])
            for name in GuestMemoryUse.names { table.add([name, use.values[name].map { Format.count($0 / 1024) } ?? "not known"]) }
            return table.text
        case "task":
            let task = try JSONText.decode(GuestTask.self, from: body)
            return "vCPU \(vcpu): \(task.name) (process \(task.tgid), thread \(task.pid), user \(task.uid)), \(task.context ?? "")"
                + (task.isKernelThread ? ", kernel thread" : "") + "\n"
        default: return tasksText(try JSONText.decode([GuestTask].self, from: body))
        }
    }

    private func tasksText(_ tasks: [GuestTask]) -> String {
        var table = TextTable([
            .numbers("PID"), .numbers("PROCESS"), .numbers("PARENT"), .numbers("USER"), .words("STATE"), .numbers("VCPU"),
            .numbers("THREADS"), .numbers("CPU TIME"), .words("NAME"),
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
