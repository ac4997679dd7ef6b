// SPDX-License-Identifier: Apache-2.0

public import VMMModel

internal import Glibc
internal import VMMBase

extension HostReport {
    /// Looks at the host.
    public static func examine(kvmPath: String = "/dev/kvm") -> HostReport {
        var problem: String?
        var found: [Capability] = []
        do throws(KVMError) {
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
            available: kibibytes("MemAvailable:", memory) / 1024)
    }

    /// The lines of a small kernel file, each as its words, as far as the first empty line: of /proc/cpuinfo, the first processor.
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
        (try? FileDescriptor.open(path, O_RDWR | O_NONBLOCK)) != nil
    }
}
