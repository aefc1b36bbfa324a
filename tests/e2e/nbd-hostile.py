#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that break off, flood and stay silent: others are served meanwhile, and descriptors and memory of tenon-nbd return
to the start.  NBD_HOSTILE_ROUNDS says how many connections break off, NBD_HOSTILE_CLIENTS how many honest clients there are
beside the hostile ones."""
import os
import random
import socket
import struct
import threading
import time

from imgtest import RNG, finish, is_sanitized, read, verdict, write
from nbdtest import GO, LIST, OPTION, READ, SET_META, STATUS, STRUCTURED, WRITE, Client, serve

# The address sanitizer keeps what was freed: little of it, where memory is measured.
os.environ['ASAN_OPTIONS'] = ':'.join(filter(None, (
    os.environ.get('ASAN_OPTIONS'), 'quarantine_size_mb=1:thread_local_quarantine_size_kb=64')))

MIB = 1 << 20
BLOCK = 4096
ROUNDS = int(os.environ.get('NBD_HOSTILE_ROUNDS', '3000'))
CLIENTS = int(os.environ.get('NBD_HOSTILE_CLIENTS', '8'))
SHADOW = 6 if is_sanitized() else 1  # what a sanitizer keeps of each byte counts, too
BLOCKS, REQUESTS = 16, 150   # of one client


def option(number, data=b''):
    return struct.pack('>QII', OPTION, number, len(data)) + data


def request(command, cookie, offset, length, data=b''):
    return struct.pack('>IHHQQI', 0x25609513, 0, command, cookie, offset, length) + data


def conversation(rng, tame=False):
    """All that a client says, from its flags to some requests; now and then with a byte changed.  A tame one changes
    none of its requests, which then write to the first MiB only."""
    text = struct.pack('>I', 3) + option(STRUCTURED) + option(LIST) + option(SET_META, bytes(4) + struct.pack('>II', 1, 15)
                                                                             + b'base:allocation')
    text += option(GO, bytes(6))
    negotiation = len(text)
    for cookie in range(5):
        what = rng.choice((READ, READ, WRITE, STATUS))
        text += request(what, cookie, rng.randrange(MIB - 4096), 4096, bytes(4096) if what == WRITE else b'')
    text = bytearray(text)
    if rng.random() < 0.5:
        text[rng.randrange(negotiation if tame else len(text))] ^= 1 << rng.randrange(8)
    return bytes(text)


def break_off(rng, tame=False):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect('socket')
        text = conversation(rng, tame)
        sock.sendall(text[:rng.randrange(len(text) + 1)])
        if rng.random() < 0.3:
            try:
                sock.recv(1 << rng.randrange(16))
            except ConnectionError:
                pass


def settled(server, descriptors):
    """The server has noticed that all have gone."""
    with Client() as c:
        c.go()
        for _ in range(10000):
            c.read(0, 1)
            if server.descriptors() <= descriptors + 1:
                return True
    return False


def returned(server, descriptors):
    """It closes its end of a connection some time after the client has."""
    for _ in range(3000):
        if server.descriptors() <= descriptors:
            return True
        time.sleep(0.01)
    return False


def test_break_off(rounds, *options):
    write('h.raw', RNG.randbytes(2 * MIB))
    what = ' '.join(options) or 'one thread'
    with serve('-e', '0', '-f', 'raw', *options, 'h.raw') as server:
        if options:
            start_threads()
        for seed in range(200):
            break_off(random.Random(-seed - 1))
        with Client() as c:
            c.go()
            c.read(0, 1)
        before, memory = server.descriptors(), server.memory()
        why = ''
        for seed in range(rounds):
            try:
                break_off(random.Random(seed))
            except OSError as error:
                why = why or f'seed {seed}: {error}'
                if isinstance(error, ConnectionRefusedError):
                    break
        good = settled(server, before)
        verdict(good and server.process.poll() is None, f'{what}: {rounds} connections that break off, and it serves', why)
        verdict(returned(server, before), f'{what}: descriptors are back at the start', f'{server.descriptors()}, {before}')
        grown = server.memory() - memory
        verdict(grown < 4096, f'{what}: memory is back at the start', f'{grown} KiB more')


def start_threads():
    """As many clients at a time as there can be threads: then all of them are there."""
    clients = [Client() for _ in range(8)]
    for c in clients:
        c.go()
        c.read(0, 1)
    for c in clients:
        c.sock.close()


def patient_client():
    """The queue of those that wait to be let in may be full for a moment."""
    for _ in range(1000):
        try:
            return Client()
        except BlockingIOError:
            time.sleep(0.01)
    return Client()


def block_of(number, block):
    """Where a client has its own; behind what those that break off may write to."""
    return MIB + (number * BLOCKS + block) * BLOCK


def byte_of(number, i):
    return (number * 7 + i) % 256


def work(number, failures):
    """A client that verifies what it reads and writes."""
    try:
        with patient_client() as c:
            c.sock.settimeout(120)
            if number % 2:
                c.structure()
            c.go()
            for i in range(REQUESTS):
                at, data = block_of(number, i % BLOCKS), bytes([byte_of(number, i)]) * BLOCK
                if c.error(WRITE, at, BLOCK, 0, data) or c.read(at, BLOCK) != data:
                    failures.append(f'client {number}, request {i}')
    except Exception as error:  # pylint: disable=broad-except
        failures.append(f'client {number}: {error!r}')


def flood(stop):
    rng = random.Random(7)
    while not stop.is_set():
        try:
            break_off(rng, tame=True)
        except OSError:
            pass


def wrong_blocks():
    """Where the image is not what the clients wrote last."""
    data = read('l.raw')
    last = [max(i for i in range(REQUESTS) if i % BLOCKS == block) for block in range(BLOCKS)]
    return [(n, b) for n in range(CLIENTS) for b in range(BLOCKS)
            if data[block_of(n, b):block_of(n, b + 1)] != bytes([byte_of(n, last[b])]) * BLOCK]


def test_load(*options):
    """Clients verify what they read and write while one floods, one is silent and one does not fetch its answers."""
    with open('l.raw', 'wb') as file:
        file.truncate(max(16 * MIB, block_of(CLIENTS, 0)))
    failures, stop, what = [], threading.Event(), ' '.join(options) or 'one thread'
    with serve('-e', '0', '-f', 'raw', *options, 'l.raw') as server:
        if options:
            start_threads()
        before = server.descriptors()
        with socket.socket(socket.AF_UNIX) as silent, Client() as greedy:
            silent.connect('socket')
            greedy.go()
            greedy.sock.setblocking(False)
            try:
                for cookie in range(100):
                    greedy.sock.send(request(READ, cookie, 8 * MIB, 8 * MIB))
            except BlockingIOError:
                pass
            hostile = threading.Thread(target=flood, args=(stop,))
            hostile.start()
            clients = [threading.Thread(target=work, args=(number, failures)) for number in range(CLIENTS)]
            for client in clients:
                client.start()
            for client in clients:
                client.join(250)
            stop.set()
            hostile.join()
            verdict(not failures, f'{what}: {CLIENTS} clients under load, with three hostile ones beside them', failures[:5])
            verdict(server.memory() < (200 << 10) * SHADOW, f'{what}: memory stays bounded', f'{server.memory()} KiB')
        verdict(returned(server, before + 1), f'{what}: descriptors are back at the start', f'{server.descriptors()}, {before}')
        verdict(server.end()[0] == 0, f'{what}: and it ends in good order')
    wrong = wrong_blocks()
    verdict(not wrong, f'{what}: the image holds what they wrote', wrong[:5])


def test_silent():
    """With room for one client only, who says nothing does not keep the others out for long."""
    with serve('-e', '1', '--handshake-limit', '1', '-f', 'raw', '-r', 'h.raw'):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect('socket')
            with Client() as c:
                c.go()
                verdict(c.read(0, 16) == read('h.raw')[:16], 'a silent client is dropped, the next one served')


def test_hoarders():
    """Clients that ask for much and fetch nothing: together they hold no more than one server may, and give way."""
    with open('m.raw', 'wb') as file:
        file.truncate(32 * MIB)
    with serve('-e', '0', '-f', 'raw', 'm.raw') as server:
        hoarders = [Client() for _ in range(24)]
        for c in hoarders:
            c.sock.settimeout(60)
            c.go()
            c.sock.sendall(request(READ, 1, 0, 32 * MIB))
        with Client() as c:
            c.sock.settimeout(120)
            c.go()
            c.sock.sendall(c.request(WRITE, 0, 32 * MIB, data=bytes(32 * MIB)))
            verdict(c.chunk()[2:] == ('simple', 0), 'a large write among clients that hoard is answered')
            verdict(server.memory() < (330 << 10) * SHADOW, 'memory of all connections is bounded', f'{server.memory()} KiB')
        for c in hoarders:
            c.sock.close()
        verdict(server.end()[0] == 0, 'and it ends in good order')


test_break_off(ROUNDS)
test_break_off(ROUNDS // 3, '--threads=4')
test_load()
test_load('--threads=4')
test_hoarders()
test_silent()
finish()
