// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization
internal import VMMBase

/// An entropy device (virtio 1.2, section 5.4) that passes on the host kernel's generator (getrandom(2)).
final class VirtioRng: VirtioDevice, @unchecked Sendable {
    /// Most bytes for one request; the driver takes what it gets.
    static let requestLimit = 64 << 10

    private let thread: IOThread
    private let active = Mutex<Virtqueue?>(nil)
    private let requests = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)

    /// Makes the device.
    ///
    /// - Parameter thread: where requests are served.
    init(on thread: IOThread) {
        self.thread = thread
        super.init(name: "virtio-rng", deviceType: 4, features: 0, queueSizes: [64], configuration: [])
    }

    /// Begins to listen to the notifier.
    override func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(KVMError) {
        guard let queue = queues.first ?? nil else { return }
        try thread.add(queue.notifier.descriptor, .readable, handler: RngHandler(device: self, queue: queue))
        active.withLock { $0 = queue }
        // What was added before the device was live.
        queue.notifier.ring()
    }

    /// Listens no longer.
    override func stop() {
        let queue = active.withLock { queue in
            let stopped = queue
            queue = nil
            return stopped
        }
        if let queue { thread.remove(queue.notifier.descriptor) }
    }

    /// Requests and bytes.
    override func counters() -> [(name: String, value: UInt64)] {
        [("requests", requests.load(ordering: .relaxed)), ("bytes", bytes.load(ordering: .relaxed))]
    }

    private final class RngHandler: IOHandler, @unchecked Sendable {
        private let device: VirtioRng
        private let queue: Virtqueue
        private let chain = DescriptorChain()

        init(device: VirtioRng, queue: Virtqueue) {
            self.device = device
            self.queue = queue
        }

        /// Serves some requests; if there are more, others on this thread have their turn first.
        override func ready(_ events: IOEvents) {
            queue.notifier.wait()
            for _ in 0..<16 {
                guard queue.pop(into: chain) else { break }
                let written = fill()
                queue.push(chain, written: written)
                device.requests.wrappingAdd(1, ordering: .relaxed)
                device.bytes.wrappingAdd(UInt64(written), ordering: .relaxed)
            }
            queue.interruptIfWanted()
            if queue.enableNotifications() { queue.notifier.ring() }
        }

        private func fill() -> Int {
            chain.writable.truncate(to: VirtioRng.requestLimit)
            var written = 0
            while let target = unsafe chain.writable[0].baseAddress {
                // SAFETY: the first range of the view, with its own length.
                let count = unsafe ckvm_random(target, chain.writable[0].count)
                // Only before the host's generator is ready, early in its boot, or on a signal: the driver asks again.
                guard count > 0 else { break }
                chain.writable.dropFirst(count)
                written += count
            }
            return written
        }
    }
}
