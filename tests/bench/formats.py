# SPDX-License-Identifier: LGPL-2.1-or-later
"""The group "formats" of bench.py: each image format and each tenon-img command against qemu-img.  Imported.

Every image lies in memory-backed storage and is written by QEMU; those of formats that QEMU can't write are made here,
and those of luks by Tenon, since QEMU can't be told to spend no time on the key."""
import os
import random
import shutil
import subprocess
import tempfile

from foreign import make_bochs, make_cloop, make_dmg
from harness import MIB, run

SIZE = 256 * MIB        # of the disks that are converted
PACKED_SIZE = 48 * MIB  # of those that are compressed: QEMU takes seconds for these
BOCHS_SIZE = 8 * MIB    # QEMU reads bochs images sector by sector

# Images whose units lie in scattered order: format, unit, options, MiB of the disk.
SCATTERED = (('qcow2', 4096, 'cluster_size=4096', 384), ('qed', 65536, '', 2048), ('vmdk', 65536, '', 2048),
             ('vdi', MIB, '', 1024), ('vhdx', MIB, 'block_size=1M', 16384), ('parallels', 65536, 'cluster_size=65536', 2048))
SECRET = ['--object', 'secret,id=s,data=bench']
LUKS = 'driver=luks,key-secret=s,file.filename='

# Name: -O, options, whether the format is compressed as it is written.
WRITABLE = {'raw': ('raw', '', False), 'qcow2': ('qcow2', '', False), 'qcow': ('qcow', '', False), 'qed': ('qed', '', False),
            'vmdk sparse': ('vmdk', 'subformat=monolithicSparse', False),
            'vmdk flat': ('vmdk', 'subformat=monolithicFlat', False),
            'vmdk streamOptimized': ('vmdk', 'subformat=streamOptimized', True),
            'vdi': ('vdi', '', False), 'vhdx': ('vhdx', '', False), 'vpc dynamic': ('vpc', 'subformat=dynamic', False),
            'vpc fixed': ('vpc', 'subformat=fixed', False), 'parallels': ('parallels', '', False)}


def mixed_data(path, size, seed):
    """Data that does not compress, text that does, zeroes that are stored and holes, in areas of 64 KiB to 4 MiB."""
    rng = random.Random(seed)
    words = [''.join(rng.choices('etaoinshrdlu', k=rng.randrange(1, 11))) for _ in range(4000)]
    text = ' '.join(rng.choices(words, k=700000)).encode()[:4 * MIB]
    with open(path, 'wb') as out:
        out.truncate(size)
        while out.tell() < size:
            length = min(rng.choice((1, 2, 4, 16, 32, 64)) << 16, size - out.tell())
            kind = rng.random()
            if kind < .4:
                out.write(rng.randbytes(length))
            elif kind < .65:
                at = rng.randrange(len(text))
                out.write((text[at:] + text)[:length])
            elif kind < .8:
                out.write(bytes(length))
            else:
                out.seek(length, 1)


class Formats:
    """The images that the cases share."""

    def __init__(self, bench, only):
        self.bench, self.only = bench, only
        self.target = bench.path('target')
        self.raw, self.small = bench.path('mixed.raw'), bench.path('small.raw')
        mixed_data(self.raw, SIZE, 1)
        mixed_data(self.small, PACKED_SIZE, 2)

    def theirs(self, *words):
        run([self.bench.theirs('qemu-img'), *words])

    def made(self, name, raw, fmt, options='', *more):
        """An image that QEMU converts from a raw one, once."""
        path = self.bench.path(name)
        if not os.path.exists(path):
            self.theirs('convert', '-f', 'raw', '-O', fmt, *(['-o', options] if options else []), *more, raw, path)
        return path

    def clear(self):
        for name in os.listdir(self.bench.folder):
            if name.startswith('target'):
                os.unlink(self.bench.path(name))

    def case(self, name, words, their_words=None, before=None, runs=None):
        """One command line for both programs."""
        if self.only not in name:
            return None
        return self.bench.pair(name, [self.bench.ours('tenon-img'), *words],
                               [self.bench.theirs('qemu-img'), *(their_words or words)], before or self.clear,
                               runs or min(self.bench.runs, 5))

    # ---- Converting

    def read_all(self):
        self.bench.timing_title('Reading all of an image: convert to raw (%d MiB; packed formats %d MiB)'
                                % (SIZE // MIB, PACKED_SIZE // MIB))
        for name, (fmt, options, packed) in WRITABLE.items():
            source = self.made(name.replace(' ', '-') + '.' + fmt, self.small if packed else self.raw, fmt, options)
            self.case('read ' + name, ['convert', '-f', fmt, '-O', 'raw', source, self.target])
        luks = self.bench.path('mixed.luks')
        self.new_luks('convert', '-f', 'raw', '-O', 'luks', self.raw, luks)
        self.case('read luks', ['convert', *SECRET, '--image-opts', LUKS + luks, '-O', 'raw', self.target])
        for name, make in (('dmg', make_dmg), ('cloop', make_cloop)):
            if self.only in 'read ' + name:
                make(self.small, self.bench.path('small.' + name))
                self.case('read ' + name, ['convert', '-f', name, '-O', 'raw', self.bench.path('small.' + name), self.target])
        if self.only in 'read bochs':
            mixed_data(self.target, BOCHS_SIZE, 3)
            make_bochs(self.target, self.bench.path('small.bochs'), BOCHS_SIZE)
            self.case('read bochs', ['convert', '-f', 'bochs', '-O', 'raw', self.bench.path('small.bochs'), self.target], runs=2)

    def write_all(self):
        self.bench.timing_title('Writing all of an image: convert from raw')
        for name, (fmt, options, packed) in WRITABLE.items():
            more = ['-o', options] if options else []
            self.case('write ' + name, ['convert', '-f', 'raw', '-O', fmt, *more, self.small if packed else self.raw, self.target])
        self.case('write luks', ['convert', '-n', *SECRET, '-f', 'raw', '--target-image-opts', self.raw, LUKS + self.target],
                  before=self.empty_luks)

    def new_luks(self, command, *words):
        run([self.bench.ours('tenon-img'), command, *SECRET, '-o', 'key-secret=s,iter-time=10', *words])

    def empty_luks(self):
        self.clear()
        self.new_luks('create', '-q', '-f', 'luks', self.target, str(SIZE))

    def repack(self):
        self.bench.timing_title('qcow2 to qcow2, and compressed')
        plain = self.made('qcow2.qcow2', self.raw, 'qcow2')
        self.case('qcow2 to qcow2', ['convert', '-f', 'qcow2', '-O', 'qcow2', plain, self.target])
        for kind in ('zlib', 'zstd'):
            options = 'compression_type=' + kind
            packed = self.made(kind + '.qcow2', self.small, 'qcow2', options, '-c')
            self.case('write qcow2 ' + kind, ['convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, self.small, self.target],
                      runs=3)
            self.case('read qcow2 ' + kind, ['convert', '-f', 'qcow2', '-O', 'raw', packed, self.target])

    # ---- Comparing, checking, mapping

    def compare(self):
        self.bench.timing_title('compare')
        plain = self.made('qcow2.qcow2', self.raw, 'qcow2')
        twin = self.bench.path('twin.raw')
        shutil.copyfile(self.raw, twin)
        self.case('compare raw, raw', ['compare', '-f', 'raw', '-F', 'raw', self.raw, twin])
        self.case('compare raw, qcow2', ['compare', '-f', 'raw', '-F', 'qcow2', self.raw, plain])
        self.case('compare qcow2, vhdx', ['compare', '-f', 'qcow2', '-F', 'vhdx', plain, self.made('vhdx.vhdx', self.raw, 'vhdx')])
        os.unlink(twin)

    def scattered(self, fmt, unit, options, size):
        """An image whose units were written one by one, in an order that a prime number scatters."""
        path = self.bench.path('scattered.' + fmt)
        self.theirs('create', '-q', '-f', fmt, *(['-o', options] if options else []), path, '%dM' % size)
        count = size * MIB // unit
        write = ['bench', '-q', '-w', '-f', fmt, '-t', 'unsafe', '-s', '4096', '-d', '32', '-S', str(unit * 1021)]
        self.theirs(*write, '-c', str(count), path)
        if fmt == 'qcow2':   # three snapshots, a quarter of the clusters rewritten after each
            for name in 'abc':
                self.theirs('snapshot', '-c', name, path)
                self.theirs(*write, '-c', str(count // 4), '-o', str(unit * 77 * ord(name)), path)
        return path

    def check(self):
        self.bench.timing_title('check, map and measure of images whose units were written in scattered order '
                                '(qcow2: 4 KiB clusters, three snapshots)')
        for fmt, unit, options, size in SCATTERED:
            if not any(self.only in '%s scattered %s' % (what, fmt) for what in ('check', 'map', 'measure', 'info')):
                continue
            path = self.scattered(fmt, unit, options, size)
            self.case('check scattered ' + fmt, ['check', '-f', fmt, path], runs=2 if fmt == 'qcow2' else None)
            if fmt in ('qcow2', 'qed', 'vmdk'):   # QEMU has no map of the others or gives another one
                self.case('map scattered ' + fmt, ['map', '-f', fmt, '--output=json', path])
            if fmt == 'qcow2':
                self.case('measure scattered qcow2', ['measure', '-f', 'qcow2', '-O', 'qcow2', path])
                self.case('info scattered qcow2', ['info', '-f', 'qcow2', path])
            os.unlink(path)

    # ---- In place

    def fresh_copy(self, source):
        def copy():
            self.clear()
            subprocess.run(['cp', '--sparse=always', source, self.bench.path('target.image')], check=True)
        return copy

    def in_place(self):
        self.bench.timing_title('convert --in-place against copying')
        written = []
        for a, b in (('raw', 'qcow2'), ('raw', 'vdi'), ('raw', 'vhdx'), ('qcow2', 'raw'), ('qcow2', 'vhdx'), ('vdi', 'qcow2')):
            source = self.raw if a == 'raw' else self.made('%s.%s' % (a, a), self.raw, a)
            image, name = self.bench.path('target.image'), 'in place, %s to %s' % (a, b)
            result = self.case(name, ['convert', '--in-place', '-q', '-f', a, '-O', b, image],
                               ['convert', '-q', '-f', a, '-O', b, image, self.target], before=self.fresh_copy(source))
            if result:
                written.append((name, *('%.1f MiB' % (max(u.written for u in side) / MIB) for side in result)))
        if written:
            self.bench.table.title('Bytes written by them', ['case', 'ours', 'QEMU'])
        for row in written:
            self.bench.table.row(*row)

    # ---- Against cp

    def beside_cp(self, name, source):
        if self.only in name:
            self.bench.pair(name, [self.bench.ours('tenon-img'), 'convert', '-f', 'raw', '-O', 'raw', source, self.target],
                            ['cp', '--sparse=always', source, self.target], self.clear, min(self.bench.runs, 5))

    def sparse(self):
        self.bench.timing_title('raw to raw against cp --sparse=always', 'cp')
        holes, zeroes = self.bench.path('holes.raw'), self.bench.path('zeroes.raw')
        with open(holes, 'wb') as out:
            out.truncate(64 << 30)
            for n in range(64):   # an island of 64 KiB in each GiB
                out.seek((n << 30) + 12345 * 4096)
                out.write(random.Random(n).randbytes(65536))
        with open(zeroes, 'wb') as out:
            for _ in range(SIZE // MIB):
                out.write(bytes(MIB))
        self.beside_cp('cp: 64 GiB of holes', holes)
        self.beside_cp('cp: %d MiB of stored zeroes' % (SIZE // MIB), zeroes)
        self.beside_cp('cp: mixed data', self.raw)
        os.unlink(holes)
        os.unlink(zeroes)

    # ---- Reflinks

    def reflink(self):
        if self.only not in 'reflink':
            return
        self.bench.timing_title('On a file system with reflinks')
        why = self.on_reflink_fs(self.reflink_cases)
        if why:
            self.bench.table.note('reflinks: skipped, ' + why)

    def reflink_cases(self, folder):
        source, target = os.path.join(folder, 'source.raw'), os.path.join(folder, 'target')
        shutil.copyfile(self.raw, source)
        self.theirs('convert', '-f', 'raw', '-O', 'qcow2', self.raw, source + '.qcow2')
        remove = lambda: os.path.exists(target) and os.unlink(target)
        for a, b, path in (('raw', 'raw', source), ('raw', 'qcow2', source), ('qcow2', 'raw', source + '.qcow2')):
            self.case('reflink %s to %s' % (a, b), ['convert', '-f', a, '-O', b, path, target], before=remove)

    def on_reflink_fs(self, cases):
        """Calls @cases with a folder of a small btrfs in a file; or returns why not."""
        if os.geteuid() != 0 or not shutil.which('mkfs.btrfs'):
            return 'making one takes root and mkfs.btrfs'
        image = self.bench.path('btrfs')
        with open(image, 'wb') as out:
            out.truncate(2 << 30)
        subprocess.run(['mkfs.btrfs', '-q', image], check=True, stdout=subprocess.DEVNULL)
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(['mount', '-o', 'loop', image, folder], check=False, stderr=subprocess.PIPE)
            if result.returncode != 0:
                return 'mount says ' + result.stderr.decode(errors='replace').strip()
            try:
                cases(folder)
            finally:
                subprocess.run(['umount', folder], check=True)
                os.unlink(image)
        return ''


def formats(bench):
    bench.ratios.clear()
    group = Formats(bench, bench.only)
    group.read_all()
    group.write_all()
    group.repack()
    group.compare()
    group.check()
    group.in_place()
    group.reflink()
    against_qemu = len(bench.ratios)
    group.sparse()
    for title, ratios in (('Formats against QEMU', bench.ratios[:against_qemu]), ('Raw against cp', bench.ratios[against_qemu:])):
        if ratios:
            bench.summary(title, ratios)
