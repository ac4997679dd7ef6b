// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser

/// One line for wrong words on the command line, with what the user may have meant.
enum UsageMessage {
    /// The error for a first word that is no command, also after `help`; nil if there is none.
    static func unknownCommand(_ words: [String]) -> String? {
        let isHelp = words.first == "help"
        guard let word = isHelp ? words.dropFirst().first : words.first, !word.hasPrefix("-"), command(word) == nil, word != "help" else {
            return nil
        }
        let meant = nearest(to: word, among: names + ["help"]).map { ": did you mean '\($0)'?" } ?? ""
        return "there is no command '\(word)'\(meant)"
    }

    /// The parser's message on one line. The parser suggests by edit distance alone: `--net` for `--mem`.
    static func corrected(_ message: String, _ words: [String]) -> String {
        let line = message.split(whereSeparator: \.isNewline).joined(separator: " ")
        let start = "Unknown option '"
        guard line.hasPrefix(start), let end = line.dropFirst(start.count).firstIndex(of: "'") else { return line }
        let option = String(line[line.index(line.startIndex, offsetBy: start.count)..<end])
        let known = options(of: words.first.flatMap(command))
        let meant = nearest(to: option, among: known).map { ": did you mean '\($0)'?" } ?? ""
        return "Unknown option '\(option)'\(meant)"
    }

    /// The candidate that begins with the word, or else the one with the smallest edit distance, if that is small.
    static func nearest(to word: String, among candidates: [String]) -> String? {
        let bare = word.drop { $0 == "-" }
        if bare.count > 1, let longer = candidates.filter({ $0.hasPrefix(word) }).min(by: { $0.count < $1.count }) { return longer }
        let rated = candidates.map { (candidate: $0, distance: distance(word, $0)) }
        guard let best = rated.min(by: { $0.distance < $1.distance }), best.distance <= max(1, bare.count / 3) else { return nil }
        return best.candidate
    }

    private static var names: [String] {
        Symvmm.configuration.subcommands.compactMap { $0.configuration.commandName }
    }

    private static func command(_ word: String) -> (any ParsableCommand.Type)? {
        Symvmm.configuration.subcommands.first { $0.configuration.commandName == word }
    }

    /// The long options in a command's help.
    private static func options(of command: (any ParsableCommand.Type)?) -> [String] {
        let help = command.map { Symvmm.helpMessage(for: $0, columns: 200) } ?? Symvmm.helpMessage(columns: 200)
        let words = help.split { !($0.isLetter || $0.isNumber || $0 == "-") }.filter { $0.hasPrefix("--") && $0.count > 2 }
        return Set(words.map(String.init)).sorted()
    }

    /// Number of letters to insert, remove or replace, and of neighbours to exchange, to make one word of the other. Bounded words only.
    static func distance(_ left: String, _ right: String) -> Int {
        let (from, to) = (Array(left.prefix(40)), Array(right.prefix(40)))
        var rows = [Array(0...to.count)]
        for (index, letter) in from.enumerated() {
            var row = [index + 1]
            for (column, other) in to.enumerated() {
                var cost = min(rows[index][column + 1] + 1, row[column] + 1, rows[index][column] + (letter == other ? 0 : 1))
                if index > 0, column > 0, letter == to[column - 1], from[index - 1] == other {
                    cost = min(cost, rows[index - 1][column - 1] + 1)
                }
                row.append(cost)
            }
            rows.append(row)
        }
        return rows[from.count][to.count]
    }
}
