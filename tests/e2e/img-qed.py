#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""QED images: made with all options, damaged and repaired, refused; what QEMU says of them."""
import os

from formattest import OURS, QEMU, Tap, attempt, content, expect, patch, read, refused, run, whole

CLUSTER, TABLE = 65536, 4


def small(folder, *commands):
    """An image of 8 MiB: header, L1 table at 64k, L2 table at 320k, data from 576k on."""
    path = os.path.join(folder, 'small.qed')
    run(OURS['img'], 'create', '-q', '-f', 'qed', path, '8M')
    for command in commands:
        run(OURS['io'], '-f', 'qed', '-c', command, path)
    return path


L1, L2, DATA = CLUSTER, CLUSTER * (1 + TABLE), CLUSTER * (1 + 2 * TABLE)
NEED_CHECK = 2


def layout(folder):
    path = small(folder, 'write -P 1 0 128k')
    expect(read(path, '<Q', L1) == L2, 'the L2 table is not behind the L1 table')
    expect(read(path, '<Q', L2) == DATA, 'the data is not behind the tables')
    expect(read(path, '<Q', 16) == 0, 'feature bits are set in a closed image')
    expect(os.path.getsize(path) == DATA + 2 * CLUSTER, 'the file has a wrong length')


def options(folder):
    path = os.path.join(folder, 'o.qed')
    for option, word in (('cluster_size=5000', 'power of two'), ('cluster_size=2k', 'cluster_size'),
                         ('cluster_size=128M', 'cluster_size'), ('table_size=3', 'table_size'), ('table_size=1', 'table_size'),
                         ('table_size=32', 'table_size'), ('nonsense=1', 'nonsense')):
        refused(word, OURS['img'], 'create', '-f', 'qed', '-o', option, path, '1M')
        expect(not os.path.exists(path), f'{option} left a file')
    refused('too large', OURS['img'], 'create', '-f', 'qed', '-o', 'cluster_size=4k,table_size=2', path, '5G')
    run(OURS['img'], 'create', '-q', '-f', 'qed', '-o', 'cluster_size=4k,table_size=2', path, '4G')
    run(QEMU['img'], 'check', path)
    run(OURS['img'], 'create', '-q', '-f', 'qed', path, '60T')
    run(OURS['io'], '-f', 'qed', '-c', 'write -P 9 59T 64k', path)
    run(QEMU['io'], '-f', 'qed', '-c', 'read -P 9 59T 64k', path)


def backing_format(folder):
    base, top = os.path.join(folder, 'base'), os.path.join(folder, 'top.qed')
    with open(base, 'wb') as f:
        f.write(b'\x5a' * (1 << 20))
    for tool, other in ((OURS, QEMU), (QEMU, OURS)):
        run(tool['img'], 'create', '-q', '-f', 'qed', '-b', 'base', '-F', 'raw', top)
        text = run(other['img'], 'info', top)
        expect('backing file: base' in text and 'backing file format: raw' in text, text)
        expect(content(other, top, 'qed') == b'\x5a' * (1 << 20), 'the backing file is not read')
    run(OURS['img'], 'rebase', '-u', '-f', 'qed', '-b', '', top)
    expect('backing file' not in run(QEMU['img'], 'info', top), 'the backing file is still named')
    expect(content(QEMU, top, 'qed') == bytes(1 << 20), 'there is something without a backing file')
    refused('', OURS['img'], 'create', '-f', 'qed', '-u', '-b', 'x' * 1024, '-F', 'raw', top, '1M')


def need_check(folder):
    path = small(folder, 'write -P 1 0 64k', 'write -P 2 1M 64k')
    patch(path, '<Q', 16, NEED_CHECK)
    before = whole(path)
    expect(content(OURS, path, 'qed')[:65536] == b'\1' * 65536, 'a marked image is not read')
    expect(whole(path) == before, 'reading changed the file')
    with open(path, 'ab') as f:
        f.write(b'lost' * 16384)
    run(OURS['io'], '-f', 'qed', '-c', 'write -P 3 2M 64k', path)
    expect(read(path, '<Q', 16) == 0, 'the mark is still there')
    expect(os.path.getsize(path) == DATA + 3 * CLUSTER, 'what was lost at the end is still there')
    run(QEMU['img'], 'check', path)


def left_open(folder):
    path = small(folder)
    attempt(OURS['io'], '-f', 'qed', '-c', 'write -P 1 0 64k', '-c', 'flush', '-c', 'abort', path)
    expect(read(path, '<Q', 16) == NEED_CHECK, 'a program that crashed left no mark')
    run(QEMU['io'], '-f', 'qed', '-c', 'read -P 1 0 64k', path)
    expect(read(path, '<Q', 16) == 0, 'QEMU did not recover it')


def repairs(folder):
    path = small(folder, 'write -P 1 0 64k', 'write -P 2 64k 64k', 'write -P 3 128k 64k')
    patch(path, '<Q', L2 + 8, 0x123456789000)
    for tool in (OURS, QEMU):
        status, text = attempt(tool['img'], 'check', path)
        expect(status == 2, f'{tool["name"]} check: {status}\n{text}')
    refused('corrupt', OURS['img'], 'convert', '-f', 'qed', '-O', 'raw', path, os.path.join(folder, 'r'))
    status, text = attempt(OURS['img'], 'check', '-r', 'all', path)
    # The cluster between the others that the damaged entry stood for cannot be given back.
    expect(status == 3, f'check -r all: {status}\n{text}')
    expect(content(QEMU, path, 'qed')[:196608] == b'\1' * 65536 + bytes(65536) + b'\3' * 65536, 'wrong contents')


def used_twice(folder):
    path = small(folder, 'write -P 1 0 64k', 'write -P 2 64k 64k')
    patch(path, '<Q', L2 + 8, DATA)
    for tool in (OURS, QEMU):
        status, text = attempt(tool['img'], 'check', path)
        expect(status == 2, f'{tool["name"]} check: {status}\n{text}')
    patch(path, '<Q', 16, NEED_CHECK)
    refused('check -r all', OURS['io'], '-f', 'qed', '-c', 'write 0 4k', path)
    attempt(OURS['img'], 'check', '-r', 'all', path)
    status, text = attempt(QEMU['img'], 'check', path)
    expect(status in (0, 3), text)
    run(OURS['io'], '-f', 'qed', '-c', 'write -P 7 0 64k', path)
    expect(content(QEMU, path, 'qed')[:131072] == b'\7' * 65536 + b'\1' * 65536, 'the two are still one')


def bad_tables(folder):
    for entry in (1, 12345, 0x10000, 0x7fffffff0000, 0xffffffffffff0000):
        path = small(folder, 'write -P 1 0 64k')
        patch(path, '<Q', L1, entry)
        refused('corrupt', OURS['img'], 'convert', '-f', 'qed', '-O', 'raw', path, os.path.join(folder, 'r'))
        refused('failed', OURS['io'], '-f', 'qed', '-c', 'write 0 512', path)
        expect(read(path, '<Q', L1) == entry, 'a refused write changed the table')
        run(OURS['img'], 'check', '-q', '-r', 'all', path)
        run(QEMU['img'], 'check', path)


def bad_headers(folder):
    for offset, fmt, value in ((4, '<I', 0), (4, '<I', 4097), (4, '<I', 1 << 27), (8, '<I', 0), (8, '<I', 3),
                               (8, '<I', 32), (12, '<I', 0), (12, '<I', 1 << 20), (16, '<Q', 8), (40, '<Q', 0),
                               (40, '<Q', 1), (40, '<Q', 1 << 62), (48, '<Q', 513), (48, '<Q', 1 << 63)):
        path = small(folder)
        patch(path, fmt, offset, value)
        refused('qed', OURS['img'], 'convert', '-f', 'qed', '-O', 'raw', path, os.path.join(folder, 'r'))
    path = small(folder)
    patch(path, '<Q', 16, 1)
    patch(path, '<I', 56, 64)
    patch(path, '<I', 60, 4096)
    refused('backing file name', OURS['img'], 'info', path)


def autoclear(folder):
    path = small(folder, 'write 0 64k')
    patch(path, '<Q', 32, 0x30)
    run(OURS['io'], '-f', 'qed', '-c', 'read 0 64k', path)
    expect(read(path, '<Q', 32) == 0x30, 'reading cleared unknown bits')
    run(OURS['io'], '-f', 'qed', '-c', 'write 0 512', path)
    expect(read(path, '<Q', 32) == 0, 'writing kept unknown bits')


def zero_clusters(folder):
    base, top = os.path.join(folder, 'base'), os.path.join(folder, 'top.qed')
    with open(base, 'wb') as f:
        f.write(b'\x5a' * (4 << 20))
    run(OURS['img'], 'create', '-q', '-f', 'qed', '-b', 'base', '-F', 'raw', top, '1000000')
    run(OURS['io'], '-f', 'qed', '-c', 'write -z 128k 128k', top)
    expect(read(top, '<Q', L2 + 16) == 1, 'no zero cluster was made')
    run(OURS['img'], 'resize', '-q', '-f', 'qed', top, '3M')
    found = content(QEMU, top, 'qed')
    end = 1000448
    expect(found == b'\x5a' * 131072 + bytes(131072) + b'\x5a' * (end - 262144) + bytes((3 << 20) - end),
           'the grown part is not zero, or the rest is not what it was')
    refused('shrink', OURS['img'], 'resize', '--shrink', '-f', 'qed', top, '1M')


def main():
    tap = Tap()
    for function in (layout, options, backing_format, need_check, left_open, repairs, used_twice, bad_tables,
                     bad_headers, autoclear, zero_clusters):
        tap.test(function.__name__.replace('_', ' '), function)
    tap.end()


if __name__ == '__main__':
    main()
