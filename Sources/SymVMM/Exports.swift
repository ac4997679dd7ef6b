// SPDX-License-Identifier: Apache-2.0

// Who embeds the engine needs its errors, configuration and reports, too: `import SymVMM` brings them.
@_exported public import VMMBase
@_exported public import VMMModel
