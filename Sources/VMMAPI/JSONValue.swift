// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import FoundationEssentials

/// A JSON text as a tree: what configuration files and API requests are before their fields are checked.
package enum JSONValue: Sendable, Equatable, Codable {
    case object([String: JSONValue])
    case array([JSONValue])
    case string(String)
    case integer(Int64)
    case number(Double)
    case boolean(Bool)
    case null

    /// Each guess that fails costs some microseconds for an error that names the way down to here: `JSONLimits` bounds how many there can be.
    package init(from decoder: any Decoder) throws {
        if let container = try? decoder.container(keyedBy: AnyKey.self) {
            var fields: [String: JSONValue] = [:]
            for key in container.allKeys { fields[key.stringValue] = try container.decode(JSONValue.self, forKey: key) }
            self = .object(fields)
            return
        }
        if var container = try? decoder.unkeyedContainer() {
            var elements: [JSONValue] = []
            while !container.isAtEnd { elements.append(try container.decode(JSONValue.self)) }
            self = .array(elements)
            return
        }
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else {
            self = .boolean(try container.decode(Bool.self))
        }
    }

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

    /// Parses a text; the error says that it is no JSON, and where when that is known, or what it has too much of.
    package init(parsing bytes: [UInt8], from source: String) throws(ControlError) {
        try JSONLimits.configuration.check(bytes, from: source)
        do {
            self = try JSONDecoder().decode(JSONValue.self, from: Data(bytes))
        } catch let error as DecodingError {
            throw .usage("\(source): not valid JSON\(JSONValue.place(error))")
        } catch {
            throw .usage("\(source): not valid JSON")
        }
    }

    /// The type's name as a user knows it.
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

    private static func place(_ error: DecodingError) -> String {
        guard case .dataCorrupted(let context) = error, let cause = context.underlyingError else { return "" }
        // The parser's description is one sentence with line and column.
        let words = String(describing: cause)
        guard let start = words.firstRange(of: "around line "), words.utf8.count < 400 else { return "" }
        let rest = words[start.lowerBound...].prefix { $0 != "." && $0 != "\"" && $0 != ")" && $0 != "\n" }
        return " \(rest)"
    }

    private struct AnyKey: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}

/// The fields of a JSON object, taken one by one; what is left over is an error, so that a misspelt field is never ignored.
package struct JSONFields {
    /// Names the object in errors: a file, or a file and the fields that lead here.
    package let path: String
    private var fields: [String: JSONValue]
    private var known: [String] = []

    package init(_ value: JSONValue, path: String) throws(ControlError) {
        guard case .object(let fields) = value else { throw .usage("\(path): expected an object, found \(value.typeName)") }
        self.fields = fields
        self.path = path
    }

    /// Where a field is, for errors.
    package func name(_ field: String) -> String {
        path.hasSuffix(":") ? "\(path) \(field)" : "\(path).\(field)"
    }

    package mutating func take(_ field: String) -> JSONValue? {
        known.append(field)
        guard let value = fields.removeValue(forKey: field), value != .null else { return nil }
        return value
    }

    package mutating func string(_ field: String) throws(ControlError) -> String? {
        guard let value = take(field) else { return nil }
        guard case .string(let text) = value else { throw mismatch(field, "a string", value) }
        guard !text.utf8.contains(0) else { throw .usage("\(name(field)): contains a zero byte") }
        return text
    }

    package mutating func requiredString(_ field: String) throws(ControlError) -> String {
        guard let text = try string(field) else { throw .usage("\(name(field)): missing") }
        return text
    }

    package mutating func integer(_ field: String) throws(ControlError) -> Int64? {
        guard let value = take(field) else { return nil }
        guard case .integer(let number) = value else { throw mismatch(field, "a whole number", value) }
        return number
    }

    /// A whole number in a range.
    package mutating func integer(_ field: String, _ range: ClosedRange<Int>) throws(ControlError) -> Int? {
        guard let number = try integer(field) else { return nil }
        guard let value = Int(exactly: number), range.contains(value) else {
            throw .usage("\(name(field)): \(number) is not from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// An array of whole numbers from 0.
    package mutating func integers(_ field: String) throws(ControlError) -> [UInt64]? {
        guard let value = take(field) else { return nil }
        guard case .array(let elements) = value else { throw mismatch(field, "an array", value) }
        var numbers: [UInt64] = []
        for element in elements {
            guard case .integer(let number) = element, number >= 0 else { throw mismatch(field, "whole numbers from 0", element) }
            numbers.append(UInt64(number))
        }
        return numbers
    }

    package mutating func boolean(_ field: String) throws(ControlError) -> Bool? {
        guard let value = take(field) else { return nil }
        guard case .boolean(let flag) = value else { throw mismatch(field, "true or false", value) }
        return flag
    }

    package mutating func object(_ field: String) throws(ControlError) -> JSONFields? {
        guard let value = take(field) else { return nil }
        return try JSONFields(value, path: name(field))
    }

    package mutating func objects(_ field: String) throws(ControlError) -> [JSONFields] {
        guard let value = take(field) else { return [] }
        guard case .array(let elements) = value else { throw mismatch(field, "an array", value) }
        var objects: [JSONFields] = []
        for (index, element) in elements.enumerated() { objects.append(try JSONFields(element, path: "\(name(field))[\(index)]")) }
        return objects
    }

    /// One of some words.
    package mutating func word(_ field: String, of words: [String]) throws(ControlError) -> String? {
        guard let text = try string(field) else { return nil }
        guard words.contains(text) else { throw .usage("\(name(field)): '\(text)' is not one of \(words.joined(separator: ", "))") }
        return text
    }

    /// A field of Firecracker's schema that symvmm does not offer: taken only with a value that asks for nothing.
    package mutating func notOffered(_ field: String, unless neutral: [JSONValue] = []) throws(ControlError) {
        guard let value = take(field), !neutral.contains(value) else { return }
        throw .usage("\(name(field)): not offered by symvmm")
    }

    /// Whether a field is there, be it null.
    package func has(_ field: String) -> Bool {
        fields[field] != nil
    }

    /// Complains of a field that nobody took.
    package func checkAllTaken() throws(ControlError) {
        guard let unknown = fields.keys.sorted().first else { return }
        throw .usage("\(name(unknown)): unknown field; known are \(known.joined(separator: ", "))")
    }

    private func mismatch(_ field: String, _ expected: String, _ found: JSONValue) -> ControlError {
        .usage("\(name(field)): expected \(expected), found \(found.typeName)")
    }
}
