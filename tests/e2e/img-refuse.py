#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `tenon-img create` refuses changes nothing: an existing target, and the folder around it, stay as they are."""
import os

from formattest import OURS, Tap, attempt, expect, run, whole

HUGE = str((1 << 63) - 512)
# Format, options, size, and what is given instead of a base that exists.
REFUSALS = [
    ('raw', ['-o', 'nonsense=1'], '1M'),
    ('raw', ['-o', 'preallocation=metadata'], '1M'),
    ('raw', ['-b', 'missing.raw', '-F', 'raw'], '1M'),
    ('qcow2', ['-o', 'nonsense=1'], '1M'),
    ('qcow2', ['-o', 'cluster_size=1000'], '1M'),
    ('qcow2', ['-o', 'cluster_size=512'], HUGE),
    ('qcow2', ['-o', 'refcount_bits=3'], '1M'),
    ('qcow2', ['-o', 'compat=0.10,extended_l2=on'], '1M'),
    ('qcow2', ['-o', 'data_file_raw=on'], '1M'),
    ('qcow2', ['-b', 'missing.raw', '-F', 'raw'], '1M'),
    ('qcow2', ['-b', 'target', '-F', 'raw'], '1M'),
    ('qcow2', ['-o', 'encrypt.format=luks'], '1M'),
    ('qcow2', ['-o', 'encrypt.format=luks,encrypt.key-secret=none'], '1M'),
    ('qcow2', ['-o', 'encrypt.format=aes'], '1M'),
    ('qcow2', ['-o', 'encrypt.cipher-alg=aes-128'], '1M'),
    ('qcow2', ['--object', 'secret,id=s,data=x', '-o',
               'encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=cast5-128'], '1M'),
    ('luks', [], '1M'),
    ('luks', ['-o', 'key-secret=none'], '1M'),
    ('luks', ['--object', 'secret,id=s,data=x', '-o', 'key-secret=s,label=a'], '1M'),
    ('luks', ['--object', 'secret,id=s,data=x', '-o', 'key-secret=s,cipher-alg=cast5-128'], '1M'),
    ('luks', ['--object', 'secret,id=s,data=x', '-o', 'key-secret=s,version=2,cipher-alg=cast5-128'], '1M'),
    ('luks', ['--object', 'secret,id=s,data=x', '-o', 'key-secret=s,version=2,sector-size=1000'], '1M'),
    ('luks', ['--object', 'secret,id=s,data=x', '-o', 'key-secret=s'], HUGE),
    ('vmdk', ['-o', 'subformat=odd'], '1M'),
    ('vmdk', ['-o', 'compat6=on,hwversion=7'], '1M'),
    ('vmdk', ['-o', 'subformat=monolithicFlat,zeroed_grain=on'], '1M'),
    ('vmdk', ['-b', 'missing.vmdk', '-F', 'vmdk'], '1M'),
    ('vmdk', ['-o', 'subformat=twoGbMaxExtentSparse'], HUGE),
    ('vhdx', ['-o', 'block_size=3M'], '1M'),
    ('vhdx', ['-o', 'log_size=1000'], '1M'),
    ('vhdx', [], HUGE),
    ('vhdx', ['-b', 'missing.vhdx', '-F', 'vhdx'], '1M'),
    ('vpc', ['-o', 'block_size=1000'], '1M'),
    ('vpc', [], HUGE),
    ('vpc', ['-b', 'missing.vpc', '-F', 'vpc'], '1M'),
    ('vdi', ['-o', 'block_size=1000'], '1M'),
    ('vdi', [], HUGE),
    ('qed', ['-o', 'cluster_size=1000'], '1M'),
    ('qed', ['-o', 'table_size=3'], '1M'),
    ('qed', [], HUGE),
    ('qed', ['-b', 'missing.raw', '-F', 'raw'], '1M'),
    ('parallels', ['-o', 'cluster_size=2G'], '1M'),
    ('parallels', [], HUGE),
    ('qcow', ['-o', 'encryption=on'], '1M'),
    ('qcow', [], HUGE),
    ('qcow', ['-b', 'missing.raw', '-F', 'raw'], '1M'),
    ('cso', ['-o', 'nonsense=1'], '1M'),
]
SECRET = ['--object', 'secret,id=s,data=x', '-o', 'key-secret=s,iter-time=10']


def state(folder):
    """Every file of a folder: contents and when they changed."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        found[name] = (whole(path), os.stat(path).st_mtime_ns)
    return found


def is_kept(fmt, options, size, folder):
    """A refused creation leaves what was there."""
    os.chdir(folder)
    with open('target', 'wb') as f:
        f.write(os.urandom(300_000))
    for name in ('target-s001.vmdk', 'target-flat.vmdk'):
        with open(name, 'wb') as f:
            f.write(b'precious')
    before = state(folder)
    status, text = attempt(OURS['img'], 'create', '-q', '-f', fmt, *options, 'target', size)
    expect(status == 1, f'create -f {fmt} {" ".join(options)}: status {status}\n{text}')
    expect(state(folder) == before, f'create -f {fmt} {" ".join(options)}: something changed\n{text}')
    os.rename('target', 'elsewhere')
    before = state(folder)
    attempt(OURS['img'], 'create', '-q', '-f', fmt, *options, 'target', size)
    expect(state(folder) == before, f'create -f {fmt} {" ".join(options)}: left something behind')


def is_replaced(fmt, options, folder):
    """Nothing of an existing file is left in a new image."""
    path = os.path.join(folder, 'target')
    run(OURS['img'], 'create', '-q', '-f', fmt, *options, path, '4M')
    wanted = len(whole(path))
    with open(path, 'wb') as f:
        f.write(b'\xa5' * 20_000_000)
    run(OURS['img'], 'create', '-q', '-f', fmt, *options, path, '4M')
    found = whole(path)
    expect(len(found) == wanted, f'{len(found)} bytes instead of {wanted}')
    expect(b'\xa5' * 64 not in found, 'old contents are left')


def main():
    tap = Tap()
    for fmt, options, size in REFUSALS:
        tap.test(f'{fmt} {" ".join(options)} {size}: refused, and nothing changes', is_kept, fmt, options, size)
    for fmt in ('raw', 'qcow2', 'vmdk', 'vhdx', 'vpc', 'vdi', 'qed', 'parallels', 'qcow', 'luks'):
        tap.test(f'{fmt}: an existing file is replaced', is_replaced, fmt, SECRET if fmt == 'luks' else [])
    tap.end()


if __name__ == '__main__':
    main()
