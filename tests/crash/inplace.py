# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of interrupted in-place conversions share."""
import os
import random
import subprocess
import tempfile

TOP = os.path.abspath(os.environ.get('TN_BUILD_DIR') or os.path.join(os.path.dirname(__file__), '..', '..', 'build'))
IMG = os.path.join(TOP, 'bin', 'tenon-img')
RECORD = os.path.join(TOP, 'tests', 'crash', '.libs', 'librecord.so')
SEED = int(os.environ.get('TENON_CRASH_SEED', '1'))
RNG = random.Random(SEED)
JOURNAL = '.tenon-convert'
SECTOR, MIB = 512, 1 << 20
FORMATS = {
    'raw': '', 'qcow2': 'cluster_size=64k', 'qed': '', 'vmdk': '', 'vhdx': 'block_size=1M', 'vdi': '',
    'parallels': 'cluster_size=64k', 'vpc': 'subformat=fixed,force_size=on',
}


def run(*args, env=None):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, env=env)
    return done.returncode, (done.stdout + done.stderr).decode('utf-8', 'replace')


def expect(good, why):
    if not good:
        raise AssertionError(why)


def make_disk(path):
    """Few pieces, so that a conversion is short; the first and the last sector among them."""
    size = RNG.randrange(5, 9) * MIB // 2 + RNG.randrange(0, 3) * SECTOR
    with open(path, 'wb') as out:
        out.truncate(size)
        for at in [0, size - 700] + [RNG.randrange(0, size - 70000) for _ in range(4)]:
            out.seek(at)
            out.write(RNG.randbytes(min(RNG.choice((700, 5000, 66000)), size - at)))
    return path


def options(text):
    return ['-o', text] if text else []


def put_sparse(path, data):
    if os.path.exists(path):
        os.unlink(path)
    with open(path, 'wb') as out:
        out.truncate(len(data))
        for at in range(0, len(data), 4096):
            if any(data[at:at + 4096]):
                out.seek(at)
                out.write(data[at:at + 4096])


def look(image, disk, target, how):
    """What the next user finds."""
    if os.path.exists(image + JOURNAL):
        status, text = run(IMG, 'info', image)
        expect(status == 1 and 'convert --in-place' in text, f'opened read-only in between: {text}')
        again = ['-O', target] if how else []
        status, text = run(IMG, 'convert', '--in-place', *again, image)
        expect(status == 0, text)
    expect(not os.path.exists(image + JOURNAL), 'the journal is still there')
    expect(not os.path.exists(image + JOURNAL + '.new'), 'the folder of the shadow is still there')
    status, text = run(IMG, 'compare', '-f', 'raw', '-F', target, disk, image)
    expect(status == 0, text)


def record(image, log, **more):
    """The environment in which what is done to @image is recorded."""
    asan = ':'.join(filter(None, (os.environ.get('ASAN_OPTIONS'), 'verify_asan_link_order=0')))
    return dict(os.environ, ASAN_OPTIONS=asan, LD_PRELOAD=RECORD, TENON_RECORD_FILE=image, TENON_RECORD_LOG=log, **more)


def make_pair(folder, source, target):
    """A disk, and the same in the old format; the command that converts it."""
    disk = make_disk(os.path.join(folder, 'disk.raw'))
    original = os.path.join(folder, 'original.img')
    status, text = run(IMG, 'convert', '-f', 'raw', '-O', source, *options(FORMATS[source]), disk, original)
    expect(status == 0, text)
    command = [IMG, 'convert', '--in-place', '-f', source, '-O', target, *options(FORMATS[target])]
    return disk, original, command


def for_each_pair(test):
    """TAP, one line a pair; @test takes a folder and the two formats and returns what it did."""
    if not os.access(RECORD, os.R_OK):
        print(f'1..0 # SKIP {RECORD} has not been built')
        return 0
    only = os.environ.get('TENON_CRASH_ONLY')
    pairs = [(a, b) for a in FORMATS for b in FORMATS if a != b and only in (None, a, b, f'{a}/{b}')]
    print(f'1..{len(pairs)}', flush=True)
    failed = 0
    for number, (source, target) in enumerate(pairs, 1):
        with tempfile.TemporaryDirectory(prefix='tenon-cut.') as folder:
            try:
                done = test(os.path.realpath(folder), source, target)
                print(f'ok {number} - {source} to {target}: {done}', flush=True)
            except AssertionError as fault:
                failed += 1
                print(f'not ok {number} - {source} to {target}, seed {SEED}', flush=True)
                print('# ' + str(fault).strip().replace('\n', '\n# '), flush=True)
    return 1 if failed else 0
