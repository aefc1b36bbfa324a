# SPDX-License-Identifier: LGPL-2.1-or-later
"""The group "nbd" of bench.py: what NBD servers cost.  Imported.

One load generator for all, fio's nbd engine over a Unix socket.  Each server has a copy of the image, a file in the host's
page cache.  In each round all servers have their turn, so that what else the machine does hits all of them.
"""
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

from harness import MIB, run

SIZE = 256 * MIB
TICK = os.sysconf('SC_CLK_TCK')
# Name, fio's arguments, connections, depth, size of a request, requests of one run.
CASES = [('4 KiB random %s, depth %d, %d connection%s' % (kind, depth, connections, 's' if connections > 1 else ''),
          'rand' + kind, connections, depth, 4096, 20000 if depth == 1 else 100000)
         for connections, depth in ((1, 1), (1, 32), (1, 64), (4, 32)) for kind in ('read', 'write')]
CASES += [('1 MiB sequential %s, depth 8, %d connection%s' % (kind, connections, 's' if connections > 1 else ''), kind,
           connections, 8, MIB, 2000) for connections in (1, 4) for kind in ('read', 'write')]


# One row for each server: medians, and the medians of the ratios of each round to ours (above 1: ours is better).
COLUMNS = ['case', 'server', 'CPU each', 'ratio', 'rate', 'ratio', 'calls each']


class Server:
    """An NBD server that runs until close()."""

    def __init__(self, name, command, path):
        self.name, self.path = name, path
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(path)
                    return
                except OSError:
                    time.sleep(0.02)
        raise RuntimeError('no server: %s' % ' '.join(command))

    def cpu(self):
        """Seconds that all of its threads have cost, those that have ended, too."""
        with open('/proc/%d/stat' % self.process.pid, encoding='ascii') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def close(self):
        self.process.terminate()
        self.process.wait()


def servers(bench, folder, image):
    """Ours first."""
    ours = [bench.ours('tenon-nbd'), '-t', '-e', '0', '-f', 'raw']
    commands = [('tenon-nbd', ours + ['-k']), ('tenon-nbd --threads=4', ours + ['--threads=4', '-k']),
                ('qemu-nbd', [bench.theirs('qemu-nbd'), '-t', '-e', '8', '-f', 'raw', '-k']),
                ('nbdkit file', ['nbdkit', '-f', 'file', '-U'])]
    found = []
    for number, (name, command) in enumerate(commands):
        if not shutil.which(command[0]):
            bench.table.note('%s is not here: left out' % command[0])
            continue
        copy, path = os.path.join(folder, '%d.raw' % number), os.path.join(folder, '%d.socket' % number)
        shutil.copyfile(image, copy)
        found.append(Server(name, command + [path, copy], path))
    return found


def load(server, case, folder):
    """Requests a second, and microseconds of the server's CPU for each request."""
    _, kind, connections, depth, size, count = case
    report = os.path.join(folder, 'fio.json')
    before = server.cpu()
    run(['fio', '--name=n', '--ioengine=nbd', '--uri=nbd+unix:///?socket=' + server.path, '--rw=' + kind, '--bs=%d' % size,
         '--iodepth=%d' % depth, '--thread', '--numjobs=%d' % connections, '--number_ios=%d' % (count // connections),
         '--size=%d' % SIZE, '--io_size=1T', '--group_reporting', '--randrepeat=1', '--norandommap',
         '--output-format=json', '--output=' + report])
    cpu = server.cpu() - before
    with open(report, encoding='utf-8', errors='replace') as text:
        job = json.loads(re.sub(r'\A[^{]*', '', text.read()))['jobs'][0]
    part = job['read' if 'read' in kind else 'write']
    return part['iops'], 1e6 * cpu / part['total_ios']


def system_calls(server, case, folder):
    """Of the server, for each request."""
    trace = os.path.join(folder, 'strace')
    _, _, connections, _, size, _ = case
    fewer = case[:5] + (max(connections, 400 if size > 4096 else 8000),)
    with subprocess.Popen(['strace', '-f', '-c', '-qq', '-o', trace, '-p', str(server.process.pid)],
                          stderr=subprocess.DEVNULL) as tracer:
        time.sleep(0.5)
        load(server, fewer, folder)
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    with open(trace, encoding='ascii') as text:
        total = re.search(r'^ *100\.00 .*? (\d+)(?: +\d+)? total$', text.read(), re.M)
    return int(total.group(1)) / fewer[5] if total else float('nan')


def nbd(bench):
    """Per request: CPU time of the server, and its system calls; and what gets through."""
    with tempfile.TemporaryDirectory(prefix='tenon-bench.', dir=bench.disk) as folder:
        running = servers(bench, folder, bench.source_image())
        try:
            for server in running:   # all of the image is in the page cache, and the file has its blocks
                load(server, ('', 'write', 1, 8, MIB, SIZE // MIB), folder)
            bench.table.title('NBD over a Unix socket', COLUMNS)
            for case in CASES:
                if bench.only in case[0]:
                    compare(bench, running, case, folder)
        finally:
            for server in running:
                server.close()


def compare(bench, running, case, folder):
    rates, costs = [[] for _ in running], [[] for _ in running]
    for _ in range(bench.runs):
        for server, rate, cost in zip(running, rates, costs):
            requests, cpu = load(server, case, folder)
            rate.append(requests)
            cost.append(cpu)
    over = lambda values, better: '%.2f' % statistics.median(better(v, o) for v, o in zip(*values))
    speed = (lambda v: '%.0f MiB/s' % v) if case[4] == MIB else (lambda v: '%.1f k/s' % (v / 1000))
    for server, rate, cost in zip(running, rates, costs):
        bench.table.row(case[0] if server is running[0] else '', server.name, '%.1f us' % statistics.median(cost),
                        over((cost, costs[0]), lambda v, o: v / max(o, 1e-3)), speed(statistics.median(rate)),
                        over((rate, rates[0]), lambda v, o: o / v), '%.2f' % system_calls(server, case, folder))
