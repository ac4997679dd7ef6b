# SPDX-License-Identifier: Apache-2.0
# An exception without an interrupt descriptor table: a triple fault.

	.globl	_start
_start:
	mov	$0x123456789abcdef0, %rax
	lidt	empty(%rip)
	.globl	fault
fault:	ud2
empty:	.word	0
	.quad	0
