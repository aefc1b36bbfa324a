#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The NBD client against servers of others (qemu-nbd, nbdkit, nbd-server) and ours, servers that are killed and come back,
and servers that lie: an error that names the server, and no hang."""
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from imgtest import RNG, difference, finish, img, read, run, skip, verdict, write
from nbdtest import IO, NBD, OPTION, REPLY, Server, serve

MIB = 1 << 20
SIZE = 16 * MIB
URI = 'nbd+unix:///?socket=socket'


def content():
    data = bytearray(RNG.randbytes(SIZE))
    data[4 * MIB:8 * MIB] = bytes(4 * MIB)
    write('content.raw', data)
    return data


# ---- Servers of others ----

def exercise(name, server, uri=URI, holes=True):
    """Copies in, writes at random, compares, maps."""
    shadow = content()
    with server:
        status, _, text = img('convert', '-n', '-f', 'raw', '-O', 'raw', 'content.raw', uri)
        verdict(status == 0, f'{name}: convert into it', text)
        commands = []
        for _ in range(60):
            at = RNG.randrange(SIZE - MIB)
            length = RNG.choice((1, 513, 4096, 70000, 300000))
            byte = RNG.randrange(256)
            what = RNG.choice((f'aio_write -P {byte}', f'write -f -P {byte}', 'write -z', 'write -z -u'))
            shadow[at:at + length] = bytes([byte if '-P' in what else 0]) * length
            commands += ['-c', f'{what} {at} {length}'] + (['-c', 'aio_flush'] if 'aio' in what else [])
        status, out, text = run(IO, '-f', 'raw', *commands, '-c', 'flush', uri)
        verdict(status == 0 and b'ailed' not in out, f'{name}: writes', out[-300:] + text.encode())
        status, _, text = img('convert', '-f', 'raw', '-O', 'raw', uri, 'back.raw')
        why = text if status else difference(read('back.raw'), bytes(shadow))
        verdict(not why, f'{name}: holds what was written', why)
        write('shadow.raw', shadow)
        verdict(img('compare', '-f', 'raw', '-F', 'raw', uri, 'shadow.raw')[0] == 0, f'{name}: compare')
        if holes:
            status, out, text = img('map', '--output=json', '-f', 'raw', uri)
            verdict(status == 0 and b'"zero": true' in out, f'{name}: holes are seen', out + text.encode())


def test_servers():
    with open('empty.raw', 'wb') as empty:
        empty.truncate(SIZE)
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'empty.qcow2', str(SIZE))
    exercise('tenon-nbd', Server(NBD, '-t', '-k', 'socket', '--discard=unmap', 'empty.qcow2'))
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'empty.qcow2', str(SIZE))
    exercise('qemu-nbd', Server('qemu-nbd', '-t', '-k', os.path.abspath('socket'), '--discard=unmap', 'empty.qcow2'))
    if shutil.which('nbdkit'):
        exercise('nbdkit', Server('nbdkit', '-f', '-U', 'socket', 'memory', str(SIZE)))
        exercise('nbdkit, no structured replies', Server('nbdkit', '-f', '--no-sr', '-U', 'socket', 'memory', str(SIZE)),
                 holes=False)
        exercise('nbdkit, blocks of 4 KiB', Server('nbdkit', '-f', '-U', 'socket', '--filter=blocksize-policy', 'memory',
                                                  str(SIZE), 'blocksize-minimum=4096', 'blocksize-preferred=4096',
                                                  'blocksize-maximum=64K', 'blocksize-error-policy=error'))
    else:
        skip('nbdkit', 'nbdkit is not installed')
    test_nbd_server()


def test_nbd_server():
    if not shutil.which('nbd-server'):
        skip('nbd-server', 'nbd-server is not installed')
        return
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    write('config', f'[generic]\nlistenaddr = 127.0.0.1\nport = {port}\nunixsock = {os.path.abspath("socket")}\n'
                    f'user = {os.environ.get("USER", "root")}\nallowlist = true\n[disk]\nexportname = '
                    f'{os.path.abspath("empty.raw")}\nflush = true\nfua = true\ntrim = true\n'.encode())
    write('config', read('config').replace(b'user = root\n', b''))
    class Daemon:
        def __enter__(self):
            if os.path.exists('socket'):
                os.unlink('socket')
            run('nbd-server', '-C', os.path.abspath('config'), '-p', os.path.abspath('daemon.pid'))
            for _ in range(300):
                if os.path.exists('socket') and os.path.exists('daemon.pid'):
                    break
                time.sleep(0.1)

        def __exit__(self, *why):
            os.kill(int(read('daemon.pid')), signal.SIGTERM)

    exercise('nbd-server', Daemon(), 'nbd+unix:///disk?socket=socket', holes=False)


# ---- Names and refusals ----

def test_names():
    write('n.raw', RNG.randbytes(MIB))
    with Server(NBD, '-t', '-k', 'socket', '-e', '9', '-f', 'raw', '-x', 'a b', '-r', 'n.raw'):
        for name in ('nbd+unix:///a%20b?socket=socket', 'nbd:unix:socket:exportname=a b',
                     'json:{"driver":"raw","file":{"driver":"nbd","export":"a b","server":{"type":"unix","path":"socket"}}}'):
            verdict(img('compare', name, 'n.raw')[0] == 0, f'name {name}')
        opts = 'driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=socket,file.export=a b'
        verdict(img('map', '--image-opts', opts)[0] == 0, 'dotted options')
        status, _, text = img('info', URI)
        verdict(status == 1 and "'socket'" in text and 'export' in text, 'an export that is not there', text)
        status, _, text = run(IO, '-f', 'raw', '-c', 'write 0 1', 'nbd+unix:///a%20b?socket=socket')
        verdict(status == 1 and 'read' in text and 'socket' in text, 'writing to an export that is read-only', text)
    for name, what in (('nbd+unix:///?socket=nowhere', 'nowhere'), ('nbd://127.0.0.1:1/', '127.0.0.1'),
                       ('nbd+unix:///', 'nbd://HOST'), ('nbd://', 'nbd://HOST'), ('nbd:foo', 'nbd://HOST'),
                       ('nbds+unix:///?socket=x', 'TLS')):
        status, _, text = img('info', name)
        verdict(status == 1 and what in text and text.count('\n') == 1, f'refused: {name}', text)


# ---- Servers that go away ----

def test_reconnect(connections):
    """A server is killed while requests are under way, and comes back."""
    write('r.raw', bytes(SIZE))
    opts = ('driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=socket,file.reconnect-delay=60,'
            f'file.connections={connections}')
    server = Server(NBD, '-t', '-k', 'socket', '-e', '4', '-f', 'raw', 'r.raw')
    with server:
        commands = [arg for i in range(2000) for arg in ('-c', f'write -q -P {i % 255 + 1} {i * 8192} 8192')]
        # pylint: disable=consider-using-with
        writer = subprocess.Popen([IO, *commands, '-c', 'flush', '--image-opts', opts], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
        kills = 0
        while writer.poll() is None and kills < 5:
            before = os.stat('r.raw').st_mtime_ns
            while writer.poll() is None and os.stat('r.raw').st_mtime_ns == before:
                continue
            server.process.kill()
            server.process.wait()
            server = Server(NBD, '-t', '-k', 'socket', '-e', '4', '-f', 'raw', 'r.raw').__enter__()
            kills += 1
        out = writer.communicate(timeout=100)[0]
        server.end()
    wanted = b''.join(bytes([i % 255 + 1]) * 8192 for i in range(2000)) + bytes(SIZE - 2000 * 8192)
    why = out if writer.returncode else difference(read('r.raw'), wanted)
    verdict(not why and kills > 0, f'killed {kills} times while it is written to, {connections} connections, and nothing is lost', why)


def test_killed_for_good():
    with Server(NBD, '-t', '-k', 'socket', '-f', 'raw', 'r.raw') as server:
        # pylint: disable=consider-using-with
        reader = subprocess.Popen([IO, '-f', 'raw', URI], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
        reader.stdin.write(b'read 0 4k\n')
        reader.stdin.flush()
        while b'read 4096' not in reader.stdout.readline():
            continue
        server.process.kill()
        server.process.wait()
        out = reader.communicate(b'read 0 4k\nquit\n', timeout=60)[0]
        verdict(b'failed' in out, 'killed, without reconnect-delay: the request fails', out)


# ---- Several connections ----

def write_and_read(count):
    """256 writes at a time, and what they wrote is read back: an error text, or nothing."""
    opts = f'driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=socket,file.connections={count}'
    commands = [arg for i in range(256) for arg in ('-c', f'aio_write -q -P {i % 255 + 1} {i * 4096} 4096')]
    reads = [arg for i in range(256) for arg in ('-c', f'read -q -P {i % 255 + 1} {i * 4096} 4096')]
    status, out, text = run(IO, *commands, '-c', 'aio_flush', '-c', 'flush', *reads, '--image-opts', opts)
    return '' if status == 0 and b'ailed' not in out else out[-300:] + text.encode()


def test_connections():
    wanted = b''.join(bytes([i % 255 + 1]) * 4096 for i in range(256))
    for most, count, expected in (('8', 4, 4), ('8', 1, 1), ('1', 4, 1), ('0', 16, 16), ('3', 8, 3)):
        write('c.raw', bytes(2 * MIB))
        with serve('-v', '-e', most, '-f', 'raw', 'c.raw') as server:
            why = write_and_read(count)
            text = server.end()[1]
        made = text.count('chose an export')
        verdict(not why and made == expected and read('c.raw')[:MIB] == wanted,
                f'-e {most}, connections={count}: {expected} are made, and nothing is mixed up', f'{made}: {why}')
    others = [('qemu-nbd', ('qemu-nbd', '-t', '-e', '8', '-k', os.path.abspath('socket'), '-f', 'raw', 'c.raw')),
              ('nbdkit', ('nbdkit', '-f', '-U', 'socket', 'file', 'c.raw'))]
    for name, command in others:
        if not shutil.which(name):
            skip(name, 'it is not installed')
            continue
        write('c.raw', bytes(2 * MIB))
        with Server(*command):
            why = write_and_read(4)
        verdict(not why and read('c.raw')[:MIB] == wanted, f'four connections to {name}', why)


def free_port():
    """One that nobody is given who asks for any: other tests run, and the server is gone for a while."""
    for port in range(20000 + os.getpid() % 10000, 32768):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(('127.0.0.1', port))
                return str(port)
            except OSError:
                continue
    raise RuntimeError('no port is free')


def test_host_name():
    """A name that the system's resolver knows; again, when the connection comes back and the sandbox is closed."""
    write('h.raw', b'\5' * MIB)
    port = free_port()
    server = NBD, '-t', '-e', '8', '-b', '127.0.0.1', '-p', port, '-f', 'raw', 'h.raw'
    opts = (f'driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=localhost,file.server.port={port},'
            'file.reconnect-delay=60,file.connections=2,file.open-timeout=30')
    with Server(*server, wait=False) as first:
        # pylint: disable=consider-using-with
        reader = subprocess.Popen([IO, '--image-opts', opts], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
        reader.stdin.write(b'read -P 5 0 4k\n')
        reader.stdin.flush()
        while b'read 4096' not in reader.stdout.readline() and reader.poll() is None:
            continue
        first.process.kill()
        first.process.wait()
        with Server(*server, wait=False) as second:
            out = reader.communicate(b'read -P 5 4k 4k\nquit\n', timeout=90)[0]
            text = second.end()[1]
    verdict(b'failed' not in out and b'read 4096' in out, 'a name is resolved again when the connection comes back',
            f'{out}, the second server: {text}')


def test_growth():
    """The export is larger when the connection comes back: what was there goes on; a smaller one is refused."""
    opts = 'driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=socket,file.reconnect-delay=60'
    for size, good in ((4 * MIB, True), (MIB, False)):
        write('g.raw', b'\1' * (2 * MIB))
        with serve('-e', '8', '-f', 'raw', 'g.raw') as server:
            # pylint: disable=consider-using-with
            reader = subprocess.Popen([IO, '--image-opts', opts], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT)
            reader.stdin.write(b'read -P 1 0 4k\n')
            reader.stdin.flush()
            while b'read 4096' not in reader.stdout.readline():
                continue
            server.process.kill()
            server.process.wait()
            os.truncate('g.raw', size)
            with serve('-e', '8', '-f', 'raw', 'g.raw'):
                out = reader.communicate(b'read -P 1 0 4k\nquit\n', timeout=60)[0]
        verdict((b'failed' not in out and b'read 4096' in out) == good,
                f'back with {size // MIB} MiB after 2 MiB: {"goes on" if good else "fails"}', out)


# ---- Servers that lie ----

class Liar(threading.Thread):
    """Takes one client after the other through the negotiation and answers what `answer` makes up."""

    def __init__(self, answer, size=MIB, structured=True):
        super().__init__(daemon=True)
        self.answer, self.size, self.structured = answer, size, structured
        if os.path.exists('liar'):
            os.unlink('liar')
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind('liar')
        self.listener.listen()
        self.start()

    def run(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            with client:
                try:
                    self.talk(client)
                    while client.recv(65536):
                        pass
                except (OSError, EOFError):
                    pass

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    @staticmethod
    def take(client, length):
        data = b''
        while len(data) < length:
            part = client.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def talk(self, client):
        client.sendall(b'NBDMAGICIHAVEOPT\0\3')
        self.take(client, 4)
        while True:
            _, option, length = struct.unpack('>QII', self.take(client, 16))
            self.take(client, length)
            if option == 8 and self.structured:
                client.sendall(struct.pack('>QIII', REPLY, option, 1, 0))
            elif option == 10:
                client.sendall(struct.pack('>QIII', REPLY, option, 4, 19) + struct.pack('>I', 7) + b'base:allocation')
                client.sendall(struct.pack('>QIII', REPLY, option, 1, 0))
            elif option == 7:
                client.sendall(struct.pack('>QIIIHQH', REPLY, option, 3, 12, 0, self.size, 0x1ed))
                client.sendall(struct.pack('>QIII', REPLY, option, 1, 0))
                break
            else:
                client.sendall(struct.pack('>QIII', REPLY, option, 1 << 31 | 1, 0))
        while True:
            _, flags, command, cookie, offset, length = struct.unpack('>IHHQQI', self.take(client, 28))
            if command == 2:
                raise EOFError
            del flags
            self.answer(client, command, cookie, offset, length)


def chunk(cookie, kind, payload, done=1, length=None):
    return struct.pack('>IHHQI', 0x668e33ef, done, kind, cookie, len(payload) if length is None else length) + payload


def test_liars():
    def data(cookie, at, length):
        return chunk(cookie, 1, struct.pack('>Q', at) + bytes(length))

    lies = {
        'a wrong magic number': lambda c, k, o, n: c.sendall(b'\1' * 64),
        'a cookie that nobody has': lambda c, k, o, n: c.sendall(data(k + (1 << 40), o, n)),
        'a cookie of no slot': lambda c, k, o, n: c.sendall(data(k | 255, o, n)),
        'data before the range': lambda c, k, o, n: c.sendall(data(k, o - 1 if o else (1 << 64) - 1, n)),
        'data behind the range': lambda c, k, o, n: c.sendall(data(k, o + n, 512)),
        'more data than asked for': lambda c, k, o, n: c.sendall(data(k, o, n + 1)),
        'less data than asked for': lambda c, k, o, n: c.sendall(data(k, o, n - 1)),
        'the same data twice': lambda c, k, o, n: c.sendall(chunk(k, 1, struct.pack('>Q', o) + bytes(n), 0) + data(k, o, n)),
        'data of no length': lambda c, k, o, n: c.sendall(chunk(k, 1, struct.pack('>Q', o))),
        'a chunk of 4 GiB': lambda c, k, o, n: c.sendall(chunk(k, 2, b'', 1, 0xffffffff)),
        'a hole beyond the range': lambda c, k, o, n: c.sendall(chunk(k, 2, struct.pack('>QI', o, n + 1))),
        'an error without a number': lambda c, k, o, n: c.sendall(chunk(k, 0x8001, b'')),
        'an error with a long text': lambda c, k, o, n: c.sendall(chunk(k, 0x8001, struct.pack('>IH', 5, 9999))),
        'error 0': lambda c, k, o, n: c.sendall(chunk(k, 0x8001, struct.pack('>IH', 0, 0))),
        'a simple reply to a read': lambda c, k, o, n: c.sendall(struct.pack('>IIQ', 0x67446698, 0, k) + bytes(n)),
        'a reply without data': lambda c, k, o, n: c.sendall(chunk(k, 0, b'')),
        'block status for a read': lambda c, k, o, n: c.sendall(chunk(k, 5, struct.pack('>III', 7, n, 0))),
        'extended headers': lambda c, k, o, n: c.sendall(struct.pack('>IHHQQQ', 0x6e8a278c, 1, 1, k, o, n + 8) + bytes(n + 8)),
        'the end in the middle of data': lambda c, k, o, n: (c.sendall(data(k, o, n)[:60]), c.shutdown(socket.SHUT_RDWR)),
        'the end at once': lambda c, k, o, n: c.shutdown(socket.SHUT_RDWR),
    }
    for name, lie in lies.items():
        liar = Liar(lambda client, command, cookie, offset, length, lie=lie: lie(client, cookie, offset, length))
        status, out, text = run(IO, '-r', '-f', 'raw', '-c', 'read 64k 64k', 'nbd+unix:///?socket=liar')
        verdict(status == 1 and 'failed' in out.decode() + text, f'reads: {name}', out + text.encode())
        liar.end()
    runs = {
        'no runs': b'', 'half a run': b'\0' * 5, 'runs of no length': struct.pack('>II', 0, 0),
        'a run of another context': None,
    }
    for name, lie in runs.items():
        def answer(client, command, cookie, offset, length, lie=lie):
            del offset
            payload = struct.pack('>III', 8, length, 0) if lie is None else struct.pack('>I', 7) + lie
            client.sendall(chunk(cookie, 5, payload) if command == 7 else chunk(cookie, 0x8001, struct.pack('>IH', 5, 0)))
        liar = Liar(answer)
        status, out, text = img('map', '-f', 'raw', 'nbd+unix:///?socket=liar')
        verdict(status == 1 and "'liar'" in text, f'block status: {name}', out + text.encode())
        liar.end()
    for name, size in (('beyond what there can be', (1 << 64) - 1),):
        liar = Liar(lambda *a: None, size)
        status, out, text = img('info', 'nbd+unix:///?socket=liar')
        verdict(status == 1 and "'liar'" in text, f'a size {name}', out + text.encode())
        liar.end()


def test_bad_greetings():
    answers = {
        'another protocol': b'SSH-2.0-OpenSSH\r\n' * 4,
        'half a greeting': b'NBDMAGIC',
        'the oldest form': struct.pack('>QQ', 0x4e42444d41474943, 0x420281861253) + bytes(136),
        'an answer of 4 GiB': b'NBDMAGICIHAVEOPT\0\3' + struct.pack('>QIII', REPLY, 11, 3, 0xffffffff),
        'an answer to another option': b'NBDMAGICIHAVEOPT\0\3' + struct.pack('>QIII', REPLY, 99, 1, 0),
        'an answer without magic number': b'NBDMAGICIHAVEOPT\0\3' + struct.pack('>QIII', OPTION, 11, 1, 0),
    }
    for name, answer in answers.items():
        if os.path.exists('liar'):
            os.unlink('liar')
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind('liar')
            listener.listen()

            def serve(answer=answer):
                client = listener.accept()[0]
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                try:
                    while client.recv(65536):
                        pass
                except ConnectionError:
                    pass
                client.close()
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            status, out, text = img('info', 'nbd+unix:///?socket=liar')
            verdict(status == 1 and "'liar'" in text and text.count('\n') == 1, f'greeting: {name}', out + text.encode())


test_names()
test_liars()
test_bad_greetings()
test_reconnect(1)
test_reconnect(4)
test_killed_for_good()
test_connections()
test_growth()
test_host_name()
if shutil.which('qemu-nbd'):
    test_servers()
else:
    skip('servers of others', 'qemu-utils is needed')
finish()
