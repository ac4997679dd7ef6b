// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

/// Builds text in the OpenMetrics 1.0.0 format (OpenMetrics specification, section "ABNF"): each family's description and samples, then `# EOF`.
/// Or in Prometheus' older form, which has no `# EOF`, no units, fewer types, and the samples' name in a description. Samples are the same in both.
package struct OpenMetricsText {
    /// Label names and values, in order.
    typealias Labels = [(name: String, value: String)]

    /// Histogram bounds in seconds, as texts: 1, 2 and 5 times powers of ten, from one microsecond to ten seconds.
    private static let bounds: [(text: String, nanoseconds: UInt64)] = [
        ("1e-06", 1_000), ("2e-06", 2_000), ("5e-06", 5_000), ("1e-05", 10_000), ("2e-05", 20_000), ("5e-05", 50_000),
        ("0.0001", 100_000), ("0.0002", 200_000), ("0.0005", 500_000), ("0.001", 1_000_000), ("0.002", 2_000_000),
        ("0.005", 5_000_000), ("0.01", 10_000_000), ("0.02", 20_000_000), ("0.05", 50_000_000), ("0.1", 100_000_000),
        ("0.2", 200_000_000), ("0.5", 500_000_000), ("1.0", 1_000_000_000), ("2.0", 2_000_000_000),
        ("5.0", 5_000_000_000), ("10.0", 10_000_000_000),
    ]

    private var text = ""
    private var name = ""
    private var suffix = ""
    private let common: Labels
    private let form: MetricsForm

    /// Creates an empty text; every sample gets the `common` labels.
    init(common: Labels, form: MetricsForm = .openMetrics) {
        self.common = common
        self.form = form
    }

    /// Starts a family; its samples follow.
    mutating func family(_ family: MetricsFamily) {
        name = family.name
        suffix = family.suffix
        switch form {
        case .openMetrics:
            text += "# TYPE \(name) \(family.kind.rawValue)\n"
            if let unit = family.unit { text += "# UNIT \(name) \(unit)\n" }
            text += "# HELP \(name) \(OpenMetricsText.escaped(family.help))\n"
        case .prometheus:
            text += "# TYPE \(name)\(suffix) \(OpenMetricsText.olderKind(family.kind))\n# HELP \(name)\(suffix) \(family.help)\n"
        }
    }

    /// The type's name in Prometheus' older form.
    private static func olderKind(_ kind: MetricsFamily.Kind) -> String {
        switch kind {
        case .info, .stateset: "gauge"
        case .unknown: "untyped"
        case .counter, .gauge, .histogram: kind.rawValue
        }
    }

    /// Adds complete lines with samples of the family.
    mutating func append(lines: String) {
        text += lines
    }

    /// Adds a sample to the family.
    mutating func sample(_ labels: Labels, _ value: UInt64) {
        line(suffix, labels, "\(value)")
    }

    /// Adds a duration in seconds.
    mutating func sample(_ labels: Labels, nanoseconds: UInt64) {
        line(suffix, labels, OpenMetricsText.seconds(nanoseconds))
    }

    /// Adds a histogram. Assigns each recorded bucket by its upper bound, so the histogram's bounds are exact within 6 %.
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

    /// The complete text.
    var ended: String {
        form == .openMetrics ? text + "# EOF\n" : text
    }

    private mutating func line(_ suffix: String, _ labels: Labels, _ value: String) {
        let pairs = (common + labels).map { "\($0.name)=\"\(OpenMetricsText.escaped($0.value))\"" }
        text += "\(name)\(suffix)\(pairs.isEmpty ? "" : "{\(pairs.joined(separator: ","))}") \(value)\n"
    }

    /// Formats nanoseconds as seconds, exactly. A Double would round: it has 53 bits, or 104 days in nanoseconds.
    static func seconds(_ nanoseconds: UInt64) -> String {
        var digits = String(nanoseconds % 1_000_000_000)
        digits = String(repeating: "0", count: 9 - digits.count) + digits
        while digits.hasSuffix("0"), digits.count > 1 { digits.removeLast() }
        return "\(nanoseconds / 1_000_000_000).\(digits)"
    }

    static func escaped(_ value: String) -> String {
        // By scalars: a quote and a combining mark are one Character, which is not equal to a quote.
        guard value.unicodeScalars.contains(where: { $0 == "\\" || $0 == "\"" || $0 == "\n" }) else { return value }
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
