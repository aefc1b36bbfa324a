#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""convert --in-place, with the power cut at every operation.

A conversion runs with tests/crash/record.c preloaded.  The order of what it did is checked, and for every cut the
image is put as the cut leaves it: before the journal has its name, as it was; after that, with all, some, or some
torn operations since the last sync.  The next attempt must then find the new image with the old contents."""
import os
import sys

from inplace import (FORMATS, IMG, JOURNAL, RNG, SECTOR, expect, for_each_pair, look, make_pair, options, put_sparse,
                     record, run)


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


def link_journal(log, image):
    if not os.path.exists(image + JOURNAL):
        os.link(log + '.unlinked', image + JOURNAL)


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
    disk, original, command = make_pair(folder, source, target)
    image, log = os.path.join(folder, 's.img'), os.path.join(folder, 'log')
    with open(original, 'rb') as one:
        put_sparse(image, one.read())
    status, text = run(*command, image, env=record(image, log))
    expect(status == 0, text)
    steps = parse(log)
    begin, end = check_order(steps, original, log)
    return f'{cut(folder, steps, begin, end, original, disk, source, target, log)} operations'


if __name__ == '__main__':
    sys.exit(for_each_pair(pair))
