# SPDX-License-Identifier: LGPL-2.1-or-later
"""The group "random" of bench.py: small scattered reads.  Imported."""
import os
import shutil
import tempfile

from harness import MIB, run


def random_group(bench):
    """Reads through the host's page cache, past it (O_DIRECT), and of files in memory."""
    with tempfile.TemporaryDirectory(prefix='tenon-bench.', dir=bench.disk) as disk:
        images = random_images(bench, disk)
        in_memory = [(kind, shutil.copy(path, bench.folder)) for kind, path in images]
        bench.timing_title('4 KiB reads, scattered by a step of 5 MiB + 4 KiB')
        for kind, path in images:
            for depth, engine in ((1, 'io_uring'), (1, 'threads'), (64, 'io_uring'), (64, 'threads')):
                reads(bench, '%s on disk' % kind, kind, path, depth, engine, 'writeback')
        for kind, path in images:
            reads(bench, '%s on disk, O_DIRECT' % kind, kind, path, 64, 'io_uring', 'none')
        for kind, path in in_memory:
            for depth in (1, 64):
                reads(bench, '%s in memory' % kind, kind, path, depth, 'io_uring', 'writeback')


def random_images(bench, folder):
    raw = bench.source_image()
    images = []
    for kind in ('raw', 'qcow2'):
        path = os.path.join(folder, 'random.' + kind)
        run([bench.theirs('qemu-img'), 'convert', '-S', '0', '-O', kind, raw, path])
        images.append((kind, path))
    return images


def reads(bench, name, kind, path, depth, engine, cache):
    count = 200000 if depth == 64 and cache != 'none' else 50000
    arguments = ['bench', '-f', kind, '-c', str(count), '-d', str(depth), '-s', '4096', '-S', str(5 * MIB + 4096),
                 '-t', cache, '-i', engine, path]
    bench.pair('%s, depth %d, %s' % (name, depth, engine), [bench.ours('tenon-img')] + arguments,
              [bench.theirs('qemu-img')] + arguments, runs=min(bench.runs, 5))
