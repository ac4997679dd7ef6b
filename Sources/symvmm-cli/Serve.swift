// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMControl
internal import VMMModel

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve the API, which configures and starts a guest.",
        discussion: """
            Resources, fields and answers are Firecracker's where they exist there (docs/openapi.yaml).

            Example:
              symvmm serve --api-socket /tmp/vm.sock &
              alias vm='curl --unix-socket /tmp/vm.sock -X PUT'
              vm http://localhost/boot-source -d '{"kernel_image_path": "vmlinuz"}'
              vm http://localhost/actions -d '{"action_type": "InstanceStart"}'

            Ends with the guest. Exit status as for 'symvmm run'; 0 if it is killed before a guest is started.
            """)

    @OptionGroup var session: SessionOptions

    func run() throws {
        var resources = try MachineResources(name: LaunchConfiguration.derivedName, registry: Services.registry())
        try session.apply(to: &resources)
        try MachineConfiguration.checkName(resources.name)
        try session.run(resources, startsNow: false)
    }
}
