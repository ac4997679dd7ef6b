// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// The interrupt controllers in the kernel: the master and slave PIC, and the IO-APIC. (Local APICs belong to the vCPUs.)
struct InterruptControllerState: Codable, Sendable {
    /// In the order of KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC.
    var chips: [KernelBytes<kvm_irqchip>]
}

/// The interval timer (i8254) in the kernel.
struct IntervalTimerState: Codable, Sendable {
    var registers: KernelBytes<kvm_pit_state2>
    /// CLOCK_MONOTONIC at the save. KVM's timer counts by this clock.
    var nanoseconds: UInt64
}

extension KVMVirtualMachine {
    private static let chipCount: UInt32 = 3

    /// Reads the interrupt controllers (KVM API 4.26).
    func saveInterruptControllers() throws(VMMError) -> InterruptControllerState {
        var chips: [KernelBytes<kvm_irqchip>] = []
        for number in 0..<KVMVirtualMachine.chipCount {
            var chip = kvm_irqchip()
            chip.chip_id = number
            // SAFETY: the ioctl fills in one value of this type.
            _ = try VMMError.check(unsafe ckvm_get_irqchip(descriptor.rawValue, &chip), "KVM_GET_IRQCHIP")
            chips.append(KernelBytes(chip))
        }
        return InterruptControllerState(chips: chips)
    }

    /// Restores the interrupt controllers (KVM API 4.27). After the local APICs: the IO-APIC delivers its pending interrupts to them.
    func restore(_ state: InterruptControllerState) throws(VMMError) {
        guard state.chips.count == Int(KVMVirtualMachine.chipCount) else {
            throw .user("the saved state has \(state.chips.count) interrupt controllers, not \(KVMVirtualMachine.chipCount)")
        }
        for (number, saved) in state.chips.enumerated() {
            var chip = kvm_irqchip()
            try saved.restore(to: &chip)
            chip.chip_id = UInt32(number)
            // SAFETY: the ioctl reads one value of this type.
            _ = try VMMError.check(unsafe ckvm_set_irqchip(descriptor.rawValue, &chip), "KVM_SET_IRQCHIP")
        }
    }

    /// Reads the interval timer (KVM API 4.72).
    func saveIntervalTimer() throws(VMMError) -> IntervalTimerState {
        var timer = kvm_pit_state2()
        // SAFETY: the ioctl fills in one value of this type.
        _ = try VMMError.check(unsafe ckvm_get_pit2(descriptor.rawValue, &timer), "KVM_GET_PIT2")
        return IntervalTimerState(registers: KernelBytes(timer), nanoseconds: TickClock.monotonicNanoseconds())
    }

    /// Restores the interval timer (KVM API 4.73). After the interrupt controllers: it may raise its interrupt at once.
    func restore(_ state: IntervalTimerState) throws(VMMError) {
        var timer = kvm_pit_state2()
        try state.registers.restore(to: &timer)
        // Each channel stores the host time at which it started to count. Shift it by the time since the save.
        let passed = Int64(truncatingIfNeeded: TickClock.monotonicNanoseconds() &- state.nanoseconds)
        timer.channels.0.count_load_time &+= passed
        timer.channels.1.count_load_time &+= passed
        timer.channels.2.count_load_time &+= passed
        // SAFETY: the ioctl reads one value of this type.
        _ = try VMMError.check(unsafe ckvm_set_pit2(descriptor.rawValue, &timer), "KVM_SET_PIT2")
    }

    /// Bytes of a vCPU's XSAVE area.
    var extendedStateByteCount: Int {
        max(Int(check(KVM_CAP_XSAVE2)), MemoryLayout<kvm_xsave>.size)
    }
}

extension KVMSystem {
    /// The MSRs that KVM can save on this host (KVM API 4.3).
    func savedMSRs() throws(VMMError) -> [UInt32] {
        var indices = [UInt32](repeating: 0, count: 1024)
        // SAFETY: the array has the capacity that is passed.
        let result = unsafe ckvm_get_msr_index_list(descriptor.rawValue, &indices, UInt32(indices.count))
        return Array(indices.prefix(Int(try VMMError.check(result, "KVM_GET_MSR_INDEX_LIST"))))
    }
}
