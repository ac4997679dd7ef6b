// SPDX-License-Identifier: Apache-2.0

public import VMMBase
public import VMMModel

internal import Synchronization

/// A virtual machine: its memory, devices and vCPUs, and its life cycle. Any thread.
public final class VirtualMachine: Sendable {
    /// The configuration that it was made with.
    public let configuration: MachineConfiguration
    /// The guest's memory.
    public let memory: GuestMemory
    let serial: Serial8250

    let handle: KVMVirtualMachine
    let processors: [VCPU]
    /// The symbiotic interface; nil when the guest is not offered one.
    let symbiotic: SymbioticInterface?
    private let watchdog: SymCallWatchdog?
    let virtio: [VirtioTransport]
    /// The symbiotic services, from `init`.
    package let services: [SymbioticService]
    /// Allocates the services' windows and memory slots.
    let resources: Mutex<ResourceAllocator>
    let ioThread: IOThread
    private let powerManagement: PowerManagement
    private let keyboard: KeyboardController?
    let ending: TerminationLatch
    let clock = TickClock()
    let life = Mutex(Life())
    /// Held while a query of the guest uses the shared buffer.
    let guestQueries = Mutex(())

    /// The end of the run: the first caller of `wait()` joins the threads and ends the services, the others wait for it.
    private enum Teardown {
        case notBegun, begun, done
    }

    private let teardown = Monitor(Teardown.notBegun)
    /// Longest time for the vCPUs to stop, in nanoseconds.
    private static let pauseTimeout: UInt64 = 20_000_000_000

    struct Life {
        var state = MachineState.notStarted
        /// Number of the pause whose vCPUs have not all stopped yet; nil if there is none. The state is still `running` then.
        var parking: UInt64?
        var pauses: UInt64 = 0
        /// The vCPUs' threads, by vCPU, while they run.
        var threads: [Thread] = []
        /// The devices are suspended, because the state was saved or restored. They resume with the vCPUs.
        var hasSuspendedDevices = false
    }

    /// Makes a machine of its parts (VirtualMachine+Assembly.swift).
    init(_ parts: consuming Parts) {
        configuration = parts.configuration
        memory = parts.memory
        serial = parts.buses.serial
        powerManagement = parts.buses.powerManagement
        keyboard = parts.buses.keyboard
        virtio = parts.buses.virtio
        services = parts.services
        ioThread = parts.buses.ioThread
        symbiotic = parts.symbiotic?.interface
        watchdog = parts.symbiotic?.watchdog
        ending = parts.ending
        processors = parts.processors
        handle = parts.handle
        resources = Mutex(parts.buses.resources)
    }

    // MARK: Life cycle

    /// The machine's state.
    public var state: MachineState {
        life.withLock { $0.state }
    }

    /// Makes the remaining threads, then starts the vCPUs: no thread is made after the first vCPU runs. Only the first call has an effect.
    public func start() throws(VMMError) {
        // Holds the vCPUs' threads until all threads of the machine exist.
        let isOpen = Monitor(false)
        let failure = life.withLock { life -> VMMError? in
            guard life.state == .notStarted else { return nil }
            life.state = .running
            do throws(VMMError) {
                try ioThread.start()
                resumeDevices(&life)
                for processor in processors {
                    let thread = try Thread(.vcpu, "\(processor.index)", preparing: { processor.clock.begin() }) {
                        isOpen.wait { $0 ? true : nil }
                        processor.run()
                    }
                    life.threads.append(thread)
                }
                try watchdog?.start(Array(zip(processors, life.threads)))
                try ThreadConfinement.current?.seal()
            } catch {
                for processor in processors { processor.requestEnd() }
                return error
            }
            return nil
        }
        isOpen.update { $0 = true }
        guard let failure else { return }
        kill()
        _ = wait()
        throw VMMError(.host, failure.description)
    }

    /// Pauses all vCPUs, and returns when each has stopped between two exits. No lock is held meanwhile: other threads can end the machine or read its
    /// state. A vCPU stops late if it waits for the host, for instance in the reset of a disk.
    ///
    /// - Returns: whether the machine is paused. False if it does not run, has ended, or another thread has resumed it; or if a vCPU has not stopped
    ///   within 20 seconds: then all continue.
    @discardableResult
    public func pause() -> Bool {
        let number = life.withLock { life -> UInt64? in
            guard life.state == .running else { return nil }
            if let parking = life.parking { return parking }
            life.pauses += 1
            life.parking = life.pauses
            for processor in processors { processor.requestPause() }
            for (processor, thread) in zip(processors, life.threads) { processor.kick(thread) }
            return life.pauses
        }
        guard let number else { return state == .paused }
        let deadline = TickClock.monotonicNanoseconds() &+ VirtualMachine.pauseTimeout
        let areParked = processors.allSatisfy { $0.waitUntilParked(until: deadline) }
        return life.withLock { life in
            // Another thread has completed the pause, or cancelled it.
            guard life.parking == number else { return life.state == .paused }
            life.parking = nil
            guard areParked else {
                for processor in processors { processor.resume() }
                return false
            }
            life.state = .paused
            return true
        }
    }

    /// Resumes all vCPUs, or cancels a pause that is not complete.
    ///
    /// - Returns: false if the machine was not paused.
    @discardableResult
    public func resume() -> Bool {
        life.withLock { life in
            guard life.state == .paused || life.parking != nil else { return false }
            life.parking = nil
            life.state = .running
            resumeDevices(&life)
            for processor in processors { processor.resume() }
            return true
        }
    }

    /// Presses the guest's power button. Returns false when the guest has not enabled it.
    @discardableResult
    public func requestPowerOff() -> Bool {
        powerManagement.pressPowerButton()
    }

    /// Types Ctrl-Alt-Del, on which Linux's init usually reboots. Returns false if the machine has no keyboard (`MachineConfiguration.keyboard`), or if
    /// no driver of the guest has enabled it.
    @discardableResult
    public func sendControlAltDelete() -> Bool {
        keyboard?.typeControlAltDelete() ?? false
    }

    /// Ends the machine, whatever the guest does. `wait()` then returns.
    public func kill() {
        ending.end(.killed)
    }

    /// Waits until the machine has ended and all its threads have been joined. May be called more than once, and by several threads.
    public func wait() -> TerminationReason {
        let outcome = ending.wait()
        let isFirst = teardown.withLock { teardown in
            defer { if teardown == .notBegun { teardown = .begun } }
            return teardown == .notBegun
        }
        guard isFirst else {
            teardown.wait { $0 == .done ? true : nil }
            return outcome
        }
        let threads = life.withLock { life in
            life.state = .ended
            life.parking = nil
            defer { life.threads = [] }
            for processor in processors { processor.requestEnd() }
            for (processor, thread) in zip(processors, life.threads) { processor.kick(thread) }
            return life.threads
        }
        watchdog?.stop()
        for thread in threads { thread.join() }
        for transport in virtio { transport.stop() }
        ioThread.stop()
        for service in services { service.end() }
        teardown.update { $0 = .done }
        return outcome
    }

    /// The machine's service of a type. Any thread.
    public func service<Service: SymbioticService>(_ kind: Service.Type) -> Service? {
        services.lazy.compactMap { $0 as? Service }.first
    }

    /// Kicks a vCPU; false when the machine does not run. Holds the lock, so that `wait()` does not join the thread meanwhile.
    func kick(_ index: Int) -> Bool {
        life.withLock { life in
            guard life.state == .running, life.parking == nil, processors.indices.contains(index), life.threads.indices.contains(index)
            else { return false }
            processors[index].kick(life.threads[index])
            return true
        }
    }

    // MARK: Statistics

    /// A snapshot of the exit statistics. The vCPUs keep running.
    public func exitStatistics() -> ExitStatistics {
        let scale = clock.scale()
        var rows: [ExitStatistics.Row] = []
        var summaries: [ExitStatistics.VCPU] = []
        for processor in processors {
            let lines = processor.statistics.lines(nanoseconds: scale).sorted { $0.latency.total > $1.latency.total }
            rows += lines.map { line in
                ExitStatistics.Row(
                    vcpu: processor.index, reason: line.reason, device: deviceName(line.reason, line.address), address: line.address,
                    latency: line.latency)
            }
            let (handling, kernel) = (lines.reduce(0) { $0 &+ $1.latency.total }, processor.handle.statistics())
            summaries.append(
                ExitStatistics.VCPU(
                    vcpu: processor.index, guestNanoseconds: scale(processor.statistics.guestTicks), vmmNanoseconds: handling,
                    kernel: kernel, times: processor.clock.times(exitNanoseconds: handling, kernel, scale: scale)))
        }
        return ExitStatistics(
            uptimeNanoseconds: clock.elapsedNanoseconds, rows: rows, vcpus: summaries, tasks: taskRows(scale),
            symbiotic: symbiotic.map { interface in
                SymbioticStatistics(
                    isActive: interface.unavailableReason == nil, unavailableReason: interface.unavailableReason?.description,
                    counters: interface.counters.all,
                    symcalls: symcallRows(scale))
            },
            services: services.map { ExitStatistics.CounterGroup(name: $0.name, counters: $0.counters()) },
            devices: virtio.map { ExitStatistics.CounterGroup(name: $0.name, counters: $0.counters()) })
    }

    private func deviceName(_ reason: ExitReason, _ address: UInt64?) -> String {
        guard let address, let processor = processors.first else { return "" }
        switch reason {
        case .pioRead, .pioWrite: return processor.ports.find(UInt16(truncatingIfNeeded: address))?.device.name ?? "none"
        case .mmioRead, .mmioWrite: return processor.mmio.find(address, size: 1)?.device.name ?? "none"
        case .msrRead, .msrWrite: return processor.msrs.find(UInt32(truncatingIfNeeded: address))?.name ?? "none"
        default: return ""
        }
    }

    private func taskRows(_ scale: (UInt64) -> UInt64) -> [ExitStatistics.TaskRow] {
        processors.flatMap { processor in
            (processor.tasks?.lines() ?? []).flatMap { line in
                line.exits.map { exit in
                    ExitStatistics.TaskRow(
                        vcpu: processor.index, tgid: line.tgid, startTime: line.startTime, name: line.name, reason: exit.reason,
                        count: exit.count,
                        totalNanoseconds: scale(exit.ticks))
                }
            }
        }
    }

    private func symcallRows(_ scale: (UInt64) -> UInt64) -> [SymbioticStatistics.SymCallRow] {
        processors.flatMap { processor in
            (processor.symCallEngine?.durations.lines(nanoseconds: scale) ?? []).map { line in
                SymbioticStatistics.SymCallRow(vcpu: processor.index, number: line.number, latency: line.latency)
            }
        }
    }
}
