// SPDX-License-Identifier: GPL-2.0
/*
 * Symcall TASKS: the processes or threads, by PID.
 *
 * Interrupts are disabled, which is an RCU read-side critical section.
 * rcu_read_lock() would increment a counter of the interrupted task, which
 * would stay wrong if the VMM aborted the handler.
 */
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>

#include "symbiotic.h"
#include "task.h"

/* Most PIDs and threads visited in one symcall, which bounds its time */
#define STEPS_MAX	2048

/* Returns the visited threads. More than @steps: the times are unknown. */
static unsigned int sum_times(struct symbiotic_task_record *to,
			      struct task_struct *leader, unsigned int steps)
{
	struct task_struct *thread;
	unsigned int seen = 0;
	u64 user, system;

	/* First the exited threads, then the others */
	user = READ_ONCE(leader->signal->utime);
	system = READ_ONCE(leader->signal->stime);
	for_each_thread(leader, thread) {
		if (++seen > steps) {
			user = SYMBIOTIC_NOT_KNOWN;
			system = SYMBIOTIC_NOT_KNOWN;
			break;
		}
		user += READ_ONCE(thread->utime);
		system += READ_ONCE(thread->stime);
	}
	to->user_time = user;
	to->system_time = system;
	return seen;
}

static unsigned int describe(struct symbiotic_task_record *to,
			     struct task_struct *task, bool threads,
			     unsigned int steps)
{
	memset(to, 0, sizeof(*to));
	symbiotic_describe(&to->task, task);
	to->parent = rcu_dereference_raw(task->real_parent)->tgid;
	to->cpu = task_cpu(task);
	to->state = task_state_to_char(task);
	to->threads = READ_ONCE(task->signal->nr_threads);
	if (!threads)
		return sum_times(to, task, steps);
	to->user_time = READ_ONCE(task->utime);
	to->system_time = READ_ONCE(task->stime);
	return 0;
}

u64 symbiotic_symcall_tasks(struct symbiotic_registers *regs)
{
	const bool threads = regs->rsi & SYMBIOTIC_TASKS_THREADS;
	const enum pid_type type = threads ? PIDTYPE_PID : PIDTYPE_TGID;
	const u64 room = regs->rcx / sizeof(struct symbiotic_task_record);
	struct symbiotic_task_record *to;
	unsigned int steps = 0;
	u64 written = 0, err;
	struct pid *pid;
	void *start;
	int next;

	if (regs->rdx > PID_MAX_LIMIT || regs->rsi & ~(u64)SYMBIOTIC_TASKS_THREADS)
		return SYMBIOTIC_E_INVALID;
	err = symbiotic_range(regs, sizeof(*to), &start);
	if (err)
		return err;
	to = start;
	next = regs->rdx;

	for (;;) {
		struct task_struct *task;

		pid = find_ge_pid(next, &init_pid_ns);
		if (!pid) {
			next = 0;
			break;
		}
		next = pid_nr(pid);
		if (written == room || steps >= STEPS_MAX)
			break;
		steps++;
		task = pid_task(pid, type);
		if (task)
			steps += describe(&to[written++], task, threads, STEPS_MAX);
		next++;
	}

	regs->rbx = written;
	regs->rcx = written * sizeof(*to);
	regs->rdx = next;
	regs->rsi = sizeof(*to);
	regs->rdi = 0;
	return SYMBIOTIC_OK;
}
