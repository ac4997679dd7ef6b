// SPDX-License-Identifier: Apache-2.0

/// A kernel command line.
package struct GuestCommandLine {
    /// The longest command line that every x86 kernel takes: COMMAND_LINE_SIZE without the zero byte.
    static let longest = 2047

    /// The line as the kernel gets it.
    package let text: String
    private let words: [(name: String, value: String?)]

    /// Splits a line as the kernel does (lib/cmdline.c, next_arg): white space between quotes separates nothing. What follows `--` is for init.
    package init(_ text: String) {
        self.text = text
        var words: [(name: String, value: String?)] = []
        for word in GuestCommandLine.split(text) {
            var word = word[...]
            if word == "--" { break }
            if word.hasPrefix("\"") { word = word.dropFirst() }
            guard let equals = word.firstIndex(of: "=") else {
                words.append((String(word), nil))
                continue
            }
            var value = word[word.index(after: equals)...]
            if value.hasPrefix("\"") { value = value.dropFirst() }
            if value.hasSuffix("\"") { value = value.dropLast() }
            words.append((String(word[..<equals]), String(value)))
        }
        self.words = words
    }

    /// The value of the last parameter of this name; nil if there is none with a value.
    package func value(of name: String) -> String? {
        words.last { $0.name == name && $0.value != nil }?.value
    }

    /// The line with a parameter in front. In front, because `rdinit=` makes the kernel forget the arguments for init that stand before it.
    package func prefixed(by parameter: String) -> String {
        text.isEmpty ? parameter : "\(parameter) \(text)"
    }

    private static func split(_ text: String) -> [String] {
        var words: [String] = []
        var word: [UInt8] = []
        var isQuoted = false
        for byte in text.utf8 {
            // isspace() of Linux, without its 0xa0, which is part of a character in UTF-8.
            if !isQuoted, byte == 0x20 || (0x09...0x0D).contains(byte) {
                if !word.isEmpty { words.append(String(decoding: word, as: UTF8.self)) }
                word = []
                continue
            }
            if byte == UInt8(ascii: "\"") { isQuoted.toggle() }
            word.append(byte)
        }
        if !word.isEmpty { words.append(String(decoding: word, as: UTF8.self)) }
        return words
    }
}
