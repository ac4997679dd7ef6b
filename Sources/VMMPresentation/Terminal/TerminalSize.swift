// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// How much a terminal shows.
package struct TerminalSize: Sendable, Equatable {
    /// Characters in a line.
    package let columns: Int
    /// Lines.
    package let rows: Int

    /// A size of choice.
    package init(columns: Int, rows: Int) {
        self.columns = columns
        self.rows = rows
    }

    /// The size of the terminal behind a descriptor now; 80 by 24 for one that does not say, nil when it is no terminal.
    package init?(of number: Int32) {
        guard isatty(number) == 1 else { return nil }
        var size = winsize()
        // SAFETY: the call writes only the variable.
        let status = unsafe ioctl(number, UInt(TIOCGWINSZ), &size)
        columns = status == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
        rows = status == 0 && size.ws_row > 0 ? Int(size.ws_row) : 24
    }

    /// The lines of a text that fit, each cut to the width. The characters of symvmm's tables are one column wide.
    package func clip(_ text: String, lines: Int? = nil) -> [String] {
        let all = text.split(separator: "\n", omittingEmptySubsequences: false)
        let trimmed = all.last?.isEmpty == true ? all.dropLast() : all[...]
        return trimmed.prefix(max(0, lines ?? rows)).map { String($0.prefix(columns)) }
    }
}
