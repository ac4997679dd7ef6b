// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Synchronization
internal import VMMAPI

/// The data of the metadata service: a JSON value of bounded length, which the API writes and the guest reads.
///
/// Thread-safe: the API's threads write, the I/O thread reads.
package final class MetadataStore: Sendable {
    /// Which requests the guest must make.
    package enum Version: String, Sendable, CaseIterable {
        /// A GET needs no token.
        case v1 = "V1"
        /// A GET needs a token, which the guest gets by a PUT.
        case v2 = "V2"
    }

    /// Why the API's request was refused. The texts are Firecracker's, for clients that know no other.
    package enum Failure: Error {
        /// The data would be longer than the limit.
        case tooLong
        /// A PATCH before the first PUT.
        case notInitialized
        /// The text is not JSON, or beyond the limits of JSON texts.
        case invalid(VMMError)
    }

    /// How an answer to the guest looks.
    enum Format {
        case json
        /// As EC2's metadata service: the keys of an object, one on a line, or a string.
        case plain
    }

    /// Why a value cannot be shown.
    enum Missing: Error {
        case notFound
        case unsupportedType
    }

    private struct State {
        var value: JSONValue?
        var version = Version.v1
        var isPlainAlways = false
    }

    /// The longest data in bytes.
    package let byteLimit: Int
    private let state = Mutex(State())
    let tokens = MetadataTokens()

    /// An empty store.
    ///
    /// - Parameter byteLimit: the longest data as JSON text, in bytes.
    package init(byteLimit: Int) {
        self.byteLimit = byteLimit
    }

    /// Which requests the guest must make.
    package var version: Version { state.withLock { $0.version } }

    /// Whether answers look like EC2's, whatever the guest accepts.
    package var isPlainAlways: Bool { state.withLock { $0.isPlainAlways } }

    /// Sets how the service answers.
    package func configure(version: Version, isPlainAlways: Bool) {
        state.withLock { state in
            state.version = version
            state.isPlainAlways = isPlainAlways
        }
    }

    /// Replaces the data.
    package func put(_ text: [UInt8]) throws(Failure) {
        let value = try parse(text)
        try checkLength(value)
        state.withLock { $0.value = value }
    }

    /// Puts the contents of a file.
    package func load(_ text: [UInt8], from path: String) throws(VMMError) {
        do throws(Failure) {
            try put(text)
        } catch {
            switch error {
            case .invalid: throw .user("\(path): not valid JSON, or beyond the limits of JSON texts")
            default: throw .user("\(path): longer than \(byteLimit) bytes")
            }
        }
    }

    /// Changes the data by a merge patch (RFC 7396): null removes a field.
    package func patch(_ text: [UInt8]) throws(Failure) {
        let change = try parse(text)
        guard let old = state.withLock({ $0.value }) else { throw .notInitialized }
        let new = MetadataStore.merged(old, change, depth: 0)
        try checkLength(new)
        state.withLock { $0.value = new }
    }

    /// The data as JSON; an empty object if there is none.
    package func text() -> [UInt8] {
        let value = state.withLock { $0.value } ?? .object([:])
        return value == .null ? Array("{}".utf8) : (try? JSONText.encode(value)) ?? Array("{}".utf8)
    }

    /// The value at a path of the guest's request: a JSON pointer (RFC 6901), in which a slash at the end and repeated slashes mean nothing.
    func answer(path: String, format: Format) throws(Missing) -> [UInt8] {
        let (root, isPlainAlways) = state.withLock { ($0.value, $0.isPlainAlways) }
        guard var value = root else { throw .notFound }
        for part in path.split(separator: "/") {
            let name = String(part.replacing("~1", with: "/").replacing("~0", with: "~"))
            switch value {
            case .object(let fields):
                guard let next = fields[name] else { throw .notFound }
                value = next
            case .array(let elements):
                // No leading zeroes, no sign.
                guard let index = Int(name), "\(index)" == name, elements.indices.contains(index) else { throw .notFound }
                value = elements[index]
            default: throw .notFound
            }
        }
        guard isPlainAlways || format == .plain else { return (try? JSONText.encode(value)) ?? [] }
        switch value {
        case .object(let fields):
            let names = fields.keys.sorted().map { name in
                if case .object = fields[name] { return name + "/" }
                return name
            }
            return Array(names.joined(separator: "\n").utf8)
        case .string(let text): return Array(text.utf8)
        default: throw .unsupportedType
        }
    }

    private func parse(_ text: [UInt8]) throws(Failure) -> JSONValue {
        // White space does not count for the limit on the value, but for that on the text.
        guard text.count / 4 <= byteLimit else { throw .tooLong }
        do throws(VMMError) {
            return try JSONValue(parsingData: text, from: "the request's body")
        } catch {
            throw .invalid(error)
        }
    }

    private func checkLength(_ value: JSONValue) throws(Failure) {
        guard let text = try? JSONText.encode(value) else {
            throw .invalid(.user("the request's body: a number is out of the range of a Double"))
        }
        guard text.count <= byteLimit else { throw .tooLong }
    }

    /// The depth is that of the text, which the parser bounds.
    private static func merged(_ old: JSONValue, _ change: JSONValue, depth: Int) -> JSONValue {
        guard case .object(let changes) = change, depth < 64 else { return change }
        var fields: [String: JSONValue] = [:]
        if case .object(let present) = old { fields = present }
        for (name, value) in changes {
            fields[name] = value == .null ? nil : merged(fields[name] ?? .null, value, depth: depth + 1)
        }
        return .object(fields)
    }
}

extension MetadataStore: Equatable {
    /// Whether both are the same store.
    package static func == (left: MetadataStore, right: MetadataStore) -> Bool {
        left === right
    }
}
