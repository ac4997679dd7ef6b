// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMBase
internal import VMMModel
internal import VMMService

/// The resources' fields, in Firecracker's names. Each method takes the fields it knows from a JSON object and complains of what is left.
extension MachineResources {
    /// `boot-source`: kernel_image_path, initrd_path, boot_args.
    mutating func setBootSource(_ fields: JSONFields) throws(ControlError) {
        var fields = fields
        var source = BootSource(kernelPath: try fields.requiredString("kernel_image_path"))
        source.initrdPath = try fields.string("initrd_path")
        source.commandLine = try fields.string("boot_args") ?? ""
        try fields.checkAllTaken()
        bootSource = source
    }

    /// `machine-config`: vcpu_count, mem_size_mib. Own: nested, pmu.
    ///
    /// - Parameter isWhole: whether both must be there; otherwise what is missing stays as it is.
    mutating func setMachine(_ fields: JSONFields, isWhole: Bool) throws(ControlError) {
        var fields = fields
        let vcpus = try MachineResources.vcpuCount(&fields)
        let memory = try MachineResources.memory(&fields)
        let isNested = try fields.boolean("nested")
        let hasPMU = try fields.boolean("pmu")
        try fields.notOffered("smt", unless: [.boolean(false)])
        try fields.notOffered("cpu_template", unless: [.string("None")])
        try fields.notOffered("track_dirty_pages", unless: [.boolean(false)])
        try fields.notOffered("huge_pages", unless: [.string("None")])
        try fields.checkAllTaken()
        if isWhole {
            guard vcpus != nil else { throw .usage("\(fields.name("vcpu_count")): missing") }
            guard memory != nil else { throw .usage("\(fields.name("mem_size_mib")): missing") }
        }
        vcpuCount = vcpus ?? vcpuCount
        memoryByteCount = memory ?? memoryByteCount
        nested = isNested ?? nested
        pmu = hasPMU ?? pmu
    }

    private static func vcpuCount(_ fields: inout JSONFields) throws(ControlError) -> Int? {
        guard let count = try fields.integer("vcpu_count") else { return nil }
        let option = fields.name("vcpu_count")
        guard let vcpus = Int(exactly: count) else { throw MachineConfiguration.notACount(count, option) }
        try MachineConfiguration.checkVCPUCount(vcpus, option: option)
        return vcpus
    }

    private static func memory(_ fields: inout JSONFields) throws(ControlError) -> UInt64? {
        guard let mebibytes = try fields.integer("mem_size_mib") else { return nil }
        let option = fields.name("mem_size_mib")
        guard let number = UInt64(exactly: mebibytes), number <= 1 << 20 else {
            throw .usage("\(option): \(mebibytes) MiB: give 1 to 1048576")
        }
        try ByteCount.checkMemory(number << 20, "\(mebibytes)", option: option)
        return number << 20
    }

    /// `drives`: adds a drive, or replaces that of the same identifier.
    ///
    /// - Parameter id: what the identifier must be, where the request's path says so.
    mutating func setDrive(_ fields: JSONFields, id expected: String? = nil) throws(ControlError) {
        var fields = fields
        let id = try MachineResources.identifier("drive_id", expected, &fields)
        try fields.notOffered("socket")
        var drive = DriveConfiguration(id: id, path: try fields.requiredString("path_on_host"))
        drive.isReadOnly = try fields.boolean("is_read_only") ?? false
        drive.isRootDevice = try fields.boolean("is_root_device") ?? false
        drive.partitionUUID = try fields.string("partuuid")
        drive.sectorSize = try DriveConfiguration.sectorSize(
            fields.integer("sector_size").map { String($0) }, option: fields.name("sector_size"))
        // Every disk offers a flush and keeps it, which is what "Writeback" promises and more than "Unsafe" does.
        _ = try fields.word("cache_type", of: ["Unsafe", "Writeback"])
        try fields.notOffered("io_engine", unless: [.string("Sync")])
        try fields.notOffered("rate_limiter")
        try fields.checkAllTaken()
        if let uuid = drive.partitionUUID {
            let isWord = uuid.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
            guard isWord, (1...64).contains(uuid.utf8.count) else {
                throw .usage("\(fields.name("partuuid")): not a partition's identifier")
            }
        }
        if drive.isRootDevice, drives.contains(where: { $0.isRootDevice && $0.id != id }) {
            throw .usage("\(fields.name("is_root_device")): there is a root device already")
        }
        try checkRoom(for: id, isDrive: true)
        if let index = drives.firstIndex(where: { $0.id == id }) { drives[index] = drive } else { drives.append(drive) }
    }

    /// `network-interfaces`: adds an interface, or replaces that of the same identifier.
    mutating func setNetworkInterface(_ fields: JSONFields, id expected: String? = nil) throws(ControlError) {
        var fields = fields
        let id = try MachineResources.identifier("iface_id", expected, &fields)
        let tap = try fields.requiredString("host_dev_name")
        try NetworkInterfaceConfiguration.checkTap(tap, option: fields.name("host_dev_name"))
        let option = fields.name("guest_mac")
        let mac = try fields.string("guest_mac").map { text throws(ControlError) in try MACAddress(checking: text, option: option) }
        for field in ["mtu", "rx_rate_limiter", "tx_rate_limiter"] { try fields.notOffered(field) }
        try fields.checkAllTaken()
        if networkInterfaces.contains(where: { $0.tap == tap && $0.id != id }) {
            throw .usage("\(fields.name("host_dev_name")): the tap device '\(tap)' is used twice")
        }
        try checkRoom(for: id, isDrive: false)
        let interface = NetworkInterfaceConfiguration(id: id, tap: tap, mac: mac)
        if let index = networkInterfaces.firstIndex(where: { $0.id == id }) {
            networkInterfaces[index] = interface
        } else {
            networkInterfaces.append(interface)
        }
    }

    /// `entropy`: the generator of random numbers is always there, so there is nothing to remember.
    func checkEntropy(_ fields: JSONFields) throws(ControlError) {
        var fields = fields
        try fields.notOffered("rate_limiter")
        try fields.checkAllTaken()
    }

    /// `serial`: serial_out_path; standard output without one. Own: size_limit_bytes.
    mutating func setSerial(_ fields: JSONFields) throws(ControlError) {
        var fields = fields
        let path = try fields.string("serial_out_path")
        let limit = try fields.integer("size_limit_bytes", 0...Int.max).map(UInt64.init) ?? ConsoleConfiguration.defaultLimit
        try fields.notOffered("rate_limiter")
        try fields.checkAllTaken()
        guard path != "" else { throw .usage("\(fields.name("serial_out_path")): empty") }
        _ = try ConsoleConfiguration.checkLimit(limit, option: fields.name("size_limit_bytes"))
        console = path.map { .file(path: $0, limit: limit) } ?? .stdio
    }

    /// `logger`: log_path, level, show_level. What is missing stays as it is.
    mutating func setLogger(_ fields: JSONFields) throws(ControlError) {
        var fields = fields
        var configuration = logger ?? LoggerConfiguration()
        configuration.path = try fields.string("log_path") ?? configuration.path
        if let word = try fields.string("level") {
            // Firecracker takes the words in any case, and Warn for Warning.
            let plain = word.lowercased() == "warn" ? "warning" : word.lowercased()
            guard let level = LoggerConfiguration.Level.allCases.first(where: { $0.rawValue.lowercased() == plain }) else {
                let words = LoggerConfiguration.Level.allCases.map(\.rawValue).joined(separator: ", ")
                throw .usage("\(fields.name("level")): '\(word)' is not one of \(words)")
            }
            configuration.level = level
        }
        configuration.showsLevel = try fields.boolean("show_level") ?? configuration.showsLevel
        try fields.notOffered("show_log_origin", unless: [.boolean(false)])
        try fields.notOffered("module")
        try fields.checkAllTaken()
        guard configuration.path != "" else { throw .usage("\(fields.name("log_path")): empty") }
        logger = configuration
    }

    /// `metrics`: metrics_path.
    mutating func setMetrics(_ fields: JSONFields) throws(ControlError) {
        var fields = fields
        let path = try fields.requiredString("metrics_path")
        try fields.checkAllTaken()
        guard !path.isEmpty else { throw .usage("\(fields.name("metrics_path")): empty") }
        metricsPath = path
    }

    private static func identifier(_ field: String, _ expected: String?, _ fields: inout JSONFields) throws(ControlError) -> String {
        let id = try fields.requiredString(field)
        try DriveConfiguration.checkIdentifier(id, option: fields.name(field))
        guard expected == nil || expected == id else {
            throw .usage("\(fields.name(field)): '\(id)' is not '\(expected ?? "")', which the request's path names")
        }
        return id
    }

    /// Each drive and interface has an identifier of its own, and there are not too many.
    private func checkRoom(for id: String, isDrive: Bool) throws(ControlError) {
        let isTaken = isDrive ? networkInterfaces.contains { $0.id == id } : drives.contains { $0.id == id }
        guard !isTaken else { throw .usage("the identifier '\(id)' is used twice: give each drive and interface its own") }
        let isNew = !drives.contains { $0.id == id } && !networkInterfaces.contains { $0.id == id }
        let present = drives.count + networkInterfaces.count + services.reduce(0) { $0 + $1.deviceCount }
        if isNew { try MachineResources.checkRoom(present + 1) }
    }
}
