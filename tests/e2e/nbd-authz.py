#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""--tls-authz: which clients may come in, by the names in their certificates.  The same certificates and objects are shown to
qemu-nbd, where it is installed: it has to say the same."""
import json
import os
import shutil

from exporttest import Daemon
from imgtest import RNG, difference, finish, img, read, run, skip, verdict, write
from nbdtest import NBD, Server
from nbdtls import PATH, make_ca, make_certificate, make_disk, name, psk, x509

# Folder, lines of the template, and the name as GnuTLS writes it.
PEOPLE = (
    ('fred', ('cn = fred',), 'CN=fred'),
    ('danb', ('cn = danb',), 'CN=danb'),
    ('dana', ('cn = dana',), 'CN=dana'),
    ('laptop', ('country = GB', 'state = London', 'locality = London', 'organization = Example Org', 'cn = laptop.example.com'),
     'C=GB,ST=London,L=London,O=Example Org,CN=laptop.example.com'),
    ('comma', ('organization = "Example, Inc"', 'cn = fred'), None),
    ('umlaut', ('cn = Jürgen',), 'CN=Jürgen'),
)


def make_people():
    make_ca('ca')
    make_ca('stranger')
    make_certificate('ca', 'server', 'cn = server')
    make_certificate('foreign', 'client', 'cn = fred', authority='stranger')
    shutil.copy('ca/ca-cert.pem', 'foreign')
    for folder, lines, _ in PEOPLE:
        make_certificate(folder, 'client', *lines)
    os.makedirs('psk', exist_ok=True)
    write('psk/keys.psk', f'qemu:{RNG.randbytes(32).hex()}\n'.encode())


def quoted(text):
    return text.replace(',', ',,')


def server(program, *objects, authz='a'):
    """--object of the server's credentials and of those that are given, and --tls-authz."""
    given = [part for each in objects for part in ('--object', each)]
    return Server(program, '-t', '-e', '8', '-k', PATH, '-f', 'raw', *x509('ca', 'server'), *given, '--tls-creds', 't',
                  '--tls-authz', authz, 'disk.raw', path=PATH)


def may_come_in(folder, data):
    """What the server says to whom: '' for yes, else what the client says."""
    if os.path.exists('out.raw'):
        os.unlink('out.raw')
    status, _, text = img('convert', *x509(folder), '-O', 'raw', name(), 'out.raw')
    return text or f'status {status}' if status else difference(read('out.raw'), data)


def everyone(what, objects, allowed, data, programs=(NBD, 'qemu-nbd')):
    """Who of all gets in: at our server and at qemu-nbd."""
    for program in programs:
        if not shutil.which(program):
            skip(f'{what}: qemu-nbd', 'not installed (qemu-utils)')
            continue
        with server(program, *objects) as running:
            answers = {folder: may_come_in(folder, data) for folder, _, _ in PEOPLE}
            status, text = running.end()
        said = {folder for folder, answer in answers.items() if not answer}
        verdict(said == set(allowed), f'{what}: {os.path.basename(program)} lets in {", ".join(sorted(allowed)) or "nobody"}',
                f'{sorted(said)}: {answers}')
        if program == NBD:
            lines = [line for line in text.splitlines() if 'refused' in line]
            verdict(status == 0 and len(lines) == len(PEOPLE) - len(allowed) == text.count('\n'),
                    f'{what}: one line for each that is refused', f'{status}: {text}')
            verdict(all(not answer or answer.count('\n') == 1 for answer in answers.values()),
                    f'{what}: clients say so in one line', answers)


def test_simple(data):
    for folder, _, identity in PEOPLE:
        if identity:
            everyone(f'authz-simple {identity}', [f'authz-simple,id=a,identity={quoted(identity)}'], [folder], data)
    everyone('authz-simple of nobody', ['authz-simple,id=a,identity=CN=nobody'], [], data)
    everyone('authz-simple: a part of a name', ['authz-simple,id=a,identity=fred'], [], data)


def rules(*lines, policy=None):
    text = {'rules': [dict(zip(('match', 'policy', 'format'), line)) for line in lines]}
    if policy:
        text['policy'] = policy
    return text


LISTS = (
    ('the first rule that matches', rules(('CN=danb', 'deny'), ('CN=dan*', 'allow', 'glob')), ['dana']),
    ('a rule that matches word for word', rules(('CN=dan*', 'allow', 'exact')), []),
    ('exact is the default', rules(('CN=fred', 'allow'), ('CN=dan*', 'allow')), ['fred']),
    ('policy allow', rules(('*O=*', 'deny', 'glob'), ('CN=dan?', 'deny', 'glob'), policy='allow'), ['fred', 'umlaut']),
    ('a pattern of one organization', rules(('*,O=Example Org,*', 'allow', 'glob'), policy='deny'), ['laptop']),
    ('a character of two bytes', rules(('CN=J?rgen', 'allow', 'glob')), ['umlaut']),
    ('no rules', {'policy': 'allow', 'rules': []}, [folder for folder, _, _ in PEOPLE]),
)


def flat(text):
    """The list as dotted options."""
    options = [f'policy={text["policy"]}'] if 'policy' in text else []
    options += [f'rules.{n}.{key}={quoted(value)}' for n, rule in enumerate(text['rules']) for key, value in rule.items()]
    return ','.join(['authz-list,id=a'] + options)


def test_lists(data):
    for number, (what, text, allowed) in enumerate(LISTS):
        objects = (flat(text), json.dumps(dict(text, **{'qom-type': 'authz-list', 'id': 'a'})))
        everyone(f'authz-list, {what}', [objects[number % 2]], allowed, data)
        write('list.json', json.dumps(text, indent=2).encode())
        everyone(f'authz-listfile, {what}', ['authz-listfile,id=a,filename=list.json,refresh=off'], allowed, data,
                 [NBD])  # qemu-nbd of Debian 12 has no objects of this kind


def test_refresh(data):
    """A list in a file that changes while the server runs, also in the sandbox."""
    nobody, fred = (json.dumps(text).encode() for text in (rules(), rules(('CN=fred', 'allow'))))
    os.makedirs('lists', exist_ok=True)
    path = 'lists/list.json'
    write(path, nobody)
    with server(NBD, f'authz-listfile,id=a,filename={path}') as running:
        verdict(may_come_in('fred', data), 'before the change he is refused')
        write(path, fred)
        why = may_come_in('fred', data)
        verdict(not why, 'the file is written anew: he is let in', why)
        write('lists/new', nobody)
        os.rename('lists/new', path)
        verdict(may_come_in('fred', data), 'another file in its place: refused')
        for what, text in (('no JSON', b'{"rules": ['), ('a rule that is none', b'{"rules": [{"match": "CN=fred"}]}'),
                           ('zero bytes', bytes(100)), ('an unknown word', b'{"policy": "allow", "colour": "red"}')):
            write(path, text)
            verdict(may_come_in('fred', data), f'{what}: nobody is let in')
        os.unlink(path)
        verdict(may_come_in('fred', data), 'no file: nobody is let in')
        write(path, fred)
        why = may_come_in('fred', data)
        verdict(not why, 'the file is there again: he is let in', why)
        status, text = running.end()
        verdict(status == 0 and text.count('list.json') == 5, 'the server says what is wrong with the file', text)
    with server(NBD, f'authz-listfile,id=a,filename={path},refresh=off'):
        write(path, nobody)
        why = may_come_in('fred', data)
        verdict(not why, 'refresh=off: what was read at first holds', why)


def test_both_are_needed(data):
    """A name does not replace the certificate's check."""
    with server(NBD, 'authz-simple,id=a,identity=CN=fred'):
        verdict(may_come_in('foreign', data), 'the right name by another authority is refused')
        why = may_come_in('fred', data)
        verdict(not why, 'and the right one is let in', why)


def test_daemon(data):
    nbd = f'addr.type=unix,addr.path={PATH},tls-creds=t,tls-authz=a'
    objects = *x509('ca', 'server'), '--object', 'authz-list,id=a,rules.0.match=CN=dan*,rules.0.format=glob,rules.0.policy=allow'
    with Daemon('--blockdev', 'driver=file,node-name=n,filename=disk.raw', *objects, '--nbd-server', nbd, '--export',
                'nbd,id=e,node-name=n,name=') as daemon:
        why = may_come_in('dana', data)
        verdict(not why, 'tenon-storage-daemon lets in whom the list allows', why)
        verdict(may_come_in('fred', data), 'and nobody else')
        status, text = daemon.end()
        verdict(status == 0 and text.count('\n') == 1 and "'CN=fred'" in text, 'one line about whom it has refused', text)


def test_refusals():
    creds = *x509('ca', 'server'), '--tls-creds=t'
    for args, text in (
            (('--tls-authz=a',), 'tls-creds'),
            ((*creds, '--tls-authz=a'), "'a'"),
            ((*creds, '--tls-authz=t'), "'t'"),
            ((*x509('ca', 'server', verify_peer='off'), '--tls-creds=t', '--object', 'authz-simple,id=a,identity=x',
              '--tls-authz=a'), 'verify-peer'),
            ((*psk(end='server'), '--tls-creds=t', '--object', 'authz-simple,id=a,identity=x', '--tls-authz=a'), 'x509'),
            (('--object', 'authz-simple,id=a'), 'identity'),
            (('--object', 'authz-simple,identity=x'), 'id=NAME'),
            (('--object', 'authz-simple,id=a,identity=x,colour=red'), 'colour'),
            (('--object', 'authz-simple,id=a,identity=x', '--object', 'authz-list,id=a'), 'already'),
            (('--object', 'authz-list,id=a,policy=maybe'), 'maybe'),
            (('--object', 'authz-list,id=a,rules.0.match=x'), 'policy'),
            (('--object', 'authz-list,id=a,rules.0.policy=allow'), 'match'),
            (('--object', 'authz-list,id=a,rules.1.match=x,rules.1.policy=allow'), 'rules.0'),
            (('--object', 'authz-list,id=a,rules.0.match=x,rules.0.policy=allow,rules.0.format=regex'), 'regex'),
            (('--object', 'authz-listfile,id=a'), 'filename'),
            (('--object', 'authz-listfile,id=a,filename=missing.json'), 'missing.json'),
            (('--object', 'authz-listfile,id=a,filename=/dev/zero'), '/dev/zero'),
            (('--object', 'authz-pam,id=a,service=x'), 'authz-pam'),
            (('--object', '{"qom-type": "authz-list", "id": "a", "rules": 3}'), 'rules')):
        status, _, why = run(NBD, '-k', PATH, '-f', 'raw', *args, 'disk.raw')
        verdict(status == 1 and text in why and why.count('\n') == 1, f'refused: {" ".join(args)[-60:]}', why)


if not shutil.which('certtool'):
    skip('who may come in', 'certtool is not installed (gnutls-bin)')
    finish()
make_people()
CONTENTS = make_disk()
test_simple(CONTENTS)
test_lists(CONTENTS)
test_refresh(CONTENTS)
test_both_are_needed(CONTENTS)
test_daemon(CONTENTS)
test_refusals()
finish()
