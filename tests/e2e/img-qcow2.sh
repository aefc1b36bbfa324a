#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# tenon-img on qcow2 images: what it makes QEMU reads and checks, and the other way round.
. "${TN_SRC_DIR:?}/tests/e2e/img-common.sh"
has_qcow2 || skip_all "the qcow2 format has not been built"
[ -n "$qemu" ] && [ -n "$qemu_io" ] || skip_all "qemu-img and qemu-io are not installed (qemu-utils)"

# 6 MiB: data, holes, zeroes, and a size that no cluster divides
truncate -s 6M disk.raw
head -c 700000 /dev/urandom | dd of=disk.raw bs=1000 seek=100 conv=notrunc status=none
yes 'compressible text' | head -c 1500000 | dd of=disk.raw bs=1000 seek=3000 conv=notrunc status=none
truncate -s 6291968 disk.raw

quiet_qemu_io () {
  "$qemu_io" "$@" > /dev/null
}

# ---- make: QEMU finds what it would have made
for options in "" compat=0.10 cluster_size=512 cluster_size=2M lazy_refcounts=on refcount_bits=1 refcount_bits=64 \
    compression_type=zstd extended_l2=on preallocation=metadata; do
  "$img" create -q -f qcow2 -o "size=8M${options:+,$options}" ours.qcow2
  "$qemu" create -q -f qcow2 -o "size=8M${options:+,$options}" theirs.qcow2
  "$qemu" info ours.qcow2 | grep -v '^image:\|^disk size' > ours.out
  "$qemu" info theirs.qcow2 | grep -v '^image:\|^disk size' > theirs.out
  check "create -o '$options' makes what qemu-img makes" diff theirs.out ours.out
  check "create -o '$options' is consistent" "$qemu" check -q ours.qcow2
  check "create -o '$options' reads as zeroes" sh -c "truncate -s 8M zero.raw; '$qemu' compare -q -f qcow2 -F raw ours.qcow2 zero.raw"
done

# ---- convert there and back
for options in "" compat=0.10 cluster_size=512 cluster_size=4k cluster_size=2M lazy_refcounts=on refcount_bits=1 \
    extended_l2=on preallocation=metadata preallocation=full compression_type=zstd; do
  for how in "" -c "-S 0" "-m 1" -W "-t none"; do
    rm -f ours.qcow2 back.raw
    # shellcheck disable=SC2086
    "$img" convert $how -O qcow2 ${options:+-o $options} disk.raw ours.qcow2 2> ours.err
    check "convert $how -o '$options': QEMU reads the same" "$qemu" compare -q -f raw -F qcow2 disk.raw ours.qcow2
    check "convert $how -o '$options': QEMU finds no error" "$qemu" check -q ours.qcow2
    check "convert $how -o '$options': back" sh -c "'$img' convert -f qcow2 ours.qcow2 back.raw && cmp disk.raw back.raw"
  done
done
for how in "" -c; do
  # shellcheck disable=SC2086
  "$qemu" convert $how -O qcow2 disk.raw theirs.qcow2
  check "convert of qemu-img's $how image" sh -c "'$img' convert theirs.qcow2 back.raw && cmp disk.raw back.raw"
done
check "a sparse image stays small" sh -c "'$img' convert -O qcow2 disk.raw ours.qcow2; '$qemu' convert -O qcow2 disk.raw theirs.qcow2; test \$(stat -c %s ours.qcow2) -le \$((\$(stat -c %s theirs.qcow2) + 65536))"
check "a compressed one smaller" sh -c "'$img' convert -c -O qcow2 disk.raw small.qcow2; test \$(stat -c %s small.qcow2) -lt \$(stat -c %s ours.qcow2)"

# ---- chains
"$img" convert -O qcow2 disk.raw base.qcow2
"$img" create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2
quiet_qemu_io -c 'write -P 1 64k 64k' -c 'write -z 1M 128k' mid.qcow2
"$img" create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 8M
quiet_qemu_io -c 'write -P 2 100k 10k' -c 'write -P 3 7M 300k' top.qcow2
"$qemu" convert top.qcow2 want.raw
for name in base mid top; do
  same "info of $name" info $name.qcow2
  same_json "info of $name, JSON" info --output=json $name.qcow2
  same "map of $name" map $name.qcow2
  same "map of $name, JSON" map --output=json $name.qcow2
  same "check of $name" check $name.qcow2
  same_json "check of $name, JSON" check --output=json $name.qcow2
done
same "info --backing-chain" info --backing-chain top.qcow2
same_json "info --backing-chain, JSON" info --backing-chain --output=json top.qcow2
window='json:{"driver":"raw","file":{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"}}}'
check "a child's own backing files are read" "$img" compare top.qcow2 "$window"
same "map of compressed data is refused" map small.qcow2
same "map of compressed data, JSON" map --output=json small.qcow2
same "check of compressed data" check small.qcow2
same "compare" compare top.qcow2 want.raw
same "compare -s" compare -s top.qcow2 want.raw
same "measure qcow2" measure -O qcow2 disk.raw
same_json "measure qcow2, JSON" measure -O qcow2 --output=json top.qcow2
same "measure of a size" measure -O qcow2 --size 1G
same "measure -o" measure -O qcow2 -o cluster_size=4k disk.raw
check "a chain converts" sh -c "'$img' convert top.qcow2 back.raw && cmp want.raw back.raw"
check "convert -B keeps what the base has" sh -c "'$img' convert -O qcow2 -B mid.qcow2 -F qcow2 top.qcow2 thin.qcow2 && '$qemu' compare -q thin.qcow2 want.raw && '$qemu' check -q thin.qcow2 && test \$(stat -c %s thin.qcow2) -lt 1500000"
"$qemu" convert -O qcow2 -B mid.qcow2 -F qcow2 top.qcow2 thin2.qcow2
"$qemu" map --output=json thin2.qcow2 | sed 's/, "offset": [0-9]*//' > theirs.out
"$img" map --output=json thin.qcow2 | sed 's/, "offset": [0-9]*//' > ours.out
check "as qemu-img does" diff theirs.out ours.out

# ---- snapshots
cp base.qcow2 snap.qcow2
"$qemu" snapshot -c first snap.qcow2
quiet_qemu_io -c 'write -P 9 0 1M' snap.qcow2
"$qemu" snapshot -c second-with-a-long-name snap.qcow2
same "info of snapshots" info snap.qcow2
same_json "info of snapshots, JSON" info --output=json snap.qcow2
same "snapshot -l" snapshot -l snap.qcow2
for param in first 1 snapshot.name=first snapshot.id=1; do
  check "convert -l $param" sh -c "'$img' convert -l $param snap.qcow2 back.raw && cmp disk.raw back.raw"
done

# Made, applied and deleted in turns by both.
snapshot_is_sound () {
  "$qemu" check -q snap.qcow2 && "$img" check -q snap.qcow2 && "$qemu" compare -q snap.qcow2 "$1"
}
"$qemu" convert -O raw -l first snap.qcow2 first.raw
"$qemu" convert -O raw snap.qcow2 second.raw
check "snapshot -a" "$img" snapshot -a first snap.qcow2
check "brings the contents back" snapshot_is_sound first.raw
quiet_qemu_io -c 'write -P 7 2M 300k' -c 'discard 0 128k' snap.qcow2
"$qemu" convert -O raw snap.qcow2 third.raw
check "snapshot -c" "$img" snapshot -c third snap.qcow2
check "leaves the contents" snapshot_is_sound third.raw
check "qemu-img applies ours" sh -c "'$qemu' snapshot -a second-with-a-long-name snap.qcow2 && '$qemu' snapshot -a third snap.qcow2"
check "and finds the same" snapshot_is_sound third.raw
check "snapshot -d of qemu-img's" "$img" snapshot -d 1 snap.qcow2
check "leaves the contents" snapshot_is_sound third.raw
check "snapshot -a of qemu-img's" "$img" snapshot -a second-with-a-long-name snap.qcow2
check "brings the contents back" snapshot_is_sound second.raw
check "qemu-img deletes ours" "$qemu" snapshot -d third snap.qcow2
check "and the rest is sound" snapshot_is_sound second.raw
same "snapshot -l afterwards" snapshot -l snap.qcow2
refused 1 "nothing-of-that-name" snapshot -d nothing-of-that-name snap.qcow2
"$img" create -q -f qcow2 -o refcount_bits=1 one.qcow2 1M
quiet_qemu_io -c 'write 0 64k' one.qcow2
refused 1 "refcount_bits" snapshot -c x one.qcow2

# ---- persistent bitmaps
bitmaps_are_sound () {
  "$qemu" check -q bits.qcow2 && "$img" check -q bits.qcow2
}
# dirty NAME: the ranges marked in that bitmap, as QEMU reads them
dirty () {
  rm -f nbd.socket
  qemu-nbd -r -f qcow2 -B "$1" -k "$PWD/nbd.socket" --fork bits.qcow2 || return
  "$qemu" map --output=json --image-opts "driver=nbd,server.type=unix,server.path=$PWD/nbd.socket,x-dirty-bitmap=qemu:dirty-bitmap:$1" |
    python3 -c 'import json, sys; print([(x["start"], x["length"]) for x in json.load(sys.stdin) if not x["data"]])'
}
cp base.qcow2 bits.qcow2
"$img" bitmap --add bits.qcow2 ours
"$img" bitmap --add --disable -g 64k bits.qcow2 off
"$qemu" bitmap --add bits.qcow2 theirs
check "bitmap --add" bitmaps_are_sound
same "info of bitmaps" info bits.qcow2
"${TENON_IO:-$(dirname "$img")/tenon-io}" -c 'write -P 1 1M 64k' -c 'write -z 2M 128k' bits.qcow2 > /dev/null
quiet_qemu_io -c 'write -P 2 5M 1k' bits.qcow2
check "writes of both leave bitmaps sound" bitmaps_are_sound
if command -v qemu-nbd > /dev/null; then
  echo "[(1048576, 65536), (2097152, 131072), (5242880, 65536)]" > want.txt
  echo "[]" > none.txt
  for name in ours theirs; do
    dirty $name > got.txt 2>&1
    check "what was written is marked in '$name'" diff want.txt got.txt
  done
  dirty off > got.txt 2>&1
  check "and not in a disabled one" diff none.txt got.txt
  "$img" bitmap --merge theirs bits.qcow2 off
  dirty off > got.txt 2>&1
  check "bitmap --merge" diff want.txt got.txt
  "$img" bitmap --clear bits.qcow2 ours
  dirty ours > got.txt 2>&1
  check "bitmap --clear" diff none.txt got.txt
  "$qemu" bitmap --merge off bits.qcow2 ours
  dirty ours > got.txt 2>&1
  check "qemu-img merges ours" diff want.txt got.txt
  "$img" resize -q bits.qcow2 20M
  dirty ours > got.txt 2>&1
  check "bitmaps grow with the disk" diff want.txt got.txt
fi
"$img" bitmap --remove bits.qcow2 theirs
check "bitmap --remove" bitmaps_are_sound
refused 1 "already" bitmap --add bits.qcow2 ours
refused 1 "no bitmap" bitmap --clear bits.qcow2 theirs
"$img" bitmap --remove bits.qcow2 ours
"$img" bitmap --remove bits.qcow2 off
check "the last bitmap goes" sh -c "'$qemu' check -q bits.qcow2 && ! '$qemu' info bits.qcow2 | grep -q bitmaps"

# ---- amend
cp top.qcow2 amend.qcow2
cp top.qcow2 theirs.qcow2
for options in refcount_bits=64 refcount_bits=2 refcount_bits=16 lazy_refcounts=on lazy_refcounts=off compat=0.10 compat=1.1; do
  check "amend -o $options" "$img" amend -o $options amend.qcow2
  check "amend -o $options leaves it sound" sh -c "'$qemu' check -q amend.qcow2 && '$img' check -q amend.qcow2 && '$qemu' compare -q amend.qcow2 want.raw"
done
"$img" amend -o compat=0.10 amend.qcow2
"$qemu" amend -o compat=0.10 theirs.qcow2
"$qemu" info amend.qcow2 | grep -v '^image:\|^disk size' > ours.out
"$qemu" info theirs.qcow2 | grep -v '^image:\|^disk size' > theirs.out
check "amend makes what qemu-img amend makes" diff theirs.out ours.out
check "amend -o size" sh -c "'$img' amend -o compat=1.1 amend.qcow2 && '$img' amend -o size=12M amend.qcow2 && '$qemu' check -q amend.qcow2 && '$qemu' compare -q amend.qcow2 want.raw"
check "amend -o backing_file" sh -c "'$img' amend -o backing_file=base.qcow2,backing_fmt=qcow2 amend.qcow2 && '$qemu' info amend.qcow2 | grep -qx 'backing file: base.qcow2'"
refused 1 "cluster_size cannot be changed" amend -o cluster_size=4k amend.qcow2

# ---- damage in the data: refused, or saved as far as it goes
"$img" convert -c -O qcow2 disk.raw damaged.qcow2
python3 - <<'PY'
import struct
with open('damaged.qcow2', 'r+b') as f:
    f.seek(40); f.seek(struct.unpack('>Q', f.read(8))[0]); f.seek(struct.unpack('>Q', f.read(8))[0] & (1 << 56) - 512)
    entry = struct.unpack('>64Q', f.read(512))[50]
    assert entry >> 62 == 1
    f.seek(entry & (1 << 54) - 1); f.write(b'\xff' * 40)
PY
refused 1 "damaged.qcow2" convert damaged.qcow2 back.raw
check "a target that cannot be completed is removed" test ! -e back.raw
check "--salvage saves the rest" sh -c "'$img' convert --salvage damaged.qcow2 back.raw 2> err.txt && grep -q 'offset 3276800 cannot be read' err.txt && cmp -n 3276800 disk.raw back.raw && cmp -i 3342336 disk.raw back.raw"

# ---- signals: a conversion that is stopped leaves nothing
"$img" convert -r 100k -O qcow2 disk.raw stopped.qcow2 2> err.txt &
pid=$!
sleep 1
kill -USR1 $pid
sleep 1
kill -TERM $pid
wait $pid
check "SIGTERM stops a conversion" test $? -eq 1
check "and nothing is left of it" test ! -e stopped.qcow2
check "SIGUSR1 told how far it was" grep -q '^    ([0-9.]*/100%)' err.txt

# ---- resize
cp base.qcow2 size.qcow2
check "resize grows" sh -c "'$img' resize -q size.qcow2 +10M && '$qemu' check -q size.qcow2 && '$qemu' compare -q size.qcow2 disk.raw"
check "resize --shrink" sh -c "'$img' resize -q --shrink size.qcow2 1M && '$qemu' check -q size.qcow2 && head -c 1M disk.raw > part.raw && '$qemu' compare -q -s -f raw -F raw part.raw part.raw && '$qemu' compare -q size.qcow2 part.raw"
check "resize --preallocation=metadata" sh -c "'$img' resize -q --preallocation=metadata size.qcow2 4M && '$qemu' check -q size.qcow2"

# ---- rebase
cp top.qcow2 re.qcow2
check "rebase onto the base" sh -c "'$img' rebase -b base.qcow2 -F qcow2 re.qcow2 && '$qemu' compare -q re.qcow2 want.raw && '$qemu' check -q re.qcow2 && '$qemu' info re.qcow2 | grep -qx 'backing file: base.qcow2'"
check "rebase onto nothing" sh -c "'$img' rebase -b '' re.qcow2 && '$qemu' compare -q re.qcow2 want.raw && '$qemu' check -q re.qcow2 && ! '$qemu' info re.qcow2 | grep -q 'backing file'"
cp top.qcow2 re.qcow2
check "rebase -u only renames" sh -c "'$img' rebase -u -b other.qcow2 -F qcow2 re.qcow2 && '$qemu' info re.qcow2 | grep -qx 'backing file: other.qcow2'"
"$img" create -q -f raw other.raw 20M
cp top.qcow2 re.qcow2
check "rebase onto a longer raw image" sh -c "tr '\0' y < other.raw > yes.raw; '$img' rebase -p -b yes.raw -F raw re.qcow2 > out.txt && '$qemu' compare -q re.qcow2 want.raw"

# ---- commit
cp mid.qcow2 mid2.qcow2
"$img" create -q -f qcow2 -b mid2.qcow2 -F qcow2 top2.qcow2 8M
quiet_qemu_io -c 'write -P 2 100k 10k' -c 'write -P 3 7M 300k' -c 'write -z 3M 64k' top2.qcow2
"$qemu" convert top2.qcow2 want2.raw
check "commit -d leaves the overlay" sh -c "'$img' commit -q -d top2.qcow2 && '$qemu' compare -q mid2.qcow2 want2.raw && '$qemu' compare -q top2.qcow2 want2.raw && '$qemu' check -q mid2.qcow2 && '$qemu' check -q top2.qcow2"
check "commit says so, and empties it" sh -c "'$img' commit top2.qcow2 | grep -qx 'Image committed\.' && '$qemu' compare -q top2.qcow2 want2.raw && '$qemu' check -q top2.qcow2 && ! '$qemu' map --output=json top2.qcow2 | grep -q '\"depth\": 0, \"present\": true, \"zero\": false'"
cp base.qcow2 base3.qcow2
"$img" create -q -f qcow2 -b base3.qcow2 -F qcow2 mid3.qcow2
quiet_qemu_io -c 'write -P 1 64k 64k' mid3.qcow2
"$img" create -q -f qcow2 -b mid3.qcow2 -F qcow2 top3.qcow2
quiet_qemu_io -c 'write -P 2 100k 10k' top3.qcow2
"$qemu" convert top3.qcow2 want3.raw
check "commit -b goes further down" sh -c "'$img' commit -q -b base3.qcow2 top3.qcow2 && '$qemu' compare -q base3.qcow2 want3.raw && '$qemu' check -q base3.qcow2"

# ---- check: what QEMU finds, and repairs that satisfy it
python3 - <<'PY'
import shutil, struct
def damage(name, last, other):
    shutil.copy('base.qcow2', name)
    with open(name, 'r+b') as f:
        f.seek(48); table = struct.unpack('>Q', f.read(8))[0]
        f.seek(table); block = struct.unpack('>Q', f.read(8))[0]
        f.seek(0, 2); n = f.tell() >> 16
        if last: f.truncate((n + 1) << 16); f.seek(block + 2 * n); f.write(b'\0\1')
        if other: f.seek(block + 2 * 5); f.write(b'\0\0')
damage('leak.qcow2', True, False)
damage('corrupt.qcow2', False, True)
PY
"$img" check leak.qcow2 > out.txt 2> err.txt
check "a leak is status 3" test $? -eq 3
check "and counted" grep -qx '1 leaked clusters were found on the image\.' out.txt
"$img" check corrupt.qcow2 > out.txt 2> err.txt
check "corruption is status 2" test $? -eq 2
check "check --output=json counts" sh -c "'$img' check --output=json corrupt.qcow2 2> /dev/null | python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)[\"corruptions\"] < 1)'"
check "check -r leaks" sh -c "'$img' check -r leaks leak.qcow2 > out.txt 2> err.txt && grep -q '    1 leaked clusters' out.txt && '$qemu' check -q leak.qcow2"
check "check -r all" sh -c "'$img' check -r all corrupt.qcow2 > out.txt 2> err.txt && '$qemu' check -q corrupt.qcow2 && '$qemu' compare -q corrupt.qcow2 disk.raw"
same "check -q of a sound image" check -q base.qcow2

# Each kind of damage: repaired, agreed to by QEMU, and the contents are there.
python3 - <<'PY'
import shutil, struct
def damage(name, change):
    shutil.copy('base.qcow2', name)
    with open(name, 'r+b') as f:
        f.seek(40); l1 = struct.unpack('>Q', f.read(8))[0]
        f.seek(48); table = struct.unpack('>Q', f.read(8))[0]
        f.seek(table); block = struct.unpack('>Q', f.read(8))[0]
        f.seek(l1); l2 = struct.unpack('>Q', f.read(8))[0] & (1 << 56) - 512
        change(f, l1, l2, table, block)
def put(f, at, *bytes):
    f.seek(at); f.write(b''.join(bytes))
quad = lambda value: struct.pack('>Q', value)
damage('r-low.qcow2', lambda f, l1, l2, table, block: put(f, block + 2 * (l2 >> 16), bytes(2)))
damage('r-block.qcow2', lambda f, l1, l2, table, block: put(f, block, b'\xff' * 600))
damage('r-zeroed.qcow2', lambda f, l1, l2, table, block: put(f, block, bytes(65536)))
damage('r-unaligned.qcow2', lambda f, l1, l2, table, block: put(f, table, quad(0x123400)))
damage('r-beyond.qcow2', lambda f, l1, l2, table, block: put(f, table, quad(1 << 40)))
damage('r-lost.qcow2', lambda f, l1, l2, table, block: put(f, table, bytes(8)))
damage('r-copied.qcow2', lambda f, l1, l2, table, block: put(f, l1, quad(l2)))
damage('r-overlap.qcow2', lambda f, l1, l2, table, block: put(f, table, quad(l1)))
PY
for kind in low block zeroed unaligned beyond lost copied overlap; do
  check "check -r all: damage '$kind'" sh -c "'$img' check -q -r all r-$kind.qcow2; '$qemu' check -q r-$kind.qcow2 && '$qemu' compare -q r-$kind.qcow2 disk.raw"
done

# ---- refusals
sha256sum base.qcow2 mid.qcow2 top.qcow2 > before.txt
refused 1 "-F" create -f qcow2 -b base.qcow2 x.qcow2
refused 1 "missing.qcow2" create -f qcow2 -b missing.qcow2 -F qcow2 x.qcow2
refused 1 "size is needed" create -f qcow2 -u -b missing.qcow2 -F qcow2 x.qcow2
refused 1 "cluster" create -f qcow2 -o cluster_size=5k x.qcow2 1M
refused 1 "cluster_size" create -f qcow2 -o cluster_szie=4k x.qcow2 1M
refused 1 "base.qcow2" convert -O qcow2 base.qcow2 base.qcow2
refused 1 "base.qcow2" convert -O qcow2 top.qcow2 base.qcow2
refused 1 "zz" convert -l zz -O qcow2 snap.qcow2 x.qcow2
refused 1 "-F FMT" convert -O qcow2 -B base.qcow2 disk.raw x.qcow2
refused 1 "not in the backing chain" commit -b zz top.qcow2
refused 1 "no backing file" commit base.qcow2
refused 1 "missing.qcow2" rebase -b missing.qcow2 -F qcow2 top.qcow2
refused 1 "-F FMT" rebase -b mid.qcow2 top.qcow2
refused 1 "" info -f qcow2 disk.raw
refused 1 "bogus" info --image-opts driver=qcow2,bogus=1,file.filename=base.qcow2
sha256sum base.qcow2 mid.qcow2 top.qcow2 > after.txt
check "no image has changed" cmp before.txt after.txt
check "no target was left" sh -c "! ls x.qcow2 2> /dev/null"
"$img" create -q -f qcow2 -u -b loop.qcow2 -F qcow2 loop.qcow2 1M
refused 1 "loop.qcow2" info --backing-chain loop.qcow2
finish
