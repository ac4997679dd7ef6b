// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI

/// What the guest says of its switch in SWAP_STATE, in one word that is written and read at once.
struct GuestWord {
    /// Whether bypass is in force.
    var isOn = false
    /// Why it is not as it was asked to be: SYMBIOTIC_SWAP_NO_*.
    var reason: UInt32 = SYMBIOTIC_SWAP_NO_REASON
    /// The number of the wish that it answers.
    var number: UInt32 = 0
}

extension GuestWord {
    private static let reasonBits: UInt64 = 0x7fff_ffff

    init(_ packed: UInt64) {
        self.init(
            isOn: packed & 1 != 0, reason: UInt32(truncatingIfNeeded: packed >> 1 & GuestWord.reasonBits),
            number: UInt32(truncatingIfNeeded: packed >> 32))
    }

    var packed: UInt64 {
        UInt64(number) << 32 | (UInt64(reason) & GuestWord.reasonBits) << 1 | (isOn ? 1 : 0)
    }

    /// Whether it answers this wish or a later one; numbers go round.
    func answers(_ wish: UInt32) -> Bool {
        Int32(bitPattern: number &- wish) >= 0
    }

    /// The reason in words.
    var obstacle: String {
        switch reason {
        case SYMBIOTIC_SWAP_NO_WINDOW: "the guest got no window"
        case SYMBIOTIC_SWAP_NO_KERNEL: "the guest's kernel is not one that the module can bypass swap in"
        case SYMBIOTIC_SWAP_NO_SYMBOLS: "the guest's kernel does not have a function that the module needs"
        case SYMBIOTIC_SWAP_NO_MEMORY: "the guest has no memory for the module's books"
        case SYMBIOTIC_SWAP_NO_HOOK: "the guest's kernel refused the hook"
        case SYMBIOTIC_SWAP_NO_ZSWAP: "the guest uses zswap"
        default: "the guest did not switch (reason \(reason))"
        }
    }
}
