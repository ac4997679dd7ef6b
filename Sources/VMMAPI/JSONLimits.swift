// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// Bounds on a JSON text, checked on its bytes before a parser starts: decoders recurse for each level, and take time for each value and,
/// in ours, for each level above it.
struct JSONLimits: Sendable {
    /// Most arrays and objects inside one another. Each level takes about 1 KiB of a thread's 512 KiB stack; our own texts have 6.
    static let depth = 32

    /// For configurations: request bodies and the configuration file.
    static let configuration = JSONLimits(byteCount: 1 << 20, valueCount: 1024)
    /// For what a VM answers, and what was kept of it: a list of all tasks is long.
    static let answer = JSONLimits(byteCount: 64 << 20, valueCount: 4 << 20)

    /// Longest text in bytes.
    let byteCount: Int
    /// Most values, those inside others counted too.
    let valueCount: Int

    /// What is too much in a text; nil when it may be parsed. One pass, without recursion; whether it is JSON at all, the parser says.
    func violation(_ bytes: [UInt8]) -> String? {
        guard bytes.count <= byteCount else { return "longer than \(byteCount) bytes" }
        var (depth, values) = (0, 1)
        var (isInString, isEscaped) = (false, false)
        for byte in bytes {
            // JSON has none. In UTF-16, which Foundation takes, there is one beside each bracket, and quotes are not what they look like.
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

    /// - Throws: a usage error that names the source and says what is too much.
    func check(_ bytes: [UInt8], from source: String) throws(ControlError) {
        if let violation = violation(bytes) { throw .usage("\(source): \(violation)") }
    }
}
