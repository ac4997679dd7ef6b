// SPDX-License-Identifier: Apache-2.0

/// A JSON object of the API or of the configuration file. One type describes it for reading and writing.
///
/// Stored properties and `CodingKeys` give the fields: names, types, and which are required (the non-optional ones). The compiler derives the coding.
/// Errors list the fields in the order of the keys.
package protocol APIResource: Codable, Sendable {
    /// The fields.
    associatedtype CodingKeys: CodingKey & CaseIterable
}

/// Decodes a resource and refuses unknown keys, so that a misspelt field is an error.
package struct Strict<Resource: APIResource>: Codable, Sendable {
    /// The resource.
    package let resource: Resource

    /// Wraps a resource for encoding.
    package init(_ resource: Resource) {
        self.resource = resource
    }

    /// Checks the keys, then reads the fields.
    package init(from decoder: any Decoder) throws {
        try FieldError.checkKeys(of: decoder, known: Resource.CodingKeys.allCases.map(\.stringValue))
        resource = try Resource(from: decoder)
    }

    /// Encodes the resource alone.
    package func encode(to encoder: any Encoder) throws {
        try resource.encode(to: encoder)
    }
}

/// A string field with a fixed set of values.
package protocol FieldEnum: Codable, CaseIterable, Sendable, RawRepresentable where RawValue == String {
}

extension FieldEnum {
    /// Decodes the value; the error lists all values.
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(rawValue: text) else { throw FieldError.notOneOf(Self.self, text, decoder.codingPath) }
        self = value
    }
}

/// An error in one field, thrown while a resource is decoded.
package struct FieldError: Error {
    /// Keys and indices from the root to the field.
    let codingPath: [any CodingKey]
    /// What is wrong, without the field's name.
    let problem: String

    /// Describes a field's error.
    package init(_ codingPath: [any CodingKey], _ problem: String) {
        self.codingPath = codingPath
        self.problem = problem
    }

    /// The error for a text that is none of the values.
    package static func notOneOf<Value: FieldEnum>(_ type: Value.Type, _ text: String, _ codingPath: [any CodingKey]) -> FieldError {
        FieldError(codingPath, "'\(text)' is not one of \(type.allCases.map(\.rawValue).joined(separator: ", "))")
    }

    /// Throws an error for the first key, in sorted order, that is not in `known`.
    package static func checkKeys(of decoder: any Decoder, known: [String]) throws {
        let keys = try decoder.container(keyedBy: FieldName.self).allKeys
        guard let unknown = keys.filter({ !known.contains($0.stringValue) }).min(by: { $0.stringValue < $1.stringValue }) else { return }
        throw FieldError(decoder.codingPath + [unknown], "unknown field; known are \(known.joined(separator: ", "))")
    }
}

/// A coding key for any name.
package struct FieldName: CodingKey {
    /// The name.
    package let stringValue: String
    /// No index.
    package var intValue: Int? { nil }

    /// Creates a key.
    package init(_ name: String) {
        stringValue = name
    }

    /// Creates a key.
    package init(stringValue: String) {
        self.init(stringValue)
    }

    /// No index.
    package init?(intValue: Int) {
        return nil
    }
}
