#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""NBD through TLS: our server with clients of others and ours, our client with servers of others, certificates and shared keys,
and everything that has to be refused: strangers, wrong names, wrong keys, going without TLS."""
import os
import shutil
import socket

from imgtest import RNG, difference, finish, img, read, run, skip, verdict
from nbdtest import ABORT, EXPORT_NAME, GO, LIST, NBD, STARTTLS, STRUCTURED, Client, Server
from nbdtls import PATH, make_disk, make_keys, name, psk, x509

MIB = 1 << 20
TLS_REQUIRED = 1 << 31 | 5


def ours(*args):
    return Server(NBD, '-t', '-e', '8', '-k', PATH, '-f', 'raw', *args, 'disk.raw', path=PATH)


def copies(what, *creds, source=None, data=None):
    if os.path.exists('out.raw'):
        os.unlink('out.raw')
    status, _, text = img('convert', *creds, '-O', 'raw', source or name(), 'out.raw')
    why = text if status else difference(read('out.raw'), data)
    verdict(not why, what, why)


def refused(what, text, *creds, source=None):
    status, _, why = img('info', *creds, source or name())
    verdict(status == 1 and text in why and why.count('\n') == 1, what, why)


# ---- Our server ----

def test_our_server():
    data = make_disk()
    with ours(*x509(end='server'), '--tls-creds=t'):
        copies('x509: our client reads from our server', *x509(), data=data)
        commands = ('-c', 'write -P 7 100000 300000', '-c', 'read -P 7 100000 300000', '-c', 'flush')
        status, out, text = run(NBD.replace('tenon-nbd', 'tenon-io'), *x509(), *commands, name())
        verdict(status == 0 and b'ailed' not in out, 'x509: our client writes', out + text.encode())
        data = read('disk.raw')
        status, _, text = run('qemu-img', 'convert', *x509(), '-O', 'raw', name(), 'theirs.raw')
        verdict(status == 0 and read('theirs.raw') == data, 'x509: qemu-img reads from our server', text)
        status, _, text = run('qemu-img', 'convert', '-n', *x509(), '-f', 'raw', 'theirs.raw', '--target-image-opts',
                              f'driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={PATH},'
                              'file.tls-creds=t,file.tls-hostname=localhost')
        verdict(status == 0 and read('disk.raw') == data, 'x509: qemu-img writes to our server', text)
        status, out, text = run(NBD, '--list', '-k', PATH, *x509(), '--tls-creds=t', '--tls-hostname=localhost')
        verdict(status == 0 and f'size:  {6 * MIB}' in out.decode(), 'x509: --list', text)
        refused('wrong CA: the client refuses the server', 'certificate', *x509('stranger'))
        refused('wrong name: the client refuses the server', 'certificate', *x509(), source=name(hostname='example.com'))
        refused('no name to check', 'tls-hostname', *x509(), source=name(hostname=None))
        refused('no certificate of its own: the server refuses', 'TLS', *x509('none'))
        refused('a plain client is refused', 'requires TLS', source=name(tls=False))
        status, _, text = run('qemu-img', 'info', name(tls=False))
        verdict(status == 1, 'a plain qemu-img is refused', text)
        copies('after all of them it still serves', *x509(), data=data)
    with ours(*x509(end='server', verify_peer='off'), '--tls-creds=t'):
        copies('verify-peer=off: clients need no certificate', *x509('none'), data=data)
    with ours(*psk(end='server'), '--tls-creds=t'):
        copies('psk: our client and our server', *psk(), data=data)
        copies('psk: another user', *psk(user='someone'), data=data)
        status, _, text = run('qemu-img', 'convert', *psk(), '-O', 'raw', name(hostname=None), 'theirs.raw')
        verdict(status == 0 and read('theirs.raw') == data, 'psk: qemu-img reads from our server', text)
        if shutil.which('nbdinfo'):
            uri = f'nbds+unix://qemu@/?socket={PATH}&tls-psk-file={os.path.abspath("psk/keys.psk")}'
            status, out, text = run('nbdinfo', '--size', uri)
            verdict(out.strip() == str(6 * MIB).encode(), 'psk: nbdinfo', out + text.encode())
        refused('wrong key', 'TLS', *psk('otherpsk'))
        refused('a user without a key', 'username', *psk(user='nobody'))
        refused('certificates where a key is wanted', 'TLS', *x509())
        copies('after all of them it still serves psk', *psk(), data=data)


def test_our_server_itself():
    """What a client may say before TLS, and what it may not."""
    make_disk()
    with ours(*psk(end='server'), '--tls-creds=t', '--handshake-limit=2'):
        with Client(PATH) as c:
            for option in LIST, GO, STRUCTURED:
                verdict(c.option(option)[-1][0] == TLS_REQUIRED, f'option {option} requires TLS')
            verdict(c.option(STARTTLS, b'x')[-1][0] == 1 << 31 | 3, 'STARTTLS with data is refused')
            verdict(c.option(ABORT)[-1][0] == 1, 'ABORT goes without')
        with Client(PATH) as c:
            c.send_option(EXPORT_NAME, b'')
            verdict(c.closed(), 'EXPORT_NAME without TLS: hung up')
        with Client(PATH) as c:
            header = b'IHAVEOPT' + bytes(3) + bytes([STARTTLS]) + bytes(4)
            c.sock.sendall(header + b'IHAVEOPT' + bytes(3) + bytes([LIST]) + bytes(4))
            verdict(c.closed(), 'options behind STARTTLS in the same breath: hung up')
        with Client(PATH) as c:
            verdict(c.option(STARTTLS)[-1][0] == 1, 'STARTTLS is acknowledged')
            c.sock.sendall(RNG.randbytes(3000))
            c.sock.shutdown(socket.SHUT_WR)
            verdict(hung_up(c), 'a handshake of noise: hung up')
        with Client(PATH) as c:
            c.option(STARTTLS)
            verdict(hung_up(c), 'a handshake of silence: hung up')
        copies('it still serves', *psk(), data=read('disk.raw'))


def hung_up(client):
    """There may be an alert first."""
    try:
        while client.sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except socket.timeout:
        return False
    return True


# ---- Servers of others ----

def test_other_servers():
    data = make_disk()
    if shutil.which('qemu-nbd'):
        for kind, make in ('x509', x509), ('psk', psk):
            with Server('qemu-nbd', '-t', '-k', PATH, '-f', 'raw', *make(end='server'), '--tls-creds', 't', 'disk.raw', path=PATH):
                copies(f'{kind}: reads from qemu-nbd', *make(), data=data)
                refused(f'{kind}: plain client, qemu-nbd with TLS', 'requires TLS', source=name(tls=False))
        with Server('qemu-nbd', '-t', '-k', PATH, '-f', 'raw', 'disk.raw', path=PATH):
            refused('qemu-nbd without TLS: no way back to plain', 'does not offer TLS', *x509())
    if shutil.which('nbdkit'):
        kit = 'nbdkit', '-f', '-U', PATH, '--tls=require'
        disk = 'file', 'disk.raw'
        with Server(*kit, '--tls-certificates', os.path.abspath('ca'), '--tls-verify-peer', *disk, path=PATH):
            copies('x509: reads from nbdkit', *x509(), data=data)
            refused('wrong CA, nbdkit', 'certificate', *x509('stranger'))
            refused('no certificate, nbdkit', 'TLS', *x509('none'))
        with Server(*kit, '--tls-psk', os.path.abspath('psk/keys.psk'), *disk, path=PATH):
            copies('psk: reads from nbdkit', *psk(), data=data)
            refused('wrong key, nbdkit', 'TLS', *psk('otherpsk'))
            refused('plain client, nbdkit', 'requires TLS', source=name(tls=False))


# ---- The command line ----

def test_refusals():
    make_disk()
    for args, text in ((('--tls-creds=t',), "'t'"), ((*x509(), '--tls-creds=t'), 'other end'),
                       ((*x509('missing', 'server'), '--tls-creds=t'), 'ca-cert.pem'),
                       (('--object', 'tls-creds-x509,id=t'), 'dir'), (('--object', 'tls-creds-anon,id=t,dir=.'), 'not supported'),
                       (('--tls-authz=a',), 'tls-creds')):
        status, _, why = run(NBD, '-k', PATH, '-f', 'raw', *args, 'disk.raw')
        verdict(status == 1 and text in why and why.count('\n') == 1, f'refused: {" ".join(args)[:50]}', why)
    status, _, why = img('info', 'nbds+unix:///?socket=' + PATH)
    verdict(status == 1 and 'tls-creds' in why, 'nbds:// needs credentials', why)


if not shutil.which('certtool') or not shutil.which('qemu-img'):
    skip('NBD through TLS', 'gnutls-bin and qemu-utils are needed')
    finish()
make_keys()
test_our_server()
test_our_server_itself()
test_other_servers()
test_refusals()
finish()
