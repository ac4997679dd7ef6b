// SPDX-License-Identifier: Apache-2.0

package import VMMBase

/// Sizes in words: `256M`, `1G`. Units are powers of 1024.
package enum ByteCount {
    /// The units from small to large: each 1024 times the one before.
    private static let units: [Character] = ["K", "M", "G", "T", "P", "E"]

    /// Reads a size: digits, then K, M, G, T, P or E with or without `iB`; a plain number is in bytes.
    ///
    /// - Parameter option: named in the error.
    package static func parse(_ text: String, option: String) throws(ControlError) -> UInt64 {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        var suffix = text.dropFirst(digits.count).uppercased()
        if suffix.hasSuffix("IB") {
            suffix.removeLast(2)
        } else if suffix.count <= 2, suffix.hasSuffix("B") {
            suffix.removeLast()
        }
        guard !digits.isEmpty, suffix.count <= 1 else { throw notASize(text, option) }
        guard let number = UInt64(digits) else { throw .usage("\(option): '\(text)' is too large") }
        guard let unit = suffix.first else { return number }
        guard let index = units.firstIndex(of: unit) else { throw notASize(text, option) }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << (10 * UInt64(index + 1)))
        guard !overflow else { throw .usage("\(option): '\(text)' is too large") }
        return bytes
    }

    /// Reads a guest's memory size and checks it against what a machine can have: 1 MiB to 1 TiB, whole pages.
    package static func parseMemory(_ text: String, option: String = "--memory") throws(ControlError) -> UInt64 {
        let bytes = try parse(text, option: option)
        try checkMemory(bytes, text, option: option)
        return bytes
    }

    /// Checks a memory size; `text` and `option` are for the error.
    package static func checkMemory(_ bytes: UInt64, _ text: String, option: String) throws(ControlError) {
        guard bytes >= MachineLimits.memoryByteCount.lowerBound else {
            throw .usage("\(option): '\(text)' is too little memory: give 1M to 1T")
        }
        guard bytes <= MachineLimits.memoryByteCount.upperBound else {
            throw .usage("\(option): '\(text)' is too much memory: give 1M to 1T")
        }
        guard bytes % MachineLimits.pageByteCount == 0 else {
            throw .usage("\(option): '\(text)' is not a whole number of pages of 4096 bytes")
        }
    }

    /// The size in the largest unit that keeps it whole: `256M`, `1536M`, `4097`.
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

    private static func notASize(_ text: String, _ option: String) -> ControlError {
        .usage("\(option): '\(text)' is not a size: write a number with K, M, G or T, for instance 256M")
    }
}
