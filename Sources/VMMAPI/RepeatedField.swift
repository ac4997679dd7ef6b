// SPDX-License-Identifier: Apache-2.0

internal import FoundationEssentials

/// Finds a key that an object has twice. The decoder would use one of the values and ignore the other without an error.
enum RepeatedField {
    /// An array or object that the scan has entered.
    private struct Level {
        let path: FieldPath
        let isObject: Bool
        var names: Set<String> = []
        /// The last key of an object.
        var name = ""
        /// The next element of an array.
        var index = 0
        /// Whether the next string of an object is a key.
        var expectsName = true

        /// The path of the value that follows.
        var place: FieldPath { isObject ? path.appending(FieldName(name)) : path.appending(index: index) }
    }

    /// The path of the first repeated key; nil if there is none. Does not check whether the text is JSON. `JSONLimits` must have checked its bounds.
    static func place(in bytes: [UInt8], _ root: FieldPath) -> FieldPath? {
        var levels: [Level] = []
        var rest = bytes[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                levels.append(Level(path: levels.last?.place ?? root, isObject: byte == UInt8(ascii: "{")))
            case UInt8(ascii: "]"), UInt8(ascii: "}"): _ = levels.popLast()
            case UInt8(ascii: "\""):
                let text = string(&rest)
                guard var level = levels.popLast() else { continue }
                let isName = level.isObject && level.expectsName
                if isName {
                    level.expectsName = false
                    level.name = text
                    guard level.names.insert(text).inserted else { return level.place }
                }
                levels.append(level)
            case UInt8(ascii: ","):
                guard var level = levels.popLast() else { continue }
                level.index &+= 1
                level.expectsName = true
                levels.append(level)
            default: break
            }
        }
        return nil
    }

    /// Reads a string after its first quote. Decodes escapes, so that two spellings of the same key count as a repetition.
    private static func string(_ rest: inout ArraySlice<UInt8>) -> String {
        var text = [UInt8(ascii: "\"")]
        var isEscaped = false
        var hasEscapes = false
        while let byte = rest.popFirst() {
            text.append(byte)
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
                hasEscapes = true
            } else if byte == UInt8(ascii: "\"") {
                break
            }
        }
        if hasEscapes, let plain = try? JSONDecoder().decode(String.self, from: Data(text)) { return plain }
        return String(decoding: text.dropFirst().dropLast(), as: UTF8.self)
    }
}
