/* SPDX-License-Identifier: Apache-2.0 */
#include "clz4.h"

#include <limits.h>
#include <lz4.h>

size_t clz4_compress(const void *from, size_t count, void *to, size_t capacity)
{
	int length;

	if (count > LZ4_MAX_INPUT_SIZE || capacity > INT_MAX)
		return 0;
	length = LZ4_compress_default(from, to, (int)count, (int)capacity);
	return length > 0 ? (size_t)length : 0;
}

int clz4_decompress(const void *from, size_t count, void *to, size_t size)
{
	if (count > INT_MAX || size > INT_MAX)
		return -1;
	return LZ4_decompress_safe(from, to, (int)count, (int)size) == (int)size ? 0 : -1;
}
