#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vhost-user-blk export against libblkio, as QEMU's tools use it, which is a front end that others have written."""
import os
import sys

from exporttest import Daemon, newer_qemu
from imgtest import RNG, difference, disk, finish, img, read, run, skip, verdict, write

MIB = 1 << 20
QEMU, WHY = newer_qemu()
if not QEMU:
    print(f'1..0 # SKIP no QEMU with libblkio: {WHY}')
    sys.exit(0)
QEMU_IMG, QEMU_IO = os.path.join(QEMU, 'qemu-img'), os.path.join(QEMU, 'qemu-io')
DISK = 'driver=virtio-blk-vhost-user,path=vu,cache.direct=on'


def serve(fmt, name, *more, node=''):
    return Daemon('--blockdev', f'driver={fmt},node-name=n,discard=unmap,file.driver=file,file.filename={name}{node}',
                  '--export', ','.join(('vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path=vu',) + more))


def qemu_io(*commands, read_only=False):
    args = [part for command in commands for part in ('-c', command)]
    return run(QEMU_IO, *['-r'] * read_only, '--image-opts', DISK, *args)


def test_whole_images():
    for fmt in ('raw', 'qcow2', 'vmdk', 'vhdx'):
        data = disk(8 * MIB)
        write('content.raw', data)
        img('convert', '-f', 'raw', '-O', fmt, 'content.raw', 'from.img')
        with serve(fmt, 'from.img', 'num-queues=4') as daemon:
            status, _, text = run(QEMU_IMG, 'convert', '--image-opts', DISK, '-O', 'raw', 'read.raw')
            verdict(status == 0 and not difference(read('read.raw'), data), f'{fmt}: read as a whole', text)
            status, text = daemon.end()
            verdict(status == 0 and not text, f'{fmt}: the daemon ends without complaint', text)
        img('create', '-f', fmt, 'to.img', str(len(data)))
        with serve(fmt, 'to.img', 'writable=on', 'num-queues=2'):
            status, _, text = run(QEMU_IMG, 'convert', '-n', '-f', 'raw', 'content.raw', '--target-image-opts', DISK)
            verdict(status == 0, f'{fmt}: written as a whole', text)
        img('convert', '-f', fmt, 'to.img', '-O', 'raw', 'out.raw')
        verdict(not difference(read('out.raw'), data), f'{fmt}: the image holds what was written')
        verdict(fmt == 'raw' or img('check', '-f', fmt, 'to.img')[0] == 0, f'{fmt}: the image is sound')


def test_random_requests():
    size, unit = 4 * MIB, 4096
    shadow = bytearray(disk(size))
    write('r.raw', shadow)
    img('convert', '-f', 'raw', '-O', 'qcow2', 'r.raw', 'r.qcow2')
    commands = []
    for _ in range(200):
        offset = RNG.randrange(size // 512) * 512
        length = min(RNG.choice((512, unit, 65536, 300 * 512, MIB)), size - offset)
        what, byte = RNG.choice(('write', 'zero', 'discard', 'read', 'flush')), RNG.randrange(1, 256)
        if what == 'flush':
            commands.append('flush')
        elif what == 'read':
            commands.append(f'aio_read {offset} {length}')
        elif what == 'write':
            shadow[offset:offset + length] = bytes([byte]) * length
            commands.append(f'write -P {byte} {offset} {length}')
        elif what == 'zero':
            shadow[offset:offset + length] = bytes(length)
            commands.append(f'write -z {RNG.choice(("", "-u"))} {offset} {length}')
        else:  # then written over, since what a discard leaves is not said
            shadow[offset:offset + length] = b'\x01' * length
            commands += [f'discard {offset} {length}', f'write -P 1 {offset} {length}']
    with serve('qcow2', 'r.qcow2', 'writable=on', 'num-queues=3'):
        status, out, text = qemu_io(*commands)
        verdict(status == 0 and b'rror' not in out and 'rror' not in text, 'random requests', out.decode()[-300:] + text)
    img('convert', 'r.qcow2', '-O', 'raw', 'out.raw')
    why = difference(read('out.raw'), bytes(shadow))
    verdict(not why, 'random requests: the image holds what was written', why)
    verdict(img('check', 'r.qcow2')[0] == 0, 'random requests: the image is sound')


def test_options():
    write('o.raw', disk(MIB))
    before = read('o.raw')
    with serve('raw', 'o.raw', 'logical-block-size=4k'):
        status, out, _ = qemu_io('read 0 4k', read_only=True)
        verdict(status == 0 and b'4 KiB' in out, 'a read-only export is read', out)
        status, out, text = qemu_io('write 0 4k')
        verdict(status != 0 or 'rror' in text, 'a read-only export refuses writes', out)
        for _ in range(20):
            qemu_io('read 0 4k', read_only=True)
        status, out, _ = qemu_io('read 4k 4k', read_only=True)
        verdict(status == 0, 'front ends come and go')
    verdict(read('o.raw') == before, 'nothing was written')
    verdict(not os.path.exists('vu'), 'the socket is gone with the daemon')
    write('vu', b'in the way')
    try:
        with serve('raw', 'o.raw'):
            verdict(False, 'a file in the place of the socket is refused')
    except RuntimeError as why:
        verdict('vu' in str(why), 'a file in the place of the socket is refused', why)
    os.unlink('vu')
    for bad, said in (('num-queues=0', 'num-queues'), ('logical-block-size=513', 'power of two'),
                      ('writable=maybe', 'writable'), ('adr.path=x', 'addr.path')):
        try:
            with serve('raw', 'o.raw', bad):
                verdict(False, f'refused: {bad}')
        except RuntimeError as why:
            verdict(said in str(why), f'refused: {bad}', why)


def test_load():
    write('l.raw', bytes(16 * MIB))
    with serve('raw', 'l.raw', 'writable=on', 'num-queues=4') as daemon:
        before = daemon.descriptors()
        status, out, text = run(QEMU_IMG, 'bench', '--image-opts', DISK, '-c', '20000', '-d', '64', '-s', '4096')
        verdict(status == 0, 'reads at depth 64', text)
        status, out, text = run(QEMU_IMG, 'bench', '--image-opts', DISK, '-w', '-c', '20000', '-d', '64', '-s', '4096',
                                '--flush-interval=1000', '--pattern=7')
        verdict(status == 0, 'writes and flushes at depth 64', text)
        verdict(daemon.descriptors() == before, 'no descriptor is left over')
    verdict(read('l.raw') == b'\7' * (16 * MIB), 'all of it was written')


if run(QEMU_IMG, 'info', '--image-opts', DISK)[2].find('Unknown driver') >= 0:
    skip('libblkio', 'this QEMU has no driver virtio-blk-vhost-user')
else:
    test_whole_images()
    test_random_requests()
    test_options()
    test_load()
finish()
