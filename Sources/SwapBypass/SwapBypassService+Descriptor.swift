// SPDX-License-Identifier: Apache-2.0

package import VMMService

internal import SymVMM
internal import SwapBypassABI

extension SwapBypassService {
    /// Doorbells 0x10 to 0x1f, symcalls 0x100 to 0x11f, feature bit 2, and bytes 0x180 to 0x3ff of the global page.
    static let claims = ServiceClaims(
        name: "swap-bypass", features: SYMBIOTIC_FEATURE_SWAPBYPASS,
        doorbells: UInt8(SYMBIOTIC_DOORBELL_SWAP_FIRST)...UInt8(SYMBIOTIC_DOORBELL_SWAP_LAST),
        symcalls: SYMBIOTIC_SYMCALL_SWAP_FIRST...SYMBIOTIC_SYMCALL_SWAP_LAST,
        globalPage: Int(SYMBIOTIC_SWAP_OFFSET_BEGIN)..<Int(SYMBIOTIC_SWAP_OFFSET_END))

    /// The service's descriptor.
    package static let descriptor = ServiceDescriptor(
        claims: claims, key: "swap", title: "swap disk", deviceCount: 1,
        option: ServiceDescriptor.Option(
            name: "swap", form: SwapConfiguration.form,
            help: "Add a swap disk in host memory or in a file: \(SwapConfiguration.form)."),
        configuration: SwapConfiguration.self, routes: { machine in SwapRoutes.routes(for: machine) }, reportSection: .swapBypass)
}
