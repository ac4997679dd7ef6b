// SPDX-License-Identifier: Apache-2.0
#include "csymmod.h"

/*
 * scripts/build writes this file: the program's bytes as numbers with commas. The program itself is another work, under GPL-2.0 (guest/symmod);
 * symvmm only copies it into the guest.
 */
#if __has_include("symmod-init.h")
static const uint8_t bytes[] = {
#include "symmod-init.h"
};
static const size_t byte_count = sizeof(bytes);
#else
static const uint8_t bytes[1];
static const size_t byte_count;
#endif

const uint8_t *csymmod_init(size_t *count)
{
	*count = byte_count;
	return bytes;
}
