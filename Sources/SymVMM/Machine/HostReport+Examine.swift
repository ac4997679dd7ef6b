// SPDX-License-Identifier: Apache-2.0

package import VMMModel

internal import Glibc
internal import VMMBase

extension HostReport {
    /// Examines the host: /dev/kvm, its capabilities, memory and tap devices.
    ///
    /// - Parameter sandbox: what the kernel offers for the sandbox, which the engine does not know.
    package static func examine(kvmPath: String = "/dev/kvm", sandbox: SandboxReport? = nil) -> HostReport {
        var problem: String?
        var found: [Capability] = []
        do throws(VMMError) {
            let kvm = try KVMSystem(path: kvmPath)
            found = KVMCapability.all.map { capability in
                let value = kvm.check(capability.number)
                return Capability(
                    name: capability.name, isNeeded: capability.need == .everyGuest,
                    isNeededBySymbiosis: capability.need == .symbioticGuest, value: value, isEnough: capability.isEnough(value),
                    purpose: capability.purpose)
            }
        } catch {
            problem = error.description
        }
        let memory = words(of: "/proc/meminfo")
        return HostReport(
            kvmProblem: problem, capabilities: found, hardwareVirtualization: HostProcessor.hardwareVirtualization,
            tapDevices: isOpenable("/dev/net/tun"), memory: kibibytes("MemTotal:", memory) / 1024,
            available: kibibytes("MemAvailable:", memory) / 1024, sandbox: sandbox)
    }

    /// The lines of a small /proc file, split into words, up to the first empty line. In /proc/cpuinfo these are the first CPU's.
    private static func words(of path: String) -> [[Substring]] {
        guard let bytes = try? SmallFile.read(path, atMost: 4 << 20) else { return [] }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.split(separator: "\n", omittingEmptySubsequences: false).prefix { !$0.isEmpty }.map { line in
            line.split(whereSeparator: { $0 == " " || $0 == "\t" })
        }
    }

    private static func kibibytes(_ name: String, _ lines: [[Substring]]) -> UInt64 {
        guard let line = lines.first(where: { $0.first == Substring(name) }), line.count >= 2 else { return 0 }
        return UInt64(line[1]) ?? 0
    }

    private static func isOpenable(_ path: String) -> Bool {
        (try? OwnedFileDescriptor.open(path, O_RDWR | O_NONBLOCK)) != nil
    }
}
