# SPDX-License-Identifier: LGPL-2.1-or-later
"""The groups "startup" and "convert" of bench.py: what the tools cost.  Imported."""
import os

from harness import resident, run, system_calls


def startup(bench):
    image = bench.path('info.qcow2')
    run([bench.theirs('qemu-img'), 'create', '-q', '-f', 'qcow2', image, '64M'])
    raw = bench.path('info.raw')
    run([bench.theirs('qemu-img'), 'create', '-q', '-f', 'raw', raw, '64M'])
    cases = [('img info qcow2', ['tenon-img', 'info', image], ['qemu-img', 'info', image]),
             ('img info raw', ['tenon-img', 'info', '-f', 'raw', raw], ['qemu-img', 'info', '-f', 'raw', raw]),
             ('img --version', ['tenon-img', '--version'], ['qemu-img', '--version']),
             ('io read', ['tenon-io', '-r', '-c', 'read 0 4k', image], ['qemu-io', '-r', '-c', 'read 0 4k', image])]
    bench.timing_title('Start-up')
    measured = []
    for name, a, b in cases:
        a, b = [bench.ours(a[0])] + a[1:], [bench.theirs(b[0])] + b[1:]
        measured.append((name, a, b))
        bench.pair(name, a, b, runs=max(bench.runs, 15))
    bench.table.title('Start-up, what the kernel saw', ['case', 'calls ours', 'calls QEMU', 'objects ours', 'objects QEMU',
                                                      'RSS ours', 'RSS QEMU'])
    for name, a, b in measured:
        calls_a, objects_a = system_calls(a, bench.folder)
        calls_b, objects_b = system_calls(b, bench.folder)
        bench.table.row(name, str(calls_a), str(calls_b), str(objects_a), str(objects_b), '%.1f MiB' % resident(a),
                       '%.1f MiB' % resident(b))


def convert(bench):
    raw = bench.source_image()
    qcow2, packed, target = bench.path('source.qcow2'), bench.path('packed.qcow2'), bench.path('target')
    run([bench.theirs('qemu-img'), 'convert', '-O', 'qcow2', raw, qcow2])
    run([bench.theirs('qemu-img'), 'convert', '-c', '-O', 'qcow2', raw, packed])
    remove = lambda: os.path.exists(target) and os.unlink(target)
    cases = [('raw to qcow2', ['-f', 'raw', '-O', 'qcow2', raw]),
             ('qcow2 to raw', ['-f', 'qcow2', '-O', 'raw', qcow2]),
             ('qcow2 to qcow2', ['-f', 'qcow2', '-O', 'qcow2', qcow2]),
             ('raw to qcow2 compressed', ['-c', '-f', 'raw', '-O', 'qcow2', raw]),
             ('compressed qcow2 to raw', ['-f', 'qcow2', '-O', 'raw', packed])]
    bench.timing_title('convert (256 MiB)')
    for name, arguments in cases:
        bench.pair(name, [bench.ours('tenon-img'), 'convert'] + arguments + [target],
                  [bench.theirs('qemu-img'), 'convert'] + arguments + [target], before=remove)
