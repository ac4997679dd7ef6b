// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMBase
internal import VMMControl
internal import VMMModel

enum Switch: String, ExpressibleByArgument, CaseIterable {
    case on, off
}

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Boot a guest and connect to its console until it ends.",
        discussion: """
            On a terminal, Ctrl-A x kills the VM and Ctrl-A h lists the escapes.

            Examples:
              symvmm run --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 reboot=k panic=1" --memory 256M --cpus 2
              symvmm run --kernel vmlinuz --disk root.img --append "console=ttyS0 root=/dev/vda rw" --net tap=tap0
              symvmm run --config vm.json --name db --swap 2G,bypass=on

            Exit status: 0 guest powered off or rebooted, 2 usage error, 3 host error, 4 guest crashed, 130 interrupted.
            With --test-device on, also any odd one: the guest's value, twice and 1 more.
            """)

    @Option(help: ArgumentHelp("Kernel: a bzImage or an ELF vmlinux.", valueName: "file"), completion: .file())
    var kernel: String?
    @Option(help: ArgumentHelp("Initial RAM disk.", valueName: "file"), completion: .file())
    var initrd: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Kernel command line.", valueName: "text"))
    var append: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Guest memory, 1M to 1T (default: 256M).", valueName: "size"))
    var memory: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Number of vCPUs, 1 to \(MachineLimits.vcpuCount.upperBound) (default: 1).", valueName: "number"))
    var cpus: String?
    @Option(help: ArgumentHelp("Allow nested virtualization in the guest; requires --symbiotic off (default: off).", valueName: "on|off"))
    var nested: Switch?
    @Option(help: ArgumentHelp("Give the guest performance counters (default: off).", valueName: "on|off"))
    var pmu: Switch?
    @Option(
        name: .customLong("test-device"),
        help: ArgumentHelp("A value at port 0xf4 ends the VM with status (value << 1) | 1 (default: off).", valueName: "on|off"))
    var testDevice: Switch?
    @Option(
        help: ArgumentHelp(
            "Add a disk: FILE[,readonly][,id=ID][,format=raw][,sector=512|4096][,bandwidth=SIZE][,ops=NUMBER], the limits for one second; write a comma in the file's name twice. May be repeated.",
            valueName: "disk"),
        completion: .file())
    var disk: [String] = []
    @Option(
        help: ArgumentHelp(
            "Add a network interface: tap=NAME[,mac=MAC][,id=ID][,rx-bandwidth=SIZE][,rx-ops=NUMBER][,tx-bandwidth=SIZE][,tx-ops=NUMBER]. May be repeated.",
            valueName: "net"))
    var net: [String] = []
    @Option(
        help: ArgumentHelp("Read the configuration from a JSON file; options override it.", valueName: "file"), completion: .file())
    var config: String?
    @OptionGroup var session: SessionOptions

    func run() throws {
        try session.run(resources(), startsNow: true)
    }

    /// The configuration: that of the file, if any, changed by the options.
    private func resources() throws(VMMError) -> MachineResources {
        var resources: MachineResources
        if let config {
            resources = try MachineResources(file: config, registry: Services.registry())
        } else {
            resources = try MachineResources(name: LaunchConfiguration.derivedName, registry: Services.registry())
        }
        if let kernel {
            var source = resources.bootSource ?? BootSource(kernelPath: kernel)
            source.kernelPath = kernel
            resources.bootSource = source
        }
        guard resources.bootSource != nil else {
            throw .user(
                config.map { "\($0): boot-source: missing, and no --kernel FILE" } ?? "no kernel: give --kernel FILE or --config FILE")
        }
        if let initrd { resources.bootSource?.initrdPath = initrd }
        if let append { resources.bootSource?.commandLine = append }
        if let memory { resources.memoryByteCount = try ByteCount.parseMemory(memory) }
        if let cpus {
            guard let count = Int(cpus) else {
                throw .user("--cpus: '\(cpus)' is not a number: give 1 to \(MachineLimits.vcpuCount.upperBound)")
            }
            resources.vcpuCount = count
        }
        if let nested { resources.nested = nested == .on }
        if let pmu { resources.pmu = pmu == .on }
        if let testDevice { resources.testDevice = testDevice == .on }
        for text in disk { resources.drives.append(try DriveConfiguration(option: text, index: resources.drives.count)) }
        for text in net {
            let index = resources.networkInterfaces.count
            resources.networkInterfaces.append(try NetworkInterfaceConfiguration(option: text, index: index))
        }
        try session.apply(to: &resources)
        // Throw an error for conflicting options before anything is created.
        _ = try resources.launch()
        return resources
    }
}
