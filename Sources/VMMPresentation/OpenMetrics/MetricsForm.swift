// SPDX-License-Identifier: Apache-2.0

/// A text form of metrics, which a client chooses by the header `Accept`.
package enum MetricsForm: Sendable, CaseIterable {
    /// OpenMetrics 1.0.0.
    case openMetrics
    /// Prometheus' older text form, version 0.0.4.
    case prometheus

    /// The content type of the text.
    package var contentType: String {
        switch self {
        case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
        case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
        }
    }

    private var type: (name: Substring, version: Substring) {
        switch self {
        case .openMetrics: ("application/openmetrics-text", "1.0.0")
        case .prometheus: ("text/plain", "0.0.4")
        }
    }

    /// The form that a client prefers (RFC 9110, 12.5.1). A client that accepts neither gets the usual one: an answer that it did not ask for says more
    /// than status 406.
    ///
    /// - Parameters:
    ///   - accept: the header's value; nil without one.
    ///   - usual: the form for a client without a preference.
    package init(accept: String?, usual: MetricsForm) {
        let ranges = (accept ?? "").split(separator: ",").prefix(64).map(MediaRange.init)
        let other: MetricsForm = usual == .openMetrics ? .prometheus : .openMetrics
        self = MetricsForm.quality(of: other, ranges) > MetricsForm.quality(of: usual, ranges) ? other : usual
    }

    /// The quality of the range that names the form most closely, in thousandths; 0 without one.
    private static func quality(of form: MetricsForm, _ ranges: [MediaRange]) -> Int {
        let matches = ranges.compactMap { range in range.closeness(to: form.type.name, form.type.version).map { ($0, range.quality) } }
        return matches.max { $0 < $1 }?.1 ?? 0
    }

    /// One part of the header.
    private struct MediaRange {
        let type: String
        var version: String?
        /// In thousandths.
        var quality = 1000

        init(_ text: Substring) {
            let parts = text.split(separator: ";", maxSplits: 15).map { MediaRange.trimmed($0) }
            type = parts.first.map { $0.lowercased() } ?? ""
            for part in parts.dropFirst() {
                let pair = part.split(separator: "=", maxSplits: 1).map { MediaRange.trimmed($0) }
                guard pair.count == 2 else { continue }
                switch pair[0].lowercased() {
                case "version": version = String(pair[1].filter { $0 != "\"" })
                case "q": quality = MediaRange.thousandths(pair[1])
                default: break
                }
            }
        }

        /// How closely the range names a type; nil if it does not.
        func closeness(to name: Substring, _ version: Substring) -> Int? {
            if type == name, let own = self.version { return own == version ? 3 : nil }
            if type == name { return 2 }
            if type.hasSuffix("/*"), name.hasPrefix(type.dropLast()) { return 1 }
            return type == "*/*" ? 0 : nil
        }

        private static func trimmed(_ text: Substring) -> Substring {
            let rest = text.drop { $0 == " " || $0 == "\t" }
            return rest.prefix(rest.count - rest.reversed().prefix { $0 == " " || $0 == "\t" }.count)
        }

        /// A quality value; 0 for what is none.
        private static func thousandths(_ text: Substring) -> Int {
            guard let value = Double(text), value >= 0, value <= 1 else { return 0 }
            return Int((value * 1000).rounded())
        }
    }
}
