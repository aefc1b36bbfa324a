# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of image formats: TAP output, and random images that Tenon and QEMU write in turns.

The oracle of the random images is a byte array that takes the same writes.  INTERCHANGE_COUNT says how many
images, INTERCHANGE_SEED where the random numbers begin, INTERCHANGE_KEEP=1 keeps the files of a failure."""
import os
import random
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get('TN_BUILD_DIR') or os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'build')
OURS = {'img': os.environ.get('TENON_IMG', os.path.join(TOP, 'bin', 'tenon-img')),
        'io': os.environ.get('TENON_IO', os.path.join(TOP, 'bin', 'tenon-io')), 'name': 'tenon'}
QEMU = {'img': 'qemu-img', 'io': 'qemu-io', 'name': 'qemu'}
SEED = int(os.environ.get('INTERCHANGE_SEED', '1'))


class Failure(Exception):
    """What went wrong, for people."""


def attempt(*args):
    """Exit status and text of a program."""
    result = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                            timeout=120, check=False)
    return result.returncode, result.stdout.decode('utf-8', 'replace')


def run(*args):
    """The text of a program that must succeed."""
    status, text = attempt(*args)
    if status or (os.path.basename(args[0]).endswith('-io') and 'failed' in text):
        raise Failure(f'{" ".join(args)}\nexit status {status}\n{text}')
    return text


def refused(wanted, *args):
    """The program must fail with a text that holds @wanted."""
    status, text = attempt(*args)
    if status == 0 and 'failed' not in text:
        raise Failure(f'{" ".join(args)}\nsucceeded\n{text}')
    expect(wanted in text, f'{" ".join(args)}\nsays not "{wanted}" but\n{text}')


def expect(condition, text):
    if not condition:
        raise Failure(text)


def content(tool, path, fmt, size_hint=''):
    """What @tool reads from an image."""
    raw = f'{path}.out{size_hint}'
    run(tool['img'], 'convert', '-f', fmt, '-O', 'raw', path, raw)
    with open(raw, 'rb') as f:
        found = f.read()
    os.unlink(raw)
    return found


class Format:
    """What the random images of a format may do; override."""
    name = 'raw'
    backing = False
    unit = 65536           # of zeroing and packing
    zeroes = ('write -z', 'write -z -u')
    discards = False
    packs = False
    grows = True

    def options(self, rng):
        """A list of create options; may set self.unit."""
        return []

    def size(self, rng):
        return rng.randrange(1, 6 << 20) // 512 * 512 or 512


class Image:
    """One file of a chain with what a reader should see."""

    def __init__(self, rng, fmt, path, size, backing):
        self.rng, self.fmt, self.path, self.backing = rng, fmt, path, backing
        self.options = fmt.options(rng)
        self.unit = fmt.unit
        self.data = bytearray(size)
        if backing:
            shared = min(size, len(backing.data))
            self.data[:shared] = backing.data[:shared]

    def create(self, tool):
        backing = ['-b', os.path.basename(self.backing.path), '-F', self.backing.fmt.name] if self.backing else []
        options = ['-o', ','.join(self.options)] if self.options else []
        run(tool['img'], 'create', '-q', '-f', self.fmt.name, *options, *backing, self.path, str(len(self.data)))

    def range(self, align, longest):
        size = len(self.data)
        start = self.rng.randrange(size) // align * align
        length = min(self.rng.randrange(1, longest + 1), size - start)
        return start, max(length // align * align, min(align, size - start))

    def one_command(self, tool):
        rng = self.rng
        kind = rng.choice(('write', 'write', 'write', 'long') + (('zero',) if self.fmt.zeroes else ())
                          + (('packed',) if self.fmt.packs else ()) + (('discard',) if self.fmt.discards else ()))
        if kind in ('write', 'long'):
            start, length = self.range(512, 4 * self.unit if kind == 'long' else 3000)
            length = min(length, 1 << 20)
            value = rng.randrange(1, 256)
            self.data[start:start + length] = bytes((value,)) * length
            return f'write -P {value} {start} {length}'
        if kind == 'zero':
            start, length = self.range(512, 3 * self.unit)
            self.data[start:start + length] = bytes(length)
            return f'{rng.choice(self.fmt.zeroes)} {start} {length}'
        start, length = self.range(self.unit, 3 * self.unit)
        if start % self.unit or length % self.unit:
            return None
        if kind == 'discard':
            self.data[start:start + length] = bytes(length)
            return f'discard {start} {length}'
        if tool is QEMU:
            return None
        value = rng.randrange(1, 256)
        self.data[start:start + self.unit] = bytes((value,)) * self.unit
        return f'write -c -P {value} {start} {self.unit}'

    def write(self, tool, commands):
        args = []
        for _ in range(commands):
            command = self.one_command(tool)
            if command:
                args += ['-c', command]
        if args:
            run(tool['io'], '-d', 'unmap', '-f', self.fmt.name, *args, self.path)

    def resize(self, tool):
        size = len(self.data) + self.rng.choice((512, 4096, 65536 * 3 + 512, 1 << 20))
        run(tool['img'], 'resize', '-q', '-f', self.fmt.name, self.path, str(size))
        self.data += bytes(size - len(self.data))

    def verify(self):
        for tool in (OURS, QEMU):
            status, text = attempt(tool['img'], 'check', '-f', self.fmt.name, self.path)
            expect(status in (0, 63) or 'does not support checks' in text,
                   f'{tool["name"]} checks {self.path}: status {status}\n{text}')
            found = content(tool, self.path, self.fmt.name)
            if found == self.data:
                continue
            at = next((i for i, (a, b) in enumerate(zip(found, self.data)) if a != b), min(len(found), len(self.data)))
            raise Failure(f'{tool["name"]} reads {os.path.basename(self.path)} ({",".join(self.options)}) wrongly: '
                          f'{len(found)} bytes instead of {len(self.data)}, first difference at {at}')


def random_image(make_format, number, folder):
    """One chain of images, each written by both."""
    rng = random.Random(SEED * 1000003 + number)
    tools = [OURS, QEMU]
    backing = None
    for depth in range(rng.choice((1, 1, 2, 3)) if make_format().backing else 1):
        fmt = make_format()
        image = Image(rng, fmt, os.path.join(folder, f'{number}-{depth}.{fmt.name}'), fmt.size(rng), backing)
        image.create(rng.choice(tools))
        for _ in range(rng.randrange(1, 4)):
            image.write(rng.choice(tools), rng.randrange(1, 9))
            # QEMU grows no image over a larger backing file that this format could hide.
            if fmt.grows and rng.random() < .25:
                image.resize(OURS if backing else rng.choice(tools))
        image.verify()
        backing = image
    writer, copy = rng.choice(tools), os.path.join(folder, f'{number}-copy')
    packed = ['-c'] if fmt.packs and rng.random() < .7 else []
    run(writer['img'], 'convert', *packed, '-O', fmt.name, image.path, copy)
    image.path, image.options = copy, [f'converted by {writer["name"]}', *packed]
    image.verify()


class Tap:
    """Runs functions as tests, each in a folder of its own."""

    def __init__(self):
        for program in (OURS['img'], OURS['io'], QEMU['img'], QEMU['io']):
            if not shutil.which(program):
                print(f'1..0 # SKIP {program} is missing (Debian: qemu-utils)')
                sys.exit(0)
        self.count = self.failures = 0

    def test(self, title, function, *args):
        self.count += 1
        folder = tempfile.mkdtemp(prefix='tenon-format-')
        try:
            function(*args, folder)
            print(f'ok {self.count} - {title}', flush=True)
        except (Failure, subprocess.TimeoutExpired) as why:
            self.failures += 1
            print(f'not ok {self.count} - {title}')
            print('\n'.join('# ' + line for line in str(why).splitlines()), flush=True)
            if os.environ.get('INTERCHANGE_KEEP'):
                print(f'# kept in {folder}', flush=True)
                return
        shutil.rmtree(folder, ignore_errors=True)

    def interchange(self, make_format, default):
        count = int(os.environ.get('INTERCHANGE_COUNT', default))
        for number in range(count):
            self.test(f'image {number} (seed {SEED})', random_image, make_format, number)

    def end(self):
        print(f'1..{self.count}')
        sys.exit(1 if self.failures else 0)
