// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cfuzz.h"

#include <errno.h>
#include <sys/mman.h>

// libFuzzer's entry for programs with a main of their own (compiler-rt, FuzzerDriver.cpp).
extern int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*target)(const uint8_t *data, size_t size));

int cfuzz_run(int *argc, char ***argv, int (*target)(const uint8_t *data, size_t size))
{
	return LLVMFuzzerRunDriver(argc, argv, target);
}

int64_t cfuzz_resident_bytes(const void *start, size_t byte_count)
{
	unsigned char states[4096];
	const size_t page = 4096, step = sizeof(states) * page;
	int64_t resident = 0;

	for (size_t offset = 0; offset < byte_count; offset += step) {
		size_t bytes = byte_count - offset < step ? byte_count - offset : step;

		if (mincore((char *)start + offset, bytes, states))
			return -errno;
		for (size_t index = 0; index < bytes / page; index++)
			resident += states[index] & 1 ? (int64_t)page : 0;
	}
	return resident;
}
