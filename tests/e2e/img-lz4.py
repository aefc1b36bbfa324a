#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks as seekable LZ4 frames: the lz4 tool reads what tenon-img writes and the other way round."""
import os
import struct
import lz4block
from imgtest import IMG, RNG, difference, disk, finish, img, not_read, read, reads_as, refused, run, skip, survives
from imgtest import tool, verdict, write

IO = os.path.join(os.path.dirname(IMG), 'tenon-io')
PLAIN = 0x80000000


def decode(image, block):
    """The frame by the published layout, and its seek table by ours."""
    if struct.unpack_from('<I', image)[0] != 0x184d2204 or image[4] != 0x68:
        raise ValueError('the header is wrong')
    size, at, out, places = struct.unpack_from('<Q', image, 6)[0], 15, bytearray(), []
    while True:
        field = struct.unpack_from('<I', image, at)[0]
        places.append(at | (field & PLAIN) << 32)
        if field == 0:
            break
        body = image[at + 4:at + 4 + (field & ~PLAIN)]
        part = body if field & PLAIN else lz4block.decompress(body)
        if len(part) != min(block, size - len(out)):
            raise ValueError(f'a block has {len(part)} bytes')
        out += part
        at += 4 + len(body)
    magic, length = struct.unpack_from('<II', image, at + 4)
    table = (at + 12 + 7) // 8 * 8
    if magic >> 4 != 0x184d2a5 or at + 12 + length != len(image):
        raise ValueError('the seek table is no skippable frame')
    if list(struct.unpack_from(f'<{len(places)}Q', image, table)) != places:
        raise ValueError('the seek table is wrong')
    footer = struct.pack('<QQII', table, len(places) - 1, 1, 0) + b'TenonLz4'
    if image[table + 8 * len(places):] != footer:
        raise ValueError('the footer is wrong')
    return bytes(out)


def holds(name, path, data, block=65536, plain_lz4=True):
    try:
        why = difference(decode(read(path), block), bytes(data))
    except (ValueError, struct.error, IndexError) as error:
        why = repr(error)
    verdict(not why, f'{name}: by the published layout', why)
    if not plain_lz4:
        return
    if not tool('lz4'):
        skip(f'{name}: lz4 -d', 'lz4 is not installed')
        return
    status, out, text = run('lz4', '-d', '-c', path)
    why = f'status {status}: {text}' if status else difference(out, bytes(data))
    verdict(not why, f'{name}: lz4 -d gives the disk', why)


# ---- Writing
for options, block in (('', 65536), ('block_size=256k', 1 << 18), ('block_size=1M', 1 << 20), ('block_size=4M', 4 << 20)):
    for size in (512, 65536 * 5, 512 * 3333, 3 << 20):
        data = disk(size, 8192)
        write('plain.raw', data)
        more = ['-o', options] if options else []
        status, _, text = img('convert', '-f', 'raw', '-O', 'lz4', *more, *RNG.choice(([], ['-c'], ['-m', '16'])),
                              'plain.raw', 'ours.lz4')
        name = f'{options or "defaults"}, {size} bytes'
        if verdict(status == 0, f'convert, {name}', text):
            holds(name, 'ours.lz4', data, block)
            reads_as(f'{name}: and back', ('lz4', 'ours.lz4'), data)
            status, out, text = img('check', '-f', 'lz4', 'ours.lz4')
            verdict(status == 0 and b'No errors' in out, f'{name}: check', text)
for name, data in (('zeroes', bytes(1 << 20)), ('zeroes, data', bytes(1 << 20) + b'x' * 512),
                   ('data, zeroes', b'x' * 512 + bytes((1 << 20) + 512)), ('nothing', b'')):
    write('plain.raw', data)
    for more in ([], ['-S', '0']):
        img('convert', '-f', 'raw', '-O', 'lz4', *more, 'plain.raw', 'ours.lz4')
        holds(f'{name} {" ".join(more)}', 'ours.lz4', data)
        reads_as(f'{name} {" ".join(more)}: and back', ('lz4', 'ours.lz4'), data)
status, out, text = img('info', 'ours.lz4')
verdict(status == 0 and b'file format: lz4' in out, 'it is recognised', text)

img('create', '-q', '-f', 'lz4', 'new.lz4', '300k')
reads_as('a new image holds zeroes', ('lz4', 'new.lz4'), bytes(300 << 10))
status, out, text = img('check', '-f', 'lz4', 'new.lz4')
verdict(status == 2 and b'0 of 5 blocks' in out + text.encode(), 'check finds that it is not complete', out)
status, out, text = img('check', '-f', 'lz4', '-r', 'all', 'new.lz4')
verdict(status == 0, 'and completes it', text)
holds('completed', 'new.lz4', bytes(300 << 10))
img('create', '-q', '-f', 'lz4', 'new.lz4', '300k')
status, out, text = run(IO, '-f', 'lz4', '-c', 'write -P 1 64k 64k', '-c', 'flush', '-c', 'write -P 2 256k 44k', '-c',
                        'read -P 1 64k 64k', '-c', 'read -P 0 128k 128k', 'new.lz4')
verdict(status == 0 and b'failed' not in out, 'writing in order, with gaps', out.decode() + text)
holds('gaps are zeroes', 'new.lz4', bytes(65536) + b'\1' * 65536 + bytes(131072) + b'\2' * (44 << 10))
before = read('new.lz4')
run(IO, '-f', 'lz4', '-c', 'write -P 9 64k 64k', 'new.lz4')
verdict(read('new.lz4') == before, 'a block is written once')

# ---- After a crash: blocks up to the first that is not whole
data = disk(65536 * 6, 8192)
write('plain.raw', data)
img('convert', '-f', 'raw', '-O', 'lz4', 'plain.raw', 'whole.lz4')
whole = read('whole.lz4')
places, at = [], 15
while struct.unpack_from('<I', whole, at)[0]:
    places.append(at)
    at += 4 + (struct.unpack_from('<I', whole, at)[0] & ~PLAIN)
write('cut.lz4', whole[:places[4] + 10])
not_read('one that is not complete', '4 of 6 blocks', 'lz4', 'cut.lz4')
status, out, text = img('check', '-f', 'lz4', '-r', 'all', 'cut.lz4')
verdict(status == 0, 'check -r completes it', text)
holds('completed after a crash', 'cut.lz4', data[:4 * 65536] + bytes(2 * 65536))
reads_as('a frame without its seek table', ('lz4', write('cut.lz4', whole[:at + 4])), data)

# ---- Frames of the lz4 tool
if tool('lz4'):
    for more in (['-B4'], ['-B5', '--no-frame-crc'], ['-B4', '-BX'], ['-B7', '-9'], ['-B6']):
        data = disk(512 * RNG.randrange(1, 6000), 8192)
        write('plain.raw', data)
        status, _, text = run('lz4', '-f', '-q', '--content-size', *more, 'plain.raw', 'theirs.lz4')
        if verdict(status == 0, f'lz4 {" ".join(more)}', text):
            reads_as(f'of lz4 --content-size {" ".join(more)}', ('lz4', 'theirs.lz4'), data)
    run('lz4', '-f', '-q', '-B4', '-BD', '--content-size', 'plain.raw', 'theirs.lz4')
    not_read('dependent blocks', 'depend on each other', 'lz4', 'theirs.lz4')
    run('lz4', '-f', '-q', '-B4', 'plain.raw', 'theirs.lz4')
    not_read('no content size', '--content-size', 'lz4', 'theirs.lz4')
else:
    skip('frames of the lz4 tool', 'lz4 is not installed')


def changed(at, layout, *values):
    broken = bytearray(whole)
    struct.pack_into(layout, broken, at, *values)
    return write('bad.lz4', broken)


# ---- Refusals
not_read('another magic number', 'no LZ4 frame', 'lz4', changed(0, '<I', 0x184d2205))
not_read('a wrong header checksum', 'checksum of its header', 'lz4', changed(14, 'B', whole[14] ^ 1))
not_read('another version', 'version', 'lz4', changed(4, 'B', 0xa8))
not_read('a dictionary', 'dictionary', 'lz4', changed(4, 'B', 0x69))
table = len(whole) - 32 - 8 * 7
not_read('an entry behind the end', 'impossible place', 'lz4', changed(table + 16, '<Q', 1 << 60))
not_read('entries out of order', 'impossible place', 'lz4', changed(table + 16, '<Q', 20))
not_read('an entry that says plain', 'plain block', 'lz4',
         changed(table + 8 * [i for i, p in enumerate(places) if not whole[p + 3] & 0x80][0] + 7, 'B', 0x80))
not_read('a file of 10 bytes', 'too few', 'lz4', write('bad.lz4', whole[:10]))
not_read('a damaged block', 'is damaged', 'lz4',
         changed([p for p in places if not whole[p + 3] & 0x80][0] + 4, '<Q', 0xffffffffffffffff))
# A match at distance 0 is no copy of anything: least of all of what memory held before.
secret, block = b'Z' * 65536, b'\x1fA\0\0' + b'\xff' * 256 + b'\xe7\x50BBBBB'
parts = [struct.pack('<I', PLAIN | 65536) + secret, struct.pack('<I', len(block)) + block] * 3
write('bad.lz4', whole[:15] + b''.join(parts) + bytes(4))
status, _, text = img('convert', '-f', 'lz4', '-O', 'raw', 'bad.lz4', 'bad.raw')
odd = read('bad.raw')[65536:131072]
verdict(status == 0 and odd[:1] == b'A' and odd[-5:] == b'BBBBB' and b'Z' not in odd, 'matches at distance 0', text)
refused('a block size that frames do not have', '64k, 256k', 'create', '-f', 'lz4', '-o', 'block_size=128k', 'x.lz4', '1M')
refused('too many blocks', 'block_size', 'create', '-f', 'lz4', 'x.lz4', '1P')
survives('random damage', 'lz4', whole)
survives('random damage without a seek table', 'lz4', whole[:at + 4])
finish()
