// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMModel

/// Decoding of records that the guest wrote, which may contain anything.
@Suite struct GuestRecordTests {
    private func record(_ bytes: [UInt8]) -> GuestRecord {
        // A slice that does not start at index 0, like a record that follows others.
        GuestRecord(bytes: ([0xaa, 0xbb, 0xcc] + bytes)[3...])
    }

    private func little<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        (0..<(Value.bitWidth / 8)).map { UInt8(truncatingIfNeeded: value >> Value(8 * $0)) }
    }

    @Test func numbersBehindTheEndAreZero() {
        let record = record([1, 2, 3, 4, 5, 6])
        #expect(record.word(0) == 0x0403_0201)
        #expect(record.long(0) == 0x0605_0403_0201)
        #expect(record.word(4) == 0x0605)
        #expect(record.word(6) == 0)
        #expect(record.long(1 << 40) == 0)
        #expect(record.text(6, 16).isEmpty)
        #expect(GuestRecord(bytes: []).long(0) == 0)
    }

    /// Each task costs this process up to 2 KiB while it answers a request for the list.
    @Test func aListOfTasksIsBoundedByTheirNumber() {
        #expect(VirtualMachine.taskLimit(memoryByteCount: 16 << 20) == 1024)
        #expect(VirtualMachine.taskLimit(memoryByteCount: 1 << 30) == 32_768)
        #expect(VirtualMachine.taskLimit(memoryByteCount: 1 << 40) == 32_768)
        #expect(SymCallFailure.tooManyTasks.description.contains("32768"))
    }

    @Test func aTaskRecordIsDecodedFieldByField() {
        var bytes = little(UInt32(11)) + little(UInt32(12)) + little(UInt32(1000)) + little(UInt32(2)) + little(UInt64(77))
        bytes += Array("busybox".utf8) + [UInt8](repeating: 0, count: 9)
        bytes += little(UInt32(1)) + little(UInt32(3)) + little(UInt32(UInt8(ascii: "S"))) + little(UInt32(4))
        bytes += little(UInt64(123)) + little(UInt64(456)) + little(UInt64(0))
        #expect(bytes.count == GuestTask.recordByteCount)
        let task = GuestTask(record: record(bytes))
        #expect(
            task
                == GuestTask(
                    tgid: 11, pid: 12, name: "busybox", uid: 1000, context: nil, isKernelThread: true, parent: 1, vcpu: 3, state: "S",
                    threadCount: 4, userNanoseconds: 123, systemNanoseconds: 456))
    }

    @Test func aHostileTaskRecordGivesAHarmlessTask() {
        let task = GuestTask(record: record([UInt8](repeating: 0xff, count: 80)))
        #expect(task.tgid == .max && task.uid == .max && task.vcpu == .max && task.userNanoseconds == .max)
        #expect(task.state == "?")
        #expect(task.name.unicodeScalars.count <= 16)
        #expect(GuestTask(record: record([])).name.isEmpty)
        var bytes = [UInt8](repeating: 0, count: 80)
        bytes.replaceSubrange(24..<40, with: Array("\u{1b}[2J\u{7}\r\nevil\u{0}xyz".utf8).prefix(16))
        #expect(GuestTask(record: record(bytes)).name == "?[2J???evil")
        bytes[0x30] = 0x1b
        #expect(GuestTask(record: record(bytes)).state == "?")
    }

    @Test func aTaskOfRegistersTellsWhereTheVCPUWas() {
        func task(_ flags: UInt64) -> GuestTask {
            GuestTask(SymCallValues(5 << 32 | 6, flags << 32 | 7, 0x6261, 0, 9), vcpu: 2, fromUserMode: false)
        }
        #expect(
            task(0)
                == GuestTask(
                    tgid: 5, pid: 6, name: "ab", uid: 7, context: "kernel", isKernelThread: false, parent: nil, vcpu: 2, state: nil,
                    threadCount: nil,
                    userNanoseconds: nil, systemNanoseconds: nil))
        #expect(task(1).context == "idle")
        #expect(task(0x101).context == "hardirq")
        #expect(task(0x300).context == "hardirq")
        #expect(task(0x200).context == "softirq")
        #expect(task(0x700).context == "nmi")
        #expect(task(3).isKernelThread)
        #expect(GuestTask(SymCallValues(0, 1 << 32), vcpu: 0, fromUserMode: true).context == "user")
        let wild = GuestTask(SymCallValues(.max, .max, .max, .max, .max), vcpu: 0, fromUserMode: false)
        #expect(wild.context == "nmi" && wild.tgid == .max)
    }

    @Test func memoryIsCountedInBytesAndUnknownOnesAreLeftOut() {
        var bytes = little(UInt64(4096)) + little(UInt64(1000)) + little(UInt64.max) + little(UInt64.max / 2)
        bytes += [UInt8](repeating: 0, count: 128 - bytes.count)
        let use = GuestMemoryUse(record(bytes))
        #expect(use?.values["total"] == 4_096_000)
        #expect(use?.values["free"] == nil)
        // The number of bytes does not fit 64 bits.
        #expect(use?.values["file"] == nil)
        #expect(use?.values["swap_free"] == 0)
        #expect(use?.values.count == GuestMemoryUse.names.count - 2)
    }

    @Test(arguments: [0, 1, 4095, 65537, UInt64.max]) func aPageSizeThatCannotBeIsRefused(pageSize: UInt64) {
        #expect(GuestMemoryUse(record(little(pageSize) + [UInt8](repeating: 1, count: 120))) == nil)
    }

    @Test func aShortMemoryRecordIsRefused() {
        #expect(GuestMemoryUse(record([])) == nil)
        #expect(GuestMemoryUse(record([0])) == nil)
    }

    @Test func textIsFitForATerminal() {
        #expect(GuestText.printable(Array("plain \u{e4}\u{20ac}".utf8)) == "plain \u{e4}\u{20ac}")
        #expect(GuestText.printable([0x61, 0, 0x62]) == "a")
        #expect(GuestText.printable([0x1b, 0x9b, 0x61]) == "?\u{fffd}a")
        // The C1 control CSI in UTF-8.
        #expect(GuestText.printable([0xc2, 0x9b, 0x61]) == "?a")
        #expect(GuestText.printable([0xff, 0xfe, 0x0a]) == "\u{fffd}\u{fffd}?")
        #expect(GuestText.lines([0x61, 0x0a, 0x09, 0x0d, 0, 0x7f]) == "a\n\t???")
        for byte in UInt8.min...UInt8.max {
            let text = GuestText.lines([byte])
            #expect(text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control || $0 == "\n" || $0 == "\t" })
        }
    }

    @Test func everyErrorIsOneLine() {
        let errors: [SymCallFailure] = [
            .notOffered, .noModule, .moduleUnloading, .notArmed, .disabled, .nested, .notInLongMode, .unknown, .needsDoorbell,
            .eventInFlight,
            .exitIncomplete, .timedOut, .faulted(vector: .max, errorCode: .max, rip: .max, address: .max), .failed(code: 4),
            .failed(code: .max),
            .noResponse, .noSuchVCPU, .notRunning, .invalidResponse, .tooManyTasks,
        ]
        #expect(Set(errors.map(\.description)).count == errors.count)
        for error in errors { #expect(!error.description.isEmpty && !error.description.contains("\n")) }
    }
}
