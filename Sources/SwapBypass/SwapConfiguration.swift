// SPDX-License-Identifier: Apache-2.0

public import SymVMM

/// What `--swap` asks for.
public struct SwapConfiguration: Sendable, Equatable {
    /// The form of the option's text.
    public static let form = "SIZE[,path=FILE[,budget=SIZE]][,bypass=on|off]"

    /// Size of the swap disk in bytes, whole pages of 4096.
    public var byteCount: UInt64
    /// The file to keep the pages in; nil: the host's memory.
    public var path: String?
    /// The most host memory in bytes, before pages go to the file; nil: all are in the file's page cache.
    public var budget: UInt64?
    /// Whether swapped pages are reached directly, from the start.
    public var bypass: Bool

    /// The smallest disk: what the kernel takes for swap with room for a few pages.
    static let byteCountRange: ClosedRange<UInt64> = 1 << 20...1 << 40

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
        self.init(byteCount: try ByteCount.parse(String(parts.first ?? ""), option: "--swap"))
        guard SwapConfiguration.byteCountRange.contains(byteCount), byteCount % GuestMemory.pageSize == 0 else {
            throw .usage("--swap: '\(parts.first ?? "")': give 1M to 1T, whole pages of 4096 bytes")
        }
        var seen = Set<Substring>()
        for part in parts.dropFirst() {
            let field = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard field.count == 2, seen.insert(field[0]).inserted, try take(field[0], field[1]) else {
                throw .usage("--swap: '\(part)' in '\(text)': the form is \(SwapConfiguration.form)")
            }
        }
        guard budget == nil || path != nil else { throw .usage("--swap: a budget wants a file for what is beyond it: path=FILE") }
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
}
