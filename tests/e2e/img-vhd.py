#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vdi, vpc and vhdx: options, differencing images, logs to replay, damage and repair, and what libvhdi and 7z read."""
import importlib.util
import json
import os
import struct
import sys
import uuid
# Another Python may come first in PATH, which knows nothing of the distribution's modules.
DEBIAN_PYTHON = '/usr/bin/python3'
if importlib.util.find_spec('pyvhdi') is None and os.path.exists(DEBIAN_PYTHON) and 'TENON_VHD_PYTHON' not in os.environ:
    os.environ['TENON_VHD_PYTHON'] = DEBIAN_PYTHON
    os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, os.path.abspath(__file__), *sys.argv[1:]])

from imgtest import IMG, RNG, by_qemu, difference, disk, finish, img, not_read, read, reads_as, refused, run, skip
from imgtest import tool, verdict, write

IO = os.environ.get('TENON_IO', os.path.join(os.path.dirname(IMG), 'tenon-io'))
MIB = 1 << 20


def made(name, fmt, path, size, *options):
    more = ['-o', ','.join(options)] if options else []
    status, _, text = img('create', '-q', '-f', fmt, *more, path, str(size))
    return verdict(status == 0, f'{name} is made', text)


def written(name, fmt, path, *commands):
    args = [each for command in commands for each in ('-c', command)]
    status, out, text = run(IO, '-f', fmt, *args, path)
    return verdict(status == 0 and b'failed' not in out, f'{name} is written', text + out.decode())


def info(fmt, path):
    return json.loads(img('info', '-f', fmt, '--output=json', path)[1] or b'{}')


def clean(name, fmt, path):
    status, out, text = img('check', '-f', fmt, path)
    return verdict(status == 0, f'{name}: check finds nothing', text + out.decode())


def patched(source, path, *patches):
    data = bytearray(read(source))
    for at, new in patches:
        data[at:at + len(new)] = new
    return write(path, data)


def image_of(fmt, path, data, *options):
    write('source.raw', data)
    more = ['-o', ','.join(options)] if options else []
    status, _, text = img('convert', '-f', 'raw', '-O', fmt, *more, 'source.raw', path)
    return verdict(status == 0, f'{path} is converted', text)


def repaired(name, fmt, path, data, status_before=2):
    """check finds damage, repair removes it; data None: any that can be read."""
    status, out, text = img('check', '-f', fmt, path)
    verdict(status == status_before, f'{name}: check finds it', f'status {status}: {text}{out.decode()}')
    status, out, text = img('check', '-q', '-f', fmt, '-r', 'all', path)
    verdict(status == 0, f'{name}: repair', f'status {status}: {text}{out.decode()}')
    clean(f'{name}, repaired', fmt, path)
    if data is not None:
        reads_as(f'{name}: contents after repair', (fmt, path), data)


# ---- vdi ----

def vdi_differencing():
    made('parent', 'vdi', 'parent.vdi', 4 * MIB)
    written('parent', 'vdi', 'parent.vdi', 'write -P 1 0 4M')
    made('child', 'vdi', 'child.vdi', 4 * MIB)
    written('child', 'vdi', 'child.vdi', 'write -P 2 1M 1M')
    parent = read('parent.vdi')[0x188:0x198]
    patched('child.vdi', 'child.vdi', (0x4c, struct.pack('<I', 4)), (0x1a8, parent))
    not_read('differencing image without its parent', 'needs its parent', 'vdi', 'child.vdi')
    both = 'driver=vdi,file.filename=child.vdi,backing.driver=vdi,backing.file.filename='
    wanted = b'\1' * MIB + b'\2' * MIB + b'\1' * (2 * MIB)
    reads_as('differencing image over its parent', both + 'parent.vdi', wanted)
    patched('parent.vdi', 'other.vdi', (0x188, uuid.uuid4().bytes))
    refused('parent with another UUID', 'UUIDs differ', 'convert', '--image-opts', both + 'other.vdi', '-O', 'raw', 'out.raw')


def vdi_damage():
    data = disk(5 * MIB, 65536)
    image_of('vdi', 'good.vdi', data)
    clean('converted', 'vdi', 'good.vdi')
    at = struct.unpack_from('<I', read('good.vdi'), 0x154)[0]
    entries = struct.unpack_from('<5I', read('good.vdi'), at)
    twice = data[:MIB] + data[:MIB] + data[2 * MIB:]
    repaired('two blocks in one place', 'vdi', patched('good.vdi', 'bad.vdi', (at + 4, struct.pack('<I', entries[0]))), twice)
    patched('good.vdi', 'bad.vdi', (at + 8, struct.pack('<I', 77)))
    not_read('block behind the table', 'block map', 'vdi', 'bad.vdi')
    repaired('block behind the table', 'vdi', 'bad.vdi', data[:2 * MIB] + bytes(MIB) + data[3 * MIB:])
    repaired('wrong count', 'vdi', patched('good.vdi', 'bad.vdi', (0x184, struct.pack('<I', 1))), data)
    repaired('gap', 'vdi', patched('good.vdi', 'bad.vdi', (at, b'\xff' * 4)), bytes(MIB) + data[MIB:], 3)
    by_qemu('QEMU reads what repair left', 'vdi', 'bad.vdi', bytes(MIB) + data[MIB:])
    not_read('version 2', 'version', 'vdi', patched('good.vdi', 'bad.vdi', (0x44, struct.pack('<I', 0x20000))))


# ---- vpc ----

def vpc_sizes():
    for creator, rule in ((b'vpc ', 'chs'), (b'win ', 'current_size'), (b'd2v ', 'current_size'), (b'tap\0', 'current_size'),
                          (b'qem2', 'current_size'), (b'qemu', 'chs')):
        made('image', 'vpc', 'size.vhd', 10 * MIB, 'force_size=on')
        data = bytearray(read('size.vhd'))
        for at in (0, len(data) - 512):
            data[at + 28:at + 32] = creator
            data[at + 56:at + 60] = struct.pack('>HBB', 300, 4, 17)
            struct.pack_into('>I', data, at + 64, 0)
            struct.pack_into('>I', data, at + 64, ~sum(data[at:at + 512]) & 0xffffffff)
        write('size.vhd', data)
        wanted = 300 * 4 * 17 * 512 if rule == 'chs' else 10 * MIB
        found = info('vpc', 'size.vhd').get('virtual-size')
        verdict(found == wanted, f'size of an image by {creator}', f'{found}, not {wanted}')
        if tool('qemu-img'):
            found = json.loads(run('qemu-img', 'info', '-f', 'vpc', '--output=json', 'size.vhd')[1])['virtual-size']
            verdict(found == wanted, f'QEMU agrees on the size by {creator}', f'{found}, not {wanted}')
    made('Azure image', 'vpc', 'azure.vhd', 3 * MIB, 'subformat=fixed', 'force_size=on')
    verdict(os.path.getsize('azure.vhd') == 3 * MIB + 512, 'a fixed image of whole MiB and a footer')


def vpc_differencing():
    parent, child = disk(5 * MIB, 65536), disk(MIB, 4096)
    image_of('vpc', 'parent.vhd', parent, 'force_size=on')
    status, _, text = img('create', '-q', '-f', 'vpc', '-b', 'parent.vhd', '-F', 'vpc', 'child.vhd')
    verdict(status == 0, 'a differencing image is made', text)
    write('piece.raw', child)
    written('differencing image', 'vpc', 'child.vhd', f'write -s piece.raw {MIB + 512} {MIB}', f'write -P 9 {4 * MIB} 512')
    wanted = bytearray(parent)
    wanted[MIB + 512:2 * MIB + 512] = child
    wanted[4 * MIB:4 * MIB + 512] = b'\x09' * 512
    reads_as('differencing image', ('vpc', 'child.vhd'), wanted)
    clean('differencing image', 'vpc', 'child.vhd')
    by_libvhdi('differencing image', 'child.vhd', wanted, 'parent.vhd')
    sectors = bytearray(read('child.vhd'))
    bat = struct.unpack_from('>Q', sectors, 512 + 16)[0]
    block = struct.unpack_from('>I', sectors, bat + 8)[0] * 512
    sectors[block] = 0x40  # of the third block the second sector only
    sectors[block + 1:block + 512] = bytes(511)
    write('partial.vhd', sectors)
    wanted[4 * MIB:4 * MIB + 512] = parent[4 * MIB:4 * MIB + 512]
    reads_as('block of which one sector is there', ('vpc', 'partial.vhd'), wanted)
    written('block of which one sector is there', 'vpc', 'partial.vhd', f'write -P 7 {4 * MIB + 4096} 1024')
    wanted[4 * MIB + 4096:4 * MIB + 5120] = b'\x07' * 1024
    reads_as('block that was completed', ('vpc', 'partial.vhd'), wanted)
    os.rename('parent.vhd', 'gone.vhd')
    not_read('differencing image whose parent is gone', 'parent.vhd', 'vpc', 'child.vhd')
    image_of('vpc', 'parent.vhd', parent, 'force_size=on')
    not_read('differencing image over another', 'UUIDs differ', 'vpc', 'child.vhd')


def by_libvhdi(name, path, data, parent=None):
    """libvhdi reads the same."""
    try:
        import pyvhdi
    except ImportError:
        return skip(f'libvhdi: {name}', 'it is not installed (python3-libvhdi)')
    image = pyvhdi.file()
    image.open(path)
    if parent:
        below = pyvhdi.file()
        below.open(parent)
        image.set_parent(below)
    found = image.read_buffer_at_offset(image.get_media_size(), 0)
    image.close()
    why = difference(found, bytes(data))
    return verdict(not why, f'libvhdi reads the {name}', why)


def by_7z(name, path, data):
    """7-Zip reads the same."""
    if not tool('7z'):
        return skip(f'7-Zip: {name}', 'it is not installed (p7zip-full)')
    status, out, text = run('7z', 'x', '-so', f'-t{"vhd" if path.endswith("vhd") else path.rsplit(".", 1)[1]}', path)
    why = f'status {status}: {text}' if status else difference(out, bytes(data))
    return verdict(not why, f'7-Zip reads the {name}', why)


def vpc_damage():
    data = disk(9 * MIB, 65536)
    image_of('vpc', 'good.vhd', data, 'force_size=on')
    clean('converted', 'vpc', 'good.vhd')
    by_libvhdi('dynamic image', 'good.vhd', data)
    by_7z('dynamic image', 'good.vhd', data)
    by_qemu('QEMU reads the dynamic image', 'vpc', 'good.vhd', data)
    good = read('good.vhd')
    bat = struct.unpack_from('>Q', good, 512 + 16)[0]
    first = struct.unpack_from('>I', good, bat)[0]
    two = 2 * MIB
    repaired('two blocks in one place', 'vpc', patched('good.vhd', 'bad.vhd', (bat + 4, struct.pack('>I', first))),
             data[:two] + data[:two] + data[2 * two:])
    by_qemu('QEMU reads what repair left', 'vpc', 'bad.vhd', data[:two] + data[:two] + data[2 * two:])
    patched('good.vhd', 'bad.vhd', (bat + 8, struct.pack('>I', 1 << 24)))
    not_read('block behind the end', 'BAT', 'vpc', 'bad.vhd')
    repaired('block behind the end', 'vpc', 'bad.vhd', data[:2 * two] + bytes(two) + data[3 * two:])
    repaired('block over the header', 'vpc', patched('good.vhd', 'bad.vhd', (bat + 8, struct.pack('>I', 1))),
             data[:2 * two] + bytes(two) + data[3 * two:])
    repaired('damaged footer in front', 'vpc', patched('good.vhd', 'bad.vhd', (3, b'X')), data)
    repaired('damaged footer at the end', 'vpc', patched('good.vhd', 'bad.vhd', (len(good) - 500, b'X')), data, 3)
    not_read('two damaged footers', 'footer', 'vpc', patched('good.vhd', 'bad.vhd', (3, b'X'), (len(good) - 500, b'X')))
    not_read('damaged header', 'checksum', 'vpc', patched('good.vhd', 'bad.vhd', (600, b'X')))
    image_of('vpc', 'fixed.vhd', data, 'subformat=fixed', 'force_size=on')
    by_libvhdi('fixed image', 'fixed.vhd', data)
    verdict(read('fixed.vhd')[:len(data)] == data, 'a fixed image begins with the disk')


# ---- vhdx ----

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def vhdx_options():
    for size, block in ((512, 1), (4096, 4), (512, 64), (4096, 256)):
        data = disk(6 * MIB, 65536)
        path = f'{size}-{block}.vhdx'
        image_of('vhdx', path, data, f'logical_sector_size={size}', f'block_size={block}M', 'log_size=2M')
        reads_as(f'blocks of {block} MiB, sectors of {size}', ('vhdx', path), data)
        if size == 512:  # QEMU 7.2 knows no others
            by_qemu(f'QEMU: blocks of {block} MiB, sectors of {size}', 'vhdx', path, data)
        clean(f'blocks of {block} MiB, sectors of {size}', 'vhdx', path)
        by_libvhdi(f'image of {block} MiB blocks, sectors of {size}', path, data)
        os.unlink(path)
    made('sparse image', 'vhdx', 'large.vhdx', 20 << 40, 'block_size=1M')
    written('behind many chunks', 'vhdx', 'large.vhdx', f'write -P 5 {(19 << 40) + 4096} 8192')
    status, out, text = run(IO, '-f', 'vhdx', '-c', f'read -P 5 {(19 << 40) + 4096} 8192', 'large.vhdx')
    verdict(status == 0 and b'failed' not in out, 'reads behind many chunks', text + out.decode())
    if tool('qemu-io'):
        status, out, text = run('qemu-io', '-f', 'vhdx', '-c', f'read -P 5 {(19 << 40) + 4096} 8192', 'large.vhdx')
        verdict(status == 0 and b'failed' not in out, 'QEMU reads behind many chunks', text + out.decode())
    os.unlink('large.vhdx')
    refused('block size', 'power of two', 'create', '-f', 'vhdx', '-o', 'block_size=3M', 'x.vhdx', '1M')
    refused('log size', 'MiB', 'create', '-f', 'vhdx', '-o', 'log_size=1500k', 'x.vhdx', '1M')
    refused('size', '64 TiB', 'create', '-f', 'vhdx', 'x.vhdx', '65T')


def with_log(image, pages, size=None, spoil=False):
    """The image with a log that writes these (offset, 4096 bytes or None: zeroes)."""
    data = bytearray(image)
    header = data[65536:69632]
    if struct.unpack_from('<Q', data, 131072 + 8)[0] > struct.unpack_from('<Q', header, 8)[0]:
        header = data[131072:135168]
    guid = uuid.uuid4().bytes
    sequence = struct.unpack_from('<Q', header, 8)[0] + 1
    header[8:16] = struct.pack('<Q', sequence)
    header[48:64] = guid
    at = 65536 if sequence % 2 else 131072
    header[4:8] = bytes(4)
    header[4:8] = struct.pack('<I', crc32c(header))
    data[at:at + 4096] = header
    log = struct.unpack_from('<Q', header, 72)[0]
    # Two entries; the second is what the youngest sequence ends with, and begins where it says.
    place = log + MIB - 8192  # the second wraps around the end of the ring
    for number, part in enumerate((pages[:1], pages[1:])):
        descriptors = b''
        sectors = []
        entry = 1000 + number
        for offset, page in part:
            if page is None:
                descriptors += b'zero' + bytes(4) + struct.pack('<QQQ', 4096, offset, entry)
                continue
            descriptors += b'desc' + page[-4:] + page[:8] + struct.pack('<QQ', offset, entry)
            sectors.append(b'data' + struct.pack('<I', entry >> 32) + page[8:-4] + struct.pack('<I', entry & 0xffffffff))
        length = 4096 * (1 + len(sectors))
        head = b'loge' + bytes(4) + struct.pack('<II', length, MIB - 8192) + struct.pack('<QII', entry, len(part), 0)
        head += guid + struct.pack('<QQ', len(image), size or len(image))
        whole = bytearray((head + descriptors).ljust(4096, b'\0') + b''.join(sectors))
        whole[4:8] = struct.pack('<I', crc32c(whole))
        if spoil and number:
            whole[100] ^= 1
        for i in range(0, len(whole), 4096):
            target = log + (place - log + i) % MIB
            data[target:target + 4096] = whole[i:i + 4096]
        place = log + (place - log + length) % MIB
    return data


def vhdx_log():
    data = disk(4 * MIB, 65536)
    image_of('vhdx', 'good.vhdx', data, 'block_size=1M')
    good = read('good.vhdx')
    bat = next(struct.unpack_from('<Q', good, 196608 + 16 + i * 32 + 16)[0] for i in (0, 1)
               if good[196608 + 16 + i * 32:][:4] == b'\x66\x77\xc2\x2d')
    page = bytearray(good[bat:bat + 4096])
    page[0:8], page[8:16] = page[8:16], page[0:8]  # the first two blocks change places
    swapped = data[MIB:2 * MIB] + data[:MIB] + data[2 * MIB:]
    dirty = with_log(good, [(bat, bytes(4096)), (bat, bytes(page))])
    write('dirty.vhdx', dirty)
    before = read('dirty.vhdx')
    reads_as('log replayed in memory', ('vhdx', 'dirty.vhdx'), swapped)
    verdict(read('dirty.vhdx') == before, 'reading has not changed the file')
    verdict(info('vhdx', 'dirty.vhdx').get('dirty-flag') is True, 'info says that there is a log to replay')
    by_qemu_repair('dirty.vhdx', swapped)
    written('image with a log', 'vhdx', 'dirty.vhdx', f'write -P 3 {3 * MIB} 512')
    wanted = bytearray(swapped)
    wanted[3 * MIB:3 * MIB + 512] = b'\3' * 512
    verdict(info('vhdx', 'dirty.vhdx').get('dirty-flag') is not True, 'writing has replayed the log')
    reads_as('after replaying and writing', ('vhdx', 'dirty.vhdx'), wanted)
    by_qemu('QEMU reads it too', 'vhdx', 'dirty.vhdx', wanted)
    write('dirty.vhdx', with_log(good, [(bat, bytes(4096)), (bat, bytes(page))], spoil=True))
    reads_as('sequence with a damaged youngest entry: the one before counts', ('vhdx', 'dirty.vhdx'), bytes(4 * MIB))
    write('dirty.vhdx', with_log(good, [(bat, bytes(page)), (bat, None)]))
    reads_as('zeroes from the log', ('vhdx', 'dirty.vhdx'), bytes(4 * MIB))
    status, _, text = img('check', '-q', '-r', 'all', '-f', 'vhdx', 'dirty.vhdx')
    verdict(status == 0, 'check -r all replays the log', text)
    verdict(info('vhdx', 'dirty.vhdx').get('dirty-flag') is not True, 'and it is gone')
    write('dirty.vhdx', with_log(good, [(bat, bytes(page)), (bat, bytes(page))])[:-MIB])
    not_read('log of a file that was longer', 'truncated', 'vhdx', 'dirty.vhdx')


def by_qemu_repair(path, data):
    """QEMU, replaying a copy, gets the same."""
    if not tool('qemu-img'):
        return skip('QEMU replays the log', 'qemu-img is not installed (qemu-utils)')
    write('qemu-copy.vhdx', read(path))
    status, _, text = run('qemu-img', 'check', '-q', '-r', 'all', '-f', 'vhdx', 'qemu-copy.vhdx')
    verdict(status == 0, 'QEMU replays the log', text)
    return by_qemu('QEMU reads the same after the log', 'vhdx', 'qemu-copy.vhdx', data)


def vhdx_differencing():
    parent, child = disk(5 * MIB, 65536), disk(MIB, 4096)
    image_of('vhdx', 'parent.vhdx', parent, 'block_size=1M')
    status, _, text = img('create', '-q', '-f', 'vhdx', '-o', 'block_size=1M', '-b', 'parent.vhdx', '-F', 'vhdx', 'child.vhdx')
    verdict(status == 0, 'a differencing image is made', text)
    write('piece.raw', child)
    written('differencing image', 'vhdx', 'child.vhdx', f'write -s piece.raw {MIB + 512} {MIB}')
    wanted = bytearray(parent)
    wanted[MIB + 512:2 * MIB + 512] = child
    reads_as('differencing image', ('vhdx', 'child.vhdx'), wanted)
    clean('differencing image', 'vhdx', 'child.vhdx')
    # libvhdi looks into the parent only where there is a bitmap, so it is asked about the next image alone.
    # One block held in part: its bitmap is put behind the end.
    image = bytearray(read('child.vhdx'))
    bat = next(struct.unpack_from('<Q', image, 196608 + 16 + i * 32 + 16)[0] for i in (0, 1)
               if image[196608 + 16 + i * 32:][:4] == b'\x66\x77\xc2\x2d')
    bitmap = bytearray(MIB)
    bitmap[2048 // 8] = 0x05  # of the second block the first and the third sector
    struct.pack_into('<Q', image, bat + 8, struct.unpack_from('<Q', image, bat + 8)[0] | 7)
    struct.pack_into('<Q', image, bat + 4096 * 8, len(image) | 6)
    write('partial.vhdx', image + bitmap)
    mixed = bytearray(wanted)
    mixed[MIB:2 * MIB] = parent[MIB:2 * MIB]
    for sector in (0, 2):
        at = MIB + sector * 512
        mixed[at:at + 512] = wanted[at:at + 512]
    reads_as('block of which two sectors are there', ('vhdx', 'partial.vhdx'), mixed)
    by_libvhdi('image of which two sectors are there', 'partial.vhdx', mixed, 'parent.vhdx')
    written('block of which two sectors are there', 'vhdx', 'partial.vhdx', f'write -P 7 {MIB + 8192} 1024')
    mixed[MIB + 8192:MIB + 9216] = b'\x07' * 1024
    reads_as('block that was completed', ('vhdx', 'partial.vhdx'), mixed)
    written('parent', 'vhdx', 'parent.vhdx', 'write -P 1 0 512')
    not_read('parent that was written to', 'GUIDs differ', 'vhdx', 'child.vhdx')
    os.unlink('parent.vhdx')
    not_read('differencing image whose parent is gone', 'parent.vhdx', 'vhdx', 'child.vhdx')


def vhdx_damage():
    data = disk(4 * MIB, 65536)
    image_of('vhdx', 'good.vhdx', data, 'block_size=1M')
    good = read('good.vhdx')
    bat = next(struct.unpack_from('<Q', good, 196608 + 16 + i * 32 + 16)[0] for i in (0, 1)
               if good[196608 + 16 + i * 32:][:4] == b'\x66\x77\xc2\x2d')
    twice = data[:MIB] + data[:MIB] + data[2 * MIB:]
    repaired('two blocks in one place', 'vhdx', patched('good.vhdx', 'bad.vhdx', (bat + 8, good[bat:bat + 8])), twice)
    by_qemu('QEMU reads what repair left', 'vhdx', 'bad.vhdx', twice)
    holes = data[:MIB] + bytes(MIB) + data[2 * MIB:]
    repaired('block over the BAT', 'vhdx', patched('good.vhdx', 'bad.vhdx', (bat + 8, struct.pack('<Q', bat | 6))), holes)
    patched('good.vhdx', 'bad.vhdx', (bat + 8, struct.pack('<Q', 1 << 40 | 6)))
    not_read('block behind the end', 'beyond', 'vhdx', 'bad.vhdx')
    repaired('block behind the end', 'vhdx', 'bad.vhdx', holes)
    repaired('state that does not exist', 'vhdx', patched('good.vhdx', 'bad.vhdx', (bat + 8, struct.pack('<Q', 5))), holes)
    reads_as('one damaged header', ('vhdx', patched('good.vhdx', 'bad.vhdx', (65536 + 20, b'XX'))), data)
    not_read('two damaged headers', 'headers', 'vhdx',
             patched('good.vhdx', 'bad.vhdx', (65536 + 20, b'XX'), (131072 + 20, b'XX')))
    reads_as('one damaged region table', ('vhdx', patched('good.vhdx', 'bad.vhdx', (196608 + 20, b'XX'))), data)


RNG.seed(os.environ.get('IMGTEST_SEED', '1'))
vdi_differencing()
vdi_damage()
vpc_sizes()
vpc_differencing()
vpc_damage()
vhdx_options()
vhdx_log()
vhdx_differencing()
vhdx_damage()
finish()
