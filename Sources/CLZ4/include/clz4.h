/* SPDX-License-Identifier: Apache-2.0 */
/* The C shim of liblz4: one block, compressed and decompressed. No policy. */
#ifndef CLZ4_H
#define CLZ4_H

#include <stddef.h>

/*
 * Compresses `count` bytes into at most `capacity` bytes.
 * Returns their number; 0 if they do not fit.
 */
size_t clz4_compress(const void *from, size_t count, void *to, size_t capacity);

/*
 * Decompresses a block of `count` bytes into exactly `size` bytes.
 * Returns 0; -1 if the block is damaged. Writes at most `size` bytes in either case.
 */
int clz4_decompress(const void *from, size_t count, void *to, size_t size);

#endif
