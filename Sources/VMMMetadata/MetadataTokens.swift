// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization
internal import VMMBase

/// The tokens of version 2: random words that the guest gets and shows again, each for a time.
///
/// A guest may ask for as many as it likes: a new one takes the place of the oldest of `capacity`. Thread-safe.
final class MetadataTokens: Sendable {
    /// Seconds that a token may be valid.
    static let lifetimes: ClosedRange<UInt32> = 1...21_600
    /// Most tokens that are valid at the same time.
    static let capacity = 256
    private static let byteCount = 32

    private struct Token {
        let bytes: [UInt8]
        /// Nanoseconds of CLOCK_MONOTONIC.
        let end: UInt64
    }

    private struct State {
        var tokens: [Token] = []
        var next = 0
    }

    private let state = Mutex(State())

    /// Makes a token; nil if the host has no random numbers.
    ///
    /// - Parameter seconds: how long it is valid, within `lifetimes`.
    func make(seconds: UInt32) -> String? {
        var bytes = [UInt8](repeating: 0, count: MetadataTokens.byteCount)
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            // SAFETY: the call writes at most the buffer's bytes.
            unsafe ckvm_random(buffer.baseAddress, buffer.count)
        }
        guard count == bytes.count else { return nil }
        let word = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let token = Token(bytes: Array(word.utf8), end: TickClock.monotonicNanoseconds() &+ UInt64(seconds) &* 1_000_000_000)
        state.withLock { state in
            if state.tokens.count < MetadataTokens.capacity {
                state.tokens.append(token)
            } else {
                state.tokens[state.next] = token
                state.next = (state.next + 1) % MetadataTokens.capacity
            }
        }
        return word
    }

    /// Whether a word is a token that is still valid. Takes the same time for all words of the right length.
    func isValid(_ word: String) -> Bool {
        let given = Array(word.utf8)
        guard given.count == MetadataTokens.byteCount * 2 else { return false }
        let now = TickClock.monotonicNanoseconds()
        return state.withLock { state in
            var isFound = false
            for token in state.tokens {
                var difference: UInt8 = 0
                for (left, right) in zip(token.bytes, given) { difference |= left ^ right }
                isFound = (difference == 0 && token.end > now) || isFound
            }
            return isFound
        }
    }
}
