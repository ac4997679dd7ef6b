// SPDX-License-Identifier: Apache-2.0

package import VMMModel

/// What `symvmm top` shows and how it takes keys; knows no terminal.
package struct TopView: Sendable {
    /// What the command has to do after a key.
    package enum Action: Sendable, Equatable {
        /// Draw again.
        case redraw
        /// Look at the VMs now.
        case look
        /// Stop as Ctrl-Z does.
        case suspend
        /// End.
        case quit
    }

    private var order: TopOrder
    private var isReversed = false
    /// The VM whose line is marked, by name: its line moves.
    private var selected: String?
    /// The VM that is shown alone.
    private var opened: String?
    private var grouping = ExitGrouping.place
    private var showsTotal = false
    private var showsHelp = false
    private var machines: [TopMachine] = []

    /// Shows all VMs in this order.
    package init(order: TopOrder) {
        self.order = order
    }

    /// Takes what was looked at.
    package mutating func take(_ machines: [TopMachine]) {
        self.machines = order.sorted(machines, reversed: isReversed)
        if !machines.contains(where: { $0.summary.name == selected }) { selected = self.machines.first?.summary.name }
    }

    /// Takes a key.
    package mutating func take(_ key: TerminalKey) -> Action {
        if key == .interrupt { return .quit }
        if key == .suspend { return .suspend }
        if showsHelp {
            showsHelp = false
            return .redraw
        }
        switch key {
        case .character("h"), .character("?"): showsHelp = true
        case .character(" "): return .look
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

    /// The screen: as many lines as the terminal has, at most as long as it is wide.
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
        // The marked line stays in sight.
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
        let keys = "p r d a v t: by \(grouping.rawValue)  s: \(showsTotal ? "since the start" : "now")  q: back"
        guard let total = machine.total else { return framed("\(machine.summary.name) does not answer", "", keys, size) }
        let rows = max(3, size.rows - total.vcpus.count - 9)
        let text =
            showsTotal
            ? total.table(by: grouping, rowLimit: rows)
            : machine.interval?.intervalTable(by: grouping, rowLimit: rows) ?? "(one moment)\n"
        return framed(TopView.title(of: machine), text, keys, size)
    }

    private func framed(_ title: String, _ text: String, _ keys: String, _ size: TerminalSize) -> [String] {
        var lines = size.clip(title, lines: 1) + [""] + size.clip(text, lines: max(size.rows - 3, 0))
        while lines.count < size.rows - 1 { lines.append("") }
        return Array(lines.prefix(max(size.rows - 1, 0))) + [String(keys.prefix(size.columns))]
    }

    /// All VMs as plain text: the mode for a pipe.
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
        return "\(summary.name): process \(summary.pid), \(summary.state.lowercased()), \(summary.vcpuCount) vCPUs, "
            + "\(summary.memoryMebibytes)M, up \(Format.duration(summary.uptimeNanoseconds))"
    }

    private static func table(_ machines: [TopMachine]) -> String {
        var table = TextTable([
            .words("NAME"), .numbers("PID"), .words("STATE"), .numbers("VCPUS"), .numbers("MEMORY"), .numbers("RESIDENT"), .numbers("CPU%"),
            .numbers("VMM%"), .numbers("EXITS/S"), .numbers("UPTIME"), .words("MOSTLY"),
        ])
        for machine in machines {
            let summary = machine.summary
            table.add([
                summary.name, "\(summary.pid)", summary.state, "\(summary.vcpuCount)", "\(summary.memoryMebibytes)M",
                machine.residentByteCount.map { "\($0 >> 20)M" } ?? "-", machine.processorShare.map(percent) ?? "-",
                machine.vmmShare.map(percent) ?? "-", machine.exitsPerSecond.map(Format.rate) ?? "-",
                Format.duration(summary.uptimeNanoseconds), machine.mostly ?? "",
            ])
        }
        return table.text
    }

    private static func percent(_ share: Double) -> String {
        Format.percent(UInt64(min(max(share, 0), 1e6) * 1000), of: 1000)
    }

    private static let help = """
        symvmm top

        CPU%      processor time of the VM's process, in percent of one processor
        VMM%      time answering exits, in percent of one processor
        EXITS/S   exits to user space a second
        MOSTLY    from where most of them came

        Up, down, k, j     mark a VM            n  by name          c  by CPU%
        Enter, right       show it alone        e  by EXITS/S       v  by VMM%
        Space              look now             m  by RESIDENT      u  by UPTIME
        Ctrl-Z             stop for a while     r  reverse          q  quit

        One VM alone: by (p)lace, (r)eason, (d)evice, (a)ddress, (v)CPU or guest's (t)ask;
        s: since the start, or now; q, Escape, left: back

        Any key goes on.
        """
}

extension String {
    /// With spaces at the end, so that it is so long.
    func padded(to length: Int) -> String {
        self + String(repeating: " ", count: max(0, length - count))
    }
}
