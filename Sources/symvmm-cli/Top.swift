// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import Synchronization
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMControl
internal import VMMModel
internal import VMMPresentation

struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "Monitor all VMs live; Enter shows one of them.",
        discussion: """
            On a terminal it uses the full screen: h shows the keys, q quits. Otherwise it prints a table per interval.

            Examples:
              symvmm top --sort cpu
              symvmm top --once --json
            """)

    /// `TopOrder` as an option's values.
    enum Order: String, ExpressibleByArgument, CaseIterable {
        case name, exits, cpu, vmm, memory, uptime

        var order: TopOrder { TopOrder(rawValue: rawValue) ?? .exits }
    }

    @Option(parsing: .unconditional, help: ArgumentHelp("Seconds between two polls.", valueName: "seconds"))
    var interval: Double = 1
    @Option(help: ArgumentHelp("Sort by name, exits, cpu, vmm, memory or uptime.", valueName: "order"))
    var sort = Order.exits
    @Flag(help: "Print one table and exit.")
    var once = false
    @Option(parsing: .unconditional, help: ArgumentHelp("Print this many tables and exit.", valueName: "number"))
    var count: UInt64?
    @Flag(help: "Print one JSON array per line.")
    var json = false

    func validate() throws {
        guard interval >= 0.05, interval <= 86_400 else { throw ValidationError("--interval: give 0.05 to 86400 seconds") }
        if count == 0 { throw ValidationError("--count: give 1 or more") }
        if once, count != nil { throw ValidationError("--once cannot be combined with --count") }
    }

    func run() throws {
        if !once, count == nil, !json, isatty(STDOUT_FILENO) == 1, isatty(STDIN_FILENO) == 1 { return try live() }
        try plain(once ? 1 : count)
    }

    /// Prints tables one after the other.
    private func plain(_ limit: UInt64?) throws {
        let poller = try TopPoller()
        defer { poller.stop() }
        _ = poller.poll()
        var moments = Interval(seconds: interval)
        var printed: UInt64 = 0
        while printed != limit {
            moments.wait()
            let machines = poller.poll()
            if json {
                let bytes = try JSONText.encode(sort.order.sorted(machines, reversed: false))
                Terminal.output(String(decoding: bytes, as: UTF8.self) + "\n")
            } else {
                Terminal.output((printed == 0 ? "" : "\n") + TopView.plain(machines, order: sort.order))
            }
            printed += 1
        }
    }

    /// Shows the full screen until the user quits or a signal arrives.
    private func live() throws {
        SignalWatcher.blockSignals()
        let monitor = try TopMonitor(interval: interval)
        defer { monitor.stop() }
        guard var screen = TerminalScreen() else { throw VMMError.user("top: not in the foreground of a terminal: use --once") }
        var view = TopView(order: sort.order)
        var size = screen.size
        view.take(monitor.machines ?? [])
        screen.draw(view.lines(size))
        while !monitor.isEnding {
            // A short timeout, to detect a new size of the terminal.
            guard let keys = screen.keys(milliseconds: 100, notifier: monitor.updated) else { return }
            var isChanged = false
            if let machines = monitor.takeUpdate() {
                view.take(machines)
                isChanged = true
            }
            for key in keys {
                isChanged = true
                switch view.take(key) {
                case .quit: return
                case .suspend: screen.suspend()
                case .poll: monitor.pollNow()
                case .redraw: break
                }
            }
            let newSize = screen.size
            if newSize != size || isChanged {
                size = newSize
                screen.draw(view.lines(size))
            }
        }
        throw ExitStatus.interrupted.code
    }
}

/// Polls the VMs on its own thread, so that keys do not wait for a VM that does not answer.
private final class TopMonitor: Sendable {
    private struct State {
        var machines: [TopMachine]?
        var isNew = false
        var isEnding = false
    }

    /// Signalled when there is new data.
    let updated: EventNotifier
    private let wake: EventNotifier
    private let state = Mutex(State())
    private let thread = Mutex<VMMBase.Thread?>(nil)

    init(interval: Double) throws {
        updated = try EventNotifier(nonblocking: true)
        wake = try EventNotifier(nonblocking: true)
        let poller = try TopPoller()
        // The first poll has no interval's figures; the next one has.
        state.withLock { $0.machines = poller.poll() }
        _ = try SignalWatcher { [self] _, _, _ in
            state.withLock { $0.isEnding = true }
            updated.signal()
            wake.signal()
        }
        // SAFETY: from here on only the new thread uses the poller.
        nonisolated(unsafe) let threadPoller = poller
        let started = try VMMBase.Thread(.command, "top") { [self] in unsafe run(threadPoller, milliseconds: Int32(interval * 1000)) }
        thread.withLock { $0 = started }
    }

    private func run(_ poller: TopPoller, milliseconds: Int32) {
        while true {
            var entry = pollfd(fd: wake.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
            // SAFETY: one entry, which outlives the call.
            _ = unsafe poll(&entry, 1, milliseconds)
            wake.drain()
            if isEnding { return poller.stop() }
            let machines = poller.poll()
            state.withLock {
                $0.machines = machines
                $0.isNew = true
            }
            updated.signal()
        }
    }

    var machines: [TopMachine]? { state.withLock { $0.machines } }

    var isEnding: Bool { state.withLock { $0.isEnding } }

    func takeUpdate() -> [TopMachine]? {
        state.withLock { state in
            defer { state.isNew = false }
            return state.isNew ? state.machines : nil
        }
    }

    func pollNow() {
        wake.signal()
    }

    func stop() {
        state.withLock { $0.isEnding = true }
        wake.signal()
        thread.withLock { $0?.join() }
    }
}
