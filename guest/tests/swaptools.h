/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the programs that check and time swap. */
#ifndef SWAPTOOLS_H
#define SWAPTOOLS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE	4096UL
#define WORDS	(PAGE / sizeof(uint64_t))

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static inline void die(const char *what)
{
	fprintf(stderr, "swap: %s: %s\n", what, strerror(errno));
	exit(2);
}

static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void *reserve(size_t bytes)
{
	/* Aligned to 2 MiB, so that it fills whole page tables */
	unsigned char *at = mmap(NULL, bytes + (2 << 20), PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		die("mmap");
	at = (unsigned char *)(((uintptr_t)at + (2 << 20) - 1) & ~((uintptr_t)(2 << 20) - 1));
	/* Small pages: the kernel would split huge ones when it swaps them */
	madvise(at, bytes, MADV_NOHUGEPAGE);
	return at;
}

#endif /* SWAPTOOLS_H */
