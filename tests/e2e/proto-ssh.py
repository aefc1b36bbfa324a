#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""ssh against OpenSSH's sshd on the loopback interface: keys, host keys, writing, a server that is killed and comes back, and
an SFTP server that lies."""
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

LYING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lyingsftp.py")  # before the folder changes
# pylint: disable=wrong-import-position
from imgtest import RNG, SCRATCH, difference, finish, img, read, run, skip, verdict, write
from nbdtest import IO

MIB = 1 << 20
SIZE = 5 * MIB
SSHD = shutil.which('sshd', path='/usr/sbin:/usr/local/sbin:/sbin')

CONFIG = '''
Port {port}
ListenAddress 127.0.0.1
HostKey {scratch}/host
PidFile {scratch}/sshd.pid
AuthorizedKeysFile {scratch}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
Subsystem sftp {sftp}
'''


def keys():
    for name, words in (('host', ()), ('other', ()), ('key', ()), ('locked', ()), ('stranger', ())):
        passphrase = 'open sesame' if name == 'locked' else ''
        run('ssh-keygen', '-q', '-t', 'ed25519', '-N', passphrase, '-f', name, *words)
    write('authorized', read('key.pub') + read('locked.pub'))


class Sshd:
    def __init__(self, sftp='internal-sftp'):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        self.configure(sftp)
        host = read('host.pub').decode().split()
        other = read('other.pub').decode().split()
        write('known', f'[127.0.0.1]:{self.port} {host[0]} {host[1]}\n'.encode())
        write('known-other', f'[127.0.0.1]:{self.port} {other[0]} {other[1]}\n'.encode())
        self.process = None

    def configure(self, sftp):
        write('sshd.conf', CONFIG.format(port=self.port, scratch=SCRATCH, sftp=sftp).encode())

    def start(self):
        # In a group of its own, so that its sessions can be ended with it.
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen([SSHD, '-D', '-e', '-f', os.path.abspath('sshd.conf')], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=open('sshd.log', 'ab'), start_new_session=True)
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', self.port)) == 0:
                    return self
            time.sleep(.02)
        raise RuntimeError('sshd does not start: ' + read('sshd.log').decode())

    def sessions(self):
        """Processes that serve a connection: each has a session of its own, so they are found by their parents."""
        found, wanted = [], {self.process.pid}
        while wanted:
            more = run('ps', '-o', 'pid=', '--ppid', ','.join(map(str, wanted)))[1].split()
            wanted = set(map(int, more)) - set(found)
            found += wanted
        return found

    def stop(self):
        for pid in self.sessions():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()

    def name(self, path, **options):
        words = {'driver': 'ssh', 'server.host': '127.0.0.1', 'server.port': self.port, 'path': os.path.abspath(path),
                 'identity': os.path.abspath('key'), 'known-hosts': os.path.abspath('known')}
        words.update({key.replace('__', '.').replace('_', '-'): value for key, value in options.items()})
        return 'json:{' + ','.join(f'"{key}":"{value}"' for key, value in words.items() if value is not None) + '}'


def converts(name, source, data, *options):
    status, _, text = img('convert', *options, '-f', 'raw', source, '-O', 'raw', 'out.raw')
    why = f'status {status}: {text}' if status else difference(read('out.raw'), data)
    return verdict(not why, name, why)


def fails(name, source, wanted, *options, address='127.0.0.1'):
    status, _, text = img('info', *options, '-f', 'raw', source)
    return verdict(status == 1 and wanted in text and address in text and text.count('\n') == 1, name, f'status {status}: {text}')


def fingerprint(kind):
    words = run('ssh-keygen', '-l', '-E', kind, '-f', 'host.pub')[1].decode().split()
    return words[1].split(':', 1)[1]


def test_access(sshd, data):
    converts('a key in a file', sshd.name('disk.raw'), data)
    converts('a key with a passphrase', sshd.name('disk.raw', identity=os.path.abspath('locked'), key_secret='k'), data,
             '--object', 'secret,id=k,data=open sesame')
    fails('a wrong passphrase', sshd.name('disk.raw', identity=os.path.abspath('locked'), key_secret='k'), 'key-secret',
          '--object', 'secret,id=k,data=wrong sesame')
    fails('a key that the server does not know', sshd.name('disk.raw', identity=os.path.abspath('stranger')), 'takes none of the keys')
    fails('a key that is not there', sshd.name('disk.raw', identity='/nonexistent/key'), 'identity')
    fails('no such file', sshd.name('nothing'), 'No such file')
    fails('a folder', sshd.name('.'), 'server of')
    fails('another host key', sshd.name('disk.raw', known_hosts=os.path.abspath('known-other')), 'another host key')
    fails('an unknown host', sshd.name('disk.raw', known_hosts='/nonexistent/known'), 'known hosts')
    md5 = fingerprint('md5')
    plain = md5.replace(':', '').upper()
    for what in (md5, plain):
        converts(f'the hash of the host key: {what[:8]}…', sshd.name('disk.raw', known_hosts='/nonexistent', host_key_check__mode='hash',
                                                                  host_key_check__type='md5', host_key_check__hash=what), data)
    fails('another hash', sshd.name('disk.raw', host_key_check__mode='hash', host_key_check__type='sha256', host_key_check__hash='00'),
          'host-key-check.hash')
    fails('half a hash', sshd.name('disk.raw', host_key_check__mode='hash', host_key_check__type='sha1'), 'host-key-check', address='')
    test_agent(sshd, data)


def test_agent(sshd, data):
    """By the agent, with names as users write them."""
    if not shutil.which('ssh-agent'):
        skip('an agent', 'ssh-agent is not installed')
        return
    path = os.path.abspath('disk.raw')
    agent = subprocess.Popen(['ssh-agent', '-D', '-a', 'agent'], stdout=subprocess.DEVNULL)  # pylint: disable=consider-using-with
    os.environ['SSH_AUTH_SOCK'] = os.path.abspath('agent')
    try:
        end = time.monotonic() + 30
        while run('ssh-add', 'key')[0] and time.monotonic() < end:
            time.sleep(.05)
        uri = f'ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}{path}'
        plain = fingerprint('md5').replace(':', '')
        converts('an agent, a URI without checks', uri + '?host_key_check=no', data)
        converts('a URI with a hash', uri + '?host_key_check=md5:' + plain, data)
        fails('a URI with another hash', uri + '?host_key_check=sha1:1234', 'host key')
        fails('a URI with a question that there is not', uri + '?port=5', 'host_key_check')
        if shutil.which('qemu-img'):
            status, _, text = run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uri + '?host_key_check=no', 'out.raw')
            verdict(status == 0, 'QEMU reads the same by that name', text) if 'Unknown protocol' not in text else \
                skip('QEMU reads the same by that name', 'qemu-img has no ssh (qemu-block-extra)')
        name = f'driver=raw,file.driver=ssh,file.host=127.0.0.1,file.port={sshd.port},file.path={path},file.host_key_check=no'
        status, _, text = img('compare', '--image-opts', name, f'driver=raw,file.filename={path}')
        verdict(status == 0, 'older names of options', text)
    finally:
        agent.kill()
        agent.wait()
        del os.environ['SSH_AUTH_SOCK']


def test_writing(sshd):
    shadow = bytearray(RNG.randbytes(SIZE))
    write('work.raw', shadow)
    commands = []
    for _ in range(60):
        at = RNG.randrange(SIZE - MIB)
        length, byte = RNG.choice((1, 513, 4096, 70000, 300000)), RNG.randrange(256)
        shadow[at:at + length] = bytes([byte]) * length
        commands += ['-c', f'aio_write -P {byte} {at} {length}', '-c', 'aio_flush']
        at = RNG.randrange(SIZE - MIB)
        commands += ['-c', f'aio_read {at} {RNG.choice((1, 4096, 300000))}'] * RNG.randrange(3)
    status, out, text = run(IO, '-f', 'raw', *commands, '-c', 'flush', sshd.name('work.raw'))
    verdict(status == 0 and b'ailed' not in out, 'writes, reads in between', out[-300:] + text.encode())
    why = difference(read('work.raw'), bytes(shadow))
    verdict(not why, 'the file holds them', why)
    status, _, text = img('resize', '-f', 'raw', sshd.name('work.raw'), str(SIZE + 4096))
    verdict(status == 0 and os.path.getsize('work.raw') == SIZE + 4096, 'growing', text)
    status, _, text = img('resize', '--shrink', '-f', 'raw', sshd.name('work.raw'), str(MIB))
    verdict(status == 0 and os.path.getsize('work.raw') == MIB, 'shrinking', text)
    status, _, text = img('create', '-f', 'qcow2', sshd.name('new.qcow2'), '64M')
    verdict(status == 0, 'creating a qcow2 image there', text)
    status, _, text = img('convert', '-n', '-f', 'raw', '-O', 'qcow2', 'disk.raw', sshd.name('new.qcow2'))
    verdict(status == 0 and img('check', 'new.qcow2')[0] == 0, 'filling it', text)
    status, _, text = img('convert', '-f', 'raw', '-O', 'raw', 'disk.raw', sshd.name('copy.raw'))
    verdict(status == 0 and read('copy.raw') == read('disk.raw'), 'converting to a new file there', text)
    if shutil.which('qemu-img'):
        status, out, text = run('qemu-img', 'check', 'new.qcow2')
        verdict(status == 0, 'QEMU finds nothing wrong with it', text)


class Prompt:
    """tenon-io that is told one thing after the other."""

    def __init__(self, name):
        # pylint: disable=consider-using-with
        self.io = subprocess.Popen([IO, '-f', 'raw', name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ask(self, command):
        self.io.stdin.write(command + '\n')
        self.io.stdin.flush()
        text = ''
        while 'ops' not in text and 'ailed' not in text:
            line = self.io.stdout.readline()
            if not line:
                break
            text += line
        return text

    def end(self):
        self.io.communicate('quit\n', timeout=60)
        return self.io.returncode


def test_restart(sshd, data):
    write('work.raw', data)
    prompt = Prompt(sshd.name('work.raw'))
    verdict('512/512' in prompt.ask('write -P 7 0 512'), 'before the server is killed')
    sshd.stop()
    verdict('ailed' in prompt.ask('read 4096 512'), 'a read fails while there is none')
    verdict('ailed' in prompt.ask('write 4096 512'), 'a write, too')
    sshd.start()
    verdict('512/512' in prompt.ask('read -P 7 0 512'), 'a read when it is back')
    verdict('512/512' in prompt.ask('write -P 9 8192 512'), 'a write when it is back')
    for pid in sshd.sessions():
        os.kill(pid, signal.SIGKILL)
    prompt.ask('read 0 512')
    verdict('512/512' in prompt.ask('read -P 9 8192 512'), 'after a session was killed')
    os.rename('host', 'host.saved')
    shutil.copy('other', 'host')
    sshd.stop()
    sshd.start()
    prompt.ask('read 0 512')
    verdict('ailed' in prompt.ask('read 0 512'), 'another host key is not accepted when it is back')
    os.rename('host.saved', 'host')
    prompt.end()


def test_lies(data):
    """Right data or an error, and an end."""
    lying = f'{sys.executable} {LYING}'
    for lie in ('none', 'short', 'eof', 'long', 'wrong', 'error', 'bye', 'junk', 'huge', 'silent'):
        sshd = Sshd(f'{lying} {lie}').start()
        try:
            status, _, text = img('convert', '-f', 'raw', sshd.name('disk.raw', timeout=2), '-O', 'raw', 'out.raw')
            good = difference(read('out.raw'), data) == '' if status == 0 else status == 1 and '127.0.0.1' in text
            wanted = lie in ('none', 'short')
            verdict(good and (status == 0) == wanted, f'an SFTP server that lies: {lie}', f'status {status}: {text}')
        finally:
            sshd.stop()


def main():
    if not SSHD or not shutil.which('ssh-keygen'):
        skip('ssh', 'sshd is not installed (openssh-server)')
        finish()
    if os.geteuid() == 0:
        os.makedirs('/run/sshd', exist_ok=True)  # sshd insists on it
    data = RNG.randbytes(SIZE)
    write('disk.raw', data)
    keys()
    sshd = Sshd().start()
    try:
        test_access(sshd, data)
        test_writing(sshd)
        test_restart(sshd, data)
    finally:
        sshd.stop()
    test_lies(data)
    finish()


main()
