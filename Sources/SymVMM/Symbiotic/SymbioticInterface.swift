// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import SymbioticABI
internal import Synchronization
internal import VMMBase

/// The symbiotic interface of one VM: its registration MSRs, its global page, and the symcalls that wait for a doorbell (docs/ABI.md).
final class SymbioticInterface: MSRDevice, @unchecked Sendable {
    /// The MSRs. The range has gaps, which give #GP.
    static let registers = SYMBIOTIC_MSR_BASE..<(SYMBIOTIC_MSR_FS_BASE + 1)
    /// Most symcalls made in one doorbell's exit. The guest's interrupts are disabled during it.
    private static let symcallsPerDoorbell = 8

    let memory: GuestMemory
    let counters = SymbioticCounters()
    /// The service that handles each doorbell, by the doorbell's number.
    private let services: [SymbioticService?]

    /// GPA of the global page; 0 when the guest has not registered one.
    private let globalPageAddress = Atomic<UInt64>(0)
    /// Held while the VMM writes to the global page, so that the guest cannot unregister it meanwhile. Not on the exit path.
    private let globalPageLock = Mutex<Void>(())
    /// Each vCPU's registration belongs to one generation. Dropping the global page starts a new one.
    let generationCounter = RegistrationGeneration()
    let isDisabled = Atomic<Bool>(false)
    let isUnloading = Atomic<Bool>(false)
    /// The interrupt of SYMV0001.
    private let interrupt: InterruptLine
    /// Symcalls that wait for a doorbell.
    private let queue = SymCallQueue()

    init(memory: GuestMemory, interrupt: InterruptLine, services: [SymbioticService] = []) {
        self.memory = memory
        self.interrupt = interrupt
        self.services = (0...UInt8.max).map { doorbell in services.first { $0.claims.doorbells?.contains(doorbell) == true } }
        super.init(name: "symbiotic")
    }

    // MARK: MSRs, on vCPU threads

    override func read(_ index: UInt32, from context: VCPUContext) -> UInt64? {
        if index == SYMBIOTIC_MSR_GLOBAL_PAGE { return globalPage }
        return (context as? SymbioticVCPU)?.symCallEngine?.registration.current.read(index)
    }

    override func write(_ index: UInt32, _ value: UInt64, from context: VCPUContext) -> Bool {
        let isAccepted: Bool
        if index == SYMBIOTIC_MSR_GLOBAL_PAGE {
            isAccepted = writeGlobalPage(value)
        } else {
            let vcpu = context as? SymbioticVCPU
            isAccepted = vcpu?.symCallEngine?.registration.write(index, value, addressBits: vcpu?.linearAddressBits() ?? 48) ?? false
        }
        if !isAccepted { counters.registrationsRefused.increment() }
        return isAccepted
    }

    /// Handles a WRMSR to GLOBAL_PAGE. False means #GP.
    func writeGlobalPage(_ value: UInt64) -> Bool {
        if value == 0 {
            globalPageLock.withLock { _ in globalPageAddress.store(0, ordering: .sequentiallyConsistent) }
            generationCounter.advance()
            isUnloading.store(false, ordering: .relaxed)
            return true
        }
        // When two vCPUs write at the same time, one of them gets #GP.
        guard isPage(value), globalPageAddress.compareExchange(expected: 0, desired: value, ordering: .sequentiallyConsistent).exchanged
        else { return false }
        withGlobalPage { page in
            try? memory.store(SYMBIOTIC_ABI_VERSION, at: page + GlobalPage.vmmVersion)
            try? memory.store(UInt32(0), at: page + GlobalPage.vmmFlags)
        }
        isDisabled.store(false, ordering: .relaxed)
        return true
    }

    /// Whether a GPA is that of a whole page of RAM.
    func isPage(_ address: UInt64) -> Bool {
        address % GuestMemory.pageSize == 0 && memory.contains(address, byteCount: Int(GuestMemory.pageSize))
    }

    // MARK: State, any thread

    /// GPA of the global page; 0 when the guest has not registered one.
    var globalPage: UInt64 { globalPageAddress.load(ordering: .acquiring) }

    /// Calls `write` with the GPA of the global page, if there is one. The guest cannot unregister the page until `write` returns. `write` must not
    /// make a symcall.
    ///
    /// - Returns: whether there is a global page.
    @discardableResult
    func withGlobalPage(_ write: (UInt64) -> Void) -> Bool {
        globalPageLock.withLock { _ in
            let page = globalPage
            guard page != 0 else { return false }
            write(page)
            return true
        }
    }

    /// The present generation of registrations.
    var generation: UInt64 { generationCounter.current }

    /// Why no vCPU of this VM accepts a symcall now; nil when they may.
    var unavailableReason: SymCallFailure? {
        if globalPage == 0 { return .noModule }
        if isDisabled.load(ordering: .relaxed) { return .disabled }
        if isUnloading.load(ordering: .relaxed) { return .moduleUnloading }
        let version: UInt32 = (try? memory.load(globalPage + GlobalPage.version)) ?? 0
        return version >> 16 == SYMBIOTIC_ABI_MAJOR ? nil : .noModule
    }

    /// A handler exceeded its time limit: makes no more symcalls until the guest registers again.
    func disable() {
        isDisabled.store(true, ordering: .relaxed)
        withGlobalPage { page in try? memory.store(SYMBIOTIC_VMM_SYMCALLS_OFF, at: page + GlobalPage.vmmFlags) }
    }

    /// Whether the guest offers a symcall.
    func has(_ number: UInt32) -> Bool { bit(number, GlobalPage.symcalls) }

    /// Whether the guest allows the VMM to inject a symcall directly.
    func mayInject(_ number: UInt32) -> Bool { bit(number, GlobalPage.direct) }

    private func bit(_ number: UInt32, _ offset: UInt64) -> Bool {
        let page = globalPage
        guard page != 0, number < SYMBIOTIC_SYMCALL_COUNT else { return false }
        let word: UInt64 = (try? memory.load(page + offset + UInt64(number / 64 * 8))) ?? 0
        return word >> UInt64(number % 64) & 1 == 1
    }

    /// The guest's shared buffer, checked: whole pages of RAM, at most 16 MiB.
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

    // MARK: Symcalls that wait for a doorbell

    /// Limits the guest's time for these symcalls.
    let pace = SymCallPace()

    /// Queues a symcall and asks the guest for a doorbell. Any thread.
    func submit(_ request: SymCallRequest) {
        queue.append(request)
        raiseInterrupt()
    }

    /// Removes a symcall whose thread has stopped waiting. Any thread.
    func withdraw(_ request: SymCallRequest) {
        queue.remove(request)
    }

    private func raiseInterrupt() {
        withGlobalPage { page in
            let count: UInt64 = (try? memory.load(page + GlobalPage.requests)) ?? 0
            try? memory.store(count &+ 1, at: page + GlobalPage.requests)
        }
        counters.interruptsRaised.increment()
        interrupt.trigger()
    }

    /// Gives a doorbell to what handles it: the interface itself or a service. `SymCallEngine.handleDoorbell` calls it, inside a session.
    func dispatchDoorbell(_ number: UInt8, _ values: SymCallValues, _ vcpu: SymbioticVCPU) {
        counters.doorbells.increment()
        switch UInt32(number) {
        case SYMBIOTIC_DOORBELL_SERVE: makeQueuedSymCalls(vcpu)
        case SYMBIOTIC_DOORBELL_READY: isUnloading.store(false, ordering: .relaxed)
        case SYMBIOTIC_DOORBELL_LEAVING: isUnloading.store(true, ordering: .relaxed)
        default:
            if let service = services[Int(number)] {
                service.handle(doorbell: number, values, on: vcpu)
            } else {
                counters.doorbellsIgnored.increment()
            }
        }
    }

    private func makeQueuedSymCalls(_ vcpu: SymbioticVCPU) {
        let started = ckvm_ticks()
        defer { pace.record(from: started, to: ckvm_ticks()) }
        for _ in 0..<SymbioticInterface.symcallsPerDoorbell {
            guard let request = queue.takeFirst() else { return }
            do throws(SymCallFailure) {
                request.complete(.success(try vcpu.symcall(request.number, request.arguments)))
            } catch {
                request.complete(.failure(error))
            }
        }
        if !queue.isEmpty { raiseInterrupt() }
    }
}
