// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// Runs a program of the host to its end.
enum HostCommand {
    /// Runs a program that PATH finds, without standard input; its output goes to a file.
    ///
    /// - Throws: if it cannot be started, or ends with another status than 0. The error has the last line of the output.
    static func run(_ words: [String], log: String) throws(VMMError) {
        // SAFETY: the calls read and write only the variable, and copy the path.
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { _ = unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        unsafe posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        let name = words.first ?? ""
        var child: pid_t = 0
        // SAFETY: the copies of the words live until they are freed below, and the array ends with nil. Nothing changes the environment.
        var arguments = unsafe words.map { unsafe strdup($0) } + [nil]
        let result = unsafe posix_spawnp(&child, name, &actions, nil, &arguments, environ)
        for index in unsafe arguments.indices { unsafe free(arguments[index]) }
        guard result == 0 else { throw VMMError(.host, call: name, errno: result, advice: "install it") }
        var end: Int32 = 0
        // SAFETY: the call writes only the variable.
        while unsafe waitpid(child, &end, 0) < 0 {
            guard errno == EINTR else { throw VMMError.last("waitpid") }
        }
        // As WIFEXITED and WEXITSTATUS of wait(2) have it: 0 only if the program returned 0.
        guard end == 0 else { throw .host("\(name) failed: \(lastLine(of: log))") }
    }

    private static func lastLine(of log: String) -> String {
        let text = (try? SmallFile.read(log, atMost: 16 << 20)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let lines = text.split(whereSeparator: \.isNewline)
        // The compiler's first error says more than make's last line.
        return String(lines.first { $0.contains(" error: ") || $0.contains("ERROR: ") } ?? lines.last ?? "it printed nothing")
    }
}
