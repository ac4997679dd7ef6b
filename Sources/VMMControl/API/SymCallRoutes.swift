// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMModel

/// The resource `/symcalls`: symcalls to the guest, and their statistics.
///
///     GET /symcalls                                        the interface's state and counters
///     PUT /symcalls {"call": "tasks"}                      calls the guest; the response body has the guest's answer
///     PUT /symcalls {"call": "ping", "values": [1,2,3,4,5], "vcpu": 0}
///     PUT /symcalls {"call": "ping", "repeat": 1000}       consecutive pings, on random vCPUs if vcpu is absent: for tests
///     PUT /symcalls {"call": "test", "number": 481, "vcpu": 0}   a call of the module's test builds (docs/ABI.md, section 8); without a
///                                                          vcpu, inside a doorbell's exit
package enum SymCallRoutes {
    /// Numbers of the calls that only test builds of the guest module have.
    private static let testNumbers = 0x1e0...0x1ff

    /// Creates the routes.
    ///
    /// - Parameter machine: returns the machine; nil before the start.
    static func routes(for machine: @escaping @Sendable () -> VirtualMachine?) -> [APIRoute] {
        @Sendable func running() throws(APIError) -> VirtualMachine {
            guard let machine = machine() else { throw APIError(400, "the VM has not been started") }
            return machine
        }
        return [
            APIRoute(.get, "/symcalls", lane: .life) { _ throws(APIError) in
                let machine = try running()
                guard let symbiotic = ExitReport(machine.exitStatistics(), name: machine.configuration.name).symbiotic else {
                    throw APIError(400, SymCallFailure.notOffered.description)
                }
                return try .json(symbiotic)
            },
            APIRoute(.put, "/symcalls") { request throws(APIError) in try call(running(), request) },
        ]
    }

    /// A request whose values are in range.
    private struct Question {
        let call: SymCallResource.Call
        let vcpu: Int?
        let count: Int?
        let number: Int?
        let values: [UInt64]

        init(_ received: Received<SymCallResource>) throws(VMMError) {
            call = received.call
            vcpu = try received.integer(.vcpu, received.vcpu, in: 0...(MachineLimits.vcpuCount.upperBound - 1))
            count = try received.integer(.count, received.count, in: 1...SymCallSeries.countLimit)
            number = try received.integer(.number, received.number, in: SymCallRoutes.testNumbers)
            values = (received.values ?? []).compactMap { UInt64(exactly: $0) }
            let place = received.place(of: .values)
            guard values.count == received.values?.count ?? 0 else { throw .user("\(place): expected whole numbers from 0") }
            guard values.count <= 5 else { throw .user("\(place): at most five") }
            guard count == nil || (call == .ping && values.isEmpty) else {
                throw .user("\(received.place(of: .count)): only for ping without values")
            }
            guard call != .test || number != nil else { throw .user("\(received.place(of: .number)): missing") }
        }

        var arguments: SymCallValues {
            let five = values + Array(repeating: 0, count: 5 - values.count)
            return SymCallValues(five[0], five[1], five[2], five[3], five[4])
        }
    }

    private static func call(_ machine: VirtualMachine, _ request: APIRequest) throws(APIError) -> APIResponse {
        let received: Received<SymCallResource> = try request.body()
        let question: Question
        do throws(VMMError) {
            question = try Question(received)
        } catch {
            throw APIError(error)
        }
        if let count = question.count { return body(machine.pingSeries(count: count, vcpu: question.vcpu)) }
        do throws(SymCallFailure) {
            return try perform(machine, question)
        } catch {
            throw APIError(error == .noSuchVCPU ? 404 : 400, "\(machine.configuration.name): \(error)")
        }
    }

    private static func perform(_ machine: VirtualMachine, _ question: Question) throws(SymCallFailure) -> APIResponse {
        let vcpu = question.vcpu ?? 0
        switch question.call {
        case .ping: return body(["values": registers(try machine.ping(question.arguments, vcpu: vcpu))])
        case .uname: return body(try machine.guestName())
        case .task: return body(try machine.currentTask(vcpu: vcpu))
        case .tasks: return body(try machine.guestTasks())
        case .threads: return body(try machine.guestTasks(threads: true))
        case .memory: return body(try machine.guestMemoryUse())
        case .log: return body(["text": try machine.guestLog()])
        case .test:
            let number = UInt32(question.number ?? testNumbers.lowerBound)
            return body(["values": registers(try machine.symcall(number, question.arguments, vcpu: question.vcpu))])
        }
    }

    private static func registers(_ values: SymCallValues) -> [UInt64] {
        [values.rbx, values.rcx, values.rdx, values.rsi, values.rdi]
    }

    private static func body(_ value: some Encodable) -> APIResponse {
        do throws(APIError) {
            return try .json(value)
        } catch {
            return .fault(error)
        }
    }
}
