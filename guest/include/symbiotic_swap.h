/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * SwapBypass, a service on the symbiotic interface: its feature bit, doorbells,
 * symcalls and part of the global page. docs/SWAPBYPASS.md specifies them.
 *
 * The guest's kernel module and the VMM include this header.
 */
#ifndef SYMBIOTIC_SWAP_H
#define SYMBIOTIC_SWAP_H

#include <linux/types.h>

/* CPUID 0x40000101 EBX: the VM has a swap disk that the guest can bypass */
#define SYMBIOTIC_FEATURE_SWAPBYPASS	0x00000004U

/* ---- Doorbells: 0x10 - 0x1f ------------------------------------------------ */

#define SYMBIOTIC_DOORBELL_SWAP_FIRST	0x10U
#define SYMBIOTIC_DOORBELL_SWAP_LAST	0x1fU
#define SYMBIOTIC_DOORBELL_SWAP_ATTACH	0x10U	/* requests the window */
#define SYMBIOTIC_DOORBELL_SWAP_FAULT	0x11U	/* a task touched a swapped page */
#define SYMBIOTIC_DOORBELL_SWAP_STATE	0x12U	/* bypass is on or off now */
#define SYMBIOTIC_DOORBELL_SWAP_DONE	0x13U	/* SWAP_AGE or SWAP_EVICT is done */

/* RBX of DOORBELL_SWAP_ATTACH: what the module can do */
#define SYMBIOTIC_SWAP_CAN_EVICT	0x00000001U	/* SWAP_AGE and SWAP_EVICT */

/* ---- Symcalls: 0x100 - 0x11f, only inside a doorbell's exit ----------------- */

#define SYMBIOTIC_SYMCALL_SWAP_FIRST	0x100U
#define SYMBIOTIC_SYMCALL_SWAP_LAST	0x11fU
#define SYMBIOTIC_SYMCALL_SWAP_MAP	0x100U	/* map pages around the fault */
#define SYMBIOTIC_SYMCALL_SWAP_SWITCH	0x101U	/* switch bypass on or off */
#define SYMBIOTIC_SYMCALL_SWAP_AGE	0x102U	/* report and clear accessed bits */
#define SYMBIOTIC_SYMCALL_SWAP_EVICT	0x103U	/* restore slots that are not resident */

/* SWAP_MAP and SWAP_FAULT number the entries of one page-table page */
#define SYMBIOTIC_SWAP_ENTRIES		512U

/* ---- The global page: 0x180 - 0x3ff ----------------------------------------- */

/* Bits of control (the VMM writes it) and state (the guest writes it) */
#define SYMBIOTIC_SWAP_ON		0x00000001U

/* RCX of DOORBELL_SWAP_STATE: why bypass is not on */
#define SYMBIOTIC_SWAP_NO_REASON	0U
#define SYMBIOTIC_SWAP_NO_WINDOW	1U	/* the VMM maps no window */
#define SYMBIOTIC_SWAP_NO_KERNEL	2U	/* the module does not support this kernel */
#define SYMBIOTIC_SWAP_NO_SYMBOLS	3U	/* the kernel lacks a function */
#define SYMBIOTIC_SWAP_NO_MEMORY	4U
#define SYMBIOTIC_SWAP_NO_HOOK		5U	/* ftrace refused a hook */
#define SYMBIOTIC_SWAP_NO_ZSWAP		6U	/* zswap is or was enabled */

/* vmm[]: GPA of the registers of the swap disk (virtio-mmio) */
#define SYMBIOTIC_SWAP_VMM_DISK		0U
/* vmm[]: GPA of the resident-slot bitmap; 0 = all slots are resident */
#define SYMBIOTIC_SWAP_VMM_RESIDENT	1U
/* vmm[]: GPA of the bitmap that SWAP_AGE writes; 0 = there is none */
#define SYMBIOTIC_SWAP_VMM_ACCESSED	2U

/* counters[] */
#define SYMBIOTIC_SWAP_COUNTERS		64U
#define SYMBIOTIC_SWAP_FAULTS		0U	/* faults on pages of the disk */
#define SYMBIOTIC_SWAP_HITS		1U	/* of those, resolved by a mapping */
#define SYMBIOTIC_SWAP_MAPPED		2U	/* pages mapped */
#define SYMBIOTIC_SWAP_RESTORED		3U	/* pages restored, for any reason */
#define SYMBIOTIC_SWAP_FENCES		4U	/* of those, before a read of the slot */
#define SYMBIOTIC_SWAP_PINS		5U	/* of those, before get_user_pages() */
#define SYMBIOTIC_SWAP_SHARED		6U	/* not mapped: shared or in swap cache */
#define SYMBIOTIC_SWAP_ZERO		7U	/* not mapped: zero page or in zswap */
#define SYMBIOTIC_SWAP_CLEAN		8U	/* not mapped: soft-dirty is clear */
#define SYMBIOTIC_SWAP_FOREIGN		9U	/* not mapped: another swap device */
#define SYMBIOTIC_SWAP_BUSY		10U	/* symcalls refused: a lock is held */
#define SYMBIOTIC_SWAP_INVALIDATED	11U	/* symcalls refused: the range changes */
#define SYMBIOTIC_SWAP_NEW		12U	/* faults of unregistered processes */
#define SYMBIOTIC_SWAP_PROTECTED	13U	/* faults in areas that do not qualify */
#define SYMBIOTIC_SWAP_KERNEL		14U	/* faults in kernel mode */
#define SYMBIOTIC_SWAP_PROCESSES	15U	/* registered processes, a level */
#define SYMBIOTIC_SWAP_FLUSHES		16U	/* TLB flushes before a restore */
#define SYMBIOTIC_SWAP_SHORT		17U	/* faults without memory for books */
#define SYMBIOTIC_SWAP_LOST		18U	/* mapped, but changed by others: 0 */
#define SYMBIOTIC_SWAP_AWAY		19U	/* not mapped: the slot is not resident */
#define SYMBIOTIC_SWAP_LIMITED		20U	/* faults of processes with the most regions */
#define SYMBIOTIC_SWAP_EVICTED		21U	/* of the restored, by SWAP_EVICT */
#define SYMBIOTIC_SWAP_ACCESSED		22U	/* accessed pages found by SWAP_AGE */

/* Offset in the global page */
#define SYMBIOTIC_SWAP_FIELDS_OFFSET	0x180U

struct symbiotic_swap_fields {
	__u32 control;		/* 0x180 VMM: SYMBIOTIC_SWAP_*, requested */
	__u32 generation;	/* 0x184 VMM: number of the request */
	__u64 window_gpa;	/* 0x188 VMM: 0 = no window */
	__u64 window_pages;	/* 0x190 VMM: */
	__u32 state;		/* 0x198 guest: SYMBIOTIC_SWAP_*, in effect */
	__u32 reserved;		/* 0x19c */
	__u64 vmm[12];		/* 0x1a0 VMM: SYMBIOTIC_SWAP_VMM_* */
	__u64 counters[SYMBIOTIC_SWAP_COUNTERS];	/* 0x200 guest: */
};

_Static_assert(sizeof(struct symbiotic_swap_fields) == 0x280, "swap bypass's part");

#endif /* SYMBIOTIC_SWAP_H */
