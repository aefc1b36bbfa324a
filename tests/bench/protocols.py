# SPDX-License-Identifier: LGPL-2.1-or-later
"""The group "protocols" of bench.py: images on servers of this machine, read and written by Tenon and by QEMU in turns.  Imported."""
import os
import re
import shutil
import socket
import subprocess
import sys
import time

from harness import BUILD, HERE, MIB

SIZE = 256 * MIB
# Name, arguments of `bench`.  Over http nothing is written, and one request at a time is under way: with more of them
# QEMU 7.2's driver hangs.
READS = [('4 KiB reads, depth 1', ['-c', '3000', '-d', '1', '-s', '4k']),
         ('4 KiB reads, depth 32', ['-c', '10000', '-d', '32', '-s', '4k']),
         ('4 KiB reads with steps of 68 KiB, depth 8', ['-c', '3000', '-d', '8', '-s', '4k', '-S', '68k']),
         ('1 MiB reads, depth 4', ['-c', '250', '-d', '4', '-s', '1M'])]
WRITES = [('4 KiB writes, depth 1', ['-w', '-c', '2000', '-d', '1', '-s', '4k']),
          ('4 KiB writes, depth 32', ['-w', '-c', '5000', '-d', '32', '-s', '4k']),
          ('1 MiB writes, depth 4', ['-w', '-c', '250', '-d', '4', '-s', '1M'])]
NGINX = '''daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp;
  fastcgi_temp_path {folder}/tmp; uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
'''


class Web:
    """nginx, which serves a folder."""
    name, writes = 'http', False

    def __init__(self, image):
        self.folder = os.path.dirname(image)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        self.uri = 'http://127.0.0.1:%d/%s' % (self.port, os.path.basename(image))
        self.process = None

    def missing(self):
        return '' if shutil.which('nginx') else 'nginx is not here (nginx-light)'

    def __enter__(self):
        conf = os.path.join(self.folder, 'nginx.conf')
        os.makedirs(os.path.join(self.folder, 'tmp'), exist_ok=True)
        os.chmod(self.folder, 0o755)
        with open(conf, 'w', encoding='ascii') as out:
            out.write(NGINX.format(folder=self.folder, port=self.port))
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(['nginx', '-c', conf], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise RuntimeError('nginx does not run')

    def __exit__(self, *why):
        self.process.terminate()
        self.process.wait()


class Iscsi:
    """A unit of tgtd's."""
    name, writes = 'iscsi', True

    def __init__(self, image):
        import iscsitest
        self.missing = iscsitest.missing
        self.target = iscsitest.Target({1: (image, ())}) if not self.missing() else None
        self.uri = 'iscsi://127.0.0.1:%d/%s/1' % (self.target.port, iscsitest.TARGET) if self.target else ''

    def __enter__(self):
        self.target.__enter__()
        return self

    def __exit__(self, *why):
        self.target.__exit__(*why)


class Rbd:
    """An image of a cluster of one monitor and one OSD; without librbd's cache on both sides, so that requests go there."""
    name, writes = 'rbd', True

    def __init__(self, image):
        import rbdtest
        self.image, self.missing = image, rbdtest.missing
        self.cluster = rbdtest.Cluster() if not self.missing() else None
        self.uri = self.cluster.name('bench') if self.cluster else ''

    def __enter__(self):
        self.cluster.__enter__()
        self.cluster.rbd('import', '--no-progress', self.image, 'disks/bench')
        return self

    def __exit__(self, *why):
        self.cluster.__exit__(*why)


def tests_of_servers(bench):
    """The tests of the protocols know how to start servers."""
    os.environ.setdefault('TN_BUILD_DIR', os.path.abspath(BUILD))
    os.environ.setdefault('TN_SRC_DIR', os.path.abspath(os.path.join(HERE, '..', '..')))
    os.environ.setdefault('TENON_IMG', bench.ours('tenon-img'))
    sys.path.append(os.path.join(HERE, '..', 'e2e'))


def cases(server):
    if server.writes:
        return READS + WRITES
    return [(re.sub('depth [0-9]+', 'depth 1', name), words[:3] + ['1'] + words[4:]) for name, words in READS
            if 'depth 32' not in name]


def measure(bench, server):
    bench.timing_title('%s, %s' % (server.name, server.__doc__.rstrip('.')))
    for name, arguments in cases(server):
        if bench.only in '%s %s' % (server.name, name):
            command = ['bench', '-f', 'raw', '-t', 'none'] + arguments + [server.uri]
            bench.pair(name, [bench.ours('tenon-img')] + command, [bench.theirs('qemu-img')] + command)
    if bench.only in server.name + ' convert':
        command = ['convert', '-m', '8' if server.writes else '1', '-f', 'raw', '-O', 'raw', server.uri]
        bench.pair('convert from it', [bench.ours('tenon-img')] + command + [bench.path('ours.raw')],
                   [bench.theirs('qemu-img')] + command + [bench.path('theirs.raw')])


def protocols(bench):
    """Ours and QEMU's clients against the same server."""
    tests_of_servers(bench)
    here = os.getcwd()
    for kind in (Web, Iscsi, Rbd):
        folder = bench.path(kind.name)
        os.makedirs(folder)
        image = os.path.join(folder, 'disk.raw')
        shutil.copyfile(bench.source_image(), image)
        server = kind(image)
        if server.missing():
            bench.table.note('%s: %s' % (kind.name, server.missing()))
            continue
        with server:
            measure(bench, server)
        os.unlink(image)
    os.chdir(here)
