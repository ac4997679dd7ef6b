// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMModel

@Suite struct EvenSamplesTests {
    private func kept(_ count: Int, intervals: Int = 10, byteLimit: Int = .max, size: Int = 1) -> [Int] {
        var samples = EvenSamples<Int>(intervals: intervals, byteLimit: byteLimit)
        for number in 0..<count { samples.add(number, byteCount: size) }
        return samples.samples
    }

    @Test func aShortSeriesIsKeptWhole() {
        #expect(kept(0) == [])
        #expect(kept(1) == [0])
        #expect(kept(11) == Array(0..<11))
    }

    @Test func aLongSeriesKeepsItsEndsAndIsEven() throws {
        for count in 12...1000 {
            let samples = kept(count)
            #expect(samples.count <= 11 && samples.count > 5, "\(count)")
            #expect(samples.first == 0 && samples.last == count - 1, "\(count)")
            let steps = zip(samples, samples.dropFirst()).map { $1 - $0 }
            #expect(steps.allSatisfy { $0 > 0 }, "\(count)")
            // The last step may be shorter.
            let (least, most) = (try #require(steps.dropLast().min()), try #require(steps.max()))
            #expect(most <= 3 * least, "\(count): \(steps)")
        }
    }

    @Test func memoryIsBounded() {
        var samples = EvenSamples<[UInt8]>(intervals: 10, byteLimit: 10_000)
        for _ in 0..<10_000 {
            samples.add([UInt8](repeating: 1, count: 3000), byteCount: 3000)
            #expect(samples.samples.count <= 4)
        }
        #expect(kept(100_000).count == 11)
    }
}
