// SPDX-License-Identifier: Apache-2.0

import CKVM
import Glibc
import Synchronization

@testable import SymVMM
@testable import VMMBase

/// The ports through which a test gives commands and the guest answers.
final class Strings: BusDevice, @unchecked Sendable {
    static let base: UInt16 = 0x90
    static let commandPort: UInt8 = 0x90
    static let handlePIO: UInt8 = 0x94
    static let lowPort: UInt8 = 0x95
    static let highPort: UInt8 = 0x96
    static let userPort: UInt8 = 0x97
    static let kernelPort: UInt8 = 0x98

    private struct Traffic {
        var commands: [UInt32] = []
        var answers: [UInt32] = []
        var low: UInt32 = 0
        var high: UInt32 = 0
    }

    private let state = Mutex(Traffic())

    init() {
        super.init(name: "strings")
    }

    func enqueue(_ words: [UInt32]) {
        state.withLock { $0.commands += words }
    }

    var value: UInt64 {
        state.withLock { UInt64($0.high) << 32 | UInt64($0.low) }
    }

    func answer(within milliseconds: Int) -> UInt32? {
        for _ in 0..<(milliseconds * 10) {
            if let answer = state.withLock({ $0.answers.isEmpty ? nil : $0.answers.removeFirst() }) { return answer }
            usleep(100)
        }
        return nil
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        UInt64(state.withLock { $0.commands.isEmpty ? 0 : $0.commands.removeFirst() })
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        let word = UInt32(truncatingIfNeeded: value)
        switch UInt8(Strings.base) + UInt8(offset) {
        case Strings.handlePIO: state.withLock { $0.answers.append(word) }
        case Strings.lowPort: state.withLock { $0.low = word }
        case Strings.highPort: state.withLock { $0.high = word }
        case Strings.userPort: setPrivilege(3, context)
        case Strings.kernelPort: setPrivilege(0, context)
        default: break
        }
    }

    /// Changes the vCPU's ring: this KVM may not emulate the instructions for that.
    private func setPrivilege(_ level: UInt8, _ context: VCPUContext) {
        guard let processor = context as? VCPU, var special = try? processor.handle.specialRegisters() else { return }
        special.cs.dpl = level
        special.ss.dpl = level
        special.cs.selector = special.cs.selector & ~3 | UInt16(level)
        special.ss.selector = special.ss.selector & ~3 | UInt16(level)
        try? processor.handle.setSpecialRegisters(special)
    }
}

/// The saved state is empty: the machines before and after a restore share the object.
extension Strings: Snapshotable {
    static let stateKind = "strings"

    func saveState() throws(VMMError) -> NoState {
        NoState()
    }

    func restoreState(_ state: NoState) throws(VMMError) {
    }
}
