// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SwapBypass
@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel
@testable import VMMSandbox
@testable import VMMService

@Suite struct ControlConfigurationTests {
    @Test(
        arguments: [
            ("256M", 256 << 20), ("1G", 1 << 30), ("1048576", 1 << 20), ("2g", 2 << 30), ("1MiB", 1 << 20), ("3072K", 3 << 20),
            ("1T", 1 << 40),
            ("64MB", 64 << 20),
        ] as [(String, UInt64)])
    func memorySizesAreRead(text: String, bytes: UInt64) throws {
        #expect(try ByteCount.parseMemory(text) == bytes)
    }

    @Test(arguments: [
        ("0", "too little"), ("1023K", "too little"), ("1P", "too much"), ("2T", "too much"), ("", "not a size"), ("lots", "not a size"),
        ("12Q", "not a size"), ("-1", "not a size"), ("1.5G", "not a whole number: write 1536M"), ("99999999999999999999", "too large"),
        ("99999999E", "too large"),
        ("1048577", "whole number of pages"), ("1 G", "not a size"), ("١M", "not a size"),
    ])
    func wrongMemorySizesAreSaid(text: String, words: String) {
        let error = #expect(throws: VMMError.self) { try ByteCount.parseMemory(text) }
        #expect(error?.kind == .user)
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("\n") == false)
    }

    @Test func sizesAreDescribedShortly() {
        #expect(ByteCount.describe(256 << 20) == "256M")
        #expect(ByteCount.describe(1536 << 20) == "1536M")
        #expect(ByteCount.describe(4097) == "4097")
        #expect(ByteCount.describe(0) == "0")
    }

    @Test func disksAreRead() throws {
        #expect(try DriveConfiguration(option: "a.img,sector=4096", index: 0).sectorSize == 4096)
        #expect(throws: VMMError.self) { try DriveConfiguration(option: "a.img,sector=100", index: 0) }
        #expect(try DriveConfiguration(option: "a.img", index: 3) == DriveConfiguration(id: "disk3", path: "a.img"))
        let full = DriveConfiguration(id: "root", path: "/x/a=b.img", isReadOnly: true)
        #expect(try DriveConfiguration(option: "/x/a=b.img,readonly,id=root", index: 0) == full)
        let commas = try DriveConfiguration(option: "a,,b,,,,c,format=raw,readonly", index: 0)
        #expect(commas.path == "a,b,,c" && commas.isRaw && commas.isReadOnly)
        for (text, words) in [
            ("", "no file"), (",readonly", "no file"), ("a,readonly,readonly", "twice"), ("a,id=1,id=2", "twice"),
            ("a,rw", "unknown field 'rw'"),
            ("a,id=", "not an identifier"), ("a,id=a/b", "not an identifier"),
            ("a,id=" + String(repeating: "1", count: 256), "not an identifier"), ("a,format=qcow2", "not an image format"),
            ("a,cache=none", "unknown field 'cache'"),
        ] {
            let error = #expect(throws: VMMError.self) { try DriveConfiguration(option: text, index: 0) }
            #expect(error?.description.contains(words) == true, "\(text): \(error?.description ?? "")")
        }
    }

    @Test func networkInterfacesAreRead() throws {
        let plain = try NetworkInterfaceConfiguration(option: "tap=tap0", index: 1)
        #expect(plain == NetworkInterfaceConfiguration(id: "net1", tap: "tap0"))
        let full = try NetworkInterfaceConfiguration(option: "tap=t,mac=52:54:00:00:00:0a,id=lan", index: 0)
        #expect(full == NetworkInterfaceConfiguration(id: "lan", tap: "t", mac: MACAddress("52:54:00:00:00:0a")))
        for text in ["", "tap0", "tap=", "tap=0123456789abcdef", "tap=a,mac=1", "tap=a,mac=01:00:00:00:00:00", "tap=a,speed=1", "tap=a/b"] {
            let error = #expect(throws: VMMError.self) { try NetworkInterfaceConfiguration(option: text, index: 0) }
            #expect(error?.description.hasPrefix("--net: ") == true)
        }
    }

    @Test func consolesAreRead() throws {
        for console in [
            ConsoleConfiguration.stdio, .none, .pseudoTerminal, .file(path: "/tmp/a:b"),
            .file(path: "/tmp/a,b", limit: 1 << 20), .file(path: "/a,limit=5"),
            .file(path: "/a", limit: 0), .file(path: "/a", limit: 65537),
        ] {
            #expect(try ConsoleConfiguration(option: console.text) == console)
        }
        #expect(try ConsoleConfiguration(option: "file:/a") == .file(path: "/a", limit: 64 << 20))
        for text in ["", "file:", "serial", "STDIO", "file:,limit=1M", "file:a,limit=", "file:a,limit=1K", "file:a,limit=x"] {
            #expect(throws: VMMError.self) { try ConsoleConfiguration(option: text) }
        }
    }

    @Test(arguments: ["", ".a", "-a", "a/b", "a b", "ä", "..", String(repeating: "x", count: 65)])
    func wrongNamesAreSaid(name: String) {
        #expect(throws: VMMError.self) { try MachineConfiguration.checkName(name) }
    }

    @Test func identifiersAndTapsAreUnique() {
        var machine = MachineConfiguration(name: "a", kernelPath: "k")
        machine.drives = [DriveConfiguration(id: "x", path: "1"), DriveConfiguration(id: "x", path: "2")]
        #expect(throws: VMMError.self) { try machine.checkConsistency() }
        machine.drives = []
        machine.networkInterfaces = [.init(id: "a", tap: "t"), .init(id: "b", tap: "t")]
        #expect(throws: VMMError.self) { try machine.checkConsistency() }
        machine.networkInterfaces = []
        machine.vcpuCount = 10_000
        #expect(throws: VMMError.self) { try machine.checkConsistency() }
        machine.vcpuCount = 32
        #expect(throws: Never.self) { try machine.checkConsistency() }
        machine.nested = true
        let error = #expect(throws: VMMError.self) { try machine.checkConsistency() }
        #expect(error?.description.contains("symbiotic off") == true)
        machine.symbiotic = false
        #expect(throws: Never.self) { try machine.checkConsistency() }
    }
}

@Suite struct ControlConfigurationFileTests {
    private func read(_ text: String) throws(VMMError) -> LaunchConfiguration {
        try MachineResources(json: Array(text.utf8), source: "vm.json", registry: ServiceRegistry([SwapBypassService.descriptor])).launch()
    }

    @Test func aFirecrackerFileIsRead() throws {
        let launch = try read(
            """
            {"boot-source": {"kernel_image_path": "vmlinux", "boot_args": "console=ttyS0", "initrd_path": null},
             "drives": [{"drive_id": "data", "path_on_host": "d.img", "is_root_device": false, "is_read_only": true},
                        {"drive_id": "rootfs", "path_on_host": "r.img", "is_root_device": true}],
             "machine-config": {"vcpu_count": 4, "mem_size_mib": 1024},
             "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "06:00:AC:10:00:02"}],
             "entropy": {}}
            """)
        let machine = launch.machine
        #expect(machine.kernelPath == "vmlinux")
        #expect(machine.initrdPath == nil)
        #expect(machine.vcpuCount == 4)
        #expect(machine.memoryByteCount == 1 << 30)
        #expect(machine.drives.map(\.id) == ["rootfs", "data"])
        #expect(machine.drives.map(\.isReadOnly) == [false, true])
        #expect(machine.commandLine == "console=ttyS0 root=/dev/vda rw")
        #expect(machine.networkInterfaces == [.init(id: "eth0", tap: "tap0", mac: MACAddress("06:00:ac:10:00:02"))])
        #expect(machine.console == .stdio)
        #expect(machine.symbiotic)
    }

    @Test func aPartitionMayBeTheRoot() throws {
        let launch = try read(
            #"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "r", "path_on_host": "r.img", "is_root_device": true, "is_read_only": true, "partuuid": "0eaa91a0-01"}]}"#
        )
        #expect(launch.machine.commandLine == "root=PARTUUID=0eaa91a0-01 ro")
    }

    @Test func whatIsWrittenIsReadAgain() throws {
        let registry = try ServiceRegistry([SwapBypassService.descriptor])
        var resources = MachineResources(name: "web", registry: registry)
        resources.bootSource = BootSource(kernelPath: "/k", initrdPath: "/i", commandLine: "a \"b\" \u{e9}")
        resources.vcpuCount = 3
        resources.memoryByteCount = 77 << 20
        resources.drives = [
            DriveConfiguration(id: "a", path: "/a", isReadOnly: true, sectorSize: 4096), DriveConfiguration(id: "b", path: "/b"),
        ]
        resources.drives[1].isRootDevice = true
        resources.drives[1].partitionUUID = "1234-5"
        resources.networkInterfaces = [
            NetworkInterfaceConfiguration(id: "n", tap: "t0", mac: MACAddress("52:54:00:00:00:01")),
            NetworkInterfaceConfiguration(id: "m", tap: "t1"),
        ]
        try resources.set(SwapBypassService.descriptor.request(fromOption: "8M,path=/swap,budget=4M,bypass=on"))
        resources.console = .file(path: "/c")
        resources.symbiotic = false
        resources.nested = true
        resources.pmu = true
        var logger = LoggerConfiguration()
        logger.path = "/l"
        logger.level = .debug
        logger.showsLevel = true
        resources.logger = logger
        resources.metrics = MetricsConfiguration(path: "/m")
        resources.statsFile = "/s"
        resources.apiSocket = "/x.sock"
        let text = try JSONText.encode(resources)
        #expect(try MachineResources(json: text, source: "again", registry: registry) == resources)
    }

    @Test func onlyAFileThatIsReplacedAllowsItsFolder() throws {
        var resources = MachineResources(name: "vm")
        resources.console = .file(path: "/dev/null")
        for path in ["/dev/stdout", "/dev/null", "/dev/fd/1"] {
            resources.statsFile = path
            #expect(Set(resources.allowedPlaces.map(\.path)) == ["/dev/null", path])
        }
        resources.console = .file(path: "/none/console")
        resources.statsFile = "/none/of/these.json"
        #expect(
            Set(resources.allowedPlaces.map(\.path)) == ["/none/console", "/none", "/none/of/these.json", "/none/of"])
    }

    @Test func ourOwnFieldsAreRead() throws {
        let launch = try read(
            #"{"boot-source": {"kernel_image_path": "k"}, "name": "web", "console": "pty", "symbiotic": false, "stats_file": "s.json", "api_socket": "/run/a.sock"}"#
        )
        #expect(launch.machine.name == "web")
        #expect(launch.machine.console == .pseudoTerminal)
        #expect(!launch.machine.symbiotic)
        #expect(launch.statsFile == "s.json")
        #expect(launch.apiSocket == "/run/a.sock")
        #expect(launch.machine.memoryByteCount == 256 << 20)
        #expect(launch.symbioticModule == .none)
        #expect(try read(#"{"boot-source": {"kernel_image_path": "k"}, "symbiotic_module": "auto"}"#).symbioticModule == .auto)
    }

    /// The file that `GET /vm/config` returns has the field only if it was set.
    @Test func theModulesFieldIsWrittenAsItWasRead() throws {
        let text = #"{"boot-source": {"kernel_image_path": "k"}, "symbiotic_module": "require"}"#
        let resources = try MachineResources(json: Array(text.utf8), source: "vm.json")
        let written = try JSONText.encode(resources)
        #expect(try MachineResources(json: written, source: "again").symbioticModule == .require)
        #expect(try !String(decoding: JSONText.encode(MachineResources(name: "a")), as: UTF8.self).contains("symbiotic_module"))
    }

    @Test(arguments: [
        ("", "not valid JSON"), ("{", "not valid JSON"), (#"{"a" 1}"#, "not valid JSON"), ("[]", "expected an object, found an array"),
        ("{}", "no kernel: give boot-source.kernel_image_path"),
        (#"{"boot-source": 1}"#, "vm.json: boot-source: expected an object, found a number"),
        (#"{"boot-source": {}}"#, "boot-source.kernel_image_path: missing"),
        (#"{"boot-source": {"kernel_image_path": 5}}"#, "kernel_image_path: expected a string, found a number"),
        (#"{"boot-source": {"kernel_image_path": "k", "kernel": "x"}}"#, "boot-source.kernel: unknown field"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "memory": 5}"#, "vm.json: memory: unknown field"),
        (#"{"boot-source": {"kernel_image_path": "a\u0000b"}}"#, "vm.json: boot-source.kernel_image_path: contains a zero byte"),
        // The decoder checks a string's contents only when it reads the string.
        (#"{"boot-source": {"kernel_image_path": "\ud800"}}"#, "vm.json: not valid JSON"), (#"{"name": "\x"}"#, "vm.json: not valid JSON"),
        ("{\"name\": \"a\u{1}\"}", "vm.json: not valid JSON"), (#"{"\udc00": 1}"#, "vm.json: not valid JSON"),
        (#"{"machine-config": {"vcpu_count": "\x"}}"#, "vm.json: not valid JSON"),
        (#"{"machine-config": {"vcpu_count": 1e999}}"#, "machine-config.vcpu_count: expected a whole number, found a number with a"),
        (#"{"": 1}"#, "vm.json: '': unknown field"),
        (#"{"name": "a", "name": "b"}"#, "vm.json: name: given twice"), (#"{"name": "a", "na\u006de": {}}"#, "vm.json: name: given twice"),
        (#"{"drives": [{}, {"drive_id": "[{,", "x": [1, {"a": 2}], "drive_id": 1}]}"#, "vm.json: drives[1].drive_id: given twice"),
        ("null", "vm.json: expected an object, found null"), ("5", "vm.json: expected an object, found a number"),
        (#"{"drives": [null]}"#, "vm.json: drives[0]: expected an object, found null"),
        (#"{"drives": [{"drive_id": "a", "path_on_host": "b"}, 5]}"#, "vm.json: drives[1]: expected an object, found a number"),
        (
            #"{"drives": [{"drive_id": "a", "path": "b"}]}"#,
            "vm.json: drives[0].path: unknown field; known are drive_id, path_on_host, format, is_read_only, is_root_device, partuuid, sector_size"
        ),
        (#"{"drives": [{"drive_id": "a\u0000", "path_on_host": "b"}]}"#, "vm.json: drives[0].drive_id: contains a zero byte"),
        (#"{"logger": {"level": 5}}"#, "vm.json: logger.level: expected a string, found a number"),
        (#"{"logger": {"level": null, "log_path": ""}}"#, "vm.json: logger.log_path: empty"),
        (#"{"swap": {"size_bytes": "1M"}}"#, "vm.json: swap.size_bytes: expected a whole number, found a string"),
        (#"{"swap": 5}"#, "vm.json: swap: expected an object, found a number"),
        (#"{"swap": {"size_bytes": 1048576, "bypass": "maybe"}}"#, "vm.json: swap.bypass: 'maybe' is not one of on, off"),
        (#"{"machine-config": {"smt": 1e999}}"#, "vm.json: machine-config.smt: expected true or false"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"vcpu_count": "4"}}"#,
            "vcpu_count: expected a whole number, found a string"
        ),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"vcpu_count": 0}}"#, "vcpu_count: 0 vCPUs"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"vcpu_count": 1e30}}"#, "vcpu_count"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"mem_size_mib": -1}}"#, "mem_size_mib: -1 MiB"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"mem_size_mib": 1.5}}"#, "mem_size_mib: expected a whole number"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"mem_size_mib": 9007199254740993}}"#, "give 1 to 1048576"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "drives": {}}"#, "drives: expected an array"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "a"}]}"#, "drives[0].path_on_host: missing"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "a", "path_on_host": "b", "is_read_only": "yes"}]}"#,
            "drives[0].is_read_only: expected true or false, found a string"
        ),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "network-interfaces": [{"iface_id": "a", "host_dev_name": "t", "guest_mac": "z"}]}"#,
            "network-interfaces[0].guest_mac: 'z' is not a unicast MAC address"
        ),
        (#"{"boot-source": {"kernel_image_path": "k"}, "swap": {}}"#, "swap.size_bytes: missing"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "swap": {"size_bytes": -4096}}"#, "swap.size_bytes: '-4096': give 1M to 1T"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "swap": {"size_bytes": 1048577}}"#, "swap.size_bytes: '1048577': give 1M to 1T"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "swap": {"size_bytes": 1048576, "path_on_host": ""}}"#, "path_on_host: empty"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "swap": {"size_bytes": 1048576, "budget_bytes": 1}}"#,
            "budget_bytes: requires path_on_host"
        ),
        (#"{"boot-source": {"kernel_image_path": "k"}, "swap": {"size_bytes": 1048576, "bypass": true}}"#, "bypass: expected a string"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "swap": {"size_bytes": 1048576, "size": 1}}"#, "swap.size: unknown field"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "symbiotic": "on"}"#, "symbiotic: expected true or false"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "symbiotic_module": "on"}"#,
            "symbiotic_module: 'on' is not one of none, auto, require"
        ),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "symbiotic_module": "auto", "symbiotic": false}"#,
            "symbiotic_module needs the symbiotic interface"
        ),
        (#"{"boot-source": {"kernel_image_path": "k"}, "console": "vga"}"#, "console: 'vga' is not a console"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "entropy": {"rate_limiter": {"ops": {}}}}"#, "entropy.rate_limiter: not offered"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "name": "a/b"}"#, "not a VM name"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "vsock": {"guest_cid": 3}}"#, "vm.json: vsock: not offered by symvmm"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "pmem": [{}]}"#, "pmem: not offered by symvmm"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"smt": true, "vcpu_count": 3}}"#,
            "with smt, give 1 or an even number"
        ),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"cpu_template": "T2"}}"#, "cpu_template: not offered"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"huge_pages": "4M"}}"#, "huge_pages: '4M' is not one of"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"huge_pages": "2M", "mem_size_mib": 33}}"#,
            "huge pages need an even number of MiB"
        ),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"vcpu_count": 1.0}}"#, "found 1.0"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"vcpu_count": 1e0}}"#, "found 1e0"),
        (#"{"boot-source": {"kernel_image_path": "k",}}"#, "not valid JSON"),
        ("\u{feff}" + #"{"boot-source": {"kernel_image_path": "k"}}"#, "not valid JSON"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "console": "none", "serial": {}}"#,
            "vm.json: serial: cannot be combined with console"
        ),
        (#"{"boot-source": {"kernel_image_path": "k"}, "logger": {"level": "Loud"}}"#, "logger.level: 'Loud' is not one of"),
        (#"{"boot-source": {"kernel_image_path": "k"}, "metrics": {}}"#, "metrics.metrics_path: missing"),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "a", "path_on_host": "b", "io_engine": "Fast"}]}"#,
            "io_engine: 'Fast' is not one of Sync, Async"
        ),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "a", "path_on_host": "b", "cache_type": "x"}]}"#,
            "cache_type: 'x' is not one of Unsafe, Writeback"
        ),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "a", "path_on_host": "b", "partuuid": "a b"}]}"#,
            "not a partition"
        ),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "a", "path_on_host": "b"}, {"drive_id": "a", "path_on_host": "c"}]}"#,
            "'a' is used twice"
        ),
        (
            #"{"boot-source": {"kernel_image_path": "k"}, "network-interfaces": [{"iface_id": "a", "host_dev_name": "t", "mtu": 67}]}"#,
            "mtu: 67 is not from 68 to 65535"
        ),
    ])
    func wrongFilesAreSaidInOneLine(text: String, words: String) {
        let error = #expect(throws: VMMError.self) { try read(text) }
        #expect(error?.kind == .user)
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("\n") == false)
        #expect((error?.description.utf8.count ?? 0) < 300)
    }

    @Test func drivesAndInterfacesHaveIdentifiersOfTheirOwnKind() throws {
        let launch = try read(
            #"{"boot-source": {"kernel_image_path": "k"}, "drives": [{"drive_id": "1", "path_on_host": "b"}], "network-interfaces": [{"iface_id": "1", "host_dev_name": "t", "mtu": 1400}]}"#
        )
        #expect(launch.machine.drives.map(\.id) == ["1"] && launch.machine.networkInterfaces.map(\.id) == ["1"])
        #expect(launch.machine.networkInterfaces.first?.mtu == 1400)
    }

    @Test func whatFirecrackersClientsSendIsAccepted() throws {
        let launch = try read(
            #"{"boot-source": {"kernel_image_path": "k"}, "machine-config": {"vcpu_count": 2, "mem_size_mib": 64, "smt": true, "track_dirty_pages": true, "huge_pages": "Transparent"}, "drives": [{"drive_id": "a-very-long-identifier-of-a-drive", "path_on_host": "b", "is_root_device": false, "io_engine": "Async", "cache_type": "Unsafe", "rate_limiter": {}}], "entropy": {"rate_limiter": {"bandwidth": null, "ops": null}}, "logger": {"log_path": "/l", "show_log_origin": true, "module": "api_server"}, "metrics": {"metrics_path": "/m", "emit_id": true, "properties": {"a": "b"}}}"#
        )
        #expect(launch.machine.smt && launch.machine.hugePages == .transparent)
        #expect(launch.machine.drives[0].engine == .async && launch.machine.drives[0].cacheType == .unsafe)
        #expect(launch.machine.drives[0].rateLimiter == nil)
    }

    @Test func firecrackersAnswersHaveItsFieldsAlone() throws {
        var resources = MachineResources(name: "vm", style: .firecracker)
        var drive = DriveConfiguration(id: "1", path: "/d")
        drive.rateLimiter = RateLimiterConfiguration(bandwidth: TokenBucketConfiguration(size: 1, refillMilliseconds: 2))
        resources.drives = [drive]
        resources.networkInterfaces = [NetworkInterfaceConfiguration(id: "1", tap: "t")]
        let text = String(decoding: try JSONText.encode(FirecrackerConfiguration(resources)), as: UTF8.self)
        #expect(
            text
                == #"{"balloon":null,"boot-source":{"boot_args":null,"initrd_path":null,"kernel_image_path":""},"cpu-config":null,"drives":[{"cache_type":"Unsafe","drive_id":"1","io_engine":"Sync","is_read_only":false,"is_root_device":false,"partuuid":null,"path_on_host":"/d","rate_limiter":{"bandwidth":{"one_time_burst":null,"refill_time":2,"size":1},"ops":null},"socket":null}],"entropy":null,"logger":null,"machine-config":{"huge_pages":"None","mem_size_mib":128,"smt":false,"track_dirty_pages":false,"vcpu_count":1},"memory-hotplug":null,"metrics":null,"mmds-config":null,"network-interfaces":[{"guest_mac":null,"host_dev_name":"t","iface_id":"1","mtu":null,"rx_rate_limiter":null,"tx_rate_limiter":null}],"pmem":[],"vsock":null}"#
        )
    }

    /// Null is equivalent to an absent field, which in a PATCH leaves the value unchanged.
    @Test func nullIsTheSameAsNoField() throws {
        let launch = try read(
            #"{"boot-source": {"kernel_image_path": "k", "initrd_path": null, "boot_args": null}, "machine-config": {"vcpu_count": null, "smt": null}, "swap": null, "logger": null, "name": null, "pmem": null, "vsock": null, "drives": null}"#
        )
        #expect(launch.machine.vcpuCount == 1)
        #expect(launch.machine.commandLine == "")
        #expect(launch.services.isEmpty)
    }

    @Test func deepNestingDoesNotEndTheProcess() {
        let text = String(repeating: "[", count: 100_000)
        #expect(throws: VMMError.self) { try read(text) }
        #expect(throws: VMMError.self) {
            try read(#"{"name": "# + String(repeating: "[", count: 500) + String(repeating: "]", count: 500) + "}")
        }
    }

    @Test func aMissingFileAndAFolderAreSaid() {
        for path in ["/nonexistent/vm.json", "/proc"] {
            let error = #expect(throws: VMMError.self) { try MachineResources(file: path) }
            #expect(error?.description.contains(path) == true)
        }
    }
}
