// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

internal import VMMAPI

/// Reads a running VM's statistics over its control socket, for the command.
package final class StatisticsClient: Sendable {
    private let client: APIClient
    private let socket: String
    private let query: String

    /// Of the VM behind a control socket; the filters narrow what `report()` gives.
    package init(socket: String, client: APIClient, vcpu: Int? = nil, reason: String? = nil, device: String? = nil) {
        self.socket = socket
        self.client = client
        let filters = [("vcpu", vcpu.map { "\($0)" }), ("reason", reason), ("device", device)]
        let words = filters.compactMap { name, value in value.map { "\(name)=\(StatisticsClient.escaped($0))" } }
        query = words.isEmpty ? "" : "?" + words.joined(separator: "&")
    }

    /// The exits so far.
    package func report() throws(ControlError) -> ExitReport {
        let body = try client.perform(.get, "/exit-statistics" + query, socket: socket)
        do {
            return try JSONText.decode(ExitReport.self, from: body)
        } catch {
            throw .host("\(socket): the answer is not understood: is it another version of symvmm?")
        }
    }

    /// The exits so far; nil when the VM has ended meanwhile.
    package func reportUntilTheEnd() throws(ControlError) -> ExitReport? {
        do throws(ControlError) {
            return try report()
        } catch {
            if !ControlSocket.isAlive(socket) { return nil }
            throw error
        }
    }

    /// Lets the counts begin anew.
    package func reset() throws(ControlError) {
        _ = try client.perform(.delete, "/exit-statistics", socket: socket)
    }

    /// A value for a query: all but letters, digits and `-._` as percent signs (RFC 3986, 2.1).
    static func escaped(_ text: String) -> String {
        var escaped = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                escaped.unicodeScalars.append(Unicode.Scalar(byte))
            default: escaped += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }
        return escaped
    }
}
