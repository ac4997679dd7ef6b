/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of swapguard. */
#ifndef SWAPGUARD_H
#define SWAPGUARD_H

#include "swapout.h"

/* swapguard-races.c */
void stay_on(int number);
uint64_t read_by_kernel(uint64_t *at);

/* swapguard-slots.c, swapguard-paths.c, swapguard-races.c, swapguard-look.c */
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
int guard_locked(void);
int guard_mlock(void);
int guard_look(void);
int guard_zswap(void);

#endif /* SWAPGUARD_H */
