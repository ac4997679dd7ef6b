// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

/// An SVG histogram of durations on a logarithmic axis (two steps per power of two), with p50 and p99 marked.
struct LatencyChart {
    let title: String
    let latency: LatencySummary

    private static let width = 300.0
    private static let height = 96.0
    private static let floor = 78.0

    /// The chart with its caption.
    var html: String {
        let bins = bins
        guard let first = bins.first, let last = bins.last, let most = bins.map({ $0.count }).max(), most > 0 else { return "" }
        let number = Double(last.index - first.index + 1)
        let step = LatencyChart.width / max(number, 8)
        func x(_ index: Double) -> Double { (index - Double(first.index)) * step }
        var svg = "<svg viewBox=\"0 0 \(Int(LatencyChart.width)) \(Int(LatencyChart.height))\" role=\"img\">\n"
        for bin in bins where bin.count > 0 {
            let height = max(1, Double(bin.count) / Double(most) * (LatencyChart.floor - 14))
            let label = "up to \(Format.duration(bin.bound))\n\(Format.count(bin.count)) exits"
            svg +=
                "<rect x=\"\(HTMLText.coordinate(x(Double(bin.index)) + 0.5))\" y=\"\(HTMLText.coordinate(LatencyChart.floor - height))\" "
                + "width=\"\(HTMLText.coordinate(max(1, step - 1)))\" height=\"\(HTMLText.coordinate(height))\" fill=\"var(--s0)\" "
                + "data-tip=\"\(HTMLText.escaped(label))\"/>\n"
        }
        let places = [0.5, 0.99].map { x(LatencyChart.place(latency.quantile($0))) }
        for place in places {
            let across = HTMLText.coordinate(place)
            svg += "<line class=\"mark\" x1=\"\(across)\" y1=\"12\" x2=\"\(across)\" y2=\"\(Int(LatencyChart.floor))\"/>\n"
        }
        // Join labels that would overlap.
        let labels = places[1] - places[0] < 26 ? [((places[0] + places[1]) / 2, "p50 p99")] : [(places[0], "p50"), (places[1], "p99")]
        for (place, name) in labels {
            let across = HTMLText.coordinate(min(max(place, 22), LatencyChart.width - 22))
            svg += "<text x=\"\(across)\" y=\"9\" text-anchor=\"middle\">\(name)</text>\n"
        }
        svg += "<text x=\"0\" y=\"92\">\(Format.duration(LatencyChart.bound(first.index - 1)))</text>"
        svg +=
            "<text x=\"\(HTMLText.coordinate(min(x(Double(last.index + 1)), LatencyChart.width)))\" y=\"92\" text-anchor=\"end\">"
            + "\(Format.duration(LatencyChart.bound(last.index)))</text></svg>\n"
        let figures =
            "\(Format.count(latency.count)) exits, mean \(Format.duration(latency.meanNanoseconds)), "
            + "p50 \(Format.duration(latency.quantile(0.5))), p99 \(Format.duration(latency.quantile(0.99))), "
            + "max \(Format.duration(latency.maximum))"
        return "<figure class=\"latency\"><figcaption>\(HTMLText.escaped(title))<br><span>\(figures)</span></figcaption>\(svg)</figure>\n"
    }

    /// The histogram with two bins per power of two.
    private var bins: [(index: Int, bound: UInt64, count: UInt64)] {
        var counts: [Int: UInt64] = [:]
        for bucket in latency.buckets { counts[Int(LatencyChart.place(bucket.upperBound)), default: 0] &+= bucket.count }
        guard var first = counts.keys.min(), var last = counts.keys.max() else { return [] }
        // Extend the axis to at least twelve bins.
        while last - first < 11 {
            first = max(first - 1, 0)
            last += 1
        }
        return (first...last).map { ($0, LatencyChart.bound($0), counts[$0] ?? 0) }
    }

    /// The position of a duration on the axis: two steps per power of two, linear between them.
    private static func place(_ nanoseconds: UInt64) -> Double {
        let value = max(nanoseconds, 1)
        let exponent = 63 - value.leadingZeroBitCount
        let rest = Double(value) / Double(UInt64(1) << UInt64(exponent))
        return Double(exponent * 2) + (rest - 1) * 2
    }

    /// The upper bound of a step in nanoseconds.
    private static func bound(_ index: Int) -> UInt64 {
        let next = max(index + 1, 0)
        let power = UInt64(1) << UInt64(min(next / 2, 62))
        return next % 2 == 0 ? power : power + power / 2
    }
}
