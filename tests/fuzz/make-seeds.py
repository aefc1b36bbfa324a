#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make-seeds.py CORPUS: seeds of the formats that Tenon only reads, made by the writers that their tests have."""
import ast
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, '..', 'e2e')
CORPUS = os.path.abspath(sys.argv[1])
sys.path.insert(0, TESTS)


def writers(name):
    """What a test defines, without running it."""
    with open(os.path.join(TESTS, f'img-{name}.py'), encoding='utf-8') as file:
        tree = ast.parse(file.read())
    kinds = ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef, ast.ClassDef
    tree.body = [part for part in tree.body if isinstance(part, kinds)]
    names = {}
    exec(compile(tree, name, 'exec'), names)
    return names


def keep(name, label, data):
    folder = os.path.join(CORPUS, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f'seed-{label}'), 'wb') as file:
        file.write(data)


test = writers('bochs')
for version in 1, 2:
    keep('bochs', f'version-{version}', test['Redolog'](test['disk'](12288, 512), 2048, version=version).image())
test = writers('cloop')
for version in 'v068', 'v2', 'pairs', 'v3':
    keep('cloop', version, test[version](test['disk'](6144, 1024), 1024))
test = writers('dmg')
for kind in 'RAW', 'ADC', 'ZLIB', 'BZIP2', 'LZFSE', 'LZMA':
    image = test['Image'](test['disk'](8192, 1024), [test[kind]], chunk=8, parts=2)
    keep('dmg', kind.lower(), image.build())
keep('dmg', 'resources', test['Image'](test['disk'](8192, 1024), [test['RAW'], test['ZLIB']], chunk=4).build(True))
