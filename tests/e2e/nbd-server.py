#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tenon-nbd against clients of others (libnbd's tools, qemu-img, qemu-io), and against one that speaks the protocol itself:
every option and command, both kinds of headers, what is refused, and the options of the command line."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

from imgtest import RNG, difference, finish, img, read, run, skip, verdict, write
from nbdtest import CACHE, DF, FAST_ZERO, FLUSH, FUA, IO, NBD, NO_HOLE, READ, REQ_ONE, STATUS, TRIM, WRITE, ZEROES
from nbdtest import ABORT, EXPORT_NAME, INFO, LIST, LIST_META, STARTTLS, Client, Server, serve

MIB = 1 << 20
EPERM, EINVAL, ENOSPC, EOVERFLOW = 1, 22, 28, 75
URI = 'nbd+unix:///?socket=socket'


def pattern(length):
    """Random bytes with a long hole in the middle."""
    data = bytearray(RNG.randbytes(length))
    data[length // 4:length // 2] = bytes(length // 2 - length // 4)
    return data


def make(name, size=8 * MIB, kind='raw'):
    data = pattern(size)
    write('content.raw', data)
    img('convert', '-f', 'raw', '-O', kind, 'content.raw', name)
    return data


# ---- The negotiation ----

def test_negotiation():
    make('n.raw', MIB)
    with serve('-e', '4', '-x', 'disk', '-D', 'a text', '-r', 'n.raw'):
        with Client() as c:
            verdict(c.greeting == b'NBDMAGICIHAVEOPT\0\3', 'greeting: fixed newstyle, no zeroes')
            answers = c.option(LIST)
            verdict(answers == [(2, struct.pack('>I', 4) + b'diska text'), (1, b'')], 'LIST names the export', answers)
            verdict(c.option(LIST, b'x')[-1][0] == 1 << 31 | 3, 'LIST with data is refused')
            verdict(c.option(77)[-1][0] == 1 << 31 | 1, 'an unknown option is refused')
            verdict(c.option(STARTTLS)[-1][0] == 1 << 31 | 2, 'STARTTLS is refused by policy')
            verdict(c.option(1234, bytes(100000))[-1][0] == 1 << 31 | 9, 'a long option is refused, and skipped')
            verdict(c.go('nothing')[-1][0] == 1 << 31 | 6, 'GO with a name that is not there')
            verdict(c.option(INFO, b'\0\0\0\xff')[-1][0] == 1 << 31 | 3, 'INFO with lengths that contradict each other')
            verdict(c.contexts('base:allocation', name='disk')[-1][0] == 1 << 31 | 3, 'contexts need structured replies')
            verdict(c.structure()[-1][0] == 1, 'structured replies')
            names = [data[4:].decode() for kind, data in c.contexts(name='disk', option=LIST_META) if kind == 4]
            verdict(names == ['base:allocation'], 'LIST_META_CONTEXT without queries', names)
            infos = dict((struct.unpack('>H', data[:2])[0], data[2:]) for kind, data in
                         c.go('disk', option=INFO, infos=(1, 2, 3)) if kind == 3)
            verdict(infos[1] == b'disk' and infos[2] == b'a text', 'INFO: name and description', infos)
            verdict(struct.unpack('>III', infos[3])[0] == 1, 'INFO: any alignment')
            size, flags = struct.unpack('>QH', infos[0])
            verdict(size == MIB and flags & 3 == 3 and flags & 256 and not flags & 32, 'INFO: size and flags', f'{flags:x}')
            verdict(c.go('disk')[-1][0] == 1, 'GO')
            verdict(len(c.read(0, 512)) == 512, 'requests follow')
        with Client(flags=1) as c:
            c.send_option(EXPORT_NAME, b'disk')
            size, flags, zeroes = struct.unpack('>QH124s', c.take(134))
            verdict(size == MIB and zeroes == bytes(124), 'EXPORT_NAME with zeroes')
            verdict(c.read(4096, 4096) == read('n.raw')[4096:8192], 'EXPORT_NAME: requests follow')
        with Client() as c:
            c.send_option(EXPORT_NAME, b'nothing')
            verdict(c.closed(), 'EXPORT_NAME with a name that is not there: hung up')
        with Client() as c:
            verdict(c.option(ABORT)[-1][0] == 1 and c.closed(), 'ABORT is acknowledged')
        for flags in (8, 0xffffffff):
            with Client(flags=flags) as c:
                verdict(c.closed(), f'unknown client flags {flags:x}: hung up')
        with Client() as c:
            c.sock.sendall(b'GET / HTTP/1.0\r\n\r\n')
            verdict(c.closed(), 'no option at all: hung up')


# ---- Commands ----

def exercise(extended, structured):
    """Random commands, compared with a copy in memory."""
    size = 4 * MIB
    shadow = make('e.qcow2', size, 'qcow2')
    name = 'extended' if extended else 'structured' if structured else 'simple'
    with serve('--discard=unmap', 'e.qcow2') as server, Client() as c:
        if structured:
            c.structure(extended)
        c.go()
        why = ''
        for _ in range(300):
            offset = RNG.randrange(size)
            length = min(RNG.choice((1, 511, 4096, 65536, 300000, MIB)), size - offset)
            what = RNG.choice((READ, READ, READ, WRITE, ZEROES, TRIM, FLUSH, CACHE))
            if what == READ:
                why = why or difference(c.read(offset, length, RNG.choice((0, DF)) if structured else 0),
                                        shadow[offset:offset + length])
                continue
            data = RNG.randbytes(length) if what == WRITE else b''
            flags = RNG.choice((0, FUA)) | (RNG.choice((0, NO_HOLE)) if what == ZEROES else 0)
            error = c.error(what, offset if what != FLUSH else 0, length if what != FLUSH else 0, flags, data)
            if error:
                why = why or f'command {what} at {offset}, {length} bytes: error {error}'
            if what == WRITE:
                shadow[offset:offset + length] = data
            elif what == ZEROES:
                shadow[offset:offset + length] = bytes(length)
            elif what == TRIM:  # keeps or clears: either is right
                shadow[offset:offset + length] = c.read(offset, length)
        verdict(not why, f'random commands, {name} replies', why)
        status = server.end()[0]
    img('convert', 'e.qcow2', '-O', 'raw', 'e.raw')
    why = difference(read('e.raw'), bytes(shadow))
    verdict(not why and status == 0, f'the image holds what was written, {name} replies', why or status)
    verdict(img('check', 'e.qcow2')[0] == 0, f'the image is sound, {name} replies')


def test_refusals():
    make('r.raw', MIB)
    for extended in (False, True):
        with serve('-e', '2', 'r.raw'), Client() as c:
            c.structure(extended)
            c.go()
            which = ', extended' if extended else ''
            verdict(c.error(READ, MIB - 1, 2) == EINVAL, 'a read beyond the end' + which)
            verdict(c.error(READ, (1 << 64) - 1, 2) == EINVAL, 'a read that wraps around' + which)
            verdict(c.error(READ, 0, 33 * MIB) in (EINVAL, EOVERFLOW), 'a read that is too long' + which)
            verdict(c.error(WRITE, MIB - 1, 2, 0, b'xx') == ENOSPC, 'a write beyond the end' + which)
            verdict(c.error(TRIM, MIB, 1) == EINVAL, 'a trim beyond the end' + which)
            verdict(c.error(ZEROES, 0, 1, 0x4000) == EINVAL, 'an unknown flag' + which)
            verdict(c.error(99) == EINVAL, 'an unknown command' + which)
            verdict(c.error(STATUS, 0, 100) == EINVAL, 'block status without a context' + which)
            verdict(c.error(READ, 0, 1) == 0, 'and goes on' + which)
            if extended:
                c.sock.sendall(c.request(WRITE, 0, 10))
                verdict(c.chunks()[-1][2] == 0x8001, 'a write without data is refused')
            else:
                c.sock.sendall(c.request(WRITE, 0, 40 * MIB) + bytes(40 * MIB))
                verdict(c.chunks()[-1][2] == 0x8001, 'a write that is too long is refused, and skipped')
            verdict(c.error(READ, 0, 1) == 0, 'and goes on again' + which)
            c.sock.sendall(b'\0' * 40)
            verdict(c.closed(), 'a wrong magic number: hung up' + which)
    with serve('-r', 'r.raw'), Client() as c:
        c.structure()
        c.go()
        verdict([c.error(what, 0, 4, 0, b'four' if what == WRITE else b'') for what in (WRITE, TRIM, ZEROES)] == [EPERM] * 3,
                'read-only: nothing that writes')
    verdict(len(read('r.raw')) == MIB, 'the image has kept its size')


def test_pipelining():
    """Hundreds of requests before the first answer is fetched."""
    data = make('p.raw', 16 * MIB)
    with serve('p.raw') as server, Client() as c:
        c.go()
        wanted, batch = {}, b''
        for _ in range(1000):
            offset, length = RNG.randrange(15 * MIB), RNG.choice((1, 4096, 100000))
            batch += c.request(READ, offset, length)
            wanted[c.cookie] = (offset, length)
        c.sock.sendall(batch)
        why = ''
        while wanted:
            cookie, _, kind, error = c.chunk()
            offset, length = wanted.pop(cookie)
            if kind != 'simple' or error:
                why = f'{kind} {error}'
                break
            why = why or difference(c.take(length), data[offset:offset + length])
        verdict(not why, '1000 reads sent at once', why)
        batch = b''.join(c.request(READ, 0, 8 * MIB) for _ in range(100))
        c.sock.sendall(batch)
        peak = max(server.memory() for _ in range(200))
        verdict(peak < 200 << 10, 'who asks for 800 MiB and fetches nothing does not fill memory', f'{peak} KiB')
        for _ in range(100):
            c.chunk()
            c.take(8 * MIB)
        verdict(c.read(5, 5) == data[5:10], 'and is served once it does')


def test_status():
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '8M')
    run('qemu-io', '-c', 'write -P 1 1M 1M', 'base.qcow2')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2')
    run('qemu-img', 'bitmap', '--add', 'top.qcow2', 'b0')
    run('qemu-io', '-c', 'write -P 2 4M 1M', '-c', 'write -z 6M 1M', 'top.qcow2')
    with serve('-A', '-B', 'b0', '-r', '-e', '9', 'top.qcow2'):
        for context, wanted in (
                ('base:allocation', [(MIB, 3), (MIB, 0), (2 * MIB, 3), (MIB, 0), (3 * MIB, 3)]),
                ('qemu:allocation-depth', [(MIB, 0), (MIB, 2), (2 * MIB, 0), (MIB, 1), (MIB, 0), (MIB, 1), (MIB, 0)]),
                ('qemu:dirty-bitmap:b0', [(4 * MIB, 0), (MIB, 1), (MIB, 0), (MIB, 1), (MIB, 0)])):
            text = run('nbdinfo', '--json', f'--map={context}', URI)[1]
            got = [(entry['length'], entry['type']) for entry in json.loads(text)]
            verdict(got == wanted, f'nbdinfo --map={context}', got)
            with Client() as c:
                c.structure(extended=True)
                c.contexts(context)
                c.go()
                payload = c.call(STATUS, 0, 8 * MIB)[0][3]
                _, n = struct.unpack('>II', payload[:8])
                runs = [struct.unpack('>QQ', payload[8 + 16 * i:24 + 16 * i]) for i in range(n)]
                verdict(runs == wanted, f'{context} with extended headers', runs)
                payload = c.call(STATUS, 0, 8 * MIB, REQ_ONE)[0][3]
                verdict(len(payload) == 24, f'{context}: REQ_ONE gives one run')
        verdict(run('nbdinfo', '--map=qemu:dirty-bitmap:b1', URI)[0] != 0, 'a bitmap that is not exported')
        ours = run('qemu-img', 'map', '--output=json', '-f', 'raw', URI)[1]
        verdict([(e['start'], e['length'], e['data']) for e in json.loads(ours)] == [
            (0, MIB, False), (MIB, MIB, True), (2 * MIB, 2 * MIB, False), (4 * MIB, MIB, True), (5 * MIB, 3 * MIB, False)],
            'qemu-img map of the export', ours)
    status, _, text = run(NBD, '-k', 'socket', '-B', 'nothing', 'top.qcow2')
    verdict(status == 1 and "'nothing'" in text, 'a bitmap that the image does not have', text)


# ---- Clients of others ----

def test_tools():
    data = make('t.qcow2', 8 * MIB, 'qcow2')
    with serve('-e', '8', '--discard=unmap', 't.qcow2'):
        verdict(run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', URI, 'content.raw')[0] == 0, 'qemu-img compare')
        run('nbdcopy', '--connections=4', URI, 'copy.raw')
        why = difference(read('copy.raw'), bytes(data))
        verdict(not why, 'nbdcopy, four connections', why)
        status, out, text = run('qemu-io', '-f', 'raw', '-c', 'write -P 5 3000 70000', '-c', 'write -z -u 1M 2M',
                                '-c', 'discard 5M 1M', '-c', 'flush', '-c', 'read -P 5 3000 70000', '-c', 'read -P 0 1M 2M',
                                '-c', 'write -f -P 9 7M 64k', '-c', 'read -P 9 7M 64k', URI)
        verdict(status == 0 and b'failed' not in out, 'qemu-io writes and reads', out + text.encode())
        other = pattern(8 * MIB)
        write('other.raw', other)
        status, _, text = run('nbdcopy', 'other.raw', URI)
        verdict(status == 0, 'nbdcopy into the export', text)
    verdict(run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', 'other.raw', 't.qcow2')[0] == 0, 'and the image holds it')
    verdict(run('qemu-img', 'check', 't.qcow2')[0] == 0, 'qemu-img check afterwards')
    with serve('-e', '8', 't.qcow2'):
        status, _, text = run('nbdsh', '-u', URI, '-c', 'assert h.can_multi_conn()', '-c', 'b = h.pread(4096, 0)',
                              '-c', 'h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE)', '-c', 'h.cache(65536, 0)', '-c', 'h.flush()',
                              env={**os.environ, 'PATH': '/usr/bin:/bin'})
        verdict(status == 0, 'nbdsh', text)


# ---- The command line ----

def test_command_line():
    data = make('c.qcow2', 2 * MIB, 'qcow2')
    run('qemu-img', 'snapshot', '-c', 'old', 'c.qcow2')
    run(IO, '-c', 'write -P 1 0 1M', 'c.qcow2')
    with serve('-l', 'old', 'c.qcow2'), Client() as c:
        c.go()
        verdict(c.read(0, MIB) == data[:MIB], '-l: an internal snapshot')
    before = read('c.qcow2')
    with serve('-s', 'c.qcow2'), Client() as c:
        c.go()
        verdict(c.error(WRITE, 0, 4, 0, b'abcd') == 0 and c.read(0, 5) == b'abcd\1', '-s: writes are seen')
    verdict(read('c.qcow2') == before, '-s: and thrown away')
    make('o.raw', MIB)
    with serve('-o', '4096', '-f', 'raw', 'o.raw'), Client() as c:
        answers = c.go()
        verdict(struct.unpack('>Q', [d for k, d in answers if k == 3][0][2:10])[0] == MIB - 4096, '-o: the size')
        verdict(c.read(0, 100) == read('o.raw')[4096:4196], '-o: the bytes')
    with serve('--image-opts', 'driver=qcow2,file.filename=c.qcow2'), Client() as c:
        c.go()
        verdict(c.read(0, 1) == b'\1', '--image-opts')
    with serve('-x', 'one', '-x', 'two', '-e', '3', '-f', 'raw', 'o.raw', 'content.raw'):
        with Client() as one, Client() as two:
            one.go('one')
            two.go('two')
            verdict(one.read(0, 64) == read('o.raw')[:64] and two.read(0, 64) == read('content.raw')[:64], 'two exports')
    # Without -t it ends with the last client that had chosen an export.
    with Server(NBD, '-k', 'socket', 'c.qcow2') as server:
        with Client() as c:
            c.go()
            c.read(0, 1)
        verdict(server.process.wait(30) == 0, 'ends with the last client')
    status, out, text = run(NBD, '--fork', '--pid-file', 'pid', '-k', 'socket', 'c.qcow2')
    pid = int(read('pid'))
    with Client() as c:
        c.go()
        verdict(status == 0 and c.read(0, 1) == b'\1', '--fork returns once clients can connect', text)
    verdict(run(NBD, '--fork', '-k', 'socket2', 'missing')[0] == 1, '--fork reports what fails')
    verdict(pid != os.getpid(), '--pid-file')
    for args, what in (((), 'needed'), (('-k', 's', '-p', '1', 'c.qcow2'), '-k'), (('-o', '5G', 'c.qcow2'), 'offset'),
                       (('--detect-zeroes=unmap', 'c.qcow2'), 'discard'), (('-k', 'x' * 200, 'c.qcow2'), 'longer'),
                       (('-n', '--cache=none', 'c.qcow2'), 'exclude'), (('-k', 's', 'c.qcow2', 'o.raw'), '-x')):
        status, _, text = run(NBD, *args)
        verdict(status == 1 and what in text and text.count('\n') == 1, f'refused: {" ".join(args)[:40]}', text)
    verdict(not os.path.exists('socket') and not os.path.exists('s'), 'no socket is left')


def test_tcp_and_activation():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        port = listener.getsockname()[1]
        code = (f'import os; os.dup2({listener.fileno()}, 3); os.environ["LISTEN_PID"] = str(os.getpid()); '
                f'os.environ["LISTEN_FDS"] = "1"; os.execv({NBD!r}, [{NBD!r}, "o.raw", "-f", "raw", "-e", "3"])')
        with subprocess.Popen([sys.executable, '-c', code], pass_fds=[listener.fileno()], stderr=subprocess.PIPE) as server:
            size = run('nbdinfo', '--size', f'nbd://127.0.0.1:{port}')[1]
            verdict(size.strip() == str(MIB).encode(), 'socket activation', size)
            server.send_signal(signal.SIGTERM)
    with Server(NBD, '-t', '-b', '127.0.0.1', '-p', str(port), '-f', 'raw', 'o.raw', wait=False) as server:
        size = b''
        for _ in range(100):
            size = run('nbdinfo', '--size', f'nbd://127.0.0.1:{port}')[1]
            if size or server.process.poll() is not None:
                break
            time.sleep(0.1)
        verdict(size.strip() == str(MIB).encode(), 'TCP', (size, server.end()))


def listed(tool, *args):
    status, out, text = run(tool, '--list', '-k', os.path.abspath('socket'), *args)
    return status, out.decode(), text


def test_list():
    """--list, beside what qemu-nbd shows of the same server."""
    make('l.qcow2', MIB, 'qcow2')
    img('bitmap', '--add', 'l.qcow2', 'marked')
    servers = [(NBD, '-x', 'one', '-D', 'a text', '-A', '-B', 'marked', 'l.qcow2')]
    if shutil.which('qemu-nbd'):
        servers.append(('qemu-nbd', '-r', '-x', 'two', '-D', 'text', '-A', '-B', 'marked', 'l.qcow2'))
    for tool, *args in servers:
        with Server(tool, '-t', '-k', os.path.abspath('socket'), *args, path='socket'):
            status, out, text = listed(NBD)
            lines = [line for line in out.splitlines() if 'transaction size' not in line]
            verdict(status == 0 and 'allocation-depth' in out and 'marked' in out, f'--list: {tool}', out + str(text))
            if shutil.which('qemu-nbd'):
                theirs = [line for line in listed('qemu-nbd')[1].splitlines() if 'transaction size' not in line]
                verdict(lines == theirs, f'--list is as qemu-nbd shows it: {tool}', f'{lines} {theirs}')
            shown = json.loads(listed(NBD, '--output=json')[1])['exports']
            verdict(len(shown) == 1 and shown[0]['size'] == MIB and 'base:allocation' in shown[0]['contexts'],
                    f'--list --output=json: {tool}', shown)
    status, _, text = listed(NBD)
    verdict(status == 1 and 'cannot connect' in text and text.count('\n') == 1, '--list without a server', text)
    verdict(listed(NBD, 'l.qcow2')[0] == 1, '--list takes no image')


if not shutil.which('nbdinfo') or not shutil.which('qemu-img'):
    skip('tenon-nbd', 'libnbd-bin and qemu-utils are needed')
    finish()
# ---- Block devices of the kernel ----

def free_device():
    """A device of the kernel's driver that nobody has connected, and why there is none."""
    if os.geteuid() != 0:
        return None, 'this takes root'
    if not os.path.exists('/dev/nbd0'):
        return None, "the kernel's driver is not there: modprobe nbd"
    for number in range(16):
        size = f'/sys/block/nbd{number}/size'
        if os.path.exists(f'/dev/nbd{number}') and os.path.exists(size) and int(read(size)) == 0:
            try:
                os.close(os.open(f'/dev/nbd{number}', os.O_RDWR))
                return f'/dev/nbd{number}', ''
            except OSError as error:
                return None, str(error)
    return None, 'every device is in use'


def test_device():
    """-c and -d; what they ask of the kernel is in tests/unit/test-nbd-device.c."""
    write('c.raw', pattern(MIB))
    for args, what in ((('-c', '/dev/null', 'c.raw'), 'no block device'), (('-c', '/nowhere/nbd0', 'c.raw'), 'modprobe nbd'),
                       (('-d', '/nowhere/nbd0'), 'modprobe nbd'), (('-d',), 'one device'),
                       (('-c', '/dev/nbd0', '-d', '/dev/nbd0'), 'one device'), (('-c', '/dev/nbd0'), 'an image is needed'),
                       (('-c', '/dev/nbd0', 'c.raw', 'c.raw'), 'one image'), (('-c', '/dev/nbd0', '-k', 's', 'c.raw'), '--socket'),
                       (('-c', '/dev/nbd0', '-p', '1', 'c.raw'), '--port'), (('-c', '/dev/nbd0', '-t', 'c.raw'), '--persistent'),
                       (('-c', '/dev/nbd0', '--tls-creds=x', 'c.raw'), '--tls-creds')):
        status, _, text = run(NBD, '-f', 'raw', *args)
        verdict(status == 1 and what in text and text.count('\n') == 1, f'refused: {" ".join(args)}', text)
    device, why = free_device()
    if not device:
        skip('a block device of the kernel', why)
        return
    status, _, text = run(NBD, '-f', 'raw', '--pid-file', 'c.pid', '-c', device, 'c.raw')
    verdict(status == 0 and not text, '-c goes to the background once the device stands', text)
    verdict(not difference(read(device), read('c.raw')), 'the device reads as the image')
    data = RNG.randbytes(65536)
    fd = os.open(device, os.O_RDWR)
    os.pwrite(fd, data, 131072)
    os.fsync(fd)
    os.close(fd)
    status, _, text = run(NBD, '-f', 'raw', '-v', '-c', device, 'c.raw')
    verdict(status == 1 and 'connected already' in text, 'a device that is in use is refused', text)
    status, out, text = run(NBD, '-d', device)
    verdict(status == 0 and out.decode() == f'{device} disconnected\n', '-d', text)
    pid, end = int(read('c.pid')), time.monotonic() + 60
    while os.path.exists(f'/proc/{pid}') and time.monotonic() < end:
        time.sleep(0.02)
    verdict(not os.path.exists(f'/proc/{pid}'), 'then the server ends')
    verdict(read('c.raw')[131072:131072 + 65536] == data, 'the image holds what the device was given')


test_negotiation()
for mode in ((False, False), (False, True), (True, True)):
    exercise(*mode)
test_refusals()
test_pipelining()
test_status()
test_tools()
test_command_line()
test_list()
test_tcp_and_activation()
test_device()
finish()
