// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

/// Formats a machine's statistics for a monitoring system. Names are stable; docs/METRICS.md lists them.
package struct OpenMetricsExport {
    private let statistics: ExitStatistics
    private let configuration: MachineConfiguration
    private let state: MachineState
    private let process: ProcessUse
    private var text: OpenMetricsText

    /// Creates an export of a machine's snapshot and of this process's resource use.
    package init(_ statistics: ExitStatistics, _ configuration: MachineConfiguration, _ state: MachineState, process: ProcessUse = .now()) {
        self.statistics = statistics
        self.configuration = configuration
        self.state = state
        self.process = process
        text = OpenMetricsText(common: [("vm", configuration.name)])
    }

    /// The text. It includes the descriptions of families without samples.
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
        text.family("symvmm_vm_state", .stateset, "State of the VM.")
        for state in [MachineState.notStarted, .running, .paused, .ended] {
            let word = state == .notStarted ? "not_started" : state.rawValue.lowercased()
            text.sample([("symvmm_vm_state", word)], state == self.state ? 1 : 0)
        }
        text.family("symvmm_uptime_seconds", .gauge, unit: "seconds", "Time since the VM was created.")
        text.sample([], nanoseconds: statistics.uptimeNanoseconds)
        text.family("symvmm_vcpus", .gauge, "Number of vCPUs.")
        text.sample([], UInt64(configuration.vcpuCount))
        text.family("symvmm_memory_bytes", .gauge, unit: "bytes", "Guest memory.")
        text.sample([], configuration.memoryByteCount)
    }

    private struct Place: Hashable, Comparable {
        let vcpu: Int?
        let reason: String
        let device: String

        static func < (left: Place, right: Place) -> Bool {
            (left.vcpu ?? 0, left.reason, left.device) < (right.vcpu ?? 0, right.reason, right.device)
        }

        /// No device label for reasons without a device.
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
            "symvmm_exit_duration_seconds", .histogram, unit: "seconds", "Time from an exit to the next entry, over all vCPUs.")
        for (place, latency) in latencies.sorted(by: { $0.key < $1.key }) { text.histogram(place.labels, latency) }
    }

    private mutating func addProcessors() {
        let vcpus = statistics.vcpus
        text.family("symvmm_vcpu_guest_seconds", .counter, unit: "seconds", "Time inside KVM_RUN, including halts.")
        for vcpu in vcpus { text.sample([("vcpu", "\(vcpu.vcpu)")], nanoseconds: vcpu.guestNanoseconds) }
        text.family("symvmm_vcpu_vmm_seconds", .counter, unit: "seconds", "Time handling exits in user space.")
        for vcpu in vcpus { text.sample([("vcpu", "\(vcpu.vcpu)")], nanoseconds: vcpu.vmmNanoseconds) }
        text.family(
            "symvmm_vcpu_time_seconds", .counter, unit: "seconds", "The vCPU's time by kind; kinds overlap (docs/METRICS.md, time budget).")
        for vcpu in vcpus {
            for (kind, time) in vcpu.times?.kinds ?? [] { text.sample([("vcpu", "\(vcpu.vcpu)"), ("kind", kind)], nanoseconds: time) }
        }
        text.family("symvmm_kvm_events", .counter, "KVM's own counters, by the kernel's names.")
        for (processor, counter) in kernelCounters(where: \.isCumulative) {
            text.sample([("vcpu", "\(processor)"), ("event", counter.name)], counter.value)
        }
        text.family("symvmm_kvm_level", .gauge, "KVM's own gauges, by the kernel's names.")
        for (processor, counter) in kernelCounters(where: { !$0.isCumulative }) {
            text.sample([("vcpu", "\(processor)"), ("level", counter.name)], counter.value)
        }
    }

    private func kernelCounters(where condition: (KernelStatistics.Counter) -> Bool) -> [(vcpu: Int, counter: KernelStatistics.Counter)] {
        statistics.vcpus.flatMap { processor in processor.kernel.counters.filter(condition).map { (processor.vcpu, $0) } }
    }

    private mutating func addSymbiotic() {
        let symbiotic = statistics.symbiotic
        text.family("symvmm_symbiotic_active", .gauge, "Whether symcalls can be made.")
        if let symbiotic { text.sample([], symbiotic.isActive ? 1 : 0) }
        text.family("symvmm_symbiotic_events", .counter, "Events on the symbiotic interface.")
        for (name, value) in symbiotic?.counters ?? [] { text.sample([("event", name)], value) }
        var calls: [UInt32: LatencySummary] = [:]
        for row in symbiotic?.symcalls ?? [] { calls[row.number, default: .empty].merge(row.latency) }
        text.family(
            "symvmm_symcall_duration_seconds", .histogram, unit: "seconds", "Time of a symcall, from the injection to the restored state.")
        for (number, latency) in calls.sorted(by: { $0.key < $1.key }) { text.histogram([("call", SymCallName.of(number))], latency) }
    }

    private mutating func addServices() {
        func values(_ condition: (String) -> Bool) -> [(service: String, name: String, value: UInt64)] {
            statistics.services.flatMap { service in
                service.counters.filter { condition($0.name) }.map { (service.name, $0.name, $0.value) }
            }
        }
        // See SymbioticService.counters().
        text.family("symvmm_service_events", .counter, "Events counted by a symbiotic service.")
        for (service, name, value) in values({ !$0.hasPrefix("guest_") && !$0.hasSuffix("_bytes") }) {
            text.sample([("service", service), ("event", name)], value)
        }
        text.family("symvmm_service_bytes", .gauge, unit: "bytes", "Memory of a symbiotic service.")
        for (service, name, value) in values({ !$0.hasPrefix("guest_") && $0.hasSuffix("_bytes") }) {
            text.sample([("service", service), ("kind", String(name.dropLast(6)))], value)
        }
        text.family("symvmm_service_guest_events", .unknown, "Events reported by the guest's part of a symbiotic service.")
        for (service, name, value) in values({ $0.hasPrefix("guest_") }) {
            text.sample([("service", service), ("event", String(name.dropFirst(6)))], value)
        }
    }

    private mutating func addDevices() {
        func isBytes(_ name: String) -> Bool { name == "bytes" || name.hasSuffix("_bytes") }
        text.family("symvmm_device_events", .counter, "Events counted by a virtio device.")
        for device in statistics.devices {
            for (name, value) in device.counters where !isBytes(name) {
                text.sample([("device", device.name), ("event", name)], value)
            }
        }
        text.family("symvmm_device_bytes", .counter, unit: "bytes", "Bytes transferred by a virtio device.")
        for device in statistics.devices {
            for (name, value) in device.counters where isBytes(name) {
                text.sample([("device", device.name), ("kind", name == "bytes" ? "all" : String(name.dropLast(6)))], value)
            }
        }
    }

    private mutating func addProcess() {
        text.family("symvmm_process_cpu_seconds", .counter, unit: "seconds", "CPU time of the VM's process, including the guest.")
        text.sample([], nanoseconds: process.cpuNanoseconds)
        text.family(
            "symvmm_process_resident_memory_bytes", .gauge, unit: "bytes", "Resident memory of the VM's process, including the guest.")
        text.sample([], process.residentByteCount)
    }
}
