#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""qcow images of version 1: compressed ones, damaged ones, refused ones; what QEMU and libqcow say of them."""
import os
import random
import shutil
import struct
import sys

from formattest import OURS, QEMU, Tap, attempt, content, expect, patch, read, refused, run, whole

PACKED = 1 << 63


def small(folder, *commands):
    """An image of 8 MiB: L1 table at 48, L2 table at 4k, data from 8k on."""
    path = os.path.join(folder, 'small.qcow')
    run(OURS['img'], 'create', '-q', '-f', 'qcow', path, '8M')
    for command in commands:
        run(OURS['io'], '-f', 'qcow', '-c', command, path)
    return path


L1, L2, DATA = 48, 4096, 8192


def layout(folder):
    path = small(folder, 'write -P 1 0 8k')
    expect(read(path, '>Q', L1) == L2, 'the L2 table is not behind the L1 table')
    expect(read(path, '>Q', L2) == DATA and read(path, '>Q', L2 + 8) == DATA + 4096, 'the data is elsewhere')
    theirs = os.path.join(folder, 'theirs.qcow')
    run(QEMU['img'], 'create', '-q', '-f', 'qcow', theirs, '8M')
    ours = small(folder)
    expect(whole(ours)[24:80] == whole(theirs)[24:80], 'an empty image is not as QEMU makes it')


def backing(folder):
    base, top = os.path.join(folder, 'base.qcow'), os.path.join(folder, 'top.qcow')
    run(OURS['img'], 'create', '-q', '-f', 'qcow', base, '1M')
    run(OURS['io'], '-f', 'qcow', '-c', 'write -P 8 0 1M', base)
    for tool, other in ((OURS, QEMU), (QEMU, OURS)):
        run(tool['img'], 'create', '-q', '-f', 'qcow', '-b', 'base.qcow', '-F', 'qcow', top)
        run(tool['io'], '-f', 'qcow', '-c', 'write -P 9 700 700', top)
        expect(read(top, 'B', 32) == 9 and read(top, 'B', 33) == 12, 'an overlay has large clusters')
        found = content(other, top, 'qcow')
        expect(found == b'\x08' * 512 + b'\x08' * 188 + b'\x09' * 700 + b'\x08' * ((1 << 20) - 1400), 'wrong contents')
        expect('backing file: base.qcow' in run(other['img'], 'info', top), 'the backing file is not named')
    refused('at most', OURS['img'], 'create', '-f', 'qcow', '-u', '-b', 'x' * 1024, '-F', 'raw', top, '1M')


def options(folder):
    path = os.path.join(folder, 'o.qcow')
    for option, word in (('encryption=on', 'encryption'), ('encrypt.format=aes', 'encryption'),
                         ('cluster_size=64k', 'cluster_size')):
        refused(word, OURS['img'], 'create', '-f', 'qcow', '-o', option, path, '1M')
        expect(not os.path.exists(path), f'{option} left a file')
    refused('0 bytes', OURS['img'], 'create', '-f', 'qcow', path, '0')
    run(OURS['img'], 'create', '-q', '-f', 'qcow', path, '2T')
    run(OURS['io'], '-f', 'qcow', '-c', 'write -P 9 2000G 64k', path)
    run(QEMU['io'], '-f', 'qcow', '-c', 'read -P 9 2000G 64k', path)


def sample(length):
    """Bytes that pack well, badly and not at all."""
    rng = random.Random(length)
    data = bytearray()
    while len(data) < length:
        kind = rng.randrange(3)
        data += rng.randbytes(4096) if kind == 0 else bytes(4096) if kind == 1 else (rng.randbytes(200) * 21)[:4096]
    return bytes(data[:length])


def packed(folder):
    raw, path = os.path.join(folder, 'raw'), os.path.join(folder, 'packed.qcow')
    data = sample((1 << 20) + 512)
    with open(raw, 'wb') as f:
        f.write(data)
    run(OURS['img'], 'convert', '-c', '-f', 'raw', '-O', 'qcow', raw, path)
    expect(os.path.getsize(path) < len(data) * 2 // 3, 'nothing was packed')
    for tool in (OURS, QEMU):
        expect(content(tool, path, 'qcow') == data, f'{tool["name"]} reads other bytes')
    status, text = attempt(OURS['img'], 'check', path)
    expect(status == 0 and 'compressed' in text, text)
    for tool, value in ((OURS, 0x11), (QEMU, 0x22), (OURS, 0x33)):
        run(tool['io'], '-f', 'qcow', '-c', f'write -P {value} {value * 4096 + 100} 5000', path)
        data = data[:value * 4096 + 100] + bytes([value]) * 5000 + data[value * 4096 + 5100:]
    for tool in (OURS, QEMU):
        expect(content(tool, path, 'qcow') == data, f'{tool["name"]} reads other bytes after writing')


def packed_by_qemu(folder):
    path = os.path.join(folder, 'theirs.qcow')
    run(QEMU['img'], 'create', '-q', '-f', 'qcow', path, '1M')
    for i in range(20):
        run(QEMU['io'], '-f', 'qcow', '-c', f'write -c -P {i + 1} {i * 8192} 4k', path)
    data = b''.join(bytes([i + 1]) * 4096 + bytes(4096) for i in range(20))
    expect(content(OURS, path, 'qcow') == data + bytes((1 << 20) - len(data)), 'wrong contents')
    expect(read(path, '>Q', L2) & PACKED, 'QEMU packed nothing')


def by_libqcow(folder):
    text = run('qcowinfo', small(folder, 'write -P 1 1M 64k'))
    expect('8.0 MiB (8388608 bytes)' in text, text)


def encrypted(folder):
    path = os.path.join(folder, 'secret.qcow')
    run(QEMU['img'], 'create', '-q', '-f', 'qcow', '--object', 'secret,id=s,data=password', '-o',
        'encrypt.format=aes,encrypt.key-secret=s', path, '1M')
    refused('encrypted', OURS['img'], 'convert', '-f', 'qcow', '-O', 'raw', path, os.path.join(folder, 'r'))
    expect('encrypted: yes' in run(OURS['img'], 'info', path), 'info does not say that it is encrypted')


def repairs(folder):
    path = small(folder, 'write -P 1 0 4k', 'write -P 2 4k 4k', 'write -P 3 8k 4k')
    for entry in (1, 513, 0x7fffffffffff0000, PACKED, PACKED | 1 << 51 | 0x7fffffff, PACKED | 1 << 51):
        patch(path, '>Q', L2 + 8, entry)
        status, text = attempt(OURS['img'], 'check', path)
        expect(status == 2, f'check of 0x{entry:x}: {status}\n{text}')
        refused('corrupt', OURS['img'], 'convert', '-f', 'qcow', '-O', 'raw', path, os.path.join(folder, 'r'))
    run(OURS['img'], 'check', '-q', '-r', 'all', path)
    run(OURS['img'], 'check', '-q', path)
    expect(content(QEMU, path, 'qcow')[:12288] == b'\1' * 4096 + bytes(4096) + b'\3' * 4096, 'wrong contents')


def used_twice(folder):
    path = small(folder, 'write -P 1 0 4k', 'write -P 2 4k 4k')
    patch(path, '>Q', L2 + 8, DATA)
    status, text = attempt(OURS['img'], 'check', path)
    expect(status == 2, f'check: {status}\n{text}')
    attempt(OURS['img'], 'check', '-r', 'all', path)
    run(OURS['img'], 'check', '-q', path)
    run(OURS['io'], '-f', 'qcow', '-c', 'write -P 7 0 4k', path)
    expect(content(QEMU, path, 'qcow')[:8192] == b'\7' * 4096 + b'\1' * 4096, 'the two are still one')


def bad_tables(folder):
    for entry in (1, 256, 0, 48, 0x7fffffffffff0000, 0xffffffffffff0000):
        path = small(folder, 'write -P 1 0 64k')
        patch(path, '>Q', L1, entry)
        if entry:
            refused('corrupt', OURS['img'], 'convert', '-f', 'qcow', '-O', 'raw', path, os.path.join(folder, 'r'))
            refused('failed', OURS['io'], '-f', 'qcow', '-c', 'write 0 512', path)
            expect(read(path, '>Q', L1) == entry, 'a refused write changed the table')
        run(OURS['img'], 'check', '-q', '-r', 'all', path)
        run(OURS['img'], 'check', '-q', path)


def lost_tail(folder):
    path = small(folder, 'write -P 1 0 64k')
    length = os.path.getsize(path)
    with open(path, 'ab') as f:
        f.write(b'lost' * 4096)
    status, text = attempt(OURS['img'], 'check', path)
    expect(status == 3, f'check: {status}\n{text}')
    run(OURS['img'], 'check', '-q', '-r', 'leaks', path)
    expect(os.path.getsize(path) == length, 'the end is still there')
    # A name of the backing file that is empty is at a place all the same.
    with open(path, 'ab') as f:
        f.write(bytes(4096))
    patch(path, '>Q', 8, length + 1024)
    patch(path, '>I', 16, 9)
    attempt(OURS['img'], 'check', '-q', '-r', 'all', path)
    run(OURS['img'], 'check', '-q', path)


def bad_headers(folder):
    for offset, fmt, value in ((24, '>Q', 0), (24, '>Q', 1), (24, '>Q', 1 << 63), (24, '>Q', 1 << 62), (32, 'B', 8),
                               (32, 'B', 17), (33, 'B', 5), (33, 'B', 14), (36, '>I', 2), (40, '>Q', 0), (40, '>Q', 52),
                               (40, '>Q', 1 << 40), (40, '>Q', 0xfffffffffffffff8), (4, '>I', 7)):
        path = small(folder)
        patch(path, fmt, offset, value)
        refused('qcow', OURS['img'], 'convert', '-f', 'qcow', '-O', 'raw', path, os.path.join(folder, 'r'))
    path = small(folder)
    with open(path, 'r+b') as f:
        f.seek(8)
        f.write(struct.pack('>QI', 48, 5000))
    refused('backing file name', OURS['img'], 'info', path)


def main():
    tap = Tap()
    for function in (layout, backing, options, packed, packed_by_qemu, encrypted, repairs, used_twice, bad_tables,
                     lost_tail, bad_headers):
        tap.test(function.__name__.replace('_', ' '), function)
    if shutil.which('qcowinfo'):
        tap.test('by libqcow', by_libqcow)
    tap.end()


if __name__ == '__main__':
    sys.exit(main())
