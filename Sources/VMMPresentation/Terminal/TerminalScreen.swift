// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import Synchronization

/// A full-screen terminal: alternate screen, hidden cursor, raw mode. Restores the terminal when it goes out of scope, and on fatal signals. At
/// most one per process.
package struct TerminalScreen: ~Copyable {
    private static let enter = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[2J"
    private static let leave: StaticString = "\u{1b}[?25h\u{1b}[?1049l"
    /// The descriptor of the terminal to restore, or -1.
    private static let taken = Atomic<Int32>(-1)

    private let input: Int32
    private let output: Int32
    private var mode: TerminalMode?

    /// Takes over a terminal; nil if a descriptor is not a terminal, or this process is in the background.
    package init?(input: Int32 = 0, output: Int32 = 1) {
        guard isatty(output) == 1, let mode = TerminalMode(input) else { return nil }
        self.input = input
        self.output = output
        self.mode = consume mode
        TerminalScreen.leaveOnFatalSignals()
        show(TerminalScreen.enter)
        TerminalScreen.taken.store(output, ordering: .releasing)
    }

    deinit {
        TerminalScreen.leaveNow()
    }

    /// The current size.
    package var size: TerminalSize {
        TerminalSize(of: output) ?? TerminalSize(columns: 80, rows: 24)
    }

    /// Draws lines from the top and clears the rest. Lines must fit the screen's width.
    package func draw(_ lines: [String]) {
        // No newline after the last line: it would scroll the screen.
        show("\u{1b}[H" + lines.map { $0 + "\u{1b}[K" }.joined(separator: "\n") + "\u{1b}[J")
    }

    /// Waits for keys.
    ///
    /// - Returns: nil if the terminal was closed or cannot be read; empty on timeout or when `notifier` is signalled.
    package func keys(milliseconds: Int32, notifier: borrowing EventNotifier) -> [TerminalKey]? {
        var entries = [
            pollfd(fd: input, events: Int16(POLLIN), revents: 0),
            pollfd(fd: notifier.descriptor.rawValue, events: Int16(POLLIN), revents: 0),
        ]
        // SAFETY: the array has two entries and outlives the call.
        guard unsafe poll(&entries, 2, milliseconds) > 0 else { return [] }
        if entries[1].revents != 0 { notifier.drain() }
        guard entries[0].revents != 0 else { return [] }
        var buffer = [UInt8](repeating: 0, count: 256)
        // SAFETY: the buffer has `buffer.count` bytes.
        let count = unsafe read(input, &buffer, buffer.count)
        if count < 0, errno == EINTR || errno == EAGAIN { return [] }
        return count > 0 ? TerminalKey.parse(Array(buffer.prefix(count))) : nil
    }

    /// Restores the terminal, stops the process as Ctrl-Z does, and takes over the terminal again when the process continues.
    package mutating func suspend() {
        TerminalScreen.leaveNow()
        mode = nil
        raise(SIGSTOP)
        mode = TerminalMode(input)
        // TerminalMode has set its own handlers, which do not leave the alternate screen.
        TerminalScreen.leaveOnFatalSignals()
        show(TerminalScreen.enter)
        TerminalScreen.taken.store(output, ordering: .releasing)
    }

    private func show(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the slice's, which lives for the call.
                unsafe write(output, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    /// Leaves the alternate screen, once. Async-signal-safe.
    private static func leaveNow() {
        let number = taken.exchange(-1, ordering: .acquiringAndReleasing)
        guard number >= 0 else { return }
        // SAFETY: the text is static and has `utf8CodeUnitCount` bytes.
        _ = unsafe write(number, leave.utf8Start, leave.utf8CodeUnitCount)
    }

    /// Leaves the screen on fatal signals, before `TerminalMode` restores the mode.
    private static func leaveOnFatalSignals() {
        for signal in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP] {
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { number in
                TerminalScreen.leaveNow()
                TerminalMode.restoreAll()
                raise(number)
            }
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | Int32(SA_NODEFER)
            // SAFETY: the call copies the variable; the handler makes only async-signal-safe calls.
            _ = unsafe sigaction(signal, &action, nil)
        }
    }
}
