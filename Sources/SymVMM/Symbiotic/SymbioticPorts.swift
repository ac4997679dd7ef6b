// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI

/// The three ports of the symbiotic interface: a handler's return and failure, and the guest's doorbell (docs/ABI.md, 4.3, 5 and 6).
final class SymbioticPorts: BusDevice, @unchecked Sendable {
    /// First port.
    static let basePort = UInt16(SYMBIOTIC_PORT_RETURN)
    /// Number of ports.
    static let portCount = 3

    private let interface: SymbioticInterface

    init(_ interface: SymbioticInterface) {
        self.interface = interface
        super.init(name: "symbiotic")
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        let vcpu = context as? SymbioticVCPU
        switch offset {
        case 0: note(vcpu?.symbiotic?.recordReturn(.returned) ?? false)
        case 1: note(vcpu?.symbiotic?.recordReturn(.faulted) ?? false)
        default:
            guard size == 1, let vcpu, vcpu.handleDoorbellWrite(UInt8(truncatingIfNeeded: value)) else {
                interface.counters.doorbellsIgnored.increment()
                return
            }
        }
    }

    private func note(_ isTaken: Bool) {
        if !isTaken { interface.counters.returnsIgnored.increment() }
    }
}
