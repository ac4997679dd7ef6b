// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMModel

@Suite struct LatencySummaryTests {
    @Test func partsSumToTheWhole() {
        let left = LatencySummary(
            total: 30, minimum: 10, maximum: 20, buckets: [.init(upperBound: 10, count: 1), .init(upperBound: 20, count: 1)])
        let right = LatencySummary(
            total: 25, minimum: 5, maximum: 20, buckets: [.init(upperBound: 5, count: 1), .init(upperBound: 20, count: 1)])
        let both = left.merged(with: right)
        #expect(both.count == 4)
        #expect(both.total == 55)
        #expect(both.minimum == 5)
        #expect(both.maximum == 20)
        #expect(both.buckets.map(\.count) == [1, 1, 2])
        #expect(both.quantile(0.5) == 10)
        #expect(both.quantile(0.99) == 20)
        #expect(LatencySummary.empty.merged(with: left) == left)
    }
}
