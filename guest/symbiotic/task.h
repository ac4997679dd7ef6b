/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fills struct symbiotic_task. Always inlined, because direct symcalls must
 * not call functions: plain loads, no lock, no RCU. @task is the running task,
 * the next task of a switch, or one that RCU protects.
 */
#ifndef SYMBIOTIC_TASK_H
#define SYMBIOTIC_TASK_H

#include <linux/cred.h>
#include <linux/sched.h>

#include "symbiotic_abi.h"

static __always_inline void symbiotic_copy_comm(char *to, const char *from)
{
	/* Two words, not memcpy(), which may be a traced function */
	((u64 *)to)[0] = READ_ONCE(((const u64 *)from)[0]);
	((u64 *)to)[1] = READ_ONCE(((const u64 *)from)[1]);
	/* Terminate the string even if a writer interferes */
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
	 * The start time of the process, not of the thread. An exiting thread
	 * may outlive its leader's task_struct: do not follow the pointer.
	 */
	if (leader == task || !(flags & PF_EXITING))
		to->start_time = leader->start_boottime;
	else
		to->start_time = 0;
	symbiotic_copy_comm(to->comm, task->comm);
}

#endif /* SYMBIOTIC_TASK_H */
