// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMService

internal import VMMAPI
internal import VMMModel
internal import VMMSandbox

/// The configuration without the services: the configuration file, and the answer of `GET /vm/config`. Firecracker's schema plus `name`, `console`,
/// `symbiotic`, `symbiotic_module`, `stats_file`, `api_socket`, `sandbox` and `allowed_folders`.
struct ConfigurationFile: APIResource {
    var name: String?
    var bootSource: Strict<BootSource>?
    var machineConfig: Strict<MachineConfigResource>?
    var drives: [Strict<DriveResource>]?
    var networkInterfaces: [Strict<NetworkInterfaceResource>]?
    var entropy: Strict<EntropyResource>?
    var logger: Strict<LoggerResource>?
    var metrics: Strict<MetricsResource>?
    var serial: Strict<SerialResource>?
    var console: String?
    var symbiotic: Bool?
    var symbioticModule: SymbioticModule?
    var statsFile: String?
    var apiSocket: String?
    var sandbox: SandboxMode?
    var allowedFolders: [String]?
    var mmdsConfig: Strict<MetadataConfigResource>?
    var balloon, cpuConfig, vsock, memoryHotplug: NotOffered<NoNeutral>?
    var pmem: NotOffered<NeutralEmpty>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name
        case bootSource = "boot-source"
        case machineConfig = "machine-config"
        case drives
        case networkInterfaces = "network-interfaces"
        case entropy, logger, metrics, serial, console, symbiotic
        case symbioticModule = "symbiotic_module"
        case statsFile = "stats_file"
        case apiSocket = "api_socket"
        case sandbox
        case allowedFolders = "allowed_folders"
        case balloon
        case cpuConfig = "cpu-config"
        case vsock
        case mmdsConfig = "mmds-config"
        case memoryHotplug = "memory-hotplug"
        case pmem
    }
}

/// The sandbox is a field of the configuration file.
extension SandboxMode: FieldEnum {
}

/// So is who loads the module.
extension SymbioticModule: FieldEnum {
}

/// A configuration file including the resources of the registry's services.
private struct ConfigurationText: Decodable {
    static let registry = CodingUserInfoKey(rawValue: "registry")

    let file: ConfigurationFile
    let services: [(key: String, part: ServiceDescriptor.Part)]

    init(from decoder: any Decoder) throws {
        let registry = ConfigurationText.registry.flatMap { decoder.userInfo[$0] as? ServiceRegistry } ?? ServiceRegistry()
        let keys = ConfigurationFile.CodingKeys.allCases.map(\.stringValue) + registry.descriptors.map(\.key)
        try FieldError.checkKeys(of: decoder, known: keys)
        file = try ConfigurationFile(from: decoder)
        let container = try decoder.container(keyedBy: FieldName.self)
        var services: [(key: String, part: ServiceDescriptor.Part)] = []
        for descriptor in registry.descriptors {
            let key = FieldName(descriptor.key)
            guard container.contains(key), try !container.decodeNil(forKey: key) else { continue }
            services.append((descriptor.key, try descriptor.part(from: container.superDecoder(forKey: key))))
        }
        self.services = services
    }
}

// MARK: In

extension MachineResources {
    /// Maximum length of a configuration file in bytes: 1 MiB.
    private static let fileLimit = 1 << 20

    /// Reads a configuration file of at most 1 MiB.
    ///
    /// - Parameters:
    ///   - name: the VM's name if the file has none; nil: derived from the process.
    package init(file path: String, registry: ServiceRegistry = ServiceRegistry(), style: APIStyle = .own, name: String? = nil)
        throws(VMMError)
    {
        let bytes: [UInt8]
        do throws(VMMError) {
            bytes = try SmallFile.read(path, atMost: MachineResources.fileLimit)
        } catch {
            throw error.of("--config", .user)
        }
        try self.init(json: bytes, source: path, registry: registry, style: style, name: name)
    }

    /// Reads a configuration; `source` names it in errors.
    package init(
        json bytes: [UInt8], source: String, registry: ServiceRegistry = ServiceRegistry(), style: APIStyle = .own,
        name given: String? = nil
    ) throws(VMMError) {
        let userInfo: [CodingUserInfoKey: any Sendable] = ConfigurationText.registry.map { [$0: registry] } ?? [:]
        let text = try ResourceText.decode(ConfigurationText.self, from: bytes, source: source, userInfo: userInfo)
        let file = Received(text.file, at: FieldPath(source: source))
        let name = file.name ?? given ?? LaunchConfiguration.derivedName
        try MachineConfiguration.checkName(name)
        self.init(name: name, registry: registry, style: style)
        if let part = file.part(.bootSource, file.bootSource) { try setBootSource(part) }
        if let part = file.part(.machineConfig, file.machineConfig) { try setMachine(part, isWhole: style == .firecracker) }
        let drives = file.parts(.drives, file.drives)
        try MachineResources.checkUnique(drives.map { ($0.id, $0.place(of: .id)) })
        for drive in drives { try setDrive(drive) }
        let interfaces = file.parts(.networkInterfaces, file.networkInterfaces)
        try MachineResources.checkUnique(interfaces.map { ($0.id, $0.place(of: .id)) })
        for interface in interfaces { try setNetworkInterface(interface) }
        if style == .firecracker, file.entropy != nil { hasEntropy = true }
        if let part = file.part(.mmdsConfig, file.mmdsConfig) { try setMetadata(part) }
        for service in text.services { try set(service.part.check(file.root.appending(FieldName(service.key)))) }
        if let part = file.part(.logger, file.logger) { try setLogger(part) }
        if let part = file.part(.metrics, file.metrics) { try setMetrics(part) }
        try setConsole(file)
        symbiotic = file.symbiotic ?? true
        symbioticModule = file.symbioticModule ?? .none
        statsFile = file.statsFile
        apiSocket = file.apiSocket
        sandbox.mode = file.sandbox ?? .on
        sandbox.folders = file.allowedFolders ?? []
    }

    private mutating func setConsole(_ file: Received<ConfigurationFile>) throws(VMMError) {
        let serial = file.part(.serial, file.serial)
        if let text = file.console {
            guard serial == nil else { throw .user("\(file.place(of: .serial)): cannot be combined with console") }
            console = try ConsoleConfiguration(option: text, option: file.place(of: .console))
        } else if let serial {
            try setSerial(serial)
        }
    }

    /// Refuses an identifier that occurs twice in a file. (In the API, a second PUT replaces the first.)
    private static func checkUnique(_ identifiers: [(id: String, name: String)]) throws(VMMError) {
        var seen = Set<String>()
        for (id, name) in identifiers where !seen.insert(id).inserted {
            throw .user("\(name): the identifier '\(id)' is used twice: give each device of a kind its own")
        }
    }
}

// MARK: Out

extension MachineResources: Encodable {
    /// Writes Firecracker's `FullVmConfiguration` with our fields: a configuration file for the same machine.
    package func encode(to encoder: any Encoder) throws {
        try file.encode(to: encoder)
        var container = encoder.container(keyedBy: FieldName.self)
        for service in services { try container.encode(service, forKey: FieldName(service.key)) }
    }

    private var file: ConfigurationFile {
        ConfigurationFile(
            name: name, bootSource: bootSource.map { Strict($0) }, machineConfig: Strict(machineResource),
            drives: drives.map { Strict(DriveResource($0)) },
            networkInterfaces: networkInterfaces.map { Strict(NetworkInterfaceResource($0)) },
            entropy: Strict(EntropyResource()), logger: logger.map { Strict(LoggerResource($0)) },
            metrics: metrics.map { Strict(MetricsResource($0)) }, console: console.text, symbiotic: symbiotic,
            symbioticModule: symbioticModule == .none ? nil : symbioticModule, statsFile: statsFile, apiSocket: apiSocket,
            sandbox: sandbox.mode,
            allowedFolders: sandbox.folders.isEmpty ? nil : sandbox.folders, mmdsConfig: metadata.map { Strict(MetadataConfigResource($0)) }
        )
    }
}
