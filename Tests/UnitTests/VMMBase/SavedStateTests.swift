// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Testing

@testable import VMMBase

/// The envelope of saved states: kind, version, and invalid values of them in a file.
@Suite struct SavedStateTests {
    private final class Counter: Snapshotable {
        struct State: Codable, Sendable, Equatable {
            var count: Int
        }

        static let stateKind = "counter"
        static let stateVersion = 3
        var count: Int

        init(_ count: Int) {
            self.count = count
        }

        func saveState() throws(VMMError) -> State {
            State(count: count)
        }

        func restoreState(_ state: State) throws(VMMError) {
            guard state.count >= 0 else { throw .user("a negative count") }
            count = state.count
        }
    }

    private final class Other: Snapshotable {
        static let stateKind = "other"

        func saveState() throws(VMMError) -> NoState {
            NoState()
        }

        func restoreState(_ state: NoState) throws(VMMError) {
        }
    }

    private func decode(_ text: String, knowing kinds: [any Snapshotable]) throws -> SavedState {
        let decoder = JSONDecoder()
        var known = StateKinds()
        for kind in kinds { known.add(kind) }
        if let key = StateKinds.key { decoder.userInfo[key] = known }
        return try decoder.decode(SavedState.self, from: Data(text.utf8))
    }

    @Test func aStateComesBackThroughAFile() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let text = String(decoding: try encoder.encode(try SavedState(of: Counter(5))), as: UTF8.self)
        #expect(text == #"{"kind":"counter","state":{"count":5},"version":3}"#)
        let restored = Counter(0)
        try decode(text, knowing: [Counter(0), Other()]).restore(to: restored)
        #expect(restored.count == 5)
    }

    @Test(arguments: [
        #"{"kind":"unknown","state":{"count":5},"version":3}"#, #"{"kind":"counter","state":{"count":5},"version":2}"#,
        #"{"kind":"counter","state":{"count":5},"version":4}"#, #"{"kind":"counter","state":{"count":"5"},"version":3}"#,
        #"{"kind":"counter","state":{},"version":3}"#, #"{"kind":"counter","version":3}"#, #"{"state":{"count":5},"version":3}"#, "[]",
    ])
    func whatIsNoStateIsNotDecoded(text: String) {
        #expect(throws: DecodingError.self) { try decode(text, knowing: [Counter(0)]) }
    }

    @Test func aPartTakesNoStateOfAnotherKind() throws {
        #expect(throws: VMMError.self) { try SavedState(of: Counter(1)).restore(to: Other()) }
        #expect(throws: VMMError.self) { try SavedState(of: Other()).restore(to: Counter(1)) }
        #expect(throws: VMMError.user("a negative count")) { try SavedState(of: Counter(-1)).restore(to: Counter(1)) }
    }

    @Test func aDecoderThatKnowsNoKindTakesNone() {
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode(SavedState.self, from: Data(#"{"kind":"counter","state":{"count":5},"version":3}"#.utf8))
        }
    }
}
