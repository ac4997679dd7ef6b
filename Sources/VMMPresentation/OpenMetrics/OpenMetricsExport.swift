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
    package init(
        _ statistics: ExitStatistics, _ configuration: MachineConfiguration, _ state: MachineState, process: ProcessUse = .now(),
        form: MetricsForm = .openMetrics
    ) {
        self.statistics = statistics
        self.configuration = configuration
        self.state = state
        self.process = process
        text = OpenMetricsText(common: [("vm", configuration.name)], form: form)
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
        text.family(.build)
        text.sample([("version", SymVMMVersion.current)], 1)
        text.family(.vmState)
        for state in [MachineState.notStarted, .running, .paused, .ended] {
            let word = state == .notStarted ? "not_started" : state.rawValue.lowercased()
            text.sample([("symvmm_vm_state", word)], state == self.state ? 1 : 0)
        }
        text.family(.uptime)
        text.sample([], nanoseconds: statistics.uptimeNanoseconds)
        text.family(.vcpus)
        text.sample([], UInt64(configuration.vcpuCount))
        text.family(.memory)
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
        text.family(.exits)
        for (place, count) in counts.sorted(by: { $0.key < $1.key }) { text.sample(place.labels, count) }
        text.family(.exitDuration)
        for (place, latency) in latencies.sorted(by: { $0.key < $1.key }) { text.histogram(place.labels, latency) }
    }

    private mutating func addProcessors() {
        let vcpus = statistics.vcpus
        text.family(.vcpuGuest)
        for vcpu in vcpus { text.sample([("vcpu", "\(vcpu.vcpu)")], nanoseconds: vcpu.guestNanoseconds) }
        text.family(.vcpuVMM)
        for vcpu in vcpus { text.sample([("vcpu", "\(vcpu.vcpu)")], nanoseconds: vcpu.vmmNanoseconds) }
        text.family(.vcpuTime)
        for vcpu in vcpus {
            for (kind, time) in vcpu.times?.kinds ?? [] { text.sample([("vcpu", "\(vcpu.vcpu)"), ("kind", kind)], nanoseconds: time) }
        }
        text.family(.kvmEvents)
        for (processor, counter) in kernelCounters(where: \.isCumulative) {
            text.sample([("vcpu", "\(processor)"), ("event", counter.name)], counter.value)
        }
        text.family(.kvmLevel)
        for (processor, counter) in kernelCounters(where: { !$0.isCumulative }) {
            text.sample([("vcpu", "\(processor)"), ("level", counter.name)], counter.value)
        }
    }

    private func kernelCounters(where condition: (KernelStatistics.Counter) -> Bool) -> [(vcpu: Int, counter: KernelStatistics.Counter)] {
        statistics.vcpus.flatMap { processor in processor.kernel.counters.filter(condition).map { (processor.vcpu, $0) } }
    }

    private mutating func addSymbiotic() {
        let symbiotic = statistics.symbiotic
        text.family(.symbioticActive)
        if let symbiotic { text.sample([], symbiotic.isActive ? 1 : 0) }
        text.family(.symbioticEvents)
        for (name, value) in symbiotic?.counters ?? [] { text.sample([("event", name)], value) }
        var calls: [UInt32: LatencySummary] = [:]
        for row in symbiotic?.symcalls ?? [] { calls[row.number, default: .empty].merge(row.latency) }
        text.family(.symCallDuration)
        for (number, latency) in calls.sorted(by: { $0.key < $1.key }) { text.histogram([("call", SymCallName.of(number))], latency) }
    }

    private mutating func addServices() {
        func values(_ condition: (String) -> Bool) -> [(service: String, name: String, value: UInt64)] {
            statistics.services.flatMap { service in
                service.counters.filter { condition($0.name) }.map { (service.name, $0.name, $0.value) }
            }
        }
        // See SymbioticService.counters().
        text.family(.serviceEvents)
        for (service, name, value) in values({ !$0.hasPrefix("guest_") && !$0.hasSuffix("_bytes") }) {
            text.sample([("service", service), ("event", name)], value)
        }
        text.family(.serviceBytes)
        for (service, name, value) in values({ !$0.hasPrefix("guest_") && $0.hasSuffix("_bytes") }) {
            text.sample([("service", service), ("kind", String(name.dropLast(6)))], value)
        }
        text.family(.serviceGuestEvents)
        for (service, name, value) in values({ $0.hasPrefix("guest_") }) {
            text.sample([("service", service), ("event", String(name.dropFirst(6)))], value)
        }
    }

    private mutating func addDevices() {
        func isBytes(_ name: String) -> Bool { name == "bytes" || name.hasSuffix("_bytes") }
        text.family(.deviceEvents)
        for device in statistics.devices {
            for (name, value) in device.counters where !isBytes(name) {
                text.sample([("device", device.name), ("event", name)], value)
            }
        }
        text.family(.deviceBytes)
        for device in statistics.devices {
            for (name, value) in device.counters where isBytes(name) {
                text.sample([("device", device.name), ("kind", name == "bytes" ? "all" : String(name.dropLast(6)))], value)
            }
        }
    }

    private mutating func addProcess() {
        text.family(.processCPU)
        text.sample([], nanoseconds: process.cpuNanoseconds)
        text.family(.processMemory)
        text.sample([], process.residentByteCount)
    }
}
