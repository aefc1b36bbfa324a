# SPDX-License-Identifier: LGPL-2.1-or-later
"""The groups "vm", "boot" and "guest" of bench.py: virtual machines.  Imported."""
import os
import re
import signal
import statistics
import subprocess
import time

from harness import HERE, run


def idle(bench, command):
    """Resident memory and mapped objects of a VM that is stopped before its first instruction."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        last, resident = -1, 0
        for _ in range(100):
            time.sleep(0.1)
            with open('/proc/%d/status' % process.pid) as status:
                resident = int(re.search(r'VmRSS:\s+(\d+)', status.read()).group(1))
            if resident == last and resident > 1000:
                break
            last = resident
        with open('/proc/%d/maps' % process.pid) as maps:
            objects = {line.split()[-1] for line in maps if re.search(r'\.so[.0-9]*$', line.strip())}
        return resident / 1024, len(objects)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def vm(bench):
    image = bench.path('vm.qcow2')
    run([bench.theirs('qemu-img'), 'create', '-q', '-f', 'qcow2', image, '64M'])
    drive = ['-drive', 'file=%s,format=qcow2,if=none,id=d' % image, '-device', 'virtio-blk-device,drive=d']
    kernel = bench.path('loop')
    with open(kernel, 'wb') as f:
        f.write(bytes([0x6f, 0, 0, 0]) * 1024)   # a jump to itself
    drive += ['-kernel', kernel]
    ours = [bench.ours('tenon'), '-M', 'virt-rv64', '-m', '256M', '-S', '-nographic'] + drive
    theirs = [bench.theirs('qemu-system-riscv64'), '-M', 'virt', '-m', '256M', '-S', '-nographic'] + drive
    bench.table.title('A VM stopped before its first instruction', ['', 'RSS ours', 'RSS QEMU', 'ratio', 'objects ours',
                                                                  'objects QEMU'])
    a, objects_a = idle(bench, ours)
    b, objects_b = idle(bench, theirs)
    bench.table.row('idle VM', '%.1f MiB' % a, '%.1f MiB' % b, '%.2f' % (b / a), str(objects_a), str(objects_b))


def guest(bench, script):
    """Kernel, initramfs for tests/bench/guest-SCRIPT.sh."""
    guests = os.path.join(HERE, '..', 'guests')
    folder = subprocess.run([os.path.join(guests, 'fetch.sh')], check=True, stdout=subprocess.PIPE).stdout.decode().strip()
    initrd = bench.path('initrd.' + script)
    if not os.path.exists(initrd):
        subprocess.run([os.path.join(guests, 'mkinitrd.sh'), initrd, os.path.join(HERE, 'guest-%s.sh' % script)], check=True,
                       env=dict(os.environ, TENON_GUEST_DIR=folder))
    return os.path.join(folder, 'Image'), initrd


def machines(bench, script, cpus=1):
    kernel, initrd = guest(bench, script)
    image = bench.path('guest.qcow2')
    if not os.path.exists(image):
        run([bench.theirs('qemu-img'), 'create', '-q', '-f', 'qcow2', image, '256M'])
    common = ['-m', '256M', '-smp', str(cpus), '-nographic', '-kernel', kernel, '-initrd', initrd, '-append',
              'console=ttyS0 quiet']
    drive = 'file=%s,format=qcow2,if=none,id=d,cache=none' % image
    ours = [bench.ours('tenon'), '-M', 'virt-rv64'] + common + ['-drive', drive, '-device', 'virtio-blk-device,drive=d']
    theirs = [bench.theirs('qemu-system-riscv64'), '-M', 'virt'] + common + ['-drive', drive, '-device',
                                                                          'virtio-blk-device,drive=d']
    return ours, theirs


def boot(bench):
    bench.timing_title('Linux: boot to an initramfs and power off')
    for cpus in (1, 2):
        ours, theirs = machines(bench, 'boot', cpus)
        bench.pair('boot, %d harts' % cpus, ours, theirs, runs=min(bench.runs, 3))


def guest_times(bench, command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return {name.decode(): float(seconds)
            for name, seconds in re.findall(rb'BENCH (\S+) ([0-9.]+)', result.stdout)}


def guest_group(bench):
    bench.table.title('CPU work inside the guest (wall seconds on one hart)', ['case', 'ours', 'QEMU', 'ratio'])
    ours, theirs = machines(bench, 'cpu')
    a, b = [], []
    for _ in range(min(bench.runs, 3)):
        a.append(guest_times(bench, ours))
        b.append(guest_times(bench, theirs))
    for name in a[0]:
        x, y = statistics.median(r[name] for r in a), statistics.median(r[name] for r in b)
        bench.table.row(name, '%.2f' % x, '%.2f' % y, '%.2f' % (y / x))
