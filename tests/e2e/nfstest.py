# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of NFS: nfs-ganesha and its port mapper, in namespaces of the test's own.  Imported."""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from imgtest import SCRATCH

CONFIG = '''
NFS_CORE_PARAM {{ Protocols = 3, 4; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false;
                  Enable_UDP = false; }}
NFSv4 {{ Grace_Period = 5; Lease_Lifetime = 10; Graceless = true; RecoveryBackend = fs; }}
EXPORT {{ Export_Id = 1; Path = {path}; Pseudo = /pseudo; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
          Protocols = 3, 4; Transports = TCP; FSAL {{ Name = VFS; }} }}
EXPORT {{ Export_Id = 2; Path = {path}/fixed; Pseudo = /fixed; Access_Type = RO; Squash = No_Root_Squash; SecType = sys;
          Protocols = 3, 4; Transports = TCP; FSAL {{ Name = VFS; }} }}
LOG {{ Default_Log_Level = EVENT; }}
'''


def missing():
    """Why there can be no server here, or an empty text."""
    for tool, package in (('ganesha.nfsd', 'nfs-ganesha'), ('rpcbind', 'rpcbind'), ('unshare', 'util-linux'), ('ip', 'iproute2')):
        if not shutil.which(tool):
            return f'{tool} is not installed ({package})'
    if os.geteuid() != 0:
        return 'the server needs to be root'
    alone = subprocess.run(['unshare', '-n', '-m', 'mount', '-t', 'tmpfs', 'run', '/run'], capture_output=True, check=False)
    return '' if alone.returncode == 0 else 'there are no namespaces of one\'s own here'


def go_apart(program):
    """The rest of this program has the network to itself: the ports of NFS are fixed ones."""
    if os.environ.get('NFSTEST_APART'):
        subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
        subprocess.run(['mount', '-t', 'tmpfs', 'run', '/run'], check=True)
        return
    os.environ['NFSTEST_APART'] = '1'
    shutil.rmtree(SCRATCH, ignore_errors=True)
    os.chdir('/')
    os.execvp('unshare', ['unshare', '-n', '-m', sys.executable, program])


def die_with_us():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(('127.0.0.1', port)) == 0


def last_words():
    try:
        with open('ganesha.log', encoding='utf-8', errors='replace') as log:
            return ([''] + log.read().splitlines())[-1]
    except OSError:
        return 'no log'


def wait_for(port, process):
    end = time.monotonic() + 90
    while not listens(port):
        if time.monotonic() > end or process.poll() is not None:
            raise RuntimeError(f'nothing listens at port {port}; {last_words()}')
        time.sleep(.05)


class Server:
    """Exports the folder `export`; killed and started again."""

    def __init__(self):
        self.path = os.path.abspath('export')
        os.makedirs('export/fixed', exist_ok=True)
        os.makedirs('/run/ganesha', exist_ok=True)
        with open('ganesha.conf', 'w', encoding='ascii') as out:
            out.write(CONFIG.format(path=self.path))
        # pylint: disable=consider-using-with
        self.mapper = subprocess.Popen(['rpcbind', '-f'], preexec_fn=die_with_us, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(111, self.mapper)
        self.process = None
        self.start()

    def start(self):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(['ganesha.nfsd', '-F', '-f', 'ganesha.conf', '-L', 'ganesha.log', '-p', 'ganesha.pid'],
                                        preexec_fn=die_with_us, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_for(2049, self.process)
        wait_for(20048, self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """All its threads, which takes a moment."""
        self.process.send_signal(signal.SIGSTOP)
        for task in os.listdir(f'/proc/{self.process.pid}/task'):
            while '(stopped)' not in open(f'/proc/{self.process.pid}/task/{task}/status', encoding='ascii').read():
                time.sleep(.01)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.go_on()
        self.kill()
        self.mapper.kill()
        self.mapper.wait()

    def uri(self, name, version=3, **query):
        folder = self.path if version == 3 else '/pseudo'
        if version != 3:
            query['version'] = version
        words = '&'.join(f'{key}={value}' for key, value in query.items())
        return f'nfs://127.0.0.1{folder}/{name}' + ('?' + words if words else '')

    def options(self, name, version=3, **more):
        """For --image-opts: a raw disk in that file."""
        folder = self.path if version == 3 else '/pseudo'
        text = f'driver=raw,file.driver=nfs,file.server.host=127.0.0.1,file.path={folder}/{name},file.version={version}'
        return text + ''.join(f',file.{key.replace("_", "-")}={value}' for key, value in more.items())
