#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders as FAT disks: fsck.fat finds them in order, mtools copies the same files out of them."""
import os
import struct
from imgtest import RNG, finish, img, read, skip, run, tool, verdict, write


def make_tree(folder, depth=0):
    os.mkdir(folder)
    names = ['README.TXT', 'readme.md', 'a file with a long name.txt', 'ÄÖÜ ß €.dat', 'no-extension', '.hidden', 'x.y.z',
             'LONGNAME1.TXT', 'longname2.txt', 'longname3.txt', 'EMPTY', 'thirteen-long']
    for name in names:
        size = 0 if name == 'EMPTY' else RNG.choice((1, 511, 8192, 8193, RNG.randrange(60000)))
        write(os.path.join(folder, name), RNG.randbytes(size))
    if depth < 2:
        make_tree(os.path.join(folder, 'SUB'), depth + 1)
        make_tree(os.path.join(folder, 'a folder'), depth + 1)
    else:
        os.mkdir(os.path.join(folder, 'nothing'))


def many(folder, count):
    os.mkdir(folder)
    for number in range(count):
        write(os.path.join(folder, f'file number {number}.txt'), str(number).encode())


def same_tree(name, one, two):
    status, out, text = run('diff', '-r', one, two)
    verdict(status == 0, name, out.decode('utf-8', 'replace') + text)


def check_disk(name, options, folder, start):
    """The volume begins at byte @start of the disk."""
    status, _, text = img('convert', '--image-opts', options, '-O', 'raw', 'disk.raw')
    if not verdict(status == 0, f'{name} is read', text):
        return
    with open('disk.raw', 'rb') as disk:
        disk.seek(start)
        write('volume.raw', disk.read())
    if tool('fsck.fat'):
        status, out, text = run('fsck.fat', '-n', '-v', 'volume.raw')
        verdict(status == 0, f'{name}: fsck.fat', out.decode('utf-8', 'replace') + text)
    else:
        skip(f'{name}: fsck.fat', 'it is not installed (dosfstools)')
    if not tool('mcopy'):
        skip(f'{name}: mcopy', 'it is not installed (mtools)')
        return
    os.mkdir('out')
    environment = dict(os.environ, MTOOLS_SKIP_CHECK='1', LC_ALL='C.UTF-8', MTOOLS_LOWER_CASE='0')
    if os.listdir(folder):  # mcopy calls it an error when there is nothing to copy
        status, _, text = run('mcopy', '-s', '-n', '-m', '-i', 'volume.raw', '::*', 'out', env=environment)
        verdict(status == 0, f'{name}: mcopy', text)
    same_tree(f'{name}: the same files', folder, 'out')
    run('rm', '-rf', 'out')


make_tree('tree')
for bits in (16, 32):
    check_disk(f'FAT{bits}', f'driver=raw,file.driver=vvfat,file.dir=tree,file.fat-type={bits}', 'tree', 63 * 512)
os.mkdir('small')
write('small/hello.txt', b'hello')
check_disk('a floppy', 'driver=raw,file.driver=vvfat,file.dir=small,file.floppy=on', 'small', 0)
os.mkdir('empty')
check_disk('an empty folder', 'driver=raw,file.driver=vvfat,file.dir=empty', 'empty', 63 * 512)
many('many', 3000)
check_disk('3000 files in the root of FAT32', 'driver=raw,file.driver=vvfat,file.dir=many,file.fat-type=32', 'many', 63 * 512)

status, _, text = img('convert', '-f', 'raw', 'fat:small', '-O', 'raw', 'disk.raw')
verdict(status == 0 and os.path.getsize('disk.raw') == 16 * 63 * 1024 * 512, 'fat:FOLDER', text)
image = read('disk.raw')
verdict(image[510:512] == b'\x55\xaa' and image[450] == 6 and struct.unpack_from('<I', image, 454)[0] == 63,
        'it has a partition table')
status, _, text = img('convert', '-f', 'raw', 'fat:floppy:small', '-O', 'raw', 'disk.raw')
verdict(status == 0 and os.path.getsize('disk.raw') == 5760 * 512, 'fat:floppy:FOLDER', text)

for name, why, more in (('a folder that is missing', 'missing', 'dir=missing'), ('a file', 'no folder', 'dir=small/hello.txt'),
                        ('a root with too many files', 'fat-type=32', 'dir=many'), ('fat-type=20', 'must be', 'dir=small,file.fat-type=20'),
                        ('a long label', 'label', 'dir=small,file.label=much too long'), ('writing', 'not supported', 'dir=small,file.rw=on')):
    status, _, text = img('convert', '--image-opts', f'driver=raw,file.driver=vvfat,file.{more}', '-O', 'raw', 'disk.raw')
    verdict(status == 1 and why in text, f'refused: {name}', text)
os.mkdir('large')
with open('large/file', 'wb') as out:
    out.truncate(600 << 20)
status, _, text = img('convert', '--image-opts', 'driver=raw,file.driver=vvfat,file.dir=large', '-O', 'raw', 'disk.raw')
verdict(status == 1 and 'fat-type=32' in text, 'refused: more than fits', text)
with open('large/file', 'wb') as out:
    out.truncate(5 << 30)
status, _, text = img('info', '--image-opts', 'driver=raw,file.driver=vvfat,file.dir=large,file.fat-type=32')
verdict(status == 1 and '4 GiB' in text, 'refused: a file of 5 GiB', text)
finish()
