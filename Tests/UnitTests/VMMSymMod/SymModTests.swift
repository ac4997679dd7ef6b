// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMSymMod

/// What a machine gets with `--symbiotic auto` and `require`.
@Suite struct SymModTests {
    private let folder: TemporaryFolder
    private let kernel: TemporaryFile
    private let store: ModuleStore

    init() throws {
        folder = try TemporaryFolder()
        kernel = try TemporaryFile(SymModFiles.kernel())
        store = ModuleStore(path: "\(folder.path)/modules")
    }

    private func machine(_ commandLine: String = "console=ttyS0", initrd: String? = "/initrd.img", kernel: String? = nil)
        -> MachineConfiguration
    {
        var machine = MachineConfiguration(name: "a", kernelPath: kernel ?? self.kernel.path)
        machine.commandLine = commandLine
        machine.initrdPath = initrd
        return machine
    }

    private func prepare(
        _ machine: MachineConfiguration, isRequired: Bool = false, firstProcess: [UInt8]? = [1]
    ) throws(VMMError) -> SymMod.Preparation {
        try SymMod.prepare(machine, isRequired: isRequired, stores: [store], firstProcess: firstProcess)
    }

    @Test func theGuestGetsTheModuleOfItsKernel() throws {
        let module = try store.add(SymModFiles.module(), path: "m.ko")
        let before = machine("console=ttyS0 single")
        let prepared = try prepare(before)
        #expect(prepared.bringsModule && prepared.line == "the guest gets \(module.path)")
        #expect(prepared.machine.commandLine == "rdinit=/.symvmm/init console=ttyS0 single")
        #expect(prepared.machine.initramfsSegment == InitramfsSegment.bringing(module: module.bytes, firstProcess: [1]))
        var rest = prepared.machine
        rest.commandLine = before.commandLine
        rest.initramfsSegment = []
        #expect(rest == before)
    }

    /// Without the module, `auto` changes nothing and says why in one line; `require` fails with the same reason.
    private func expectNone(_ machine: MachineConfiguration, _ reason: String, firstProcess: [UInt8]? = [1]) throws {
        let prepared = try prepare(machine, firstProcess: firstProcess)
        #expect(!prepared.bringsModule && prepared.machine == machine)
        #expect(prepared.line.hasPrefix("the guest gets no module: ") && prepared.line.contains(reason), "\(prepared.line)")
        #expect(!prepared.line.contains("\n"))
        do throws(VMMError) {
            _ = try prepare(machine, isRequired: true, firstProcess: firstProcess)
            Issue.record("no error: \(reason)")
        } catch {
            #expect(error.description.hasPrefix("--symbiotic require: ") && error.description.contains(reason), "\(error)")
        }
    }

    @Test func withoutAModuleTheGuestIsAsItWas() throws {
        try expectNone(machine(), "no symbiotic.ko for Linux \(SymModFiles.release)")
        _ = try store.add(SymModFiles.module(release: "6.1.0-58-cloud-amd64"), path: "m.ko")
        try expectNone(machine(), "no symbiotic.ko for Linux \(SymModFiles.release)")
    }

    @Test func aModuleThatIsTornOrOfAnotherKernelIsNotBrought() throws {
        let module = try store.add(SymModFiles.module(), path: "m.ko")
        try SmallFile.write(module.path, Array(module.bytes.prefix(module.bytes.count / 2)))
        try expectNone(machine(), "damaged")
        try SmallFile.write(module.path, SymModFiles.module(release: "6.1.0-58-cloud-amd64"))
        try expectNone(machine(), "built for 6.1.0-58-cloud-amd64")
    }

    @Test func whatTheFirstProcessCannotDoIsLeftToTheKernel() throws {
        _ = try store.add(SymModFiles.module(), path: "m.ko")
        try expectNone(machine("rdinit=/bin/sh"), "rdinit=")
        try expectNone(machine(String(repeating: "x", count: 2040)), "too long")
        for root in ["/dev/nfs", "ubi0:rootfs", "mtd:x", "UUID=1", "LABEL=x", "PARTUUID=1/PARTNROFF=1", ""] {
            try expectNone(machine("root=\(root)", initrd: nil), "mounted by the kernel only")
            #expect(try prepare(machine("root=\(root)")).bringsModule, "the initramfs mounts \(root)")
        }
        for root in ["/dev/vda1", "PARTUUID=1234-01", "PARTLABEL=x", "254:1", "fe00"] {
            #expect(try prepare(machine("root=\(root)", initrd: nil)).bringsModule, "\(root)")
        }
        #expect(try prepare(machine("", initrd: nil)).bringsModule)
    }

    @Test func otherReasonsForNoModule() throws {
        _ = try store.add(SymModFiles.module(), path: "m.ko")
        try expectNone(machine(), "scripts/build", firstProcess: nil)
        let other = try TemporaryFile(SyntheticKernel.elf())
        try expectNone(machine(kernel: other.path), "does not tell its Linux release")
        try expectNone(machine(kernel: "/nowhere/vmlinuz"), "cannot read kernel")
        var off = machine()
        off.symbiotic = false
        try expectNone(off, "interface is off")
    }

    /// A plain `swift build` has no first process; `scripts/build` puts in an ELF program.
    @Test func theFirstProcessOfThisBuildIsAProgram() {
        guard let bytes = FirstProcess.bytes else { return }
        #expect(bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) && bytes.count < 64 << 10)
    }
}
