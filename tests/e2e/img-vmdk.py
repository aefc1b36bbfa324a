#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMDK images: all subformats in both directions with QEMU, descriptors, parents, ESX extents, repairs, refusals."""
import os
import random
import re
import shutil
import struct
import zlib

from formattest import OURS, QEMU, Tap, attempt, content, expect, patch, read, refused, run, whole

RNG = random.Random(int(os.environ.get('IMGTEST_SEED', '1')))
SUBFORMATS = ('monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized')
GRAIN = 65536


def create(tool, path, size, *options):
    run(tool['img'], 'create', '-q', '-f', 'vmdk', *(['-o', ','.join(options)] if options else []), path, str(size))
    return path


def tables(path):
    """Places of the first entries of both grain tables of a monolithic sparse image."""
    return [read(path, '<I', read(path, '<Q', at) * 512) * 512 for at in (56, 48)]


def random_raw(path, size):
    data = bytearray(size)
    for i in range(20):
        at, length = RNG.randrange(size), RNG.randrange(1, 200000)
        piece = RNG.randbytes(length) if i % 2 else bytes([i + 1]) * length
        data[at:at + length] = piece[:size - at]
    with open(path, 'wb') as f:
        f.write(data)


def interchange(subformat, folder):
    raw, size = os.path.join(folder, 'raw'), RNG.randrange(1, 20000) * 512
    random_raw(raw, size)
    for writer, reader in ((OURS, QEMU), (QEMU, OURS), (OURS, OURS)):
        path = os.path.join(folder, f'{writer["name"]}-{reader["name"]}.vmdk')
        run(writer['img'], 'convert', '-f', 'raw', '-O', 'vmdk', '-o', f'subformat={subformat}', raw, path)
        expect(content(reader, path, 'vmdk') == whole(raw), f'{reader["name"]} reads {path} differently')
        if 'Flat' not in subformat:
            run(reader['img'], 'check', path)
        if subformat == 'streamOptimized':
            continue
        for number, tool in enumerate((reader, writer)):
            at = RNG.randrange(size // 512 - 1) * 512
            run(tool['io'], '-f', 'vmdk', '-c', f'write -P {number + 7} {at} 512', path)
            other = writer if tool is reader else reader
            run(other['io'], '-f', 'vmdk', '-c', f'read -P {number + 7} {at} 512', path)


def by_vmdkinfo(folder):
    """libvmdk reads descriptors, headers and names of extents as they are meant."""
    if not shutil.which('vmdkinfo'):
        return
    kinds = dict(zip(SUBFORMATS, ('Monolithic sparse', 'Monolithic flat', '2GB extent sparse', '2GB extent flat',
                                  'Stream optimized')))
    for subformat, kind in kinds.items():
        for size in (5 << 20, (5 << 30) + 512):
            path = create(OURS, os.path.join(folder, f'{subformat}-{size}.vmdk'), size, f'subformat={subformat}')
            text = run('vmdkinfo', path)
            expect(kind in text, f'vmdkinfo finds no {kind}:\n{text}')
            sizes = [int(found) for found in re.findall(r'ize:.*\((\d+) bytes\)', text)]
            count = -(-size // (2 << 30)) if 'twoGb' in subformat else 1
            expect(sizes[0] == size and sum(sizes[1:]) == size and len(sizes) == count + 1, f'vmdkinfo finds {sizes}:\n{text}')
            cid = re.search(r'Content identifier:\s*0x(\w+)', text)[1]
            expect(f'CID={cid}'.encode() in whole(path)[:2048], f'vmdkinfo finds content id {cid}')


def large(folder):
    for subformat in ('monolithicSparse', 'twoGbMaxExtentSparse', 'monolithicFlat', 'twoGbMaxExtentFlat'):
        for writer, reader in ((OURS, QEMU), (QEMU, OURS)):
            path = create(writer, os.path.join(folder, f'{writer["name"]}-{subformat}.vmdk'), '5G', f'subformat={subformat}')
            places = (0, (2 << 30) - 1024, (4 << 30) - 65536, (5 << 30) - 4096)
            for number, at in enumerate(places):
                run(writer['io'], '-f', 'vmdk', '-c', f'write -P {number + 1} {at} 2k', path)
            for number, at in enumerate(places):
                run(reader['io'], '-f', 'vmdk', '-c', f'read -P {number + 1} {at} 2k', path)


def zeroed_grain(folder):
    base = create(OURS, os.path.join(folder, 'base.vmdk'), '1M')
    run(OURS['io'], '-f', 'vmdk', '-c', 'write -P 90 0 1M', base)
    top = os.path.join(folder, 'top.vmdk')
    run(OURS['img'], 'create', '-q', '-f', 'vmdk', '-o', 'zeroed_grain=on', '-b', 'base.vmdk', '-F', 'vmdk', top)
    run(OURS['io'], '-f', 'vmdk', '-c', 'write -z 128k 128k', top)
    for place in tables(top):
        expect(read(top, '<I', place + 8) == 1, 'no zeroed grain was made')
    wanted = b'Z' * 131072 + bytes(131072) + b'Z' * (1048576 - 262144)
    expect(content(QEMU, top, 'vmdk') == wanted and content(OURS, top, 'vmdk') == wanted, 'wrong contents')


def parents(folder):
    for maker in (OURS, QEMU):
        base, top = os.path.join(folder, 'base.vmdk'), os.path.join(folder, 'top.vmdk')
        create(maker, base, '1M')
        run(maker['img'], 'create', '-q', '-f', 'vmdk', '-b', 'base.vmdk', '-F', 'vmdk', top)
        for tool in (OURS, QEMU):
            expect(content(tool, top, 'vmdk') == bytes(1 << 20), 'the parent is not read')
        run(OURS['io'], '-f', 'vmdk', '-c', 'write -P 3 0 64k', base)
        refused('content id', OURS['img'], 'convert', '-f', 'vmdk', '-O', 'raw', top, os.path.join(folder, 'r'))
        os.unlink(base)
        refused('', OURS['img'], 'convert', '-f', 'vmdk', '-O', 'raw', top, os.path.join(folder, 'r'))
    refused('vmdk', OURS['img'], 'create', '-f', 'vmdk', '-b', 'top.vmdk', '-F', 'raw', base)


def content_id(folder):
    path = create(OURS, os.path.join(folder, 'a.vmdk'), '1M')
    before = whole(path)
    run(OURS['io'], '-f', 'vmdk', '-c', 'read 0 64k', path)
    expect(whole(path) == before, 'reading changed the file')
    run(OURS['io'], '-f', 'vmdk', '-c', 'write 0 64k', path)
    line = [text for text in before.split(b'\n') if text.startswith(b'CID=')][0]
    expect(line not in whole(path), 'writing kept the content id')


def descriptor(folder, text):
    path = os.path.join(folder, 'd.vmdk')
    with open(path, 'wb') as f:
        f.write(text)
    return path


def descriptors(folder):
    with open(os.path.join(folder, 'a b.raw'), 'wb') as f:
        f.write(b'1' * 4096 + b'2' * 4096)
    wanted = b'2' * 4096 + bytes(2048) + b'1' * 1024
    lines = ['  # Disk DescriptorFile', 'Version = 2 ', 'encoding="UTF-8"', 'cid = 12ab', 'parentcid=ffffffff', '',
             '# RW 1 FLAT "x" 0', '\tRW 8  FLAT "a b.raw" 8', 'RW 4 ZERO', 'RDONLY 2 flat "a b.raw" 2 extra words', 'ddb.x = "1"']
    lines[-2] = 'RW 2 flat "a b.raw" 2 extra words'
    for end in ('\n', '\r\n'):
        path = descriptor(folder, end.join(lines).encode())
        expect(content(OURS, path, 'vmdk') == wanted, 'a descriptor of odd form is read wrongly')
    run(OURS['io'], '-f', 'vmdk', '-c', 'write -P 51 0 512', path)
    expect(whole(os.path.join(folder, 'a b.raw'))[4096:4608] == b'3' * 512, 'the piece was not written')
    expect(b'\r\n' in whole(path) and b'12ab' not in whole(path), 'the descriptor was not kept in form')
    for text, word in (('RW 8 FLAT "../x" 0', 'folder'), ('RW 8 FLAT "/etc/passwd" 0', 'folder'), ('RW 8 FLAT "d.vmdk" 0', ''),
                       ('RW 99 FLAT "a b.raw" 0', 'extent'), ('RW x FLAT "a b.raw" 0', 'length'), ('RW 8 FUNNY "a b.raw"', 'type'),
                       ('version=4', 'version'), ('', 'extent'), ('RW 8 FLAT "missing"', ''),
                       ('RW 8 FLAT "a b.raw" 0\nRW 8 FLAT "a b.raw" 4', 'overlap')):
        path = descriptor(folder, b'# Disk DescriptorFile\n' + text.encode() + b'\n')
        refused(word, OURS['img'], 'convert', '-f', 'vmdk', '-O', 'raw', path, os.path.join(folder, 'r'))
    refused('', OURS['img'], 'info', '-f', 'vmdk', descriptor(folder, b'# Disk DescriptorFile\n' + b'#' * (2 << 20)))


def outside(folder):
    inner = os.path.join(folder, 'inner')
    os.mkdir(inner)
    with open(os.path.join(folder, 'data'), 'wb') as f:
        f.write(b'o' * 4096)
    os.symlink('../data', os.path.join(inner, 'link'))
    raw = os.path.join(folder, 'r')
    for name in ('../data', os.path.join(folder, 'data'), 'link'):
        path = descriptor(inner, f'# Disk DescriptorFile\nRW 8 FLAT "{name}" 0\n'.encode())
        refused('allow-outside', OURS['img'], 'convert', '-f', 'vmdk', '-O', 'raw', path, raw)
        for more in ('allow-outside=on', f'extents.0.driver=file,extents.0.filename={folder}/data'):
            run(OURS['img'], 'convert', '--image-opts', f'driver=vmdk,file.filename={path},{more}', '-O', 'raw', raw)
            expect(whole(raw) == b'o' * 4096, 'the allowed extent is read wrongly')


def cowd(folder):
    head = struct.pack('<4s7I', b'COWD', 1, 3, 2048, 1, 4, 1, 64).ljust(2048, b'\0')
    table = bytearray(4096 * 4)
    struct.pack_into('<I', table, 4 * 3, 40)
    image = head + struct.pack('<I', 5).ljust(512, b'\0') + bytes(table)
    with open(os.path.join(folder, 'e.vmdk'), 'wb') as f:
        f.write(image.ljust(40 * 512, b'\0') + b'c' * 512)
    path = descriptor(folder, b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="vmfsSparse"\n'
                              b'RW 2048 VMFSSPARSE "e.vmdk"\n')
    wanted = bytes(3 * 512) + b'c' * 512 + bytes(2044 * 512)
    for tool in (OURS, QEMU):
        expect(content(tool, path, 'vmdk') == wanted, f'{tool["name"]} reads a COWD extent differently')
    refused('COWD', OURS['io'], '-f', 'vmdk', '-c', 'write 0 512', path)


def sesparse(folder):
    words = [0] * 64
    words[:6] = [0xcafebabe, 0x200000001, 65536, 8, 64, 0]
    words[10:12] = [1, 1]
    words[16:20] = [2, 1, 8, 64 * 2]
    words[24:26] = [256, 64]
    gd = struct.pack('<2Q', 0x1000000000000001, 0).ljust(512, b'\0')
    table = bytearray(64 * 512)
    struct.pack_into('<4Q', table, 0, 0, 0x2000000000000000, 0x3000000000000000 | 2 << 48, 0x1000000000000000)
    image = struct.pack('<64Q', *words) + struct.pack('<4Q', 0xcafecafe, 0, 0, 0).ljust(512, b'\0') + gd
    image = image.ljust(72 * 512, b'\0') + bytes(table)
    image = image.ljust(256 * 512 + 2 * 4096, b'\0') + b's' * 4096
    with open(os.path.join(folder, 'e.vmdk'), 'wb') as f:
        f.write(image)
    path = descriptor(folder, b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="seSparse"\n'
                              b'RW 65536 SESPARSE "e.vmdk"\n')
    wanted = bytes(8192) + b's' * 4096 + bytes((65536 - 24) * 512)
    for tool in (OURS, QEMU):
        expect(content(tool, path, 'vmdk') == wanted, f'{tool["name"]} reads an seSparse extent differently')
    refused('seSparse', OURS['io'], '-f', 'vmdk', '-c', 'write 0 512', path)


def stream(folder):
    """The parts of a stream, one behind the other: grains ascend, tables, directory, footer, end marker."""
    raw, path = os.path.join(folder, 'raw'), os.path.join(folder, 's.vmdk')
    random_raw(raw, 40 << 20)
    run(OURS['img'], 'convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, path)
    data, source = whole(path), whole(raw)
    at, last, kinds, seen = 65536, -1, [], bytearray(len(source))
    expect(data[56:64] == b'\xff' * 8, 'the header does not leave the directory to the footer')
    while at < len(data):
        first, size, kind = struct.unpack_from('<QII', data, at)
        if size:
            expect(first * 512 > last, 'grains do not ascend')
            last = first * 512
            grain = zlib.decompress(data[at + 12:at + 12 + size])
            expect(len(grain) == GRAIN, 'a grain has a wrong length')
            seen[last:last + GRAIN] = grain[:len(seen) - last]
            at += (12 + size + 511) // 512 * 512
        else:
            kinds.append(kind)
            at += 512 * (1 + first)
    expect(at == len(data) and bytes(seen) == source, 'the stream holds something else')
    expect(kinds == [1, 1, 2, 3, 0], f'markers are {kinds}')
    run(OURS['img'], 'check', path)
    refused('failed', OURS['io'], '-f', 'vmdk', '-c', f'write {last} 64k', path)


def stream_parts(folder):
    path = create(OURS, os.path.join(folder, 's.vmdk'), '1000000', 'subformat=streamOptimized')
    run(OURS['io'], '-f', 'vmdk', '-c', 'write -P 1 1000 512', '-c', 'write -P 2 999424 512', path)
    run(OURS['io'], '-f', 'vmdk', '-c', 'write -P 3 512k 64k', path)
    for tool in (OURS, QEMU):
        for at, value in ((1000, 1), (999424, 2), (524288, 3), (65536, 0)):
            run(tool['io'], '-f', 'vmdk', '-c', f'read -P {value} {at} 512', path)


def repairs(folder):
    path = create(OURS, os.path.join(folder, 'a.vmdk'), '1M')
    run(OURS['io'], '-f', 'vmdk', '-c', 'write -P 1 0 64k', '-c', 'write -P 2 64k 64k', '-c', 'write -P 3 128k 64k', path)
    first, second = tables(path)
    patch(path, '<I', first + 4, 0x123456)
    refused('corrupt', OURS['img'], 'convert', '-f', 'vmdk', '-O', 'raw', path, os.path.join(folder, 'r'))
    status, text = attempt(OURS['img'], 'check', path)
    expect(status == 2, f'check: {status}\n{text}')
    attempt(OURS['img'], 'check', '-r', 'all', path)
    status, text = attempt(OURS['img'], 'check', path)
    expect(status in (0, 3), text)
    expect(content(QEMU, path, 'vmdk')[:196608] == b'\1' * 65536 + bytes(65536) + b'\3' * 65536, 'wrong contents')
    for entry, wanted in ((0x123456, 2), (0, 3)):  # 0: what a power cut may leave
        patch(path, '<I', second, entry)
        status, text = attempt(OURS['img'], 'check', path)
        expect(status == wanted and 'second' in text, f'{status}: {text}')
    patch(path, '<I', first + 4, read(path, '<I', first))
    attempt(OURS['img'], 'check', '-r', 'all', path)
    run(OURS['io'], '-f', 'vmdk', '-c', 'write -P 9 0 64k', path)
    expect(content(QEMU, path, 'vmdk')[:131072] == b'\x09' * 65536 + b'\1' * 65536, 'the two are still one')
    expect(read(path, '<I', second) == read(path, '<I', first), 'the second table is not equal to the first')


def options(folder):
    path = os.path.join(folder, 'o.vmdk')
    for option in ('subformat=funny', 'subformat=monolithicFlat,zeroed_grain=on', 'compat6=on,hwversion=7', 'adapter_type=x',
                   'toolsversion="'):
        refused('', OURS['img'], 'create', '-f', 'vmdk', '-o', option, path, '1M')
        expect(not os.listdir(folder), f'{option} left a file')
    create(OURS, path, '1M', 'adapter_type=lsilogic', 'hwversion=13', 'toolsversion=99')
    for word in (b'adapterType = "lsilogic"', b'heads = "255"', b'virtualHWVersion = "13"', b'toolsVersion = "99"'):
        expect(word in whole(path), f'{word} is not in the descriptor')


def headers(folder):
    for offset, fmt, value in ((4, '<I', 4), (12, '<Q', 1 << 60), (20, '<Q', 0), (20, '<Q', 3), (20, '<Q', 1 << 40), (36, '<Q', 1 << 30),
                               (44, '<I', 0), (44, '<I', 1 << 30), (56, '<Q', 1 << 40), (48, '<Q', 1 << 40), (73, '<I', 0)):
        path = create(OURS, os.path.join(folder, 'h.vmdk'), '1M')
        patch(path, fmt, offset, value)
        refused('VMDK', OURS['img'], 'convert', '-f', 'vmdk', '-O', 'raw', path, os.path.join(folder, 'r'))


def main():
    tap = Tap()
    for subformat in SUBFORMATS:
        for _ in range(2):
            tap.test(f'{subformat} in both directions', interchange, subformat)
    for function in (by_vmdkinfo, large, zeroed_grain, parents, content_id, descriptors, outside, cowd, sesparse, stream, stream_parts,
                     repairs, options, headers):
        tap.test(function.__name__.replace('_', ' '), function)
    tap.end()


if __name__ == '__main__':
    main()
