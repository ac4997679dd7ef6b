// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GuestProgress
@testable import SwapBypass
@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel
@testable import VMMService

/// The descriptor of examples/GuestProgress, which adds the service to the command and the API.
@Suite struct ProgressDescriptorTests {
    private func registry() throws -> ServiceRegistry {
        try ServiceRegistry([SwapBypassService.descriptor, ProgressService.descriptor])
    }

    @Test func theOptionAndTheResourceAskForTheService() throws {
        let option = try ProgressService.descriptor.request(fromOption: "files")
        #expect(try option.key == "progress" && JSONText.encode(option) == Array(#"{"unit":"files"}"#.utf8))
        #expect(try option.makeService() is ProgressService)
        let text = #"{"name": "vm", "progress": {"unit": "files"}}"#
        let file = try MachineResources(json: Array(text.utf8), source: "vm.json", registry: registry())
        #expect(file.services == [option])
    }

    @Test func theAPIHasItsResource() throws {
        var resources = MachineResources(name: "vm", registry: try registry())
        resources.console = .none
        let host = try VMController(resources) { (_, _, _) throws(VMMError) in throw .host("no machine") }
        let router = try host.router(stopper: MachineStopper(host))
        func respond(_ method: APIMethod, _ body: String = "") -> APIResponse {
            router.respond(to: APIRequest(method: method, target: "/progress", body: Array(body.utf8)))
        }
        #expect(respond(.put, #"{"unit": "files"}"#).status == 204)
        #expect(respond(.put, #"{"units": "files"}"#).status == 400)
        let answer = respond(.get)
        #expect(answer.status == 400, "no machine yet")
        #expect(String(decoding: answer.body, as: UTF8.self).contains("start it with --progress UNIT"))
    }
}
