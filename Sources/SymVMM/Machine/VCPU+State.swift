// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// A vCPU's state: KVM's part, and its registration with the symbiotic interface. The statistics are not part of it.
struct VCPUState: Codable, Sendable {
    var kernel: KVMVCPUState
    /// Nil when the VM does not offer the interface.
    var registration: VCPURegistrationState?
}

/// On the thread that saves the machine, while the vCPU's thread waits.
extension VCPU {
    /// KVM_RUNs to complete one instruction. A guest can make an OUT repeat without end (REP OUTS).
    private static let completionAttempts = 4096

    /// Completes the instruction that caused the last exit. KVM completes it only in the next KVM_RUN; before that, the registers are not final
    /// (KVM API 5, note on KVM_EXIT_IO).
    func completeExitInHand() throws(VMMError) {
        for _ in 0..<VCPU.completionAttempts {
            handle.interrupt()
            let result = runToCompleteExit()
            handle.clearInterrupt()
            // EAGAIN: the vCPU waits for SIPI.
            if result == -EINTR || result == -EAGAIN { return }
            _ = try VMMError.check(result, "KVM_RUN", advice: "vCPU \(index)")
        }
        throw VMMError(.guest, "vCPU \(index): KVM cannot complete an instruction that repeats without end: try again")
    }

    /// Makes one KVM_RUN, which returns when KVM has completed the instruction. Handles a further exit of the same instruction, and
    /// ignores doorbells.
    private func runToCompleteExit() -> Int32 {
        guard let symCallEngine else { return runOnce() }
        return symCallEngine.completingExit { runOnce() }
    }

    private func runOnce() -> Int32 {
        let entered = ckvm_ticks()
        let result = handle.run()
        if result == 0 { handleNestedExit(entered: entered) }
        return result
    }

    /// Returns the vCPU's state.
    func saveState(msrs: [UInt32], extendedStateByteCount: Int) throws(VMMError) -> VCPUState {
        do throws(VMMError) {
            return VCPUState(
                kernel: try handle.saveState(msrs: msrs, extendedStateByteCount: extendedStateByteCount),
                registration: symCallEngine?.saveRegistration())
        } catch {
            throw error.of("vCPU \(index)")
        }
    }
}
