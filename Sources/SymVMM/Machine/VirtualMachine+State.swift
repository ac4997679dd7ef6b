// SPDX-License-Identifier: Apache-2.0

public import VMMBase

internal import Synchronization

/// Saves a machine's state and restores it into another machine.
///
/// The state does not contain the memory: `GuestMemory.copy(from:)` copies it between two machines of a process. The order is:
///
///     saved machine:     pause(), saveState()            devices stay suspended until resume(), so memory does not change
///     restored machine:  memory, restoreState(_:), the services' contents, start()
extension VirtualMachine {
    // MARK: Saving

    /// Returns the state of a machine that is paused or has not started. Suspends its devices until `resume()`.
    public func saveState() throws(VMMError) -> SavedMachine {
        try withIdleMachine { () throws(VMMError) in
            guard !configuration.nested else { throw .user("a VM with nested virtualization cannot be saved") }
            let (msrs, byteCount) = (try SavedMSRs.indices(KVMSystem()), handle.extendedStateByteCount)
            var vcpus: [VCPUState] = []
            for processor in processors { vcpus.append(try processor.saveState(msrs: msrs, extendedStateByteCount: byteCount)) }
            var devices: [SavedMachine.Part] = []
            for device in busDevices { devices.append(try VirtualMachine.save(device, device.name)) }
            var services: [SavedMachine.Part] = []
            for service in self.services { services.append(try VirtualMachine.save(service, service.name)) }
            return SavedMachine(
                memoryByteCount: memory.byteCount, clock: try handle.clock(), vcpus: vcpus,
                interruptControllers: try handle.saveInterruptControllers(), intervalTimer: try handle.saveIntervalTimer(),
                devices: devices, symbiotic: try symbiotic.map { (interface) throws(VMMError) in try SavedState(of: interface) },
                services: services)
        }
    }

    /// The kinds of state of this machine's parts.
    public var stateKinds: StateKinds {
        var kinds = StateKinds()
        for part in parts { kinds.add(part) }
        return kinds
    }

    private var parts: [any Snapshotable] {
        let devices = busDevices.compactMap { $0 as? any Snapshotable }
        let behind = virtio.compactMap { $0.device as? any Snapshotable }
        return devices + behind + services.compactMap { $0 as? any Snapshotable } + (symbiotic.map { [$0] } ?? [])
    }

    /// All devices on the buses, each once, in the order of attachment.
    var busDevices: [BusDevice] {
        guard let processor = processors.first else { return [] }
        var seen: Set<ObjectIdentifier> = []
        let all = processor.ports.attachments.map(\.device) + processor.mmio.attachments.map(\.device)
        return all.filter { seen.insert(ObjectIdentifier($0)).inserted }
    }

    // MARK: Restoring

    /// Restores a state into a machine that has not started, and whose memory already has the saved contents.
    ///
    /// Checks everything in the state, because it may come from a file. After an error the machine cannot be started.
    public func restoreState(_ state: SavedMachine) throws(VMMError) {
        do throws(VMMError) {
            try withIdleMachine(onlyNew: true) { () throws(VMMError) in
                try check(state)
                try restoreKernel(state)
                for (device, saved) in zip(busDevices, state.devices) { try VirtualMachine.restore(saved, device) }
                try restoreSymbiotic(state)
                for (service, saved) in zip(services, state.services) { try VirtualMachine.restore(saved, service) }
            }
        } catch {
            discard()
            throw error.of("restore")
        }
    }

    /// Throws unless the state was saved from a machine with the same parts.
    private func check(_ state: SavedMachine) throws(VMMError) {
        guard state.version == SavedMachine.currentVersion else {
            throw .user("the state has version \(state.version); this symvmm supports version \(SavedMachine.currentVersion)")
        }
        guard state.memoryByteCount == memory.byteCount else {
            throw .user("the saved machine has \(state.memoryByteCount) bytes of memory, this one \(memory.byteCount)")
        }
        guard state.vcpus.count == processors.count else {
            throw .user("the saved machine has \(state.vcpus.count) vCPUs, this one \(processors.count)")
        }
        guard (state.symbiotic == nil) == (symbiotic == nil), state.vcpus.allSatisfy({ ($0.registration == nil) == (symbiotic == nil) })
        else {
            throw .user("either the saved machine or this one lacks the symbiotic interface")
        }
        try VirtualMachine.check("devices", state.devices.map(\.name), busDevices.map(\.name))
        try VirtualMachine.check("services", state.services.map(\.name), services.map(\.name))
    }

    private static func check(_ what: String, _ saved: [String], _ own: [String]) throws(VMMError) {
        guard saved == own else {
            throw .user(
                "the saved machine has the \(what) \(saved.prefix(40).joined(separator: ", ")); this one has \(own.joined(separator: ", "))"
            )
        }
    }

    /// Restores KVM's state in the order that its ioctls need: local APICs before the clock, because their base is part of the registers; the clock
    /// before the MSRs, which contain deadlines; interrupt controllers after the local APICs, to which they deliver; the timer last.
    private func restoreKernel(_ state: SavedMachine) throws(VMMError) {
        let (known, byteCount) = (Set(try SavedMSRs.indices(KVMSystem())), handle.extendedStateByteCount)
        var isScaled = false
        try forEach(state) { (processor, saved) throws(VMMError) in
            if try !processor.handle.restoreFrequency(saved.kernel.time) { isScaled = true }
            try processor.handle.restoreRegisters(saved.kernel, extendedStateByteCount: byteCount)
        }
        try handle.restoreTime(
            state.clock, state.vcpus.map(\.kernel.time), isScaled: isScaled,
            setOffset: { index, offset in processors[index].handle.setCounterOffset(offset) },
            setCounter: { (index, value) throws(VMMError) in try processors[index].handle.setCounter(value) })
        try forEach(state) { (processor, saved) throws(VMMError) in
            try processor.handle.restoreMSRsAndEvents(saved.kernel, known: known)
        }
        try handle.restore(state.interruptControllers)
        try handle.restore(state.intervalTimer)
    }

    private func restoreSymbiotic(_ state: SavedMachine) throws(VMMError) {
        guard let symbiotic, let saved = state.symbiotic else { return }
        try saved.restore(to: symbiotic)
        try forEach(state) { (processor, saved) throws(VMMError) in
            guard let registration = saved.registration else { return }
            try processor.symCallEngine?.restoreRegistration(registration, addressBits: processor.linearAddressBits())
        }
    }

    private func forEach(_ state: SavedMachine, _ body: (VCPU, VCPUState) throws(VMMError) -> Void) throws(VMMError) {
        for (processor, saved) in zip(processors, state.vcpus) {
            do throws(VMMError) {
                try body(processor, saved)
            } catch {
                throw error.of("vCPU \(processor.index)")
            }
        }
    }

    // MARK: Idle machine

    /// Calls `body` while no vCPU runs, KVM has completed every instruction, and the devices are suspended. The devices stay suspended.
    private func withIdleMachine<Result: Sendable>(onlyNew: Bool = false, _ body: () throws(VMMError) -> Result) throws(VMMError) -> Result
    {
        try life.withLock { life throws(VMMError) in
            switch life.state {
            case .notStarted: break
            case .paused where !onlyNew:
                for processor in processors { try processor.completeExitInHand() }
            default:
                throw .user(onlyNew ? "the machine has been started already" : "the machine has to be paused before its state is saved")
            }
            // Completing an instruction may have ended the VM.
            guard ending.current == nil else { throw .user("the VM has ended") }
            if !life.hasSuspendedDevices { for device in busDevices { device.suspend() } }
            life.hasSuspendedDevices = true
            return try body()
        }
    }

    /// Resumes the suspended devices. Before the vCPUs.
    func resumeDevices(_ life: inout Life) {
        guard life.hasSuspendedDevices else { return }
        life.hasSuspendedDevices = false
        for device in busDevices { device.resume() }
    }

    /// Ends a machine whose state is only partly restored.
    private func discard() {
        kill()
        life.withLock { $0.state = .ended }
    }

    // MARK: Parts

    private static func save(_ part: Any, _ name: String) throws(VMMError) -> SavedMachine.Part {
        guard let part = part as? any Snapshotable else { throw .host("\(name) cannot be saved") }
        do throws(VMMError) {
            return SavedMachine.Part(name: name, state: try saved(part))
        } catch {
            throw error.of(name)
        }
    }

    private static func saved<Part: Snapshotable>(_ part: Part) throws(VMMError) -> SavedState {
        try SavedState(of: part)
    }

    private static func restore(_ saved: SavedMachine.Part, _ part: Any) throws(VMMError) {
        guard let part = part as? any Snapshotable else { throw .host("\(saved.name) cannot be restored") }
        do throws(VMMError) {
            try restore(saved.state, to: part)
        } catch {
            throw error.of(saved.name)
        }
    }

    private static func restore<Part: Snapshotable>(_ state: SavedState, to part: Part) throws(VMMError) {
        try state.restore(to: part)
    }
}
