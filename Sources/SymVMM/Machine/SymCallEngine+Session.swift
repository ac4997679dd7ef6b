// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// The sets of registers in the run page (KVM API 5, KVM_CAP_SYNC_REGS).
enum SyncedRegisters {
    /// RAX to R15, RIP and RFLAGS.
    static let general = UInt64(KVM_SYNC_X86_REGS)
    /// Also segments, control registers and pending events.
    static let all = UInt64(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
}

/// Sessions: KVM completes the exit's instruction, the VMM saves the registers, and restores them at the end.
extension SymCallEngine {
    /// KVM_RUNs to complete one instruction. A guest can make an OUT repeat without end (REP OUTS).
    private static let completionLimit = 64

    /// Makes a symcall, in the open session or in one of its own. On the vCPU's thread.
    func makeSymCall(_ number: UInt32, _ arguments: SymCallValues, on vcpu: VCPU) throws(SymCallFailure) -> SymCallValues {
        // Only a doorbell and a request open a session for their symcalls. Any other device gets one for this symcall.
        let ownsSession = stateMachine.open(.device)
        defer { if ownsSession { closeSession(vcpu) } }
        do throws(SymCallFailure) {
            try checkAllowed(number)
            if !isAtFastDoorbell { try saveAllRegisters(vcpu) }
            let results = try callHandler(number, arguments, vcpu)
            interface.counters.completed.increment()
            return results
        } catch {
            count(error)
            throw error
        }
    }

    @inline(__always)
    private func checkAllowed(_ number: UInt32) throws(SymCallFailure) {
        switch stateMachine.state {
        case .ready: break
        case .idle, .completingExit: throw .exitIncomplete
        case .running, .handlerEnded, .aborting: throw .nested
        }
        if let reason = interface.unavailableReason { throw reason }
        guard registration.current.isArmed else { throw .notArmed }
        guard interface.has(number) else { throw .unknown }
        guard stateMachine.state.session?.trigger == .doorbell || interface.mayInject(number) else { throw .needsDoorbell }
    }

    private func count(_ error: SymCallFailure) {
        switch error {
        case .failed: interface.counters.failed.increment()
        case .faulted: interface.counters.faulted.increment()
        case .timedOut: interface.counters.timedOut.increment()
        case .nested: interface.counters.refusedNested.increment()
        case .eventInFlight: interface.counters.deferred.increment()
        default: interface.counters.refused.increment()
        }
    }

    /// Saves all registers, unless the session has done so. Throws when the vCPU's state does not allow a symcall.
    private func saveAllRegisters(_ vcpu: VCPU) throws(SymCallFailure) {
        if stateMachine.state.session?.savedRegisters == SymCallSession.SavedRegisters.none {
            guard stateMachine.beginCompletingExit() else { throw .exitIncomplete }
            let isComplete = completeExit(vcpu)
            guard stateMachine.endCompletingExit(), isComplete else { throw .exitIncomplete }
            // SAFETY: here and below, both pointers are to values that outlive the engine's calls, and only this thread uses them.
            unsafe saved.update(from: vcpu.handle.syncedRegisters, count: 1)
            guard stateMachine.save(.all) else { throw .exitIncomplete }
        }
        let longModeActive: UInt64 = 1 << 10  // EFER.LMA
        guard unsafe saved.pointee.sregs.efer & longModeActive != 0 else { throw .notInLongMode }
        let events = unsafe saved.pointee.events
        guard events.exception.injected == 0, events.exception.pending == 0, events.interrupt.injected == 0, events.nmi.injected == 0
        else { throw .eventInFlight }
    }

    /// Runs KVM until the instruction that caused the exit is complete (KVM API 5, note on KVM_EXIT_IO). KVM then stores all registers in the run
    /// page.
    func completeExit(_ vcpu: VCPU) -> Bool {
        vcpu.handle.setValidRegisters(SyncedRegisters.all)
        for _ in 0..<SymCallEngine.completionLimit {
            vcpu.handle.interrupt()
            let result = vcpu.handle.run()
            if result == -EINTR {
                vcpu.handle.clearInterrupt()
                return true
            }
            guard result == 0 else { break }
            vcpu.handleNestedExit(entered: ckvm_ticks())
        }
        vcpu.handle.clearInterrupt()
        return false
    }

    /// Restores the registers for the next KVM_RUN and closes the session.
    @inline(__always)
    func closeSession(_ vcpu: VCPU) {
        guard let session = stateMachine.close() else { return }
        vcpu.handle.setValidRegisters(vcpu.validRegisters)
        // SAFETY: in this block, only this thread accesses `saved` and, between two runs, the run page.
        if session.hasRunHandler {
            switch session.savedRegisters {
            case .general:
                unsafe ckvm_copy_general_registers(vcpu.handle.syncedRegisters, saved)
                vcpu.handle.setDirtyRegisters(SyncedRegisters.general)
            case .all:
                unsafe vcpu.handle.syncedRegisters.update(from: saved, count: 1)
                unsafe SymCallEngine.keepArrivedEvents(&vcpu.handle.syncedRegisters.pointee.events)
                vcpu.handle.setDirtyRegisters(SyncedRegisters.all)
            case .none: break
            }
        }
        if session.wasHalted { try? vcpu.handle.setMultiprocessorState(UInt32(KVM_MP_STATE_HALTED)) }
    }

    /// Sets the flags so that KVM keeps NMIs and SIPIs that arrived during a handler, and the state of SMM.
    static func keepArrivedEvents(_ events: inout kvm_vcpu_events) {
        events.flags &= ~UInt32(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SMM)
        events.flags |= UInt32(KVM_VCPUEVENT_VALID_SHADOW)
    }

    /// Whether the saved registers are those of kernel mode (CPL 0). The session must have saved all registers.
    var isSavedInKernelMode: Bool { unsafe saved.pointee.sregs.ss.dpl == 0 }

    // MARK: Requests of other threads

    /// Makes the symcalls that other threads requested on this vCPU. From the run loop, between two exits.
    func makeRequestedSymCalls(on vcpu: VCPU) {
        guard !queue.isEmpty, stateMachine.open(.request) else { return }
        defer { closeSession(vcpu) }
        // A halted vCPU must be runnable for the handler. closeSession halts it again.
        if let state = try? vcpu.handle.multiprocessorState(), state == UInt32(KVM_MP_STATE_HALTED), stateMachine.recordHalt() {
            try? vcpu.handle.setMultiprocessorState(UInt32(KVM_MP_STATE_RUNNABLE))
        }
        for request in queue.takeAll() {
            do throws(SymCallFailure) {
                let results = try makeSymCall(request.number, request.arguments, on: vcpu)
                request.complete(.success(results), fromUserMode: !isSavedInKernelMode)
            } catch .eventInFlight {
                // The requesting thread kicks the vCPU again.
                queue.append(request)
            } catch {
                request.complete(.failure(error))
            }
        }
    }
}
