#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""convert --in-place: every pair of formats, by chains of conversions, what is refused, and an interrupted one."""
import hashlib
import os

from imgtest import RNG, difference, finish, img, read, run, skip, tool, verdict, write

MIB = 1 << 20
FORMATS = {
    'raw': '', 'qcow2': '', 'qed': '', 'vmdk': '', 'vhdx': 'block_size=1M', 'vdi': '', 'parallels': '',
    'vpc': 'subformat=fixed,force_size=on',
}
MORE_SOURCES = [('vpc', 'force_size=on'), ('qcow2', 'cluster_size=4k'), ('qcow2', 'extended_l2=on,cluster_size=64k'),
                ('vdi', 'static=on'), ('qcow2', 'preallocation=metadata'), ('vhdx', 'block_size=2M')]
MORE_TARGETS = [('qcow2', 'cluster_size=512'), ('qcow2', 'cluster_size=2M'), ('qcow2', 'extended_l2=on'),
                ('qcow2', 'compat=0.10'), ('qcow2', 'refcount_bits=1'), ('vdi', 'static=on'), 
                ('parallels', 'cluster_size=64k'), ('vhdx', 'block_size=8M'), ('vhdx', 'subformat=fixed,block_size=1M'),
                ('qed', 'cluster_size=4k,table_size=2')]
CHECKED_BY_QEMU = ('qcow2', 'qed', 'vdi', 'vhdx', 'parallels', 'vmdk')
# These keep no record of free space: where the old format had its metadata there may be leaks (holes of the file).
MAY_LEAK = ('qed', 'vmdk')


def digest(path):
    return hashlib.sha256(read(path)).hexdigest()


def sparse_disk(size, start=True):
    """A disk with holes; its bytes."""
    data = bytearray(size)
    for _ in range(RNG.randrange(4, 24)):
        at = RNG.randrange(0, size) & ~511
        length = min(RNG.choice((512, 4096, 65536, 300000, MIB)), size - at)
        data[at:at + length] = RNG.randbytes(length)
    if start:
        data[:4096] = RNG.randbytes(4096)
    with open('disk.raw', 'wb') as out:
        out.truncate(size)
        for at in range(0, size, 4096):
            block = data[at:at + 4096]
            if any(block):
                out.seek(at)
                out.write(block)
    return bytes(data)


def with_options(options):
    return ['-o', options] if options else []


def make(fmt, options, path='s.img'):
    if os.path.exists(path):
        os.unlink(path)
    return img('convert', '-f', 'raw', '-O', fmt, *with_options(options), 'disk.raw', path)


def sound(fmt):
    return (0, 3, 63) if fmt in MAY_LEAK else (0, 63)


def wrong(fmt, data, path='s.img'):
    """Why the image is not sound, or does not hold these bytes: '' when it does."""
    left = [name for name in os.listdir('.') if name.startswith(path + '.')]
    if left:
        return f'left behind: {left}'
    status, _, text = img('convert', '-f', fmt, '-O', 'raw', path, 'out.raw')
    why = text if status else difference(read('out.raw'), data)
    if not why and fmt != 'raw':
        status, out, text = img('check', '-f', fmt, path)
        why = f'check: {status}: {out} {text}' if status not in sound(fmt) else ''
    if why or not tool('qemu-img'):
        return why
    status, _, text = run('qemu-img', 'convert', '-f', fmt, '-O', 'raw', path, 'qemu.raw')
    why = f'qemu-img: {text}' if status else difference(read('qemu.raw'), data)
    if not why and fmt in CHECKED_BY_QEMU:
        status, out, text = run('qemu-img', 'check', '-f', fmt, path)
        why = f'qemu-img check: {status}: {out} {text}' if status not in sound(fmt) else ''
    return why


def change(fmt, target, options):
    return img('convert', '--in-place', '-f', fmt, '-O', target, *with_options(options), 's.img')


def pair(fmt, made_with, target, options, size=None):
    data = sparse_disk(size or RNG.randrange(4, 12) * MIB, RNG.randrange(4) > 0)
    name = f'{fmt}[{made_with}] to {target}[{options}], {len(data)} bytes'
    status, _, text = make(fmt, made_with)
    if status == 0:
        status, _, text = change(fmt, target, options)
    why = f'status {status}: {text}' if status else wrong(target, data)
    return verdict(not why, name, why)


def chain(length):
    """One image that changes its format again and again."""
    data = sparse_disk(6 * MIB)
    make('raw', '')
    fmt, way = 'raw', ['raw']
    for _ in range(length):
        target = RNG.choice([name for name in FORMATS if name != fmt])
        way.append(target)
        status, _, text = change(fmt, target, FORMATS[target])
        why = f'status {status}: {text}' if status else wrong(target, data)
        if why:
            return verdict(False, 'chain ' + ' '.join(way), why)
        fmt = target
    return verdict(True, 'chain ' + ' '.join(way))


def stays(name, text, fmt, target, options='', *more):
    """Refused with one line that holds the text; the file is as it was."""
    before = digest('s.img')
    status, _, said = img('convert', '--in-place', *more, '-f', fmt, '-O', target, *with_options(options), 's.img')
    left = [name for name in os.listdir('.') if name.startswith('s.img.')]
    good = status == 1 and said.count('\n') == 1 and text in said and digest('s.img') == before and not left
    verdict(good, f'refused: {name}', f'status {status}: {said} {left}')


def refusals():
    sparse_disk(8 * MIB)
    make('qcow2', '')
    img('snapshot', '-c', 'one', 's.img')
    stays('internal snapshots', 'snapshots', 'qcow2', 'raw')
    make('qcow2', '')
    img('bitmap', '--add', 's.img', 'b')
    stays('dirty bitmaps', 'bitmaps', 'qcow2', 'raw')
    os.unlink('s.img')
    img('convert', '-c', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 's.img')
    stays('compressed clusters', 'compressed', 'qcow2', 'vdi')
    os.unlink('s.img')
    img('create', '-f', 'qcow2', '-b', 'disk.raw', '-F', 'raw', 's.img')
    stays('a backing file', 'backing', 'qcow2', 'raw')
    os.unlink('s.img')
    img('convert', '-f', 'raw', '-O', 'qcow2', '-o', 'data_file=s-data.raw', 'disk.raw', 's.img')
    stays('an external data file', 'another file', 'qcow2', 'raw')
    os.unlink('s.img')
    img('create', '-f', 'qcow2', '--object', 'secret,id=s,data=abc', '-o',
        'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10', 's.img', '8M')
    if os.path.exists('s.img'):
        stays('encryption', '', 'qcow2', 'raw')
    make('raw', '')
    stays('a dynamic vpc image', 'fixed', 'raw', 'vpc', 'force_size=on')
    stays('a geometry that vpc has not', 'force_size', 'raw', 'vpc', 'subformat=fixed')
    stays('a split vmdk image', 'several files', 'raw', 'vmdk', 'subformat=twoGbMaxExtentSparse')
    stays('a stream of vmdk', '', 'raw', 'vmdk', 'subformat=streamOptimized')
    stays('a backing file for the target', 'alone', 'raw', 'qcow2', 'backing_file=disk.raw,backing_fmt=raw')
    stays('an option of copying', 'combined', 'raw', 'qcow2', '', '-c')
    stays('an unknown format', 'nonsense', 'raw', 'nonsense')
    stays('an unknown option', 'nonsense', 'raw', 'qcow2', 'nonsense=1')
    status, _, said = img('convert', '--in-place', 's.img')
    verdict(status == 1 and '-O' in said, 'refused: no format', said)
    status, _, said = img('convert', '--in-place', '-O', 'qcow2', '.')
    verdict(status == 1, 'refused: a folder', said)


def flat():
    """vmdk's flat disks: the data gets another name, and back."""
    data = sparse_disk(4 * MIB)
    make('raw', '')
    inode = os.stat('s.img').st_ino
    status, _, text = change('raw', 'vmdk', 'subformat=monolithicFlat')
    verdict(not text and not wrong('vmdk', data) and os.stat('s.img-flat.vmdk').st_ino == inode, 'raw to flat vmdk', text)
    stays('flat vmdk to qcow2', 'another file', 'vmdk', 'qcow2')
    status, _, text = change('vmdk', 'raw', '')
    good = status == 0 and os.stat('s.img').st_ino == inode and not os.path.exists('s.img-flat.vmdk')
    verdict(good and not wrong('raw', data), 'flat vmdk to raw', text)


def progress():
    """Of what moves; all is done when the journal has been carried out."""
    sparse_disk(4 * MIB)
    make('qcow2', '')
    status, out, text = img('convert', '--in-place', '-p', '-f', 'qcow2', '-O', 'raw', 's.img')
    shown = [float(part.split(b'/')[0].strip(b' (\n')) for part in out.split(b'\r') if b'/100%)' in part]
    good = status == 0 and len(shown) > 2 and shown == sorted(shown) and shown[-1] == 100
    verdict(good, 'progress', f'{shown} {text}')


def links():
    """A symbolic link stays one, and the image behind it changes."""
    data = sparse_disk(4 * MIB)
    make('raw', '', 'real.img')
    os.symlink('real.img', 's.img') if not os.path.lexists('s.img') else None
    status, _, text = change('raw', 'qcow2', '')
    good = status == 0 and os.path.islink('s.img')
    verdict(good and not wrong('qcow2', data, 'real.img'), 'through a symbolic link', text)
    os.unlink('s.img')


for source, made in list(FORMATS.items()):
    for wanted, with_what in FORMATS.items():
        if source != wanted:
            pair(source, made, wanted, with_what)
for source, made in MORE_SOURCES:
    for wanted in RNG.sample([name for name in FORMATS if name != source], 3):
        pair(source, made, wanted, FORMATS[wanted])
for wanted, with_what in MORE_TARGETS:
    pair('raw', '', wanted, with_what)
for odd in (0, 512, 1536, 65536 + 512, 3 * MIB + 512 * 7):
    pair('raw', '', 'qcow2', '', odd) if odd else None
    pair('raw', '', 'vdi', '', odd) if odd else None
chain(6)
flat()
progress()
refusals()
if os.path.exists('s.img'):
    os.unlink('s.img')
links()
finish()
