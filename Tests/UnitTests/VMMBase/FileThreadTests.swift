// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import VMMBase

@Suite struct FileThreadTests {
    /// What only the file thread writes: without a lock, so that two threads at once would lose some.
    private final class Count: @unchecked Sendable {
        var value = 0
    }

    @Test func closuresRunOnTheThreadOneAtATime() throws {
        try FileThread.start()
        // A second call makes no other thread.
        try FileThread.start()
        let own = pthread_self()
        let file = FileThread.perform { pthread_self() }
        #expect(file != own)
        let count = Count()
        let threads = try (0..<4).map { number in
            try VMMBase.Thread(.command, "user\(number)") {
                for _ in 0..<500 {
                    FileThread.perform {
                        guard pthread_self() == file else { return }
                        count.value += 1
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(count.value == 2000)
    }

    @Test func resultsAndErrorsComeBack() throws {
        try FileThread.start()
        // A result that cannot be copied.
        let opened = try FileThread.perform { () throws(VMMError) in try OwnedFileDescriptor.open("/dev/null", O_RDONLY) }
        #expect(opened.rawValue >= 0)
        #expect(throws: VMMError.user("no")) { try FileThread.perform { () throws(VMMError) -> Int in throw .user("no") } }
        // On the thread itself, a further call does not wait for the first.
        #expect(FileThread.perform { FileThread.perform { 7 } } == 7)
        let nothing = FileThread.perform { () -> Int? in nil }
        #expect(nothing == nil)
    }
}
