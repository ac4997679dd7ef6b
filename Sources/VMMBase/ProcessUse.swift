// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Host resources that this process uses.
package struct ProcessUse: Sendable {
    /// CPU time of all threads, user and system, including the guest's.
    package let cpuNanoseconds: UInt64
    /// Resident memory, including the guest's.
    package let residentByteCount: UInt64

    /// For tests.
    package init(cpuNanoseconds: UInt64, residentByteCount: UInt64) {
        self.cpuNanoseconds = cpuNanoseconds
        self.residentByteCount = residentByteCount
    }

    /// Reads the current values (clock_gettime(2), proc(5) statm).
    package static func now() -> ProcessUse {
        ProcessUse(
            cpuNanoseconds: nanoseconds(CLOCK_PROCESS_CPUTIME_ID),
            residentByteCount: residentPages() &* UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0)))
    }

    /// Opens /proc/self/statm for all later calls of `now()`, which the sandbox allows to read it but not to open it.
    package static func prepare() {
        _ = descriptor
    }

    /// Nil where /proc is hidden, as in a jail.
    private static let descriptor: Int32? = {
        // SAFETY: the string lives for the call. The descriptor stays open until the process ends.
        let number = unsafe open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        return number >= 0 ? number : nil
    }()

    /// Resident pages; 0 if they are unknown.
    private static func residentPages() -> UInt64 {
        guard let descriptor else { return 0 }
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 256) { buffer, filled in
            // SAFETY: the buffer has this many bytes, and only what was read counts as filled.
            filled = max(0, unsafe pread(descriptor, buffer.baseAddress, 256, 0))
        }
        // size resident shared text lib data dt, in pages.
        let fields = bytes.split(separator: UInt8(ascii: " "))
        return fields.count > 1 ? UInt64(String(decoding: fields[1], as: UTF8.self)) ?? 0 : 0
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
