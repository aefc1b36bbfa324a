# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of read-only and packed formats in Python: TAP output, a scratch folder, tenon-img.  Imported.

A test makes its images itself, from the published layout of the format, and compares what tenon-img reads with
what went in.  IMGTEST_SEED says where random numbers begin, IMGTEST_KEEP=1 keeps the files."""
import atexit
import os
import random
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get('TN_BUILD_DIR') or os.path.join(os.path.dirname(__file__), '..', '..', 'build')
IMG = os.path.abspath(os.environ.get('TENON_IMG', os.path.join(TOP, 'bin', 'tenon-img')))
RNG = random.Random(int(os.environ.get('IMGTEST_SEED', '1')))
SCRATCH = tempfile.mkdtemp(prefix='tenon-img.', dir=os.environ.get('TMPDIR', '/tmp'))
counts = {'all': 0, 'failed': 0}

if not os.access(IMG, os.X_OK):
    print(f'1..0 # SKIP tenon-img has not been built: {IMG}')
    sys.exit(0)
os.chdir(SCRATCH)
if os.environ.get('IMGTEST_KEEP') != '1':
    atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)


def verdict(good, name, why=''):
    counts['all'] += 1
    counts['failed'] += not good
    print(f'{"ok" if good else "not ok"} {counts["all"]} - {name}', flush=True)
    if not good and why:
        print('# ' + str(why).strip().replace('\n', '\n# '), flush=True)
    return good


def skip(name, why):
    counts['all'] += 1
    print(f'ok {counts["all"]} - {name} # SKIP {why}', flush=True)


def finish():
    print(f'1..{counts["all"]}')
    sys.exit(1 if counts['failed'] else 0)


def run(*args, **more):
    """Exit status, standard output, standard error."""
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, **more)
    return done.returncode, done.stdout, done.stderr.decode('utf-8', 'replace')


def img(*args):
    return run(IMG, *args)


def is_sanitized():
    """A sanitizer answers this; where a test measures memory, its own is not what is meant."""
    return 'Sanitizer' in run(IMG, '--version', env=dict(os.environ, ASAN_OPTIONS='help=1', TSAN_OPTIONS='help=1'))[2]


def write(path, data):
    with open(path, 'wb') as out:
        out.write(data)
    return path


def read(path):
    with open(path, 'rb') as source:
        return source.read()


def difference(got, wanted):
    if len(got) != len(wanted):
        return f'{len(got)} bytes, not {len(wanted)}'
    at = next((i for i in range(len(got)) if got[i] != wanted[i]), None)
    return '' if at is None else f'byte {at} is {got[at]}, not {wanted[at]}'


def reads_as(name, source, data, *options):
    """tenon-img converts the source (FORMAT, FILE, or options for --image-opts) into these bytes."""
    where = ['-f', source[0], source[1]] if isinstance(source, tuple) else ['--image-opts', source]
    status, _, text = img('convert', *options, *where, '-O', 'raw', 'out.raw')
    why = f'status {status}: {text}' if status else difference(read('out.raw'), bytes(data))
    return verdict(not why, name, why)


def refused(name, text, *args):
    """The command fails with one line on standard error that holds the text."""
    status, _, said = img(*args)
    good = status == 1 and said.count('\n') == 1 and said.startswith('tenon-img: ') and text in said
    return verdict(good, f'refused: {name}', f'status {status}: {said}')


def not_read(name, text, fmt, path):
    return refused(name, text, 'convert', '-f', fmt, path, '-O', 'raw', 'out.raw')


def survives(name, fmt, image, count=150):
    """Damaged at random, the image is read or refused: no signal, no sanitizer report."""
    for number in range(count):
        damaged = bytearray(image)
        for _ in range(RNG.choice((1, 1, 2, 8))):
            at = RNG.randrange(len(damaged))
            damaged[at] = RNG.choice((0, 1, 0x7f, 0x80, 0xff, RNG.randrange(256)))
        if RNG.random() < .2:
            del damaged[RNG.randrange(len(damaged)):]
        path = write('damaged.img', damaged)
        status, _, text = img('convert', '-f', fmt, path, '-O', 'raw', 'out.raw')
        if status not in (0, 1) or 'Sanitizer' in text or 'runtime error' in text:
            return verdict(False, name, f'number {number}: status {status}: {text}')
    return verdict(True, name)


def disk(length, block=4096):
    """Contents as disks have them: zeroes, text that packs well, random bytes."""
    data = bytearray()
    while len(data) < length:
        kind, run_length = RNG.randrange(4), block * RNG.randrange(1, 9)
        if kind == 0:
            data += bytes(run_length)
        elif kind == 1:
            data += RNG.randbytes(run_length)
        else:
            data += (RNG.randbytes(RNG.randrange(1, 300)) * run_length)[:run_length]
    return bytes(data[:length])


def tool(name):
    return shutil.which(name)


def by_qemu(name, fmt, path, data):
    """QEMU reads the same, where it is installed and knows the format."""
    if not tool('qemu-img'):
        return skip(name, 'qemu-img is not installed (qemu-utils)')
    status, _, text = run('qemu-img', 'convert', '-f', fmt, path, '-O', 'raw', 'qemu.raw')
    if status and 'Unknown driver' in text:
        return skip(name, f'qemu-img has no driver {fmt} (qemu-block-extra)')
    if status and 'module is missing' in text:
        return skip(name, f'this qemu-img lacks a codec of {fmt} (qemu-block-extra)')
    why = f'status {status}: {text}' if status else difference(read('qemu.raw'), bytes(data))
    return verdict(not why, name, why)
