// SPDX-License-Identifier: Apache-2.0

internal import CJail
internal import Glibc
internal import VMMBase

/// The plan that the jailed process follows (`cjail_plan`), and its errors in words.
@safe final class JailPlan {
    private var plan = unsafe cjail_plan()
    private let binds: [Bind]
    private let devices: [Device]
    private let configuration: JailConfiguration
    /// What deinit frees. The plan points into it.
    private var texts: [UnsafeMutablePointer<CChar>] = unsafe []
    private var tables: [UnsafeMutableRawPointer] = unsafe []

    /// A character device of the jail.
    private struct Device {
        let path: String
        let major: UInt32
        let minor: UInt32
        let mode: UInt32
    }

    /// Numbers: Documentation/admin-guide/devices.txt of the kernel.
    private static let devices = [
        Device(path: "/dev/kvm", major: 10, minor: 232, mode: 0o600),
        Device(path: "/dev/net/tun", major: 10, minor: 200, mode: 0o600),
        Device(path: "/dev/null", major: 1, minor: 3, mode: 0o666),
        Device(path: "/dev/urandom", major: 1, minor: 9, mode: 0o444),
    ]

    /// Makes the plan of a jail.
    ///
    /// - Parameters:
    ///   - network: a descriptor of the network namespace to join, or -1.
    ///   - null: a descriptor of /dev/null for the standard descriptors, or -1.
    /// - Throws: `VMMError` if two parts of the jail have the same place.
    init(_ configuration: JailConfiguration, root: String, entries: [Bind], network: Int32, null: Int32) throws(VMMError) {
        self.configuration = configuration
        let name = configuration.programName
        binds = entries + configuration.binds
        try Bind.check(binds, taken: ["dev", "proc", "run", name])
        devices = JailPlan.devices.filter { HostPath.kind($0.path) == S_IFCHR }
        let folders = binds.flatMap(\.parents).reduce(into: [String]()) { list, folder in
            if !list.contains(folder) { list.append(folder) }
        }
        // SAFETY: each table has as many elements as its count says, and all pointers are valid until deinit.
        unsafe plan.root = unsafe UnsafePointer(text(root))
        unsafe plan.folders = unsafe UnsafePointer(table(folders.map { unsafe UnsafePointer(text($0)) as UnsafePointer<CChar>? }))
        unsafe plan.folder_count = folders.count
        var mounts = unsafe [
            mount(configuration.program, name, isProgram: true), mount("\(root)/run", "run", isFolder: true, isWritable: true),
        ]
        for bind in binds { unsafe mounts.append(mount(bind.source, bind.target, isFolder: bind.isFolder, isWritable: bind.isWritable)) }
        unsafe plan.mounts = unsafe UnsafePointer(table(mounts))
        unsafe plan.mount_count = unsafe mounts.count
        let nodes = unsafe devices.map {
            unsafe cjail_device(
                source: text($0.path), target: text(String($0.path.dropFirst())), major: $0.major, minor: $0.minor, mode: $0.mode)
        }
        unsafe plan.devices = unsafe UnsafePointer(table(nodes))
        unsafe plan.device_count = unsafe nodes.count
        let limits = configuration.limits.map { cjail_limit(resource: $0.resource.number, value: $0.value) }
        unsafe plan.limits = unsafe UnsafePointer(table(limits))
        unsafe plan.limit_count = limits.count
        unsafe plan.uid = configuration.user
        unsafe plan.gid = configuration.group
        unsafe plan.is_privileged = JailConfiguration.isPrivileged
        unsafe plan.has_new_network = configuration.hasNewNetwork
        unsafe plan.network = network
        unsafe plan.null = null
        unsafe plan.program = unsafe UnsafePointer(text("/\(name)"))
        unsafe plan.arguments = unsafe UnsafePointer(list(["/\(name)"] + configuration.arguments))
        unsafe plan.environment = unsafe UnsafePointer(list(["XDG_RUNTIME_DIR=/run"]))
    }

    deinit {
        // SAFETY: each was allocated once, and only this object knows them.
        while let text = unsafe texts.popLast() { unsafe text.deallocate() }
        while let table = unsafe tables.popLast() { unsafe table.deallocate() }
    }

    /// Starts the jailed process, which waits for the first answer.
    ///
    /// - Returns: its process number and the channel to it.
    func start() throws(VMMError) -> (process: pid_t, channel: Int32) {
        var channel: Int32 = -1
        // SAFETY: the plan and what it points to live in this object; the child has its own copy of all memory.
        let process = unsafe cjail_start(&plan, &channel)
        guard process < 0 else { return (process, channel) }
        let advice =
            JailConfiguration.isPrivileged
            ? "the host refuses namespaces: run symvmm jail outside the container"
            : "the host refuses user namespaces to users (sysctl user.max_user_namespaces): run symvmm jail as root"
        throw VMMError(call: "clone", errno: -process, advice: advice)
    }

    /// A failed step in words.
    func error(_ message: cjail_message) -> VMMError {
        func failed(_ what: String, _ advice: String = "") -> VMMError { VMMError(call: what, errno: message.error, advice: advice) }
        let index = Int(message.index)
        // The first two mounts are the program and the run folder.
        let bind = binds.indices.contains(index - 2) ? binds[index - 2] : nil
        let source = bind?.source ?? (index == 0 ? configuration.program : "the folder run")
        switch cjail_step(rawValue: UInt32(bitPattern: message.step)) {
        case CJAIL_STEP_NETWORK:
            return failed("--netns \(configuration.networkNamespace ?? "")", "is it a network namespace (ip netns add)?")
        case CJAIL_STEP_PRIVATE: return failed("make the mounts private")
        case CJAIL_STEP_SOURCE where message.error == ENOSYS: return failed("open_tree", "the jail needs Linux 5.12 or newer")
        case CJAIL_STEP_SOURCE: return failed("--bind \(source)")
        case CJAIL_STEP_ROOT: return failed("make the jail's root")
        case CJAIL_STEP_TARGET: return failed("--bind \(source): make /\(bind?.target ?? "") in the jail")
        case CJAIL_STEP_MOUNT: return failed("mount \(source) in the jail")
        case CJAIL_STEP_DEVICE: return failed("make \(devices.indices.contains(index) ? devices[index].path : "a device") in the jail")
        case CJAIL_STEP_SEAL: return failed("make the jail's root read-only", "the jail needs Linux 5.12 or newer")
        case CJAIL_STEP_PIVOT:
            return failed("pivot_root", "the host's root is an initramfs or not a mount point: run symvmm jail elsewhere")
        case CJAIL_STEP_LIMIT:
            let limit = configuration.limits.indices.contains(index) ? configuration.limits[index] : nil
            return failed(
                "--resource-limit \(limit?.resource.rawValue ?? "")=\(limit?.value ?? 0)", "it is above the limit of symvmm jail (ulimit)")
        case CJAIL_STEP_USER: return failed("become user \(configuration.user), group \(configuration.group)")
        case CJAIL_STEP_RIGHTS: return failed("drop the capabilities")
        case CJAIL_STEP_EXEC:
            return failed(
                "run \(configuration.program) in the jail",
                message.error == ENOENT ? "it needs shared libraries: give a static program" : "")
        default: return failed("close the inherited descriptors")
        }
    }

    private func mount(_ source: String, _ target: String, isFolder: Bool = false, isWritable: Bool = false, isProgram: Bool = false)
        -> cjail_mount
    {
        unsafe cjail_mount(
            source: text(source), target: text(target), is_folder: isFolder, is_writable: isWritable, is_program: isProgram)
    }

    /// A copy of the text that lives as long as the object.
    private func text(_ text: String) -> UnsafeMutablePointer<CChar> {
        let bytes = text.utf8CString
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        unsafe bytes.withUnsafeBufferPointer { buffer in
            // SAFETY: the copy has room for as many bytes as the buffer has.
            for index in 0..<bytes.count { unsafe copy[index] = unsafe buffer[index] }
        }
        unsafe texts.append(copy)
        return unsafe copy
    }

    /// The texts as C has them: a nil pointer ends the list.
    private func list(_ words: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?> {
        unsafe table(words.map { unsafe text($0) as UnsafeMutablePointer<CChar>? } + [nil])
    }

    /// A copy of the elements that lives as long as the object.
    private func table<Element>(_ elements: [Element]) -> UnsafeMutablePointer<Element> {
        let copy = UnsafeMutablePointer<Element>.allocate(capacity: max(elements.count, 1))
        // SAFETY: the copy has room for them.
        for (index, element) in elements.enumerated() { unsafe (copy + index).initialize(to: element) }
        unsafe tables.append(UnsafeMutableRawPointer(copy))
        return unsafe copy
    }
}
