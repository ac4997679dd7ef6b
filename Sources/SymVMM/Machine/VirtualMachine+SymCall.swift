// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

extension VirtualMachine {
    /// Milliseconds until a symcall requested from outside fails.
    private static let symCallTimeout: Int32 = 5000
    /// Milliseconds between two looks at whether the machine has ended.
    private static let lookInterval: Int32 = 50
    /// Milliseconds until a vCPU is kicked again. At the first kick, KVM may have been injecting an event.
    private static let kickInterval: Int32 = 1

    /// Makes a symcall from outside. Any thread but a vCPU's; waits for the result, at most 5 s.
    ///
    /// - Parameters:
    ///   - number: the symcall's number (docs/ABI.md, section 4.4).
    ///   - arguments: the values for the handler's registers.
    ///   - vcpu: the vCPU to inject the symcall into, whatever it executes; nil asks the guest for a doorbell and makes the symcall inside its exit.
    ///   Symcalls that need a lock or RCU in the guest require the latter (docs/ABI.md, section 4.4).
    /// - Returns: what the guest returned: check it before use.
    public func symcall(_ number: UInt32, _ arguments: SymCallValues = SymCallValues(), vcpu: Int? = nil) throws(SymCallFailure)
        -> SymCallValues
    {
        try requestSymCall(number, arguments, vcpu: vcpu).result.get()
    }

    /// The same; the response also has the vCPU's privilege level.
    func requestSymCall(_ number: UInt32, _ arguments: SymCallValues, vcpu: Int?) throws(SymCallFailure) -> SymCallRequest.Response {
        guard let symbiotic else { throw .notOffered }
        guard state == .running else { throw .notRunning }
        if let reason = symbiotic.unavailableReason { throw reason }
        guard symbiotic.has(number) else { throw .unknown }
        let request: SymCallRequest
        do throws(VMMError) {
            request = try SymCallRequest(number, arguments)
        } catch {
            throw .notRunning
        }
        let response: SymCallRequest.Response?
        if let vcpu {
            guard symbiotic.mayInject(number) else { throw .needsDoorbell }
            response = try inject(request, vcpu)
        } else {
            leaveTimeToGuest(symbiotic.pace.remainingTicks)
            symbiotic.submit(request)
            response = wait(for: request)
            if response == nil { symbiotic.withdraw(request) }
        }
        guard let response else {
            symbiotic.counters.unanswered.increment()
            throw state == .running ? .noResponse : .notRunning
        }
        return response
    }

    /// Waits for the response of a doorbell; nil after the timeout, or when the machine has ended: no vCPU responds then.
    private func wait(for request: SymCallRequest) -> SymCallRequest.Response? {
        for _ in 0..<(VirtualMachine.symCallTimeout / VirtualMachine.lookInterval) {
            if let response = request.wait(timeoutMilliseconds: VirtualMachine.lookInterval) { return response }
            guard state != .ended else { return nil }
        }
        return nil
    }

    /// Waits on the requesting thread until the guest has had as much time as the last symcalls took, at most 0.5 s.
    private func leaveTimeToGuest(_ ticks: UInt64) {
        guard ticks > 0 else { return }
        usleep(UInt32(min(clock.scale()(ticks) / 1000, 500_000)))
    }

    private func inject(_ request: SymCallRequest, _ vcpu: Int) throws(SymCallFailure) -> SymCallRequest.Response? {
        guard processors.indices.contains(vcpu) else { throw .noSuchVCPU }
        let processor = processors[vcpu]
        leaveTimeToGuest(processor.pace.remainingTicks)
        processor.submit(request)
        var isRunning = true
        for _ in 0..<(VirtualMachine.symCallTimeout / VirtualMachine.kickInterval) {
            // False when another thread has paused or ended the machine.
            isRunning = kick(vcpu)
            guard isRunning else { break }
            if let response = request.wait(timeoutMilliseconds: VirtualMachine.kickInterval) { return response }
            processor.resubmit()
        }
        processor.withdraw(request)
        // The vCPU may have completed the request just before.
        if let response = request.wait(timeoutMilliseconds: 0) { return response }
        // Thrown here: if the machine resumes now, the caller would report a guest that does not respond.
        if !isRunning { throw .notRunning }
        return nil
    }
}
