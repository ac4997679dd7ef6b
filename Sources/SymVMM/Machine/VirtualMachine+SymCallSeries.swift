// SPDX-License-Identifier: Apache-2.0

package import VMMModel

internal import VMMBase

extension VirtualMachine {
    /// Makes PINGs with pseudo-random values. Any thread but a vCPU's; at most 20 s.
    ///
    /// - Parameters:
    ///   - count: at most `SymCallSeries.countLimit`.
    ///   - vcpu: the vCPU to inject them into; nil chooses one at random for each.
    package func pingSeries(count: Int, vcpu: Int?) -> SymCallSeries {
        var series = SymCallSeries()
        var noise: UInt64 = 0x9e37_79b9_7f4a_7c15
        let start = TickClock.monotonicNanoseconds()
        while series.made < min(count, SymCallSeries.countLimit), series.nanoseconds < SymCallSeries.secondLimit * 1_000_000_000 {
            noise ^= noise << 13
            noise ^= noise >> 7
            noise ^= noise << 17
            let values = SymCallValues(noise, ~noise, noise &+ 1, noise >> 1, UInt64(series.made))
            let target = vcpu ?? Int(noise >> 33) % processors.count
            series.made += 1
            do throws(SymCallFailure) {
                if try ping(values, vcpu: target) == values { series.answered += 1 } else { series.wrong += 1 }
            } catch {
                series.refused[error.description, default: 0] += 1
                if error == .notRunning { break }
            }
            series.nanoseconds = TickClock.monotonicNanoseconds() &- start
        }
        return series
    }
}
