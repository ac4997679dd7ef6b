// SPDX-License-Identifier: Apache-2.0

package import VMMBase

extension JailConfiguration {
    /// Takes over the options that `symvmm jail` and Firecracker's jailer have in common, as the user wrote them.
    ///
    /// - Parameters:
    ///   - baseFolder: the folder of the jails; nil for the default.
    ///   - network: name or path of a network namespace; nil: none.
    ///   - controls: limits of the control group, `FILE=VALUE`.
    ///   - groupVersion: cgroup's version; nil for the default.
    ///   - parentGroup: the control group above that of the jail; nil for the default.
    ///   - limits: limits of resources, `RESOURCE=VALUE`. The last one of each resource counts.
    package mutating func set(
        baseFolder: String?, network: String?, controls: [String], groupVersion: String?, parentGroup: String?, limits: [String]
    ) throws(VMMError) {
        if let baseFolder {
            guard !baseFolder.isEmpty else { throw .user("--chroot-base-dir: the path is empty") }
            self.baseFolder = baseFolder
        }
        if let network { networkNamespace = try JailConfiguration.networkPath(network) }
        guard groupVersion == nil || groupVersion == "2" else {
            throw .user("--cgroup-version: '\(groupVersion ?? "")' is not possible: symvmm uses cgroup v2 only")
        }
        for text in controls { self.controls.append(try ControlGroup.Control(option: text)) }
        if let parentGroup {
            try ControlGroup.checkParent(parentGroup)
            self.parentGroup = parentGroup
        }
        for text in limits {
            let limit = try ResourceLimit(option: text)
            self.limits.removeAll { $0.resource == limit.resource }
            self.limits.append(limit)
        }
    }
}
