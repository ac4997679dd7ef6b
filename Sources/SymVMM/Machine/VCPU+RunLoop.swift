// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase
internal import VMMModel

/// The run loop. For each exit KVM_RUN returns, the loop reads the reason from the run page, the bus finds the device, the device handles the access,
/// and the recorder counts reason, address and time. This path allocates nothing, formats no string, and takes no lock except a device's own.
extension VCPU {
    /// Runs the guest on the calling thread until the machine's run ends.
    func run() {
        _ = ckvm_unblock_signal(VCPU.kickSignal)
        var entered = ckvm_ticks()
        while true {
            if hasRequests {
                guard serveRequests() else { break }
                // Symcalls made here are not part of an exit.
                nestedTicks = 0
                entered = ckvm_ticks()
            }
            let result = handle.run()
            let returned = ckvm_ticks()
            statistics.recordGuest(ticks: returned &- entered)
            let exit = result < 0 ? handleFailedRun(-result, ticks: returned &- entered) : handleExit()
            entered = ckvm_ticks()
            record(exit, ticks: entered &- returned)
            countExitWithRegisters()
        }
        clock.end()
        recordEnd()
    }

    /// Counts an exit, without the time of the exits nested in it, which are counted separately.
    @inline(__always)
    private func record(_ exit: Exit, ticks: UInt64) {
        let ticks = ticks &- nestedTicks
        nestedTicks = 0
        statistics.record(exit.reason, address: exit.address, ticks: ticks)
        tasks?.record(exit.reason, ticks: ticks)
    }

    /// Handles an exit inside another one: from a symcall's handler, or from an instruction that KVM completes.
    func handleNestedExit(entered: UInt64) {
        let returned = ckvm_ticks()
        statistics.recordGuest(ticks: returned &- entered)
        let outer = nestedTicks
        nestedTicks = 0
        let exit = handleExit()
        let handled = ckvm_ticks()
        statistics.record(exit.reason, address: exit.address, ticks: handled &- returned &- nestedTicks)
        nestedTicks = outer &+ (handled &- entered)
    }

    /// The key of an exit in the statistics.
    private typealias Exit = (reason: ExitReason, address: UInt64)

    @inline(__always)
    private func handleExit() -> Exit {
        // SAFETY: KVM_RUN has returned, so only this thread accesses the run page until the next KVM_RUN.
        let page = unsafe handle.page
        switch Int32(bitPattern: unsafe ckvm_exit_reason(page)) {
        case KVM_EXIT_IO: return unsafe handlePIO(ckvm_exit_port(page))
        case KVM_EXIT_MMIO: return unsafe handleMMIO(ckvm_exit_mmio(page))
        case KVM_EXIT_X86_RDMSR: return unsafe handleReadMSR(ckvm_exit_msr(page))
        case KVM_EXIT_X86_WRMSR: return unsafe handleWriteMSR(ckvm_exit_msr(page))
        case KVM_EXIT_INTR: return (.interrupted, 0)
        case KVM_EXIT_HLT: return (.halt, 0)
        default: return handleLastExit()
        }
    }

    @inline(__always)
    private func handlePIO(_ exit: ckvm_port_exit) -> Exit {
        let isWrite = Int32(exit.direction) == KVM_EXIT_IO_OUT
        let size = Int(exit.size)
        // SAFETY: portData(_:) returns only memory of the run page, which only this thread accesses until the next KVM_RUN.
        guard var data = unsafe handle.portData(exit) else {
            crash("KVM reported a port exit with data outside the run page")
            return (.other, 0)
        }
        let target = ports.find(exit.port)
        // A string instruction (REP OUTS) transfers several values in one exit, all to the same port.
        for _ in 0..<exit.count {
            // SAFETY: portData(_:) checked that `count` values of `size` bytes lie in the run page.
            if isWrite {
                let value = unsafe VCPU.load(data, size)
                target?.device.write(offset: target?.offset ?? 0, size: size, value: value, from: self)
            } else {
                let value = target?.device.read(offset: target?.offset ?? 0, size: size) ?? .max
                unsafe VCPU.store(value, data, size)
            }
            unsafe data += size
        }
        return (isWrite ? .pioWrite : .pioRead, UInt64(exit.port))
    }

    @inline(__always)
    private func handleMMIO(_ exit: ckvm_mmio_exit) -> Exit {
        let size = Int(min(exit.length, 8))
        let target = mmio.find(exit.address, size: size)
        if exit.is_write {
            let value = size == 8 ? exit.data : exit.data & ((1 << (8 &* UInt64(size))) &- 1)
            target?.device.write(offset: target?.offset ?? 0, size: size, value: value, from: self)
            return (.mmioWrite, exit.address)
        }
        // SAFETY: between two runs only this thread accesses the run page. The kernel uses `length` of the eight bytes.
        unsafe ckvm_answer_mmio(handle.page, target?.device.read(offset: target?.offset ?? 0, size: size) ?? .max)
        return (.mmioRead, exit.address)
    }

    private func handleReadMSR(_ exit: ckvm_msr_exit) -> Exit {
        let value = msrs.find(exit.index)?.read(exit.index, from: self)
        // SAFETY: between two runs only this thread accesses the run page.
        unsafe ckvm_answer_msr(handle.page, value ?? 0, value == nil)
        return (.msrRead, UInt64(exit.index))
    }

    private func handleWriteMSR(_ exit: ckvm_msr_exit) -> Exit {
        let taken = msrs.find(exit.index)?.write(exit.index, exit.data, from: self) ?? false
        // SAFETY: between two runs only this thread accesses the run page.
        unsafe ckvm_answer_msr(handle.page, exit.data, !taken)
        return (.msrWrite, UInt64(exit.index))
    }

    @inline(__always)
    private static func load(_ data: UnsafeMutableRawPointer, _ size: Int) -> UInt64 {
        // SAFETY: the caller has checked that `size` bytes are valid.
        switch size {
        case 1: UInt64(unsafe data.load(as: UInt8.self))
        case 2: UInt64(unsafe data.loadUnaligned(as: UInt16.self))
        default: UInt64(unsafe data.loadUnaligned(as: UInt32.self))
        }
    }

    @inline(__always)
    private static func store(_ value: UInt64, _ data: UnsafeMutableRawPointer, _ size: Int) {
        // SAFETY: the caller has checked that `size` bytes are valid.
        switch size {
        case 1: unsafe data.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
        case 2: unsafe data.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
        default: unsafe data.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
        }
    }
}

/// Exits that end the run, and interrupted KVM_RUNs. Not on the exit path.
extension VCPU {
    /// Ticks of a KVM_RUN, some tenths of a second, from which an interruption without a request may have been a stall of the process.
    private static let stallTicks: UInt64 = 1 << 30

    /// KVM_RUN returned an error: EINTR after a kick, or a failure that ends the run.
    ///
    /// EINTR without a request: the process was stopped and continued (SIGSTOP, a debugger, the freezer of its control group, a suspended host). The
    /// guest's clock went on meanwhile; KVM tells the guest, so that it reports no lock-up. A guest that was idle instead is told in vain, which costs
    /// it nothing.
    private func handleFailedRun(_ errno: Int32, ticks: UInt64) -> (reason: ExitReason, address: UInt64) {
        // EAGAIN: a vCPU that waits for SIPI woke up without one.
        if errno == EINTR || errno == EAGAIN {
            if ticks >= VCPU.stallTicks, !hasRequests { handle.recordClockPause() }
            handle.clearInterrupt()
            return (.interrupted, 0)
        }
        crash(VMMError(call: "KVM_RUN", errno: errno).description)
        return (.other, 0)
    }

    /// Handles an exit that ends the run.
    private func handleLastExit() -> (reason: ExitReason, address: UInt64) {
        // SAFETY: between two runs only this thread accesses the run page.
        let page = unsafe handle.page
        let reason = unsafe ckvm_exit_reason(page)
        switch Int32(bitPattern: reason) {
        case KVM_EXIT_SHUTDOWN:
            if hasAnnouncedReset { end(.reset) } else { crashByTripleFault() }
            return (.shutdown, 0)
        case KVM_EXIT_SYSTEM_EVENT:
            handleSystemEvent(unsafe ckvm_exit_system_event(page))
            return (.systemEvent, 0)
        case KVM_EXIT_INTERNAL_ERROR:
            crash("KVM internal error: \(VCPU.internalError(unsafe ckvm_exit_internal_suberror(page)))")
            return (.internalError, 0)
        case KVM_EXIT_FAIL_ENTRY:
            crash(
                "the processor rejected the guest's state, hardware reason 0x\(String(unsafe ckvm_exit_hardware_reason(page), radix: 16))")
            return (.failEntry, 0)
        default:
            crash("unknown KVM exit reason \(reason)")
            return (.other, 0)
        }
    }

    private func handleSystemEvent(_ type: UInt32) {
        switch Int32(bitPattern: type) {
        case KVM_SYSTEM_EVENT_SHUTDOWN: end(.powerOff)
        case KVM_SYSTEM_EVENT_RESET: end(.reset)
        default: crash("the guest reported a crash")
        }
    }

    private static func internalError(_ suberror: UInt32) -> String {
        switch Int32(bitPattern: suberror) {
        case KVM_INTERNAL_ERROR_EMULATION: "it cannot emulate an instruction"
        case KVM_INTERNAL_ERROR_SIMUL_EX: "simultaneous exceptions"
        case KVM_INTERNAL_ERROR_DELIVERY_EV: "an exit during event delivery"
        case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: "an unexpected exit reason"
        default: "\(suberror)"
        }
    }

    /// Ends the run with a crash report of the current registers.
    private func crash(_ reason: String) {
        end(.crashed(CrashReport(reason: reason, vcpu: index, registers: crashRegisters())))
    }

    /// KVM on AMD processors resets the vCPU before it reports the shutdown (svm.c, shutdown_interception). Then the report has no registers.
    private func crashByTripleFault() {
        let registers = crashRegisters()
        func value(_ name: String) -> UInt64? { registers.first { $0.name == name }?.value }
        let isReset = value("RIP") == 0xfff0 && value("CS") == 0xf000 && value("RSP") == 0
        let reason = isReset ? "triple fault (KVM resets the vCPU on this processor, so the registers are lost)" : "triple fault"
        end(.crashed(CrashReport(reason: reason, vcpu: index, registers: isReset ? [] : registers)))
    }

    private func crashRegisters() -> [(name: String, value: UInt64)] {
        var named: [(name: String, value: UInt64)] = []
        if let registers = try? handle.registers() {
            named += [
                ("RIP", registers.rip), ("RSP", registers.rsp), ("RFLAGS", registers.rflags), ("RAX", registers.rax),
                ("RBX", registers.rbx), ("RCX", registers.rcx), ("RDX", registers.rdx), ("RSI", registers.rsi),
                ("RDI", registers.rdi), ("RBP", registers.rbp), ("R8", registers.r8), ("R9", registers.r9),
                ("R10", registers.r10), ("R11", registers.r11), ("R12", registers.r12), ("R13", registers.r13),
                ("R14", registers.r14), ("R15", registers.r15),
            ]
        }
        if let special = try? handle.specialRegisters() {
            named += [
                ("CR0", special.cr0), ("CR2", special.cr2), ("CR3", special.cr3), ("CR4", special.cr4), ("EFER", special.efer),
                ("CS", UInt64(special.cs.selector)), ("SS", UInt64(special.ss.selector)),
            ]
        }
        return named
    }
}
