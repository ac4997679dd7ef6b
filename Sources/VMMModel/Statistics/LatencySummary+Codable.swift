// SPDX-License-Identifier: Apache-2.0

/// A summary as part of a report row. The decoder reads sum, minimum, maximum and histogram, and computes the other fields from them.
extension LatencySummary: Codable {
    enum CodingKeys: String, CodingKey {
        case count, histogram
        case total = "total_ns"
        case minimum = "minimum_ns"
        case mean = "mean_ns"
        case median = "p50_ns"
        case p99 = "p99_ns"
        case maximum = "maximum_ns"
    }

    /// Reads sum, minimum, maximum and histogram.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            total: try container.decode(UInt64.self, forKey: .total), minimum: try container.decode(UInt64.self, forKey: .minimum),
            maximum: try container.decode(UInt64.self, forKey: .maximum),
            buckets: try container.decode([Bucket].self, forKey: .histogram))
    }

    /// Writes all fields.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(count, forKey: .count)
        try container.encode(total, forKey: .total)
        try container.encode(minimum, forKey: .minimum)
        try container.encode(meanNanoseconds, forKey: .mean)
        try container.encode(medianNanoseconds, forKey: .median)
        try container.encode(p99Nanoseconds, forKey: .p99)
        try container.encode(maximum, forKey: .maximum)
        try container.encode(buckets, forKey: .histogram)
    }
}

extension LatencySummary {
    /// The sum of the durations.
    public var totalNanoseconds: UInt64 { total }
    /// The shortest duration; 0 if there are none.
    public var minimumNanoseconds: UInt64 { minimum }
    /// The mean, rounded down; 0 if there are no durations.
    public var meanNanoseconds: UInt64 { count == 0 ? 0 : total / count }
    /// The median, within the histogram's 6 %.
    public var medianNanoseconds: UInt64 { quantile(0.5) }
    /// The 99th percentile, within the histogram's 6 %.
    public var p99Nanoseconds: UInt64 { quantile(0.99) }
    /// The longest duration; 0 if there are none.
    public var maximumNanoseconds: UInt64 { maximum }
}
