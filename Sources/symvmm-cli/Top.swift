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
        commandName: "top", abstract: "Watch all VMs, live; with Enter, one of them.",
        discussion: """
            On a terminal it takes the whole screen: h shows the keys, q ends it. Elsewhere it prints a table at each interval.

            Examples:
              symvmm top --sort cpu
              symvmm top --once --json
            """)

    /// `TopOrder`, as words.
    enum Order: String, ExpressibleByArgument, CaseIterable {
        case name, exits, cpu, vmm, memory, uptime

        var order: TopOrder { TopOrder(rawValue: rawValue) ?? .exits }
    }

    @Option(help: ArgumentHelp("Seconds between two looks.", valueName: "seconds"))
    var interval: Double = 1
    @Option(help: ArgumentHelp("By name, exits, cpu, vmm, memory or uptime.", valueName: "order"))
    var sort = Order.exits
    @Flag(help: "Print one table and end.")
    var once = false
    @Option(help: ArgumentHelp("Print so many tables and end.", valueName: "number"))
    var count: UInt64?
    @Flag(help: "Print JSON, an array a line.")
    var json = false

    func validate() throws {
        guard interval >= 0.05, interval <= 86_400 else { throw ValidationError("--interval: give 0.05 to 86400 seconds") }
        if count == 0 { throw ValidationError("--count: give 1 or more") }
        if once, count != nil { throw ValidationError("--once is --count 1: give one of them") }
    }

    func run() throws {
        if !once, count == nil, !json, isatty(STDOUT_FILENO) == 1, isatty(STDIN_FILENO) == 1 { return try live() }
        try plain(once ? 1 : count)
    }

    /// Tables one after the other.
    private func plain(_ limit: UInt64?) throws {
        let poller = try TopPoller()
        defer { poller.stop() }
        _ = poller.look()
        var moments = Interval(seconds: interval)
        var printed: UInt64 = 0
        while printed != limit {
            moments.wait()
            let machines = poller.look()
            if json {
                let bytes = try JSONText.encode(sort.order.sorted(machines, reversed: false))
                Words.output(String(decoding: bytes, as: UTF8.self) + "\n")
            } else {
                Words.output((printed == 0 ? "" : "\n") + TopView.plain(machines, order: sort.order))
            }
            printed += 1
        }
    }

    /// The whole screen, until the user or a signal ends it.
    private func live() throws {
        SignalWatcher.blockSignals()
        let looks = try TopLooks(interval: interval)
        defer { looks.stop() }
        guard var screen = TerminalScreen() else { throw ControlError.usage("top: the terminal is another's: give --once") }
        var view = TopView(order: sort.order)
        var size = screen.size
        view.take(looks.machines ?? [])
        screen.draw(view.lines(size))
        while !looks.isEnding {
            // Short, to see soon that the terminal has got another size.
            guard let keys = screen.keys(milliseconds: 100, notifier: looks.news) else { return }
            var isChanged = false
            if let machines = looks.takeNews() {
                view.take(machines)
                isChanged = true
            }
            for key in keys {
                isChanged = true
                switch view.take(key) {
                case .quit: return
                case .suspend: screen.suspend()
                case .look: looks.lookNow()
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

/// Looks at the VMs on a thread of its own, so that keys do not wait for a VM that does not answer.
private final class TopLooks: Sendable {
    private struct State {
        var machines: [TopMachine]?
        var isNew = false
        var isEnding = false
    }

    /// Raised when there is something new.
    let news: EventNotifier
    private let wake: EventNotifier
    private let state = Mutex(State())
    private let thread = Mutex<VMMBase.Thread?>(nil)

    init(interval: Double) throws {
        do {
            news = try EventNotifier(nonblocking: true)
            wake = try EventNotifier(nonblocking: true)
            let poller = try TopPoller()
            // What there is at once; the interval's figures come with the next look.
            state.withLock { $0.machines = poller.look() }
            _ = try SignalWatcher { [self] _, _ in
                state.withLock { $0.isEnding = true }
                news.signal()
                wake.signal()
            }
            // SAFETY: from here on only the new thread uses the poller.
            nonisolated(unsafe) let looker = poller
            let started = try VMMBase.Thread(name: "top") { [self] in unsafe look(looker, milliseconds: Int32(interval * 1000)) }
            thread.withLock { $0 = started }
        } catch let error as KVMError {
            throw ControlError.host(error.description)
        }
    }

    private func look(_ poller: TopPoller, milliseconds: Int32) {
        while true {
            var entry = pollfd(fd: wake.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
            // SAFETY: one entry, which outlives the call.
            _ = unsafe poll(&entry, 1, milliseconds)
            wake.drain()
            if isEnding { return poller.stop() }
            let machines = poller.look()
            state.withLock {
                $0.machines = machines
                $0.isNew = true
            }
            news.signal()
        }
    }

    var machines: [TopMachine]? { state.withLock { $0.machines } }

    var isEnding: Bool { state.withLock { $0.isEnding } }

    func takeNews() -> [TopMachine]? {
        state.withLock { state in
            defer { state.isNew = false }
            return state.isNew ? state.machines : nil
        }
    }

    func lookNow() {
        wake.signal()
    }

    func stop() {
        state.withLock { $0.isEnding = true }
        wake.signal()
        thread.withLock { $0?.join() }
    }
}
