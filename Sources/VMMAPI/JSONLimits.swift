// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// Bounds on a JSON text. `check` scans the bytes before the decoder starts, because the decoder recurses for each level and spends time on each
/// value.
struct JSONLimits: Sendable {
    /// Maximum nesting depth. Each level uses about 1 KiB of a thread's 512 KiB stack; texts that symvmm writes have 6 levels.
    static let depth = 32

    /// For request bodies and the configuration file.
    static let configuration = JSONLimits(byteCount: 1 << 20, valueCount: 1024)
    /// For the guest's metadata.
    static let data = JSONLimits(byteCount: 1 << 20, valueCount: 1 << 13)
    /// For a VM's answers and recorded reports, which are long: a list of all tasks, for instance.
    static let answer = JSONLimits(byteCount: 64 << 20, valueCount: 4 << 20)

    /// Maximum length in bytes.
    let byteCount: Int
    /// Maximum number of values, including nested ones.
    let valueCount: Int

    /// Describes which bound a text exceeds; nil if none. One pass, no recursion. Does not check whether the text is JSON.
    func violation(_ bytes: [UInt8]) -> String? {
        guard bytes.count <= byteCount else { return "longer than \(byteCount) bytes" }
        var (depth, values) = (0, 1)
        var (isInString, isEscaped) = (false, false)
        for byte in bytes {
            // JSON in UTF-8 has no zero bytes. UTF-16 text has: Foundation would decode it, but this scan would misread its quotes and brackets.
            if byte == 0 { return "a zero byte in it" }
            if isInString {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInString = false
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): isInString = true
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                depth &+= 1
                values &+= 1
                if depth > JSONLimits.depth { return "more than \(JSONLimits.depth) arrays and objects inside one another" }
            case UInt8(ascii: "]"), UInt8(ascii: "}"): depth = max(0, depth &- 1)
            case UInt8(ascii: ","): values &+= 1
            default: break
            }
            if values > valueCount { return "more than \(valueCount) values" }
        }
        return nil
    }

    /// Checks the bounds.
    ///
    /// - Throws: an error that names the source and the bound that the text exceeds.
    func check(_ bytes: [UInt8], from source: String) throws(VMMError) {
        if let violation = violation(bytes) { throw .user("\(source): \(violation)") }
    }
}
