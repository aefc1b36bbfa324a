#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# valgrind.sh PROGRAM…: runs g_test programs under memcheck; a finding or a definite leak fails, and so does a program
# that takes longer than TENON_VALGRIND_SECONDS (1800).
set -u
here=$(cd "$(dirname "$0")" && pwd)
passed=0 failed=0
seconds=${TENON_VALGRIND_SECONDS:-1800}
# Memcheck is 20 to 50 times slower: one random workload for each format will do.
export G_SLICE=always-malloc G_DEBUG=gc-friendly TN_UNDER_VALGRIND=1 TENON_CRASH_ROUNDS=${TENON_CRASH_ROUNDS:-1}
# Valgrind runs one thread at a time and does not know io_uring's kernel side.
export TENON_LOOP=${TENON_LOOP:-epoll}
# What libtool's wrappers would set.
export LD_LIBRARY_PATH=$PWD/core/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for program in "$@"; do
  log=$program.valgrind
  if libtool=$(dirname "$program")/.libs/$(basename "$program"); [ ! -x "$libtool" ]; then libtool=$program; fi
  if timeout "$seconds" valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --suppressions="$here/valgrind.supp" \
       --trace-children=no "$libtool" >"$log" 2>&1; then
    echo "ok $program"
    passed=$((passed + 1))
  else
    status=$?
    echo "FAIL $program: see $log"
    [ $status != 124 ] || echo "it took longer than $seconds s: TENON_VALGRIND_SECONDS is the limit"
    grep -m3 '^==' "$log" || tail -n 3 "$log"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
