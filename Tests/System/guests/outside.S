# SPDX-License-Identifier: Apache-2.0
# A segment that ends beyond the guest's memory.

	.globl	_start
_start:	hlt
	.bss
	.skip	512 << 20
