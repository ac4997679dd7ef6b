// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import SymbioticABI

/// The parts of the symbiotic interface that one service uses alone (docs/ABI.md): its doorbells, the symcalls of its guest side, its feature bits,
/// and its part of the global page.
public struct ServiceClaims: Sendable, Equatable {
    /// Name in messages and statistics.
    public var name: String
    /// Bits of the feature leaf (docs/ABI.md, section 1).
    public var features: UInt32
    /// Doorbells (section 6); nil: none.
    public var doorbells: ClosedRange<UInt8>?
    /// Symcalls (section 4.4); nil: none.
    public var symcalls: ClosedRange<UInt32>?
    /// Bytes of the global page (section 3.1); nil: none.
    public var globalPage: Range<Int>?

    /// Describes a service's claims.
    public init(
        name: String, features: UInt32 = 0, doorbells: ClosedRange<UInt8>? = nil, symcalls: ClosedRange<UInt32>? = nil,
        globalPage: Range<Int>? = nil
    ) {
        self.name = name
        self.features = features
        self.doorbells = doorbells
        self.symcalls = symcalls
        self.globalPage = globalPage
    }

    /// The interface's own doorbells, symcalls, feature bits and fields.
    static let interface = ServiceClaims(
        name: "the symbiotic interface",
        features: SYMBIOTIC_FEATURE_SYMSPY | SYMBIOTIC_FEATURE_SYMCALL | SYMBIOTIC_FEATURE_INTERRUPT | SYMBIOTIC_FEATURE_FAST_DOORBELL,
        doorbells: UInt8(SYMBIOTIC_DOORBELL_SERVE)...UInt8(SYMBIOTIC_DOORBELL_LEAVING),
        symcalls: SYMBIOTIC_SYMCALL_PING...SYMBIOTIC_SYMCALL_LOG, globalPage: 0..<Int(SYMBIOTIC_GLOBAL_SERVICES))

    /// What two services both claim, in words; nil when their claims are disjoint.
    package func overlap(with other: ServiceClaims) -> String? {
        if name == other.name { return "the name \(name)" }
        if features & other.features != 0 { return "feature bits 0x\(String(features & other.features, radix: 16))" }
        if let own = doorbells, let others = other.doorbells, own.overlaps(others) {
            return "doorbell 0x\(String(max(own.lowerBound, others.lowerBound), radix: 16))"
        }
        if let own = symcalls, let others = other.symcalls, own.overlaps(others) {
            return "symcall 0x\(String(max(own.lowerBound, others.lowerBound), radix: 16))"
        }
        if let own = globalPage, let others = other.globalPage, own.overlaps(others) {
            return "byte 0x\(String(max(own.lowerBound, others.lowerBound), radix: 16)) of the global page"
        }
        return nil
    }

    /// Throws when two services, or a service and the interface itself, claim the same, or when a claim is out of range.
    package static func check(_ all: [ServiceClaims]) throws(VMMError) {
        var taken = [interface]
        for claims in all {
            if let symcalls = claims.symcalls, symcalls.upperBound >= SYMBIOTIC_SYMCALL_COUNT {
                throw VMMError(
                    .bug, "service \(claims.name): symcalls end at 0x\(String(SYMBIOTIC_SYMCALL_COUNT - 1, radix: 16))")
            }
            if let part = claims.globalPage, part.upperBound > Int(SYMBIOTIC_PAGE_SIZE) {
                throw .bug("service \(claims.name): the global page has \(SYMBIOTIC_PAGE_SIZE) bytes")
            }
            for other in taken {
                guard let overlap = claims.overlap(with: other) else { continue }
                throw .bug("service \(claims.name): \(overlap) belongs to \(other.name)")
            }
            taken.append(claims)
        }
    }
}
