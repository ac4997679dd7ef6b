// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMSandbox
internal import VMMService

extension VMController {
    /// The VM's API: its own routes and those of its services.
    ///
    /// - Parameter stopper: kills the VM if it does not power off in time.
    func router(stopper: MachineStopper) -> APIRouter {
        let log = log
        let services = resources.registry.descriptors.flatMap { descriptor in
            descriptor.routes { [weak self] in self?.virtualMachine }
        }
        let style = style
        return APIRouter(routes(stopper) + services, unknown: { style.unknownRoute($0, method: $1) }) { request, response in
            let level: Logger.Level = response.status >= 400 ? .warning : request.method == .get ? .debug : .info
            log.log(level: level, "\(request.method.rawValue) \(request.path): \(response.status)")
        }
    }

    /// The routes of every VM. They hold a strong reference to the controller: the server ends before the controller.
    private func routes(_ stopper: MachineStopper) -> [APIRoute] {
        let machine = MachineRoutes.routes(
            for: self, version: SymVMMVersion.current, style: style, sandbox: sandbox?.settings.mode ?? .off)
        let life = LifeRoutes.routes(for: self, stopper: stopper, style: style) { () throws(VMMError) in try self.flushMetrics() }
        let calls = SymCallRoutes.routes { self.virtualMachine }
        return machine + life + ConfigurationRoutes.routes(for: self) + MetadataRoutes.routes(for: self) + calls + NotOfferedRoutes.routes
    }
}
