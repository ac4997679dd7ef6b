/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of swapguard share. */
#ifndef SWAPGUARD_H
#define SWAPGUARD_H

#include <stdbool.h>

#include "swaptools.h"

#define SOME_PAGES	64
#define MANY_PAGES	4096

/* swapguard.c */
int wrong(const char *what, size_t page);
uint64_t *word(unsigned char *base, size_t page);
void fill(unsigned char *base, size_t pages, uint64_t value);
int check(unsigned char *base, size_t pages, uint64_t value, const char *what);
void swap_out(unsigned char *base, size_t pages);
void put_back(unsigned char *base, size_t page, size_t pages);
void find_device(char device[64]);
void become_known(void);
unsigned char *swapped_region(size_t pages, uint64_t value);

/* swapguard-slots.c, swapguard-paths.c */
int guard_cache(void);
int guard_shared(void);
int guard_zero(void);
int guard_device(void);
int guard_clean(void);
int guard_change(void);
int guard_range(void);
int guard_user(void);
int guard_pin(void);
int guard_flush(void);
int guard_read(void);
int guard_swapoff(void);
int guard_usable(void);

#endif /* SWAPGUARD_H */
