// SPDX-License-Identifier: Apache-2.0
#ifndef CFUZZ_H
#define CFUZZ_H

#include <stddef.h>
#include <stdint.h>

/// Runs libFuzzer with the arguments of the command line, and calls `target` for each input. Returns the exit status.
int cfuzz_run(int *argc, char ***argv, int (*target)(const uint8_t *data, size_t size));

/// Resident bytes of a mapping (mincore(2)); -errno on an error. Both arguments are multiples of the page size.
int64_t cfuzz_resident_bytes(const void *start, size_t byte_count);

#endif
