// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel
package import VMMService

internal import SymVMM

/// What a VM is configured with, resource by resource, as the API and the configuration file name them.
///
/// The one schema and the one validation: `symvmm run`'s options, a configuration file and the API all fill these fields, and `launch()` makes
/// of them what a machine is built from. Every method that takes JSON changes either all that was asked for or nothing.
package struct MachineResources: Sendable, Equatable {
    /// Name of the VM.
    package var name: String
    /// What the guest starts with; nil until it is given.
    package var bootSource: BootSource?
    /// Number of vCPUs (`MachineLimits.vcpuCount`).
    package var vcpuCount = 1
    /// Guest memory in bytes, 1 MiB to 1 TiB.
    package var memoryByteCount: UInt64 = 256 << 20
    /// Drives in the order in which they were given; the guest finds the root device first.
    package var drives: [DriveConfiguration] = []
    /// Network interfaces in the order in which the guest finds them.
    package var networkInterfaces: [NetworkInterfaceConfiguration] = []
    /// The symbiotic services that are asked for, in the registry's order. The guest finds their devices behind drives and network interfaces.
    package private(set) var services: [ServiceRequest] = []
    /// The services that can be asked for.
    let registry: ServiceRegistry
    /// Where the serial console goes.
    package var console = ConsoleConfiguration.stdio
    /// Whether the guest is offered the symbiotic interface.
    package var symbiotic = true
    /// Whether the guest may run guests of its own.
    package var nested = false
    /// Whether the guest sees performance counters.
    package var pmu = false
    /// Where the log goes; nil for nowhere.
    package var logger: LoggerConfiguration?
    /// File or FIFO to which metrics are written; nil for none.
    package var metricsPath: String?
    /// Where the exit statistics are written at the end of the run.
    package var statsFile: String?
    /// The control socket's path; by the VM's name in the runtime folder when nil.
    package var apiSocket: String?

    /// Nothing configured yet.
    ///
    /// - Parameter registry: the services that can be asked for.
    package init(name: String, registry: ServiceRegistry = ServiceRegistry()) {
        self.name = name
        self.registry = registry
    }

    /// Asks for a service, or for the same one with other settings.
    package mutating func set(_ request: ServiceRequest) throws(ControlError) {
        let others = services.filter { $0.key != request.key }
        try MachineResources.checkRoom(drives.count + networkInterfaces.count + others.reduce(request.deviceCount) { $0 + $1.deviceCount })
        services = registry.ordered(others + [request])
    }

    /// Complains of more devices than a machine has room for.
    static func checkRoom(_ deviceCount: Int) throws(ControlError) {
        guard deviceCount <= VirtualMachine.deviceLimit else {
            throw .usage("too many devices: \(VirtualMachine.deviceLimit) drives, network interfaces and devices of services at most")
        }
    }

    /// What a machine is built from: the root device first, and the kernel told of it.
    package func launch() throws(ControlError) -> LaunchConfiguration {
        guard let bootSource else { throw .usage("no kernel: give boot-source.kernel_image_path") }
        var machine = MachineConfiguration(name: name, kernelPath: bootSource.kernelPath)
        machine.initrdPath = bootSource.initrdPath
        machine.commandLine = bootSource.commandLine
        machine.vcpuCount = vcpuCount
        machine.memoryByteCount = memoryByteCount
        machine.drives = drives.filter(\.isRootDevice) + drives.filter { !$0.isRootDevice }
        machine.networkInterfaces = networkInterfaces
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
        launch.services = services
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
package struct BootSource: Sendable, Equatable {
    /// Path of the kernel: a bzImage or an ELF executable for x86-64.
    package var kernelPath: String
    /// Path of the initial RAM disk.
    package var initrdPath: String?
    /// The kernel's command line, without what symvmm adds.
    package var commandLine: String

    /// Describes what to start.
    package init(kernelPath: String, initrdPath: String? = nil, commandLine: String = "") {
        self.kernelPath = kernelPath
        self.initrdPath = initrdPath
        self.commandLine = commandLine
    }
}

/// Where the log goes and what of it.
package struct LoggerConfiguration: Sendable, Equatable {
    /// How much something matters; a log takes what matters as much as its own level, or more.
    package enum Level: String, Sendable, CaseIterable, Comparable {
        case off = "Off"
        case error = "Error"
        case warning = "Warning"
        case info = "Info"
        case debug = "Debug"
        case trace = "Trace"

        /// Off is the least.
        package static func < (left: Level, right: Level) -> Bool {
            (allCases.firstIndex(of: left) ?? 0) < (allCases.firstIndex(of: right) ?? 0)
        }
    }

    /// File or FIFO; nil for nowhere yet.
    package var path: String?
    /// What is written.
    package var level = Level.info
    /// Whether a line says its level.
    package var showsLevel = false

    /// A log to nowhere.
    package init() {}
}
