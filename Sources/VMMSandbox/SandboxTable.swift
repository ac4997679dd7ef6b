// SPDX-License-Identifier: Apache-2.0

package import VMMBase

/// What each kind of thread may call once it is confined, and why. All other calls end the process. docs/SANDBOX.md explains the design.
///
/// Never in this table: execve, clone, socket, connect, bind, setsockopt, ptrace, process_vm_*, bpf, userfaultfd, io_uring_*, mount, setns,
/// unshare, perf_event_open, keyctl (`SandboxTableTests`). Complete it with `--sandbox log`, which reports each call that it lacks.
package enum SandboxTable {
    /// The calls of a role; nil if its threads are not confined.
    package static func calls(of role: ThreadRole) -> [AllowedCall]? {
        switch role {
        case .vcpu: common + vcpu
        case .block: common + block
        case .devices: common + devices
        case .symcallLimit: common
        case .service: common + symcalls + swapFile
        case .consoleInput: common + waiting
        case .consoleOutput: common + waiting
        case .signals: common + interruptLine + [.allow(.rt_sigtimedwait, "sigwait(3)")]
        case .stopper: common + interruptLine
        case .metrics: common + waiting + statistics
        case .apiLoop: common + apiLoop
        case .apiLife: common + statistics + interruptLine
        case .apiWork: common + statistics + interruptLine + symcalls
        case .main: common + statistics + interruptLine + waiting + main
        case .files: common + files
        // Threads of commands that are no VM's process, and of the test build's second machine (`scripts/build --test`).
        case .command, .testMover: nil
        }
    }

    /// The call that is compared first: KVM_RUN is the one call of the exit path.
    package static func hotCall(of role: ThreadRole) -> SystemCall? {
        role == .vcpu ? .ioctl : nil
    }

    // MARK: Every thread

    /// Memory, locks, time, signals, and the end: what the C library and Swift's runtime call on any thread, and eventfds and open files.
    private static let common: [AllowedCall] = [
        .allow(.read, "eventfds, files and sockets that are open"),
        .allow(.write, "eventfds, the log, standard error"),
        .allow(.close, "whoever releases the last reference closes the descriptor"),
        .allow(.futex, "locks"),
        .allow(.mmap, "malloc: anonymous memory without PROT_EXEC", .without(2, Memory.executable), .with(3, Memory.anonymous)),
        .allow(.mprotect, "malloc, the swap store's chunks: without PROT_EXEC", .without(2, Memory.executable)),
        .allow(.munmap, "malloc"),
        .allow(.mremap, "realloc"),
        .allow(.madvise, "free; the swap store and a stack that ends give memory back"),
        .allow(.brk, "malloc"),
        .allow(.sched_getaffinity, "malloc: the number of its arenas"),
        .allow(.sched_yield, "locks"),
        .allow(.getrandom, "seeds of hash tables; the guest's random number generator"),
        .allow(.clock_gettime, "time, where the vDSO does not tell it"),
        .allow(.clock_nanosleep, "usleep(3)"),
        .allow(.getpid, "pthread_kill(3)"),
        .allow(.gettid, "abort(3)"),
        .allow(.tgkill, "kicks a vCPU: a thread of this process only", .ownProcess(0)),
        .allow(.rt_sigprocmask, "pthread_kill(3), the end of a thread"),
        .allow(.rt_sigreturn, "the end of a signal handler"),
        .allow(.restart_syscall, "the kernel restarts a call after a signal"),
        .allow(.ioctl, "a crash restores the terminal", .oneOf(1, [Terminal.set])),
        .allow(.exit, "the end of a thread"),
        .allow(.exit_group, "the end of the process"),
    ]

    // MARK: Parts of several roles

    /// poll(2) on the console, and on the eventfds of the metrics.
    private static let waiting: [AllowedCall] = [
        .allow(.poll, "waits for the console, or until the next line of metrics")
    ]

    /// Exit statistics, and what the swap store and the process use.
    private static let statistics: [AllowedCall] = [
        .allow(.pread64, "KVM's statistics, the vCPUs' times, /proc/self/statm"),
        .allow(.newfstatat, "fstat(2): the size of the swap file", .oneOf(3, [File.emptyPath])),
        .allow(.mincore, "what of the swap store is in memory"),
    ]

    /// The interrupt of the power button.
    private static let interruptLine: [AllowedCall] = [
        .allow(.ioctl, "presses the power button", .oneOf(1, [KVM.irqLine]))
    ]

    /// Symcalls that a client requests.
    private static let symcalls: [AllowedCall] = [
        .allow(.eventfd2, "a symcall's eventfd, which the vCPU signals when it is done"),
        .allow(.poll, "waits for a symcall"),
    ]

    /// Pages that the swap store moves.
    private static let swapFile: [AllowedCall] = [
        .allow(.pread64, "reads pages of the swap file"),
        .allow(.pwrite64, "writes pages to the swap file"),
    ]

    // MARK: One role each

    private static let vcpu: [AllowedCall] = [
        .allow(
            .ioctl, "runs the guest; registers for symcalls and crash reports; interrupts",
            .oneOf(
                1,
                [
                    KVM.run, KVM.getRegisters, KVM.setRegisters, KVM.getSpecialRegisters, KVM.setSpecialRegisters,
                    KVM.getMultiprocessorState, KVM.setMultiprocessorState, KVM.clockPaused, KVM.irqLine,
                ])),
        .allow(.pread64, "reads its own time in /proc at its end"),
    ]

    private static let block: [AllowedCall] = [
        .allow(.preadv, "reads the disk into guest memory"),
        .allow(.pwritev, "writes guest memory to the disk"),
        .allow(.pread64, "reads the swap file"),
        .allow(.pwrite64, "writes zeroes; writes the swap file"),
        .allow(.fdatasync, "flushes the disk"),
        .allow(.fallocate, "discards and zeroes parts of a disk: never changes its size", .oneOf(1, [File.punchHole, File.zeroRange])),
    ]

    private static let devices: [AllowedCall] = [
        .allow(.epoll_wait, "waits for taps and notifiers"),
        .allow(.epoll_ctl, "activates and stops network interfaces and the random number generator"),
        .allow(.writev, "sends a frame"),
        .allow(.ioctl, "offloads of a tap; memory slots of the swap store", .oneOf(1, [Tap.setOffload, KVM.setMemoryRegion])),
    ]

    private static let apiLoop: [AllowedCall] = [
        .allow(.epoll_create, "the event loop begins"),
        .allow(.listen, "the API begins"),
        .allow(.eventfd2, "the event loop begins"),
        .allow(.timerfd_create, "the event loop begins"),
        .allow(.epoll_wait, "waits for clients"),
        .allow(.epoll_ctl, "waits for clients"),
        .allow(.timerfd_settime, "deadlines of clients"),
        .allow(.accept4, "accepts a client"),
        .allow(.rt_sigaction, "NIO ignores SIGPIPE for each client", .oneOf(0, [Signal.brokenPipe])),
        .allow(.fcntl, "makes a socket nonblocking", .oneOf(1, [File.getFlags, File.setFlags])),
        .allow(.recvfrom, "reads a request"),
        .allow(.sendto, "writes an answer"),
        .allow(.writev, "writes an answer"),
        .allow(.shutdown, "ends a connection"),
        .allow(.getsockopt, "errors of a socket", .oneOf(1, [Socket.anyKind])),
        .allow(.getsockname, "addresses of a socket"),
        .allow(.getpeername, "addresses of a socket"),
    ]

    private static let main: [AllowedCall] = [
        .allow(.listen, "the API's backlog"),
        .allow(
            .rt_sigaction, "NIO ignores SIGPIPE when it takes the API's socket; in Firecracker's way, a signal ends the process",
            .oneOf(
                0,
                [Signal.hangUp, Signal.interrupt, Signal.quit, Signal.brokenPipe, Signal.terminate, Signal.processorTime])),
        .allow(.getpeername, "addresses of the API's socket"),
        .allow(.fcntl, "makes the API's socket nonblocking", .oneOf(1, [File.getFlags, File.setFlags])),
        .allow(.getsockopt, "the kind of the API's socket", .oneOf(1, [Socket.anyKind])),
        .allow(.getsockname, "the API's address"),
        .allow(.ioctl, "restores the terminal", .oneOf(1, [Terminal.get, Terminal.setAfterOutput])),
    ]

    private static let files: [AllowedCall] = [
        .allow(.openat, "opens what Landlock allows: files of drives, the log, FIFOs, the next console file"),
        .allow(.newfstatat, "kind, size and identity of files"),
        .allow(.access, "whether a folder is writable"),
        .allow(.readlink, "resolves paths; the control socket's link"),
        .allow(.faccessat, "resolves paths with '..' before Linux 5.8"),
        .allow(.faccessat2, "resolves paths with '..'"),
        .allow(.getcwd, "resolves relative paths"),
        .allow(.geteuid, "whether a file is ours"),
        .allow(
            .fcntl, "locks a disk's file; duplicates descriptors",
            .oneOf(1, [File.getFlags, File.setFlags, File.lock, File.duplicate])),
        .allow(.ioctl, "size and sectors of a block device", .oneOf(1, [Block.size, Block.sectorSize])),
        .allow(.dup3, "the next console file takes the number of the last"),
        .allow(.pread64, "the first bytes of a drive: the format of an image"),
        .allow(.poll, "waits until the statistics can be written, at most 10 s"),
        .allow(.fsync, "the statistics file is written"),
        .allow(.ftruncate, "empties the swap file at the end"),
        .allow(.rename, "the statistics file replaces the old one"),
        .allow(.renameat, "a full console file becomes NAME.1"),
        .allow(.unlink, "removes the control socket, the swap file and temporary files"),
    ]

    // MARK: Values of arguments

    private enum Memory {
        static let executable: UInt32 = 0x4  // PROT_EXEC
        static let anonymous: UInt32 = 0x20  // MAP_ANONYMOUS
    }

    private enum KVM {
        static let run: UInt64 = 0xae80  // KVM_RUN
        static let getRegisters: UInt64 = 0x8090_ae81  // KVM_GET_REGS
        static let setRegisters: UInt64 = 0x4090_ae82  // KVM_SET_REGS
        static let getSpecialRegisters: UInt64 = 0x8138_ae83  // KVM_GET_SREGS
        static let setSpecialRegisters: UInt64 = 0x4138_ae84  // KVM_SET_SREGS
        static let getMultiprocessorState: UInt64 = 0x8004_ae98  // KVM_GET_MP_STATE
        static let setMultiprocessorState: UInt64 = 0x4004_ae99  // KVM_SET_MP_STATE
        static let clockPaused: UInt64 = 0xaead  // KVM_KVMCLOCK_CTRL
        static let irqLine: UInt64 = 0x4008_ae61  // KVM_IRQ_LINE
        static let setMemoryRegion: UInt64 = 0x4020_ae46  // KVM_SET_USER_MEMORY_REGION
    }

    private enum Tap {
        static let setOffload: UInt64 = 0x4004_54d0  // TUNSETOFFLOAD
    }

    private enum Block {
        static let size: UInt64 = 0x8008_1272  // BLKGETSIZE64
        static let sectorSize: UInt64 = 0x1268  // BLKSSZGET
    }

    private enum Terminal {
        static let get: UInt64 = 0x5401  // TCGETS
        static let set: UInt64 = 0x5402  // TCSETS
        static let setAfterOutput: UInt64 = 0x5403  // TCSETSW
    }

    private enum Socket {
        static let anyKind: UInt64 = 1  // SOL_SOCKET
    }

    private enum Signal {
        static let hangUp: UInt64 = 1  // SIGHUP
        static let interrupt: UInt64 = 2  // SIGINT
        static let quit: UInt64 = 3  // SIGQUIT
        static let brokenPipe: UInt64 = 13  // SIGPIPE
        static let terminate: UInt64 = 15  // SIGTERM
        static let processorTime: UInt64 = 24  // SIGXCPU
    }

    private enum File {
        static let emptyPath: UInt64 = 0x1000  // AT_EMPTY_PATH
        static let getFlags: UInt64 = 3  // F_GETFL
        static let setFlags: UInt64 = 4  // F_SETFL
        static let lock: UInt64 = 37  // F_OFD_SETLK
        static let duplicate: UInt64 = 1030  // F_DUPFD_CLOEXEC
        static let punchHole: UInt64 = 0x3  // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        static let zeroRange: UInt64 = 0x11  // FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE
    }
}
