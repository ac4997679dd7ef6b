// SPDX-License-Identifier: Apache-2.0

// swift-format-ignore: AlwaysUseLowerCamelCase
/// The system calls that the table names, with the kernel's names and its numbers for x86-64.
package enum SystemCall: UInt32, CaseIterable, Sendable {
    case read = 0
    case write = 1
    case close = 3
    case poll = 7
    case mmap = 9
    case mprotect = 10
    case munmap = 11
    case brk = 12
    case rt_sigaction = 13
    case rt_sigprocmask = 14
    case rt_sigreturn = 15
    case ioctl = 16
    case pread64 = 17
    case pwrite64 = 18
    case writev = 20
    case access = 21
    case sched_yield = 24
    case mremap = 25
    case mincore = 27
    case madvise = 28
    case getpid = 39
    case sendto = 44
    case recvfrom = 45
    case shutdown = 48
    case listen = 50
    case getsockname = 51
    case getpeername = 52
    case getsockopt = 55
    case exit = 60
    case fcntl = 72
    case fsync = 74
    case fdatasync = 75
    case ftruncate = 77
    case getcwd = 79
    case rename = 82
    case unlink = 87
    case readlink = 89
    case geteuid = 107
    case rt_sigtimedwait = 128
    case gettid = 186
    case futex = 202
    case sched_getaffinity = 204
    case restart_syscall = 219
    case clock_gettime = 228
    case clock_nanosleep = 230
    case exit_group = 231
    case epoll_create = 213
    case epoll_wait = 232
    case epoll_ctl = 233
    case tgkill = 234
    case openat = 257
    case newfstatat = 262
    case renameat = 264
    case faccessat = 269
    case timerfd_create = 283
    case fallocate = 285
    case timerfd_settime = 286
    case accept4 = 288
    case eventfd2 = 290
    case dup3 = 292
    case preadv = 295
    case pwritev = 296
    case getrandom = 318
    case faccessat2 = 439

    /// The kernel's name.
    package var name: String { "\(self)" }
}
