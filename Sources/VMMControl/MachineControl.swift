// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase
package import VMMModel

/// The operations on a virtual machine that the control plane uses. `VirtualMachine`, `VMController` and the tests' machines conform.
///
/// Thread-safe.
package protocol MachineControl: AnyObject, Sendable {
    /// The machine's configuration.
    var configuration: MachineConfiguration { get }
    /// The machine's state.
    var state: MachineState { get }

    /// Starts the vCPUs, once: a further call throws an error or has no effect.
    func start() throws(VMMError)
    /// Pauses the vCPUs; returns when all of them wait between two exits, or after 20 seconds. Whether the machine is paused.
    @discardableResult
    func pause() -> Bool
    /// Resumes the vCPUs. False if the machine was not paused.
    @discardableResult
    func resume() -> Bool
    /// Presses the power button; does not wait for the guest. False if the guest has not enabled the power button.
    @discardableResult
    func requestPowerOff() -> Bool
    /// Kills the VM. Does not wait for the run to end.
    func kill()
    /// Waits until the run ends, and returns why it ended.
    func wait() -> TerminationReason
    /// The exit statistics so far. Does not stop the vCPUs.
    func exitStatistics() -> ExitStatistics
    /// Passes a byte of console input to the guest; false if the serial port's FIFO is full.
    func receive(_ byte: UInt8) -> Bool
    /// Replaces the file of a drive while the guest runs, and notifies the guest that the size may have changed.
    func replaceFile(ofDrive id: String, with path: String) throws(VMMError)
    /// The engine's virtual machine; nil if there is none.
    var virtualMachine: VirtualMachine? { get }
    /// Warnings for the user, one line each.
    var warnings: [String] { get }
}

extension MachineControl {
    /// The object itself if it is a `VirtualMachine`, else nil.
    package var virtualMachine: VirtualMachine? { self as? VirtualMachine }

    /// No warnings.
    package var warnings: [String] { [] }
}
