// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// What one `symvmm run` is asked for: the machine, and what the process keeps beside it.
public struct LaunchConfiguration: Sendable, Equatable {
    /// The machine.
    public var machine: MachineConfiguration
    /// Where the exit statistics are written at the end of the run.
    public var statsFile: String?
    /// The control socket's path; by the VM's name in the runtime folder when nil.
    public var apiSocket: String?

    /// A launch with nothing beside the machine.
    public init(machine: MachineConfiguration) {
        self.machine = machine
        statsFile = nil
        apiSocket = nil
    }

    /// The name of a VM that was given none: `vm-` and the process' number.
    public static var derivedName: String {
        "vm-\(getpid())"
    }

    /// Reads a configuration file: Firecracker's schema where the thing is the same, and our own fields `name`, `console`, `symbiotic`,
    /// `stats_file` and `api_socket`. At most 1 MiB.
    public init(file path: String) throws(ControlError) {
        let bytes: [UInt8]
        do throws(KVMError) {
            bytes = try SmallFile.read(path, atMost: 1 << 20)
        } catch {
            throw .usage("--config: \(error)")
        }
        try self.init(json: bytes, source: path)
    }

    /// Reads a configuration text; `source` names it in errors.
    public init(json bytes: [UInt8], source: String) throws(ControlError) {
        var root = try JSONFields(JSONValue(parsing: bytes, from: source), path: "\(source):")
        guard var boot = try root.object("boot-source") else { throw .usage("\(root.name("boot-source")): missing") }
        let name = try root.string("name") ?? LaunchConfiguration.derivedName
        try MachineConfiguration.checkName(name)
        var machine = MachineConfiguration(name: name, kernelPath: try boot.requiredString("kernel_image_path"))
        machine.initrdPath = try boot.string("initrd_path")
        machine.commandLine = try boot.string("boot_args") ?? ""
        try boot.checkAllTaken()
        try machine.takeSize(&root)
        try machine.takeDrives(&root)
        try machine.takeNetworkInterfaces(&root)
        // The generator of random numbers is always there; the field is taken so that Firecracker's files are.
        try root.object("entropy")?.checkAllTaken()
        if let text = try root.string("console") {
            machine.console = try ConsoleConfiguration(option: text, option: root.name("console"))
        } else {
            machine.console = .stdio
        }
        machine.symbiotic = try root.boolean("symbiotic") ?? true
        self.init(machine: machine)
        statsFile = try root.string("stats_file")
        apiSocket = try root.string("api_socket")
        try root.checkAllTaken()
    }
}

extension MachineConfiguration {
    fileprivate mutating func takeSize(_ root: inout JSONFields) throws(ControlError) {
        guard var size = try root.object("machine-config") else { return }
        if let count = try size.integer("vcpu_count") {
            let option = size.name("vcpu_count")
            guard let vcpus = Int(exactly: count) else { throw .usage("\(option): \(count) vCPUs: give 1 to 32") }
            try MachineConfiguration.checkVCPUCount(vcpus, option: option)
            vcpuCount = vcpus
        }
        if let mebibytes = try size.integer("mem_size_mib") {
            let option = size.name("mem_size_mib")
            guard let number = UInt64(exactly: mebibytes), number <= 1 << 20 else {
                throw .usage("\(option): \(mebibytes) MiB: give 1 to 1048576")
            }
            try ByteCount.checkMemory(number << 20, "\(mebibytes)", option: option)
            memoryByteCount = number << 20
        }
        try size.checkAllTaken()
    }

    fileprivate mutating func takeDrives(_ root: inout JSONFields) throws(ControlError) {
        var rootDrives = 0
        for var fields in try root.objects("drives") {
            let id = try fields.requiredString("drive_id")
            try DriveConfiguration.checkIdentifier(id, option: fields.name("drive_id"))
            let path = try fields.requiredString("path_on_host")
            let isReadOnly = try fields.boolean("is_read_only") ?? false
            let isRoot = try fields.boolean("is_root_device") ?? false
            let sector = try fields.integer("sector_size").map { String($0) }
            let sectorSize = try DriveConfiguration.sectorSize(sector, option: fields.name("sector_size"))
            try fields.checkAllTaken()
            let drive = DriveConfiguration(id: id, path: path, isReadOnly: isReadOnly, sectorSize: sectorSize)
            guard isRoot else {
                drives.append(drive)
                continue
            }
            rootDrives += 1
            guard rootDrives == 1 else { throw .usage("\(fields.name("is_root_device")): there is a root device already") }
            // As Firecracker: the root device comes first, and the kernel is told.
            drives.insert(drive, at: 0)
            commandLine += (commandLine.isEmpty ? "" : " ") + "root=/dev/vda " + (isReadOnly ? "ro" : "rw")
        }
    }

    fileprivate mutating func takeNetworkInterfaces(_ root: inout JSONFields) throws(ControlError) {
        for var fields in try root.objects("network-interfaces") {
            let id = try fields.requiredString("iface_id")
            try DriveConfiguration.checkIdentifier(id, option: fields.name("iface_id"))
            let tap = try fields.requiredString("host_dev_name")
            try NetworkInterfaceConfiguration.checkTap(tap, option: fields.name("host_dev_name"))
            let option = fields.name("guest_mac")
            let mac = try fields.string("guest_mac").map { text throws(ControlError) in try MACAddress(checking: text, option: option) }
            try fields.checkAllTaken()
            networkInterfaces.append(NetworkInterfaceConfiguration(id: id, tap: tap, mac: mac))
        }
    }
}
