// SPDX-License-Identifier: Apache-2.0

public import VMMBase

package import SymVMM
package import VMMAPI

internal import VMMModel
internal import VMMService

/// A swap disk that the VMM keeps, for the service SwapBypass: what `--swap` asks for, `swap` in a configuration file, and `PUT /swap`.
public struct SwapConfiguration: Sendable, Equatable {
    /// The form of the option's text.
    public static let form = "SIZE[,path=FILE[,budget=SIZE]][,bypass=on|off]"

    /// Size of the swap disk in bytes, 1 MiB to 1 TiB, whole pages of 4096.
    public var byteCount: UInt64
    /// The file to keep the pages in; nil: the host's memory.
    public var path: String?
    /// The most host memory in bytes, before pages go to the file; nil: all are in the file's page cache.
    public var budget: UInt64?
    /// Whether swapped pages are reached directly, from the start.
    public var bypass: Bool

    /// The smallest disk: what the kernel takes for swap with room for a few pages.
    public static let byteCountRange: ClosedRange<UInt64> = 1 << 20...1 << 40

    /// Describes a swap disk.
    public init(byteCount: UInt64, path: String? = nil, budget: UInt64? = nil, bypass: Bool = false) {
        self.byteCount = byteCount
        self.path = path
        self.budget = budget
        self.bypass = bypass
    }

    /// Reads `SIZE[,path=FILE[,budget=SIZE]][,bypass=on|off]`.
    public init(option text: String) throws(ControlError) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        let size = String(parts.first ?? "")
        self.init(byteCount: try ByteCount.parse(size, option: "--swap"))
        try checkSize(size, option: "--swap")
        var seen = Set<Substring>()
        for part in parts.dropFirst() {
            let field = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard field.count == 2, seen.insert(field[0]).inserted, try take(field[0], field[1]) else {
                throw .usage("--swap: '\(part)' in '\(text)': the form is \(SwapConfiguration.form)")
            }
        }
        guard budget == nil || path != nil else { throw .usage("--swap: budget= requires path= for overflow") }
    }

    /// False when the field is not known or has no such value.
    private mutating func take(_ key: Substring, _ value: Substring) throws(ControlError) -> Bool {
        switch (key, value) {
        case ("bypass", "on"), ("bypass", "off"): bypass = value == "on"
        case ("budget", _): budget = try ByteCount.parse(String(value), option: "--swap: budget")
        case ("path", _) where !value.isEmpty: path = String(value)
        default: return false
        }
        return true
    }

    /// Reads the fields size_bytes, path_on_host, budget_bytes and bypass.
    package init(_ fields: JSONFields) throws(ControlError) {
        var fields = fields
        guard let size = try fields.integer("size_bytes") else { throw .usage("\(fields.name("size_bytes")): missing") }
        self.init(byteCount: UInt64(exactly: size) ?? 0)
        try checkSize("\(size)", option: fields.name("size_bytes"))
        path = try fields.string("path_on_host")
        guard path != "" else { throw .usage("\(fields.name("path_on_host")): empty") }
        if let number = try fields.integer("budget_bytes") {
            let option = fields.name("budget_bytes")
            guard let bytes = UInt64(exactly: number) else { throw .usage("\(option): \(number) is less than 0") }
            guard path != nil else { throw .usage("\(option): a budget requires path_on_host for overflow") }
            budget = bytes
        }
        bypass = try fields.word("bypass", of: ["on", "off"]) == "on"
        try fields.checkAllTaken()
    }

    private func checkSize(_ text: String, option: String) throws(ControlError) {
        guard SwapConfiguration.byteCountRange.contains(byteCount), byteCount % GuestMemory.pageSize == 0 else {
            throw .usage("\(option): '\(text)': give 1M to 1T, whole pages of 4096 bytes")
        }
    }

    /// The same as JSON.
    package var document: JSONValue {
        var fields: [String: JSONValue] = ["size_bytes": .integer(Int64(clamping: byteCount)), "bypass": .string(bypass ? "on" : "off")]
        if let path { fields["path_on_host"] = .string(path) }
        if let budget { fields["budget_bytes"] = .integer(Int64(clamping: budget)) }
        return .object(fields)
    }
}

extension SwapConfiguration: ServiceConfiguration {
    /// Makes the store, its disk and the service.
    package func makeService() throws(KVMError) -> SymbioticService {
        try SwapBypassService(self)
    }
}
