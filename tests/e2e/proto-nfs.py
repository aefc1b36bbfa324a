#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files on an NFS server, with nfs-ganesha: reads and writes beside the server's own file, both versions, a server that is killed
and comes back, one that says nothing, and one whose answers are late, cut short, or damaged."""
import os
import subprocess
import sys
import time

PROGRAM = os.path.abspath(__file__)

# pylint: disable=wrong-import-position
import nfstest  # noqa: E402
from imgtest import IMG, RNG, difference, finish, img, read, run, skip, tool, verdict, write
from iscsitest import Relay
from nbdtest import IO

MIB = 1 << 20
SIZE = 8 * MIB


def said(name, result, *texts):
    """The tool fails with one line that names all this."""
    status, _, text = result
    return verdict(status == 1 and all(part in text for part in texts) and text.count('\n') == 1, name,
                   f'status {status}: {text}')


def io(where, *commands, options=()):
    """What tenon-io says to these commands."""
    args = [arg for command in commands for arg in ('-c', command)]
    return run(IO, *options, *args, *where)


def test_files(server, version):
    data = RNG.randbytes(SIZE)
    name = f'a{version}.raw'  # another file each time: the server keeps what it knows of one for a minute
    write(f'export/{name}', data)
    uri = server.uri(name, version)
    status, out, text = img('info', uri)
    verdict(status == 0 and b'8 MiB (8388608 bytes)' in out, f'version {version}: info', out.decode() + text)
    status, _, text = img('convert', '-f', 'raw', '-O', 'raw', uri, 'out.raw')
    verdict(status == 0 and not difference(read('out.raw'), data), f'version {version}: read', text)
    status, out, text = io([uri], 'write -P 17 100 70000', 'read -P 17 100 70000', 'aio_write -P 9 1M 2M', 'aio_flush', 'flush',
                           'write -z 4M 1M', 'read -P 0 4M 1M', 'truncate 9M', 'write -P 3 8M 1M', 'length',
                           options=('-f', 'raw'))
    wanted = bytearray(data) + bytes([3]) * MIB
    wanted[100:70100] = bytes([17]) * 70000
    wanted[MIB:3 * MIB] = bytes([9]) * (2 * MIB)
    wanted[4 * MIB:5 * MIB] = bytes(MIB)
    verdict(status == 0 and b'ailed' not in out and b'9 MiB' in out and not difference(read(f'export/{name}'), bytes(wanted)),
            f'version {version}: write, flush, zeroes, resize', out.decode() + text)
    pieces = [(RNG.randrange(SIZE - 65536), RNG.randrange(1, 65536), RNG.randrange(1, 255)) for _ in range(60)]
    io([uri], *(f'write -q -P {pattern} {at} {length}' for at, length, pattern in pieces), options=('-f', 'raw'))
    for at, length, pattern in pieces:
        wanted[at:at + length] = bytes([pattern]) * length
    verdict(not difference(read(f'export/{name}'), bytes(wanted)), f'version {version}: pieces of every size')
    status, out, text = io([uri], 'readv 0 4096 512 8192', 'writev -P 5 1000 300 4096 77', 'read -P 5 1000 4473',
                           options=('-f', 'raw'))
    verdict(status == 0 and b'ailed' not in out, f'version {version}: several pieces of memory', out.decode() + text)


def test_formats(server, version):
    data = RNG.randbytes(2 * MIB) + bytes(2 * MIB) + RNG.randbytes(4 * MIB)
    write('d.raw', data)
    target = server.uri(f't{version}.qcow2', version)
    status, _, text = img('convert', '-f', 'raw', '-O', 'qcow2', 'd.raw', target)
    verdict(status == 0, f'version {version}: an image is made on the server', text)
    qemu = tool('qemu-img')
    if qemu:
        verdict(run(qemu, 'compare', '-f', 'raw', '-F', 'qcow2', 'd.raw', f'export/t{version}.qcow2')[0] == 0,
                f'version {version}: QEMU agrees, on the server')
    status, _, text = img('check', target)
    verdict(status == 0, f'version {version}: it is clean', text)
    status, _, text = img('convert', target, '-O', 'raw', 'out.raw')
    verdict(status == 0 and not difference(read('out.raw'), data), f'version {version}: and back', text)
    status, _, text = img('create', '-f', 'qcow2', server.uri(f'new{version}.qcow2', version), '64M')
    verdict(status == 0, f'version {version}: create', text)
    said(f'version {version}: no folder for it', img('create', '-f', 'raw', server.uri('none/new.raw', version), '64M'),
         '127.0.0.1')


def test_qemu(server):
    qemu = tool('qemu-img')
    if not qemu or run(qemu, 'info', server.uri('d.raw'))[0]:
        skip('QEMU over NFS', 'this qemu-img has no nfs (qemu-block-extra)')
        return
    data = RNG.randbytes(SIZE)
    write('q.raw', data)
    verdict(run(qemu, 'convert', '-f', 'raw', '-O', 'qcow2', 'q.raw', server.uri('q.qcow2'))[0] == 0, 'QEMU writes')
    status, _, text = img('convert', server.uri('q.qcow2'), '-O', 'raw', 'out.raw')
    verdict(status == 0 and not difference(read('out.raw'), data), 'what QEMU wrote is read', text)
    img('convert', '-f', 'raw', '-O', 'qcow2', 'q.raw', server.uri('ours.qcow2'))
    verdict(run(qemu, 'compare', '-f', 'raw', '-F', 'qcow2', 'q.raw', server.uri('ours.qcow2'))[0] == 0, 'and the reverse')


def test_refusals(server):
    write('export/r.raw', bytes(MIB))
    write('export/mine.raw', bytes(MIB))
    os.chmod('export/mine.raw', 0o600)
    write('export/fixed/f.raw', bytes(MIB))
    there = server.uri('r.raw')
    said('no such file', img('info', server.uri('none.raw')), '127.0.0.1', 'none.raw')
    said('no such export', img('info', 'nfs://127.0.0.1/no/such/export/a.raw'), '127.0.0.1')
    said('a folder', img('info', server.uri('fixed')), '127.0.0.1')
    said('another user', img('info', server.uri('mine.raw', uid=1000, gid=1000)), '127.0.0.1', 'user')
    said('nobody listens', img('info', server.uri('r.raw', nfsport=9)), '127.0.0.1')
    said('an unknown word', img('info', server.uri('r.raw', color=9)), 'color')
    said('no number', img('info', there + '?uid=me'), 'uid')
    said('a word twice as long as any', img('info', there + '?' + 'u' * 5000 + '=1'), 'NFS')
    said('no path', img('info', 'nfs://127.0.0.1/'), 'nfs://')
    said('no host', img('info', 'nfs:///a/b'), 'nfs://')
    said('no host at all', img('info', 'nfs:a'), 'nfs')
    said('a version that is none', img('info', server.uri('r.raw', version=2)), 'version')
    said('no such host', img('info', 'nfs://no.such.host.invalid/a/b'), 'no.such.host.invalid')
    said('an export that is read-only', io([f'nfs://127.0.0.1{server.path}/fixed/f.raw'], 'write 0 4k', options=('-f', 'raw')),
         '127.0.0.1')
    status, out, _ = io([f'nfs://127.0.0.1{server.path}/fixed/f.raw'], 'read 0 4k', options=('-r', '-f', 'raw'))
    verdict(status == 0 and b'4 KiB' in out, 'read-only')
    status, _, text = img('info', server.uri('r.raw', readahead=131072, pagecache=16, nfsport=2049, mountport=20048))
    verdict(status == 0, 'words of names', text)
    json = f'json:{{"driver": "nfs", "server": {{"type": "inet", "host": "127.0.0.1"}}, "path": "{server.path}/r.raw", "user": 0}}'
    status, _, text = img('info', '-f', 'raw', json)
    verdict(status == 0, 'json, as for QEMU', text)


def session(where, *options):
    # pylint: disable=consider-using-with
    prompt = subprocess.Popen([IO, *options, '--image-opts', where], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    say(prompt, 'length')
    first = prompt.stdout.readline()
    if b'MiB' not in first:
        raise RuntimeError(first.decode())
    return prompt


def say(prompt, text):
    prompt.stdin.write(text.encode() + b'\n')
    prompt.stdin.flush()


def test_restart(server, version):
    """Killed with requests under way, and brought back."""
    small = f'small{version}'
    write(f'export/{small}', bytes(SIZE))
    prompt = session(server.options(small, version, stable='on'))
    lines = 400
    for number in range(lines):
        say(prompt, f'aio_write -q -P {number % 255 + 1} {number * 16384} 16384')
        if number in (100, 300):
            server.kill()
            server.start()
    out = prompt.communicate(b'aio_flush\nflush\nquit\n', timeout=115)[0]
    wanted = b''.join(bytes([number % 255 + 1]) * 16384 for number in range(lines))
    verdict(prompt.returncode == 0 and b'ailed' not in out and not difference(read(f'export/{small}')[:len(wanted)], wanted),
            f'version {version}: killed twice and brought back, every write is there', out[-300:])
    prompt = session(server.options(small, version), '-t', 'writeback')
    say(prompt, 'write -P 1 0 1M')
    say(prompt, 'read -P 1 0 1M')
    while b'ops/sec' not in prompt.stdout.readline():
        pass
    server.kill()
    server.start()
    out = prompt.communicate(b'read 0 4096\nflush\nread -P 1 0 1M\nwrite -P 2 0 1M\nflush\nquit\n', timeout=115)[0]
    verdict(out.count(b'cannot flush') == 1 and b'ailed' not in out, f'version {version}: a flush tells of writes that may be lost, once', out)


def test_gone(server):
    write('export/gone', bytes(SIZE))
    prompt = session(server.options('gone', timeout=2, reconnect_delay=2))
    server.stop()
    start = time.monotonic()
    out = prompt.communicate(b'read 0 4096\nquit\n', timeout=115)[0]
    verdict(b'ailed' in out and time.monotonic() - start < 90, 'a server that says nothing is given up', out)
    said('opening gives up, too', img('info', '--image-opts', server.options('gone', timeout=2)), '127.0.0.1')
    server.go_on()
    prompt = session(server.options('gone', reconnect_delay=2))
    server.kill()
    start = time.monotonic()
    out = prompt.communicate(b'read 0 4096\nquit\n', timeout=115)[0]
    verdict(b'ailed' in out and time.monotonic() - start < 90, 'killed for good: requests fail in the end', out)
    server.start()


def test_change(server):
    write('export/changed', bytes(SIZE))
    prompt = session(server.options('changed'))
    os.truncate('export/changed', MIB)
    out = prompt.communicate(b'read 0 1M\nread 2M 64k\nquit\n', timeout=115)[0]
    verdict(out.count(b'ailed') == 1, 'a file that has become shorter: what is missing is an error', out)


def test_harm(server):
    """Slow, cut short, dropped, damaged: right data or an error, and never a hang."""
    data = RNG.randbytes(SIZE)
    write('export/harmed', data)

    def through(name, harm, fine=True):
        with Relay(2049, harm) as relay:
            status, _, text = img('convert', '-O', 'raw', '--image-opts',
                                  server.options('harmed', server_port=relay.port, mountport=20048, timeout=2, reconnect_delay=4)
                                  .replace('server-port', 'server.port'), 'out.raw')
            why = difference(read('out.raw'), data) if status == 0 else '' if status == 1 and not fine else f'status {status}'
            return verdict(not why, name, f'status {status}: {why} {text}')

    def slow(back, part, before):
        time.sleep(.002)
        return part

    dropped = []

    def drop(back, part, before):
        if back and before > 2 * MIB and not dropped:
            dropped.append(1)
            return None
        return part

    def damaged(at, value):
        def damage(back, part, before):
            if back and before <= at < before + len(part):
                part = bytearray(part)
                part[at - before] ^= value
            return bytes(part)
        return damage

    through('slow', slow)
    through('dropped in the middle', drop)
    skip('damaged at byte 20', 'libnfs 4.0 believes the length of a verifier and reads outside of its memory')
    for at in (0, 1, 3, 4, 8, 12, 24, 28, 40, 60, 100, 140, 150):
        through(f'damaged at byte {at}', damaged(at, 0x81), fine=False)
    for at in (0, 3, 4, 28, 100, 200, 5000):
        through(f'silent after {at} bytes',
                lambda back, part, before, at=at: part[:max(0, at - before)] if back and before + len(part) > at else part,
                fine=False)


WHY = nfstest.missing()
if WHY:
    print(f'1..0 # SKIP {WHY}')
elif 'protocol-nfs' not in run(os.path.join(os.path.dirname(IMG), 'tenon-plugin'), 'list')[1].decode():
    print('1..0 # SKIP built without nfs')
else:
    nfstest.go_apart(PROGRAM)
    try:
        SERVER = nfstest.Server()
    except RuntimeError as why:
        print(f'1..0 # SKIP the server does not start here: {why}')
        sys.exit(0)
    with SERVER:
        for VERSION in (3, 4):
            test_files(SERVER, VERSION)
            test_formats(SERVER, VERSION)
        test_qemu(SERVER)
        test_refusals(SERVER)
        for VERSION in (3, 4):
            test_restart(SERVER, VERSION)
        test_gone(SERVER)
        test_change(SERVER)
        test_harm(SERVER)
    finish()
