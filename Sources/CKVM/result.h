/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKVM_RESULT_H
#define CKVM_RESULT_H

#include <errno.h>

/* What the functions of this module return for a system call's result. */
static inline int value_or_errno(int result)
{
	return result < 0 ? -errno : result;
}

#endif
