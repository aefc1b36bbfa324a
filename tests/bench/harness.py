# SPDX-License-Identifier: LGPL-2.1-or-later
"""For the groups of bench.py: alternate runs of two programs, what they cost, and tables.  Imported."""
import math
import os
import re
import shutil
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
    """What one finished process cost.  @written: bytes that its write calls took."""

    def __init__(self, wall, rusage, written):
        self.wall = wall
        self.cpu = rusage.ru_utime + rusage.ru_stime
        self.faults = rusage.ru_minflt + rusage.ru_majflt
        self.written = written


def bytes_written(pid):
    """Of a process that has ended and has not been waited for."""
    try:
        with open('/proc/%d/io' % pid) as counts:
            return int(re.search(r'^wchar: (\d+)', counts.read(), re.M).group(1))
    except OSError:
        return 0


def run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    error = process.stderr.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    wall = time.monotonic() - start
    written = bytes_written(process.pid)
    _, status, rusage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit('bench.py: %s: exit status %d: %s' % (' '.join(command), process.returncode, error.decode(errors='replace').strip()))
    return Usage(wall, rusage, written)


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


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


class Table:
    """A title and columns, printed when the first row comes."""

    def __init__(self, markdown):
        self.markdown = markdown
        self.heading = ''

    def title(self, text, columns):
        if self.markdown:
            self.heading = '\n### %s\n\n| %s |\n|%s' % (text, ' | '.join(columns), '---|' * len(columns))
        else:
            self.heading = '\n%s\n  %-34s %s' % (text, columns[0], '  '.join('%14s' % c for c in columns[1:]))

    def row(self, *cells):
        if self.heading:
            print(self.heading)
            self.heading = ''
        if self.markdown:
            print('| %s |' % ' | '.join(cells))
        else:
            print('  %-34s %s' % (cells[0], '  '.join('%14s' % c for c in cells[1:])))
        sys.stdout.flush()

    def note(self, text):
        print('\n%s' % text)
        sys.stdout.flush()


class Bench:
    """The two programs, a scratch folder in memory, and the ratios measured so far."""

    def __init__(self, arguments):
        self.runs = arguments.runs
        self.ours_in = arguments.ours or OURS
        self.qemu = arguments.qemu
        self.disk = arguments.disk
        self.only = arguments.only
        self.table = Table(arguments.markdown)
        self.ratios = []   # (case, CPU, wall)
        base = os.environ.get('TMPDIR')
        if base is None and os.path.isdir('/dev/shm') and shutil.disk_usage('/dev/shm').free > 4 << 30:
            base = '/dev/shm'
        self.folder = tempfile.mkdtemp(prefix='tenon-bench.', dir=base)

    def ours(self, tool):
        return os.path.join(self.ours_in, tool)

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
        self.ratios.append((name, cpu, wall))
        ms = lambda values: '%.1f ms' % (1000 * statistics.median(values))
        self.table.row(name, ms(x.cpu for x in a), ms(y.cpu for y in b), '%.2f' % cpu, ms(x.wall for x in a),
                       ms(y.wall for y in b), '%.2f' % wall, '%d' % statistics.median(x.faults for x in a),
                       '%d' % statistics.median(y.faults for y in b))
        return a, b

    def timing_title(self, text, other='QEMU'):
        self.table.title(text, ['case', 'CPU ours', 'CPU ' + other, 'CPU ratio', 'wall ours', 'wall ' + other, 'wall ratio',
                                'faults ours', 'faults ' + other])

    def summary(self, title, ratios):
        """The geometric mean of ratios that pair() has left in self.ratios, and the worst of them."""
        for column, what in ((1, 'CPU'), (2, 'wall')):
            worst = min(ratios, key=lambda r: r[column])
            values = [r[column] for r in ratios]
            self.table.note('%s, %s: %d cases, geometric mean %.2f (%.2f if no case counts more than 10), worst %.2f (%s), '
                            'below 1: %s' % (title, what, len(ratios), geometric_mean(values),
                                             geometric_mean([min(v, 10) for v in values]), worst[column], worst[0],
                                             ', '.join(r[0] for r in ratios if r[column] < 1) or 'none'))

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

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
