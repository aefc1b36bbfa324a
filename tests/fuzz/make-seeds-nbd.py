#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make-seeds-nbd.py CORPUS: seeds of the two NBD targets."""
import os
import struct
import sys

SIMPLE, STRUCTURED, EXTENDED = 1, 2, 3
MORE = 8


def keep(target, label, data):
    folder = os.path.join(sys.argv[1], target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f'seed-{label}'), 'wb') as file:
        file.write(data)


def option(number, data=b''):
    return b'IHAVEOPT' + struct.pack('>II', number, len(data)) + data


def request(extended, kind, offset=0, length=4096, flags=0, data=b''):
    magic, form = (0x21e41c71, '>IHHQQQ') if extended else (0x25609513, '>IHHQQI')
    return struct.pack(form, magic, flags, kind, 7, offset, length) + data


def commands(extended):
    payload = 32 if extended else 0
    return b''.join(request(extended, *what) for what in (
        (0,), (0, 65536, 131072), (1, 512, 700, payload | 1, bytes(700)), (3, 0, 0), (4, 0, 65536, 1), (5, 0, 8192),
        (6, 4096, 4096, 2), (7, 0, 1 << 19), (7, 100, 5000, 8), (2, 0, 0)))


name = struct.pack('>I', 1) + b'w'
infos = struct.pack('>HHHHH', 4, 0, 1, 2, 3)
queries = struct.pack('>II', 2, 5) + b'base:' + struct.pack('>I', 5) + b'qemu:'
for number, label in (SIMPLE, 'simple'), (STRUCTURED, 'structured'), (EXTENDED, 'extended'):
    keep('nbd_server', label, bytes([number]) + commands(number == EXTENDED))
    keep('nbd_server', label + '-read-only', bytes([number | 4 | 16]) + commands(number == EXTENDED))
keep('nbd_server', 'late', bytes([STRUCTURED | 8]) + 40 * request(False, 0, 0, 131072))
keep('nbd_server', 'options', bytes([0]) + struct.pack('>I', 3) + option(3) + option(8) + option(6, name + infos)
     + option(9, name + queries) + option(10, name + queries) + option(5) + option(99, b'abc') + option(7, name + infos)
     + request(False, 0))
keep('nbd_server', 'export-name', bytes([0]) + struct.pack('>I', 1) + option(1, b'w') + request(False, 0))
keep('nbd_server', 'abort', bytes([0]) + struct.pack('>I', 3) + option(2))


def reply(number, kind, data=b''):
    return b'\x00\x03\xe8\x89\x04\x55\x65\xa9' + struct.pack('>III', number, kind, len(data)) + data


def record(kind, over=b''):
    return bytes([kind, len(over)]) + over


greeting = b'NBDMAGICIHAVEOPT\0\3'
unknown = 1 << 31 | 1
blocks = struct.pack('>HIII', 3, 1, 4096, 1 << 25)
context = struct.pack('>I', 3) + b'base:allocation'
export = struct.pack('>HQH', 0, 1 << 20, 13)
keep('nbd_client', 'negotiation', bytes([0]) + greeting + reply(11, unknown) + reply(8, 1) + reply(10, 4, context)
     + reply(10, 1) + reply(7, 3, export) + reply(7, 3, blocks) + reply(7, 1))
keep('nbd_client', 'old', bytes([0]) + b'NBDMAGICIHAVEOPT\0\2' + struct.pack('>QH', 1 << 20, 1))
keep('nbd_client', 'refused', bytes([0]) + greeting + reply(11, unknown) + reply(8, unknown)
     + reply(7, 1 << 31 | 6, b'not here'))
keep('nbd_client', 'simple', bytes([SIMPLE]) + record(1) * 12)
for number, label in (STRUCTURED, 'structured'), (EXTENDED, 'extended'):
    done = bytes(5) + b'\1'  # takes the flag of the last part away
    reads = record(3) * 4
    keep('nbd_client', label, bytes([number]) + reads + record(4) * 2 + record(0) * 5)
    keep('nbd_client', label + '-parts', bytes([number | 4]) + record(2 | MORE, done) + record(3) + record(5) + record(6))
