// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// A POSIX thread with a name. KVM_RUN and device I/O block, which code in Swift's cooperative pool must not do.
package final class Thread: Sendable {
    /// Sets the stack size of all threads created from now on to 512 KiB. Call it first in a program.
    ///
    /// The kernel may back the default 8 MiB with transparent huge pages: 2 MiB of memory for a stack that uses a few KiB.
    package static func useSmallStacks() {
        _ = ckvm_set_default_stack_size(512 << 10)
    }

    /// Makes all threads allocate memory from one arena. Call it before the process creates its first thread.
    ///
    /// Otherwise the C library makes an arena for each thread, which costs time and memory, and reads a file of /proc when it first shrinks one, which
    /// the sandbox does not allow. No thread of a VM allocates often: the exit path does not at all.
    package static func useOneArena() {
        ckvm_use_one_arena()
    }

    /// What the thread is for.
    package let role: ThreadRole
    private let handle: pthread_t
    private let joined = Atomic<Bool>(false)

    /// Starts `body` on a new thread.
    ///
    /// - Parameters:
    ///   - role: what the thread is for.
    ///   - label: distinguishes threads of the same role. `ps -L` and debuggers show the role's name and the label, together 15 bytes of them.
    ///   - preparing: runs on the new thread before it is confined.
    package init(
        _ role: ThreadRole, _ label: String = "", preparing: (@Sendable () -> Void)? = nil, _ body: @escaping @Sendable () -> Void
    ) throws(VMMError) {
        self.role = role
        let name = role.rawValue + label
        let confiner = ThreadConfinement.current
        confiner?.willMakeThread()
        // SAFETY: takeRetainedValue on the new thread balances it, or release below if there is no thread.
        let start = unsafe Unmanaged.passRetained(
            Start(name: String(name.utf8.prefix(15)) ?? role.rawValue, role: role, confiner: confiner, preparing: preparing, body: body))
        var created = pthread_t()
        // SAFETY: the argument is a retained object; the new thread releases it once, first of all.
        let status = unsafe pthread_create(
            &created, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                _ = unsafe ckvm_name_thread(start.name)
                start.preparing?()
                start.confiner?.enter(start.role)
                start.body()
                return nil
            }, start.toOpaque())
        guard status == 0 else {
            unsafe start.release()
            confiner?.threadWasNotMade()
            throw VMMError(call: "pthread_create", errno: status, advice: "raise the limit of threads (ulimit -u)")
        }
        handle = created
    }

    /// Sends a signal to the thread. The caller makes sure that the thread has not been joined.
    package func signal(_ number: Int32) {
        pthread_kill(handle, number)
    }

    /// Waits until the thread ends. Only the first call waits.
    package func join() {
        guard !joined.exchange(true, ordering: .acquiringAndReleasing) else { return }
        _ = pthread_join(handle, nil)
    }

    deinit {
        if !joined.load(ordering: .acquiring) { pthread_detach(handle) }
    }

    private final class Start: Sendable {
        let name: String
        let role: ThreadRole
        let confiner: (any ThreadConfiner)?
        let preparing: (@Sendable () -> Void)?
        let body: @Sendable () -> Void
        init(
            name: String, role: ThreadRole, confiner: (any ThreadConfiner)?, preparing: (@Sendable () -> Void)?,
            body: @escaping @Sendable () -> Void
        ) {
            self.name = name
            self.role = role
            self.confiner = confiner
            self.preparing = preparing
            self.body = body
        }
    }
}
