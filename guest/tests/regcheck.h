/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by regcheck.c and its assembly: offsets in struct round. */
#ifndef REGCHECK_H
#define REGCHECK_H

#define ROUND_SELF	0x000	/* GS base points here, %gs:0 is the address */
#define ROUND_TURNS	0x008	/* counted down to 0 while nothing may change */
#define ROUND_RSP	0x010
#define ROUND_FLAGS_IN	0x018
#define ROUND_FLAGS_OUT	0x020
#define ROUND_AVX	0x028	/* 1: YMM, 0: XMM */
#define ROUND_SYSCALL	0x030	/* -1: none, else called in each turn */
#define ROUND_FS_WORD	0x038	/* %fs:0 as seen inside */
#define ROUND_MXCSR	0x040	/* in, then out at 0x44 */
#define ROUND_FCW	0x048	/* in, then out at 0x4c */
#define ROUND_GPR_IN	0x080	/* rax rbx rcx rdx rsi rdi rbp r8-r15 */
#define ROUND_GPR_OUT	0x100
#define ROUND_X87_IN	0x180	/* 8 of 16 bytes */
#define ROUND_X87_OUT	0x200
#define ROUND_VEC_IN	0x280	/* 16 of 32 bytes */
#define ROUND_VEC_OUT	0x480
#define ROUND_SIZE	0x680

#ifndef __ASSEMBLER__
/* GS base points to a struct round */
void regcheck_round(void);
#endif

#endif /* REGCHECK_H */
