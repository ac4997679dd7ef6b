// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMService

internal import Glibc
internal import SymbioticABI
internal import VMMAPI
package import VMMBase

/// Handles the doorbell of the module's test build. With `SYMVMM_PING_ON_TEST_DOORBELL=1` in the environment it makes one PING in each
/// doorbell's exit, so that a benchmark can measure the cost of a symcall.
///
/// Only test builds of symvmm have it: `scripts/build --test`.
package final class TestDoorbellService: SymbioticService, @unchecked Sendable {
    private static let claims = ServiceClaims(
        name: "test-doorbell", doorbells: UInt8(SYMBIOTIC_DOORBELL_TEST)...UInt8.max, symcalls: 0x1e0...(SYMBIOTIC_SYMCALL_COUNT - 1))

    private let pings: Bool

    init(pings: Bool) {
        self.pings = pings
        super.init(claims: TestDoorbellService.claims)
    }

    /// Makes a PING if the environment enables it.
    package override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        if pings { _ = try? vcpu.symcall(SYMBIOTIC_SYMCALL_PING, values) }
    }

    /// `on` enables the service.
    private struct Configuration: ServiceConfiguration {
        init(option text: String) throws(VMMError) {
            guard text == "on" else { throw .user("--test-doorbell: '\(text)': give on") }
        }

        /// The resource has no fields.
        struct Resource: APIResource {
            enum CodingKeys: CodingKey, CaseIterable {
            }
        }

        init(_ received: Received<Resource>) {
        }

        var resource: Resource { Resource() }

        func makeService() throws(VMMError) -> SymbioticService {
            TestDoorbellService(pings: TestDoorbellService.isSet("SYMVMM_PING_ON_TEST_DOORBELL"))
        }
    }

    /// The service's descriptor.
    package static let descriptor = ServiceDescriptor(
        claims: claims, key: "test-doorbell", title: "test doorbell",
        option: ServiceDescriptor.Option(name: "test-doorbell", form: "on", help: "Handle the test doorbell."),
        configuration: Configuration.self, routes: { _ in [MovingMachine.route] })

    /// Whether a variable exists and is neither empty nor `0`.
    private static func isSet(_ name: String) -> Bool {
        // SAFETY: nothing changes the environment while the value is in use.
        guard let value = unsafe getenv(name) else { return false }
        return unsafe value.pointee != 0 && strcmp(value, "0") != 0
    }
}

/// It has no state.
extension TestDoorbellService: Snapshotable {
    /// Name of the kind of state in a saved machine.
    package static let stateKind = "test-doorbell"

    /// Returns an empty state.
    package func saveState() throws(VMMError) -> NoState {
        NoState()
    }

    /// Does nothing.
    package func restoreState(_ state: NoState) throws(VMMError) {
    }
}
