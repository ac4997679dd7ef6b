/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of swapworks. */
#ifndef SWAPWORKS_H
#define SWAPWORKS_H

#include "swapout.h"

#define PAGES	512	/* two page-table pages at most */

/* swapworks.c: the kernel reads or writes a process's pages */
int works_dump(void);
int works_direct(void);
int works_futex(void);
int works_userfault(void);
int works_exec(void);

/* swapworks-memory.c: the kernel moves, merges or counts pages */
int works_ksm(void);
int works_huge(void);
int works_compaction(void);
int works_group(void);
int works_oom(void);
int works_views(void);

#endif /* SWAPWORKS_H */
