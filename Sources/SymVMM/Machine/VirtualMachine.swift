// SPDX-License-Identifier: Apache-2.0

public import VMMBase
public import VMMModel

internal import Synchronization

/// A virtual machine: memory, devices and vCPUs put together, and its life from the first exit to the last. Any thread may call it.
public final class VirtualMachine: Sendable {
    /// What it was made of.
    public let configuration: MachineConfiguration
    /// The guest's memory.
    public let memory: GuestMemory
    let serial: Serial8250

    let handle: KVMVirtualMachine
    let processors: [VCPU]
    /// The symbiotic interface; nil when the guest is not offered one.
    let symbiotic: SymbioticInterface?
    private let watchdog: SymCallWatchdog?
    let virtio: [VirtioMMIOTransport]
    /// What the command has put beside the machine.
    let services: [SymbioticService]
    /// The next free memory slot: those before are the guest's RAM.
    let serviceSlots = Mutex<UInt32>(GuestMemory.slotCount)
    /// Where services show the guest memory of theirs.
    let windows: Mutex<WindowAllocator>
    private let ioThread: IOThread
    private let powerManagement: PowerManagement
    private let ending: TerminationLatch
    private let clock = TickClock()
    private let life = Mutex(Life())
    /// Held by a question to the guest while it uses the shared buffer.
    let inquiries = Mutex(())

    private struct Life {
        var state = MachineState.notStarted
        /// Of the vCPUs, in their order, while they run.
        var threads: [Thread] = []
        var servicesEnded = false
    }

    /// The parts that the assembly has made (VirtualMachine+Assembly.swift).
    init(_ parts: consuming Parts) {
        configuration = parts.configuration
        memory = parts.memory
        serial = parts.buses.serial
        powerManagement = parts.buses.powerManagement
        virtio = parts.buses.virtio
        services = parts.services
        ioThread = parts.buses.ioThread
        symbiotic = parts.symbiotic?.interface
        watchdog = parts.symbiotic?.watchdog
        ending = parts.ending
        processors = parts.processors
        handle = parts.handle
        windows = Mutex(
            WindowAllocator(
                ramEnd: GuestMemory.holeEnd &+ parts.memory.highByteCount, addressLimit: VirtualMachine.addressLimit))
    }

    // MARK: Life

    /// Where the machine is in its life.
    public var state: MachineState {
        life.withLock { $0.state }
    }

    /// Starts the vCPUs. Once only: later calls do nothing.
    public func start() throws(MachineError) {
        let failure = life.withLock { life -> KVMError? in
            guard life.state == .notStarted else { return nil }
            life.state = .running
            for processor in processors {
                do throws(KVMError) {
                    life.threads.append(try Thread(name: "vcpu\(processor.index)") { processor.run() })
                } catch {
                    return error
                }
            }
            do throws(KVMError) {
                try watchdog?.start(Array(zip(processors, life.threads)))
            } catch {
                return error
            }
            return nil
        }
        guard let failure else { return }
        kill()
        _ = wait()
        throw MachineError(.host, failure.description)
    }

    /// Holds all vCPUs between two exits, and returns when they are held. Does nothing unless the machine runs.
    public func pause() {
        life.withLock { life in
            guard life.state == .running else { return }
            life.state = .paused
            for processor in processors { processor.requestPause() }
            for (processor, thread) in zip(processors, life.threads) { processor.kick(thread) }
            for processor in processors { processor.waitUntilParked() }
        }
    }

    /// Lets held vCPUs go on. Does nothing unless the machine is paused.
    public func resume() {
        life.withLock { life in
            guard life.state == .paused else { return }
            life.state = .running
            for processor in processors { processor.resume() }
        }
    }

    /// Presses the guest's power button. Returns false when the guest does not listen to it, so that nothing will come of it.
    @discardableResult
    public func requestPowerOff() -> Bool {
        powerManagement.pressPowerButton()
    }

    /// Ends the machine, whatever the guest does. `wait()` returns soon after.
    public func kill() {
        ending.end(.killed)
    }

    /// Waits for the end of the machine's run, then for all its threads. May be called more than once.
    public func wait() -> TerminationReason {
        let outcome = ending.wait()
        let threads = life.withLock { life in
            life.state = .ended
            defer { life.threads = [] }
            for processor in processors { processor.requestEnd() }
            for (processor, thread) in zip(processors, life.threads) { processor.kick(thread) }
            return life.threads
        }
        watchdog?.stop()
        for thread in threads { thread.join() }
        for transport in virtio { transport.stop() }
        ioThread.stop()
        endServices()
        return outcome
    }

    /// The service of a kind that the machine was built with. Any thread.
    public func service<Service: SymbioticService>(_ kind: Service.Type) -> Service? {
        services.lazy.compactMap { $0 as? Service }.first
    }

    /// Tells the services once that the run is over.
    private func endServices() {
        let isFirst = life.withLock { life in
            defer { life.servicesEnded = true }
            return !life.servicesEnded
        }
        guard isFirst else { return }
        for service in services { service.end() }
    }

    /// Makes a vCPU look at what is asked of it; false when the machine does not run. Under the lock, so that the thread has not been joined.
    func kick(_ index: Int) -> Bool {
        life.withLock { life in
            guard life.state == .running, processors.indices.contains(index), life.threads.indices.contains(index) else { return false }
            processors[index].kick(life.threads[index])
            return true
        }
    }

    // MARK: Statistics

    /// A picture of the exit statistics now. Stops no vCPU.
    public func exitStatistics() -> ExitStatistics {
        let scale = clock.scale()
        var rows: [ExitStatistics.Row] = []
        var summaries: [ExitStatistics.Processor] = []
        for processor in processors {
            let lines = processor.statistics.lines(nanoseconds: scale).sorted { $0.latency.total > $1.latency.total }
            rows += lines.map { line in
                ExitStatistics.Row(
                    vcpu: processor.index, reason: line.reason, device: deviceName(line.reason, line.address), address: line.address,
                    latency: line.latency)
            }
            summaries.append(
                ExitStatistics.Processor(
                    vcpu: processor.index, guestNanoseconds: scale(processor.statistics.guestTicks),
                    vmmNanoseconds: lines.reduce(0) { $0 &+ $1.latency.total }, kernel: processor.handle.statistics()))
        }
        return ExitStatistics(
            uptimeNanoseconds: clock.elapsedNanoseconds, rows: rows, processors: summaries, tasks: taskRows(scale),
            symbiotic: symbiotic.map { interface in
                SymbioticStatistics(
                    isActive: interface.obstacle == nil, obstacle: interface.obstacle?.description, counters: interface.counters.all,
                    symcalls: symcallRows(scale))
            },
            services: services.map { ExitStatistics.CounterGroup(name: $0.name, counters: $0.counters()) },
            devices: virtio.map { ExitStatistics.CounterGroup(name: $0.name, counters: $0.counters()) })
    }

    private func deviceName(_ reason: ExitReason, _ address: UInt64?) -> String {
        guard let address, let processor = processors.first else { return "" }
        switch reason {
        case .portRead, .portWrite: return processor.ports.find(UInt16(truncatingIfNeeded: address))?.device.name ?? "none"
        case .mmioRead, .mmioWrite: return processor.mmio.find(address, size: 1)?.device.name ?? "none"
        case .msrRead, .msrWrite: return processor.msrs.find(UInt32(truncatingIfNeeded: address))?.name ?? "none"
        default: return ""
        }
    }

    private func taskRows(_ scale: (UInt64) -> UInt64) -> [ExitStatistics.TaskRow] {
        processors.flatMap { processor in
            (processor.symbiotic?.tasks.lines() ?? []).flatMap { line in
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
            (processor.symbiotic?.durations.lines(nanoseconds: scale) ?? []).map { line in
                SymbioticStatistics.SymCallRow(vcpu: processor.index, number: line.number, latency: line.latency)
            }
        }
    }
}
