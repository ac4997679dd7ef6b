// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import SymbioticABI

/// One symcall: the VMM sets the registers, runs the handler, and reads its results.
extension SymCallEngine {
    /// Runs a handler. The session must have saved the registers.
    @inline(__always)
    func callHandler(_ number: UInt32, _ arguments: SymCallValues, _ vcpu: VCPU) throws(SymCallFailure) -> SymCallValues {
        let msrs = registration.current
        guard stateMachine.startHandler() else { throw .exitIncomplete }
        setHandlerRegisters(number, arguments, msrs, vcpu)
        let started = ckvm_ticks()
        registration.store(1, at: VCPURegistration.LocalPage.active)
        let call = deadline.start()
        watchdog.wakeIfAsleep()
        defer {
            deadline.stop()
            _ = stateMachine.finishHandler()
            registration.store(0, at: VCPURegistration.LocalPage.active)
            durations.record(.other, address: UInt64(number), ticks: ckvm_ticks() &- started)
        }
        let end = try runHandler(call, msrs, vcpu)
        // SAFETY: here and below, only this thread accesses `saved` and, between two runs, the run page.
        let registers = unsafe vcpu.handle.syncedRegisters
        let (rax, rip) = unsafe (registers.pointee.regs.rax, registers.pointee.regs.rip)
        let results = unsafe SymCallValues(
            registers.pointee.regs.rbx, registers.pointee.regs.rcx, registers.pointee.regs.rdx, registers.pointee.regs.rsi,
            registers.pointee.regs.rdi)
        // KVM need not complete the return port's OUT. It would move RIP past the OUT, but only if RIP still points to it
        // (complete_fast_pio_out compares), and the next KVM_RUN sets RIP first. So the guest never executes the instruction after the OUT.
        if unsafe rip == saved.pointee.regs.rip || rip == msrs.rip {
            guard completeExit(vcpu) else { throw .exitIncomplete }
        }
        switch end {
        case .faulted:
            registration.increment(VCPURegistration.LocalPage.failures)
            throw .faulted(vector: results.rbx, errorCode: results.rcx, rip: results.rdx, address: results.rsi)
        case .returned:
            registration.increment(VCPURegistration.LocalPage.completed)
            guard rax == 0 else { throw .failed(code: rax) }
            return results
        }
    }

    /// Runs the guest until the handler ends, and handles its exits as usual.
    @inline(__always)
    private func runHandler(_ call: UInt64, _ msrs: SymbioticMSRs, _ vcpu: VCPU) throws(SymCallFailure) -> SymCallHandlerEnd {
        while true {
            // Before each run: completeExit clears the interruption that a kick has set.
            if vcpu.isEnding { throw .notRunning }
            let entered = ckvm_ticks()
            let result = vcpu.handle.run()
            if result == -EINTR {
                vcpu.handle.clearInterrupt()
                vcpu.recordNestedGuestTime(since: entered)
            } else if result < 0 {
                throw .exitIncomplete
            } else {
                vcpu.handleNestedExit(entered: entered)
                if case .handlerEnded(_, let end) = stateMachine.state { return end }
            }
            if deadline.hasExpired(call), stateMachine.abort() {
                abortHandler(hasExit: result == 0, msrs, vcpu)
                throw .timedOut
            }
        }
    }

    /// Prepares the vCPU for the restore after a handler that exceeded its limit, and disables symcalls.
    ///
    /// - Parameters:
    ///   - hasExit: KVM must complete an instruction of the handler first.
    ///   - msrs: those that the handler was called with. The guest may have dropped them since.
    private func abortHandler(hasExit: Bool, _ msrs: SymbioticMSRs, _ vcpu: VCPU) {
        if hasExit || isAtFastDoorbell { _ = completeExit(vcpu) }
        if stateMachine.saveAllRegistersWhileAborting() { saveFastDoorbellRegisters(msrs, vcpu) }
        // The handler may have executed HLT. closeSession halts the vCPU again if it was halted before.
        if let state = try? vcpu.handle.multiprocessorState(), state == UInt32(KVM_MP_STATE_HALTED) {
            try? vcpu.handle.setMultiprocessorState(UInt32(KVM_MP_STATE_RUNNABLE))
        }
        registration.increment(VCPURegistration.LocalPage.aborts)
        interface.disable()
    }

    // MARK: Registers

    /// Sets the registers with which a handler starts (docs/ABI.md, section 4.1).
    @inline(__always)
    private func setHandlerRegisters(_ number: UInt32, _ arguments: SymCallValues, _ msrs: SymbioticMSRs, _ vcpu: VCPU) {
        // SAFETY: in this method, only this thread accesses `saved` and, between two runs, the run page.
        let registers = unsafe vcpu.handle.syncedRegisters
        if isAtFastDoorbell {
            vcpu.handle.setDirtyRegisters(SyncedRegisters.general)
        } else {
            unsafe registers.update(from: saved, count: 1)
            unsafe SymCallEngine.setHandlerSegments(&registers.pointee.sregs, msrs)
            unsafe registers.pointee.sregs.fs.base = msrs.fsBase
            unsafe registers.pointee.events.interrupt.shadow = 0
            unsafe registers.pointee.events.nmi.masked = 1
            unsafe SymCallEngine.keepArrivedEvents(&registers.pointee.events)
            vcpu.handle.setDirtyRegisters(SyncedRegisters.all)
        }
        unsafe SymCallEngine.setHandlerGeneralRegisters(&registers.pointee.regs, number, arguments, msrs)
        vcpu.handle.setValidRegisters(SyncedRegisters.general)
    }

    /// RBP and R8 to R15 are undefined for a handler.
    @inline(__always)
    private static func setHandlerGeneralRegisters(
        _ registers: inout kvm_regs, _ number: UInt32, _ arguments: SymCallValues, _ msrs: SymbioticMSRs
    ) {
        registers.rax = UInt64(number)
        registers.rbx = arguments.rbx
        registers.rcx = arguments.rcx
        registers.rdx = arguments.rdx
        registers.rsi = arguments.rsi
        registers.rdi = arguments.rdi
        registers.rip = msrs.rip
        registers.rsp = msrs.rsp
        registers.rflags = SYMBIOTIC_RFLAGS
    }

    /// The segments, CR3 and IDTR with which a handler starts, and with which the guest executes the fast doorbell's OUT.
    static func setHandlerSegments(_ registers: inout kvm_sregs, _ msrs: SymbioticMSRs) {
        let selector = UInt16(truncatingIfNeeded: msrs.cs)
        registers.cs = flatSegment(selector, type: 11, isCode: true)
        registers.ss = flatSegment(selector &+ 8, type: 3, isCode: false)
        registers.gs.base = msrs.gsBase
        registers.cr3 &= ~msrs.cr3Clear
        registers.idt.base = msrs.idt
        registers.idt.limit = UInt16(SYMBIOTIC_IDT_LIMIT)
    }

    /// A flat segment with DPL 0: 64-bit code, or data.
    private static func flatSegment(_ selector: UInt16, type: UInt8, isCode: Bool) -> kvm_segment {
        kvm_segment(
            base: 0, limit: 0xffff_ffff, selector: selector, type: type, present: 1, dpl: 0, db: isCode ? 0 : 1, s: 1, l: isCode ? 1 : 0,
            g: 1, avl: 0, unusable: 0, padding: 0)
    }
}
