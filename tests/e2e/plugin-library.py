#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plugin whose library is not on the machine costs nothing: the others load, and whoever uses it is told what to
install.  The library is missed by a copy of the plugin in which its name has been changed."""
import os
import re
import shutil

from imgtest import IMG, RNG, finish, img, run, skip, verdict, write

BUILD = os.path.dirname(os.path.dirname(IMG))

COMMON = re.compile(rb'lib(tenon|glib-2\.0|c|m|gcc_s)\.so')
USES = {
    'protocol-http': ('info', 'http://127.0.0.1:1/x'),
    'protocol-iscsi': ('info', 'iscsi://127.0.0.1:1/iqn.2026-11.example:x/1'),
    'protocol-nfs': ('info', 'nfs://127.0.0.1/x/y'),
    'protocol-rbd': ('info', 'rbd:pool/image'),
    'protocol-ssh': ('info', 'ssh://127.0.0.1:1/x'),
    'codec-zstd': ('convert', '-c', '-O', 'qcow2', '-o', 'compression_type=zstd', 'd.raw', 'd.qcow2'),
}


def libraries(path):
    """What a shared object asks for beside what every plugin does."""
    text = run('objdump', '-p', path)[1]
    return [name for name in re.findall(rb'NEEDED\s+(\S+)', text) if not COMMON.match(name)]


def without(name, library):
    """A folder of plugins in which @name asks for a library that is not there."""
    shutil.rmtree('plugins', ignore_errors=True)
    shutil.copytree(f'{BUILD}/lib/tenon/plugins', 'plugins')
    for entry in os.scandir('plugins'):
        os.chmod(entry.path, 0o755)
    absent = b'zz' + library[2:]
    with open(f'plugins/{name}.so', 'rb') as file:
        data = file.read()
    with open(f'plugins/{name}.so', 'wb') as file:
        file.write(data.replace(library + b'\0', absent + b'\0'))
    return absent.decode()


if not shutil.which('objdump'):
    skip('libraries', 'objdump is missing: install binutils')
    finish()
write('d.raw', RNG.randbytes(1 << 20))
write('zstd.raw', b'packed' * 100000)
os.environ.pop('TENON_PLUGINS', None)
tried = 0
for plugin, command in USES.items():
    if not os.path.exists(f'{BUILD}/lib/tenon/plugins/{plugin}.so'):
        continue
    wanted = libraries(f'{BUILD}/lib/tenon/plugins/{plugin}.so')
    if not wanted:
        continue
    absent = without(plugin, wanted[0])
    os.environ['TENON_PLUGIN_PATH'] = os.path.abspath('plugins')
    status, listed, text = run(f'{BUILD}/bin/tenon-plugin', 'list')
    verdict(status == 0 and plugin.encode() in listed and not text, f'{plugin}: the list is whole', text)
    status, _, text = img('convert', '-f', 'raw', '-O', 'qcow2', 'd.raw', 'other.qcow2')
    verdict(status == 0 and not text, f'{plugin}: others load', text)
    status, _, text = img(*command)
    verdict(status == 1 and absent in text and f"install package 'tenon-{plugin}'" in text and text.count('\n') == 1,
            f'{plugin}: using it says what to install', text)
    tried += 1
if os.path.exists(f'{BUILD}/lib/tenon/plugins/codec-zstd.so'):
    os.environ.pop('TENON_PLUGIN_PATH', None)
    img('convert', '-f', 'raw', '-c', '-O', 'qcow2', '-o', 'compression_type=zstd', 'zstd.raw', 'zstd.qcow2')
    absent = without('codec-zstd', libraries(f'{BUILD}/lib/tenon/plugins/codec-zstd.so')[0])
    os.environ['TENON_PLUGIN_PATH'] = os.path.abspath('plugins')
    status, _, text = img('convert', '-O', 'raw', 'zstd.qcow2', 'back.raw')
    verdict(status == 1 and absent in text and 'damaged' not in text, 'data that cannot be unpacked are not called damaged',
            text)
verdict(tried > 0, 'there are such plugins', tried)
finish()
