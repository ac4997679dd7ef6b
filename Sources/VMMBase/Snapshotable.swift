// SPDX-License-Identifier: Apache-2.0

/// A part of a machine that can save its state, and restore the state of a part with the same configuration.
///
/// Call both methods only while no vCPU and no thread of the part runs. A state may come from an untrusted file, so `restoreState` checks
/// every number before it uses one, and throws an error of one line. After an error, the part must not be used.
public protocol Snapshotable {
    /// The saved values.
    associatedtype State: Codable & Sendable
    /// Name of the kind of state, in files and in messages: `serial`.
    static var stateKind: String { get }
    /// Version of the state's format. Increment it when `restoreState` can no longer restore a state of the previous version.
    static var stateVersion: Int { get }

    /// Returns the part's state.
    func saveState() throws(VMMError) -> State
    /// Checks a state and adopts it.
    ///
    /// - Throws: `VMMError` if the state is invalid, or does not match the part's configuration.
    func restoreState(_ state: State) throws(VMMError)
}

extension Snapshotable {
    /// The first version.
    public static var stateVersion: Int { 1 }
}

/// The state of a part that has none.
public struct NoState: Codable, Sendable, Equatable {
    /// Creates an empty state.
    public init() {
    }
}

/// The state of one part, with the name and the version of its kind. A machine's state consists of these.
///
/// A decoder needs the possible kinds: `StateKinds`.
public struct SavedState: Codable, Sendable {
    /// `Snapshotable.stateKind`
    public let kind: String
    /// `Snapshotable.stateVersion`
    public let version: Int
    private let state: any Codable & Sendable

    /// Saves a part.
    public init<Part: Snapshotable>(of part: Part) throws(VMMError) {
        kind = Part.stateKind
        version = Part.stateVersion
        state = try part.saveState()
    }

    /// Restores a part of the same kind and version.
    public func restore<Part: Snapshotable>(to part: Part) throws(VMMError) {
        guard kind == Part.stateKind else { throw .user("the state has kind '\(kind)', not '\(Part.stateKind)'") }
        guard version == Part.stateVersion, let state = state as? Part.State else {
            throw .user("the state of kind '\(kind)' has version \(version); this symvmm supports version \(Part.stateVersion)")
        }
        try part.restoreState(state)
    }

    private enum CodingKeys: CodingKey {
        case kind, version, state
    }

    /// Decodes a state. Its kind must be one of `StateKinds` in the decoder's `userInfo`, under `StateKinds.key`.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        kind = try values.decode(String.self, forKey: .kind)
        version = try values.decode(Int.self, forKey: .version)
        let kinds = StateKinds.key.flatMap { decoder.userInfo[$0] as? StateKinds }
        guard let known = kinds?.kinds[kind] else {
            throw DecodingError.dataCorruptedError(forKey: .kind, in: values, debugDescription: "the machine has no part of kind '\(kind)'")
        }
        guard known.version == version else {
            throw DecodingError.dataCorruptedError(
                forKey: .version, in: values,
                debugDescription: "the state of kind '\(kind)' has version \(version); this symvmm supports version \(known.version)")
        }
        state = try known.decode(values.superDecoder(forKey: .state))
    }

    /// Encodes kind, version and state.
    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(kind, forKey: .kind)
        try values.encode(version, forKey: .version)
        try values.encode(state, forKey: .state)
    }
}

/// The kinds of state that a decoder accepts.
public struct StateKinds: Sendable {
    /// The key of the kinds in a decoder's `userInfo`. Never nil, although the standard library's initializer is failable.
    public static let key = CodingUserInfoKey(rawValue: "symvmm.state-kinds")

    fileprivate struct Kind: Sendable {
        let version: Int
        let decode: @Sendable (any Decoder) throws -> any Codable & Sendable
    }

    fileprivate var kinds: [String: Kind] = [:]

    /// Creates an empty set.
    public init() {
    }

    /// Adds the kind of a part's state.
    public mutating func add<Part: Snapshotable>(_ part: Part) {
        kinds[Part.stateKind] = StateKinds.kind(Part.State.self, Part.stateVersion)
    }

    private static func kind<State: Codable & Sendable>(_ type: State.Type, _ version: Int) -> Kind {
        Kind(version: version) { decoder in try State(from: decoder) }
    }
}
