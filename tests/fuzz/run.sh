#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh BUILD [SECONDS [TARGET…]]: runs each fuzz target for SECONDS (600), starting from its seeds in the tree.
# What it finds is left in BUILD/fuzz/TARGET; the exit status is 1 when anything was found.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:?usage: run.sh BUILD [SECONDS [TARGET...]]}" && pwd)
seconds=${2:-600}
shift $(($# < 2 ? $# : 2))
if [ $# = 0 ]; then
  for f in "$here"/fuzz_*.c; do
    name=${f##*/fuzz_}
    set -- "$@" "${name%.c}"
  done
fi
export TENON_PLUGIN_PATH=$build/lib/tenon/plugins TENON_BOARD_PATH=$build/share/tenon/boards
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1} UBSAN_OPTIONS=print_stacktrace=1
passed=0 failed=0
for name in "$@"; do
  program=$build/tests/fuzz/fuzz_$name
  [ -x "$program" ] || { echo "FAIL $name: not built"; failed=$((failed + 1)); continue; }
  work=$build/fuzz/$name
  mkdir -p "$work/corpus"
  seeds=()
  [ -d "$here/corpus/$name" ] && seeds=("$here/corpus/$name")
  if "$program" -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=10 -artifact_prefix="$work/" -print_final_stats=1 \
       "$work/corpus" "${seeds[@]}" >"$work/log" 2>&1; then
    echo "ok $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log") runs in $seconds s"
    passed=$((passed + 1))
  else
    echo "FAIL $name: $(grep -m1 -E 'ERROR|runtime error|SUMMARY' "$work/log"); see $work"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
