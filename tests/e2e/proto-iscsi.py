#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of iSCSI targets, with tgt's target: reads and writes beside qemu-img, CHAP, blocks of two sizes, a target that is killed
and comes back, and one whose answers are late, cut short, or damaged."""
import os
import subprocess
import time

from imgtest import IMG, RNG, difference, finish, img, read, run, skip, tool, verdict, write
from iscsitest import TARGET, Pdus, Relay, Target, missing
from nbdtest import IO

MIB = 1 << 20
SIZE = 8 * MIB
SECRET = 'not-for-the-eyes'


def blank(path, size=SIZE):
    with open(path, 'wb') as out:
        out.truncate(size)
    return path


def said(name, result, *texts):
    """The tool fails with one line that names all this, and no secret."""
    status, out, text = result
    good = status == 1 and all(part in text for part in texts) and SECRET not in text + out.decode('utf-8', 'replace')
    return verdict(good, name, f'status {status}: {text}')


def exercise(target, lun, block):
    """Copies in, writes at random, compares with what is in the target's file and with what QEMU reads."""
    uri, path = target.uri(lun), target.units[lun][0]
    shadow = bytearray(RNG.randbytes(SIZE))
    write('content.raw', shadow)
    status, _, text = img('convert', '-n', '-f', 'raw', '-O', 'raw', 'content.raw', uri)
    verdict(status == 0 and read(path) == bytes(shadow), f'unit {lun}: convert into it', text)
    commands = []
    for _ in range(60):
        at, length = RNG.randrange(SIZE - MIB), RNG.choice((1, 513, 4096, 70000, 300000))
        byte = RNG.randrange(256)
        what = RNG.choice((f'write -P {byte}', f'write -f -P {byte}', 'write -z', 'write -z -u'))
        shadow[at:at + length] = bytes([byte if '-P' in what else 0]) * length
        commands += ['-c', f'{what} {at} {length}']
    status, out, text = run(IO, '-f', 'raw', *commands, '-c', 'flush', uri)
    verdict(status == 0 and b'ailed' not in out, f'unit {lun}: writes, blocks of {block}', out[-300:] + text.encode())
    verdict(not difference(read(path), bytes(shadow)), f'unit {lun}: the target holds what was written',
            difference(read(path), bytes(shadow)))
    status, _, text = img('convert', '-f', 'raw', '-O', 'raw', uri, 'back.raw')
    verdict(status == 0 and read('back.raw') == bytes(shadow), f'unit {lun}: reads the same', text)
    status, out, text = img('info', '--output=json', '-f', 'raw', uri)
    verdict(status == 0 and f'"virtual-size": {SIZE}'.encode() in out, f'unit {lun}: size', text)
    beside_qemu(uri, lun, shadow)


def beside_qemu(uri, lun, shadow):
    if not tool('qemu-img'):
        skip(f'unit {lun}: QEMU', 'qemu-img is not installed')
        return
    status, _, text = run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, 'qemu.raw')
    if status and ('Unknown protocol' in text or 'Unknown driver' in text):
        skip(f'unit {lun}: QEMU', 'qemu-img has no iscsi (qemu-block-extra)')
        return
    verdict(status == 0 and read('qemu.raw') == bytes(shadow), f'unit {lun}: QEMU reads the same', text)
    other = RNG.randbytes(SIZE)
    write('other.raw', other)
    run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', 'other.raw', uri)
    status, _, text = img('compare', '-f', 'raw', '-F', 'raw', uri, 'other.raw')
    verdict(status == 0, f'unit {lun}: reads what QEMU wrote', text)


def test_units():
    for name in ('small', 'large', 'thin', 'fixed'):
        blank(name)
    units = {1: ('small', ()), 2: ('large', ('--blocksize', '4096')), 3: ('thin', ()), 4: ('fixed', ())}
    with Target(units) as target:
        target.set(3, 'thin_provisioning=1')
        target.set(4, 'readonly=1')
        exercise(target, 1, 512)
        exercise(target, 2, 4096)
        exercise(target, 3, 512)
        status, out, text = run(IO, '-f', 'raw', '-d', 'unmap', '-c', f'discard 0 {4 * MIB}', '-c', f'read -P 0 0 {4 * MIB}',
                                target.uri(3))
        verdict(status == 0 and b'ailed' not in out and os.stat('thin').st_blocks * 512 < SIZE - 3 * MIB,
                'discard gives space back', out + text.encode())
        said('writing to a read-only unit', run(IO, '-f', 'raw', '-c', 'write 0 512', target.uri(4)), 'read-only', TARGET)
        status, _, text = img('compare', '-f', 'raw', '-F', 'raw', target.uri(4), 'fixed')
        verdict(status == 0, 'reading a read-only unit', text)
        said('a unit that is not there', img('info', target.uri(9)), '127.0.0.1')
        said('a target that is not there', img('info', target.uri(1).replace('disks', 'others')), 'others', '127.0.0.1')
        status, out, text = img('convert', '-O', 'raw', '--image-opts',
                                f'driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=127.0.0.1:{target.port},'
                                f'file.target={TARGET},file.lun=2,file.header-digest=crc32c,'
                                'file.initiator-name=iqn.2026-11.org.example:me', 'back.raw')
        verdict(status == 0 and read('back.raw') == read('large'), 'dotted options, digests of headers', text)
    said('nobody listens', img('info', target.uri(1)), '127.0.0.1')


def test_chap():
    blank('small')
    write('secret', SECRET.encode())
    write('wrong', b'quite-another-one')
    with Target({1: ('small', ())}, user=('eve', SECRET)) as target:
        options = f'driver=raw,file.driver=iscsi,file.portal=127.0.0.1:{target.port},file.target={TARGET},file.lun=1'
        good = ('--object', 'secret,id=s0,file=secret')
        status, _, text = img('info', *good, '--image-opts', options + ',file.user=eve,file.password-secret=s0')
        verdict(status == 0, 'CHAP by a secret', text)
        status, out, text = img('info', target.uri(1, f'eve%{SECRET}@'))
        verdict(status == 0 and SECRET not in out.decode() + text, 'CHAP by the name', out.decode() + text)
        status, out, text = img('info', '--output=json', target.uri(1, f'eve%{SECRET}@'))
        verdict(status == 0 and SECRET not in out.decode() + text, 'CHAP by the name, json', out.decode() + text)
        said('the wrong password', img('info', '--object', 'secret,id=s0,file=wrong', '--image-opts',
                                       options + ',file.user=eve,file.password-secret=s0'), '127.0.0.1')
        said('no password', img('info', target.uri(1)), '127.0.0.1')
        said('a wrong name with the right password', img('info', target.uri(1, f'adam%{SECRET}@')), '127.0.0.1')
        said('a name that is none, with a password', img('info', f'iscsi://eve%{SECRET}@127.0.0.1/'), 'iscsi://')


def session(uri, *options):
    """A prompt whose unit is open.  Opening is for other tests: here it may be tried again."""
    for _ in range(3):
        # pylint: disable=consider-using-with
        io = subprocess.Popen([IO, '-f', 'raw', *options, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        say(io, 'length')
        said_first = io.stdout.readline()
        if b'MiB' in said_first:
            return io
        print('#', said_first.decode().strip())
        io.communicate()
    raise RuntimeError('the unit does not open')


def say(io, text):
    io.stdin.write(text.encode() + b'\n')
    io.stdin.flush()


def test_restart():
    """Killed with requests under way, and brought back: nothing is lost, nothing hangs."""
    blank('small')
    with Target({1: ('small', ())}) as target:
        io = session(target.uri())
        lines = 400
        for number in range(lines):
            say(io, f'aio_write -q -P {number % 255 + 1} {number * 16384} 16384')
            if number == 100:
                target.kill()
                time.sleep(.3)
                target.start()
            if number == 300:
                target.kill()
                target.start()
        out = io.communicate(b'aio_flush\nflush\nquit\n', timeout=110)[0]
        wanted = b''.join(bytes([number % 255 + 1]) * 16384 for number in range(lines))
        verdict(io.returncode == 0 and b'ailed' not in out and not difference(read('small')[:len(wanted)], wanted),
                'killed twice and brought back, every write is there', out[-300:])
        io = session(target.uri())
        say(io, 'read 0 4096')
        target.kill()
        start = time.monotonic()
        out = io.communicate(b'read 0 4096\nquit\n', timeout=110)[0]
        verdict(b'ailed' in out and time.monotonic() - start < 100, 'killed for good: requests fail in the end', out[-300:])


def test_resize():
    blank('small')
    blank('grown', 2 * SIZE)
    with Target({1: ('small', ())}) as target, Relay(target.port) as relay:
        io = session(target.uri(port=relay.port))
        target.admin('--op', 'delete', '--mode', 'logicalunit', '--tid', '1', '--lun', '1')
        target.unit(1, 'grown')
        relay.drop()  # the next session finds the new size
        out = io.communicate(b'read 0 512\ntruncate 16M\nlength\nquit\n', timeout=110)[0]
        verdict(b'16 MiB' in out, 'a unit that has grown', out)


def test_harm():
    """Slow, cut short, dropped, damaged: right data or an error, and never a hang."""
    data = RNG.randbytes(SIZE)
    write('small', data)

    def slow(back, part, before):
        time.sleep(.002)
        return part

    def once(harm):
        """To one unit of the protocol, once copying has begun."""
        used = []

        def wrapped(head, number, rest):
            if used or number < 20:
                return head + rest
            used.append(1)
            return harm(head, rest)
        return wrapped

    def flip(head, rest):
        at = RNG.randrange(52)
        unit = bytearray(head + rest)
        unit[at] ^= 1 << RNG.randrange(8)
        return bytes(unit)

    def through(target, name, harm, fine=True):
        with Relay(target.port, harm) as relay:
            status, _, text = img('convert', '-O', 'raw', '--image-opts',
                                  f'driver=raw,file.driver=iscsi,file.portal=127.0.0.1:{relay.port},file.target={TARGET},'
                                  'file.lun=1,file.timeout=2,file.reconnect-delay=8,file.header-digest=crc32c', 'out.raw')
            why = difference(read('out.raw'), data) if status == 0 else '' if status == 1 and not fine else f'status {status}'
            return verdict(not why, name, f'status {status}: {why} {text}')

    def cut(head, rest):
        units.ended = True
        return head + rest[:100]

    digests = ('--op', 'update', '--mode', 'target', '--tid', '1', '--name', 'HeaderDigest', '--value', 'CRC32C,None')
    with Target({1: ('small', ())}, extra=[digests]) as target:
        through(target, 'slow', slow)
        through(target, 'dropped in the middle', Pdus(once(lambda head, rest: None)))
        units = Pdus(once(cut))
        through(target, 'cut short, then silent', units, fine=False)
        for number in range(6):
            through(target, f'a damaged header ({number})', Pdus(once(flip)), fine=False)
        for at in (0, 30, 48, 200, 500):
            with Relay(target.port, lambda back, part, before, at=at: part[:max(0, at - before)] if back and
                       before + len(part) > at else part) as relay:
                start = time.monotonic()
                said(f'a target that falls silent after {at} bytes',
                     img('info', '--image-opts',
                         f'driver=raw,file.driver=iscsi,file.portal=127.0.0.1:{relay.port},file.target={TARGET},file.lun=1,'
                         'file.timeout=2'), '127.0.0.1')
                verdict(time.monotonic() - start < 60, f'... is given up ({at})')


WHY = missing()
if WHY:
    print(f'1..0 # SKIP {WHY}')
elif 'protocol-iscsi' not in run(os.path.join(os.path.dirname(IMG), 'tenon-plugin'), 'list')[1].decode():
    print('1..0 # SKIP built without iscsi')
elif os.environ.get('PROTO_ISCSI'):
    globals()['test_' + os.environ['PROTO_ISCSI']]()
    finish()
else:
    test_units()
    test_chap()
    test_restart()
    test_resize()
    test_harm()
    finish()
