/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The symbiotic ABI, version 1.1: what a VMM and a guest say to each other.
 *
 * One header for both sides: the guest's kernel module, the VMM (through
 * Swift's clang importer), bare-metal guests and user-space tests. It holds
 * plain literals and plain structures only, little endian, x86-64.
 * docs/ABI.md says what they mean and who may do what when.
 */
#ifndef SYMBIOTIC_ABI_H
#define SYMBIOTIC_ABI_H

#include <linux/types.h>

/* ---- Versions -------------------------------------------------------- */

#define SYMBIOTIC_ABI_MAJOR		1U
#define SYMBIOTIC_ABI_MINOR		1U
/* (major << 16) | minor: CPUID 0x40000101 EAX and the pages' version field */
#define SYMBIOTIC_ABI_VERSION		0x00010001U

/* ---- Discovery: CPUID ------------------------------------------------ */

/* EAX = highest leaf of this range, EBX:ECX:EDX = "SymbioticVMM" */
#define SYMBIOTIC_CPUID_SIGNATURE	0x40000100U
#define SYMBIOTIC_SIGNATURE_EBX		0x626d7953U	/* "Symb" */
#define SYMBIOTIC_SIGNATURE_ECX		0x69746f69U	/* "ioti" */
#define SYMBIOTIC_SIGNATURE_EDX		0x4d4d5663U	/* "cVMM" */

/* EAX = version, EBX = feature bits, ECX = first MSR, EDX = ports */
#define SYMBIOTIC_CPUID_FEATURES	0x40000101U
/* return | fail << 8 | doorbell << 16: the value of EDX in version 1 */
#define SYMBIOTIC_CPUID_PORTS		0x00e6e5e4U

#define SYMBIOTIC_FEATURE_SYMSPY	0x00000001U	/* shared pages */
#define SYMBIOTIC_FEATURE_SYMCALL	0x00000002U	/* calls into the guest */
#define SYMBIOTIC_FEATURE_SWAPBYPASS	0x00000004U	/* the swap-bypass service */
#define SYMBIOTIC_FEATURE_INTERRUPT	0x00000008U	/* asks for a doorbell by interrupt */
#define SYMBIOTIC_FEATURE_GATE		0x00000010U	/* the doorbell's gate */

/* ---- Registration: MSRs ---------------------------------------------- */

#define SYMBIOTIC_MSR_BASE		0x00000534U
#define SYMBIOTIC_MSR_GLOBAL_PAGE	0x00000534U	/* one for the VM */
#define SYMBIOTIC_MSR_LOCAL_PAGE	0x00000535U	/* this and all below: per vCPU */
#define SYMBIOTIC_MSR_RIP		0x00000536U	/* written last; not 0 = armed */
#define SYMBIOTIC_MSR_RSP		0x00000537U
#define SYMBIOTIC_MSR_CS		0x00000538U	/* SS is CS + 8 */
#define SYMBIOTIC_MSR_GS_BASE		0x00000539U
#define SYMBIOTIC_MSR_CR3_CLEAR		0x0000053aU	/* bits taken out of CR3 */
#define SYMBIOTIC_MSR_IDT		0x0000053bU	/* base of a 4096 byte IDT */
#define SYMBIOTIC_MSR_GATE		0x0000053cU	/* address of the gate's OUT */
#define SYMBIOTIC_MSR_FS_BASE		0x00000540U

/* CR3_CLEAR may hold these bits only (the low, non-address bits and bit 12) */
#define SYMBIOTIC_CR3_CLEAR_ALLOWED	0x0000000000001fffULL
/* The limit that the VMM loads into IDTR with the private IDT */
#define SYMBIOTIC_IDT_LIMIT		0x00000fffU
/* RFLAGS with which a handler starts: IF, DF, AC, TF clear */
#define SYMBIOTIC_RFLAGS		0x0000000000000002ULL

/* ---- Ports ------------------------------------------------------------ */

#define SYMBIOTIC_PORT_RETURN		0x000000e4U	/* OUT: a handler is done */
#define SYMBIOTIC_PORT_FAIL		0x000000e5U	/* OUT: a handler faulted */
#define SYMBIOTIC_PORT_DOORBELL		0x000000e6U	/* OUT: guest to VMM, AL = which */

/* Doorbells (AL, one byte) */
#define SYMBIOTIC_DOORBELL_SERVE	0x00U	/* "make the calls you have waiting" */
#define SYMBIOTIC_DOORBELL_READY	0x01U	/* the module is up; pages are filled */
#define SYMBIOTIC_DOORBELL_LEAVING	0x02U	/* the module is about to unregister */
/* 0x10 - 0x1f: swap bypass */
#define SYMBIOTIC_DOORBELL_SWAP_FIRST	0x10U
#define SYMBIOTIC_DOORBELL_SWAP_LAST	0x1fU
#define SYMBIOTIC_DOORBELL_SWAP_ATTACH	0x10U	/* "show me the window" */
#define SYMBIOTIC_DOORBELL_SWAP_FAULT	0x11U	/* a task touched a swapped page */
#define SYMBIOTIC_DOORBELL_SWAP_STATE	0x12U	/* the switch is in this position now */
/* 0xf0 - 0xff: test builds of the module */
#define SYMBIOTIC_DOORBELL_TEST		0xf0U

/* ---- The interrupt ------------------------------------------------------ */

/* _HID of the ACPI device whose one interrupt asks for DOORBELL_SERVE */
#define SYMBIOTIC_ACPI_HID		"SYMV0001"

/* ---- Symcalls ----------------------------------------------------------- */

/* Numbers are below this; the bitmaps of the global page have so many bits */
#define SYMBIOTIC_SYMCALL_COUNT		512U
#define SYMBIOTIC_SYMCALL_WORDS		8U

/* May be injected into anything (need neither RCU nor a lock) */
#define SYMBIOTIC_SYMCALL_PING		0x000U
#define SYMBIOTIC_SYMCALL_TASK		0x001U
/* Inside a doorbell's exit only */
#define SYMBIOTIC_SYMCALL_UNAME		0x002U
#define SYMBIOTIC_SYMCALL_TASKS		0x003U
#define SYMBIOTIC_SYMCALL_MEMORY	0x004U
#define SYMBIOTIC_SYMCALL_LOG		0x005U
/* 0x100 - 0x11f: swap bypass, inside a doorbell's exit only */
#define SYMBIOTIC_SYMCALL_SWAP_FIRST	0x100U
#define SYMBIOTIC_SYMCALL_SWAP_LAST	0x11fU
#define SYMBIOTIC_SYMCALL_SWAP_MAP	0x100U	/* map part of a neighbourhood */
#define SYMBIOTIC_SYMCALL_SWAP_SWITCH	0x101U	/* turn the switch */
/* 0x1e0 - 0x1ff: misbehaviour on purpose, in test builds of the module */
#define SYMBIOTIC_SYMCALL_TEST_SPIN	0x1e0U	/* never returns */
#define SYMBIOTIC_SYMCALL_TEST_UD	0x1e1U	/* #UD */
#define SYMBIOTIC_SYMCALL_TEST_PF	0x1e2U	/* #PF, CR2 = RBX */
#define SYMBIOTIC_SYMCALL_TEST_GP	0x1e3U	/* #GP */
#define SYMBIOTIC_SYMCALL_TEST_DOORBELL	0x1e4U	/* rings DOORBELL_SERVE inside */
#define SYMBIOTIC_SYMCALL_TEST_STACK	0x1e5U	/* runs off its stack: #DF */
#define SYMBIOTIC_SYMCALL_TEST_SCRIBBLE	0x1e6U	/* noise over both pages; RBX seeds */
#define SYMBIOTIC_SYMCALL_TEST_OUTS	0x1e7U	/* RBX OUTs to port RCX, then returns */
#define SYMBIOTIC_SYMCALL_TEST_BURN	0x1e8U	/* RBX turns of a loop, then returns */
#define SYMBIOTIC_SYMCALL_TEST_TWICE	0x1e9U	/* both ports, then return once more */

/* RAX of a return, and of a failure */
#define SYMBIOTIC_OK			0U
#define SYMBIOTIC_E_UNKNOWN		1U	/* no such symcall in this guest */
#define SYMBIOTIC_E_INVALID		2U	/* an argument is out of range */
#define SYMBIOTIC_E_CONTEXT		3U	/* needs a doorbell, was injected */
#define SYMBIOTIC_E_BUSY		4U	/* a lock was taken; ask again */
#define SYMBIOTIC_E_NO_BUFFER		5U	/* there is no shared buffer */
#define SYMBIOTIC_E_TOO_SMALL		6U	/* the range can't hold one record */
#define SYMBIOTIC_E_FAULT		7U	/* FAIL port: the handler faulted */
/* 0x100 and up: errors of the swap-bypass symcalls */

/* Registers on entry (arguments) and at a return (results) */
struct symbiotic_registers {
	__u64 rax;	/* in: number; out: SYMBIOTIC_OK or SYMBIOTIC_E_* */
	__u64 rbx;	/* at a failure: vector */
	__u64 rcx;	/* at a failure: error code of the exception, or 0 */
	__u64 rdx;	/* at a failure: faulting RIP */
	__u64 rsi;	/* at a failure: CR2 */
	__u64 rdi;	/* at a failure: RSP at the fault */
};

/* ---- SymSpy: the global page ------------------------------------------ */

#define SYMBIOTIC_PAGE_SIZE		4096U
#define SYMBIOTIC_GLOBAL_MAGIC		0x424f4c47424d5953ULL	/* "SYMBGLOB" */
#define SYMBIOTIC_LOCAL_MAGIC		0x4c434f4c424d5953ULL	/* "SYMBLOCL" */
#define SYMBIOTIC_RELEASE_SIZE		64U
#define SYMBIOTIC_SWAP_COUNTERS		64U

/* Bits of swap_control (written by the VMM) and swap_state (by the guest) */
#define SYMBIOTIC_SWAP_ON		0x00000001U

/* Why the switch is not where it was asked to be: RCX of DOORBELL_SWAP_STATE */
#define SYMBIOTIC_SWAP_NO_REASON	0U
#define SYMBIOTIC_SWAP_NO_WINDOW	1U	/* the VMM shows none */
#define SYMBIOTIC_SWAP_NO_KERNEL	2U	/* not a kernel that the module knows */
#define SYMBIOTIC_SWAP_NO_SYMBOLS	3U	/* a function is not where it should be */
#define SYMBIOTIC_SWAP_NO_MEMORY	4U
#define SYMBIOTIC_SWAP_NO_HOOK		5U	/* another user has the function */
#define SYMBIOTIC_SWAP_NO_ZSWAP		6U	/* zswap holds pages: not possible */

/* SWAP_MAP and SWAP_FAULT speak of entries of one page-table page */
#define SYMBIOTIC_SWAP_ENTRIES		512U

/* swap_vmm: GPA of the registers of the swap disk (virtio-mmio) */
#define SYMBIOTIC_SWAP_VMM_DISK		0U
/* swap_vmm: GPA of a bit for each slot: it can be reached; 0 = all can */
#define SYMBIOTIC_SWAP_VMM_HELD		1U

/* swap_counters */
#define SYMBIOTIC_SWAP_FAULTS		0U	/* faults seen on pages of the disk */
#define SYMBIOTIC_SWAP_HITS		1U	/* ... after which the page was there */
#define SYMBIOTIC_SWAP_MAPPED		2U	/* pages mapped */
#define SYMBIOTIC_SWAP_RESTORED		3U	/* pages restored, for whatever reason */
#define SYMBIOTIC_SWAP_FENCES		4U	/* ... because the slot was being read */
#define SYMBIOTIC_SWAP_PINS		5U	/* ... because it was to be pinned */
#define SYMBIOTIC_SWAP_SHARED		6U	/* not mapped: shared or in swap cache */
#define SYMBIOTIC_SWAP_ZERO		7U	/* not mapped: never written, zeroes */
#define SYMBIOTIC_SWAP_CLEAN		8U	/* not mapped: soft-dirty is off */
#define SYMBIOTIC_SWAP_FOREIGN		9U	/* not mapped: another device's */
#define SYMBIOTIC_SWAP_BUSY		10U	/* calls refused: a lock was taken */
#define SYMBIOTIC_SWAP_INVALIDATED	11U	/* calls refused: being changed */
#define SYMBIOTIC_SWAP_NEW		12U	/* faults of processes not known yet */
#define SYMBIOTIC_SWAP_PROTECTED	13U	/* faults in areas that don't qualify */
#define SYMBIOTIC_SWAP_KERNEL		14U	/* faults of the kernel's own access */
#define SYMBIOTIC_SWAP_PROCESSES	15U	/* processes known now */
#define SYMBIOTIC_SWAP_FLUSHES		16U	/* TLB flushes for restoring */
#define SYMBIOTIC_SWAP_SHORT		17U	/* faults without memory for the books */
#define SYMBIOTIC_SWAP_LOST		18U	/* mapped, and gone behind its back: 0 */
#define SYMBIOTIC_SWAP_AWAY		19U	/* not mapped: not in the VMM's memory */

struct symbiotic_global_page {
	/* Written by the guest, before registration unless said otherwise */
	__u64 magic;			/* 0x000 */
	__u32 version;			/* 0x008 SYMBIOTIC_ABI_VERSION */
	__u32 size;			/* 0x00c of this structure: 4096 */
	__u32 features;			/* 0x010 acknowledged; may change any time */
	__u32 armed_vcpus;		/* 0x014 kept up to date, for people */
	__u64 buffer_gpa;		/* 0x018 shared buffer, page aligned; 0 = none */
	__u32 buffer_size;		/* 0x020 bytes, a multiple of 4096 */
	__u32 preempt_hardirq_mask;	/* 0x024 how to read preempt counts: */
	__u32 preempt_softirq_mask;	/* 0x028 (any bit of a mask set: */
	__u32 preempt_nmi_mask;		/* 0x02c  the vCPU is in that context) */
	char release[SYMBIOTIC_RELEASE_SIZE];		/* 0x030 NUL terminated */
	__u64 symcalls[SYMBIOTIC_SYMCALL_WORDS];	/* 0x070 number n: bit n */
	__u64 direct[SYMBIOTIC_SYMCALL_WORDS];		/* 0x0b0 may be injected */
	__u64 interrupts;		/* 0x0f0 requests seen by interrupt */
	__u64 doorbells;		/* 0x0f8 rung, of all kinds */

	/* Written by the VMM */
	__u32 vmm_version;		/* 0x100 SYMBIOTIC_ABI_VERSION it uses */
	__u32 vmm_flags;		/* 0x104 SYMBIOTIC_VMM_* */
	__u64 requests;			/* 0x108 times it asked for a doorbell */
	__u64 reserved_vmm[14];		/* 0x110 */

	/* Swap bypass. Its part of the ABI says what is in it. */
	__u32 swap_control;		/* 0x180 VMM: SYMBIOTIC_SWAP_* wanted */
	__u32 swap_generation;		/* 0x184 VMM: counts changes of the above */
	__u64 swap_window_gpa;		/* 0x188 VMM: 0 = not mapped */
	__u64 swap_window_pages;	/* 0x190 VMM: */
	__u32 swap_state;		/* 0x198 guest: SYMBIOTIC_SWAP_* in force */
	__u32 swap_reserved;		/* 0x19c */
	__u64 swap_vmm[12];		/* 0x1a0 VMM: */
	__u64 swap_counters[SYMBIOTIC_SWAP_COUNTERS];	/* 0x200 guest: */

	__u8 reserved[3072];		/* 0x400 zero */
};

/* vmm_flags */
#define SYMBIOTIC_VMM_SYMCALLS_OFF	0x00000001U	/* switched off: see why in the VMM */

/* ---- SymSpy: the local page ------------------------------------------- */

/* task.flags */
#define SYMBIOTIC_TASK_IDLE		0x00000001U	/* the idle task */
#define SYMBIOTIC_TASK_KERNEL		0x00000002U	/* a kernel thread */
/* Set in TASK's result only: the interrupted context within the kernel */
#define SYMBIOTIC_TASK_HARDIRQ		0x00000100U
#define SYMBIOTIC_TASK_SOFTIRQ		0x00000200U
#define SYMBIOTIC_TASK_NMI		0x00000400U

#define SYMBIOTIC_COMM_SIZE		16U

struct symbiotic_task {
	__u32 tgid;			/* process, in the initial PID namespace */
	__u32 pid;			/* thread */
	__u32 uid;			/* real, in the initial user namespace */
	__u32 flags;			/* SYMBIOTIC_TASK_* */
	__u64 start_time;		/* ns since boot, of the process; 0 = not known */
	char comm[SYMBIOTIC_COMM_SIZE];	/* NUL terminated */
};

struct symbiotic_local_page {
	/* Written by the guest */
	__u64 magic;			/* 0x000 */
	__u32 version;			/* 0x008 */
	__u32 size;			/* 0x00c of this structure: 4096 */
	__u32 cpu;			/* 0x010 the guest's number of this vCPU */
	__u32 apic_id;			/* 0x014 */
	__u64 preempt_count_gpa;	/* 0x018 of a __u32; 0 = not known */
	__u32 sequence;			/* 0x020 odd while task is being written */
	__u32 reserved_sequence;	/* 0x024 */
	struct symbiotic_task task;	/* 0x028 running now */
	__u64 switches;			/* 0x050 updates of task */
	__u64 symcalls;			/* 0x058 entered */
	__u64 symcall_errors;		/* 0x060 returned with RAX not 0 */
	__u64 doorbells;		/* 0x068 rung on this vCPU */
	__u64 reserved_guest[18];	/* 0x070 */

	/* Written by the VMM */
	__u32 enabled;			/* 0x100 1: it makes symcalls on this vCPU */
	__u32 active;			/* 0x104 1: one is running now */
	__u64 aborts;			/* 0x108 cut off at the time limit */
	__u64 failures;			/* 0x110 ended at the FAIL port */
	__u64 completed;		/* 0x118 ended at the RETURN port */
	__u64 reserved_vmm[28];		/* 0x120 */

	__u8 reserved[3584];		/* 0x200 zero */
};

/* ---- Records in the shared buffer -------------------------------------- */

/* Offsets and lengths of ranges in the shared buffer are multiples of this */
#define SYMBIOTIC_BUFFER_ALIGN		16U

/* UNAME */
#define SYMBIOTIC_UTS_SIZE		65U

struct symbiotic_uname {
	char sysname[SYMBIOTIC_UTS_SIZE];	/* 0x000 all NUL terminated */
	char nodename[SYMBIOTIC_UTS_SIZE];	/* 0x041 */
	char release[SYMBIOTIC_UTS_SIZE];	/* 0x082 */
	char version[SYMBIOTIC_UTS_SIZE];	/* 0x0c3 */
	char machine[SYMBIOTIC_UTS_SIZE];	/* 0x104 */
	char domainname[SYMBIOTIC_UTS_SIZE];	/* 0x145 */
	__u8 reserved[10];			/* 0x186 */
};

/* TASKS: RSI */
#define SYMBIOTIC_TASKS_THREADS		0x00000001U	/* each thread, not each process */

struct symbiotic_task_record {
	struct symbiotic_task task;	/* 0x00 */
	__u32 parent;			/* 0x28 tgid of the parent */
	__u32 cpu;			/* 0x2c where it runs or ran last */
	__u32 state;			/* 0x30 a letter as in ps: R S D T t X Z P I */
	__u32 threads;			/* 0x34 of the process */
	__u64 user_time;		/* 0x38 ns, or SYMBIOTIC_NOT_KNOWN */
	__u64 system_time;		/* 0x40 */
	__u64 reserved;			/* 0x48 */
};

/* MEMORY; in pages of page_size bytes; SYMBIOTIC_NOT_KNOWN: can't tell */
#define SYMBIOTIC_NOT_KNOWN		0xffffffffffffffffULL

struct symbiotic_memory {
	__u64 page_size;		/* 0x00 bytes */
	__u64 total;			/* 0x08 */
	__u64 free;			/* 0x10 */
	__u64 file;			/* 0x18 page cache with buffers, without swap cache */
	__u64 swap_cached;		/* 0x20 */
	__u64 dirty;			/* 0x28 */
	__u64 writeback;		/* 0x30 */
	__u64 anonymous;		/* 0x38 */
	__u64 mapped;			/* 0x40 */
	__u64 shared;			/* 0x48 shmem and tmpfs */
	__u64 slab_reclaimable;		/* 0x50 */
	__u64 slab_unreclaimable;	/* 0x58 */
	__u64 page_tables;		/* 0x60 */
	__u64 kernel_stacks;		/* 0x68 */
	__u64 swap_total;		/* 0x70 */
	__u64 swap_free;		/* 0x78 */
};

/* ---- What both sides rely on -------------------------------------------- */

_Static_assert(sizeof(struct symbiotic_registers) == 48, "registers");
_Static_assert(sizeof(struct symbiotic_global_page) == 4096, "global page");
_Static_assert(sizeof(struct symbiotic_local_page) == 4096, "local page");
_Static_assert(sizeof(struct symbiotic_task) == 40, "task");
_Static_assert(sizeof(struct symbiotic_task_record) == 80, "task record");
_Static_assert(sizeof(struct symbiotic_uname) == 400, "uname");
_Static_assert(sizeof(struct symbiotic_memory) == 128, "memory");

#endif /* SYMBIOTIC_ABI_H */
