// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase
package import VMMModel

internal import Synchronization
internal import VMMAPI
internal import VMMPresentation

/// The VM of this process: first its configuration, which the API changes, then the machine that was made of it.
///
///     configuring -- start --> starting -- built and running --> running -- the run's end --> ended
///          ^                      |
///          +------ an error ------+
///
/// Any thread may call it.
package final class MachineHost: MachineControl {
    /// Makes a machine; nothing runs yet. The limit ends it when the VM is killed meanwhile.
    package typealias Builder = @Sendable (LaunchConfiguration, ConsoleOutput, LoadingLimit) throws(ControlError) -> any MachineControl

    private enum Stage {
        case configuring
        case starting
        case running
        case ended
    }

    private struct Life {
        var resources: MachineResources
        var stage: Stage
        var isKilled = false
        var outline: MachineConfiguration
        var machine: (any MachineControl)?
        var console: ConsoleBackend?
    }

    /// The log of `PUT /logger`.
    let log: EventLog
    private let build: Builder
    private let tell: @Sendable (String) -> Void
    private let left = Atomic<Bool>(false)
    private let life: Mutex<Life>
    private let metrics = Mutex<MetricsWriter?>(nil)
    /// Raised when there is a machine to wait for, or will never be one.
    private let begun: EventNotifier

    /// A VM that is not yet there.
    ///
    /// - Parameters:
    ///   - tell: tells the user in a line where a pseudo-terminal is, or what is to be known of the machine.
    package init(_ resources: MachineResources, tell: @escaping @Sendable (String) -> Void = { _ in }, build: @escaping Builder)
        throws(ControlError)
    {
        self.build = build
        self.tell = tell
        log = EventLog(name: resources.name)
        do throws(KVMError) {
            begun = try EventNotifier()
            if let logger = resources.logger { try log.configure(logger) }
        } catch {
            throw .host(error.description)
        }
        life = Mutex(Life(resources: resources, stage: .configuring, outline: resources.outline))
    }

    // MARK: Configuration

    /// The resources as they are now.
    var resources: MachineResources {
        life.withLock { $0.resources }
    }

    /// Changes the configuration of a machine that is not yet there; all of the change or, on an error, nothing.
    func configure(_ change: (inout MachineResources) throws(ControlError) -> Void) throws(ControlError) {
        let result: Result<Void, ControlError> = life.withLock { life in
            guard life.stage == .configuring else { return .failure(MachineHost.tooLate) }
            do throws(ControlError) {
                var changed = life.resources
                try change(&changed)
                life.resources = changed
                life.outline = changed.outline
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// Takes a new place for the log, at any time.
    func configureLogger(_ fields: JSONFields) throws(ControlError) {
        var changed = resources
        try changed.setLogger(fields)
        guard let logger = changed.logger else { return }
        do throws(KVMError) {
            try log.configure(logger)
        } catch {
            throw .usage("log_path: \(error)")
        }
        life.withLock { $0.resources.logger = logger }
    }

    /// Takes the place for metrics, once and before the start.
    func configureMetrics(_ fields: JSONFields) throws(ControlError) {
        var changed = resources
        try changed.setMetrics(fields)
        guard metrics.withLock({ $0 == nil }) else { throw .usage("the metrics have been given a place already") }
        guard let path = changed.metricsPath else { return }
        try openMetrics(path)
        life.withLock { $0.resources.metricsPath = path }
    }

    /// Opens the place that the configuration names, if it names one.
    func openMetrics() throws(ControlError) {
        guard let path = resources.metricsPath else { return }
        try openMetrics(path)
    }

    private func openMetrics(_ path: String) throws(ControlError) {
        do throws(KVMError) {
            let writer = try MetricsWriter(path: path) { [weak self] in self?.machine }
            metrics.withLock { $0 = writer }
        } catch {
            throw .usage("metrics_path: \(error)")
        }
    }

    /// Writes a line of metrics now.
    func flushMetrics() throws(ControlError) {
        guard let writer = metrics.withLock({ $0 }) else { throw .usage("there is no place for metrics: give one with PUT /metrics") }
        guard machine != nil else { throw .usage("there are no metrics yet: the VM has not been started") }
        do throws(KVMError) {
            try writer.flush()
        } catch {
            throw .usage("metrics: \(error)")
        }
    }

    /// A change of the configuration came after the start.
    package static let tooLate: ControlError = .usage("the VM has been started: its configuration cannot be changed any more")

    // MARK: Life

    /// Builds the machine of the configuration and lets it begin. On an error the configuration may be mended and the start tried again.
    package func start() throws(MachineError) {
        let resources: MachineResources? = life.withLock { life in
            guard life.stage == .configuring else { return nil }
            life.stage = .starting
            return life.resources
        }
        guard let resources else { throw MachineError(.configuration, "the VM has been started") }
        do throws(ControlError) {
            try launch(resources)
        } catch {
            life.withLock { $0.stage = .configuring }
            begun.signal()
            log.write(.error, "the VM does not start: \(error)")
            throw MachineError(error.kind == .usage ? .configuration : .host, error.message)
        }
        log.write(.info, "the VM has started")
        begun.signal()
    }

    /// Builds and starts. Only one thread is here at a time: the stage says so.
    private func launch(_ resources: MachineResources) throws(ControlError) {
        let launch = try resources.launch()
        let console: ConsoleBackend
        do throws(KVMError) {
            console = try ConsoleBackend(launch.machine.console)
        } catch {
            throw .usage("console: \(error)")
        }
        // Also on an error: it has a thread.
        var isStarted = false
        defer { if !isStarted { console.stop() } }
        if let path = console.pseudoTerminalPath { tell("the console is \(path)") }
        let machine = try build(launch, console.output, LoadingLimit { [weak self] in self?.wasKilled ?? true })
        do throws(KVMError) {
            try console.start(receive: { [weak machine] in machine?.receive($0) ?? true }, leave: { [weak self] in self?.leave() })
        } catch {
            throw .host(error.description)
        }
        do throws(MachineError) {
            try machine.start()
        } catch {
            throw ControlError(error)
        }
        isStarted = true
        for warning in machine.warnings {
            log.write(.warning, warning)
            tell(warning)
        }
        let isKilled = life.withLock { life in
            life.machine = machine
            life.console = console
            life.stage = .running
            life.outline = launch.machine
            return life.isKilled
        }
        if isKilled { machine.kill() }
    }

    /// Whether the user ended the VM at its console.
    var wasLeft: Bool {
        left.load(ordering: .acquiring)
    }

    private func leave() {
        left.store(true, ordering: .releasing)
        kill()
    }

    /// Whether the VM is to end, or was never to begin.
    package var wasKilled: Bool {
        life.withLock { $0.isKilled }
    }

    /// Ends the run, the wait for one, or the loading of its files.
    package func kill() {
        let machine = life.withLock { life in
            life.isKilled = true
            return life.machine
        }
        machine?.kill()
        begun.signal()
    }

    /// Waits for the end of the run: of a machine that may still have to be configured and started. Killed before: `.killed`.
    package func wait() -> TerminationReason {
        while true {
            let (machine, isOver) = life.withLock { life -> ((any MachineControl)?, Bool) in
                let isOver = life.machine == nil && life.isKilled && life.stage != .starting
                if isOver { life.stage = .ended }
                return (life.machine, isOver)
            }
            if let machine {
                let outcome = machine.wait()
                life.withLock { $0.stage = .ended }
                log.write(.info, "the VM has ended: \(outcome.words)")
                return outcome
            }
            if isOver { return .killed }
            begun.drain()
        }
    }

    /// Writes what is left of the console's output and of the metrics, and restores the terminal. May be called more than once.
    func finish() {
        life.withLock { $0.console }?.stop()
        metrics.withLock { $0 }?.stop()
    }

    /// Bytes that the guest wrote and nobody took.
    var droppedConsoleByteCount: UInt64 {
        life.withLock { $0.console }?.droppedByteCount ?? 0
    }

    // MARK: The machine

    /// The machine; nil before it has begun.
    var machine: (any MachineControl)? {
        life.withLock { $0.machine }
    }

    /// What the machine is made of, or is to be made of so far.
    package var configuration: MachineConfiguration {
        life.withLock { $0.outline }
    }

    /// Where the VM is in its life; `notStarted` while it is configured.
    package var state: MachineState {
        let (machine, stage) = life.withLock { ($0.machine, $0.stage) }
        if let machine { return machine.state }
        return stage == .ended ? .ended : .notStarted
    }

    /// Holds the vCPUs; nothing happens without a machine.
    package func pause() {
        machine?.pause()
        log.write(.info, "the VM is paused")
    }

    /// Lets held vCPUs go on.
    package func resume() {
        machine?.resume()
        log.write(.info, "the VM goes on")
    }

    /// Presses the power button; false when nothing will come of it.
    package func requestPowerOff() -> Bool {
        machine?.requestPowerOff() ?? false
    }

    /// The exits so far; none without a machine.
    package func exitStatistics() -> ExitStatistics {
        machine?.exitStatistics() ?? ExitStatistics(uptimeNanoseconds: 0, rows: [], processors: [])
    }

    /// Hands a byte of the console's input to the guest.
    package func receive(_ byte: UInt8) -> Bool {
        machine?.receive(byte) ?? true
    }

    /// Puts another file behind a drive of the running guest.
    package func replaceFile(ofDrive id: String, with path: String) throws(MachineError) {
        guard let machine else { throw MachineError(.configuration, "the VM has not been started") }
        try machine.replaceFile(ofDrive: id, with: path)
        life.withLock { life in
            guard let index = life.resources.drives.firstIndex(where: { $0.id == id }) else { return }
            life.resources.drives[index].path = path
            life.outline.drives = life.outline.drives.map { drive in
                var drive = drive
                if drive.id == id { drive.path = path }
                return drive
            }
        }
        log.write(.info, "drive \(id): its file is now \(path)")
        for warning in machine.warnings { log.write(.warning, warning) }
    }
}
