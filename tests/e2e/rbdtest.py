# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of rbd: a Ceph cluster of one monitor and one OSD, all of it in a folder and on free ports of 127.0.0.1.  Imported."""
import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid

from imgtest import run

POOL = 'disks'
PROGRAMS = ('ceph-mon', 'ceph-osd', 'monmaptool', 'rbd')
ENOUGH = 300  # seconds for whatever takes a few on an idle machine
CONF = '''[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{port}
client_mount_timeout = 120
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
run_dir = {folder}
admin_socket =
log_file =
log_to_stderr = false
err_to_stderr = true
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_data_avail_crit = 0
mon_data_avail_warn = 0
mon_data = {folder}/mon
mon_cluster_log_file =
mon_memory_autotune = false
auth_allow_insecure_global_id_reclaim = false
osd_data = {folder}/osd
osd_objectstore = bluestore
bluestore_block_size = 4294967296
bluestore_block_db_size = 0
bluestore_block_wal_size = 0
bluestore_fsck_on_mount = false
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
bluefs_alloc_size = 65536
osd_crush_chooseleaf_type = 0
osd_crush_update_on_start = false
osd_class_update_on_start = false
osd_max_object_name_len = 256
osd_max_object_namespace_len = 64
osd_op_num_shards = 2
mon_osd_down_out_interval = 0
mon_osd_report_timeout = 900
rbd_default_features = 61
[client]
keyring = {folder}/keyring
'''


def missing():
    """Why there can be no cluster here, or an empty text."""
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return f'{", ".join(absent)}: not installed (ceph-mon, ceph-osd, ceph-common)' if absent else ''


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def new_key():
    return base64.b64encode(struct.pack('<HIIH', 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


def wait_for(condition, what):
    end = time.monotonic() + ENOUGH
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f'waited for nothing: {what}')
        time.sleep(.05)


class Cluster:
    """Until the end of the block; what runs is a child of the test."""

    def __init__(self):
        self.folder = os.path.abspath('ceph')
        self.conf = os.path.join(self.folder, 'ceph.conf')
        self.port, self.fsid, self.osd_fsid = free_port(), str(uuid.uuid4()), str(uuid.uuid4())
        self.keys = {name: new_key() for name in ('mon.', 'client.admin', 'client.eve', 'osd.0')}
        self.mon = self.osd = None
        self.commands = None

    # ---- Making it ----

    def write_files(self):
        os.makedirs(os.path.join(self.folder, 'osd'))
        with open(self.conf, 'w', encoding='ascii') as out:
            out.write(CONF.format(fsid=self.fsid, port=self.port, folder=self.folder))
        rights = {'mon.': {'mon': 'allow *'},
                  'client.admin': {'mon': 'allow *', 'osd': 'allow *', 'mgr': 'allow *', 'mds': 'allow *'},
                  'client.eve': {'mon': 'profile rbd', 'osd': f'profile rbd pool={POOL}'},
                  'osd.0': {'mon': 'allow profile osd', 'osd': 'allow *', 'mgr': 'allow profile osd'}}
        with open(os.path.join(self.folder, 'keyring.all'), 'w', encoding='ascii') as out:
            for name, key in self.keys.items():
                out.write(f'[{name}]\nkey = {key}\n' + ''.join(f'caps {what} = "{how}"\n' for what, how in
                                                                rights[name].items()))
        with open(os.path.join(self.folder, 'keyring'), 'w', encoding='ascii') as out:
            out.write(f'[client.admin]\nkey = {self.keys["client.admin"]}\n')
        with open(os.path.join(self.folder, 'osd', 'keyring'), 'w', encoding='ascii') as out:
            out.write(f'[osd.0]\nkey = {self.keys["osd.0"]}\n')

    def spawn(self, name, *args):
        """In the foreground; its words go to a file."""
        with open(os.path.join(self.folder, name + '.log'), 'ab') as log:
            # pylint: disable=consider-using-with
            return subprocess.Popen([name, '--conf', self.conf, '-f', *args], stdin=subprocess.DEVNULL, stdout=log,
                                    stderr=log, env=self.environment())

    def environment(self):
        return {**os.environ, 'CEPH_CONF': self.conf}

    def must(self, *args):
        status, out, text = run(*args, env=self.environment())
        if status:
            raise RuntimeError(f'{" ".join(args)}: {text}')
        return out.decode()

    def command(self, **words):
        """A command of the monitor's, by way of one program that stays."""
        line = json.dumps(words)
        self.commands.stdin.write(line + '\n')
        self.commands.stdin.flush()
        answer = json.loads(self.commands.stdout.readline())
        if answer[0]:
            raise RuntimeError(f'{line}: {answer[2]}')
        return json.loads(answer[1]) if answer[1].strip() else None

    def start_commands(self):
        script = ('import json, sys, rados\n'
                  f'c = rados.Rados(conffile={self.conf!r})\n'
                  'c.connect()\n'
                  'for line in sys.stdin:\n'
                  '    r, out, text = c.mon_command(line, b"")\n'
                  '    print(json.dumps([r, out.decode(), text]), flush=True)\n')
        # pylint: disable=consider-using-with
        self.commands = subprocess.Popen(['/usr/bin/python3', '-c', script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, env=self.environment())

    def start(self):
        self.write_files()
        keyring, monmap = os.path.join(self.folder, 'keyring.all'), os.path.join(self.folder, 'monmap')
        self.must('monmaptool', '--create', '--fsid', self.fsid, '--addv', 'a', f'v2:127.0.0.1:{self.port}', monmap)
        self.must('ceph-mon', '--conf', self.conf, '--mkfs', '-i', 'a', '--keyring', keyring, '--monmap', monmap)
        self.start_mon()
        self.start_commands()
        self.command(prefix='osd create', uuid=self.osd_fsid, id=0, format='json')
        self.command(prefix='osd crush add', id=0, weight=1.0, args=['root=default'], format='json')
        self.must('ceph-osd', '--conf', self.conf, '--mkfs', '-i', '0', '--osd-uuid', self.osd_fsid, '--no-mon-config')
        self.start_osd()
        self.command(prefix='osd pool create', pool=POOL, pg_num=8, format='json')
        self.command(prefix='osd pool application enable', pool=POOL, app='rbd', format='json')
        self.rbd('pool', 'init', POOL)

    # ---- Its parts ----

    def start_mon(self):
        self.mon = self.spawn('ceph-mon', '-i', 'a')

    def osd_is_up(self):
        if self.osd.poll() is not None:
            raise RuntimeError('the OSD has ended')
        return self.command(prefix='osd dump', format='json')['osds'][0]['up']

    def start_osd(self):
        """Back when the monitor knows that it is up."""
        self.osd = self.spawn('ceph-osd', '-i', '0')
        wait_for(self.osd_is_up, 'the OSD')

    def kill_osd(self, tell=True):
        self.osd.kill()
        self.osd.wait()
        if tell:
            self.tell_down()

    def tell_down(self):
        """The monitor would find out by itself, some time."""
        self.command(prefix='osd down', ids=['0'], format='json')

    def freeze_osd(self):
        self.osd.send_signal(signal.SIGSTOP)

    def thaw_osd(self):
        self.osd.send_signal(signal.SIGCONT)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *why):
        for process in (self.commands, self.osd, self.mon):
            if process and process.poll() is None:
                process.kill()
            if process:
                process.wait()

    # ---- The oracle ----

    def rbd(self, *args):
        return self.must('rbd', '--conf', self.conf, *args)

    def name(self, image, more=''):
        return f'rbd:{POOL}/{image}:conf={self.conf}{more}'
