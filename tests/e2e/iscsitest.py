# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of iSCSI: a target of tgt's on a free port, and a relay that does harm to what goes through it.  Imported."""
import os
import shutil
import socket
import subprocess
import threading
import time

from imgtest import run

TARGET = 'iqn.2026-11.org.example:disks'


def missing():
    """Why there can be no target here, or an empty text."""
    if not shutil.which('tgtd') or not shutil.which('tgtadm'):
        return 'tgtd is not installed (tgt)'
    return '' if os.geteuid() == 0 else 'tgtd needs to be root'


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Target:
    """tgtd with units, until the end of the block; killed and started again on the same port."""

    def __init__(self, units, user=None, extra=()):
        self.units, self.user, self.extra = units, user, extra
        self.port = free_port()
        self.control = str(self.port % 30000 + 100)
        self.process = None

    def admin(self, *args):
        status, out, text = run('tgtadm', '-C', self.control, '--lld', 'iscsi', *args)
        if status:
            raise RuntimeError(f'tgtadm {args}: {text}')
        return out.decode()

    def start(self):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(['tgtd', '-f', '-C', self.control, '--iscsi', f'portal=127.0.0.1:{self.port}'],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while run('tgtadm', '-C', self.control, '--op', 'show', '--mode', 'system')[0]:
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError('tgtd does not run')
            time.sleep(.05)
        self.admin('--op', 'new', '--mode', 'target', '--tid', '1', '-T', TARGET)
        for lun, (path, more) in self.units.items():
            self.unit(lun, path, *more)
        for args in self.extra:
            self.admin(*args)
        if self.user:
            self.admin('--op', 'new', '--mode', 'account', '--user', self.user[0], '--password', self.user[1])
            self.admin('--op', 'bind', '--mode', 'account', '--tid', '1', '--user', self.user[0])
        self.admin('--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL')

    def unit(self, lun, path, *more):
        self.admin('--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', str(lun), '-b', os.path.abspath(path),
                   *more)

    def set(self, lun, params):
        self.admin('--op', 'update', '--mode', 'logicalunit', '--tid', '1', '--lun', str(lun), '--params', params)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *why):
        self.kill()

    def uri(self, lun=1, user='', port=None):
        return f'iscsi://{user}127.0.0.1:{port or self.port}/{TARGET}/{lun}'


class Relay:
    """Passes bytes on to a port, as `harm` says: given (from the server?, bytes, how many went before), it gives the bytes to
    pass on, or None to hang up."""

    def __init__(self, port, harm=None):
        self.to, self.harm, self.open = port, harm, []
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
                server = socket.create_connection(('127.0.0.1', self.to))
            except OSError:
                return
            self.open += [client, server]
            for source, sink, back in ((client, server, False), (server, client, True)):
                threading.Thread(target=self.pump, args=(source, sink, back), daemon=True).start()

    def pump(self, source, sink, back):
        before = 0
        try:
            while data := source.recv(65536):
                passed = self.harm(back, data, before) if self.harm else data
                before += len(data)
                if passed is None:
                    break
                sink.sendall(passed)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def drop(self):
        """Hangs up on everybody."""
        for end in self.open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.listener.close()
        self.drop()


class Pdus:
    """Harm to what a target says, a unit of the protocol at a time: `change` gets its header (48 bytes), its number after the
    login, and the rest, and gives the bytes to pass on, or None to hang up."""

    def __init__(self, change):
        self.change, self.rest, self.number, self.ended, self.digest = change, b'', 0, False, 0

    def __call__(self, back, data, before):
        if not back:
            return data
        if before == 0:
            self.rest, self.ended, self.digest = b'', False, 0
        self.rest += data
        out = b''
        while len(self.rest) >= 48 and not self.ended:
            login = self.rest[0] & 0x3f == 0x23
            length = int.from_bytes(self.rest[5:8], 'big')
            whole = 48 + self.rest[4] * 4 + (0 if login else self.digest) + (length + 3) // 4 * 4
            if len(self.rest) < whole:
                break
            unit, self.rest = self.rest[:whole], self.rest[whole:]
            if login and b'HeaderDigest=CRC32C' in unit:
                self.digest = 4
            if not login:
                self.number += 1
                unit = self.change(unit[:48], self.number, unit[48:])
            if unit is None:
                self.ended = True
            else:
                out += unit
        return out if out or not self.ended else None
