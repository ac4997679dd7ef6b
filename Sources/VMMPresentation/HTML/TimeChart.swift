// SPDX-License-Identifier: Apache-2.0

/// An SVG chart of values over time: stacked areas, or lines.
package struct TimeChart {
    /// A data series.
    package struct Series {
        /// Name for the legend.
        package let name: String
        /// One value for each interval.
        package let values: [Double]

        /// Describes a series.
        package init(name: String, values: [Double]) {
            self.name = name
            self.values = values
        }
    }

    /// A marked moment.
    package struct Mark {
        let seconds: Double
        let label: String
    }

    /// The element's id; letters, digits and hyphens.
    let id: String
    /// The unit of the values, for instance `exits/s`.
    let unit: String
    /// Boundaries of the intervals in seconds, in ascending order: one more than the values of a series.
    let moments: [Double]
    let series: [Series]
    var marks: [Mark] = []
    /// Stacked areas instead of lines.
    var isStacked = true

    /// Creates a chart.
    ///
    /// - Parameters:
    ///   - id: the element's id; letters, digits and hyphens.
    ///   - unit: the unit of the values.
    ///   - moments: boundaries of the intervals in seconds, in ascending order: one more than the values of a series.
    ///   - series: the series, drawn in eight colours.
    ///   - marks: moments to mark.
    ///   - isStacked: stacked areas if true, else lines.
    package init(id: String, unit: String, moments: [Double], series: [Series], marks: [Mark] = [], isStacked: Bool = true) {
        self.id = id
        self.unit = unit
        self.moments = moments
        self.series = series
        self.marks = marks
        self.isStacked = isStacked
    }

    private static let width = 1000.0
    private static let height = 230.0
    private static let left = 64.0
    private static let right = 10.0
    private static let top = 14.0
    private static let bottom = 24.0

    /// The chart with its legend, or a sentence if there is nothing to draw.
    package var html: String {
        guard moments.count > 1, let first = moments.first, let last = moments.last, last > first else {
            return "<p>No time has passed: nothing to draw.</p>\n"
        }
        let legend = series.enumerated().map { index, one in
            "<button type=\"button\" aria-pressed=\"true\" data-chart=\"\(id)\" data-series=\"s\(index)\">"
                + "<i style=\"background:var(--s\(index % 8))\"></i>\(HTMLText.escaped(one.name))</button>"
        }
        return "<div class=\"legend\">\(legend.joined())</div>\n" + picture(first, last)
    }

    private func picture(_ first: Double, _ last: Double) -> String {
        let most = largest
        func x(_ seconds: Double) -> Double {
            TimeChart.left + (seconds - first) / (last - first) * (TimeChart.width - TimeChart.left - TimeChart.right)
        }
        func y(_ value: Double) -> Double {
            TimeChart.height - TimeChart.bottom - value / most * (TimeChart.height - TimeChart.top - TimeChart.bottom)
        }
        var svg =
            "<svg id=\"\(id)\" viewBox=\"0 0 \(Int(TimeChart.width)) \(Int(TimeChart.height))\" role=\"img\" "
            + "aria-label=\"\(HTMLText.escaped(unit)) over time\">\n"
        for value in TimeChart.ticks(0, most, 4) {
            svg += TimeChart.line("grid", TimeChart.left, y(value), TimeChart.width - TimeChart.right, y(value))
            svg += TimeChart.text(TimeChart.left - 6, y(value) + 4, "end", TimeChart.short(value))
        }
        svg += TimeChart.text(TimeChart.left, 10, "start", unit)
        for value in TimeChart.ticks(first, last, 8) {
            svg += TimeChart.text(x(value), TimeChart.height - 8, "middle", TimeChart.moment(value) + " s")
        }
        svg += isStacked ? areas(x, y) : lines(x, y)
        for mark in marks where mark.seconds >= first && mark.seconds <= last {
            svg += TimeChart.line("mark", x(mark.seconds), TimeChart.top, x(mark.seconds), TimeChart.height - TimeChart.bottom)
            let isLate = x(mark.seconds) > TimeChart.width * 0.8
            svg += TimeChart.text(
                x(mark.seconds) + (isLate ? -5 : 5), TimeChart.top + 8, isLate ? "end" : "start", mark.label, style: "marked")
        }
        return svg + hits(x) + "</svg>\n"
    }

    /// The end of the value axis: a round number, at least the largest value.
    private var largest: Double {
        let sums = (0..<(moments.count - 1)).map { index in
            isStacked
                ? series.reduce(0) { $0 + TimeChart.value($1, index) } : series.reduce(0) { max($0, TimeChart.value($1, index)) }
        }
        let most = sums.max() ?? 0
        return most > 0 ? (TimeChart.ticks(0, most * 1.0001, 4).last ?? most) + TimeChart.step(most, 4) : 1
    }

    private static func value(_ series: Series, _ index: Int) -> Double {
        guard index < series.values.count, series.values[index].isFinite else { return 0 }
        return max(0, series.values[index])
    }

    /// Draws each interval as one step, since its value is a mean.
    private func areas(_ x: (Double) -> Double, _ y: (Double) -> Double) -> String {
        var floor = [Double](repeating: 0, count: moments.count - 1)
        return series.enumerated().map { number, one in
            let roof = floor.indices.map { floor[$0] + TimeChart.value(one, $0) }
            var points: [(Double, Double)] = []
            for index in roof.indices { points += [(x(moments[index]), y(roof[index])), (x(moments[index + 1]), y(roof[index]))] }
            for index in floor.indices.reversed() {
                points += [(x(moments[index + 1]), y(floor[index])), (x(moments[index]), y(floor[index]))]
            }
            floor = roof
            return "<polygon class=\"s\(number)\" fill=\"var(--s\(number % 8))\" fill-opacity=\".85\" "
                + "points=\"\(TimeChart.points(points))\"/>\n"
        }.joined()
    }

    private func lines(_ x: (Double) -> Double, _ y: (Double) -> Double) -> String {
        series.enumerated().map { number, one in
            var points: [(Double, Double)] = []
            for index in 0..<(moments.count - 1) {
                let height = y(TimeChart.value(one, index))
                points += [(x(moments[index]), height), (x(moments[index + 1]), height)]
            }
            return "<polyline class=\"s\(number)\" fill=\"none\" stroke-width=\"2\" stroke=\"var(--s\(number % 8))\" "
                + "points=\"\(TimeChart.points(points))\"/>\n"
        }.joined()
    }

    /// Tooltip areas, one for each interval.
    private func hits(_ x: (Double) -> Double) -> String {
        (0..<(moments.count - 1)).map { index in
            let numbers = series.filter { TimeChart.value($0, index) > 0 }.map { "\($0.name)  \(TimeChart.short($0.values[index]))" }
            let label = (["\(TimeChart.moment(moments[index + 1])) s (\(unit))"] + numbers).joined(separator: "\n")
            let start = x(moments[index])
            return "<rect class=\"hit\" x=\"\(HTMLText.coordinate(start))\" y=\"\(Int(TimeChart.top))\" "
                + "width=\"\(HTMLText.coordinate(x(moments[index + 1]) - start))\" "
                + "height=\"\(Int(TimeChart.height - TimeChart.top - TimeChart.bottom))\" data-tip=\"\(HTMLText.escaped(label))\"/>\n"
        }.joined()
    }

    private static func points(_ points: [(Double, Double)]) -> String {
        points.map { "\(HTMLText.coordinate($0.0)),\(HTMLText.coordinate($0.1))" }.joined(separator: " ")
    }

    private static func line(_ style: String, _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
        "<line class=\"\(style)\" x1=\"\(HTMLText.coordinate(x1))\" y1=\"\(HTMLText.coordinate(y1))\" "
            + "x2=\"\(HTMLText.coordinate(x2))\" y2=\"\(HTMLText.coordinate(y2))\"/>\n"
    }

    private static func text(_ x: Double, _ y: Double, _ anchor: String, _ label: String, style: String = "") -> String {
        "<text x=\"\(HTMLText.coordinate(x))\" y=\"\(HTMLText.coordinate(y))\" text-anchor=\"\(anchor)\" class=\"\(style)\">"
            + "\(HTMLText.escaped(label))</text>\n"
    }

    /// The distance between ticks: 1, 2 or 5 times a power of ten.
    static func step(_ span: Double, _ number: Double) -> Double {
        guard span > 0, span.isFinite else { return 1 }
        var power = 1.0
        while power * 10 <= span / number { power *= 10 }
        while power > span / number { power /= 10 }
        return [1, 2, 5].map { $0 * power }.last { $0 <= span / number } ?? power
    }

    /// Round numbers from `low` to `high`: about `number` or more, at most 40.
    static func ticks(_ low: Double, _ high: Double, _ number: Double) -> [Double] {
        let step = step(high - low, number)
        var ticks: [Double] = []
        var index = (low / step).rounded(.up)
        while index * step <= high, ticks.count < 40 {
            ticks.append(index * step)
            index += 1
        }
        return ticks
    }

    /// Formats an axis value: `0`, `0.25`, `12`, `3.4k`, `1.2M`.
    static func short(_ value: Double) -> String {
        for (unit, word) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] where value >= unit * 0.99995 { return decimals(value / unit) + word }
        return decimals(value)
    }

    /// Formats seconds for the time axis: `0.25`, `12.5`, `3601`.
    static func moment(_ seconds: Double) -> String {
        let rounded = (seconds * 1000).rounded() / 1000
        return rounded == rounded.rounded() && abs(rounded) < 1e15 ? "\(Int(rounded))" : "\(rounded)"
    }

    private static func decimals(_ value: Double) -> String {
        let digits = value < 1 ? 1000.0 : value < 100 ? 10.0 : 1.0
        let rounded = (value * digits).rounded() / digits
        return rounded == rounded.rounded() && abs(rounded) < 1e15 ? "\(Int(rounded))" : "\(rounded)"
    }
}
