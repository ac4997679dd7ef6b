// SPDX-License-Identifier: Apache-2.0

package import VMMModel

internal import Glibc
internal import VMMAPI
internal import VMMBase

/// The report's tables about the VM and the host.
package enum ReportFacts {
    /// Flattens a JSON text to names and values: `machine-config.vcpu_count`, `4`. Empty for invalid JSON.
    package static func rows(ofJSON bytes: [UInt8]) -> [(name: String, value: String)] {
        guard let value = try? JSONValue(parsing: bytes, from: "") else { return [] }
        return flatten("", value)
    }

    private static func flatten(_ name: String, _ value: JSONValue) -> [(name: String, value: String)] {
        switch value {
        case .object(let fields):
            fields.sorted { $0.key < $1.key }.flatMap { flatten(name.isEmpty ? $0.key : "\(name).\($0.key)", $0.value) }
        case .array(let elements): elements.enumerated().flatMap { flatten("\(name)[\($0)]", $1) }
        case .string(let text): [(name, text)]
        case .integer(let number): [(name, "\(number)")]
        case .number(let number): [(name, "\(number)")]
        case .boolean(let flag): [(name, "\(flag)")]
        case .null: []
        }
    }

    /// Names and values that describe the current host, and the time.
    package static func host(_ report: HostReport) -> [(name: String, value: String)] {
        var rows: [(name: String, value: String)] = [
            ("time", utcNow()), ("symvmm", SymVMMVersion.current), ("kernel", kernel()), ("processor", processor()),
            ("processors", "\(sysconf(Int32(_SC_NPROCESSORS_ONLN)))"),
            ("hardware virtualization", report.hardwareVirtualization ?? "none"), ("memory", "\(report.memoryMebibytes) MiB"),
        ]
        for capability in report.capabilities where !capability.isEnough { rows.append(("KVM lacks", capability.name)) }
        return rows
    }

    private static func utcNow() -> String {
        var now = time(nil)
        // SAFETY: the call reads and writes only the variables; only numbers of the parts are used.
        var parts = unsafe tm()
        _ = unsafe gmtime_r(&now, &parts)
        let numbers = unsafe [parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min]
        let digits = numbers.map { $0 < 10 ? "0\($0)" : "\($0)" }
        return "\(digits[0])-\(digits[1])-\(digits[2]) \(digits[3]):\(digits[4]) UTC"
    }

    private static func kernel() -> String {
        text(of: "/proc/sys/kernel/osrelease").trimmed
    }

    private static func processor() -> String {
        let line = text(of: "/proc/cpuinfo").split(separator: "\n").first { $0.hasPrefix("model name") }
        return line?.split(separator: ":", maxSplits: 1).last.map { String($0).trimmed } ?? "unknown"
    }

    private static func text(of path: String) -> String {
        String(decoding: (try? SmallFile.read(path, atMost: 4 << 20)) ?? [], as: UTF8.self)
    }
}

extension String {
    /// The text without leading and trailing white space.
    var trimmed: String {
        var text = self[...]
        while let first = text.first, first.isWhitespace { text.removeFirst() }
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return String(text)
    }
}
