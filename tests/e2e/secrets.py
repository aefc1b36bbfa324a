#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Secrets are wiped at the end of every tool: strace holds a process that is about to end, and its memory is searched for
them.  Something that is no secret has to be found there, so that the search is known to work."""
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

from exporttest import DAEMON
from imgtest import IMG, finish, img, is_sanitized, skip, verdict, write
from nbdtest import IO, NBD

TENON = os.path.join(os.path.dirname(IMG), 'tenon')
EXIT = {'x86_64': 231, 'aarch64': 94, 'riscv64': 94}.get(platform.machine())
SECRET, PLAIN = b'the-passphrase-nobody-may-keep', 'a-name-that-is-no-secret'
HOLD = 'inject=exit_group:delay_enter=100s'


def traced(pid):
    """The child that has become another program; strace has others for a moment, to see what the kernel can do."""
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as text:
        children = [int(child) for child in text.read().split()]
    strace = os.readlink(f'/proc/{pid}/exe')
    return next((child for child in children if os.readlink(f'/proc/{child}/exe') != strace), None)


def system_call(pid):
    with open(f'/proc/{pid}/syscall', encoding='ascii') as text:
        return text.read().split()[0]


def wait_until(what, process):
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            found = what()
        except (OSError, IndexError):
            found = None
        if found:
            return found
        time.sleep(0.01)
    raise RuntimeError(f'{process.args}: {process.poll()}')


def holds(pid, *texts):
    """Whether each of them is in what the process can read or write."""
    found = [False] * len(texts)
    with open(f'/proc/{pid}/maps', encoding='utf-8') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as memory:
        for line in maps.read().splitlines():
            fields = line.split()
            start, end = (int(part, 16) for part in fields[0].split('-'))
            if fields[1][0] != 'r' or fields[-1] in ('[vvar]', '[vsyscall]', '[vvar_vclock]'):
                continue
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except OSError:
                continue
            found = [before or text in data for before, text in zip(found, texts)]
    return found


class Held:
    """A program under strace that will be stopped on its way out."""

    def __init__(self, *args):
        # pylint: disable=consider-using-with
        self.strace = subprocess.Popen(['strace', '-qq', '-e', 'trace=exit_group', '-e', HOLD, '-o', 'trace', *args],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.pid = wait_until(lambda: traced(self.strace.pid), self.strace)

    def at_the_end(self):
        wait_until(lambda: system_call(self.pid) == str(EXIT), self.strace)
        return holds(self.pid, SECRET, PLAIN.encode())

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        self.strace.kill()
        return self.strace.communicate(timeout=60)[0].decode('utf-8', 'replace')


def check(what, *args, serves=None):
    held = Held(*args)
    during = None
    try:
        if serves:
            wait_until(lambda: os.path.exists(serves), held.strace)
            during = holds(held.pid, SECRET)[0]
            os.kill(held.pid, signal.SIGTERM)
        secret, plain = held.at_the_end()
    finally:
        text = held.close()
    verdict(not secret and plain, f'{what}: the secret is gone at the end, and what is none is there',
            f'secret: {secret}, plain: {plain}: {text}')
    if serves:
        verdict(during, f'{what}: while it serves, it has the secret')


def secret(how):
    if how == 'base64':
        return '--object', f'secret,id=s,format=base64,file={write("base64", b"dGhlLXBhc3NwaHJhc2Utbm9ib2R5LW1heS1rZWVw")}'
    return '--object', f'secret,id=s,file={write("secret", SECRET)}' if how == 'file' else f'secret,id=s,data={SECRET.decode()}'


def test_tools():
    plain, luks = f'{PLAIN}.raw', f'{PLAIN}.luks'
    write(plain, bytes(1 << 20))
    status, _, text = img('create', '-f', 'luks', *secret('file'), '-o', 'key-secret=s,iter-time=10', luks, '1M')
    verdict(status == 0, 'an encrypted image', text)
    for how in 'file', 'data', 'base64':
        check(f'tenon-img info, {how}=', IMG, 'info', *secret(how), plain)
    check('tenon-img convert from luks', IMG, 'convert', *secret('file'), '--image-opts',
          f'driver=luks,key-secret=s,file.filename={luks}', '-O', 'raw', 'out.raw')
    check('tenon-img convert to luks', IMG, 'convert', *secret('data'), '-O', 'luks', '-o', 'key-secret=s,iter-time=10', plain,
          f'{PLAIN}.out')
    check('tenon-img that fails', IMG, 'info', *secret('data'), f'{PLAIN}.missing')
    check('tenon-io', IO, *secret('file'), '--image-opts', '-c', 'read 0 4k', f'driver=luks,key-secret=s,file.filename={luks}')
    check('tenon-nbd', NBD, '-t', '-k', 'nbd.sock', *secret('data'), '--image-opts',
          f'driver=luks,key-secret=s,file.filename={luks}', serves='nbd.sock')
    check('tenon-storage-daemon', DAEMON, '--pidfile', 'daemon.pid', *secret('file'), '--blockdev',
          f'driver=luks,key-secret=s,node-name=n,file.driver=file,file.filename={luks}', serves='daemon.pid')
    check('tenon', TENON, '-object', secret('data')[1], '-M', PLAIN)


def why_not():
    if not shutil.which('strace'):
        return 'strace is not installed'
    if EXIT is None:
        return f'the number of exit_group is not known for {platform.machine()}'
    if is_sanitized():
        return 'a sanitizer ends the program in its own way'
    probe = subprocess.run(['strace', '-qq', '-o', 'trace', '-e', 'trace=none', 'true'], stderr=subprocess.PIPE, check=False)
    return probe.stderr.decode().strip() or f'strace ends with {probe.returncode}' if probe.returncode else ''


WHY = why_not()
if WHY:
    print(f'1..0 # SKIP {WHY}')
    sys.exit(0)
test_tools()
finish()
