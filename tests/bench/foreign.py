# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images of formats that neither program writes, for bench.py: dmg, cloop and bochs.  Imported."""
import base64
import struct
import zlib

CHUNK = 512 * 512   # what Apple's tools pack at a time


def chunks(raw, size):
    with open(raw, 'rb') as source:
        while True:
            data = source.read(size)
            if not data:
                return
            yield data


def make_dmg(raw, path):
    """One partition, chunks of zlib and of zeroes, and the trailer that names their table."""
    entries, sector = [], 0
    with open(path, 'wb') as out:
        for data in chunks(raw, CHUNK):
            count, body = len(data) // 512, b''
            kind = 0
            if data.count(0) != len(data):
                kind, body = 0x80000005, zlib.compress(data, 6)
            entries.append(struct.pack('>IIQQQQ', kind, 0, sector, count, out.tell(), len(body)))
            out.write(body)
            sector += count
        fork = out.tell()
        entries.append(struct.pack('>IIQQQQ', 0xffffffff, 0, sector, 0, fork, 0))
        table = struct.pack('>4sIQQQIi', b'mish', 1, 0, sector, 0, 0x808, 0).ljust(200, b'\0')
        table = base64.b64encode(table + struct.pack('>I', len(entries)) + b''.join(entries)).decode()
        plist = ('<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0"><dict><key>resource-fork</key><dict>'
                 '<key>blkx</key><array><dict><key>Attributes</key><string>0x0050</string><key>Data</key><data>\n'
                 '%s\n</data><key>ID</key><string>0</string><key>Name</key><string>disk</string></dict></array></dict>'
                 '</dict></plist>\n' % table).encode()
        out.write(plist)
        trailer = struct.pack('>4sIIIQQQQQII', b'koly', 4, 512, 1, 0, 0, fork, 0, 0, 1, 1).ljust(216, b'\0')
        trailer += struct.pack('>QQ', fork, len(plist))
        trailer = trailer.ljust(488, b'\0') + struct.pack('>IQ', 1, sector)
        out.write(trailer.ljust(512, b'\0'))


def make_cloop(raw, path):
    packed = [zlib.compress(data, 6) for data in chunks(raw, 65536)]
    at = 128 + 8 + 8 * (len(packed) + 1)
    index = [at]
    for each in packed:
        at += len(each)
        index.append(at)
    with open(path, 'wb') as out:
        out.write(b'#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n'.ljust(128, b'\0'))
        out.write(struct.pack('>II', 65536, len(packed)) + struct.pack('>%dQ' % len(index), *index))
        for each in packed:
            out.write(each)


def make_bochs(raw, path, size):
    """Extents of 1 MiB, each behind the bitmap of its sectors, in the order of the disk."""
    extent = 1 << 20
    places, bodies = [], []
    for data in chunks(raw, extent):
        if data.count(0) == len(data):
            places.append(0xffffffff)
            continue
        places.append(len(bodies))
        bodies.append(data)
    head = struct.pack('<32s16s16sIIIIIIQ', b'Bochs Virtual HD Image', b'Redolog', b'Growing', 0x20000, 512, len(places),
                       extent // 4096, extent, 0, size)
    bitmap = (b'\xff' * (extent // 4096)).ljust(512, b'\0')
    with open(path, 'wb') as out:
        out.write(head.ljust(512, b'\0') + struct.pack('<%dI' % len(places), *places))
        for data in bodies:
            out.write(bitmap + data)
