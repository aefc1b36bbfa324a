#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks in sheepdog clusters, with a server of the test's own that keeps objects in memory and follows the published protocol
(see sheepdogtest.py): it is no sheepdog.  Where there is a real `sheep`, that one is used, too."""
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

# pylint: disable=wrong-import-position
import sheepdogtest as sd  # noqa: E402
from imgtest import RNG, difference, finish, img, read, run, skip, verdict, write
from nbdtest import IO

MIB = 1 << 20
SIZE = 20 * MIB + 4096


def unlike(got, wanted):
    """Where they differ; that is looked for only if they do, since it takes long."""
    return '' if got == bytes(wanted) else difference(got, bytes(wanted))


def said(name, result, *texts):
    """The tool fails with one line that names all this."""
    status, _, text = result
    return verdict(status == 1 and all(part in text for part in texts) and text.count('\n') == 1, name,
                   f'status {status}: {text}')


def io(where, *commands, options=('-f', 'raw')):
    args = [arg for command in commands for arg in ('-c', command)]
    return run(IO, *options, *args, where)


def fine(name, result, *texts):
    status, out, text = result
    return verdict(status == 0 and b'ailed' not in out and b'rror' not in out and all(part in out for part in texts), name,
                   f'status {status}: {out.decode()}{text}')


def same(name, cluster, vdi, wanted):
    why = unlike(cluster.bytes_of(vdi), wanted)
    return verdict(not why, name, why)


def clean(name, cluster):
    verdict(not cluster.violations, f'{name}: the rules of the protocol are kept', cluster.violations[:5])
    verdict(not any(vdi.locked for vdi in cluster.vdis), f'{name}: no lock is left behind')


def fresh(size=SIZE, **more):
    cluster = sd.Cluster()
    cluster.add('disk', size, **more)
    return cluster, sd.Server(cluster)


def test_names():
    cluster, server = fresh()
    cluster.snapshot('disk', 'first')
    port = server.port
    local = sd.Server(cluster, os.path.abspath('socket'))
    forms = [f'sheepdog://127.0.0.1:{port}/disk', f'sheepdog+tcp://127.0.0.1:{port}/disk', f'sheepdog:127.0.0.1:{port}:disk',
             f'sheepdog:127.0.0.1:{port}:disk:1', f'sheepdog:127.0.0.1:{port}:disk:first', server.uri('disk', '1'),
             server.uri('disk', 'first'), local.uri('disk'), local.uri('disk', 'first'),
             f'json:{{"driver": "sheepdog", "server": {{"type": "inet", "host": "127.0.0.1", "port": "{port}"}}, "vdi": "disk"}}',
             f'json:{{"driver": "sheepdog", "server": {{"type": "unix", "path": "{local.path}"}}, "vdi": "disk", "snap-id": 1}}']
    for form in forms:
        fine(f'a name: {form.replace(str(port), "PORT")[:60]}', img('info', '-f', 'raw', form), b'20 MiB')
    fine('options', run(IO, '-r', '-c', 'length', '--image-opts',
                        f'driver=raw,file.driver=sheepdog,file.server.host=127.0.0.1,file.server.port={port},file.vdi=disk,'
                        'file.tag=first'), b'20')
    for form in ('sheepdog:', 'sheepdog::', 'sheepdog:a:b:c:d:e', 'sheepdog://host', 'sheepdog://host/', 'sheepdog://host/v?x=1',
                 'sheepdog+unix:///v', 'sheepdog+unix:///v?path=x', 'sheepdog+unix://h/v?socket=x', 'sheepdog://h/v#'):
        said(f'no name: {form}', img('info', form), 'sheepdog')
    said('no such disk', img('info', server.uri('none')), 'none', f'port {port}', 'no such VDI')
    said('no such tag', img('info', server.uri('disk', 'nope')), 'nope', 'no such snapshot')
    said('a name that is too long', img('info', server.uri('x' * 256)), '255')
    said('no port', img('info', 'sheepdog:127.0.0.1:seven:disk'), 'seven')
    with socket.create_server(('127.0.0.1', 0)) as nobody:
        free = nobody.getsockname()[1]
    said('nobody listens', img('info', f'sheepdog:127.0.0.1:{free}:disk'), '127.0.0.1', str(free))
    said('no such host', img('info', 'sheepdog://no.such.host.invalid/disk'), 'no.such.host.invalid')
    clean('names', cluster)


def test_data():
    cluster, server = fresh()
    vdi = cluster.find('disk')
    uri, wanted = server.uri('disk'), bytearray(SIZE)
    fine('nothing is there: zeroes', io(uri, f'read -P 0 0 {SIZE}', options=('-r', '-f', 'raw')))
    verdict(cluster.counts.get(sd.READ) == 2, 'and no object is asked for', cluster.counts)
    pieces = [(RNG.randrange(SIZE - 3 * MIB), RNG.choice((1, 512, 4096, 65536, RNG.randrange(1, 3 * MIB))), RNG.randrange(1, 255))
              for _ in range(60)]
    fine('pieces of every size', io(uri, *(f'write -q -P {pattern} {at} {length}' for at, length, pattern in pieces)))
    for at, length, pattern in pieces:
        wanted[at:at + length] = bytes([pattern]) * length
    same('they are on the server', cluster, vdi, wanted)
    fine('several pieces of memory', io(uri, 'writev -P 5 4194000 300 4096 77', 'readv -P 5 4194000 4096 300 77', 'flush'))
    wanted[4194000:4194000 + 4473] = bytes([5]) * 4473
    verdict(cluster.counts.get(sd.FLUSH, 0) > 0, 'a flush comes to the server', cluster.counts)
    status, _, text = img('convert', '-f', 'raw', '-O', 'raw', uri, 'out.raw')
    verdict(status == 0 and not unlike(read('out.raw'), bytes(wanted)), 'all is read back', text)
    before = vdi.entries()
    fine('discard', io(uri, 'discard 8M 4M', 'discard 100 200', 'read -P 0 8M 4M'))
    wanted[8 * MIB:12 * MIB] = bytes(4 * MIB)
    verdict(vdi.entries() == before - 1, 'gives whole objects back', (before, vdi.entries()))
    fine('zeroes', io(uri, 'write -z 1M 2M', 'write -z -u 12M 4M', 'read -P 0 1M 2M', 'read -P 0 12M 4M'))
    wanted[MIB:3 * MIB], wanted[12 * MIB:16 * MIB] = bytes(2 * MIB), bytes(4 * MIB)
    same('zeroes are on the server', cluster, vdi, wanted)
    fine('and written again', io(uri, 'write -P 7 9M 1M', 'read -P 0 8M 1M', 'read -P 7 9M 1M', 'read -P 0 10M 2M'))
    wanted[9 * MIB:10 * MIB] = bytes([7]) * MIB
    same('written again', cluster, vdi, wanted)
    status, out, text = img('map', '-f', 'raw', '--output=json', uri)
    verdict(status == 0 and b'"start": 12582912, "length": 4194304' in out and b'"zero": true' in out, 'map', out.decode() + text)
    fine('info', img('info', '-f', 'raw', '--output=json', uri), b'"virtual-size": 20975616')
    clean('data', cluster)


def test_without_cache():
    cluster, server = fresh()
    cluster.has_cache = False
    fine('a server without a cache of objects', io(server.uri('disk'), 'write 0 4k', 'flush', 'write 4k 4k', 'flush', 'flush'))
    verdict(cluster.counts.get(sd.FLUSH) == 1, 'is asked once', cluster.counts)
    cluster, server = fresh()
    fine('direct', io(server.uri('disk'), 'write 0 4k', 'flush', options=('-f', 'raw', '-t', 'none')))
    verdict(sd.FLUSH not in cluster.counts, 'without the cache there is no flush', cluster.counts)


def test_resize():
    cluster, server = fresh(8 * MIB)
    uri, vdi = server.uri('disk'), cluster.find('disk')
    fine('it grows', io(uri, 'write -P 1 7M 1M', 'truncate 13M', 'write -P 2 12M 1M', 'read -P 0 8M 4M', 'length'), b'13 MiB')
    same('grown', cluster, vdi, bytes(7 * MIB) + b'\1' * MIB + bytes(4 * MIB) + b'\2' * MIB)
    said('it does not shrink', img('resize', '--shrink', '-f', 'raw', uri, '4M'), 'smaller')
    fine('resize', img('resize', '-f', 'raw', uri, '16M'))
    verdict(vdi.size == 16 * MIB, 'the server knows', vdi.size)
    clean('resize', cluster)


def test_create():
    cluster, server = fresh()
    fine('create', img('create', '-f', 'raw', '-o', 'redundancy=2', server.uri('new'), '64M'))
    new = cluster.find('new')
    verdict(new and new.size == 64 * MIB and new.head[554] == 2 and new.shift == 22, 'as was asked for')
    fine('with parity', img('create', '-f', 'raw', '-o', 'redundancy=4:2,object_size=8M', server.uri('parity'), '64M'))
    new = cluster.find('parity')
    verdict(new and new.head[552] == 0x22 and new.head[554] == 6 and new.shift == 23, 'parity, larger objects')
    fine('larger objects are used', io(server.uri('parity'), 'write -P 3 7M 2M', 'read -P 3 7M 2M', 'read -P 0 0 7M'))
    said('twice', img('create', '-f', 'raw', server.uri('new'), '64M'), 'new', 'already')
    for bad in ('0', '32', '3:2', '4:16', '4:0', 'x', '2:1:1', ''):
        said(f'redundancy {bad}', img('create', '-f', 'raw', '-o', f'redundancy={bad}', server.uri('bad'), '64M'), 'redundancy')
    for bad in ('3M', '512k', '4G'):
        said(f'objects of {bad}', img('create', '-f', 'raw', '-o', f'object_size={bad}', server.uri('bad'), '64M'), 'object_size')
    said('too large', img('create', '-f', 'raw', server.uri('bad'), '5T'), 'object_size')
    verdict(cluster.find('bad') is None, 'nothing is left of them')
    data = RNG.randbytes(3 * MIB) + bytes(6 * MIB) + RNG.randbytes(2 * MIB)
    write('d.raw', data)
    fine('convert, in', img('convert', '-f', 'raw', '-O', 'raw', 'd.raw', server.uri('copy')))
    same('converted', cluster, cluster.find('copy'), data)
    fine('convert, out', img('convert', '-f', 'raw', '-O', 'raw', server.uri('copy'), 'out.raw'))
    verdict(not unlike(read('out.raw'), data), 'and back')
    fine('qcow2 on it', img('convert', '-f', 'raw', '-O', 'qcow2', 'd.raw', server.uri('q')))
    verdict(img('check', '-f', 'qcow2', server.uri('q'))[0] == 0, 'it is clean')
    fine('qcow2, out', img('convert', '-f', 'qcow2', '-O', 'raw', server.uri('q'), 'out.raw'))
    verdict(not unlike(read('out.raw'), data), 'and qcow2 back')
    clean('create', cluster)


def test_clones():
    cluster, server = fresh()
    uri, data = server.uri('disk'), bytearray(RNG.randbytes(SIZE))
    write('d.raw', data)
    fine('filled', img('convert', '-n', '-f', 'raw', '-O', 'raw', 'd.raw', uri))
    old = cluster.snapshot('disk', 'base')
    fine('a snapshot is read', img('convert', '-f', 'raw', '-O', 'raw', server.uri('disk', 'base'), 'out.raw'))
    verdict(not unlike(read('out.raw'), bytes(data)), 'as it is')
    said('a snapshot is read-only', io(server.uri('disk', 'base'), 'write 0 4k'), 'read-only', 'clone')
    fine('a clone', img('create', '-f', 'raw', '-o', 'clone-of=disk:base', server.uri('clone'), str(SIZE)))
    clone = cluster.find('clone')
    same('holds the same', cluster, clone, data)
    fine('is written', io(server.uri('clone'), 'write -P 9 5M 100', 'aio_write -q -P 8 12M 1M', 'aio_write -q -P 7 13M 1M',
                          'aio_flush', 'discard 16M 4M', 'read -P 9 5M 100', 'read -P 0 16M 4M'))
    wanted = bytearray(data)
    wanted[5 * MIB:5 * MIB + 100] = bytes([9]) * 100
    wanted[12 * MIB:14 * MIB] = bytes([8]) * MIB + bytes([7]) * MIB
    wanted[16 * MIB:20 * MIB] = bytes(4 * MIB)
    same('copy on write', cluster, clone, wanted)
    same('the snapshot is as it was', cluster, old, data)
    verdict(clone.entry(0) == old.vid and clone.entry(1) == clone.vid and clone.entry(4) == 0, 'objects are shared')
    said('a clone of no snapshot', img('create', '-f', 'raw', '-o', 'clone-of=disk', server.uri('x'), '1M'), 'clone-of')
    said('a clone of none', img('create', '-f', 'raw', '-o', 'clone-of=disk:none', server.uri('x'), '1M'), 'none')
    # A snapshot while it is open: what was written to is read-only now.
    with subprocess.Popen([IO, '-f', 'raw', uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as prompt:
        prompt.stdin.write(b'write -P 1 0 1M\nlength\n')
        prompt.stdin.flush()
        while b'MiB' not in (line := prompt.stdout.readline()) or b'20' not in line:
            if not line:
                break
        second = cluster.snapshot('disk', 'second')
        out = prompt.communicate(b'write -P 2 1M 1M\nwrite -P 3 17M 1M\nread -P 1 0 1M\nread -P 2 1M 1M\nq\n')[0]
    verdict(prompt.returncode == 0 and b'ailed' not in out, 'a snapshot made meanwhile', out.decode())
    wanted = bytearray(data)
    wanted[:MIB] = bytes([1]) * MIB
    same('it holds what was written before', cluster, second, wanted)
    wanted[MIB:2 * MIB], wanted[17 * MIB:18 * MIB] = bytes([2]) * MIB, bytes([3]) * MIB
    same('the rest goes to the new disk', cluster, cluster.find('disk'), wanted)
    verdict(not cluster.violations, 'clones: the rules of the protocol are kept', cluster.violations[:5])


def test_locks():
    cluster, server = fresh()
    uri = server.uri('disk')
    cluster.find('disk').locked = True
    said('locked', io(uri, 'write 0 4k'), 'locked', '127.0.0.1', 'read-only')
    fine('reading needs no lock', io(uri, 'read 0 4k', options=('-r', '-f', 'raw')))
    verdict(cluster.find('disk').locked, "another's lock is left alone")


def test_together():
    cluster, server = fresh(64 * MIB)
    uri, wanted = server.uri('disk'), bytearray(64 * MIB)
    commands = []
    for number in range(256):
        at, pattern = (number * 37 % 1024) * 65536, number % 255 + 1
        commands.append(f'aio_write -q -P {pattern} {at} 65536')
        wanted[at:at + 65536] = bytes([pattern]) * 65536
    fine('many at once', io(uri, *commands, 'aio_flush'))
    same('all is there', cluster, cluster.find('disk'), wanted)
    made = cluster.counts[sd.CREATE]
    verdict(made == cluster.find('disk').entries() <= 16, 'each object is made once', made)
    reads = [f'aio_read -q -P {number % 255 + 1} {(number * 37 % 1024) * 65536} 65536' for number in range(256)]
    fine('answers in another order', io(uri, *reads, 'aio_flush', options=('-r', '-f', 'raw')))
    clean('together', cluster)


def killed_once(server, opcode, after, back):
    """The server dies at a call, before or after it has done it, and is back soon, or not."""
    state = {'calls': 0, 'killed': False}

    def spoil(head, data, got):
        state['calls'] += got == opcode
        if state['killed'] or state['calls'] <= after:
            return bytes(head) + data
        state['killed'] = True
        threading.Thread(target=bury).start()
        return None

    def bury():
        server.kill()
        if back:
            time.sleep(.3)
            server.start()
    server.spoil = spoil
    return state


def test_killed():
    for opcode, after, name in ((sd.WRITE, 1, 'a write'), (sd.CREATE, 1, 'a new object'), (sd.WRITE, 0, 'an entry')):
        cluster, server = fresh()
        state = killed_once(server, opcode, after, False)
        status, out, text = io(server.uri('disk'), 'write -P 1 0 1M', 'write -P 2 4M 1M', 'write -P 3 4M 1M', 'write -P 4 5M 1M')
        verdict(status == 1 or b'rror' in out or text, f'killed at {name}: an error', out.decode() + text)
        verdict(state['killed'] and not cluster.violations, f'killed at {name}: it was', cluster.violations)
        cluster, server = fresh()
        state = killed_once(server, opcode, after, True)
        commands = [f'aio_write -q -P {number % 255 + 1} {number * 65536} 65536' for number in range(200)]
        where = (f'driver=raw,file.driver=sheepdog,file.server.host=127.0.0.1,file.server.port={server.port},file.vdi=disk,'
                 'file.reconnect-delay=60')
        fine(f'killed at {name}, and back', io(where, *commands, 'aio_flush', options=('--image-opts',)))
        same(f'killed at {name}, and back: nothing is lost', cluster, cluster.find('disk'),
             b''.join(bytes([number % 255 + 1]) * 65536 for number in range(200)) + bytes(SIZE - 200 * 65536))
        verdict(state['killed'], f'killed at {name}, and back: it was')
        clean(f'killed at {name}, and back', cluster)


def lie(offset, form, value, opcode, first=0):
    """Another number in the answers to a call."""
    seen = {'n': 0}

    def spoil(head, data, got):
        seen['n'] += got == opcode
        if got == opcode and seen['n'] > first:
            struct.pack_into(form, head, offset, value)
        return bytes(head) + data
    return spoil


def lying_inode(offset, form, value):
    def spoil(head, data, opcode):
        if opcode == sd.READ and len(data) == sd.HEAD:
            data = bytearray(data)
            struct.pack_into(form, data, offset, value)
        return bytes(head) + bytes(data)
    return spoil


def test_lies():
    cluster, server = fresh()
    uri = server.uri('disk')
    fine('filled', io(uri, 'write -P 1 0 9M'))
    for name, spoil in (('another id', lie(8, '<I', 77, sd.GET_INFO)), ('no disk', lie(24, '<I', 0, sd.GET_INFO)),
                        ('a disk that cannot be', lie(24, '<I', 1 << 24, sd.GET_INFO)),
                        ('an unknown result', lie(16, '<I', 0xffffffff, sd.GET_INFO)),
                        ('too long', lie(12, '<I', 0xffffffff, sd.READ)), ('too short', lie(12, '<I', 17, sd.READ)),
                        ('an inode that cannot be read', lie(16, '<I', 3, sd.READ)),
                        ('another name', lying_inode(0, '<B', 0x41)), ('another number', lying_inode(560, '<I', 5)),
                        ('tiny objects', lying_inode(555, '<B', 3)), ('huge objects', lying_inode(555, '<B', 63)),
                        ('a huge size', lying_inode(536, '<Q', 1 << 63)), ('a size too large', lying_inode(536, '<Q', (1 << 42) + 1)),
                        ('no copies', lying_inode(554, '<B', 0)), ('a parent that cannot be', lying_inode(564, '<I', 1 << 31)),
                        ('a hyper volume', lying_inode(553, '<B', 1)),
                        ('silence', lambda head, data, opcode: None), ('half a header', lambda head, data, opcode: bytes(head)[:20]),
                        ('an entry that cannot be', lambda head, data, opcode: bytes(head) + (
                            b'\xff' * len(data) if opcode == sd.READ and len(data) != sd.HEAD else data))):
        server.spoil = spoil
        if name == 'half a header':
            server.spoil = None
            server.spoil = lambda head, data, opcode: (bytes(head)[:20], server_hang(server))[0]
        said(f'a lie: {name}', img('info', '-f', 'raw', uri), '127.0.0.1')
    for name, spoil in (('too long', lie(12, '<I', 1 << 30, sd.READ, 2)), ('too short', lie(12, '<I', 1, sd.READ, 2)),
                        ('another id', lie(8, '<I', 0xabcdef, sd.READ, 2)), ('no object', lie(16, '<I', 2, sd.READ, 2)),
                        ('an unknown result', lie(16, '<I', 1 << 20, sd.READ, 2))):
        server.spoil = spoil
        status, out, text = io(uri, 'read -P 1 0 4k', options=('-r', '-f', 'raw'))
        verdict(status == 1 or b'rror' in out, f'a lie while reading: {name}', f'{status} {out.decode()}{text}')
    server.spoil = lie(16, '<I', sd.READONLY, sd.WRITE)
    status, out, text = io(uri, 'write -P 1 0 4k')
    verdict(status == 1 or b'ead-only' in out + text.encode(), 'read-only, and no snapshot', out.decode() + text)
    server.spoil = None
    for vdi in cluster.vdis:
        vdi.locked = False
    fine('and without lies', io(uri, 'read -P 1 0 9M'))


def server_hang(server):
    """Ends the connections after what is being sent."""
    threading.Timer(.1, lambda: [end.shutdown(socket.SHUT_RDWR) for end in list(server.open)]).start()


def test_silent():
    cluster, server = fresh()
    where = (f'driver=raw,file.driver=sheepdog,file.server.host=127.0.0.1,file.server.port={server.port},file.vdi=disk,'
             'file.timeout=2')
    server.spoil = lambda head, data, opcode: b'' if opcode in (sd.CREATE, sd.READ) else bytes(head) + data
    status, out, text = io(where, 'read 0 4k', options=('--image-opts', '-r'))
    verdict(status == 1 and '127.0.0.1' in text, 'a server that says nothing while opening', out.decode() + text)
    server.spoil = lambda head, data, opcode: b'' if opcode == sd.CREATE else bytes(head) + data
    status, out, text = io(where, 'write 0 4k', options=('--image-opts',))
    verdict(status == 1 or b'rror' in out, 'a server that says nothing later', out.decode() + text)
    server.spoil, server.late = None, .05
    cluster.find('disk').locked = False
    fine('a slow one', io(where, 'write -P 1 0 4k', 'read -P 1 0 4k', options=('--image-opts',)))


def damaging(server, target, deep):
    """Damages the answer of that number: its header, or the head of an inode."""
    state = {'n': 0}

    def spoil(head, data, _):
        state['n'] += 1
        message, data = bytearray(head), bytearray(data)
        if state['n'] - 1 == target and deep and len(data) == sd.HEAD:
            data[RNG.randrange(512, 568)] = RNG.randrange(256)
        elif state['n'] - 1 == target and RNG.random() < .1:
            server_hang(server)
            return bytes(message[:RNG.randrange(48)])
        elif state['n'] - 1 == target:
            message[RNG.randrange(8, 28)] ^= RNG.choice((1, 0x7f, 0x80, 0xff, RNG.randrange(1, 256)))
        return bytes(message + data)
    return spoil


def test_damage():
    """Answers damaged at random: an error, or the right data."""
    cluster, server = fresh(6 * MIB)
    vdi, uri = cluster.find('disk'), server.uri('disk')
    where = (f'driver=raw,file.driver=sheepdog,file.server.host=127.0.0.1,file.server.port={server.port},file.vdi=disk,'
             'file.timeout=2')
    wanted = bytearray(RNG.randbytes(6 * MIB))
    write('d.raw', wanted)
    img('convert', '-n', '-f', 'raw', '-O', 'raw', 'd.raw', uri)
    count, bad, errors = 300, [], 0
    for number in range(count):
        kind = number % 3  # heads of inodes, reads, writes
        server.spoil = damaging(server, RNG.randrange(5), kind == 0)
        vdi.locked = False
        if kind == 2:
            at, pattern = RNG.randrange(96) * 65536, RNG.randrange(1, 255)
            status, out, text = run(IO, '--image-opts', '-c', f'write -q -P {pattern} {at} 65536', where)
            if status == 0 and cluster.bytes_of(vdi)[at:at + 65536] != bytes([pattern]) * 65536:
                bad.append((number, 'a write that was reported as done is not there'))
            wanted = bytearray(cluster.bytes_of(vdi))
        else:
            write('out.raw', b'')
            status, out, text = img('convert', '--image-opts', '-O', 'raw', where, 'out.raw')
            # Damage within an inode can make another true one of it: nothing tells them apart.
            if status == 0 and kind == 1 and unlike(read('out.raw'), bytes(wanted)):
                bad.append((number, 'other data'))
        errors += status != 0
        if status not in (0, 1) or 'Sanitizer' in text + out.decode('utf-8', 'replace'):
            bad.append((number, status, text))
    server.spoil = None
    verdict(not bad, f'{count} damaged answers: an error or the right data', bad[:3])
    verdict(errors > count // 4, 'damage is noticed', errors)
    verdict(not cluster.violations, 'damage: the rules of the protocol are kept', cluster.violations[:5])


def real_port(folder):
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = probe.getsockname()[1]
    subprocess.run(['sheep', '-c', 'local', '-p', str(port), folder], check=True, timeout=60)
    return port


def test_real():
    if not shutil.which('sheep') or not shutil.which('dog'):
        skip('a real sheepdog', 'there is no sheep and dog on this machine: Debian 12 has no package of it')
        return
    folder = os.path.abspath('store')
    port = real_port(folder)
    try:
        run('dog', 'cluster', 'format', '-p', str(port), '-c', '1')
        uri, data = f'sheepdog://127.0.0.1:{port}/disk', RNG.randbytes(SIZE)
        write('d.raw', data)
        fine('sheepdog: convert, in', img('convert', '-f', 'raw', '-O', 'raw', 'd.raw', uri))
        out = run('dog', 'vdi', 'read', '-p', str(port), 'disk')[1]
        verdict(not unlike(out, data), 'sheepdog: as dog reads it')
        run('dog', 'vdi', 'snapshot', '-p', str(port), '-s', 'base', 'disk')
        fine('sheepdog: a clone', img('create', '-f', 'raw', '-o', 'clone-of=disk:base', f'sheepdog://127.0.0.1:{port}/clone', str(SIZE)))
        fine('sheepdog: copy on write', io(f'sheepdog://127.0.0.1:{port}/clone', 'write -P 5 5M 1M', 'discard 8M 4M', 'flush'))
        wanted = bytearray(data)
        wanted[5 * MIB:6 * MIB], wanted[8 * MIB:12 * MIB] = bytes([5]) * MIB, bytes(4 * MIB)
        verdict(not unlike(run('dog', 'vdi', 'read', '-p', str(port), 'clone')[1], bytes(wanted)), 'sheepdog: the clone')
        verdict(not unlike(run('dog', 'vdi', 'read', '-p', str(port), 'disk')[1], data), 'sheepdog: its parent')
    finally:
        run('dog', 'cluster', 'shutdown', '-p', str(port))


if __name__ == '__main__':
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    chosen = sys.argv[1:]
    for test in (test_names, test_data, test_without_cache, test_resize, test_create, test_clones, test_locks, test_together,
                 test_killed, test_lies, test_silent, test_damage, test_real):
        if not chosen or test.__name__[5:] in chosen:
            test()
    finish()
