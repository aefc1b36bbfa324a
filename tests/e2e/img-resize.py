#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images that change their size: a raw file that takes the same changes is the oracle, which Tenon and QEMU compare
the image with after each step.  Images are made by either of them."""
import json
import os
import re

from imgtest import IMG, RNG, finish, img, read, refused, run, skip, tool, verdict

IO = os.environ.get('TENON_IO', os.path.join(os.path.dirname(IMG), 'tenon-io'))
KIB, MIB = 1 << 10, 1 << 20
MODEL = 'model.raw'


def said(done):
    status, out, text = done
    return f'status {status}: {text}{out.decode("utf-8", "replace")}'


def fill(offset, length):
    with open(MODEL, 'r+b') as model:
        model.seek(offset)
        model.write(RNG.randbytes(length))


def make(maker, fmt, path, options, size):
    """A disk with something at its beginning, in its middle and at its end; the rest is zeroes."""
    with open(MODEL, 'wb') as model:
        model.truncate(size)
    for offset in (0, size // 2, size - 20 * KIB):
        fill(offset, 20 * KIB)
    program = IMG if maker == 'Tenon' else 'qemu-img'
    more = ['-o', options] if options else []
    return run(program, 'convert', '-f', 'raw', '-O', fmt, *more, MODEL, path)


def alike(name, program, fmt, path):
    """The program finds the same size and the same contents."""
    size = json.loads(run(program, 'info', '--output=json', '-f', fmt, path)[1] or b'{}').get('virtual-size')
    good = verdict(size == os.path.getsize(MODEL), f'{name}: size', f'{size}, not {os.path.getsize(MODEL)}')
    if program == 'qemu-img' and size and size > 4 << 30:
        return good  # it would read all of that: it is asked again when the disk is smaller
    done = run(program, 'compare', '-f', 'raw', '-F', fmt, MODEL, path)
    return verdict(done[0] == 0, f'{name}: contents', said(done)) and good


def compared(name, fmt, path):
    good = alike(name, IMG, fmt, path)
    done = img('check', '-f', fmt, path)
    good &= verdict(done[0] in (0, 3), f'{name}: check', said(done))
    if not tool('qemu-img'):
        return skip(f'{name}: QEMU', 'qemu-img is not installed (qemu-utils)') or good
    return alike(f'{name}: QEMU', 'qemu-img', fmt, path) and good


def by_libyal(name, fmt, path, size):
    """libvhdi and libvmdk say that the disk has that size."""
    library = 'libvmdk' if fmt == 'vmdk' else 'libvhdi'
    program = f'{library[3:]}info'
    if not tool(program):
        return skip(f'{name}: {program}', f'it is not installed ({library}-utils)')
    done = run(program, path)
    right = re.search(rb'Media size:?\s*:.*\((\d+) bytes\)', done[1])
    return verdict(done[0] == 0 and right and int(right[1]) == size, f'{name}: {program}', said(done))


def changed(name, fmt, path, size):
    more = ['--shrink'] if size < os.path.getsize(MODEL) else []
    os.truncate(MODEL, size)
    done = img('resize', '-q', *more, '-f', fmt, path, str(size))
    return verdict(done[0] == 0, name, said(done)) and compared(name, fmt, path)


def written(name, fmt, path, size):
    """Something new at the end, and somewhere."""
    commands = []
    for offset in (size - 4 * KIB, RNG.randrange(size // 512 - 8) * 512):
        value = RNG.randrange(1, 256)
        with open(MODEL, 'r+b') as model:
            model.seek(offset)
            model.write(bytes([value]) * (4 * KIB))
        commands += ['-c', f'write -P {value} {offset} 4k']
    done = run(IO, '-f', fmt, *commands, path)
    return verdict(done[0] == 0 and b'failed' not in done[1], f'{name}: written', said(done)) and compared(
        f'{name}, written', fmt, path)


def resized(fmt, maker, options, *sizes):
    title, path = f'{maker} {fmt} {options}'.strip(), f'disk.{fmt}'
    if maker == 'QEMU' and not tool('qemu-img'):
        return skip(title, 'qemu-img is not installed (qemu-utils)')
    done = make(maker, fmt, path, options, sizes[0])
    if not verdict(done[0] == 0, f'{title} is made', said(done)):
        return False
    for size in sizes[1:]:
        name = f'{title} to {size}'
        if not (changed(name, fmt, path, size) and written(name, fmt, path, size)):
            return False
        if fmt in ('vpc', 'vhdx', 'vmdk'):
            by_libyal(name, fmt, path, size)
    os.unlink(path)
    if os.path.exists(f'disk-flat.{fmt}'):
        os.unlink(f'disk-flat.{fmt}')
    return True


def vdi():
    resized('vdi', 'Tenon', '', 5 * MIB, 9 * MIB + 512, 12 * MIB, 3 * MIB + 1536, 7 * MIB)
    resized('vdi', 'Tenon', 'static=on', 5 * MIB, 9 * MIB + 512, 2 * MIB, 3 * MIB)
    resized('vdi', 'QEMU', 'static=on', 5 * MIB, 9 * MIB, 4 * MIB)
    # The map has no room for more than 128 entries: blocks move out of its way.
    resized('vdi', 'QEMU', '', 100 * MIB, 200 * MIB, 300 * MIB, 5 * MIB)
    run(IMG, 'create', '-q', '-f', 'vdi', '-o', 'static=on,block_size=4k', 'full.vdi', '4M')
    before = read('full.vdi')
    refused('a full map and no block to spare', 'convert it', 'resize', '-f', 'vdi', 'full.vdi', '8M')
    verdict(read('full.vdi') == before, 'what was refused changed nothing')


def vpc():
    for maker in ('Tenon', 'QEMU'):
        for subformat in ('dynamic', 'fixed'):
            resized('vpc', maker, f'subformat={subformat},force_size=on', 5 * MIB, 9 * MIB + 512, 300 * MIB, 4 * MIB)
    # The BAT, with room for 128 entries, moves behind the blocks.
    resized('vpc', 'QEMU', 'force_size=on', 250 * MIB, 600 * MIB, 1300 * MIB, 30 * MIB)
    # Sizes by geometry: 306 cylinders of 4 heads and 17 sectors, and half of them.
    resized('vpc', 'QEMU', '', 306 * 4 * 17 * 512, 612 * 4 * 17 * 512, 5 * MIB)
    run(IMG, 'create', '-q', '-f', 'vpc', 'parent.vhd', '10M')
    run(IMG, 'create', '-q', '-f', 'vpc', '-b', 'parent.vhd', '-F', 'vpc', 'child.vhd')
    refused('one image of a chain', 'of a chain', 'resize', '-f', 'vpc', 'child.vhd', '+1M')
    refused('space set aside', 'set aside', 'resize', '--preallocation=full', '-f', 'vpc', 'parent.vhd', '+1M')


def vhdx():
    for maker in ('Tenon', 'QEMU'):
        for subformat in ('dynamic', 'fixed'):
            resized('vhdx', maker, f'subformat={subformat},block_size=1M', 5 * MIB, 9 * MIB + 512, 90 * MIB, 3 * MIB)
    resized('vhdx', 'QEMU', '', 20 * MIB, 70 * MIB + 512, 17 * MIB)
    # More blocks of 1 MiB than a BAT of 1 MiB has entries.
    resized('vhdx', 'Tenon', 'block_size=1M', 20 * MIB, 200 << 30, 201 << 30, 30 * MIB)
    refused('half a sector', 'whole sectors', 'resize', '-f', 'vhdx', *fourk(), '5121K')


def vmdk():
    for maker in ('Tenon', 'QEMU'):
        resized('vmdk', maker, '', 5 * MIB, 9 * MIB + 512, 70 * MIB, 71 * MIB, 300 * MIB, 3 * MIB, 40 * MIB)
        resized('vmdk', maker, 'subformat=monolithicFlat', 5 * MIB, 9 * MIB + 512, 3 * MIB, 4 * MIB)
    resized('vmdk', 'Tenon', 'zeroed_grain=on', 20 * MIB, 5 << 30, 20 * MIB + 512)
    run(IMG, 'create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentFlat', 'split.vmdk', '3G')
    refused('an image in several files', 'convert it', 'resize', '-f', 'vmdk', 'split.vmdk', '+1M')
    run(IMG, 'create', '-q', '-f', 'vmdk', 'parent.vmdk', '10M')
    run(IMG, 'create', '-q', '-f', 'vmdk', '-b', 'parent.vmdk', '-F', 'vmdk', 'child.vmdk')
    refused('one image of a chain of vmdk', 'of a chain', 'resize', '-f', 'vmdk', 'child.vmdk', '+1M')


def fourk():
    run(IMG, 'create', '-q', '-f', 'vhdx', '-o', 'logical_sector_size=4096', '4k.vhdx', '5M')
    return ['4k.vhdx']


RNG.seed(int(os.environ.get('IMGTEST_SEED', '1')))
vdi()
vpc()
vhdx()
vmdk()
finish()
