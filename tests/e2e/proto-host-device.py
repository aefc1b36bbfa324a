#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""host_device on loop devices, beside QEMU: sectors of 512 and 4096 bytes, every engine, new images, discards, read-only devices,
partitions, devices that change their size, devices that the kernel has in use."""
import atexit
import json
import os
import signal
import stat
import subprocess
import sys
import time

from imgtest import RNG, difference, finish, img, read, run, skip, tool, verdict, write
from nbdtest import IO

MIB = 1 << 20
SIZE = 16 * MIB
ATTACHED = []
MOUNTED = []


# ---- Devices

def detach_all(*_):
    for folder in MOUNTED[:]:
        run('umount', '-l', folder)
    for device in ATTACHED[:]:
        run('losetup', '-d', device)


def on_signal(number, _):
    sys.exit(128 + number)  # which runs what atexit knows


class Loop:
    """A loop device over a file of this folder, until the end of the block."""

    def __init__(self, path, *options, sector=512):
        self.path, self.options = path, [*options, '-b', str(sector)]
        self.name = None

    def __enter__(self):
        status, out, text = run('losetup', *self.options, '-f', '--show', self.path)
        if status:
            raise RuntimeError(text)
        self.name = out.decode().strip()
        ATTACHED.append(self.name)
        return self

    def __exit__(self, *_):
        run('losetup', '-d', self.name)
        ATTACHED.remove(self.name)

    def bytes(self):
        """What has reached the file."""
        return stored(self.name, self.path)


def stored(device, path):
    fd = os.open(device, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return read(path)


def usable():
    """Why there are no loop devices, or ''."""
    if os.geteuid() != 0:
        return 'loop devices need root'
    if not tool('losetup'):
        return 'losetup is not installed (mount)'
    write('probe', bytes(MIB))
    try:
        with Loop('probe'):
            return ''
    except RuntimeError as why:
        return f'no loop device can be had: {why}'


# ---- What is expected

def works(name, *args):
    status, out, text = img(*args)
    verdict(status == 0, name, f'status {status}: {text}')
    return out


def fails(name, wanted, *args, program=img):
    status, out, text = program(*args)
    said = text or out.decode()
    return verdict(status == 1 and wanted in said and said.count('\n') == 1, name, f'status {status}: {said}')


def tenon_io(*args):
    return run(IO, *args)


def qemu(name, *args):
    """QEMU's program says yes; its output."""
    if not tool(args[0]):
        skip(name, f'{args[0]} is not installed (qemu-utils)')
        return None
    status, out, text = run(*args)
    verdict(status == 0, name, f'status {status}: {text}')
    return out


def same(name, got, wanted):
    why = difference(got, bytes(wanted))
    return verdict(not why, name, why)


def mixed(length):
    """Random bytes with holes between."""
    data = bytearray(RNG.randbytes(length))
    for at in range(0, length, MIB):
        data[at + 300_000:at + 700_000] = bytes(min(400_000, max(0, length - at - 300_000)))
    return bytes(data[:length])


class Prompt:
    """tenon-io that is told one thing after the other."""

    def __init__(self, *args):
        # pylint: disable=consider-using-with
        self.io = subprocess.Popen([IO, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.until_prompt()

    def until_prompt(self):
        said = b''
        while not said.endswith(b'tenon-io> '):
            byte = self.io.stdout.read(1)
            if not byte:
                break
            said += byte
        return said.decode()[:-len('tenon-io> ')]

    def ask(self, command):
        self.io.stdin.write(command.encode() + b'\n')
        self.io.stdin.flush()
        return self.until_prompt()

    def end(self):
        self.io.communicate(b'quit\n', timeout=110)


# ---- Names and drivers

def test_names():
    write('disk', mixed(SIZE))
    with Loop('disk', sector=4096) as loop:
        out = works('info by its name', 'info', loop.name).decode()
        verdict(f'image: {loop.name}\nfile format: raw\nvirtual size: 16 MiB ({SIZE} bytes)\n' in out, 'it says name and size', out)
        out = qemu('QEMU describes it', 'qemu-img', 'info', '--output=json', loop.name)
        if out is not None:
            ours, theirs = json.loads(img('info', '--output=json', loop.name)[1]), json.loads(out)
            keys = ('virtual-size', 'filename', 'format', 'actual-size')
            verdict([ours[k] for k in keys] == [theirs[k] for k in keys], 'in the same words', f'{ours} {theirs}')
        about = json.loads(works('info of the device', 'info', '--output=json', '--image-opts',
                                 f'driver=host_device,filename={loop.name}'))
        data = about['format-specific']['data']
        verdict(about['format'] == 'host_device' and data['logical-block-size'] == 4096 and data['physical-block-size'] >= 4096
                and data['read-only'] is False, 'its sectors', about)
        os.symlink(loop.name, 'link')
        for name in ('link', 'file:' + loop.name, f'json:{{"driver":"raw","file":{{"filename":"{loop.name}"}}}}'):
            works(f'compare by the name {name[:12]}…', 'compare', name, 'disk')
        fails('driver file is for files', "use driver 'host_device'", 'info', '--image-opts',
              f'driver=raw,file.driver=file,file.filename={loop.name}')
        fails('a loop device is no CD-ROM drive', "use driver 'host_device'", 'info', '--image-opts',
              f'driver=raw,file.driver=host_cdrom,file.filename={loop.name}')
        works('a device as a backing file', 'create', '-q', '-f', 'qcow2', '-b', loop.name, '-F', 'raw', 'top.qcow2')
        works('the overlay shows it', 'compare', 'top.qcow2', 'disk')
        qemu('to QEMU, too', 'qemu-img', 'compare', 'top.qcow2', 'disk')
    for kind, path in (('host_device', 'disk'), ('host_cdrom', 'disk')):
        fails(f'{kind} is not for files', "use driver 'file'", 'info', '--image-opts', f'driver=raw,file.driver={kind},file.filename={path}')
    fails('a character device', 'it is not a regular file', 'info', '/dev/null')
    fails('a character device as host_device', 'it is not a block device\n', 'info', '--image-opts', 'driver=host_device,filename=/dev/null')
    fails('a device that is not there', 'check the name', 'create', '-f', 'raw', 'json:{"driver":"host_device","filename":"nothing"}', '1M')
    verdict(not os.path.exists('nothing'), 'no file is made in its place')


# ---- Reading and writing

def test_copies():
    data = mixed(SIZE)
    write('source', data)
    for sector in (512, 4096):
        for cache in ('writeback', 'none'):
            write('disk', RNG.randbytes(SIZE))
            name = f'sectors of {sector}, cache={cache}'
            with Loop('disk', sector=sector) as loop:
                works(f'{name}: convert to it', 'convert', '-n', '-t', cache, '-f', 'raw', '-O', 'raw', 'source', loop.name)
                same(f'{name}: it holds the bytes', loop.bytes(), data)
                works(f'{name}: convert from it', 'convert', '-T', cache, '-f', 'raw', loop.name, '-O', 'raw', 'out')
                same(f'{name}: the same bytes', read('out'), data)
                qemu(f'{name}: QEMU reads the same', 'qemu-img', 'compare', '-f', 'raw', '-F', 'raw', loop.name, 'source')


def random_commands(shadow, alignment):
    """Commands for tenon-io, and their effect."""
    commands = []
    for _ in range(50):
        length = RNG.choice((alignment, 3 * alignment, 4096, 65536, 300_000 // alignment * alignment))
        at = RNG.randrange((len(shadow) - length) // alignment) * alignment
        byte = RNG.randrange(1, 256)
        kind = RNG.randrange(4)
        if kind == 0:
            commands += ['-c', f'write {RNG.choice(("-z", "-z -u"))} {at} {length}']
            byte = 0
        elif kind == 1:
            commands += ['-c', f'write -f -P {byte} {at} {length}']
        else:
            commands += ['-c', f'aio_write -P {byte} {at} {length}', '-c', 'aio_flush']
        shadow[at:at + length] = bytes([byte]) * length
        if RNG.random() < .4:
            commands += ['-c', f'read -P {byte} {at} {length}']
    return commands


def test_engines():
    """Requests of all sizes, through the page cache and past it; what was cached is not read back once it is zero."""
    for sector in (512, 4096):
        for engine, cache in (('threads', 'writeback'), ('io_uring', 'writeback'), ('threads', 'none'), ('io_uring', 'none'), ('native', 'none')):
            name = f'sectors of {sector}, aio={engine}, cache={cache}'
            shadow = bytearray(RNG.randbytes(2 * MIB))
            write('disk', shadow)
            with Loop('disk', sector=sector) as loop:
                commands = random_commands(shadow, 512) + random_commands(shadow, 1)
                status, out, text = tenon_io('-f', 'raw', '-i', engine, '-t', cache, *commands, '-c', 'flush', loop.name)
                if status and 'not' in text and 'kernel' in text and not out:
                    skip(name, text)
                    continue
                verdict(status == 0 and b'erification' not in out and b'ailed' not in out, name, out[-300:].decode() + text)
                same(f'{name}: on the device', loop.bytes(), shadow)


# ---- Space

def space(path):
    os.sync()
    return os.stat(path).st_blocks * 512


def punches():
    write('probe', RNG.randbytes(MIB))
    os.sync()
    return run('fallocate', '-p', '-o', '0', '-l', str(MIB), 'probe')[0] == 0 and space('probe') < MIB // 2


def test_discard():
    if not punches():
        skip('discards', 'the file system of the scratch folder makes no holes')
        return
    data = bytearray(RNG.randbytes(SIZE))
    for sector in (512, 4096):
        name = f'sectors of {sector}'
        write('disk', data)
        with Loop('disk', sector=sector) as loop:
            before = space('disk')
            status, out, text = tenon_io('-f', 'raw', '-c', f'read -P {data[MIB]} {MIB} 1', '-c', f'discard {MIB} {4 * MIB}',
                                         '-c', f'read -P 0 {MIB} {4 * MIB}', '-c', 'flush', loop.name)
            verdict(status == 0 and b'erification' not in out, f'{name}: discard, and what was cached is gone', out.decode() + text)
            verdict(space('disk') <= before - 3 * MIB, f'{name}: a discard is a hole', f'{before} {space("disk")}')
            shadow = data[:MIB] + bytes(4 * MIB) + data[5 * MIB:]
            same(f'{name}: nothing else has changed', loop.bytes(), shadow)
            before = space('disk')
            tenon_io('-f', 'raw', '-d', 'ignore', '-c', f'discard {8 * MIB} {MIB}', '-c', 'flush', loop.name)
            verdict(space('disk') >= before - 65536, f'{name}: discard=ignore', f'{before} {space("disk")}')
            tenon_io('-f', 'raw', '-c', f'write -z -u {8 * MIB} {4 * MIB}', '-c', 'flush', loop.name)
            verdict(space('disk') <= before - 3 * MIB, f'{name}: zeroes that may unmap are a hole', f'{before} {space("disk")}')
            shadow[8 * MIB:12 * MIB] = bytes(4 * MIB)
            same(f'{name}: nothing else has changed by that', loop.bytes(), shadow)
            write('zero', bytes(SIZE))
            for option in ('-n', '-q'):
                write('disk', data)
                works(f'{name}: zeroes converted, {option}', 'convert', option, '-f', 'raw', '-O', 'raw', 'zero', loop.name)
                verdict(space('disk') < MIB, f'{name}: take no space, {option}', space('disk'))
                same(f'{name}: and are zero, {option}', loop.bytes(), bytes(SIZE))
            works(f'{name}: -S 0', 'convert', '-n', '-S', '0', '-f', 'raw', '-O', 'raw', 'zero', loop.name)
            verdict(space('disk') >= SIZE, f'{name}: takes the space', space('disk'))


# ---- New images

def test_create():
    old = RNG.randbytes(SIZE)
    small = mixed(5 * MIB)
    write('small', small)
    write('large', bytes(SIZE + 512))
    write('disk', old)
    with Loop('disk') as loop:
        fails('too large a source', f'{SIZE} bytes', 'convert', '-f', 'raw', '-O', 'raw', 'large', loop.name)
        fails('the same with -n', 'smaller', 'convert', '-n', '-f', 'raw', '-O', 'raw', 'large', loop.name)
        fails('too large a new disk', 'resize the device itself first', 'create', '-f', 'raw', loop.name, '64M')
        fails('preallocation', 'leave it off', 'create', '-f', 'raw', '-o', 'preallocation=full', loop.name, '1M')
        same('what was refused has changed nothing but what a new image may', loop.bytes()[512:-1024], old[512:-1024])
        works('convert -n of a smaller source', 'convert', '-n', '-f', 'raw', '-O', 'raw', 'small', loop.name)
        ours = loop.bytes()
        verdict(ours[:len(small)] == small, 'it is there')
        verdict(ours[len(small):-1024] == old[len(small):-1024], 'what lies behind it stays')
        write('disk2', old)
        with Loop('disk2') as other:
            if qemu('QEMU does the same', 'qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', 'small', other.name) is not None:
                same('with the same result', other.bytes()[:-1024], ours[:-1024])
        works('convert without -n', 'convert', '-f', 'raw', '-O', 'raw', 'small', loop.name)
        now = loop.bytes()
        verdict(now[:len(small)] == small and now[len(small):-1024] == old[len(small):-1024] and now[-1024:] == bytes(1024),
                'the source, what lies behind it, and no trailer of an earlier image')
        fails('a device onto itself', 'is read by this command', 'convert', '-f', 'raw', '-O', 'raw', loop.name, loop.name)
        os.mknod('node', 0o600 | stat.S_IFBLK, os.stat(loop.name).st_rdev)
        fails('neither by another node', 'is read by this command', 'convert', '-n', '-f', 'raw', '-O', 'raw', loop.name, 'node')
        works('create', 'create', '-f', 'raw', loop.name, '1M')
        now = loop.bytes()
        verdict(now[:512] == bytes(512) and now[512:5 * MIB] == small[512:], 'clears the first sector, as QEMU does')
        verdict(str(SIZE) in works('info', 'info', loop.name).decode(), 'the disk is as large as the device')


def test_qcow2():
    data = mixed(6 * MIB)
    write('source', data)
    for sector in (512, 4096):
        for cache in ('writeback', 'none'):
            name = f'qcow2, sectors of {sector}, cache={cache}'
            write('disk', RNG.randbytes(SIZE))
            with Loop('disk', sector=sector) as loop:
                works(f'{name}: create', 'create', '-q', '-f', 'qcow2', loop.name, '64M')
                status, out, text = tenon_io('-t', cache, '-c', 'write -P 5 60M 1M', '-c', 'write -z 1M 1M', '-c', 'read -P 5 60M 1M', loop.name)
                verdict(status == 0 and b'erification' not in out, f'{name}: writing', out.decode() + text)
                works(f'{name}: check', 'check', loop.name)
                qemu(f'{name}: QEMU finds nothing wrong', 'qemu-img', 'check', loop.name)
                works(f'{name}: convert', 'convert', '-t', cache, '-f', 'raw', '-O', 'qcow2', 'source', loop.name)
                works(f'{name}: compare', 'compare', '-T', cache, loop.name, 'source')
                qemu(f'{name}: QEMU reads the same', 'qemu-img', 'compare', loop.name, 'source')
                works(f'{name}: verified, compressed', 'convert', '--verify', '-c', '-f', 'raw', '-O', 'qcow2', 'source', loop.name)
                if qemu(f'{name}: QEMU makes one', 'qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'source', loop.name) is not None:
                    works(f'{name}: which is read', 'compare', loop.name, 'source')
    write('source', RNG.randbytes(SIZE))
    with Loop('disk') as loop:
        fails('a device that is too small for an image', 'No space left', 'convert', '-q', '-f', 'raw', '-O', 'qcow2', 'source', loop.name,
              program=lambda *args: first_line(img(*args)))


def first_line(result):
    """That a device keeps what was begun is said in a line of its own."""
    status, out, text = result
    lines = [line for line in text.splitlines(True) if 'is incomplete' not in line]
    return status, out, ''.join(lines)


# ---- Other states

def test_read_only():
    data = RNG.randbytes(MIB)
    write('disk', data)
    with Loop('disk', '-r') as loop:
        works('a read-only device is read', 'compare', '-f', 'raw', '-F', 'raw', loop.name, 'disk')
        fails('but not opened for writing', f"Device '{loop.name}' is read-only: open it read-only", '-f', 'raw', '-c', 'write 0 512', loop.name,
              program=tenon_io)
        fails('nor converted to', 'is read-only', 'convert', '-f', 'raw', '-O', 'raw', 'disk', loop.name)
        fails('with -n neither', 'is read-only', 'convert', '-n', '-f', 'raw', '-O', 'raw', 'disk', loop.name)
        opts = f'driver=raw,auto-read-only=on,file.driver=host_device,file.auto-read-only=on,file.filename={loop.name}'
        status, out, text = tenon_io('--image-opts', '-c', 'read 0 512', opts)
        verdict(status == 0 and b'512/512' in out, 'auto-read-only falls back', out.decode() + text)
        same('it is as it was', read('disk'), data)
        if tool('blockdev') and run('blockdev', '--setrw', loop.name)[0] == 0 and run('blockdev', '--getro', loop.name)[1] == b'0\n':
            run('blockdev', '--setro', loop.name)
            fails('made read-only', 'blockdev --setrw', '-f', 'raw', '-c', 'write 0 512', loop.name, program=tenon_io)


def test_size():
    write('disk', RNG.randbytes(4 * MIB))
    with Loop('disk') as loop:
        fails('a device is not made larger', 'resize the device itself first', 'resize', '-f', 'raw', loop.name, '+1M')
        fails('nor smaller', 'can have no other size', 'resize', '-f', 'raw', '--shrink', loop.name, '1M')
        works('it has its size', 'resize', '-f', 'raw', loop.name, '4M')
        prompt = Prompt('-f', 'raw', loop.name)
        verdict('4 MiB' in prompt.ask('length'), 'before it grows')
        os.truncate('disk', 8 * MIB)
        run('losetup', '-c', loop.name)
        verdict(prompt.ask('truncate 8M') == '' and '8 MiB' in prompt.ask('length'), 'a device that has grown')
        verdict('512/512' in prompt.ask(f'write -P 7 {8 * MIB - 512} 512'), 'is written to its end')
        prompt.ask('flush')
        os.truncate('disk', 2 * MIB)
        run('losetup', '-c', loop.name)
        said = prompt.ask('read 6M 64k')
        verdict('ailed' in said, 'what has gone with its end does not read as zeroes', said)
        said = prompt.ask('write 6M 64k')
        verdict('ailed' in said, 'nor is it written', said)
        verdict('65536/65536' in prompt.ask('read 1M 64k'), 'the rest is there')
        prompt.end()
        verdict(str(2 * MIB) in img('info', loop.name)[1].decode(), 'opened anew it has its new size')


def test_partitions():
    data, part = RNG.randbytes(8 * MIB), RNG.randbytes(2 * MIB)
    write('disk', data)
    write('source', part)
    with Loop('disk', '-P') as loop:
        if not tool('addpart') or run('addpart', loop.name, '1', '2048', '4096')[0] or not wait_for(loop.name + 'p1'):
            skip('partitions', 'none can be had here (addpart, devtmpfs)')
            return
        name = loop.name + 'p1'
        works('convert to a partition', 'convert', '-f', 'raw', '-O', 'raw', 'source', name)
        same('it lies in its place', stored(name, 'disk'), data[:MIB] + part + data[3 * MIB:])
        works('compare', 'compare', '-f', 'raw', '-F', 'raw', name, 'source')
        about = json.loads(img('info', '--output=json', '--image-opts', f'driver=host_device,filename={name}')[1])
        whole = json.loads(img('info', '--output=json', '--image-opts', f'driver=host_device,filename={loop.name}')[1])
        verdict(about['virtual-size'] == 2 * MIB and about['format-specific']['data'] == whole['format-specific']['data'],
                'it has its own size, and the limits of its disk', f'{about} {whole}')
        fails('a partition does not grow', 'resize the device itself first', 'resize', '-f', 'raw', name, '+1M')
        run('delpart', loop.name, '1')


def wait_for(path):
    end = time.monotonic() + 10
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(.05)
    return os.path.exists(path)


def test_mapped():
    """A volume of the device mapper, as LVM's are."""
    if not tool('dmsetup') or run('dmsetup', 'version')[0]:
        skip('volumes of the device mapper', 'dmsetup is not installed, or the kernel has no device mapper')
        return
    data, part = RNG.randbytes(8 * MIB), RNG.randbytes(4 * MIB)
    write('disk', data)
    write('source', part)
    with Loop('disk') as loop:
        name = f'tenon-{os.getpid()}'
        status, _, text = run('dmsetup', 'create', name, '--table', f'0 8192 linear {loop.name} 4096')
        if status:
            skip('volumes of the device mapper', text)
            return
        try:
            path = '/dev/mapper/' + name
            works('convert to a volume', 'convert', '-f', 'raw', '-O', 'raw', 'source', path)
            same('it lies in its place', stored(path, 'disk'), data[:2 * MIB] + part + data[6 * MIB:])
            works('compare', 'compare', '-f', 'raw', '-F', 'raw', path, 'source')
            fails('a device below a volume is not overwritten', 'is in use by the kernel', 'create', '-f', 'raw', loop.name, '1M')
        finally:
            run('dmsetup', 'remove', name)


def test_mounted():
    write('disk', bytes(SIZE))
    write('source', RNG.randbytes(MIB))
    if not tool('mkfs.ext4') or run('mkfs.ext4', '-q', 'disk')[0]:
        skip('a mounted device', 'mkfs.ext4 is not installed (e2fsprogs)')
        return
    with Loop('disk') as loop:
        os.mkdir('mounted')
        if run('mount', '-t', 'ext4', loop.name, 'mounted')[0]:
            skip('a mounted device', 'nothing can be mounted here')
            return
        MOUNTED.append(os.path.abspath('mounted'))
        fails('no new image on a mounted device', 'is in use by the kernel', 'create', '-f', 'raw', loop.name, '1M')
        fails('neither by convert', 'locking=off', 'convert', '-f', 'raw', '-O', 'raw', 'source', loop.name)
        works('it is read', 'convert', '-f', 'raw', '-O', 'raw', loop.name, 'out')
        status, out, text = tenon_io('-f', 'raw', '-c', f'read {MIB} 512', '-c', f'write -z {12 * MIB} 4096', loop.name)
        verdict(status == 0 and b'ailed' not in out, 'and, as by QEMU, opened for writing', out.decode() + text)
        works('locking=off overwrites it', 'create', '-f', 'raw', '-o', 'locking=off', loop.name, '1M')
        run('umount', '-l', 'mounted')
        MOUNTED.clear()


def test_locks():
    write('disk', bytes(MIB))
    with Loop('disk') as loop:
        prompt = Prompt('-f', 'raw', loop.name)
        fails('a device in use is not opened for writing', f"lock on '{loop.name}'", '-f', 'raw', '-c', 'write 0 512', loop.name, program=tenon_io)
        fails('nor overwritten', 'lock', 'create', '-f', 'raw', loop.name, '1M')
        works('-U reads it', 'compare', '-U', '-f', 'raw', '-F', 'raw', loop.name, 'disk')
        if tool('qemu-io'):
            status, _, text = run('qemu-io', '-f', 'raw', '-c', 'read 0 512', loop.name)
            verdict(status == 1 and 'lock' in text, 'QEMU does not open it either', text)
        prompt.end()
        if not tool('qemu-io'):
            skip('a device that QEMU has', 'qemu-io is not installed (qemu-utils)')
            return
        with subprocess.Popen(['qemu-io', '-f', 'raw', loop.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as theirs:
            theirs.stdin.write(b'length\n')
            theirs.stdin.flush()
            while b'MiB' not in theirs.stdout.readline():
                pass
            fails('a device that QEMU has', 'qemu-io', '-f', 'raw', '-c', 'write 0 512', loop.name, program=tenon_io)
            theirs.communicate(b'quit\n')


def main():
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, on_signal)
    atexit.register(detach_all)
    why = usable()
    if why:
        skip('host_device', why)
        finish()
    for test in (test_names, test_copies, test_engines, test_discard, test_create, test_qcow2, test_read_only, test_size, test_partitions,
                 test_mapped, test_mounted, test_locks):
        test()
    finish()


main()
