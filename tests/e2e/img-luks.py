#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""LUKS images and encrypted qcow2 images, to and from QEMU and cryptsetup."""
import json
import os
import struct
from imgtest import IMG, RNG, difference, disk, finish, img, read, reads_as, refused, run, skip, tool, verdict, write

IO = os.path.join(os.path.dirname(IMG), 'tenon-io')
PASS = 'correct horse'
OBJECT = ['--object', 'secret,id=s,file=pass']
SIZE = 3 << 20
write('pass', PASS.encode())
write('wrong', b'incorrect horse')


def opts(path, driver='luks', more=''):
    key = 'key-secret' if driver == 'luks' else 'encrypt.key-secret'
    return f'driver={driver},{key}=s,file.driver=file,file.filename={path}{more}'


def made(name, driver, path, options, size=SIZE, by=IMG):
    key = 'key-secret=s,iter-time=5' if driver == 'luks' else \
        'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=5'
    for _ in range(9):
        status, _, text = run(by, 'create', '-q', *OBJECT, '-f', driver, '-o', key + options, path, str(size))
        if 'accurate CPU usage' not in text:  # how QEMU's measurement fails on a busy machine
            break
    return verdict(status == 0, name, text)


def ours_reads(name, options, data):
    reads_as(name, options, data, *OBJECT)


def qemu_reads(name, options, data):
    status, _, text = run('qemu-img', 'convert', *OBJECT, '--image-opts', options, '-O', 'raw', 'qemu.raw')
    verdict(status == 0 and not difference(read('qemu.raw'), data), name, text)


def write_by(io, options, data, offset, length):
    """Some bytes, the same in the file and in the array."""
    pattern = RNG.randrange(1, 256)
    data[offset:offset + length] = bytes([pattern]) * length
    status, out, text = run(io, *OBJECT, '-c', f'write -P {pattern} {offset} {length}', '--image-opts', options)
    return '' if status == 0 and b'failed' not in out else f'{io}: status {status}: {out} {text}'


def in_turns(name, driver, path):
    """Both programs write, at odd offsets too; each reads all of it."""
    data, why = bytearray(SIZE), ''
    for step in range(8):
        length = RNG.choice((1, 511, 512, 4096, 70001, 300000))
        offset = RNG.randrange(SIZE - length)
        why = why or write_by((IO, 'qemu-io')[step % 2], opts(path, driver), data, offset, length)
    verdict(not why, f'{name}: both write', why)
    ours_reads(f'{name}: Tenon reads', opts(path, driver), data)
    qemu_reads(f'{name}: QEMU reads', opts(path, driver), data)


# ---- Version 1 and qcow2, with QEMU ----

VARIANTS = ['', 'cipher-alg=aes-128,hash-alg=sha1', 'cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain',
            'cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha512',
            'cipher-alg=serpent-256,hash-alg=ripemd160', 'cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=plain64',
            'cipher-alg=cast5-128,cipher-mode=cbc,ivgen-alg=plain64', 'cipher-alg=aes-256,cipher-mode=ecb']


def with_prefix(variant, prefix):
    return ''.join(f',{prefix}{option}' for option in variant.split(',') if option)


def try_variant(driver, variant, maker):
    path = f'a.{driver}'
    name = f'{driver} {variant or "defaults"}, made by {os.path.basename(maker)}'
    options = with_prefix(variant, '' if driver == 'luks' else 'encrypt.')
    if os.path.exists(path):
        os.unlink(path)
    if made(name, driver, path, options, by=maker):
        if driver == 'luks':  # nothing written is noise
            run(IO, *OBJECT, '-c', f'write -P 0 0 {SIZE}', '--image-opts', opts(path))
        in_turns(name, driver, path)
    if driver == 'qcow2':
        for program in (IMG, 'qemu-img'):
            secret = [*OBJECT, '--image-opts', opts(path, driver)]
            status, out, text = run(program, 'check', *secret)
            verdict(status == 0, f'{name}: {os.path.basename(program)} finds no errors', out.decode() + text)


if tool('qemu-img'):
    for variant in VARIANTS:
        try_variant('luks', variant, IMG)
        try_variant('luks', variant, 'qemu-img')
    for variant in VARIANTS[:4]:
        try_variant('qcow2', variant, IMG)
        try_variant('qcow2', variant, 'qemu-img')
else:
    skip('QEMU', 'qemu-img is not installed (qemu-utils)')

# ---- qcow2 ----


def overlay():
    data = disk(SIZE)
    write('base.raw', data)
    status, _, text = img('convert', *OBJECT, '-O', 'qcow2', '-o',
                          'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=5', 'base.raw', 'base.qcow2')
    verdict(status == 0, 'convert to encrypted qcow2', text)
    ours_reads('it reads back', opts('base.qcow2', 'qcow2'), data)
    if tool('qemu-img'):
        qemu_reads('QEMU reads it', opts('base.qcow2', 'qcow2'), data)
    status, _, text = img('convert', *OBJECT, '-O', 'luks', '-o', 'key-secret=s,iter-time=5', 'base.raw', 'base.luks')
    verdict(status == 0, 'convert to luks', text)
    ours_reads('it reads back, zeroes too', opts('base.luks'), data)
    verdict(data[:512] == bytes(512) or data[:512] not in read('base.qcow2'), 'no plain text in the file')
    refused('no secret', 'key-secret', 'convert', '-f', 'qcow2', 'base.qcow2', '-O', 'raw', 'out.raw')
    status, out, text = img('info', 'base.qcow2')
    verdict(status == 0 and b'encrypted: yes' in out and b'cipher alg: aes-256' in out, 'info needs no secret', text)
    status, out, text = img('check', '-f', 'qcow2', 'base.qcow2')
    verdict(status == 0, 'nor does check', out.decode() + text)
    status, out, text = img('resize', *OBJECT, '--image-opts', opts('base.qcow2', 'qcow2'), str(SIZE + 700 * 512))
    verdict(status == 0, 'it grows', text)
    ours_reads('what it grew by is zeroes', opts('base.qcow2', 'qcow2'), data + bytes(700 * 512))


def old_aes(form):
    name = f'old.{form}'
    status, _, text = run('qemu-img', 'create', '-q', *OBJECT, '-f', form, '-o',
                          'encrypt.format=aes,encrypt.key-secret=s', name, str(SIZE))
    if status:
        return skip(f'AES of old in {form}', 'this qemu-img does not make it')
    data = bytearray(SIZE)
    why = write_by('qemu-io', opts(name, form), data, 70000, 300000)
    verdict(not why, f'AES of old in {form}, by QEMU', why)
    ours_reads(f'AES of old in {form} is read', opts(name, form), data)
    refused(f'AES of old in {form} without its secret', 'key-secret', 'convert', '-f', form, name, '-O', 'raw', 'out.raw')
    status, out, text = img('info', name)
    verdict(status == 0 and b'encrypted: yes' in out, f'info of {form} needs no secret', text)
    status, out, text = run(IO, *OBJECT, '-c', 'write 0 512', '--image-opts', opts(name, form))
    return verdict(status != 0 and 'too weak' in text, f'and {form} is not written', text)


overlay()
if tool('qemu-img'):
    old_aes('qcow2')
    old_aes('qcow')

# ---- Version 2, with cryptsetup ----


def cryptsetup(*args):
    return run('cryptsetup', '--batch-mode', *args)


def through_qemu(name, header, payload, bits, cipher, data):
    """The disk's key, by cryptsetup, in a version 1 header of cryptsetup's, before the encrypted bytes: what does
    QEMU read?"""
    for path in ('volume.key', 'spliced.luks'):
        if os.path.exists(path):
            os.unlink(path)
    status, _, text = cryptsetup('luksDump', '--dump-master-key', '--master-key-file', 'volume.key', '--key-file',
                                 'pass', header)
    write('spliced.luks', bytes(4 << 20) + payload)
    if status == 0:
        status, _, text = cryptsetup('luksFormat', '--type', 'luks1', '--master-key-file', 'volume.key', '--key-file',
                                     'pass', '--cipher', cipher, '--key-size', str(bits),
                                     '--pbkdf-force-iterations', '1000', '--align-payload', '8192', 'spliced.luks')
    if not verdict(status == 0, f'{name}: cryptsetup knows the key', text):
        return
    if tool('qemu-img'):
        qemu_reads(f'{name}: QEMU reads the data', opts('spliced.luks'), data)


def payload_of(path):
    binary = read(path)[4096:16384].split(b'\0', 1)[0]
    return int(binary.split(b'"offset":"')[-1].split(b'"', 1)[0]) if binary else 0


def filled(path, name, more=''):
    data, why = bytearray(SIZE), ''
    run(IO, *OBJECT, '-c', f'write -P 0 0 {SIZE}', '--image-opts', opts(path, more=more))  # it is noise
    for length in (512, 3, 4097, 400000):
        why = why or write_by(IO, opts(path, more=more), data, RNG.randrange(SIZE - length), length)
    verdict(not why, f'{name}: written', why)
    ours_reads(f'{name}: read', opts(path, more=more), data)
    return bytes(data)


def version_2(options, bits=512, cipher='aes-xts-plain64'):
    name = f'version 2{options}'
    if os.path.exists('a.luks2'):
        os.unlink('a.luks2')
    if not made(name, 'luks', 'a.luks2', ',version=2' + options):
        return
    data = filled('a.luks2', name)
    status, _, text = cryptsetup('luksOpen', '--test-passphrase', '--key-file', 'pass', 'a.luks2')
    if 'sector-size' not in options:
        through_qemu(name, 'a.luks2', read('a.luks2')[16 << 20:], bits, cipher, data)
    verdict(status == 0, f'{name}: cryptsetup opens it', text)


def by_cryptsetup(kind, *options):
    name = ' '.join(('cryptsetup', kind, *options))
    write('c.luks', bytes((16 << 20) + SIZE))
    status, _, text = cryptsetup('luksFormat', '--type', kind, '--key-file', 'pass', *options, 'c.luks')
    if not verdict(status == 0, name, text):
        return
    payload = 2 << 20 if kind == 'luks1' else 16 << 20
    if kind == 'luks1':
        payload = struct.unpack('>I', read('c.luks')[104:108])[0] * 512
    os.truncate('c.luks', payload + SIZE)
    data = filled('c.luks', name)
    if '4096' not in options:
        through_qemu(name, 'c.luks', read('c.luks')[payload:], 512, 'aes-xts-plain64', data)


def second_header():
    image = bytearray(read('a.luks2'))
    status, good, _ = img('convert', *OBJECT, '--image-opts', opts('a.luks2'), '-O', 'raw', 'good.raw')
    data = read('good.raw')
    for name, at in (('checksum', 450), ('JSON text', 4200), ('magic number', 0)):
        damaged = bytearray(image)
        damaged[at] ^= 0x55
        write('d.luks2', damaged)
        ours_reads(f'damaged {name}: the second header is read', opts('d.luks2'), data)
    image[0] ^= 0x55
    image[16384 + 4200] ^= 0x55
    write('d.luks2', image)
    refused('both headers damaged', 'LUKS', 'convert', *OBJECT, '--image-opts', opts('d.luks2'), '-O', 'raw', 'o.raw')


def detached(version):
    name = f'detached header, version {version}'
    made(name, 'luks', 'header', f',version={version},detached-header=on')
    write('data', bytes(SIZE))
    data = filled('data', name, ',header.driver=file,header.filename=header')
    through_qemu(name, 'header', read('data'), 512, 'aes-xts-plain64', data)
    refused(f'{name}: without it', 'LUKS', 'convert', *OBJECT, '--image-opts', opts('data'), '-O', 'raw', 'o.raw')


version_2(',pbkdf-memory=1M,sector-size=4096')
if tool('cryptsetup'):
    version_2(',pbkdf-memory=1M')
    version_2(',pbkdf=argon2i,pbkdf-memory=256k,pbkdf-parallel=2,hash-alg=sha512')
    version_2(',pbkdf=pbkdf2,cipher-alg=aes-128,label=box', 256)
    fast = ['--pbkdf-force-iterations', '1000']
    by_cryptsetup('luks1', *fast)
    by_cryptsetup('luks1', '--hash', 'sha1', *fast)
    by_cryptsetup('luks2', '--pbkdf', 'pbkdf2', '--sector-size', '512', *fast)
    hard = ['--pbkdf-force-iterations', '4', '--pbkdf-memory', '1024', '--pbkdf-parallel', '2']
    by_cryptsetup('luks2', '--pbkdf', 'argon2id', '--sector-size', '512', *hard)
    by_cryptsetup('luks2', '--pbkdf', 'argon2i', '--sector-size', '4096', *hard)
    by_cryptsetup('luks2', '--pbkdf', 'pbkdf2', '--luks2-metadata-size', '64k', '--sector-size', '512',
                  *fast)
    detached(1)
    detached(2)
else:
    skip('cryptsetup', 'it is not installed (cryptsetup-bin)')
second_header()

# ---- Key slots ----

BOTH = [*OBJECT, '--object', 'secret,id=n,file=new']
write('new', b'battery staple')


def amend(path, driver, change, *more):
    """Exit status and message of `amend`, the image opened with secret s."""
    prefix = '' if driver == 'luks' else 'encrypt.'
    words = ','.join(prefix + word for word in change.split(','))
    status, _, text = img('amend', *more, *BOTH, '-o', words, '--image-opts', opts(path, driver))
    return status, text


def opens(path, driver, secret):
    key = 'key-secret' if driver == 'luks' else 'encrypt.key-secret'
    status, _, _ = img('convert', *BOTH, '--image-opts',
                       f'driver={driver},{key}={secret},file.driver=file,file.filename={path}', '-O', 'raw', 'out.raw')
    return status == 0


def slots(driver, path):
    """Which key slots are in use, as QEMU says where it is installed."""
    program = 'qemu-img' if tool('qemu-img') else IMG
    found = json.loads(run(program, 'info', '--output=json', '-f', driver, path)[1])['format-specific']['data']
    return [number for number, slot in enumerate((found if driver == 'luks' else found['encrypt'])['slots']) if slot['active']]


def not_amended(name, path, driver, change, text, *more):
    before = read(path)
    status, said = amend(path, driver, change, *more)
    verdict(status == 1 and text in said and said.count('\n') == 1, f'{driver}: refused: {name}', said)
    verdict(read(path) == before, f'{driver}: refused, nothing is changed: {name}')


def key_slots(driver):
    path = f'slots.{driver}'
    made(f'{driver}: an image for key slots', driver, path, '')
    run(IO, *OBJECT, '-c', 'write -P 77 0 1M', '--image-opts', opts(path, driver))
    status, text = amend(path, driver, 'state=active,new-secret=n,iter-time=5')
    verdict(status == 0 and slots(driver, path) == [0, 1], f'{driver}: a secret is added', text)
    verdict(opens(path, driver, 's') and opens(path, driver, 'n'), f'{driver}: both secrets open it')
    qemu_reads_slots(driver, path)
    not_amended('a slot in use', path, driver, 'state=active,new-secret=n,keyslot=0', 'in use')
    not_amended('no new secret', path, driver, 'state=active', 'new-secret')
    not_amended('neither slot nor secret', path, driver, 'state=inactive', 'keyslot')
    not_amended('a free slot', path, driver, 'state=inactive,keyslot=5', 'not in use')
    status, text = amend(path, driver, 'state=active,new-secret=n,iter-time=5,keyslot=6,old-secret=n')
    verdict(status == 0 and slots(driver, path) == [0, 1, 6], f'{driver}: slot 6, opened with another secret', text)
    status, text = amend(path, driver, 'state=inactive,old-secret=n')
    verdict(status == 0 and slots(driver, path) == [0], f'{driver}: all slots of a secret are erased', text)
    verdict(opens(path, driver, 's') and not opens(path, driver, 'n'), f'{driver}: only the other secret opens it')
    not_amended('a secret that opens nothing', path, driver, 'state=inactive,old-secret=n', 'no key slot')
    not_amended('the last slot', path, driver, 'state=inactive,keyslot=0', '--force')
    status, text = amend(path, driver, 'state=inactive,keyslot=0', '--force')
    verdict(status == 0 and not opens(path, driver, 's'), f'{driver}: the last slot is erased with --force', text)


def qemu_reads_slots(driver, path):
    if not tool('qemu-img'):
        return skip(f'{driver}: QEMU opens it with the new secret', 'qemu-img is not installed (qemu-utils)')
    key = 'key-secret' if driver == 'luks' else 'encrypt.key-secret'
    status, _, text = run('qemu-img', 'convert', *BOTH, '--image-opts',
                          f'driver={driver},{key}=n,file.driver=file,file.filename={path}', '-O', 'raw', 'qemu.raw')
    return verdict(status == 0 and read('qemu.raw')[:1 << 20] == bytes([77]) * (1 << 20),
                   f'{driver}: QEMU opens it with the new secret', text)


def cryptsetup_slots():
    """Slots that Tenon makes open with cryptsetup, and the reverse."""
    def tries(key, slot):
        return run('cryptsetup', 'open', '--test-passphrase', '--key-file', key, '--key-slot', slot, 'c.luks')[0] == 0
    made('an image for cryptsetup', 'luks', 'c.luks', '')
    amend('c.luks', 'luks', 'state=active,new-secret=n,iter-time=5,keyslot=3')
    verdict(tries('new', '3') and tries('pass', '0') and not tries('pass', '3'), 'cryptsetup opens the slot that Tenon made')
    write('third', b'a third one')
    status, _, text = run('cryptsetup', 'luksAddKey', '-q', '--key-file', 'new', '--pbkdf-force-iterations', '1000', 'c.luks', 'third')
    img_opens = img('convert', '--object', 'secret,id=s,file=third', '--image-opts', opts('c.luks'), '-O', 'raw', 'out.raw')[0]
    verdict(status == 0 and img_opens == 0, 'Tenon opens the slot that cryptsetup made', text)
    amend('c.luks', 'luks', 'state=inactive,keyslot=3')
    verdict(not tries('new', '3') and tries('third', '1'), 'cryptsetup agrees on what is erased')


def used_slots(path):
    """Which key slots of version 2 are in use, as cryptsetup says."""
    text = run('cryptsetup', 'luksDump', '--dump-json-metadata', path)[1]
    return sorted(int(number) for number in json.loads(text)['keyslots'])


def version_2_slots():
    """The same for version 2, whose headers cryptsetup checks."""
    def tries(key, slot):
        return run('cryptsetup', 'open', '--test-passphrase', '--key-file', key, '--key-slot', slot, 'c2.luks')[0] == 0
    made('an image of version 2 for key slots', 'luks', 'c2.luks', ',version=2,pbkdf=pbkdf2')
    run(IO, *OBJECT, '-c', 'write -P 77 0 1M', '--image-opts', opts('c2.luks'))
    status, text = amend('c2.luks', 'luks', 'state=active,new-secret=n,iter-time=5')
    verdict(status == 0 and used_slots('c2.luks') == [0, 1], 'version 2: a secret is added', text)
    verdict(tries('new', '1') and tries('pass', '0') and not tries('pass', '1'), 'version 2: cryptsetup opens both slots')
    write('third', b'a third one')
    status, _, text = run('cryptsetup', 'luksAddKey', '-q', '--key-file', 'new', '--pbkdf', 'pbkdf2',
                          '--pbkdf-force-iterations', '1000', 'c2.luks', 'third')
    verdict(status == 0 and used_slots('c2.luks') == [0, 1, 2], 'version 2: cryptsetup adds one to that', text)
    status, text = amend('c2.luks', 'luks', 'state=active,new-secret=n,iter-time=5,keyslot=31,old-secret=n')
    verdict(status == 0 and used_slots('c2.luks') == [0, 1, 2, 31] and tries('new', '31'), 'version 2: slot 31', text)
    not_amended('version 2: a slot in use', 'c2.luks', 'luks', 'state=active,new-secret=n,keyslot=0', 'in use')
    not_amended('version 2: a slot that is not there', 'c2.luks', 'luks', 'state=active,new-secret=n,keyslot=32', 'keyslot')
    not_amended('version 2: a free slot', 'c2.luks', 'luks', 'state=inactive,keyslot=5', 'not in use')
    run('cryptsetup', 'token', 'import', '--key-slot', '31', '--json-file', write('token', TOKEN), 'c2.luks')
    status, text = amend('c2.luks', 'luks', 'state=inactive,old-secret=n')
    verdict(status == 0 and used_slots('c2.luks') == [0, 2] and not tries('new', '1'), 'version 2: slots are erased', text)
    found = json.loads(run('cryptsetup', 'luksDump', '--dump-json-metadata', 'c2.luks')[1])
    verdict(found['tokens']['0']['mine'] == {'a': [1, 'b', None, True]} and found['tokens']['0']['keyslots'] == [],
            'version 2: a token keeps what is its own', str(found['tokens']))
    data = read('c2.luks')
    with open('c2.luks', 'r+b') as image:
        image.write(bytes(4096))
    verdict(tries('third', '2'), 'version 2: the second copy says the same')
    write('c2.luks', data)
    status, text = amend('c2.luks', 'luks', 'state=inactive,keyslot=2')
    verdict(status == 0 and used_slots('c2.luks') == [0], 'version 2: a slot of cryptsetup is erased', text)
    not_amended('version 2: the last slot', 'c2.luks', 'luks', 'state=inactive,keyslot=0', '--force')
    verdict(opens('c2.luks', 'luks', 's') and read('out.raw')[:1 << 20] == bytes([77]) * (1 << 20), 'version 2: the data is there')
    status, text = amend('c2.luks', 'luks', 'state=inactive,keyslot=0', '--force')
    verdict(status == 0 and used_slots('c2.luks') == [], 'version 2: the last slot is erased with --force', text)


TOKEN = b'{"type": "a-test", "keyslots": ["31"], "mine": {"a": [1, "b", null, true]}}'
key_slots('luks')
key_slots('qcow2')
if tool('cryptsetup'):
    version_2_slots()
if tool('cryptsetup'):
    cryptsetup_slots()
else:
    skip('cryptsetup and key slots', 'it is not installed (cryptsetup-bin)')

# ---- Refusals ----


def open_with(secret, path='a.luks'):
    return ['convert', '--object', secret, '--image-opts', opts(path), '-O', 'raw', 'out.raw']


made('an image for refusals', 'luks', 'r.luks', '', 1 << 20)
refused('wrong passphrase', 'none of its key slots', *open_with('secret,id=s,file=wrong', 'r.luks'))
refused('no such secret', "no secret 's'", *open_with('secret,id=t,file=pass', 'r.luks'))
refused('no passphrase', 'key-secret=ID is needed', 'convert', '-f', 'luks', 'r.luks', '-O', 'raw', 'out.raw')
refused('bad base64', 'is not base64', *open_with('secret,id=s,data=a!b,format=base64', 'r.luks'))
reads_as('a passphrase in base64', opts('r.luks'), bytes(img('convert', *OBJECT, '--image-opts', opts('r.luks'), '-O',
                                                             'raw', 'r.raw')[0]) or read('r.raw'),
         '--object', 'secret,id=s,format=base64,data=Y29ycmVjdCBob3JzZQ==')
status, out, text = img(*open_with('secret,id=s,data=hunter2hunter2', 'r.luks'))
verdict('hunter2' not in text, 'a passphrase is in no message', text)
refused('essiv with a digest of the wrong size', 'essiv', 'create', *OBJECT, '-f', 'luks', '-o',
        'key-secret=s,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha1', 'x.luks', '1M')
refused('xts with short blocks', 'xts', 'create', *OBJECT, '-f', 'luks', '-o', 'key-secret=s,cipher-alg=cast5-128',
        'x.luks', '1M')


def hostile(name, text, at, value, form='>I'):
    image = bytearray(read('r.luks'))
    struct.pack_into(form, image, at, value)
    write('h.luks', image)
    refused(name, text, *open_with('secret,id=s,file=pass', 'h.luks'))


hostile('too many iterations', 'iterations', 212, 1 << 30)
hostile('too many iterations of the digest', 'iterations', 164, 1 << 30)


def costly(name, text, changes, *more):
    """Refused before any derivation: all slots together, with the digest for each."""
    image = bytearray(read('r.luks'))
    for at, value in changes:
        struct.pack_into('>I', image, at, value)
    write('h.luks', image)
    command = open_with('secret,id=s,file=pass', 'h.luks')
    refused(name, text, command[0], *more, *command[1:])


costly('too many iterations of all slots', 'together', [(212, 1 << 26), (256, 0x00ac71f3), (260, 1 << 26)])
costly('too many iterations of the digest for all slots', 'together', [(164, 1 << 26), (256, 0x00ac71f3), (260, 1000)])
costly('too many iterations for an untrusted image', 'untrusted', [(212, 1 << 21)], '--untrusted')
hostile('stripes', 'stripes', 208 + 44, 4001)
hostile('key bytes', 'bytes', 108, 1 << 20)
hostile('overlapping key slots', 'overlap', 208 + 48 + 40, 9)
hostile('key slot in the header', 'reaches into', 208 + 40, 1)
hostile('data within the key slots', 'reaches into', 104, 100)
hostile('data beyond the end', 'beyond', 104, 1 << 30)
finish()
