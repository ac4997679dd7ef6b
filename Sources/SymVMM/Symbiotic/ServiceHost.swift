// SPDX-License-Identifier: Apache-2.0

public import VMMBase

/// The part of a machine that its symbiotic services use. Any thread; not on the exit path.
public protocol ServiceHost: AnyObject, Sendable {
    /// The guest's memory.
    var memory: GuestMemory { get }

    /// Whether the vCPUs run: not before the start, in a pause, or after the end. It may change at any time.
    var isRunning: Bool { get }

    /// GPA of the registers of a service's virtio device; nil when the machine does not have the device.
    func registers(of device: VirtioDevice) -> UInt64?

    /// Reserves guest-physical address space for a window, above the guest's RAM. Call it in `prepare(on:)`.
    ///
    /// - Parameter byteCount: whole pages.
    /// - Throws: when the address space of guests on this host is too small.
    func reserveWindow(byteCount: UInt64) throws(VMMError) -> UInt64

    /// Maps `mapping` into the guest at `gpa`, in a reserved window. It is not RAM: no memory map lists it, and no device accesses it. The memory
    /// slot lives as long as the machine, so the caller must keep the mapping as long.
    ///
    /// - Parameters:
    ///   - mapping: host memory.
    ///   - gpa: an address in a window that `reserveWindow(byteCount:)` returned.
    ///   - readOnly: the guest's writes have no effect.
    func map(_ mapping: borrowing MemoryMapping, at gpa: UInt64, readOnly: Bool) throws(VMMError)

    /// Calls `body` with the service's part of the global page, if the guest has registered one. The guest cannot unregister the page until `body`
    /// returns. `body` must not make a symcall.
    ///
    /// - Returns: whether there is a global page.
    @discardableResult
    func withGlobalPage(of service: SymbioticService, _ body: (ServicePage) -> Void) -> Bool

    /// Makes a symcall from outside. Any thread but a vCPU's; waits for the result, at most 5 s.
    ///
    /// - Parameters:
    ///   - number: the symcall's number (docs/ABI.md, section 4.4).
    ///   - arguments: the values for the handler's registers.
    ///   - vcpu: the vCPU to inject the symcall into; nil requests a doorbell and makes the symcall inside its exit.
    func symcall(_ number: UInt32, _ arguments: SymCallValues, vcpu: Int?) throws(SymCallFailure) -> SymCallValues
}

/// A service's part of the global page. It gives no access to the rest of the page.
public struct ServicePage {
    private let memory: GuestMemory
    private let address: UInt64
    private let part: Range<Int>

    init(memory: GuestMemory, address: UInt64, part: Range<Int>) {
        self.memory = memory
        self.address = address
        self.part = part
    }

    /// Writes an integer.
    ///
    /// - Parameters:
    ///   - value: the integer, in the host's byte order.
    ///   - offset: bytes from the start of the page.
    /// - Returns: false when the integer does not lie in the service's part.
    @discardableResult
    public func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) -> Bool {
        guard contains(offset, MemoryLayout<Value>.size) else { return false }
        return (try? memory.store(value, at: address + UInt64(offset))) != nil
    }

    /// Reads an integer, which the guest may have written; nil when it does not lie in the service's part.
    public func load<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: Value.Type = Value.self) -> Value? {
        guard contains(offset, MemoryLayout<Value>.size) else { return nil }
        return try? memory.load(address + UInt64(offset))
    }

    private func contains(_ offset: Int, _ byteCount: Int) -> Bool {
        offset >= part.lowerBound && offset <= part.upperBound && byteCount <= part.upperBound - offset
    }
}
