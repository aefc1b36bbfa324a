#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make-seeds-vhost-user.py CORPUS: seeds of the vhost-user target."""
import os
import struct
import sys


def message(request, payload=b'', fds=0, kind=0, flags=1):
    return bytes([0, request, flags, fds, kind, len(payload)]) + payload


def memory(at, data):
    return bytes([3]) + struct.pack('>H', at) + bytes([len(data)]) + data


def kick(ring=0):
    return bytes([4, ring])


def descriptor(at, length, flags, follows):
    return struct.pack('<QIHH', at, length, flags, follows)


def request(kind, sector, data_length, to_guest, more=b''):
    """One request in ring 0: header at 0x8000, data at 0x9000, status at 0xf000."""
    table = descriptor(0x8000, 16, 1, 1) + descriptor(0x9000, data_length, 1 | (2 if to_guest else 0), 2) \
        + descriptor(0xf000, 1, 2, 0)
    return memory(0x8000, struct.pack('<IIQ', kind, 0, sector)) + (memory(0x9000, more) if more else b'') \
        + memory(0, table) + memory(0x804, struct.pack('<H', 0)) + memory(0x802, struct.pack('<H', 1)) + kick()


SEEDS = {
    'negotiate': b'\0' + message(1) + message(15) + message(17) + message(24, bytes(72)),
    'read': b'\1' + request(0, 8, 512, True),
    'write': b'\1' + request(1, 8, 512, False),
    'write-read-only': b'\3' + request(1, 8, 512, False),
    'identify': b'\1' + request(8, 0, 20, True),
    'discard': b'\1' + request(11, 0, 16, False, struct.pack('<QII', 0, 8, 0)),
    'zeroes': b'\1' + request(13, 0, 16, False, struct.pack('<QII', 0, 8, 1)),
    'cut-short': b'\1' + bytes([5, 0]) + kick() + bytes([5, 1]) + request(0, 8, 512, True),
    'slots': b'\0' + message(16, struct.pack('<Q', 0x8229)) + message(36, flags=9)
             + message(37, struct.pack('<QQQQQ', 0, 0, 65536, 65536, 0), 1, flags=9)
             + message(38, struct.pack('<QQQQQ', 0, 0, 65536, 65536, 0), flags=9),
    'stop': b'\1' + request(0, 8, 512, True) + message(11, bytes(8)) + message(18, bytes(8)),
}
FOLDER = os.path.join(sys.argv[1], 'vhost_user')
os.makedirs(FOLDER, exist_ok=True)
for name, seed in SEEDS.items():
    with open(os.path.join(FOLDER, name), 'wb') as out:
        out.write(seed)
