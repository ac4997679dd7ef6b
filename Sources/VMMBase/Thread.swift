// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// A plain POSIX thread with a name. KVM_RUN and device I/O block, which Swift's cooperative pool must not.
public final class Thread: Sendable {
    /// Makes the stacks of all threads made from now on 512 KiB long. Call first in a program.
    ///
    /// In the usual 8 MiB the kernel may put transparent huge pages: 2 MiB of memory for a stack that uses a few KiB.
    public static func useSmallStacks() {
        _ = ckvm_set_default_stack_size(512 << 10)
    }

    private let handle: pthread_t
    private let joined = Atomic<Bool>(false)

    /// Starts `body` on a new thread.
    ///
    /// - Parameter name: shown by ps -L and debuggers; the kernel keeps 15 bytes of it.
    public init(name: String, _ body: @escaping @Sendable () -> Void) throws(KVMError) {
        // SAFETY: balanced by takeRetainedValue on the new thread, or by release below when there is none.
        let start = unsafe Unmanaged.passRetained(Start(name: String(name.utf8.prefix(15)) ?? "symvmm", body: body))
        var created = pthread_t()
        // SAFETY: the argument is a retained object that the new thread releases, once, as the first thing it does.
        let status = unsafe pthread_create(
            &created, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                _ = unsafe ckvm_name_thread(start.name)
                start.body()
                return nil
            }, start.toOpaque())
        guard status == 0 else {
            unsafe start.release()
            throw KVMError(call: "pthread_create", errno: status, advice: "raise the limit of threads (ulimit -u)")
        }
        handle = created
    }

    /// Sends a signal to the thread. The caller makes sure that the thread has not been joined.
    public func signal(_ number: Int32) {
        pthread_kill(handle, number)
    }

    /// Waits until the thread has ended. Only the first call waits.
    public func join() {
        guard !joined.exchange(true, ordering: .acquiringAndReleasing) else { return }
        _ = pthread_join(handle, nil)
    }

    deinit {
        if !joined.load(ordering: .acquiring) { pthread_detach(handle) }
    }

    private final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
}
