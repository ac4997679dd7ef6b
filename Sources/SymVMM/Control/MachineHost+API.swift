// SPDX-License-Identifier: Apache-2.0

extension MachineHost {
    /// The whole API of this VM: its own resources, and others beside them.
    func router(beside others: [APIRoute] = []) -> APIRouter {
        let log = log
        return APIRouter(routes + others) { request, response in
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
