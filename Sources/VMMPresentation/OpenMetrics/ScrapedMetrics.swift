// SPDX-License-Identifier: Apache-2.0

package import VMMBase

/// The samples in the OpenMetrics text of a VM's process, which may be hostile: checked in the narrow form that `OpenMetricsExport` writes, so that no
/// text of one VM makes a monitoring system refuse or misread those of the others.
///
/// Only families that this program knows are taken, with its types and descriptions. The label `vm` is always the name under which the VM was found.
package struct ScrapedMetrics: Sendable {
    /// Most samples of a VM. A VM with 32 vCPUs and 15 devices has about 5,000.
    package static let sampleLimit = 20_000

    /// The lines of each family.
    let lines: [MetricsFamily: String]
    /// The number of families that this program does not know.
    let unknownFamilyCount: Int

    /// Checks a text.
    ///
    /// - Parameters:
    ///   - bytes: the body of the VM's answer.
    ///   - vm: the VM's name.
    /// - Throws: `VMMError` with the number of the first bad line.
    package init(_ bytes: [UInt8], vm: String) throws(VMMError) {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw .host("the answer is not UTF-8") }
        var reader = Reader(vm: vm)
        var number = 0
        var isEnded = false
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            // The rest after the last end of a line.
            if isEnded, line.isEmpty { continue }
            guard !isEnded, reader.take(line) else { throw .host("line \(number) of the answer is not one of a VM's metrics") }
            isEnded = line.elementsEqual("# EOF".utf8)
        }
        guard isEnded, reader.finishFamily() else { throw .host("the answer has no end") }
        lines = reader.lines.mapValues { String(decoding: $0, as: UTF8.self) }
        unknownFamilyCount = reader.unknownFamilyCount
    }
}

/// Takes the lines of a text one after the other.
private struct Reader {
    /// Longest label value in bytes, as it is escaped. A device's name contains an identifier of at most 255.
    private static let longestValue = 1024
    private static let longestName = 64
    private static let mostLabels = 8

    let vm: String
    private(set) var lines: [MetricsFamily: [UInt8]] = [:]
    private(set) var unknownFamilyCount = 0

    private var sampleCount = 0
    private var family: MetricsFamily?
    private var seen: Set<[UInt8]> = []
    private var histogram: HistogramCheck?

    private static let families = Dictionary(uniqueKeysWithValues: MetricsFamily.all.map { (Array($0.name.utf8), $0) })

    init(vm: String) {
        self.vm = vm
    }

    /// Takes a line. False if it is not valid.
    mutating func take(_ line: ArraySlice<UInt8>) -> Bool {
        if line.starts(with: "# TYPE ".utf8) { return begin(line.dropFirst(7)) }
        if line.first == UInt8(ascii: "#") { return true }
        // A sample of a family that this program does not know.
        guard let family else { return unknownFamilyCount > 0 }
        return takeSample(of: family, line)
    }

    /// Begins a family.
    private mutating func begin(_ text: ArraySlice<UInt8>) -> Bool {
        guard finishFamily() else { return false }
        let words = text.split(separator: UInt8(ascii: " "))
        guard words.count == 2 else { return false }
        family = Reader.families[Array(words[0])]
        guard let family else {
            unknownFamilyCount += 1
            return true
        }
        guard words[1].elementsEqual(family.kind.rawValue.utf8), lines[family] == nil else { return false }
        lines[family] = []
        return true
    }

    /// Whether the present family may end here.
    mutating func finishFamily() -> Bool {
        seen = []
        return histogram == nil
    }

    private mutating func takeSample(of family: MetricsFamily, _ line: ArraySlice<UInt8>) -> Bool {
        var rest = line
        guard rest.starts(with: family.name.utf8) else { return false }
        rest = rest.dropFirst(family.name.utf8.count)
        let suffix = rest.prefix { $0 != UInt8(ascii: "{") }
        rest = rest.dropFirst(suffix.count + 1)
        guard var labels = Reader.labels(&rest), rest.first == UInt8(ascii: " ") else { return false }
        let value = rest.dropFirst()
        labels.removeAll { $0.name.elementsEqual("vm".utf8) }
        guard Reader.isNumber(value), fits(family, suffix, labels, value) else { return false }
        sampleCount += 1
        let names = labels.map { Array($0.name) }
        guard sampleCount <= ScrapedMetrics.sampleLimit, Set(names).count == names.count else { return false }
        guard seen.insert(Reader.joined([Reader.Label(suffix, [])] + labels)).inserted else { return false }
        let all = [Reader.Label(Array("vm".utf8)[...], Array(OpenMetricsText.escaped(vm).utf8)[...])] + labels
        let text = all.map { Array($0.name) + Array("=\"".utf8) + Array($0.value) + [UInt8(ascii: "\"")] }
        lines[family, default: []] +=
            Array(family.name.utf8) + Array(suffix) + [UInt8(ascii: "{")] + Array(text.joined(separator: [UInt8(ascii: ",")]))
            + Array("} ".utf8) + Array(value) + [UInt8(ascii: "\n")]
        return true
    }

    /// Whether suffix, labels and value are possible in a family of this type.
    private mutating func fits(_ family: MetricsFamily, _ suffix: ArraySlice<UInt8>, _ labels: [Label], _ value: ArraySlice<UInt8>) -> Bool
    {
        guard family.kind == .histogram else {
            guard suffix.elementsEqual(family.suffix.utf8), !labels.contains(where: { $0.name.elementsEqual("le".utf8) }) else {
                return false
            }
            switch family.kind {
            case .info: return value.elementsEqual("1".utf8)
            case .stateset:
                return ["0", "1"].contains { value.elementsEqual($0.utf8) } && labels.contains { $0.name.elementsEqual(family.name.utf8) }
            case .counter, .gauge, .histogram, .unknown: return true
            }
        }
        let own = Reader.joined(labels.filter { !$0.name.elementsEqual("le".utf8) })
        let bound = labels.first { $0.name.elementsEqual("le".utf8) }?.value
        let text = String(decoding: value, as: UTF8.self)
        if suffix.elementsEqual("_bucket".utf8) {
            guard let bound, let count = UInt64(text) else { return false }
            if histogram == nil { histogram = HistogramCheck(labels: own) }
            return histogram?.takeBucket(own, String(decoding: bound, as: UTF8.self), count) == true
        }
        guard bound == nil, let check = histogram, check.labels == own else { return false }
        if suffix.elementsEqual("_count".utf8) {
            histogram?.hasCount = true
            return !check.hasCount && check.total != nil && check.total == UInt64(text)
        }
        histogram = nil
        return suffix.elementsEqual("_sum".utf8) && check.hasCount
    }

    /// Labels in an order of their own, as a key.
    private static func joined(_ labels: [Label]) -> [UInt8] {
        let texts = labels.map { Array($0.name) + [UInt8(ascii: "=")] + Array($0.value) }
        return Array(texts.sorted { $0.lexicographicallyPrecedes($1) }.joined(separator: [UInt8(ascii: "\n")]))
    }
}

/// The order of a histogram's samples: buckets with rising bounds and counts, the last of them infinite, count, sum.
private struct HistogramCheck {
    let labels: [UInt8]
    /// The count of the infinite bucket.
    private(set) var total: UInt64?
    var hasCount = false
    private var bound = -1.0
    private var count: UInt64 = 0

    init(labels: [UInt8]) {
        self.labels = labels
    }

    mutating func takeBucket(_ labels: [UInt8], _ text: String, _ next: UInt64) -> Bool {
        guard labels == self.labels, total == nil, next >= count else { return false }
        count = next
        if text == "+Inf" {
            total = next
            return true
        }
        // Not the words that Double accepts, such as "nan".
        guard text.utf8.allSatisfy({ "0123456789.e-".utf8.contains($0) }), let value = Double(text), value.isFinite, value > bound else {
            return false
        }
        bound = value
        return true
    }
}

extension Reader {
    /// A label with its value as it is escaped in the text.
    struct Label {
        let name: ArraySlice<UInt8>
        let value: ArraySlice<UInt8>

        init(_ name: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>) {
            self.name = name
            self.value = value
        }
    }

    /// Takes labels and the closing brace from the text; nil if they are not valid.
    private static func labels(_ text: inout ArraySlice<UInt8>) -> [Label]? {
        var labels: [Label] = []
        while text.first != UInt8(ascii: "}") {
            if !labels.isEmpty, text.popFirst() != UInt8(ascii: ",") { return nil }
            let name = text.prefix { $0 != UInt8(ascii: "=") }
            text = text.dropFirst(name.count)
            guard labels.count < mostLabels, isName(name), text.popFirst() == UInt8(ascii: "="), text.popFirst() == UInt8(ascii: "\"")
            else {
                return nil
            }
            guard let value = value(&text) else { return nil }
            labels.append(Label(name, value))
        }
        text = text.dropFirst()
        return labels
    }

    /// Letters, digits and underscores. Names that begin with two underscores are Prometheus' own.
    private static func isName(_ name: ArraySlice<UInt8>) -> Bool {
        guard let first = name.first, name.count <= longestName, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
            return false
        }
        return !name.starts(with: "__".utf8)
            && name.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }

    /// Takes a label's value and its closing quote.
    private static func value(_ text: inout ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        var index = text.startIndex
        while index < text.endIndex, text[index] != UInt8(ascii: "\"") {
            switch text[index] {
            case UInt8(ascii: "\\"):
                index += 1
                guard index < text.endIndex, "\\\"n".utf8.contains(text[index]) else { return nil }
            case 0..<0x20, 0x7f: return nil
            // The control characters U+0080 to U+009F.
            case 0xc2 where index + 1 < text.endIndex && text[index + 1] < 0xa0: return nil
            default: break
            }
            index += 1
        }
        guard index < text.endIndex, index - text.startIndex <= longestValue else { return nil }
        defer { text = text[(index + 1)...] }
        return text[..<index]
    }

    /// Digits, and perhaps a point and digits: no sign, exponent, infinity, time stamp or exemplar.
    private static func isNumber(_ text: ArraySlice<UInt8>) -> Bool {
        let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return text.count <= 40 && parts.count <= 2
            && parts.allSatisfy { part in !part.isEmpty && part.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } }
    }
}
