#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures Tenon's tools against QEMU's, alternately in one run, and prints ours, theirs and the ratio.

usage: bench.py [--runs N] [--qemu DIR] [--disk DIR] [--markdown] [GROUP...]

Groups: startup vm convert random boot guest (default: all).  CPU is user + system time of the whole process tree;
ratios are the median, over the pairs of runs, of theirs / ours (above 1: ours is better).  --qemu DIR takes QEMU's
tools from DIR instead of PATH.  Scratch files go to TMPDIR, or to /dev/shm where it has room; those of "random" also
to --disk DIR (default: /var/tmp).
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get('TN_BUILD_DIR', os.path.join(HERE, '..', '..', 'build'))
OURS = os.path.join(BUILD, 'bin')
MIB = 1 << 20


class Usage:
    """What one finished process cost."""

    def __init__(self, status, wall, rusage):
        self.status = status
        self.wall = wall
        self.cpu = rusage.ru_utime + rusage.ru_stime
        self.faults = rusage.ru_minflt + rusage.ru_majflt


def run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, rusage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit('bench.py: %s: exit status %d: %s' % (' '.join(command), process.returncode, error.decode(errors='replace').strip()))
    return Usage(process.returncode, time.monotonic() - start, rusage)


def system_calls(command, folder):
    """Number of system calls, and of shared objects opened."""
    trace = os.path.join(folder, 'strace')
    subprocess.run(['strace', '-f', '-qq', '-o', trace] + command, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    calls, objects = 0, set()
    with open(trace, errors='replace') as lines:
        for line in lines:
            if re.match(r'^(\d+ +)?\w+\(', line):
                calls += 1
            found = re.search(r'openat?\(.*"([^"]*\.so[.0-9]*)".* = \d', line)
            if found:
                objects.add(os.path.basename(found.group(1)))
    return calls, len(objects)


def resident(command):
    """Peak resident MiB.  time(1) starts it: a child of this interpreter would inherit the interpreter's own peak."""
    result = subprocess.run(['/usr/bin/time', '-f', '%M'] + command, check=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return int(result.stderr.split()[-1]) / 1024


class Table:
    def __init__(self, markdown):
        self.markdown = markdown

    def title(self, text, columns):
        if self.markdown:
            print('\n### %s\n\n| %s |\n|%s' % (text, ' | '.join(columns), '---|' * len(columns)))
        else:
            print('\n%s\n  %s' % (text, '  '.join(columns)))
        sys.stdout.flush()

    def row(self, *cells):
        if self.markdown:
            print('| %s |' % ' | '.join(cells))
        else:
            print('  %-34s %s' % (cells[0], '  '.join('%14s' % c for c in cells[1:])))
        sys.stdout.flush()


class Bench:
    def __init__(self, arguments):
        self.runs = arguments.runs
        self.qemu = arguments.qemu
        self.disk = arguments.disk
        self.table = Table(arguments.markdown)
        base = os.environ.get('TMPDIR')
        if base is None and os.path.isdir('/dev/shm') and shutil.disk_usage('/dev/shm').free > 4 << 30:
            base = '/dev/shm'
        self.folder = tempfile.mkdtemp(prefix='tenon-bench.', dir=base)

    def ours(self, tool):
        return os.path.join(OURS, tool)

    def theirs(self, tool):
        return os.path.join(self.qemu, tool) if self.qemu else tool

    def path(self, name):
        return os.path.join(self.folder, name)

    def pair(self, name, ours, theirs, before=None, runs=None):
        """Runs both alternately and prints a row with CPU, wall time and their ratios."""
        a, b = [], []
        for i in range((runs or self.runs) + 1):
            for command, results in ((ours, a), (theirs, b)):
                if before:
                    before()
                usage = run(command)
                if i > 0:   # the first pair warms caches
                    results.append(usage)
        cpu = statistics.median(y.cpu / max(x.cpu, 1e-6) for x, y in zip(a, b))
        wall = statistics.median(y.wall / x.wall for x, y in zip(a, b))
        ms = lambda values: '%.1f ms' % (1000 * statistics.median(values))
        self.table.row(name, ms(x.cpu for x in a), ms(y.cpu for y in b), '%.2f' % cpu, ms(x.wall for x in a),
                       ms(y.wall for y in b), '%.2f' % wall, '%d' % statistics.median(x.faults for x in a),
                       '%d' % statistics.median(y.faults for y in b))
        return a, b

    def timing_title(self, text):
        self.table.title(text, ['case', 'CPU ours', 'CPU QEMU', 'CPU ratio', 'wall ours', 'wall QEMU', 'wall ratio',
                                'faults ours', 'faults QEMU'])

    # ---- groups

    def startup(self):
        image = self.path('info.qcow2')
        run([self.theirs('qemu-img'), 'create', '-q', '-f', 'qcow2', image, '64M'])
        raw = self.path('info.raw')
        run([self.theirs('qemu-img'), 'create', '-q', '-f', 'raw', raw, '64M'])
        cases = [('img info qcow2', ['tenon-img', 'info', image], ['qemu-img', 'info', image]),
                 ('img info raw', ['tenon-img', 'info', '-f', 'raw', raw], ['qemu-img', 'info', '-f', 'raw', raw]),
                 ('img --version', ['tenon-img', '--version'], ['qemu-img', '--version']),
                 ('io read', ['tenon-io', '-r', '-c', 'read 0 4k', image], ['qemu-io', '-r', '-c', 'read 0 4k', image])]
        self.timing_title('Start-up')
        measured = []
        for name, a, b in cases:
            a, b = [self.ours(a[0])] + a[1:], [self.theirs(b[0])] + b[1:]
            measured.append((name, a, b))
            self.pair(name, a, b, runs=max(self.runs, 15))
        self.table.title('Start-up, what the kernel saw', ['case', 'calls ours', 'calls QEMU', 'objects ours', 'objects QEMU',
                                                          'RSS ours', 'RSS QEMU'])
        for name, a, b in measured:
            calls_a, objects_a = system_calls(a, self.folder)
            calls_b, objects_b = system_calls(b, self.folder)
            self.table.row(name, str(calls_a), str(calls_b), str(objects_a), str(objects_b), '%.1f MiB' % resident(a),
                           '%.1f MiB' % resident(b))

    def idle(self, command):
        """Resident memory and mapped objects of a VM that is stopped before its first instruction."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            last, resident = -1, 0
            for _ in range(100):
                time.sleep(0.1)
                with open('/proc/%d/status' % process.pid) as status:
                    resident = int(re.search(r'VmRSS:\s+(\d+)', status.read()).group(1))
                if resident == last and resident > 1000:
                    break
                last = resident
            with open('/proc/%d/maps' % process.pid) as maps:
                objects = {line.split()[-1] for line in maps if re.search(r'\.so[.0-9]*$', line.strip())}
            return resident / 1024, len(objects)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def vm(self):
        image = self.path('vm.qcow2')
        run([self.theirs('qemu-img'), 'create', '-q', '-f', 'qcow2', image, '64M'])
        drive = ['-drive', 'file=%s,format=qcow2,if=none,id=d' % image, '-device', 'virtio-blk-device,drive=d']
        kernel = self.path('loop')
        with open(kernel, 'wb') as f:
            f.write(bytes([0x6f, 0, 0, 0]) * 1024)   # a jump to itself
        drive += ['-kernel', kernel]
        ours = [self.ours('tenon'), '-M', 'virt-rv64', '-m', '256M', '-S', '-nographic'] + drive
        theirs = [self.theirs('qemu-system-riscv64'), '-M', 'virt', '-m', '256M', '-S', '-nographic'] + drive
        self.table.title('A VM stopped before its first instruction', ['', 'RSS ours', 'RSS QEMU', 'ratio', 'objects ours',
                                                                      'objects QEMU'])
        a, objects_a = self.idle(ours)
        b, objects_b = self.idle(theirs)
        self.table.row('idle VM', '%.1f MiB' % a, '%.1f MiB' % b, '%.2f' % (b / a), str(objects_a), str(objects_b))

    def source_image(self):
        """256 MiB: data that does not compress, text that does, and holes, in runs of 1 to 8 MiB."""
        path = self.path('source.raw')
        if os.path.exists(path):
            return path
        import random
        random.seed(20)
        words = ' '.join(str(random.random()) for _ in range(6000)).encode()
        with open(path, 'wb') as f:
            while f.tell() < 256 * MIB:
                length = random.choice([1, 2, 4, 8]) * MIB
                kind = random.random()
                if kind < 0.45:
                    f.write(random.randbytes(length))
                elif kind < 0.7:
                    f.write((words * (length // len(words) + 1))[:length])
                else:
                    f.seek(length, 1)
            f.truncate(256 * MIB)
        return path

    def convert(self):
        raw = self.source_image()
        qcow2, packed, target = self.path('source.qcow2'), self.path('packed.qcow2'), self.path('target')
        run([self.theirs('qemu-img'), 'convert', '-O', 'qcow2', raw, qcow2])
        run([self.theirs('qemu-img'), 'convert', '-c', '-O', 'qcow2', raw, packed])
        remove = lambda: os.path.exists(target) and os.unlink(target)
        cases = [('raw to qcow2', ['-f', 'raw', '-O', 'qcow2', raw]),
                 ('qcow2 to raw', ['-f', 'qcow2', '-O', 'raw', qcow2]),
                 ('qcow2 to qcow2', ['-f', 'qcow2', '-O', 'qcow2', qcow2]),
                 ('raw to qcow2 compressed', ['-c', '-f', 'raw', '-O', 'qcow2', raw]),
                 ('compressed qcow2 to raw', ['-f', 'qcow2', '-O', 'raw', packed])]
        self.timing_title('convert (256 MiB)')
        for name, arguments in cases:
            self.pair(name, [self.ours('tenon-img'), 'convert'] + arguments + [target],
                      [self.theirs('qemu-img'), 'convert'] + arguments + [target], before=remove)

    def random(self):
        """Reads through the host's page cache, past it (O_DIRECT), and of files in memory."""
        with tempfile.TemporaryDirectory(prefix='tenon-bench.', dir=self.disk) as disk:
            images = self.random_images(disk)
            in_memory = [(kind, shutil.copy(path, self.folder)) for kind, path in images]
            self.timing_title('4 KiB reads, scattered by a step of 5 MiB + 4 KiB')
            for kind, path in images:
                for depth, engine in ((1, 'io_uring'), (1, 'threads'), (64, 'io_uring'), (64, 'threads')):
                    self.reads('%s on disk' % kind, kind, path, depth, engine, 'writeback')
            for kind, path in images:
                self.reads('%s on disk, O_DIRECT' % kind, kind, path, 64, 'io_uring', 'none')
            for kind, path in in_memory:
                for depth in (1, 64):
                    self.reads('%s in memory' % kind, kind, path, depth, 'io_uring', 'writeback')

    def random_images(self, folder):
        raw = self.source_image()
        images = []
        for kind in ('raw', 'qcow2'):
            path = os.path.join(folder, 'random.' + kind)
            run([self.theirs('qemu-img'), 'convert', '-S', '0', '-O', kind, raw, path])
            images.append((kind, path))
        return images

    def reads(self, name, kind, path, depth, engine, cache):
        count = 200000 if depth == 64 and cache != 'none' else 50000
        arguments = ['bench', '-f', kind, '-c', str(count), '-d', str(depth), '-s', '4096', '-S', str(5 * MIB + 4096),
                     '-t', cache, '-i', engine, path]
        self.pair('%s, depth %d, %s' % (name, depth, engine), [self.ours('tenon-img')] + arguments,
                  [self.theirs('qemu-img')] + arguments, runs=min(self.runs, 5))

    def guest(self, script):
        """Kernel, initramfs for tests/bench/guest-SCRIPT.sh."""
        guests = os.path.join(HERE, '..', 'guests')
        folder = subprocess.run([os.path.join(guests, 'fetch.sh')], check=True, stdout=subprocess.PIPE).stdout.decode().strip()
        initrd = self.path('initrd.' + script)
        if not os.path.exists(initrd):
            subprocess.run([os.path.join(guests, 'mkinitrd.sh'), initrd, os.path.join(HERE, 'guest-%s.sh' % script)], check=True,
                           env=dict(os.environ, TENON_GUEST_DIR=folder))
        return os.path.join(folder, 'Image'), initrd

    def machines(self, script, cpus=1):
        kernel, initrd = self.guest(script)
        image = self.path('guest.qcow2')
        if not os.path.exists(image):
            run([self.theirs('qemu-img'), 'create', '-q', '-f', 'qcow2', image, '256M'])
        common = ['-m', '256M', '-smp', str(cpus), '-nographic', '-kernel', kernel, '-initrd', initrd, '-append',
                  'console=ttyS0 quiet']
        drive = 'file=%s,format=qcow2,if=none,id=d,cache=none' % image
        ours = [self.ours('tenon'), '-M', 'virt-rv64'] + common + ['-drive', drive, '-device', 'virtio-blk-device,drive=d']
        theirs = [self.theirs('qemu-system-riscv64'), '-M', 'virt'] + common + ['-drive', drive, '-device',
                                                                              'virtio-blk-device,drive=d']
        return ours, theirs

    def boot(self):
        self.timing_title('Linux: boot to an initramfs and power off')
        for cpus in (1, 2):
            ours, theirs = self.machines('boot', cpus)
            self.pair('boot, %d harts' % cpus, ours, theirs, runs=min(self.runs, 3))

    def guest_times(self, command):
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        return {name.decode(): float(seconds)
                for name, seconds in re.findall(rb'BENCH (\S+) ([0-9.]+)', result.stdout)}

    def guest_group(self):
        self.table.title('CPU work inside the guest (wall seconds on one hart)', ['case', 'ours', 'QEMU', 'ratio'])
        ours, theirs = self.machines('cpu')
        a, b = [], []
        for _ in range(min(self.runs, 3)):
            a.append(self.guest_times(ours))
            b.append(self.guest_times(theirs))
        for name in a[0]:
            x, y = statistics.median(r[name] for r in a), statistics.median(r[name] for r in b)
            self.table.row(name, '%.2f' % x, '%.2f' % y, '%.2f' % (y / x))

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=7)
    parser.add_argument('--disk', metavar='DIR', default='/var/tmp')
    parser.add_argument('--qemu', default='', help='folder that holds the QEMU to compare with')
    parser.add_argument('--markdown', action='store_true')
    parser.add_argument('groups', nargs='*', metavar='GROUP')
    arguments = parser.parse_args()
    bench = Bench(arguments)
    groups = {'startup': bench.startup, 'vm': bench.vm, 'convert': bench.convert, 'random': bench.random, 'boot': bench.boot,
              'guest': bench.guest_group}
    unknown = [g for g in arguments.groups if g not in groups]
    if unknown:
        sys.exit('bench.py: no group %s; there are: %s' % (unknown[0], ' '.join(groups)))
    version = subprocess.run([bench.theirs('qemu-img'), '--version'], stdout=subprocess.PIPE, check=True).stdout.decode()
    print('Tenon against %s' % version.splitlines()[0])
    try:
        for name in arguments.groups or groups:
            groups[name]()
    finally:
        bench.close()


if __name__ == '__main__':
    main()
