/* SPDX-License-Identifier: GPL-2.0 */
/*
 * symbiotic.ko: shared declarations.
 *
 *   main.c          module init and exit: detects the VMM, starts the parts
 *   registration.c  shared memory, MSRs, vCPU hotplug
 *   symspy.c        publishes the running task in the local pages
 *   symcall.c       dispatch, direct symcalls, the private IDT
 *   entry.S         entry points for symcalls and for faults in handlers
 *   doorbell.c      the doorbell, and the interrupt that requests one
 *   symcall_*.c     one symcall each, made inside a doorbell's exit
 *   status.c        sysfs and debugfs
 *   swapbypass*.c   the service SwapBypass
 *   test*.c         faults on purpose, in test builds only
 */
#ifndef SYMBIOTIC_H
#define SYMBIOTIC_H

#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/types.h>

#include <asm/desc_defs.h>

#include "symbiotic_abi.h"

#define SYMBIOTIC_STACK_SIZE	(16 * 1024)

/* Handles a symcall: arguments and results in @regs; returns RAX */
typedef u64 (*symbiotic_handler)(struct symbiotic_registers *regs);

struct symbiotic_cpu {
	struct symbiotic_local_page *local;
	void *stack;		/* lowest address */
	bool armed;
	bool in_doorbell;	/* this vCPU executes a doorbell's OUT */
};

DECLARE_PER_CPU(struct symbiotic_cpu, symbiotic_cpu);

/* registration.c */
extern struct symbiotic_global_page *symbiotic_global;
extern void *symbiotic_buffer;
extern u32 symbiotic_buffer_size;
int symbiotic_register_vm(void);
void symbiotic_unregister_vm(void);
int symbiotic_register_vcpus(void);
void symbiotic_unregister_vcpus(void);
void symbiotic_set_feature(u32 feature, bool on);
bool symbiotic_has_fast_doorbell(void);
int symbiotic_arm(void);
int symbiotic_disarm(void);

/* symspy.c */
void symbiotic_publish_current(void);
int symbiotic_start_symspy(void);
void symbiotic_stop_symspy(void);

/* entry.S; except for symbiotic_ring(), only their addresses are used */
extern const char symbiotic_entry[];
extern const char symbiotic_fast_doorbell[];
extern const char symbiotic_nmi[];
void symbiotic_ring(u8 number, u64 rbx, u64 rcx, u64 rdx, u64 rsi, u64 rdi);
extern const unsigned long symbiotic_fault_stubs[256];

/* symcall.c; entry.S uses the tables and the address */
extern struct desc_ptr symbiotic_private_idt;
extern struct desc_ptr symbiotic_kernel_idt;
extern unsigned long symbiotic_kernel_nmi;
void symbiotic_symcall(struct symbiotic_registers *regs);
int symbiotic_build_idt(void);
void symbiotic_free_idt(void);
unsigned long symbiotic_idt_address(void);
void symbiotic_publish_symcalls(void);
int symbiotic_add_symcall(unsigned int number, symbiotic_handler handler);
void symbiotic_remove_symcall(unsigned int number);
u64 symbiotic_range(const struct symbiotic_registers *regs, size_t least,
		    void **start);

/* doorbell.c */
void symbiotic_doorbell(u8 number, u64 rbx, u64 rcx, u64 rdx, u64 rsi, u64 rdi);
int symbiotic_start_interrupt(void);
void symbiotic_stop_interrupt(void);

/* symcall_*.c */
u64 symbiotic_symcall_uname(struct symbiotic_registers *regs);
u64 symbiotic_symcall_tasks(struct symbiotic_registers *regs);
u64 symbiotic_symcall_memory(struct symbiotic_registers *regs);
u64 symbiotic_symcall_log(struct symbiotic_registers *regs);

/* symbols.c */
void symbiotic_find_symbols(void);
unsigned long symbiotic_symbol(const char *name);
void symbiotic_restore_command_line(void);
extern const long *symbiotic_total_swap_pages;

/* status.c */
int symbiotic_start_status(void);
void symbiotic_stop_status(void);
struct dentry *symbiotic_debugfs(void);

/* swapbypass.c */
void symbiotic_start_swap(void);
void symbiotic_stop_swap(void);

/* test.c */
#ifdef SYMBIOTIC_TEST
void symbiotic_start_test(void);
void symbiotic_stop_test(void);
#else
static inline void symbiotic_start_test(void) { }
static inline void symbiotic_stop_test(void) { }
#endif

#endif /* SYMBIOTIC_H */
