// SPDX-License-Identifier: Apache-2.0

package import VMMModel

internal import VMMBase

/// The view and key bindings of `symvmm top`; independent of the terminal.
package struct TopView: Sendable {
    /// The action that the command takes after a key.
    package enum Action: Sendable, Equatable {
        /// Redraw.
        case redraw
        /// Poll the VMs now.
        case poll
        /// Suspend the process, as Ctrl-Z does.
        case suspend
        /// Quit.
        case quit
    }

    private var order: TopOrder
    private var isReversed = false
    /// Name of the selected VM, whose line number can change.
    private var selected: String?
    /// Name of the VM in the detail view; nil in the list.
    private var opened: String?
    private var grouping = ExitGrouping.place
    private var showsTotal = false
    private var showsHelp = false
    private var machines: [TopMachine] = []

    /// Creates a view of the list of VMs, in this order.
    package init(order: TopOrder) {
        self.order = order
    }

    /// Replaces the VMs. Selects the first one if the selected VM has ended.
    package mutating func take(_ machines: [TopMachine]) {
        self.machines = order.sorted(machines, reversed: isReversed)
        if !machines.contains(where: { $0.summary.name == selected }) { selected = self.machines.first?.summary.name }
    }

    /// Handles a key.
    package mutating func take(_ key: TerminalKey) -> Action {
        if key == .interrupt { return .quit }
        if key == .suspend { return .suspend }
        if showsHelp {
            showsHelp = false
            return .redraw
        }
        switch key {
        case .character("h"), .character("?"): showsHelp = true
        case .character(" "): return .poll
        default: return opened == nil ? takeInList(key) : takeInMachine(key)
        }
        return .redraw
    }

    private mutating func takeInList(_ key: TerminalKey) -> Action {
        switch key {
        case .character("q"): return .quit
        case .character("r"): isReversed.toggle()
        case .character("n"): order = .name
        case .character("e"): order = .exits
        case .character("c"): order = .cpu
        case .character("v"): order = .vmm
        case .character("m"): order = .memory
        case .character("u"): order = .uptime
        case .up, .character("k"): select(-1)
        case .down, .character("j"): select(1)
        case .enter, .right: opened = selected
        default: break
        }
        take(machines)
        return .redraw
    }

    private mutating func takeInMachine(_ key: TerminalKey) -> Action {
        switch key {
        case .character("q"), .escape, .left: opened = nil
        case .character("p"): grouping = .place
        case .character("r"): grouping = .reason
        case .character("d"): grouping = .device
        case .character("a"): grouping = .address
        case .character("v"): grouping = .vcpu
        case .character("t"): grouping = .task
        case .character("s"): showsTotal.toggle()
        default: break
        }
        return .redraw
    }

    private mutating func select(_ step: Int) {
        guard let index = machines.firstIndex(where: { $0.summary.name == selected }) else { return }
        selected = machines[min(max(index + step, 0), machines.count - 1)].summary.name
    }

    // MARK: Text

    /// The screen's lines, within the terminal's size.
    package func lines(_ size: TerminalSize) -> [String] {
        if showsHelp { return size.clip(TopView.help) }
        guard let opened else { return list(size) }
        guard let machine = machines.first(where: { $0.summary.name == opened }) else {
            return framed("\(opened) has ended", "", "q: back", size)
        }
        return detail(machine, size)
    }

    private func list(_ size: TerminalSize) -> [String] {
        let rows = TopView.table(machines).split(separator: "\n").map(String.init)
        // Keep the selected line visible.
        let room = max(size.rows - 4, 1)
        let index = machines.firstIndex { $0.summary.name == selected } ?? 0
        let first = max(0, min(index - room + 1, machines.count - room))
        var shown: [String] = []
        for (number, row) in rows.dropFirst().enumerated().dropFirst(first).prefix(room) {
            let line = String(row.prefix(size.columns))
            shown.append(number == index ? "\u{1b}[7m" + line.padded(to: size.columns) + "\u{1b}[m" : line)
        }
        let title = TopView.title(machines) + ", by \(order.rawValue)\(isReversed ? " reversed" : "")"
        let heading = rows.first.map { String($0.prefix(size.columns)) } ?? ""
        var lines = [String(title.prefix(size.columns)), "", heading] + shown
        while lines.count < size.rows - 1 { lines.append("") }
        return Array(lines.prefix(max(size.rows - 1, 0)))
            + [String("Enter: one VM  n e c v m u: sort  r: reverse  h: help  q: quit".prefix(size.columns))]
    }

    private func detail(_ machine: TopMachine, _ size: TerminalSize) -> [String] {
        let keys = "p r d a v t: by \(grouping.rawValue)  s: \(showsTotal ? "since the start" : "interval")  q: back"
        guard let total = machine.total else { return framed("\(machine.summary.name) does not answer", "", keys, size) }
        let rows = max(3, size.rows - 2 * total.vcpus.count - 11)
        let text =
            showsTotal
            ? total.table(by: grouping, rowLimit: rows)
            : machine.interval?.intervalTable(by: grouping, rowLimit: rows) ?? "(waiting for the first interval)\n"
        return framed(TopView.title(of: machine), text, keys, size)
    }

    private func framed(_ title: String, _ text: String, _ keys: String, _ size: TerminalSize) -> [String] {
        var lines = size.clip(title.printable, lines: 1) + [""] + size.clip(text, lines: max(size.rows - 3, 0))
        while lines.count < size.rows - 1 { lines.append("") }
        return Array(lines.prefix(max(size.rows - 1, 0))) + [String(keys.prefix(size.columns))]
    }

    /// All VMs as plain text, for output to a pipe.
    package static func plain(_ machines: [TopMachine], order: TopOrder) -> String {
        title(machines) + "\n\n" + table(order.sorted(machines, reversed: false))
    }

    private static func title(_ machines: [TopMachine]) -> String {
        let running = machines.count { $0.summary.state == MachineState.running.rawValue }
        let rate = machines.reduce(0) { $0 + ($1.exitsPerSecond ?? 0) }
        return "symvmm top: \(machines.count) VM\(machines.count == 1 ? "" : "s"), \(running) running, \(Format.rate(rate)) exits/s"
    }

    private static func title(of machine: TopMachine) -> String {
        let summary = machine.summary
        return "\(summary.name): process \(summary.pid), \(summary.state.lowercased()), \(counted(summary.vcpuCount, "vCPU")), "
            + "\(summary.memoryMebibytes)M, up \(Format.duration(summary.uptimeNanoseconds))"
    }

    private static func table(_ machines: [TopMachine]) -> String {
        var table = TextTable([
            .text("NAME"), .numbers("PID"), .text("STATE"), .numbers("VCPUS"), .numbers("MEMORY"), .numbers("RESIDENT"), .numbers("CPU%"),
            .numbers("VMM%"), .numbers("EXITS/S"), .numbers("UPTIME"), .text("MOSTLY"), .text("TIME"),
        ])
        for machine in machines {
            let summary = machine.summary
            table.add([
                summary.name, "\(summary.pid)", summary.state, "\(summary.vcpuCount)", "\(summary.memoryMebibytes)M",
                machine.residentByteCount.map { "\($0 >> 20)M" } ?? "-", machine.processorShare.map(percent) ?? "-",
                machine.vmmShare.map(percent) ?? "-", machine.exitsPerSecond.map(Format.rate) ?? "-",
                Format.duration(summary.uptimeNanoseconds), machine.mostly ?? "", machine.interval?.budget?.bar ?? "-",
            ])
        }
        return table.text
    }

    private static func percent(_ share: Double) -> String {
        Format.percent(UInt64(min(max(share, 0), 1e6) * 1000), of: 1000)
    }

    private static let help = """
        symvmm top

        CPU%      CPU time of the VM's process, in percent of one CPU
        VMM%      time handling exits, in percent of one CPU
        EXITS/S   exits to user space per second
        MOSTLY    reason and device of most exits
        TIME      the vCPUs' time in tenths: Guest, Kvm, Vmm, halted, Stolen, Waiting, paused

        Up, down, k, j     select a VM          n  sort by name     c  by CPU%
        Enter, right       show its details     e  by EXITS/S       v  by VMM%
        Space              poll now             m  by RESIDENT      u  by UPTIME
        Ctrl-Z             suspend              r  reverse order    q  quit

        Details: by (p)lace, (r)eason, (d)evice, (a)ddress, (v)CPU or guest (t)ask;
        s: since the start, or the last interval; q, Escape, left: back

        Press any key to continue.
        """
}

extension String {
    /// Pads with spaces to a length.
    func padded(to length: Int) -> String {
        self + String(repeating: " ", count: max(0, length - count))
    }
}
