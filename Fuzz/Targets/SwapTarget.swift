// SPDX-License-Identifier: Apache-2.0

import Glibc
import VMMBase

@testable import SwapBypass
@testable import SymVMM

extension FuzzTarget {
    static let swap = FuzzTarget(
        name: "swap", summary: "swap files with any contents and mode, and the text of --swap",
        seeds: { SwapFuzz.seeds }, prepare: { try SwapFuzz().run })
}

final class SwapFuzz {
    static let seeds: [[UInt8]] = [
        [0] + Array("64M,path=a,budget=1M,bypass=on".utf8), [1, 0, 0, 0, 0], [1, 1, 0, 0, 1], [1, 2, 0, 0, 2], [2, 1, 0, 0, 0, 5, 0, 1, 2],
    ]
    private static let zeroes = [UInt8](repeating: 0, count: 1 << 20)
    private let folder: FuzzFolder

    init() throws {
        folder = try FuzzFolder()
    }

    func run(_ input: inout FuzzInput) throws {
        if input.byte() % 4 == 0 { checkOption(&input) } else { try checkFile(&input) }
    }

    private func checkOption(_ input: inout FuzzInput) {
        let text = String(decoding: input.rest(), as: UTF8.self)
        do throws(VMMError) {
            let swap = try SwapConfiguration(option: text)
            expect(SwapConfiguration.byteCountRange.contains(swap.byteCount) && swap.byteCount % 4096 == 0, "\(swap.byteCount) bytes")
            expect(swap.budget == nil || swap.path != nil, "a budget without a file")
            expect(swap.path?.isEmpty != true, "an empty path")
        } catch {
            Answers.check(error)
            expect(error.kind == .user, "\(error)")
        }
    }

    private func checkFile(_ input: inout FuzzInput) throws {
        let kind = input.byte() % 4
        let mode = UInt32(input.pick([0o600, 0o600, 0o600, 0o644, 0o400, 0o660]))
        let budget: UInt64? = input.flag() ? UInt64(input.byte()) << 16 : nil
        // The bytes of a header of ours, changed; any bytes; or nothing.
        var bytes: [UInt8] = kind == 0 ? [] : kind == 3 ? input.rest() : SwapHeader.bytes(pageCount: 256)
        if kind == 2 {
            while !input.isEmpty {
                let place = Int(input.word()) % bytes.count
                bytes[place] = input.byte()
            }
        }
        if kind == 1 { bytes += [UInt8](repeating: 9, count: input.number(below: 65536)) }
        folder.empty()
        try folder.write("swap", bytes, mode: mode)
        let path = "\(folder.path)/swap"
        guard chmod(path, mode) == 0 else { throw VMMError.last("chmod") }
        let isOurs = bytes.isEmpty || (bytes.count >= 4096 && SwapHeader.isOurs(Array(bytes.prefix(4096))))
        do throws(VMMError) {
            let store = try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: path, budget: budget))
            expect(isOurs && mode & 0o077 == 0, "a file of mode \(String(mode, radix: 8)) with other contents is taken")
            expect(store.byteCount == 1 << 20)
            let text = folder.read("swap") ?? []
            expect(text.count == 1 << 20 && SwapHeader.isOurs(Array(text.prefix(4096))), "the file is not formatted")
            expect(isEqual(text, at: 4096, SwapFuzz.zeroes, at: 0, count: (1 << 20) - 4096), "the file keeps the contents of another VM")
            store.close()
            expect(folder.read("swap") == [], "the guest's memory is left in the file")
        } catch {
            Answers.check(error)
            // As root, any file can be opened.
            expect(!isOurs || mode & 0o077 != 0 || (mode & 0o200 == 0 && geteuid() != 0), "an own file is refused: \(error)")
            expect(folder.read("swap") == bytes || geteuid() != 0, "a refused file has changed")
        }
    }
}
