// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// What a descriptor is ready for, or waited for (epoll_ctl(2)).
public struct IOEvents: OptionSet, Sendable {
    /// The kernel's bits.
    public let rawValue: UInt32

    /// Takes the kernel's bits.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// There is something to read, or the end of it.
    public static let readable = IOEvents(rawValue: 0x001)  // EPOLLIN
    /// There is room to write.
    public static let writable = IOEvents(rawValue: 0x004)  // EPOLLOUT
    /// An error; told without being asked for.
    public static let error = IOEvents(rawValue: 0x008)  // EPOLLERR
    /// The other end is gone; told without being asked for.
    public static let hangUp = IOEvents(rawValue: 0x010)  // EPOLLHUP
}

/// Who answers when a descriptor is ready. Called on the I/O thread only; must not wait.
open class IOHandler: @unchecked Sendable {
    /// For subclasses.
    public init() {
    }

    /// The descriptor is ready. It stays ready, and this is called again, until what made it so is taken (level-triggered).
    open func ready(_ events: IOEvents) {
    }
}

/// One thread that waits for many descriptors: taps, doorbells, the console's input. It starts with the first descriptor.
///
/// Any thread may call. Its owner ends it with `stop()`: a running thread keeps the object alive.
public final class IOThread: Sendable {
    private let epoll: FileDescriptor
    private let wakeUp: EventNotifier
    private let name: String
    private let state = Mutex(State())
    /// Held while a handler runs: whoever removes a descriptor waits for it.
    private let dispatch = Mutex(())
    private let identity = Atomic<UInt>(0)

    private struct Registration {
        /// Tells an event of this registration from one of an earlier user of the same descriptor number.
        let token: UInt32
        let handler: IOHandler
    }

    private struct State {
        var registrations: [Int32: Registration] = [:]
        var lastToken: UInt32 = 0
        var thread: Thread?
        var isStopped = false
    }

    /// Prepares the thread; nothing runs yet.
    public init(name: String = "symvmm-io") throws(KVMError) {
        self.name = name
        let number = try KVMError.check(ckvm_epoll(), "epoll_create1", advice: "raise the limit of open files (ulimit -n)")
        epoll = FileDescriptor(owning: number)
        wakeUp = try EventNotifier()
        try control(EPOLL_CTL_ADD, wakeUp.descriptor.rawValue, 0, .readable)
    }

    /// Watches a descriptor, which stays open until `remove`.
    ///
    /// - Throws: EPERM for a regular file, EEXIST for a descriptor that is watched already, ECANCELED after `stop`.
    public func add(_ descriptor: Int32, _ events: IOEvents, handler: IOHandler) throws(KVMError) {
        try state.withLock { state throws(KVMError) in
            guard !state.isStopped else { throw KVMError(call: "epoll_ctl", errno: ECANCELED) }
            let token = state.lastToken &+ 1
            try control(EPOLL_CTL_ADD, descriptor, token, events)
            state.lastToken = token
            state.registrations[descriptor] = Registration(token: token, handler: handler)
            guard state.thread == nil else { return }
            do throws(KVMError) {
                state.thread = try Thread(name: name) { [self] in run() }
            } catch {
                state.registrations[descriptor] = nil
                try? control(EPOLL_CTL_DEL, descriptor, token, [])
                throw error
            }
        }
    }

    /// Changes what is waited for; with nothing, only errors are told.
    public func modify(_ descriptor: Int32, _ events: IOEvents) throws(KVMError) {
        try state.withLock { state throws(KVMError) in
            guard let token = state.registrations[descriptor]?.token else { throw KVMError(call: "epoll_ctl", errno: ENOENT) }
            try control(EPOLL_CTL_MOD, descriptor, token, events)
        }
    }

    /// Watches a descriptor no longer. When this returns, its handler does not run and will not, unless it is the handler that calls.
    public func remove(_ descriptor: Int32) {
        let registration = state.withLock { state in
            let registration = state.registrations.removeValue(forKey: descriptor)
            if let registration { try? control(EPOLL_CTL_DEL, descriptor, registration.token, []) }
            return registration
        }
        if !isCurrent { dispatch.withLock { _ in } }
        // Released here and not under a lock: it may be the last reference to the handler.
        _ = registration
    }

    /// Ends the thread and joins it. Nothing can be added afterwards. Not on the I/O thread.
    public func stop() {
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
        // Released here and not under the lock, for the same reason.
        _ = registrations
    }

    private var isCurrent: Bool {
        identity.load(ordering: .acquiring) == UInt(pthread_self())
    }

    private func control(_ operation: Int32, _ descriptor: Int32, _ token: UInt32, _ events: IOEvents) throws(KVMError) {
        let mark = UInt64(token) << 32 | UInt64(UInt32(bitPattern: descriptor))
        // SAFETY: the union holds the mark and never a pointer; the event outlives the call, which copies it.
        var event = unsafe epoll_event(events: events.rawValue, data: epoll_data_t(u64: mark))
        guard unsafe epoll_ctl(epoll.rawValue, operation, descriptor, &event) == 0 else { throw KVMError.last("epoll_ctl") }
    }

    /// The thread's whole life.
    private func run() {
        identity.store(UInt(pthread_self()), ordering: .releasing)
        // SAFETY: all zeroes; the kernel fills it before it is read.
        var events = unsafe [epoll_event](repeating: epoll_event(), count: 16)
        while true {
            // SAFETY: the array has room for as many events as is said.
            let count = unsafe epoll_wait(epoll.rawValue, &events, Int32(events.count), -1)
            for index in 0..<max(0, Int(count)) {
                // SAFETY: control(_:_:_:_:) filled this member of the union.
                let mark = unsafe events[index].data.u64
                dispatch.withLock { _ in
                    // Looked up under the dispatch lock: one that was removed meanwhile is not called.
                    handler(of: mark)?.ready(IOEvents(rawValue: unsafe events[index].events))
                }
            }
            if state.withLock({ $0.isStopped }) { return }
        }
    }

    private func handler(of mark: UInt64) -> IOHandler? {
        state.withLock { state in
            let registration = state.registrations[Int32(truncatingIfNeeded: mark)]
            return registration?.token == UInt32(mark >> 32) ? registration?.handler : nil
        }
    }
}
