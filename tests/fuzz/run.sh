#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh BUILD [SECONDS [TARGET…]]: runs each fuzz target for SECONDS (600), starting from its seeds in the tree,
# JOBS (2) at once.  What it finds is left in BUILD/fuzz/TARGET; the exit status is 1 when anything was found.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:?usage: run.sh BUILD [SECONDS [TARGET...]]}" && pwd)
seconds=${2:-600}
jobs=${JOBS:-2}
shift $(($# < 2 ? $# : 2))
if [ $# = 0 ]; then
  for f in "$here"/fuzz_*.c; do
    name=${f##*/fuzz_}
    set -- "$@" "${name%.c}"
  done
fi
export TENON_PLUGIN_PATH=$build/lib/tenon/plugins TENON_BOARD_PATH=$build/share/tenon/boards
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1:quarantine_size_mb=16} UBSAN_OPTIONS=print_stacktrace=1

# statistic LOG NAME: one figure of -print_final_stats.
statistic () {
  local value
  value=$(sed -n "s/^stat::$2: *//p" "$1")
  echo "${value:--}"
}

# fuzz TARGET: leaves its line of the table in BUILD/fuzz/TARGET/result.
fuzz () {
  local name=$1 program=$build/tests/fuzz/fuzz_$1 work=$build/fuzz/$1 seeds=() began=$SECONDS finding=none
  mkdir -p "$work/corpus"
  rm -f "$work/result"
  [ -x "$program" ] || { printf '%s\t-\t-\t-\t%s\n' "$name" 'not built' >"$work/result"; return; }
  [ -d "$here/corpus/$name" ] && seeds=("$here/corpus/$name")
  "$program" -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=10 -artifact_prefix="$work/" \
    -print_final_stats=1 "$work/corpus" "${seeds[@]}" >"$work/log" 2>&1 \
    || finding=$(grep -m1 -E 'ERROR|runtime error|SUMMARY' "$work/log" || echo "exit status $?")
  printf '%s\t%s\t%s\t%s\t%s\n' "$name" $((SECONDS - began)) "$(statistic "$work/log" number_of_executed_units)" \
    "$(statistic "$work/log" peak_rss_mb)" "$finding" >"$work/result"
}

for name in "$@"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
    wait -n
  done
  fuzz "$name" &
done
wait

passed=0 failed=0
printf '%-12s %8s %10s %8s  %s\n' target seconds runs 'peak MB' finding
for name in "$@"; do
  IFS=$'\t' read -r _ spent runs peak finding <"$build/fuzz/$name/result"
  printf '%-12s %8s %10s %8s  %s\n' "$name" "$spent" "$runs" "$peak" "$finding"
  if [ "$finding" = none ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAIL $name: see $build/fuzz/$name"
  fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
