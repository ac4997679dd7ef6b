// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VMMBase
internal import VMMControl
internal import VMMJail

/// The command line of Firecracker's jailer: `symvmm jailer`, or symvmm under the name `jailer`.
struct JailerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jailer", abstract: "Take the place of Firecracker's jailer: symvmm firecracker in a jail.",
        discussion: """
            The jail is that of 'symvmm jail' (docs/JAIL.md). What follows '--' are options of 'symvmm firecracker'; the jail adds --id.

            Example:
              symvmm jailer --id web --exec-file /usr/bin/firecracker --uid 1001 --gid 1001 -- --api-sock /run/api.sock

            Exit status: that of the VM; 1 for an error.
            """)

    @Option(help: ArgumentHelp("Name of the jail and the VM.", valueName: "id"))
    var id: String?
    @Option(name: .customLong("exec-file"), help: ArgumentHelp("symvmm, under any name.", valueName: "file"), completion: .file())
    var program: String?
    @Option(help: ArgumentHelp("User of the VM's process.", valueName: "uid"))
    var uid: UInt32?
    @Option(help: ArgumentHelp("Group of the VM's process.", valueName: "gid"))
    var gid: UInt32?
    @Option(name: .customLong("chroot-base-dir"), help: ArgumentHelp("Folder of the jails.", valueName: "folder"), completion: .directory)
    var baseFolder = "/srv/jailer"
    @Option(help: ArgumentHelp("Path of the network namespace to join.", valueName: "path"))
    var netns: String?
    @Flag(help: "Continue in the background.")
    var daemonize = false
    @Flag(name: .customLong("new-pid-ns"), help: "Accepted: the jail always has a PID namespace.")
    var hasNewProcesses = false
    @Option(help: ArgumentHelp("Set a limit of the control group. May be repeated.", valueName: "file=value"))
    var cgroup: [String] = []
    @Option(name: .customLong("resource-limit"), help: ArgumentHelp("fsize=BYTES or no-file=NUMBER. May be repeated.", valueName: "limit"))
    var limit: [String] = []
    @Option(name: .customLong("cgroup-version"), help: ArgumentHelp("2, the only version.", valueName: "version"))
    var groupVersion: String?
    @Option(name: .customLong("parent-cgroup"), help: ArgumentHelp("Control group above that of the jail.", valueName: "path"))
    var parentGroup: String?
    @Flag(help: "Print the version.")
    var version = false
    @Argument(parsing: .postTerminator, help: ArgumentHelp("Options of Firecracker.", valueName: "options"))
    var options: [String] = []

    /// Runs the command and ends the process.
    static func start(_ words: [String]) -> Never {
        do {
            let command = try JailerCommand.parse(words)
            if command.version {
                Terminal.output("Jailer v\(APIStyle.firecrackerVersion)\n\nsymvmm \(SymVMMVersion.current)\n")
                Glibc.exit(0)
            }
            Glibc.exit(try Jail.run(command.jail()) { line in Terminal.error("symvmm: \(line.printable)") })
        } catch let error as VMMError {
            Terminal.error("symvmm: \(error)".printable)
        } catch {
            if exitCode(for: error).isSuccess {
                Terminal.output(fullMessage(for: error) + "\n")
                Glibc.exit(0)
            }
            let line = message(for: error).split(whereSeparator: \.isNewline).joined(separator: " ")
            Terminal.error("symvmm: \(line.printable)")
        }
        Glibc.exit(1)
    }

    /// The command's parser calls this for `symvmm jailer`, which `main` handles before.
    func run() {
        JailerCommand.start(Array(CommandLine.arguments.dropFirst(2)))
    }

    private func jail() throws(VMMError) -> JailConfiguration {
        guard let id else { throw .user("--id is missing") }
        guard let program else { throw .user("--exec-file is missing") }
        var jail = try JailConfiguration(id: id, user: uid, group: gid, program: program, arguments: options, isFirecracker: true)
        try jail.set(
            baseFolder: baseFolder, network: netns, controls: cgroup, groupVersion: groupVersion, parentGroup: parentGroup, limits: limit)
        jail.isDaemon = daemonize
        return jail
    }
}
