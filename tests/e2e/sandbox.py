#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sandbox of tenon-img and tenon-io: a plugin that tries what an image has no use for (tests/unit/fixtures/captive.c)."""
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get('TN_BUILD_DIR') or os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'build')
IMG, IO = os.path.join(TOP, 'bin', 'tenon-img'), os.path.join(TOP, 'bin', 'tenon-io')
OBJECT = os.path.join(TOP, 'tests', 'unit', 'fixtures', '.libs', 'format-captive.so')
TITLES = []
# A build with the address sanitizer has no filter while it searches for leaks.
os.environ['ASAN_OPTIONS'] = ':'.join(filter(None, (os.environ.get('ASAN_OPTIONS'), 'detect_leaks=0')))


def verdict(good, title, text=''):
    TITLES.append(good)
    print(f'{"ok" if good else "not ok"} {len(TITLES)} - {title}', flush=True)
    if not good:
        print('\n'.join('# ' + line for line in text.splitlines()), flush=True)


def run(*args):
    result = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=60,
                            check=False)
    return result.returncode, result.stdout.decode('utf-8', 'replace')


def has_landlock():
    """Asks the kernel by the system call, as the core does."""
    import ctypes
    return ctypes.CDLL(None).syscall(444, None, 0, 1) >= 1


def install(folder):
    os.chmod(folder, 0o755)
    shutil.copy(OBJECT, os.path.join(folder, 'format-captive.so'))
    manifest = subprocess.run([os.path.join(TOP, 'tools', 'plugin', 'tenon-plugin'), 'manifest',
                               os.path.join(folder, 'format-captive.so')], stdout=subprocess.PIPE, check=True).stdout
    with open(os.path.join(folder, 'format-captive.tenon'), 'wb') as f:
        f.write(manifest)


def attempt(what, at, path, *options, tool=IMG):
    opts = f'driver=captive,attempt={what},at={at},path={path},file.driver=file,file.filename=image'
    if tool == IO:
        return run(IO, *options, '--image-opts', '-r', '-c', 'map', opts)[1]
    text = run(IMG, 'map', *options, '--image-opts', opts)[1]
    return '\n'.join(line for line in text.splitlines() if not line.startswith('Offset'))


def is_refused(text, what):
    return f'{what}: EPERM' in text or f'{what}: EACCES' in text


def test_calls(folder):
    """What is refused from the start, before a plugin's first line."""
    for what in ('execve', 'fork', 'socket', 'unix-socket', 'ptrace', 'peek', 'kill', 'tgkill', 'unshare', 'setuid'):
        for at in ('open', 'map', 'worker'):
            text = attempt(what, at, folder)
            verdict(is_refused(text, what) and len(text.splitlines()) == 1, f'{what}, at={at}: refused in one line', text)
    text = attempt('execve', 'map', folder, tool=IO)
    verdict('Operation not permitted' in text or 'EPERM' in text, 'tenon-io: execve is refused', text)
    for what in ('fork', 'socket', 'kill', 'setuid'):
        text = attempt(what, 'map', folder, '--no-sandbox')
        verdict('it worked' in text, f'{what} works with --no-sandbox', text)
    text = attempt('kill-self', 'map', folder)
    verdict('it worked' in text, 'a signal to itself is allowed', text)


def test_controls(folder):
    """Of what can be asked by ioctl(), what images have a use for reaches the kernel (which knows no such thing of standard
    output); nothing else does."""
    for what in ('ioctl-size', 'ioctl-zeroes', 'ioctl-medium'):
        text = attempt(what, 'map', folder)
        verdict(f'{what}: ENOTTY' in text, f'{what} reaches the kernel', text)
    for what in ('flush', 'partitions', 'read-ahead', 'writable', 'eject', 'door', 'scsi', 'type', 'interface', 'freeze'):
        for at in ('open', 'worker'):
            text = attempt('ioctl-' + what, at, folder)
            verdict(f'ioctl-{what}: EPERM' in text, f'ioctl-{what}, at={at}: refused', text)
    text = attempt('ioctl-eject', 'map', folder, '--no-sandbox')
    verdict('ioctl-eject: ENOTTY' in text, 'ioctl-eject reaches the kernel with --no-sandbox', text)


def test_files(folder):
    """What is refused once all files are open."""
    other = os.path.join(folder, 'other')
    for at in ('map', 'worker'):
        for what, path in (('read', '/etc/passwd'), ('read', other), ('write', other), ('make', other + '.new'),
                           ('list', '/'), ('list', folder), ('remove', other), ('mkdir', other + '.dir')):
            text = attempt(what, at, path)
            verdict(is_refused(text, what), f'{what} {"" if path == other else path}, at={at}: refused', text)
    verdict(os.path.exists(other) and not os.path.exists(other + '.new') and not os.path.exists(other + '.dir'),
            'nothing was made or removed')
    verdict('it worked' in attempt('read', 'map', other, '--no-sandbox'), 'reading works with --no-sandbox')
    verdict('it worked' in attempt('read', 'open', other), 'while images are opened files can be')


def test_work(folder):
    """What the sandbox must not hinder."""
    for name, fmt, more in (('c.qcow2', 'qcow2', ['-c']), ('z.qcow2', 'qcow2', ['-c', '-o', 'compression_type=zstd']),
                            ('v.vmdk', 'vmdk', ['-o', 'subformat=twoGbMaxExtentSparse']), ('d.vdi', 'vdi', [])):
        status, text = run(IMG, 'convert', '--verify', *more, '-O', fmt, 'data', name)
        verdict(status == 0, f'convert --verify to {fmt} {" ".join(more)}', text)
        status, text = run(IMG, 'compare', name, 'data')
        verdict(status == 0, 'compare, decoders loaded late', text)
    status, text = run(IMG, 'convert', '--image-opts', '--target-image-opts', '-n',
                       'driver=raw,file.driver=file,file.filename=data', 'driver=qcow2,file.driver=file,file.filename=c.qcow2')
    verdict(status == 0, 'convert -n', text)
    status, text = run(IMG, 'convert', '-f', 'captive', '-O', 'raw', 'image', 'out.raw')
    verdict(status == 1 and not os.path.exists('out.raw'), 'a target that could not be filled is removed', text)
    status, text = run(IMG, 'create', '-q', '-f', 'qcow2', '-b', 'data', '-F', 'raw', 'top.qcow2')
    for command in (['info', 'top.qcow2'], ['info', '--backing-chain', 'top.qcow2'], ['map', 'top.qcow2'],
                    ['check', 'top.qcow2'], ['bench', '-c', '8', 'top.qcow2'], ['dd', 'if=top.qcow2', 'of=dd.raw'],
                    ['measure', '-O', 'qcow2', 'top.qcow2'], ['commit', 'top.qcow2'], ['resize', 'top.qcow2', '+1M']):
        status, text = run(IMG, *command)
        verdict(status == 0, ' '.join(command), text)
    status, text = run(IO, '-c', 'write -P 1 0 64k', '-c', 'read -P 1 0 64k', 'top.qcow2')
    verdict(status == 0, 'tenon-io', text)
    status, text = run(IO, '-c', 'close', '-c', 'open data', '-c', 'read 0 512', 'top.qcow2')
    verdict(status == 0 and 'read 512/512' in text, 'tenon-io that opens another image', text)


def main():
    if not os.path.exists(OBJECT):
        print(f'1..0 # SKIP {OBJECT} has not been built')
        sys.exit(0)
    folder = tempfile.mkdtemp(prefix='tenon-sandbox-')
    try:
        os.chdir(folder)
        os.mkdir('plugins')
        install(os.path.join(folder, 'plugins'))
        os.environ['TENON_PLUGIN_PATH'] = os.path.join(folder, 'plugins') + ':' + os.path.join(TOP, 'lib', 'tenon', 'plugins')
        for name, size in (('image', 65536), ('other', 10), ('data', 3_000_000)):
            with open(name, 'wb') as f:
                f.write(os.urandom(size // 2) + bytes(size - size // 2))
        test_calls(folder)
        test_controls(folder)
        if has_landlock():
            test_files(folder)
        else:
            print('# this kernel has no Landlock: opening files is not tested')
        test_work(folder)
    finally:
        os.chdir('/')
        shutil.rmtree(folder, ignore_errors=True)
    print(f'1..{len(TITLES)}')
    sys.exit(0 if all(TITLES) else 1)


if __name__ == '__main__':
    main()
