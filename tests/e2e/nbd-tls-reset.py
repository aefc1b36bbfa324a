#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connections that end in the middle of TLS: reset, closed or half closed after any number of bytes in either direction, while
shaking hands and while data is transferred.  The server goes on, and its descriptors return to the start."""
import os
import shutil
import socket
import ssl
import struct
import subprocess
import time

from imgtest import difference, finish, img, read, skip, verdict
from nbdtest import FLUSH, GO, NBD, OPTION, READ, STARTTLS, WRITE, Server
from nbdtls import make_ca, make_certificate, make_disk, x509

KIB = 1 << 10
LENGTH = 256 * KIB   # of one transfer
AT = 4096 * KIB      # where the clients write, always the same
POINTS = int(os.environ.get('NBD_RESET_POINTS', '40'))   # for each way, direction and version


class Cut(Exception):
    """The number of bytes has been reached."""


class Passed(Server):
    """A server that gets a listening socket of TCP, so that the kernel chooses the port."""

    def __init__(self, *args):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        super().__init__('sh', '-c', 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&"$listener"', 'sh', NBD, *args, wait=False)

    def __enter__(self):
        fd = self.listener.fileno()
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        pass_fds=[fd], env=dict(os.environ, listener=str(fd)))
        self.listener.close()
        return self


def context(version):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = made.maximum_version = version
    made.load_verify_locations('ca/ca-cert.pem')
    made.load_cert_chain('ca/client-cert.pem', 'ca/client-key.pem')
    return made


class Conversation:
    """A client that counts the bytes behind STARTTLS, and stops when it has sent or received so many."""

    def __init__(self, port, tls, most_out=1 << 60, most_in=1 << 60):
        self.most, self.count = {'out': most_out, 'in': most_in}, {'out': 0, 'in': 0}
        self.sock = socket.create_connection(('127.0.0.1', port), timeout=60)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self.incoming, self.outgoing, server_hostname='localhost')
        self.cookie = 0

    def plain(self):
        """Up to the answer to STARTTLS."""
        take = lambda n: b''.join(self.sock.recv(1) for _ in range(n))
        take(18)
        self.sock.sendall(struct.pack('>IQII', 3, OPTION, STARTTLS, 0))
        return struct.unpack('>QIII', take(20))[2]

    def flush(self):
        data = self.outgoing.read()
        part = data[:self.most['out'] - self.count['out']]
        self.sock.sendall(part)
        self.count['out'] += len(part)
        if len(part) < len(data) or self.count['out'] == self.most['out']:
            raise Cut()

    def feed(self):
        data = self.sock.recv(min(65536, self.most['in'] - self.count['in']))
        if not data:
            raise EOFError()
        self.count['in'] += len(data)
        self.incoming.write(data)
        if self.count['in'] == self.most['in']:
            raise Cut()

    def step(self, action, *args):
        while True:
            try:
                result = action(*args)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()

    def send(self, data):
        self.step(self.tls.write, data)

    def take(self, length):
        data = b''
        while len(data) < length:
            data += self.step(self.tls.read, length - len(data))
        return data

    def request(self, command, offset=0, length=0, data=b''):
        self.cookie += 1
        self.send(struct.pack('>IHHQQI', 0x25609513, 0, command, self.cookie, offset, length) + data)
        _, error, _ = struct.unpack('>IIQ', self.take(16))
        return error or self.take(length if command == READ else 0)

    def talk(self, disk):
        """All of it; whether every answer was right."""
        self.step(self.tls.do_handshake)
        self.send(struct.pack('>QII', OPTION, GO, 6) + bytes(6))
        kind = 0
        while kind != 1:
            _, _, kind, length = struct.unpack('>QIII', self.take(20))
            self.take(length)
        good = self.request(READ, 0, LENGTH) == disk[:LENGTH]
        good = self.request(WRITE, AT, LENGTH, disk[AT:AT + LENGTH]) == b'' and good
        return self.request(FLUSH) == b'' and good

    def end(self, how):
        if how == 'reset':
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        elif how == 'half closed':
            self.sock.shutdown(socket.SHUT_WR)
            try:
                while self.sock.recv(1 << 20):
                    pass
            except ConnectionError:
                pass
        self.sock.close()


def whole(port, tls, disk):
    """Bytes in each direction of a conversation that nobody disturbs, to the end of the handshake and in all."""
    c = Conversation(port, tls)
    if c.plain() != 1:
        return None
    c.step(c.tls.do_handshake)
    shaken = dict(c.count)
    good = c.talk(disk)
    c.end('closed')
    return (shaken, c.count) if good else None


def points(shaken, all_of_it):
    """Half of them within the handshake, and its last bytes."""
    half = POINTS // 2
    return sorted({1 + i * shaken // half for i in range(half)} | {shaken - 1, shaken, shaken + 1}
                  | {shaken + 1 + i * (all_of_it - shaken) // half for i in range(half)})


def cut(port, tls, disk, direction, most, how):
    c = Conversation(port, tls, **{f'most_{direction}': most})
    try:
        c.plain()
        c.talk(disk)
    except (Cut, EOFError, ConnectionError, ssl.SSLError):
        pass
    c.end(how)
    return c.count[direction] == most


def returned(server, descriptors):
    for _ in range(3000):
        if server.descriptors() <= descriptors:
            return True
        time.sleep(0.01)
    return False


def still_serves(what, port, disk):
    if os.path.exists('out.raw'):
        os.unlink('out.raw')
    status, _, text = img('convert', *x509(), '--image-opts', '-O', 'raw', 'driver=raw,file.driver=nbd,file.server.type=inet,'
                          f'file.server.host=127.0.0.1,file.server.port={port},file.tls-creds=t,file.tls-hostname=localhost',
                          'out.raw')
    why = text if status else difference(read('out.raw'), disk)
    verdict(not why, what, why)


def test_version(server, what, tls, disk):
    whole(server.port, tls, disk)
    before = server.descriptors()
    found = whole(server.port, tls, disk)
    verdict(found, f'{what}: undisturbed, all answers are right')
    if not found:
        return
    shaken, everything = found
    for how in 'reset', 'closed', 'half closed':
        for direction in 'out', 'in':
            places = points(shaken[direction], everything[direction] - 1)
            reached = sum(cut(server.port, tls, disk, direction, most, how) for most in places)
            # The handshake's length differs by a few bytes from one to the next.
            verdict(reached >= len(places) * 3 // 4 and server.process.poll() is None,
                    f'{what}: {how} after some bytes {direction}, {len(places)} places',
                    f'{reached} reached, server: {server.process.poll()}')
        still_serves(f'{what}: it still serves', server.port, disk)
    verdict(returned(server, before), f'{what}: descriptors are back at the start', f'{server.descriptors()}, {before}')


def main():
    make_ca('ca')
    for end in 'server', 'client':
        make_certificate('ca', end, f'cn = {end}')
    disk = make_disk()
    with Passed('-t', '-e', '0', '-f', 'raw', *x509(end='server'), '--tls-creds=t', 'disk.raw') as server:
        for version in ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2:
            test_version(server, version.name, context(version), disk)
        verdict(server.end()[0] == 0, 'and it ends in good order')
    verdict(read('disk.raw') == disk, 'the image holds what it held')


if shutil.which('certtool'):
    main()
else:
    skip('TLS that ends in the middle', 'certtool is not installed (gnutls-bin)')
finish()
