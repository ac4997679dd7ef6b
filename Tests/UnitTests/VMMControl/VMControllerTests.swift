// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel

/// A VM that the API configures, with a `RecordingMachine`.
private final class HostUnderTest: Sendable {
    /// The configurations that the builder received.
    final class Record: Sendable {
        let launches = Mutex<[LaunchConfiguration]>([])
    }

    let record = Record()
    let machine = RecordingMachine(state: .notStarted)
    let host: VMController
    private let router: APIRouter

    init() throws {
        var resources = MachineResources(name: "vm")
        resources.console = .none
        host = try VMController(resources) { [record, machine] (launch, _, _) throws(VMMError) in
            guard launch.machine.kernelPath != "/missing" else { throw .user("cannot read kernel /missing") }
            record.launches.withLock { $0.append(launch) }
            return machine
        }
        router = try host.router(stopper: MachineStopper(host))
    }

    func respond(_ method: APIMethod, _ target: String, _ body: String = "") -> APIResponse {
        router.respond(to: APIRequest(method: method, target: target, body: Array(body.utf8)))
    }

    func fault(_ method: APIMethod, _ target: String, _ body: String = "") throws -> String {
        let response = respond(method, target, body)
        #expect(response.status == 400, "\(method) \(target) \(body)")
        return try #require(try JSONText.decode([String: String].self, from: response.body)["fault_message"])
    }

    func get(_ target: String) throws -> JSONValue {
        let response = respond(.get, target)
        #expect(response.status == 200)
        return try JSONValue(parsing: response.body, from: target)
    }
}

@Suite(.timeLimit(.minutes(1))) struct ControlHostTests {
    private let start = #"{"action_type": "InstanceStart"}"#

    @Test func aMachineIsConfiguredAndStarted() throws {
        let vm = try HostUnderTest()
        #expect(try vm.fault(.put, "/actions", start).contains("no kernel"))
        for (target, body) in [
            ("/boot-source", #"{"kernel_image_path": "/k", "boot_args": "console=ttyS0"}"#),
            ("/machine-config", #"{"vcpu_count": 2, "mem_size_mib": 1024}"#),
            ("/drives/data", #"{"drive_id": "data", "path_on_host": "/d", "is_root_device": false, "is_read_only": true}"#),
            ("/drives/rootfs", #"{"drive_id": "rootfs", "path_on_host": "/r", "is_root_device": true, "is_read_only": false}"#),
            ("/network-interfaces/eth0", #"{"iface_id": "eth0", "host_dev_name": "tap0"}"#), ("/entropy", "{}"),
        ] {
            #expect(vm.respond(.put, target, body) == .noContent, "\(target)")
        }
        // A second PUT replaces the first.
        #expect(vm.respond(.put, "/drives/data", #"{"drive_id": "data", "path_on_host": "/e"}"#) == .noContent)
        #expect(vm.respond(.patch, "/machine-config", #"{"mem_size_mib": 512}"#) == .noContent)
        #expect(vm.respond(.put, "/actions", start) == .noContent)
        let launch = try #require(vm.record.launches.withLock { $0 }.first)
        #expect(launch.machine.commandLine == "console=ttyS0 root=/dev/vda rw")
        #expect(launch.machine.drives.map(\.path) == ["/r", "/e"])
        #expect(launch.machine.drives.map(\.isReadOnly) == [false, false])
        #expect(launch.machine.vcpuCount == 2)
        #expect(launch.machine.memoryByteCount == 512 << 20)
        #expect(vm.machine.calls.withLock { $0.starts } == 1)
        #expect(vm.host.state == .running)
    }

    @Test func nothingIsConfiguredAfterTheStart() throws {
        let vm = try HostUnderTest()
        #expect(vm.respond(.put, "/boot-source", #"{"kernel_image_path": "/k"}"#) == .noContent)
        #expect(try vm.fault(.patch, "/vm", #"{"state": "Paused"}"#).contains("not started"))
        #expect(vm.respond(.put, "/actions", start) == .noContent)
        let before = try vm.get("/vm/config")
        for (method, target, body) in [
            (APIMethod.put, "/boot-source", #"{"kernel_image_path": "/other"}"#),
            (.put, "/machine-config", #"{"vcpu_count": 2, "mem_size_mib": 64}"#), (.patch, "/machine-config", #"{"vcpu_count": 2}"#),
            (.put, "/drives/a", #"{"drive_id": "a", "path_on_host": "/a"}"#), (.put, "/entropy", "{}"), (.put, "/serial", "{}"),
            (.put, "/network-interfaces/n", #"{"iface_id": "n", "host_dev_name": "t"}"#), (.put, "/boot-source", "nonsense"),
        ] {
            #expect(try vm.fault(method, target, body).contains("has been started"), "\(target)")
        }
        #expect(try vm.fault(.put, "/actions", start).contains("has been started"))
        #expect(try vm.get("/vm/config") == before)
        #expect(vm.record.launches.withLock { $0.count } == 1)
    }

    @Test func aStartThatFailsMayBeMendedAndTriedAgain() throws {
        let vm = try HostUnderTest()
        #expect(vm.respond(.put, "/boot-source", #"{"kernel_image_path": "/missing"}"#) == .noContent)
        #expect(try vm.fault(.put, "/actions", start).contains("/missing"))
        #expect(vm.host.state == .notStarted)
        #expect(vm.respond(.put, "/boot-source", #"{"kernel_image_path": "/k"}"#) == .noContent)
        #expect(vm.respond(.put, "/actions", start) == .noContent)
        #expect(vm.host.state == .running)
    }

    @Test func aWrongChangeChangesNothing() throws {
        let vm = try HostUnderTest()
        #expect(vm.respond(.put, "/machine-config", #"{"vcpu_count": 3, "mem_size_mib": 96}"#) == .noContent)
        let before = try vm.get("/vm/config")
        for (target, body, words) in [
            ("/machine-config", #"{"vcpu_count": 2}"#, "mem_size_mib: missing"),
            ("/machine-config", #"{"mem_size_mib": 64}"#, "vcpu_count"),
            ("/machine-config", #"{"vcpu_count": 2, "mem_size_mib": 0}"#, "too little"),
            ("/machine-config", #"{"vcpu_count": 2, "mem_size_mib": 64, "cpu_template": "T2"}"#, "cpu_template: not offered"),
            ("/boot-source", "", "not valid JSON"), ("/boot-source", "[]", "expected an object"), ("/boot-source", "{}", "missing"),
            ("/drives/a", #"{"path_on_host": "/a"}"#, "drive_id: missing"), ("/drives/a", #"{"drive_id": "a"}"#, "path_on_host: missing"),
            ("/drives/a", #"{"drive_id": "b", "path_on_host": "/a"}"#, "'b' is not 'a'"),
            (
                "/drives/a", #"{"drive_id": "a", "path_on_host": "/a", "rate_limiter": {"ops": {"size": 1}}}"#,
                "rate_limiter.ops.refill_time: missing"
            ),
            ("/drives/a", #"{"drive_id": "a", "path_on_host": "/a", "rate_limiter": {"iops": {}}}"#, "rate_limiter.iops: unknown field"),
            (
                "/drives/a", #"{"drive_id": "a", "path_on_host": "/a", "rate_limiter": {"ops": {"size": -1, "refill_time": 1}}}"#,
                "rate_limiter.ops.size: -1 is not from 0"
            ),
            (
                "/drives/a", #"{"drive_id": "a", "path_on_host": "/a", "rate_limiter": {"ops": {"size": 1, "refill_time": 86400001}}}"#,
                "rate_limiter.ops.refill_time: 86400001 is not from 0 to 86400000"
            ),
            ("/drives/a", #"{"drive_id": "a", "path_on_host": "/a", "socket": "/s"}"#, "socket: not offered"),
            ("/drives/a!", #"{"drive_id": "a!", "path_on_host": "/a"}"#, "not an identifier"),
            ("/network-interfaces/n", #"{"iface_id": "n", "host_dev_name": "t", "mtu": 67}"#, "mtu: 67 is not from 68"),
            ("/entropy", #"{"rate_limiter": {"ops": {}}}"#, "not offered"), ("/serial", #"{"serial_out_path": 1}"#, "expected a string"),
            ("/serial", #"{"serial_out_path": ""}"#, "empty"), ("/logger", #"{"level": "Loud"}"#, "'Loud'"),
            ("/logger", #"{"log_path": "/nonexistent/folder/log"}"#, "/nonexistent/folder/log"),
            ("/logger", #"{"module": 1}"#, "expected a string"),
            ("/mmds/config", #"{"network_interfaces": ["n"]}"#, "no network interface 'n'"), ("/mmds", "{", "not valid JSON"),
        ] {
            #expect(try vm.fault(.put, target, body).contains(words), "\(target) \(body)")
        }
        #expect(try vm.get("/vm/config") == before)
    }

    @Test func aPatchLeavesWhatItDoesNotName() throws {
        let vm = try HostUnderTest()
        #expect(vm.respond(.put, "/machine-config", #"{"vcpu_count": 3, "mem_size_mib": 96, "pmu": true}"#) == .noContent)
        for body in [#"{"mem_size_mib": 128}"#, #"{"vcpu_count": null, "pmu": null}"#, "{}"] {
            #expect(vm.respond(.patch, "/machine-config", body) == .noContent)
        }
        let resources = vm.host.resources
        #expect(resources.vcpuCount == 3 && resources.memoryByteCount == 128 << 20 && resources.pmu && !resources.nested)
        #expect(vm.respond(.put, "/logger", #"{"level": "warn", "show_level": true}"#) == .noContent)
        #expect(vm.respond(.put, "/logger", #"{"show_level": null}"#) == .noContent)
        #expect(vm.host.resources.logger?.level == .warning && vm.host.resources.logger?.showsLevel == true)
    }

    @Test func devicesAreBounded() throws {
        let vm = try HostUnderTest()
        for number in 0..<VirtualMachine.deviceLimit {
            #expect(vm.respond(.put, "/drives/d\(number)", #"{"drive_id": "d\#(number)", "path_on_host": "/d"}"#) == .noContent)
        }
        #expect(try vm.fault(.put, "/drives/more", #"{"drive_id": "more", "path_on_host": "/d"}"#).contains("too many devices"))
        let interface = #"{"iface_id": "n", "host_dev_name": "t"}"#
        #expect(try vm.fault(.put, "/network-interfaces/n", interface).contains("too many devices"))
        #expect(vm.respond(.put, "/drives/d3", #"{"drive_id": "d3", "path_on_host": "/other"}"#) == .noContent)
    }

    @Test func aDriveGetsAnotherFileWhileTheGuestRuns() throws {
        let vm = try HostUnderTest()
        let patch = #"{"drive_id": "a", "path_on_host": "/new"}"#
        #expect(vm.respond(.put, "/boot-source", #"{"kernel_image_path": "/k"}"#) == .noContent)
        #expect(vm.respond(.put, "/drives/a", #"{"drive_id": "a", "path_on_host": "/old"}"#) == .noContent)
        #expect(try vm.fault(.patch, "/drives/a", patch).contains("has not been started"))
        #expect(vm.respond(.put, "/actions", start) == .noContent)
        #expect(vm.respond(.patch, "/drives/a", patch) == .noContent)
        #expect(vm.machine.calls.withLock { $0.files } == ["a": "/new"])
        #expect(vm.host.resources.drives.map(\.path) == ["/new"])
        #expect(vm.respond(.patch, "/drives/a", #"{"drive_id": "a"}"#) == .noContent)
        #expect(try vm.fault(.patch, "/drives/a", #"{"drive_id": "a", "path_on_host": "/missing"}"#).contains("no such file"))
        #expect(try vm.fault(.patch, "/drives/b", #"{"drive_id": "b", "path_on_host": "/new"}"#).contains("no drive 'b'"))
        #expect(try vm.fault(.patch, "/drives/a", #"{"drive_id": "a", "rate_limiter": {"ops": 1}}"#).contains("expected an object"))
        #expect(try vm.fault(.patch, "/drives/a", #"{"drive_id": "a", "is_read_only": true}"#).contains("unknown field"))
        #expect(vm.host.resources.drives.map(\.path) == ["/new"])
    }

    @Test func whatIsNotOfferedSaysSo() throws {
        let vm = try HostUnderTest()
        for (method, target) in [
            (APIMethod.put, "/vsock"), (.put, "/snapshot/create"), (.put, "/snapshot/load"), (.get, "/balloon"),
            (.put, "/cpu-config"), (.put, "/pmem/p0"), (.get, "/hotplug/memory"), (.patch, "/balloon/statistics"),
        ] {
            #expect(try vm.fault(method, target, "{}").contains("not offered by symvmm"), "\(target)")
        }
    }

    @Test func aVMThatIsNotThereHasNoGuestToAsk() throws {
        let vm = try HostUnderTest()
        #expect(try vm.fault(.get, "/symcalls").contains("has not been started"))
        #expect(try vm.fault(.put, "/symcalls", #"{"call": "ping"}"#).contains("has not been started"))
        let report = try JSONText.decode(ExitReport.self, from: vm.respond(.get, "/exit-statistics").body)
        #expect(report.exitCount == 0)
        #expect(report.name == "vm")
    }

    @Test func theWaitEndsWithTheMachineAndWithoutOne() throws {
        let never = try HostUnderTest()
        never.host.kill()
        #expect(never.host.wait() == .killed)
        #expect(never.host.state == .ended)
        #expect(never.respond(.put, "/boot-source", #"{"kernel_image_path": "/k"}"#).status == 400)
        #expect(never.respond(.put, "/actions", start).status == 400)

        let vm = try HostUnderTest()
        let waiter = try Thread(.command, "waiter") { _ = vm.host.wait() }
        #expect(vm.respond(.put, "/boot-source", #"{"kernel_image_path": "/k"}"#) == .noContent)
        #expect(vm.respond(.put, "/actions", start) == .noContent)
        #expect(vm.respond(.put, "/actions", #"{"action_type": "Kill"}"#) == .noContent)
        waiter.join()
        #expect(vm.host.state == .ended)
    }

    @Test func aPauseIsLoggedOnlyIfItPauses() throws {
        let folder = try TemporaryFolder()
        let vm = try HostUnderTest()
        #expect(vm.respond(.put, "/logger", #"{"log_path": "\#(folder.path)/log", "level": "Info"}"#) == .noContent)
        #expect(!vm.host.pause())
        #expect(!vm.host.resume())
        #expect(vm.respond(.put, "/boot-source", #"{"kernel_image_path": "/k"}"#) == .noContent)
        #expect(vm.respond(.put, "/actions", start) == .noContent)
        #expect(vm.host.pause())
        #expect(vm.host.pause())
        let text = String(decoding: try SmallFile.read(folder.path + "/log", atMost: 1 << 16), as: UTF8.self)
        #expect(text.ranges(of: "VM paused").count == 1, "\(text)")
        #expect(!text.contains("VM resumed"))
    }

    @Test func metricsAreWrittenWhereTheyWereWanted() throws {
        let folder = try TemporaryFolder()
        let vm = try HostUnderTest()
        let flush = #"{"action_type": "FlushMetrics"}"#
        #expect(try vm.fault(.put, "/actions", flush).contains("PUT /metrics"))
        #expect(try vm.fault(.put, "/metrics", #"{"metrics_path": "/nonexistent/m"}"#).contains("/nonexistent/m"))
        #expect(vm.respond(.put, "/metrics", #"{"metrics_path": "\#(folder.path)/m"}"#) == .noContent)
        #expect(try vm.fault(.put, "/metrics", #"{"metrics_path": "\#(folder.path)/n"}"#).contains("already"))
        #expect(try vm.fault(.put, "/actions", flush).contains("not been started"))
        #expect(vm.respond(.put, "/boot-source", #"{"kernel_image_path": "/k"}"#) == .noContent)
        #expect(vm.respond(.put, "/actions", start) == .noContent)
        #expect(try vm.fault(.put, "/metrics", #"{"metrics_path": "\#(folder.path)/n"}"#).contains("has been started"))
        #expect(vm.respond(.put, "/actions", flush) == .noContent)
        vm.host.finish()
        let text = String(decoding: try SmallFile.read(folder.path + "/m", atMost: 1 << 20), as: UTF8.self)
        let lines = text.split(separator: "\n")
        #expect(lines.count == 3)
        for line in lines { #expect(throws: Never.self) { try JSONValue(parsing: Array(line.utf8), from: "line") } }
        #expect(folder.entries == ["m"])
    }

    @Test func theLogTakesRequestsByLevel() throws {
        let folder = try TemporaryFolder()
        let vm = try HostUnderTest()
        #expect(vm.respond(.put, "/logger", #"{"log_path": "\#(folder.path)/log", "level": "warning", "show_level": true}"#) == .noContent)
        _ = vm.respond(.get, "/version")
        _ = vm.respond(.get, "/no\nsuch")
        #expect(vm.respond(.put, "/logger", #"{"level": "Debug"}"#) == .noContent)
        _ = vm.respond(.get, "/version")
        let text = String(decoding: try SmallFile.read(folder.path + "/log", atMost: 1 << 16), as: UTF8.self)
        let lines = text.split(separator: "\n").map { String($0.drop { $0 != "[" }) }
        #expect(
            lines == ["[vm:Warning] GET /no?such: 404", "[vm:Info] PUT /logger: 204", "[vm:Debug] GET /version: 200"], "\(text)")
    }

    @Test func aLogThatNobodyReadsHoldsNobody() throws {
        let folder = try TemporaryFolder()
        #expect(unsafe mkfifo(folder.path + "/fifo", 0o600) == 0)
        let vm = try HostUnderTest()
        #expect(vm.respond(.put, "/logger", #"{"log_path": "\#(folder.path)/fifo", "level": "Debug"}"#) == .noContent)
        for _ in 0..<5000 { _ = vm.respond(.get, "/version") }
        #expect(vm.host.eventLog.droppedLineCount > 0)
    }
}
