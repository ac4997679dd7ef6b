// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

/// Builds a text in the OpenMetrics form, version 1.0.0 (the OpenMetrics specification, section "ABNF"): a family's description, then its
/// samples, and at last `# EOF`.
package struct OpenMetricsText {
    /// A family's type.
    enum Kind: String {
        case counter, gauge, histogram, info, stateset, unknown
    }

    /// What a sample belongs to: name and value, in their order.
    typealias Labels = [(name: String, value: String)]

    /// The content type of the text.
    package static let contentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    /// Upper bounds of histograms in seconds, as texts: 1, 2 and 5 of each power of ten from a microsecond to ten seconds.
    private static let bounds: [(text: String, nanoseconds: UInt64)] = [
        ("1e-06", 1_000), ("2e-06", 2_000), ("5e-06", 5_000), ("1e-05", 10_000), ("2e-05", 20_000), ("5e-05", 50_000),
        ("0.0001", 100_000), ("0.0002", 200_000), ("0.0005", 500_000), ("0.001", 1_000_000), ("0.002", 2_000_000),
        ("0.005", 5_000_000), ("0.01", 10_000_000), ("0.02", 20_000_000), ("0.05", 50_000_000), ("0.1", 100_000_000),
        ("0.2", 200_000_000), ("0.5", 500_000_000), ("1.0", 1_000_000_000), ("10.0", 10_000_000_000),
    ]

    private var text = ""
    private var name = ""
    private var suffix = ""
    private let common: Labels

    /// An empty text; `common` are the labels of every sample.
    init(common: Labels) {
        self.common = common
    }

    /// Begins a family; its samples follow.
    ///
    /// - Parameters:
    ///   - name: without `_total` and its like, with the unit at its end.
    ///   - unit: `seconds`, `bytes`, or nil.
    mutating func family(_ name: String, _ kind: Kind, unit: String? = nil, _ help: String) {
        self.name = name
        suffix = kind == .counter ? "_total" : kind == .info ? "_info" : ""
        text += "# TYPE \(name) \(kind.rawValue)\n"
        if let unit { text += "# UNIT \(name) \(unit)\n" }
        text += "# HELP \(name) \(OpenMetricsText.escaped(help))\n"
    }

    /// A sample of the family.
    mutating func sample(_ labels: Labels, _ value: UInt64) {
        line(suffix, labels, "\(value)")
    }

    /// A duration, in seconds.
    mutating func sample(_ labels: Labels, nanoseconds: UInt64) {
        line(suffix, labels, OpenMetricsText.seconds(nanoseconds))
    }

    /// A histogram's samples. Durations between two of the bounds' own buckets count by their bucket's upper bound, so within 6 %.
    mutating func histogram(_ labels: Labels, _ latency: LatencySummary) {
        var seen: UInt64 = 0
        var buckets = latency.buckets[...]
        for bound in OpenMetricsText.bounds {
            while let bucket = buckets.first, bucket.upperBound <= bound.nanoseconds {
                seen &+= bucket.count
                buckets.removeFirst()
            }
            line("_bucket", labels + [("le", bound.text)], "\(seen)")
        }
        line("_bucket", labels + [("le", "+Inf")], "\(latency.count)")
        line("_count", labels, "\(latency.count)")
        line("_sum", labels, OpenMetricsText.seconds(latency.total))
    }

    /// The whole text, ended.
    var ended: String {
        text + "# EOF\n"
    }

    private mutating func line(_ suffix: String, _ labels: Labels, _ value: String) {
        let words = (common + labels).map { "\($0.name)=\"\(OpenMetricsText.escaped($0.value))\"" }
        text += "\(name)\(suffix){\(words.joined(separator: ","))} \(value)\n"
    }

    /// Exact, however many: a Double has no room for nanoseconds of years.
    static func seconds(_ nanoseconds: UInt64) -> String {
        var digits = String(nanoseconds % 1_000_000_000)
        digits = String(repeating: "0", count: 9 - digits.count) + digits
        while digits.hasSuffix("0"), digits.count > 1 { digits.removeLast() }
        return "\(nanoseconds / 1_000_000_000).\(digits)"
    }

    static func escaped(_ value: String) -> String {
        guard value.contains(where: { $0 == "\\" || $0 == "\"" || $0.isNewline }) else { return value }
        var escaped = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\"": escaped += "\\\""
            case "\n": escaped += "\\n"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
