// SPDX-License-Identifier: Apache-2.0

/// A family of metrics. Names are stable; docs/METRICS.md lists them.
package struct MetricsFamily: Sendable, Hashable {
    /// A family's type.
    enum Kind: String, Sendable {
        case counter, gauge, histogram, info, stateset, unknown
    }

    /// Without a suffix such as `_total`, ending with the unit.
    let name: String
    let kind: Kind
    /// `seconds`, `bytes`, or nil.
    let unit: String?
    let help: String

    init(_ name: String, _ kind: Kind, unit: String? = nil, _ help: String) {
        self.name = name
        self.kind = kind
        self.unit = unit
        self.help = help
    }

    /// What a sample's name has after the family's.
    var suffix: String {
        switch kind {
        case .counter: "_total"
        case .info: "_info"
        case .gauge, .histogram, .stateset, .unknown: ""
        }
    }
}

/// The families of a VM.
extension MetricsFamily {
    /// All of them, in the order of the text.
    static let all: [MetricsFamily] = [
        build, vmState, uptime, vcpus, memory, exits, exitDuration, vcpuGuest, vcpuVMM, vcpuTime, kvmEvents, kvmLevel, symbioticActive,
        symbioticEvents, symCallDuration, serviceEvents, serviceBytes, serviceGuestEvents, deviceEvents, deviceBytes, processCPU,
        processMemory,
    ]

    static let build = MetricsFamily("symvmm_build", .info, "The program that runs the VM.")
    static let vmState = MetricsFamily("symvmm_vm_state", .stateset, "State of the VM.")
    static let uptime = MetricsFamily("symvmm_uptime_seconds", .gauge, unit: "seconds", "Time since the VM was created.")
    static let vcpus = MetricsFamily("symvmm_vcpus", .gauge, "Number of vCPUs.")
    static let memory = MetricsFamily("symvmm_memory_bytes", .gauge, unit: "bytes", "Guest memory.")
    static let exits = MetricsFamily("symvmm_exits", .counter, "Exits to user space.")
    static let exitDuration = MetricsFamily(
        "symvmm_exit_duration_seconds", .histogram, unit: "seconds", "Time from an exit to the next entry, over all vCPUs.")
    static let vcpuGuest = MetricsFamily("symvmm_vcpu_guest_seconds", .counter, unit: "seconds", "Time inside KVM_RUN, including halts.")
    static let vcpuVMM = MetricsFamily("symvmm_vcpu_vmm_seconds", .counter, unit: "seconds", "Time handling exits in user space.")
    static let vcpuTime = MetricsFamily(
        "symvmm_vcpu_time_seconds", .counter, unit: "seconds", "The vCPU's time by kind; kinds overlap (docs/METRICS.md, time budget).")
    static let kvmEvents = MetricsFamily("symvmm_kvm_events", .counter, "KVM's own counters, by the kernel's names.")
    static let kvmLevel = MetricsFamily("symvmm_kvm_level", .gauge, "KVM's own gauges, by the kernel's names.")
    static let symbioticActive = MetricsFamily("symvmm_symbiotic_active", .gauge, "Whether symcalls can be made.")
    static let symbioticEvents = MetricsFamily("symvmm_symbiotic_events", .counter, "Events on the symbiotic interface.")
    static let symCallDuration = MetricsFamily(
        "symvmm_symcall_duration_seconds", .histogram, unit: "seconds", "Time of a symcall, from the injection to the restored state.")
    static let serviceEvents = MetricsFamily("symvmm_service_events", .counter, "Events counted by a symbiotic service.")
    static let serviceBytes = MetricsFamily("symvmm_service_bytes", .gauge, unit: "bytes", "Memory of a symbiotic service.")
    static let serviceGuestEvents = MetricsFamily(
        "symvmm_service_guest_events", .unknown, "Events reported by the guest's part of a symbiotic service.")
    static let deviceEvents = MetricsFamily("symvmm_device_events", .counter, "Events counted by a virtio device.")
    static let deviceBytes = MetricsFamily("symvmm_device_bytes", .counter, unit: "bytes", "Bytes transferred by a virtio device.")
    static let processCPU = MetricsFamily(
        "symvmm_process_cpu_seconds", .counter, unit: "seconds", "CPU time of the VM's process, including the guest.")
    static let processMemory = MetricsFamily(
        "symvmm_process_resident_memory_bytes", .gauge, unit: "bytes", "Resident memory of the VM's process, including the guest.")
}

/// The families of `symvmm exporter` itself.
extension MetricsFamily {
    /// All of them, in the order of the text.
    static let exporter: [MetricsFamily] = [
        exporterBuild, exporterVMUp, exporterLeftOut, exporterUnknownFamilies, exporterCollections, exporterCollectionTime,
    ]

    static let exporterBuild = MetricsFamily("symvmm_exporter_build", .info, "The exporter's program.")
    static let exporterVMUp = MetricsFamily("symvmm_exporter_vm_up", .gauge, "Whether the VM's samples are in this answer.")
    static let exporterLeftOut = MetricsFamily(
        "symvmm_exporter_left_out", .counter, "VMs that were left out of a collection, by the reason.")
    static let exporterUnknownFamilies = MetricsFamily(
        "symvmm_exporter_unknown_families", .gauge, "Families of VMs that this exporter does not know and left out.")
    static let exporterCollections = MetricsFamily("symvmm_exporter_collections", .counter, "Collections from all VMs.")
    static let exporterCollectionTime = MetricsFamily(
        "symvmm_exporter_collection_seconds", .gauge, unit: "seconds", "Time that the last collection took.")
}
