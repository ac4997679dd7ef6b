// SPDX-License-Identifier: Apache-2.0

/// A table of words for a terminal: columns padded, numbers to the right.
package struct TextTable: Sendable {
    /// A column's heading and side.
    package struct Column: Sendable {
        let title: String
        let isNumber: Bool

        /// A column of words, to the left.
        package static func words(_ title: String) -> Column {
            Column(title: title, isNumber: false)
        }

        /// A column of numbers, to the right.
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
        rows.append(cells.map(TextTable.printable))
    }

    /// The table, each line ended.
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

    /// Words that others chose must not steer the terminal.
    private static func printable(_ cell: String) -> String {
        guard cell.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7f..<0xa0).contains($0.value) }) else { return cell }
        return String(String.UnicodeScalarView(cell.unicodeScalars.map { $0.value < 0x20 || (0x7f..<0xa0).contains($0.value) ? "?" : $0 }))
    }
}

/// Numbers as people read them.
package enum Format {
    /// Nanoseconds with three digits: `812ns`, `13.2us`, `4.06ms`, `12.3s`, `2m03s`, `3h04m`.
    package static func duration(_ nanoseconds: UInt64) -> String {
        if nanoseconds < 1000 { return "\(nanoseconds)ns" }
        if nanoseconds < 999_500 { return digits(nanoseconds, 1000) + "us" }
        if nanoseconds < 999_500_000 { return digits(nanoseconds, 1_000_000) + "ms" }
        let seconds = nanoseconds / 1_000_000_000
        if seconds < 100 { return digits(nanoseconds, 1_000_000_000) + "s" }
        if seconds < 6000 { return "\(seconds / 60)m\(twoDigits(seconds % 60))s" }
        return "\(seconds / 3600)h\(twoDigits(seconds / 60 % 60))m"
    }

    /// A share in percent with one decimal: `12.5`.
    package static func percent(_ part: UInt64, of whole: UInt64) -> String {
        guard whole > 0 else { return "0.0" }
        let permille = Int((Double(part) / Double(whole) * 1000).rounded())
        return "\(permille / 10).\(permille % 10)"
    }

    /// A whole number in groups of three: `1,234,567`.
    package static func count(_ number: UInt64) -> String {
        var text = ""
        for (index, digit) in String(number).reversed().enumerated() {
            if index > 0, index % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return String(text.reversed())
    }

    /// How many a second: `12,345`, `2.5`; `-` when there was no time.
    package static func rate(_ number: UInt64, in nanoseconds: UInt64) -> String {
        nanoseconds == 0 ? "-" : rate(Double(number) * 1e9 / Double(nanoseconds))
    }

    /// A number a second, whole from 10 on.
    package static func rate(_ number: Double) -> String {
        if number >= 9.95 { return count(UInt64(min(number.rounded(), 1e18))) }
        let tenths = Int((max(number, 0) * 10).rounded())
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
