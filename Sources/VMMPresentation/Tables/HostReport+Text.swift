// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

extension HostReport {
    /// The report as text.
    package var text: String {
        var facts = TextTable([.text("HOST"), .text("")])
        facts.add(["/dev/kvm", kvmProblem ?? "opens, API version 12"])
        facts.add(["hardware virtualization", hardwareVirtualization ?? "none (neither svm nor vmx in /proc/cpuinfo)"])
        facts.add(["/dev/net/tun", tapDevices ? "opens" : "cannot be opened"])
        if let sandbox {
            let landlock = sandbox.landlockVersion > 0 ? "Landlock version \(sandbox.landlockVersion)" : "no Landlock"
            facts.add(["sandbox", "\(sandbox.seccompFilters ? "seccomp filters" : "no seccomp filters"), \(landlock)"])
        }
        facts.add(["memory", "\(memoryMebibytes) MiB, \(availableMemoryMebibytes) MiB available"])
        facts.add(["Linux guests", linuxGuests ? "yes" : "no"])
        facts.add(["symbiotic interface", symbioticGuests ? "yes" : "no"])
        var text = facts.text
        if !capabilities.isEmpty {
            var table = TextTable([.text("CAPABILITY"), .text("PRESENT"), .text("REQUIRED"), .text("FOR")])
            for item in capabilities {
                table.add([
                    item.name, item.isEnough ? "yes" : "no", item.isNeeded ? "yes" : item.isNeededBySymbiosis ? "symbiotic" : "-",
                    item.purpose,
                ])
            }
            text += "\n" + table.text
        }
        return advice.isEmpty ? text : text + "\n" + advice.map { $0 + "\n" }.joined()
    }
}
