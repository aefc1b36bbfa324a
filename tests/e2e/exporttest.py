# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of exports in Python: tenon-storage-daemon, and newer QEMU tools with the driver of vhost-user.  Imported."""
import os
import signal
import socket
import subprocess
import time

from imgtest import IMG, run

DAEMON = os.environ.get('TENON_STORAGE_DAEMON', os.path.join(os.path.dirname(IMG), 'tenon-storage-daemon'))
HERE = os.path.dirname(os.path.abspath(__file__))


def newer_qemu():
    """The folder of QEMU's tools with libblkio, fetched once, and why there is none."""
    folder = os.environ.get('TENON_QEMU')
    if folder:
        return folder, ''
    status, out, text = run('sh', os.path.join(HERE, '..', 'bench', 'fetch-qemu.sh'))
    return (out.decode().strip(), '') if status == 0 else (None, text.strip().splitlines()[-1:] or 'not fetched')


class Daemon:
    """tenon-storage-daemon until the end of the block; ready once its pid file is there."""

    def __init__(self, *args, pidfile='pid'):
        self.args, self.pidfile, self.process, self.text = args, pidfile, None, ''

    def __enter__(self):
        if os.path.exists(self.pidfile):
            os.unlink(self.pidfile)
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen([DAEMON, '--pidfile', self.pidfile, *self.args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while not os.path.exists(self.pidfile):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f'{self.args}: {self.end()}')
            time.sleep(0.02)
        return self

    def end(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        if not self.process.stdout.closed:
            self.text = self.process.communicate(timeout=60)[0].decode('utf-8', 'replace')
        return self.process.returncode, self.text

    def __exit__(self, *why):
        self.end()

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)  # waits while the queue of the listener is full, which a socket with a timeout does not
    sock.settimeout(30)
    return sock
