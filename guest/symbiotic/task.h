/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A task as the ABI describes it. Inlined into code that may not call
 * anything: plain loads, no lock, no RCU. @task is the one running on this
 * vCPU (or about to), or one that the caller holds by RCU.
 */
#ifndef SYMBIOTIC_TASK_H
#define SYMBIOTIC_TASK_H

#include <linux/cred.h>
#include <linux/sched.h>

#include "symbiotic_abi.h"

static __always_inline void symbiotic_copy_comm(char *to, const char *from)
{
	/* Two words: memcpy() may be a call, and a traced one */
	((u64 *)to)[0] = READ_ONCE(((const u64 *)from)[0]);
	((u64 *)to)[1] = READ_ONCE(((const u64 *)from)[1]);
	/* A writer in between must not cost the end of the string */
	to[SYMBIOTIC_COMM_SIZE - 1] = '\0';
}

static __always_inline void symbiotic_describe(struct symbiotic_task *to,
					       const struct task_struct *task)
{
	const struct task_struct *leader = READ_ONCE(task->group_leader);
	unsigned int flags = READ_ONCE(task->flags);

	BUILD_BUG_ON(sizeof(task->comm) != SYMBIOTIC_COMM_SIZE);

	to->tgid = task->tgid;
	to->pid = task->pid;
	to->uid = __kuid_val(rcu_dereference_raw(task->real_cred)->uid);
	to->flags = 0;
	if (task->pid == 0)
		to->flags |= SYMBIOTIC_TASK_IDLE;
	if (flags & PF_KTHREAD)
		to->flags |= SYMBIOTIC_TASK_KERNEL;
	/*
	 * Of the process, not of the thread. An exiting thread may outlive
	 * its leader's task_struct: don't follow the pointer then.
	 */
	if (leader == task || !(flags & PF_EXITING))
		to->start_time = leader->start_boottime;
	else
		to->start_time = 0;
	symbiotic_copy_comm(to->comm, task->comm);
}

#endif /* SYMBIOTIC_TASK_H */
