/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The symbiotic ABI, version 1.1: the interface between a VMM and a guest.
 *
 * The guest's kernel module, the VMM (through Swift's clang importer),
 * bare-metal guests and user-space tests all include this header. It has only
 * literals and structures, little endian, x86-64. docs/ABI.md specifies their
 * meaning and each side's obligations.
 *
 * A service that uses the interface has a header of its own, for example
 * symbiotic_swap.h. This header defines no service.
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
/* 0x00000004: the service of symbiotic_swap.h */
#define SYMBIOTIC_FEATURE_INTERRUPT	0x00000008U	/* an interrupt requests a doorbell */
#define SYMBIOTIC_FEATURE_FAST_DOORBELL	0x00000010U	/* the FAST_DOORBELL MSR */

/* ---- Registration: MSRs ---------------------------------------------- */

#define SYMBIOTIC_MSR_BASE		0x00000534U
#define SYMBIOTIC_MSR_GLOBAL_PAGE	0x00000534U	/* one for the VM */
#define SYMBIOTIC_MSR_LOCAL_PAGE	0x00000535U	/* this and all below: per vCPU */
#define SYMBIOTIC_MSR_RIP		0x00000536U	/* written last; nonzero = armed */
#define SYMBIOTIC_MSR_RSP		0x00000537U
#define SYMBIOTIC_MSR_CS		0x00000538U	/* SS is CS + 8 */
#define SYMBIOTIC_MSR_GS_BASE		0x00000539U
#define SYMBIOTIC_MSR_CR3_CLEAR		0x0000053aU	/* bits to clear in CR3 */
#define SYMBIOTIC_MSR_IDT		0x0000053bU	/* base of a 4096-byte IDT */
#define SYMBIOTIC_MSR_FAST_DOORBELL	0x0000053cU	/* address of an OUT */
#define SYMBIOTIC_MSR_FS_BASE		0x00000540U

/* CR3_CLEAR accepts these bits only: the low 12 bits, which hold no address, and bit 12 */
#define SYMBIOTIC_CR3_CLEAR_ALLOWED	0x0000000000001fffULL
/* The VMM loads this limit into IDTR with the registered IDT */
#define SYMBIOTIC_IDT_LIMIT		0x00000fffU
/* RFLAGS at a handler's start: IF, DF, AC and TF are clear */
#define SYMBIOTIC_RFLAGS		0x0000000000000002ULL

/* ---- Ports ------------------------------------------------------------ */

#define SYMBIOTIC_PORT_RETURN		0x000000e4U	/* OUT: the handler ends */
#define SYMBIOTIC_PORT_FAIL		0x000000e5U	/* OUT: a handler faulted */
#define SYMBIOTIC_PORT_DOORBELL		0x000000e6U	/* OUT: doorbell AL */

/* Doorbells (AL, one byte) */
#define SYMBIOTIC_DOORBELL_SERVE	0x00U	/* the VMM makes its queued symcalls */
#define SYMBIOTIC_DOORBELL_READY	0x01U	/* the module is ready, the pages are valid */
#define SYMBIOTIC_DOORBELL_LEAVING	0x02U	/* the module is about to unregister */
/* 0x10 - 0xef: services */
/* 0xf0 - 0xff: test builds of the module */
#define SYMBIOTIC_DOORBELL_TEST		0xf0U

/* ---- The interrupt ------------------------------------------------------ */

/* _HID of the ACPI device whose interrupt requests DOORBELL_SERVE */
#define SYMBIOTIC_ACPI_HID		"SYMV0001"

/* ---- Symcalls ----------------------------------------------------------- */

/* Symcall numbers are less than this. The global page's bitmaps have one bit for each. */
#define SYMBIOTIC_SYMCALL_COUNT		512U
#define SYMBIOTIC_SYMCALL_WORDS		8U

/* Direct: the VMM may inject them at any instruction (need neither RCU nor a lock) */
#define SYMBIOTIC_SYMCALL_PING		0x000U
#define SYMBIOTIC_SYMCALL_TASK		0x001U
/* Only inside a doorbell's exit */
#define SYMBIOTIC_SYMCALL_UNAME		0x002U
#define SYMBIOTIC_SYMCALL_TASKS		0x003U
#define SYMBIOTIC_SYMCALL_MEMORY	0x004U
#define SYMBIOTIC_SYMCALL_LOG		0x005U
/* 0x100 - 0x1df: services */
/* 0x1e0 - 0x1ff: faulty on purpose, in test builds of the module */
#define SYMBIOTIC_SYMCALL_TEST_SPIN	0x1e0U	/* never ends */
#define SYMBIOTIC_SYMCALL_TEST_UD	0x1e1U	/* #UD */
#define SYMBIOTIC_SYMCALL_TEST_PF	0x1e2U	/* #PF, CR2 = RBX */
#define SYMBIOTIC_SYMCALL_TEST_GP	0x1e3U	/* #GP */
#define SYMBIOTIC_SYMCALL_TEST_DOORBELL	0x1e4U	/* rings DOORBELL_SERVE in the handler */
#define SYMBIOTIC_SYMCALL_TEST_STACK	0x1e5U	/* overflows its stack: #DF */
#define SYMBIOTIC_SYMCALL_TEST_SCRIBBLE	0x1e6U	/* random data in both pages; RBX = seed */
#define SYMBIOTIC_SYMCALL_TEST_OUTS	0x1e7U	/* RBX times OUT to port RCX */
#define SYMBIOTIC_SYMCALL_TEST_BURN	0x1e8U	/* RBX iterations of an empty loop */
#define SYMBIOTIC_SYMCALL_TEST_TWICE	0x1e9U	/* writes to both ports, then returns again */

/* RAX at the return port and at the fail port */
#define SYMBIOTIC_OK			0U
#define SYMBIOTIC_E_UNKNOWN		1U	/* the guest does not have this symcall */
#define SYMBIOTIC_E_INVALID		2U	/* an argument is out of range */
#define SYMBIOTIC_E_CONTEXT		3U	/* not direct, but injected directly */
#define SYMBIOTIC_E_BUSY		4U	/* a lock is held; try again */
#define SYMBIOTIC_E_NO_BUFFER		5U	/* the guest has no shared buffer */
#define SYMBIOTIC_E_TOO_SMALL		6U	/* the range is too small for one record */
#define SYMBIOTIC_E_FAULT		7U	/* FAIL port: the handler faulted */
/* 0x100 and up: errors of services */

/* Registers at a handler's start (arguments) and at its end (results) */
struct symbiotic_registers {
	__u64 rax;	/* in: number; out: SYMBIOTIC_OK or SYMBIOTIC_E_* */
	__u64 rbx;	/* fail port: vector */
	__u64 rcx;	/* fail port: error code of the exception, or 0 */
	__u64 rdx;	/* fail port: faulting RIP */
	__u64 rsi;	/* fail port: CR2 */
	__u64 rdi;	/* fail port: RSP at the fault */
};

/* ---- SymSpy: the global page ------------------------------------------ */

#define SYMBIOTIC_PAGE_SIZE		4096U
#define SYMBIOTIC_GLOBAL_MAGIC		0x424f4c47424d5953ULL	/* "SYMBGLOB" */
#define SYMBIOTIC_LOCAL_MAGIC		0x4c434f4c424d5953ULL	/* "SYMBLOCL" */
#define SYMBIOTIC_RELEASE_SIZE		64U
#define SYMBIOTIC_SERVICES_SIZE		3712U

struct symbiotic_global_page {
	/* The guest writes these, before registration except where noted */
	__u64 magic;			/* 0x000 */
	__u32 version;			/* 0x008 SYMBIOTIC_ABI_VERSION */
	__u32 size;			/* 0x00c of this structure: 4096 */
	__u32 features;			/* 0x010 in use; may change at any time */
	__u32 armed_vcpus;		/* 0x014 number; may change at any time */
	__u64 buffer_gpa;		/* 0x018 shared buffer, page aligned; 0 = none */
	__u32 buffer_size;		/* 0x020 bytes, a multiple of 4096 */
	__u32 preempt_hardirq_mask;	/* 0x024 bits of the preempt count: */
	__u32 preempt_softirq_mask;	/* 0x028 the vCPU is in a context when */
	__u32 preempt_nmi_mask;		/* 0x02c any bit of its mask is set */
	char release[SYMBIOTIC_RELEASE_SIZE];		/* 0x030 NUL terminated */
	__u64 symcalls[SYMBIOTIC_SYMCALL_WORDS];	/* 0x070 bit n: symcall n exists */
	__u64 direct[SYMBIOTIC_SYMCALL_WORDS];		/* 0x0b0 bit n: n is direct */
	__u64 interrupts;		/* 0x0f0 of SYMV0001, counted */
	__u64 doorbells;		/* 0x0f8 all doorbells, counted */

	/* The VMM writes these */
	__u32 vmm_version;		/* 0x100 the VMM's SYMBIOTIC_ABI_VERSION */
	__u32 vmm_flags;		/* 0x104 SYMBIOTIC_VMM_* */
	__u64 requests;			/* 0x108 requested doorbells, counted */
	__u64 reserved_vmm[14];		/* 0x110 */

	/* Each service's header defines its part. The rest is zero. */
	__u8 services[SYMBIOTIC_SERVICES_SIZE];		/* 0x180 */
};

/* vmm_flags */
#define SYMBIOTIC_VMM_SYMCALLS_OFF	0x00000001U	/* the VMM makes no symcalls */

/* ---- SymSpy: the local page ------------------------------------------- */

/* task.flags */
#define SYMBIOTIC_TASK_IDLE		0x00000001U	/* the idle task */
#define SYMBIOTIC_TASK_KERNEL		0x00000002U	/* a kernel thread */
/* Only in TASK's results: the interrupted context within the kernel */
#define SYMBIOTIC_TASK_HARDIRQ		0x00000100U
#define SYMBIOTIC_TASK_SOFTIRQ		0x00000200U
#define SYMBIOTIC_TASK_NMI		0x00000400U

#define SYMBIOTIC_COMM_SIZE		16U

struct symbiotic_task {
	__u32 tgid;			/* process, in the initial PID namespace */
	__u32 pid;			/* thread */
	__u32 uid;			/* real, in the initial user namespace */
	__u32 flags;			/* SYMBIOTIC_TASK_* */
	__u64 start_time;		/* of the process, ns since boot; 0 = unknown */
	char comm[SYMBIOTIC_COMM_SIZE];	/* NUL terminated */
};

struct symbiotic_local_page {
	/* The guest writes these */
	__u64 magic;			/* 0x000 */
	__u32 version;			/* 0x008 */
	__u32 size;			/* 0x00c of this structure: 4096 */
	__u32 cpu;			/* 0x010 the guest's number of this vCPU */
	__u32 apic_id;			/* 0x014 */
	__u64 preempt_count_gpa;	/* 0x018 of a __u32; 0 = unknown */
	__u32 sequence;			/* 0x020 odd while the guest writes task */
	__u32 reserved_sequence;	/* 0x024 */
	struct symbiotic_task task;	/* 0x028 the running task */
	__u64 switches;			/* 0x050 updates of task, counted */
	__u64 symcalls;			/* 0x058 handlers started, counted */
	__u64 symcall_errors;		/* 0x060 of those, ended with RAX != 0 */
	__u64 doorbells;		/* 0x068 on this vCPU, counted */
	__u64 reserved_guest[18];	/* 0x070 */

	/* The VMM writes these */
	__u32 enabled;			/* 0x100 1: the VMM may make symcalls on this vCPU */
	__u32 active;			/* 0x104 1: a handler runs */
	__u64 aborts;			/* 0x108 handlers aborted at the time limit */
	__u64 failures;			/* 0x110 handlers ended at the fail port */
	__u64 completed;		/* 0x118 handlers ended at the return port */
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
#define SYMBIOTIC_TASKS_THREADS		0x00000001U	/* threads instead of processes */

struct symbiotic_task_record {
	struct symbiotic_task task;	/* 0x00 */
	__u32 parent;			/* 0x28 tgid of the parent */
	__u32 cpu;			/* 0x2c the vCPU where it runs or last ran */
	__u32 state;			/* 0x30 letter as in ps: R S D T t X Z P I */
	__u32 threads;			/* 0x34 of the process */
	__u64 user_time;		/* 0x38 ns, or SYMBIOTIC_NOT_KNOWN */
	__u64 system_time;		/* 0x40 */
	__u64 reserved;			/* 0x48 */
};

/* MEMORY: in pages of page_size bytes; SYMBIOTIC_NOT_KNOWN: unknown */
#define SYMBIOTIC_NOT_KNOWN		0xffffffffffffffffULL

struct symbiotic_memory {
	__u64 page_size;		/* 0x00 bytes */
	__u64 total;			/* 0x08 */
	__u64 free;			/* 0x10 */
	__u64 file;			/* 0x18 page cache and buffers, without swap cache */
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

/* ---- Layout --------------------------------------------------------------- */

_Static_assert(sizeof(struct symbiotic_registers) == 48, "registers");
_Static_assert(sizeof(struct symbiotic_global_page) == 4096, "global page");
_Static_assert(sizeof(struct symbiotic_local_page) == 4096, "local page");
_Static_assert(sizeof(struct symbiotic_task) == 40, "task");
_Static_assert(sizeof(struct symbiotic_task_record) == 80, "task record");
_Static_assert(sizeof(struct symbiotic_uname) == 400, "uname");
_Static_assert(sizeof(struct symbiotic_memory) == 128, "memory");

#endif /* SYMBIOTIC_ABI_H */
