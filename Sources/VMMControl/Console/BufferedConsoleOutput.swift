// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import Synchronization
internal import VMMBase

/// Buffers console output in a ring, so that a vCPU does not wait for a terminal, a pipe or a file. A thread of its own writes the ring's bytes.
///
/// A byte costs the vCPU an uncontended lock. The thread polls a few times before it sleeps, so that only the first byte of a burst needs the
/// system call that wakes it. If the ring is full, a vCPU waits up to `patience` if `waitsWhenFull`; then, or at once if not, bytes are dropped and
/// counted.
final class BufferedConsoleOutput: ConsoleOutput, @unchecked Sendable {
    private static let capacity = 65536
    /// Microseconds between two polls of an empty ring, and the number of polls before the thread sleeps.
    private static let lookInterval: UInt32 = 1000
    private static let looks = 4
    /// Maximum number of bytes per write.
    private static let chunk = 4096
    /// Milliseconds that a vCPU waits while the ring is full. After that, further bytes are dropped without a wait until there is room.
    private static let patience = 2000

    private struct Ring {
        var bytes = [UInt8](repeating: 0, count: BufferedConsoleOutput.capacity)
        var start = 0
        var count = 0
        var isSleeping = false
        var isDropping = false
    }

    private let ring = Mutex(Ring())
    private let wake: EventNotifier
    private let finished: EventNotifier
    private let number: Int32
    private let waitsWhenFull: Bool
    private let rotation: LogRotation?
    private let stopAt = Atomic<UInt64>(.max)
    private let dropped = Atomic<UInt64>(0)
    private let isBroken = Atomic<Bool>(false)

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - number: a descriptor that `owner` keeps open.
    ///   - owner: keeps the descriptor open while the thread runs; nil if the process does.
    ///   - waitsWhenFull: whether a vCPU waits while the ring is full.
    ///   - rotation: bounds the file; nil for no bound.
    init(descriptor number: Int32, owner: ConsoleDescriptors?, waitsWhenFull: Bool, rotation: LogRotation? = nil) throws(VMMError) {
        self.rotation = rotation
        self.number = number
        self.waitsWhenFull = waitsWhenFull
        wake = try EventNotifier()
        finished = try EventNotifier(nonblocking: true)
        super.init()
        _ = try Thread(.consoleOutput) { [self] in
            run()
            withExtendedLifetime(owner) {}
        }
    }

    /// Number of dropped bytes.
    var droppedByteCount: UInt64 {
        dropped.load(ordering: .relaxed)
    }

    override func write(_ byte: UInt8) {
        var waited = 0
        while true {
            let (isIn, mustWake) = ring.withLock { ring in
                guard ring.count < BufferedConsoleOutput.capacity else {
                    if !waitsWhenFull || waited >= BufferedConsoleOutput.patience { ring.isDropping = true }
                    if ring.isDropping { dropped.add(1, ordering: .relaxed) }
                    return (ring.isDropping, false)
                }
                ring.isDropping = false
                ring.bytes[(ring.start &+ ring.count) & (BufferedConsoleOutput.capacity - 1)] = byte
                ring.count &+= 1
                defer { ring.isSleeping = false }
                return (true, ring.isSleeping)
            }
            if mustWake { wake.signal() }
            if isIn { return }
            usleep(1000)
            waited += 1
        }
    }

    /// Flushes for at most `milliseconds`, and ends the thread. Waits 0.5 s longer at most.
    func stop(within milliseconds: UInt64) {
        stopAt.store(BufferedConsoleOutput.now() &+ milliseconds, ordering: .releasing)
        wake.signal()
        var poll = pollfd(fd: finished.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: the call reads and writes only the variable.
        _ = unsafe Glibc.poll(&poll, 1, Int32(clamping: milliseconds &+ 500))
    }

    private func run() {
        var chunk = [UInt8](repeating: 0, count: BufferedConsoleOutput.chunk)
        var idleLooks = 0
        while true {
            let count = take(&chunk, mayFallAsleep: idleLooks >= BufferedConsoleOutput.looks)
            if count > 0 {
                idleLooks = 0
                send(chunk, count)
            } else if stopAt.load(ordering: .acquiring) != .max {
                break
            } else if idleLooks < BufferedConsoleOutput.looks {
                idleLooks += 1
                usleep(BufferedConsoleOutput.lookInterval)
            } else {
                wake.drain()
            }
        }
        finished.signal()
    }

    /// Takes bytes from the ring. If it is empty and the thread will sleep, the next writer must wake it.
    private func take(_ chunk: inout [UInt8], mayFallAsleep: Bool) -> Int {
        ring.withLock { ring in
            let count = min(ring.count, chunk.count)
            for index in 0..<count { chunk[index] = ring.bytes[(ring.start &+ index) & (BufferedConsoleOutput.capacity - 1)] }
            ring.start = (ring.start &+ count) & (BufferedConsoleOutput.capacity - 1)
            ring.count &-= count
            ring.isSleeping = count == 0 && mayFallAsleep
            return count
        }
    }

    /// Writes to the descriptor, waiting for room. Gives up on an error, or when the time for flushing is over.
    private func send(_ bytes: [UInt8], _ count: Int) {
        var done = 0
        while done < count, !isBroken.load(ordering: .relaxed) {
            let stopAt = stopAt.load(ordering: .acquiring)
            if stopAt != .max, BufferedConsoleOutput.now() >= stopAt { break }
            var poll = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
            // SAFETY: the call reads and writes only the variable.
            let ready = unsafe Glibc.poll(&poll, 1, 100)
            guard ready > 0 else { continue }
            let room = rotation?.admit(count - done) ?? (count - done)
            // The file is full and the rotation failed.
            guard room > 0 else { break }
            let written = unsafe bytes.withUnsafeBytes { buffer in
                // SAFETY: `done` is less than `count`, which is at most the buffer's length, and `room` at most the difference.
                unsafe Glibc.write(number, buffer.baseAddress?.advanced(by: done), room)
            }
            if written > 0 {
                done += written
                rotation?.wrote(written)
            } else if written < 0, errno != EINTR, errno != EAGAIN {
                // The guest continues without output: for these bytes if there is no room (a full disk, a quota, RLIMIT_FSIZE), for all if the
                // pipe is closed.
                if [ENOSPC, EDQUOT, EFBIG].contains(errno) { break }
                isBroken.store(true, ordering: .relaxed)
            }
        }
        if done < count { dropped.add(UInt64(count - done), ordering: .relaxed) }
    }

    private static func now() -> UInt64 {
        var time = timespec()
        // SAFETY: the call writes only the variable.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1000 &+ UInt64(time.tv_nsec) / 1_000_000
    }
}
