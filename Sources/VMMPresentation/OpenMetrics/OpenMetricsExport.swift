// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

/// A machine's statistics for a monitoring system. The names are stable; docs/METRICS.md has them all.
package struct OpenMetricsExport {
    private let statistics: ExitStatistics
    private let configuration: MachineConfiguration
    private let state: MachineState
    private let process: ProcessUse
    private var text: OpenMetricsText

    /// Takes a picture of a machine and of this process.
    package init(_ statistics: ExitStatistics, _ configuration: MachineConfiguration, _ state: MachineState, process: ProcessUse = .now()) {
        self.statistics = statistics
        self.configuration = configuration
        self.state = state
        self.process = process
        text = OpenMetricsText(common: [("vm", configuration.name)])
    }

    /// The text. Families without a sample are described all the same.
    package consuming func render() -> String {
        addMachine()
        addExits()
        addProcessors()
        addSymbiotic()
        addServices()
        addDevices()
        addProcess()
        return text.ended
    }

    private mutating func addMachine() {
        text.family("symvmm_build", .info, "The program that runs the VM.")
        text.sample([("version", SymVMMVersion.current)], 1)
        text.family("symvmm_vm_state", .stateset, "Where the VM is in its life.")
        for state in [MachineState.notStarted, .running, .paused, .ended] {
            let word = state == .notStarted ? "not_started" : state.rawValue.lowercased()
            text.sample([("symvmm_vm_state", word)], state == self.state ? 1 : 0)
        }
        text.family("symvmm_uptime_seconds", .gauge, unit: "seconds", "Time since the VM was made.")
        text.sample([], nanoseconds: statistics.uptimeNanoseconds)
        text.family("symvmm_vcpus", .gauge, "Virtual processors.")
        text.sample([], UInt64(configuration.vcpuCount))
        text.family("symvmm_memory_bytes", .gauge, unit: "bytes", "Memory that the guest has.")
        text.sample([], configuration.memoryByteCount)
    }

    private struct Place: Hashable, Comparable {
        let vcpu: Int?
        let reason: String
        let device: String

        static func < (left: Place, right: Place) -> Bool {
            (left.vcpu ?? 0, left.reason, left.device) < (right.vcpu ?? 0, right.reason, right.device)
        }

        /// Reasons without a device have no label for it.
        var labels: OpenMetricsText.Labels {
            (vcpu.map { [("vcpu", "\($0)")] } ?? []) + [("reason", reason)] + (device.isEmpty ? [] : [("device", device)])
        }
    }

    private mutating func addExits() {
        var counts: [Place: UInt64] = [:]
        var latencies: [Place: LatencySummary] = [:]
        for row in statistics.rows {
            let reason = row.reason.description
            counts[Place(vcpu: row.vcpu, reason: reason, device: row.device), default: 0] &+= row.latency.count
            latencies[Place(vcpu: nil, reason: reason, device: row.device), default: .empty].merge(row.latency)
        }
        text.family("symvmm_exits", .counter, "Exits to user space.")
        for (place, count) in counts.sorted(by: { $0.key < $1.key }) { text.sample(place.labels, count) }
        text.family(
            "symvmm_exit_duration_seconds", .histogram, unit: "seconds", "Time from an exit to the next entry: the VMM's, over all vCPUs.")
        for (place, latency) in latencies.sorted(by: { $0.key < $1.key }) { text.histogram(place.labels, latency) }
    }

    private mutating func addProcessors() {
        let processors = statistics.processors
        text.family("symvmm_vcpu_guest_seconds", .counter, unit: "seconds", "Time inside KVM_RUN, halted time included.")
        for processor in processors { text.sample([("vcpu", "\(processor.vcpu)")], nanoseconds: processor.guestNanoseconds) }
        text.family("symvmm_vcpu_vmm_seconds", .counter, unit: "seconds", "Time in user space answering exits.")
        for processor in processors { text.sample([("vcpu", "\(processor.vcpu)")], nanoseconds: processor.vmmNanoseconds) }
        text.family("symvmm_kvm_events", .counter, "KVM's own counters, by the kernel's names.")
        for (processor, counter) in kernelCounters(where: \.isCumulative) {
            text.sample([("vcpu", "\(processor)"), ("event", counter.name)], counter.value)
        }
        text.family("symvmm_kvm_level", .gauge, "KVM's own values that say how it is now, by the kernel's names.")
        for (processor, counter) in kernelCounters(where: { !$0.isCumulative }) {
            text.sample([("vcpu", "\(processor)"), ("level", counter.name)], counter.value)
        }
    }

    private func kernelCounters(where condition: (KernelStatistics.Counter) -> Bool) -> [(vcpu: Int, counter: KernelStatistics.Counter)] {
        statistics.processors.flatMap { processor in processor.kernel.counters.filter(condition).map { (processor.vcpu, $0) } }
    }

    private mutating func addSymbiotic() {
        let symbiotic = statistics.symbiotic
        text.family("symvmm_symbiotic_active", .gauge, "Whether symcalls can be made now.")
        if let symbiotic { text.sample([], symbiotic.isActive ? 1 : 0) }
        text.family("symvmm_symbiotic_events", .counter, "What happened on the symbiotic interface.")
        for (name, value) in symbiotic?.counters ?? [] { text.sample([("event", name)], value) }
        var calls: [UInt32: LatencySummary] = [:]
        for row in symbiotic?.symcalls ?? [] { calls[row.number, default: .empty].merge(row.latency) }
        text.family(
            "symvmm_symcall_duration_seconds", .histogram, unit: "seconds", "Time of a symcall, from the injection to the state put back.")
        for (number, latency) in calls.sorted(by: { $0.key < $1.key }) { text.histogram([("call", SymCallName.of(number))], latency) }
    }

    private mutating func addServices() {
        func values(_ condition: (String) -> Bool) -> [(service: String, name: String, value: UInt64)] {
            statistics.services.flatMap { service in
                service.counters.filter { condition($0.name) }.map { (service.name, $0.name, $0.value) }
            }
        }
        // See SymbioticService.counters().
        text.family("symvmm_service_events", .counter, "What a symbiotic service has counted.")
        for (service, name, value) in values({ !$0.hasPrefix("guest_") && !$0.hasSuffix("_bytes") }) {
            text.sample([("service", service), ("event", name)], value)
        }
        text.family("symvmm_service_bytes", .gauge, unit: "bytes", "Memory of a symbiotic service.")
        for (service, name, value) in values({ !$0.hasPrefix("guest_") && $0.hasSuffix("_bytes") }) {
            text.sample([("service", service), ("kind", String(name.dropLast(6)))], value)
        }
        text.family("symvmm_service_guest_events", .unknown, "What the guest's side of a symbiotic service says it has counted.")
        for (service, name, value) in values({ $0.hasPrefix("guest_") }) {
            text.sample([("service", service), ("event", String(name.dropFirst(6)))], value)
        }
    }

    private mutating func addDevices() {
        func isBytes(_ name: String) -> Bool { name == "bytes" || name.hasSuffix("_bytes") }
        text.family("symvmm_device_events", .counter, "What a virtio device has counted.")
        for device in statistics.devices {
            for (name, value) in device.counters where !isBytes(name) {
                text.sample([("device", device.name), ("event", name)], value)
            }
        }
        text.family("symvmm_device_bytes", .counter, unit: "bytes", "Bytes that went through a virtio device.")
        for device in statistics.devices {
            for (name, value) in device.counters where isBytes(name) {
                text.sample([("device", device.name), ("kind", name == "bytes" ? "all" : String(name.dropLast(6)))], value)
            }
        }
    }

    private mutating func addProcess() {
        text.family("symvmm_process_cpu_seconds", .counter, unit: "seconds", "Processor time of the VM's process, the guest's included.")
        text.sample([], nanoseconds: process.cpuNanoseconds)
        text.family("symvmm_process_resident_memory_bytes", .gauge, unit: "bytes", "Memory of the VM's process, the guest's included.")
        text.sample([], process.residentByteCount)
    }
}
