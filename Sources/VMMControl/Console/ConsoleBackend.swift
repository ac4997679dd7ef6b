// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase
package import VMMModel

internal import Glibc
internal import Synchronization
internal import VMMPresentation

/// The host's side of the serial console: where its bytes go and come from, by `ConsoleConfiguration`.
///
/// Made before the machine, which takes `output`; started when the serial port is there to receive; stopped at the end, whatever the end.
package final class ConsoleBackend: Sendable {
    /// What the serial port writes to. Never holds a vCPU up for long.
    package let output: ConsoleOutput
    /// Path of the pseudo-terminal, where there is one: to be told to the user.
    package let pseudoTerminalPath: String?

    private let configuration: ConsoleConfiguration
    private let descriptors: ConsoleDescriptors?
    private let running = Mutex(Running())

    private struct Running: ~Copyable {
        var input: ConsoleInput?
        var mode: TerminalMode?
    }

    /// Opens what the configuration names; a file is appended to.
    package init(_ configuration: ConsoleConfiguration) throws(KVMError) {
        self.configuration = configuration
        switch configuration {
        case .none:
            output = ConsoleOutput()
            descriptors = nil
            pseudoTerminalPath = nil
        case .stdio:
            output = try BufferedConsoleOutput(descriptor: STDOUT_FILENO, owner: nil, isPatient: true)
            descriptors = nil
            pseudoTerminalPath = nil
        case .file(let path, let limit):
            let folder = try Folder(of: path)
            let file = try folder.openForAppending()
            let (number, isPatient) = (file.rawValue, !file.isFIFO)
            let rotation = LogRotation(file, in: folder, limit: limit)
            let owner = ConsoleDescriptors(file: file)
            output = try BufferedConsoleOutput(descriptor: number, owner: owner, isPatient: isPatient, rotation: rotation)
            descriptors = owner
            pseudoTerminalPath = nil
        case .pseudoTerminal:
            let owner = ConsoleDescriptors(terminal: try PseudoTerminal())
            output = try BufferedConsoleOutput(descriptor: owner.number, owner: owner, isPatient: false)
            pseudoTerminalPath = owner.path
            descriptors = owner
        }
    }

    /// Starts the input, where there is one, and makes a terminal raw.
    ///
    /// - Parameters:
    ///   - receive: takes a byte for the guest, or returns false when the serial port's FIFO is full. Called on the console's thread.
    ///   - leave: the user asked to end the VM. Called on the console's thread.
    package func start(receive: @escaping @Sendable (UInt8) -> Bool, leave: @escaping @Sendable () -> Void) throws(KVMError) {
        let output = output
        let command: @Sendable (ConsoleCommand) -> Void = { command in
            switch command {
            case .leave: leave()
            case .help: for byte in EscapeFilter.help.utf8 { output.write(byte) }
            }
        }
        switch configuration {
        case .none, .file:
            return
        case .stdio:
            let isTerminal = isatty(STDIN_FILENO) == 1
            // In the background of a terminal, reading would stop the process.
            if isTerminal, tcgetpgrp(STDIN_FILENO) != getpgrp() { return }
            let input = try ConsoleInput(descriptor: STDIN_FILENO, owner: nil, isTerminal: isTerminal, receive: receive, command: command)
            running.withLock { running in
                running.input = input
                running.mode = TerminalMode(STDIN_FILENO)
            }
        case .pseudoTerminal:
            guard let descriptors else { return }
            // No escapes: the program on the other side has its own (Ctrl-A is screen's).
            let input = try ConsoleInput(
                descriptor: descriptors.number, owner: descriptors, isTerminal: false, receive: receive, command: command)
            running.withLock { $0.input = input }
        }
    }

    /// Writes what is left of the output (for at most two seconds), ends the input and restores the terminal. May be called more than once.
    package func stop() {
        let input = running.withLock { running in
            defer { running.input = nil }
            return running.input
        }
        input?.stop()
        (output as? BufferedConsoleOutput)?.stop(within: 2000)
        running.withLock { $0.mode = nil }
    }

    /// Bytes that the guest wrote and nobody took.
    package var droppedByteCount: UInt64 {
        (output as? BufferedConsoleOutput)?.droppedByteCount ?? 0
    }
}

/// What a console has open; its threads keep it until they end.
final class ConsoleDescriptors: Sendable {
    /// The descriptor to read and write.
    let number: Int32
    /// Path of a pseudo-terminal's other side.
    let path: String?
    private let file: FileDescriptor?
    private let terminal: PseudoTerminal?

    init(file: consuming FileDescriptor) {
        number = file.rawValue
        path = nil
        self.file = consume file
        terminal = nil
    }

    init(terminal: consuming PseudoTerminal) {
        number = terminal.master.rawValue
        path = terminal.path
        file = nil
        self.terminal = consume terminal
    }
}
