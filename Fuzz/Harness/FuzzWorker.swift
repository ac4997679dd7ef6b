// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VMMBase

/// A thread with the stack that symvmm's own threads have: 512 KiB. Runs one body after the other; the caller waits.
final class FuzzWorker: Sendable {
    private let work: EventNotifier
    private let done: EventNotifier
    private let body = Mutex<(@Sendable () -> Void)?>(nil)

    init() throws {
        work = try EventNotifier()
        done = try EventNotifier()
        _ = try VMMBase.Thread(.command, "fuzz") { [self] in
            while true {
                // libFuzzer's timer interrupts system calls.
                while work.drain() == 0 {}
                body.withLock { $0 }?()
                done.signal()
            }
        }
    }

    func run(_ next: @escaping @Sendable () -> Void) {
        body.withLock { $0 = next }
        work.signal()
        while done.drain() == 0 {}
        body.withLock { $0 = nil }
    }
}
