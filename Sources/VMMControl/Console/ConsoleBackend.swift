// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase
package import VMMModel

internal import Glibc
internal import Synchronization
internal import VMMPresentation

/// The host side of the serial console that a `ConsoleConfiguration` describes.
///
/// Create it before the machine, and give the machine its `output`. Call `start` when the serial port can receive, and `stop` at the end in every
/// case. Thread-safe.
package final class ConsoleBackend: Sendable {
    /// The serial port's output. A write waits at most about two seconds.
    package let output: ConsoleOutput
    /// Path of the pseudo-terminal, to print for the user; nil for another kind of console.
    package let pseudoTerminalPath: String?

    private let configuration: ConsoleConfiguration
    private let descriptors: ConsoleDescriptors?
    private let running = Mutex(Running())

    private struct Running: ~Copyable {
        var input: ConsoleInput?
        var mode: TerminalMode?
    }

    /// Opens the configured file or terminal, and starts the output's thread. Appends to a file.
    package init(_ configuration: ConsoleConfiguration) throws(VMMError) {
        self.configuration = configuration
        switch configuration {
        case .none:
            output = ConsoleOutput()
            descriptors = nil
            pseudoTerminalPath = nil
        case .stdio:
            output = try BufferedConsoleOutput(descriptor: STDOUT_FILENO, owner: nil, waitsWhenFull: true)
            descriptors = nil
            pseudoTerminalPath = nil
        case .file(let path, let limit):
            let folder = try Folder(of: path)
            let file = try folder.openForAppending()
            let (number, waitsWhenFull) = (file.rawValue, !file.isFIFO)
            let rotation = LogRotation(file, in: folder, limit: limit)
            let owner = ConsoleDescriptors(file: file)
            output = try BufferedConsoleOutput(descriptor: number, owner: owner, waitsWhenFull: waitsWhenFull, rotation: rotation)
            descriptors = owner
            pseudoTerminalPath = nil
        case .pseudoTerminal:
            let owner = ConsoleDescriptors(terminal: try PseudoTerminal())
            output = try BufferedConsoleOutput(descriptor: owner.number, owner: owner, waitsWhenFull: false)
            pseudoTerminalPath = owner.path
            descriptors = owner
        }
    }

    /// Starts reading input, if any, and sets a terminal to raw mode.
    ///
    /// - Parameters:
    ///   - receive: passes a byte to the guest; returns false if the serial port's FIFO is full. Called on the console thread.
    ///   - leave: called on the console thread when the user leaves the console (Ctrl-A x).
    package func start(receive: @escaping @Sendable (UInt8) -> Bool, leave: @escaping @Sendable () -> Void) throws(VMMError) {
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
            // The kernel stops a background process that reads from its terminal.
            if isTerminal, tcgetpgrp(STDIN_FILENO) != getpgrp() { return }
            let input = try ConsoleInput(descriptor: STDIN_FILENO, owner: nil, isTerminal: isTerminal, receive: receive, command: command)
            running.withLock { running in
                running.input = input
                running.mode = TerminalMode(STDIN_FILENO)
            }
        case .pseudoTerminal:
            guard let descriptors else { return }
            // Pass escapes to the guest: the program on the other side has escapes of its own (screen uses Ctrl-A).
            let input = try ConsoleInput(
                descriptor: descriptors.number, owner: descriptors, isTerminal: false, receive: receive, command: command)
            running.withLock { $0.input = input }
        }
    }

    /// Flushes the output (for at most two seconds), stops reading and restores the terminal. Idempotent.
    package func stop() {
        let input = running.withLock { running in
            defer { running.input = nil }
            return running.input
        }
        input?.stop()
        (output as? BufferedConsoleOutput)?.stop(within: 2000)
        running.withLock { $0.mode = nil }
    }

    /// Number of dropped output bytes.
    package var droppedByteCount: UInt64 {
        (output as? BufferedConsoleOutput)?.droppedByteCount ?? 0
    }
}

/// The console's open descriptors; its threads keep them open.
final class ConsoleDescriptors: Sendable {
    /// The descriptor to read and write.
    let number: Int32
    /// Path of the pseudo-terminal's other side.
    let path: String?
    private let file: OwnedFileDescriptor?
    private let terminal: PseudoTerminal?

    init(file: consuming OwnedFileDescriptor) {
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
