// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import FoundationEssentials

/// A JSON text as a tree: for texts without a schema, and for error messages about texts with one.
package enum JSONValue: Sendable, Equatable, Codable {
    /// An object.
    case object([String: JSONValue])
    /// An array.
    case array([JSONValue])
    /// A string.
    case string(String)
    /// A whole number that fits 64 bits.
    case integer(Int64)
    /// Any other number; infinity if a Double cannot represent it.
    case number(Double)
    /// True or false.
    case boolean(Bool)
    /// Null.
    case null

    /// Decodes a value of any type by trying one type after the other. A failed try costs some microseconds, since the decoder builds an error with
    /// the whole path; `JSONLimits` bounds the number of values.
    package init(from decoder: any Decoder) throws {
        if let container = try JSONValue.guess({ try decoder.container(keyedBy: FieldName.self) }) {
            var fields: [String: JSONValue] = [:]
            for key in container.allKeys { fields[key.stringValue] = try container.decode(JSONValue.self, forKey: key) }
            self = .object(fields)
            return
        }
        if var container = try JSONValue.guess({ try decoder.unkeyedContainer() }) {
            var elements: [JSONValue] = []
            while !container.isAtEnd { elements.append(try container.decode(JSONValue.self)) }
            self = .array(elements)
            return
        }
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try JSONValue.guess({ try container.decode(String.self) }) {
            self = .string(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(Bool.self) {
            self = .boolean(value)
        } else {
            // A number that no type can represent.
            self = .number(.infinity)
        }
    }

    /// Returns nil if the value has another type. Throws if the text is not JSON: the decoder checks a string's bytes and escapes only when it
    /// reads the string.
    private static func guess<Value>(_ body: () throws -> Value) throws -> Value? {
        do {
            return try body()
        } catch DecodingError.typeMismatch, DecodingError.valueNotFound {
            return nil
        }
    }

    /// Encodes the value as plain JSON.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .object(let fields): try container.encode(fields)
        case .array(let elements): try container.encode(elements)
        case .string(let text): try container.encode(text)
        case .integer(let number): try container.encode(number)
        case .number(let number): try container.encode(number)
        case .boolean(let flag): try container.encode(flag)
        case .null: try container.encodeNil()
        }
    }

    /// Parses a text within the bounds of a configuration.
    ///
    /// - Throws: an error with the source and the bound that the text exceeds, or the line and column of invalid JSON if the parser reports
    ///   them.
    package init(parsing bytes: [UInt8], from source: String) throws(VMMError) {
        try self.init(bytes, source, JSONLimits.configuration)
    }

    /// The same for data without a schema, which may have more values, and must have each field of an object once.
    package init(parsingData bytes: [UInt8], from source: String) throws(VMMError) {
        try self.init(bytes, source, JSONLimits.data)
        let root = FieldPath(source: source)
        if let place = RepeatedField.place(in: bytes, root) { throw .user(place.message("given twice")) }
        if let violation = StrictJSON.violation(bytes, allowsFractions: true) { throw .user(root.message(violation)) }
    }

    private init(_ bytes: [UInt8], _ source: String, _ limits: JSONLimits) throws(VMMError) {
        try limits.check(bytes, from: source)
        do {
            self = try JSONDecoder().decode(JSONValue.self, from: Data(bytes))
        } catch {
            throw .user("\(source): not valid JSON\(JSONValue.position(of: error))")
        }
    }

    /// The type's name for messages.
    package var typeName: String {
        switch self {
        case .object: "an object"
        case .array: "an array"
        case .string: "a string"
        case .integer, .number: "a number"
        case .boolean: "true or false"
        case .null: "null"
        }
    }

    /// The value at a path of keys and indices.
    func value(at path: [any CodingKey]) -> JSONValue? {
        path.reduce(self as JSONValue?) { value, key in
            switch value {
            case .object(let fields): fields[key.stringValue]
            case .array(let elements): key.intValue.flatMap { elements.indices.contains($0) ? elements[$0] : nil }
            default: nil
            }
        }
    }

    /// The path of the first value, in key order, that `isMatch` accepts.
    func place(_ path: FieldPath, where isMatch: (JSONValue) -> Bool) -> FieldPath? {
        if isMatch(self) { return path }
        switch self {
        case .object(let fields):
            for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
                if let place = value.place(path.appending(FieldName(key)), where: isMatch) { return place }
            }
            return nil
        case .array(let elements):
            for (index, element) in elements.enumerated() {
                if let place = element.place(path.appending(index: index), where: isMatch) { return place }
            }
            return nil
        case .string, .integer, .number, .boolean, .null:
            return nil
        }
    }

    /// The line and column at which a text is not JSON; empty if the parser does not report them.
    static func position(of error: any Error) -> String {
        guard case DecodingError.dataCorrupted(let context) = error, let cause = context.underlyingError else { return "" }
        // The parser's description is one sentence that contains line and column.
        let description = String(describing: cause)
        guard let start = description.firstRange(of: "around line "), description.utf8.count < 400 else { return "" }
        let rest = description[start.lowerBound...].prefix { $0 != "." && $0 != "\"" && $0 != ")" && $0 != "\n" }
        return " \(rest)"
    }
}
