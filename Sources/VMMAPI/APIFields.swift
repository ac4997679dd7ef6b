// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The fields of a request's body, taken one by one: for the routes that a service brings. What is wrong with one is a 400 that names it.
package struct APIFields {
    private var fields: JSONFields

    /// Parses the body, which must be a JSON object.
    package init(_ request: APIRequest) throws(APIError) {
        fields = try request.fields()
    }

    /// One of some words; nil when the field is not there.
    package mutating func word(_ name: String, of words: [String]) throws(APIError) -> String? {
        do throws(ControlError) {
            return try fields.word(name, of: words)
        } catch {
            throw APIError(error)
        }
    }

    /// A whole number from 0 on; nil when the field is not there.
    package mutating func count(_ name: String) throws(APIError) -> UInt64? {
        do throws(ControlError) {
            guard let number = try fields.integer(name) else { return nil }
            guard let count = UInt64(exactly: number) else { throw .usage("\(fields.name(name)): \(number) is less than 0") }
            return count
        } catch {
            throw APIError(error)
        }
    }

    /// Complains of a field that was not taken. To be called when all that is known was asked for.
    package func checkAllTaken() throws(APIError) {
        do throws(ControlError) {
            try fields.checkAllTaken()
        } catch {
            throw APIError(error)
        }
    }
}
