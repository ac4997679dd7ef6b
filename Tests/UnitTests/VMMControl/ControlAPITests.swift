// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel

/// A machine without a guest that counts the calls of its methods.
final class RecordingMachine: MachineControl {
    struct Calls {
        var state = MachineState.running
        var pauses = 0
        var resumes = 0
        var powerButtons = 0
        var kills = 0
        var starts = 0
        var files: [String: String] = [:]
    }

    let calls = Mutex(Calls())
    let configuration: MachineConfiguration
    private let listens: Bool

    init(name: String = "vm", listens: Bool = true, state: MachineState = .running) {
        configuration = MachineConfiguration(name: name, kernelPath: "k")
        self.listens = listens
        calls.withLock { $0.state = state }
    }

    var state: MachineState { calls.withLock { $0.state } }

    func start() throws(VMMError) {
        calls.withLock {
            $0.starts += 1
            $0.state = .running
        }
    }

    func receive(_ byte: UInt8) -> Bool { true }

    func replaceFile(ofDrive id: String, with path: String) throws(VMMError) {
        guard path != "/missing" else { throw .user("drive '\(id)': no such file") }
        calls.withLock { $0.files[id] = path }
    }

    @discardableResult
    func pause() -> Bool {
        calls.withLock {
            $0.pauses += 1
            guard pauses else { return false }
            $0.state = .paused
            return true
        }
    }

    @discardableResult
    func resume() -> Bool {
        calls.withLock {
            $0.resumes += 1
            $0.state = .running
            return true
        }
    }

    /// Whether a pause succeeds.
    var pauses: Bool { configuration.name != "restless" }

    func requestPowerOff() -> Bool {
        calls.withLock { $0.powerButtons += 1 }
        return listens
    }

    func kill() {
        calls.withLock {
            $0.kills += 1
            $0.state = .ended
        }
    }

    func wait() -> TerminationReason {
        while state != .ended { usleep(1000) }
        return .killed
    }

    func exitStatistics() -> ExitStatistics {
        let latency = LatencySummary(total: 30, minimum: 10, maximum: 20, buckets: [.init(upperBound: 20, count: 2)])
        return ExitStatistics(
            uptimeNanoseconds: 1_000_000,
            rows: [.init(vcpu: 0, reason: .pioWrite, device: "serial", address: 0x3f8, latency: latency)],
            vcpus: [
                .init(vcpu: 0, guestNanoseconds: 70, vmmNanoseconds: 30, kernel: KernelStatistics())
            ])
    }
}

extension RecordingMachine {
    /// The routes that need only a machine.
    var routes: [APIRoute] {
        let life = (try? MachineStopper(self)).map { stopper in
            LifeRoutes.routes(for: self, stopper: stopper) { () throws(VMMError) in throw .user("no metrics") }
        }
        return MachineRoutes.routes(for: self, version: "1.2.3") + (life ?? [])
    }
}

@Suite struct ControlAPITests {
    private func respond(_ machine: RecordingMachine, _ method: APIMethod, _ target: String, _ body: String = "") -> APIResponse {
        let router = APIRouter(machine.routes)
        return router.respond(to: APIRequest(method: method, target: target, body: Array(body.utf8)))
    }

    private func fault(_ response: APIResponse) throws -> String {
        try #require(try JSONText.decode([String: String].self, from: response.body)["fault_message"])
    }

    @Test func theInstanceIsDescribedAsFirecrackerDoes() {
        let response = respond(RecordingMachine(), .get, "/")
        #expect(response.status == 200)
        #expect(
            String(decoding: response.body, as: UTF8.self) == #"{"app_name":"symvmm","id":"vm","state":"Running","vmm_version":"1.2.3"}"#)
    }

    @Test func theVMIsPausedAndResumed() {
        let machine = RecordingMachine()
        #expect(respond(machine, .patch, "/vm", #"{"state": "Paused"}"#) == .noContent)
        #expect(machine.state == .paused)
        #expect(respond(machine, .patch, "/vm", #"{"state": "Resumed"}"#) == .noContent)
        #expect(machine.calls.withLock { [$0.pauses, $0.resumes] } == [1, 1])
    }

    @Test func aPauseThatFailsIsReported() throws {
        let machine = RecordingMachine(name: "restless")
        let response = respond(machine, .patch, "/vm", #"{"state": "Paused"}"#)
        #expect(response.status == 503)
        #expect(try fault(response).contains("not paused"))
    }

    @Test func actionsAreCarriedOut() throws {
        let machine = RecordingMachine()
        #expect(respond(machine, .put, "/actions", #"{"action_type": "Stop"}"#) == .noContent)
        #expect(respond(machine, .put, "/actions", #"{"action_type": "SendCtrlAltDel"}"#) == .noContent)
        #expect(respond(machine, .put, "/actions", #"{"action_type": "Kill"}"#) == .noContent)
        #expect(machine.calls.withLock { [$0.powerButtons, $0.kills] } == [2, 1])
        let late = respond(machine, .put, "/actions", #"{"action_type": "Stop"}"#)
        #expect(late.status == 400)
        #expect(try fault(late).contains("ended"))
        #expect(respond(machine, .patch, "/vm", #"{"state": "Paused"}"#).status == 400)
    }

    @Test(.timeLimit(.minutes(1))) func aGuestThatIsGivenTimeIsEndedAfterIt() {
        let machine = RecordingMachine()
        // The stopper lives as long as the routes.
        let router = APIRouter(machine.routes)
        func stop(_ seconds: Int) -> APIResponse {
            let body = #"{"action_type": "Stop", "timeout_seconds": \#(seconds)}"#
            return router.respond(to: APIRequest(method: .put, target: "/actions", body: Array(body.utf8)))
        }
        #expect(stop(3600) == .noContent)
        #expect(machine.state == .running)
        // The earliest deadline counts.
        #expect(stop(0) == .noContent)
        while machine.state != .ended { usleep(1000) }
        #expect(machine.calls.withLock { [$0.powerButtons, $0.kills] } == [2, 1])
        // A guest that cannot react to the power button is killed at once.
        for (state, listens) in [(MachineState.running, false), (.paused, true)] {
            let deaf = RecordingMachine(listens: listens, state: state)
            #expect(respond(deaf, .put, "/actions", #"{"action_type": "Stop", "timeout_seconds": 3600}"#) == .noContent)
            #expect(deaf.state == .ended)
        }
    }

    @Test func aMachineIsStartedOnce() throws {
        let machine = RecordingMachine(state: .notStarted)
        #expect(respond(machine, .put, "/actions", #"{"action_type": "Stop", "timeout_seconds": 5}"#).status == 400)
        #expect(respond(machine, .put, "/actions", #"{"action_type": "InstanceStart"}"#) == .noContent)
        let again = respond(machine, .put, "/actions", #"{"action_type": "InstanceStart"}"#)
        #expect(again.status == 400)
        #expect(try fault(again).contains("has been started"))
        #expect(machine.calls.withLock { $0.starts } == 1)
    }

    @Test func aDeafGuestIsSaid() throws {
        let response = respond(RecordingMachine(listens: false), .put, "/actions", #"{"action_type": "Stop"}"#)
        #expect(response.status == 400)
        #expect(try fault(response).contains("has not enabled the power button"))
    }

    @Test(arguments: [
        (APIMethod.get, "/nothing", "", 404), (.get, "//", "", 404), (.get, "/vm/", "", 404), (.get, "", "", 404),
        (.delete, "/vm", "", 405),
        (.get, "/actions", "", 405), (.patch, "/vm", "", 400), (.patch, "/vm", "[]", 400), (.patch, "/vm", "{}", 400),
        (.patch, "/vm", #"{"state": 1}"#, 400), (.patch, "/vm", #"{"state": "Running"}"#, 400),
        (.patch, "/vm", #"{"state": "Paused", "force": true}"#, 400), (.put, "/actions", #"{"action_type": "InstanceStart"}"#, 400),
        (.put, "/actions", #"{"action_type": "Explode"}"#, 400), (.put, "/actions", #"{"action_type": "FlushMetrics"}"#, 400),
        (.put, "/actions", #"{"action_type": "Kill", "timeout_seconds": 1}"#, 400),
        (.put, "/actions", #"{"action_type": "Stop", "timeout_seconds": -1}"#, 400),
        (.put, "/actions", #"{"action_type": "Stop", "timeout_seconds": 1e99}"#, 400),
    ])
    func wrongRequestsAreRefused(method: APIMethod, target: String, body: String, status: Int) throws {
        let machine = RecordingMachine()
        let response = respond(machine, method, target, body)
        #expect(response.status == status)
        #expect(try !fault(response).isEmpty)
        #expect(machine.calls.withLock { $0.pauses + $0.powerButtons + $0.kills } == 0)
        if status == 405 { #expect(response.allow != nil) }
    }

    @Test func aServiceBringsItsOwnResources() throws {
        let service = APIRoute(.get, "/swap/{id}/pages") { request throws(APIError) in
            guard request.query["limit"] != "0" else { throw APIError(400, "limit: 0") }
            return APIResponse(body: Array("\(request.parameters["id"] ?? "") \(request.query["limit"] ?? "")".utf8))
        }
        let router = APIRouter(RecordingMachine().routes + [service])
        let response = router.respond(to: APIRequest(method: .get, target: "/swap/a%20b/pages?limit=5&x"))
        #expect(String(decoding: response.body, as: UTF8.self) == "a b 5")
        #expect(router.respond(to: APIRequest(method: .get, target: "/swap/a/pages?limit=0")).status == 400)
        #expect(router.respond(to: APIRequest(method: .get, target: "/swap//pages")).status == 404)
        #expect(router.respond(to: APIRequest(method: .get, target: "/")).status == 200)
    }

    @Test func aMessageIsOneLineWithoutControlCharacters() throws {
        let message = try fault(respond(RecordingMachine(), .patch, "/vm", #"{"state": "a\u001b[2J\nb"}"#))
        #expect(message == "the request's body: state: 'a?[2J?b' is not one of Paused, Resumed")
    }

    @Test func brokenPercentSignsAreKept() {
        #expect(APIRequest(method: .get, target: "/a%2").path == "/a%2")
        #expect(APIRequest(method: .get, target: "/a%zz").path == "/a%zz")
        #expect(APIRequest(method: .get, target: "/a%+1%-0").path == "/a%+1%-0")
        #expect(APIRequest(method: .get, target: "/%41?%3d=%26").query == ["=": "&"])
    }

    @Test func statisticsAreServed() throws {
        let response = respond(RecordingMachine(), .get, "/exit-statistics")
        let report = try JSONText.decode(ExitReport.self, from: response.body)
        #expect(report.exitCount == 2)
        #expect(report.exits.first?.address == 0x3f8)
    }
}
