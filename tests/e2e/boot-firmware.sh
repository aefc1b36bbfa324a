#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Debian's OpenSBI and U-Boot run in M mode (and U-Boot under OpenSBI) up to U-Boot's prompt, take a command, and end.
set -uo pipefail
build=${TN_BUILD_DIR:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sbi=/usr/lib/riscv64-linux-gnu/opensbi/generic
uboot=/usr/lib/u-boot

# await FILE TEXT: until the console shows it, or for two minutes.
await () {
  local i
  for ((i = 0; i < 1200; i++)); do
    grep -aq -- "$2" "$1" 2>/dev/null && return 0
    sleep 0.1
  done
  return 1
}

# session NAME EXPECTED ARGUMENTS…: boots to the prompt, asks for the version, ends by Ctrl-A x.
session () {
  local name=$1 banner=$2 out=$work/$1.out in=$work/$1.in status=0
  shift 2
  mkfifo "$in"
  timeout 300 "$build/bin/tenon" -M virt-rv64 -m 256M -nographic "$@" <"$in" >"$out" 2>&1 &
  local pid=$!
  exec 9>"$in"
  await "$out" 'Hit any key\|=> ' && printf '\r' >&9 && await "$out" '=> ' && printf 'echo to''gether\r' >&9 \
    && await "$out" '^together' || status=1
  printf '\001x' >&9
  exec 9>&-
  wait $pid || true
  grep -aq -- "$banner" "$out" || status=1
  if [ $status = 0 ]; then
    echo "ok $n - $name"
  else
    echo "not ok $n - $name"
    tail -n 20 "$out" | tr -d '\r' | sed 's/^/# /'
  fi
}

n=0
run () {
  n=$((n + 1))
  local name=$1 f
  for f in "${@:3}"; do
    case $f in
      /*) [ -f "$f" ] || { echo "ok $n # SKIP $name: $f is missing: install opensbi and u-boot-qemu"; return; } ;;
    esac
  done
  session "$@"
}

echo 1..3
run u-boot-in-m-mode 'U-Boot 20' -bios $uboot/qemu-riscv64/u-boot.bin
run opensbi-and-u-boot 'OpenSBI v' -bios $sbi/fw_dynamic.bin -kernel $uboot/qemu-riscv64_smode/u-boot.bin
run opensbi-two-harts 'OpenSBI v' -smp 2 -bios $sbi/fw_jump.elf -kernel $uboot/qemu-riscv64_smode/u-boot.bin
