// SPDX-License-Identifier: GPL-2.0
/*
 * Symcall LOG: the newest kernel messages, or those before a cursor. It uses
 * the reader for panic dumps, which takes no lock.
 */
#include <linux/kmsg_dump.h>

#include "symbiotic.h"

/* A smaller range may be too small for one line */
#define LEAST_LENGTH	256

u64 symbiotic_symcall_log(struct symbiotic_registers *regs)
{
	const u64 cursor = regs->rdx;
	struct kmsg_dump_iter iter;
	size_t written = 0;
	void *start;
	bool some;
	u64 err;

	err = symbiotic_range(regs, LEAST_LENGTH, &start);
	if (err)
		return err;
	kmsg_dump_rewind(&iter);
	if (cursor > iter.next_seq)
		return SYMBIOTIC_E_INVALID;
	if (cursor)
		iter.next_seq = cursor;

	some = kmsg_dump_get_buffer(&iter, true, start, regs->rcx, &written);

	regs->rbx = 0;
	regs->rcx = some ? written : 0;
	/* next_seq is now the first message that was written */
	regs->rdx = some && iter.next_seq > iter.cur_seq ? iter.next_seq : 0;
	return SYMBIOTIC_OK;
}
