// SPDX-License-Identifier: GPL-2.0
/*
 * SymSpy: probes on the scheduler's tracepoints write the running task to the
 * vCPU's local page, where the VMM reads it without an exit.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/binfmts.h>
#include <linux/tracepoint.h>

#include "symbiotic.h"
#include "task.h"

/* Preemption is disabled, by the tracepoint or by the caller */
static void publish(const struct task_struct *task, const char *comm)
{
	struct symbiotic_local_page *page = __this_cpu_read(symbiotic_cpu.local);
	u32 sequence;

	if (!page)
		return;
	sequence = page->sequence + 1;
	/* Force odd: the VMM may have written to the page */
	sequence |= 1;
	WRITE_ONCE(page->sequence, sequence);
	smp_wmb();	/* the odd sequence, then the fields */
	symbiotic_describe(&page->task, task);
	if (comm)
		strscpy_pad(page->task.comm, comm, sizeof(page->task.comm));
	smp_wmb();	/* the fields, then the even sequence */
	WRITE_ONCE(page->sequence, sequence + 1);
	page->switches++;
}

/* Interrupts disabled: no task switch between reading current and publishing it */
void symbiotic_publish_current(void)
{
	unsigned long flags;

	local_irq_save(flags);
	publish(current, NULL);
	local_irq_restore(flags);
}

static void on_switch(void *data, bool preempt, struct task_struct *prev,
		      struct task_struct *next, unsigned int prev_state)
{
	publish(next, NULL);
}

/* The kernel calls it before it writes the new name */
static void on_rename(void *data, struct task_struct *task, const char *comm)
{
	unsigned long flags;

	local_irq_save(flags);
	if (task == current)
		publish(task, comm);
	local_irq_restore(flags);
}

/* exec may change the PID: the thread takes that of the process's leader */
static void on_exec(void *data, struct task_struct *task, pid_t old_pid,
		    struct linux_binprm *bprm)
{
	symbiotic_publish_current();
}

static struct probe {
	const char *name;
	void *probe;
	struct tracepoint *tracepoint;
	bool registered;
} probes[] = {
	{ .name = "sched_switch", .probe = on_switch },
	{ .name = "task_rename", .probe = on_rename },
	{ .name = "sched_process_exec", .probe = on_exec },
};

/* The kernel exports the list of tracepoints, not the tracepoints */
static void find_tracepoint(struct tracepoint *tracepoint, void *unused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (!strcmp(tracepoint->name, probes[i].name))
			probes[i].tracepoint = tracepoint;
}

int symbiotic_start_symspy(void)
{
	size_t i;
	int err;

	for_each_kernel_tracepoint(find_tracepoint, NULL);
	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (!probes[i].tracepoint) {
			pr_err("the kernel has no tracepoint %s\n", probes[i].name);
			err = -EOPNOTSUPP;
			goto stop;
		}
		err = tracepoint_probe_register(probes[i].tracepoint,
						probes[i].probe, NULL);
		if (err) {
			pr_err("cannot register a probe on %s (%d)\n",
			       probes[i].name, err);
			goto stop;
		}
		probes[i].registered = true;
	}
	return 0;
stop:
	symbiotic_stop_symspy();
	return err;
}

void symbiotic_stop_symspy(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (probes[i].registered)
			tracepoint_probe_unregister(probes[i].tracepoint,
						    probes[i].probe, NULL);
		probes[i].registered = false;
	}
	/* A probe may still run on another vCPU */
	tracepoint_synchronize_unregister();
}
