#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images of 8 TiB with data in a few hundred places: every command stays below 64 MiB of memory.

    large-images.py [FORMAT…]

The verdict is on memory and on the right bytes; the processor time that is printed is for people."""
import json
import os
import subprocess
import sys

from imgtest import IMG, RNG, finish, is_sanitized, run, skip, tool, verdict, write

SIZE = 8 << 40


LIMIT = (512 if is_sanitized() else 64) << 10  # KiB resident
SECRET = ('--object', 'secret,id=key,data=tenon')
IO = os.path.join(os.path.dirname(IMG), 'tenon-io')

# Name of a case: format, options of `create`, what the format's own check can do.
CASES = {
    'raw': ('raw', [], False),
    'qcow2': ('qcow2', [], True),
    'qcow2-small': ('qcow2', ['cluster_size=4k', 'refcount_bits=1'], True),
    'qed': ('qed', [], True),
    'qcow': ('qcow', [], True),
    'vmdk': ('vmdk', [], True),
    'vdi': ('vdi', [], True),
    'vhdx': ('vhdx', [], True),
    'vhdx-small': ('vhdx', ['block_size=1M'], True),
    'parallels': ('parallels', [], True),
}


def spots():
    """Where data goes: start, middle and end, and places all over, by their offset."""
    places = {0: 4096, (SIZE // 2) - 65536: 1 << 17, SIZE - 4096: 4096}
    for _ in range(300):
        places[RNG.randrange(SIZE >> 21) * (2 << 20) + RNG.randrange(256) * 4096] = RNG.choice((4096, 8192, 65536))
    return {at: RNG.randbytes(length) for at, length in sorted(places.items())}


def make_raw(path, data):
    with open(path, 'wb') as out:
        out.truncate(SIZE)
        for at, content in data.items():
            out.seek(at)
            out.write(content)


def raw_fault(path, data):
    """What is wrong in a raw image that should hold these bytes, and zeroes elsewhere."""
    fd = os.open(path, os.O_RDONLY)
    try:
        if os.fstat(fd).st_size != SIZE:
            return f'{os.fstat(fd).st_size} bytes long'
        wrong = [at for at, content in data.items() if os.pread(fd, len(content), at) != content]
        return f'other bytes at {wrong[0]:#x}' if wrong else stray_data(fd, data)
    finally:
        os.close(fd)


def stray_data(fd, data):
    """The first place outside of the known data that is not zero."""
    at = 0
    while at < SIZE:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return ''
        at = os.lseek(fd, start, os.SEEK_HOLE)
        if at - start > 1 << 30:
            return f'{at - start} bytes allocated at {start:#x}'
        left = bytearray(os.pread(fd, at - start, start))
        for place, content in data.items():
            if start < place + len(content) and place < at:
                first, last = max(place, start) - start, min(place + len(content), at) - start
                left[first:last] = bytes(last - first)
        if any(left):
            return f'bytes other than zero near {start:#x}'
    return ''


def measured(name, *args):
    """Runs a command: whether it succeeded within the limit, and its output."""
    with open('stdout', 'w+b') as out, open('stderr', 'w+b') as err:
        child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        text, why = out.read(), err.read().decode('utf-8', 'replace')
    seconds = usage.ru_utime + usage.ru_stime
    print(f'# {name}: {usage.ru_maxrss / 1024:.1f} MiB, {seconds:.2f} s', flush=True)
    good = child.returncode == 0 and usage.ru_maxrss < LIMIT
    verdict(good, name, f'status {child.returncode}, {usage.ru_maxrss} KiB: {why} {text[:300]}')
    return text


def right_raw(name, path, data):
    why = raw_fault(path, data)
    os.unlink(path)
    verdict(not why, name, why)


def mapped(name, source, data):
    """The map covers the disk, and has every place with data."""
    at, known = 0, []
    for entry in json.loads(measured(name, IMG, 'map', '--output=json', *source) or b'[]'):
        if entry['start'] != at:
            break
        at += entry['length']
        if entry['data']:
            known.append((entry['start'], at))
    holds = all(any(start <= place < end for start, end in known) for place in data)
    verdict(at == SIZE and holds, f'{name} covers the disk and its data', f'ends at {at:#x}')


def other_format(fmt):
    return 'qed' if fmt == 'qcow2' else 'qcow2'


def case(name, fmt, options, checks, data):
    image, source = f'{name}.img', ('-f', fmt, f'{name}.img')
    chosen = [word for option in options for word in ('-o', option)]
    measured(f'{name}: convert from raw', IMG, 'convert', '-f', 'raw', 'disk.raw', '-O', fmt, *chosen, image)
    if checks:
        measured(f'{name}: check', IMG, 'check', *source)
        measured(f'{name}: check with repair', IMG, 'check', '-r', 'all', *source)
    mapped(f'{name}: map', source, data)
    measured(f'{name}: measure', IMG, 'measure', *source, '-O', 'qcow2')
    measured(f'{name}: compare', IMG, 'compare', '-f', fmt, '-F', 'raw', image, 'disk.raw')
    measured(f'{name}: convert to raw', IMG, 'convert', *source, '-O', 'raw', 'out.raw')
    right_raw(f'{name}: the bytes are right', 'out.raw', data)
    measured(f'{name}: convert to {other_format(fmt)}', IMG, 'convert', *source, '-O', other_format(fmt), 'out.img')
    measured(f'{name}: and back to raw', IMG, 'convert', '-f', other_format(fmt), 'out.img', '-O', 'raw', 'out.raw')
    right_raw(f'{name}: these bytes are right', 'out.raw', data)
    os.unlink('out.img')
    os.unlink(image)


def luks(data):
    """Every byte of such an image is data, so that it is neither converted nor compared whole."""
    measured('luks: create', IMG, 'create', *SECRET, '-f', 'luks', '-o', 'key-secret=key,iter-time=10', 'luks.img', str(SIZE))
    image = ('--image-opts', 'driver=luks,file.filename=luks.img,key-secret=key')
    commands = []
    for number, (at, content) in enumerate(data.items()):
        write(f'spot{number}', content)
        commands += ['-c', f'write -s spot{number} {at} {len(content)}']
    measured('luks: write', IO, *SECRET, *commands, *image)
    mapped('luks: map', (*SECRET, *image), data)
    measured('luks: measure', IMG, 'measure', *SECRET, *image, '-O', 'qcow2')
    for at, content in data.items():
        measured_read = run(IMG, 'dd', *SECRET, *image[:1], f'if={image[1]}', 'of=spot.raw', '-O', 'raw', 'bs=4096',
                            f'skip={at // 4096}', f'count={(at + len(content)) // 4096}')
        with open('spot.raw', 'rb') as spot:
            if measured_read[0] or spot.read() != content:
                return verdict(False, 'luks: the bytes are right', f'at {at:#x}: {measured_read}')
    return verdict(True, 'luks: the bytes are right')


def main():
    data = spots()
    try:
        make_raw('disk.raw', data)
    except OSError as error:
        skip('images of 8 TiB', f'the file system of TMPDIR has no files of this size ({error.strerror})')
        return finish()
    wanted = sys.argv[1:] or [*CASES, 'luks']
    for name in wanted:
        if name == 'luks':
            luks(data)
        else:
            case(name, *CASES[name], data)
    return finish()


main()
