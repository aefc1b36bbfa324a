#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random images, written in turns by Tenon and by QEMU: each must read what the other wrote.

The oracle is a byte array that takes the same writes.

    interchange.py [FORMAT…]

INTERCHANGE_COUNT says how many images of each format (default: as the table says), INTERCHANGE_SEED where the
random numbers begin, INTERCHANGE_KEEP=1 keeps the files of a failure.

To add a format that qemu-img has too, add a line to FORMATS below: its name, how to choose create options, and
what it can do.  A format that Tenon has not been built with is skipped."""
import collections
import json
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
COUNT = int(os.environ.get('INTERCHANGE_COUNT', '0'))
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


def check(tool, name, path):
    result = subprocess.run([tool['img'], 'check', '-q', '-f', name, path], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120, check=False)
    if result.returncode not in (0, 63):  # 63: there is no check for this format
        raise Failure(f'{tool["name"]} check of {path} ends with {result.returncode}\n{result.stdout.decode()}')


# What one image was made with: -o options, the unit that is allocated at a time, and what can be done to it.
#   discard  what is discarded reads as zeroes, in both programs
#   packed   whole units can be written compressed
#   resize   both programs make the disk larger
Choice = collections.namedtuple('Choice', 'options unit can')

# A format: how to choose for an image (a function of the random numbers and the backing image or None), whether
# images may have backing files, what `convert -c` takes (None: it can't), the smallest and largest disk, and how
# many images there are by default.
Format = collections.namedtuple('Format', 'name choose chains packs least most count')


def choose_qcow2(rng, backing):
    version = rng.choice((2, 3, 3, 3))
    bits = rng.choice((9, 10, 12, 14, 16, 16, 16, 17, 21))
    options = [f'cluster_size={1 << bits}', f'compat={"0.10" if version == 2 else "1.1"}']
    can = {'packed'}
    if version == 3:
        can.add('discard')
        options.append(f'refcount_bits={rng.choice((1, 2, 4, 8, 16, 16, 32, 64))}')
        if rng.random() < .25:
            options.append('lazy_refcounts=on')
        if rng.random() < .3:
            options.append('compression_type=zstd')
        if bits >= 14 and rng.random() < .4:
            options.append('extended_l2=on')
    if not backing and rng.random() < .2:
        options.append('preallocation=' + rng.choice(('metadata', 'falloc', 'full')))
    if version == 3 or not backing:  # version 2 cannot hide what a longer backing file has there
        can.add('resize')
    return Choice(options, 1 << bits, can)


def pack_qcow2(rng, unit):
    return [f'cluster_size={unit}', f'compression_type={rng.choice(("zlib", "zstd"))}']


def choose_raw(rng, backing):
    return Choice(['preallocation=' + rng.choice(('off', 'falloc', 'full'))], 4096, {'resize'})


def choose_qed(rng, backing):
    bits = rng.choice((12, 12, 13, 16, 16, 20))
    return Choice([f'cluster_size={1 << bits}', f'table_size={rng.choice((2, 4, 8, 16))}'], 1 << bits,
                  set() if backing else {'resize'})  # QEMU can't hide what a longer backing file has there


def choose_vdi(rng, backing):
    return Choice([f'static={rng.choice(("on", "off", "off"))}'], 1 << 20, set())


def choose_vpc(rng, backing):
    return Choice([f'subformat={rng.choice(("dynamic", "dynamic", "fixed"))}', f'force_size={rng.choice(("on", "off"))}'],
                  2 << 20, set())


def choose_qcow(rng, backing):
    # qemu-img 7.2 fails to convert to compressed qcow images, so there is no packing of whole ones.
    return Choice([], 512 if backing else 4096, {'packed'})


def choose_parallels(rng, backing):
    cluster = rng.choice((4096, 63 * 512, 65536, 65536, 1 << 20))
    return Choice([f'cluster_size={cluster}'], cluster, set())


def choose_vhdx(rng, backing):
    block = rng.choice((1, 1, 2, 8))
    return Choice([f'subformat={rng.choice(("dynamic", "dynamic", "fixed"))}', f'block_size={block}M',
                   f'log_size={rng.choice((1, 1, 3))}M', f'block_state_zero={rng.choice(("on", "off"))}'], block << 20, set())


def choose_vmdk(rng, backing):
    subformat = rng.choice(('monolithicSparse', 'twoGbMaxExtentSparse') + (() if backing else ('monolithicFlat', 'twoGbMaxExtentFlat')))
    options = ['zeroed_grain=on'] if 'Sparse' in subformat and rng.random() < .5 else []
    return Choice([f'subformat={subformat}', *options], 65536, set())


FORMATS = [
    Format('qcow2', choose_qcow2, True, pack_qcow2, 512, 6 << 20, 25),
    Format('qed', choose_qed, True, None, 512, 6 << 20, 15),
    Format('vmdk', choose_vmdk, True, None, 512, 6 << 20, 10),
    Format('qcow', choose_qcow, True, None, 512, 6 << 20, 15),
    Format('parallels', choose_parallels, False, None, 512, 6 << 20, 15),
    Format('raw', choose_raw, False, None, 512, 2 << 20, 3),
    Format('vdi', choose_vdi, False, None, 512, 6 << 20, 10),
    Format('vpc', choose_vpc, False, None, 512, 6 << 20, 10),
    Format('vhdx', choose_vhdx, False, None, 512, 6 << 20, 10),
]


class Image:
    """One file of a chain with what a reader should see."""

    def __init__(self, kind, rng, path, size, backing):
        self.kind, self.rng, self.path, self.backing = kind, rng, path, backing
        self.options, self.unit, self.can = kind.choose(rng, backing)
        self.data = bytearray(size)
        if backing:
            shared = min(size, len(backing.data))
            self.data[:shared] = backing.data[:shared]

    def create(self, tool):
        backing = ['-b', os.path.basename(self.backing.path), '-F', self.kind.name] if self.backing else []
        options = ['-o', ','.join(self.options)] if self.options else []
        run(tool['img'], 'create', '-q', '-f', self.kind.name, *options, *backing, self.path, str(len(self.data)))
        info = json.loads(run(tool['img'], 'info', '-f', self.kind.name, '--output=json', self.path))
        if info['virtual-size'] < len(self.data):
            raise Failure(f'{tool["name"]} makes {len(self.data)} bytes a disk of {info["virtual-size"]}')
        self.data += bytes(info['virtual-size'] - len(self.data))  # some formats round

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
            start, length = self.range(512, 4 * self.unit if kind == 'long' else 3000)
            length = min(length, 1 << 20)
            value = rng.randrange(1, 256)
            self.data[start:start + length] = bytes((value,)) * length
            return f'write -P {value} {start} {length}'
        if kind in ('zero', 'unmap'):
            start, length = self.range(512, 3 * self.unit)
            self.data[start:start + length] = bytes(length)
            return f'write -z {"-u " if kind == "unmap" else ""}{start} {length}'
        if kind not in self.can:
            return None
        start, length = self.range(self.unit, 3 * self.unit if kind == 'discard' else self.unit)
        if start % self.unit or length % self.unit:
            return None
        if kind == 'discard':
            self.data[start:start + length] = bytes(length)
            return f'discard {start} {length}'
        if tool is QEMU:
            return None  # it does not pack what is allocated already
        length = self.unit
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
            run(tool['io'], '-d', 'unmap', '-f', self.kind.name, *args, self.path)

    def resize(self, tool):
        size = len(self.data) + self.rng.choice((512, 4096, 65536 * 3 + 512, 1 << 20))
        if 'resize' not in self.can:
            return
        run(tool['img'], 'resize', '-q', '-f', self.kind.name, self.path, str(size))
        self.data += bytes(size - len(self.data))

    def verify(self, folder):
        for tool in (OURS, QEMU):
            check(tool, self.kind.name, self.path)
            raw = os.path.join(folder, 'out.raw')
            run(tool['img'], 'convert', '-f', self.kind.name, '-O', 'raw', self.path, raw)
            with open(raw, 'rb') as f:
                found = f.read()
            os.unlink(raw)
            if found == self.data:
                continue
            at = next((i for i, (a, b) in enumerate(zip(found, self.data)) if a != b), min(len(found), len(self.data)))
            raise Failure(f'{tool["name"]} reads {os.path.basename(self.path)} ({",".join(self.options)}) wrongly: '
                          f'{len(found)} bytes instead of {len(self.data)}, first difference at {at}')


def pack(kind, rng, tools, image, folder, number):
    packed = os.path.join(folder, f'{number}-packed.{kind.name}')
    writer = rng.choice(tools)
    options = kind.packs(rng, image.unit)
    run(writer['img'], 'convert', '-c', '-O', kind.name, *(['-o', ','.join(options)] if options else []), image.path,
        packed)
    copy = Image(kind, rng, packed, 0, None)
    copy.data, copy.options = image.data, [f'packed by {writer["name"]}', *options]
    copy.verify(folder)


def one_case(kind, number, folder):
    rng = random.Random(SEED * 1000003 + number)
    tools = [OURS, QEMU]
    backing = None
    for depth in range(rng.choice((1, 1, 2, 3)) if kind.chains else 1):
        size = max(kind.least, rng.randrange(1, kind.most) // 512 * 512)
        image = Image(kind, rng, os.path.join(folder, f'{number}-{depth}.{kind.name}'), size, backing)
        image.create(rng.choice(tools))
        for _ in range(rng.randrange(1, 4)):
            image.write(rng.choice(tools), rng.randrange(1, 9))
            if rng.random() < .25:
                image.resize(rng.choice(tools))
        image.verify(folder)
        backing = image
    if kind.packs:
        pack(kind, rng, tools, image, folder, number)


def reported_case(kind, number, place):
    """True unless image @number of the format was read wrongly."""
    folder = tempfile.mkdtemp(prefix='tenon-interchange-')
    try:
        one_case(kind, number, folder)
        print(f'ok {place} - {kind.name} image {number}', flush=True)
    except (Failure, subprocess.TimeoutExpired) as why:
        print(f'not ok {place} - {kind.name} image {number} (seed {SEED})')
        print('\n'.join('# ' + line for line in str(why).splitlines()), flush=True)
        if os.environ.get('INTERCHANGE_KEEP'):
            print(f'# kept in {folder}', flush=True)
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def is_built(kind):
    result = subprocess.run([OURS['img'], 'create', '-f', kind.name, '-o', 'help'], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, check=False)
    return result.returncode == 0


def main():
    for program in (OURS['img'], OURS['io'], QEMU['img'], QEMU['io']):
        if not shutil.which(program):
            print(f'1..0 # SKIP {program} is missing (Debian: qemu-utils)')
            return 0
    unknown = set(sys.argv[1:]) - {kind.name for kind in FORMATS}
    if unknown:
        sys.exit(f'interchange.py: not in the table: {" ".join(sorted(unknown))}')
    kinds = [kind for kind in FORMATS if (not sys.argv[1:] or kind.name in sys.argv[1:]) and is_built(kind)]
    cases = [(kind, number) for kind in kinds for number in range(COUNT or kind.count)]
    print(f'1..{len(cases)}', flush=True)
    results = [reported_case(kind, number, place) for place, (kind, number) in enumerate(cases, 1)]
    return 0 if all(results) else 1


if __name__ == '__main__':
    sys.exit(main())
