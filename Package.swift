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

let package = Package(
    name: "symvmm",
    products: [
        .executable(name: "symvmm", targets: ["symvmm-cli"]),
        .library(name: "SymVMM", targets: ["SymVMM"]),
        .library(name: "SwapBypass", targets: ["SwapBypass"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        .target(
            name: "CKVM",
            cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]
        ),
        .target(
            name: "SymVMM",
            dependencies: [
                "CKVM",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        .target(name: "SwapBypass", dependencies: ["SymVMM", "CKVM"], swiftSettings: strict),
        .executableTarget(
            name: "symvmm-cli",
            dependencies: [
                "SymVMM",
                "SwapBypass",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict
        ),
        .testTarget(name: "UnitTests", dependencies: ["SymVMM", "SwapBypass", "CKVM"], swiftSettings: strict),
        .testTarget(name: "KVMTests", dependencies: ["SymVMM", "CKVM"], swiftSettings: strict),
    ]
)
