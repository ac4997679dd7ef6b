// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import SymVMM
internal import VMMBase
internal import VMMModel

/// Limits of devices, changed while the guest runs.
extension VMController {
    /// Changes a drive's limits. A bucket that the change lacks stays as it is; one without a limit removes the limit.
    func changeRateLimiter(ofDrive id: String, _ change: RateLimiterConfiguration) throws(VMMError) {
        guard let machine = virtualMachine else { throw .user("the VM has not been started") }
        try machine.changeRateLimiter(ofDrive: id, change)
        changeDevices { drives, _ in
            for index in drives.indices where drives[index].id == id {
                drives[index].rateLimiter = VMController.merged(drives[index].rateLimiter, change)
            }
        }
        log.info("drive \(id): limits changed")
    }

    /// Changes an interface's limits in the same way; nil: no change.
    func changeRateLimiters(
        ofInterface id: String, receive: RateLimiterConfiguration?, transmit: RateLimiterConfiguration?
    ) throws(VMMError) {
        guard let machine = virtualMachine else { throw .user("the VM has not been started") }
        try machine.changeRateLimiters(ofInterface: id, receive: receive, transmit: transmit)
        changeDevices { _, interfaces in
            for index in interfaces.indices where interfaces[index].id == id {
                if let receive { interfaces[index].receiveLimiter = VMController.merged(interfaces[index].receiveLimiter, receive) }
                if let transmit { interfaces[index].transmitLimiter = VMController.merged(interfaces[index].transmitLimiter, transmit) }
            }
        }
        log.info("network interface \(id): limits changed")
    }

    private static func merged(_ old: RateLimiterConfiguration?, _ change: RateLimiterConfiguration) -> RateLimiterConfiguration? {
        let merged = (old ?? RateLimiterConfiguration()).changed(by: change)
        return merged == RateLimiterConfiguration() ? nil : merged
    }
}
