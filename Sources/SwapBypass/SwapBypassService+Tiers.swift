// SPDX-License-Identifier: Apache-2.0

internal import SwapBypassABI
internal import SymVMM
internal import Synchronization
internal import VMMBase

/// The guest's side of moves between the tiers, on the mover's thread.
extension SwapBypassService: TierGuest {
    /// Nanoseconds until a request that the guest has not served counts as failed.
    private static let serveTimeout: UInt64 = 5_000_000_000
    /// Nanoseconds between two looks at the machine, which may be paused meanwhile.
    private static let lookInterval: UInt64 = 20_000_000

    var isRunning: Bool { machine?.isRunning ?? false }

    /// SWAP_EVICT over all slots. The module looks at the resident-slot bitmap, in which the mover has cleared the bits.
    func evict() -> Bool {
        // Without the window the guest maps nothing. If its module attaches now, it finds the bits cleared.
        guard mapped.withLock({ $0.window }) else { return true }
        guard canEvict.load(ordering: .sequentiallyConsistent) else { return false }
        switch serve(SYMBIOTIC_SYMCALL_SWAP_EVICT) {
        case .served: return true
        // The module removes the symcall, and itself, only after it has restored all entries.
        case .noModule: return true
        case .failed: return false
        }
    }

    /// SWAP_AGE over all slots.
    func age() -> Bool {
        guard isActive, canEvict.load(ordering: .sequentiallyConsistent) else { return false }
        return serve(SYMBIOTIC_SYMCALL_SWAP_AGE) == .served
    }

    private enum Served {
        case served, noModule, failed
    }

    /// Makes a symcall, and waits for the doorbell that says that the guest has served it.
    private func serve(_ symcall: UInt32) -> Served {
        guard let machine else { return .failed }
        let number = tierRequests.withLock { requests in
            requests.made &+= 1
            return requests.made
        }
        do throws(SymCallFailure) {
            _ = try machine.symcall(symcall, SymCallValues(0, store.byteCount / GuestMemory.pageSize, number), vcpu: nil)
        } catch {
            return error == .unknown || error == .noModule ? .noModule : .failed
        }
        let deadline = TickClock.monotonicNanoseconds() &+ SwapBypassService.serveTimeout
        while machine.isRunning {
            let now = TickClock.monotonicNanoseconds()
            let moment = min(deadline, now &+ SwapBypassService.lookInterval)
            if tierRequests.wait(until: moment, { $0.served == number ? true : nil }) == true { return .served }
            guard now < deadline else { break }
        }
        return .failed
    }
}
