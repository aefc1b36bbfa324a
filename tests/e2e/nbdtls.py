# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of NBD through TLS in Python: certificates and keys, and how credentials and images are named.  Imported."""
import json
import os
import shutil

from imgtest import RNG, read, run, write

PATH = os.path.abspath('socket')


# ---- Keys ----

def template(*lines):
    return write('template', ('\n'.join(lines) + '\nsigning_key\nexpiration_days = 2\n').encode())


def make_ca(folder):
    os.makedirs(folder, exist_ok=True)
    run('certtool', '--generate-privkey', '--ecc', '--outfile', f'{folder}/key.pem')
    run('certtool', '--generate-self-signed', '--load-privkey', f'{folder}/key.pem', '--template',
        template(f'cn = {folder}', 'ca', 'cert_signing_key'), '--outfile', f'{folder}/ca-cert.pem')


def make_certificate(folder, end, *lines, authority='ca'):
    """`lines` are those of certtool's templates that name whom it is for."""
    os.makedirs(folder, exist_ok=True)
    if folder != authority:
        shutil.copy(f'{authority}/ca-cert.pem', folder)
    use = ('tls_www_server', 'dns_name = localhost', 'ip_address = 127.0.0.1') if end == 'server' else ('tls_www_client',)
    run('certtool', '--generate-privkey', '--ecc', '--outfile', f'{folder}/{end}-key.pem')
    run('certtool', '--generate-certificate', '--load-ca-certificate', f'{authority}/ca-cert.pem', '--load-ca-privkey',
        f'{authority}/key.pem', '--load-privkey', f'{folder}/{end}-key.pem', '--template', template(*lines, *use),
        '--outfile', f'{folder}/{end}-cert.pem')


def make_keys():
    """Folders: ca and stranger, two authorities with a server and a client each; none, which trusts ca and has no
    certificate; psk and otherpsk."""
    for ca in 'ca', 'stranger':
        make_ca(ca)
        for end in 'server', 'client':
            make_certificate(ca, end, f'cn = {end}', authority=ca)
    os.makedirs('none', exist_ok=True)
    shutil.copy('ca/ca-cert.pem', 'none')
    for folder in 'psk', 'otherpsk':
        os.makedirs(folder, exist_ok=True)
        write(f'{folder}/keys.psk', f'someone:{RNG.randbytes(16).hex()}\nqemu:{RNG.randbytes(32).hex()}\n'.encode())


# ---- Names ----

def x509(folder='ca', end='client', **more):
    options = ''.join(f',{key.replace("_", "-")}={value}' for key, value in more.items())
    return '--object', f'tls-creds-x509,id=t,dir={os.path.abspath(folder)},endpoint={end}{options}'


def psk(folder='psk', end='client', user=None):
    return '--object', f'tls-creds-psk,id=t,dir={os.path.abspath(folder)},endpoint={end}' + (f',username={user}' if user else '')


def name(tls=True, hostname='localhost', path=PATH):
    file = {'driver': 'nbd', 'server': {'type': 'unix', 'path': path}}
    if tls:
        file['tls-creds'] = 't'
    if hostname and tls:
        file['tls-hostname'] = hostname
    return 'json:' + json.dumps({'driver': 'raw', 'file': file})


def make_disk():
    mib = 1 << 20
    write('disk.raw', RNG.randbytes(3 * mib) + bytes(2 * mib) + RNG.randbytes(mib))
    return read('disk.raw')
