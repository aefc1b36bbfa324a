#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""cloop images of every version, made here and by cloop's own tool."""
import lzma
import struct
import zlib
from imgtest import RNG, disk, finish, not_read, by_qemu, read, reads_as, run, skip, survives, tool, verdict, write
from imgtest import img

HEADER = 136


def preamble(version):
    return f'#!/bin/sh\n#V{version} Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n'.encode()


def header(version, block, count):
    return preamble(version).ljust(128, b'\0') + struct.pack('>II', block, count)


def packed(data, block):
    return [zlib.compress(data[i:i + block], RNG.choice((1, 6, 9))) for i in range(0, len(data), block)]


def offsets(start, blocks):
    places = [start]
    for each in blocks:
        places.append(places[-1] + len(each))
    return places


def v2(data, block, name='2.0', order='>'):
    blocks = packed(data, block)
    places = offsets(HEADER + 8 * (len(blocks) + 1), blocks)
    index = b''.join(struct.pack(order + 'Q', at) for at in places)
    return header(name, block, len(blocks)) + index + b''.join(blocks)


def v068(data, block):
    blocks = packed(data, block)
    places = offsets(HEADER + 4 * (len(blocks) + 1), blocks)
    index = b''.join(struct.pack('>I', at) for at in places)
    return header('0.68', block, len(blocks)) + index + b''.join(blocks)


def pairs(data, block):
    """The blocks in another order than that of the disk."""
    blocks = packed(data, block)
    order = list(range(len(blocks)))
    RNG.shuffle(order)
    at, index = HEADER + 16 * len(blocks), [b''] * len(blocks)
    for number, which in enumerate(order):
        index[which] = struct.pack('>QII', at, len(blocks[which]), number)
        at += len(blocks[which])
    return header('1.0', block, len(blocks)) + b''.join(index) + b''.join(blocks[i] for i in order)


def v3(data, block):
    blocks = packed(data, block)
    index = b''.join(struct.pack('>I', len(each)) for each in blocks)
    tail = struct.pack('>II', 4, len(blocks))
    return header('3.0', block, 0xffffffff) + b''.join(blocks) + index + tail


def coded(data, block, codings):
    blocks = []
    for number, i in enumerate(range(0, len(data), block)):
        coding, part = codings[number % len(codings)], data[i:i + block]
        if coding == 0:
            body = zlib.compress(part)
        elif coding == 1:
            body = part
        else:
            body = lzma.compress(part, lzma.FORMAT_XZ)
        blocks.append((coding, body))
    return blocks


def v4(data, block, codings, footer=False):
    blocks = coded(data, block, codings)
    bodies = [body for _, body in blocks]
    places = offsets(0 if footer else HEADER + 8 * (len(blocks) + 1), bodies)
    flags = [coding for coding, _ in blocks] + [0]
    index = b''.join(struct.pack('>Q', at | flag << 60) for at, flag in zip(places, flags))
    head = header('4.0', block, len(blocks))
    return b''.join(bodies) + index + head if footer else head + index + b''.join(bodies)


for size, block in ((65536 * 7, 65536), (512 * 333, 512), (4096 * 100, 4096), (3 << 20, 1 << 20), (66048 * 3, 66048)):
    data = disk(size)
    for name, image in (('V0.68', v068(data, block)), ('V1.0', v2(data, block, '1.0', '<')),
                        ('V1.0, accelerated', pairs(data, block)), ('V2.0', v2(data, block)),
                        ('V3.0', v3(data, block)), ('V4.0', v4(data, block, (0, 1, 2))),
                        ('V4.0, header last', v4(data, block, (1, 0), True))):
        path = write('a.cloop', image)
        reads_as(f'{name}, blocks of {block}', ('cloop', path), data)
        if name == 'V2.0':
            by_qemu(f'{name}, blocks of {block}: QEMU agrees', 'cloop', path, data)

data = disk(100 * 4096)
for name, image in (('V2.0', v2(data, 4096)), ('V3.0', v3(data, 4096)), ('V4.0', v4(data, 4096, (0, 1))),
                    ('V4.0, header last', v4(data, 4096, (0,), True))):
    write('probe.img', image)
    status, out, text = img('info', 'probe.img')
    verdict(status == 0 and b'file format: cloop' in out, f'{name} is recognised', text)

if tool('create_compressed_fs'):
    for arguments in (['-B', '65536'], ['-B', '8192'], ['-B', '131072', '-q']):
        size = 262144 * 3
        data = disk(size)
        write('plain.raw', data)
        status, _, text = run('create_compressed_fs', *arguments, 'plain.raw', 'theirs.cloop')
        if status:
            verdict(False, f'create_compressed_fs {arguments}', text)
            continue
        reads_as(f'of create_compressed_fs {" ".join(arguments)}', ('cloop', 'theirs.cloop'), data)
        by_qemu('and QEMU agrees', 'cloop', 'theirs.cloop', data)
else:
    skip('images of create_compressed_fs', 'it is not installed (cloop-utils)')

# ---- Refusals
good = v2(disk(16 * 4096), 4096)


def changed(at, layout, *values):
    image = bytearray(good)
    struct.pack_into(layout, image, at, *values)
    return write('bad.cloop', image)


not_read('blocks of 0 bytes', 'block size', 'cloop', changed(128, '>I', 0))
not_read('blocks of 513 bytes', 'block size', 'cloop', changed(128, '>I', 513))
not_read('blocks of 1 GiB', 'block size', 'cloop', changed(128, '>I', 1 << 30))
not_read('more blocks than the file has room for', 'larger than the file', 'cloop', changed(132, '>I', 0xfffffff0))
not_read('a V3.0 tail that is none', 'index', 'cloop', changed(132, '>I', 0xffffffff))
not_read('a block behind the end', 'impossible place', 'cloop', changed(136 + 8 * 7, '>Q', 1 << 40))
not_read('a block of negative length', 'impossible place', 'cloop', changed(136 + 8 * 7, '>Q', 200))
not_read('a first block behind the end', 'impossible place', 'cloop', changed(136 + 4, '>I', 1 << 30))
not_read('a damaged block', 'is damaged', 'cloop', changed(300, '>Q', 0x1234567890abcdef))
not_read('a file of 10 bytes', 'too few', 'cloop', write('bad.cloop', good[:10]))
not_read('a version from the future', 'version 7', 'cloop', changed(11, '4s', b'V7.0'))
image = bytearray(v4(disk(16 * 4096), 4096, (0,)))
struct.pack_into('>B', image, 136 + 8 * 3, 0x40)
not_read('lzo', 'lzo', 'cloop', write('bad.cloop', image))
not_read('a truncated file', 'impossible place', 'cloop', write('bad.cloop', good[:-100]))
survives('random damage', 'cloop', v2(disk(4096 * 4), 4096))
survives('random damage to V4.0', 'cloop', v4(disk(4096 * 4), 4096, (0, 1), True))
verdict(read(write('a.cloop', good)) == good and img('info', '-f', 'cloop', 'a.cloop')[0] == 0
        and read('a.cloop') == good, 'info changes nothing')
finish()
