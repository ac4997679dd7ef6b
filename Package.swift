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
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// A module in C, without policy.
func shim(_ name: String) -> Target {
    .target(name: name, cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])])
}

func nio(_ name: String) -> Target.Dependency {
    .product(name: name, package: "swift-nio")
}

/// A test build has a service that only tests and benchmarks need: `SYMVMM_TEST_BUILD=1 swift build`.
let isTestBuild = Context.environment["SYMVMM_TEST_BUILD"] != nil

let package = Package(
    name: "symvmm",
    products: [
        .executable(name: "symvmm", targets: ["symvmm-cli"]),
        .library(name: "SymVMM", targets: ["SymVMM"]),
        .library(name: "SwapBypass", targets: ["SwapBypass"]),
    ],
    // Exact, so that a commit says what a release was built from.
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    ],
    targets: [
        shim("CKVM"),
        shim("SymbioticABI"),
        module("VMMBase", ["CKVM"]),
        module("VMMModel", ["VMMBase"]),
        module("VMMAPI", ["VMMBase"]),
        module("SymVMM", ["CKVM", "SymbioticABI", "VMMBase", "VMMModel"]),
        module("VMMPresentation", ["VMMAPI", "VMMBase", "VMMModel"]),
        module("VMMService", ["SymVMM", "VMMAPI", "VMMBase", "VMMPresentation"]),
        module(
            "SwapBypass", ["SymVMM", "SymbioticABI", "VMMAPI", "VMMBase", "VMMModel", "VMMPresentation", "VMMService"]),
        module(
            "VMMControl",
            [
                "SymVMM", "VMMAPI", "VMMBase", "VMMModel", "VMMPresentation", "VMMService", nio("NIOCore"), nio("NIOPosix"),
                nio("NIOHTTP1"), nio("NIOConcurrencyHelpers"),
            ]),
        module("TestServices", ["SymVMM", "SymbioticABI", "VMMAPI", "VMMBase", "VMMService"]),
        module("VMMClient", ["VMMAPI", "VMMBase", "VMMModel", nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1")]),
        .executableTarget(
            name: "symvmm-cli",
            dependencies: [
                "SwapBypass", "SymVMM", "VMMAPI", "VMMBase", "VMMClient", "VMMControl", "VMMModel", "VMMPresentation", "VMMService",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ] + (isTestBuild ? ["TestServices"] : []),
            swiftSettings: strict + (isTestBuild ? [.define("SYMVMM_TEST_BUILD")] : [])
        ),
        .testTarget(
            name: "UnitTests",
            dependencies: [
                "CKVM", "SwapBypass", "SymVMM", "SymbioticABI", "VMMAPI", "VMMBase", "VMMClient", "VMMControl", "VMMModel",
                "VMMPresentation", "VMMService",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "KVMTests", dependencies: ["CKVM", "SymVMM", "SymbioticABI", "VMMBase", "VMMModel"], swiftSettings: strict),
    ]
)
