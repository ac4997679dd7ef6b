// SPDX-License-Identifier: Apache-2.0

extension ExitReport {
    /// The report for people: exits by reason, device and address, each vCPU's time, KVM's own counters.
    ///
    /// - Parameters:
    ///   - perVCPU: one row for each vCPU instead of their sum.
    ///   - rowLimit: at most so many rows of exits; the rest is summed up in one line, so that nothing is lost.
    public func table(perVCPU: Bool = false, rowLimit: Int = 40) -> String {
        let seconds = Readable.duration(uptimeNanoseconds)
        var text = "\(name): \(Readable.count(exitCount)) exits to user space in \(seconds)\n\n"
        text += exitTable(perVCPU: perVCPU, rowLimit: max(1, rowLimit)) + "\n" + processorTable()
        let kernel = kernelTable()
        if !kernel.isEmpty { text += "\n" + kernel }
        let symbiotic = symbioticTable()
        if !symbiotic.isEmpty { text += "\n" + symbiotic }
        for service in services ?? [] { text += ExitReport.serviceLine(service) }
        return text + "\n" + unseenLine() + "\n"
    }

    private static func serviceLine(_ service: Service) -> String {
        let counted = service.counters.filter { $0.value > 0 }.sorted { $0.key < $1.key }
        guard !counted.isEmpty else { return "" }
        return "\n\(service.name.uppercased()): " + counted.map { "\($0.key) \(Readable.count($0.value))" }.joined(separator: ", ") + "\n"
    }

    private func exitTable(perVCPU: Bool, rowLimit: Int) -> String {
        let rows = perVCPU ? exits : aggregated().exits
        let whole = rows.reduce(0) { $0 &+ $1.totalNanoseconds }
        var columns: [TextTable.Column] = perVCPU ? [.numbers("VCPU")] : []
        columns += [.words("REASON"), .words("DEVICE"), .words("ADDRESS"), .numbers("COUNT"), .numbers("TIME%")]
        columns += [.numbers("MEAN"), .numbers("P50"), .numbers("P99"), .numbers("MAX")]
        var table = TextTable(columns)
        for row in rows.prefix(rowLimit) { table.add((perVCPU ? ["\(row.vcpu ?? 0)"] : []) + ExitReport.cells(row, whole)) }
        let rest = rows.dropFirst(rowLimit)
        if !rest.isEmpty {
            let latency = rest.reduce(LatencySummary.empty) { $0.merged(with: $1.latency) }
            let row = Exit(vcpu: nil, reason: "(\(rest.count) more)", device: "", address: nil, latency: latency)
            table.add((perVCPU ? [""] : []) + ExitReport.cells(row, whole))
        }
        return table.text
    }

    private static func cells(_ row: Exit, _ whole: UInt64) -> [String] {
        [
            row.reason, row.device, row.address.map { "0x" + String($0, radix: 16) } ?? "", Readable.count(row.count),
            Readable.percent(row.totalNanoseconds, of: whole), Readable.duration(row.meanNanoseconds),
            Readable.duration(row.medianNanoseconds), Readable.duration(row.p99Nanoseconds), Readable.duration(row.maximumNanoseconds),
        ]
    }

    private func processorTable() -> String {
        var table = TextTable([
            .numbers("VCPU"), .numbers("EXITS"), .numbers("GUEST TIME"), .numbers("VMM TIME"), .numbers("VMM%"), .numbers("KVM EXITS"),
            .numbers("UNSEEN"),
        ])
        for processor in vcpus {
            let whole = processor.guestNanoseconds &+ processor.vmmNanoseconds
            table.add([
                "\(processor.vcpu)", Readable.count(processor.exitCount), Readable.duration(processor.guestNanoseconds),
                Readable.duration(processor.vmmNanoseconds), Readable.percent(processor.vmmNanoseconds, of: whole),
                processor.kernel["exits"].map(Readable.count) ?? "-", processor.unseenExits.map(Readable.count) ?? "-",
            ])
        }
        return table.text
    }

    /// KVM's counters that are not zero, summed over the vCPUs, the largest first; empty where the kernel has none.
    private func kernelTable() -> String {
        var sums: [String: UInt64] = [:]
        for processor in vcpus { sums.merge(processor.kernel) { $0 &+ $1 } }
        let shown = sums.filter { $0.value > 0 && ($0.key == "exits" || $0.key.hasSuffix("_exits") || ExitReport.causes.contains($0.key)) }
        guard !shown.isEmpty else { return "" }
        var table = TextTable([.words("KVM COUNTER"), .numbers("ALL VCPUS")])
        for (name, value) in shown.sorted(by: { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }) {
            table.add([name, Readable.count(value)])
        }
        return table.text
    }

    /// KVM's counters without `_exits` in the name that say why the guest was left (arch/x86/kvm/x86.c, kvm_vcpu_stats_desc).
    private static let causes: Set<String> = [
        "pf_fixed", "pf_guest", "pf_emulate", "pf_spurious", "pf_fast", "pf_mmio_spte_created", "tlb_flush", "insn_emulation",
        "insn_emulation_fail", "hypercalls", "irq_injections", "nmi_injections", "preemption_reported",
    ]

    private func unseenLine() -> String {
        let counted = vcpus.compactMap(\.unseenExits)
        guard !counted.isEmpty else {
            return "Not in this table: exits that KVM answers by itself; this kernel gives no counters of them."
        }
        let unseen = Readable.count(counted.reduce(0) { $0 &+ $1 })
        return "Not in the first table: \(unseen) exits that KVM answered by itself (page faults, interrupts, its APICs and timers,\n"
            + "CPUID, most MSRs, ioeventfd doorbells). User space cannot time them; KVM counts them by kind."
    }
}
