#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parallels images: marks, bitmaps, damaged and refused ones; what QEMU says of them."""
import hashlib
import json
import os
import struct
import sys

from formattest import OURS, QEMU, Tap, attempt, content, expect, patch, read, refused, run, whole

CLUSTER, BAT = 65536, 64
IN_USE, CLOSED = 0x746f6e59, 0x312e3276


def small(folder, *commands):
    """An image of 4 MiB in clusters of 64k, the first at 64k."""
    path = os.path.join(folder, 'small.hds')
    run(OURS['img'], 'create', '-q', '-f', 'parallels', '-o', f'cluster_size={CLUSTER}', path, '4M')
    for command in commands:
        run(OURS['io'], '-f', 'parallels', '-c', command, path)
    return path


def old_image(folder, tracks=63, clusters=20, data_off=0):
    """A WithoutFreeSpace image as old programs made them; clusters 3 and 1 have data."""
    path = os.path.join(folder, 'old.hds')
    start = data_off or (64 + 4 * clusters + 511) // 512
    bat = [0] * clusters
    bat[3], bat[1] = start, start + tracks
    head = b'WithoutFreeSpace' + struct.pack('<IIIIIQIIIQ', 2, 16, 1, tracks, clusters, clusters * tracks, 0, data_off, 0, 0)
    with open(path, 'wb') as f:
        f.write((head + struct.pack(f'<{clusters}I', *bat)).ljust(start * 512, b'\0'))
        f.write(b'\3' * tracks * 512 + b'\1' * tracks * 512)
    wanted = bytearray(clusters * tracks * 512)
    for number in (1, 3):
        wanted[number * tracks * 512:(number + 1) * tracks * 512] = bytes([number]) * tracks * 512
    return path, bytes(wanted)


def as_qemu_makes_it(folder):
    for options, size in (('cluster_size=1M', '100M'), ('cluster_size=64k', '777k'), ('cluster_size=1M', '1T')):
        ours, theirs = os.path.join(folder, 'ours'), os.path.join(folder, 'theirs')
        run(OURS['img'], 'create', '-q', '-f', 'parallels', '-o', options, ours, size)
        run(QEMU['img'], 'create', '-q', '-f', 'parallels', '-o', options, theirs, size)
        expect(whole(ours) == whole(theirs), f'{options} of {size} is not as QEMU makes it')


def options(folder):
    path = os.path.join(folder, 'o.hds')
    for option, word in (('cluster_size=100', 'cluster_size'), ('cluster_size=2G', 'cluster_size'),
                         ('backing_file=x', 'backing_file')):
        refused(word, OURS['img'], 'create', '-f', 'parallels', '-o', option, path, '1M')
        expect(not os.path.exists(path), f'{option} left a file')
    refused('larger clusters', OURS['img'], 'create', '-f', 'parallels', '-o', 'cluster_size=512', path, '1P')


def old_images(folder):
    for tracks, data_off in ((63, 0), (63, 10), (128, 128), (1, 0)):
        path, wanted = old_image(folder, tracks, data_off=data_off)
        for tool in (OURS, QEMU):
            expect(content(tool, path, 'parallels') == wanted, f'{tool["name"]} reads {tracks} sectors wrongly')
        run(OURS['io'], '-f', 'parallels', '-c', f'write -P 9 {tracks * 512 * 7} {tracks * 1024}', path)
        wanted = wanted[:tracks * 3584] + b'\x09' * tracks * 1024 + wanted[tracks * 4608:]
        for tool in (OURS, QEMU):
            expect(content(tool, path, 'parallels') == wanted, f'{tool["name"]} reads {tracks} sectors wrongly, written')
            run(tool['img'], 'check', '-q', path)


def left_open(folder):
    path = small(folder, 'write -P 1 0 64k')
    expect(read(path, '<I', 44) == 0, 'a closed image is marked')
    attempt(OURS['io'], '-f', 'parallels', '-c', 'write -P 2 64k 64k', '-c', 'flush', '-c', 'abort', path)
    expect(read(path, '<I', 44) == IN_USE, 'a program that crashed left no mark')
    for tool in (OURS, QEMU):
        status, text = attempt(tool['img'], 'check', path)
        expect(status == 2, f'{tool["name"]} check: {status}\n{text}')
    before = whole(path)
    expect(content(OURS, path, 'parallels')[:131072] == b'\1' * 65536 + b'\2' * 65536, 'it is not read')
    expect(whole(path) == before, 'reading changed the file')
    with open(path, 'ab') as f:
        f.write(b'lost' * CLUSTER)
    run(OURS['io'], '-f', 'parallels', '-c', 'write -P 3 128k 64k', path)
    expect(read(path, '<I', 44) == 0, 'the mark is still there')
    expect(os.path.getsize(path) == 4 * CLUSTER, 'what was lost at the end is still there')
    run(QEMU['img'], 'check', '-q', path)
    patch(path, '<I', 44, IN_USE)
    run(OURS['img'], 'check', '-q', '-r', 'all', path)
    expect(read(path, '<I', 44) == 0, 'check -r all left the mark')


def opened_only(folder):
    path = small(folder, 'write -P 1 0 64k')
    before = whole(path)
    run(OURS['io'], '-f', 'parallels', '-c', 'read 0 64k', path)
    expect(whole(path) == before, 'opening for writing changed the file')


def extension(folder, necessary=0, magic=0x20385fae252cb34a):
    """The image with a bitmap of granularity 64k whose one cluster stands behind the extension."""
    path = small(folder, 'write -P 1 0 64k')
    bitmap = struct.pack('<Q', 8192) + bytes(range(16)) + struct.pack('<IIQ', 128, 1, 3 * 128)
    body = struct.pack('<QQII', magic, necessary, len(bitmap), 0) + bitmap + bytes(24)
    body = body.ljust(CLUSTER - 24, b'\0')
    with open(path, 'ab') as f:
        f.write(struct.pack('<Q', 0xab234cef23dcea87) + hashlib.md5(body).digest() + body)
        f.write(b'\xff' * CLUSTER)
    patch(path, '<I', 44, CLOSED)
    patch(path, '<Q', 56, 2 * 128)
    return path


def bitmaps(path):
    info = json.loads(run(OURS['img'], 'info', '--output=json', path))
    return info.get('format-specific', {}).get('data', {}).get('bitmaps', [])


def dirty_bitmaps(folder):
    path = extension(folder)
    wanted = [{'name': '00010203-0405-0607-0809-0a0b0c0d0e0f', 'granularity': 65536}]
    expect(bitmaps(path) == wanted, f'info shows {bitmaps(path)}')
    run(OURS['img'], 'check', '-q', path)
    before = whole(path)
    run(OURS['io'], '-f', 'parallels', '-c', 'read 0 64k', path)
    expect(whole(path) == before, 'reading changed the file')
    run(OURS['io'], '-f', 'parallels', '-c', 'write -P 5 0 512', path)
    expect(bitmaps(path) == [] and read(path, '<Q', 56) == 0, 'a stale bitmap is still there')
    expect(content(QEMU, path, 'parallels')[:65536] == b'\5' * 512 + b'\1' * 65024, 'wrong contents')
    path = extension(folder)
    patch(path, '<I', 44, 0)
    expect(bitmaps(path) == [], 'the bitmap of who does not keep it is shown')


def damaged_extension(folder):
    path = extension(folder)
    patch(path, 'B', 2 * CLUSTER + 5000, 1)
    refused('checksum', OURS['img'], 'convert', '-f', 'parallels', '-O', 'raw', path, os.path.join(folder, 'r'))
    status, text = attempt(OURS['img'], 'check', path)
    expect(status == 2, f'check: {status}\n{text}')
    run(OURS['img'], 'check', '-q', '-r', 'all', path)
    run(OURS['img'], 'check', '-q', path)
    path = extension(folder, necessary=1, magic=77)
    run(OURS['img'], 'convert', '-f', 'parallels', '-O', 'raw', path, os.path.join(folder, 'r'))
    refused('necessary', OURS['io'], '-f', 'parallels', '-c', 'write 0 512', path)


def repairs(folder):
    for entry in (0x7fffffff, 100):
        path = small(folder, 'write -P 1 0 64k', 'write -P 2 64k 64k', 'write -P 3 128k 64k')
        patch(path, '<I', BAT + 4, entry)
        for tool in (OURS, QEMU):
            status, text = attempt(tool['img'], 'check', path)
            expect(status == 2, f'{tool["name"]} check of {entry}: {status}\n{text}')
        refused('corrupt', OURS['img'], 'convert', '-f', 'parallels', '-O', 'raw', path, os.path.join(folder, 'r'))
        run(OURS['img'], 'check', '-q', '-r', 'all', path)
        run(QEMU['img'], 'check', '-q', path)
        expect(content(QEMU, path, 'parallels')[:196608] == b'\1' * 65536 + bytes(65536) + b'\3' * 65536, 'wrong contents')


def used_twice(folder):
    path = small(folder, 'write -P 1 0 64k', 'write -P 2 64k 64k')
    patch(path, '<I', BAT + 4, 1)
    status, text = attempt(OURS['img'], 'check', path)
    expect(status == 2, f'check: {status}\n{text}')
    patch(path, '<I', 44, IN_USE)
    patch(path, '<I', BAT + 8, 0x18000000)  # by itself this is mended when the image is opened
    before = whole(path)
    refused('check -r all', OURS['io'], '-f', 'parallels', '-c', 'write 0 4k', path)
    expect(whole(path) == before, 'what was refused has changed the file')
    run(OURS['img'], 'check', '-q', '-r', 'all', path)
    run(OURS['img'], 'check', '-q', path)
    run(OURS['io'], '-f', 'parallels', '-c', 'write -P 7 0 64k', path)
    expect(content(QEMU, path, 'parallels')[:131072] == b'\7' * 65536 + b'\1' * 65536, 'the two are still one')


def growing(folder):
    path = small(folder, 'write -P 1 0 4M')
    run(OURS['img'], 'resize', '-q', '-f', 'parallels', path, '5M')
    run(OURS['io'], '-f', 'parallels', '-c', 'write -P 2 4608k 64k', path)
    wanted = b'\1' * (4 << 20) + bytes(512 << 10) + b'\2' * 65536 + bytes((448 << 10))
    for tool in (OURS, QEMU):
        expect(content(tool, path, 'parallels') == wanted, f'{tool["name"]} reads the grown image wrongly')
    refused('no room', OURS['img'], 'resize', '-f', 'parallels', path, '10G')
    refused('only grow', OURS['img'], 'resize', '--shrink', '-f', 'parallels', path, '1M')


def bad_headers(folder):
    for offset, fmt, value in ((16, '<I', 3), (28, '<I', 0), (28, '<I', 1 << 23), (32, '<I', 1 << 30), (32, '<I', 1),
                               (32, '<I', 1 << 20), (36, '<Q', 1 << 63), (36, '<Q', 1 << 40)):
        path = small(folder)
        patch(path, fmt, offset, value)
        refused('arallels', OURS['img'], 'convert', '-f', 'parallels', '-O', 'raw', path, os.path.join(folder, 'r'))


TOP = '{5fbaabe3-6958-40ff-92a7-860e329aab41}'
SNAPSHOT, NOBODY = '{aaaaaaaa-0000-0000-0000-000000000001}', '{00000000-0000-0000-0000-000000000000}'


def image_tag(guid, kind, name):
    return f'<Image><GUID>{guid}</GUID><Type>{kind}</Type><File>{name}</File></Image>'


def describe(folder, parts, shots='', size=None, more=''):
    """Writes DiskDescriptor.xml; @parts are (sectors, image tags)."""
    start, storages = 0, ''
    for sectors, images in parts:
        storages += (f'<Storage><Start>{start}</Start><End>{start + sectors}</End><Blocksize>2048</Blocksize>'
                     f'{images}</Storage>')
        start += sectors
    path = os.path.join(folder, 'DiskDescriptor.xml')
    with open(path, 'w', encoding='utf-8') as f:
        f.write('<?xml version="1.0" encoding="UTF-8"?>\n<Parallels_disk_image Version="1.0">\n'
                f'<Disk_Parameters><Disk_size>{size or start}</Disk_size>{more}</Disk_Parameters>'
                f'<StorageData>{storages}</StorageData><Snapshots>{shots}</Snapshots></Parallels_disk_image>\n')
    return path


def bundle_image(folder, name, size, value=None):
    path = os.path.join(folder, name)
    run(OURS['img'], 'create', '-q', '-f', 'parallels', '-o', 'cluster_size=64k', path, str(size))
    if value:
        run(OURS['io'], '-f', 'parallels', '-c', f'write -P {value} 64k 64k', path)
    return path


def bundle_split(folder):
    bundle_image(folder, 'b.0.hds', 1 << 20, 1)
    with open(os.path.join(folder, 'b.1.hdd'), 'wb') as f:
        f.write(b'\x77' * (1 << 19))
    bundle_image(folder, 'b.2.hds', 1 << 20)
    path = describe(folder, [(2048, image_tag(TOP, 'Compressed', 'b.0.hds')), (1024, image_tag(TOP, 'Plain', 'b.1.hdd')),
                             (2048, image_tag(TOP, 'Compressed', 'b.2.hds'))])
    wanted = bytes(65536) + b'\1' * 65536 + bytes((1 << 20) - 131072) + b'\x77' * (1 << 19) + bytes(1 << 20)
    expect('parallels-bundle' in run(OURS['img'], 'info', path), 'it is not recognised')
    expect(content(OURS, path, 'parallels-bundle') == wanted, 'wrong contents')
    at = (1 << 20) - 5000
    run(OURS['io'], '-c', f'write -P 9 {at} {5000 + (1 << 19) + 3000}', path)
    wanted = wanted[:at] + b'\x09' * (8000 + (1 << 19)) + bytes((1 << 20) - 3000)
    expect(content(OURS, path, 'parallels-bundle') == wanted, 'wrong contents after writing')
    theirs = content(QEMU, os.path.join(folder, 'b.0.hds'), 'parallels') + whole(os.path.join(folder, 'b.1.hdd'))
    expect(theirs + content(QEMU, os.path.join(folder, 'b.2.hds'), 'parallels') == wanted, 'QEMU reads other parts')
    run(OURS['io'], '-d', 'unmap', '-c', f'discard {1 << 20} {1 << 19}', '-c', f'write -z {at} 5000', path)
    expect(content(OURS, path, 'parallels-bundle') == wanted[:at] + bytes(8000 + (1 << 19) - 3000) + wanted[-(1 << 20):],
           'wrong contents after discarding')


def bundle_snapshots(folder):
    bundle_image(folder, 'base.hds', 1 << 20, 1)
    top = bundle_image(folder, 'top.hds', 1 << 20)
    images = image_tag(SNAPSHOT, 'Compressed', 'base.hds') + image_tag(TOP, 'Compressed', 'top.hds')
    shots = (f'<Shot><GUID>{SNAPSHOT}</GUID><ParentGUID>{NOBODY}</ParentGUID></Shot>'
             f'<Shot><GUID>{TOP}</GUID><ParentGUID>{SNAPSHOT}</ParentGUID></Shot>')
    path = describe(folder, [(2048, images)], shots)
    before = whole(os.path.join(folder, 'base.hds'))
    wanted = bytearray(bytes(65536) + b'\1' * 65536 + bytes((1 << 20) - 131072))
    expect(content(OURS, path, 'parallels-bundle') == wanted, 'the base is not read')
    run(OURS['io'], '-c', 'write -P 2 100000 10', '-c', 'write -P 3 500k 1k', path)
    wanted[100000:100010], wanted[512000:513024] = b'\2' * 10, b'\3' * 1024
    expect(content(OURS, path, 'parallels-bundle') == wanted, 'wrong contents after writing')
    expect(whole(os.path.join(folder, 'base.hds')) == before, 'the snapshot was written to')
    expect(content(QEMU, top, 'parallels')[65536:131072] == wanted[65536:131072], 'the cluster was not copied up')
    path = describe(folder, [(2048, images)], shots.replace(f'<ParentGUID>{NOBODY}', f'<ParentGUID>{TOP}'))
    refused('refers to itself', OURS['img'], 'convert', '-O', 'raw', path, os.path.join(folder, 'r'))


def bundle_refused(folder):
    bundle_image(folder, 'b.hds', 1 << 20)
    good = image_tag(TOP, 'Compressed', 'b.hds')
    for wanted, parts, more in (
            ('not in its folder', [(2048, image_tag(TOP, 'Plain', '/etc/passwd'))], {}),
            ('not in its folder', [(2048, image_tag(TOP, 'Plain', '../b.hds'))], {}),
            ('not in its folder', [(2048, image_tag(TOP, 'Plain', 'nbd:x'))], {}),
            ('has 1048576 bytes', [(4096, good)], {}), ('as long as the disk', [(2048, good)], {'size': 5}),
            ('neither Plain', [(2048, image_tag(TOP, 'Other', 'b.hds'))], {}),
            ('current state', [(2048, image_tag(SNAPSHOT, 'Plain', 'b.hds') * 2)], {}), ('follow', [(0, good)], {}),
            ('follow', [(2048, '')], {}), ('as long', [], {}),
            ('encrypted', [(2048, good)], {'more': '<Encryption><Engine>aes</Engine></Encryption>'}),
            ('sectors of 4096', [(2048, good)], {'more': '<LogicSectorSize>4096</LogicSectorSize>'}),
            ('number', [(2048, good)], {'more': '<LogicSectorSize>-1</LogicSectorSize>'}),
            ('cannot be read', [(2048, good)], {'more': '<a>' * 30}), ('cannot be read', [(2048, good)], {'more': '<x'})):
        path = describe(folder, parts, **more)
        refused(wanted, OURS['img'], 'convert', '-f', 'parallels-bundle', '-O', 'raw', path, os.path.join(folder, 'r'))
    path = describe(folder, [(2048, good)])
    run(OURS['img'], 'convert', '-O', 'raw', path, os.path.join(folder, 'r'))
    refused('Parallels', OURS['img'], 'convert', '-f', 'parallels-bundle', '-O', 'raw', os.path.join(folder, 'b.hds'),
            os.path.join(folder, 'r'))
    with open(path, 'w', encoding='utf-8') as f:
        f.write('<?xml version="1.0"?><other/>')
    expect('file format: raw' in run(OURS['img'], 'info', path), 'any XML counts as a bundle')


def main():
    tap = Tap()
    for function in (as_qemu_makes_it, options, old_images, left_open, opened_only, dirty_bitmaps, damaged_extension,
                     repairs, used_twice, growing, bad_headers, bundle_split, bundle_snapshots, bundle_refused):
        tap.test(function.__name__.replace('_', ' '), function)
    tap.end()


if __name__ == '__main__':
    sys.exit(main())
