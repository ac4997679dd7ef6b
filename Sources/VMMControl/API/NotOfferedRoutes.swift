// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI

/// What Firecracker's API has and symvmm has not: each answers 400 and says so, so that no client takes silence for success.
enum NotOfferedRoutes {
    private static let resources: [(pattern: String, methods: [APIMethod], what: String)] = [
        ("/balloon", [.get, .put, .patch], "a memory balloon"),
        ("/balloon/statistics", [.get, .patch], "a memory balloon"),
        ("/balloon/hinting/start", [.patch], "a memory balloon"),
        ("/balloon/hinting/status", [.get], "a memory balloon"),
        ("/balloon/hinting/stop", [.patch], "a memory balloon"),
        ("/cpu-config", [.put], "a CPU configuration"),
        ("/hotplug/memory", [.get, .put, .patch], "memory hotplug"),
        ("/mmds", [.get, .put, .patch], "the metadata service"),
        ("/mmds/config", [.put], "the metadata service"),
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
