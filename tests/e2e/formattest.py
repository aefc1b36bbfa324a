# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of image formats that are written too: TAP output, programs that must succeed or refuse.  Imported.

Each test is a function that gets a folder of its own and raises Failure.  FORMATTEST_KEEP=1 keeps the folders of
failures.  Random images that Tenon and QEMU write in turns are in interchange.py."""
import os
import shutil
import struct
import subprocess
import sys
import tempfile

TOP = os.environ.get('TN_BUILD_DIR') or os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'build')
OURS = {'img': os.environ.get('TENON_IMG', os.path.join(TOP, 'bin', 'tenon-img')),
        'io': os.environ.get('TENON_IO', os.path.join(TOP, 'bin', 'tenon-io')), 'name': 'tenon'}
QEMU = {'img': 'qemu-img', 'io': 'qemu-io', 'name': 'qemu'}


class Failure(Exception):
    """What went wrong, for people."""


def attempt(*args):
    """Exit status and text of a program."""
    result = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                            timeout=120, check=False)
    return result.returncode, result.stdout.decode('utf-8', 'replace')


def run(*args):
    """The text of a program that must succeed."""
    status, text = attempt(*args)
    if status or (os.path.basename(args[0]).endswith('-io') and 'failed' in text):
        raise Failure(f'{" ".join(args)}\nexit status {status}\n{text}')
    return text


def refused(wanted, *args):
    """The program must fail with a text that holds @wanted."""
    status, text = attempt(*args)
    if status == 0 and 'failed' not in text:
        raise Failure(f'{" ".join(args)}\nsucceeded\n{text}')
    expect(wanted in text, f'{" ".join(args)}\nsays not "{wanted}" but\n{text}')


def expect(condition, text):
    if not condition:
        raise Failure(text)


def content(tool, path, fmt):
    """What @tool reads from an image."""
    raw = f'{path}.out'
    run(tool['img'], 'convert', '-f', fmt, '-O', 'raw', path, raw)
    with open(raw, 'rb') as f:
        found = f.read()
    os.unlink(raw)
    return found


def read(path, fmt, offset):
    """A number in a file, as struct spells it."""
    with open(path, 'rb') as f:
        f.seek(offset)
        return struct.unpack(fmt, f.read(struct.calcsize(fmt)))[0]


def patch(path, fmt, offset, value):
    with open(path, 'r+b') as f:
        f.seek(offset)
        f.write(struct.pack(fmt, value))


def whole(path):
    with open(path, 'rb') as f:
        return f.read()


class Tap:
    """Runs functions as tests, each in a folder of its own."""

    def __init__(self):
        for program in (OURS['img'], OURS['io'], QEMU['img'], QEMU['io']):
            if not shutil.which(program):
                print(f'1..0 # SKIP {program} is missing (Debian: qemu-utils)')
                sys.exit(0)
        self.count = self.failures = 0

    def test(self, title, function, *args):
        self.count += 1
        folder = tempfile.mkdtemp(prefix='tenon-format-')
        try:
            function(*args, folder)
            print(f'ok {self.count} - {title}', flush=True)
        except (Failure, subprocess.TimeoutExpired) as why:
            self.failures += 1
            print(f'not ok {self.count} - {title}')
            print('\n'.join('# ' + line for line in str(why).splitlines()), flush=True)
            if os.environ.get('FORMATTEST_KEEP'):
                print(f'# kept in {folder}', flush=True)
                return
        shutil.rmtree(folder, ignore_errors=True)

    def end(self):
        print(f'1..{self.count}')
        sys.exit(1 if self.failures else 0)
