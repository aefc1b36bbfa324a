#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random qcow2 images, written in turns by Tenon and by QEMU: each must read what the other wrote.

The oracle is a byte array that takes the same writes.  INTERCHANGE_COUNT says how many images (default 25),
INTERCHANGE_SEED where the random numbers begin, INTERCHANGE_KEEP=1 keeps the files of a failure."""
import os
import random
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get('TN_BUILD_DIR') or os.path.join(os.path.dirname(__file__), '..', '..', 'build')
OURS = {'img': os.environ.get('TENON_IMG', os.path.join(TOP, 'bin', 'tenon-img')),
        'io': os.environ.get('TENON_IO', os.path.join(TOP, 'bin', 'tenon-io')), 'name': 'tenon'}
QEMU = {'img': 'qemu-img', 'io': 'qemu-io', 'name': 'qemu'}
COUNT = int(os.environ.get('INTERCHANGE_COUNT', '25'))
SEED = int(os.environ.get('INTERCHANGE_SEED', '1'))


class Failure(Exception):
    pass


def run(*args):
    result = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                            timeout=120, check=False)
    text = result.stdout.decode('utf-8', 'replace')
    failed = os.path.basename(args[0]).endswith('-io') and 'failed' in text
    if result.returncode or failed:
        raise Failure(f'{" ".join(args)}\nexit status {result.returncode}\n{text}')
    return text


class Image:
    """One file of a chain with what a reader should see."""

    def __init__(self, rng, path, size, backing):
        self.rng, self.path, self.backing = rng, path, backing
        self.options, self.cluster, self.version = self.choose_options()
        self.data = bytearray(size)
        if backing:
            shared = min(size, len(backing.data))
            self.data[:shared] = backing.data[:shared]

    def choose_options(self):
        rng = self.rng
        version = rng.choice((2, 3, 3, 3))
        bits = rng.choice((9, 10, 12, 14, 16, 16, 16, 17, 21))
        options = [f'cluster_size={1 << bits}', f'compat={"0.10" if version == 2 else "1.1"}']
        if version == 3:
            options.append(f'refcount_bits={rng.choice((1, 2, 4, 8, 16, 16, 32, 64))}')
            if rng.random() < .25:
                options.append('lazy_refcounts=on')
            if rng.random() < .3:
                options.append('compression_type=zstd')
            if bits >= 14 and rng.random() < .4:
                options.append('extended_l2=on')
        if not self.backing and rng.random() < .2:
            options.append('preallocation=' + rng.choice(('metadata', 'falloc', 'full')))
        return options, 1 << bits, version

    def create(self, tool):
        backing = ['-b', os.path.basename(self.backing.path), '-F', 'qcow2'] if self.backing else []
        run(tool['img'], 'create', '-q', '-f', 'qcow2', '-o', ','.join(self.options), *backing, self.path,
            str(len(self.data)))

    def range(self, align, longest):
        size = len(self.data)
        start = self.rng.randrange(size) // align * align
        length = min(self.rng.randrange(1, longest + 1), size - start)
        length = max(length // align * align, min(align, size - start))
        return start, length

    def one_command(self, tool):
        rng = self.rng
        kind = rng.choice(('write', 'write', 'write', 'long', 'zero', 'unmap', 'discard', 'packed'))
        if kind in ('write', 'long'):
            start, length = self.range(512, 4 * self.cluster if kind == 'long' else 3000)
            length = min(length, 1 << 20)
            value = rng.randrange(1, 256)
            self.data[start:start + length] = bytes((value,)) * length
            return f'write -P {value} {start} {length}'
        if kind in ('zero', 'unmap'):
            start, length = self.range(512, 3 * self.cluster)
            self.data[start:start + length] = bytes(length)
            return f'write -z {"-u " if kind == "unmap" else ""}{start} {length}'
        if self.version == 2 and kind == 'discard':
            return None  # it would show the backing file in one and nothing in the other
        start, length = self.range(self.cluster, 3 * self.cluster if kind == 'discard' else self.cluster)
        if start % self.cluster or length % self.cluster:
            return None
        if kind == 'discard':
            self.data[start:start + length] = bytes(length)
            return f'discard {start} {length}'
        if tool is QEMU:
            return None  # it does not pack what is allocated already
        length = self.cluster
        value = rng.randrange(1, 256)
        self.data[start:start + length] = bytes((value,)) * length
        return f'write -c -P {value} {start} {length}'

    def write(self, tool, commands):
        args = []
        for _ in range(commands):
            command = self.one_command(tool)
            if command:
                args += ['-c', command]
        if args:
            run(tool['io'], '-d', 'unmap', '-f', 'qcow2', *args, self.path)

    def resize(self, tool):
        size = len(self.data) + self.rng.choice((512, 4096, 65536 * 3 + 512, 1 << 20))
        if self.version == 2 and self.backing:
            return
        run(tool['img'], 'resize', '-q', '-f', 'qcow2', self.path, str(size))
        self.data += bytes(size - len(self.data))

    def verify(self, folder):
        for tool in (OURS, QEMU):
            run(tool['img'], 'check', '-q', '-f', 'qcow2', self.path)
            raw = os.path.join(folder, 'out.raw')
            run(tool['img'], 'convert', '-f', 'qcow2', '-O', 'raw', self.path, raw)
            with open(raw, 'rb') as f:
                found = f.read()
            os.unlink(raw)
            if found == self.data:
                continue
            at = next((i for i, (a, b) in enumerate(zip(found, self.data)) if a != b), min(len(found), len(self.data)))
            raise Failure(f'{tool["name"]} reads {os.path.basename(self.path)} ({",".join(self.options)}) wrongly: '
                          f'{len(found)} bytes instead of {len(self.data)}, first difference at {at}')


def one_case(number, folder):
    rng = random.Random(SEED * 1000003 + number)
    tools = [OURS, QEMU]
    backing = None
    for depth in range(rng.choice((1, 1, 2, 3))):
        size = rng.randrange(1, 6 << 20) // 512 * 512 or 512
        image = Image(rng, os.path.join(folder, f'{number}-{depth}.qcow2'), size, backing)
        image.create(rng.choice(tools))
        for step in range(rng.randrange(1, 4)):
            image.write(rng.choice(tools), rng.randrange(1, 9))
            if rng.random() < .25:
                image.resize(rng.choice(tools))
        image.verify(folder)
        backing = image
    packed = os.path.join(folder, f'{number}-packed.qcow2')
    writer = rng.choice(tools)
    run(writer['img'], 'convert', '-c', '-O', 'qcow2', '-o',
        f'cluster_size={image.cluster},compression_type={rng.choice(("zlib", "zstd"))}', image.path, packed)
    copy = Image(rng, packed, 0, None)
    copy.data, copy.options = image.data, [f'packed by {writer["name"]}, cluster_size={image.cluster}']
    copy.verify(folder)


def main():
    for program in (OURS['img'], OURS['io'], QEMU['img'], QEMU['io']):
        if not shutil.which(program):
            print(f'1..0 # SKIP {program} is missing (Debian: qemu-utils)')
            return 0
    failures = 0
    print(f'1..{COUNT}', flush=True)
    for number in range(COUNT):
        folder = tempfile.mkdtemp(prefix='tenon-interchange-')
        try:
            one_case(number, folder)
            print(f'ok {number + 1} - image {number}', flush=True)
        except (Failure, subprocess.TimeoutExpired) as why:
            failures += 1
            print(f'not ok {number + 1} - image {number} (seed {SEED})')
            print('\n'.join('# ' + line for line in str(why).splitlines()), flush=True)
            if os.environ.get('INTERCHANGE_KEEP'):
                print(f'# kept in {folder}', flush=True)
                continue
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
