#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""convert --in-place, with the power cut at every operation.

A conversion runs with tests/crash/record.c preloaded.  The order of what it did is checked, and for every cut the
image is put as the cut leaves it: before the journal has its name, as it was; after that, with all, some, or some
torn operations since the last sync.  The next attempt must then find the new image with the old contents."""
import os
import random
import subprocess
import sys
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


def parse(log):
    """(operation, name, numbers or second name, bytes) one by one."""
    with open(log, 'rb') as source:
        text = source.read()
    at, steps = 0, []
    while at < len(text):
        end = text.index(b'\n', at)
        words = text[at:end].decode().split(' ')
        at, data = end + 1, None
        if words[0] == 'write':
            data = text[at:at + int(words[3])]
            at += len(data)
        steps.append((words[0], words[1], words[2:], data))
    return steps


def check_order(steps, original, log):
    """The journal is whole and has its name before the image changes; the image is whole before the journal goes."""
    renames = [i for i, step in enumerate(steps) if step[0] == 'rename']
    unlinks = [i for i, step in enumerate(steps) if step[:2] == ('unlink', JOURNAL)]
    expect(len(renames) == 1 and len(unlinks) == 1, 'there is not one rename and one unlink')
    begin, end = renames[0], unlinks[0]
    shadow = steps[begin][1]
    of_shadow = [step for step in steps[:begin] if step[1] == shadow]
    expect(of_shadow[-1][0] == 'sync', 'the journal is named before it is synced')
    expect(steps[begin + 1][:2] == ('sync', '/'), 'the name of the journal is not synced at once')
    changes = ('write', 'truncate', 'punch', 'zero')
    expect(not any(step[0] in changes and step[1] == '-' for step in steps[:begin]), 'the image changed too early')
    with open(log + '.before', 'rb') as one, open(original, 'rb') as two:
        expect(one.read() == two.read(), 'the image changed before the journal had its name')
    of_image = [i for i, step in enumerate(steps) if step[1] == '-' and step[0] in changes]
    expect(all(begin + 1 < i < end for i in of_image), 'the image changed at the wrong time')
    syncs = [i for i, step in enumerate(steps[:end]) if step[:2] == ('sync', '-')]
    expect(syncs and (not of_image or syncs[-1] > of_image[-1]), 'the journal goes before the image is synced')
    return begin, end


def apply(image, step, torn):
    what, _, numbers, data = step
    if what == 'truncate':
        length = int(numbers[0])
        del image[length:]
        image.extend(bytes(length - len(image)))
    elif what in ('punch', 'zero'):
        first, last = int(numbers[0]), min(int(numbers[0]) + int(numbers[1]), len(image))
        image[first:last] = bytes(max(last - first, 0))
    elif what == 'write':
        offset = int(numbers[0])
        for at in range(0, len(data), SECTOR):
            if torn and RNG.randrange(2):
                continue
            part = data[at:at + SECTOR]
            if len(image) < offset + at + len(part):
                image.extend(bytes(offset + at + len(part) - len(image)))
            image[offset + at:offset + at + len(part)] = part


def put_sparse(path, data):
    if os.path.exists(path):
        os.unlink(path)
    with open(path, 'wb') as out:
        out.truncate(len(data))
        for at in range(0, len(data), 4096):
            if any(data[at:at + 4096]):
                out.seek(at)
                out.write(data[at:at + 4096])


def link_journal(log, image):
    if not os.path.exists(image + JOURNAL):
        os.link(log + '.unlinked', image + JOURNAL)


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


def cut(folder, steps, begin, end, original, disk, source, target, log):
    image = os.path.join(folder, 'cut.img')
    with open(original, 'rb') as source_file:
        before = source_file.read()
    put_sparse(image, before)
    status, text = run(IMG, 'compare', '-f', 'raw', '-F', source, disk, image)
    expect(status == 0, f'before the rename: {text}')
    stale = image + JOURNAL + '.new'
    os.mkdir(stale)
    put_sparse(os.path.join(stale, 'cut.img'), RNG.randbytes(5000))
    status, text = run(IMG, 'convert', '--in-place', '-f', source, '-O', target, *options(FORMATS[target]), image)
    expect(status == 0 and not os.path.exists(stale), f'a new attempt after a cut before the rename: {text}')
    look(image, disk, target, False)
    of_image = [step for step in steps[begin + 2:end] if step[1] == '-' and step[0] != 'allocate']
    for at in range(len(of_image) + 1):
        if at and of_image[at - 1][0] == 'sync' and at < len(of_image):
            continue
        for way in (RNG.choice(('all', 'some', 'torn', 'torn')),):
            now = bytearray(before)
            for step in of_image[:at]:
                if way == 'all' or RNG.randrange(4) > 0:
                    apply(now, step, way == 'torn' and RNG.randrange(2))
            put_sparse(image, now)
            link_journal(log, image)
            os.mkdir(stale)
            try:
                look(image, disk, target, RNG.randrange(2))
            except AssertionError as fault:
                raise AssertionError(f'cut at {at} of {len(of_image)}, {way}: {fault}') from None
    status, text = run(IMG, 'check', '-f', target, image)
    expect(status in (0, 3, 63), f'check: {text}')
    return len(of_image)


def pair(folder, source, target):
    disk = make_disk(os.path.join(folder, 'disk.raw'))
    image, original, log = (os.path.join(folder, name) for name in ('s.img', 'original.img', 'log'))
    status, text = run(IMG, 'convert', '-f', 'raw', '-O', source, *options(FORMATS[source]), disk, original)
    expect(status == 0, text)
    with open(original, 'rb') as one:
        put_sparse(image, one.read())
    env = dict(os.environ, LD_PRELOAD=RECORD, TENON_RECORD_FILE=image, TENON_RECORD_LOG=log)
    status, text = run(IMG, 'convert', '--in-place', '-f', source, '-O', target, *options(FORMATS[target]), image,
                       env=env)
    expect(status == 0, text)
    steps = parse(log)
    begin, end = check_order(steps, original, log)
    return cut(folder, steps, begin, end, original, disk, source, target, log)


def main():
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
                cuts = pair(os.path.realpath(folder), source, target)
                print(f'ok {number} - {source} to {target}: {cuts} operations', flush=True)
            except AssertionError as fault:
                failed += 1
                print(f'not ok {number} - {source} to {target}, seed {SEED}', flush=True)
                print('# ' + str(fault).strip().replace('\n', '\n# '), flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
