// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// Events of a descriptor (epoll_ctl(2)).
public struct IOEvents: OptionSet, Sendable {
    /// The kernel's bits.
    public let rawValue: UInt32

    /// Events from the kernel's bits.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Data or end of file can be read.
    public static let readable = IOEvents(rawValue: 0x001)  // EPOLLIN
    /// Data can be written.
    public static let writable = IOEvents(rawValue: 0x004)  // EPOLLOUT
    /// An error. Always reported.
    public static let error = IOEvents(rawValue: 0x008)  // EPOLLERR
    /// The other end hung up. Always reported.
    public static let hangUp = IOEvents(rawValue: 0x010)  // EPOLLHUP
}

/// Handles a descriptor's events. Called on the I/O thread only; must not block.
open class IOHandler: @unchecked Sendable {
    /// For subclasses.
    public init() {
    }

    /// The descriptor is ready. Level-triggered: called again until the cause is handled.
    open func ready(_ events: IOEvents) {
    }

    /// The time of `IOThread.setAlarm` has come.
    open func alarm() {
    }
}

/// One thread that polls many descriptors: taps and the notifiers of virtio queues.
///
/// Thread-safe. Its owner calls `start()` before a guest runs, and `stop()`: a running thread keeps the object alive.
package final class IOThread: Sendable {
    private let epoll: OwnedFileDescriptor
    private let wakeUp: EventNotifier
    private let state = Mutex(State())
    private let work = Monitor(Work())
    /// Handlers and times. The thread alone uses it; the lock is for the compiler.
    private let alarms = Mutex<[(handler: IOHandler, time: UInt64)]>([])
    /// Held while a handler runs, so that `remove` can wait for it.
    private let dispatch = Mutex(())
    private let identity = Atomic<UInt>(0)

    private struct Registration {
        /// Distinguishes events of this registration from those of an earlier one with the same descriptor number.
        let token: UInt32
        let handler: IOHandler
    }

    private struct State {
        var registrations: [Int32: Registration] = [:]
        var lastToken: UInt32 = 0
        var thread: Thread?
        var isStopped = false
    }

    /// What `perform(_:)` has handed over, oldest first.
    private struct Work {
        var waiting: [@Sendable () -> Void] = []
        var handedOver: UInt64 = 0
        var done: UInt64 = 0
        var hasThread = false
    }

    /// Creates the epoll instance; the thread does not run yet.
    package init() throws(VMMError) {
        let number = try VMMError.check(ckvm_epoll(), "epoll_create1", advice: "raise the limit of open files (ulimit -n)")
        epoll = OwnedFileDescriptor(owning: number)
        wakeUp = try EventNotifier(nonblocking: true)
        try control(EPOLL_CTL_ADD, wakeUp.descriptor.rawValue, 0, .readable)
    }

    /// Makes the thread. Only the first call has an effect.
    package func start() throws(VMMError) {
        try state.withLock { state throws(VMMError) in
            guard state.thread == nil, !state.isStopped else { return }
            state.thread = try Thread(.devices) { [self] in run() }
            work.withLock { $0.hasThread = true }
        }
    }

    /// Calls `body` on the thread, between two events, and waits for its end. On the thread itself, and without a thread, calls it at once.
    ///
    /// System calls that only the activation of a device needs are then made by this thread alone, not by vCPUs.
    package func perform(_ body: @escaping @Sendable () -> Void) {
        let number =
            isCurrent
            ? nil
            : work.withLock { work -> UInt64? in
                guard work.hasThread else { return nil }
                work.waiting.append(body)
                work.handedOver += 1
                return work.handedOver
            }
        guard let number else { return body() }
        wakeUp.signal()
        work.wait { $0.done >= number ? true : nil }
    }

    /// Adds a descriptor. The caller keeps it open until `remove`.
    ///
    /// - Throws: EPERM for a regular file, EEXIST for a descriptor that was added before, ECANCELED after `stop`.
    package func add(_ descriptor: Int32, _ events: IOEvents, handler: IOHandler) throws(VMMError) {
        try state.withLock { state throws(VMMError) in
            guard !state.isStopped else { throw VMMError(call: "epoll_ctl", errno: ECANCELED) }
            let token = state.lastToken &+ 1
            try control(EPOLL_CTL_ADD, descriptor, token, events)
            state.lastToken = token
            state.registrations[descriptor] = Registration(token: token, handler: handler)
        }
    }

    /// Changes the events. With an empty set, the thread reports only errors and hang-ups.
    package func modify(_ descriptor: Int32, _ events: IOEvents) throws(VMMError) {
        try state.withLock { state throws(VMMError) in
            guard let token = state.registrations[descriptor]?.token else { throw VMMError(call: "epoll_ctl", errno: ENOENT) }
            try control(EPOLL_CTL_MOD, descriptor, token, events)
        }
    }

    /// Removes a descriptor. After it returns, the handler does not run again, unless the handler itself made the call.
    package func remove(_ descriptor: Int32) {
        let registration = state.withLock { state in
            let registration = state.registrations.removeValue(forKey: descriptor)
            if let registration { try? control(EPOLL_CTL_DEL, descriptor, registration.token, []) }
            return registration
        }
        if !isCurrent { dispatch.withLock { _ in } }
        // Released outside the lock: it may be the last reference to the handler.
        _ = registration
    }

    /// Calls the handler's `alarm()` once, at a time or up to a millisecond later. Replaces the handler's earlier time. On the I/O thread only.
    ///
    /// - Parameter time: nanoseconds of CLOCK_MONOTONIC; nil: not any more.
    package func setAlarm(_ handler: IOHandler, at time: UInt64?) {
        alarms.withLock { alarms in
            alarms.removeAll { $0.handler === handler }
            if let time { alarms.append((handler, time)) }
        }
    }

    /// Milliseconds until the next alarm, for epoll_wait(2); -1 if there is none.
    private var timeout: Int32 {
        guard let next = alarms.withLock({ alarms in alarms.map { $0.time }.min() }) else { return -1 }
        let now = TickClock.monotonicNanoseconds()
        return next <= now ? 0 : Int32(clamping: (next - now) / 1_000_000 + 1)
    }

    private func ringAlarms() {
        let now = TickClock.monotonicNanoseconds()
        let due = alarms.withLock { alarms in
            let due = alarms.filter { $0.time <= now }.map { $0.handler }
            alarms.removeAll { $0.time <= now }
            return due
        }
        for handler in due { handler.alarm() }
    }

    /// Stops and joins the thread. `add` fails from then on. Not on the I/O thread.
    package func stop() {
        let (thread, registrations) = state.withLock { state in
            state.isStopped = true
            let left = (state.thread, state.registrations)
            state.thread = nil
            state.registrations = [:]
            return left
        }
        guard let thread else { return }
        wakeUp.signal()
        thread.join()
        // Released outside the lock, for the same reason.
        _ = registrations
    }

    private var isCurrent: Bool {
        identity.load(ordering: .acquiring) == UInt(pthread_self())
    }

    private func control(_ operation: Int32, _ descriptor: Int32, _ token: UInt32, _ events: IOEvents) throws(VMMError) {
        let mark = UInt64(token) << 32 | UInt64(UInt32(bitPattern: descriptor))
        // SAFETY: the union holds the mark and never a pointer; the event outlives the call, which copies it.
        var event = unsafe epoll_event(events: events.rawValue, data: epoll_data_t(u64: mark))
        guard unsafe epoll_ctl(epoll.rawValue, operation, descriptor, &event) == 0 else { throw VMMError.last("epoll_ctl") }
    }

    /// The thread's main loop.
    private func run() {
        identity.store(UInt(pthread_self()), ordering: .releasing)
        // SAFETY: zero-initialized; the kernel fills it in before it is read.
        var events = unsafe [epoll_event](repeating: epoll_event(), count: 16)
        while true {
            // SAFETY: the array has room for `count` events.
            let count = unsafe epoll_wait(epoll.rawValue, &events, Int32(events.count), timeout)
            for index in 0..<max(0, Int(count)) {
                // SAFETY: control(_:_:_:_:) set this member of the union.
                let mark = unsafe events[index].data.u64
                dispatch.withLock { _ in
                    // Looked up under the dispatch lock, so that a removed handler is not called.
                    handler(of: mark)?.ready(IOEvents(rawValue: unsafe events[index].events))
                }
            }
            ringAlarms()
            wakeUp.drain()
            let isStopped = state.withLock { $0.isStopped }
            performWork(isLast: isStopped)
            if isStopped { break }
        }
        identity.store(0, ordering: .releasing)
    }

    /// Does what `perform(_:)` has handed over. After the last time, `perform(_:)` hands over nothing.
    private func performWork(isLast: Bool) {
        while true {
            let next = work.withLock { work -> (@Sendable () -> Void)? in
                if isLast, work.waiting.isEmpty { work.hasThread = false }
                return work.waiting.isEmpty ? nil : work.waiting.removeFirst()
            }
            guard let next else { return }
            next()
            work.update { $0.done += 1 }
        }
    }

    private func handler(of mark: UInt64) -> IOHandler? {
        state.withLock { state in
            let registration = state.registrations[Int32(truncatingIfNeeded: mark)]
            return registration?.token == UInt32(mark >> 32) ? registration?.handler : nil
        }
    }
}
