#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures Tenon's tools against QEMU's, alternately in one run, and prints ours, theirs and the ratio.

usage: bench.py [--runs N] [--qemu DIR] [--ours DIR] [--disk DIR] [--markdown] [GROUP...]

Groups: startup vm convert formats random boot guest nbd protocols (default: all).  CPU is user + system time of the whole process
tree; ratios are the median, over the pairs of runs, of theirs / ours (above 1: ours is better).  --qemu DIR takes
QEMU's tools from DIR instead of PATH, --ours DIR ours from an installation instead of the build folder.  Scratch
files go to TMPDIR, or to /dev/shm where it has room; those of "random" and "nbd" also to --disk DIR (default: /var/tmp).
"""
import argparse
import subprocess
import sys

from formats import formats
from harness import Bench
from machines import boot, guest_group, vm
from nbd import nbd
from protocols import protocols
from reads import random_group
from tools import convert, startup

GROUPS = {'startup': startup, 'vm': vm, 'convert': convert, 'formats': formats, 'random': random_group, 'boot': boot,
          'guest': guest_group, 'nbd': nbd, 'protocols': protocols}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=7)
    parser.add_argument('--disk', metavar='DIR', default='/var/tmp')
    parser.add_argument('--qemu', default='', help='folder that holds the QEMU to compare with')
    parser.add_argument('--ours', default='', help='folder that holds the Tenon to measure')
    parser.add_argument('--markdown', action='store_true')
    parser.add_argument('--only', metavar='TEXT', default='', help='only cases of "formats", "nbd" and "protocols" whose name holds TEXT')
    parser.add_argument('groups', nargs='*', metavar='GROUP')
    arguments = parser.parse_args()
    unknown = [g for g in arguments.groups if g not in GROUPS]
    if unknown:
        sys.exit('bench.py: no group %s; there are: %s' % (unknown[0], ' '.join(GROUPS)))
    bench = Bench(arguments)
    try:
        version = subprocess.run([bench.theirs('qemu-img'), '--version'], stdout=subprocess.PIPE, check=True).stdout.decode()
        print('Tenon against %s' % version.splitlines()[0])
        for name in arguments.groups or GROUPS:
            GROUPS[name](bench)
    finally:
        bench.close()


if __name__ == '__main__':
    main()
