// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// Doorbells rung at the gate (docs/ABI.md, section 6.1).
///
/// The gate is one OUT instruction whose address the guest's kernel has registered. Who executes it vouches that segments, page tables and IDT
/// are those that a handler needs, and that nothing is being injected into a vCPU that leaves for its own OUT goes without saying. So a
/// symcall there changes the general registers alone. To take and give the others costs KVM more than an exit does.
extension VCPU {
    static let generalRegisters = UInt64(KVM_SYNC_X86_REGS)
    /// Bytes of `OUT imm8, AL`.
    private static let gateByteCount: UInt64 = 2
    /// RFLAGS.IF; the gate's interrupts are off.
    private static let interruptFlag: UInt64 = 1 << 9

    /// Begins a session with the registers as they are behind the gate's OUT. False when that is not the exit in hand.
    ///
    /// KVM has done all of the OUT but perhaps moving RIP past it. If no symcall follows, nothing is changed and KVM finishes it.
    @inline(__always)
    func enterGate(_ symbiotic: SymbioticProcessor, _ interface: SymbioticInterface) -> Bool {
        let gate = symbiotic.registration(interface).gate
        guard gate != 0, handle.isSingleByteOutput else { return false }
        // SAFETY: here and below, a value that lives as long as `symbiotic`, and that only this thread uses.
        let saved = unsafe symbiotic.savedAtGate
        if givenRegisters & VCPU.generalRegisters != 0 {
            unsafe handle.takeGeneralRegisters(saved)
        } else {
            guard let registers = try? handle.registers() else { return false }
            unsafe saved.pointee = registers
        }
        let (rip, flags) = unsafe (saved.pointee.rip, saved.pointee.rflags)
        let behind = gate &+ VCPU.gateByteCount
        guard rip == gate || rip == behind, flags & (VCPU.trapOrResumeFlag | VCPU.interruptFlag) == 0
        else { return false }
        unsafe saved.pointee.rip = behind
        symbiotic.isAtGate = true
        giveRegistersForAWhile(VCPU.generalRegisters)
        return true
    }

    /// Puts the vCPU back behind the gate. False when the session is not one at the gate.
    @inline(__always)
    func endSessionAtGate(_ symbiotic: SymbioticProcessor) -> Bool {
        guard symbiotic.isAtGate else { return false }
        symbiotic.isAtGate = false
        guard symbiotic.isDisplaced else { return true }
        symbiotic.isDisplaced = false
        // SAFETY: as in enterGate(_:_:).
        unsafe handle.giveGeneralRegisters(symbiotic.savedAtGate)
        handle.setDirtyRegisters(VCPU.generalRegisters)
        return true
    }

    /// A handler called at the gate was cut off, anywhere, and its last exit finished with all registers given: makes of the session one that puts
    /// back all that the gate's OUT is executed with, and drops what is on its way into the handler.
    ///
    /// - Parameter registration: the one that the handler was called with. It may have been dropped since.
    func leaveGate(_ symbiotic: SymbioticProcessor, _ registration: SymbioticRegistration) {
        guard symbiotic.isAtGate else { return }
        symbiotic.isAtGate = false
        var state = handle.syncedRegisters
        // SAFETY: as in enterGate(_:_:).
        state.regs = unsafe symbiotic.savedAtGate.pointee
        VCPU.setHandlerSegments(&state.sregs, registration)
        state.events.exception.injected = 0
        state.events.exception.pending = 0
        state.events.interrupt.injected = 0
        state.events.interrupt.shadow = 0
        state.events.nmi.injected = 0
        state.events.nmi.masked = 0
        symbiotic.saved = state
    }
}
