#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares the rv64 CPU with Debian's qemu-system-riscv64: the same bare-metal programs must print the same.

    compare.py [--seed N] [--count N] [--group NAME] [--ours COMMAND] [--keep DIR]

Speaks TAP; skips when a tool is missing.  COMMAND gets the program's path appended; the default is
`tenon -M spike -nographic -bios`.
"""
import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

import streams

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 60  # seconds for one program
COMPILER = 'riscv64-unknown-elf-gcc'
QEMU = 'qemu-system-riscv64'
# Extensions that Tenon doesn't offer are switched off, so that their encodings are illegal in both.
QEMU_CPU = 'rv64,h=false,zbc=false,Zfh=false,Zfhmin=false'
FLAGS = ['-march=rv64gc_zba_zbb_zbs', '-mabi=lp64d', '-mcmodel=medany', '-nostdlib', '-nostartfiles', '-static', '-Wl,--build-id=none',
         '-Wl,--no-warn-rwx-segments', '-T', os.path.join(HERE, 'rv64.ld')]


def build(out, sources, extra=()):
    subprocess.run([COMPILER, *FLAGS, *extra, '-o', out, *sources], check=True)


def run(command, program):
    done = subprocess.run(['timeout', str(LIMIT), *command, program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    text = done.stdout.decode('latin-1').replace('\r', '')
    if done.returncode:
        text += 'exit status %d %s\n' % (done.returncode, done.stderr.decode('latin-1').strip())
    return text.splitlines()


class Comparison:
    def __init__(self, args):
        self.args = args
        self.ours = shlex.split(args.ours)
        cpu = args.qemu_cpu
        self.theirs = [QEMU, '-M', 'spike', '-cpu', cpu, '-m', '64M', '-nographic', '-bios']
        self.dir = args.keep or tempfile.mkdtemp(prefix='rv64-compare-')
        os.makedirs(self.dir, exist_ok=True)
        self.tests = self.failures = 0

    def report(self, ok, what):
        self.tests += 1
        self.failures += not ok
        print('%s %d - %s' % ('ok' if ok else 'not ok', self.tests, what), flush=True)

    def both(self, program):
        return run(self.ours, program), run(self.theirs, program)

    def stream_program(self, group, only=None):
        name = os.path.join(self.dir, group if only is None else '%s-%d' % (group, only))
        with open(name + '.s', 'w', encoding='ascii') as f:
            f.write(streams.assemble(self.args.seed, group, self.args.count, only))
        build(name + '.elf', [os.path.join(HERE, 'streams.S'), os.path.join(HERE, 'htif.S'), name + '.s'])
        return name + '.elf'

    def streams(self, group):
        ours, theirs = self.both(self.stream_program(group))
        bad = [i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]]
        if len(ours) != len(theirs):
            bad.append(min(len(ours), len(theirs)))
        complete = len(theirs) == self.args.count
        self.report(not bad and complete, '%d %s streams, seed %s' % (len(theirs), group, self.args.seed))
        if not complete:
            print('# expected %d results; last: %s' % (self.args.count, theirs[-1:]))
        for index in bad[:self.args.show]:
            self.explain(group, index)
        if bad:
            print('# %d of %d differ: %s' % (len(bad), len(theirs), bad[:20]))

    def explain(self, group, index):
        """Shows which registers and traps of one stream differ."""
        program = self.stream_program(group, index)
        ours, theirs = self.both(program)
        names = ['x%d' % i for i in range(1, 32)] + ['f%d' % i for i in range(32)] + ['fcsr', 'hash']
        print('# stream %d of %s: tenon, qemu (%s)' % (index, group, program))
        traps = [[line for line in side if line.startswith('T')] for side in (ours, theirs)]
        for pair in zip(*traps):
            if pair[0] != pair[1]:
                print('#   trap %s | %s' % pair)
        if len(traps[0]) != len(traps[1]):
            print('#   traps: %d | %d' % (len(traps[0]), len(traps[1])))
        values = [[line for line in side if not line.startswith('T')] for side in (ours, theirs)]
        for name, mine, other in zip(names, *values):
            if mine != other:
                print('#   %-4s %s | %s' % (name, mine, other))

    def program(self, name, what, lines_per_case=1):
        """A C program that prints what it finds."""
        out = os.path.join(self.dir, name + '.elf')
        build(out, [os.path.join(HERE, name + '.c'), os.path.join(HERE, 'start.S'), os.path.join(HERE, 'htif.S')],
              ['-O1', '-Wall', '-Wextra', '-ffreestanding', '-fno-builtin', '-DSEED=%d' % self.args.seed,
               '-DCOUNT=%d' % self.args.count, '-I', HERE])
        ours, theirs = self.both(out)
        bad = [i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]]
        same = not bad and len(ours) == len(theirs)
        finished = theirs[-1:] == ['end']
        self.report(same and finished, '%s: %d lines, seed %d' % (what, len(theirs), self.args.seed))
        if not finished:
            print('# the program did not end: %s' % theirs[-1:])
        for index in bad[:self.args.show * 3]:
            print('#   line %d: tenon %s' % (index, ours[index]))
            print('#   line %d: qemu  %s' % (index, theirs[index]))
        if bad:
            print('# %d lines differ' % len(bad))
        if len(ours) != len(theirs):
            print('# %d lines, qemu %d; ours ends %s' % (len(ours), len(theirs), ours[-2:]))


    def selfcheck(self):
        """What QEMU does otherwise, on ours alone."""
        out = os.path.join(self.dir, 'selfcheck.elf')
        build(out, [os.path.join(HERE, name) for name in ('selfcheck.c', 'start.S', 'htif.S')],
              ['-O1', '-Wall', '-Wextra', '-ffreestanding', '-fno-builtin', '-DSEED=1', '-I', HERE])
        lines = run(self.ours, out)
        self.report(lines == ['end'], 'what QEMU 7.2 does otherwise')
        for line in lines[:20]:
            if line != 'end':
                print('# %s' % line)


PROGRAMS = {
    'paging': 'page tables, permissions, accessed and dirty bits',
    'csrs': 'control and status registers, delegation, traps',
    'pmp': 'physical memory protection',
}


def main():
    parser = argparse.ArgumentParser(description='Compares the rv64 CPU with QEMU.')
    parser.add_argument('--seed', type=int, default=int(os.environ.get('RV64_SEED', '1')))
    parser.add_argument('--count', type=int, default=int(os.environ.get('RV64_COUNT', '200')),
                        help='streams of each group, and rounds of each program')
    parser.add_argument('--group', action='append', help='only these: %s' % ', '.join(['selfcheck', *streams.GROUPS, *PROGRAMS]))
    tenon = os.path.join(os.environ['TN_BUILD_DIR'], 'bin', 'tenon') if 'TN_BUILD_DIR' in os.environ else 'tenon'
    parser.add_argument('--ours', default=tenon + ' -M spike -nographic -bios')
    parser.add_argument('--qemu-cpu', default=QEMU_CPU)
    parser.add_argument('--keep', help='leave the programs in this folder')
    parser.add_argument('--show', type=int, default=3, help='differences to explain')
    args = parser.parse_args()
    for tool in (COMPILER, QEMU, shlex.split(args.ours)[0]):
        if not shutil.which(tool):
            print('1..0 # SKIP %s is missing' % tool)
            return 0
    comparison = Comparison(args)
    chosen = args.group or ['selfcheck', *streams.GROUPS, *PROGRAMS]
    print('1..%d' % len(chosen))
    for name in chosen:
        if name == 'selfcheck':
            comparison.selfcheck()
        elif name in PROGRAMS:
            comparison.program(name, PROGRAMS[name])
        else:
            comparison.streams(name)
    if not args.keep:
        shutil.rmtree(comparison.dir)
    return 1 if comparison.failures else 0


if __name__ == '__main__':
    sys.exit(main())
