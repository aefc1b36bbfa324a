/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs the instruction streams that streams.py makes, and prints one hash per stream: of all registers, of the
 * scratch memory and of each trap's cause, mtval and place.  With `verbose` not 0 the registers and traps
 * themselves.
 *
 * A trap inside a stream is noted and the instruction stepped over; the ECALL at the stream's end comes back.
 * mscratch points to `context` meanwhile.
 */
#define CTX_X(n) (8 * (n))
#define CTX_F(n) (256 + 8 * (n))
#define CTX_FCSR 512
#define CTX_CODE 520
#define CTX_END 528
#define CTX_HASH 536
#define CTX_NEXT 544
#define CTX_LEFT 552

#define SCRATCH_BYTES 4096

	.macro	each_x insn
	.irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
	\insn	x\n, CTX_X(\n)(x31)
	.endr
	.endm
	.macro	each_f insn
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	\insn	f\n, CTX_F(\n)(x31)
	.endr
	.endm
	/* Mixes \value into the hash in \hash; clobbers t6. */
	.macro	mix hash, value
	xor	\hash, \hash, \value
	li	t6, 0x9e3779b97f4a7c15
	mul	\hash, \hash, t6
	srli	t6, \hash, 29
	xor	\hash, \hash, t6
	.endm

	.section .text.start
	.globl _start
_start:
	csrr	t0, mhartid
	bnez	t0, park
	la	sp, stack_top
	la	t0, trap
	csrw	mtvec, t0
	li	t0, -1
	csrw	pmpaddr0, t0
	li	t0, 0x1f
	csrw	pmpcfg0, t0
	la	s0, context
	la	t0, streams
	la	t1, stream_count
	ld	t1, 0(t1)
	sd	t0, CTX_NEXT(s0)
	sd	t1, CTX_LEFT(s0)
next_stream:
	la	s0, context
	ld	t0, CTX_LEFT(s0)
	beqz	t0, all_done
	addi	t0, t0, -1
	sd	t0, CTX_LEFT(s0)
	call	fill_scratch
	/* An entry: code, end, mode (shifted as mstatus.MPP), initial values. */
	ld	s1, CTX_NEXT(s0)
	addi	t0, s1, 32
	sd	t0, CTX_NEXT(s0)
	ld	t0, 0(s1)
	sd	t0, CTX_CODE(s0)
	csrw	mepc, t0
	ld	t0, 8(s1)
	sd	t0, CTX_END(s0)
	sd	zero, CTX_HASH(s0)
	li	t0, 0x7800	/* MPP, FS */
	csrc	mstatus, t0
	ld	t0, 16(s1)
	li	t1, 0x2000
	or	t0, t0, t1
	csrs	mstatus, t0
	csrw	mscratch, s0
	ld	x31, 24(s1)
	ld	t0, CTX_FCSR(x31)
	fscsr	t0
	each_f	fld
	each_x	ld
	ld	x31, CTX_X(31)(x31)
	mret

all_done:
	li	a0, 0
	call	finish
park:	wfi
	j	park

/* Every stream starts from the same memory. */
fill_scratch:
	la	t0, scratch
	li	t1, SCRATCH_BYTES
	add	t1, t1, t0
	li	t2, 0x0123456789abcdef
	li	t3, 0x9e3779b97f4a7c15
1:	sd	t2, 0(t0)
	mul	t2, t2, t3
	addi	t2, t2, 1
	addi	t0, t0, 8
	bltu	t0, t1, 1b
	ret

	.align 2
trap:
	csrrw	x31, mscratch, x31
	each_x	sd
	csrr	s0, mepc
	ld	s1, CTX_END(x31)
	mv	s2, x31
	beq	s0, s1, stream_done
	la	t0, verbose
	ld	t0, 0(t0)
	bnez	t0, show_trap
note_trap:
	ld	s3, CTX_HASH(s2)
	csrr	t0, mcause
	mix	s3, t0
	csrr	t0, mtval
	mix	s3, t0
	mix	s3, s0
	sd	s3, CTX_HASH(s2)
	lhu	t0, 0(s0)
	andi	t0, t0, 3
	addi	t0, t0, -3
	addi	s0, s0, 2
	bnez	t0, 1f
	addi	s0, s0, 2
1:	csrw	mepc, s0
	mv	x31, s2
	each_x	ld
	csrrw	x31, mscratch, x31
	mret

show_trap:
	la	sp, stack_top
	li	a0, 'T'
	call	put_char
	li	a0, ' '
	call	put_char
	csrr	a0, mcause
	li	a1, ' '
	call	put_hex
	csrr	a0, mtval
	li	a1, ' '
	call	put_hex
	ld	t0, CTX_CODE(s2)
	sub	a0, s0, t0
	li	a1, '\n'
	call	put_hex
	j	note_trap

stream_done:
	csrr	t0, mscratch
	sd	t0, CTX_X(31)(x31)
	each_f	fsd
	frcsr	t0
	sd	t0, CTX_FCSR(x31)
	la	sp, stack_top
	ld	s3, CTX_HASH(s2)
	addi	s4, s2, CTX_X(1)
	addi	s5, s2, CTX_CODE
1:	ld	t0, 0(s4)
	mix	s3, t0
	addi	s4, s4, 8
	bltu	s4, s5, 1b
	la	s4, scratch
	li	t0, SCRATCH_BYTES
	add	s5, s4, t0
1:	ld	t0, 0(s4)
	mix	s3, t0
	addi	s4, s4, 8
	bltu	s4, s5, 1b
	la	t0, verbose
	ld	t0, 0(t0)
	beqz	t0, 2f
	addi	s4, s2, CTX_X(1)
	addi	s5, s2, CTX_CODE
1:	ld	a0, 0(s4)
	li	a1, '\n'
	call	put_hex
	addi	s4, s4, 8
	bltu	s4, s5, 1b
2:	mv	a0, s3
	li	a1, '\n'
	call	put_hex
	j	next_stream

	.bss
	.align 12
	.globl scratch
scratch: .skip SCRATCH_BYTES
	.align 4
context: .skip 1024
	.skip 4096
stack_top:
