#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The demo as a test: Debian's kernel on a qcow2 overlay, written to, checked from inside and from outside.
set -uo pipefail
src=${TN_SRC_DIR:?} build=${TN_BUILD_DIR:?}

echo 1..1
log=$build/tests/e2e/boot-linux.console
mkdir -p "$(dirname "$log")"
"$src/tests/guests/demo.sh" "$build/bin" >"$log" 2>&1
case $? in
  0) echo "ok 1 - Linux boots from qcow2, writes, and both checks are clean" ;;
  77) echo "ok 1 # SKIP the guest's packages can't be fetched: $(grep -m1 'fetch.sh:' "$log" | tail -n 1)" ;;
  *) echo "not ok 1 - see $log"; tail -n 25 "$log" | sed 's/^/# /' ;;
esac
