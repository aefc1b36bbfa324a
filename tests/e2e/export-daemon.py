#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tenon-storage-daemon: its command line as users of qemu-storage-daemon write it, and its monitor, by qemu-img and nbdinfo."""
import json
import os
import signal
import subprocess
import sys
import threading
import time

from exporttest import DAEMON, Daemon, connect
from imgtest import difference, disk, finish, img, read, run, skip, tool, verdict, write
from nbdtest import WRITE, Client

MIB = 1 << 20
NODE = 'driver=qcow2,node-name=n,file.driver=file,file.filename=d.qcow2'
UNIX = 'addr.type=unix,addr.path=nbd'
URI = 'nbd+unix:///{}?socket=nbd'


class Monitor:
    """A client of the monitor at the socket 'qmp'."""

    def __init__(self, path='qmp', hello=True):
        self.sock = connect(path)
        self.stream = self.sock.makefile('r', encoding='utf-8')
        self.greeting, self.events = self.answer(), []
        if hello:
            self.call('qmp_capabilities')

    def answer(self):
        return json.loads(self.stream.readline() or 'null')

    def call(self, command, **arguments):
        return self.send(json.dumps({'execute': command, 'arguments': arguments}))

    def send(self, text):
        self.sock.sendall(text.encode())
        while True:
            answer = self.answer()
            if answer is None or 'event' not in answer:
                return answer
            self.events.append((answer['event'], answer['data']))

    def failed(self, command, said, **arguments):
        return said in self.call(command, **arguments).get('error', {}).get('desc', '')

    def close(self):
        self.stream.close()
        self.sock.close()


def make():
    data = disk(4 * MIB)
    write('d.raw', data)
    img('convert', '-f', 'raw', '-O', 'qcow2', 'd.raw', 'd.qcow2')
    return data


def reads_as(name, uri, data):
    status, _, text = run('qemu-img', 'convert', '-f', 'raw', uri, '-O', 'raw', 'out.raw')
    why = text if status else difference(read('out.raw'), data)
    return verdict(not why, name, why)


def test_command_line():
    data = make()
    with Daemon('--blockdev', 'driver=file,node-name=f,filename=d.qcow2', '--blockdev', 'qcow2,node-name=n,file=f',
                '--nbd-server', UNIX, '--export', 'type=nbd,id=a,node-name=n', '--export',
                'nbd,id=b,node-name=n,name=other,writable=on'):
        reads_as('an NBD export is named as its node', URI.format('n'), data)
        reads_as('a second export of it', URI.format('other'), data)
        status, _, _ = run('qemu-io', '-f', 'raw', '-c', 'write 0 4k', URI.format('n'))
        verdict(status != 0, 'an export is read-only unless it says otherwise')
        status, _, text = run('qemu-io', '-f', 'raw', '-c', 'write -P 3 0 4k', URI.format('other'))
        verdict(status == 0, 'a writable export', text)
    img('convert', 'd.qcow2', '-O', 'raw', 'out.raw')
    verdict(not difference(read('out.raw'), b'\3' * 4096 + data[4096:]), 'the image holds what was written')
    verdict(not os.path.exists('nbd') and not os.path.exists('pid'), 'socket and pid file are gone')


def test_json_and_inet():
    data = make()
    node = {'driver': 'qcow2', 'node-name': 'n', 'read-only': True, 'file': {'driver': 'file', 'filename': 'd.qcow2'}}
    export = {'type': 'nbd', 'id': 'e', 'node-name': 'n', 'name': 'x'}
    port = str(20000 + os.getpid() % 20000)
    with Daemon('--blockdev', json.dumps(node), '--nbd-server', f'addr.type=inet,addr.host=127.0.0.1,addr.port={port}',
                '--export', json.dumps(export)):
        reads_as('JSON, and TCP', f'nbd://127.0.0.1:{port}/x', data)


def refused(name, said, *args):
    done = subprocess.run([DAEMON, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    text = done.stderr.decode()
    verdict(done.returncode == 1 and said in text and text.count('\n') == 1, f'refused: {name}', text)


def test_refusals():
    make()
    before = read('d.qcow2')
    refused('an export of nothing', "no node 'x'", '--export', 'nbd,id=e,node-name=x')
    refused('NBD without a server', '--nbd-server', '--blockdev', NODE, '--export', 'nbd,id=e,node-name=n')
    refused('two exports of one id', 'already', '--blockdev', NODE, '--nbd-server', UNIX, '--export',
            'nbd,id=e,node-name=n', '--export', 'nbd,id=e,node-name=n,name=b')
    refused('an unknown type', 'nothing', '--blockdev', NODE, '--export', 'nothing,id=e,node-name=n')
    refused('an unknown option', 'colour', '--blockdev', NODE, '--nbd-server', UNIX, '--export',
            'nbd,id=e,node-name=n,colour=red')
    refused('a node without a name', 'node-name', '--blockdev', 'driver=file,filename=d.qcow2')
    refused('a node without an image', 'none.img', '--blockdev', 'driver=file,node-name=n,filename=none.img')
    refused('an address without a type', 'addr.type', '--nbd-server', 'addr.path=nbd')
    refused('a monitor without its device', '--chardev', '--monitor', 'chardev=c')
    refused('an image that is read-only', 'read-only', '--blockdev', NODE + ',read-only=on', '--nbd-server', UNIX, '--export',
            'nbd,id=e,node-name=n,writable=on')
    verdict(read('d.qcow2') == before and not os.path.exists('nbd'), 'what is refused changes nothing and leaves nothing')


def test_background():
    data = make()
    args = (DAEMON, '--daemonize', '--pidfile', 'pid', '--blockdev', NODE, '--nbd-server', UNIX, '--export',
            'nbd,id=e,node-name=n')
    verdict(run(*args)[0] == 0, '--daemonize returns once it serves')
    pid = int(read('pid'))
    reads_as('it serves in the background', URI.format('n'), data)
    status, _, text = run(*args)
    verdict(status == 1 and text, '--daemonize tells of failures', text)
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 30
    while os.path.exists('pid') and time.monotonic() < end:
        time.sleep(0.02)
    verdict(not os.path.exists('pid'), 'SIGTERM ends it')


def test_monitor():
    data = make()
    with Daemon('--chardev', 'socket,id=c,path=qmp,server=on,wait=off', '--monitor', 'chardev=c') as daemon:
        monitor = Monitor(hello=False)
        verdict('version' in monitor.greeting['QMP'], 'the greeting', monitor.greeting)
        answer = monitor.call('query-block-exports')
        verdict(answer['error']['class'] == 'CommandNotFound', 'nothing goes before qmp_capabilities', answer)
        monitor.call('qmp_capabilities')
        verdict(monitor.send('{"execute": "query-version", "id": 17}')['id'] == 17, 'a number as id')
        verdict(monitor.send('{"execute": "query-version", "id": "a\\"}"}')['id'] == 'a"}', 'a text as id')
        verdict('error' in monitor.send('{"execute": "nothing"}'), 'an unknown command')
        verdict('error' in monitor.send('{"execute": }'), 'broken JSON')
        verdict('error' in monitor.send('[1]'), 'no object')
        names = [c['name'] for c in monitor.call('query-commands')['return']]
        verdict('blockdev-add' in names, 'query-commands', names)
        node = {'driver': 'qcow2', 'node-name': 'n', 'file': {'driver': 'file', 'filename': 'd.qcow2'}}
        verdict(monitor.call('blockdev-add', **node) == {'return': {}}, 'blockdev-add')
        verdict(monitor.failed('blockdev-add', 'n', **node), 'blockdev-add: a name that is taken')
        nodes = monitor.call('query-named-block-nodes')['return']
        verdict(nodes[0]['node-name'] == 'n' and nodes[0]['image']['virtual-size'] == 4 * MIB, 'query-named-block-nodes', nodes)
        address = {'type': 'unix', 'data': {'path': 'nbd'}}
        verdict(monitor.call('nbd-server-start', addr=address) == {'return': {}}, 'nbd-server-start')
        verdict('return' in monitor.call('block-export-add', type='nbd', id='e', **{'node-name': 'n', 'writable': True}),
                'block-export-add')
        reads_as('what the monitor has added is served', URI.format('n'), data)
        exports = monitor.call('query-block-exports')['return']
        verdict([e['id'] for e in exports] == ['e'], 'query-block-exports', exports)
        verdict(monitor.failed('blockdev-del', 'export', **{'node-name': 'n'}), 'blockdev-del: in use')
        verdict('return' in monitor.call('block_resize', size=6 * MIB, **{'node-name': 'n'}), 'block_resize')
        reads_as('the export has grown', URI.format('n'), data + bytes(2 * MIB))
        monitor.close()
        monitor = Monitor()
        verdict('return' in monitor.call('block-export-del', id='e'), 'block-export-del')
        verdict(('BLOCK_EXPORT_DELETED', {'id': 'e'}) in monitor.events, 'an event tells of it', monitor.events)
        verdict(monitor.failed('block-export-del', 'no export', id='e'), 'block-export-del: there is none')
        verdict('return' in monitor.call('nbd-server-stop'), 'nbd-server-stop')
        verdict('return' in monitor.call('blockdev-del', **{'node-name': 'n'}), 'blockdev-del')
        verdict(monitor.call('query-named-block-nodes')['return'] == [], 'the node is gone')
        for _ in range(200):
            monitor.sock.sendall(b'{"execute": "query-commands"}')
        verdict(all('return' in monitor.answer() for _ in range(200)), 'many commands at once')
        verdict(monitor.call('quit') == {'return': {}}, 'quit')
        verdict(daemon.process.wait(30) == 0, 'quit ends it')
        monitor.close()


def use_export(name, stop, answers):
    """Reads and writes until the server hangs up."""
    data, count = b'x' * 4096, 0
    try:
        with Client('nbd') as client:
            client.go(name)
            while not stop.is_set():
                if client.error(WRITE, 4096, 4096, 0, data) or client.read(4096, 4096) != data:
                    answers.append(f'{name}: a wrong answer')
                count += 1
    except (EOFError, ConnectionError):
        pass
    answers.append(count)


def test_threads():
    """Exports and servers come and go while clients use them, each of whom may be in a thread of its own."""
    make()
    with Daemon('--chardev', 'socket,id=c,path=qmp,server=on,wait=off', '--monitor', 'chardev=c', '--blockdev', NODE) as daemon:
        monitor = Monitor()
        for turn in range(4):
            address = {'type': 'unix', 'data': {'path': 'nbd'}}
            started = monitor.call('nbd-server-start', addr=address, threads=4)
            stop, answers = threading.Event(), {'a': [], 'b': []}
            for name in answers:
                monitor.call('block-export-add', type='nbd', id=name, name=name, **{'node-name': 'n', 'writable': True})
            clients = {name: [threading.Thread(target=use_export, args=(name, stop, answers[name])) for _ in range(4)]
                       for name in answers}
            for client in clients['a'] + clients['b']:
                client.start()
            time.sleep(0.2)
            verdict('return' in started and 'return' in monitor.call('block-export-del', id='a'), f'{turn}: one export goes')
            for client in clients['a']:
                client.join(60)
            with Client('nbd') as client:
                client.go('b')
                verdict(len(client.read(0, 512)) == 512, f'{turn}: the other one is served')
            verdict(len(answers['a']) == 4 and not answers['b'], f'{turn}: its clients are gone, the others are not', answers)
            if turn % 2:
                stop.set()
            verdict('return' in monitor.call('nbd-server-stop'), f'{turn}: the server goes')
            for client in clients['b']:
                client.join(60)
            verdict(all(isinstance(n, int) for n in answers['a'] + answers['b']), f'{turn}: no answer was wrong', answers)
        monitor.call('quit')
        verdict(daemon.process.wait(60) == 0, 'it ends in good order')
        monitor.close()


def test_hostile_monitor():
    with Daemon('--chardev', 'socket,id=c,path=qmp,server=on,wait=off', '--monitor', 'chardev=c,pretty=on') as daemon:
        sock = connect('qmp')
        try:
            for _ in range(40):
                sock.sendall(b'{"a": [' * 8192)
        except OSError:
            pass
        sock.close()
        sock = connect('qmp')
        verdict(sock.recv(100), 'a client that never ends its command is left, the next one is greeted')
        sock.close()
        verdict(daemon.end()[0] == 0, 'and the daemon ends well')


def test_stdio():
    done = subprocess.run([DAEMON, '--chardev', 'stdio,id=c', '--monitor', 'c'], capture_output=True, timeout=60, check=False,
                          input=b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n')
    lines = done.stdout.decode().splitlines()
    verdict(done.returncode == 0 and len(lines) == 3, 'a monitor at standard input and output', done)


if not tool('qemu-img'):
    print('1..0 # SKIP qemu-img is not installed (qemu-utils)')
    sys.exit(0)
test_command_line()
test_json_and_inet()
test_refusals()
test_background()
test_monitor()
test_threads()
test_hostile_monitor()
test_stdio()
if tool('nbdinfo'):
    make()
    with Daemon('--blockdev', NODE, '--nbd-server', UNIX, '--export', 'nbd,id=e,node-name=n,name=x'):
        verdict(b'x' in run('nbdinfo', '--list', '--json', URI.format(''))[1], 'nbdinfo lists the export')
else:
    skip('nbdinfo', 'not installed (libnbd-bin)')
finish()
