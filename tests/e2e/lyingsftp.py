#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An SFTP server whose answers can be bent, for sshd's `Subsystem`: lyingsftp.py BEHAVIOUR.

It serves real files and behaves until it has answered two reads; then:
  short   answers reads with a third of what was asked for      eof     says that the file has ended
  long    answers reads with more than was asked for            wrong   answers with numbers that nobody has used
  error   answers reads with "failure"                          silent  answers no more
  bye     ends                                                  junk    answers with random bytes
  huge    announces an answer of 4 GiB                          none    behaves"""
import os
import struct
import sys
import time

INIT, OPEN, CLOSE, READ, WRITE, FSTAT, SETSTAT = 1, 3, 4, 5, 6, 8, 9
VERSION, STATUS, HANDLE, DATA, ATTRS = 2, 101, 102, 103, 105
OK, EOF, FAILURE, UNSUPPORTED = 0, 1, 4, 8
behaviour, reads = sys.argv[1], 0
files = {}


def take(length):
    data = b''
    while len(data) < length:
        part = os.read(0, length - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def send(kind, number, body):
    packet = struct.pack('>BI', kind, number) + body
    put(struct.pack('>I', len(packet)) + packet)


def put(data):
    while data:
        data = data[os.write(1, data):]


def text(data):
    return struct.pack('>I', len(data)) + data


def status(number, code):
    send(STATUS, number, struct.pack('>I', code) + text(b'so be it') + text(b''))


def word(data, at=0):
    length = struct.unpack_from('>I', data, at)[0]
    return data[at + 4:at + 4 + length], at + 4 + length


def answer_read(number, data):
    global reads
    handle, at = word(data)
    offset, length = struct.unpack_from('>QI', data, at)
    content = os.pread(files[handle], min(length, 1 << 18), offset)
    reads += 1
    lie = behaviour if reads > 2 else 'none'
    if lie == 'silent':
        time.sleep(1000)
    elif lie == 'bye':
        sys.exit(0)
    elif lie == 'junk':
        put(os.urandom(3000))
    elif lie == 'huge':
        put(struct.pack('>IBI', 0xffffffff, DATA, number) + bytes(5000))
    elif lie == 'error':
        status(number, FAILURE)
    elif lie == 'eof' or not content:
        status(number, EOF)
    elif lie == 'wrong':
        send(DATA, number + 77777, text(content))
    elif lie == 'long':
        send(DATA, number, text(content + b'more'))
    else:
        send(DATA, number, text(content[:max(1, len(content) // 3)] if lie == 'short' else content))


def answer(kind, number, data):
    if kind == OPEN:
        path, at = word(data)
        writes = struct.unpack_from('>I', data, at)[0] & 2
        handle = b'%d' % len(files)
        try:
            files[handle] = os.open(path, os.O_RDWR if writes else os.O_RDONLY)
        except OSError:
            return status(number, 2)
        return send(HANDLE, number, text(handle))
    if kind == READ:
        return answer_read(number, data)
    if kind == WRITE:
        handle, at = word(data)
        os.pwrite(files[handle], word(data, at + 8)[0], struct.unpack_from('>Q', data, at)[0])
        return status(number, OK)
    if kind == FSTAT:
        return send(ATTRS, number, struct.pack('>IQ', 1, os.fstat(files[word(data)[0]]).st_size))
    return status(number, OK if kind in (CLOSE, SETSTAT) else UNSUPPORTED)


while True:
    size = struct.unpack('>I', take(4))[0]
    message = take(size)
    if message[0] == INIT:
        send(VERSION, 3, b'')
    else:
        answer(message[0], struct.unpack_from('>I', message, 1)[0], message[5:])
