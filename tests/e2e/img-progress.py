#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What convert shows while it copies: a line for people on a terminal, qemu-img's figures for programs."""
import os
import pty
import re
import subprocess

from imgtest import IMG, disk, finish, verdict, write

LINE = re.compile(rb'\r[0-9.]+ (?:B|[KMGT]iB) of [0-9.]+ (?:B|[KMGT]iB) \((\d+\.\d)%\)  [0-9.]+ (?:B|[KMGT]iB)/s  '
                  rb'(?:[0-9:]+|-:--) left\x1b\[K')


def on_terminal(*arguments, stdout=None):
    """What reaches the terminal, and the status."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([IMG, *arguments], stdout=stdout or follower, stderr=follower, stdin=subprocess.DEVNULL)
    os.close(follower)
    out = b''
    try:
        while True:
            out += os.read(leader, 65536)
    except OSError:  # the other end has been closed
        pass
    os.close(leader)
    return process.wait(), out


def piped(*arguments):
    done = subprocess.run([IMG, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stdout, done.stderr


write('s.raw', disk(8 << 20, 65536))
convert = ('convert', '-f', 'raw', '-O', 'qcow2', 's.raw', 't.qcow2')

status, out = on_terminal(*convert, '-p')
shown = [float(m.group(1)) for m in LINE.finditer(out)]
verdict(status == 0 and LINE.sub(b'', out) == b'\r\n', 'a terminal gets one line, renewed and then ended', repr(out))
verdict(shown and shown == sorted(shown) and shown[-1] == 100, 'it grows up to 100 %', repr(out))

with open('stdout', 'wb') as file:
    status, out = on_terminal(*convert, '-p', stdout=file)
with open('stdout', 'rb') as file:
    verdict(status == 0 and b'(100.00/100%)' in file.read(), 'who sends the output elsewhere finds the figures there')
status, out = on_terminal(*convert, '-q', '-p')
verdict(status == 0 and out == b'', '-q shows nothing on a terminal', repr(out))

status, out, err = piped(*convert, '-p')
figures = re.findall(rb'    \((\d+\.\d\d)/100%\)\r', out)
values = [float(f) for f in figures]
verdict(status == 0 and err == b'' and re.sub(rb'    \(\d+\.\d\d/100%\)\r', b'', out).strip() == b'',
        'a program gets the figures of qemu-img -p', repr(out))
verdict(values and values == sorted(values) and values[0] == 0 and values[-1] == 100, 'from 0 to 100', repr(figures))
status, out, err = piped(*convert)
verdict((status, out, err) == (0, b'', b''), 'without -p a program gets nothing', repr((out, err)))
finish()
