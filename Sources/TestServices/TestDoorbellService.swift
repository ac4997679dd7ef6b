// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMService

internal import Glibc
internal import SymbioticABI
internal import VMMAPI
internal import VMMBase

/// Answers the doorbell that test builds of the guest's module ring. With `SYMVMM_PING_ON_TEST_DOORBELL=1` in the environment it makes one PING in
/// each doorbell's exit: what a symcall costs is measured so.
///
/// Only a test build of symvmm has it: `scripts/build --test`.
package final class TestDoorbellService: SymbioticService, @unchecked Sendable {
    private static let claims = ServiceClaims(
        name: "test-doorbell", doorbells: UInt8(SYMBIOTIC_DOORBELL_TEST)...UInt8.max, symcalls: 0x1e0...(SYMBIOTIC_SYMCALL_COUNT - 1))

    private let pings: Bool

    init(pings: Bool) {
        self.pings = pings
        super.init(claims: TestDoorbellService.claims)
    }

    /// Makes the PING.
    package override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        if pings { _ = try? vcpu.symcall(SYMBIOTIC_SYMCALL_PING, values) }
    }

    /// A VM has it from its start when it is configured with `on`.
    private struct Configuration: ServiceConfiguration {
        init(option text: String) throws(ControlError) {
            guard text == "on" else { throw .usage("--test-doorbell: '\(text)': give on") }
        }

        init(_ fields: JSONFields) throws(ControlError) {
            try fields.checkAllTaken()
        }

        var document: JSONValue { .object([:]) }

        func makeService() throws(KVMError) -> SymbioticService {
            TestDoorbellService(pings: TestDoorbellService.isSet("SYMVMM_PING_ON_TEST_DOORBELL"))
        }
    }

    /// What it brings.
    package static let descriptor = ServiceDescriptor(
        claims: claims, key: "test-doorbell", title: "test doorbell",
        option: ServiceDescriptor.Option(name: "test-doorbell", form: "on", help: "Answer the test doorbell."),
        configuration: Configuration.self)

    /// Whether a variable is there and neither empty nor `0`.
    private static func isSet(_ name: String) -> Bool {
        // SAFETY: the answer is used at once, and nothing changes the environment.
        guard let value = unsafe getenv(name) else { return false }
        return unsafe value.pointee != 0 && strcmp(value, "0") != 0
    }
}
