// SPDX-License-Identifier: Apache-2.0

import GuestProgress
import SymVMM

// EmbedService [KERNEL [COMMAND LINE]]: runs a kernel that reports its progress, and prints the last report.
let arguments = CommandLine.arguments.dropFirst()

var configuration = MachineConfiguration(name: "embedded", kernelPath: arguments.first ?? "progress.elf")
configuration.commandLine = arguments.dropFirst().joined(separator: " ")

let service = ProgressService()
let machine = try VirtualMachine(configuration, console: ConsoleOutput(), services: [service])
try machine.start()
print("the guest ended: \(machine.wait())")
print("\(service.progress.done) of \(service.progress.total) items done")
