#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Bare-metal programs on the spike board: console, exit codes, several harts, errors.
src=${TN_SRC_DIR:?} build=${TN_BUILD_DIR:?}
tenon=$build/bin/tenon
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cc=
for c in riscv64-unknown-elf-gcc riscv64-linux-gnu-gcc; do
  command -v $c >/dev/null && { cc=$c; break; }
done
if [ -z "$cc" ]; then
  echo "1..0 # SKIP no RISC-V compiler: install gcc-riscv64-unknown-elf"
  exit 0
fi

n=0
# check NAME STATUS OUTPUT COMMAND…: runs the command and compares exit status and output.
check () {
  n=$((n + 1))
  name=$1 status=$2 output=$3
  shift 3
  got=$(timeout 60 "$@" </dev/null 2>"$work/stderr")
  r=$?
  if [ $r -eq "$status" ] && [ "$got" = "$output" ]; then
    echo "ok $n - $name"
  else
    echo "not ok $n - $name"
    printf '# status %s, expected %s\n# output: %s\n# stderr: %s\n' $r "$status" "$got" "$(cat "$work/stderr")"
  fi
}

# A program: $1 its name, standard input its assembly after the common part.
program () {
  cat - "$src/tests/e2e/htif.inc" > "$work/$1.S"
  $cc -nostdlib -static -march=rv64gc -mabi=lp64d -mcmodel=medany -Wl,-Ttext=0x80000000 -Wl,--build-id=none \
    -o "$work/$1.elf" "$work/$1.S" 2>"$work/cc.log" || { cat "$work/cc.log"; exit 99; }
}

echo 1..9

program hello <<'ASM'
        .globl _start
_start: la      s0, text
1:      lbu     a0, 0(s0)
        beqz    a0, 2f
        call    putchar
        addi    s0, s0, 1
        j       1b
2:      li      a0, 42
        call    exit
text:   .asciz  "hello"
ASM
check "console and exit code" 42 hello "$tenon" -M spike -nographic -bios "$work/hello.elf"

program pass <<'ASM'
        .globl _start
_start: li      a0, 0
        call    exit
ASM
check "exit code 0" 0 "" "$tenon" -M spike -nographic -bios "$work/pass.elf"

# The lower half alone, over and over, as old test programs do.
program old <<'ASM'
        .globl _start
_start: li      t0, 1337
        la      t1, tohost
1:      sw      t0, 0(t1)
        j       1b
ASM
check "lower half only" 156 "" "$tenon" -M spike -nographic -bios "$work/old.elf"

program syscall <<'ASM'
        .globl _start
_start: la      a0, block
        la      t1, tohost
        sd      a0, 0(t1)
        la      t2, fromhost
1:      ld      t3, 0(t2)
        beqz    t3, 1b
        la      a0, block
        ld      a0, 0(a0)
        call    exit
        .balign 64
block:  .dword  64, 1, text, 7, 0, 0, 0, 0
text:   .ascii  "syscall"
ASM
check "system calls" 7 syscall "$tenon" -M spike -nographic -bios "$work/syscall.elf"

# a0 is the hart, a1 the device tree: each hart adds its number, hart 0 waits for all of them.
program harts <<'ASM'
        .globl _start
_start: lwu     t0, 0(a1)
        li      t1, 0xedfe0dd0
        bne     t0, t1, fail
        csrr    t0, mhartid
        bne     t0, a0, fail
        la      t1, sum
        addi    t0, t0, 1
        amoadd.d zero, t0, (t1)
        bnez    a0, park
        li      t2, 10
1:      ld      t0, 0(t1)
        bne     t0, t2, 1b
        li      a0, 0
        call    exit
park:   wfi
        j       park
fail:   li      a0, 1
        call    exit
        .balign 64
sum:    .dword  0
ASM
check "four harts, device tree" 0 "" "$tenon" -M spike -smp 4 -nographic -bios "$work/harts.elf"

# A timer interrupt of the CLINT ends WFI.
program timer <<'ASM'
        .globl _start
_start: la      t0, trap
        csrw    mtvec, t0
        li      t1, 0x0200bff8
        ld      t0, 0(t1)
        li      t2, 10000
        add     t0, t0, t2
        li      t1, 0x02004000
        sd      t0, 0(t1)
        li      t0, 0x80
        csrw    mie, t0
        csrsi   mstatus, 8
1:      wfi
        j       1b
        .balign 4
trap:   csrr    a0, mcause
        andi    a0, a0, 0xff
        call    exit
ASM
check "timer interrupt" 7 "" "$tenon" -M spike -nographic -bios "$work/timer.elf"

check "a program without tohost is refused" 1 "" "$tenon" -M spike -nographic -bios /bin/sh
check "no program is an error" 1 "" "$tenon" -M spike -nographic
check "a missing program is an error" 1 "" "$tenon" -M spike -nographic -bios "$work/none.elf"
