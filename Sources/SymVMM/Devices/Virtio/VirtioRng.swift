// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization
internal import VMMBase

/// An entropy device (virtio 1.2, section 5.4) with random bytes from the host's kernel (getrandom(2)).
final class VirtioRng: VirtioDevice, @unchecked Sendable {
    /// Maximum number of bytes for one request. The driver accepts fewer than it requested.
    static let requestLimit = 64 << 10

    private let thread: IOThread
    private let active = Mutex<Virtqueue?>(nil)
    private let requests = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)
    private let refused = Atomic<UInt64>(0)

    /// Creates the device.
    ///
    /// - Parameter thread: the thread that serves requests.
    init(on thread: IOThread) {
        self.thread = thread
        super.init(name: "virtio-rng", deviceType: 4, features: 0, queueSizes: [64], configuration: [])
    }

    /// Starts polling the notifier. The I/O thread does it, so that no vCPU changes what the thread polls.
    override func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(VMMError) {
        guard let queue = queues.first ?? nil else { return }
        let handler = RngHandler(device: self, queue: queue)
        let failure = Monitor<VMMError?>(nil)
        thread.perform { [self] in
            do throws(VMMError) {
                try thread.add(queue.notifier.descriptor, .readable, handler: handler)
            } catch {
                failure.withLock { $0 = error }
            }
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
        active.withLock { $0 = queue }
        // Serve buffers that the guest added before the device was live.
        queue.notifier.ring()
    }

    /// Stops polling the notifier.
    override func stop() {
        let queue = active.withLock { queue in
            let stopped = queue
            queue = nil
            return stopped
        }
        guard let queue else { return }
        thread.perform { [self] in thread.remove(queue.notifier.descriptor) }
    }

    /// Requests, bytes, and requests with buffers that the device can only read, or without room.
    override func counters() -> [(name: String, value: UInt64)] {
        [
            ("requests", requests.load(ordering: .relaxed)), ("bytes", bytes.load(ordering: .relaxed)),
            ("refused_requests", refused.load(ordering: .relaxed)),
        ]
    }

    private final class RngHandler: IOHandler, @unchecked Sendable {
        private let device: VirtioRng
        private let queue: Virtqueue
        private let chain = DescriptorChain()

        init(device: VirtioRng, queue: Virtqueue) {
            self.device = device
            self.queue = queue
        }

        /// Serves up to 16 requests, then lets other descriptors of this thread be served.
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

        /// Fills a request's buffers with random bytes. Returns how many; 0 if the driver broke the rules (virtio 1.2, section 5.4.6.1).
        private func fill() -> Int {
            guard chain.readable.byteCount == 0, chain.writable.byteCount > 0 else {
                device.refused.wrappingAdd(1, ordering: .relaxed)
                return 0
            }
            chain.writable.truncate(to: VirtioRng.requestLimit)
            var written = 0
            // SAFETY: the view belongs to the chain, which is loaded and not changed elsewhere meanwhile.
            while let target = unsafe chain.writable[0].baseAddress {
                // SAFETY: the address and the length are those of the view's first range.
                let count = unsafe ckvm_random(target, chain.writable[0].count)
                // Fails only on a signal, or early in the host's boot before its generator is ready. The driver then requests again.
                guard count > 0 else { break }
                chain.writable.dropFirst(count)
                written += count
            }
            return written
        }
    }
}
