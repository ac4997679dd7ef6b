// SPDX-License-Identifier: Apache-2.0

internal import SwapBypassABI

/// The guest's report in SWAP_STATE. It packs into one integer, so that threads read and write it atomically.
struct SwitchStatus {
    /// Bypass is on in the guest.
    var isOn = false
    /// Why bypass is not on although the VMM requested it: SYMBIOTIC_SWAP_NO_*.
    var reason: UInt32 = SYMBIOTIC_SWAP_NO_REASON
    /// Generation of the request that the guest has served.
    var requestGeneration: UInt32 = 0
}

extension SwitchStatus {
    private static let reasonBits: UInt64 = 0x7fff_ffff

    init(_ packed: UInt64) {
        self.init(
            isOn: packed & 1 != 0, reason: UInt32(truncatingIfNeeded: packed >> 1 & SwitchStatus.reasonBits),
            requestGeneration: UInt32(truncatingIfNeeded: packed >> 32))
    }

    var packed: UInt64 {
        UInt64(requestGeneration) << 32 | (UInt64(reason) & SwitchStatus.reasonBits) << 1 | (isOn ? 1 : 0)
    }

    /// Whether the guest has served this request or a later one. Generations wrap around.
    func isServed(_ generation: UInt32) -> Bool {
        Int32(bitPattern: requestGeneration &- generation) >= 0
    }

    /// The reason in words.
    var unavailableReason: String {
        switch reason {
        case SYMBIOTIC_SWAP_NO_WINDOW: "the VMM could not map the swap window"
        case SYMBIOTIC_SWAP_NO_KERNEL: "the module does not support swap bypass on the guest's kernel"
        case SYMBIOTIC_SWAP_NO_SYMBOLS: "the guest's kernel lacks a function that the module needs"
        case SYMBIOTIC_SWAP_NO_MEMORY: "the guest has no memory for the module's tables"
        case SYMBIOTIC_SWAP_NO_HOOK: "the guest's kernel refused an ftrace hook"
        case SYMBIOTIC_SWAP_NO_ZSWAP: "zswap is or was enabled in the guest"
        default: "the guest did not switch (reason \(reason))"
        }
    }
}
