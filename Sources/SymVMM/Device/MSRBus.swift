// SPDX-License-Identifier: Apache-2.0

/// A device behind model-specific registers. Called on a vCPU's thread, like `BusDevice`.
open class MSRDevice: @unchecked Sendable {
    /// The name in statistics and messages.
    public let name: String

    /// Names the device.
    public init(name: String) {
        self.name = name
    }

    /// Answers RDMSR; nil gives the guest #GP.
    open func read(_ index: UInt32, from context: VCPUContext) -> UInt64? {
        nil
    }

    /// Takes WRMSR; false gives the guest #GP.
    open func write(_ index: UInt32, _ value: UInt64, from context: VCPUContext) -> Bool {
        false
    }
}

/// The model-specific registers that symvmm answers: at most one contiguous range, which is what the kernel's filter is set to.
public struct MSRBus: Sendable {
    /// The range's device.
    let device: MSRDevice?
    /// The registers.
    let range: Range<UInt32>

    /// A bus with no device.
    public init() {
        device = nil
        range = 0..<0
    }

    /// A bus with a device on a range.
    public init(_ device: MSRDevice, _ range: Range<UInt32>) {
        self.device = device
        self.range = range
    }

    /// The device at a register.
    @inline(__always)
    func find(_ index: UInt32) -> MSRDevice? {
        range.contains(index) ? device : nil
    }
}
