// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SwapBypass
internal import VMMBase
internal import VMMControl
internal import VMMService

#if SYMVMM_TEST_BUILD
    internal import TestServices
#endif

/// The symbiotic services of this program. Only this file names them.
enum Services {
    /// The registered services. `ServiceOptions` has their options.
    static func registry() throws(VMMError) -> ServiceRegistry {
        #if SYMVMM_TEST_BUILD
            try ServiceRegistry([SwapBypassService.descriptor, TestDoorbellService.descriptor])
        #else
            try ServiceRegistry([SwapBypassService.descriptor])
        #endif
    }
}

/// The services' options.
struct ServiceOptions: ParsableArguments {
    @Option(help: ArgumentHelp(stringLiteral: SwapBypassService.descriptor.option.help))
    var swap: String?

    /// Adds the services whose options were given.
    func apply(to resources: inout MachineResources) throws(VMMError) {
        for (descriptor, text) in [(SwapBypassService.descriptor, swap)] {
            if let text { try resources.set(descriptor.request(fromOption: text)) }
        }
        #if SYMVMM_TEST_BUILD
            try resources.set(TestDoorbellService.descriptor.request(fromOption: "on"))
        #endif
    }
}
