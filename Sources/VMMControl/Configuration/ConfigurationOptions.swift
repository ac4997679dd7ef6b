// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import VMMModel

extension MachineConfiguration {
    /// Checks a VM's name: letters, digits, `-`, `_` and `.`, at most 64, not beginning with `.` or `-`.
    package static func checkName(_ name: String) throws(VMMError) {
        let allowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
            default: false
            }
        }
        guard allowed, !name.isEmpty, name.utf8.count <= 64, !name.hasPrefix("."), !name.hasPrefix("-") else {
            throw .user("'\(name)' is not a VM name: use 1 to 64 letters, digits, '-', '_' and '.', not beginning with '.' or '-'")
        }
    }

    /// Checks a number of vCPUs.
    static func checkVCPUCount(_ count: Int, option: String) throws(VMMError) {
        guard MachineLimits.vcpuCount.contains(count) else { throw notACount(count, option) }
    }

    static func notACount(_ count: some BinaryInteger, _ option: String) -> VMMError {
        .user("\(option): \(count) vCPUs: give \(MachineLimits.vcpuCount.lowerBound) to \(MachineLimits.vcpuCount.upperBound)")
    }

    /// Checks the configuration as a whole, after options have changed the file's: the name, the number of vCPUs, unique identifiers and tap
    /// devices, no nested virtualization with the symbiotic interface, no zero byte in the command line.
    package func checkConsistency() throws(VMMError) {
        try MachineConfiguration.checkName(name)
        try MachineConfiguration.checkVCPUCount(vcpuCount, option: "--cpus")
        guard !(nested && symbiotic) else {
            throw .user("nested: cannot be combined with the symbiotic interface: use --symbiotic off")
        }
        guard !commandLine.utf8.contains(0) else { throw .user("--append: the command line contains a zero byte") }
        for (kind, identifiers) in [("drive", drives.map(\.id)), ("interface", networkInterfaces.map(\.id))] {
            var seen = Set<String>()
            for id in identifiers where !seen.insert(id).inserted {
                throw .user("the identifier '\(id)' is used twice: give each \(kind) its own")
            }
        }
        var taps = Set<String>()
        for tap in networkInterfaces.map(\.tap) where !taps.insert(tap).inserted {
            throw .user("--net: the tap device '\(tap)' is used twice")
        }
    }
}

/// Parses an option's text of the form `value,flag,key=value`.
struct OptionFields {
    let option: String
    private var flags: [Substring] = []
    private var values: [Substring: Substring] = [:]

    /// Splits the fields; each may occur once.
    init(_ fields: [Substring], option: String, text: String) throws(VMMError) {
        self.option = option
        for field in fields {
            guard let equals = field.firstIndex(of: "=") else {
                guard !flags.contains(field) else { throw .user("\(option): '\(field)' is given twice in '\(text)'") }
                flags.append(field)
                continue
            }
            let key = field[..<equals]
            let value = field[field.index(after: equals)...]
            guard values.updateValue(value, forKey: key) == nil else { throw .user("\(option): '\(key)' is given twice in '\(text)'") }
        }
    }

    /// The path at the start of an option, in which two commas are one comma, and the fields after it.
    static func path(in text: String) -> (path: String, fields: [Substring]) {
        var path = ""
        var rest = text[...]
        while let comma = rest.firstIndex(of: ",") {
            path += rest[..<comma]
            rest = rest[rest.index(after: comma)...]
            guard rest.first == "," else { return (path, rest.split(separator: ",", omittingEmptySubsequences: false)) }
            path += ","
            rest = rest.dropFirst()
        }
        return (path + rest, [])
    }

    mutating func takeFlag(_ name: String) -> Bool {
        guard let index = flags.firstIndex(where: { $0 == name }) else { return false }
        flags.remove(at: index)
        return true
    }

    mutating func takeValue(_ key: String) -> String? {
        values.removeValue(forKey: Substring(key)).map(String.init)
    }

    /// Takes `PREFIXbandwidth=SIZE` and `PREFIXops=NUMBER`, both for one second; nil if neither is given.
    mutating func takeRateLimiter(_ prefix: String = "") throws(VMMError) -> RateLimiterConfiguration? {
        var limiter = RateLimiterConfiguration()
        if let text = takeValue(prefix + "bandwidth") {
            limiter.bandwidth = TokenBucketConfiguration(perSecond: try ByteCount.parse(text, option: option))
        }
        if let text = takeValue(prefix + "ops") {
            guard let number = UInt64(text), number <= UInt64(Int64.max) else {
                throw .user("\(option): '\(text)' is not a number of operations a second")
            }
            limiter.operations = TokenBucketConfiguration(perSecond: number)
        }
        // 0 is no limit.
        limiter = RateLimiterConfiguration().changed(by: limiter)
        return limiter == RateLimiterConfiguration() ? nil : limiter
    }

    /// Throws an error for a field that no call has taken.
    func checkAllTaken(known: String) throws(VMMError) {
        guard let rest = flags.first ?? values.keys.sorted().first else { return }
        throw .user("\(option): unknown field '\(rest)': the form is \(known)")
    }
}

extension DriveConfiguration {
    /// Parses `FILE[,readonly][,id=ID][,format=raw][,sector=512|4096][,bandwidth=SIZE][,ops=NUMBER]`, the limits for one second. Two commas in the
    /// file's name are one comma. The default identifier is `disk` with `index` appended.
    package init(option text: String, index: Int) throws(VMMError) {
        let form = "FILE[,readonly][,id=ID][,format=raw][,sector=512|4096][,bandwidth=SIZE][,ops=NUMBER]"
        let (path, parts) = OptionFields.path(in: text)
        guard !path.isEmpty else { throw .user("--disk: no file in '\(text)': the form is \(form)") }
        var fields = try OptionFields(parts, option: "--disk", text: text)
        let isReadOnly = fields.takeFlag("readonly")
        let format = fields.takeValue("format")
        guard format == nil || format == "raw" else {
            throw .user("--disk: '\(format ?? "")' is not an image format: symvmm reads raw images only")
        }
        let id = fields.takeValue("id") ?? "disk\(index)"
        let sectorSize = try DriveConfiguration.sectorSize(fields.takeValue("sector"), option: "--disk")
        let limiter = try fields.takeRateLimiter()
        try fields.checkAllTaken(known: "\(form); write a comma in the file's name twice")
        try DriveConfiguration.checkIdentifier(id, option: "--disk")
        self.init(id: id, path: path, isReadOnly: isReadOnly, sectorSize: sectorSize)
        isRaw = format != nil
        rateLimiter = limiter
    }

    /// Parses a sector size, 512 or 4096; nil stays nil.
    static func sectorSize(_ text: String?, option: String) throws(VMMError) -> Int? {
        guard let text else { return nil }
        guard text == "512" || text == "4096" else { throw .user("\(option): '\(text)' is not a sector size: give 512 or 4096") }
        return Int(text)
    }

    /// The longest identifier in bytes.
    static let longestIdentifier = 255

    /// Checks an identifier. It becomes part of URLs, and its first 20 bytes a disk serial number (virtio 1.2, 5.2.6).
    static func checkIdentifier(_ id: String, option: String) throws(VMMError) {
        let allowed = id.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
            default: false
            }
        }
        guard allowed, !id.isEmpty, id.utf8.count <= longestIdentifier else {
            throw .user("\(option): '\(id)' is not an identifier: use 1 to \(longestIdentifier) letters, digits, '-', '_' and '.'")
        }
    }
}

extension NetworkInterfaceConfiguration {
    /// Parses `tap=NAME[,mac=MAC][,id=ID][,rx-bandwidth=SIZE][,rx-ops=NUMBER][,tx-bandwidth=SIZE][,tx-ops=NUMBER]`, the limits for one second. The
    /// default identifier is `net` with `index` appended.
    package init(option text: String, index: Int) throws(VMMError) {
        let form = "tap=NAME[,mac=MAC][,id=ID][,rx-bandwidth=SIZE][,rx-ops=NUMBER][,tx-bandwidth=SIZE][,tx-ops=NUMBER]"
        var fields = try OptionFields(text.split(separator: ",", omittingEmptySubsequences: false), option: "--net", text: text)
        guard let tap = fields.takeValue("tap") else { throw .user("--net: no tap device in '\(text)': the form is \(form)") }
        let mac = try fields.takeValue("mac").map { text throws(VMMError) in try MACAddress(checking: text, option: "--net") }
        let id = fields.takeValue("id") ?? "net\(index)"
        let (receive, transmit) = (try fields.takeRateLimiter("rx-"), try fields.takeRateLimiter("tx-"))
        try fields.checkAllTaken(known: form)
        try DriveConfiguration.checkIdentifier(id, option: "--net")
        try NetworkInterfaceConfiguration.checkTap(tap, option: "--net")
        self.init(id: id, tap: tap, mac: mac)
        (receiveLimiter, transmitLimiter) = (receive, transmit)
    }

    /// Checks a tap device name: 1 to 15 bytes, no slash, no white space (IFNAMSIZ).
    static func checkTap(_ tap: String, option: String) throws(VMMError) {
        guard !tap.isEmpty, tap.utf8.count < 16, !tap.unicodeScalars.contains(where: { $0 == "/" || $0.properties.isWhitespace }) else {
            throw .user("\(option): '\(tap)' is not a network device name: use 1 to 15 bytes")
        }
    }
}

extension MACAddress {
    init(checking text: String, option: String) throws(VMMError) {
        guard let mac = MACAddress(text) else {
            throw .user("\(option): '\(text)' is not a unicast MAC address: write it as 52:54:00:12:34:56")
        }
        self = mac
    }
}

extension ConsoleConfiguration {
    /// Parses `stdio`, `none`, `pty` or `file:PATH[,limit=SIZE]`.
    package init(option text: String, option: String = "--console") throws(VMMError) {
        switch text {
        case "stdio": self = .stdio
        case "none": self = .none
        case "pty": self = .pseudoTerminal
        default:
            guard text.hasPrefix("file:"), text.utf8.count > 5 else {
                throw .user("\(option): '\(text)' is not a console: give stdio, none, file:PATH[,limit=SIZE] or pty")
            }
            let rest = text.dropFirst(5)
            // A comma may be part of the path.
            guard let comma = rest.lastIndex(of: ","), rest[comma...].hasPrefix(",limit=") else {
                self = .file(path: String(rest))
                return
            }
            guard comma > rest.startIndex else { throw .user("\(option): no file in '\(text)'") }
            let limit = try ByteCount.parse(String(rest[comma...].dropFirst(7)), option: option)
            self = .file(path: String(rest[..<comma]), limit: try ConsoleConfiguration.checkLimit(limit, option: option))
        }
    }

    /// Checks a console file's limit in bytes: 0, or at least `leastLimit`.
    static func checkLimit(_ limit: UInt64, option: String) throws(VMMError) -> UInt64 {
        guard limit == 0 || limit >= leastLimit else {
            throw .user(
                "\(option): a limit of \(counted(limit, "byte")) is too small: give \(ByteCount.describe(leastLimit)) or more, or 0 for no limit"
            )
        }
        return limit
    }

    /// The text that `init(option:)` parses.
    package var text: String {
        switch self {
        case .stdio: "stdio"
        case .none: "none"
        case .file(let path, ConsoleConfiguration.defaultLimit) where !path.contains(",limit="): "file:\(path)"
        case .file(let path, let limit): "file:\(path),limit=\(ByteCount.describe(limit))"
        case .pseudoTerminal: "pty"
        }
    }
}
