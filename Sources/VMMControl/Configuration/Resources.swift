// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMModel

// The resources that configure a machine, with Firecracker's field names. Requests, the configuration file and answers use the same types. An
// absent optional field means the default; in a PATCH it leaves the value unchanged.

/// `machine-config`: Firecracker's `MachineConfiguration`, plus the fields nested, pmu and test_device.
struct MachineConfigResource: APIResource {
    var vcpuCount: Int64?
    var memoryMebibytes: Int64?
    var nested: Bool?
    var pmu: Bool?
    var testDevice: Bool?
    var smt: Bool?
    var cpuTemplate: NotOffered<NeutralNone>?
    /// Accepted without effect: symvmm makes no snapshots that would need it.
    var trackDirtyPages: Bool?
    var hugePages: HugePages?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case vcpuCount = "vcpu_count"
        case memoryMebibytes = "mem_size_mib"
        case nested, pmu, smt
        case testDevice = "test_device"
        case cpuTemplate = "cpu_template"
        case trackDirtyPages = "track_dirty_pages"
        case hugePages = "huge_pages"
    }

    /// Whether no field is given.
    var isEmpty: Bool {
        vcpuCount == nil && memoryMebibytes == nil && nested == nil && pmu == nil && testDevice == nil && smt == nil && cpuTemplate == nil
            && trackDirtyPages == nil && hugePages == nil
    }
}

/// `drives`: Firecracker's `Drive`, plus the fields format and sector_size.
struct DriveResource: APIResource {
    /// The only image format. Given, the file is taken as raw even if it has another format's header.
    enum Format: String, FieldEnum {
        case raw
    }

    var id: String
    var path: String
    var format: Format?
    var isReadOnly: Bool?
    var isRootDevice: Bool?
    var partitionUUID: String?
    var sectorSize: Int64?
    var cacheType: DriveConfiguration.CacheType?
    var engine: DriveConfiguration.IOEngine?
    var rateLimiter: Strict<RateLimiterResource>?
    var socket: NotOffered<NoNeutral>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case id = "drive_id"
        case path = "path_on_host"
        case format
        case isReadOnly = "is_read_only"
        case isRootDevice = "is_root_device"
        case partitionUUID = "partuuid"
        case sectorSize = "sector_size"
        case cacheType = "cache_type"
        case engine = "io_engine"
        case rateLimiter = "rate_limiter"
        case socket
    }

    init(_ drive: DriveConfiguration) {
        id = drive.id
        path = drive.path
        format = drive.isRaw ? .raw : nil
        isReadOnly = drive.isReadOnly
        isRootDevice = drive.isRootDevice
        partitionUUID = drive.partitionUUID
        sectorSize = drive.sectorSize.map(Int64.init)
        cacheType = drive.cacheType
        engine = drive.engine
        rateLimiter = drive.rateLimiter.map { Strict(RateLimiterResource($0)) }
    }
}

/// `PATCH /drives`: Firecracker's `PartialDrive`.
struct PartialDriveResource: APIResource {
    var id: String
    var path: String?
    var rateLimiter: Strict<RateLimiterResource>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case id = "drive_id"
        case path = "path_on_host"
        case rateLimiter = "rate_limiter"
    }
}

/// `network-interfaces`: Firecracker's `NetworkInterface`.
struct NetworkInterfaceResource: APIResource {
    var id: String
    var tap: String
    var mac: String?
    var mtu: Int64?
    var rxRateLimiter, txRateLimiter: Strict<RateLimiterResource>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case id = "iface_id"
        case tap = "host_dev_name"
        case mac = "guest_mac"
        case mtu
        case rxRateLimiter = "rx_rate_limiter"
        case txRateLimiter = "tx_rate_limiter"
    }

    init(_ interface: NetworkInterfaceConfiguration) {
        id = interface.id
        tap = interface.tap
        mac = interface.mac?.description
        mtu = interface.mtu.map(Int64.init)
        rxRateLimiter = interface.receiveLimiter.map { Strict(RateLimiterResource($0)) }
        txRateLimiter = interface.transmitLimiter.map { Strict(RateLimiterResource($0)) }
    }
}

/// `PATCH /network-interfaces`: Firecracker's `PartialNetworkInterface` has only rate limiters.
struct PartialNetworkInterfaceResource: APIResource {
    var id: String
    var rxRateLimiter, txRateLimiter: Strict<RateLimiterResource>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case id = "iface_id"
        case rxRateLimiter = "rx_rate_limiter"
        case txRateLimiter = "tx_rate_limiter"
    }
}

/// `entropy`: accepted without effect, because every guest has the entropy device.
struct EntropyResource: APIResource {
    var rateLimiter: NotOffered<NeutralObject>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case rateLimiter = "rate_limiter"
    }
}

/// `serial`: the file for the serial port's output; without a path, standard output and input. Firecracker does not have the field
/// size_limit_bytes.
struct SerialResource: APIResource {
    var path: String?
    var sizeLimit: Int64?
    var rateLimiter: NotOffered<NeutralObject>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case path = "serial_out_path"
        case sizeLimit = "size_limit_bytes"
        case rateLimiter = "rate_limiter"
    }
}

/// `logger`: the log. An absent field leaves the value unchanged.
struct LoggerResource: APIResource {
    var path: String?
    var level: LoggerConfiguration.Level?
    var showsLevel: Bool?
    var showsOrigin: Bool?
    var module: String?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case path = "log_path"
        case level
        case showsLevel = "show_level"
        case showsOrigin = "show_log_origin"
        case module
    }

    init(_ logger: LoggerConfiguration) {
        path = logger.path
        level = logger.level
        showsLevel = logger.showsLevel
        showsOrigin = logger.showsOrigin
        module = logger.module
    }
}

extension LoggerConfiguration.Level: FieldEnum {
    /// Like Firecracker, ignores case and accepts Warn for Warning.
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        let plain = text.lowercased() == "warn" ? "warning" : text.lowercased()
        guard let level = Self.allCases.first(where: { $0.rawValue.lowercased() == plain }) else {
            throw FieldError.notOneOf(Self.self, text, decoder.codingPath)
        }
        self = level
    }
}

/// `metrics`: the metrics file, and what each line has besides the counts.
struct MetricsResource: APIResource {
    var path: String
    var hasID: Bool?
    var properties: [String: String]?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case path = "metrics_path"
        case hasID = "emit_id"
        case properties
    }

    init(_ metrics: MetricsConfiguration) {
        path = metrics.path
        hasID = metrics.hasID
        properties = metrics.properties
    }
}

extension HugePages: FieldEnum {}

extension DriveConfiguration.CacheType: FieldEnum {}

extension DriveConfiguration.IOEngine: FieldEnum {}
