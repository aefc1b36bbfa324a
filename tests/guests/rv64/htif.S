/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host-target interface: console output and exit. */
	.section .tohost, "aw"
	.align 12
	.globl tohost, fromhost
	.type	tohost, @object
	.size	tohost, 8
	.type	fromhost, @object
	.size	fromhost, 8
tohost:	.dword 0
	.balign 64
fromhost: .dword 0
	.balign 4096

	.text
/* Prints the character in a0; clobbers t0 to t2. */
	.globl put_char
put_char:
	la	t0, tohost
1:	ld	t1, 0(t0)
	bnez	t1, 1b
	li	t1, 0x0101
	slli	t1, t1, 48
	andi	t2, a0, 255
	or	t1, t1, t2
	sd	t1, 0(t0)
	ret

/* Prints a0 as sixteen hexadecimal digits and the character in a1. */
	.globl put_hex
put_hex:
	addi	sp, sp, -48
	sd	ra, 0(sp)
	sd	s0, 8(sp)
	sd	s1, 16(sp)
	sd	s2, 24(sp)
	mv	s0, a0
	mv	s2, a1
	li	s1, 60
1:	srl	a0, s0, s1
	andi	a0, a0, 15
	addi	a0, a0, '0'
	li	t0, '9'
	ble	a0, t0, 2f
	addi	a0, a0, 'a' - '9' - 1
2:	call	put_char
	addi	s1, s1, -4
	bgez	s1, 1b
	mv	a0, s2
	call	put_char
	ld	ra, 0(sp)
	ld	s0, 8(sp)
	ld	s1, 16(sp)
	ld	s2, 24(sp)
	addi	sp, sp, 48
	ret

/* Ends the machine with exit status a0. */
	.globl finish
finish:
	slli	a0, a0, 1
	ori	a0, a0, 1
	la	t0, tohost
1:	ld	t1, 0(t0)
	bnez	t1, 1b
	sd	a0, 0(t0)
2:	j	2b
