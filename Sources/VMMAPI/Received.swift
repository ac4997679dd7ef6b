// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import FoundationEssentials

/// The path of a value: the source text's name, then keys and indices. Error messages begin with it.
package struct FieldPath: Sendable, CustomStringConvertible {
    /// The path as text: `vm.json: drives[0].drive_id`.
    package let description: String

    private init(description: String) {
        self.description = description
    }

    /// A message about the value here: the path, a colon, the text.
    package func message(_ text: String) -> String {
        description.hasSuffix(":") ? "\(description) \(text)" : "\(description): \(text)"
    }

    /// The root of a text.
    package init(source: String) {
        description = "\(source):"
    }

    /// Appends a key or an index.
    package func appending(_ key: some CodingKey) -> FieldPath {
        if let index = key.intValue { return FieldPath(description: "\(description)[\(index)]") }
        let name = key.stringValue.isEmpty ? "''" : key.stringValue
        return FieldPath(description: description.hasSuffix(":") ? "\(description) \(name)" : "\(description).\(name)")
    }

    /// Appends an index.
    func appending(index: Int) -> FieldPath {
        FieldPath(description: "\(description)[\(index)]")
    }

    func appending(_ path: [any CodingKey]) -> FieldPath {
        path.reduce(self) { $0.appending($1) }
    }
}

/// A resource from a client or a file, with its path for errors.
@dynamicMemberLookup
package struct Received<Resource: APIResource>: Sendable {
    /// The resource. The decoder has checked types, required fields and unknown keys.
    package let resource: Resource
    /// The resource's path, for errors.
    package let root: FieldPath

    /// Creates a received resource.
    package init(_ resource: Resource, at root: FieldPath) {
        self.resource = resource
        self.root = root
    }

    /// The value of a field.
    package subscript<Value>(dynamicMember field: KeyPath<Resource, Value>) -> Value {
        resource[keyPath: field]
    }

    /// The path of a field, for errors.
    package func place(of field: Resource.CodingKeys) -> String {
        root.appending(field).description
    }

    /// The nested resource in a field, with its path; nil stays nil.
    package func part<Part>(_ field: Resource.CodingKeys, _ value: Strict<Part>?) -> Received<Part>? {
        value.map { Received<Part>($0.resource, at: root.appending(field)) }
    }

    /// The nested resources in an array field, with their paths; empty for nil.
    package func parts<Part>(_ field: Resource.CodingKeys, _ values: [Strict<Part>]?) -> [Received<Part>] {
        (values ?? []).enumerated().map { Received<Part>($1.resource, at: root.appending(field).appending(index: $0)) }
    }

    /// Checks the range of an integer; nil stays nil. The error contains the field's path and the range.
    package func integer(_ field: Resource.CodingKeys, _ value: Int64?, in range: ClosedRange<Int>) throws(VMMError) -> Int? {
        guard let value else { return nil }
        guard let number = Int(exactly: value), range.contains(number) else {
            throw .user("\(place(of: field)): \(value) is not from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}

extension Received {
    /// Decodes a JSON text after checking its bounds.
    ///
    /// - Parameter source: names the text in errors.
    package init(_ bytes: [UInt8], source: String) throws(VMMError) {
        let strict = try ResourceText.decode(Strict<Resource>.self, from: bytes, source: source)
        self.init(strict.resource, at: FieldPath(source: source))
    }
}

/// Decodes resources. An error is one line: the path, what the decoder expected, what it found.
package enum ResourceText {
    /// Decodes a text.
    ///
    /// - Parameters:
    ///   - type: the type to decode.
    ///   - bytes: the text. It must be within the bounds of a configuration and have no repeated keys.
    ///   - source: names the text in errors.
    ///   - userInfo: for the type's `init(from:)`.
    package static func decode<Value: Decodable>(
        _ type: Value.Type, from bytes: [UInt8], source: String, userInfo: [CodingUserInfoKey: any Sendable] = [:]
    ) throws(VMMError) -> Value {
        try JSONLimits.configuration.check(bytes, from: source)
        if let place = RepeatedField.place(in: bytes, FieldPath(source: source)) { throw .user(place.message("given twice")) }
        let value: Value
        do {
            let decoder = JSONDecoder()
            decoder.userInfo = userInfo
            value = try decoder.decode(type, from: Data(bytes))
        } catch {
            throw .user(describe(error, bytes, FieldPath(source: source)))
        }
        if let violation = StrictJSON.violation(bytes) { throw .user(FieldPath(source: source).message(violation)) }
        try checkZeroBytes(bytes, FieldPath(source: source))
        return value
    }

    /// Refuses zero bytes in strings: paths and names become C strings.
    private static func checkZeroBytes(_ bytes: [UInt8], _ root: FieldPath) throws(VMMError) {
        guard bytes.contains(Array("\\u0000".utf8)), let tree = try? JSONValue(parsing: bytes, from: "") else { return }
        let place = tree.place(root) { value in
            if case .string(let text) = value { text.utf8.contains(0) } else { false }
        }
        if let place { throw .user(place.message("contains a zero byte")) }
    }

    private static func describe(_ error: any Error, _ bytes: [UInt8], _ root: FieldPath) -> String {
        switch error {
        case let error as FieldError:
            return root.appending(error.codingPath).message(error.problem)
        case DecodingError.keyNotFound(let key, let context):
            return root.appending(context.codingPath).appending(key).message("missing")
        case DecodingError.typeMismatch(let type, let context):
            return mismatch(name(for: type), context.codingPath, bytes, root)
        case DecodingError.valueNotFound(let type, let context):
            // Null is equivalent to an absent field.
            guard let last = context.codingPath.last, last.intValue == nil else {
                return mismatch(name(for: type), context.codingPath, bytes, root)
            }
            return root.appending(context.codingPath).message("missing")
        default:
            // If the text is JSON, a number does not fit its field's type. The decoder does not report which one; no field accepts fractions.
            let place = (try? JSONValue(parsing: bytes, from: ""))?.place(root) { value in
                if case .number = value { true } else { false }
            }
            if let place { return place.message("expected a whole number, found a number with a fraction or out of range") }
            return root.message("not valid JSON\(JSONValue.position(of: error))")
        }
    }

    private static func mismatch(_ expected: String, _ path: [any CodingKey], _ bytes: [UInt8], _ root: FieldPath) -> String {
        // Only error messages need the tree.
        let tree: JSONValue
        do {
            tree = try JSONDecoder().decode(JSONValue.self, from: Data(bytes))
        } catch {
            return root.message("not valid JSON\(JSONValue.position(of: error))")
        }
        let found = tree.value(at: path)?.typeName ?? "something else"
        return root.appending(path).message("expected \(expected), found \(found)")
    }

    private static func name(for type: Any.Type) -> String {
        switch type {
        case is String.Type: "a string"
        case is Bool.Type: "true or false"
        case is any BinaryInteger.Type: "a whole number"
        case is any BinaryFloatingPoint.Type: "a number"
        case is [Any].Type: "an array"
        default: "an object"
        }
    }
}
