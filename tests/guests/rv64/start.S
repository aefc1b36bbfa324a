/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Start-up and trap handling of the C programs.  They run in machine mode; a trap stores what happened in
 * `trap` and goes on after the instruction, or in machine mode at trap.resume when that isn't 0.
 */
	.section .text.start
	.globl _start
_start:
	csrr	t0, mhartid
	bnez	t0, 2f
	la	sp, stack_top
	la	t0, trap_entry
	csrw	mtvec, t0
	la	t0, s_entry
	csrw	stvec, t0
	la	t0, trap
	csrw	mscratch, t0
	li	t0, -1
	csrw	pmpaddr0, t0
	li	t0, 0x1f
	csrw	pmpcfg0, t0
	li	t0, 0x2000
	csrs	mstatus, t0
	call	main
	call	finish
2:	wfi
	j	2b

	.align 2
	.globl trap_entry
trap_entry:
	csrrw	t6, mscratch, t6
	sd	t0, 56(t6)
	csrr	t0, mcause
	sd	t0, 0(t6)
	csrr	t0, mtval
	sd	t0, 8(t6)
	csrr	t0, mstatus
	sd	t0, 24(t6)
	ld	t0, 32(t6)
	addi	t0, t0, 1
	sd	t0, 32(t6)
	csrr	t0, mepc
	sd	t0, 16(t6)
	ld	t0, 40(t6)
	bnez	t0, resume
	csrr	t0, mepc
	lhu	t0, 0(t0)
	andi	t0, t0, 3
	addi	t0, t0, -3
	sd	t1, 64(t6)
	csrr	t1, mepc
	addi	t1, t1, 2
	bnez	t0, 1f
	addi	t1, t1, 2
1:	csrw	mepc, t1
	ld	t1, 64(t6)
	j	leave
resume:
	csrw	mepc, t0
	sd	zero, 40(t6)
	li	t0, 0x1800
	csrs	mstatus, t0
leave:
	csrr	t0, mstatus	/* interrupts stay off in machine mode */
	andi	t0, t0, -129
	csrw	mstatus, t0
	ld	t0, 56(t6)
	csrrw	t6, mscratch, t6
	mret

/* Supervisor trap vector: every slot calls machine mode, where mepc tells which one it was. */
	.align 8
	.globl s_entry
s_entry:
	.option push
	.option norvc
	.rept 16
	ecall
	.endr
	.option pop

/* run_at (pc, mstatus bits to set, bits to clear first): goes there by mret; comes back with the next trap. */
	.globl run_at
run_at:
	addi	sp, sp, -112
	sd	ra, 0(sp)
	sd	s0, 8(sp)
	sd	s1, 16(sp)
	sd	s2, 24(sp)
	sd	s3, 32(sp)
	sd	s4, 40(sp)
	sd	s5, 48(sp)
	sd	s6, 56(sp)
	sd	s7, 64(sp)
	sd	s8, 72(sp)
	sd	s9, 80(sp)
	sd	s10, 88(sp)
	sd	s11, 96(sp)
	la	t0, saved_sp
	sd	sp, 0(t0)
	la	t0, trap
	la	t1, 1f
	sd	t1, 40(t0)
	csrw	mepc, a0
	ori	a2, a2, 0x80
	csrc	mstatus, a2
	csrs	mstatus, a1
	mret
1:	la	t0, saved_sp
	ld	sp, 0(t0)
	ld	ra, 0(sp)
	ld	s0, 8(sp)
	ld	s1, 16(sp)
	ld	s2, 24(sp)
	ld	s3, 32(sp)
	ld	s4, 40(sp)
	ld	s5, 48(sp)
	ld	s6, 56(sp)
	ld	s7, 64(sp)
	ld	s8, 72(sp)
	ld	s9, 80(sp)
	ld	s10, 88(sp)
	ld	s11, 96(sp)
	addi	sp, sp, 112
	ret

	.bss
	.align 4
	.globl trap
trap:	.skip 128
saved_sp: .dword 0
	.skip 8192
stack_top:
