// SPDX-License-Identifier: Apache-2.0

/// Finds what Foundation's decoder accepts although it is not JSON (RFC 8259), or not what a whole number is: clients must not come to rely on it.
enum StrictJSON {
    /// What is wrong with a text that the decoder has accepted; nil for nothing. One pass, no recursion.
    ///
    /// - Parameter allowsFractions: whether numbers may have a fraction and an exponent.
    static func violation(_ bytes: [UInt8], allowsFractions: Bool = false) -> String? {
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) {
            return "not valid JSON: it begins with a byte-order mark"
        }
        var rest = bytes[...]
        /// The last byte outside of strings that is no white space.
        var last: UInt8 = 0
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "\""):
                skipString(&rest)
            case UInt8(ascii: "]") where last == UInt8(ascii: ","),
                UInt8(ascii: "}") where last == UInt8(ascii: ","):
                return "not valid JSON: a comma before a closing bracket"
            case UInt8(ascii: "-") where !allowsFractions, UInt8(ascii: "0")...UInt8(ascii: "9") where !allowsFractions:
                let number = [byte] + rest.prefix(while: isNumberByte)
                rest = rest.drop(while: isNumberByte)
                if number.contains(where: {
                    [UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E")].contains($0)
                }) {
                    let text = String(decoding: number.prefix(40), as: UTF8.self)
                    return "expected a whole number without fraction and exponent, found \(text)"
                }
            default: break
            }
            if ![0x20, 0x09, 0x0a, 0x0d].contains(byte) { last = byte }
        }
        return nil
    }

    private static func isNumberByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"),
            UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
            true
        default: false
        }
    }

    /// Skips a string after its first quote.
    private static func skipString(_ rest: inout ArraySlice<UInt8>) {
        while let byte = rest.popFirst(), byte != UInt8(ascii: "\"") {
            if byte == UInt8(ascii: "\\") { _ = rest.popFirst() }
        }
    }
}
