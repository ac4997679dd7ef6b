// SPDX-License-Identifier: Apache-2.0

package import VMMModel

extension ExitReport {
    /// The report for people: exits by place or by one thing, each vCPU's time, and what there is beside them.
    ///
    /// - Parameters:
    ///   - grouping: by what the exits are shown; by place and by vCPU, KVM's own counters and the symbiotic interface's are shown too.
    ///   - rowLimit: at most so many rows of exits; the rest is summed up in one line, so that nothing is lost.
    package func table(by grouping: ExitGrouping = .place, rowLimit: Int = 40) -> String {
        if grouping == .task { return taskTable(rowLimit: rowLimit) }
        var text = title + "\n\n" + exitTable(by: grouping, rowLimit: rowLimit) + "\n" + processorTable()
        if grouping == .place || grouping == .vcpu {
            let kernel = kernelTable()
            if !kernel.isEmpty { text += "\n" + kernel }
            let symbiotic = symbioticTable()
            if !symbiotic.isEmpty { text += "\n" + symbiotic }
            for service in services ?? [] { text += ExitReport.serviceLine(service) }
        }
        return text + "\n" + unseenLine() + "\n"
    }

    /// What happened in an interval, for people: a report made by `since(_:)`, with rates.
    package func intervalTable(by grouping: ExitGrouping = .place, rowLimit: Int = 40) -> String {
        let exits =
            grouping == .task
            ? taskTable(rowLimit: rowLimit, rates: true) : exitTable(by: grouping, rowLimit: rowLimit, rates: true)
        let rate = Format.rate(exitCount, in: countedNanoseconds)
        return "\(name): \(Format.count(exitCount)) exits to user space in \(Format.duration(countedNanoseconds)), \(rate) a second\n\n"
            + exits + "\n" + processorTable()
    }

    private var title: String {
        let reset = resetNanoseconds == nil ? "" : " since the reset"
        return "\(name): \(Format.count(exitCount)) exits to user space in \(Format.duration(countedNanoseconds))\(reset)"
    }

    private static func serviceLine(_ service: CounterGroup) -> String {
        let counted = service.counters.filter { $0.value > 0 }.sorted { $0.key < $1.key }
        guard !counted.isEmpty else { return "" }
        return "\n\(service.name.uppercased()): " + counted.map { "\($0.key) \(Format.count($0.value))" }.joined(separator: ", ") + "\n"
    }

    private func processorTable() -> String {
        var table = TextTable([
            .numbers("VCPU"), .numbers("EXITS"), .numbers("GUEST TIME"), .numbers("VMM TIME"), .numbers("VMM%"), .numbers("KVM EXITS"),
            .numbers("UNSEEN"),
        ])
        for processor in vcpus {
            let whole = processor.guestNanoseconds &+ processor.vmmNanoseconds
            table.add([
                "\(processor.vcpu)", Format.count(processor.exitCount), Format.duration(processor.guestNanoseconds),
                Format.duration(processor.vmmNanoseconds), Format.percent(processor.vmmNanoseconds, of: whole),
                processor.kernel["exits"].map(Format.count) ?? "-", processor.unseenExits.map(Format.count) ?? "-",
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
            table.add([name, Format.count(value)])
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
        let unseen = Format.count(counted.reduce(0) { $0 &+ $1 })
        return "Not in the first table: \(unseen) exits that KVM answered by itself (page faults, interrupts, its APICs and timers,\n"
            + "CPUID, most MSRs, ioeventfd doorbells). User space cannot time them; KVM counts them by kind."
    }
}
