// SPDX-License-Identifier: Apache-2.0

// `import SymVMM` also imports the errors, configuration and reports, which a program that embeds the engine needs.
@_exported public import VMMBase
@_exported public import VMMModel
