/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stack switches.  Only what a function must preserve for its caller is saved.  The unwinding tables
 * describe the saved frame, which looks the same before and after the stack pointer changes, and
 * end at the entry function.
 */

#if defined __x86_64__ && !defined __ILP32__

	.text
	.p2align 4
	.globl tn_switch_stack
	.hidden tn_switch_stack
	.type tn_switch_stack, @function
tn_switch_stack:
	.cfi_startproc
	pushq %rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	pushq %rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbx, 0
	pushq %r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r12, 0
	pushq %r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r13, 0
	pushq %r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r14, 0
	pushq %r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %r15, 0
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r15
	popq %r14
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r14
	popq %r13
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r13
	popq %r12
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r12
	popq %rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbx
	popq %rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbp
	ret
	.cfi_endproc
	.size tn_switch_stack, .-tn_switch_stack

	.p2align 4
	.globl tn_switch_entry
	.hidden tn_switch_entry
	.type tn_switch_entry, @function
tn_switch_entry:
	.cfi_startproc
	.cfi_undefined %rip
	xorl %ebp, %ebp
	movq %rbx, %rdi
	call tn_coroutine_main
	ud2
	.cfi_endproc
	.size tn_switch_entry, .-tn_switch_entry

#elif defined __aarch64__

	.text
	.p2align 4
	.globl tn_switch_stack
	.hidden tn_switch_stack
	.type tn_switch_stack, %function
tn_switch_stack:
	.cfi_startproc
	sub sp, sp, #160
	.cfi_adjust_cfa_offset 160
	stp x19, x20, [sp, #0]
	stp x21, x22, [sp, #16]
	stp x23, x24, [sp, #32]
	stp x25, x26, [sp, #48]
	stp x27, x28, [sp, #64]
	stp x29, x30, [sp, #80]
	stp d8, d9, [sp, #96]
	stp d10, d11, [sp, #112]
	stp d12, d13, [sp, #128]
	stp d14, d15, [sp, #144]
	.cfi_rel_offset x19, 0
	.cfi_rel_offset x20, 8
	.cfi_rel_offset x21, 16
	.cfi_rel_offset x22, 24
	.cfi_rel_offset x23, 32
	.cfi_rel_offset x24, 40
	.cfi_rel_offset x25, 48
	.cfi_rel_offset x26, 56
	.cfi_rel_offset x27, 64
	.cfi_rel_offset x28, 72
	.cfi_rel_offset x29, 80
	.cfi_rel_offset x30, 88
	mov x9, sp
	str x9, [x0]
	mov sp, x1
	ldp x19, x20, [sp, #0]
	ldp x21, x22, [sp, #16]
	ldp x23, x24, [sp, #32]
	ldp x25, x26, [sp, #48]
	ldp x27, x28, [sp, #64]
	ldp x29, x30, [sp, #80]
	ldp d8, d9, [sp, #96]
	ldp d10, d11, [sp, #112]
	ldp d12, d13, [sp, #128]
	ldp d14, d15, [sp, #144]
	add sp, sp, #160
	.cfi_adjust_cfa_offset -160
	ret
	.cfi_endproc
	.size tn_switch_stack, .-tn_switch_stack

	.p2align 4
	.globl tn_switch_entry
	.hidden tn_switch_entry
	.type tn_switch_entry, %function
tn_switch_entry:
	.cfi_startproc
	.cfi_undefined x30
	mov x29, #0
	mov x0, x19
	bl tn_coroutine_main
	brk #1
	.cfi_endproc
	.size tn_switch_entry, .-tn_switch_entry

#elif defined __riscv && __riscv_xlen == 64

	.text
	.p2align 2
	.globl tn_switch_stack
	.hidden tn_switch_stack
	.type tn_switch_stack, @function
tn_switch_stack:
	.cfi_startproc
	addi sp, sp, -208
	.cfi_adjust_cfa_offset 208
	sd s0, 0(sp)
	sd s1, 8(sp)
	sd s2, 16(sp)
	sd s3, 24(sp)
	sd s4, 32(sp)
	sd s5, 40(sp)
	sd s6, 48(sp)
	sd s7, 56(sp)
	sd s8, 64(sp)
	sd s9, 72(sp)
	sd s10, 80(sp)
	sd s11, 88(sp)
	sd ra, 96(sp)
#ifdef __riscv_float_abi_double
	fsd fs0, 104(sp)
	fsd fs1, 112(sp)
	fsd fs2, 120(sp)
	fsd fs3, 128(sp)
	fsd fs4, 136(sp)
	fsd fs5, 144(sp)
	fsd fs6, 152(sp)
	fsd fs7, 160(sp)
	fsd fs8, 168(sp)
	fsd fs9, 176(sp)
	fsd fs10, 184(sp)
	fsd fs11, 192(sp)
#endif
	.cfi_rel_offset s0, 0
	.cfi_rel_offset s1, 8
	.cfi_rel_offset s2, 16
	.cfi_rel_offset s3, 24
	.cfi_rel_offset s4, 32
	.cfi_rel_offset s5, 40
	.cfi_rel_offset s6, 48
	.cfi_rel_offset s7, 56
	.cfi_rel_offset s8, 64
	.cfi_rel_offset s9, 72
	.cfi_rel_offset s10, 80
	.cfi_rel_offset s11, 88
	.cfi_rel_offset ra, 96
	sd sp, 0(a0)
	mv sp, a1
	ld s0, 0(sp)
	ld s1, 8(sp)
	ld s2, 16(sp)
	ld s3, 24(sp)
	ld s4, 32(sp)
	ld s5, 40(sp)
	ld s6, 48(sp)
	ld s7, 56(sp)
	ld s8, 64(sp)
	ld s9, 72(sp)
	ld s10, 80(sp)
	ld s11, 88(sp)
	ld ra, 96(sp)
#ifdef __riscv_float_abi_double
	fld fs0, 104(sp)
	fld fs1, 112(sp)
	fld fs2, 120(sp)
	fld fs3, 128(sp)
	fld fs4, 136(sp)
	fld fs5, 144(sp)
	fld fs6, 152(sp)
	fld fs7, 160(sp)
	fld fs8, 168(sp)
	fld fs9, 176(sp)
	fld fs10, 184(sp)
	fld fs11, 192(sp)
#endif
	addi sp, sp, 208
	.cfi_adjust_cfa_offset -208
	ret
	.cfi_endproc
	.size tn_switch_stack, .-tn_switch_stack

	.p2align 2
	.globl tn_switch_entry
	.hidden tn_switch_entry
	.type tn_switch_entry, @function
tn_switch_entry:
	.cfi_startproc
	.cfi_undefined ra
	mv a0, s0
	li s0, 0
	call tn_coroutine_main
	ebreak
	.cfi_endproc
	.size tn_switch_entry, .-tn_switch_entry

#endif

	.section .note.GNU-stack, "", %progbits
