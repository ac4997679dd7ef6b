// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

// A separate package, so that it can use only the public API of symvmm, like any other package. To copy it, replace the dependency's path by a
// URL and a version.
let package = Package(
    name: "symvmm-examples",
    dependencies: [.package(name: "symvmm", path: "..")],
    targets: [
        .executableTarget(name: "EmbedVM", dependencies: [.product(name: "SymVMM", package: "symvmm")], path: "EmbedVM"),
        // The service alone. Its descriptor, for the command symvmm, belongs in symvmm's own package.
        .target(
            name: "GuestProgress",
            dependencies: [.product(name: "SymVMM", package: "symvmm"), .product(name: "SymbioticABI", package: "symvmm")],
            path: "GuestProgress", exclude: ["ProgressService+Descriptor.swift"]),
        .executableTarget(
            name: "EmbedService", dependencies: ["GuestProgress", .product(name: "SymVMM", package: "symvmm")], path: "EmbedService"),
    ]
)
