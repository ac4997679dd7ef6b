// SPDX-License-Identifier: Apache-2.0

public import VMMBase

package import SymVMM
package import VMMAPI

internal import VMMModel
internal import VMMService

/// Configuration of the swap disk for SwapBypass: `--swap`, `swap` in a configuration file, `PUT /swap`.
public struct SwapConfiguration: Sendable, Equatable {
    /// The format of the option's text.
    public static let form = "SIZE[,path=FILE[,budget=SIZE]][,bypass=on|off]"

    /// Size of the swap disk in bytes: 1 MiB to 1 TiB, a multiple of 4096.
    public var byteCount: UInt64
    /// The file that stores the pages; nil for host memory.
    public var path: String?
    /// Maximum host memory in bytes before pages go to the file; nil to leave caching to the host's page cache.
    public var budget: UInt64?
    /// Whether bypass is on from the start.
    public var bypass: Bool

    /// Range of the size. Smaller disks hold only a few pages besides the swap header.
    public static let byteCountRange: ClosedRange<UInt64> = 1 << 20...1 << 40

    /// Creates a configuration.
    public init(byteCount: UInt64, path: String? = nil, budget: UInt64? = nil, bypass: Bool = false) {
        self.byteCount = byteCount
        self.path = path
        self.budget = budget
        self.bypass = bypass
    }

    /// Parses `SIZE[,path=FILE[,budget=SIZE]][,bypass=on|off]`.
    public init(option text: String) throws(VMMError) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        let size = String(parts.first ?? "")
        self.init(byteCount: try ByteCount.parse(size, option: "--swap"))
        try checkSize(size, option: "--swap")
        var seen = Set<Substring>()
        for part in parts.dropFirst() {
            let field = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard field.count == 2, seen.insert(field[0]).inserted, try take(field[0], field[1]) else {
                throw .user("--swap: '\(part)' in '\(text)': the format is \(SwapConfiguration.form)")
            }
        }
        guard budget == nil || path != nil else { throw .user("--swap: budget= requires path= for overflow") }
    }

    /// Returns false for an unknown field or value.
    private mutating func take(_ key: Substring, _ value: Substring) throws(VMMError) -> Bool {
        switch (key, value) {
        case ("bypass", "on"), ("bypass", "off"): bypass = value == "on"
        case ("budget", _): budget = try ByteCount.parse(String(value), option: "--swap: budget")
        case ("path", _) where !value.isEmpty: path = String(value)
        default: return false
        }
        return true
    }

    /// Checks the values of the resource.
    package init(_ received: Received<SwapResource>) throws(VMMError) {
        self.init(byteCount: UInt64(exactly: received.byteCount) ?? 0, path: received.path, bypass: received.bypass == .on)
        try checkSize("\(received.byteCount)", option: received.place(of: .byteCount))
        guard path != "" else { throw .user("\(received.place(of: .path)): empty") }
        if let number = received.budget {
            let option = received.place(of: .budget)
            guard let bytes = UInt64(exactly: number) else { throw .user("\(option): \(number) is less than 0") }
            guard path != nil else { throw .user("\(option): requires path_on_host for overflow") }
            budget = bytes
        }
    }

    private func checkSize(_ text: String, option: String) throws(VMMError) {
        guard SwapConfiguration.byteCountRange.contains(byteCount), byteCount % GuestMemory.pageSize == 0 else {
            throw .user("\(option): '\(text)': give 1M to 1T, whole pages of 4096 bytes")
        }
    }

    /// The same settings as a resource.
    package var resource: SwapResource {
        SwapResource(
            byteCount: Int64(clamping: byteCount), path: path, budget: budget.map { Int64(clamping: $0) }, bypass: bypass ? .on : .off)
    }
}

/// The resource `swap`.
package struct SwapResource: APIResource {
    /// Size of the disk.
    package var byteCount: Int64
    /// The file.
    package var path: String?
    /// Maximum host memory in bytes.
    package var budget: Int64?
    /// Whether bypass is on from the start.
    package var bypass: SwapSwitch?

    /// The names of the fields.
    package enum CodingKeys: String, CodingKey, CaseIterable {
        case byteCount = "size_bytes"
        case path = "path_on_host"
        case budget = "budget_bytes"
        case bypass
    }
}

/// Whether bypass is on.
package enum SwapSwitch: String, FieldEnum {
    /// The guest maps swapped pages directly from the store.
    case on
    /// The guest reads swapped pages through the swap disk.
    case off
}

extension SwapConfiguration: ServiceConfiguration {
    /// The store's file.
    package var removedFiles: [String] { path.map { [$0] } ?? [] }

    /// Creates the store, its disk and the service.
    package func makeService() throws(VMMError) -> SymbioticService {
        try SwapBypassService(self)
    }
}
