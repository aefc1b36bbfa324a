# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of NBD in Python: servers that are started and waited for, and a client that speaks the protocol itself.
Imported."""
import os
import signal
import socket
import struct
import subprocess
import time

from imgtest import IMG

NBD = os.environ.get('TENON_NBD', os.path.join(os.path.dirname(IMG), 'tenon-nbd'))
IO = os.environ.get('TENON_IO', os.path.join(os.path.dirname(IMG), 'tenon-io'))
OPTION, REPLY = 0x49484156454f5054, 0x3e889045565a9
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED = 1, 2, 3, 5, 6, 7, 8, 9, 10, 11
ACK, SERVER, REP_INFO, META = 1, 2, 3, 4
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = 1, 2, 4, 8, 16, 32


def wait_for_socket(path, process):
    """Until somebody listens there."""
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
                return
            except OSError:
                time.sleep(0.02)
    raise RuntimeError(f'no server at {path}: {process.args}')


class Server:
    """A program that serves at a Unix socket, until the end of the block."""

    def __init__(self, *args, path='socket', wait=True):
        self.path, self.wait, self.args = path, wait, args
        self.process = None

    def __enter__(self):
        if self.args[0] != NBD and os.path.exists(self.path):
            os.unlink(self.path)  # ours takes the place of a socket that is left over, others do not
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        if self.wait:
            wait_for_socket(self.path, self.process)
        return self

    def end(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        text = self.process.communicate(timeout=60)[0]
        return self.process.returncode, text.decode('utf-8', 'replace')

    def __exit__(self, *why):
        self.end()

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))

    def memory(self):
        """KiB that are resident."""
        with open(f'/proc/{self.process.pid}/status', encoding='ascii') as text:
            return next(int(line.split()[1]) for line in text if line.startswith('VmRSS'))


def serve(*args, path='socket'):
    return Server(NBD, '-t', '-k', path, *args, path=path)


class Client:
    """One connection, and the pieces of the protocol."""

    def __init__(self, path='socket', flags=3):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(path)
        self.extended, self.structured, self.cookie = False, False, 1000
        self.greeting = self.take(18)
        self.sock.sendall(struct.pack('>I', flags))

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.sock.close()

    def take(self, length):
        data = b''
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise EOFError(f'{len(data)} of {length} bytes')
            data += part
        return data

    def closed(self):
        """The server hangs up, whatever it still says."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    # ---- Negotiation ----

    def send_option(self, option, data=b''):
        self.sock.sendall(struct.pack('>QII', OPTION, option, len(data)) + data)

    def option(self, option, data=b''):
        """All answers: (type, data), the last of which is an acknowledgement or an error."""
        self.send_option(option, data)
        answers = []
        while not answers or (answers[-1][0] != ACK and answers[-1][0] < 1 << 31):
            magic, _, kind, length = struct.unpack('>QIII', self.take(20))
            if magic != REPLY:
                raise ValueError(f'magic {magic:x}')
            answers.append((kind, self.take(length)))
        return answers

    def go(self, name='', option=GO, infos=()):
        text = name.encode()
        return self.option(option, struct.pack('>I', len(text)) + text
                           + struct.pack(f'>H{len(infos)}H', len(infos), *infos))

    def structure(self, extended=False):
        self.extended, self.structured = extended, True
        return self.option(EXTENDED if extended else STRUCTURED)

    def contexts(self, *queries, name='', option=SET_META):
        text = name.encode()
        data = struct.pack('>I', len(text)) + text + struct.pack('>I', len(queries))
        for query in queries:
            data += struct.pack('>I', len(query)) + query.encode()
        return self.option(option, data)

    # ---- Requests ----

    def request(self, command, offset=0, length=0, flags=0, data=b''):
        """The bytes of a request; its cookie is self.cookie then."""
        self.cookie += 1
        if self.extended:
            head = struct.pack('>IHHQQQ', 0x21e41c71, flags | (PAYLOAD_LEN if data else 0), command, self.cookie, offset,
                               length)
        else:
            head = struct.pack('>IHHQQI', 0x25609513, flags, command, self.cookie, offset, length)
        return head + data

    def chunk(self):
        """(cookie, done, type, payload); a simple reply has the type 'simple' and its error as payload."""
        magic = struct.unpack('>I', self.take(4))[0]
        if magic == 0x67446698:
            error, cookie = struct.unpack('>IQ', self.take(12))
            return cookie, True, 'simple', error
        if magic == 0x6e8a278c:
            flags, kind, cookie, _, length = struct.unpack('>HHQQQ', self.take(28))
        elif magic == 0x668e33ef:
            flags, kind, cookie, length = struct.unpack('>HHQI', self.take(16))
        else:
            raise ValueError(f'magic {magic:x}')
        return cookie, bool(flags & 1), kind, self.take(length)

    def chunks(self):
        got = [self.chunk()]
        while not got[-1][1]:
            got.append(self.chunk())
        return got

    def call(self, command, offset=0, length=0, flags=0, data=b''):
        self.sock.sendall(self.request(command, offset, length, flags, data))
        return self.chunks()

    def error(self, command, offset=0, length=0, flags=0, data=b''):
        """Its error number, 0 when there is none."""
        _, _, kind, payload = self.call(command, offset, length, flags, data)[-1]
        if kind == 'simple':
            return payload
        return struct.unpack('>I', payload[:4])[0] if kind == 0x8001 else 0

    def read(self, offset, length, flags=0):
        self.sock.sendall(self.request(READ, offset, length, flags))
        if not self.structured:
            _, _, kind, error = self.chunk()
            if kind != 'simple' or error:
                raise ValueError(f'read: {kind} {error}')
            return self.take(length)
        out = bytearray(b'\xee' * length)
        for _, _, kind, payload in self.chunks():
            if kind == 1:
                at = struct.unpack('>Q', payload[:8])[0] - offset
                out[at:at + len(payload) - 8] = payload[8:]
            elif kind == 2:
                at, size = struct.unpack('>QI', payload)
                out[at - offset:at - offset + size] = bytes(size)
            else:
                raise ValueError(f'read: {kind} {payload}')
        return bytes(out)
