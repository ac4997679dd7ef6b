// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import VMMBase
import VMMModel
import VMMService

@testable import SwapBypass
@testable import SymVMM
@testable import VMMAPI
@testable import VMMControl

extension FuzzTarget {
    static let api = FuzzTarget(
        name: "api", summary: "requests to every route, on a stack of 512 KiB",
        dictionary: "json.dict", seeds: { APIFuzz.seeds }, prepare: { try APIFuzz().run })

    static let config = FuzzTarget(
        name: "config", summary: "configuration files, on a stack of 512 KiB", maximumLength: 8192,
        dictionary: "json.dict", seeds: { ConfigurationFuzz.seeds }, prepare: { try ConfigurationFuzz().run })
}

/// A machine without a guest. It opens nothing.
final class NoMachine: MachineControl {
    let configuration: MachineConfiguration
    private let current = Mutex(MachineState.running)

    init(_ configuration: MachineConfiguration = MachineConfiguration(name: "vm", kernelPath: "k")) {
        self.configuration = configuration
    }

    var state: MachineState { current.withLock { $0 } }
    func start() throws(VMMError) {}

    func pause() -> Bool {
        current.withLock { $0 = .paused }
        return true
    }

    func resume() -> Bool {
        current.withLock { $0 = .running }
        return true
    }

    func requestPowerOff() -> Bool { true }
    func kill() { current.withLock { $0 = .ended } }
    func wait() -> TerminationReason { .killed }
    func receive(_ byte: UInt8) -> Bool { true }
    func replaceFile(ofDrive id: String, with path: String) throws(VMMError) {}
    var virtualMachine: VirtualMachine? { nil }

    func exitStatistics() -> ExitStatistics {
        let latency = LatencySummary(total: 30, minimum: 10, maximum: 20, buckets: [.init(upperBound: 20, count: 2)])
        return ExitStatistics(
            uptimeNanoseconds: 1_000_000, rows: [.init(vcpu: 0, reason: .pioWrite, device: "serial", address: 0x3f8, latency: latency)],
            vcpus: [.init(vcpu: 0, guestNanoseconds: 70, vmmNanoseconds: 30, kernel: KernelStatistics())])
    }
}

/// What every answer of the API has.
enum Answers {
    static let statuses: Set<Int> = [200, 204, 400, 404, 405, 413, 431, 500, 501, 503]

    static func check(_ response: APIResponse, _ request: APIRequest) {
        expect(statuses.contains(response.status), "\(request.method) \(request.path): status \(response.status)")
        // A VMM that cannot tell what is wrong has a fault.
        expect(response.status != 500, "\(request.method) \(request.path): \(String(decoding: response.body, as: UTF8.self))")
        guard response.status >= 400 else { return }
        let fault = try? JSONText.decode([String: String].self, from: response.body)
        guard let message = fault?["fault_message"] else { broken("\(request.path): no fault_message") }
        expect(!message.isEmpty && !message.contains("\n") && !message.contains("\u{1b}"), "\(request.path): '\(message)'")
    }

    /// One line that can be read, without control characters.
    static func check(_ error: VMMError) {
        let text = error.description.printable
        expect(!text.isEmpty && !text.contains("\n"), "an error without a line: '\(error)'")
    }

    /// Whether a text could name a file outside the working folder, which is a folder of the process.
    static func namesFolders(_ bytes: [UInt8]) -> Bool {
        if bytes.contains(UInt8(ascii: "/")) { return true }
        let text = String(decoding: bytes, as: UTF8.self).lowercased()
        return text.contains("\\u002f")
    }
}

final class APIFuzz {
    static let seeds: [[UInt8]] = [
        #"{"kernel_image_path":"k","boot_args":"a"}"#, #"{"vcpu_count":2,"mem_size_mib":64}"#, #"{"state":"Paused"}"#,
        #"{"drive_id":"a","path_on_host":"d","is_root_device":true,"is_read_only":false}"#,
        #"{"iface_id":"a","host_dev_name":"tap0","guest_mac":"02:00:00:00:00:01"}"#, #"{"action_type":"InstanceStart"}"#, "{}",
        #"{"size_bytes":1048576,"path_on_host":"s","budget_bytes":4096,"bypass":"on"}"#, #"{"log_path":"l","level":"Info"}"#,
        #"{"metrics_path":"m"}"#, #"{"serial_out_path":"s"}"#, #"[[[[[[[["#,
    ].enumerated().map { index, text in [UInt8(index), UInt8(index % 4), UInt8(text.utf8.count), 0] + Array(text.utf8) }

    private let folder: FuzzFolder
    private let worker: FuzzWorker
    private let routePaths: [String]
    private let stopper: MachineStopper
    private var runs = 0

    init() throws {
        folder = try FuzzFolder()
        guard chdir(folder.path) == 0 else { throw VMMError.last("chdir") }
        worker = try FuzzWorker()
        let stopper = try MachineStopper(NoMachine())
        self.stopper = stopper
        // Every route that there is, with a name in place of a parameter.
        routePaths = Array(
            Set(
                try APIFuzz.controller().router(stopper: stopper).routes.map { route in
                    route.pattern.split(separator: "/", omittingEmptySubsequences: false).map { $0.hasPrefix("{") ? "a" : $0 }.joined(
                        separator: "/")
                })
        ).sorted()
    }

    private static func controller() throws -> VMController {
        var resources = MachineResources(name: "vm", registry: try ServiceRegistry([SwapBypassService.descriptor]))
        resources.console = .none
        return try VMController(resources) { (launch, _, _) throws(VMMError) in NoMachine(launch.machine) }
    }

    func run(_ input: inout FuzzInput) throws {
        runs += 1
        if runs % 64 == 0 { folder.empty() }
        var requests: [APIRequest] = []
        while !input.isEmpty, requests.count < 6 {
            let path = input.byte()
            let method = input.pick([APIMethod.put, .patch, .get, .delete])
            let body = input.chunk(atMost: 2048)
            let target = path < 224 ? routePaths[Int(path) % routePaths.count] : "/" + input.text(atMost: 64)
            if !Answers.namesFolders(body) { requests.append(APIRequest(method: method, target: target, body: body)) }
        }
        let (all, stopper) = (requests, stopper)
        worker.run {
            do {
                let controller = try APIFuzz.controller()
                let router = controller.router(stopper: stopper)
                for request in all { Answers.check(router.respond(to: request), request) }
                // The same VM still answers.
                let response = router.respond(to: APIRequest(method: .get, target: "/"))
                expect(response.status == 200, "GET / has status \(response.status)")
                // Ends the threads of the console and of the metrics.
                controller.kill()
                controller.finish()
            } catch {
                broken("\(error)")
            }
        }
    }
}

final class ConfigurationFuzz {
    static let seeds: [[UInt8]] = [
        #"{"boot-source":{"kernel_image_path":"k","initrd_path":"i","boot_args":"console=ttyS0"},"machine-config":{"vcpu_count":2,"mem_size_mib":512}}"#,
        #"{"name":"a","boot-source":{"kernel_image_path":"k"},"drives":[{"drive_id":"r","path_on_host":"d","is_root_device":true,"partuuid":"x"}]}"#,
        #"{"boot-source":{"kernel_image_path":"k"},"network-interfaces":[{"iface_id":"e","host_dev_name":"t","guest_mac":"02:00:00:00:00:01"}]}"#,
        #"{"boot-source":{"kernel_image_path":"k"},"swap":{"size_bytes":1048576,"bypass":"on"},"symbiotic":false,"console":"none"}"#,
        #"{"logger":{"log_path":"l","level":"Debug"},"metrics":{"metrics_path":"m"},"serial":{"serial_out_path":"s"}}"#,
    ].map { Array($0.utf8) }
    private let worker: FuzzWorker

    init() throws {
        worker = try FuzzWorker()
    }

    func run(_ input: inout FuzzInput) throws {
        let bytes = input.rest()
        worker.run {
            do throws(VMMError) {
                let registry: ServiceRegistry
                do { registry = try ServiceRegistry([SwapBypassService.descriptor]) } catch { broken("\(error)") }
                let resources = try MachineResources(json: bytes, source: "fuzz.json", registry: registry)
                ConfigurationFuzz.checkRoundTrip(resources, registry)
                let launch = try resources.launch()
                expect((1...32).contains(launch.machine.vcpuCount) && launch.machine.memoryByteCount % 4096 == 0)
                expect(launch.machine.drives.count + launch.machine.networkInterfaces.count <= 15)
            } catch {
                Answers.check(error)
                expect(error.kind == .user, "a bad file is the user's error: \(error)")
            }
        }
    }

    /// What `GET /vm/config` gives is a configuration file with the same contents.
    private static func checkRoundTrip(_ resources: MachineResources, _ registry: ServiceRegistry) {
        do {
            let text = try JSONText.encode(resources)
            let again = try MachineResources(json: text, source: "again.json", registry: registry)
            let second = try JSONText.encode(again)
            expect(text == second, "\(String(decoding: text, as: UTF8.self)) became \(String(decoding: second, as: UTF8.self))")
        } catch {
            broken("its own configuration is refused: \(error)")
        }
    }
}
