// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VMMBase

@main
struct Symvmm: ParsableCommand {
    static let configuration = CommandConfiguration(
        // Set commandName in every command: ArgumentParser needs a tenth of the time from exec to the guest to derive it from the type's name.
        commandName: "symvmm",
        abstract: "Run Linux guests on /dev/kvm, with or without the symbiotic interface, and count every exit.",
        discussion: """
            Example:
              symvmm run --kernel vmlinuz --initrd initrd.img --append "console=ttyS0" --memory 256M
            """,
        version: SymVMMVersion.current,
        subcommands: [
            Run.self, Serve.self, JailCommand.self, Ps.self, Top.self, Stats.self, Report.self, ExporterCommand.self, Symcall.self,
            Bypass.self, Stop.self, Kill.self, Pause.self, Resume.self, ModuleCommand.self, Doctor.self, FirecrackerCommand.self,
            JailerCommand.self,
        ])

    static func main() {
        StandardDescriptors.openClosed()
        VMMBase.Thread.useSmallStacks()
        ProcessSignals.ignoreFileSizeSignal()
        let words = Array(CommandLine.arguments.dropFirst())
        // Under the name of another program, it is that program.
        let names = ["firecracker": FirecrackerCommand.start, "jailer": JailerCommand.start]
        if let start = CommandLine.arguments.first.flatMap({ names[$0.fileName] }) { start(words) }
        if let start = words.first.flatMap({ names[$0] }) { start(Array(words.dropFirst())) }
        if let problem = UsageMessage.unknownCommand(words) { finish("symvmm: \(problem) (see 'symvmm --help')", .usage) }
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as VMMError {
            finish("symvmm: \(error)", error.kind == .user ? .usage : .host)
        } catch {
            // ArgumentParser throws help, version and completion scripts as errors with status 0; print them to standard output.
            let code = exitCode(for: error)
            if code.isSuccess {
                Terminal.output(fullMessage(for: error) + "\n")
                Glibc.exit(ExitStatus.success.rawValue)
            }
            if error is ExitCode { Glibc.exit(code.rawValue) }
            finish("symvmm: \(UsageMessage.corrected(message(for: error), words)) (see 'symvmm --help')", .usage)
        }
    }

    private static func finish(_ line: String, _ status: ExitStatus) -> Never {
        Terminal.error(line.printable)
        Glibc.exit(status.rawValue)
    }
}

/// The command's exit statuses.
enum ExitStatus: Int32 {
    /// Success: the guest powered off or rebooted.
    case success = 0
    /// Usage error.
    case usage = 2
    /// Host error.
    case host = 3
    /// The guest crashed.
    case crash = 4
    /// The user killed the VM.
    case interrupted = 130

    var code: ExitCode { ExitCode(rawValue) }
}
