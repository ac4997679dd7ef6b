// SPDX-License-Identifier: Apache-2.0

extension String {
    /// The text with `?` in place of each control character (C0, DEL, C1), so that untrusted text cannot control a terminal or break a line.
    package var printable: String { printable(keeping: []) }

    /// The text with `?` in place of each control character other than newline and tab.
    package var printableLines: String { printable(keeping: ["\n", "\t"]) }

    private func printable(keeping kept: [Unicode.Scalar]) -> String {
        func isControl(_ scalar: Unicode.Scalar) -> Bool {
            (scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value)) && !kept.contains(scalar)
        }
        guard unicodeScalars.contains(where: isControl) else { return self }
        return String(String.UnicodeScalarView(unicodeScalars.map { isControl($0) ? "?" : $0 }))
    }
}
