// SPDX-License-Identifier: Apache-2.0

extension ExitReport.Symbiotic {
    /// Adds up the symcalls of all vCPUs.
    init(_ statistics: SymbioticStatistics) {
        var sums: [UInt32: LatencySummary] = [:]
        for row in statistics.symcalls { sums[row.number] = (sums[row.number] ?? .empty).merged(with: row.latency) }
        self.init(
            active: statistics.isActive, unavailableReason: statistics.unavailableReason,
            counters: Dictionary(statistics.counters.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first }),
            symcalls: sums.sorted { $0.key < $1.key }.map { ExitReport.SymCall(number: $0, latency: $1) })
    }
}
