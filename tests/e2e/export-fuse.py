#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The FUSE export: an image as a raw file, used by the kernel and by programs that know nothing of it."""
import ctypes
import errno
import os
import subprocess
import sys
import threading

from exporttest import Daemon, DAEMON
from imgtest import RNG, SCRATCH, difference, disk, finish, img, read, run, skip, tool, verdict, write

MIB = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def fallocate(fd, mode, offset, length):
    """0 or an errno value."""
    LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    return 0 if LIBC.fallocate(fd, mode, offset, length) == 0 else ctypes.get_errno()


def fails(call, *args):
    """The errno value that the call raises, or 0."""
    try:
        call(*args)
    except OSError as why:
        return why.errno
    return 0


def serve(fmt, name, *more, daemon=()):
    write('m', b'')
    return Daemon('--blockdev', f'driver={fmt},node-name=n,discard=unmap,file.driver=file,file.filename={name}',
                  '--export', ','.join(('fuse,id=e,node-name=n,mountpoint=m',) + more), *daemon)


def make(fmt, size=8 * MIB):
    data = disk(size)
    write('content.raw', data)
    img('convert', '-f', 'raw', '-O', fmt, 'content.raw', 'f.img')
    return data


def test_reading():
    for fmt in ('raw', 'qcow2', 'vmdk', 'vdi'):
        data = make(fmt)
        with serve(fmt, 'f.img') as daemon:
            verdict(os.stat('m').st_size == len(data) and read('m') == data, f'{fmt}: the file is what the image holds')
            verdict(fails(open, 'm', 'r+b') == errno.EROFS, f'{fmt}: not writable unless it says so')
            with open('m', 'rb') as file:
                file.seek(len(data) - 10)
                verdict(file.read(100) == data[-10:], f'{fmt}: the end of the file')
            daemon.end()
        verdict(os.stat('m').st_size == 0, f'{fmt}: unmounted at the end')


def random_changes(data, fd, size):
    why = ''
    for _ in range(300):
        offset = RNG.randrange(size)
        length = min(RNG.choice((1, 511, 4096, 65536, 300000)), size - offset)
        what = RNG.choice(('read', 'read', 'write', 'write', 'zero', 'hole', 'sync'))
        if what == 'read' and os.pread(fd, length, offset) != data[offset:offset + length]:
            why = why or f'read of {length} bytes at {offset}'
        elif what == 'write':
            piece = RNG.randbytes(length)
            os.pwrite(fd, piece, offset)
            data[offset:offset + length] = piece
        elif what in ('zero', 'hole'):
            mode = ZERO_RANGE if what == 'zero' else PUNCH_HOLE | KEEP_SIZE
            failed = fallocate(fd, mode, offset, length)
            why = why or (failed and f'{what}: {os.strerror(failed)}')
            data[offset:offset + length] = bytes(length)
        elif what == 'sync':
            os.fsync(fd)
    return why


def test_writing():
    for fmt in ('raw', 'qcow2'):
        data = bytearray(make(fmt))
        with serve(fmt, 'f.img', 'writable=on'):
            fd = os.open('m', os.O_RDWR)
            why = random_changes(data, fd, len(data))
            verdict(not why, f'{fmt}: random changes', why)
            verdict(fails(os.pwrite, fd, b'x', len(data)) == errno.ENOSPC, f'{fmt}: not growable unless it says so')
            verdict(os.pwrite(fd, b'xyz', len(data) - 1) == 1, f'{fmt}: a write across the end is cut')
            data[-1:] = b'x'
            verdict(fails(os.ftruncate, fd, MIB) == errno.EPERM, f'{fmt}: truncate() is refused')
            os.close(fd)
        img('convert', '-f', fmt, 'f.img', '-O', 'raw', 'out.raw')
        verdict(not difference(read('out.raw'), bytes(data)), f'{fmt}: the image holds what was written')
        verdict(fmt == 'raw' or img('check', 'f.img')[0] == 0, f'{fmt}: the image is sound')


def test_growth():
    data = bytearray(make('qcow2', MIB))
    with serve('qcow2', 'f.img', 'writable=on', 'growable=on'):
        fd = os.open('m', os.O_RDWR)
        os.pwrite(fd, b'behind', 3 * MIB)
        data += bytes(2 * MIB) + b'behind'
        verdict(os.fstat(fd).st_size >= len(data), 'a write behind the end makes it larger')
        verdict(os.pread(fd, 4 * MIB, 0).rstrip(b'\0') == bytes(data), 'with zeroes in between')
        verdict(fallocate(fd, 0, 0, 5 * MIB) == 0 and os.fstat(fd).st_size == 5 * MIB, 'fallocate() makes it larger')
        verdict(fallocate(fd, ZERO_RANGE, 0, 6 * MIB) == 0 and os.fstat(fd).st_size == 6 * MIB, 'zeroes make it larger')
        verdict(os.pread(fd, 6 * MIB, 0) == bytes(6 * MIB), 'and zeroes are what there is')
        verdict(fallocate(fd, KEEP_SIZE, 0, 4096) == errno.EOPNOTSUPP, 'setting space aside is not supported')
        os.ftruncate(fd, 2 * MIB)
        verdict(os.fstat(fd).st_size == 2 * MIB, 'truncate() makes it smaller')
        os.ftruncate(fd, 3 * MIB)
        os.close(fd)
        with open('m', 'ab') as file:
            file.write(b'appended')
    out = img('info', '--output=json', 'f.img')[1]
    verdict(b'"virtual-size": 3146240' in out or b'"virtual-size": 3145736' in out, 'the image has grown with it', out)
    verdict(img('check', 'f.img')[0] == 0, 'the image is sound')


def test_holes():
    data = bytes(MIB) + RNG.randbytes(MIB) + bytes(2 * MIB) + RNG.randbytes(MIB) + bytes(MIB)
    write('content.raw', data)
    img('convert', '-f', 'raw', '-O', 'qcow2', 'content.raw', 'f.img')
    with serve('qcow2', 'f.img'):
        fd = os.open('m', os.O_RDONLY)
        got = [os.lseek(fd, at, whence) for at, whence in
               ((0, os.SEEK_DATA), (0, os.SEEK_HOLE), (MIB, os.SEEK_HOLE), (2 * MIB, os.SEEK_DATA), (5 * MIB, os.SEEK_HOLE))]
        verdict(got == [MIB, 0, 2 * MIB, 4 * MIB, 5 * MIB], 'SEEK_DATA and SEEK_HOLE', got)
        verdict(fails(os.lseek, fd, 5 * MIB, os.SEEK_DATA) == errno.ENXIO, 'no data behind the last')
        os.close(fd)
        run('cp', '--sparse=auto', 'm', 'copy.raw')
        verdict(read('copy.raw') == data and os.stat('copy.raw').st_blocks * 512 <= 3 * MIB, 'cp finds the holes')
        verdict(os.stat('m').st_blocks * 512 < 3 * MIB, 'stat shows what the image takes', os.stat('m').st_blocks)


def test_many_at_once():
    data = bytearray(make('qcow2', 16 * MIB))
    part = len(data) // 8
    wrong = []

    def work(number):
        fd = os.open('m', os.O_RDWR)
        rng_data = bytes([number + 1]) * 4096
        for at in range(number * part, (number + 1) * part, 4096):
            os.pwrite(fd, rng_data, at)
        if os.pread(fd, part, number * part) != bytes([number + 1]) * part:
            wrong.append(number)
        os.close(fd)

    with serve('qcow2', 'f.img', 'writable=on'):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        verdict(not wrong, 'eight writers at once', wrong)
    img('convert', 'f.img', '-O', 'raw', 'out.raw')
    verdict(read('out.raw') == b''.join(bytes([n + 1]) * part for n in range(8)), 'all of it was written')


def test_life():
    make('raw', MIB)
    with serve('raw', 'f.img', 'writable=on') as daemon:
        verdict(os.stat('m').st_mode & 0o777 == 0o600, 'the mode')
        os.chmod('m', 0o644)
        verdict(os.stat('m').st_mode & 0o777 == 0o644, 'chmod()')
        verdict(fails(os.chmod, 'm', 0o755) == errno.EPERM, 'chmod() to a program is refused')
        fd = os.open('m', os.O_RDWR)
        verdict(daemon.end()[0] == 0, 'the daemon ends while the file is open')
        verdict(fails(os.pread, fd, 1, 0) in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), 'whose user is told')
        fails(os.close, fd)
    with serve('raw', 'f.img') as daemon:
        run('umount', 'm')
        verdict(os.stat('m').st_size == 0 and daemon.process.poll() is None, 'unmounted by someone else')
        verdict(daemon.end()[0] == 0, 'it ends all the same')
    run('umount', '-l', 'm')
    img('convert', '-f', 'raw', '-O', 'qcow2', 'f.img', 'over.qcow2')
    content = read('f.img')
    with Daemon('--blockdev', 'qcow2,node-name=n,file.driver=file,file.filename=over.qcow2', '--export',
                'fuse,id=e,node-name=n,mountpoint=over.qcow2'):
        verdict(read('over.qcow2') == content, 'mounted on the image itself')
    verdict(read('over.qcow2')[:4] == b'QFI\xfb', 'which is there again afterwards')


def refused(name, said, mountpoint, *more):
    done = subprocess.run([DAEMON, '--blockdev', 'raw,node-name=n,file.driver=file,file.filename=f.img', '--export',
                           ','.join((f'fuse,id=e,node-name=n,mountpoint={mountpoint}',) + more)], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60, check=False)
    text = done.stderr.decode()
    verdict(done.returncode == 1 and said in text and text.count('\n') == 1, f'refused: {name}', text)


def test_refusals():
    make('raw', MIB)
    refused('a folder', 'regular file', '.')
    refused('nothing there', 'nowhere', 'nowhere')
    refused('growable without writable', 'writable', 'm', 'growable=on')


def test_file_systems():
    """A file system made and checked by its own tools in the file."""
    if not tool('mkfs.ext4'):
        skip('ext4', 'e2fsprogs is not installed')
        return
    img('create', '-f', 'qcow2', 'f.img', '64M')
    with serve('qcow2', 'f.img', 'writable=on'):
        status, _, text = run('mkfs.ext4', '-q', '-d', '/etc/apt', 'm')
        verdict(status == 0, 'mkfs.ext4 in the file', text)
        status, out, text = run('fsck.ext4', '-fn', 'm')
        verdict(status == 0, 'fsck.ext4', out.decode() + text)
    verdict(img('check', 'f.img')[0] == 0, 'the image is sound')


def why_not():
    """Why this machine cannot mount, or ''."""
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        return '/dev/fuse is not there, or not for us'
    make('raw', MIB)
    try:
        with serve('raw', 'f.img'):
            return '' if os.stat('m').st_size == MIB else 'mounting has no effect'
    except RuntimeError as why:
        return 'there is no plugin: fuse3 was missing' if "'fuse'" in str(why) else \
            'no right to mount' if 'cannot mount' in str(why) else ''


REASON = why_not()
if REASON:
    print(f'1..0 # SKIP {REASON}')
    sys.exit(0)
try:
    test_reading()
    test_writing()
    test_growth()
    test_holes()
    test_many_at_once()
    test_life()
    test_refusals()
    test_file_systems()
finally:
    run('umount', '-l', os.path.join(SCRATCH, 'm'))
finish()
