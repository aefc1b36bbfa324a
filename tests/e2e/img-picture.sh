#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# tenon-img map --picture and info --tree.
. "$(dirname "$0")/img-common.sh"

has_qcow2 || skip_all 'there is no qcow2 plugin'

# A backing file with compressed data, an overlay with data, zeroes and nothing.
python3 - <<'PY'
import random
random.seed(3)
with open('base.raw', 'wb') as disk:
    disk.write(b'text' * (2 << 18) + random.randbytes(1 << 20))
    disk.truncate(16 << 20)
PY
"$img" convert -c -O qcow2 base.raw base.qcow2
"$img" create -q -f qcow2 -b base.qcow2 -F qcow2 'a<b>&.qcow2'
"$img" snapshot -c before 'a<b>&.qcow2'
io=$(dirname "$img")/tenon-io
"$io" -c 'write -P 7 8M 2M' -c 'write -z 12M 1M' -c 'write -P 1 14M 100k' 'a<b>&.qcow2' > /dev/null

check 'map --picture' "$img" map --picture=map.svg 'a<b>&.qcow2'
check 'prints nothing' test ! -s diff.out
# The areas of the boxes are the amounts of the map.
python3 - > diff.out 2>&1 <<'PY'
import re, sys
import xml.etree.ElementTree as tree
root = tree.parse('map.svg').getroot()
space = '{http://www.w3.org/2000/svg}'
texts = [t.text for t in root.iter(space + 'text')]
assert 'a<b>&.qcow2 (qcow2, 16 MiB)' == texts[0], texts
cell = 16 << 20
cell //= 128 * 64
area = {}
for box in root.findall(space + 'rect'):
    if box.get('height') == '7':
        area[box.get('fill')] = area.get(box.get('fill'), 0) + int(box.get('width')) // 7
want = {'#2463a8': (2 << 20) + (128 << 10), '#c3ccd4': 1 << 20}
for colour, size in want.items():
    assert abs(area[colour] * cell - size) <= 64 << 10, (colour, area[colour] * cell, size)
assert area['url(#packed1)'] * cell == 2 << 20, area
assert sum(area.values()) >= 128 * 63, area
legend = '\n'.join(texts[2:])
assert re.search(r'^data in a<b>&\.qcow2: 2\.1 MiB', legend, re.M), legend
assert re.search(r'^compressed data in base\.qcow2 \(backing\): 2 MiB', legend, re.M), legend
assert re.search(r'^zeroes: ', legend, re.M), legend
PY
verdict $? 'has every area in its colour, and a legend'
check 'of a part' "$img" map --picture=part.svg -s 8M -l 1M 'a<b>&.qcow2'
python3 -c '
import xml.etree.ElementTree as tree
texts = [t.text for t in tree.parse("part.svg").getroot().iter("{http://www.w3.org/2000/svg}text")]
assert texts[2:] == ["data in a<b>&.qcow2: 1 MiB (100.0%)"], texts' > diff.out 2>&1
verdict $? 'only that part'
"$img" create -q -f qcow2 huge.qcow2 8T
check 'of 8 TiB of nothing' "$img" map --picture=huge.svg huge.qcow2
"$img" create -q -f raw empty.raw 0
check 'of an empty disk' "$img" map --picture=empty.svg empty.raw
refused 1 'pictures are SVG or PNG' map --picture=map.gif 'a<b>&.qcow2'
check 'nothing was made' test ! -e map.gif

check 'as PNG' "$img" map --picture=map.png 'a<b>&.qcow2'
python3 - > diff.out 2>&1 <<'PY'
import struct, zlib
with open('map.png', 'rb') as source:
    data = source.read()
assert data[:8] == b'\x89PNG\r\n\x1a\n'
chunks, at = {}, 8
while at < len(data):
    length, kind = struct.unpack('>I4s', data[at:at + 8])
    body = data[at + 8:at + 8 + length]
    assert struct.unpack('>I', data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + body), kind
    chunks[kind] = body
    at += 12 + length
assert list(chunks) == [b'IHDR', b'iTXt', b'IDAT', b'IEND'], list(chunks)
width, height, *rest = struct.unpack('>IIBBBBB', chunks[b'IHDR'])
assert (width, height, rest) == (128 * 7 + 40, 64 * 7 + 40, [8, 2, 0, 0, 0])
pixels = zlib.decompress(chunks[b'IDAT'])
stride = 1 + 3 * width
assert len(pixels) == stride * height and all(pixels[y * stride] == 0 for y in range(height))
def colour(cell, dx=1):
    at = (20 + cell // 128 * 7 + 1) * stride + 1 + 3 * (20 + cell % 128 * 7 + dx)
    return pixels[at:at + 3].hex()
cell = (16 << 20) // (128 * 64)
assert colour((9 << 20) // cell) == '2463a8', colour((9 << 20) // cell)
assert colour((12 << 20) // cell + 5) == 'c3ccd4'
assert colour((11 << 20) // cell) == 'ffffff'
assert {colour((1 << 20) // cell, dx) for dx in range(7)} == {'d9742b', 'ffffff'}
assert 'compressed data in base.qcow2 (backing): 2 MiB' in chunks[b'iTXt'].decode()
PY
verdict $? 'the cells have their colours'
check 'of 8 TiB of nothing, as PNG' "$img" map --picture=huge.png huge.qcow2
check 'of an empty disk, as PNG' "$img" map --picture=empty.png empty.raw

"$img" create -q -f qcow2 -b 'a<b>&.qcow2' -F qcow2 top.qcow2
"$img" info --tree top.qcow2 2> diff.out | sed 's/, [^,]* on disk//' > tree.out
printf '%s\n' 'top.qcow2: qcow2, 16 MiB' '└─ a<b>&.qcow2: qcow2, 16 MiB' "   · snapshot 1 'before', 16 MiB" '   └─ base.qcow2: qcow2, 16 MiB' > want.out
diff want.out tree.out >> diff.out
verdict $? 'info --tree'
refused 1 'with --output=json give --backing-chain' info --tree --output=json top.qcow2
mv base.qcow2 elsewhere.qcow2
refused 1 'base.qcow2' info --tree top.qcow2
finish
