// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GuestProgress
@testable import SymVMM

/// The service of examples/GuestProgress, in machines on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(1))) struct GuestProgressTests {
    @Test func aReportOfASymbioticGuestHasItsProcess() throws {
        let service = ProgressService()
        let puppet = try armed(services: [service])
        #expect(puppet.perform(.doorbell, 0x40) == 1)
        let reported = ProgressService.Progress(
            done: SymCallPuppet.pattern(.rcx), total: SymCallPuppet.pattern(.rbx), process: 99)
        #expect(service.progress == reported)
        #expect(puppet.counter("completed") == 1)
        #expect(puppet.machine.service(ProgressService.self) === service)
    }

    @Test func aGuestWithoutTheModuleReportsAndWrongReportsAreCounted() throws {
        let service = ProgressService()
        // mov bx, 10; mov cx, 3; mov al, 0x40; out 0xe6, al
        let report: [UInt8] = [0xbb, 10, 0, 0xb9, 3, 0, 0xb0, 0x40, 0xe6, 0xe6]
        // mov cx, 11; out 0xe6, al; mov al, 0xfe; out 0x64, al
        let wrongReportAndReset: [UInt8] = [0xb9, 11, 0, 0xe6, 0xe6, 0xb0, 0xfe, 0xe6, 0x64]
        let machine = try RealModeTests.machine(report + wrongReportAndReset, services: [service])
        try machine.start()
        #expect(machine.wait() == .reset)
        #expect(service.progress == ProgressService.Progress(done: 3, total: 10, process: nil))
        let counters = try #require(machine.exitStatistics().services.first { $0.name == "progress" }).counters
        #expect(counters.map(\.name) == ["reports", "refused"] && counters.map(\.value) == [1, 1])
    }
}
