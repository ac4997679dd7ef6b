// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

/// A virtual machine as the control plane sees it. `VirtualMachine` is one, and `MachineHost`, before and after it has one; tests bring their own.
///
/// Every call may be made on any thread.
package protocol MachineControl: AnyObject, Sendable {
    /// What the machine is made of.
    var configuration: MachineConfiguration { get }
    /// Where the machine is in its life.
    var state: MachineState { get }

    /// Lets the guest begin. Once.
    func start() throws(MachineError)
    /// Returns when every vCPU waits between two exits. Nothing happens when the machine does not run.
    func pause()
    /// Lets the vCPUs go on. Nothing happens when the machine is not paused.
    func resume()
    /// Presses the power button. The guest may take its time. False when it does not listen to the button, so that nothing will come of it.
    @discardableResult
    func requestPowerOff() -> Bool
    /// Ends the run, whatever the guest does. Does not wait for the end.
    func kill()
    /// Returns when the run has ended, with how it ended.
    func wait() -> TerminationReason
    /// The exits so far. Stops no vCPU.
    func exitStatistics() -> ExitStatistics
    /// Hands a byte of the console's input to the guest; false when its serial port has no room now.
    func receive(_ byte: UInt8) -> Bool
    /// Puts another file behind a drive while the guest runs, and tells the guest that its size may have changed.
    func replaceFile(ofDrive id: String, with path: String) throws(MachineError)
    /// What the user has to know of the machine, a line each.
    var warnings: [String] { get }
}

extension MachineControl {
    /// Nothing.
    public var warnings: [String] { [] }
}
