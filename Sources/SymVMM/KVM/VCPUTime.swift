// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// A vCPU's time stamp counter.
struct VCPUTime: Codable, Sendable, Equatable {
    /// IA32_TSC at the save.
    var counter: UInt64
    /// The offset that KVM adds to the host's TSC; nil if KVM does not report it (before Linux 5.16).
    var offset: UInt64?
    /// Frequency in kHz; 0 if KVM does not report it.
    var kilohertz: UInt32
}

/// A VM's kvmclock.
struct ClockState: Codable, Sendable, Equatable {
    /// Nanoseconds that the guest's kvmclock shows.
    var nanoseconds: UInt64
    /// The host's TSC at that moment; nil if KVM does not report it.
    var hostCounter: UInt64?
}

extension KVMVCPU {
    /// Frequencies that differ by no more count as equal: a host measures its frequency at boot, and not exactly.
    private static let partsPerMillion: UInt64 = 250

    /// Reads the TSC, its offset and its frequency.
    func time() throws(VMMError) -> VCPUTime {
        var entry = kvm_msr_entry(index: SavedMSRs.timeStampCounter, reserved: 0, data: 0)
        // SAFETY: the count is 1, and the variable is one entry that outlives the call.
        let count = try VMMError.check(unsafe ckvm_get_msrs(descriptor.rawValue, &entry, 1), "KVM_GET_MSRS")
        guard count == 1 else { throw VMMError(call: "KVM_GET_MSRS IA32_TSC", errno: ENOENT) }
        var offset: UInt64 = 0
        // SAFETY: the ioctl fills in one integer.
        let hasOffset = unsafe ckvm_get_tsc_offset(descriptor.rawValue, &offset) >= 0
        return VCPUTime(
            counter: entry.data, offset: hasOffset ? offset : nil, kilohertz: UInt32(max(0, ckvm_get_tsc_khz(descriptor.rawValue))))
    }

    /// Sets the TSC to the saved frequency. Returns false if that differs from the host's, so that KVM scales the TSC from now on.
    func restoreFrequency(_ time: VCPUTime) throws(VMMError) -> Bool {
        let own = UInt64(max(0, ckvm_get_tsc_khz(descriptor.rawValue)))
        let saved = UInt64(time.kilohertz)
        guard own > 0, saved > 0 else { return true }
        let difference = own > saved ? own - saved : saved - own
        if difference * 1_000_000 <= saved * KVMVCPU.partsPerMillion { return true }
        guard ckvm_set_tsc_khz(descriptor.rawValue, time.kilohertz) >= 0 else {
            throw .user("the saved guest's time stamp counter runs at \(saved) kHz, this host's at \(own), and KVM cannot scale it here")
        }
        return false
    }

    /// Writes the TSC. KVM synchronizes TSCs that are written within a second of each other (x86.c, kvm_synchronize_tsc).
    func setCounter(_ value: UInt64) throws(VMMError) {
        try setMSR(SavedMSRs.timeStampCounter, value)
    }

    /// Sets the offset that KVM adds to the host's TSC; false if KVM does not support it.
    func setCounterOffset(_ offset: UInt64) -> Bool {
        ckvm_set_tsc_offset(descriptor.rawValue, offset) >= 0
    }
}

extension KVMVirtualMachine {
    /// Reads kvmclock (KVM API 4.29).
    func clock() throws(VMMError) -> ClockState {
        var data = kvm_clock_data()
        // SAFETY: the ioctl fills in one value of this type.
        _ = try VMMError.check(unsafe ckvm_get_clock(descriptor.rawValue, &data), "KVM_GET_CLOCK")
        let tellsCounter = data.flags & UInt32(CKVM_CLOCK_HOST_TSC) != 0
        return ClockState(nanoseconds: data.clock, hostCounter: tellsCounter ? data.host_tsc : nil)
    }

    /// Continues kvmclock at the saved value, so that no time passes for the guest (KVM API 4.30, without KVM_CLOCK_REALTIME).
    func setClock(nanoseconds: UInt64) throws(VMMError) {
        var data = kvm_clock_data()
        data.clock = nanoseconds
        // SAFETY: the ioctl reads one value of this type.
        _ = try VMMError.check(unsafe ckvm_set_clock(descriptor.rawValue, &data), "KVM_SET_CLOCK")
    }

    /// Restores kvmclock and all TSCs with the relation that they had at the save (Documentation/virt/kvm/devices/vcpu.rst, 4.1).
    ///
    /// - Parameters:
    ///   - times: the saved TSCs, in the order of the vCPUs.
    ///   - isScaled: KVM scales the TSCs, so the host's ticks are not the guest's.
    ///   - setOffset: sets the TSC offset of the vCPU with this index; false if KVM does not support it.
    ///   - setCounter: writes the TSC of the vCPU with this index.
    func restoreTime(
        _ clock: ClockState, _ times: [VCPUTime], isScaled: Bool, setOffset: (Int, UInt64) -> Bool,
        setCounter: (Int, UInt64) throws(VMMError) -> Void
    ) throws(VMMError) {
        try setClock(nanoseconds: clock.nanoseconds)
        let now = try self.clock()
        if !isScaled, let before = clock.hostCounter, let after = now.hostCounter {
            // At the save, the guest's TSC was `before + offset` while kvmclock was `clock.nanoseconds`. The new offset restores this relation.
            let late = now.nanoseconds &- clock.nanoseconds
            let isDone = times.indices.allSatisfy { index in
                guard let offset = times[index].offset else { return false }
                let ticks = late.multipliedFullWidth(by: UInt64(times[index].kilohertz))
                guard ticks.high < 1_000_000 else { return false }
                let elapsed = UInt64(1_000_000).dividingFullWidth(ticks).quotient
                return setOffset(index, offset &+ before &- after &+ elapsed)
            }
            if isDone { return }
        }
        for (index, time) in times.enumerated() { try setCounter(index, time.counter) }
    }
}
