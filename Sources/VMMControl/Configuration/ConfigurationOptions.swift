// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import VMMModel

extension MachineConfiguration {
    /// Checks a VM's name: letters, digits, `-`, `_` and `.`, at most 64, not beginning with `.` or `-`.
    package static func checkName(_ name: String) throws(ControlError) {
        let allowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
            default: false
            }
        }
        guard allowed, !name.isEmpty, name.utf8.count <= 64, !name.hasPrefix("."), !name.hasPrefix("-") else {
            throw .usage("'\(name)' is not a VM's name: use 1 to 64 letters, digits, '-', '_' and '.', not beginning with '.' or '-'")
        }
    }

    /// Checks a number of vCPUs.
    static func checkVCPUCount(_ count: Int, option: String) throws(ControlError) {
        guard MachineLimits.vcpuCount.contains(count) else { throw notACount(count, option) }
    }

    static func notACount(_ count: some BinaryInteger, _ option: String) -> ControlError {
        .usage("\(option): \(count) vCPUs: give \(MachineLimits.vcpuCount.lowerBound) to \(MachineLimits.vcpuCount.upperBound)")
    }

    /// Checks what options and file gave together: identifiers are unique, the command line has no zero byte.
    package func checkConsistency() throws(ControlError) {
        try MachineConfiguration.checkName(name)
        try MachineConfiguration.checkVCPUCount(vcpuCount, option: "--cpus")
        guard !(nested && symbiotic) else {
            throw .usage("nested: a symbiotic guest cannot run guests of its own: switch one of both off (--symbiotic off)")
        }
        guard !commandLine.utf8.contains(0) else { throw .usage("--append: the command line contains a zero byte") }
        var seen = Set<String>()
        for id in drives.map(\.id) + networkInterfaces.map(\.id) where !seen.insert(id).inserted {
            throw .usage("the identifier '\(id)' is used twice: give each drive and interface its own")
        }
        var taps = Set<String>()
        for tap in networkInterfaces.map(\.tap) where !taps.insert(tap).inserted {
            throw .usage("--net: the tap device '\(tap)' is used twice")
        }
    }
}

/// An option's text of the form `value,flag,key=value`.
struct OptionFields {
    let option: String
    private var flags: [Substring] = []
    private var values: [Substring: Substring] = [:]

    /// Takes apart the fields; each may occur once.
    init(_ fields: [Substring], option: String, text: String) throws(ControlError) {
        self.option = option
        for field in fields {
            guard let equals = field.firstIndex(of: "=") else {
                guard !flags.contains(field) else { throw .usage("\(option): '\(field)' is given twice in '\(text)'") }
                flags.append(field)
                continue
            }
            let key = field[..<equals]
            let value = field[field.index(after: equals)...]
            guard values.updateValue(value, forKey: key) == nil else { throw .usage("\(option): '\(key)' is given twice in '\(text)'") }
        }
    }

    mutating func takeFlag(_ name: String) -> Bool {
        guard let index = flags.firstIndex(where: { $0 == name }) else { return false }
        flags.remove(at: index)
        return true
    }

    mutating func takeValue(_ key: String) -> String? {
        values.removeValue(forKey: Substring(key)).map(String.init)
    }

    /// Complains of what was not taken.
    func checkAllTaken(known: String) throws(ControlError) {
        guard let rest = flags.first ?? values.keys.sorted().first else { return }
        throw .usage("\(option): unknown field '\(rest)': the form is \(known)")
    }
}

extension DriveConfiguration {
    /// Reads `FILE[,readonly][,id=ID][,sector=512|4096]`. Without an identifier it is `disk` and `index`.
    package init(option text: String, index: Int) throws(ControlError) {
        let form = "FILE[,readonly][,id=ID][,sector=512|4096]"
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard let path = parts.first, !path.isEmpty else { throw .usage("--disk: no file in '\(text)': the form is \(form)") }
        var fields = try OptionFields(Array(parts.dropFirst()), option: "--disk", text: text)
        let isReadOnly = fields.takeFlag("readonly")
        let id = fields.takeValue("id") ?? "disk\(index)"
        let sectorSize = try DriveConfiguration.sectorSize(fields.takeValue("sector"), option: "--disk")
        try fields.checkAllTaken(known: form)
        try DriveConfiguration.checkIdentifier(id, option: "--disk")
        self.init(id: id, path: String(path), isReadOnly: isReadOnly, sectorSize: sectorSize)
    }

    /// Checks a sector's size; nil stays nil.
    static func sectorSize(_ text: String?, option: String) throws(ControlError) -> Int? {
        guard let text else { return nil }
        guard text == "512" || text == "4096" else { throw .usage("\(option): '\(text)' is not a sector's size: give 512 or 4096") }
        return Int(text)
    }

    /// Checks an identifier: it is a serial number of at most 20 bytes for the guest (virtio 1.2, 5.2.6) and a word in URLs.
    static func checkIdentifier(_ id: String, option: String) throws(ControlError) {
        let allowed = id.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
            default: false
            }
        }
        guard allowed, !id.isEmpty, id.utf8.count <= 20 else {
            throw .usage("\(option): '\(id)' is not an identifier: use 1 to 20 letters, digits, '-', '_' and '.'")
        }
    }
}

extension NetworkInterfaceConfiguration {
    /// Reads `tap=NAME[,mac=MAC][,id=ID]`. Without an identifier it is `net` and `index`.
    package init(option text: String, index: Int) throws(ControlError) {
        let form = "tap=NAME[,mac=MAC][,id=ID]"
        var fields = try OptionFields(text.split(separator: ",", omittingEmptySubsequences: false), option: "--net", text: text)
        guard let tap = fields.takeValue("tap") else { throw .usage("--net: no tap device in '\(text)': the form is \(form)") }
        let mac = try fields.takeValue("mac").map { text throws(ControlError) in try MACAddress(checking: text, option: "--net") }
        let id = fields.takeValue("id") ?? "net\(index)"
        try fields.checkAllTaken(known: form)
        try DriveConfiguration.checkIdentifier(id, option: "--net")
        try NetworkInterfaceConfiguration.checkTap(tap, option: "--net")
        self.init(id: id, tap: tap, mac: mac)
    }

    /// Checks a tap device's name: 1 to 15 bytes, neither a slash nor white space (IFNAMSIZ).
    static func checkTap(_ tap: String, option: String) throws(ControlError) {
        guard !tap.isEmpty, tap.utf8.count < 16, !tap.contains(where: { $0 == "/" || $0.isWhitespace }) else {
            throw .usage("\(option): '\(tap)' is not a network device's name: it has 1 to 15 bytes")
        }
    }
}

extension MACAddress {
    init(checking text: String, option: String) throws(ControlError) {
        guard let mac = MACAddress(text) else {
            throw .usage("\(option): '\(text)' is not a MAC address of one station: write it as 52:54:00:12:34:56")
        }
        self = mac
    }
}

extension ConsoleConfiguration {
    /// Reads `stdio`, `none`, `pty` or `file:PATH[,limit=SIZE]`.
    package init(option text: String, option: String = "--console") throws(ControlError) {
        switch text {
        case "stdio": self = .stdio
        case "none": self = .none
        case "pty": self = .pseudoTerminal
        default:
            guard text.hasPrefix("file:"), text.utf8.count > 5 else {
                throw .usage("\(option): '\(text)' is not a console: give stdio, none, file:PATH[,limit=SIZE] or pty")
            }
            let rest = text.dropFirst(5)
            // A comma of the path's is no field.
            guard let comma = rest.lastIndex(of: ","), rest[comma...].hasPrefix(",limit=") else {
                self = .file(path: String(rest))
                return
            }
            guard comma > rest.startIndex else { throw .usage("\(option): no file in '\(text)'") }
            let limit = try ByteCount.parse(String(rest[comma...].dropFirst(7)), option: option)
            self = .file(path: String(rest[..<comma]), limit: try ConsoleConfiguration.checkLimit(limit, option: option))
        }
    }

    /// Checks a file's limit.
    static func checkLimit(_ limit: UInt64, option: String) throws(ControlError) -> UInt64 {
        guard limit == 0 || limit >= leastLimit else {
            throw .usage("\(option): a limit of \(limit) bytes: give \(ByteCount.describe(leastLimit)) or more, or 0 for none")
        }
        return limit
    }

    /// The form that `init(option:)` reads.
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
