// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A value behind a lock, with threads that wait until the value is as they need it (a POSIX mutex with a condition variable).
///
/// Any thread. The functions given to it run under the lock: they must be short and must not use the same monitor. Uses no descriptor.
@safe package final class Monitor<Value: Sendable>: @unchecked Sendable {
    // SAFETY: `init` allocates and initializes the three pointers' one value each, `deinit` frees them; no caller is left then. They are pointers
    // because a mutex must not move, and because Swift checks at run time for overlapping accesses to a class's properties.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private let value: UnsafeMutablePointer<Value>

    /// Creates the monitor of a value.
    package init(_ initial: Value) {
        unsafe mutex = .allocate(capacity: 1)
        unsafe changed = .allocate(capacity: 1)
        unsafe value = .allocate(capacity: 1)
        unsafe value.initialize(to: initial)
        // SAFETY: the calls initialize the memory that was just allocated. They fail only for lack of memory, which Linux does not need for them.
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe changed.initialize(to: pthread_cond_t())
        _ = unsafe pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        _ = unsafe pthread_condattr_init(&attributes)
        // CLOCK_MONOTONIC: a change of the host's date must not move a deadline.
        _ = unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        _ = unsafe pthread_cond_init(changed, &attributes)
        _ = unsafe pthread_condattr_destroy(&attributes)
    }

    deinit {
        // SAFETY: no thread uses the object any more.
        _ = unsafe pthread_cond_destroy(changed)
        _ = unsafe pthread_mutex_destroy(mutex)
        unsafe value.deinitialize(count: 1)
        unsafe value.deallocate()
        unsafe changed.deallocate()
        unsafe mutex.deallocate()
    }

    /// Calls `body` with the value, and wakes no waiting thread.
    package func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        // SAFETY: here and below, the pointers are valid while the object lives, and the value is used under the lock only.
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return unsafe body(&value.pointee)
    }

    /// Changes the value and wakes all waiting threads, which look at it again.
    @discardableResult
    package func update<Result>(_ body: (inout Value) -> Result) -> Result {
        unsafe pthread_mutex_lock(mutex)
        defer {
            unsafe pthread_cond_broadcast(changed)
            unsafe pthread_mutex_unlock(mutex)
        }
        return unsafe body(&value.pointee)
    }

    /// Waits until `body` returns a result. Calls it now and after each `update`.
    @discardableResult
    package func wait<Result>(_ body: (inout Value) -> Result?) -> Result {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        while true {
            if let result = unsafe body(&value.pointee) { return result }
            unsafe pthread_cond_wait(changed, mutex)
        }
    }

    /// The same, at most until a time.
    ///
    /// - Parameter deadline: nanoseconds of CLOCK_MONOTONIC; `.max` is no limit.
    /// - Returns: nil when the time has passed without a result.
    package func wait<Result>(until deadline: UInt64, _ body: (inout Value) -> Result?) -> Result? {
        guard deadline != .max else { return wait(body) }
        var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        while true {
            if let result = unsafe body(&value.pointee) { return result }
            guard unsafe pthread_cond_timedwait(changed, mutex, &time) != ETIMEDOUT else { return unsafe body(&value.pointee) }
        }
    }
}
