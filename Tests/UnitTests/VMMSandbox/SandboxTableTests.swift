// SPDX-License-Identifier: Apache-2.0

import CSandbox
import Testing
import VMMBase
import VMMSandbox

@Suite struct SandboxTableTests {
    /// Calls that no thread makes once it is confined: they start programs and threads, reach other processes and hosts, or have been the way out of
    /// many a sandbox.
    private static let never = [
        "execve", "execveat", "fork", "vfork", "clone", "clone3", "socket", "socketpair", "connect", "bind", "ptrace", "process_vm_readv",
        "process_vm_writev", "process_madvise", "bpf", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "mount",
        "umount2", "pivot_root", "chroot", "setns", "unshare", "perf_event_open", "keyctl", "add_key", "request_key", "open_by_handle_at",
        "kill", "tkill", "rt_sigqueueinfo", "pidfd_send_signal", "pidfd_getfd", "prctl", "arch_prctl", "seccomp", "modify_ldt",
        "personality", "init_module", "finit_module", "kexec_load", "memfd_create", "mknod", "mknodat", "symlink", "link", "linkat",
        "chmod",
        "fchmod", "fchmodat", "chown", "fchown", "setuid", "setresuid", "capset", "setrlimit", "prlimit64", "shmget", "msgget", "open",
        "creat", "openat2", "pkey_mprotect", "remap_file_pages", "splice", "vmsplice", "tee", "sendmsg",
        "setsockopt",
    ]

    @Test func theTableHasNoneOfTheCallsThatNoThreadNeeds() {
        let named = Set(SystemCall.allCases.map(\.name))
        #expect(named.intersection(SandboxTableTests.never) == [])
    }

    @Test func namesAndNumbersAreTheKernels() throws {
        for call in SystemCall.allCases {
            // SAFETY: the strings are constants.
            let name = unsafe csandbox_call_name(Int(call.rawValue)).map { unsafe String(cString: $0) }
            #expect(name == call.name)
        }
        #expect(unsafe csandbox_call_name(-1) == nil)
        #expect(unsafe csandbox_call_name(5000) == nil)
    }

    @Test(arguments: ThreadRole.allCases) func eachRoleIsConfinedAndEachCallHasItsReason(_ role: ThreadRole) throws {
        guard let calls = SandboxTable.calls(of: role) else {
            #expect(role == .command || role == .testMover)
            return
        }
        #expect(calls.allSatisfy { !$0.reason.isEmpty })
        // Arguments decide what these do.
        for call in calls where [.ioctl, .fcntl, .mmap, .mprotect, .tgkill, .fallocate, .rt_sigaction, .getsockopt].contains(call.call) {
            #expect(!call.checks.isEmpty, "\(role.rawValue): \(call.call.name)")
        }
        // Only the file thread opens and removes files.
        let opening: [SystemCall] = [.openat, .unlink, .rename, .renameat, .ftruncate]
        #expect(role == .files || !calls.contains { opening.contains($0.call) })
    }

    @Test func noCallOfTheListIsUnused() {
        let used = Set(ThreadRole.allCases.flatMap { SandboxTable.calls(of: $0) ?? [] }.map(\.call))
        #expect(Set(SystemCall.allCases).subtracting(used) == [])
    }
}
