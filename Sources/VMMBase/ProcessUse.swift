// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// What this process has used of the host.
package struct ProcessUse: Sendable {
    /// Processor time of all its threads: user and system, the guest's included.
    package let cpuNanoseconds: UInt64
    /// Resident memory, the guest's included.
    package let residentByteCount: UInt64

    /// Figures put together by hand, for tests.
    package init(cpuNanoseconds: UInt64, residentByteCount: UInt64) {
        self.cpuNanoseconds = cpuNanoseconds
        self.residentByteCount = residentByteCount
    }

    /// Asks the kernel (clock_gettime(2), proc(5) statm).
    package static func now() -> ProcessUse {
        var pages: UInt64 = 0
        if let bytes = try? SmallFile.read("/proc/self/statm", atMost: 4096) {
            // size resident shared text lib data dt, in pages.
            let words = bytes.split(separator: UInt8(ascii: " "))
            if words.count > 1 { pages = UInt64(String(decoding: words[1], as: UTF8.self)) ?? 0 }
        }
        return ProcessUse(
            cpuNanoseconds: nanoseconds(CLOCK_PROCESS_CPUTIME_ID), residentByteCount: pages &* UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0)))
    }

    /// Milliseconds since 1970.
    package static var realTimeMilliseconds: UInt64 {
        nanoseconds(CLOCK_REALTIME) / 1_000_000
    }

    private static func nanoseconds(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        // SAFETY: the call writes only the variable.
        guard unsafe clock_gettime(clock, &time) == 0 else { return 0 }
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
