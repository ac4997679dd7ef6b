// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

@Suite struct GuestMemoryCopyTests {
    @Test func allBytesAreThoseOfTheOther() throws {
        let (from, to) = (try GuestMemory(byteCount: 4 << 20), try GuestMemory(byteCount: 4 << 20))
        try from.store(UInt64(1), at: 0)
        try from.store(UInt64(2), at: (4 << 20) - 8)
        try to.store(UInt64(3), at: 0)
        // A page that is zero in the source but not in the destination.
        try to.store(UInt64(4), at: 0x5000)
        try to.copy(from: from)
        #expect(try to.load(0) == UInt64(1))
        #expect(try to.load((4 << 20) - 8) == UInt64(2))
        #expect(try to.load(0x5000) == UInt64(0))
        #expect(throws: VMMError.self) { try to.copy(from: try GuestMemory(byteCount: 8 << 20)) }
    }
}
