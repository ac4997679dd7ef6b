// SPDX-License-Identifier: Apache-2.0

import CKVM
import Testing

@testable import SymVMM
@testable import VMMAPI
@testable import VMMModel
@testable import VMMPresentation

@Suite struct ControlReportTests {
    private func latency(_ values: [UInt64]) -> LatencySummary {
        LatencySummary(
            total: values.reduce(0, +), minimum: values.min() ?? 0, maximum: values.max() ?? 0,
            buckets: values.sorted().map { .init(upperBound: $0, count: 1) })
    }

    private var report: ExitReport {
        ExitReport(
            name: "vm", uptimeNanoseconds: 2_500_000_000,
            exits: [
                .init(vcpu: 0, reason: "pio_write", device: "serial", address: 0x3f8, latency: latency([1000, 2000, 3000])),
                .init(vcpu: 0, reason: "interrupted", device: "", address: nil, latency: latency([500])),
                .init(vcpu: 1, reason: "pio_write", device: "serial", address: 0x3f8, latency: latency([5000])),
                .init(vcpu: 1, reason: "mmio_read", device: "virtio-blk.root", address: 0xd000_0070, latency: latency([700])),
            ],
            vcpus: [
                .init(
                    vcpu: 0, exitCount: 4, guestNanoseconds: 1_000_000, vmmNanoseconds: 6500,
                    kernel: ["exits": 104, "halt_exits": 7, "guest_mode": 1]),
                .init(vcpu: 1, exitCount: 2, guestNanoseconds: 2_000_000, vmmNanoseconds: 5700, kernel: ["exits": 12]),
            ])
    }

    @Test func theTableAddsUpTheVCPUs() {
        let lines = report.table().split(separator: "\n").map(String.init)
        #expect(lines[0] == "vm: 6 exits to user space in 2.50s")
        #expect(lines[1] == "REASON       DEVICE           ADDRESS     COUNT  TIME%    MEAN     P50     P99     MAX")
        #expect(lines[2] == "pio_write    serial           0x3f8           4   90.2  2.75us  2.00us  5.00us  5.00us")
        #expect(lines[3] == "mmio_read    virtio-blk.root  0xd0000070      1    5.7   700ns   700ns   700ns   700ns")
        #expect(lines[4] == "interrupted                                   1    4.1   500ns   500ns   500ns   500ns")
        #expect(lines[5] == "VCPU  EXITS  GUEST TIME  VMM TIME  VMM%  KVM EXITS  IN-KERNEL")
        #expect(lines[6] == "   0      4      1.00ms    6.50us   0.6        104        100")
        #expect(lines[9] == "exits              116")
        #expect(lines[10] == "halt_exits           7")
        #expect(lines[11].hasPrefix("Not in the first table: 110 exits"))
    }

    @Test func theTableHasARowForEachVCPUWhenAsked() {
        let lines = report.table(by: .vcpu).split(separator: "\n").map(String.init)
        #expect(lines[1].hasPrefix("VCPU  REASON"))
        #expect(lines.filter { $0.contains("pio_write") }.count == 2)
    }

    @Test func whatDoesNotFitIsSummedUp() {
        let lines = report.table(rowLimit: 1).split(separator: "\n").map(String.init)
        #expect(lines[3].hasPrefix("(2 more)"))
        #expect(lines[3].contains("9.8"))
    }

    @Test func withoutKernelCountersThatIsSaid() {
        let bare = ExitReport(
            name: "vm", uptimeNanoseconds: 1, exits: [],
            vcpus: [.init(vcpu: 0, exitCount: 0, guestNanoseconds: 0, vmmNanoseconds: 0, kernel: [:])])
        #expect(bare.table().contains("This kernel does not count them"))
        #expect(!bare.table().contains("KVM COUNTER"))
    }

    @Test func jsonKeepsEverything() throws {
        let bytes = try JSONText.encode(report)
        #expect(try JSONText.decode(ExitReport.self, from: bytes) == report)
        let text = String(decoding: bytes, as: UTF8.self)
        for name in [
            "\"version\":1", "uptime_ns", "total_ns", "minimum_ns", "maximum_ns", "mean_ns", "p50_ns", "p99_ns", "up_to_ns", "guest_ns",
            "vmm_ns",
        ] {
            #expect(text.contains(name))
        }
        #expect(try JSONText.encode(report) == bytes)
    }

    @Test func partsSumToTheWhole() {
        #expect(report.exitCount == 6)
        #expect(report.aggregated().exitCount == 6)
        #expect(report.vcpus.reduce(0) { $0 + $1.exitCount } == 6)
    }

    @Test(arguments: [
        (0, "0ns"), (999, "999ns"), (1000, "1.00us"), (9994, "9.99us"), (9996, "10.0us"), (13_240, "13.2us"), (999_499, "999us"),
        (999_500, "1.00ms"), (4_060_000, "4.06ms"), (999_500_000, "1.00s"), (99_000_000_000, "99.0s"), (123_000_000_000, "2m03s"),
        (11_040_000_000_000, "3h04m"), (.max, "5124095h34m"),
    ])
    func durationsAreReadable(nanoseconds: UInt64, text: String) {
        #expect(Format.duration(nanoseconds) == text)
    }

    @Test func countsAndSharesAreReadable() {
        #expect(Format.count(0) == "0")
        #expect(Format.count(999) == "999")
        #expect(Format.count(1_234_567) == "1,234,567")
        #expect(Format.percent(1, of: 3) == "33.3")
        #expect(Format.percent(1, of: 0) == "0.0")
        #expect(Format.percent(5, of: 5) == "100.0")
    }

    @Test func wordsOfOthersDoNotSteerTheTerminal() {
        var table = TextTable([.text("A")])
        table.add(["x\u{1b}[2Jy\n"])
        #expect(table.text == "A\nx?[2Jy?\n")
    }

    @Test func aCrashIsToldWithRegisters() {
        let crash = CrashReport(reason: "triple fault", vcpu: 1, registers: [("rip", 0x1000), ("rsp", 1), ("rax", .max), ("cr3", 2)])
        #expect(
            crash.text(of: "vm") == """
                symvmm: vm: the guest crashed on vCPU 1: triple fault
                     rip 0000000000001000     rsp 0000000000000001     rax ffffffffffffffff
                     cr3 0000000000000002
                """)
    }

    @Test func theHostReportDrawsConclusions() {
        let all = [
            HostReport.Capability(name: "IRQFD", isNeeded: true, value: 1, purpose: ""),
            HostReport.Capability(name: "X86_USER_SPACE_MSR", isNeeded: false, isNeededBySymbiosis: true, value: 1, purpose: ""),
        ]
        func report(_ problem: String?, _ capabilities: [HostReport.Capability], _ hardware: String?) -> HostReport {
            HostReport(
                kvmProblem: problem, capabilities: capabilities, hardwareVirtualization: hardware, tapDevices: true, memory: 1000,
                available: 900)
        }
        let good = report(nil, all, "svm")
        #expect(good.linuxGuests && good.symbioticGuests && good.advice.isEmpty)
        let software = report(nil, all, nil)
        #expect(!software.linuxGuests && software.advice.contains { $0.contains("scripts/lab") })
        let absent = report("open /dev/kvm: No such file or directory", [], "vmx")
        #expect(!absent.linuxGuests && absent.kvmAPIVersion == nil && absent.advice.count == 1)
        let old = report(nil, [.init(name: "IRQFD", isNeeded: true, value: 0, purpose: "")], "svm")
        #expect(!old.linuxGuests && old.advice[0].contains("IRQFD"))
        let plain = report(
            nil, [all[0], .init(name: "X86_MSR_FILTER", isNeeded: false, isNeededBySymbiosis: true, value: 0, purpose: "")], "svm")
        #expect(plain.linuxGuests && !plain.symbioticGuests)
        // The symbiotic interface needs three register sets of this capability.
        let part = HostReport.Capability(
            name: "SYNC_REGS", isNeeded: false, isNeededBySymbiosis: true, value: 1, isEnough: false, purpose: "")
        #expect(!report(nil, all + [part], "svm").symbioticGuests)
        #expect(HostReport.examine(kvmPath: "/nonexistent/kvm").kvmProblem?.contains("load kvm_intel or kvm_amd") == true)
    }
}
