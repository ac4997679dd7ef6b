// SPDX-License-Identifier: Apache-2.0

import SymVMM

// EmbedVM [KERNEL [COMMAND LINE]]: runs a kernel until it ends, then prints the exits by reason and device, with the mean time to handle one.
let arguments = CommandLine.arguments.dropFirst()

var configuration = MachineConfiguration(name: "embedded", kernelPath: arguments.first ?? "exits.elf")
configuration.commandLine = arguments.dropFirst().joined(separator: " ")
configuration.memoryByteCount = 64 << 20

let machine = try VirtualMachine(configuration, console: TerminalOutput())
try machine.start()
print("the guest ended: \(machine.wait())")
for row in machine.exitStatistics().rows {
    print("\(row.reason) \(row.device): \(row.latency.count) exits, \(Int(row.latency.mean)) ns each")
}
