#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Image locks between Tenon and QEMU's programs, in both directions.
set -uo pipefail
tenon=${TN_BUILD_DIR:?}/bin/tenon-io

if ! command -v qemu-io >/dev/null || ! command -v qemu-img >/dev/null; then
  echo "1..0 # SKIP qemu-io is not installed (Debian package qemu-utils)"
  exit 0
fi
dir=$(mktemp -d)
holder=
trap '[ -z "$holder" ] || kill $holder 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
count=0

result () { # STATUS TEXT
  count=$((count + 1))
  if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2"; sed 's/^/# /' err; fi
}

# hold PROGRAM ARGUMENT… : keeps the image open until release().  Its prompt comes when the image is open.
hold () {
  rm -f in
  mkfifo in
  "$@" <in >out 2>err &
  holder=$!
  exec 9>in
  echo length >&9
  for _ in $(seq 200); do
    grep -q MiB out && return
    kill -0 $holder 2>/dev/null || break
    sleep 0.05
  done
  result 1 "$* did not open the image"
}

release () {
  exec 9>&-
  wait $holder
  holder=
}

works () { # TEXT COMMAND…
  local text=$1
  shift
  "$@" >/dev/null 2>err
  result $? "$text"
}

refused () { # TEXT COMMAND…
  local text=$1
  shift
  "$@" >/dev/null 2>err
  [ $? != 0 ] && grep -q lock err
  result $? "$text"
}

qemu-img create -q -f raw a.raw 1M

hold qemu-io -f raw a.raw
refused "qemu-io writes: tenon-io can't write" "$tenon" -f raw -c 'write 0 512' a.raw
grep -q "process $holder (qemu-io)" err && grep -q -- '-U' err && [ "$(wc -l <err)" = 1 ]
result $? "one line names the holder and the remedy"
works "qemu-io writes: tenon-io -r -U reads" "$tenon" -r -U -f raw -c 'read 0 512' a.raw
works "qemu-io writes: locking=off" "$tenon" --image-opts -c 'read 0 512' driver=raw,file.driver=file,file.locking=off,file.filename=a.raw
release
works "qemu-io ended: tenon-io writes" "$tenon" -f raw -c 'write -P 1 0 512' a.raw

hold "$tenon" -f raw a.raw
refused "tenon-io writes: qemu-io can't write" qemu-io -f raw -c 'write 0 512' a.raw
refused "tenon-io writes: qemu-img can't resize" qemu-img resize -f raw a.raw 2M
refused "tenon-io writes: qemu-img can't convert into it" qemu-img convert -f raw -O raw -n /dev/null a.raw
refused "tenon-io writes: qemu-img can't create it again" qemu-img create -f raw a.raw 2M
refused "tenon-io writes: another tenon-io can't write" "$tenon" -f raw -c 'write 0 512' a.raw
grep -q "process $holder (tenon-io)" err
result $? "the holder is named"
works "tenon-io writes: qemu-io -r -U reads" qemu-io -r -U -f raw -c 'read 0 512' a.raw
release
works "tenon-io ended: qemu-io reads what it left" qemu-io -f raw -c 'read -P 1 0 512' a.raw

hold "$tenon" -r -f raw a.raw
works "tenon-io reads: qemu-io reads" qemu-io -r -f raw -c 'read 0 512' a.raw
works "tenon-io reads: tenon-io reads" "$tenon" -r -f raw -c 'read 0 512' a.raw
works "tenon-io reads raw, which has no tables to mislead it: qemu-io writes" qemu-io -f raw -c 'write -P 1 0 512' a.raw
release

hold qemu-io -r -f raw a.raw
works "qemu-io reads: tenon-io reads" "$tenon" -r -f raw -c 'read 0 512' a.raw
works "qemu-io reads raw: tenon-io writes" "$tenon" -f raw -c 'write -P 1 0 512' a.raw
release

qemu-img create -q -f qcow2 b.qcow2 1M
hold "$tenon" -r -f qcow2 b.qcow2
refused "tenon-io reads qcow2: qemu-io can't write" qemu-io -f qcow2 -c 'write 0 512' b.qcow2
release
hold qemu-io -r -f qcow2 b.qcow2
refused "qemu-io reads qcow2: tenon-io can't write" "$tenon" -f qcow2 -c 'write 0 512' b.qcow2
release

# A writer that becomes a reader lets other readers in, and the other way about.
hold "$tenon" -f raw a.raw
echo 'reopen -r' >&9
echo 'length' >&9
for _ in $(seq 200); do [ "$(grep -c MiB out)" -ge 2 ] && break; sleep 0.05; done
works "after reopen -r: qemu-img reads" qemu-img convert -f raw -O raw a.raw b.raw
echo 'reopen -w' >&9
echo 'length' >&9
for _ in $(seq 200); do [ "$(grep -c MiB out)" -ge 3 ] && break; sleep 0.05; done
refused "after reopen -w: qemu-img can't read any more" qemu-img convert -f raw -O raw a.raw b.raw
release

if [ -x "$TN_BUILD_DIR/bin/tenon-img" ]; then
  hold qemu-io -f raw a.raw
  cp a.raw before.raw
  refused "qemu-io writes: tenon-img can't create it again" "$TN_BUILD_DIR/bin/tenon-img" create -f raw a.raw 2M
  cmp -s a.raw before.raw
  result $? "and nothing was changed"
  release
fi
echo "1..$count"
