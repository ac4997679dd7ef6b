// SPDX-License-Identifier: Apache-2.0

/// A device behind model-specific registers. Called on a vCPU's thread, like `BusDevice`.
class MSRDevice: @unchecked Sendable {
    /// The name in statistics and messages.
    let name: String

    /// Creates a device with a name.
    init(name: String) {
        self.name = name
    }

    /// Handles RDMSR. Nil injects #GP.
    func read(_ index: UInt32, from context: VCPUContext) -> UInt64? {
        nil
    }

    /// Handles WRMSR. False injects #GP.
    func write(_ index: UInt32, _ value: UInt64, from context: VCPUContext) -> Bool {
        false
    }
}

/// The model-specific registers that symvmm handles: at most one contiguous range, the one in the kernel's MSR filter.
struct MSRBus: Sendable {
    /// The range's device.
    let device: MSRDevice?
    /// The registers.
    let range: Range<UInt32>

    /// A bus with no device.
    init() {
        device = nil
        range = 0..<0
    }

    /// A bus with a device on a range.
    init(_ device: MSRDevice, _ range: Range<UInt32>) {
        self.device = device
        self.range = range
    }

    /// The device at a register.
    @inline(__always)
    func find(_ index: UInt32) -> MSRDevice? {
        range.contains(index) ? device : nil
    }
}
