// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// A text table with padded columns.
package struct TextTable: Sendable {
    /// A column's title and alignment.
    package struct Column: Sendable {
        let title: String
        let isNumber: Bool

        /// A left-aligned column.
        package static func text(_ title: String) -> Column {
            Column(title: title, isNumber: false)
        }

        /// A right-aligned column.
        package static func numbers(_ title: String) -> Column {
            Column(title: title, isNumber: true)
        }
    }

    private let columns: [Column]
    private var rows: [[String]] = []

    /// An empty table.
    package init(_ columns: [Column]) {
        self.columns = columns
    }

    /// Adds a row; missing cells stay empty.
    package mutating func add(_ cells: [String]) {
        rows.append(cells.map(\.printable))
    }

    /// The table as text; each line ends with a newline.
    package var text: String {
        var widths = columns.map(\.title.count)
        for row in rows {
            for (index, cell) in row.enumerated() where index < widths.count { widths[index] = max(widths[index], cell.count) }
        }
        var lines = ""
        for row in [columns.map(\.title)] + rows {
            var line = ""
            for (index, column) in columns.enumerated() {
                let cell = index < row.count ? row[index] : ""
                let padding = String(repeating: " ", count: widths[index] - cell.count)
                line += (index == 0 ? "" : "  ") + (column.isNumber ? padding + cell : cell + padding)
            }
            while line.hasSuffix(" ") { line.removeLast() }
            lines += line + "\n"
        }
        return lines
    }
}

/// Formats numbers for users.
package enum Format {
    /// Nanoseconds with three significant digits: `812ns`, `13.2us`, `4.06ms`, `12.3s`, `2m03s`, `3h04m`.
    package static func duration(_ nanoseconds: UInt64) -> String {
        if nanoseconds < 1000 { return "\(nanoseconds)ns" }
        if nanoseconds < 999_500 { return digits(nanoseconds, 1000) + "us" }
        if nanoseconds < 999_500_000 { return digits(nanoseconds, 1_000_000) + "ms" }
        let seconds = nanoseconds / 1_000_000_000
        if seconds < 100 { return digits(nanoseconds, 1_000_000_000) + "s" }
        if seconds < 6000 { return "\(seconds / 60)m\(twoDigits(seconds % 60))s" }
        return "\(seconds / 3600)h\(twoDigits(seconds / 60 % 60))m"
    }

    /// A percentage with one decimal: `12.5`.
    package static func percent(_ part: UInt64, of whole: UInt64) -> String {
        guard whole > 0 else { return "0.0" }
        let permille = Int(saturating: Double(part) / Double(whole) * 1000)
        return "\(permille / 10).\(permille % 10)"
    }

    /// An integer with thousands separators: `1,234,567`.
    package static func count(_ number: UInt64) -> String {
        var text = ""
        for (index, digit) in String(number).reversed().enumerated() {
            if index > 0, index % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return String(text.reversed())
    }

    /// A rate per second: `12,345`, `2.5`; `-` if the interval is zero.
    package static func rate(_ number: UInt64, in nanoseconds: UInt64) -> String {
        nanoseconds == 0 ? "-" : rate(Double(number) * 1e9 / Double(nanoseconds))
    }

    /// A rate per second: with one decimal below 10, else a whole number.
    package static func rate(_ number: Double) -> String {
        if number >= 9.95 { return count(UInt64(saturating: min(number, 1e18))) }
        let tenths = Int(saturating: max(number, 0) * 10)
        return "\(tenths / 10).\(tenths % 10)"
    }

    private static func twoDigits(_ number: UInt64) -> String {
        number < 10 ? "0\(number)" : "\(number)"
    }

    /// Three significant digits of `number / unit`, for quotients from 1 to 999.
    private static func digits(_ number: UInt64, _ unit: UInt64) -> String {
        let value = Double(number) / Double(unit)
        if value < 9.995 {
            let hundredths = Int((value * 100).rounded())
            return "\(hundredths / 100).\(hundredths / 10 % 10)\(hundredths % 10)"
        }
        if value < 99.95 {
            let tenths = Int((value * 10).rounded())
            return "\(tenths / 10).\(tenths % 10)"
        }
        return "\(Int(value.rounded()))"
    }
}
