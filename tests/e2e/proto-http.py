#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""http and https against nginx, and against a server that lies: right data or an error that names the server, no hang."""
import base64
import os
import shutil
import socket
import subprocess
import sys
import time

from imgtest import RNG, difference, finish, img, read, run, skip, verdict, write
from lyingweb import LyingServer
from nbdtest import IO

MIB = 1 << 20
SIZE = 9 * MIB + 513
SECRET = 'Passw0rd-that-is-secret'


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


# ---- nginx ----

CONFIG = '''
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log;
events {{ worker_connections 256; }}
http {{
  access_log access.log; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate cert.pem; ssl_certificate_key key.pem;
    root files;
    location /private/ {{ auth_basic "private"; auth_basic_user_file users; alias files/; }}
    location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
    location /elsewhere {{ return 302 file:///etc/passwd; }}
    location /circle {{ return 302 /circle; }}
    location /whole/ {{ max_ranges 0; alias files/; }}
    location /cookie/ {{ if ($http_cookie != "door=open") {{ return 403; }} alias files/; }}
  }}
}}
'''


class Nginx:
    """nginx with a folder of its own, in the foreground."""

    def __init__(self):
        self.port, self.tls_port, self.process = free_port(), free_port(), None
        os.makedirs('web/files', exist_ok=True)
        os.makedirs('web/tmp', exist_ok=True)
        write('web/nginx.conf', CONFIG.format(port=self.port, tls_port=self.tls_port).encode())
        write('web/users', f'reader:{{PLAIN}}{SECRET}\n'.encode())
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
                        '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', 'web/key.pem', '-out', 'web/cert.pem'],
                       check=True, capture_output=True)

    def start(self):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen([tool_nginx(), '-p', os.path.abspath('web') + '/', '-c', 'nginx.conf', '-e', 'error.log'],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', self.tls_port)) == 0:
                    return self
            time.sleep(.02)
        raise RuntimeError('nginx does not start: ' + read('web/error.log').decode())

    def stop(self):
        self.process.kill()
        self.process.wait()

    def url(self, name, tls=False, login=''):
        return f'http{"s" if tls else ""}://{login}127.0.0.1:{self.tls_port if tls else self.port}/{name}'

    def requests(self):
        return read('web/access.log').count(b'\n')


def tool_nginx():
    return shutil.which('nginx') or shutil.which('nginx', path='/usr/sbin:/usr/local/sbin')


def json_name(**options):
    return 'json:{' + ','.join(f'"{key.replace("_", "-")}":"{value}"' for key, value in options.items()) + '}'


def converts(name, source, data, *options):
    status, _, text = img('convert', *options, '-f', 'raw', source, '-O', 'raw', 'out.raw')
    padded = data + bytes(-len(data) % 512)
    why = f'status {status}: {text}' if status else difference(read('out.raw'), padded)
    return verdict(not why, name, why)


def fails(name, source, wanted, *options, address='127.0.0.1', status=1):
    """One line that names the server and no password."""
    got, out, text = img('info', *options, '-f', 'raw', source)
    good = got == status and wanted in text and address in text and SECRET not in text + out.decode()
    return verdict(good and text.count('\n') == 1, name, f'status {got}: {text}')


def test_reading(web, data):
    url = web.url('disk.raw')
    converts('a file, in order', url, data)
    commands, shadow = [], []
    for _ in range(80):
        at = RNG.randrange(SIZE - 300000)
        length = RNG.choice((1, 512, 4096, 70000, 300000))
        write('part', data[at:at + length])
        shadow.append((at, length))
    for at, length in shadow:
        commands += ['-c', f'aio_read -v {at} 16' if length == 1 else f'aio_read {at} {length}']
    status, out, text = run(IO, '-r', '-f', 'raw', *commands, '-c', 'aio_flush', url)
    verdict(status == 0 and b'ailed' not in out, 'many reads at once', out[-300:] + text.encode())
    verdict(img('compare', '-f', 'raw', '-F', 'raw', url, 'web/files/disk.raw')[0] == 0, 'compare')
    converts('without read-ahead', json_name(driver='http', url=url, readahead='0'), data)
    converts('with small read-ahead', json_name(driver='http', url=url, readahead='512'), data)
    write('web/files/empty', b'')
    converts('an empty file', web.url('empty'), b'')
    write('web/files/short', b'x')
    converts('a file of one byte', web.url('short'), b'x')
    converts('behind a redirection', web.url('moved/disk.raw'), data)
    before = web.requests()
    run(IO, '-r', '-f', 'raw', *[word for at in range(0, 128 << 10, 512) for word in ('-c', f'read {at} 512')], url)
    verdict(web.requests() - before < 8, 'small reads in order are few requests', web.requests() - before)
    verdict(img('convert', '-f', 'raw', '-O', 'qcow2', 'web/files/disk.raw', 'web/files/disk.qcow2')[0] == 0
            and img('create', '-q', '-f', 'qcow2', '-b', web.url('disk.qcow2'), '-F', 'qcow2', 'over.qcow2')[0] == 0
            and img('compare', '--no-sandbox', 'over.qcow2', 'web/files/disk.raw')[0] == 0, 'as a backing file')


def test_refusals(web):
    fails('no such file', web.url('nothing'), 'no such file')
    fails('a redirection to a local file', web.url('elsewhere'), 'cannot be read')
    fails('redirections in a circle', web.url('circle'), 'cannot be read')
    fails('a server without ranges', web.url('whole/disk.raw'), 'byte ranges')
    fails('no server', f'http://127.0.0.1:{free_port()}/x', 'cannot be read')
    fails('another scheme', json_name(driver='https', url=web.url('disk.raw')), 'scheme', address='https')
    fails('read-ahead of 100', json_name(driver='http', url=web.url('disk.raw'), readahead='100'), '512', address='http')
    status, _, text = run(IO, '-f', 'raw', '-c', 'write 0 512', web.url('disk.raw'))
    verdict(status == 1 and 'read-only' in text, 'writing is refused', text)


def test_login(web, data):
    url = web.url('private/disk.raw')
    secret = f'secret,id=s0,data={SECRET}'
    fails('no password', url, 'credentials')
    fails('a wrong password in the URL', web.url('private/disk.raw', login=f'reader:not-{SECRET}@'), 'credentials')
    converts('a password in the URL', web.url('private/disk.raw', login=f'reader:{SECRET}@'), data)
    named = json_name(driver='http', url=url, username='reader', password_secret='s0')
    converts('a password in a secret', named, data, '--object', secret)
    fails('a wrong password in a secret', named, 'credentials', '--object', secret + 'not')
    status, out, text = img('info', '--output=json', '-f', 'raw', web.url('private/disk.raw', login=f'reader:{SECRET}@'))
    verdict(status == 0 and SECRET.encode() not in out and SECRET not in text, 'info keeps the password to itself', out)
    fails('no cookie', web.url('cookie/disk.raw'), 'refuses access')
    converts('a cookie', json_name(driver='http', url=web.url('cookie/disk.raw'), cookie='door=open'), data)
    converts('a cookie in a secret', json_name(driver='http', url=web.url('cookie/disk.raw'), cookie_secret='c'), data,
             '--object', 'secret,id=c,data=door=open')
    encoded = base64.b64encode(SECRET.encode()).decode()
    verdict(SECRET not in read('web/access.log').decode() + encoded, 'no password in the request line')


def test_tls(web, data):
    url = web.url('disk.raw', tls=True)
    fails('a certificate of nobody', url, 'certificate')
    converts('a certificate that is not looked at', json_name(driver='https', url=url, sslverify='off'), data)
    converts('a certificate of an authority', json_name(driver='https', url=url, cafile=os.path.abspath('web/cert.pem')), data)
    fails('another name than in the certificate',
          json_name(driver='https', url=url.replace('127.0.0.1', 'localhost'), cafile=os.path.abspath('web/cert.pem')),
          'certificate', address='localhost')


def test_restart(web, data):
    """The server goes away in the middle and comes back."""
    # pylint: disable=consider-using-with
    io = subprocess.Popen([IO, '-r', '-f', 'raw', web.url('disk.raw')], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)

    def ask(command):
        io.stdin.write(command + '\n')
        io.stdin.flush()
        text = ''
        while 'ops' not in text and 'ailed' not in text:
            line = io.stdout.readline()
            if not line:
                return text
            text += line
        return text

    verdict('512/512' in ask('read 0 512'), 'before the server goes')
    web.stop()
    verdict('ailed' in ask(f'read {5 * MIB} 512'), 'a read fails while there is no server')
    web.start()
    verdict('512/512' in ask(f'read {5 * MIB} 512'), 'a read when it is back')
    write('web/files/disk.raw.new', RNG.randbytes(SIZE))
    os.replace('web/files/disk.raw.new', 'web/files/disk.raw')
    verdict('ailed' in ask(f'read {7 * MIB} 512'), 'a file that was replaced is not read')
    io.communicate('quit\n', timeout=60)
    verdict(io.returncode is not None, 'tenon-io ends')
    write('web/files/disk.raw', data)


def test_nginx(data):
    if not tool_nginx() or not shutil.which('openssl'):
        skip('nginx', 'nginx (nginx-light) or openssl is not installed')
        return
    web = Nginx().start()
    try:
        write('web/files/disk.raw', data)
        test_reading(web, data)
        test_refusals(web)
        test_login(web, data)
        test_tls(web, data)
        test_restart(web, data)
    finally:
        web.stop()


# ---- A server that lies ----

def lies(name, wanted, data, **behaviour):
    """What it says at the beginning is refused."""
    with LyingServer(data, **behaviour) as server:
        fails(name, json_name(driver='http', url=server.url, timeout=1), wanted)


def lies_later(name, data, **behaviour):
    """The beginning is all right; then data is never wrong, and nothing waits for ever."""
    with LyingServer(data, later=behaviour) as server:
        status, _, text = img('convert', '-f', 'raw', json_name(driver='http', url=server.url, timeout=1), '-O', 'raw', 'out.raw')
        verdict(status == 1 and '127.0.0.1' in text, name, f'status {status}: {text}')


def serves(name, data, **behaviour):
    with LyingServer(data, **behaviour) as server:
        converts(name, json_name(driver='http', url=server.url, timeout=2), data)


def test_lies():
    data = RNG.randbytes(2 * MIB + 77)
    serves('a server with nothing to hide', data)
    serves('replies that break off', data, short=3)
    serves('replies in chunks', data, chunked=True)
    serves('connections that close', data, close=True)
    serves('less than was asked for, and honest about it', data, most=50000)
    serves('no version', data, etag=None)
    for name, wanted, behaviour in (
            ('ranges ignored', 'byte ranges', {'ignore': True}),
            ('no Content-Range', 'which part', {'range': None}),
            ('another part', 'another part', {'range': 'bytes 5-100/2097229'}),
            ('a part that ends before it begins', 'malformed', {'range': 'bytes 5-4/2097229'}),
            ('a part beyond the end', 'malformed', {'range': 'bytes 0-200/100'}),
            ('a size of *', 'malformed', {'range': 'bytes 0-262143/*'}),
            ('a size of 2^64', 'malformed', {'range': 'bytes 0-262143/18446744073709551616'}),
            ('a negative size', 'malformed', {'range': 'bytes 0-262143/-1'}),
            ('two ranges', 'malformed', {'extra': 'Content-Range: bytes 1-2/3'}),
            ('another unit', 'malformed', {'range': 'lines 0-1/2'}),
            ('compressed on the way', 'compressed', {'extra': 'Content-Encoding: gzip'}),
            ('status 500', 'status 500', {'status': 500}),
            ('status 416', 'refuses the part', {'status': 416}),
            ('a status that is none', 'cannot be read', {'raw': b'HTTP/1.1 abc\r\n\r\n'}),
            ('no HTTP at all', 'cannot be read', {'raw': b'220 mail.example ESMTP\r\n'}),
            ('nothing', 'cannot be read', {'raw': b''}),
            ('zeroes', 'cannot be read', {'raw': bytes(5000)}),
            ('silence', 'cannot be read', {'stall': 0}),
            ('a head without an end', 'cannot be read', {'raw': b'HTTP/1.1 206 x\r\n' + b'A: b\r\n' * 200000})):
        lies(name, wanted, data, **behaviour)
    for name, behaviour in (('ranges ignored', {'ignore': True}), ('another version', {'etag': '"other"'}), ('no version', {'etag': None}),
                            ('another size', {'grow': 1}), ('another part', {'shift': 1}), ('silence', {'stall': 1000}),
                            ('status 503', {'status': 503}), ('nothing but hanging up', {'raw': b''}), ('an empty part', {'short': 0}),
                            ('more than it should be', {'longer': True})):
        lies_later(f'later: {name}', data, **behaviour)


def test_secrets_stay():
    """What one server is told is not told another."""
    data = RNG.randbytes(300000)
    with LyingServer(data) as other, LyingServer(data, moved=other.url) as server:
        login = server.url.replace('127.0.0.1', f'reader:{SECRET}@127.0.0.1')
        converts('sent elsewhere', json_name(driver='http', url=login, cookie='door=' + SECRET), data)
        told = '\n'.join(server.heads).lower(), '\n'.join(other.heads).lower()
        verdict('cookie: door' in told[0] and 'authorization: basic' in told[0], 'the server is told cookie and password', told[0])
        verdict('cookie' not in told[1] and 'authorization' not in told[1], 'where it sends to they are not', told[1])
    with LyingServer(data, digest=('reader', SECRET)) as server:
        login = server.url.replace('127.0.0.1', f'reader:{SECRET}@127.0.0.1')
        converts('Digest', json_name(driver='http', url=login, readahead='64k'), data)
        heads = [head.lower() for head in server.heads]
        verdict(any('authorization: digest' in head for head in heads[1:]), 'was asked for', heads)
        fails('Digest, a wrong password', login.replace(SECRET, 'wrong'), 'credentials')


# ---- FTP ----

FTP = '''
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
authorizer = DummyAuthorizer()
authorizer.add_user("reader", sys.argv[2], "ftp")
authorizer.add_anonymous("ftp")
FTPHandler.authorizer = authorizer
FTPServer(("127.0.0.1", int(sys.argv[1])), FTPHandler).serve_forever()
'''


def test_ftp(data):
    if run(sys.executable, '-c', 'import pyftpdlib')[0]:
        skip('ftp', 'there is no FTP server (python3-pyftpdlib)')
        return
    os.makedirs('ftp', exist_ok=True)
    write('ftp/disk.raw', data)
    write('ftp/empty', b'')
    port = free_port()
    # pylint: disable=consider-using-with
    server = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', FTP, str(port), SECRET], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while socket.socket().connect_ex(('127.0.0.1', port)) and time.monotonic() < end:
            time.sleep(.05)
        url = f'ftp://127.0.0.1:{port}/disk.raw'
        converts('ftp: a file', url, data)
        converts('ftp: an empty file', f'ftp://127.0.0.1:{port}/empty', b'')
        converts('ftp: a password', f'ftp://reader:{SECRET}@127.0.0.1:{port}/disk.raw', data)
        fails('ftp: a wrong password', f'ftp://reader:not-{SECRET}@127.0.0.1:{port}/disk.raw', 'cannot be read')
        fails('ftp: no such file', f'ftp://127.0.0.1:{port}/nothing', 'cannot be read')
        commands = [word for _ in range(30) for word in ('-c', f'aio_read {RNG.randrange(SIZE - 70000)} 65537')]
        status, out, text = run(IO, '-r', '-f', 'raw', *commands, '-c', 'aio_flush', url)
        verdict(status == 0 and b'ailed' not in out, 'ftp: many reads at once', out[-300:] + text.encode())
    finally:
        server.kill()
        server.wait()


CONTENT = RNG.randbytes(SIZE)
test_lies()
test_secrets_stay()
test_nginx(CONTENT)
test_ftp(CONTENT)
finish()
