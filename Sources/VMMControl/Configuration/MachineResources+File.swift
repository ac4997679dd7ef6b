// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMService

internal import VMMAPI
internal import VMMModel

/// The resources as one JSON object: what a configuration file holds and `GET /vm/config` answers, in Firecracker's schema with our own fields
/// `name`, `console`, `symbiotic`, `stats_file`, `api_socket` and those of the services beside it.
extension MachineResources {
    /// Longest configuration file in bytes.
    private static let fileLimit = 1 << 20

    /// Reads a configuration file of at most 1 MiB.
    package init(file path: String, registry: ServiceRegistry = ServiceRegistry()) throws(ControlError) {
        let bytes: [UInt8]
        do throws(KVMError) {
            bytes = try SmallFile.read(path, atMost: MachineResources.fileLimit)
        } catch {
            throw .usage("--config: \(error)")
        }
        try self.init(json: bytes, source: path, registry: registry)
    }

    /// Reads a configuration text; `source` names it in errors.
    package init(json bytes: [UInt8], source: String, registry: ServiceRegistry = ServiceRegistry()) throws(ControlError) {
        var root = try JSONFields(JSONValue(parsing: bytes, from: source), path: "\(source):")
        let name = try root.string("name") ?? LaunchConfiguration.derivedName
        try MachineConfiguration.checkName(name)
        self.init(name: name, registry: registry)
        if let fields = try root.object("boot-source") { try setBootSource(fields) }
        if let fields = try root.object("machine-config") { try setMachine(fields, isWhole: false) }
        var seen = Set<String>()
        for fields in try root.objects("drives") {
            try MachineResources.checkUnique("drive_id", fields, &seen)
            try setDrive(fields)
        }
        for fields in try root.objects("network-interfaces") {
            try MachineResources.checkUnique("iface_id", fields, &seen)
            try setNetworkInterface(fields)
        }
        if let fields = try root.object("entropy") { try checkEntropy(fields) }
        for descriptor in registry.descriptors {
            if let fields = try root.object(descriptor.key) { try set(descriptor.request(from: fields)) }
        }
        if let fields = try root.object("logger") { try setLogger(fields) }
        if let fields = try root.object("metrics") { try setMetrics(fields) }
        let serial = try root.object("serial")
        if let text = try root.string("console") {
            guard serial == nil else { throw .usage("\(root.name("serial")): console says where the serial port goes: give one of both") }
            console = try ConsoleConfiguration(option: text, option: root.name("console"))
        } else if let serial {
            try setSerial(serial)
        }
        symbiotic = try root.boolean("symbiotic") ?? true
        statsFile = try root.string("stats_file")
        apiSocket = try root.string("api_socket")
        for field in ["balloon", "cpu-config", "vsock", "mmds-config", "memory-hotplug"] { try root.notOffered(field) }
        try root.notOffered("pmem", unless: [.array([])])
        try root.checkAllTaken()
    }

    /// In one file, an identifier that comes again is a mistake, where by the API it changes what is there.
    private static func checkUnique(_ field: String, _ fields: JSONFields, _ seen: inout Set<String>) throws(ControlError) {
        var fields = fields
        let id = try fields.requiredString(field)
        guard seen.insert(id).inserted else {
            throw .usage("\(fields.name(field)): the identifier '\(id)' is used twice: give each drive and interface its own")
        }
    }
}

// MARK: Out

extension MachineResources {
    /// Firecracker's `MachineConfiguration`.
    var machineDocument: JSONValue {
        .object([
            "vcpu_count": .integer(Int64(vcpuCount)), "mem_size_mib": .integer(Int64(memoryByteCount >> 20)), "smt": .boolean(false),
            "track_dirty_pages": .boolean(false), "huge_pages": .string("None"), "nested": .boolean(nested), "pmu": .boolean(pmu),
        ])
    }

    /// Firecracker's `FullVmConfiguration` with our fields: a configuration file that makes the same machine.
    var document: JSONValue {
        var fields: [String: JSONValue] = [
            "name": .string(name), "machine-config": machineDocument, "drives": .array(drives.map(\.document)),
            "network-interfaces": .array(networkInterfaces.map(\.document)), "entropy": .object([:]), "console": .string(console.text),
            "symbiotic": .boolean(symbiotic),
        ]
        if let bootSource {
            fields["boot-source"] = .object([
                "kernel_image_path": .string(bootSource.kernelPath), "boot_args": .string(bootSource.commandLine),
                "initrd_path": bootSource.initrdPath.map { .string($0) } ?? .null,
            ])
        }
        if let logger {
            fields["logger"] = .object([
                "log_path": logger.path.map { .string($0) } ?? .null, "level": .string(logger.level.rawValue),
                "show_level": .boolean(logger.showsLevel), "show_log_origin": .boolean(false),
            ])
        }
        for service in services { fields[service.key] = service.document }
        if let metricsPath { fields["metrics"] = .object(["metrics_path": .string(metricsPath)]) }
        if let statsFile { fields["stats_file"] = .string(statsFile) }
        if let apiSocket { fields["api_socket"] = .string(apiSocket) }
        return .object(fields)
    }
}

extension DriveConfiguration {
    /// Firecracker's `Drive`.
    fileprivate var document: JSONValue {
        var fields: [String: JSONValue] = [
            "drive_id": .string(id), "path_on_host": .string(path), "is_read_only": .boolean(isReadOnly),
            "is_root_device": .boolean(isRootDevice), "cache_type": .string("Writeback"), "io_engine": .string("Sync"),
        ]
        if let partitionUUID { fields["partuuid"] = .string(partitionUUID) }
        if let sectorSize { fields["sector_size"] = .integer(Int64(sectorSize)) }
        return .object(fields)
    }
}

extension NetworkInterfaceConfiguration {
    /// Firecracker's `NetworkInterface`.
    fileprivate var document: JSONValue {
        var fields: [String: JSONValue] = ["iface_id": .string(id), "host_dev_name": .string(tap)]
        if let mac { fields["guest_mac"] = .string(mac.description) }
        return .object(fields)
    }
}
