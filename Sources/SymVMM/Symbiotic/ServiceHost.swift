// SPDX-License-Identifier: Apache-2.0

public import VMMBase

/// A machine as its symbiotic services see it. Any thread may call it, and none of it is on the exit path.
public protocol ServiceHost: AnyObject, Sendable {
    /// The guest's memory.
    var memory: GuestMemory { get }

    /// GPA of the registers of a device that a service brought; nil when it is not of this machine.
    func registers(of device: VirtioDevice) -> UInt64?

    /// Reserves a range of guest-physical space for a window, above the guest's RAM and apart from other windows. While the service is prepared.
    ///
    /// - Parameter byteCount: whole pages.
    /// - Throws: when this host's guests cannot address so much.
    func reserveWindow(byteCount: UInt64) throws(MachineError) -> UInt64

    /// Shows `mapping` to the guest as memory from `gpa` on, in a window that was reserved. It is no RAM: the guest is not told of it, and no
    /// device reads or writes it. The slot stays for the machine's life: the caller keeps the mapping for as long.
    ///
    /// - Parameter readOnly: what the guest writes there has no effect.
    func show(_ mapping: borrowing MemoryMapping, at gpa: UInt64, readOnly: Bool) throws(KVMError)

    /// Gives a service its part of the global page, if the guest has registered one: meanwhile the guest does not get it back. No symcall in there.
    ///
    /// - Returns: whether there was one.
    @discardableResult
    func withGlobalPage(of service: SymbioticService, _ body: (ServicePage) -> Void) -> Bool

    /// Calls the guest from outside. Any thread but a vCPU's; waits for the answer, at most 5 s.
    ///
    /// - Parameter vcpu: the vCPU to inject the call into; nil asks the guest for a doorbell and makes the call inside its exit.
    func symcall(_ number: UInt32, _ arguments: SymCallValues, vcpu: Int?) throws(SymCallError) -> SymCallValues
}

/// A service's part of the global page. Nothing outside of it can be reached.
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
    /// - Parameter offset: bytes from the start of the page.
    /// - Returns: false when the place is not the service's.
    @discardableResult
    public func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) -> Bool {
        guard contains(offset, MemoryLayout<Value>.size) else { return false }
        return (try? memory.store(value, at: address + UInt64(offset))) != nil
    }

    /// Reads an integer, which the guest may have written; nil when the place is not the service's.
    public func load<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: Value.Type = Value.self) -> Value? {
        guard contains(offset, MemoryLayout<Value>.size) else { return nil }
        return try? memory.load(address + UInt64(offset))
    }

    private func contains(_ offset: Int, _ byteCount: Int) -> Bool {
        offset >= part.lowerBound && offset <= part.upperBound && byteCount <= part.upperBound - offset
    }
}
