// SPDX-License-Identifier: GPL-2.0
/* Symcall UNAME: uname(2) */
#include <linux/string.h>
#include <linux/utsname.h>

#include "symbiotic.h"

u64 symbiotic_symcall_uname(struct symbiotic_registers *regs)
{
	/*
	 * Without uts_sem, because a handler must not sleep: during a change
	 * of the host name the result may mix both names.
	 */
	const struct new_utsname *names = init_utsname();
	struct symbiotic_uname *to;
	void *start;
	u64 err;

	err = symbiotic_range(regs, sizeof(*to), &start);
	if (err)
		return err;
	to = start;
	memset(to, 0, sizeof(*to));
	strscpy(to->sysname, names->sysname, sizeof(to->sysname));
	strscpy(to->nodename, names->nodename, sizeof(to->nodename));
	strscpy(to->release, names->release, sizeof(to->release));
	strscpy(to->version, names->version, sizeof(to->version));
	strscpy(to->machine, names->machine, sizeof(to->machine));
	strscpy(to->domainname, names->domainname, sizeof(to->domainname));
	regs->rbx = sizeof(*to);
	return SYMBIOTIC_OK;
}
