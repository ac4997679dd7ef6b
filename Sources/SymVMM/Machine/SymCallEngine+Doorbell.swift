// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// Doorbells (docs/ABI.md, section 6): the guest's kernel executes OUT to the doorbell's port.
extension SymCallEngine {
    /// RFLAGS.TF traps after the OUT, and RFLAGS.RF is cleared by it.
    private static let trapOrResumeFlag: UInt64 = 1 << 8 | 1 << 16
    private static let interruptFlag: UInt64 = 1 << 9
    /// Bytes of `OUT imm8, AL`.
    private static let outByteCount: UInt64 = 2

    /// Handles a write to the doorbell's port. The only entry for doorbells: it opens a session, and the interface or a service handles the doorbell
    /// in it.
    ///
    /// - Returns: false when the VMM ignores the write: from user mode, from a handler, or while KVM completes an instruction.
    func handleDoorbell(_ number: UInt8, on vcpu: VCPU) -> Bool {
        guard stateMachine.open(.doorbell) else { return false }
        defer { closeSession(vcpu) }
        guard saveAtFastDoorbell(vcpu) || saveAfterDoorbell(vcpu) else { return false }
        // SAFETY: saved just now; only this thread uses it.
        let values = unsafe SymCallValues(
            saved.pointee.regs.rbx, saved.pointee.regs.rcx, saved.pointee.regs.rdx, saved.pointee.regs.rsi, saved.pointee.regs.rdi)
        interface.dispatchDoorbell(number, values, vcpu)
        return true
    }

    // MARK: Any doorbell

    /// Saves all registers as they are after the doorbell's OUT. False when KVM cannot complete the OUT, or a program in user mode executed it.
    ///
    /// Completing an exit costs a KVM_RUN. A doorbell's OUT is two bytes long (docs/ABI.md, section 6), and KVM has done all of it except, perhaps,
    /// moving RIP. Whether KVM moves RIP before the exit, the VMM learns when KVM completes a doorbell. From then on, when KVM has stored the
    /// registers at the exit, the VMM computes the registers. If no symcall follows, the VMM changes nothing, and KVM completes the OUT.
    private func saveAfterDoorbell(_ vcpu: VCPU) -> Bool {
        // SAFETY: between two runs only this thread accesses the run page, and only it uses `saved`.
        let registers = unsafe vcpu.handle.syncedRegisters
        let isStored = vcpu.validRegisters == SyncedRegisters.all && vcpu.handle.isSingleByteOutput
        if isStored, let advance = doorbellAdvance.byteCount, unsafe registers.pointee.regs.rflags & SymCallEngine.trapOrResumeFlag == 0 {
            unsafe saved.update(from: registers, count: 1)
            unsafe saved.pointee.regs.rip &+= advance
            unsafe saved.pointee.events.interrupt.shadow = 0
        } else {
            let rip = unsafe registers.pointee.regs.rip
            guard stateMachine.beginCompletingExit() else { return false }
            let isComplete = completeExit(vcpu)
            guard stateMachine.endCompletingExit(), isComplete else { return false }
            unsafe saved.update(from: registers, count: 1)
            if isStored { doorbellAdvance.learn(unsafe saved.pointee.regs.rip &- rip) }
        }
        vcpu.storeRegistersAtNextExits(SyncedRegisters.all)
        return isSavedInKernelMode && stateMachine.save(.all)
    }

    // MARK: The fast doorbell

    /// Saves the general registers as they are after the fast doorbell's OUT. False when the exit is not that of the fast doorbell.
    ///
    /// The fast doorbell is one OUT, whose address the guest has registered (docs/ABI.md, section 6.1). The guest guarantees that segments, page
    /// tables and IDT are those that a handler needs, and KVM injects no event into a vCPU that exits for its own OUT. So a symcall changes the
    /// general registers only. Getting and setting the other registers costs KVM more than an exit.
    ///
    /// KVM has done all of the OUT except, perhaps, moving RIP past it. If no symcall follows, the VMM changes nothing, and KVM completes the OUT.
    @inline(__always)
    private func saveAtFastDoorbell(_ vcpu: VCPU) -> Bool {
        let address = registration.current.fastDoorbell
        guard address != 0, vcpu.handle.isSingleByteOutput else { return false }
        // SAFETY: only this thread accesses `saved` and, between two runs, the run page.
        if vcpu.validRegisters & SyncedRegisters.general != 0 {
            unsafe ckvm_copy_general_registers(saved, vcpu.handle.syncedRegisters)
        } else {
            guard let registers = try? vcpu.handle.registers() else { return false }
            unsafe saved.pointee.regs = registers
        }
        let (rip, flags) = unsafe (saved.pointee.regs.rip, saved.pointee.regs.rflags)
        let next = address &+ SymCallEngine.outByteCount
        guard rip == address || rip == next, flags & (SymCallEngine.trapOrResumeFlag | SymCallEngine.interruptFlag) == 0,
            stateMachine.save(.general)
        else { return false }
        unsafe saved.pointee.regs.rip = next
        vcpu.storeRegistersAtNextExits(SyncedRegisters.general)
        return true
    }

    /// Extends the saved general registers to all registers, for the restore after an aborted handler: those with which the guest executes the fast
    /// doorbell's OUT. Drops events that KVM was about to inject into the handler. KVM must have completed the handler's last instruction.
    ///
    /// - Parameter msrs: those that the handler was called with.
    func saveFastDoorbellRegisters(_ msrs: SymbioticMSRs, _ vcpu: VCPU) {
        // SAFETY: only this thread accesses `saved` and, between two runs, the run page.
        let general = unsafe saved.pointee.regs
        unsafe saved.update(from: vcpu.handle.syncedRegisters, count: 1)
        unsafe saved.pointee.regs = general
        unsafe SymCallEngine.setHandlerSegments(&saved.pointee.sregs, msrs)
        unsafe saved.pointee.events.exception.injected = 0
        unsafe saved.pointee.events.exception.pending = 0
        unsafe saved.pointee.events.interrupt.injected = 0
        unsafe saved.pointee.events.interrupt.shadow = 0
        unsafe saved.pointee.events.nmi.injected = 0
        unsafe saved.pointee.events.nmi.masked = 0
    }
}
