# SPDX-License-Identifier: LGPL-2.1-or-later
# For the tests of tenon-img: TAP output, a scratch folder, comparison with qemu-img.
# Sourced; needs TN_BUILD_DIR, or TENON_IMG.
export LC_ALL=C TZ=UTC
img=${TENON_IMG:-$TN_BUILD_DIR/bin/tenon-img}
qemu=$(command -v qemu-img) || qemu=
qemu_io=$(command -v qemu-io) || qemu_io=
count=0
failed=0

skip_all () {
  echo "1..0 # SKIP $1"
  exit 0
}

[ -x "$img" ] || skip_all "tenon-img has not been built: $img"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/tenon-img.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1

# ok NAME, after a command whose status is the verdict
verdict () {
  if [ "$1" -eq 0 ]; then
    count=$((count + 1))
    echo "ok $count - $2"
  else
    count=$((count + 1))
    failed=$((failed + 1))
    echo "not ok $count - $2"
    if [ -s diff.out ]; then sed 's/^/# /' diff.out | head -30; fi
  fi
  : > diff.out
}

skip () {
  count=$((count + 1))
  echo "ok $count - $1 # SKIP $2"
}

# check NAME COMMAND…: it succeeds
check () {
  title=$1
  shift
  "$@" > diff.out 2>&1
  verdict $? "$title"
}

# same NAME ARGUMENT…: standard output and status are those of qemu-img
same () {
  title=$1
  shift
  "$img" "$@" > ours.out 2> ours.err
  ours=$?
  "$qemu" "$@" > theirs.out 2> theirs.err
  theirs=$?
  { [ $ours -eq $theirs ] && diff theirs.out ours.out; } > diff.out
  result=$?
  [ $result -eq 0 ] || { echo "status $ours, qemu-img $theirs"; cat ours.err; } >> diff.out
  verdict $result "$title"
}

# same_json NAME ARGUMENT…: as same, for JSON: every member that qemu-img prints is there with the same value
same_json () {
  title=$1
  shift
  "$img" "$@" > ours.out 2> ours.err
  ours=$?
  "$qemu" "$@" > theirs.out 2> theirs.err
  theirs=$?
  { [ $ours -eq $theirs ] && python3 - theirs.out ours.out <<'PY'; } > diff.out 2>&1
import json, sys
theirs, ours = (json.load(open(n)) for n in sys.argv[1:])
def walk(a, b, at):
    if isinstance(a, dict):
        for k in a:
            if k not in b: sys.exit('%s.%s is missing' % (at, k))
            walk(a[k], b[k], '%s.%s' % (at, k))
    elif isinstance(a, list):
        if len(a) != len(b): sys.exit('%s: %d elements, not %d' % (at, len(b), len(a)))
        for i, (x, y) in enumerate(zip(a, b)): walk(x, y, '%s[%d]' % (at, i))
    elif a != b: sys.exit('%s is %r, not %r' % (at, b, a))
walk(theirs, ours, '')
PY
  result=$?
  [ $result -eq 0 ] || { echo "status $ours, qemu-img $theirs"; cat ours.err; } >> diff.out
  verdict $result "$title"
}

# refused STATUS TEXT ARGUMENT…: ends with the status and one line on standard error that holds the text
refused () {
  status=$1
  text=$2
  shift 2
  "$img" "$@" > ours.out 2> ours.err < /dev/null
  got=$?
  {
    echo "status $got, not $status"
    cat ours.err
  } > diff.out
  [ $got -eq "$status" ] && [ "$(wc -l < ours.err)" -eq 1 ] && grep -q '^tenon-img: ' ours.err && grep -qF -e "$text" ours.err
  verdict $? "refused: $*"
}

has_qcow2 () {
  "$img" create -q -f qcow2 probe.qcow2 1M 2> /dev/null && rm -f probe.qcow2
}

finish () {
  echo "1..$count"
  [ $failed -eq 0 ]
  exit $?
}
