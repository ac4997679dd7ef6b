// SPDX-License-Identifier: Apache-2.0

/// The fields of a request's body, taken one by one: for the routes that a service brings. What is wrong with one is a 400 that names it.
public struct APIFields {
    private var fields: JSONFields

    /// Parses the body, which must be a JSON object.
    public init(_ request: APIRequest) throws(APIError) {
        fields = try request.fields()
    }

    /// One of some words; nil when the field is not there.
    public mutating func word(_ name: String, of words: [String]) throws(APIError) -> String? {
        do throws(ControlError) {
            return try fields.word(name, of: words)
        } catch {
            throw APIError(400, error.message)
        }
    }

    /// A whole number from 0 on; nil when the field is not there.
    public mutating func count(_ name: String) throws(APIError) -> UInt64? {
        do throws(ControlError) {
            guard let number = try fields.integer(name) else { return nil }
            guard let count = UInt64(exactly: number) else { throw .usage("\(fields.name(name)): \(number) is less than 0") }
            return count
        } catch {
            throw APIError(400, error.message)
        }
    }

    /// Complains of a field that was not taken. To be called when all that is known was asked for.
    public func checkAllTaken() throws(APIError) {
        do throws(ControlError) {
            try fields.checkAllTaken()
        } catch {
            throw APIError(400, error.message)
        }
    }
}
