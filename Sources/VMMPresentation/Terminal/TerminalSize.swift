// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The size of a terminal.
package struct TerminalSize: Sendable, Equatable {
    /// Columns.
    package let columns: Int
    /// Rows.
    package let rows: Int

    /// Creates a size.
    package init(columns: Int, rows: Int) {
        self.columns = columns
        self.rows = rows
    }

    /// The current size of a terminal; 80 by 24 if it does not report one, nil if the descriptor is not a terminal.
    package init?(of number: Int32) {
        guard isatty(number) == 1 else { return nil }
        var size = winsize()
        // SAFETY: the call writes only the variable.
        let status = unsafe ioctl(number, UInt(TIOCGWINSZ), &size)
        columns = status == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
        rows = status == 0 && size.ws_row > 0 ? Int(size.ws_row) : 24
    }

    /// Splits a text into lines and clips them to the size. Assumes that each character is one column wide, as in symvmm's tables.
    package func clip(_ text: String, lines: Int? = nil) -> [String] {
        let all = text.split(separator: "\n", omittingEmptySubsequences: false)
        let trimmed = all.last?.isEmpty == true ? all.dropLast() : all[...]
        return trimmed.prefix(max(0, lines ?? rows)).map { String($0.prefix(columns)) }
    }
}
