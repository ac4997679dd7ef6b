// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMBase

/// Whose API a VM's server speaks: the same resources, with other defaults, answers and texts.
package enum APIStyle: Sendable {
    /// symvmm's: Firecracker's resources with fields of its own, the statuses 404 and 405, its own texts.
    case own
    /// Firecracker's, for clients that know no other.
    case firecracker

    /// The version of Firecracker whose API the style follows.
    package static let firecrackerVersion = "1.17.0"

    /// The kernel command line of a guest whose boot source has none.
    var defaultCommandLine: String {
        switch self {
        case .own: ""
        case .firecracker:
            "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"
        }
    }

    /// Whether paths are opened when they are set, not only when the machine is built.
    var checksPathsAtOnce: Bool { self == .firecracker }

    /// The text for a request that is possible only before the start.
    var tooLate: String {
        switch self {
        case .own: VMController.tooLate.description
        case .firecracker: "The requested operation is not supported after starting the microVM."
        }
    }

    /// The text for a request that is possible only after the start.
    func tooEarly(_ own: String) -> String {
        switch self {
        case .own: own
        case .firecracker: "The requested operation is not supported before starting the microVM."
        }
    }

    /// The answer to a request whose path or method there is not; nil: the router's own.
    func unknownRoute(_ request: APIRequest, method: String) -> APIResponse? {
        guard self == .firecracker else { return nil }
        guard APIMethod(rawValue: method) != nil else { return .fault(APIError(400, "Invalid HTTP Method.")) }
        let resource = request.path.split(separator: "/").first ?? ""
        return .fault(APIError(400, "Invalid request method and/or path: \(method) \(resource)."))
    }
}
