#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""blkdebug: the same rules and commands given to tenon-io and to qemu-io fail in the same places."""
import filtertest
from filtertest import config, fails, finish, image, io, same_results, verdict

NONE = '[inject-error]\nevent = "none"\nerrno = "5"\n'

rules = {
    'every request': NONE,
    'reads only': NONE + 'iotype = "read"\n',
    'writes only, another error': '[inject-error]\nevent = "none"\nerrno = "28"\niotype = "write"\n',
    'one sector': NONE + 'sector = "16"\n',
    'once': NONE + 'once = "on"\n',
    'immediately': NONE + 'immediately = "on"\nonce = "on"\n',
    'at an event': '[inject-error]\nevent = "write_aio"\nerrno = "5"\niotype = "write"\n',
    'at a flush': '[inject-error]\nevent = "flush_to_disk"\nerrno = "5"\niotype = "flush"\n',
    'states': '[inject-error]\nevent = "read_aio"\nstate = "2"\nerrno = "5"\niotype = "read"\n'
              '[set-state]\nevent = "write_aio"\nstate = "1"\nnew_state = "2"\n'
              '[set-state]\nevent = "flush_to_disk"\nstate = "2"\nnew_state = "3"\n',
}
commands = ['read 0 4k', 'write -P 1 0 8k', 'read 0 4k', 'read 8k 512', 'write 8k 512', 'read 8k 512', 'flush',
            'write 64k 4k', 'read 4k 8k', 'flush', 'read 0 512']

for name, text in rules.items():
    target = f'blkdebug:{config(text)}:{image("disk.raw")}'
    same_results(f'rules: {name}', ['-t', 'writeback', '-f', 'raw', target], commands)

options = ('driver=raw,file.driver=blkdebug,file.image.filename={},file.inject-error.0.event=none,'
           'file.inject-error.0.errno=28,file.inject-error.0.sector=8,file.inject-error.0.iotype=write')
same_results('rules as options', ['--image-opts', options.format(image('disk.raw'))],
             ['write 0 512', 'write 4096 512', 'read 4096 512', 'write 4k 4k', 'write 8k 512'])

same_results('write zeroes and discards', ['-f', 'raw', 'blkdebug:' + config(NONE + 'iotype = "write-zeroes"\n')
             + ':' + image('disk.raw')], ['write -z 0 4k', 'write 0 4k', 'read 0 4k', 'discard 0 4k'])
same_results('align and max-transfer', ['--image-opts', 'driver=raw,file.driver=blkdebug,file.align=4k,'
             'file.max-transfer=64k,file.image.filename=' + image('disk.raw')],
             ['write -P 7 512 512', 'read -P 7 512 512', 'read -P 0 0 512', 'write -P 9 100k 300k',
              'read -P 9 100k 300k'])

out = io(['-t', 'writeback', '-f', 'raw', f'blkdebug:{config(rules["at a flush"])}:{image("disk.raw")}'], ['write 0 512', 'flush'])
verdict('cannot flush: Input/output error' in out, 'a flush that fails is told of', out)

# Metadata of qcow2.
l2 = '[inject-error]\nevent = "l2_load"\nerrno = "5"\nimmediately = "on"\nonce = "on"\n'
image('disk.qcow2', 'qcow2')
io(['-f', 'qcow2', 'disk.qcow2'], ['write 0 64k'])
out = io(['-f', 'qcow2', f'blkdebug:{config(l2)}:disk.qcow2'], ['read 0 512', 'read 0 512'])
verdict(fails(out) == [True, False], 'an L2 table that cannot be read, once', out)

# Stopped requests.
target = ['-f', 'raw', f'blkdebug::{image("disk.raw")}']
out = io(target, ['break write_aio A', 'aio_write -P 5 0 512', 'wait_break A', 'read -P 0 0 512', 'resume A',
                  'aio_flush', 'read -P 5 0 512'])
verdict('wrote 512/512' in out and 'erification' not in out, 'a write stops at an event and goes on', out)
verdict(out.find('read 512/512') < out.find('wrote 512/512'), 'other requests pass it', out)
out = io(target, ['break write_aio A', 'aio_write -P 6 512 512', 'wait_break A', 'remove_break A', 'aio_flush',
                  'read -P 6 512 512'])
verdict('wrote 512/512' in out and 'erification' not in out, 'remove_break lets it go on', out)
out = io(target, ['break write_aio A', 'aio_write -P 8 1024 512', 'wait_break A'])
verdict('wrote 512/512' in out, 'closing lets it go on', out)
out = io(target, ['resume A', 'remove_break A', 'break nowhere A'])
verdict(out.count('called') == 2 and 'nowhere' in out, 'what is not there is refused', out)

# Refusals.
for name, text in {'event': '[inject-error]\nevent = "nowhere"\n', 'group': '[inject]\n', 'pair': 'event = none\n',
                   'errno': '[inject-error]\nevent = "none"\nerrno = "99999999999999999999"\n',
                   'no event': '[inject-error]\nerrno = "5"\n', 'sector': NONE + 'sector = "9223372036854775807"\n',
                   'key': NONE + 'colour = "red"\n'}.items():
    filtertest.refused(f'rules with a wrong {name}', ['-f', 'raw', f'blkdebug:{config(text)}:{image("disk.raw")}'])
base = 'driver=blkdebug,image.filename=' + image('disk.raw')
for more in ('align=3', 'align=99999999999999', 'max-transfer=100,align=512', 'inject-error.1.event=none',
             'inject-error.0.event=none,inject-error.0.state=-1', 'set-state.0.event=none'):
    filtertest.refused(more, ['--image-opts', f'{base},{more}'])
filtertest.refused('no image', ['--image-opts', 'driver=blkdebug'])
filtertest.refused('no colon', ['-f', 'raw', 'blkdebug:x'])
finish()
