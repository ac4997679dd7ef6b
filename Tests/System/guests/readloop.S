# SPDX-License-Identifier: Apache-2.0
# Reads the first sector of the first virtio device, a disk, COUNT times, one request after the other. Then it writes "done" and powers off. The driver
# accepts version 1 and no other feature.

	.include "machine.inc"
	.set	DEVICE, 0xd0000000
	.set	TABLE, 0x200000
	.set	AVAILABLE, 0x201000
	.set	USED, 0x202000
	.set	HEADER, 0x203000
	.set	DATA, 0x204000
	.set	STATUS, 0x205000

	.macro	reg offset, value
	movl	$\value, \offset(%rbx)
	.endm

	.macro	descriptor number, address, length, flags, next
	movq	$\address, TABLE + 16 * \number
	movl	$\length, TABLE + 16 * \number + 8
	movw	$\flags, TABLE + 16 * \number + 12
	movw	$\next, TABLE + 16 * \number + 14
	.endm

	.globl	_start
_start:
	mov	$DEVICE, %ebx
	reg	0x70, 1			# ACKNOWLEDGE
	reg	0x70, 3			# DRIVER
	reg	0x24, 1
	reg	0x20, 1			# VIRTIO_F_VERSION_1
	reg	0x70, 11		# FEATURES_OK
	reg	0x30, 0
	reg	0x38, 8
	reg	0x80, TABLE
	reg	0x90, AVAILABLE
	reg	0xa0, USED
	reg	0x44, 1
	reg	0x70, 15		# DRIVER_OK
	descriptor 0, HEADER, 16, 1, 1	# the header's zeroes: read sector 0
	descriptor 1, DATA, 512, 3, 2
	descriptor 2, STATUS, 1, 2, 0
	mov	$COUNT, %ecx
	xor	%eax, %eax
1:	inc	%ax			# the available ring's only entry is descriptor 0, in every slot
	mov	%ax, AVAILABLE + 2
	reg	0x50, 0			# QueueNotify
2:	pause
	cmp	%ax, USED + 2
	jne	2b
	dec	%ecx
	jnz	1b
	lea	done(%rip), %rsi
3:	lodsb
	test	%al, %al
	jz	4f
	put
	jmp	3b
4:	power_off
5:	hlt
	jmp	5b

done:	.asciz	"done\n"
