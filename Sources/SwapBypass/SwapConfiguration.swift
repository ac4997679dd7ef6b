// SPDX-License-Identifier: Apache-2.0

public import SymVMM

/// What `--swap` asks for.
public struct SwapConfiguration: Sendable, Equatable {
    /// Size of the swap disk in bytes, whole pages of 4096.
    public var byteCount: UInt64
    /// Whether swapped pages are reached directly, from the start.
    public var bypass: Bool

    /// The smallest disk: what the kernel takes for swap with room for a few pages.
    static let byteCountRange: ClosedRange<UInt64> = 1 << 20...1 << 40

    /// Describes a swap disk.
    public init(byteCount: UInt64, bypass: Bool = false) {
        self.byteCount = byteCount
        self.bypass = bypass
    }

    /// Reads `SIZE[,bypass=on|off]`.
    public init(option text: String) throws(ControlError) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        byteCount = try ByteCount.parse(String(parts.first ?? ""), option: "--swap")
        guard SwapConfiguration.byteCountRange.contains(byteCount), byteCount % GuestMemory.pageSize == 0 else {
            throw .usage("--swap: '\(parts.first ?? "")': give 1M to 1T, whole pages of 4096 bytes")
        }
        bypass = false
        var seen = false
        for part in parts.dropFirst() {
            guard !seen, part == "bypass=on" || part == "bypass=off" else {
                throw .usage("--swap: '\(part)' in '\(text)': the form is SIZE[,bypass=on|off]")
            }
            seen = true
            bypass = part == "bypass=on"
        }
    }
}
