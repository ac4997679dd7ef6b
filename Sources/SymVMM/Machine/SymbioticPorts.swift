// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI
internal import VMMBase

/// The three ports of the symbiotic interface: a handler's return, a handler's failure, and the doorbell (docs/ABI.md, sections 4.3, 5 and 6).
final class SymbioticPorts: BusDevice, @unchecked Sendable {
    /// The first port.
    static let basePort = UInt16(SYMBIOTIC_PORT_RETURN)
    /// Number of ports.
    static let portCount = 3

    private let counters: SymbioticCounters

    init(_ interface: SymbioticInterface) {
        counters = interface.counters
        super.init(name: "symbiotic")
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        // VCPU is final, so the cast is one comparison.
        guard let vcpu = context as? VCPU, let engine = vcpu.symCallEngine else { return }
        switch offset {
        case 0:
            if !engine.stateMachine.recordHandlerEnd(.returned) { counters.returnsIgnored.increment() }
        case 1:
            if !engine.stateMachine.recordHandlerEnd(.faulted) { counters.returnsIgnored.increment() }
        default:
            guard size == 1, engine.handleDoorbell(UInt8(truncatingIfNeeded: value), on: vcpu) else {
                counters.doorbellsIgnored.increment()
                return
            }
        }
    }
}

/// It has no state.
extension SymbioticPorts: Snapshotable {
    static let stateKind = "symbiotic-ports"

    func saveState() throws(VMMError) -> NoState {
        NoState()
    }

    func restoreState(_ state: NoState) throws(VMMError) {
    }
}
