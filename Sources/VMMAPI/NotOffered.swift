// SPDX-License-Identifier: Apache-2.0

/// A Firecracker field that symvmm does not support. Only the value that requests nothing is accepted.
package struct NotOffered<Neutral: NeutralValue>: Codable, Sendable, Equatable {
    /// The neutral value.
    package init() {
    }

    /// Accepts only the neutral value.
    package init(from decoder: any Decoder) throws {
        guard let value = try? JSONValue(from: decoder), Neutral.accepts(value) else {
            throw FieldError(decoder.codingPath, "not offered by symvmm")
        }
    }

    /// Writes the neutral value.
    package func encode(to encoder: any Encoder) throws {
        try Neutral.value.encode(to: encoder)
    }
}

/// A value that requests nothing.
package protocol NeutralValue: Sendable {
    /// The value; null if only an absent field requests nothing.
    static var value: JSONValue { get }
    /// Whether a value requests nothing.
    static func accepts(_ value: JSONValue) -> Bool
}

extension NeutralValue {
    /// Only `value`.
    package static func accepts(_ value: JSONValue) -> Bool { value == self.value }
}

/// An object without fields, or whose fields are all null, is neutral: a rate limiter that limits nothing.
package enum NeutralObject: NeutralValue {
    /// An empty object.
    package static let value = JSONValue.object([:])

    /// Whether all fields are null.
    package static func accepts(_ value: JSONValue) -> Bool {
        guard case .object(let fields) = value else { return false }
        return fields.values.allSatisfy { $0 == .null }
    }
}

/// No neutral value.
package enum NoNeutral: NeutralValue {
    /// Null, which is equivalent to an absent field.
    package static let value = JSONValue.null
}

/// `false` is neutral.
package enum NeutralFalse: NeutralValue {
    /// False.
    package static let value = JSONValue.boolean(false)
}

/// "None" is neutral.
package enum NeutralNone: NeutralValue {
    /// The string None.
    package static let value = JSONValue.string("None")
}

/// An empty array is neutral.
package enum NeutralEmpty: NeutralValue {
    /// An empty array.
    package static let value = JSONValue.array([])
}
