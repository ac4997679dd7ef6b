// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel
package import VMMSandbox
package import VMMService

internal import SymVMM
internal import VMMAPI

/// The configuration of a VM by resource, as the API and the configuration file name them.
///
/// This is the only schema and the only validation: the options of `symvmm run`, the configuration file and the API all fill these fields, and
/// `launch()` creates a machine's configuration from them.
package struct MachineResources: Sendable, Equatable {
    /// Name of the VM.
    package var name: String
    /// Kernel, initial RAM disk and command line; nil until set.
    package var bootSource: BootSource?
    /// Number of vCPUs (`MachineLimits.vcpuCount`).
    package var vcpuCount = 1
    /// Guest memory in bytes, 1 MiB to 1 TiB.
    package var memoryByteCount: UInt64 = 256 << 20
    /// Drives in configuration order. `launch()` makes the root device the first in the guest.
    package var drives: [DriveConfiguration] = []
    /// Network interfaces, in guest device order.
    package var networkInterfaces: [NetworkInterfaceConfiguration] = []
    /// The configured symbiotic services, in registry order. Their devices follow drives and network interfaces in the guest.
    package private(set) var services: [ServiceRequest] = []
    /// The available services.
    let registry: ServiceRegistry
    /// The serial console.
    package var console = ConsoleConfiguration.stdio
    /// Whether symvmm offers the guest the symbiotic interface.
    package var symbiotic = true
    /// Whether the guest may use nested virtualization.
    package var nested = false
    /// Whether symvmm gives the guest performance counters.
    package var pmu = false
    /// Whether a write to port 0xf4 ends the run.
    package var testDevice = false
    /// The log; nil for none.
    package var logger: LoggerConfiguration?
    /// File or FIFO for metrics; nil for none.
    package var metrics: MetricsConfiguration?
    /// The metadata service; nil if no interface has it.
    package var metadata: MetadataConfiguration?
    /// The longest data of the metadata service in bytes.
    package var metadataByteLimit = MetadataConfiguration.defaultByteLimit
    /// Whether the client has asked for the entropy device, which every guest has.
    package var hasEntropy = false
    /// Whether two vCPUs are the threads of one core.
    package var smt = false
    /// Firecracker's field, without effect.
    package var tracksDirtyPages = false
    /// The host pages that back guest memory.
    package var hugePages = HugePages.none
    /// Whose API the server speaks.
    package var style = APIStyle.own
    /// Path of the file for the exit statistics at the end of the run; nil for none.
    package var statsFile: String?
    /// Path of the control socket; nil for the default path by name.
    package var apiSocket: String?
    /// The sandbox of the process.
    package var sandbox = SandboxSettings()

    /// An empty configuration.
    ///
    /// - Parameters:
    ///   - name: the VM's name, not checked here.
    ///   - registry: the available services.
    ///   - style: whose API the server speaks; it decides the defaults.
    package init(name: String, registry: ServiceRegistry = ServiceRegistry(), style: APIStyle = .own) {
        self.name = name
        self.registry = registry
        self.style = style
        if style == .firecracker { memoryByteCount = 128 << 20 }
    }

    /// Adds a service, or replaces its settings. Throws an error if the machine has no room for its devices.
    package mutating func set(_ request: ServiceRequest) throws(VMMError) {
        let others = services.filter { $0.key != request.key }
        try MachineResources.checkRoom(drives.count + networkInterfaces.count + others.reduce(request.deviceCount) { $0 + $1.deviceCount })
        services = registry.ordered(others + [request])
    }

    /// Checks that a machine has room for the devices.
    static func checkRoom(_ deviceCount: Int) throws(VMMError) {
        guard deviceCount <= VirtualMachine.deviceLimit else {
            throw .user("too many devices: at most \(VirtualMachine.deviceLimit) drives, network interfaces and service devices")
        }
    }

    /// Creates the machine's configuration: puts the root device first and appends root= to the command line. Throws an error if there is no kernel
    /// or the configuration is inconsistent.
    package func launch() throws(VMMError) -> LaunchConfiguration {
        guard let bootSource else { throw .user("no kernel: give boot-source.kernel_image_path") }
        var machine = MachineConfiguration(name: name, kernelPath: bootSource.kernelPath)
        machine.initrdPath = bootSource.initrdPath
        machine.commandLine = bootSource.arguments ?? style.defaultCommandLine
        machine.vcpuCount = vcpuCount
        machine.memoryByteCount = memoryByteCount
        machine.drives = drives.filter(\.isRootDevice) + drives.filter { !$0.isRootDevice }
        machine.networkInterfaces = networkInterfaces
        machine.console = console
        machine.symbiotic = symbiotic
        machine.nested = nested
        machine.pmu = pmu
        machine.testDevice = testDevice
        machine.smt = smt
        machine.hugePages = hugePages
        machine.keyboard = style == .firecracker
        if let root = machine.drives.first, root.isRootDevice {
            let device = root.partitionUUID.map { "PARTUUID=\($0)" } ?? "/dev/vda"
            machine.commandLine += (machine.commandLine.isEmpty ? "" : " ") + "root=\(device) \(root.isReadOnly ? "ro" : "rw")"
        }
        try machine.checkConsistency()
        var launch = LaunchConfiguration(machine: machine)
        launch.statsFile = statsFile
        launch.apiSocket = apiSocket
        launch.services = services
        launch.metadata = metadata
        return launch
    }

    /// The configuration before the start: for `GET /` and `symvmm ps`.
    var outline: MachineConfiguration {
        var machine = MachineConfiguration(name: name, kernelPath: bootSource?.kernelPath ?? "")
        machine.vcpuCount = vcpuCount
        machine.memoryByteCount = memoryByteCount
        machine.symbiotic = symbiotic
        return machine
    }
}

/// Kernel, initial RAM disk and command line: Firecracker's `BootSource`.
package struct BootSource: APIResource, Equatable {
    /// Path of the kernel: a bzImage or an ELF executable for x86-64.
    package var kernelPath: String
    /// Path of the initial RAM disk; nil for none.
    package var initrdPath: String?
    /// The command line as it was given; nil if it was not.
    fileprivate(set) var arguments: String?

    /// The kernel command line, without the parameters that symvmm appends.
    package var commandLine: String {
        get { arguments ?? "" }
        set { arguments = newValue }
    }

    /// The JSON field names.
    package enum CodingKeys: String, CodingKey, CaseIterable {
        case kernelPath = "kernel_image_path"
        case initrdPath = "initrd_path"
        case arguments = "boot_args"
    }

    /// Creates a boot source.
    package init(kernelPath: String, initrdPath: String? = nil, commandLine: String = "") {
        self.kernelPath = kernelPath
        self.initrdPath = initrdPath
        arguments = commandLine
    }
}

/// Configuration of the log.
package struct LoggerConfiguration: Sendable, Equatable {
    /// Verbosity: the log contains lines of its level and of all less verbose levels.
    package enum Level: String, Sendable, CaseIterable, Comparable {
        /// No lines.
        case off = "Off"
        /// Errors.
        case error = "Error"
        /// Warnings, and requests with an error response.
        case warning = "Warning"
        /// Events of the VM, and requests that change something.
        case info = "Info"
        /// GET requests.
        case debug = "Debug"
        /// The most verbose level.
        case trace = "Trace"

        /// Compares verbosity; `off` is the lowest.
        package static func < (left: Level, right: Level) -> Bool {
            (allCases.firstIndex(of: left) ?? 0) < (allCases.firstIndex(of: right) ?? 0)
        }
    }

    /// Path of a file or FIFO; nil if not set yet.
    package var path: String?
    /// The level.
    package var level = Level.info
    /// Whether lines include their level.
    package var showsLevel = false
    /// Whether lines include the source file and line that wrote them.
    package var showsOrigin = false
    /// The beginning of the names of the modules whose lines are written; nil: all.
    package var module: String?

    /// A log without a file.
    package init() {}
}

/// Configuration of the metrics lines.
package struct MetricsConfiguration: Sendable, Equatable {
    /// Path of a file or FIFO.
    package var path: String
    /// Whether each line has the VM's name as `id`.
    package var hasID = false
    /// Whether each line has all of Firecracker's groups and numbers, zeroes for those that symvmm does not count.
    package var hasAllGroups = false
    /// What each line repeats as `properties`; nil: nothing.
    package var properties: [String: String]?

    /// Lines in a file or FIFO.
    package init(path: String) { self.path = path }
}
