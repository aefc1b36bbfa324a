#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images of a Ceph cluster that the test starts: what Tenon does to them beside what `rbd` and qemu-img see, and a cluster that goes
away.  PROTO_RBD=NAME runs one part."""
import base64
import json
import os
import re
import socket
import subprocess
import time

from imgtest import IMG, RNG, difference, disk, finish, img, read, run, skip, tool, verdict, write
from nbdtest import IO
from rbdtest import POOL, Cluster, missing, new_key

MIB = 1 << 20
SIZE = 12 * MIB + 4096  # its last object is a short one
QEMU = [None]


def io(uri, *commands, options=('-f', 'raw')):
    words = [word for command in commands for word in ('-c', command)]
    status, out, text = run(IO, *options, *words, uri)
    return status, out.decode('utf-8', 'replace') + text


def worked(name, result):
    status, *texts = result
    said = ' '.join(text if isinstance(text, str) else text.decode('utf-8', 'replace') for text in texts)
    return verdict(status == 0 and 'ailed' not in said, name, f'status {status}: {said[-600:]}')


def said(name, result, *wanted, secrets=()):
    """It fails, with one line that says all this and no secret."""
    status, out, text = result
    both = out.decode('utf-8', 'replace') + text
    good = status == 1 and text.count('\n') == 1 and all(part in text for part in wanted)
    return verdict(good and not any(secret in both for secret in secrets), name, f'status {status}: {text}')


def exported(cluster, image, *more):
    if os.path.exists('export.raw'):
        os.unlink('export.raw')
    cluster.rbd('export', '--no-progress', f'{POOL}/{image}', *more, 'export.raw')
    return read('export.raw')


def holds(name, cluster, image, data):
    why = difference(exported(cluster, image), bytes(data))
    return verdict(not why, name, why)


def by_qemu(name, *args):
    """Runs qemu-img where it can rbd; whether it did."""
    if QEMU[0] is None:
        QEMU[0] = bool(tool('qemu-img')) and 'rbd' in run('qemu-img', '--help')[1].decode().split('Supported formats:')[-1]
    if not QEMU[0]:
        skip(name, 'qemu-img without rbd (qemu-utils, qemu-block-extra)')
        return False
    status, _, text = run('qemu-img', *args)
    return status == 0 or verdict(False, name, text)


def objects(cluster, image):
    """How many objects hold data of the image."""
    prefix = json.loads(cluster.rbd('info', '--format', 'json', f'{POOL}/{image}'))['block_name_prefix']
    return sum(line.startswith(prefix) for line in cluster.must('rados', '--conf', cluster.conf, '-p', POOL, 'ls').split())


def size_of(cluster, image):
    return json.loads(cluster.rbd('info', '--format', 'json', f'{POOL}/{image}'))['size']


# ---- Data ----

def test_data(cluster):
    uri, shadow = cluster.name('data'), bytearray(disk(SIZE))
    write('content.raw', shadow)
    worked('convert makes an image', img('convert', '-f', 'raw', '-O', 'raw', 'content.raw', uri))
    holds('... rbd export sees the same', cluster, 'data', shadow)
    commands = []
    for _ in range(60):
        at, length = RNG.randrange(SIZE - MIB), RNG.choice((1, 513, 4096, 70000, 300000, MIB))
        byte = RNG.randrange(256)
        what = RNG.choice((f'write -P {byte}', f'write -f -P {byte}', 'write -z', 'write -z -u'))
        shadow[at:at + length] = bytes([byte if '-P' in what else 0]) * length
        commands.append(f'{what} {at} {length}')
    worked('writes and zeroes', io(uri, *commands, 'flush', options=('-f', 'raw', '-d', 'unmap')))
    holds('... are there', cluster, 'data', shadow)
    worked('convert from it', img('convert', '-f', 'raw', '-O', 'raw', uri, 'back.raw'))
    verdict(read('back.raw') == bytes(shadow), '... reads the same', difference(read('back.raw'), bytes(shadow)))
    status, out, text = img('info', '--output=json', '-f', 'raw', uri)
    verdict(status == 0 and json.loads(out)['virtual-size'] == SIZE, 'info tells the size', text)
    worked('a read across the last object', io(uri, f'read {SIZE - 8192} 8192'))
    if by_qemu('QEMU reads the same', 'convert', '-f', 'raw', '-O', 'raw', uri, 'qemu.raw'):
        verdict(read('qemu.raw') == bytes(shadow), 'QEMU reads the same')
        write('other.raw', RNG.randbytes(SIZE))
        by_qemu('QEMU writes', 'convert', '-n', '-f', 'raw', '-O', 'raw', 'other.raw', uri)
        worked('reads what QEMU wrote', img('compare', '-f', 'raw', '-F', 'raw', uri, 'other.raw'))


def test_space(cluster):
    cluster.rbd('create', '-s', '64M', f'{POOL}/space')
    uri, unmap = cluster.name('space'), ('-f', 'raw', '-d', 'unmap')
    worked('zeroes that keep their space', io(uri, 'write -z 0 16M', options=unmap))
    verdict(objects(cluster, 'space') == 4, '... take it', objects(cluster, 'space'))
    worked('zeroes that may give space back', io(uri, 'write -P 7 32M 16M', 'flush', 'write -z -u 0 16M', options=unmap))
    verdict(objects(cluster, 'space') == 4, '... do', objects(cluster, 'space'))
    worked('discard', io(uri, 'discard 32M 8M', options=unmap))
    verdict(objects(cluster, 'space') == 2, '... gives space back', objects(cluster, 'space'))
    holds('... and reads as zeroes', cluster, 'space', bytes(40 * MIB) + b'\7' * 8 * MIB + bytes(16 * MIB))
    status, out, text = img('map', '--output=json', '-f', 'raw', uri)
    runs = [(part['start'], part['length'], part['data']) for part in json.loads(out)] if status == 0 else []
    verdict(runs == [(0, 40 * MIB, False), (40 * MIB, 8 * MIB, True), (48 * MIB, 16 * MIB, False)], 'map shows holes',
            f'{runs} {text}')
    worked('with discard=ignore', io(uri, 'discard 40M 8M', options=('-f', 'raw', '-d', 'ignore')))
    verdict(objects(cluster, 'space') == 2, '... nothing is given back', objects(cluster, 'space'))


def test_size(cluster):
    uri = cluster.name('size')
    worked('create', img('create', '-f', 'raw', '-o', 'object-size=1M', uri, '10M'))
    info = json.loads(cluster.rbd('info', '--format', 'json', f'{POOL}/size'))
    verdict((info['size'], info['object_size'], info['format']) == (10 * MIB, MIB, 2), '... as rbd sees it', info)
    worked('write', io(uri, 'write -P 9 0 10M'))
    worked('resize, larger', img('resize', '-f', 'raw', uri, '13M'))
    holds('... with zeroes behind', cluster, 'size', b'\11' * 10 * MIB + bytes(3 * MIB))
    worked('resize, smaller', img('resize', '-f', 'raw', '--shrink', uri, '5M'))
    worked('... and larger again', img('resize', '-f', 'raw', uri, '6M'))
    holds('... what was cut off is gone', cluster, 'size', b'\11' * 5 * MIB + bytes(MIB))
    said('preallocation', img('resize', '-f', 'raw', '--preallocation=full', uri, '7M'), 'preallocation', 'size')
    worked('create over it', img('create', '-f', 'raw', uri, '2M'))
    holds('... leaves nothing', cluster, 'size', bytes(2 * MIB))
    said('create over it, with other objects', img('create', '-f', 'raw', '-o', 'object-size=2M', uri, '2M'),
         'object size', f'{POOL}/size')
    said('an odd object size', img('create', '-f', 'raw', '-o', 'cluster_size=12345', cluster.name('odd'), '2M'), 'power of two')
    verdict('odd' not in cluster.rbd('ls', POOL), '... nothing was made')
    worked('cluster_size', img('create', '-f', 'raw', '-o', 'cluster_size=64k', cluster.name('even'), '1M'))
    verdict(json.loads(cluster.rbd('info', '--format', 'json', f'{POOL}/even'))['object_size'] == 65536, '... is that of objects')
    shell = Shell(uri)
    shell.say('write -P 1 0 4k')
    cluster.rbd('resize', '--allow-shrink', '--no-progress', '-s', '1M', f'{POOL}/size')
    out = shell.end('write -P 3 512k 4k', 'read -P 3 512k 4k', 'write -P 2 1500k 4k', 'read -P 2 1500k 4k', 'read -P 0 1M 4k')
    verdict('ailed' not in out and out.count('wrote 4096/4096') == 3, 'made smaller by somebody else: writing there', out)
    verdict(size_of(cluster, 'size') == 1504 * 1024, '... makes it as large as that needs', size_of(cluster, 'size'))


class Shell:
    """A prompt of tenon-io whose image is open."""

    def __init__(self, uri, *options):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen([IO, '-f', 'raw', *options, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.say('length')
        self.heard = self.process.stdout.readline().decode()
        if 'MiB' not in self.heard:
            raise RuntimeError(f'it does not open: {self.heard + self.end()}')

    def say(self, *lines):
        for line in lines:
            self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def end(self, *lines):
        return self.process.communicate('\n'.join([*lines, 'quit', '']).encode(), timeout=400)[0].decode()


# ---- Snapshots, clones, namespaces ----

def test_snapshots(cluster):
    old = bytearray(disk(SIZE))
    write('old.raw', old)
    cluster.rbd('import', '--no-progress', 'old.raw', f'{POOL}/base')
    cluster.rbd('snap', 'create', '--no-progress', f'{POOL}/base@then')
    uri, then = cluster.name('base'), cluster.name('base@then')
    worked('writing after a snapshot', io(uri, 'write -P 1 0 3M'))
    worked('the snapshot reads as it was', img('compare', '-f', 'raw', '-F', 'raw', then, 'old.raw'))
    verdict(exported(cluster, 'base')[:3 * MIB] == b'\1' * 3 * MIB, '... and the image as it is')
    said('writing to a snapshot', run(IO, '-f', 'raw', '-c', 'write 0 512', then), 'read-only', f'{POOL}/base@then')
    said('making one', img('create', '-f', 'raw', cluster.name('base@new'), '1M'), '@')
    status, out, text = img('info', '--output=json', '--image-opts', f'driver=rbd,pool={POOL},image=base,conf={cluster.conf}')
    data = json.loads(out).get('format-specific', {}).get('data', {}) if status == 0 else {}
    verdict([(one['name'], one['virtual-size']) for one in data.get('snapshots', [])] == [('then', SIZE)]
            and data['object-size'] == 4 * MIB and 'layering' in data['features'], 'info lists snapshots', f'{data} {text}')

    cluster.rbd('clone', '--rbd-default-clone-format', '2', f'{POOL}/base@then', f'{POOL}/clone')
    clone, shadow = cluster.name('clone'), bytearray(old)
    worked('a clone reads as its parent', img('compare', '-f', 'raw', '-F', 'raw', clone, 'old.raw'))
    shadow[MIB:MIB + 70000] = b'\2' * 70000
    shadow[4 * MIB:8 * MIB] = bytes(4 * MIB)
    shadow[9 * MIB:9 * MIB + 100000] = bytes(100000)
    worked('writes and zeroes in a clone', io(clone, f'write -P 2 {MIB} 70000', 'write -z -u 4M 4M', 'write -z 9M 100000',
                                              options=('-f', 'raw', '-d', 'unmap')))
    holds('... rbd sees the same', cluster, 'clone', shadow)
    worked('... and so does Tenon', img('convert', '-f', 'raw', '-O', 'raw', clone, 'back.raw'))
    verdict(read('back.raw') == bytes(shadow), '... byte for byte', difference(read('back.raw'), bytes(shadow)))
    status, out, text = img('info', '--output=json', '--image-opts', f'driver=rbd,pool={POOL},image=clone,conf={cluster.conf}')
    verdict(f'"{POOL}/base@then"' in out.decode(), 'info names the parent', out.decode() + text)


def test_namespaces(cluster):
    cluster.rbd('namespace', 'create', f'{POOL}/team')
    uri = cluster.name('team/one')
    write('small.raw', RNG.randbytes(MIB))
    worked('an image in a namespace', img('convert', '-f', 'raw', '-O', 'raw', 'small.raw', uri))
    holds('... rbd finds it there', cluster, 'team/one', read('small.raw'))
    said('it is not in the pool itself', img('info', cluster.name('one')), f'{POOL}/one', 'no such image')
    said('a namespace that is not there', img('info', cluster.name('others/one')), f'{POOL}/others/one')
    if by_qemu('QEMU finds it, too', 'convert', '-f', 'raw', '-O', 'raw', uri, 'qemu.raw'):
        verdict(read('qemu.raw') == read('small.raw'), 'QEMU finds it, too')


# ---- Names, options, keys ----

def test_names(cluster):
    cluster.rbd('create', '-s', '1M', f'{POOL}/a:b c')
    colon = f'rbd:{POOL}/a\\:b c:conf={cluster.conf}:rbd_cache=false'
    worked('a colon behind a backslash', io(colon, 'write -P 5 0 1M'))
    holds('... rbd sees what was written', cluster, 'a:b c', b'\5' * MIB)
    status, out, text = img('info', '--output=json', '-f', 'raw', colon)
    shown = json.loads(out)['filename'] if status == 0 else ''
    worked('the name that is shown can be used', img('info', '-f', 'raw', shown))
    server = f'file.server.0.host=127.0.0.1,file.server.0.port={cluster.port}'
    key = cluster.keys['client.eve']
    write('key.text', (key + '\n').encode())
    write('key.bytes', base64.b64decode(key))
    options = f'driver=raw,file.driver=rbd,file.pool={POOL},file.image=a:b c,file.user=eve,{server}'
    for name, secret in (('as text', 'secret,id=k,file=key.text'), ('as base64', 'secret,id=k,format=base64,file=key.text'),
                         ('as bytes', 'secret,id=k,file=key.bytes')):
        status, out, text = img('info', '--object', secret, '--image-opts', options + ',file.key-secret=k')
        verdict(status == 0 and key not in out.decode() + text and f'mon_host=127.0.0.1\\:{cluster.port}' in out.decode(),
                f'options and a key {name}', out.decode() + text)
    worked('auth-client-required', img('info', '--object', 'secret,id=k,file=key.text', '--image-opts',
                                       options + ',file.key-secret=k,file.auth-client-required.0=cephx'))
    status, out, text = img('info', '--object', 'secret,id=k,file=key.text',
                            f'rbd://eve@127.0.0.1:{cluster.port}/{POOL}/a%3Ab%20c?key-secret=k&timeout=60')
    verdict(status == 0, 'as a URI', out.decode() + text)
    legacy = f'rbd:{POOL}/a\\:b c:id=eve:key={key}:mon_host=127.0.0.1\\:{cluster.port}'
    status, out, text = img('info', '--output=json', legacy)
    verdict(status == 0 and key not in out.decode() + text, 'a key in the name is not shown', out.decode() + text)


def test_refusals(cluster):
    wrong = new_key()
    write('wrong', wrong.encode())
    cluster.rbd('create', '-s', '1M', f'{POOL}/lone')
    place = f'127.0.0.1:{cluster.port}'
    options = f'driver=rbd,pool={POOL},image=lone,user=eve,config.mon_host=v2:{place},timeout=60'
    for name, text in (('a wrong key', options), ('nobody of that name', options.replace('eve', 'mallory'))):
        said(name, img('info', '--object', 'secret,id=k,file=wrong', '--image-opts', text + ',key-secret=k'),
             place, f'{POOL}/lone', 'client.', secrets=[wrong])
    said('no key', img('info', '--image-opts', options), place, 'client.eve')
    said('no such secret', img('info', '--image-opts', options + ',key-secret=k'), "'k'")
    write('short', b'abc')
    said('a secret that is no key', img('info', '--object', 'secret,id=k,file=short', '--image-opts',
                                        options + ',key-secret=k'), "'k'")
    said('a pool that is not there', img('info', cluster.name('x').replace(POOL, 'nopool', 1)), 'nopool', place)
    said('an image that is not there', img('info', cluster.name('nothing')), f'{POOL}/nothing', place)
    said('a snapshot that is not there', img('info', cluster.name('lone@never')), f'{POOL}/lone@never', place)
    said('a pool without rights', img('create', '-f', 'raw', f'rbd:.mgr-like/x:conf={cluster.conf}', '1M'), '.mgr-like')
    said('encryption', img('info', '--image-opts', options + ',encrypt.format=luks2,encrypt.key-secret=k'), 'encrypt',
         'not support')
    said('a setting that writes files', img('info', cluster.name('lone', ':log_file=./log')), "'log_file'", 'conf=')
    said('a setting that is none', img('info', cluster.name('lone', ':rbd_cach=on')), "'rbd_cach'")
    said('no such file', img('info', f'rbd:{POOL}/lone:conf=./nothing'), './nothing')
    said('monitors twice', img('info', '--image-opts', options + ',server.0.host=127.0.0.1'), 'mon_host')
    for name in ('rbd:', f'rbd:{POOL}', f'rbd:{POOL}/', 'rbd:/x', f'rbd:{POOL}/x@', f'rbd:{POOL}/a/b/c', f'rbd:{POOL}/x:key',
                 'rbd://h/x', 'rbd://h', 'rbd://@h/x/y', 'rbd://[::1/x/y', 'rbd://h/x/%00', 'rbd://h/x/y#z', 'rbd://h,/x/y'):
        said(f'a name that is none: {name}', img('info', f'{name}:{wrong}' if name.endswith('key') else name), 'rbd:POOL',
             secrets=[wrong])
    said('a query that is none', img('info', f'rbd://h/x/y?key={wrong}'), 'question mark', secrets=[wrong])
    said('a port that is none', img('info', 'rbd://h:99999/x/y'), '99999')
    verdict(not os.path.exists('log'), 'no file was written')


def test_not_mapped(cluster):
    write('plain.raw', bytes(MIB))
    status, _, text = run(IMG, 'info', '-f', 'raw', 'plain.raw', env={**os.environ, 'LD_DEBUG': 'files'})
    verdict(status == 0 and 'libtenon' in text and 'librbd' not in text and 'librados' not in text,
            'a local file does without librbd', [line for line in text.splitlines() if 'librbd' in line][:3])


# ---- qcow2 ----

def test_qcow2(cluster):
    uri, data = cluster.name('q'), bytearray(disk(SIZE))
    write('content.raw', data)
    worked('convert to qcow2 in an image', img('convert', '-f', 'raw', '-O', 'qcow2', 'content.raw', uri))
    worked('... compares', img('compare', '-F', 'raw', uri, 'content.raw'))
    worked('... and checks', img('check', '-f', 'qcow2', uri))
    verdict(size_of(cluster, 'q') >= MIB, 'the image has grown', size_of(cluster, 'q'))
    by_qemu('QEMU checks it', 'check', '-f', 'qcow2', uri)
    if by_qemu('QEMU reads the same', 'convert', '-f', 'qcow2', '-O', 'raw', uri, 'qemu.raw'):
        verdict(read('qemu.raw') == bytes(data), 'QEMU reads the same')
    commands = []
    for _ in range(40):
        at, length, byte = RNG.randrange(SIZE - MIB), RNG.choice((512, 70000, 200000)), RNG.randrange(256)
        data[at:at + length] = bytes([byte]) * length
        commands.append(f'write -P {byte} {at} {length}')
    top = cluster.name('top')
    worked('an overlay in another', img('create', '-f', 'qcow2', '-b', uri, '-F', 'qcow2', top))
    worked('writes', io(top, *commands, options=('-f', 'qcow2')))
    write('content.raw', data)
    worked('... are there', img('compare', '-f', 'qcow2', '-F', 'raw', top, 'content.raw'))
    worked('commit', img('commit', '-f', 'qcow2', top))
    worked('... the base has it all', img('compare', '-f', 'qcow2', '-F', 'raw', uri, 'content.raw'))
    worked('... and checks', img('check', '-f', 'qcow2', uri))
    worked('with the host cache left out', io(uri, 'write -P 1 0 1M', 'read -P 1 0 1M', options=('-f', 'qcow2', '-t', 'none')))


# ---- A cluster that goes away ----

def test_restart(cluster):
    """Killed with requests under way, and brought back: nothing is lost."""
    count, step = 200, 65536
    cluster.rbd('create', '-s', f'{count * step // MIB + 1}M', f'{POOL}/restart')
    shell = Shell(cluster.name('restart', ':rados_osd_op_timeout=300:rados_mon_op_timeout=300'), '-t', 'none')
    for number in range(count):
        shell.say(f'aio_write -q -P {number % 255 + 1} {number * step} {step}')
        if number == count // 2:
            cluster.kill_osd()
    cluster.start_osd()
    out = shell.end('aio_flush', 'flush')
    wanted = b''.join(bytes([number % 255 + 1]) * step for number in range(count))
    why = difference(exported(cluster, 'restart')[:len(wanted)], wanted)
    verdict(shell.process.returncode == 0 and 'ailed' not in out and not why, 'an OSD killed and brought back', f'{why} {out[-400:]}')


def test_gone(cluster):
    """It stays away: requests end, so does the tool, with a word on which image of whose it was."""
    modes, shells = ('none', 'writeback'), []
    for mode in modes:
        cluster.rbd('create', '-s', '16M', f'{POOL}/gone-{mode}')
        lost = cluster.name(f'gone-{mode}', f':mon_host=127.0.0.1\\:{cluster.port}')
        shells.append(Shell(f'{lost}:rados_osd_op_timeout=2:rados_mon_op_timeout=2', '-t', mode))
        # Whoever writes has the lock of the image from now on: librbd waits for that as long as it takes.
        shells[-1].say('write -P 9 8M 4k', 'flush')
        heard = shells[-1].process.stdout.readline()
        if b'wrote 4096' not in heard:
            raise RuntimeError(f'it does not write: {heard}')
    cluster.kill_osd(tell=False)
    begun = time.monotonic()
    said('opening', img('info', '--image-opts', f'driver=rbd,pool={POOL},image=gone-none,conf={cluster.conf},timeout=2'),
         f'{POOL}/gone-none', f'127.0.0.1:{cluster.port}')
    for shell in shells:
        shell.say('write -P 1 0 64k', 'flush', 'read 4M 64k', 'quit')
    outs = [shell.end() for shell in shells]
    for mode, out in zip(modes, outs):
        verdict('ailed' in out, f'requests fail, cache={mode}', out)
    verdict(time.monotonic() - begun < 300, '... in the end', time.monotonic() - begun)
    cluster.tell_down()
    cluster.start_osd()
    worked('back again', io(cluster.name('gone-none'), 'write -P 3 0 64k', 'read -P 3 0 64k', 'read -P 9 8M 4k'))


def test_unreachable(cluster):
    """Nobody there, or somebody who says nothing."""
    with socket.create_server(('127.0.0.1', 0)) as mute, socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        for name, port in (('refuses', closed.getsockname()[1]), ('is silent', mute.getsockname()[1])):
            begun = time.monotonic()
            said(f'a monitor that {name}',
                 img('info', '--image-opts', f'driver=rbd,pool={POOL},image=x,server.0.host=127.0.0.1,server.0.port={port},'
                                             'config.key=' + new_key() + ',timeout=2'),
                 f'{POOL}/x', f'127.0.0.1:{port}', '2 seconds')
            verdict(time.monotonic() - begun < 100, '... is given up', time.monotonic() - begun)


PARTS = (test_data, test_space, test_size, test_snapshots, test_namespaces, test_names, test_refusals, test_not_mapped, test_qcow2,
         test_unreachable, test_restart, test_gone)
WHY = missing()
if WHY:
    print(f'1..0 # SKIP {WHY}')
elif 'protocol-rbd' not in run(os.path.join(os.path.dirname(IMG), 'tenon-plugin'), 'list')[1].decode():
    print('1..0 # SKIP built without rbd')
else:
    with Cluster() as ceph:
        for part in PARTS:
            if re.fullmatch(os.environ.get('PROTO_RBD', '.*'), part.__name__[5:]):
                before = time.monotonic()
                part(ceph)
                print(f'# {part.__name__[5:]}: {time.monotonic() - before:.1f} s', flush=True)
    finish()
