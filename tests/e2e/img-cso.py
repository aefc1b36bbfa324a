#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""CISO, ZISO and DAX images: made here and read by tenon-img, made by tenon-img and read here."""
import os
import struct
import zlib
import lz4block
from imgtest import IMG, RNG, difference, disk, finish, img, not_read, read, reads_as, refused, run, survives
from imgtest import verdict, write

IO = os.path.join(os.path.dirname(IMG), 'tenon-io')
PLAIN = 0x80000000


def deflate(data):
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return coder.compress(data) + coder.flush()


def ciso(data, block=2048, magic=b'CISO', version=1, align=0, coder=None):
    """coder (block): its bytes and whether the entry has the flag."""
    count = -(-len(data) // block)
    at = 24 + 4 * (count + 1)
    out, index = bytearray(at), []
    for i in range(count):
        part = data[i * block:(i + 1) * block]
        out += bytes(-len(out) % (1 << align))
        body, flag = (coder or usual(magic, version, block, align))(part)
        index.append(len(out) >> align | (PLAIN if flag else 0))
        out += body
    out += bytes(-len(out) % (1 << align))
    index.append(len(out) >> align)
    head = struct.pack('<4sIQIBB2x', magic, 24, len(data), block, version, align)
    out[:at] = head + struct.pack(f'<{count + 1}I', *index)
    return bytes(out)


def usual(magic, version, block, align):
    def code(part):
        if magic == b'ZISO':
            body = lz4block.compress(part)
            return (body, False) if len(body) < len(part) else (part, True)
        if version == 1:
            body = deflate(part)
            return (body, False) if len(body) < len(part) else (part, True)
        flag = RNG.random() < .5
        body = lz4block.compress(part) if flag else deflate(part)
        padded = -(-len(body) // (1 << align)) << align
        return (body, flag) if padded < block else (part.ljust(block, b'\0'), False)
    return code


def dax(data, version=1):
    count = -(-len(data) // 8192)
    areas = [(i, RNG.randrange(1, 4)) for i in range(0, count, 16)] if version else []
    plain = {i + j for i, n in areas for j in range(n)}
    bodies = [data[i * 8192:i * 8192 + 8192] if i in plain else zlib.compress(data[i * 8192:i * 8192 + 8192])
              for i in range(count)]
    at = 32 + 6 * count + 8 * len(areas)
    places = [at + sum(len(b) for b in bodies[:i]) for i in range(count)]
    head = struct.pack('<4sIII16x', b'DAX\0', len(data), version, len(areas))
    return (head + struct.pack(f'<{count}I', *places) + struct.pack(f'<{count}H', *(len(b) for b in bodies))
            + b''.join(struct.pack('<II', *area) for area in areas) + b''.join(bodies))


def decode(image):
    """What an image holds, by the published layout; anything out of place is an error."""
    magic, size, total, block, version, align = struct.unpack_from('<4sIQIBB', image)
    if magic not in (b'CISO', b'ZISO') or size != 24:
        raise ValueError('the header is wrong')
    count = -(-total // block)
    index = struct.unpack_from(f'<{count + 1}I', image, 24)
    places = [(entry & ~PLAIN) << align for entry in index]
    if places != sorted(places) or places[0] < 24 + 4 * (count + 1) or places[-1] > len(image) + (1 << align) - 1:
        raise ValueError('the index is out of order')
    out = bytearray()
    for i in range(count):
        body, flag = image[places[i]:places[i + 1]], index[i] & PLAIN
        if version == 2:
            coding = 'plain' if len(body) >= block else 'lz4' if flag else 'deflate'
        else:
            coding = 'plain' if flag else 'lz4' if magic == b'ZISO' else 'deflate'
        if coding == 'plain':
            part = body[:block]
        elif coding == 'lz4':
            part = lz4block.decompress(body, block)
        else:
            part = zlib.decompressobj(-15).decompress(body)
        if len(part) != block:
            raise ValueError(f'block {i} has {len(part)} bytes')
        out += part
    if index[-1] & PLAIN or any(out[total:]):
        raise ValueError('the end is wrong')
    return bytes(out[:total])


def holds(name, path, data):
    try:
        why = difference(decode(read(path)), bytes(data))
    except (ValueError, zlib.error, struct.error, IndexError) as error:
        why = repr(error)
    return verdict(not why, name, why)


# ---- Reading
KINDS = (('cso', {}), ('cso', {'version': 2}), ('zso', {'magic': b'ZISO'}))
for fmt, more in KINDS:
    for block in (2048, 512, 16384, 1 << 20):
        for align in (0, 3, 11):
            data = disk(512 * RNG.randrange(40, 3000 if block > 512 else 600), 2048)
            path = write('a.img', ciso(data, block, align=align, **more))
            reads_as(f'{fmt} {more.get("version", "")}, blocks of {block}, alignment {1 << align}', (fmt, path), data)
data = disk(64 * 2048)
reads_as('plain blocks only', ('cso', write('a.img', ciso(data, coder=lambda part: (part, True)))), data)
for version in (0, 1):
    data = disk(8192 * 50 + 512 * 3, 8192)
    reads_as(f'dax, version {version}', ('dax', write('a.img', dax(data, version))), data)
for fmt, image in (('cso', ciso(data)), ('zso', ciso(data, magic=b'ZISO')), ('dax', dax(data))):
    status, out, text = img('info', write('probe.img', image))
    verdict(status == 0 and f'file format: {fmt}'.encode() in out, f'{fmt} is recognised', text)

# ---- Writing
for fmt, options in (('cso', ''), ('cso', 'version=2'), ('zso', ''), ('cso', 'block_size=16k'),
                     ('cso', 'version=2,block_size=512'), ('zso', 'block_size=1M'), ('cso', 'block_size=64k')):
    for size in (512 * 2500, 2048 * 300, 512):
        data = disk(size, 4096)
        write('plain.raw', data)
        more = ['-o', options] if options else []
        status, _, text = img('convert', '-f', 'raw', '-O', fmt, *more, *RNG.choice(([], ['-c'], ['-m', '16'])),
                              'plain.raw', 'ours.img')
        name = f'{fmt} {options}, {size} bytes'
        if verdict(status == 0, f'convert to {name}', text):
            holds(f'{name}: by the published layout', 'ours.img', data)
            reads_as(f'{name}: and back', (fmt, 'ours.img'), data)
            status, out, text = img('check', '-f', fmt, 'ours.img')
            verdict(status == 0 and b'No errors' in out, f'{name}: check', text)

for name, data in (('zeroes', bytes(1 << 20)), ('zeroes with data at the end', bytes(1 << 20) + b'x' * 512),
                   ('zeroes with data at the beginning', b'x' * 512 + bytes(1 << 20)), ('nothing', b'')):
    for source in ('holes', 'data'):
        if source == 'holes':
            with open('plain.raw', 'wb') as out:
                for at in range(0, len(data), 512):
                    if any(data[at:at + 512]):
                        out.seek(at)
                        out.write(data[at:at + 512])
                out.truncate(len(data))
        else:
            write('plain.raw', data)
        for more in ([], ['-S', '0']):
            img('convert', '-f', 'raw', '-O', 'cso', *more, 'plain.raw', 'ours.img')
            holds(f'{name} as {source} {" ".join(more)}', 'ours.img', data)
            reads_as(f'{name} as {source} {" ".join(more)}: and back', ('cso', 'ours.img'), data)
img('create', '-q', '-f', 'cso', 'new.img', '1M')
reads_as('a new image holds zeroes', ('cso', 'new.img'), bytes(1 << 20))
status, out, text = img('check', '-f', 'cso', 'new.img')
verdict(status == 2 and b'0 of 512 blocks' in out + text.encode(), 'check finds that it is not complete', out)
status, out, text = img('check', '-f', 'cso', '-r', 'all', 'new.img')
verdict(status == 0, 'and completes it', text)
holds('then it holds zeroes', 'new.img', bytes(1 << 20))
img('create', '-q', '-f', 'zso', 'new.img', '64k')
status, _, text = run(IO, '-f', 'zso', '-c', 'write -P 1 4k 4k', '-c', 'flush', '-c', 'write -P 2 32k 2k', '-c',
                      'write -z 40k 8k', '-c', 'write -P 3 60k 4k', '-c', 'read -P 1 4k 4k', '-c', 'read -P 0 8k 20k', 'new.img')
verdict(status == 0 and 'failed' not in text, 'writing in order, with gaps', text)
holds('gaps are zeroes', 'new.img', bytes(4096) + b'\1' * 4096 + bytes(24576) + b'\2' * 2048 + bytes(26624) + b'\3' * 4096)
before = read('new.img')
status, out, text = run(IO, '-f', 'zso', '-c', 'write -P 9 4k 4k', 'new.img')
verdict('from the beginning to the end' in (text + out.decode()) or 'failed' in (text + out.decode()), 'a block is written once', text)
verdict(read('new.img') == before, 'and nothing has changed')

big = disk(3 << 20, 8192)
write('plain.raw', big)
status, _, text = img('convert', '-f', 'raw', '-O', 'cso', '-W', 'plain.raw', 'ours.img')
verdict(status in (0, 1), 'convert -W ends', text)
if status == 0:
    holds('convert -W: what it made is right', 'ours.img', big)
else:
    verdict(not os.path.exists('ours.img'), 'convert -W: nothing is left')

# ---- Refusals
data = disk(32 * 2048)
good = ciso(data)


def changed(at, layout, *values, image=good):
    broken = bytearray(image)
    struct.pack_into(layout, broken, at, *values)
    return write('bad.img', broken)


not_read('another magic number', "'CISO'", 'cso', changed(0, '4s', b'CSIO'))
not_read('zso as cso', "'CISO'", 'cso', changed(0, '4s', b'ZISO'))
not_read('version 3', 'version 3', 'cso', changed(20, 'B', 3))
not_read('blocks of 0 bytes', 'blocks of 0', 'cso', changed(16, '<I', 0))
not_read('blocks of 1 GiB', 'blocks of', 'cso', changed(16, '<I', 1 << 30))
not_read('2^64 bytes', 'too many', 'cso', changed(8, '<Q', (1 << 64) - 1))
not_read('a larger disk than the index', 'larger than the file', 'cso', changed(8, '<Q', 1 << 33))
not_read('an alignment of 2^200', '2^200', 'cso', changed(21, 'B', 200))
not_read('a block behind the end', 'behind', 'cso', changed(24 + 4 * 5, '<I', 0x7fffffff))
not_read('a block in the header', 'header', 'cso', changed(24, '<I', 1))
not_read('a block before its neighbour', 'behind the next', 'cso', changed(24 + 4 * 5, '<I', 160))
not_read('a truncated file', 'behind the end', 'cso', write('bad.img', good[:-100]))
not_read('a file of 10 bytes', 'too few', 'cso', write('bad.img', good[:10]))
broken = ciso(data, coder=lambda part: (b'\xff' * 20, False))
not_read('damaged blocks', 'is damaged', 'cso', write('bad.img', broken))
good_dax = dax(data)
not_read('dax: another magic number', "'DAX'", 'dax', changed(0, '3s', b'DAY', image=good_dax))
not_read('dax: a larger disk than the index', 'larger than the file', 'dax', changed(4, '<I', 0xffffffff, image=good_dax))
not_read('dax: too many areas', 'areas', 'dax', changed(12, '<I', 0xffffffff, image=good_dax))
not_read('dax: a block behind the end', 'behind the end', 'dax', changed(32, '<I', 0xfffffff0, image=good_dax))
not_read('dax: version 7', 'version 7', 'dax', changed(8, '<I', 7, image=good_dax))
refused('creating dax', 'dax', 'create', '-f', 'dax', 'x.dax', '1M')
refused('too many blocks', 'block_size', 'create', '-f', 'cso', '-o', 'block_size=512', 'x.cso', '1T')
refused('blocks that are no power of two', 'power of two', 'create', '-f', 'cso', '-o', 'block_size=3000', 'x.cso', '1M')
refused('resizing', '', 'resize', '-f', 'cso', 'ours.img', '8M') if os.path.exists('ours.img') else None
survives('random damage', 'cso', ciso(disk(8 * 2048)))
survives('random damage to zso', 'zso', ciso(disk(8 * 2048), magic=b'ZISO'))
survives('random damage to dax', 'dax', dax(disk(4 * 8192)))
finish()
