// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMControl
internal import VMMModel

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Wait for a guest to be configured and started over the API.",
        discussion: """
            The resources, their fields and the answers are Firecracker's where the thing is the same (docs/openapi.yaml).

            Example:
              symvmm serve --api-socket /tmp/vm.sock &
              alias vm='curl --unix-socket /tmp/vm.sock -X PUT'
              vm http://localhost/boot-source -d '{"kernel_image_path": "vmlinuz"}'
              vm http://localhost/actions -d '{"action_type": "InstanceStart"}'

            Ends with the guest; exit status as of 'symvmm run', and 0 when it was ended before a guest was started.
            """)

    @OptionGroup var session: SessionOptions

    func run() throws {
        var resources = try MachineResources(name: LaunchConfiguration.derivedName, registry: Services.registry())
        try session.apply(to: &resources)
        try MachineConfiguration.checkName(resources.name)
        try session.run(resources, startsNow: false)
    }
}
