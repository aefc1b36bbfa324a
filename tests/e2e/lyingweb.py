# SPDX-License-Identifier: LGPL-2.1-or-later
"""A web server whose replies can be bent.  Imported.

LyingServer (data, behaviour…, later={behaviour…}): `later` takes the place of the rest from the second request on.

  ignore   sends all of the file, whatever was asked for        range    Content-Range as given, None: none
  short=N  closes after N quarters of the body                  extra    a further header line
  most=N   sends at most N bytes, and says so                   status   another status, with an empty body
  etag     another version, None: none                          grow=N   says that the file is N bytes larger
  shift=N  sends bytes from N further on, and says so           stall=N  says nothing more after N bytes of the body (0: no head)
  raw      these bytes instead of a reply, then closes          chunked  transfer encoding chunked
  close    closes after the reply                               longer   sends more than Content-Length and all ranges say
  digest   (user, password): wants to see them by Digest        moved    sends elsewhere, to this URL"""
import hashlib
import re
import socket
import threading


class LyingServer:
    def __init__(self, data, later=None, **behaviour):
        self.data, self.first, self.later = data, behaviour, later
        self.requests, self.heads = 0, []
        self.socket = socket.create_server(('127.0.0.1', 0))
        self.port = self.socket.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}/disk.raw'
        self.lock, self.open, self.over = threading.Lock(), [], threading.Event()

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *why):
        self.over.set()
        self.socket.close()
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def accept(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        try:
            while self.answer(connection):
                pass
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        except OSError:
            pass

    def head(self, connection):
        head = b''
        while b'\r\n\r\n' not in head:
            part = connection.recv(65536)
            if not part:
                return None
            head += part
        return head.decode('latin-1')

    def answer(self, connection):
        """False: the connection is to be closed."""
        head = self.head(connection)
        if head is None:
            return False
        with self.lock:
            behaviour = self.first if self.later is None or self.requests == 0 else self.later
            self.requests += 1
            self.heads.append(head)
        if 'raw' in behaviour:
            connection.sendall(behaviour['raw'])
            return False
        challenge = None
        if 'moved' in behaviour:
            challenge = f'HTTP/1.1 302 moved\r\nLocation: {behaviour["moved"]}\r\n'
        elif 'digest' in behaviour and not self.knows(head, *behaviour['digest']):
            challenge = 'HTTP/1.1 401 who?\r\nWWW-Authenticate: Digest realm="here", nonce="abc"\r\n'
        if challenge:
            connection.sendall((challenge + 'Content-Length: 3\r\n\r\nno\n').encode())
            return True
        if behaviour.get('stall') == 0:
            self.over.wait()
            return False
        return self.reply(connection, head, behaviour)

    @staticmethod
    def knows(head, user, password):
        """Whether the request has the answer to the challenge (RFC 7616, without qop)."""
        given = re.search(r'^authorization: digest (.*)\r$', head, re.I | re.M)
        if not given:
            return False
        fields = dict(re.findall(r'(\w+)="?([^",]+)"?', given[1]))

        def md5(text):
            return hashlib.md5(text.encode()).hexdigest()
        return fields['response'] == md5(f'{md5(f"{user}:here:{password}")}:abc:{md5("GET:" + fields["uri"])}')

    def part(self, head, behaviour):
        asked = re.search(r'^range: bytes=(\d+)-(\d+)\r$', head, re.I | re.M)
        size = len(self.data)
        if behaviour.get('ignore') or not asked:
            return 200, 0, size
        start, end = int(asked[1]) + behaviour.get('shift', 0), min(int(asked[2]) + 1, size)
        return 206, start, min(end, start + behaviour.get('most', size))

    def reply(self, connection, head, behaviour):
        status, start, end = self.part(head, behaviour)
        size = len(self.data) + behaviour.get('grow', 0)
        body = self.data[start:end]
        if 'status' in behaviour:
            status, body = behaviour['status'], b''
        lines = [f'HTTP/1.1 {status} so be it']
        if status == 206:
            given = behaviour.get('range', f'bytes {start}-{end - 1}/{size}')
            lines += [f'Content-Range: {given}'] if given else []
        etag = behaviour.get('etag', '"version-1"')
        lines += [f'ETag: {etag}'] if etag else []
        lines += [behaviour['extra']] if 'extra' in behaviour else []
        chunked = behaviour.get('chunked') or behaviour.get('longer')
        lines.append('Transfer-Encoding: chunked' if chunked else f'Content-Length: {len(body)}')
        if behaviour.get('longer'):
            body += bytes(100000)
        if chunked:
            body = b''.join(b'%x\r\n%s\r\n' % (len(body[at:at + 10000]), body[at:at + 10000])
                            for at in range(0, len(body), 10000)) + b'0\r\n\r\n'
        connection.sendall(('\r\n'.join(lines) + '\r\n\r\n').encode('latin-1'))
        return self.send_body(connection, body, behaviour)

    def send_body(self, connection, body, behaviour):
        if 'stall' in behaviour:
            connection.sendall(body[:behaviour['stall']])
            self.over.wait()
            return False
        if 'short' in behaviour:
            connection.sendall(body[:-(-len(body) * behaviour['short'] // 4)])
            return False
        connection.sendall(body)
        return not behaviour.get('close')
