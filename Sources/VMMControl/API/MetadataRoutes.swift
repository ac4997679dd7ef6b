// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMBase
internal import VMMMetadata
internal import VMMModel

/// The routes of the metadata service: Firecracker's.
///
///     PUT /mmds/config {"network_interfaces": ["eth0"], "version": "V2"}    before the start
///     PUT /mmds, PATCH /mmds, GET /mmds                                     the data, at any time
enum MetadataRoutes {
    /// Creates the routes.
    static func routes(for controller: VMController) -> [APIRoute] {
        let store = controller.metadata
        return [
            APIRoute(.put, "/mmds/config") { request throws(APIError) in
                guard controller.state == .notStarted else { throw APIError(400, controller.style.tooLate) }
                let received: Received<MetadataConfigResource> = try request.body()
                do throws(VMMError) {
                    try controller.configureMetadata(received)
                } catch {
                    throw APIError(error)
                }
                return .noContent
            },
            APIRoute(.put, "/mmds") { request throws(APIError) in
                try change { () throws(MetadataStore.Failure) in try store.put(request.body) }
            },
            APIRoute(.patch, "/mmds") { request throws(APIError) in
                try change { () throws(MetadataStore.Failure) in try store.patch(request.body) }
            },
            APIRoute(.get, "/mmds") { _ throws(APIError) in APIResponse(body: store.text()) },
        ]
    }

    private static func change(_ body: () throws(MetadataStore.Failure) -> Void) throws(APIError) -> APIResponse {
        do throws(MetadataStore.Failure) {
            try body()
            return .noContent
        } catch {
            switch error {
            case .tooLong: throw APIError(413, "MMDS limit exceeded error: The MMDS patch request doesn't fit.")
            case .notInitialized: throw APIError(400, "MMDS error: The MMDS data store is not initialized.")
            case .invalid(let error): throw APIError(error)
            }
        }
    }
}
