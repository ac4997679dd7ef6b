// SPDX-License-Identifier: Apache-2.0

internal import CJail
internal import Glibc
internal import VMMBase

/// The program in the jail, and the janitor that removes the jail after its end.
struct JailProcess: ~Copyable {
    private let program: pid_t
    private let janitor: pid_t
    private let channel: OwnedFileDescriptor

    /// Starts both. The program waits for `enter`.
    ///
    /// - Parameters:
    ///   - null: a descriptor of /dev/null, or -1; the janitor of a jail in the background keeps no other standard descriptors.
    ///   - clean: removes the jail; the janitor calls it.
    init(_ plan: JailPlan, null: Int32, clean: () -> Bool) throws(VMMError) {
        let (program, number) = try plan.start()
        let channel = OwnedFileDescriptor(owning: number)
        let end = cjail_open_process(program)
        let janitor = end < 0 ? end : cjail_fork()
        guard janitor >= 0 else {
            Glibc.kill(program, SIGKILL)
            _ = JailProcess.wait(for: program)
            throw VMMError(call: end < 0 ? "pidfd_open" : "fork", errno: -janitor)
        }
        if janitor == 0 {
            // Only the parent may hold the channel: its end ends a program that has not begun.
            close(channel.rawValue)
            if null >= 0 { for number: Int32 in 0...2 { dup2(null, number) } }
            _exit(JailProcess.wait(forEndOf: end) && clean() ? 0 : 1)
        }
        close(end)
        self.program = program
        self.janitor = janitor
        self.channel = channel
    }

    /// Lets the program go through its plan until it executes the VMM.
    func enter(
        _ plan: JailPlan, _ configuration: JailConfiguration, group: ControlGroup?, folder: JailFolder, notify: (String) -> Void
    ) throws(VMMError) {
        try group?.add(program)
        if !JailConfiguration.isPrivileged { try writeUserMap(configuration) }
        try answer()
        while true {
            var message = cjail_message()
            // SAFETY: the call writes only the variable.
            let result = unsafe cjail_receive(channel.rawValue, &message)
            _ = try VMMError.check(result, "recv")
            // The end of the channel: execve(2) has closed it, or the process is dead, which `wait` reports.
            guard result > 0 else { return }
            switch cjail_message_kind(rawValue: UInt32(bitPattern: message.kind)) {
            case CJAIL_FAILED: throw plan.error(message)
            case CJAIL_WANTS_USER_MAP: try writeUserMap(configuration)
            case CJAIL_NO_USER_NAMESPACE:
                let reason = VMMError(call: "unshare", errno: message.error)
                notify("the host refuses a user namespace (\(reason)): the jail has none")
            default: try folder.writeProcessNumber(program)
            }
            try answer()
        }
    }

    /// Kills the program and waits for it.
    func kill() {
        Glibc.kill(program, SIGKILL)
        _ = JailProcess.wait(for: program)
    }

    /// Passes signals to the program until it ends.
    ///
    /// - Returns: its end as wait(2) has it.
    func wait(passing signals: JailSignals) -> Int32 {
        while true {
            var end: Int32 = 0
            // SAFETY: the call writes only the variable.
            let ended = unsafe waitpid(program, &end, WNOHANG)
            if ended == program { return end }
            guard ended == 0 || errno == EINTR else { return 0 }
            if let number = signals.next() { Glibc.kill(program, number) }
        }
    }

    /// Waits until the janitor has removed the jail. Returns false if it could not, or if a signal ended it.
    func waitForJanitor() -> Bool {
        JailProcess.wait(for: janitor) == 0
    }

    /// Waits for the end of a child process; returns what wait(2) does.
    static func wait(for child: pid_t) -> Int32 {
        var end: Int32 = 0
        while true {
            // SAFETY: the call writes only the variable.
            if unsafe waitpid(child, &end, 0) == child { return end }
            guard errno == EINTR else { return -1 }
        }
    }

    /// Waits until the process of a pidfd has ended.
    private static func wait(forEndOf process: Int32) -> Bool {
        var event = pollfd(fd: process, events: Int16(POLLIN), revents: 0)
        while true {
            // SAFETY: the call reads and writes only the variable.
            let count = unsafe poll(&event, 1, -1)
            if count > 0 { return true }
            guard errno == EINTR else { return false }
        }
    }

    private func answer() throws(VMMError) {
        let result = cjail_answer(channel.rawValue)
        // A process that is dead says so by the end of the channel.
        if result != -EPIPE { _ = try VMMError.check(result, "send") }
    }

    /// Gives the program's user namespace one user and one group, which have the same numbers as on the host (user_namespaces(7)).
    private func writeUserMap(_ configuration: JailConfiguration) throws(VMMError) {
        let (user, group) = (configuration.user, configuration.group)
        // Required before a user without privileges may map a group.
        if !JailConfiguration.isPrivileged { try write("deny", "setgroups") }
        try write("\(user) \(user) 1", "uid_map")
        try write("\(group) \(group) 1", "gid_map")
    }

    private func write(_ text: String, _ name: String) throws(VMMError) {
        let path = "/proc/\(program)/\(name)"
        let file = try OwnedFileDescriptor.open(path, O_WRONLY)
        let bytes = Array(text.utf8)
        // SAFETY: the array has this many bytes.
        guard unsafe Glibc.write(file.rawValue, bytes, bytes.count) == bytes.count else { throw VMMError.last("write \(path)") }
    }
}
