// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMBase
internal import VMMJail

struct JailCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jail", abstract: "Run a VM as another user in namespaces of its own, with only its files visible.",
        discussion: """
            The options are those of Firecracker's jailer, and --bind, --new-net-ns. docs/JAIL.md describes the jail. What follows '--' is a command
            'run' or 'serve' of symvmm, which runs in the jail; its paths are paths in the jail.

            Root must give --uid and --gid. An ordinary user who may open /dev/kvm gets a jail in a user namespace and needs --chroot-base-dir.

            Examples:
              symvmm jail --id web --uid 1001 --gid 1001 --bind vmlinuz --bind root.img:rw -- \\
                run --kernel $PWD/vmlinuz --disk $PWD/root.img --append "console=ttyS0 root=/dev/vda"
              symvmm jail --id web --uid 1001 --gid 1001 --cgroup memory.max=1G --netns web --bind /etc/vms/web:/vm -- run --config /vm/vm.json
              curl --unix-socket /srv/jailer/symvmm/web/root/run/symvmm/web.sock http://localhost/

            Exit status: that of the VM's command; 2 usage error, 3 host error.
            """)

    @Option(help: ArgumentHelp("Name of the jail and the VM: letters, digits, hyphens.", valueName: "id"))
    var id: String
    @Option(
        name: .customLong("exec-file"), help: ArgumentHelp("Static program to run (default: this one).", valueName: "file"),
        completion: .file())
    var program: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("User of the VM's process.", valueName: "uid"))
    var uid: UInt32?
    @Option(parsing: .unconditional, help: ArgumentHelp("Group of the VM's process.", valueName: "gid"))
    var gid: UInt32?
    @Option(
        name: .customLong("chroot-base-dir"), help: ArgumentHelp("Folder of the jails (default: /srv/jailer).", valueName: "folder"),
        completion: .directory)
    var baseFolder: String?
    @Option(help: ArgumentHelp("Show a file or folder of the host in the jail: SRC[:DST][:rw]. May be repeated.", valueName: "bind"))
    var bind: [String] = []
    @Option(help: ArgumentHelp("Join a network namespace: its name or its path.", valueName: "name|path"))
    var netns: String?
    @Flag(name: .customLong("new-net-ns"), help: "Make a network namespace without interfaces.")
    var hasNewNetwork = false
    @Flag(name: .customLong("new-pid-ns"), help: "Accepted for Firecracker's command lines: the jail always has a PID namespace.")
    var hasNewProcesses = false
    @Option(help: ArgumentHelp("Set a limit of the control group, such as memory.max=1G. May be repeated.", valueName: "file=value"))
    var cgroup: [String] = []
    @Option(name: .customLong("cgroup-version"), help: ArgumentHelp("2, the only version.", valueName: "version"))
    var groupVersion: String?
    @Option(
        name: .customLong("parent-cgroup"),
        help: ArgumentHelp("Control group above that of the jail (default: the program's name).", valueName: "path"))
    var parentGroup: String?
    @Option(
        name: .customLong("resource-limit"),
        help: ArgumentHelp(
            "Set a limit of the process: fsize=BYTES or no-file=NUMBER (default: no-file=2048). May be repeated.", valueName: "limit"))
    var limit: [String] = []
    @Flag(help: "Continue in the background.")
    var daemonize = false
    @Argument(parsing: .postTerminator, help: ArgumentHelp("Command of the VM, run or serve, and its options.", valueName: "command"))
    var command: [String] = []

    func run() throws {
        let status = try Jail.run(jail()) { line in Terminal.error("symvmm: \(line.printable)") }
        if status != 0 { throw ExitCode(status) }
    }

    private func jail() throws(VMMError) -> JailConfiguration {
        guard netns == nil || !hasNewNetwork else { throw .user("--netns cannot be combined with --new-net-ns") }
        var jail = try JailConfiguration(id: id, user: uid, group: gid, program: program, arguments: command)
        try jail.set(
            baseFolder: baseFolder, network: netns, controls: cgroup, groupVersion: groupVersion, parentGroup: parentGroup, limits: limit)
        jail.hasNewNetwork = hasNewNetwork
        for text in bind { jail.binds.append(try Bind(option: text)) }
        jail.isDaemon = daemonize
        return jail
    }
}
