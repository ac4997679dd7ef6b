# SPDX-License-Identifier: Apache-2.0
# Activates the first virtio device, with one queue, and resets it again, COUNT times. Then it writes "done" and spins until it is killed, or powers off with
# OFF defined. The device must be a disk: the driver accepts version 1 and no other feature.

	.include "machine.inc"
	.set	DEVICE, 0xd0000000
	.set	RING, 0x200000

	.macro	reg offset, value
	movl	$\value, \offset(%rbx)
	.endm

	.globl	_start
_start:
	mov	$DEVICE, %ebx
	mov	$COUNT, %ecx
1:	reg	0x70, 0			# reset
	reg	0x70, 1			# ACKNOWLEDGE
	reg	0x70, 3			# DRIVER
	reg	0x24, 1
	reg	0x20, 1			# VIRTIO_F_VERSION_1
	reg	0x70, 11		# FEATURES_OK
	reg	0x30, 0
	reg	0x38, 8
	reg	0x80, RING
	reg	0x90, RING + 0x1000
	reg	0xa0, RING + 0x2000
	reg	0x44, 1
	reg	0x70, 15		# DRIVER_OK
	cmpl	$15, 0x70(%rbx)
	jne	3f
	dec	%ecx
	jnz	1b
	lea	done(%rip), %rsi
2:	lodsb
	test	%al, %al
	jz	4f
	put
	jmp	2b
3:	lea	failed(%rip), %rsi
	jmp	2b
4:	.ifdef	OFF
	power_off
	.endif
5:	pause
	jmp	5b

done:	.asciz	"done\n"
failed:	.asciz	"failed\n"
