#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tenon-img convert --resume: killed again and again, it ends with what an undisturbed run makes."""
import hashlib
import json
import os
import subprocess
import time

from imgtest import IMG, RNG, finish, img, read, refused, verdict, write

SIZE = 24 << 20


def killed(args, seconds, signal):
    """Whether the command was still running when the signal came."""
    with subprocess.Popen([IMG, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE) as child:
        time.sleep(seconds)
        child.send_signal(signal)
        text = child.stderr.read().decode()
    return child.returncode != 0, text


def killed_later(args, signal):
    """Stops the command once its record says that something is done."""
    target = args[-1]
    with subprocess.Popen([IMG, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as child:
        while child.poll() is None and position(target) == 0:
            time.sleep(.01)
        child.send_signal(signal)


def position(target):
    try:
        return int(read(target + '.tenon-resume').split(b'\n')[1].split()[0])
    except (FileNotFoundError, IndexError):
        return 0


def interrupted(args, target, signal, rounds=6):
    """Runs it with interruptions: the positions that the record was seen at."""
    seen = []
    for _ in range(rounds):
        stopped, text = killed([*args, '-r', '40M'], RNG.uniform(.03, .18), signal)
        if not stopped:
            return seen
        seen.append(position(target))
        if text:
            print('# ' + text.strip())
    return seen


def resumed_is_same():
    """Bit for bit; says where it is not."""
    whole, resumed = read('whole.img'), read('resumed.img')
    if whole == resumed:
        return True
    first = next((at for at, pair in enumerate(zip(whole, resumed)) if pair[0] != pair[1]), min(len(whole), len(resumed)))
    print(f'# {len(whole)} and {len(resumed)} bytes, which differ from {first} on')
    return False


def resumes(name, options, fmt, same, signal=9, source=('raw', 'disk.raw'), tries=2):
    args = ['convert', '-f', source[0], source[1], '-O', fmt, *options]
    img(*args, 'whole.img')
    again = [*args, '--resume', '--checkpoint', '1M', 'resumed.img']
    seen = interrupted(again, 'resumed.img', signal)
    where = position('resumed.img')
    status, out, text = img(*again[:-1], '--sha256', '--verify', '--output=json', again[-1])
    stops = f'stops at {[at >> 10 for at in seen]} KiB'
    if not verdict(status == 0, f'{name}: ends well', f'{stops}: {text}'):
        return
    said = json.loads(out)
    if 'begun anew' in text:
        print(f'# {name}: {text.strip()}')
    else:
        verdict(said['resumed-from'] == where, f'{name}: goes on where the record says', f'{stops}, then {said}')
    verdict(said['sha256'] == DIGEST and said['verified'], f'{name}: the digest is of all of it', said)
    if same:
        is_same = resumed_is_same()
        while not is_same and tries > 1:  # places are given out in another order now and then, which loses nothing
            tries -= 1
            os.unlink('resumed.img')
            interrupted(again, 'resumed.img', signal)
            img(*again)
            is_same = resumed_is_same()
        verdict(is_same, f'{name}: bit for bit what an undisturbed run makes')
    else:
        status, _, text = img('compare', 'whole.img', 'resumed.img')
        verdict(status == 0, f'{name}: the same contents', text)
    verdict(not [n for n in os.listdir('.') if 'tenon-resume' in n], f'{name}: no record is left')
    for left in [n for n in os.listdir('.') if n.startswith('resumed.img')]:
        os.unlink(left)


data = bytearray(RNG.randbytes(SIZE))
for _ in range(40):
    at, length = RNG.randrange(SIZE >> 12) << 12, RNG.randrange(1, 64) << 12
    data[at:at + length] = bytes(len(data[at:at + length]))
write('disk.raw', data)
DIGEST = hashlib.sha256(data).hexdigest()
img('convert', '-O', 'qcow2', 'disk.raw', 'disk.qcow2')

resumes('raw', [], 'raw', True)
resumes('raw from qcow2', [], 'raw', True, source=('qcow2', 'disk.qcow2'))
resumes('qcow2', [], 'qcow2', True)
resumes('qcow2, one at a time', ['-m', '1'], 'qcow2', True)
resumes('qcow2, small clusters', ['-o', 'cluster_size=4k'], 'qcow2', True)
resumes('qcow2, stopped in good order', [], 'qcow2', True, signal=15)
resumes('qcow2, any order', ['-W'], 'qcow2', False)
resumes('qcow2, compressed', ['-c'], 'qcow2', False)
resumes('qed', [], 'qed', True)
for other in ('vmdk', 'vdi', 'vhdx', 'vpc', 'parallels'):
    if img('create', '-q', '-f', other, 'probe.img', '1M')[0] == 0:
        resumes(other, [], other, False)

# What the record is for is checked before anything is touched.
GO_ON = ['convert', '--resume', '--checkpoint', '1M', '-O', 'qcow2']
killed_later([*GO_ON, '-r', '20M', 'disk.raw', 'late.qcow2'], 9)
before = read('late.qcow2')
verdict(position('late.qcow2') > 0, 'there is a record')
refused('another option', "option: --options cluster_size=4k", *GO_ON, '-o', 'cluster_size=4k', 'disk.raw', 'late.qcow2')
refused('another source', 'is of another conversion', *GO_ON, 'disk.qcow2', 'late.qcow2')
os.utime('disk.raw', (1, 1))
refused('a source that has changed', 'is of another conversion', *GO_ON, 'disk.raw', 'late.qcow2')
verdict(read('late.qcow2') == before, 'the target is as it was')
write('late.qcow2.tenon-resume', b'nonsense')
refused('a record that is none', 'is no record', *GO_ON, 'disk.raw', 'late.qcow2')
os.unlink('late.qcow2.tenon-resume')

# A target that was changed behind the record's back: begun anew, with a word.
killed_later([*GO_ON, '-r', '20M', 'disk.raw', 'cut.qcow2'], 9)
os.truncate('cut.qcow2', 300000)
status, _, text = img(*GO_ON, 'disk.raw', 'cut.qcow2')
verdict(status == 0 and 'begun anew' in text, 'a target that was cut', text)
status, _, text = img('compare', 'disk.raw', 'cut.qcow2')
verdict(status == 0, 'has the contents', text)

# Without --resume nothing is kept.
stopped, _ = killed(['convert', '-r', '20M', '-O', 'qcow2', 'disk.raw', 'gone.qcow2'], .3, 15)
verdict(stopped and not os.path.exists('gone.qcow2') and not os.path.exists('gone.qcow2.tenon-resume'),
        'without --resume a target that is not complete is removed')
refused('-n', 'cannot be combined with -n', *GO_ON, '-n', 'disk.raw', 'cut.qcow2')
refused('a format that is packed as a whole', 'cannot be gone on with', 'convert', '--resume', '-O', 'vmdk', '-o',
        'subformat=streamOptimized', 'disk.raw', 'stream.vmdk')
finish()
