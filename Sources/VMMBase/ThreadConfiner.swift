// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Takes rights from threads: the sandbox of a VM's process (module VMMSandbox).
package protocol ThreadConfiner: Sendable {
    /// A thread is about to be made. On the maker's thread.
    func willMakeThread()
    /// The thread could not be made. On the maker's thread.
    func threadWasNotMade()
    /// Confines the calling thread to what its role needs. The new thread calls it before anything else.
    func enter(_ role: ThreadRole)
    /// All threads of a machine exist, and none of its vCPUs runs yet. On the thread that built the machine. Confines this thread, too.
    ///
    /// - Throws: `VMMError` if a thread could not be confined.
    func seal() throws(VMMError)
}

/// The confiner of this process, if any. `Thread` and `VirtualMachine` call it.
package enum ThreadConfinement {
    private static let confiner = Mutex<(any ThreadConfiner)?>(nil)

    /// Confines all threads that are made from now on.
    package static func install(_ confiner: any ThreadConfiner) {
        self.confiner.withLock { $0 = confiner }
    }

    /// The confiner; nil in a process without a sandbox.
    package static var current: (any ThreadConfiner)? {
        confiner.withLock { $0 }
    }
}
