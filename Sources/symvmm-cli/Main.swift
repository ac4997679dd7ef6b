// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VMMAPI
internal import VMMBase

@main
struct Symvmm: ParsableCommand {
    static let configuration = CommandConfiguration(
        // Each command says its name: worked out from the type's, it takes a tenth of the time from exec to the guest.
        commandName: "symvmm",
        abstract: "Runs Linux guests on /dev/kvm, symbiotic ones too, and counts every exit.",
        discussion: """
            Example:
              symvmm run --kernel vmlinuz --initrd initrd.img --append "console=ttyS0" --memory 256M
            """,
        version: SymVMMVersion.current,
        subcommands: [
            Run.self, Serve.self, Ps.self, Top.self, Stats.self, Report.self, Symcall.self, Bypass.self, Stop.self, Kill.self, Pause.self,
            Resume.self,
            Doctor.self,
        ])

    static func main() {
        VMMBase.Thread.useSmallStacks()
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as ControlError {
            finish("symvmm: \(error.message)", error.kind == .host ? ExitStatus.host : .usage)
        } catch {
            // Help, version and completion scripts are "errors" of status 0 that go to standard output.
            let code = exitCode(for: error)
            if code.isSuccess { exit(withError: error) }
            if error is ExitCode { Glibc.exit(code.rawValue) }
            let message = message(for: error).split(whereSeparator: \.isNewline).joined(separator: " ")
            finish("symvmm: \(message) (see 'symvmm --help')", .usage)
        }
    }

    private static func finish(_ line: String, _ status: ExitStatus) -> Never {
        Words.error(line)
        Glibc.exit(status.rawValue)
    }
}

/// The command's exit statuses.
enum ExitStatus: Int32 {
    /// The guest powered off or rebooted; a question was answered.
    case success = 0
    /// The user asked for what cannot be.
    case usage = 2
    /// The host cannot.
    case host = 3
    /// The guest crashed.
    case crash = 4
    /// The user ended the VM.
    case interrupted = 130

    var code: ExitCode { ExitCode(rawValue) }
}

/// Words to the user.
enum Words {
    static func output(_ text: String) {
        write(STDOUT_FILENO, text)
    }

    static func error(_ line: String) {
        write(STDERR_FILENO, line + "\n")
    }

    static func json(_ value: some Encodable) throws {
        let bytes = try JSONText.encode(value, pretty: true)
        output(String(decoding: bytes, as: UTF8.self) + "\n")
    }

    private static func write(_ number: Int32, _ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the slice's, which lives for the call.
                unsafe Glibc.write(number, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return nobodyReads(number) }
            rest = rest.dropFirst(count)
        }
    }

    /// Output that can't be written ends the command, however long it would go on: as the signal does that the sockets' library ignores when the
    /// reader has left, and with a word otherwise. Whoever runs a VM writes to standard output after its end only.
    private static func nobodyReads(_ number: Int32) {
        guard number == STDOUT_FILENO else { return }
        if errno == EPIPE {
            signal(SIGPIPE, SIG_DFL)
            raise(SIGPIPE)
        }
        error("symvmm: \(KVMError(call: "write to standard output", errno: errno))")
        Glibc.exit(ExitStatus.host.rawValue)
    }
}
