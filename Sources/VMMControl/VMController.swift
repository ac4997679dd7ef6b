// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase
package import VMMModel
package import VMMSandbox

internal import Logging
internal import Synchronization
internal import VMMAPI
internal import VMMMetadata
internal import VMMPresentation
internal import VMMSymMod

/// Controls the VM of this process: first the configuration, which the API can change, then the machine built from it.
///
///     configuring -- start --> starting -- built and running --> running -- the run's end --> ended
///          ^                      |
///          +------ an error ------+
///
/// Thread-safe.
package final class VMController: MachineControl {
    /// Builds a machine without starting it. The `LoadingLimit` stops the loading of files when the VM is killed.
    package typealias Builder = @Sendable (LaunchConfiguration, ConsoleOutput, LoadingLimit) throws(VMMError) -> any MachineControl

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

    /// The log of `PUT /logger`, and the logger that writes to it.
    let eventLog: EventLog
    let log: Logger
    /// Confines the threads; nil without a sandbox.
    let sandbox: Sandbox?
    private let build: Builder
    private let notify: @Sendable (String) -> Void
    private let left = Atomic<Bool>(false)
    private let life: Mutex<Life>
    private let metrics = Mutex<MetricsWriter?>(nil)
    /// Signalled after each start, successful or not, and by `kill()`. `wait()` waits for it.
    private let begun: EventNotifier

    /// Creates the controller; there is no machine yet.
    ///
    /// - Parameters:
    ///   - resources: the configuration.
    ///   - sandbox: confines the threads; nil without a sandbox.
    ///   - notify: prints a line for the user: the path of a pseudo-terminal, warnings about the machine.
    ///   - build: builds the machine when it is started.
    package init(
        _ resources: MachineResources, sandbox: Sandbox? = nil, notify: @escaping @Sendable (String) -> Void = { _ in },
        build: @escaping Builder
    ) throws(VMMError) {
        self.sandbox = sandbox
        self.build = build
        self.notify = notify
        style = resources.style
        metadata = MetadataStore(byteLimit: resources.metadataByteLimit)
        if let configuration = resources.metadata {
            metadata.configure(version: configuration.version, isPlainAlways: configuration.isPlainAlways)
        }
        eventLog = EventLog(name: resources.name)
        log = eventLog.logger
        begun = try EventNotifier()
        if let logger = resources.logger { try VMController.apply(logger, to: eventLog) }
        life = Mutex(Life(resources: resources, stage: .configuring, outline: resources.outline))
    }

    /// The data of the metadata service.
    let metadata: MetadataStore
    /// Whose API the server speaks. Does not change.
    let style: APIStyle

    // MARK: Configuration

    /// The current configuration.
    var resources: MachineResources {
        life.withLock { $0.resources }
    }

    /// Changes the configuration before the start. On an error nothing changes.
    func configure(_ change: (inout MachineResources) throws(VMMError) -> Void) throws(VMMError) {
        let result: Result<Void, VMMError> = life.withLock { life in
            guard life.stage == .configuring else { return .failure(VMController.tooLate) }
            do throws(VMMError) {
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

    /// Changes the log's file or level. Allowed at any time.
    func configureLogger(_ received: Received<LoggerResource>) throws(VMMError) {
        var changed = resources
        try changed.setLogger(received)
        guard let logger = changed.logger else { return }
        if let path = received.path {
            do throws(VMMError) {
                try sandbox?.checkPath(path)
            } catch {
                throw error.of("log_path")
            }
        }
        try VMController.apply(logger, to: eventLog)
        life.withLock { $0.resources.logger = logger }
    }

    private static func apply(_ logger: LoggerConfiguration, to log: EventLog) throws(VMMError) {
        do throws(VMMError) {
            try log.configure(logger)
        } catch {
            throw error.of("log_path", .user)
        }
    }

    /// Sets which interfaces answer for the metadata service, and how. Before the start.
    func configureMetadata(_ received: Received<MetadataConfigResource>) throws(VMMError) {
        try configure { (resources) throws(VMMError) in try resources.setMetadata(received) }
        guard let configuration = resources.metadata else { return }
        metadata.configure(version: configuration.version, isPlainAlways: configuration.isPlainAlways)
    }

    /// Puts the contents of a file into the metadata service: `--metadata`.
    package func loadMetadata(_ path: String) throws(VMMError) {
        do throws(VMMError) {
            try metadata.load(SmallFile.read(path, atMost: 1 << 20), from: path)
        } catch {
            throw error.of("--metadata", .user)
        }
    }

    /// Sets the metrics file, once, before the start.
    func configureMetrics(_ received: Received<MetricsResource>) throws(VMMError) {
        var changed = resources
        try changed.setMetrics(received)
        guard metrics.withLock({ $0 == nil }) else { throw .user("metrics_path is set already") }
        guard let configuration = changed.metrics else { return }
        try openMetrics(configuration)
        life.withLock { $0.resources.metrics = configuration }
    }

    /// Opens the metrics file of the configuration, if there is one.
    func openMetrics() throws(VMMError) {
        guard let configuration = resources.metrics else { return }
        try openMetrics(configuration)
    }

    private func openMetrics(_ configuration: MetricsConfiguration) throws(VMMError) {
        do throws(VMMError) {
            var configuration = configuration
            configuration.hasAllGroups = style == .firecracker
            let writer = try MetricsWriter(configuration) { [weak self] in self?.machine }
            metrics.withLock { $0 = writer }
        } catch {
            throw error.of("metrics_path", .user)
        }
    }

    /// Writes a metrics line.
    func flushMetrics() throws(VMMError) {
        guard let writer = metrics.withLock({ $0 }) else { throw .user("metrics_path is not set: use PUT /metrics before the start") }
        guard machine != nil else { throw .user("no metrics yet: the VM has not been started") }
        do throws(VMMError) {
            try writer.flush()
        } catch {
            throw error.of("metrics", .user)
        }
    }

    /// The error for a configuration change after the start.
    package static let tooLate: VMMError = .user("the VM has been started: its configuration can no longer be changed")

    // MARK: Life

    /// Builds and starts the machine. After an error, callers can change the configuration and call it again.
    package func start() throws(VMMError) {
        let resources: MachineResources? = life.withLock { life in
            guard life.stage == .configuring else { return nil }
            life.stage = .starting
            return life.resources
        }
        guard let resources else { throw .user("the VM has been started") }
        do throws(VMMError) {
            try launch(resources)
        } catch {
            life.withLock { $0.stage = .configuring }
            begun.signal()
            log.error("start failed: \(error)")
            throw error
        }
        log.info("VM started")
        // The first line: all groups, so that a reader knows them. Without a reader it is dropped, like any other.
        _ = try? metrics.withLock { $0 }?.flush()
        begun.signal()
    }

    /// Builds and starts the machine. Only one thread runs this: `start()` has set the stage.
    private func launch(_ resources: MachineResources) throws(VMMError) {
        var launch = try resources.launch()
        launch.metadataStore = metadata
        let outline = launch.machine
        let loading = LoadingLimit { [weak self] in self?.wasKilled ?? true }
        if launch.symbioticModule != .none { try bringModule(to: &launch, loading) }
        log.log(level: sandbox == nil ? .warning : .info, "\(sandbox?.summary ?? "the sandbox is off")")
        sandbox?.allow(resources.allowedPlaces)
        let console: ConsoleBackend
        do throws(VMMError) {
            console = try ConsoleBackend(launch.machine.console)
        } catch {
            throw error.of("console", .user)
        }
        // Stop the console after an error: it has a thread.
        var isStarted = false
        defer { if !isStarted { console.stop() } }
        if let path = console.pseudoTerminalPath { notify("the console is \(path)") }
        let machine = try build(launch, console.output, loading)
        try console.start(receive: { [weak machine] in machine?.receive($0) ?? true }, leave: { [weak self] in self?.leave() })
        try machine.start()
        isStarted = true
        for warning in machine.warnings {
            log.warning("\(warning)")
            notify(warning)
        }
        let isKilled = life.withLock { life in
            life.machine = machine
            life.console = console
            life.stage = .running
            life.outline = outline
            return life.isKilled
        }
        if isKilled { machine.kill() }
    }

    /// Adds the module for the guest's kernel, and says which.
    private func bringModule(to launch: inout LaunchConfiguration, _ loading: LoadingLimit) throws(VMMError) {
        let preparation = try SymMod.prepare(launch.machine, isRequired: launch.symbioticModule == .require, limit: loading)
        launch.machine = preparation.machine
        log.log(level: preparation.bringsModule ? .info : .warning, "\(preparation.line)")
        notify(preparation.line)
    }

    /// Whether the user killed the VM at its console.
    var wasLeft: Bool {
        left.load(ordering: .acquiring)
    }

    private func leave() {
        left.store(true, ordering: .releasing)
        kill()
    }

    /// Whether the VM was killed, even before its start.
    package var wasKilled: Bool {
        life.withLock { $0.isKilled }
    }

    /// Kills the VM: ends the run, the wait for a start, or the loading of its files. Does not wait.
    package func kill() {
        let machine = life.withLock { life in
            life.isKilled = true
            return life.machine
        }
        machine?.kill()
        begun.signal()
    }

    /// Waits for the start, if the machine has not been started, then until the run ends. Returns `.killed` if the VM is killed before its
    /// start.
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
                log.info("VM ended: \(outcome.summary)")
                return outcome
            }
            if isOver { return .killed }
            begun.drain()
        }
    }

    /// Flushes console output and metrics, and restores the terminal. Idempotent.
    func finish() {
        life.withLock { $0.console }?.stop()
        metrics.withLock { $0 }?.stop()
    }

    /// Number of dropped bytes of console output.
    var droppedConsoleByteCount: UInt64 {
        life.withLock { $0.console }?.droppedByteCount ?? 0
    }

    // MARK: The machine

    /// The machine; nil before the start.
    var machine: (any MachineControl)? {
        life.withLock { $0.machine }
    }

    /// The machine's configuration; before the start, the current one.
    package var configuration: MachineConfiguration {
        life.withLock { $0.outline }
    }

    /// The VM's state; `notStarted` until the machine is built.
    package var state: MachineState {
        let (machine, stage) = life.withLock { ($0.machine, $0.stage) }
        if let machine { return machine.state }
        return stage == .ended ? .ended : .notStarted
    }

    /// Pauses the vCPUs; returns when all of them wait. False without a machine that is paused then.
    @discardableResult
    package func pause() -> Bool {
        let before = state
        guard machine?.pause() == true else { return false }
        if before == .running { log.info("VM paused") }
        return true
    }

    /// Resumes the vCPUs. False without a machine that was paused.
    @discardableResult
    package func resume() -> Bool {
        guard machine?.resume() == true else { return false }
        log.info("VM resumed")
        return true
    }

    /// Warnings about the machine, one line each; empty without a machine.
    package var warnings: [String] {
        machine?.warnings ?? []
    }

    /// Presses the power button. False if the guest has not enabled it.
    package func requestPowerOff() -> Bool {
        machine?.requestPowerOff() ?? false
    }

    /// The exit statistics; empty without a machine.
    package func exitStatistics() -> ExitStatistics {
        machine?.exitStatistics() ?? ExitStatistics(uptimeNanoseconds: 0, rows: [], vcpus: [])
    }

    /// Passes a byte of console input to the guest; false if the serial port's FIFO is full. Drops the byte without a machine.
    package func receive(_ byte: UInt8) -> Bool {
        machine?.receive(byte) ?? true
    }

    /// Changes the devices in the configuration, which the machine has changed already.
    func changeDevices(_ change: (inout [DriveConfiguration], inout [NetworkInterfaceConfiguration]) -> Void) {
        life.withLock { life in
            change(&life.resources.drives, &life.resources.networkInterfaces)
            change(&life.outline.drives, &life.outline.networkInterfaces)
        }
    }

    /// Measures the file of a drive anew while the guest runs, and notifies the guest of its size. Throws an error before the start.
    func measureFile(ofDrive id: String) throws(VMMError) {
        guard let machine else { throw .user("the VM has not been started") }
        guard let drive = resources.drives.first(where: { $0.id == id }) else { throw .user("there is no drive '\(id)'") }
        try machine.replaceFile(ofDrive: id, with: drive.path)
        log.info("drive \(id): file measured")
    }

    /// Replaces the file of a drive while the guest runs. Throws an error before the start.
    package func replaceFile(ofDrive id: String, with path: String) throws(VMMError) {
        guard let machine else { throw .user("the VM has not been started") }
        do throws(VMMError) {
            try sandbox?.checkPath(path)
        } catch {
            throw error.of("drive '\(id)'")
        }
        try machine.replaceFile(ofDrive: id, with: path)
        changeDevices { drives, _ in
            for index in drives.indices where drives[index].id == id { drives[index].path = path }
        }
        log.info("drive \(id): file replaced by \(path)")
        for warning in machine.warnings { log.warning("\(warning)") }
    }
}
