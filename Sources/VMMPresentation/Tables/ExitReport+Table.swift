// SPDX-License-Identifier: Apache-2.0

package import VMMModel

internal import VMMBase

extension ExitReport {
    /// The report as text: exits by group, the vCPUs' time, and further statistics.
    ///
    /// - Parameters:
    ///   - grouping: how exits are grouped. For `place` and `vcpu`, the counters of KVM, of the symbiotic interface and of its services follow.
    ///   - rowLimit: maximum number of rows of exits; one more row sums up the rest.
    package func table(by grouping: ExitGrouping = .place, rowLimit: Int = 40) -> String {
        if grouping == .task { return taskTable(rowLimit: rowLimit) }
        var text = title + "\n\n" + budgetTable() + exitTable(by: grouping, rowLimit: rowLimit) + "\n" + processorTable()
        if grouping == .place || grouping == .vcpu {
            let kernel = kernelTable()
            if !kernel.isEmpty { text += "\n" + kernel }
            let symbiotic = symbioticTable()
            if !symbiotic.isEmpty { text += "\n" + symbiotic }
            for service in services ?? [] { text += ExitReport.serviceLine(service) }
        }
        return text + "\n" + inKernelLine() + "\n"
    }

    /// An interval report, made by `since(_:)`, as text with rates.
    package func intervalTable(by grouping: ExitGrouping = .place, rowLimit: Int = 40) -> String {
        let exits =
            grouping == .task
            ? taskTable(rowLimit: rowLimit, rates: true) : exitTable(by: grouping, rowLimit: rowLimit, rates: true)
        let rate = Format.rate(exitCount, in: countedNanoseconds)
        let title = "\(name.printable): \(Format.count(exitCount)) exits to user space in \(Format.duration(countedNanoseconds))"
        return "\(title), \(rate) per second\n\n" + budgetTable() + exits + "\n" + processorTable()
    }

    private var title: String {
        let reset = resetNanoseconds == nil ? "" : " since the reset"
        return "\(name.printable): \(Format.count(exitCount)) exits to user space in \(Format.duration(countedNanoseconds))\(reset)"
    }

    private static func serviceLine(_ service: CounterGroup) -> String {
        let counted = service.counters.filter { $0.value > 0 }.sorted { $0.key < $1.key }
        guard !counted.isEmpty else { return "" }
        let values = counted.map { "\($0.key.printable) \(Format.count($0.value))" }
        return "\n\(service.name.printable.uppercased()): " + values.joined(separator: ", ") + "\n"
    }

    private func processorTable() -> String {
        var table = TextTable([
            .numbers("VCPU"), .numbers("EXITS"), .numbers("GUEST TIME"), .numbers("VMM TIME"), .numbers("VMM%"), .numbers("KVM EXITS"),
            .numbers("IN-KERNEL"),
        ])
        for processor in vcpus {
            let whole = processor.guestNanoseconds &+ processor.vmmNanoseconds
            table.add([
                "\(processor.vcpu)", Format.count(processor.exitCount), Format.duration(processor.guestNanoseconds),
                Format.duration(processor.vmmNanoseconds), Format.percent(processor.vmmNanoseconds, of: whole),
                processor.kernel["exits"].map(Format.count) ?? "-", processor.inKernelExits.map(Format.count) ?? "-",
            ])
        }
        return table.text
    }

    /// KVM's non-zero counters, summed over the vCPUs, in descending order; empty if the kernel has none.
    private func kernelTable() -> String {
        var sums: [String: UInt64] = [:]
        for processor in vcpus { sums.merge(processor.kernel) { $0 &+ $1 } }
        let shown = sums.filter { $0.value > 0 && ($0.key == "exits" || $0.key.hasSuffix("_exits") || ExitReport.causes.contains($0.key)) }
        guard !shown.isEmpty else { return "" }
        var table = TextTable([.text("KVM COUNTER"), .numbers("ALL VCPUS")])
        for (name, value) in shown.sorted(by: { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }) {
            table.add([name, Format.count(value)])
        }
        return table.text
    }

    /// Further counters to show: they explain exits, but their names do not end with `_exits` (arch/x86/kvm/x86.c, kvm_vcpu_stats_desc).
    private static let causes: Set<String> = [
        "pf_fixed", "pf_guest", "pf_emulate", "pf_spurious", "pf_fast", "pf_mmio_spte_created", "tlb_flush", "insn_emulation",
        "insn_emulation_fail", "hypercalls", "irq_injections", "nmi_injections", "preemption_reported",
    ]

    private func inKernelLine() -> String {
        let counted = vcpus.compactMap(\.inKernelExits)
        guard !counted.isEmpty else {
            return "Not in this table: exits that KVM handles in the kernel. This kernel does not count them."
        }
        let inKernel = Format.count(counted.reduce(0) { $0 &+ $1 })
        return "Not in the first table: \(inKernel) exits that KVM handled in the kernel (page faults, interrupts, APIC and timers,\n"
            + "CPUID, most MSRs, ioeventfd doorbells). User space cannot time them; KVM counts them by kind."
    }
}
