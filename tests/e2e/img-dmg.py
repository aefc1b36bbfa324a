#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""dmg images with every kind of chunk, made here; 7z, QEMU and dmg2img read the same."""
import base64
import bz2
import lzma
import os
import struct
import zlib
from applecodecs import adc, lzfse
from imgtest import RNG, by_qemu, difference, disk, finish, img, not_read, read, reads_as, refused, run, skip
from imgtest import survives, tool, verdict, write

SECTOR = 512
ZERO, RAW, IGNORE, ADC, ZLIB, BZIP2, LZFSE, LZMA = 0, 1, 2, *range(0x80000004, 0x80000009)
COMMENT, END = 0x7ffffffe, 0xffffffff
PACK = {RAW: bytes, ADC: lambda d: adc(d, RNG), ZLIB: zlib.compress, BZIP2: bz2.compress,
        LZFSE: lambda d: lzfse(d, RNG, ('bvxn', 'bvx2')), LZMA: lambda d: lzma.compress(d, lzma.FORMAT_XZ)}


class Image:
    """Data cut into partitions, these into chunks."""

    def __init__(self, data, types, chunk=64, parts=3, gaps=False, data_offset=0, table_offset=0):
        self.sectors, self.fork, self.tables = len(data) // SECTOR, bytearray(bytes(data_offset)), []
        self.data_offset, self.table_offset = data_offset, table_offset
        cuts = sorted({0, self.sectors, *(RNG.randrange(self.sectors + 1) for _ in range(parts - 1))})
        for first, end in zip(cuts, cuts[1:]):
            self.tables.append(self.table(data, first, end, types, chunk, gaps))

    def table(self, data, first, end, types, chunk, gaps):
        entries, at = [struct.pack('>IIQQQQ', COMMENT, 0, 0, 0, 0, 0)], first
        while at < end:
            count = min(end - at, RNG.randrange(1, chunk + 1))
            part = data[at * SECTOR:(at + count) * SECTOR]
            kind = RNG.choice(types)
            if not any(part):
                kind = RNG.choice((ZERO, IGNORE))
            body = PACK[kind](part) if kind in PACK else b''
            place = len(self.fork) - self.data_offset - self.table_offset
            if kind in PACK or not gaps:
                entries.append(struct.pack('>IIQQQQ', kind, 0, at - first, count, place, len(body)))
            self.fork += body
            at += count
        entries.append(struct.pack('>IIQQQQ', END, 0, end - first, 0, len(self.fork), 0))
        if not gaps:
            RNG.shuffle(entries[1:-1])
        head = struct.pack('>4sIQQQIi', b'mish', 1, first, end - first, self.table_offset, 0x808, len(self.tables))
        return head.ljust(200, b'\0') + struct.pack('>I', len(entries)) + b''.join(entries)

    def plist(self, order=None):
        text = ['<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "x">\n'
                '<plist version="1.0">\n<dict>\n\t<key>resource-fork</key>\n\t<dict>\n\t\t<key>blkx</key>\n\t\t<array>\n']
        for number, table in enumerate(order or self.tables):
            code = base64.b64encode(table).decode()
            code = '\n\t\t\t\t'.join(code[i:i + 52] for i in range(0, len(code), 52))
            text.append(f'\t\t\t<dict>\n\t\t\t\t<key>Attributes</key>\n\t\t\t\t<string>0x0050</string>\n'
                        f'\t\t\t\t<key>Data</key>\n\t\t\t\t<data>\n\t\t\t\t{code}\n\t\t\t\t</data>\n'
                        f'\t\t\t\t<key>ID</key>\n\t\t\t\t<string>{number}</string>\n\t\t\t\t<key>Name</key>\n'
                        f'\t\t\t\t<string>part {number}</string>\n\t\t\t</dict>\n')
        text.append('\t\t</array>\n\t\t<key>plst</key>\n\t\t<array>\n\t\t\t<dict>\n\t\t\t\t<key>Data</key>\n'
                    '\t\t\t\t<data>AAAA</data>\n\t\t\t</dict>\n\t\t</array>\n\t</dict>\n</dict>\n</plist>\n')
        return ''.join(text).encode()

    def resources(self):
        data, refs = bytearray(), b''
        for number, table in enumerate(self.tables):
            refs += struct.pack('>HHII', number, 0xffff, len(data), 0)
            data += struct.pack('>I', len(table)) + table
        plst = len(data)
        data += struct.pack('>I', 4) + b'none'
        types = struct.pack('>H', 1) + struct.pack('>4sHH', b'plst', 0, 18) + struct.pack('>4sHH', b'blkx', len(self.tables) - 1, 30)
        types += struct.pack('>HHII', 0, 0xffff, plst, 0) + refs
        head = struct.pack('>IIII', 256, 256 + len(data), len(data), 28 + len(types))
        body = head + bytes(8) + struct.pack('>HH', 28, 28 + len(types)) + types
        return head.ljust(256, b'\0') + bytes(data) + body

    def build(self, resources=False, sectors=None, order=None, tail=b''):
        meta = self.resources() if resources else self.plist(order)
        koly = struct.pack('>4sIII', b'koly', 4, 512, 1)
        koly += struct.pack('>QQQ', 0, self.data_offset, len(self.fork) - self.data_offset)
        koly += struct.pack('>QQ', len(self.fork) if resources else 0, len(meta) if resources else 0)
        koly += struct.pack('>II', 1, 1)
        koly = koly.ljust(216, b'\0')
        koly += struct.pack('>QQ', 0 if resources else len(self.fork), 0 if resources else len(meta))
        koly = koly.ljust(488, b'\0') + struct.pack('>IQ', 1, self.sectors if sectors is None else sectors)
        return bytes(self.fork) + meta + koly.ljust(512, b'\0') + tail


def by_7z(name, path, data):
    if not tool('7z'):
        return skip(name, '7z is not installed (p7zip-full)')
    status, out, text = run('7z', 'e', '-tdmg', '-so', path)
    # what it makes of several partitions goes one behind the other
    why = f'status {status}: {text}' if status else difference(out, bytes(data))
    return verdict(not why, name, why)


def by_dmg2img(name, path, data):
    if not tool('dmg2img'):
        return skip(name, 'dmg2img is not installed (dmg2img)')
    status, _, text = run('dmg2img', '-s', path, 'dmg2img.raw')
    why = f'status {status}: {text}' if status else difference(read('dmg2img.raw'), bytes(data))
    return verdict(not why, name, why)


def contents(sectors):
    """Ends in data, since some readers drop zeroes there."""
    return disk(sectors * SECTOR - SECTOR, 2048) + RNG.randbytes(SECTOR)


KINDS = (('raw', [RAW]), ('zlib', [ZLIB]), ('bzip2', [BZIP2]), ('adc', [ADC]), ('lzfse', [LZFSE]), ('lzma', [LZMA]),
         ('all kinds', [RAW, ADC, ZLIB, BZIP2, LZFSE, LZMA]))
for name, types in KINDS:
    for chunk in (8, 300):
        data = contents(RNG.randrange(300, 1500))
        path = write('a.dmg', Image(data, types, chunk).build())
        reads_as(f'{name}, chunks of up to {chunk} sectors', ('dmg', path), data)
        by_7z(f'{name}: 7z agrees', path, data)
        if name in ('raw', 'zlib', 'bzip2', 'lzfse'):
            by_qemu(f'{name}: QEMU agrees', 'dmg', path, data)
        if name in ('raw', 'zlib', 'bzip2', 'adc'):
            by_dmg2img(f'{name}: dmg2img agrees', path, data)

data, usual = contents(900), PACK[LZFSE]
PACK[LZFSE] = lambda d: lzfse(d, RNG)  # with plain and bvx1 blocks, which 7z does not know
reads_as('lzfse, every kind of block', ('dmg', write('a.dmg', Image(data, [LZFSE], 200).build())), data)
PACK[LZFSE] = usual

image = Image(data, [ZLIB, RAW], 40)
reads_as('a resource fork', ('dmg', write('a.dmg', image.build(resources=True))), data)
by_7z('a resource fork: 7z agrees', 'a.dmg', data)
by_qemu('a resource fork: QEMU agrees', 'dmg', 'a.dmg', data)
reads_as('a trailer without the number of sectors', ('dmg', write('a.dmg', image.build(sectors=0))), data)
reads_as('a disk that goes on behind its chunks', ('dmg', write('a.dmg', image.build(sectors=1000))),
         data + bytes(100 * SECTOR))
reads_as('something behind the trailer', ('dmg', write('a.dmg', image.build(tail=b'\n' * 100))), data)
reads_as('tables in another order', ('dmg', write('a.dmg', image.build(order=image.tables[::-1]))), data)
image = Image(data, [ZLIB], 40, gaps=True)
reads_as('zeroes that no chunk stands for', ('dmg', write('a.dmg', image.build())), data)
image = Image(data, [ZLIB, RAW], 40, data_offset=1000, table_offset=0)
reads_as('a data fork that begins later', ('dmg', write('a.dmg', image.build())), data)
data = contents(40000)
image = Image(data, [RAW, ZLIB], 5, parts=20)
reads_as('thousands of chunks', ('dmg', write('a.dmg', image.build())), data)
big = contents(16 << 11)
reads_as('chunks of 16 MiB', ('dmg', write('a.dmg', Image(big, [ZLIB], 16 << 11, 1).build())), big)
write('probe.img', image.build())
status, out, text = img('info', 'probe.img')
verdict(status == 0 and b'file format: dmg' in out, 'it is recognised', text)

# ---- Refusals
data = contents(64)
small = Image(data, [ZLIB], 16, 1)
good = small.build()
koly = len(good) - 512


def changed(at, layout, *values):
    broken = bytearray(good)
    struct.pack_into(layout, broken, at, *values)
    return write('bad.dmg', broken)


def entry(kind, sector, count, place, length):
    """The image with one more table, of one chunk."""
    table = struct.pack('>4sIQQQIi', b'mish', 1, 64, 8, 0, 0x808, 9).ljust(200, b'\0')
    table += struct.pack('>IIIQQQQ', 1, kind, 0, sector, count, place, length)
    return write('bad.dmg', small.build(order=small.tables + [table]))


not_read('a property list behind the end', 'behind the end', 'dmg', changed(koly + 216, '>Q', 1 << 50))
not_read('a property list longer than the file', 'behind the end', 'dmg', changed(koly + 224, '>Q', 1 << 63))
not_read('no tables at all', 'neither', 'dmg', changed(koly + 224, '>Q', 0))
not_read('a property list that is none', 'no tables', 'dmg', changed(koly + 216, '>QQ', 0, 20))
not_read('another magic number', 'no trailer', 'dmg', changed(koly, '4s', b'kola'))
not_read('several segments', 'segments', 'dmg', changed(koly + 60, '>I', 3))
not_read('2^60 sectors', 'impossible', 'dmg', changed(koly + 492, '>Q', 1 << 60))
not_read('a table that is no base64', 'base64', 'dmg', write('bad.dmg', good.replace(b'<data>\n\t\t\t\tbWlz', b'<data>\n\t\t\t\t!!!!')))
not_read('a table of something else', "'mish'", 'dmg', write('bad.dmg', good.replace(b'bWlz', b'bWlt')))
table = bytearray(small.tables[0])
struct.pack_into('>I', table, 200, 0xffffffff)
not_read('a table with more entries than bytes', 'ends too early', 'dmg', write('bad.dmg', small.build(order=[bytes(table)])))
not_read('a chunk behind the end', 'behind the end', 'dmg', entry(ZLIB, 0, 8, 1 << 50, 100))
not_read('a chunk whose end overflows', 'behind the end', 'dmg', entry(ZLIB, 0, 8, (1 << 64) - 50, 100))
not_read('a sector that overflows', 'impossible', 'dmg', entry(ZLIB, (1 << 64) - 1, 8, 0, 100))
not_read('2^64 sectors', 'impossible', 'dmg', entry(ZERO, 0, (1 << 64) - 1, 0, 0))
not_read('chunks that overlap', 'overlap', 'dmg', write('bad.dmg', small.build(order=small.tables * 2)))
not_read('a compressed chunk of 1 GiB', '16 MiB', 'dmg', entry(ZLIB, 0, 1 << 21, 0, 100))
not_read('a compressed chunk of no bytes', '16 MiB', 'dmg', entry(ZLIB, 0, 8, 0, 0))
not_read('a raw chunk that is too short', 'has only', 'dmg', entry(RAW, 0, 8, 0, 100))
not_read('a chunk of unknown type', 'type 0x80000042', 'dmg', entry(0x80000042, 0, 8, 0, 100))
for kind, name in ((ADC, 'adc'), (ZLIB, 'zlib'), (BZIP2, 'bzip2'), (LZFSE, 'lzfse'), (LZMA, 'xz')):
    not_read(f'a damaged chunk ({name})', 'is damaged', 'dmg', entry(kind, 0, 8, 3, 40))
not_read('an encrypted image', 'encrypted', 'dmg', write('bad.dmg', b'encrcdsa' + bytes(4096)))
not_read('a raw image', 'opened as raw', 'dmg', write('bad.dmg', bytes(65536)))
not_read('a file of 10 bytes', 'too few', 'dmg', write('bad.dmg', b'koly' + bytes(6)))
refused('writing', 'read-only', 'resize', '-f', 'dmg', write('a.dmg', good), '1M')
rsrc = Image(data, [ZLIB], 16, 2).build(resources=True)
survives('random damage to a resource fork', 'dmg', rsrc)
survives('random damage', 'dmg', Image(data, [ADC, LZFSE], 16, 1).build())
for name, kind in (('adc', ADC), ('lzfse', LZFSE), ('bzip2', BZIP2), ('xz', LZMA)):
    short = disk(6000, 512)[:12 * SECTOR]
    short += bytes(-len(short) % SECTOR)
    image = Image(short, [kind], 12, 1)
    intact = image.build()
    fork = len(image.fork)

    def only_data(number, body=intact, end=fork):
        broken = bytearray(body)
        for _ in range(1 + number % 3):
            broken[RNG.randrange(end)] = RNG.randrange(256)
        return bytes(broken)

    bad = ''
    for number in range(100):
        status, _, text = img('convert', '-f', 'dmg', write('damaged.img', only_data(number)), '-O', 'raw', 'out.raw')
        if status not in (0, 1) or 'Sanitizer' in text:
            bad = f'number {number}: status {status}: {text}'
            break
    verdict(not bad, f'random damage to {name}', bad)
verdict(os.path.exists('a.dmg') and read('a.dmg') == good, 'nothing has been written')
finish()
