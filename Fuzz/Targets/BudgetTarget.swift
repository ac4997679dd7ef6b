// SPDX-License-Identifier: Apache-2.0

import CFuzz
import Glibc
import Synchronization
import VMMBase

@testable import SwapBypass
@testable import SymVMM

extension FuzzTarget {
    static let budget = FuzzTarget(
        name: "budget", summary: "a swap store with a budget and its tiers, while a second thread writes through the guest's window",
        maximumLength: 512,
        seeds: {
            [[1, 0, 0, 0, 16, 0, 0, 0, 0, 16, 9, 0, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 0, 0, 16, 1, 0, 0, 16, 4, 3, 0, 200, 2]]
        },
        prepare: { try BudgetFuzz().run })
}

/// The store's memory never exceeds what it counts, and it gives all of it back.
final class BudgetFuzz {
    private static let byteCount: UInt64 = 16 << 20
    private static let chunk = 2 << 20
    private let store: BudgetStore
    private let folder: FuzzFolder
    private let memory: UnsafeMutableRawPointer
    private let writer: WindowWriter

    init() throws {
        folder = try FuzzFolder()
        let path = "\(folder.path)/swap"
        store = try BudgetStore(path: path, byteCount: BudgetFuzz.byteCount, budget: 4 << 20)
        memory = .allocate(byteCount: BudgetFuzz.chunk, alignment: 4096)
        memory.initializeMemory(as: UInt8.self, repeating: 7, count: BudgetFuzz.chunk)
        writer = try WindowWriter(store.mapping.baseAddress, store.mapping.byteCount)
    }

    func run(_ input: inout FuzzInput) throws {
        var largest: UInt64 = 4 << 20
        expect(store.setBudget(largest))
        let isRacing = input.flag()
        if isRacing { writer.start() }
        while !input.isEmpty {
            let slot = UInt64(input.number(below: 4096))
            let count = min(1 + input.number(below: 300), 4096 - Int(slot))
            let (offset, bytes) = (slot * 4096, count * 4096)
            let index = Int(slot) / BudgetStore.chunkPages
            switch input.byte() % 10 {
            case 0, 1, 2: try transfer(bytes) { vectors throws(StorageError) in try store.write(from: &vectors, at: offset) }
            case 3: try transfer(bytes) { vectors throws(StorageError) in try store.read(into: &vectors, at: offset) }
            case 4: try store.discard(at: offset, byteCount: UInt64(bytes))
            case 6: _ = store.bringBack(slot)
            case 7: store.bringBackChunk(index)
            case 8: _ = store.spill(index)
            case 9:
                guard let move = store.begin(index, toFile: input.flag()) else { break }
                // What the guest does while its mappings are taken back.
                switch input.byte() % 4 {
                case 0: try store.discard(at: offset, byteCount: UInt64(bytes))
                case 1: _ = store.bringBack(slot)
                case 2: try transfer(bytes) { vectors throws(StorageError) in try store.write(from: &vectors, at: offset) }
                default: break
                }
                if input.flag() { _ = store.finish(move) } else { store.abandon(move) }
            default:
                let budget = UInt64(input.byte() % 10) << 20
                largest = max(largest, budget)
                expect(store.setBudget(budget))
            }
            expect(store.residentByteCount <= largest, "\(store.residentByteCount) bytes counted, at most \(largest) allowed")
            expect(measured() <= store.residentByteCount, "\(measured()) bytes are resident, \(store.residentByteCount) counted")
        }
        try store.discard(at: 0, byteCount: BudgetFuzz.byteCount)
        expect(store.residentByteCount == 0, "\(store.residentByteCount) bytes counted after all slots were freed")
        let left = measured()
        expect(left == 0, "\(left) bytes resident after all slots were freed")
        expect(store.compressedBytes.count == 0, "\(store.compressedBytes.count) bytes of compressed pages after all slots were freed")
        if isRacing { writer.stop() }
    }

    /// Bytes that really have memory.
    private func measured() -> UInt64 {
        let bytes = cfuzz_resident_bytes(store.mapping.baseAddress, store.mapping.byteCount)
        expect(bytes >= 0, "mincore: \(bytes)")
        return UInt64(bytes)
    }

    private func transfer(_ bytes: Int, _ body: (inout GuestVectors) throws(StorageError) -> Void) throws {
        let count = min(bytes, BudgetFuzz.chunk)
        var vector = iovec(iov_base: memory, iov_len: count)
        try withUnsafeMutablePointer(to: &vector) { base in
            var vectors = GuestVectors(base: base, count: 1, byteCount: count)
            try body(&vectors)
        }
    }
}

/// Writes to the window as a guest does. By read(2), which fails where the guest would end its VM.
private final class WindowWriter: @unchecked Sendable {
    private let isRunning = Atomic<Bool>(false)
    private let isIdle = Atomic<Bool>(true)

    init(_ base: UnsafeMutableRawPointer, _ byteCount: Int) throws {
        let zero = try OwnedFileDescriptor.open("/dev/zero", O_RDONLY)
        let place = UInt(bitPattern: base)
        _ = try VMMBase.Thread(.command, "writer") { [self] in
            var state: UInt64 = 1
            while true {
                guard isRunning.load(ordering: .sequentiallyConsistent) else {
                    isIdle.store(true, ordering: .sequentiallyConsistent)
                    usleep(50)
                    continue
                }
                isIdle.store(false, ordering: .sequentiallyConsistent)
                for _ in 0..<64 {
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    let offset = UInt(state >> 33) % UInt(byteCount / 8) * 8
                    _ = read(zero.rawValue, UnsafeMutableRawPointer(bitPattern: place + offset), 8)
                }
            }
        }
    }

    func start() {
        isRunning.store(true, ordering: .sequentiallyConsistent)
        while isIdle.load(ordering: .sequentiallyConsistent) { usleep(10) }
    }

    func stop() {
        isRunning.store(false, ordering: .sequentiallyConsistent)
        while !isIdle.load(ordering: .sequentiallyConsistent) { usleep(10) }
    }
}
