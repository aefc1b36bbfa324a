#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bochs' redolog images, made here."""
import struct
from imgtest import RNG, by_qemu, disk, finish, not_read, reads_as, refused, survives, verdict, write
from imgtest import img

NONE = 0xffffffff


class Redolog:
    """A random subset of the sectors of a disk; the extents in the file in random order."""

    def __init__(self, data, extent, subtype='Growing', version=2, spare=3):
        self.data, self.extent, self.subtype, self.version = data, extent, subtype, version
        self.count = -(-len(data) // extent)
        self.entries = self.count + spare
        self.bitmap = max(1, extent // 512 // 8)
        self.present = {n for n in range(self.count) if RNG.random() < .6}
        self.sectors = {s for s in range(len(data) // 512) if s * 512 // extent in self.present
                        and RNG.random() < RNG.choice((.1, .9))}

    def visible(self, base):
        out = bytearray(base)
        for sector in self.sectors:
            out[sector * 512:sector * 512 + 512] = self.data[sector * 512:sector * 512 + 512]
        return bytes(out)

    def header(self):
        head = struct.pack('<32s16s16sIIIII', b'Bochs Virtual HD Image', b'Redolog', self.subtype.encode(),
                           0x10000 * self.version, 512, self.entries, self.bitmap, self.extent)
        head += struct.pack('<Q', len(self.data)) if self.version == 1 else struct.pack('<IQ', 0, len(self.data))
        return head.ljust(512, b'\0')

    def place(self, number):
        first, per_extent = number * self.extent // 512, self.extent // 512
        bits, body = bytearray(-(-self.bitmap // 512) * 512), bytearray(self.extent)
        for i in range(per_extent):
            if first + i in self.sectors:
                bits[i // 8] |= 1 << i % 8
                body[i * 512:i * 512 + 512] = self.data[(first + i) * 512:(first + i) * 512 + 512]
        return bytes(bits + body)

    def image(self):
        order = list(self.present)
        RNG.shuffle(order)
        catalog = [NONE] * self.entries
        for at, number in enumerate(order):
            catalog[number] = at
        table = struct.pack(f'<{self.entries}I', *catalog)
        return self.header() + table + b''.join(self.place(n) for n in order)


for extent, size in ((512, 512 * 40), (4096, 300 * 1024), (16384, 1 << 20), (1 << 20, 5 << 20), (8192, 123 * 512)):
    for version in (1, 2):
        log = Redolog(disk(size, 512), extent, version=version, spare=RNG.randrange(9))
        path, wanted = write('a.bochs', log.image()), log.visible(bytes(size))
        reads_as(f'growing, version {version}, extents of {extent}', ('bochs', path), wanted)
        by_qemu(f'growing, version {version}, extents of {extent}: QEMU agrees', 'bochs', path, wanted)

status, out, text = img('info', 'a.bochs')
verdict(status == 0 and b'file format: bochs' in out, 'it is recognised', text)

# A bitmap of several metadata slices
log = Redolog(disk(8 << 20, 512), 8 << 20)
log.present, log.sectors = {0}, {s for s in range(16384) if RNG.random() < .01}
path, wanted = write('a.bochs', log.image()), log.visible(bytes(8 << 20))
reads_as('a single large extent', ('bochs', path), wanted)
by_qemu('a single large extent: QEMU agrees', 'bochs', path, wanted)

for subtype in ('Undoable', 'Volatile'):
    base = disk(1 << 20, 512)
    write('base.raw', base)
    log = Redolog(disk(1 << 20, 512), 16384, subtype)
    write('undo.redolog', log.image())
    not_read(f'{subtype.lower()} without its base', 'backing.driver=', 'bochs', 'undo.redolog')
    options = 'driver=bochs,file.filename=undo.redolog,backing.driver=raw,backing.file.filename=base.raw'
    reads_as(f'{subtype.lower()} with its base', options, log.visible(base))
    status, out, text = img('info', '-f', 'bochs', 'undo.redolog')
    verdict(status == 0 and subtype.encode() in out, f'info of one that is {subtype.lower()}', text)

# ---- Refusals
log = Redolog(disk(64 * 1024, 512), 4096, spare=0)
log.present = set(range(log.count))
good = log.image()


def changed(at, layout, *values):
    image = bytearray(good)
    struct.pack_into(layout, image, at, *values)
    return write('bad.bochs', image)


not_read('another magic number', 'no redolog', 'bochs', changed(0, '5s', b'Boxes'))
not_read('another type', 'no redolog', 'bochs', changed(32, '7s', b'Flatten'))
not_read('another subtype', 'neither growing', 'bochs', changed(48, '7s', b'Slowing'))
not_read('version 3', 'version 0x30000', 'bochs', changed(64, '<I', 0x30000))
not_read('extents of 0 bytes', 'extents of 0', 'bochs', changed(80, '<I', 0))
not_read('extents of 513 bytes', 'extents of 513', 'bochs', changed(80, '<I', 513))
not_read('extents of 16 MiB', 'extents of', 'bochs', changed(80, '<I', 1 << 24))
not_read('a catalog of 4 G extents', 'catalog', 'bochs', changed(72, '<I', NONE))
not_read('a catalog that is too short', 'catalog', 'bochs', changed(72, '<I', 3))
not_read('a disk larger than the catalog', 'catalog', 'bochs', changed(88, '<Q', 1 << 40))
not_read('a disk of half a sector', 'impossible', 'bochs', changed(88, '<Q', 1 << 16 | 256))
not_read('a bitmap that is too short', 'bitmaps of 0', 'bochs', changed(76, '<I', 0))
not_read('a header of 4 GiB', 'header of', 'bochs', changed(68, '<I', NONE))
not_read('a file of 100 bytes', 'too few', 'bochs', write('bad.bochs', good[:100]))
refused('writing', 'read-only', 'resize', '-f', 'bochs', write('a.bochs', good), '1M')
survives('random damage', 'bochs', good[:512 + 64 + 4608 * 2])
finish()
