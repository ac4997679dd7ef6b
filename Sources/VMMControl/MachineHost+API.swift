// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMService

extension MachineHost {
    /// The whole API of this VM: its own resources, and those of the services beside them.
    func router() -> APIRouter {
        let log = log
        let services = resources.registry.descriptors.flatMap { descriptor in
            descriptor.routes { [weak self] in self?.machine as? VirtualMachine }
        }
        return APIRouter(routes + services) { request, response in
            let level: LoggerConfiguration.Level = response.status >= 400 ? .warning : request.method == .get ? .debug : .info
            log.write(level, "\(request.method.rawValue) \(request.path): \(response.status)")
        }
    }

    /// The resources that every VM has. Strongly held: the server ends before the VM goes.
    private var routes: [APIRoute] {
        let machine = MachineRoutes.routes(for: self, version: SymVMMVersion.current)
        let life = LifeRoutes.routes(for: self) { () throws(ControlError) in try self.flushMetrics() }
        let calls = SymCallRoutes.routes { self.machine as? VirtualMachine }
        return machine + life + ConfigurationRoutes.routes(for: self) + calls + NotOfferedRoutes.routes
    }
}
