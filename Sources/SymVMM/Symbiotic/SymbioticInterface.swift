// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI
internal import Synchronization
internal import VMMBase

/// The symbiotic interface of one VM: its registration MSRs, the global page, and the calls that wait for a doorbell (docs/ABI.md).
final class SymbioticInterface: MSRDevice, @unchecked Sendable {
    /// The MSRs, with the unused ones between, which give #GP.
    static let registers = SYMBIOTIC_MSR_BASE..<(SYMBIOTIC_MSR_FS_BASE + 1)
    /// Most calls made in one doorbell's exit; the guest's interrupts are off meanwhile.
    private static let callsPerDoorbell = 8

    let memory: GuestMemory
    let counters = SymbioticCounters()
    /// For each doorbell the service that answers it.
    private let services: [SymbioticService?]

    /// GPA of the global page, 0 when there is none.
    private let globalPageAddress = Atomic<UInt64>(0)
    /// Held by who writes to the global page, so that nobody does once the guest has it back. Not on the exit path.
    private let writing = Mutex<Void>(())
    /// Counts the drops of everything registered: a vCPU's registration is of one generation.
    let generationCounter = RegistrationGeneration()
    private let isSwitchedOff = Atomic<Bool>(false)
    private let isLeaving = Atomic<Bool>(false)
    /// SYMV0001's interrupt.
    private let interrupt: InterruptLine
    private let waiting = Mutex<[SymCallRequest]>([])

    init(memory: GuestMemory, interrupt: InterruptLine, services: [SymbioticService] = []) {
        self.memory = memory
        self.interrupt = interrupt
        self.services = (0...UInt8.max).map { doorbell in services.first { $0.claims.doorbells?.contains(doorbell) == true } }
        super.init(name: "symbiotic")
    }

    // MARK: Registration, on vCPU threads

    override func read(_ index: UInt32, from context: VCPUContext) -> UInt64? {
        if index == SYMBIOTIC_MSR_GLOBAL_PAGE { return globalPage }
        return (context as? SymbioticVCPU)?.symbiotic?.registration(self).read(index)
    }

    override func write(_ index: UInt32, _ value: UInt64, from context: VCPUContext) -> Bool {
        let isTaken: Bool
        if index == SYMBIOTIC_MSR_GLOBAL_PAGE {
            isTaken = writeGlobalPage(value)
        } else {
            let vcpu = context as? SymbioticVCPU
            isTaken = vcpu?.symbiotic?.register(self, index, value, addressBits: vcpu?.linearAddressBits() ?? 48) ?? false
        }
        if !isTaken { counters.registrationsRefused.increment() }
        return isTaken
    }

    private func writeGlobalPage(_ value: UInt64) -> Bool {
        if value == 0 {
            writing.withLock { _ in globalPageAddress.store(0, ordering: .sequentiallyConsistent) }
            generationCounter.advance()
            isLeaving.store(false, ordering: .relaxed)
            return true
        }
        // Two vCPUs may write at once: one of them wins.
        guard isPage(value), globalPageAddress.compareExchange(expected: 0, desired: value, ordering: .sequentiallyConsistent).exchanged
        else { return false }
        withGlobalPage { page in
            try? memory.store(SYMBIOTIC_ABI_VERSION, at: page + GlobalPage.vmmVersion)
            try? memory.store(UInt32(0), at: page + GlobalPage.vmmFlags)
        }
        isSwitchedOff.store(false, ordering: .relaxed)
        return true
    }

    /// Whether a GPA is that of a whole page of RAM.
    func isPage(_ address: UInt64) -> Bool {
        address % GuestMemory.pageSize == 0 && memory.contains(address, byteCount: Int(GuestMemory.pageSize))
    }

    // MARK: State, any thread

    /// GPA of the global page, 0 when there is none.
    var globalPage: UInt64 { globalPageAddress.load(ordering: .acquiring) }

    /// Gives the global page, if there is one, to somebody who writes to it: meanwhile the guest does not get it back. No symcall in there.
    ///
    /// - Returns: whether there was one.
    @discardableResult
    func withGlobalPage(_ write: (UInt64) -> Void) -> Bool {
        writing.withLock { _ in
            let page = globalPage
            guard page != 0 else { return false }
            write(page)
            return true
        }
    }

    /// The present generation of registrations.
    var generation: UInt64 { generationCounter.current }

    /// Why no symcall can be made in this VM now, whatever the vCPU; nil when one can.
    var obstacle: SymCallError? {
        if globalPage == 0 { return .noModule }
        if isSwitchedOff.load(ordering: .relaxed) { return .switchedOff }
        if isLeaving.load(ordering: .relaxed) { return .leaving }
        let version: UInt32 = (try? memory.load(globalPage + GlobalPage.version)) ?? 0
        return version >> 16 == SYMBIOTIC_ABI_MAJOR ? nil : .noModule
    }

    /// A handler outran its time: no more symcalls until the guest registers anew.
    func switchOff() {
        isSwitchedOff.store(true, ordering: .relaxed)
        withGlobalPage { page in try? memory.store(SYMBIOTIC_VMM_SYMCALLS_OFF, at: page + GlobalPage.vmmFlags) }
    }

    /// Whether the guest's bitmap says that it has a symcall.
    func has(_ number: UInt32) -> Bool { bit(number, GlobalPage.symcalls) }

    /// Whether the guest's bitmap says that a symcall may be injected directly.
    func mayInject(_ number: UInt32) -> Bool { bit(number, GlobalPage.direct) }

    private func bit(_ number: UInt32, _ offset: UInt64) -> Bool {
        let page = globalPage
        guard page != 0, number < SYMBIOTIC_SYMCALL_COUNT else { return false }
        let word: UInt64 = (try? memory.load(page + offset + UInt64(number / 64 * 8))) ?? 0
        return word >> UInt64(number % 64) & 1 == 1
    }

    /// The guest's shared buffer as it says now, checked: whole pages in RAM, at most 16 MiB.
    var sharedBuffer: (address: UInt64, byteCount: Int)? {
        let page = globalPage
        guard page != 0, let address: UInt64 = try? memory.load(page + GlobalPage.bufferAddress),
            let byteCount: UInt32 = try? memory.load(page + GlobalPage.bufferByteCount)
        else { return nil }
        guard address % GuestMemory.pageSize == 0, byteCount >= 4096, byteCount <= 16 << 20, byteCount % 4096 == 0,
            memory.contains(address, byteCount: Int(byteCount))
        else { return nil }
        return (address, Int(byteCount))
    }

    /// Offsets in the global page (docs/ABI.md, section 3.1).
    private enum GlobalPage {
        static let version = UInt64(SYMBIOTIC_GLOBAL_VERSION)
        static let bufferAddress = UInt64(SYMBIOTIC_GLOBAL_BUFFER_GPA)
        static let bufferByteCount = UInt64(SYMBIOTIC_GLOBAL_BUFFER_SIZE)
        static let symcalls = UInt64(SYMBIOTIC_GLOBAL_SYMCALLS)
        static let direct = UInt64(SYMBIOTIC_GLOBAL_DIRECT)
        static let vmmVersion = UInt64(SYMBIOTIC_GLOBAL_VMM_VERSION)
        static let vmmFlags = UInt64(SYMBIOTIC_GLOBAL_VMM_FLAGS)
        static let requests = UInt64(SYMBIOTIC_GLOBAL_REQUESTS)
    }

    // MARK: Calls that wait for a doorbell

    /// Queues a call and asks the guest for a doorbell. Any thread.
    func submit(_ request: SymCallRequest) {
        waiting.withLock { $0.append(request) }
        raiseInterrupt()
    }

    /// Takes a call that nobody waits for any more out of the queue.
    func withdraw(_ request: SymCallRequest) {
        waiting.withLock { $0.removeAll { $0 === request } }
    }

    private func raiseInterrupt() {
        withGlobalPage { page in
            let count: UInt64 = (try? memory.load(page + GlobalPage.requests)) ?? 0
            try? memory.store(count &+ 1, at: page + GlobalPage.requests)
        }
        counters.interruptsRaised.increment()
        interrupt.trigger()
    }

    /// A doorbell rung at CPL 0, its OUT finished. On the vCPU's thread.
    func handleDoorbell(_ number: UInt8, _ values: SymCallValues, _ vcpu: SymbioticVCPU) {
        counters.doorbells.increment()
        switch UInt32(number) {
        case SYMBIOTIC_DOORBELL_SERVE: serve(vcpu)
        case SYMBIOTIC_DOORBELL_READY: isLeaving.store(false, ordering: .relaxed)
        case SYMBIOTIC_DOORBELL_LEAVING: isLeaving.store(true, ordering: .relaxed)
        default:
            if let service = services[Int(number)] {
                service.handle(doorbell: number, values, on: vcpu)
            } else {
                counters.doorbellsIgnored.increment()
            }
        }
    }

    private func serve(_ vcpu: SymbioticVCPU) {
        for _ in 0..<SymbioticInterface.callsPerDoorbell {
            guard let request = waiting.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else { return }
            do throws(SymCallError) {
                request.finish(.success(try vcpu.symcall(request.number, request.arguments)))
            } catch {
                request.finish(.failure(error))
            }
        }
        if waiting.withLock({ !$0.isEmpty }) { raiseInterrupt() }
    }
}
