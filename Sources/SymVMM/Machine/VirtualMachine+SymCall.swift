// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

extension VirtualMachine {
    /// Milliseconds after which a guest counts as one that does not answer.
    private static let patience: Int32 = 5000
    /// Milliseconds after which a vCPU is kicked again: the first time, an event may have been on its way into the guest.
    private static let repeatInterval: Int32 = 1

    /// Calls the guest from outside. Any thread but a vCPU's; waits for the answer, at most 5 s.
    ///
    /// - Parameters:
    ///   - vcpu: the vCPU to inject the call into, whatever it does; nil asks the guest for a doorbell and makes the call inside its exit.
    ///   Calls that need a lock or RCU in the guest can only be made that way (docs/ABI.md, section 4.4).
    /// - Returns: the guest's word: check it before use.
    public func symcall(_ number: UInt32, _ arguments: SymCallValues = SymCallValues(), vcpu: Int? = nil) throws(SymCallError)
        -> SymCallValues
    {
        try ask(number, arguments, vcpu: vcpu).result.get()
    }

    /// The same, with what is known of the vCPU besides the results.
    func ask(_ number: UInt32, _ arguments: SymCallValues, vcpu: Int?) throws(SymCallError) -> SymCallRequest.Answer {
        guard let symbiotic else { throw .notOffered }
        guard state == .running else { throw .notRunning }
        if let obstacle = symbiotic.obstacle { throw obstacle }
        guard symbiotic.has(number) else { throw .unknown }
        let request: SymCallRequest
        do throws(KVMError) {
            request = try SymCallRequest(number, arguments)
        } catch {
            throw .notRunning
        }
        let answer: SymCallRequest.Answer?
        if let vcpu {
            guard symbiotic.mayInject(number) else { throw .needsDoorbell }
            answer = try inject(request, vcpu)
        } else {
            symbiotic.submit(request)
            answer = request.wait(milliseconds: VirtualMachine.patience)
            if answer == nil { symbiotic.withdraw(request) }
        }
        guard let answer else {
            symbiotic.counters.unanswered.increment()
            throw state == .running ? .noAnswer : .notRunning
        }
        return answer
    }

    private func inject(_ request: SymCallRequest, _ vcpu: Int) throws(SymCallError) -> SymCallRequest.Answer? {
        guard processors.indices.contains(vcpu) else { throw .noSuchProcessor }
        let processor = processors[vcpu]
        processor.submit(request)
        var isRunning = true
        for _ in 0..<(VirtualMachine.patience / VirtualMachine.repeatInterval) {
            // A machine that was paused or has ended meanwhile does not answer any more.
            isRunning = kick(vcpu)
            guard isRunning else { break }
            if let answer = request.wait(milliseconds: VirtualMachine.repeatInterval) { return answer }
            processor.resubmit()
        }
        processor.withdraw(request)
        // It may have come at the last moment.
        if let answer = request.wait(milliseconds: 0) { return answer }
        // Said here: a machine that goes on a moment later must not look like a guest that does not answer.
        if !isRunning { throw .notRunning }
        return nil
    }
}
