#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What tenon-img convert does beyond qemu-img: --sha256, --verify, standard input and output.
. "$(dirname "$0")/img-common.sh"

has_qcow2 || skip_all 'there is no qcow2 plugin'

# An image with data, holes and zeroes that are stored.
python3 - <<'PY'
import random
random.seed(7)
with open('disk.raw', 'wb') as disk:
    for at in (0, 3 << 20, (9 << 20) + 4096, 15 << 20):
        disk.seek(at)
        disk.write(random.randbytes(700 << 10) + bytes(200 << 10) + b'text' * 5000)
    disk.truncate(16 << 20)
with open('odd.raw', 'wb') as disk:
    disk.write(random.randbytes(1234567))
PY
sum () { sha256sum < "$1" | cut -d' ' -f1; }
disk=$(sum disk.raw)

# digest NAME WANTED ARGUMENT…
digest () {
  title=$1
  wanted=$2
  shift 2
  "$img" convert --sha256 "$@" > ours.out 2> diff.out
  [ $? -eq 0 ] && [ "$(cat ours.out)" = "sha256: $wanted" ]
  result=$?
  cat ours.out >> diff.out
  verdict $result "$title"
}

for format in raw qcow2 vmdk vdi; do
  digest "--sha256 of raw to $format" "$disk" -O $format disk.raw new.$format
done
mv new.qcow2 disk.qcow2 && mv new.vmdk disk.vmdk
digest '--sha256 of qcow2 to raw' "$disk" -O raw disk.qcow2 again.raw
digest '--sha256 compressed, out of order' "$disk" -c -W -m 16 -O qcow2 disk.raw packed.qcow2
digest '--sha256 one at a time, everything written' "$disk" -m 1 -S 0 -O raw disk.vmdk full.raw
check 'the target is what it was without --sha256' cmp disk.raw full.raw
digest '--sha256 of several images' "$(cat disk.raw disk.raw | sha256sum | cut -d' ' -f1)" -O qcow2 disk.raw disk.qcow2 two.qcow2
"$img" convert -O raw odd.raw odd-plain.raw
digest '--sha256 of a length that is no whole sector' "$(sum odd-plain.raw)" -O qcow2 odd.raw odd.qcow2
"$img" create -q -f qcow2 huge.qcow2 3G
digest '--sha256 of zeroes alone' "$(head -c 3G /dev/zero | sha256sum | cut -d' ' -f1)" -O qcow2 huge.qcow2 none.qcow2

# An overlay: what the backing file provides counts, and stays there.
"$img" create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2
[ -n "$qemu_io" ] && qemu-io -c 'write -P 9 5M 1M' -c 'write -z 0 1M' top.qcow2 > /dev/null
"$img" convert -O raw top.qcow2 top.raw
digest '--sha256 above a backing file' "$(sum top.raw)" -O qcow2 -B disk.qcow2 -F qcow2 top.qcow2 newtop.qcow2
check 'which provides the same' "$img" compare -q top.qcow2 newtop.qcow2

"$img" convert --sha256 --verify --output=json -O qcow2 disk.raw json.qcow2 > ours.out
python3 -c '
import json, sys
got = json.load(open("ours.out"))
want = {"filename": "json.qcow2", "virtual-size": 16 << 20, "sha256": sys.argv[1], "verified": True}
sys.exit(0 if got == want else repr(got))' "$disk" 2> diff.out
verdict $? '--output=json'

for format in raw qcow2 vmdk vdi vhdx qed parallels; do
  check "--verify, $format" "$img" convert --verify -O $format disk.qcow2 verified.$format
done
check '--verify of a length that is no whole sector' "$img" convert --verify -O qcow2 odd.raw odd2.qcow2
check '--verify compressed, with a backing file' "$img" convert --verify -c -O qcow2 -B disk.qcow2 -F qcow2 top.qcow2 top2.qcow2
"$img" create -q -f raw big.raw 20M
check '--verify of a target that was there' "$img" convert --verify -n -O raw disk.qcow2 big.raw

# A target that is said to be zero and is not: what --verify is for.
yes | head -c 16M > lies.raw
refused 1 'first difference is at offset 716800' convert --verify -n --target-is-zero -O raw disk.raw lies.raw
refused 1 'cannot be combined with --sha256' convert -C --sha256 -O raw disk.raw x.raw
refused 1 'cannot be combined with --salvage' convert --verify --salvage -O raw disk.raw x.raw
check 'nothing was made by what was refused' test ! -e x.raw

# Standard output: raw as it is read, other formats from a temporary file.
TMPDIR=$scratch/tmp
export TMPDIR
mkdir tmp
piped () {
  title=$1
  wanted=$2
  shift 2
  [ "$("$@" 2> diff.out | sha256sum | cut -d' ' -f1)" = "$wanted" ]
  verdict $? "$title"
}
piped 'raw to standard output' "$disk" "$img" convert -O raw disk.qcow2 -
piped 'raw to /dev/stdout' "$disk" "$img" convert -O raw -m 1 disk.vmdk /dev/stdout
piped 'several images to standard output' "$(cat disk.raw disk.raw | sha256sum | cut -d' ' -f1)" "$img" convert -O raw disk.raw disk.qcow2 -
piped 'a length that is no whole sector' "$(sum odd-plain.raw)" "$img" convert -O raw odd.raw -
"$img" convert -O raw disk.qcow2 - | head -c 100000 > head.raw
cmp -n 100000 head.raw disk.raw > diff.out
verdict $? 'the reader may go away'
"$img" convert -O raw disk.qcow2 - 2> ours.err > /dev/full
[ $? -eq 1 ] && [ "$(wc -l < ours.err)" -eq 1 ] && grep -q 'cannot write to standard output' ours.err
verdict $? 'a reader that is full is an error'
for target in '-O vmdk -o subformat=streamOptimized' '-O qcow2 -c' '-O vdi' '-O cso' '-O lz4'; do
  case $target in
    *cso | *lz4) "$img" convert $target disk.raw probe.img 2> /dev/null || { skip "$target" 'not written by this build'; continue; } ;;
  esac
  "$img" convert $target disk.raw - > piped.img 2> diff.out && "$img" compare -q piped.img disk.raw >> diff.out 2>&1
  verdict $? "$target to standard output"
done

# Standard input.
check_piped () {
  title=$1
  shift
  cat disk.raw | "$@" > diff.out 2>&1
  verdict $? "$title"
}
check_piped 'raw from a pipe' "$img" convert -f raw -O qcow2 - piped.qcow2
check 'has the contents' "$img" compare -q piped.qcow2 disk.raw
check_piped 'raw from /dev/stdin, compressed and verified' "$img" convert -f raw -c --verify -O qcow2 /dev/stdin piped2.qcow2
check 'has the contents' "$img" compare -q piped2.qcow2 disk.raw
cat disk.qcow2 | "$img" convert -f qcow2 -O raw - - 2> diff.out | cmp - disk.raw >> diff.out 2>&1
verdict $? 'from a pipe to a pipe'
"$img" convert -f raw -O raw /dev/stdin file.raw < disk.raw 2> diff.out && cmp file.raw disk.raw >> diff.out
verdict $? 'a file as standard input'
refused 1 'can be read once' convert -f raw -O raw - - x.raw
refused 1 'exclude each other' convert --sha256 -O raw disk.raw -
refused 1 'leave out --resume' convert --resume -f raw -O raw - x.raw
# Sizes that are no multiple of a sector: the target's is rounded up.
for size in 1000 65537 300000 1234567; do
  head -c $size odd.raw > part.raw
  check "compressed, $size bytes" "$img" convert -c -O qcow2 part.raw part.qcow2
  check "compressed, $size bytes: the contents" "$img" compare -q -f raw -F qcow2 part.raw part.qcow2
done
check 'no temporary file is left' test -z "$(ls tmp)"
check 'nothing was made by what was refused' test ! -e x.raw
finish
