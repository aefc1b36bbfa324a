#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""convert --in-place, with an error at an operation.

A conversion runs with tests/crash/record.c preloaded, which lets one operation fail: a write, a change of the size,
a sync, a rename, a removal, of the image or of what is made beside it.  The image is then as it was, or wholly the
new one, or it has a journal and the next attempt finishes it.  Requests go through libc, not through io_uring.
TENON_CRASH_FAULTS says how many operations are tried a pair (0: each of them)."""
import os
import sys

from inplace import (FORMATS, IMG, JOURNAL, RNG, expect, for_each_pair, look, make_pair, options, put_sparse, record, run)

FAULTS = int(os.environ.get('TENON_CRASH_FAULTS', '4'))


def reads_as(image, form, disk):
    return run(IMG, 'compare', '-f', 'raw', '-F', form, disk, image)[0] == 0


def judge(image, before, disk, source, target, done):
    status, text = done
    if os.path.exists(image + JOURNAL):
        expect(status == 1, f'a conversion that is not finished ended with {status}: {text}')
        look(image, disk, target, RNG.randrange(2))
        return
    leftover = image + JOURNAL + '.new'
    if status == 0:
        expect(reads_as(image, target, disk), f'it said that it was done: {text}')
        expect(not os.path.exists(leftover), 'the folder of the shadow is still there')
        return
    expect(status == 1 and text.startswith('tenon-img: ') and text.count('\n') == 1, f'status {status}: {text}')
    with open(image, 'rb') as now:
        untouched = now.read() == before
    expect(untouched or reads_as(image, target, disk), f'neither the old image nor the new one: {text}')
    if not untouched:
        return
    status, text = run(IMG, 'convert', '--in-place', '-f', source, '-O', target, *options(FORMATS[target]), image)
    expect(status == 0 and not os.path.exists(leftover), f'the next attempt: {text}')
    expect(reads_as(image, target, disk), 'the next attempt made something else')


def attempt(folder, number, before, disk, command, source, target):
    """Whether there was an operation of that number."""
    image, log = os.path.join(folder, 'fault.img'), os.path.join(folder, 'log')
    for path in (image + JOURNAL, log + '.failed'):
        if os.path.exists(path):
            os.unlink(path)
    put_sparse(image, before)
    done = run(*command, image, env=record(image, log, TENON_RECORD_FAIL=str(number), TENON_LOOP='epoll'))
    if not os.path.exists(log + '.failed'):
        expect(done[0] == 0, done[1])
        return False
    try:
        judge(image, before, disk, source, target, done)
    except AssertionError as fault:
        raise AssertionError(f'error at operation {number} ({done[1].strip()}): {fault}') from None
    return True


def count(folder, before, *rest):
    """How many operations there are, by halves."""
    low, high = 0, 1
    while attempt(folder, high, before, *rest):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attempt(folder, middle, before, *rest) else (low, middle)
    return low


def pair(folder, source, target):
    disk, original, command = make_pair(folder, source, target)
    with open(original, 'rb') as one:
        before = one.read()
    rest = (disk, command, source, target)
    total = count(folder, before, *rest)
    tried = range(1, total + 1) if FAULTS == 0 else sorted(RNG.sample(range(1, total + 1), min(FAULTS, total)))
    for number in tried:
        attempt(folder, number, before, *rest)
    return f'{len(tried)} of {total} operations'


if __name__ == '__main__':
    sys.exit(for_each_pair(pair))
