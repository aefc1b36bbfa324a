# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of filters: commands for tenon-io, and the same for qemu-io.  Imported."""
import os
import re
import shutil
import subprocess
from imgtest import IMG, finish, skip, verdict  # noqa: F401: for those who import this

TENON_IO = os.path.join(os.path.dirname(IMG), 'tenon-io')
QEMU_IO = shutil.which('qemu-io')
QEMU_IMG = shutil.which('qemu-img')
counts = {'files': 0}


def image(name, form='raw', size=1 << 20):
    subprocess.run([IMG, 'create', '-q', '-f', form, name, str(size)], check=True)
    return name


def config(text):
    counts['files'] += 1
    name = f'rules{counts["files"]}'
    with open(name, 'w') as file:
        file.write(text)
    return name


def io(args, commands, tool=None, status=None):
    command = [tool or TENON_IO] + args
    for one in commands:
        command += ['-c', one]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    if status is not None:
        status.append(done.returncode)
    if done.returncode < 0:
        return f'killed by signal {-done.returncode}\n' + done.stdout.decode()
    return done.stdout.decode()


def results(out):
    """What became of each transfer: its line, or the reason of the failure (qemu-io tells of no flush that failed)."""
    lines = []
    for line in out.splitlines():
        if re.match(r'(read|wrote|discard) \d+/\d+', line) or 'verification failed' in line:
            lines.append(line)
        elif ' failed: ' in line:
            lines.append(line.split(' failed: ')[1])
    return lines


def fails(out):
    return [' failed: ' in line for line in out.splitlines() if ' failed: ' in line or re.match(r'(read|wrote) ', line)]


def same_results(name, args, commands):
    """Each tool begins with the same disk."""
    if not QEMU_IO:
        skip(name, 'qemu-io is not installed (qemu-utils)')
        return
    disk = [word for word in ' '.join(args).replace('=', ' ').replace(':', ' ').replace(',', ' ').split()
            if os.path.exists(word) and word.startswith('disk')]
    before = {one: open(one, 'rb').read() for one in disk}
    ours = io(args, commands)
    after = {one: open(one, 'rb').read() for one in disk}
    for one in disk:
        with open(one, 'wb') as file:
            file.write(before[one])
    theirs = io(args, commands, QEMU_IO)
    same = results(ours) == results(theirs) and after == {one: open(one, 'rb').read() for one in disk}
    verdict(same and results(ours) != [], name, f'ours:\n{ours}\nqemu-io:\n{theirs}')


def refused(name, args):
    status = []
    out = io(args, ['read 0 512'], status=status)
    verdict(status[0] > 0 and 'read 512' not in out and out.strip() != '', f'refused: {name}', out)
