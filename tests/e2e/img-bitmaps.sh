#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Dirty bitmaps that convert copies and measure counts, compared with what qemu-img does.
. "$(dirname "$0")/img-common.sh"

[ -n "$qemu" ] && [ -n "$qemu_io" ] || skip_all 'qemu-img and qemu-io are not installed'
has_qcow2 || skip_all 'there is no qcow2 plugin'

"$qemu" create -q -f qcow2 source.qcow2 40M
"$qemu_io" -c 'write -P 1 3M 2M' source.qcow2 > /dev/null
"$qemu" bitmap --add source.qcow2 full
"$qemu" bitmap --add -g 4k source.qcow2 fine
"$qemu" bitmap --add -g 1M source.qcow2 stopped
"$qemu_io" -c 'write -P 2 9M 300k' -c 'write -P 3 31M 64k' source.qcow2 > /dev/null
"$qemu" bitmap --disable source.qcow2 stopped
"$qemu" bitmap --clear source.qcow2 full
"$qemu_io" -c 'write -P 4 20M 4k' source.qcow2 > /dev/null

# The bits, as qemu-img sees them through a merge into an image of zeroes: what an NBD client would be told.
bits () {
  for name in full fine stopped; do
    echo "$name: $("$qemu" bitmap --add -g 512 "$1" look 2>&1 && "$qemu" bitmap --merge $name "$1" look 2>&1)"
    # The pages of the bitmap that are not zero, told by the image's own measure of allocation.
    python3 - "$1" look <<'PY'
import struct, sys, hashlib
image = open(sys.argv[1], 'rb').read()
at = 104 if struct.unpack_from('>I', image, 100)[0] == 104 else struct.unpack_from('>I', image, 100)[0]
while True:
    kind, length = struct.unpack_from('>II', image, at)
    if kind == 0x23852875:
        count, _, size, offset = struct.unpack_from('>IIQQ', image, at + 8)
        break
    if kind == 0:
        sys.exit('no bitmaps')
    at += 8 + (length + 7 & ~7)
cluster = 1 << struct.unpack_from('>I', image, 20)[0]
for _ in range(count):
    table, entries, _, _, _, name_length, extra = struct.unpack_from('>QIIBBHI', image, offset)
    name = image[offset + 24 + extra:offset + 24 + extra + name_length].decode()
    if name == sys.argv[2]:
        sum = hashlib.sha256()
        for i in range(entries):
            entry = struct.unpack_from('>Q', image, table + 8 * i)[0]
            page = entry & 0x00fffffffffffe00
            sum.update(image[page:page + cluster] if page else bytes([0xff if entry & 1 else 0]) * cluster)
        print(sum.hexdigest())
    offset += 24 + extra + name_length + 7 & ~7
PY
    "$qemu" bitmap --remove "$1" look
  done
}
names () {
  "$qemu" info --output=json "$1" | python3 -c 'import json, sys
for b in sorted(json.load(sys.stdin)["format-specific"]["data"].get("bitmaps", []), key=lambda b: b["name"]): print(sorted(b.items()))'
}

"$qemu" convert --bitmaps -O qcow2 source.qcow2 theirs.qcow2
check 'convert --bitmaps' "$img" convert --bitmaps -O qcow2 source.qcow2 ours.qcow2
names theirs.qcow2 > theirs.names
names ours.qcow2 > ours.names
diff theirs.names ours.names > diff.out
verdict $? 'names, granularities and flags are those that qemu-img copies'
check 'there are three' test "$(wc -l < ours.names)" -eq 3
check "qemu-img's check finds nothing" "$qemu" check -q ours.qcow2
check 'so does our own' "$img" check -q ours.qcow2
cp ours.qcow2 ours-bits.qcow2
bits theirs.qcow2 > theirs.bits
bits ours-bits.qcow2 > ours.bits
diff theirs.bits ours.bits > diff.out
verdict $? 'so are the bits'
check 'with bits that differ' test "$(sort -u ours.bits | wc -l)" -eq 6
check 'the contents are the same' "$img" compare -q source.qcow2 ours.qcow2
check 'into another cluster size, verified' "$img" convert --bitmaps --verify -O qcow2 -o cluster_size=4k source.qcow2 small.qcow2
check "qemu-img's check finds nothing there" "$qemu" check -q small.qcow2
check 'qemu-img copies them back' "$qemu" convert --bitmaps -O qcow2 small.qcow2 back.qcow2
names back.qcow2 > back.names
diff theirs.names back.names > diff.out
verdict $? 'names, granularities and flags are still the same'

# Bitmaps that record go on recording.
"$qemu_io" -c 'write 1M 64k' ours.qcow2 > /dev/null
"$qemu_io" -c 'write 1M 64k' theirs.qcow2 > /dev/null
bits theirs.qcow2 > theirs.bits
bits ours.qcow2 > ours.bits
diff theirs.bits ours.bits > diff.out
verdict $? 'they record writes like those'

for more in '' '-o cluster_size=4k' '-o cluster_size=512' '-o compat=0.10'; do
  same "measure $more" measure $more -O qcow2 source.qcow2
  same_json "measure --output=json $more" measure --output=json $more -O qcow2 source.qcow2
done
same 'measure -O raw' measure -O raw source.qcow2

# A program that died: the bitmap is in use and nobody trusts it.
python3 - <<'PY'
import struct
image = bytearray(open('source.qcow2', 'rb').read())
at = struct.unpack_from('>I', image, 100)[0]
while struct.unpack_from('>I', image, at)[0] != 0x23852875:
    at += 8 + (struct.unpack_from('>I', image, at + 4)[0] + 7 & ~7)
offset = struct.unpack_from('>Q', image, at + 24)[0]
image[offset + 15] |= 1
open('broken.qcow2', 'wb').write(image)
PY
same 'measure with an inconsistent bitmap' measure -O qcow2 broken.qcow2
refused 1 'is inconsistent and cannot be copied' convert --bitmaps -O qcow2 broken.qcow2 no.qcow2
check 'nothing was made' test ! -e no.qcow2
check 'convert --bitmaps --skip-broken-bitmaps' "$img" convert --bitmaps --skip-broken-bitmaps -O qcow2 broken.qcow2 skip.qcow2
"$qemu" convert --bitmaps --skip-broken-bitmaps -O qcow2 broken.qcow2 skip-theirs.qcow2 2> /dev/null
names skip.qcow2 > ours.names
names skip-theirs.qcow2 > theirs.names
diff theirs.names ours.names > diff.out
verdict $? 'copies what qemu-img copies'
check 'two of them' test "$(wc -l < ours.names)" -eq 2

refused 1 'cannot hold dirty bitmaps' convert --bitmaps -O raw source.qcow2 no.raw
refused 1 'is for --bitmaps' convert --skip-broken-bitmaps -O qcow2 source.qcow2 no.qcow2
refused 1 'is for a single image' convert --bitmaps -O qcow2 source.qcow2 source.qcow2 no.qcow2
finish
