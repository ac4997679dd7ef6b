// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI

/// Firecracker resources that symvmm does not support. Each returns 400 with the name of the feature, so that a client can tell it from a misspelt
/// path.
enum NotOfferedRoutes {
    private static let resources: [(pattern: String, methods: [APIMethod], what: String)] = [
        ("/balloon", [.get, .put, .patch], "a memory balloon"),
        ("/balloon/statistics", [.get, .patch], "a memory balloon"),
        ("/balloon/hinting/start", [.patch], "a memory balloon"),
        ("/balloon/hinting/status", [.get], "a memory balloon"),
        ("/balloon/hinting/stop", [.patch], "a memory balloon"),
        ("/cpu-config", [.put], "a CPU configuration"),
        ("/hotplug/memory", [.get, .put, .patch], "memory hotplug"),
        ("/pmem/{id}", [.put, .patch], "persistent memory"),
        ("/snapshot/create", [.put], "a snapshot"),
        ("/snapshot/load", [.put], "a snapshot"),
        ("/vsock", [.put], "a vsock device"),
    ]

    static let routes: [APIRoute] = resources.flatMap { resource in
        resource.methods.map { method in
            APIRoute(method, resource.pattern) { _ throws(APIError) in throw APIError(400, "\(resource.what) is not offered by symvmm") }
        }
    }
}
