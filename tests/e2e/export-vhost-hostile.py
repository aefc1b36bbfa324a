#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vhost-user-blk export against a front end that speaks the protocol itself: every message, rings that stop and go
on, changes of size, and all that a hostile front end can think of."""
import array
import json
import mmap
import os
import socket
import struct

from exporttest import Daemon, connect
from imgtest import RNG, disk, finish, img, read, run, verdict, write

MIB = 1 << 20
USER, GUEST = 0x7000000000, 0x40000000
MEMORY, RING = 4 * MIB, 16
GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE, NUM, ADDR, BASE, GET_BASE, KICK, CALL, ERR = 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14
GET_PROTOCOL, SET_PROTOCOL, QUEUE_NUM, ENABLE, BACKEND_FD, GET_CONFIG, SET_CONFIG, MAX_SLOTS, ADD_REGION, REMOVE_REGION = \
    15, 16, 17, 18, 21, 24, 25, 36, 37, 38
PROTOCOL = 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 15
IN, OUT, FLUSH, GET_ID, DISCARD, ZEROES = 0, 1, 4, 8, 11, 13


class Front:
    """One connection, with its memory."""

    def __init__(self, path='vu'):
        self.sock = connect(path)
        self.memory = os.memfd_create('guest')
        os.ftruncate(self.memory, MEMORY)
        self.ram = mmap.mmap(self.memory, MEMORY)
        self.kicks = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]
        self.calls = [os.eventfd(0) for _ in range(4)]
        self.next, self.seen = [0] * 4, [0] * 4

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()

    def close(self):
        self.sock.close()
        for fd in [self.memory] + self.kicks + self.calls:
            os.close(fd)

    def send(self, request, payload=b'', fds=(), flags=1, size=None):
        head = struct.pack('<III', request, flags, len(payload) if size is None else size)
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        self.sock.sendmsg([head + payload], control)

    def take(self, length):
        data = b''
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def answer(self):
        return self.take(struct.unpack('<III', self.take(12))[2])

    def ask(self, request, payload=b'', fds=()):
        self.send(request, payload, fds)
        return self.answer()

    def number(self, request):
        return struct.unpack('<Q', self.ask(request))[0]

    def acked(self, request, payload=b'', fds=()):
        """The verdict that REPLY_ACK brings: 0 is good."""
        self.send(request, payload, fds, flags=9)
        return struct.unpack('<Q', self.answer())[0]

    def closed(self):
        """The back end hangs up."""
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionError:
            pass
        return True

    # ---- The good way ----

    def negotiate(self, features=1 << 32 | 1 << 30 | 1 << 9 | 1 << 11):
        offered = self.number(GET_FEATURES)
        self.send(SET_PROTOCOL, struct.pack('<Q', PROTOCOL & self.number(GET_PROTOCOL)))
        self.send(SET_OWNER)
        self.send(SET_FEATURES, struct.pack('<Q', features & offered))

    def table(self, *regions):
        return struct.pack('<II', len(regions), 0) + b''.join(struct.pack('<QQQQ', *region) for region in regions)

    def share(self):
        return self.acked(SET_MEM_TABLE, self.table((GUEST, MEMORY, USER, 0)), [self.memory])

    def start(self, ring=0, base=0):
        at = USER + ring * 0x4000
        self.send(NUM, struct.pack('<II', ring, RING))
        self.send(BASE, struct.pack('<II', ring, base))
        self.send(ADDR, struct.pack('<IIQQQQ', ring, 0, at, at + 0x1000, at + 0x800, 0))
        self.send(CALL, struct.pack('<Q', ring), [self.calls[ring]])
        self.send(KICK, struct.pack('<Q', ring), [self.kicks[ring]])
        return self.acked(ENABLE, struct.pack('<II', ring, 1))

    def good(self):
        self.negotiate()
        self.share()
        self.start()
        return self

    def put(self, ring, descriptors):
        """Makes a chain available and kicks: (address, length, device writes)."""
        at = ring * 0x4000
        for i, (address, length, writes) in enumerate(descriptors):
            flags = (1 if i + 1 < len(descriptors) else 0) | (2 if writes else 0)
            struct.pack_into('<QIHH', self.ram, at + 16 * i, address, length, flags, i + 1)
        struct.pack_into('<H', self.ram, at + 0x804 + 2 * (self.next[ring] % RING), 0)
        self.next[ring] = (self.next[ring] + 1) & 0xffff
        struct.pack_into('<H', self.ram, at + 0x802, self.next[ring])
        os.eventfd_write(self.kicks[ring], 1)

    def begin(self, kind, sector=0, data=b'', length=0, ring=0):
        head, body, status = 0x100000 + ring * 0x80000, 0x110000 + ring * 0x80000, 0x108000 + ring * 0x80000
        struct.pack_into('<IIQ', self.ram, head, kind, 0, sector)
        self.ram[body:body + len(data)] = data
        self.ram[status] = 0xee
        chain = [(GUEST + head, 16, False)]
        if data or length:
            chain.append((GUEST + body, length or len(data), length > 0))
        self.put(ring, chain + [(GUEST + status, 1, True)])

    def request(self, kind, sector=0, data=b'', length=0, ring=0):
        """Its status and what was read."""
        self.begin(kind, sector, data, length, ring)
        return self.finish(length, ring)

    def finish(self, length=0, ring=0):
        body, status = 0x110000 + ring * 0x80000, 0x108000 + ring * 0x80000
        os.eventfd_read(self.calls[ring])
        used = struct.unpack_from('<H', self.ram, ring * 0x4000 + 0x1002)[0]
        if used != self.next[ring]:
            raise ValueError(f'used index {used}, not {self.next[ring]}')
        return self.ram[status], self.ram[body:body + length]


def serve(name, *more, daemon=()):
    return Daemon('--blockdev', f'driver=raw,node-name=n,discard=unmap,file.driver=file,file.filename={name}',
                  '--export', ','.join(('vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path=vu',) + more), *daemon)


def test_messages():
    data = disk(MIB)
    write('d.raw', data)
    with serve('d.raw', 'writable=on', 'num-queues=2', 'serial=abc'), Front() as f:
        features, protocol = f.number(GET_FEATURES), f.number(GET_PROTOCOL)
        wanted = sum(1 << bit for bit in (2, 6, 9, 10, 11, 12, 13, 14, 28, 29, 30, 32))
        verdict(features == wanted, 'features', hex(features))
        verdict(protocol == PROTOCOL, 'protocol features', hex(protocol))
        f.negotiate()
        verdict(f.number(QUEUE_NUM) == 2, 'GET_QUEUE_NUM')
        verdict(f.number(MAX_SLOTS) == 32, 'GET_MAX_MEM_SLOTS')
        config = f.ask(GET_CONFIG, struct.pack('<III', 0, 60, 0) + bytes(60))[12:]
        verdict(struct.unpack_from('<Q', config)[0] == MIB // 512 and config[32] == 1, 'GET_CONFIG', config)
        verdict(f.acked(SET_CONFIG, struct.pack('<III', 32, 1, 0) + b'\0') == 0, 'SET_CONFIG')
        verdict(f.ask(GET_CONFIG, struct.pack('<III', 32, 1, 0) + b'x')[12:] == b'\0', 'the write cache is off now')
        verdict(f.share() == 0 and f.start(0) == 0 and f.start(1) == 0, 'memory and rings')
        verdict(f.request(IN, 8, length=4096) == (0, data[4096:8192]), 'read')
        verdict(f.request(OUT, 2, b'\7' * 1024, ring=1)[0] == 0 and f.request(IN, 2, length=1024)[1] == b'\7' * 1024,
                'written in one ring, read in another')
        verdict(f.request(FLUSH)[0] == 0, 'flush')
        verdict(f.request(GET_ID, length=20) == (0, b'abc'.ljust(20, b'\0')), 'the serial number')
        zeroes = struct.pack('<QII', 0, 2, 1)
        verdict(f.request(ZEROES, 0, zeroes)[0] == 0 and f.request(IN, 0, length=1024)[1] == bytes(1024), 'zeroes')
        verdict(f.request(DISCARD, 0, struct.pack('<QII', 16, 8, 0))[0] == 0, 'discard')
        verdict(f.request(IN, MIB // 512, length=512)[0] == 1, 'a read behind the end fails')
        verdict(f.request(IN, 1 << 62, length=512)[0] == 1, 'a read far behind the end fails')
        verdict(f.request(DISCARD, 0, struct.pack('<QII', 0, 0xffffffff, 0))[0] == 1, 'a discard that is too long fails')
        verdict(f.request(77, length=512)[0] == 2, 'an unknown request is not supported')
        verdict(f.request(IN, 0, length=100)[0] == 1, 'a read of no whole sectors fails')
        verdict(struct.unpack('<II', f.ask(GET_BASE, struct.pack('<II', 0, 0))) == (0, f.next[0]), 'GET_VRING_BASE')
        base = f.next[0]
        f.begin(IN, 8, length=512)
        verdict(f.request(IN, 8, length=512, ring=1)[0] == 0, 'the other ring goes on')
        verdict(f.ram[0x108000] == 0xee, 'a ring that has stopped does nothing')
        f.start(0, base)
        verdict(f.finish(512)[0] == 0, 'it goes on where it stopped')
        verdict(f.share() == 0 and f.request(IN, 8, length=512)[0] == 0, 'memory can be shared anew while rings run')


def test_slots():
    data = disk(MIB)
    write('d.raw', data)
    with serve('d.raw'), Front() as f:
        f.negotiate()
        region = struct.pack('<QQQQQ', 0, GUEST, MEMORY, USER, 0)
        other = struct.pack('<QQQQQ', 0, GUEST + (1 << 30), MEMORY, USER + (1 << 30), 0)
        verdict(f.acked(ADD_REGION, region, [f.memory]) == 0, 'ADD_MEM_REG')
        verdict(f.acked(ADD_REGION, region, [f.memory]) == 1, 'the same once more is refused')
        verdict(f.acked(ADD_REGION, other, [f.memory]) == 0, 'another')
        f.start()
        verdict(f.request(IN, 0, length=512) == (0, data[:512]), 'read')
        verdict(f.request(OUT, 0, bytes(512))[0] == 1, 'writes to a read-only export fail')
        verdict(f.acked(REMOVE_REGION, other) == 0 and f.request(IN, 8, length=512)[0] == 0, 'REM_MEM_REG')
        verdict(f.acked(REMOVE_REGION, other) == 1, 'what is not there cannot be removed')
        answers = [f.acked(ADD_REGION, struct.pack('<QQQQQ', 0, GUEST + (i << 30), 4096, USER + (i << 30), 0), [f.memory])
                   for i in range(1, 40)]
        verdict(answers == [0] * 31 + [1] * 8, 'there are 32 slots', answers)


def test_resize():
    write('d.raw', bytes(MIB))
    with serve('d.raw', daemon=('--chardev', 'socket,id=c,path=qmp,server=on', '--monitor', 'c')), Front() as f:
        mine, theirs = socket.socketpair()
        f.good()
        verdict(f.acked(BACKEND_FD, b'', [theirs.fileno()]) == 0, 'SET_BACKEND_REQ_FD')
        monitor = connect('qmp')
        monitor.sendall(b'{"execute": "qmp_capabilities"}')
        command = {'execute': 'block_resize', 'arguments': {'node-name': 'n', 'size': 3 * MIB}}
        monitor.sendall(json.dumps(command).encode())
        mine.settimeout(30)
        verdict(struct.unpack('<III', mine.recv(12)) == (2, 1, 0), 'the front end hears of a new size')
        config = f.ask(GET_CONFIG, struct.pack('<III', 0, 8, 0) + bytes(8))[12:]
        verdict(struct.unpack('<Q', config)[0] == 3 * MIB // 512, 'and finds it')
        verdict(f.request(IN, 2 * MIB // 512, length=512)[0] == 0, 'and reads there')
        command = {'execute': 'block-export-del', 'arguments': {'id': 'e'}}
        monitor.sendall(json.dumps(command).encode())
        said = b''
        while b'in use' not in said:
            said += monitor.recv(4096)
        verdict(True, 'the export is not ended while it is used')
        command['arguments']['mode'] = 'hard'
        monitor.sendall(json.dumps(command).encode())
        verdict(f.closed(), 'unless the monitor insists')
        monitor.close()


def broken_messages(f):
    """Name and what to do, each on a connection of its own."""
    u64 = struct.Struct('<Q').pack
    pair = struct.Struct('<II').pack
    pipe_out, pipe_in = os.pipe()
    table = f.table((GUEST, MEMORY, USER, 0))
    return {
        'version 2': lambda: f.send(GET_FEATURES, flags=2),
        'an answer': lambda: f.send(GET_FEATURES, flags=5),
        'a payload where there is none': lambda: f.send(GET_FEATURES, b'x'),
        'a huge payload': lambda: f.send(GET_FEATURES, size=0xffffffff),
        'an unknown message': lambda: f.send(99),
        'no message': lambda: f.sock.sendall(b'GET / HTTP/1.0\r\n\r\n'),
        'features that are not offered': lambda: f.send(SET_FEATURES, u64(1 << 63)),
        'protocol features that are not offered': lambda: f.send(SET_PROTOCOL, u64(1 << 40)),
        'a table without descriptors': lambda: f.send(SET_MEM_TABLE, table),
        'a table with too many': lambda: f.send(SET_MEM_TABLE, table, [f.memory] * 2),
        'more descriptors than any message has': lambda: f.send(SET_MEM_TABLE, table, [f.memory] * 100),
        'a table with a wrong count': lambda: f.send(SET_MEM_TABLE, pair(0xffffffff, 0) + table[8:], [f.memory]),
        'a table that is cut short': lambda: f.send(SET_MEM_TABLE, table[:-1], [f.memory]),
        'memory behind the file': lambda: f.send(SET_MEM_TABLE, f.table((GUEST, MEMORY * 2, USER, 0)), [f.memory]),
        'memory far behind the file': lambda: f.send(SET_MEM_TABLE, f.table((GUEST, MEMORY, USER, 1 << 62)), [f.memory]),
        'memory of no size': lambda: f.send(SET_MEM_TABLE, f.table((GUEST, 0, USER, 0)), [f.memory]),
        'memory that wraps around': lambda: f.send(SET_MEM_TABLE, f.table(((1 << 64) - 4096, MEMORY, USER, 0)), [f.memory]),
        'memory that wraps around for the front end':
            lambda: f.send(SET_MEM_TABLE, f.table((GUEST, MEMORY, (1 << 64) - 4096, 0)), [f.memory]),
        'memory twice': lambda: f.send(SET_MEM_TABLE, f.table((GUEST, MEMORY, USER, 0), (GUEST, MEMORY, USER, 0)),
                                       [f.memory] * 2),
        'memory in a pipe': lambda: f.send(SET_MEM_TABLE, table, [pipe_in]),
        'a ring that is not there': lambda: f.send(NUM, pair(4, 16)),
        'a ring far away': lambda: f.send(KICK, u64(255), [f.kicks[0]]),
        'kicks without a descriptor': lambda: f.send(KICK, u64(0)),
        'kicks by polling': lambda: f.send(KICK, u64(0x100)),
        'kicks by a pipe': lambda: f.send(KICK, u64(0), [pipe_out]),
        'calls by a pipe': lambda: f.send(CALL, u64(0), [pipe_in]),
        'a ring without memory': lambda: (f.send(KICK, u64(0), [f.kicks[0]]), f.send(ENABLE, pair(0, 1))),
        'a ring of odd size': lambda: (f.share(), f.send(NUM, pair(0, 3)),
                                       f.send(ADDR, struct.pack('<IIQQQQ', 0, 0, USER, USER + 4096, USER + 2048, 0)),
                                       f.send(KICK, u64(0), [f.kicks[0]]), f.send(ENABLE, pair(0, 1))),
        'a ring behind the memory': lambda: (f.share(), f.send(NUM, pair(0, 16)), f.send(
            ADDR, struct.pack('<IIQQQQ', 0, 0, USER + MEMORY - 16, USER, USER, 0)),
            f.send(KICK, u64(0), [f.kicks[0]]), f.send(ENABLE, pair(0, 1))),
        'a ring that logs': lambda: f.send(ADDR, struct.pack('<IIQQQQ', 0, 1, USER, USER, USER, 0)),
        'a ring whose size changes while it runs': lambda: (f.share(), f.start(), f.send(NUM, pair(0, 8))),
        'configuration out of range': lambda: f.send(GET_CONFIG, struct.pack('<III', 200, 100, 0) + bytes(100)),
        'configuration of a wrong length': lambda: f.send(GET_CONFIG, struct.pack('<III', 0, 100, 0) + bytes(10)),
        'half a header': lambda: (f.sock.sendall(b'\1\0\0'), f.sock.shutdown(socket.SHUT_WR)),
        'half a payload': lambda: (f.send(SET_FEATURES, b'xx', size=8), f.sock.shutdown(socket.SHUT_WR)),
        'a file as the other socket': lambda: f.send(BACKEND_FD, b'', [f.memory]),
        'a ring with too many requests':
            lambda: (f.share(), f.start(), struct.pack_into('<H', f.ram, 0x802, 999), os.eventfd_write(f.kicks[0], 1)),
        'a descriptor outside the memory': lambda: (f.share(), f.start(), f.put(0, [(GUEST + MEMORY, 16, False)])),
        'a descriptor across the end': lambda: (f.share(), f.start(), f.put(0, [(GUEST + MEMORY - 8, 16, False)])),
        'a chain in a circle': lambda: (f.share(), f.start(), f.put(0, [(GUEST, 16, False)] * 17)),
        'a request without a header': lambda: (f.share(), f.start(), f.put(0, [(GUEST + 0x100000, 1, True)])),
        'a request without a status': lambda: (f.share(), f.start(), f.put(0, [(GUEST + 0x100000, 16, False)])),
    }, (pipe_out, pipe_in)


def test_hostile():
    write('d.raw', bytes(MIB))
    before_data = read('d.raw')
    with serve('d.raw', 'num-queues=4') as daemon:
        with Front() as f:
            f.good()
        before = daemon.descriptors()
        with Front() as f:
            names = list(broken_messages(f)[0])
        for name in names:
            with Front() as f:
                f.negotiate()
                table, pipes = broken_messages(f)
                try:
                    table[name]()
                except ConnectionError:
                    pass  # It hung up before the last of several messages.
                verdict(f.closed(), f'{name}: hung up')
                for fd in pipes:
                    os.close(fd)
        for _ in range(200):
            with Front() as f:
                for step in RNG.sample((f.negotiate, f.share, f.start), RNG.randrange(3)):
                    try:
                        f.send(SET_PROTOCOL, struct.pack('<Q', PROTOCOL))
                        step()
                    except (EOFError, OSError):
                        break
        with Front() as f:
            verdict(f.good().request(IN, length=512)[0] == 0, 'the next front end is served')
        with Front() as f:
            f.good()
            now = daemon.descriptors()
            verdict(now <= before + 8, 'no descriptor is left over', f'{before}, {now}')
        verdict(daemon.process.poll() is None, 'the daemon lives')
    verdict(read('d.raw') == before_data, 'nothing was written')


def test_memory_taken_away():
    write('d.raw', disk(MIB))
    with serve('d.raw', 'writable=on') as daemon:
        with Front() as f:
            f.good()
            verdict(f.request(IN, 0, length=4096)[0] == 0, 'read')
            os.ftruncate(f.memory, 0)
            os.eventfd_write(f.kicks[0], 1)
            try:
                f.send(GET_FEATURES)
                f.answer()
            except (EOFError, OSError):
                pass
        with Front() as f:
            verdict(f.good().request(IN, 0, length=4096)[0] == 0, 'a front end that cuts its memory short hurts only itself')
        verdict(daemon.end()[0] == 0, 'the daemon ends well')


test_messages()
test_slots()
test_resize()
test_hostile()
test_memory_taken_away()
finish()
