// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// Drops rights of a VM's process before the guest starts, because a guest that compromises the VMM could use them.
package enum ProcessHardening {
    /// Maximum number of descriptors. A VM with all devices and the maximum number of clients uses fewer than 500.
    private static let descriptorLimit: rlim_t = 4096

    /// Permanently forbids new privileges by execve(2), core files (they contain the guest's memory), tracing by other processes of the
    /// same user, and more than 4096 descriptors. Call it before the process creates its first thread.
    ///
    /// - Throws: `VMMError` when the host refuses.
    package static func apply() throws(VMMError) {
        _ = try VMMError.check(ckvm_forbid_privileges_and_dumps(), "prctl")
        try lower(__rlimit_resource_t(RLIMIT_CORE.rawValue), to: 0, "setrlimit RLIMIT_CORE")
        // The soft limit of 1024 that many hosts have would do, but costs nothing to raise.
        try lower(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), to: descriptorLimit, raisesSoft: true, "setrlimit RLIMIT_NOFILE")
        // A write beyond RLIMIT_FSIZE is then an error (EFBIG), which the guest sees as an I/O error, and not the end of the VM.
        ProcessSignals.ignoreFileSizeSignal()
    }

    /// Permanently limits the length of files that the process writes (RLIMIT_FSIZE). Keeps a lower limit, also a soft one.
    package static func limitFileSize(to byteCount: UInt64) throws(VMMError) {
        try lower(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), to: rlim_t(byteCount), "setrlimit RLIMIT_FSIZE")
    }

    /// The limit of the length of files in bytes; nil if there is none.
    package static var fileSizeLimit: UInt64? {
        var limit = rlimit()
        // SAFETY: the call fills only the variable.
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else { return nil }
        return limit.rlim_cur == rlim_t.max ? nil : UInt64(limit.rlim_cur)
    }

    /// Lowers both the soft and the hard limit. Keeps a lower limit.
    ///
    /// - Parameter raisesSoft: whether the soft limit becomes the hard one, even if it was lower.
    private static func lower(_ resource: __rlimit_resource_t, to most: rlim_t, raisesSoft: Bool = false, _ call: String) throws(VMMError) {
        var limit = rlimit()
        // SAFETY: the call fills only the variable.
        guard unsafe getrlimit(resource, &limit) == 0 else { throw VMMError.last(call) }
        limit.rlim_max = min(limit.rlim_max, most)
        limit.rlim_cur = raisesSoft ? limit.rlim_max : min(limit.rlim_cur, limit.rlim_max)
        // SAFETY: the call reads only the variable.
        guard unsafe setrlimit(resource, &limit) == 0 else { throw VMMError.last(call) }
    }
}
