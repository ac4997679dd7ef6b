// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Testing

@testable import SymVMM
@testable import VMMBase

/// The saved state of a virtio device, its transport and its queues while requests are pending.
@Suite struct VirtioStateTests {
    /// The device of a second machine, with the guest memory of the first.
    private func restored(_ first: VirtioTestDriver, _ device: VirtioDevice, _ change: (inout VirtioTransport.State) -> Void = { _ in })
        throws -> VirtioTestDriver
    {
        let second = try VirtioTestDriver(device)
        try second.memory.copy(from: first.memory)
        let encoded = try JSONEncoder().encode(try first.transport.saveState())
        let decoder = JSONDecoder()
        var kinds = StateKinds()
        if let part = device as? any Snapshotable { kinds.add(part) }
        if let key = StateKinds.key { decoder.userInfo[key] = kinds }
        var state = try decoder.decode(VirtioTransport.State.self, from: encoded)
        change(&state)
        try second.transport.restoreState(state)
        return second
    }

    private func request(_ queue: VirtioTestQueue) throws -> Int {
        try queue.add([.init(address: 0x80000, length: 64, isWritable: true)])
        queue.kick()
        return Int(try queue.take()?.written ?? 0)
    }

    @Test func aGeneratorGoesOnInTheMiddleOfItsRing() throws {
        let thread = try IOThread.running()
        defer { thread.stop() }
        let first = try VirtioTestDriver(VirtioRng(on: thread))
        let queue = try first.bringUp(size: 4)[0]
        for _ in 0..<6 { #expect(try request(queue) == 64) }
        first.transport.suspend()
        // The guest adds a buffer while the device is suspended. The device serves it after the restore.
        try queue.add([.init(address: 0x80000, length: 64, isWritable: true)])
        queue.kick()
        #expect(try queue.take(within: 0.05) == nil, "a suspended device serves nothing")

        let second = try restored(first, VirtioRng(on: thread))
        #expect(second.status == 15)
        let same = VirtioTestQueue(second, 0, 4, queue.table, queue.available, queue.used)
        (same.nextAvailable, same.lastUsed) = (queue.nextAvailable, queue.lastUsed)
        #expect(try same.take(within: 0.05) == nil)
        second.transport.resume()
        #expect(try same.take()?.written == 64)
        for _ in 0..<6 {
            try same.offer(0)
            same.kick()
            #expect(try same.take()?.written == 64)
        }
        #expect(second.line.takePending() > 0)
        // The first device continues, too, when its machine resumes.
        first.transport.resume()
        #expect(try queue.take()?.written == 64)
    }

    @Test func anInterruptThatWasNotTakenIsRaisedAgain() throws {
        let thread = try IOThread.running()
        defer { thread.stop() }
        let first = try VirtioTestDriver(VirtioRng(on: thread))
        let queue = try first.bringUp()[0]
        #expect(try request(queue) == 64)
        first.transport.suspend()
        #expect(first.read(0x60) == 1)
        let second = try restored(first, VirtioRng(on: thread))
        #expect(second.read(0x60) == 1)
        #expect(second.line.takePending() == 0)
        second.transport.resume()
        #expect(second.line.takePending() == 1)
        second.write(0x64, 1)
        second.transport.suspend()
        second.transport.resume()
        #expect(second.line.takePending() == 0)
    }

    @Test func aDeviceThatIsNotYetLiveIsSetUpFurther() throws {
        let thread = try IOThread.running()
        defer { thread.stop() }
        let first = try VirtioTestDriver(VirtioRng(on: thread))
        #expect(first.negotiate(VirtioTestDriver.ringFeatures))
        _ = try first.setUpQueue(0, size: 8)
        first.transport.suspend()
        let second = try restored(first, VirtioRng(on: thread))
        second.transport.resume()
        #expect(second.status == 11)
        #expect(second.read(0x44) == 1)
        second.start()
        #expect(second.status == 15)
    }

    @Test func aBrokenQueueStaysBroken() throws {
        let thread = try IOThread.running()
        defer { thread.stop() }
        let first = try VirtioTestDriver(VirtioRng(on: thread))
        let queue = try first.bringUp()[0]
        try queue.offer(999)
        queue.kick()
        #expect(waitUntil { first.status == 15 | 64 })
        first.transport.suspend()
        let second = try restored(first, VirtioRng(on: thread))
        second.transport.resume()
        #expect(second.status == 15 | 64)
        second.write(0x70, 0)
        #expect(second.status == 0)
    }

    @Test func aDiskOfAnotherFormIsRefused() throws {
        let folder = try VirtioTestFolder()
        let paths = try [1 << 20, 1 << 20, 2 << 20].enumerated().map { try folder.file("\($0)", byteCount: $1) }
        func disk(_ index: Int, sectorSize: Int = 512, isReadOnly: Bool = false) throws -> VirtioBlock {
            try VirtioBlock(id: "root", storage: FileStorage(path: paths[index], isReadOnly: isReadOnly, sectorSize: sectorSize))
        }
        let first = try VirtioTestDriver(disk(0))
        _ = try first.bringUp(VirtioTestDriver.ringFeatures)
        first.transport.suspend()
        for other in [try disk(2), try disk(1, sectorSize: 4096)] {
            #expect(throws: VMMError.self) { try restored(first, other) }
        }
        #expect(throws: VMMError.self) { try restored(first, try disk(1, isReadOnly: true)) }
        #expect(try restored(first, try disk(1)).status == 15)
    }

    @Test func statesThatNoDriverBringsAboutAreRefused() throws {
        let thread = try IOThread.running()
        defer { thread.stop() }
        let first = try VirtioTestDriver(VirtioRng(on: thread))
        _ = try first.bringUp()
        first.transport.suspend()
        let changes: [(String, (inout VirtioTransport.State) -> Void)] = [
            ("type", { $0.deviceType = 2 }), ("features", { $0.offeredFeatures = 1 }),
            ("configuration", { $0.configuration = HexBytes([]) }),
            ("queues", { $0.registers.queues = [] }), ("size", { $0.registers.queues[0].layout.size = 3 }),
            ("size", { $0.registers.queues[0].layout.size = 128 }), ("status", { $0.registers.status = 0x40 }),
            ("FEATURES_OK", { $0.registers.status = 7 }), ("features", { $0.registers.driverFeatures |= 1 << 40 }),
            ("outside memory", { $0.registers.queues[0].layout.usedRing = 1 << 40 }),
            ("outside memory", { $0.registers.queues[0].layout.descriptorTable = .max }), ("live", { $0.queues = [] }),
            ("live", { $0.queues = [nil] }), ("live", { $0.queues = [VirtqueueState(), VirtqueueState()] }),
            ("live", { $0.registers.queues[0].isReady = false }), ("live", { $0.registers.status = 11 }),
            ("interrupt", { $0.interrupt.status = 4 }),
        ]
        for (part, change) in changes {
            do {
                _ = try restored(first, VirtioRng(on: thread), change)
                Issue.record("taken: \(part)")
            } catch let error as VMMError {
                #expect(error.description.contains(part), "\(error) says nothing of \(part)")
            }
        }
        // Any index is accepted: at worst the guest's queue is broken.
        let second = try restored(first, VirtioRng(on: thread)) {
            $0.queues = [VirtqueueState(nextAvailable: 4711, nextUsed: 65535, signalled: 9)]
        }
        second.transport.resume()
        #expect(waitUntil { second.status == 15 | 64 })
    }

    /// MSI-X will need the index of the queue.
    @Test func aQueuesInterruptCarriesItsIndex() throws {
        final class Recorder: VirtioInterrupt, @unchecked Sendable {
            var sources: [Source] = []
            override func signal(_ source: Source) {
                sources.append(source)
            }
        }
        let interrupt = Recorder()
        interrupt.buffersUsed(queue: 3)
        #expect(interrupt.status == 1)
        interrupt.configurationChanged()
        #expect(interrupt.status == 3)
        interrupt.requireReset()
        #expect(interrupt.sources == [.queue(3), .configuration, .configuration])
        interrupt.acknowledge(2)
        interrupt.sources = []
        interrupt.signalAgain(queueCount: 2)
        #expect(interrupt.sources == [.queue(0), .queue(1)])
    }
}
