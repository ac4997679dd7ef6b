// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

internal import VMMAPI

/// Reads a running VM's statistics over its control socket.
package final class StatisticsClient: Sendable {
    private let client: APIClient
    private let socket: String
    private let query: String

    /// Creates a client. The filters apply to `report()`; nil for all vCPUs, reasons or devices.
    package init(socket: String, client: APIClient, vcpu: Int? = nil, reason: String? = nil, device: String? = nil) {
        self.socket = socket
        self.client = client
        let filters = [("vcpu", vcpu.map { "\($0)" }), ("reason", reason), ("device", device)]
        let parameters = filters.compactMap { name, value in value.map { "\(name)=\(StatisticsClient.escaped($0))" } }
        query = parameters.isEmpty ? "" : "?" + parameters.joined(separator: "&")
    }

    /// The exit statistics so far.
    package func report() throws(VMMError) -> ExitReport {
        let body = try client.perform(.get, "/exit-statistics" + query, socket: socket)
        do {
            return try JSONText.decode(ExitReport.self, from: body)
        } catch {
            throw .host("\(socket): cannot decode the answer: the VM may run another version of symvmm")
        }
    }

    /// The exit statistics so far; nil if the VM has ended.
    package func reportUntilTheEnd() throws(VMMError) -> ExitReport? {
        do throws(VMMError) {
            return try report()
        } catch {
            if !ControlSocket.isAlive(socket) { return nil }
            throw error
        }
    }

    /// Whether a signal killed the VM's process.
    package var isKilled: Bool {
        ControlSocket.isLeftBehind(socket)
    }

    /// Resets all counters. The filters do not apply.
    package func reset() throws(VMMError) {
        _ = try client.perform(.delete, "/exit-statistics", socket: socket)
    }

    /// Percent-encodes a query value: all but letters, digits and `-._` (RFC 3986, 2.1).
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
