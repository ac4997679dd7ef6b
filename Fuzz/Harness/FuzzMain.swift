// SPDX-License-Identifier: Apache-2.0

import CFuzz
import Glibc
import VMMBase

/// All targets, the most valuable first.
let targets: [FuzzTarget] = [
    .virtqueue, .block, .budget, .api, .config, .http, .json, .boot, .symbiotic, .swap, .state, .transport, .net, .metadata, .ports, .text,
]

private nonisolated(unsafe) var body: FuzzBody = { _ in }

/// `symvmm-fuzz` runs the target in SYMVMM_FUZZ_TARGET with the options of libFuzzer (`-help=1`).
///
///     symvmm-fuzz list             prints name, longest input, dictionary and summary of each target
///     symvmm-fuzz seeds FOLDER     writes the target's seeds
@main struct FuzzMain {
    static func main() throws {
        let arguments = CommandLine.arguments
        if arguments.dropFirst().first == "list" {
            for target in targets { print("\(target.name)\t\(target.maximumLength)\t\(target.dictionary ?? "-")\t\(target.summary)") }
            return
        }
        let name = getenv("SYMVMM_FUZZ_TARGET").map { String(cString: $0) } ?? ""
        guard let target = targets.first(where: { $0.name == name }) else {
            broken("SYMVMM_FUZZ_TARGET: no target '\(name)'; `symvmm-fuzz list` lists them")
        }
        if arguments.dropFirst().first == "seeds", arguments.count == 3 { return try write(target.seeds(), into: arguments[2]) }
        // As in symvmm: the API's worker has a stack of 512 KiB.
        VMMBase.Thread.useSmallStacks()
        body = try target.prepare()
        var count = CommandLine.argc
        var words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        let status = cfuzz_run(&count, &words) { data, size in
            var input = FuzzInput(Array(UnsafeBufferPointer(start: data, count: size)))
            do {
                try body(&input)
            } catch {
                broken("the target failed: \(error)")
            }
            return 0
        }
        exit(status)
    }

    private static func write(_ seeds: [[UInt8]], into folder: String) throws {
        for (index, seed) in seeds.enumerated() {
            let file = try OwnedFileDescriptor.open("\(folder)/seed-\(index)", O_WRONLY | O_CREAT | O_TRUNC)
            guard Glibc.write(file.rawValue, seed, seed.count) == seed.count else { throw VMMError.last("write") }
        }
    }
}
