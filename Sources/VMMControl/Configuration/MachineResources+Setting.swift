// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMModel
internal import VMMService

/// Applies received resources. Each method makes the whole change, or throws and changes nothing.
extension MachineResources {
    /// Sets the fields of `machine-config`. An absent field leaves the value unchanged.
    ///
    /// - Parameters:
    ///   - received: the resource.
    ///   - isWhole: whether vcpu_count and mem_size_mib are required, and Firecracker's other fields get their defaults when they are absent.
    mutating func setMachine(_ received: Received<MachineConfigResource>, isWhole: Bool) throws(VMMError) {
        let vcpus = try MachineResources.vcpuCount(received)
        let memory = try MachineResources.memory(received)
        if isWhole {
            guard vcpus != nil else { throw .user("\(received.place(of: .vcpuCount)): missing") }
            guard memory != nil else { throw .user("\(received.place(of: .memoryMebibytes)): missing") }
        }
        let hasThreads = received.smt ?? (isWhole ? false : smt)
        let count = vcpus ?? vcpuCount
        guard !hasThreads || count == 1 || count % 2 == 0 else {
            throw .user("\(received.place(of: .vcpuCount)): \(count) vCPUs: with smt, give 1 or an even number")
        }
        let pages = received.hugePages ?? (isWhole ? .none : hugePages)
        guard pages == .none || (memory ?? memoryByteCount) % (2 << 20) == 0 else {
            throw .user("\(received.place(of: .memoryMebibytes)): huge pages need an even number of MiB")
        }
        vcpuCount = count
        memoryByteCount = memory ?? memoryByteCount
        smt = hasThreads
        hugePages = pages
        tracksDirtyPages = received.trackDirtyPages ?? (isWhole ? false : tracksDirtyPages)
        nested = received.nested ?? nested
        pmu = received.pmu ?? pmu
        testDevice = received.testDevice ?? testDevice
    }

    private static func vcpuCount(_ received: Received<MachineConfigResource>) throws(VMMError) -> Int? {
        guard let count = received.vcpuCount else { return nil }
        let option = received.place(of: .vcpuCount)
        guard let vcpus = Int(exactly: count) else { throw MachineConfiguration.notACount(count, option) }
        try MachineConfiguration.checkVCPUCount(vcpus, option: option)
        return vcpus
    }

    private static func memory(_ received: Received<MachineConfigResource>) throws(VMMError) -> UInt64? {
        guard let mebibytes = received.memoryMebibytes else { return nil }
        let option = received.place(of: .memoryMebibytes)
        guard let number = UInt64(exactly: mebibytes), number <= 1 << 20 else {
            throw .user("\(option): \(mebibytes) MiB: give 1 to 1048576")
        }
        try ByteCount.checkMemory(number << 20, "\(mebibytes)", option: option)
        return number << 20
    }

    /// The answer of `GET /machine-config`.
    var machineResource: MachineConfigResource {
        MachineConfigResource(
            vcpuCount: Int64(vcpuCount), memoryMebibytes: Int64(memoryByteCount >> 20), nested: nested, pmu: pmu,
            testDevice: testDevice, smt: smt, trackDirtyPages: tracksDirtyPages, hugePages: hugePages)
    }

    /// Adds a drive, or replaces the one with the same identifier.
    mutating func setDrive(_ received: Received<DriveResource>) throws(VMMError) {
        let id = received.id
        try DriveConfiguration.checkIdentifier(id, option: received.place(of: .id))
        var drive = DriveConfiguration(id: id, path: received.path)
        drive.isReadOnly = received.isReadOnly ?? false
        drive.isRaw = received.format != nil
        drive.cacheType = received.cacheType
        drive.engine = received.engine
        drive.allowsAnySize = style == .firecracker
        drive.isRootDevice = received.isRootDevice ?? false
        drive.partitionUUID = received.partitionUUID
        drive.sectorSize = try DriveConfiguration.sectorSize(
            received.sectorSize.map { String($0) }, option: received.place(of: .sectorSize))
        drive.rateLimiter = try RateLimiterConfiguration(setting: received.part(.rateLimiter, received.rateLimiter))
        if let uuid = drive.partitionUUID {
            let isWord = uuid.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
            guard isWord, (1...64).contains(uuid.utf8.count) else {
                throw .user("\(received.place(of: .partitionUUID)): not a partition's identifier")
            }
        }
        if drive.isRootDevice, drives.contains(where: { $0.isRootDevice && $0.id != id }) {
            throw .user("\(received.place(of: .isRootDevice)): there is a root device already")
        }
        if style.checksPathsAtOnce { try MachineResources.checkDrive(drive, received.place(of: .path)) }
        try checkRoom(for: id, isDrive: true)
        if let index = drives.firstIndex(where: { $0.id == id }) { drives[index] = drive } else { drives.append(drive) }
    }

    /// Adds an interface, or replaces the one with the same identifier.
    mutating func setNetworkInterface(_ received: Received<NetworkInterfaceResource>) throws(VMMError) {
        let (id, tap) = (received.id, received.tap)
        try DriveConfiguration.checkIdentifier(id, option: received.place(of: .id))
        try NetworkInterfaceConfiguration.checkTap(tap, option: received.place(of: .tap))
        let option = received.place(of: .mac)
        let mac = try received.mac.map { text throws(VMMError) in try MACAddress(checking: text, option: option) }
        if networkInterfaces.contains(where: { $0.tap == tap && $0.id != id }) {
            throw .user("\(received.place(of: .tap)): the tap device '\(tap)' is used twice")
        }
        if let mac, networkInterfaces.contains(where: { $0.mac == mac && $0.id != id }) {
            throw .user("\(option): the address \(mac) is used twice")
        }
        if style.checksPathsAtOnce { try MachineResources.checkTap(tap, received.place(of: .tap)) }
        try checkRoom(for: id, isDrive: false)
        var interface = NetworkInterfaceConfiguration(id: id, tap: tap, mac: mac)
        interface.mtu = try received.integer(.mtu, received.mtu, in: 68...65_535).map { UInt16(clamping: $0) }
        interface.receiveLimiter = try RateLimiterConfiguration(setting: received.part(.rxRateLimiter, received.rxRateLimiter))
        interface.transmitLimiter = try RateLimiterConfiguration(setting: received.part(.txRateLimiter, received.txRateLimiter))
        if let index = networkInterfaces.firstIndex(where: { $0.id == id }) {
            networkInterfaces[index] = interface
        } else {
            networkInterfaces.append(interface)
        }
    }

    /// Sends the serial port's output to a file, or to standard output.
    mutating func setSerial(_ received: Received<SerialResource>) throws(VMMError) {
        let limit =
            try received.integer(.sizeLimit, received.sizeLimit, in: 0...Int.max).map(UInt64.init) ?? ConsoleConfiguration.defaultLimit
        guard received.path != "" else { throw .user("\(received.place(of: .path)): empty") }
        _ = try ConsoleConfiguration.checkLimit(limit, option: received.place(of: .sizeLimit))
        console = received.path.map { .file(path: $0, limit: limit) } ?? .stdio
    }

    /// Changes the log. An absent field leaves the value unchanged.
    mutating func setLogger(_ received: Received<LoggerResource>) throws(VMMError) {
        guard received.path != "" else { throw .user("\(received.place(of: .path)): empty") }
        var configuration = logger ?? LoggerConfiguration()
        configuration.path = received.path ?? configuration.path
        configuration.level = received.level ?? configuration.level
        configuration.showsLevel = received.showsLevel ?? configuration.showsLevel
        configuration.showsOrigin = received.showsOrigin ?? configuration.showsOrigin
        configuration.module = received.module ?? configuration.module
        logger = configuration
    }

    /// Sets kernel, initial RAM disk and command line.
    mutating func setBootSource(_ received: Received<BootSource>) throws(VMMError) {
        if style.checksPathsAtOnce {
            try MachineResources.checkReadable(received.kernelPath, received.place(of: .kernelPath))
            if let path = received.initrdPath { try MachineResources.checkReadable(path, received.place(of: .initrdPath)) }
        }
        bootSource = received.resource
    }

    /// Sets the file or FIFO for metrics.
    mutating func setMetrics(_ received: Received<MetricsResource>) throws(VMMError) {
        guard !received.path.isEmpty else { throw .user("\(received.place(of: .path)): empty") }
        var configuration = MetricsConfiguration(path: received.path)
        configuration.hasID = received.hasID ?? false
        configuration.properties = received.properties
        metrics = configuration
    }

    /// Opens and closes a file: whether it is there, and may be read. Never blocks.
    private static func checkReadable(_ path: String, _ place: String) throws(VMMError) {
        do throws(VMMError) { _ = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY) } catch {
            throw error.of(place, .user)
        }
    }

    /// Opens and closes a drive's file, as the machine will open it.
    private static func checkDrive(_ drive: DriveConfiguration, _ place: String) throws(VMMError) {
        do throws(VMMError) {
            _ = try FileStorage(
                path: drive.path, isReadOnly: drive.isReadOnly, sectorSize: drive.sectorSize, isRaw: drive.isRaw,
                allowsAnySize: drive.allowsAnySize)
        } catch { throw error.of(place, .user) }
    }

    private static func checkTap(_ tap: String, _ place: String) throws(VMMError) {
        // SAFETY: the string lives for the call.
        guard unsafe if_nametoindex(tap) != 0 else { throw VMMError(.user, call: "\(place): \(tap)", errno: ENODEV) }
    }

    /// Checks that there is room for the device. Drives and interfaces have identifiers of their own kind.
    private func checkRoom(for id: String, isDrive: Bool) throws(VMMError) {
        let isNew = isDrive ? !drives.contains { $0.id == id } : !networkInterfaces.contains { $0.id == id }
        let present = drives.count + networkInterfaces.count + services.reduce(0) { $0 + $1.deviceCount }
        if isNew { try MachineResources.checkRoom(present + 1) }
    }
}
