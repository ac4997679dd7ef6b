// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VMMBase
internal import VMMPresentation
internal import VMMSymMod

struct ModuleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "module", abstract: "Manage the modules that symvmm brings to guests (run --symbiotic auto).",
        discussion: """
            They lie in /var/lib/symvmm/modules, or for a user in ~/.local/share/symvmm/modules, by the kernel's release and the version of the source.

            Examples:
              symvmm module build 6.1.0-50-cloud-amd64
              symvmm module list
            """,
        subcommands: [List.self, Add.self, Build.self])

    /// A module in the output.
    struct Row: Encodable {
        let release: String
        let source: String
        let bytes: Int
        let path: String

        init(_ module: ModuleStore.Module) {
            release = module.release
            source = module.source
            bytes = module.bytes.count
            path = module.path
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List the modules. A guest gets the one in the first row for its kernel's release.")

        @Flag(help: "Print JSON.")
        var json = false

        func run() throws {
            var modules: [ModuleStore.Module] = []
            for store in ModuleStore.all() {
                modules += try store.list().sorted { ($0.release, $1.seconds, $1.source) < ($1.release, $0.seconds, $0.source) }
            }
            if json { return try Terminal.json(modules.map { Row($0) }) }
            var table = TextTable([.text("KERNEL"), .text("SOURCE"), .numbers("SIZE"), .text("PATH")])
            for module in modules { table.add([module.release, module.source, "\(module.bytes.count / 1024)K", module.path]) }
            Terminal.output(table.text)
        }
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Copy modules into the store, by the release that they are built for.")

        @Argument(help: "Files of modules: symbiotic.ko.", completion: .file(extensions: ["ko"]))
        var files: [String]

        func run() throws {
            let store = try ModuleStore.own()
            for file in files {
                let bytes: [UInt8]
                do throws(VMMError) {
                    bytes = try SmallFile.read(file, atMost: ModuleFile.limit)
                    _ = try ModuleFile(bytes, path: file)
                } catch {
                    throw error.asking(.user)
                }
                Terminal.output(try store.add(bytes, path: file).path + "\n")
            }
        }
    }

    struct Build: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "build", abstract: "Build the module from a kernel's headers and put it into the store.",
            discussion: """
                Needs make, gcc and binutils. A module that is in the store already is not built again.

                Example:
                  apt-get install linux-headers-6.1.0-50-cloud-amd64
                  symvmm module build 6.1.0-50-cloud-amd64
                """)

        @Argument(help: "Releases of kernels whose headers are in /lib/modules, or folders of headers.", completion: .directory)
        var kernels: [String] = []
        @Flag(help: "Build for all headers in /lib/modules.")
        var all = false
        @Option(
            help: ArgumentHelp("Folder of the module's source (default: the one of this program).", valueName: "folder"),
            completion: .directory)
        var source: String?

        func run() throws {
            guard kernels.isEmpty == all else { throw VMMError.user("give kernels' releases or folders of headers, or --all") }
            let source = try source.map { path throws(VMMError) in try ModuleSource(path: path) } ?? ModuleSource.ofThisProgram()
            let headers = try all ? KernelHeaders.installed() : kernels.map { name throws(VMMError) in try KernelHeaders(named: name) }
            guard !headers.isEmpty else { throw VMMError.user("no headers of a kernel in /lib/modules") }
            let store = try ModuleStore.own()
            var failure: VMMError?
            for headers in headers {
                do throws(VMMError) {
                    try build(source, headers, store)
                } catch {
                    // The last error ends the command; main prints it.
                    if let failure { Terminal.error("symvmm: \(failure)".printable) }
                    failure = error
                }
            }
            if let failure { throw failure }
        }

        private func build(_ source: ModuleSource, _ headers: KernelHeaders, _ store: ModuleStore) throws(VMMError) {
            if let module = try store.module(for: headers.release, source: source.version) {
                return Terminal.output("\(module.path) (present)\n")
            }
            let folder = try BuildFolder()
            Terminal.output(try store.build(source, for: headers, in: folder.path).path + "\n")
        }
    }
}
