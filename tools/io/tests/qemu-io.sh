#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tenon-io against qemu-io: the same commands on equal images give the same text (but for times), the same exit
# status and the same bytes.
set -uo pipefail
build=${TN_BUILD_DIR:?}
tenon=$build/bin/tenon-io
seed=${TENON_TEST_SEED:-$RANDOM}
rounds=${TENON_TEST_ROUNDS:-12}
RANDOM=$seed

if ! command -v qemu-io >/dev/null || ! command -v qemu-img >/dev/null; then
  echo "1..0 # SKIP qemu-io is not installed (Debian package qemu-utils)"
  exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
count=0

result () { # STATUS TEXT
  count=$((count + 1))
  if [ "$1" = 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2"; fi
}

# Rates and times differ from run to run; the place of saved machine state is the image's own affair.
normal () {
  sed -E -e 's/(, 1 ops;).*/\1/' -e 's/^([0-9]+,1),[0-9:.]+,.*/\1/' -e '/^vm state offset/d' \
    -e 's/^(qemu|tenon)-io> //' -e 's/((qemu|tenon)-io> )+$//'
}

# run FORMAT COMMAND… : both programs on their own copy of base.FORMAT.
run () {
  local format=$1 args=()
  shift
  for c in "$@"; do args+=(-c "$c"); done
  timeout 60 qemu-io -f "$format" "${args[@]}" "qemu.$format" >qemu.raw-out 2>qemu.err
  qemu_status=$?
  timeout 60 "$tenon" -f "$format" "${args[@]}" "tenon.$format" >tenon.raw-out 2>tenon.err
  tenon_status=$?
  normal <qemu.raw-out >qemu.out
  normal <tenon.raw-out >tenon.out
}

fresh () { # FORMAT
  cp "base.$1" "qemu.$1"
  cp "base.$1" "tenon.$1"
}

# same NAME FORMAT COMMAND… : text, status and bytes.
same () {
  local name=$1 format=$2
  shift
  fresh "$format"
  run "$@"
  local bad=0
  [ "$qemu_status" = "$tenon_status" ] || { bad=1; echo "# status: qemu-io $qemu_status, tenon-io $tenon_status"; }
  diff qemu.out tenon.out >diff.out || { bad=1; sed 's/^/# /' diff.out | head -n 20; }
  qemu-img compare -q -f "$format" -F "$format" "qemu.$format" "tenon.$format" ||
    { bad=1; echo "# the images differ"; }
  [ $bad = 0 ] || { shift; printf '# -c "%s"\n' "$@"; sed 's/^/# /' tenon.err; }
  result $bad "$name"
}

# refuse COMMAND : both fail in the same way, with one line from us, and nothing is changed.
refuse () {
  fresh raw
  run raw "$1"
  local bad=0
  [ "$qemu_status" = "$tenon_status" ] && [ "$tenon_status" != 0 ] ||
    { bad=1; echo "# status: qemu-io $qemu_status, tenon-io $tenon_status"; }
  [ "$(cat tenon.raw-out tenon.err | wc -l)" = 1 ] || { bad=1; sed 's/^/# /' tenon.err tenon.raw-out; }
  cmp -s base.raw tenon.raw || { bad=1; echo "# the image was changed"; }
  result $bad "refused: $1"
}

number () { echo $((RANDOM * 32768 + RANDOM)); }

random_command () {
  local size=$((4 << 20)) offset length pattern
  offset=$(($(number) % size))
  length=$(($(number) % 200000 + 1))
  [ $((offset + length)) -le $size ] || length=$((size - offset))
  if [ $((RANDOM % 2)) = 0 ]; then
    offset=$((offset / 4096 * 4096)) length=$(((length + 4095) / 4096 * 4096))
  fi
  pattern=$((RANDOM % 256))
  case $((RANDOM % 12)) in
    0 | 1 | 2) echo "write -P $pattern $offset $length" ;;
    3) echo "write -z $offset $length" ;;
    4) echo "write -z -u $offset $length" ;;
    5) echo "writev -P $pattern $offset 100 200 300" ;;
    6) echo "read $offset $length" ;;
    7) echo "read -P $pattern $offset $length" ;;
    8) echo "read -v $offset 70" ;;
    9) echo "readv $offset 5 70 3" ;;
    10) echo "flush" ;;
    11) echo "write -q -f -P $pattern $offset $length" ;;
  esac
}

qemu-img create -q -f raw base.raw 4M
qemu-io -f raw -c 'write -P 0x11 1M 512k' base.raw >/dev/null
formats="raw"
if [ -e "$build/lib/tenon/plugins/format-qcow2.so" ]; then
  qemu-img create -q -f qcow2 base.qcow2 4M
  qemu-io -f qcow2 -c 'write -P 0x11 1M 512k' base.qcow2 >/dev/null
  formats="raw qcow2"
fi
head -c 1000 /dev/urandom >pattern

# The plan comes last, so that a change of the list below can't be forgotten here.
for f in $formats; do
  same "$f: write and read" $f 'write -P 0x41 0 4k' 'read -P 0x41 0 4k' 'read -v 4080 40' 'write 1k 1' 'write 0 0' 'read 0 0'
  same "$f: wrong pattern" $f 'read -P 0x22 1M 4k' 'length'
  same "$f: part of a pattern" $f 'read -P 0x11 -s 512k -l 512 512k 1M' 'read -P 0x11 -s 512k 512k 1M'
  same "$f: vectors" $f 'writev -P 9 0 512 1k 2k' 'readv -P 9 0 512 3k' 'readv -v 0 8 8'
  same "$f: quiet and terse" $f 'write -q 0 4k' 'write -C 0 4k' 'read -C 0 4k' 'read -q 0 4k'
  same "$f: zeroes" $f 'write -z 1M 64k' 'write -z -u 1M 256k' 'write -zf 1536k 4k' 'read -P 0 1M 256k'
  same "$f: asynchronous" $f 'aio_write -P 5 0 64k 4k' 'aio_flush' 'aio_read -P 5 0 68k' 'aio_flush' 'read -P 5 0 68k'
  same "$f: asynchronous and quiet" $f 'aio_write -q -P 5 0 64k' 'aio_write -q -z 1M 64k' 'aio_flush' 'read -P 0 1M 64k'
  same "$f: asynchronous failure" $f 'aio_read 8M 512' 'aio_flush'
  same "$f: wrong on purpose" $f 'aio_read -i 0 512' 'aio_write -i 0 512' 'length'
  same "$f: out of range" $f 'write 8M 4k' 'read 8M 4k' 'readv 8M 4k' 'writev 8M 4k' 'write -z 8M 4k' 'length'
  same "$f: resize" $f 'truncate 8M' 'length' 'read -P 0 4M 4M' 'write -P 1 7M 1M' 'read -P 1 7M 1M'
  same "$f: pattern file" $f 'write -s pattern 0 8k' 'read -v 990 40'
  same "$f: flags" $f 'write -f 0 512' 'writev -f 0 512' 'write -p 0 512' 'read -p 0 512' 'flush' 'sleep 1'
  same "$f: map" $f 'map' 'alloc 0' 'alloc 0 4M' 'alloc 1M 1M' 'alloc 3M 8M' 'alloc 16M'
  same "$f: info" $f 'info' 'length'
  same "$f: quit" $f 'length' 'quit' 'write 0 512'
  same "$f: reopen" $f 'reopen -r' 'read 0 512' 'reopen -w' 'write 0 512' 'reopen -c none' 'write 0 512'
  same "$f: read-only after reopen" $f 'reopen -r' 'write 0 512'
  same "$f: close" $f 'close' 'length'
done
same "raw: compressed is not for raw" raw 'write -c 0 64k'
same "raw: smaller" raw 'truncate 2M' 'length' 'read 2M 512'
[ "$formats" = raw ] || same "qcow2: compressed" qcow2 'write -c -P 7 0 64k' 'read -P 7 0 64k' 'write -c 0 4k' 'alloc 0 64k'

for c in 'write x 4k' 'write 0' 'write 0 -1' 'write -P 300 0 512' 'write -P abc 0 512' 'write -Q 0 512' 'writ 0 512' \
  'truncate -m foo 3M' 'truncate x' 'write -u 0 4k' 'write -n 0 4k' 'write -z -P 3 0 4k' 'read -s 0 0 4k' \
  'read -l 4 0 4k' 'read -P 1 -s 5k 0 4k' 'read' 'read 0' 'read 0 3G' 'write 0 2G' 'write 0 9999999999999999999' \
  'write -s /nosuch 0 512' 'write -s /dev/null 0 512' 'sleep' 'sleep x' 'alloc' 'alloc x' 'flush x' 'length 3' \
  'help foo' 'reopen -x' 'reopen -r -w' 'reopen -c foo' 'open a.raw' 'aio_write -u 0 4k' 'aio_write -z 0 4k 4k' \
  'writev -z 0 512' 'discard 0 3G' 'read -b 0 512' 'write -b 0 512' 'sigraise x' 'reopen -o foo=1'; do
  refuse "$c"
done

for f in $formats; do
  for i in $(seq "$rounds"); do
    commands=()
    for _ in $(seq 20); do commands+=("$(random_command)"); done
    same "$f: random commands, seed $seed, round $i" $f "${commands[@]}"
  done
done

# The prompt: the same lines on standard input.
fresh raw
printf 'length\n\nwrite 0 512\nfoo\nread -P 3 0 512\nq\n' >lines
qemu-io -f raw qemu.raw <lines >qemu.raw-out 2>/dev/null
qemu_status=$?
"$tenon" -f raw tenon.raw <lines >tenon.raw-out 2>/dev/null
tenon_status=$?
sed -i 's/\(qemu\|tenon\)-io> //g' qemu.raw-out tenon.raw-out
normal <qemu.raw-out >qemu.out
normal <tenon.raw-out >tenon.out
diff qemu.out tenon.out | sed 's/^/# /'
cmp -s qemu.out tenon.out && [ $qemu_status = $tenon_status ]
result $? "commands from standard input"

# Options of the program: status only, the texts are each program's own.
fresh raw
for options in "-t foo" "-i foo" "-d foo" "-k" "-k -n" "-n" "-t unsafe" "-i threads" "-i io_uring" "-m -n" "-f raw --image-opts" "-Z" "-U" \
  "-r -U" "-d ignore" "-d unmap"; do
  # shellcheck disable=SC2086
  qemu-io -f raw $options -c 'read 0 512' qemu.raw >/dev/null 2>&1
  qemu_status=$?
  # shellcheck disable=SC2086
  "$tenon" -f raw $options -c 'read 0 512' tenon.raw >/dev/null 2>tenon.err
  tenon_status=$?
  [ $qemu_status = $tenon_status ] && [ "$(wc -l <tenon.err)" -le 1 ]
  bad=$?
  [ $bad = 0 ] || { echo "# status: qemu-io $qemu_status, tenon-io $tenon_status"; sed 's/^/# /' tenon.err; }
  result $bad "options $options"
done
"$tenon" -f raw -c length missing.raw >/dev/null 2>tenon.err
[ $? = 1 ] && [ "$(wc -l <tenon.err)" = 1 ] && grep -q missing.raw tenon.err
result $? "a missing file is named"
"$tenon" --help | grep -q -- --image-opts && "$tenon" --version | grep -q '^tenon-io version'
result $? "--help and --version"
for c in $("$tenon" -c help | sed -n 's/^\([a-z_]*\) .*--.*/\1/p'); do
  "$tenon" -c "help $c" >/dev/null || { echo "# help $c"; false; }
done
result $? "help for each command"
echo "1..$count"
