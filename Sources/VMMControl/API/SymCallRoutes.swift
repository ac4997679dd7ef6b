// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMModel

/// The resource `/symcalls`: what the guest can be asked, and the questions.
///
///     GET /symcalls                                        the interface's state and counters
///     PUT /symcalls {"call": "tasks"}                      asks the guest; the answer is the body
///     PUT /symcalls {"call": "ping", "values": [1,2,3,4,5], "vcpu": 0}
///     PUT /symcalls {"call": "ping", "repeat": 1000}       so many one after the other, without a vcpu on random ones: for tests
///     PUT /symcalls {"call": "test", "number": 481, "vcpu": 0}   a call of the module's test builds (docs/ABI.md, section 8); without a
///                                                          vcpu, inside a doorbell's exit
package enum SymCallRoutes {
    /// The calls by name.
    package static let calls = ["ping", "uname", "task", "tasks", "threads", "memory", "log"]

    /// The calls that only test builds of the guest's module have.
    private static let testNumbers = 0x1e0...0x1ff

    /// The routes onto a machine.
    ///
    /// - Parameter machine: answers nil as long as there is none.
    static func routes(for machine: @escaping @Sendable () -> VirtualMachine?) -> [APIRoute] {
        @Sendable func running() throws(APIError) -> VirtualMachine {
            guard let machine = machine() else { throw APIError(400, "the VM has not been started") }
            return machine
        }
        return [
            APIRoute(.get, "/symcalls") { _ throws(APIError) in
                let machine = try running()
                guard let symbiotic = ExitReport(machine.exitStatistics(), name: machine.configuration.name).symbiotic else {
                    throw APIError(400, SymCallError.notOffered.description)
                }
                return try .json(symbiotic)
            },
            APIRoute(.put, "/symcalls") { request throws(APIError) in try ask(running(), request) },
        ]
    }

    private static func ask(_ machine: VirtualMachine, _ request: APIRequest) throws(APIError) -> APIResponse {
        var fields = try request.fields()
        let call: String
        let vcpu: Int?
        let count: Int?
        let number: Int?
        let values: [UInt64]
        do throws(ControlError) {
            call = try fields.requiredString("call")
            vcpu = try fields.integer("vcpu", 0...(MachineLimits.vcpuCount.upperBound - 1))
            count = try fields.integer("repeat", 1...SymCallSeries.countLimit)
            number = try fields.integer("number", testNumbers)
            values = try fields.integers("values") ?? []
            try fields.checkAllTaken()
        } catch {
            throw APIError(error)
        }
        guard values.count <= 5 else { throw APIError(400, "values: at most five") }
        if let count {
            guard call == "ping", values.isEmpty else { throw APIError(400, "repeat: for ping without values only") }
            return body(machine.pingSeries(count: count, vcpu: vcpu))
        }
        do throws(SymCallError) {
            let values = values + Array(repeating: 0, count: 5 - values.count)
            if call == "test", let number { return try test(machine, UInt32(number), vcpu, values) }
            return try answer(machine, call, vcpu ?? 0, values)
        } catch {
            throw APIError(error == .noSuchProcessor ? 404 : 400, "\(machine.configuration.name): \(error)")
        }
    }

    private static func answer(_ machine: VirtualMachine, _ call: String, _ vcpu: Int, _ values: [UInt64]) throws(SymCallError)
        -> APIResponse
    {
        switch call {
        case "ping":
            let echo = try machine.ping(SymCallValues(values[0], values[1], values[2], values[3], values[4]), vcpu: vcpu)
            return body(["values": [echo.rbx, echo.rcx, echo.rdx, echo.rsi, echo.rdi]])
        case "uname": return body(try machine.guestName())
        case "task": return body(try machine.currentTask(vcpu: vcpu))
        case "tasks": return body(try machine.guestTasks())
        case "threads": return body(try machine.guestTasks(threads: true))
        case "memory": return body(try machine.guestMemoryUse())
        case "log": return body(["text": try machine.guestLog()])
        default: return .fault(APIError(400, "call: '\(call)' is not one of \(calls.joined(separator: ", "))"))
        }
    }

    private static func test(_ machine: VirtualMachine, _ number: UInt32, _ vcpu: Int?, _ values: [UInt64]) throws(SymCallError)
        -> APIResponse
    {
        let arguments = SymCallValues(values[0], values[1], values[2], values[3], values[4])
        let results = try machine.symcall(number, arguments, vcpu: vcpu)
        return body(["values": [results.rbx, results.rcx, results.rdx, results.rsi, results.rdi]])
    }

    private static func body(_ value: some Encodable) -> APIResponse {
        do throws(APIError) {
            return try .json(value)
        } catch {
            return .fault(error)
        }
    }
}
