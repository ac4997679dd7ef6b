// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

// The answers of `APIStyle.firecracker` that differ from symvmm's own: no fields of symvmm's, and null where Firecracker has null.

/// `GET /machine-config`.
struct FirecrackerMachine: Encodable {
    private let resources: MachineResources

    init(_ resources: MachineResources) {
        self.resources = resources
    }

    private enum CodingKeys: String, CodingKey {
        case vcpuCount = "vcpu_count"
        case memory = "mem_size_mib"
        case smt
        case trackDirtyPages = "track_dirty_pages"
        case hugePages = "huge_pages"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(resources.vcpuCount, forKey: .vcpuCount)
        try container.encode(resources.memoryByteCount >> 20, forKey: .memory)
        try container.encode(resources.smt, forKey: .smt)
        try container.encode(resources.tracksDirtyPages, forKey: .trackDirtyPages)
        try container.encode(resources.hugePages.rawValue, forKey: .hugePages)
    }
}

/// `GET /vm/config`.
struct FirecrackerConfiguration: Encodable {
    private let resources: MachineResources

    init(_ resources: MachineResources) {
        self.resources = resources
    }

    private enum CodingKeys: String, CodingKey {
        case balloon, drives, logger, metrics, vsock, entropy, pmem
        case bootSource = "boot-source"
        case cpuConfig = "cpu-config"
        case machine = "machine-config"
        case mmds = "mmds-config"
        case interfaces = "network-interfaces"
        case memoryHotplug = "memory-hotplug"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        for key in [CodingKeys.balloon, .cpuConfig, .logger, .metrics, .vsock, .memoryHotplug] {
            try container.encodeNil(forKey: key)
        }
        // The root device is the first.
        let drives = resources.drives.filter(\.isRootDevice) + resources.drives.filter { !$0.isRootDevice }
        try container.encode(drives.map { Drive(drive: $0) }, forKey: .drives)
        try container.encode(Boot(source: resources.bootSource), forKey: .bootSource)
        try container.encode(FirecrackerMachine(resources), forKey: .machine)
        try container.encode(resources.metadata.map(MetadataConfigResource.init), forKey: .mmds)
        try container.encode(resources.networkInterfaces.map { Interface(interface: $0) }, forKey: .interfaces)
        try container.encode(resources.hasEntropy ? ["rate_limiter": String?.none] : nil, forKey: .entropy)
        try container.encode([String](), forKey: .pmem)
    }

    private struct Boot: Encodable {
        let source: BootSource?

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: BootSource.CodingKeys.self)
            try container.encode(source?.kernelPath ?? "", forKey: .kernelPath)
            try container.encode(source?.initrdPath, forKey: .initrdPath)
            try container.encode(source?.arguments, forKey: .arguments)
        }
    }

    private struct Drive: Encodable {
        let drive: DriveConfiguration

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: DriveResource.CodingKeys.self)
            try container.encode(drive.id, forKey: .id)
            try container.encode(drive.partitionUUID, forKey: .partitionUUID)
            try container.encode(drive.isRootDevice, forKey: .isRootDevice)
            try container.encode((drive.cacheType ?? .unsafe).rawValue, forKey: .cacheType)
            try container.encode(drive.isReadOnly, forKey: .isReadOnly)
            try container.encode(drive.path, forKey: .path)
            try container.encode(drive.rateLimiter.map { Limiter(limiter: $0) }, forKey: .rateLimiter)
            try container.encode((drive.engine ?? .sync).rawValue, forKey: .engine)
            try container.encodeNil(forKey: .socket)
        }
    }

    private struct Interface: Encodable {
        let interface: NetworkInterfaceConfiguration

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: NetworkInterfaceResource.CodingKeys.self)
            try container.encode(interface.id, forKey: .id)
            try container.encode(interface.tap, forKey: .tap)
            try container.encode(interface.mac?.description, forKey: .mac)
            try container.encode(interface.mtu, forKey: .mtu)
            try container.encode(interface.receiveLimiter.map { Limiter(limiter: $0) }, forKey: .rxRateLimiter)
            try container.encode(interface.transmitLimiter.map { Limiter(limiter: $0) }, forKey: .txRateLimiter)
        }
    }

    private struct Limiter: Encodable {
        let limiter: RateLimiterConfiguration

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: RateLimiterResource.CodingKeys.self)
            try container.encode(limiter.bandwidth.map { Bucket(bucket: $0) }, forKey: .bandwidth)
            try container.encode(limiter.operations.map { Bucket(bucket: $0) }, forKey: .operations)
        }
    }

    private struct Bucket: Encodable {
        let bucket: TokenBucketConfiguration

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: TokenBucketResource.CodingKeys.self)
            try container.encode(bucket.size, forKey: .size)
            try container.encode(bucket.oneTimeBurst == 0 ? nil : bucket.oneTimeBurst, forKey: .oneTimeBurst)
            try container.encode(bucket.refillMilliseconds, forKey: .refillTime)
        }
    }
}
