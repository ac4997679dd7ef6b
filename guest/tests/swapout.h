/* SPDX-License-Identifier: GPL-2.0 */
/* Swaps the program's memory out on demand, and checks it when it is back. */
#ifndef SWAPOUT_H
#define SWAPOUT_H

#include <stdbool.h>

#include "swaptools.h"

#define SOME_PAGES	64
#define MANY_PAGES	4096

#define CGROUPS		"/tmp/swap-cgroups"
#define OWN_GROUP	CGROUPS "/own"

int put(const char *path, const char *text);
void enter_group(void);
void read_around_slots(void);
int wrong(const char *what, size_t page);
uint64_t *word(unsigned char *base, size_t page);
void fill(unsigned char *base, size_t pages, uint64_t value);
int check(unsigned char *base, size_t pages, uint64_t value, const char *what);
void swap_out(unsigned char *base, size_t pages);
void put_back(unsigned char *base, size_t page, size_t pages);
void find_device(char device[64]);
long swapped_kibibytes(void);
void become_known(void);
unsigned char *swapped_region(size_t pages, uint64_t value);

#endif /* SWAPOUT_H */
