// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .strictMemorySafety(),
]

/// A module of ours: the modules below it, and products of other packages. docs/ARCHITECTURE.md draws them.
func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict + fuzzed)
}

/// A module in C, without policy, and libraries of the system that it is linked with.
func shim(_ name: String, libraries: [String] = []) -> Target {
    // Not by unsafeFlags: SwiftPM refuses a package that has them as another one's dependency.
    .target(
        name: name, cSettings: [.enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error)],
        linkerSettings: libraries.map { .linkedLibrary($0) })
}

func nio(_ name: String) -> Target.Dependency {
    .product(name: name, package: "swift-nio")
}

/// Error numbers and paths.
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")

/// `Logger`, in front of the event log.
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")

/// A fuzz build has the targets of `Fuzz/`, and the modules that they test are instrumented. `scripts/fuzz` sets this variable to the path of
/// libFuzzer without its main function (libclang_rt.fuzzer_no_main), which is part of the toolchain.
let fuzzerLibrary = Context.environment["SYMVMM_FUZZ_BUILD"]
let isFuzzBuild = fuzzerLibrary != nil

/// Coverage for libFuzzer, AddressSanitizer, `@testable import` in an optimized build, and the checks of the standard library's unsafe pointers.
let fuzzed: [SwiftSetting] =
    isFuzzBuild
    ? [
        .unsafeFlags([
            "-Xfrontend", "-sanitize=fuzzer,address", "-enable-testing", "-assert-config", "Debug",
        ])
    ] : []

/// A test build has a service that only tests and benchmarks need: `SYMVMM_TEST_BUILD=1 swift build`.
let isTestBuild = Context.environment["SYMVMM_TEST_BUILD"] != nil

let package = Package(
    name: "symvmm",
    products: [
        .executable(name: "symvmm", targets: ["symvmm-cli"]),
        .library(name: "SymVMM", targets: ["SymVMM"]),
        .library(name: "SwapBypass", targets: ["SwapBypass"]),
        .library(name: "SymbioticABI", targets: ["SymbioticABI"]),
    ],
    // Exact, so that a commit says what a release was built from.
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    ],
    targets: [
        shim("CKVM"),
        shim("CJail"),
        shim("CSandbox"),
        shim("CLZ4", libraries: ["lz4"]),
        shim("CTestServices"),
        shim("SymbioticABI"),
        shim("SwapBypassABI"),
        module("VMMBase", ["CKVM", system]),
        module("VMMJail", ["CJail", "VMMBase", system]),
        module("VMMSandbox", ["CSandbox", "VMMBase"]),
        module("VMMModel", ["VMMBase"]),
        module("VMMAPI", ["VMMBase"]),
        module("SymVMM", ["CKVM", "SymbioticABI", "VMMBase", "VMMModel", system]),
        module("VMMPresentation", ["VMMAPI", "VMMBase", "VMMModel"]),
        module("VMMMetadata", ["CKVM", "SymVMM", "VMMAPI", "VMMBase"]),
        module("VMMService", ["SymVMM", "VMMAPI", "VMMBase", "VMMPresentation"]),
        module(
            "SwapBypass",
            ["CLZ4", "SwapBypassABI", "SymVMM", "VMMAPI", "VMMBase", "VMMModel", "VMMPresentation", "VMMService", system]),
        module(
            "VMMControl",
            [
                "SymVMM", "VMMAPI", "VMMBase", "VMMMetadata", "VMMModel", "VMMPresentation", "VMMSandbox", "VMMService", nio("NIOCore"),
                nio("NIOPosix"),
                nio("NIOHTTP1"), nio("NIOConcurrencyHelpers"), logging, system,
            ]),
        module("TestServices", ["CTestServices", "SymVMM", "SymbioticABI", "VMMAPI", "VMMBase", "VMMControl", "VMMModel", "VMMService"]),
        module("VMMClient", ["VMMAPI", "VMMBase", "VMMModel", nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"), system]),
        module("VMMExporter", ["VMMAPI", "VMMBase", "VMMClient", "VMMPresentation"]),
        .executableTarget(
            name: "symvmm-cli",
            dependencies: [
                "SwapBypass", "SymVMM", "VMMAPI", "VMMBase", "VMMClient", "VMMControl", "VMMExporter", "VMMJail", "VMMModel",
                "VMMPresentation", "VMMSandbox", "VMMService",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ] + (isTestBuild ? ["TestServices"] : []),
            swiftSettings: strict + (isTestBuild ? [.define("SYMVMM_TEST_BUILD")] : [])
        ),
        // What the article "Write a symbiotic service" shows. examples/Package.swift has it, too.
        .target(
            name: "GuestProgress", dependencies: ["SymVMM", "SymbioticABI", "VMMAPI", "VMMBase", "VMMService"],
            path: "examples/GuestProgress",
            swiftSettings: strict),
        .testTarget(
            name: "UnitTests",
            dependencies: [
                "CKVM", "GuestProgress", "SwapBypass", "SymVMM", "SymbioticABI", "VMMAPI", "VMMBase", "VMMClient", "VMMControl",
                "VMMExporter", "VMMJail", "VMMMetadata", "VMMModel", "VMMPresentation", "VMMSandbox", "VMMService", "CSandbox", system,
                logging,
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "KVMTests", dependencies: ["CKVM", "GuestProgress", "SymVMM", "SymbioticABI", "VMMBase", "VMMModel", system],
            swiftSettings: strict),
    ]
)

/// The program of all fuzz targets.
if let fuzzerLibrary {
    package.targets += [
        .target(name: "CFuzz", path: "Fuzz/CFuzz"),
        .executableTarget(
            name: "symvmm-fuzz",
            dependencies: [
                "CFuzz", "CKVM", "SwapBypass", "SwapBypassABI", "SymVMM", "SymbioticABI", "VMMAPI", "VMMBase", "VMMControl", "VMMMetadata",
                "VMMModel", "VMMPresentation", "VMMService",
            ],
            path: "Fuzz", exclude: ["CFuzz", "Dictionaries", "Seeds"], sources: ["Harness", "Targets"],
            // Unoptimized: Swift 6.3's optimizer fails on what it takes over from SymVMM. What is tested is optimized.
            swiftSettings: [.swiftLanguageMode(.v6)] + fuzzed + [.unsafeFlags(["-Onone"])],
            linkerSettings: [
                .unsafeFlags([
                    "-sanitize=address", "-Xlinker", "--whole-archive", "-Xlinker", fuzzerLibrary, "-Xlinker", "--no-whole-archive",
                ]),
                .linkedLibrary("stdc++"),
            ]),
    ]
}
