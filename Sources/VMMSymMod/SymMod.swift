// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase

/// Brings a guest its module, without a change of its files (docs/SYMMOD.md).
package enum SymMod {
    /// The guest's files, and what symvmm brings with them.
    package struct Preparation: Sendable {
        /// The configuration; changed only if the guest gets the module.
        package let machine: MachineConfiguration
        /// Whether the guest gets the module.
        package let bringsModule: Bool
        /// One line for the user: which module, or why there is none.
        package let line: String
    }

    /// Adds the module, the first process and the parameter to a machine's configuration.
    ///
    /// - Parameters:
    ///   - machine: the configuration, complete.
    ///   - isRequired: whether it is an error if the guest cannot get the module.
    ///   - stores: where modules are looked for, in this order.
    ///   - firstProcess: the program that loads the module; nil in a build without it.
    ///   - limit: stops the reading of the kernel.
    package static func prepare(
        _ machine: MachineConfiguration, isRequired: Bool, stores: [ModuleStore] = ModuleStore.all(),
        firstProcess: [UInt8]? = FirstProcess.bytes, limit: LoadingLimit = LoadingLimit()
    ) throws(VMMError) -> Preparation {
        do throws(VMMError) {
            return try bring(to: machine, stores, firstProcess, limit)
        } catch {
            guard !isRequired else { throw error.of("--symbiotic require") }
            return Preparation(machine: machine, bringsModule: false, line: "the guest gets no module: \(error)")
        }
    }

    private static func bring(
        to machine: MachineConfiguration, _ stores: [ModuleStore], _ firstProcess: [UInt8]?, _ limit: LoadingLimit
    ) throws(VMMError) -> Preparation {
        guard machine.symbiotic else { throw .user("the symbiotic interface is off") }
        guard let firstProcess else { throw .host("this symvmm was built without the process that loads it: use scripts/build") }
        let line = GuestCommandLine(machine.commandLine)
        try check(line, hasInitrd: machine.initrdPath != nil)
        guard let release = try KernelRelease.read(kernelPath: machine.kernelPath, limit: limit) else {
            throw .user("\(machine.kernelPath) does not tell its Linux release")
        }
        let module = try find(release, stores)
        var changed = machine
        changed.commandLine = line.prefixed(by: InitramfsSegment.parameter)
        guard changed.commandLine.utf8.count <= GuestCommandLine.longest else { throw .user("its command line is too long") }
        changed.initramfsSegment = InitramfsSegment.bringing(module: module.bytes, firstProcess: firstProcess)
        return Preparation(machine: changed, bringsModule: true, line: "the guest gets \(module.path)")
    }

    /// Refuses what the first process cannot do in place of the kernel.
    private static func check(_ line: GuestCommandLine, hasInitrd: Bool) throws(VMMError) {
        if line.value(of: "rdinit") != nil { throw .user("its command line has an rdinit= of its own") }
        guard !hasInitrd, let root = line.value(of: "root") else { return }
        let isKnown = ["/dev/", "PARTUUID=", "PARTLABEL="].contains { root.hasPrefix($0) } || root.first?.isHexDigit == true
        let isOther = ["/dev/nfs", "/dev/cifs", "/dev/ram"].contains { root.hasPrefix($0) } || root.contains("/PARTNROFF=")
        guard isKnown, !isOther else { throw .user("without an initrd, root=\(root) is mounted by the kernel only") }
    }

    /// The newest module of the first store that has one.
    private static func find(_ release: String, _ stores: [ModuleStore]) throws(VMMError) -> ModuleStore.Module {
        for store in stores {
            guard let module = try store.newest(for: release) else { continue }
            let file = try ModuleFile(module.bytes, path: module.path)
            guard file.release == release else { throw .host("\(module.path): built for \(file.release), not for \(release)") }
            return module
        }
        throw .user("no symbiotic.ko for Linux \(release): build it with 'symvmm module build', or see 'symvmm module list'")
    }
}
