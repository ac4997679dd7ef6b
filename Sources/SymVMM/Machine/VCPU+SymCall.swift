// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import SymbioticABI
internal import Synchronization

/// Injection of symcalls (docs/ABI.md, section 4), on the vCPU's own thread.
///
/// A *session* begins with the first symcall of an exit: the exit in hand is finished, the vCPU's state saved. It ends when the exit has been
/// answered: the state is put back, and the next KVM_RUN takes it. Registers travel in the run page (KVM API 5, KVM_CAP_SYNC_REGS), so that a
/// symcall costs no ioctl besides KVM_RUN.
extension VCPU {
    static let allRegisters = UInt64(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
    /// A guest may repeat an OUT without end (REP OUTS); then the exit counts as one that can't be finished.
    private static let finishAttempts = 64

    /// Calls the guest, in the session of the exit in hand or in one of its own.
    func makeSymCall(_ number: UInt32, _ arguments: SymCallValues) throws(SymCallError) -> SymCallValues {
        guard let symbiotic, let interface else { throw .notOffered }
        // A device other than the doorbell has no session round its answer: this call is one by itself.
        let endsSession = !symbiotic.isInSession
        defer { if endsSession { endSession(symbiotic) } }
        do throws(SymCallError) {
            try checkAllowed(number, symbiotic, interface)
            try beginSession(symbiotic, interface)
            let results = try inject(number, arguments, symbiotic, interface)
            interface.counters.completed.increment()
            return results
        } catch {
            count(error, interface)
            throw error
        }
    }

    private func count(_ error: SymCallError, _ interface: SymbioticInterface) {
        switch error {
        case .failed: interface.counters.failed.increment()
        case .faulted: interface.counters.faulted.increment()
        case .timedOut: interface.counters.timedOut.increment()
        case .nested: interface.counters.refusedNested.increment()
        case .eventInFlight: interface.counters.deferred.increment()
        default: interface.counters.refused.increment()
        }
    }

    @inline(__always)
    private func checkAllowed(_ number: UInt32, _ symbiotic: SymbioticProcessor, _ interface: SymbioticInterface) throws(SymCallError) {
        if symbiotic.isActive { throw .nested }
        if let obstacle = interface.obstacle { throw obstacle }
        guard symbiotic.registration(interface).isArmed else { throw .notArmed }
        guard interface.has(number) else { throw .unknown }
        guard symbiotic.isInDoorbell || interface.mayInject(number) else { throw .needsDoorbell }
    }

    // MARK: Sessions

    /// Finishes the exit in hand and saves the vCPU's state, unless this exit's session has done so.
    @inline(__always)
    private func beginSession(_ symbiotic: SymbioticProcessor, _ interface: SymbioticInterface) throws(SymCallError) {
        if !symbiotic.isAtGate { try beginFullSession(symbiotic) }
    }

    private func beginFullSession(_ symbiotic: SymbioticProcessor) throws(SymCallError) {
        if symbiotic.saved == nil {
            guard finishExit(symbiotic) else { throw .exitInHand }
            symbiotic.saved = handle.syncedRegisters
        }
        guard let saved = symbiotic.saved else { throw .exitInHand }
        let longMode: UInt64 = 1 << 10  // EFER.LMA
        guard saved.sregs.efer & longMode != 0 else { throw .notInLongMode }
        let events = saved.events
        guard events.exception.injected == 0, events.exception.pending == 0, events.interrupt.injected == 0, events.nmi.injected == 0
        else { throw .eventInFlight }
    }

    /// Runs KVM until the instruction that caused the exit is complete and nothing of it is left (KVM API 5, note on KVM_EXIT_IO).
    func finishExit(_ symbiotic: SymbioticProcessor) -> Bool {
        symbiotic.isFinishing = true
        defer { symbiotic.isFinishing = false }
        handle.setValidRegisters(VCPU.allRegisters)
        for _ in 0..<VCPU.finishAttempts {
            handle.interrupt()
            let result = handle.run()
            if result == -EINTR {
                handle.clearInterrupt()
                return true
            }
            guard result == 0 else { break }
            handleNestedExit(entered: ckvm_ticks())
        }
        handle.clearInterrupt()
        return false
    }

    /// Puts the vCPU back to where it was before the first symcall; the next KVM_RUN takes it. Called when the exit has been answered.
    @inline(__always)
    func endSession(_ symbiotic: SymbioticProcessor) {
        handle.setValidRegisters(givenRegisters)
        if !endSessionAtGate(symbiotic) { endFullSession(symbiotic) }
    }

    private func endFullSession(_ symbiotic: SymbioticProcessor) {
        guard var saved = symbiotic.saved else { return }
        symbiotic.saved = nil
        // No handler has run: the vCPU is where it was.
        guard symbiotic.isDisplaced else { return }
        symbiotic.isDisplaced = false
        saved.events.flags = VCPU.eventFlags(saved.events.flags)
        handle.syncedRegisters = saved
        handle.setDirtyRegisters(VCPU.allRegisters)
        if let state = symbiotic.savedMultiprocessorState {
            symbiotic.savedMultiprocessorState = nil
            try? handle.setMultiprocessorState(state)
        }
    }

    /// The vCPU's CPL before the session.
    private static func isKernel(_ saved: kvm_sync_regs) -> Bool {
        saved.sregs.ss.dpl == 0
    }

    /// NMIs and SIPIs that arrive during a handler are counted by KVM; putting an old count back would lose them. Neither is SMM ours.
    private static func eventFlags(_ flags: UInt32) -> UInt32 {
        flags & ~UInt32(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SMM)
            | UInt32(KVM_VCPUEVENT_VALID_SHADOW)
    }

    // MARK: One call

    @inline(__always)
    private func inject(_ number: UInt32, _ arguments: SymCallValues, _ symbiotic: SymbioticProcessor, _ interface: SymbioticInterface)
        throws(SymCallError) -> SymCallValues
    {
        let registration = symbiotic.registration(interface)
        let interrupted = try enterHandler(registration, number, arguments, symbiotic)
        let started = ckvm_ticks()
        symbiotic.setLocal(interface, SymbioticProcessor.LocalPage.active, 1)
        let call = symbiotic.start()
        watchdog?.recordStart()
        defer {
            symbiotic.finish()
            symbiotic.setLocal(interface, SymbioticProcessor.LocalPage.active, 0)
            symbiotic.durations.record(.other, address: UInt64(number), ticks: ckvm_ticks() &- started)
        }
        let ending = try runHandler(call, registration, symbiotic, interface)
        let registers = handle.syncedGeneralRegisters
        // The return port's OUT needs no finishing: KVM would move RIP past it, but only if RIP still points to it (complete_fast_pio_out
        // compares), and the next KVM_RUN sets RIP first. So the instruction after the OUT is never executed.
        if registers.rip == interrupted || registers.rip == registration.rip {
            guard finishExit(symbiotic) else { throw .exitInHand }
        }
        let results = SymCallValues(registers.rbx, registers.rcx, registers.rdx, registers.rsi, registers.rdi)
        switch ending {
        case .faulted:
            symbiotic.countLocal(interface, SymbioticProcessor.LocalPage.failures)
            throw .faulted(vector: results.rbx, errorCode: results.rcx, rip: results.rdx, address: results.rsi)
        case .returned:
            symbiotic.countLocal(interface, SymbioticProcessor.LocalPage.completed)
            guard registers.rax == 0 else { throw .failed(code: registers.rax) }
            return results
        }
    }

    /// Runs the guest until the handler says that it is done, serving its exits as usual.
    @inline(__always)
    private func runHandler(
        _ call: UInt64, _ registration: SymbioticRegistration, _ symbiotic: SymbioticProcessor, _ interface: SymbioticInterface
    ) throws(SymCallError) -> SymbioticProcessor.Ending {
        while true {
            // Before each run: a kick may have come while an exit was being finished, which takes KVM_RUN's interruption for its own.
            if isEnding { throw .notRunning }
            let entered = ckvm_ticks()
            let result = handle.run()
            if result == -EINTR {
                handle.clearInterrupt()
                statistics.recordGuest(ticks: ckvm_ticks() &- entered)
                nestedTicks &+= ckvm_ticks() &- entered
            } else if result < 0 {
                throw .exitInHand
            } else {
                handleNestedExit(entered: entered)
                if let ending = symbiotic.takeEnding() { return ending }
            }
            if symbiotic.overdue.load(ordering: .relaxed) == call {
                // What the handler was doing has to be finished too before the state is put back.
                if result == 0 || symbiotic.isAtGate { _ = finishExit(symbiotic) }
                leaveGate(symbiotic, registration)
                // A handler that halted has left the vCPU waiting; what it interrupted did not wait, or says so when the session ends.
                if let state = try? handle.multiprocessorState(), state == UInt32(KVM_MP_STATE_HALTED) {
                    try? handle.setMultiprocessorState(UInt32(KVM_MP_STATE_RUNNABLE))
                }
                symbiotic.countLocal(interface, SymbioticProcessor.LocalPage.aborts)
                interface.switchOff()
                throw .timedOut
            }
        }
    }

    /// Sets the vCPU to the handler's start. Returns where it was.
    @inline(__always)
    private func enterHandler(
        _ registration: SymbioticRegistration, _ number: UInt32, _ arguments: SymCallValues, _ symbiotic: SymbioticProcessor
    ) throws(SymCallError) -> UInt64 {
        var registers = VCPU.handlerRegisters(registration, number, arguments)
        let interrupted: UInt64
        if symbiotic.isAtGate {
            // SAFETY: set when the gate was entered, and nobody else's.
            interrupted = unsafe symbiotic.savedAtGate.pointee.rip
            unsafe handle.giveGeneralRegisters(&registers)
            handle.setDirtyRegisters(VCPU.generalRegisters)
        } else if let saved = symbiotic.saved {
            interrupted = saved.regs.rip
            handle.syncedRegisters = VCPU.handlerState(saved, registration, registers)
            handle.setDirtyRegisters(VCPU.allRegisters)
        } else {
            throw .exitInHand
        }
        handle.setValidRegisters(VCPU.generalRegisters)
        symbiotic.isDisplaced = true
        return interrupted
    }

    @inline(__always)
    private static func handlerRegisters(_ registration: SymbioticRegistration, _ number: UInt32, _ arguments: SymCallValues) -> kvm_regs {
        var registers = kvm_regs()
        registers.rax = UInt64(number)
        registers.rbx = arguments.rbx
        registers.rcx = arguments.rcx
        registers.rdx = arguments.rdx
        registers.rsi = arguments.rsi
        registers.rdi = arguments.rdi
        registers.rip = registration.rip
        registers.rsp = registration.rsp
        registers.rflags = SYMBIOTIC_RFLAGS
        return registers
    }

    /// The vCPU's state in which a handler starts (docs/ABI.md, 4.1).
    private static func handlerState(_ saved: kvm_sync_regs, _ registration: SymbioticRegistration, _ registers: kvm_regs) -> kvm_sync_regs
    {
        var state = saved
        state.regs = registers
        setHandlerSegments(&state.sregs, registration)
        state.sregs.fs.base = registration.fsBase
        state.events.interrupt.shadow = 0
        state.events.nmi.masked = 1
        state.events.flags = eventFlags(state.events.flags)
        return state
    }

    /// What a handler needs, and what the gate's OUT is executed with.
    static func setHandlerSegments(_ registers: inout kvm_sregs, _ registration: SymbioticRegistration) {
        let selector = UInt16(truncatingIfNeeded: registration.cs)
        registers.cs = flatSegment(selector, type: 11, isCode: true)
        registers.ss = flatSegment(selector &+ 8, type: 3, isCode: false)
        registers.gs.base = registration.gsBase
        registers.cr3 &= ~registration.cr3Clear
        registers.idt.base = registration.idt
        registers.idt.limit = UInt16(SYMBIOTIC_IDT_LIMIT)
    }

    /// A flat ring-0 segment: 64-bit code, or data.
    private static func flatSegment(_ selector: UInt16, type: UInt8, isCode: Bool) -> kvm_segment {
        kvm_segment(
            base: 0, limit: 0xffff_ffff, selector: selector, type: type, present: 1, dpl: 0, db: isCode ? 0 : 1, s: 1, l: isCode ? 1 : 0,
            g: 1,
            avl: 0, unusable: 0, padding: 0)
    }

    // MARK: Doorbells

    /// The guest wrote to the doorbell's port. False when it counts for nothing: from a program, from a handler, from an unfinished exit.
    func enterDoorbell(_ number: UInt8) -> Bool {
        guard let symbiotic, let interface, !symbiotic.isActive, !symbiotic.isFinishing, !symbiotic.isInDoorbell else { return false }
        defer { endSession(symbiotic) }
        if enterGate(symbiotic, interface) {
            // SAFETY: just set.
            dispatchDoorbell(number, unsafe symbiotic.savedAtGate.pointee, symbiotic, interface)
            return true
        }
        return enterFullDoorbell(number, symbiotic, interface)
    }

    private func enterFullDoorbell(_ number: UInt8, _ symbiotic: SymbioticProcessor, _ interface: SymbioticInterface) -> Bool {
        guard let saved = stateAfterDoorbell(symbiotic), VCPU.isKernel(saved) else { return false }
        symbiotic.saved = saved
        dispatchDoorbell(number, saved.regs, symbiotic, interface)
        return true
    }

    @inline(__always)
    private func dispatchDoorbell(_ number: UInt8, _ registers: kvm_regs, _ symbiotic: SymbioticProcessor, _ interface: SymbioticInterface)
    {
        (symbiotic.isInDoorbell, symbiotic.isInSession) = (true, true)
        interface.handleDoorbell(number, SymCallValues(registers.rbx, registers.rcx, registers.rdx, registers.rsi, registers.rdi), self)
        (symbiotic.isInDoorbell, symbiotic.isInSession) = (false, false)
    }

    /// The vCPU's state once the doorbell's OUT is complete; nil when it can't be completed.
    ///
    /// The general way costs a KVM_RUN. A doorbell is one fixed instruction of two bytes (docs/ABI.md, section 6), of which KVM has done
    /// all but perhaps moving RIP past it; whether it has is learned from a doorbell answered the general way. From then on, when KVM_RUN
    /// has given the registers, the state is known without another one. If no symcall follows, nothing is changed and KVM finishes the OUT.
    private func stateAfterDoorbell(_ symbiotic: SymbioticProcessor) -> kvm_sync_regs? {
        let given = givenRegisters == VCPU.allRegisters && handle.isSingleByteOutput ? handle.syncedRegisters : nil
        if let given, let advance = symbiotic.doorbellAdvance, given.regs.rflags & VCPU.trapOrResumeFlag == 0 {
            var state = given
            state.regs.rip &+= advance
            state.events.interrupt.shadow = 0
            giveRegistersForAWhile(VCPU.allRegisters)
            return state
        }
        guard finishExit(symbiotic) else { return nil }
        let state = handle.syncedRegisters
        if let given { symbiotic.learnDoorbellAdvance(state.regs.rip &- given.regs.rip) }
        giveRegistersForAWhile(VCPU.allRegisters)
        return state
    }

    /// RFLAGS.TF, which wants a trap after the instruction, and RF, which an instruction clears.
    static let trapOrResumeFlag: UInt64 = 1 << 8 | 1 << 16

    /// Makes the symcalls that other threads asked for on this very vCPU, whatever it was doing. From the run loop, between two exits.
    func serveDirectRequests() {
        guard let symbiotic else { return }
        let asked = takeDirectRequests()
        guard !asked.isEmpty else { return }
        // A vCPU that waits for an interrupt has to run for the handler, and to go on waiting after it.
        if let state = try? handle.multiprocessorState(), state == UInt32(KVM_MP_STATE_HALTED) {
            symbiotic.savedMultiprocessorState = state
            try? handle.setMultiprocessorState(UInt32(KVM_MP_STATE_RUNNABLE))
        }
        symbiotic.isInSession = true
        defer { symbiotic.isInSession = false }
        for request in asked {
            do throws(SymCallError) {
                let results = try symcall(request.number, request.arguments)
                request.finish(.success(results), fromUserMode: symbiotic.saved.map { !VCPU.isKernel($0) } ?? false)
            } catch .eventInFlight {
                putBack(request)
            } catch {
                request.finish(.failure(error))
            }
        }
        endSession(symbiotic)
        if let state = symbiotic.savedMultiprocessorState {
            symbiotic.savedMultiprocessorState = nil
            try? handle.setMultiprocessorState(state)
        }
    }
}
