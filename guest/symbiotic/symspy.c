// SPDX-License-Identifier: GPL-2.0
/*
 * SymSpy: which task runs on this vCPU, kept in the local page by the
 * scheduler's tracepoints, read by the VMM without an exit.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/binfmts.h>
#include <linux/tracepoint.h>

#include "symbiotic.h"
#include "task.h"

/* Preemption is disabled: tracepoints do that, and so does publish_current() */
static void publish(const struct task_struct *task, const char *comm)
{
	struct symbiotic_local_page *page = __this_cpu_read(symbiotic_cpu.local);
	u32 sequence;

	if (!page)
		return;
	sequence = page->sequence + 1;
	/* The VMM may have written nonsense here; what counts is odd and even */
	sequence |= 1;
	WRITE_ONCE(page->sequence, sequence);
	smp_wmb();	/* odd, then the fields */
	symbiotic_describe(&page->task, task);
	if (comm)
		strscpy_pad(page->task.comm, comm, sizeof(page->task.comm));
	smp_wmb();	/* the fields, then even */
	WRITE_ONCE(page->sequence, sequence + 1);
	page->switches++;
}

/*
 * An interrupt can't switch tasks in here, but a switch could come between
 * reading current and writing it down.
 */
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

/* Called before the new name is in place */
static void on_rename(void *data, struct task_struct *task, const char *comm)
{
	unsigned long flags;

	local_irq_save(flags);
	if (task == current)
		publish(task, comm);
	local_irq_restore(flags);
}

/* The PID may be another one: that of the process's first thread */
static void on_exec(void *data, struct task_struct *task, pid_t old_pid,
		    struct linux_binprm *bprm)
{
	symbiotic_publish_current();
}

static struct spy {
	const char *name;
	void *probe;
	struct tracepoint *tracepoint;
	bool registered;
} spies[] = {
	{ .name = "sched_switch", .probe = on_switch },
	{ .name = "task_rename", .probe = on_rename },
	{ .name = "sched_process_exec", .probe = on_exec },
};

/* The tracepoints aren't exported; their list is */
static void find_tracepoint(struct tracepoint *tracepoint, void *unused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(spies); i++)
		if (!strcmp(tracepoint->name, spies[i].name))
			spies[i].tracepoint = tracepoint;
}

int symbiotic_start_symspy(void)
{
	size_t i;
	int err;

	for_each_kernel_tracepoint(find_tracepoint, NULL);
	for (i = 0; i < ARRAY_SIZE(spies); i++) {
		if (!spies[i].tracepoint) {
			pr_err("this kernel has no tracepoint %s\n", spies[i].name);
			err = -EOPNOTSUPP;
			goto stop;
		}
		err = tracepoint_probe_register(spies[i].tracepoint,
						spies[i].probe, NULL);
		if (err) {
			pr_err("no probe on tracepoint %s (%d)\n",
			       spies[i].name, err);
			goto stop;
		}
		spies[i].registered = true;
	}
	return 0;
stop:
	symbiotic_stop_symspy();
	return err;
}

void symbiotic_stop_symspy(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(spies); i++) {
		if (spies[i].registered)
			tracepoint_probe_unregister(spies[i].tracepoint,
						    spies[i].probe, NULL);
		spies[i].registered = false;
	}
	/* A probe may still be running on another vCPU */
	tracepoint_synchronize_unregister();
}
