// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import VMMBase

@testable import SymVMM

extension FuzzTarget {
    static let virtqueue = FuzzTarget(
        name: "virtqueue", summary: "queues and descriptor chains against a model; sometimes a thread changes the memory",
        seeds: { VirtqueueFuzz.seeds }, prepare: { try VirtqueueFuzz().run })
}

/// A queue in 64 KiB of a guest's memory, and what must become of each chain.
final class VirtqueueFuzz {
    static let seeds: [[UInt8]] = [
        // A queue of 16 with indirect tables: a descriptor, an offer, a pop.
        [0, 3, 0, 3, 0, 0, 0, 1, 0, 0, 8, 0, 2, 1, 0, 3, 0, 5, 5],
        [1, 2, 0, 3, 0, 0, 0, 0, 16, 0, 4, 0, 1, 0, 0, 3, 0, 5, 6, 7, 8, 9],
    ]
    private static let used = 1 << 16
    private static let table: UInt64 = 0x1000
    private static let available: UInt64 = 0x3000
    private static let usedRing: UInt64 = 0x4000
    private static let indirect: UInt64 = 0x6000

    private let memory: GuestMemory
    private let line: InterruptLine
    private let notifier: QueueNotifier
    private let base: UInt
    private let racer: MemoryRacer

    init() throws {
        memory = try GuestMemory(byteCount: 1 << 20)
        line = try InterruptLine(unconnected: 5)
        notifier = try QueueNotifier()
        base = UInt(bitPattern: try memory.pointer(0, byteCount: 1))
        racer = try MemoryRacer(memory, 0x1000..<0x8000)
    }

    func run(_ input: inout FuzzInput) throws {
        try memory.zero(0, byteCount: VirtqueueFuzz.used)
        let setup = input.byte()
        let isRacing = setup & 0xf0 == 0xf0
        let layout = VirtqueueFuzz.layout(&input)
        let features = (setup & 1 == 0 ? VirtioFeature.indirectDescriptors : 0) | (setup & 2 == 0 ? VirtioFeature.eventIndex : 0)
        let interrupt = VirtioLineInterrupt(line: line)
        guard var queue = makeQueue(layout, features, interrupt) else { return }
        let chain = DescriptorChain()
        var model = VirtqueueModel(memory: memory, layout: layout, allowIndirect: features & VirtioFeature.indirectDescriptors != 0)
        if isRacing { racer.start() }
        defer { if isRacing { racer.stop() } }
        var offered: UInt16 = 0
        while !input.isEmpty {
            switch input.byte() % 12 {
            case 0, 1: try writeDescriptor(&input, VirtqueueFuzz.table + 16 * UInt64(input.number(below: Int(layout.size))), layout)
            case 2: try writeDescriptor(&input, VirtqueueFuzz.indirect + 16 * UInt64(input.byte()), layout)
            case 3:
                let head = input.byte() < 250 ? UInt16(input.number(below: Int(layout.size))) : input.word()
                try? memory.store(head, at: layout.availableRing + 4 + 2 * UInt64(offered % layout.size))
                offered &+= 1
                try? memory.storeReleasing(offered, at: layout.availableRing + 2)
            case 4:
                offered = input.byte() < 128 ? offered &+ UInt16(input.byte()) : input.word()
                try? memory.storeReleasing(offered, at: layout.availableRing + 2)
            case 5, 6:
                for _ in 0..<(isRacing ? 32 : 1) { take(queue, chain, &model, isRacing: isRacing) }
                if model.hasChain { queue.push(chain, written: Int(input.word())) }
            case 7: queue.interruptIfWanted()
            case 8: _ = queue.enableNotifications(beyond: input.flag() ? 0 : input.word())
            case 9: queue.disableNotifications()
            case 10: try memory.store(input.word(), at: input.flag() ? layout.availableRing : layout.usedRing)
            default:
                // A saved queue continues where it was.
                let state = queue.saveState()
                guard let next = makeQueue(layout, features, interrupt, state) else { broken("a saved queue is refused") }
                queue = next
                expect(queue.saveState() == state, "the state of a restored queue differs")
            }
            expect(
                interrupt.faultCount == (queue.fault == nil ? 0 : 1), "\(interrupt.faultCount) faults, \(String(describing: queue.fault))")
            expect(interrupt.isResetRequired == (queue.fault != nil), "a broken queue asks for a reset, another does not")
        }
    }

    private static func layout(_ input: inout FuzzInput) -> VirtqueueLayout {
        let size = input.pick([16, 1, 2, 8, 256, 4] as [UInt16])
        var layout = VirtqueueLayout(size: size, descriptorTable: table, availableRing: available, usedRing: usedRing)
        switch input.byte() {
        case 250: layout.size = input.word()
        case 251: layout.descriptorTable = input.edge()
        case 252: layout.availableRing = input.edge()
        case 253: layout.usedRing = input.edge()
        default: break
        }
        return layout
    }

    private func makeQueue(
        _ layout: VirtqueueLayout, _ features: UInt64, _ interrupt: VirtioInterrupt, _ state: VirtqueueState = VirtqueueState()
    ) -> Virtqueue? {
        do throws(VirtqueueFault) {
            return try Virtqueue(
                index: 0, layout: layout, maximumSize: 256, features: features, memory: memory, notifier: notifier, interrupt: interrupt,
                state: state)
        } catch {
            let isStandard =
                [VirtqueueFuzz.table, VirtqueueFuzz.available, VirtqueueFuzz.usedRing]
                == [layout.descriptorTable, layout.availableRing, layout.usedRing]
            expect(!isStandard || layout.size == 0 || layout.size > 256 || layout.size & (layout.size - 1) != 0, "a valid queue is refused")
            return nil
        }
    }

    private func writeDescriptor(_ input: inout FuzzInput, _ place: UInt64, _ layout: VirtqueueLayout) throws {
        let address: UInt64 =
            switch input.byte() % 8 {
            case 0: input.edge()
            case 1: (1 << 20) - UInt64(input.word())
            case 2: VirtqueueFuzz.indirect + 16 * UInt64(input.byte())
            case 3: VirtqueueFuzz.table
            default: 0x8000 + UInt64(input.word()) / 2
            }
        let length: UInt32 =
            switch input.byte() % 8 {
            case 0: 0
            case 1: input.long()
            case 2: 1 << 20
            case 3: 0xffff_ffff
            case 4: 16 * UInt32(input.byte())
            default: UInt32(input.word() % 5000)
            }
        let kind = input.byte()
        try memory.store(address, at: place)
        try memory.store(length, at: place + 8)
        try memory.store(kind < 200 ? UInt16(kind % 8) : input.word(), at: place + 12)
        try memory.store(input.byte() < 240 ? UInt16(input.byte()) % max(layout.size, 1) : input.word(), at: place + 14)
    }

    /// Pops a chain and compares it with the model.
    private func take(_ queue: Virtqueue, _ chain: DescriptorChain, _ model: inout VirtqueueModel, isRacing: Bool) {
        let wasBroken = queue.fault != nil
        let expected = isRacing ? .none : model.next(wasBroken)
        let isTaken = queue.pop(into: chain)
        model.hasChain = isTaken
        if !isRacing {
            switch expected {
            case .none: expect(!isTaken && (queue.fault != nil) == wasBroken, "a chain out of nothing: \(isTaken)")
            case .fault: expect(!isTaken && queue.fault != nil, "a malformed chain is taken, or the queue is not broken")
            case .chain(let readable, let writable):
                expect(isTaken && queue.fault == nil, "a valid chain is refused: \(String(describing: queue.fault))")
                expect(ranges(chain.readable) == readable, "readable \(ranges(chain.readable)), not \(readable)")
                expect(ranges(chain.writable) == writable, "writable \(ranges(chain.writable)), not \(writable)")
            }
        }
        guard isTaken else { return }
        check(chain.readable)
        check(chain.writable)
        expect(chain.readable.count + chain.writable.count <= DescriptorChain.maximumCount)
        expect(chain.readable.byteCount + chain.writable.byteCount <= 1 << 32)
    }

    private func ranges(_ vectors: GuestVectors) -> [VirtqueueModel.Range] {
        (0..<vectors.count).map { index in
            let range = unsafe vectors[index]
            return VirtqueueModel.Range(address: UInt64(UInt(bitPattern: range.baseAddress) &- base), length: range.count)
        }
    }

    /// All bytes lie in guest memory, whatever another thread writes.
    private func check(_ vectors: GuestVectors) {
        var sum = 0
        for range in ranges(vectors) {
            expect(range.length > 0 && memory.contains(range.address, byteCount: range.length), "outside guest memory: \(range)")
            sum += range.length
        }
        expect(sum == vectors.byteCount, "\(vectors.byteCount) bytes, but the ranges have \(sum)")
    }
}

/// What virtio 1.2, sections 2.7.4 to 2.7.6, and symvmm's limits make of the memory: written separately from the device.
struct VirtqueueModel {
    struct Range: Equatable {
        let address: UInt64
        let length: Int
    }

    enum Next {
        case none
        case fault
        case chain([Range], [Range])
    }

    let memory: GuestMemory
    let layout: VirtqueueLayout
    let allowIndirect: Bool
    var hasChain = false
    private var taken: UInt16 = 0

    init(memory: GuestMemory, layout: VirtqueueLayout, allowIndirect: Bool) {
        self.memory = memory
        self.layout = layout
        self.allowIndirect = allowIndirect
    }

    mutating func next(_ isBroken: Bool) -> Next {
        guard !isBroken, let index: UInt16 = try? memory.load(layout.availableRing + 2) else { return .none }
        let waiting = index &- taken
        guard waiting > 0 else { return .none }
        guard waiting <= layout.size, let head: UInt16 = try? memory.load(layout.availableRing + 4 + 2 * UInt64(taken % layout.size)),
            let (readable, writable) = walk(head)
        else { return .fault }
        taken &+= 1
        return .chain(readable, writable)
    }

    private func walk(_ head: UInt16) -> ([Range], [Range])? {
        var (readable, writable) = ([Range](), [Range]())
        var (index, number, sum) = (UInt64(head), 0, UInt64(0))
        var (table, count) = (layout.descriptorTable, UInt64(layout.size))
        var (isIndirect, direct) = (false, 0)
        while true {
            guard index < count, let address: UInt64 = try? memory.load(table + 16 * index),
                let length: UInt32 = try? memory.load(table + 16 * index + 8),
                let flags: UInt16 = try? memory.load(table + 16 * index + 12),
                let next: UInt16 = try? memory.load(table + 16 * index + 14)
            else { return nil }
            if !isIndirect {
                guard direct < Int(layout.size) else { return nil }
                direct += 1
            }
            if flags & 4 != 0 {
                guard allowIndirect, !isIndirect, flags & 1 == 0, length > 0, length % 16 == 0,
                    memory.contains(address, byteCount: Int(length))
                else { return nil }
                (table, count, index, isIndirect) = (address, UInt64(length) / 16, 0, true)
                continue
            }
            number += 1
            guard number <= 256 else { return nil }
            let isWritable = flags & 2 != 0
            guard isWritable || writable.isEmpty else { return nil }
            if length > 0 {
                guard memory.contains(address, byteCount: Int(length)) else { return nil }
                sum += UInt64(length)
                guard sum <= 1 << 32 else { return nil }
                if isWritable {
                    writable.append(.init(address: address, length: Int(length)))
                } else {
                    readable.append(.init(address: address, length: Int(length)))
                }
            }
            guard flags & 1 != 0 else { return (readable, writable) }
            index = UInt64(next)
        }
    }
}

/// A thread that writes to a part of guest memory while a target runs, as a guest's other vCPU may.
final class MemoryRacer: @unchecked Sendable {
    private let memory: GuestMemory
    private let range: Range<UInt64>
    private let isRunning = Atomic<Bool>(false)
    private let isIdle = Atomic<Bool>(true)

    init(_ memory: GuestMemory, _ range: Range<UInt64>) throws {
        self.memory = memory
        self.range = range
        _ = try VMMBase.Thread(.command, "racer") { [self] in
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
                    let place = range.lowerBound + (state >> 33) % UInt64(range.count) & ~1
                    try? memory.store(UInt16(truncatingIfNeeded: state >> 16) & (state & 8 == 0 ? 7 : 0xffff), at: place)
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
