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
        commandName: "run", abstract: "Boot a guest and show its console until it ends.",
        discussion: """
            On a terminal, Ctrl-A x ends the VM and Ctrl-A h lists the escapes.

            Examples:
              symvmm run --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 reboot=k panic=1" --memory 256M --cpus 2
              symvmm run --kernel vmlinuz --disk root.img --append "console=ttyS0 root=/dev/vda rw" --net tap=tap0
              symvmm run --config vm.json --name db --swap 2G,bypass=on

            Exit status: 0 the guest powered off or rebooted, 2 usage, 3 the host cannot, 4 the guest crashed, 130 interrupted.
            """)

    @Option(help: ArgumentHelp("Kernel: a bzImage or an ELF vmlinux.", valueName: "file"), completion: .file())
    var kernel: String?
    @Option(help: ArgumentHelp("Initial RAM disk.", valueName: "file"), completion: .file())
    var initrd: String?
    @Option(help: ArgumentHelp("The kernel's command line.", valueName: "text"))
    var append: String?
    @Option(help: ArgumentHelp("Guest memory, 1M to 1T (default: 256M).", valueName: "size"))
    var memory: String?
    @Option(help: ArgumentHelp("Number of vCPUs, 1 to \(MachineLimits.vcpuCount.upperBound) (default: 1).", valueName: "number"))
    var cpus: String?
    @Option(help: ArgumentHelp("Let the guest run guests of its own, with --symbiotic off (default: off).", valueName: "on|off"))
    var nested: Switch?
    @Option(help: ArgumentHelp("Show the guest performance counters (default: off).", valueName: "on|off"))
    var pmu: Switch?
    @Option(
        help: ArgumentHelp("Add a disk: FILE[,readonly][,id=ID][,sector=512|4096]. May be repeated.", valueName: "disk"),
        completion: .file())
    var disk: [String] = []
    @Option(help: ArgumentHelp("Add a network interface: tap=NAME[,mac=MAC]. May be repeated.", valueName: "net"))
    var net: [String] = []
    @Option(
        help: ArgumentHelp("Read the configuration from a JSON file; options given here go first.", valueName: "file"), completion: .file())
    var config: String?
    @OptionGroup var session: SessionOptions

    func run() throws {
        try session.run(resources(), startsNow: true)
    }

    /// The configuration file with the options laid over it.
    private func resources() throws(ControlError) -> MachineResources {
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
            throw .usage(
                config.map { "\($0): boot-source: missing, and no --kernel FILE" } ?? "no kernel: give --kernel FILE or --config FILE")
        }
        if let initrd { resources.bootSource?.initrdPath = initrd }
        if let append { resources.bootSource?.commandLine = append }
        if let memory { resources.memoryByteCount = try ByteCount.parseMemory(memory) }
        if let cpus {
            guard let count = Int(cpus) else {
                throw .usage("--cpus: '\(cpus)' is not a number: give 1 to \(MachineLimits.vcpuCount.upperBound)")
            }
            resources.vcpuCount = count
        }
        if let nested { resources.nested = nested == .on }
        if let pmu { resources.pmu = pmu == .on }
        for text in disk { resources.drives.append(try DriveConfiguration(option: text, index: resources.drives.count)) }
        for text in net {
            let index = resources.networkInterfaces.count
            resources.networkInterfaces.append(try NetworkInterfaceConfiguration(option: text, index: index))
        }
        try session.apply(to: &resources)
        // What does not go together is said before anything is made.
        _ = try resources.launch()
        return resources
    }
}
