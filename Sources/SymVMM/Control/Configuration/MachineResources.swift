// SPDX-License-Identifier: Apache-2.0

/// What a VM is configured with, resource by resource, as the API and the configuration file name them.
///
/// The one schema and the one validation: `symvmm run`'s options, a configuration file and the API all fill these fields, and `launch()` makes
/// of them what a machine is built from. Every method that takes JSON changes either all that was asked for or nothing.
public struct MachineResources: Sendable, Equatable {
    /// Name of the VM.
    public var name: String
    /// What the guest starts with; nil until it is given.
    public var bootSource: BootSource?
    /// Number of vCPUs, 1 to 32.
    public var vcpuCount = 1
    /// Guest memory in bytes, 1 MiB to 1 TiB.
    public var memoryByteCount: UInt64 = 256 << 20
    /// Drives in the order in which they were given; the guest finds the root device first.
    public var drives: [DriveConfiguration] = []
    /// Network interfaces in the order in which the guest finds them.
    public var networkInterfaces: [NetworkInterfaceConfiguration] = []
    /// The swap disk; nil: none. The guest finds it behind drives and network interfaces.
    public var swap: SwapConfiguration?
    /// Where the serial console goes.
    public var console = ConsoleConfiguration.stdio
    /// Whether the guest is offered the symbiotic interface.
    public var symbiotic = true
    /// Whether the guest may run guests of its own.
    public var nested = false
    /// Whether the guest sees performance counters.
    public var pmu = false
    /// Where the log goes; nil for nowhere.
    public var logger: LoggerConfiguration?
    /// File or FIFO to which metrics are written; nil for none.
    public var metricsPath: String?
    /// Where the exit statistics are written at the end of the run.
    public var statsFile: String?
    /// The control socket's path; by the VM's name in the runtime folder when nil.
    public var apiSocket: String?

    /// Nothing configured yet.
    public init(name: String) {
        self.name = name
    }

    /// Most drives and network interfaces together.
    static let deviceLimit = MachineBuses.freeInterrupts.count - 1

    /// What a machine is built from: the root device first, and the kernel told of it.
    public func launch() throws(ControlError) -> LaunchConfiguration {
        guard let bootSource else { throw .usage("no kernel: give boot-source.kernel_image_path") }
        var machine = MachineConfiguration(name: name, kernelPath: bootSource.kernelPath)
        machine.initrdPath = bootSource.initrdPath
        machine.commandLine = bootSource.commandLine
        machine.vcpuCount = vcpuCount
        machine.memoryByteCount = memoryByteCount
        machine.drives = drives.filter(\.isRootDevice) + drives.filter { !$0.isRootDevice }
        machine.networkInterfaces = networkInterfaces
        machine.swap = swap
        machine.console = console
        machine.symbiotic = symbiotic
        machine.nested = nested
        machine.pmu = pmu
        if let root = machine.drives.first, root.isRootDevice {
            let device = root.partitionUUID.map { "PARTUUID=\($0)" } ?? "/dev/vda"
            machine.commandLine += (machine.commandLine.isEmpty ? "" : " ") + "root=\(device) \(root.isReadOnly ? "ro" : "rw")"
        }
        try machine.checkConsistency()
        var launch = LaunchConfiguration(machine: machine)
        launch.statsFile = statsFile
        launch.apiSocket = apiSocket
        return launch
    }

    /// What is there before the machine is: for `GET /` and `symvmm ps`.
    var outline: MachineConfiguration {
        var machine = MachineConfiguration(name: name, kernelPath: bootSource?.kernelPath ?? "")
        machine.vcpuCount = vcpuCount
        machine.memoryByteCount = memoryByteCount
        machine.symbiotic = symbiotic
        return machine
    }
}

/// What the guest starts with.
public struct BootSource: Sendable, Equatable {
    /// Path of the kernel: a bzImage or an ELF executable for x86-64.
    public var kernelPath: String
    /// Path of the initial RAM disk.
    public var initrdPath: String?
    /// The kernel's command line, without what symvmm adds.
    public var commandLine: String

    /// Describes what to start.
    public init(kernelPath: String, initrdPath: String? = nil, commandLine: String = "") {
        self.kernelPath = kernelPath
        self.initrdPath = initrdPath
        self.commandLine = commandLine
    }
}

/// Where the log goes and what of it.
public struct LoggerConfiguration: Sendable, Equatable {
    /// How much something matters; a log takes what matters as much as its own level, or more.
    public enum Level: String, Sendable, CaseIterable, Comparable {
        case off = "Off"
        case error = "Error"
        case warning = "Warning"
        case info = "Info"
        case debug = "Debug"
        case trace = "Trace"

        /// Off is the least.
        public static func < (left: Level, right: Level) -> Bool {
            (allCases.firstIndex(of: left) ?? 0) < (allCases.firstIndex(of: right) ?? 0)
        }
    }

    /// File or FIFO; nil for nowhere yet.
    public var path: String?
    /// What is written.
    public var level = Level.info
    /// Whether a line says its level.
    public var showsLevel = false

    /// A log to nowhere.
    public init() {}
}
