// SPDX-License-Identifier: Apache-2.0

/// Converts text from a guest so that it cannot control a terminal.
enum GuestText {
    /// Up to the first zero byte, as UTF-8, with control characters replaced by `?`.
    static func printable(_ bytes: some Collection<UInt8>) -> String {
        clean(bytes.prefix { $0 != 0 }, keeping: [])
    }

    /// All bytes, with line ends and tabs kept and other control characters replaced by `?`.
    static func lines(_ bytes: some Collection<UInt8>) -> String {
        clean(bytes, keeping: ["\n", "\t"])
    }

    private static func clean(_ bytes: some Collection<UInt8>, keeping kept: Set<UnicodeScalar>) -> String {
        var text = String.UnicodeScalarView()
        for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
            let isControl = scalar.properties.generalCategory == .control && !kept.contains(scalar)
            text.append(isControl ? "?" : scalar)
        }
        return String(text)
    }
}
