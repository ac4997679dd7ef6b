// SPDX-License-Identifier: Apache-2.0

package import VMMBase

/// Parses and formats sizes in bytes: `256M`, `1G`. Units are powers of 1024.
package enum ByteCount {
    /// The units in ascending order, each 1024 times the previous one.
    private static let units: [Character] = ["K", "M", "G", "T", "P", "E"]

    /// Parses a size: digits, then optionally K, M, G, T, P or E, alone or followed by `B` or `iB`, in upper or lower case. Without a unit it is in
    /// bytes.
    ///
    /// - Parameter option: the option's name, for the error.
    package static func parse(_ text: String, option: String) throws(VMMError) -> UInt64 {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        var suffix = text.dropFirst(digits.count).uppercased()
        if suffix.hasSuffix("IB") {
            suffix.removeLast(2)
        } else if suffix.count <= 2, suffix.hasSuffix("B") {
            suffix.removeLast()
        }
        guard !digits.isEmpty, suffix.count <= 1 else { throw notASize(text, option) }
        guard let number = UInt64(digits) else { throw .user("\(option): '\(text)' is too large") }
        guard let unit = suffix.first else { return number }
        guard let index = units.firstIndex(of: unit) else { throw notASize(text, option) }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << (10 * UInt64(index + 1)))
        guard !overflow else { throw .user("\(option): '\(text)' is too large") }
        return bytes
    }

    /// Parses a guest memory size and checks its range: 1 MiB to 1 TiB, whole pages.
    package static func parseMemory(_ text: String, option: String = "--memory") throws(VMMError) -> UInt64 {
        let bytes = try parse(text, option: option)
        try checkMemory(bytes, text, option: option)
        return bytes
    }

    /// Checks a guest memory size. The error names `text` and `option`.
    package static func checkMemory(_ bytes: UInt64, _ text: String, option: String) throws(VMMError) {
        guard bytes >= MachineLimits.memoryByteCount.lowerBound else {
            throw .user("\(option): '\(text)' is too little memory: give 1M to 1T")
        }
        guard bytes <= MachineLimits.memoryByteCount.upperBound else {
            throw .user("\(option): '\(text)' is too much memory: give 1M to 1T")
        }
        guard bytes % MachineLimits.pageByteCount == 0 else {
            throw .user("\(option): '\(text)' is not a whole number of pages of 4096 bytes")
        }
    }

    /// Formats a size in the largest unit that gives a whole number: `256M`, `1536M`, `4097`.
    package static func describe(_ bytes: UInt64) -> String {
        var number = bytes
        var unit = ""
        for name in units {
            guard number >= 1024, number % 1024 == 0 else { break }
            number /= 1024
            unit = String(name)
        }
        return "\(number)\(unit)"
    }

    private static func notASize(_ text: String, _ option: String) -> VMMError {
        if let whole = wholeSize(of: text) { return .user("\(option): '\(text)' is not a whole number: write \(whole)") }
        return .user("\(option): '\(text)' is not a size: write a number with K, M, G or T, for instance 256M")
    }

    /// The size of a text with a decimal fraction, in a unit in which it is whole: `1536M` for `1.5G`. Nil if the text is something else, or the
    /// size is not a whole number of KiB.
    private static func wholeSize(of text: String) -> String? {
        let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let whole = UInt64(parts[0]) else { return nil }
        let digits = parts[1].prefix { $0.isASCII && $0.isNumber }
        guard let unit = parts[1].dropFirst(digits.count).uppercased().first, let index = units.firstIndex(of: unit), index > 0,
            (1...6).contains(digits.count), let fraction = UInt64(digits), whole < 1 << 20
        else { return nil }
        // In KiB, so that the product fits.
        let scale: UInt64 = 1 << (10 * UInt64(min(index, 3)))
        let power = (0..<digits.count).reduce(UInt64(1)) { power, _ in power * 10 }
        guard (fraction * scale) % power == 0, index <= 3 else { return nil }
        return describe((whole * scale + fraction * scale / power) << 10)
    }
}
