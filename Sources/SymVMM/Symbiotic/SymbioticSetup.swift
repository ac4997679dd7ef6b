// SPDX-License-Identifier: Apache-2.0

/// The parts of the symbiotic interface that a machine's vCPUs share.
struct SymbioticSetup: Sendable {
    let interface: SymbioticInterface
    let watchdog: SymCallWatchdog
    /// Feature bits for CPUID (docs/ABI.md, section 1).
    let features: UInt32
    /// Ticks of the time stamp counter that a handler may take.
    let limitTicks: UInt64
}
