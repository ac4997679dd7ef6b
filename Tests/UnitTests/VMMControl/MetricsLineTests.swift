// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel
@testable import VMMPresentation

/// A temporary folder for a file or FIFO.
private final class Folder {
    let path: String

    init() {
        var template = Array("/tmp/symvmm-lines.XXXXXX\0".utf8CString)
        path = unsafe String(cString: mkdtemp(&template))
    }

    deinit {
        for name in ["lines", "fifo"] { unsafe unlink("\(path)/\(name)") }
        unsafe rmdir(path)
    }

    func fifo() -> String {
        let path = "\(self.path)/fifo"
        #expect(unsafe mkfifo(path, 0o600) == 0)
        _ = signal(SIGPIPE, SIG_IGN)
        return path
    }
}

@Suite(.serialized) struct MetricsLineTests {
    private let folder = Folder()

    private func read(_ file: borrowing OwnedFileDescriptor) -> String {
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe Glibc.read(file.rawValue, &buffer, buffer.count)
            guard count > 0 else { return String(decoding: text, as: UTF8.self) }
            text += buffer.prefix(count)
        }
    }

    @Test func linesGoToTheEndOfAFile() throws {
        let path = "\(folder.path)/lines"
        try SmallFile.write(path, Array("old\n".utf8))
        var output = try LineOutput(path: path)
        #expect(try output.write(Array("new\n".utf8)))
        #expect(try String(decoding: SmallFile.read(path, atMost: 100), as: UTF8.self) == "old\nnew\n")
    }

    @Test func whatCannotBeWrittenIsSaid() {
        #expect(throws: VMMError.self) { _ = try LineOutput(path: folder.path) }
        #expect(throws: VMMError.self) { _ = try LineOutput(path: "/nonexistent/lines") }
    }

    @Test func aFIFOWithoutAReaderTakesNothingAndHoldsNobodyUp() throws {
        let path = folder.fifo()
        var output = try LineOutput(path: path)
        #expect(try !output.write(Array("lost\n".utf8)))
        do {
            let reader = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
            #expect(try output.write(Array("one\n".utf8)))
            #expect(read(reader) == "one\n")
        }
        #expect(try !output.write(Array("gone\n".utf8)))
        let reader = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        #expect(try output.write(Array("two\n".utf8)))
        #expect(read(reader) == "two\n")
    }

    /// A FIFO whose reader does not read: the FIFO contains only whole lines.
    @Test func aFullFIFOLosesWholeLinesOnly() throws {
        let path = folder.fifo()
        let reader = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        var output = try LineOutput(path: path)
        var taken: [String] = []
        for number in 0..<40 {
            let line = "\(number) " + String(repeating: "x", count: 10_000) + "\n"
            if try output.write(Array(line.utf8)) { taken.append(line) }
        }
        #expect((5...20).contains(taken.count))
        var text = read(reader)
        let last = "last\n"
        #expect(try output.write(Array(last.utf8)))
        text += read(reader)
        #expect(text == taken.joined() + last)
    }

    /// Only root can mount.
    @Test(.enabled(if: geteuid() == 0)) func aFullDiskLosesWholeLinesOnly() throws {
        try #require(unsafe mount("tmpfs", folder.path, "tmpfs", 0, "size=8k") == 0, "mount: \(errno)")
        defer { _ = unsafe umount2(folder.path, Int32(2)) }
        var output = try LineOutput(path: "\(folder.path)/lines")
        let line = [UInt8](repeating: UInt8(ascii: "a"), count: 4999) + [10]
        #expect(try output.write(line))
        // The first line is partly written, which counts as written. Nothing of the next one is written.
        #expect(try output.write(line))
        #expect(throws: VMMError.self) { _ = try output.write(line) }
        unsafe truncate("\(folder.path)/lines", 0)
        #expect(try output.write([UInt8(ascii: "b"), 10]))
        let text = read(try OwnedFileDescriptor.open("\(folder.path)/lines", O_RDONLY))
        #expect(text.hasSuffix("a\nb\n") && text.split(separator: "\n").count == 2)
    }

    @Test func aLineHasFirecrackersNames() throws {
        let latency = LatencySummary(total: 9000, minimum: 2000, maximum: 7000, buckets: [.init(upperBound: 7000, count: 2)])
        let report = ExitReport(
            name: "vm", uptimeNanoseconds: 5_000_000, resetNanoseconds: 2_000_000,
            exits: [.init(vcpu: 0, reason: "pio_write", device: "serial", address: 0x3f8, latency: latency)],
            vcpus: [.init(vcpu: 0, exitCount: 2, guestNanoseconds: 4000, vmmNanoseconds: 9000, kernel: ["exits": 3, "guest_mode": 1])],
            devices: [
                .init(
                    name: "virtio-blk.a",
                    counters: ["reads": 1, "written_bytes": 512, "unsupported_requests": 2, "refused_requests": 3]),
                .init(name: "virtio-blk.b", counters: ["reads": 4]), .init(name: "virtio-rng", counters: ["bytes": 64]),
            ])
        let bytes = try JSONText.encode(MetricsLine.object(report, state: .running, milliseconds: 77, missed: 1))
        let line = try JSONValue(parsing: bytes, from: "the line")
        func value(_ path: String...) -> JSONValue? {
            path.reduce(line) { value, name in
                guard case .object(let fields)? = value else { return nil }
                return fields[name]
            }
        }
        #expect(!bytes.contains(UInt8(ascii: "\n")))
        #expect(value("utc_timestamp_ms") == .integer(77))
        #expect(value("vcpu", "exit_io_out") == .integer(2))
        #expect(value("vcpu", "exit_io_out_agg") == .object(["min_us": .integer(2), "max_us": .integer(7), "sum_us": .integer(9)]))
        #expect(value("vcpu", "exit_mmio_read") == .integer(0))
        #expect(value("block_a", "read_count") == .integer(1))
        #expect(value("block_a", "invalid_reqs_count") == .integer(5))
        #expect(value("block", "read_count") == .integer(5))
        #expect(value("block", "write_bytes") == .integer(512))
        #expect(value("entropy", "entropy_bytes") == .integer(64))
        #expect(value("symvmm", "interval_ms") == .integer(3))
        #expect(value("symvmm", "missed_lines") == .integer(1))
        #expect(value("symvmm", "kvm") == .object(["exits": .integer(3)]))
    }

    /// Numbers are those of the interval. The next line includes the numbers of a dropped line.
    @Test func whatIsMissedIsInTheNextLine() throws {
        let path = folder.fifo()
        let machine = CountingMachine()
        let writer = try MetricsWriter(MetricsConfiguration(path: path), interval: 3600) { machine }
        #expect(throws: VMMError.self) { try writer.flush() }
        let reader = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        try writer.flush()
        try writer.flush()
        writer.stop()
        writer.stop()
        let counts = try read(reader).split(separator: "\n").map { line in
            struct Line: Decodable {
                struct Own: Decodable {
                    let exitCount: UInt64
                    let missedLines: UInt64

                    enum CodingKeys: String, CodingKey {
                        case exitCount = "exit_count"
                        case missedLines = "missed_lines"
                    }
                }
                let symvmm: Own
            }
            let own = try JSONText.decode(Line.self, from: Array(line.utf8)).symvmm
            return [own.exitCount, own.missedLines]
        }
        // Each report has one more exit than the one before; the first line was dropped.
        #expect(counts == [[2, 1], [1, 0], [1, 0]])
    }

    @Test func linesComeAtTheInterval() throws {
        let path = "\(folder.path)/lines"
        let machine = CountingMachine()
        let writer = try MetricsWriter(MetricsConfiguration(path: path), interval: 0.02) { machine }
        usleep(500_000)
        writer.stop()
        let lines = try SmallFile.read(path, atMost: 1 << 20).count { $0 == UInt8(ascii: "\n") }
        #expect((5...27).contains(lines))
    }
}

/// A machine with one more exit in each report.
private final class CountingMachine: MachineControl, @unchecked Sendable {
    let configuration = MachineConfiguration(name: "counting", kernelPath: "k")
    let state = MachineState.running
    private var count: UInt64 = 0

    func start() throws(VMMError) {}
    func receive(_ byte: UInt8) -> Bool { true }
    func replaceFile(ofDrive id: String, with path: String) throws(VMMError) {}
    func pause() -> Bool { false }
    func resume() -> Bool { false }
    func requestPowerOff() -> Bool { true }
    func kill() {}
    func wait() -> TerminationReason { .powerOff }

    func exitStatistics() -> ExitStatistics {
        count += 1
        let latency = LatencySummary(total: count * 10, minimum: 10, maximum: 10, buckets: [.init(upperBound: 10, count: count)])
        return ExitStatistics(
            uptimeNanoseconds: count * 1_000_000,
            rows: [.init(vcpu: 0, reason: .halt, device: "", address: nil, latency: latency)], vcpus: [])
    }
}
