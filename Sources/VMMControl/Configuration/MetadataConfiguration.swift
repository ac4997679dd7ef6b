// SPDX-License-Identifier: Apache-2.0

package import VMMMetadata

internal import VMMAPI
internal import VMMBase
internal import VMMModel

/// Configuration of the metadata service, Firecracker's MMDS.
package struct MetadataConfiguration: Sendable, Equatable {
    /// The longest data in bytes without `--mmds-size-limit`: Firecracker's longest body of a request.
    package static let defaultByteLimit = 51_200
    /// 169.254.169.254.
    package static let defaultAddress: UInt32 = 0xa9fe_a9fe

    /// Which requests the guest must make.
    package var version = MetadataStore.Version.v1
    /// Identifiers of the interfaces that answer; at least one.
    package var interfaces: [String]
    /// The service's IPv4 address, link-local.
    package var address = defaultAddress
    /// Whether answers look like EC2's, whatever the guest accepts.
    package var isPlainAlways = false

    /// The address as text.
    var addressText: String {
        (0..<4).reversed().map { "\(address >> (8 * UInt32($0)) & 255)" }.joined(separator: ".")
    }

    /// Parses a link-local address that a host may have (RFC 3927, 2.1): 169.254.1.0 to 169.254.254.255.
    static func address(of text: String) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { part -> UInt32? in
            guard (1...3).contains(part.utf8.count), part.allSatisfy({ $0.isASCII && $0.isNumber }), let number = UInt32(part) else {
                return nil
            }
            return number <= 255 && "\(number)" == part ? number : nil
        }
        let numbers = parts.compactMap { $0 }
        guard parts.count == 4, numbers.count == 4, numbers[0] == 169, numbers[1] == 254, (1...254).contains(numbers[2]) else { return nil }
        return numbers.reduce(0) { $0 << 8 | $1 }
    }
}

/// `mmds/config`: Firecracker's `MmdsConfig`.
struct MetadataConfigResource: APIResource {
    var version: MetadataStore.Version?
    var interfaces: [String]
    var address: String?
    var isPlainAlways: Bool?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case version
        case interfaces = "network_interfaces"
        case address = "ipv4_address"
        case isPlainAlways = "imds_compat"
    }

    init(_ metadata: MetadataConfiguration) {
        version = metadata.version
        interfaces = metadata.interfaces
        address = metadata.addressText
        isPlainAlways = metadata.isPlainAlways
    }
}

extension MachineResources {
    /// Sets the metadata service on interfaces that are there.
    mutating func setMetadata(_ received: Received<MetadataConfigResource>) throws(VMMError) {
        guard !received.interfaces.isEmpty else {
            throw .user(
                "\(received.place(of: .interfaces)): the list of network interface IDs that allow forwarding MMDS requests is empty")
        }
        for id in received.interfaces where !networkInterfaces.contains(where: { $0.id == id }) {
            throw .user("\(received.place(of: .interfaces)): there is no network interface '\(id)'")
        }
        var configuration = MetadataConfiguration(interfaces: received.interfaces)
        if let text = received.address {
            guard let address = MetadataConfiguration.address(of: text) else {
                throw .user("\(received.place(of: .address)): '\(text)' is not link local: give 169.254.1.0 to 169.254.254.255")
            }
            configuration.address = address
        }
        configuration.version = received.version ?? .v1
        configuration.isPlainAlways = received.isPlainAlways ?? false
        metadata = configuration
    }
}

extension MetadataStore.Version: FieldEnum {}
