// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization

@testable import SymVMM
@testable import VMMBase

/// A minimal guest driver: it accesses the transport's registers, and the queues in guest memory.
final class VirtioTestDriver {
    static let ringFeatures = VirtioFeature.version1 | VirtioFeature.indirectDescriptors | VirtioFeature.eventIndex

    let memory: GuestMemory
    let line: InterruptLine
    let transport: VirtioMMIOTransport
    private var nextFree: UInt64 = 0x10000

    init(_ device: VirtioDevice) throws {
        memory = try GuestMemory(byteCount: 16 << 20)
        line = try InterruptLine(unconnected: 5)
        transport = try VirtioMMIOTransport(device: device, memory: memory, interrupt: line)
    }

    deinit {
        transport.stop()
    }

    func read(_ offset: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: transport.read(offset: offset, size: 4))
    }

    func write(_ offset: UInt64, _ value: UInt32) {
        transport.writeRegister(offset: offset, size: 4, value: UInt64(value))
    }

    var status: UInt32 { read(0x70) }

    var offered: UInt64 {
        write(0x14, 0)
        let low = UInt64(read(0x10))
        write(0x14, 1)
        return low | UInt64(read(0x10)) << 32
    }

    /// Initializes the device up to FEATURES_OK. Returns whether the device has accepted the features.
    func negotiate(_ features: UInt64) -> Bool {
        write(0x70, 0)
        nextFree = 0x10000
        write(0x70, 1)
        write(0x70, 3)
        write(0x24, 0)
        write(0x20, UInt32(truncatingIfNeeded: features))
        write(0x24, 1)
        write(0x20, UInt32(features >> 32))
        write(0x70, 11)
        return status == 11
    }

    func start() {
        write(0x70, 15)
    }

    /// Allocates guest memory.
    func allocate(_ bytes: Int, alignment: UInt64 = 16) -> UInt64 {
        let place = (nextFree + alignment - 1) & ~(alignment - 1)
        nextFree = place + UInt64(bytes)
        return place
    }

    func setUpQueue(_ index: UInt32, size: UInt16, ready: Bool = true) throws -> VirtioTestQueue {
        let table = allocate(16 * Int(size))
        let available = allocate(6 + 2 * Int(size))
        let used = allocate(6 + 8 * Int(size))
        try memory.zero(table, byteCount: 16 * Int(size))
        try memory.zero(available, byteCount: 6 + 2 * Int(size))
        try memory.zero(used, byteCount: 6 + 8 * Int(size))
        setQueue(index, size, table, available, used)
        if ready { write(0x44, 1) }
        return VirtioTestQueue(self, index, size, table, available, used)
    }

    func setQueue(_ index: UInt32, _ size: UInt16, _ table: UInt64, _ available: UInt64, _ used: UInt64) {
        write(0x30, index)
        write(0x38, UInt32(size))
        for (register, address) in [(UInt64(0x80), table), (0x90, available), (0xa0, used)] {
            write(register, UInt32(truncatingIfNeeded: address))
            write(register + 4, UInt32(address >> 32))
        }
    }

    /// Negotiates the features, sets up all queues and sets DRIVER_OK.
    func bringUp(_ features: UInt64 = VirtioTestDriver.ringFeatures, queues: Int = 1, size: UInt16 = 64) throws -> [VirtioTestQueue] {
        guard negotiate(features) else { return [] }
        let made = try (0..<queues).map { try setUpQueue(UInt32($0), size: size) }
        start()
        return made
    }

    /// The sum of all counters with this name.
    func counter(_ name: String) -> UInt64 {
        transport.counters().filter { $0.name == name }.reduce(0) { $0 + $1.value }
    }
}

/// The driver's side of a split queue.
final class VirtioTestQueue {
    struct Buffer {
        var address: UInt64
        var length: UInt32
        var isWritable: Bool
    }

    let driver: VirtioTestDriver
    let index: UInt32
    let size: UInt16
    let table: UInt64
    let available: UInt64
    let used: UInt64
    var nextAvailable: UInt16 = 0
    var lastUsed: UInt16 = 0
    private var nextDescriptor: UInt16 = 0

    init(_ driver: VirtioTestDriver, _ index: UInt32, _ size: UInt16, _ table: UInt64, _ available: UInt64, _ used: UInt64) {
        self.driver = driver
        self.index = index
        self.size = size
        self.table = table
        self.available = available
        self.used = used
    }

    func setDescriptor(at address: UInt64, _ buffer: Buffer, flags: UInt16 = 0, next: UInt16 = 0) throws {
        try driver.memory.store(buffer.address, at: address)
        try driver.memory.store(buffer.length, at: address + 8)
        try driver.memory.store(flags | (buffer.isWritable ? 2 : 0), at: address + 12)
        try driver.memory.store(next, at: address + 14)
    }

    /// Writes a chain to the next descriptors of the table, which wrap, and makes it available.
    @discardableResult
    func add(_ buffers: [Buffer], indirect: Bool = false) throws -> UInt16 {
        let head = nextDescriptor
        if indirect {
            let place = driver.allocate(16 * buffers.count)
            for (number, buffer) in buffers.enumerated() {
                let isLast = number == buffers.count - 1
                try setDescriptor(at: place + 16 * UInt64(number), buffer, flags: isLast ? 0 : 1, next: UInt16(number + 1))
            }
            let whole = Buffer(address: place, length: UInt32(16 * buffers.count), isWritable: false)
            try setDescriptor(at: table + 16 * UInt64(head), whole, flags: 4)
            nextDescriptor = (head + 1) % size
        } else {
            for (number, buffer) in buffers.enumerated() {
                let place = (head + UInt16(number)) % size
                let isLast = number == buffers.count - 1
                try setDescriptor(at: table + 16 * UInt64(place), buffer, flags: isLast ? 0 : 1, next: (place + 1) % size)
            }
            nextDescriptor = (head + UInt16(buffers.count)) % size
        }
        try offer(head)
        return head
    }

    func offer(_ head: UInt16) throws {
        try driver.memory.store(head, at: available + 4 + 2 * UInt64(nextAvailable % size))
        nextAvailable &+= 1
        try driver.memory.storeReleasing(nextAvailable, at: available + 2)
    }

    func kick() {
        driver.write(0x50, index)
    }

    /// Notifies only if the device has requested it for the buffers added since `old`, as a real driver does. Returns whether it notified.
    func kickIfWanted(since old: UInt16, eventIndex: Bool) throws -> Bool {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        let isWanted: Bool
        if eventIndex {
            let event = try driver.memory.loadAcquiring(used + 4 + 8 * UInt64(size))
            isWanted = nextAvailable &- event &- 1 < nextAvailable &- old
        } else {
            isWanted = try driver.memory.loadAcquiring(used) & 1 == 0
        }
        if isWanted { kick() }
        return isWanted
    }

    var usedIndex: UInt16 {
        get throws { try driver.memory.loadAcquiring(used + 2) }
    }

    /// Waits for the next used chain. Returns its head and the number of bytes written; nil after `seconds`.
    func take(within seconds: Double = 10) throws -> (head: UInt32, written: UInt32)? {
        guard try waitUntil(within: seconds, { try usedIndex != lastUsed }) else { return nil }
        let slot = used + 4 + 8 * UInt64(lastUsed % size)
        lastUsed &+= 1
        return (try driver.memory.load(slot), try driver.memory.load(slot + 4))
    }
}

/// Waits for a condition; checks it every 0.1 ms. Returns false after `seconds`.
func waitUntil(within seconds: Double = 10, _ condition: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<Int(seconds * 10_000) {
        if try condition() { return true }
        usleep(100)
    }
    return try condition()
}

/// A reproducible sequence of numbers (SplitMix64).
struct VirtioTestRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// A temporary folder. Deinit removes it.
final class VirtioTestFolder {
    let path: String

    init() throws {
        let base = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
        path = "\(base)/symvmm-test-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        guard unsafe mkdir(path, 0o700) == 0 else { throw VMMError(call: "mkdir \(path)", errno: errno) }
    }

    /// Creates a sparse file.
    func file(_ name: String, byteCount: Int) throws -> String {
        let file = "\(path)/\(name)"
        let descriptor = try OwnedFileDescriptor.open(file, O_RDWR | O_CREAT)
        guard ftruncate(descriptor.rawValue, byteCount) == 0 else { throw VMMError(call: "ftruncate", errno: errno) }
        return file
    }

    deinit {
        if let folder = unsafe opendir(path) {
            while let entry = unsafe readdir(folder) {
                let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                    unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                }
                _ = unsafe unlink("\(path)/\(name)")
            }
            _ = unsafe closedir(folder)
        }
        _ = unsafe rmdir(path)
    }
}
