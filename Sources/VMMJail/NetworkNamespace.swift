// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VMMBase

extension JailConfiguration {
    /// The path of a network namespace: that of a name which `ip netns add` made, or a path as with Firecracker's jailer.
    package static func networkPath(_ name: String) throws(VMMError) -> String {
        guard !name.isEmpty, name != ".", name != ".." else {
            throw .user("--netns: '\(name)' is not a name: give one of `ip netns list`, or a path")
        }
        return name.contains("/") ? name : "/run/netns/\(name)"
    }

    /// Opens the network namespace to join (setns(2)); /dev/null if there is none.
    func openNetwork() throws(VMMError) -> OwnedFileDescriptor {
        guard let path = networkNamespace else { return try OwnedFileDescriptor.open("/dev/null", O_RDONLY) }
        guard JailConfiguration.isPrivileged else {
            throw .user("--netns: only root can join a network namespace: use --new-net-ns, or run symvmm jail as root")
        }
        do throws(VMMError) {
            return try OwnedFileDescriptor.open(path, O_RDONLY)
        } catch {
            throw VMMError(.user, call: "--netns: open \(path)", errno: error.errno, advice: "make it with `ip netns add NAME`")
        }
    }
}
