#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filters that change nothing a guest sees: copy-on-read, compress, preallocate, throttle, log-writes,
blkverify; and quorum.  The log is read here by its published layout, the images by qemu-img."""
import json
import os
import struct
import subprocess
import imgtest
from filtertest import QEMU_IMG, fails, finish, image, io, refused, skip, verdict
from imgtest import RNG, difference, read, write

MIB = 1 << 20


def clean(out):
    return not any(word in out for word in ('failed', 'tenon-io:', 'killed'))


def allocated(path):
    """Bytes that the image itself has, as qemu-img sees it."""
    done = subprocess.run([QEMU_IMG, 'map', '--output=json', '-f', 'qcow2', path], stdout=subprocess.PIPE, check=True)
    return sum(one['length'] for one in json.loads(done.stdout) if one['depth'] == 0)


def contents(path, form):
    status, _, text = imgtest.img('convert', '-f', form, path, '-O', 'raw', 'contents.raw')
    return read('contents.raw') if status == 0 else text.encode()


# ---- copy-on-read ----

def overlay(name):
    write('base.raw', RNG.randbytes(MIB) + bytes(MIB))
    imgtest.img('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', name)
    return name


def copy_on_read():
    for how, args, opening in (
            ('option', ['--image-opts', 'driver=copy-on-read,file.driver=qcow2,file.file.filename=cor.qcow2'], []),
            ('open -C', [], ['open -C cor.qcow2']), ('-C', ['-C', '-f', 'qcow2', 'cor.qcow2'], [])):
        overlay('cor.qcow2')
        out = io(args, opening + ['read 70k 1k', 'write -P 3 256k 512', 'read 256k 4k', 'read 1M 64k', 'close'])
        verdict(clean(out), f'copy-on-read by {how}: requests', out)
        wanted = bytearray(read('base.raw'))
        wanted[256 << 10:(256 << 10) + 512] = b'\3' * 512
        why = difference(contents('cor.qcow2', 'qcow2'), bytes(wanted))
        verdict(not why, f'copy-on-read by {how}: contents', why)
        if not QEMU_IMG:
            skip('allocation', 'qemu-img is not installed (qemu-utils)')
            continue
        verdict(allocated('cor.qcow2') == 3 * 65536, f'copy-on-read by {how}: what was read has been copied',
                allocated('cor.qcow2'))
    out = io(['-C', '-r', '-f', 'qcow2', 'cor.qcow2'], ['read 0 512'])
    verdict('read-only' in out, 'copy-on-read of what is read-only is refused', out)


# ---- compress, preallocate ----

def compress():
    image('packed.qcow2', 'qcow2', MIB + 512)
    args = ['--image-opts', 'driver=compress,file.driver=qcow2,file.file.filename=packed.qcow2']
    out = io(args, ['write -P 5 0 512k', 'write -P 6 1000 2000', f'write -P 7 {MIB} 512', f'read -P 7 {MIB} 512',
                    'read -P 6 1000 2000', 'read -P 5 0 1000'])
    verdict(clean(out), 'compress: requests', out)
    wanted = bytearray(b'\5' * (512 << 10) + bytes((512 << 10) + 512))
    wanted[1000:3000] = b'\6' * 2000
    wanted[MIB:] = b'\7' * 512
    why = difference(contents('packed.qcow2', 'qcow2'), bytes(wanted))
    verdict(not why, 'compress: contents', why)
    verdict(imgtest.img('check', '-q', '-f', 'qcow2', 'packed.qcow2')[0] == 0, 'compress: the image is sound')
    if QEMU_IMG:
        done = subprocess.run([QEMU_IMG, 'check', '--output=json', 'packed.qcow2'], stdout=subprocess.PIPE, check=False)
        verdict(json.loads(done.stdout).get('compressed-clusters') == 9, 'compress: all of it is compressed',
                done.stdout)
    image('plain.raw')
    refused('compression of a raw disk', ['--image-opts', 'driver=compress,file.driver=raw,file.file.filename=plain.raw'])


def preallocate():
    image('grow.qcow2', 'qcow2', 8 * MIB)
    args = ['--image-opts', 'driver=qcow2,file.driver=preallocate,file.prealloc-size=64M,file.prealloc-align=1M,'
            'file.file.filename=grow.qcow2']
    sizes = []
    program = subprocess.Popen([os.path.join(os.path.dirname(imgtest.IMG), 'tenon-io')] + args, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    program.stdin.write(b'write -P 1 0 64k\nflush\n')
    program.stdin.flush()
    seen = b''
    while b'wrote' not in seen:
        line = program.stdout.readline()
        if not line:
            break
        seen += line
    sizes.append(os.path.getsize('grow.qcow2'))
    seen += program.communicate(b'write -P 2 4M 64k\nquit\n')[0]
    sizes.append(os.path.getsize('grow.qcow2'))
    verdict(sizes[0] > 64 * MIB and sizes[0] % MIB == 0, 'preallocate: the file grows by a large step', f'{sizes}')
    verdict(sizes[1] < MIB, 'preallocate: what was not needed is cut off', f'{sizes} {seen}')
    wanted = b'\1' * 65536 + bytes(4 * MIB - 65536) + b'\2' * 65536 + bytes(4 * MIB - 65536)
    why = difference(contents('grow.qcow2', 'qcow2'), wanted)
    verdict(not why, 'preallocate: contents', why)
    refused('alignment', [args[0], args[1].replace('align=1M', 'align=1000')])
    refused('size', [args[0], args[1].replace('size=64M', 'size=99999999999999999999')])


# ---- throttle ----

def throttle():
    image('slow.raw')
    base = 'driver=throttle,file.driver=file,file.filename=slow.raw'
    group = ['--object', 'throttle-group,id=g,x-iops-total=100000,limits.bps-read=1G,x-bps-read-max=2G,'
             'x-bps-read-max-length=3']
    out = io(group + ['--image-opts', base + ',throttle-group=g'], ['write -P 4 0 64k', 'read -P 4 0 64k'])
    verdict(clean(out), 'throttle: a group', out)
    out = io(['--image-opts', base + ',limits.iops-total=100000'], ['write -P 5 0 64k', 'read -P 5 0 64k'])
    verdict(clean(out), 'throttle: limits of its own', out)
    for more in ('', ',throttle-group=nobody', ',limits.iops-total=1,limits.iops-read=1', ',limits.bps-read-max=5',
                 ',limits.bps-read=5,limits.bps-read-max=4', ',limits.iops-total=99999999999999999999',
                 ',limits.iops-total=5,limits.iops-total-max=1P,limits.iops-total-max-length=4000000000',
                 ',limits.iops-total=1,limits.iops-total-max-length=2', ',limits.colour=3'):
        refused('throttle' + more, ['--image-opts', base + more])
    refused('an object without id', ['--object', 'throttle-group,x-iops-total=5', '-f', 'raw', 'slow.raw'])


# ---- log-writes ----

def parse_log(path):
    data = read(path)
    magic, version, count, sector = struct.unpack_from('<QQQI', data)
    if magic != 0x6a736677736872 or version != 1:
        return None, []
    entries, at = [], sector
    for _ in range(count):
        where, sectors, flags, length = struct.unpack_from('<QQQQ', data, at)
        at += sector
        body = b'' if flags & 4 else data[at:at + sectors * sector]
        entries.append((where * sector, sectors * sector, flags, length, body))
        at += len(body)
    return sector, entries


def replay(entries, size):
    disk = bytearray(size)
    for where, length, flags, _, body in entries:
        if flags & 4:
            disk[where:where + length] = bytes(length)
        else:
            disk[where:where + len(body)] = body
    return bytes(disk)


def log_writes():
    for sector, name in ((512, 'log-writes'), (4096, 'blklogwrites')):
        image('logged.raw')
        write('log', b'')
        base = f'driver=raw,file.driver={name},file.file.filename=logged.raw,file.log.filename=log'
        out = io(['--image-opts', f'{base},file.log-sector-size={sector}', '-t', 'writeback'],
                 ['write -P 1 0 4k', 'write -P 2 5000 3000', 'flush', 'write -z 4k 8k', 'discard 64k 8k', 'flush',
                  'write -f -P 3 128k 64k'])
        verdict(clean(out), f'{name}: requests', out)
        block, entries = parse_log('log')
        kinds = [flags for _, _, flags, _, _ in entries]
        verdict(block == sector and kinds.count(4) == 1 and kinds.count(1) >= 2, f'{name}: entries', f'{block} {kinds}')
        why = difference(replay(entries, MIB), read('logged.raw'))
        verdict(not why, f'{name}: replayed, the log gives the disk', why)
        flush = kinds.index(1)
        part = replay(entries[:flush], 16384)
        verdict(part[:4096] == b'\1' * 4096 and part[5000:8000] == b'\2' * 3000, f'{name}: the first flush is in its place')
        out = io(['--image-opts', f'{base},file.log-append=on'], ['write -P 9 512k 4k'])
        more = parse_log('log')[1]
        verdict(clean(out) and len(more) > len(entries) and more[:len(entries)] == entries
                and not difference(replay(more, MIB), read('logged.raw')), f'{name}: a log goes on', out)
    for text, data in (('no log', bytes(4096)), ('a short log', struct.pack('<QQQI', 0x6a736677736872, 1, 1 << 60, 512)),
                       ('a wild entry', struct.pack('<QQQI484xQQQQ', 0x6a736677736872, 1, 1, 512, 0, 1 << 62, 0, 0) + bytes(480)),
                       ('a sector of 3', struct.pack('<QQQI', 0x6a736677736872, 1, 0, 3).ljust(512, b'\0'))):
        write('log', data)
        refused(text, ['--image-opts', base + ',file.log-append=on'])
    refused('both options', ['--image-opts', base + ',file.log-append=on,file.log-sector-size=512'])
    refused('a sector of 1000', ['--image-opts', base + ',file.log-sector-size=1000'])
    refused('no place for a log', ['--image-opts', 'driver=log-writes,file.driver=file,file.filename=logged.raw'])


# ---- blkverify, quorum ----

def blkverify():
    data = RNG.randbytes(MIB)
    write('raw', data)
    imgtest.img('convert', '-f', 'raw', 'raw', '-O', 'qcow2', 'test.qcow2')
    out = io(['-f', 'raw', 'blkverify:raw:test.qcow2'], ['read 0 1M', 'write -P 8 100k 50k', 'read -P 8 100k 50k', 'flush'])
    verdict(clean(out), 'blkverify: equal disks', out)
    why = difference(contents('test.qcow2', 'qcow2'), read('raw'))
    verdict(not why, 'blkverify: both are written', why)
    data = bytearray(read('raw'))
    data[300000] ^= 1
    write('raw', data)
    out = io(['--image-opts', 'driver=blkverify,raw.filename=raw,test.driver=qcow2,test.file.filename=test.qcow2'],
             ['read 0 256k', 'read 256k 64k', 'read 512k 64k'])
    verdict(fails(out) == [False, True, False], 'blkverify: one bit', out)
    write('short', bytes(512))
    refused('a raw file that is too short', ['-f', 'raw', 'blkverify:short:test.qcow2'])
    refused('one name only', ['-f', 'raw', 'blkverify:raw'])


def quorum():
    data = bytearray(RNG.randbytes(MIB))

    def children(*damage):
        for number, places in enumerate(damage):
            copy = bytearray(data)
            for at in places:
                copy[at] ^= 0xff
            write(f'child{number}', copy)

    def opened(n, threshold, more=''):
        child = ','.join(f'children.{i}.driver=raw,children.{i}.file.filename=child{i}' for i in range(n))
        return ['--image-opts', f'driver=quorum,vote-threshold={threshold},{child}{more}']

    children([1000], [], [200000])
    out = io(opened(3, 2), ['read 0 64k', 'read 192k 64k', 'write -P 1 64k 4k', 'flush', 'read -P 1 64k 4k'])
    verdict(clean(out), 'quorum: two of three are enough', out)
    verdict(all(read(f'child{i}')[65536:69632] == b'\1' * 4096 for i in range(3)), 'quorum: all are written')
    verdict(read('child0')[1000] != data[1000], 'quorum: nothing is put right unasked')
    children([1000], [1001], [])
    out = io(opened(3, 2), ['read 0 64k', 'read 64k 64k'])
    verdict(fails(out) == [True, False], 'quorum: three opinions', out)
    children([1000], [], [200000])
    out = io(opened(3, 2, ',rewrite-corrupted=on'), ['read 0 64k', 'read 64k 256k'])
    verdict(clean(out) and all(read(f'child{i}') == bytes(data) for i in range(3)), 'quorum: rewrite-corrupted', out)
    children([0], [])
    out = io(opened(2, 2, ',blkverify=on'), ['read 0 512', 'read 512 512'])
    verdict(fails(out) == [True, False], 'quorum: blkverify', out)
    children([5], [], [])
    out = io(opened(3, 1, ',read-pattern=fifo'), ['read -v 0 16'])
    verdict(clean(out) and f'{data[5] ^ 0xff:02x}' in out, 'quorum: fifo takes the first', out)
    write('child1', bytes(512))
    for name, args in {'threshold': opened(1, 2), 'no votes': opened(3, 0), 'sizes': opened(3, 2),
                       'blkverify of three': opened(3, 2, ',blkverify=on'),
                       'pattern': opened(1, 1, ',read-pattern=last'),
                       'no children': ['--image-opts', 'driver=quorum,vote-threshold=1'],
                       'absurd threshold': opened(1, 1 << 70)}.items():
        refused(f'quorum: {name}', args)


copy_on_read()
compress()
preallocate()
throttle()
log_writes()
blkverify()
quorum()
finish()
