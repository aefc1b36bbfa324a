# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests of the sheepdog protocol in Python.  Imported.

This is no sheepdog: it is a small server of the test's own that keeps objects in memory and follows the protocol as
published (headers, opcodes, results, object numbers, the inode's layout).  It also holds its clients to the rules of the
protocol and records what breaks them in `violations`.  It can lie, be slow, hang up, and be stopped and brought back."""
import socket
import struct
import threading
import time

CREATE, READ, WRITE = 1, 2, 3
NEW_VDI, LOCK, RELEASE, GET_INFO, FLUSH, DELETE, DEFAULT = 0x11, 0x12, 0x13, 0x14, 0x16, 0x17, 0x18
F_WRITE, F_COW, F_CACHE, F_DIRECT = 1, 2, 4, 8
OK, NO_OBJ, EXIST, INVALID, LOCKED, NO_VDI, NO_BASE, NO_TAG, NOT_LOCKED, READONLY = 0, 2, 4, 5, 7, 8, 9, 0xe, 0x10, 0x1a
VDI_BIT = 1 << 63
HEAD, TABLE = 4664, 1 << 20
INODE = struct.Struct('<256s256sQQQQQBBBBIII')
REQUEST = struct.Struct('<BBHIII')


class Vdi:
    # pylint: disable=too-many-instance-attributes
    def __init__(self, name, vid, size, shift=22, copies=3, policy=0, parent=0):
        self.name, self.vid, self.shift, self.snap_id, self.tag = name, vid, shift, 0, ''
        self.locked = False
        self.head = bytearray(HEAD)
        INODE.pack_into(self.head, 0, name.encode(), b'', 1, 0, 0, size, 0, policy, 0, copies, shift, 0, vid, parent)
        self.table = bytearray(4 * TABLE)

    @property
    def size(self):
        return struct.unpack_from('<Q', self.head, 536)[0]

    def entry(self, index):
        return struct.unpack_from('<I', self.table, 4 * index)[0]

    def entries(self):
        return sum(1 for (value,) in struct.iter_unpack('<I', self.table[:4 << 12]) if value)

    def make_snapshot(self, snap_id, tag):
        self.snap_id, self.tag = snap_id, tag
        self.head[256:256 + len(tag)] = tag.encode()
        struct.pack_into('<Q', self.head, 520, 2)
        struct.pack_into('<I', self.head, 556, snap_id)


class Cluster:
    """What is stored, and what it answers."""

    def __init__(self):
        self.vdis, self.objects, self.violations, self.counts = [], {}, [], {}
        self.next_vid = 0x1000
        self.lock = threading.Lock()
        self.has_cache, self.most_at_once = True, 0

    def add(self, name, size, **more):
        self.next_vid += 1
        self.vdis.append(Vdi(name, self.next_vid, size, **more))
        return self.vdis[-1]

    def find(self, name, snap_id=0, tag=''):
        for vdi in self.vdis:
            if vdi.name == name and (vdi.snap_id == snap_id if snap_id else vdi.tag == tag if tag else vdi.snap_id == 0):
                return vdi
        return None

    def of(self, vid):
        return next((vdi for vdi in self.vdis if vdi.vid == vid), None)

    def snapshot(self, name, tag):
        """As an administrator makes it: the disk becomes the snapshot, and another takes its place."""
        with self.lock:
            old = self.find(name)
            count = 1 + sum(1 for vdi in self.vdis if vdi.name == name and vdi.snap_id)
            new = self.add(name, old.size, shift=old.shift, parent=old.vid)
            new.table[:] = old.table
            new.locked, old.locked = old.locked, False
            old.make_snapshot(count, tag)
            return old

    def bytes_of(self, vdi):
        """The disk as a reader sees it."""
        out, unit = bytearray(vdi.size), 1 << vdi.shift
        for index in range(-(-vdi.size // unit)):
            if vdi.entry(index):
                data = self.objects[vdi.entry(index) << 32 | index]
                out[index * unit:(index + 1) * unit] = data[:vdi.size - index * unit]
        return bytes(out)

    def broke(self, text):
        self.violations.append(text)
        return INVALID, b''

    # ---- Objects ----

    def inode(self, opcode, oid, offset, length, data):
        vdi = self.of(oid >> 32 & 0xffffff)
        if not vdi:
            return NO_OBJ, b''
        if offset + length > HEAD + len(vdi.table):
            return self.broke('beyond the end of an inode')
        if opcode == READ:
            return OK, bytes((vdi.head + vdi.table)[offset:offset + length])
        if vdi.snap_id:
            return READONLY, b''
        if opcode != WRITE:
            return self.broke('an inode is created')
        if offset < HEAD:
            if offset + length > HEAD:
                return self.broke('head and table at once')
            vdi.head[offset:offset + length] = data
            return OK, b''
        return self.table(vdi, offset - HEAD, data)

    def table(self, vdi, offset, data):
        if offset % 4 or len(data) % 4:
            return self.broke('part of an entry')
        for number in range(len(data) // 4):
            index, (value,) = offset // 4 + number, struct.unpack_from('<I', data, 4 * number)
            if value and (value << 32 | index) not in self.objects:
                return self.broke(f'an entry {index} before its object')
            if value == 0:
                self.objects.pop(vdi.vid << 32 | index, None)
            struct.pack_into('<I', vdi.table, 4 * index, value)
        return OK, b''

    def data(self, opcode, flags, oid, cow, offset, length, data):
        # pylint: disable=too-many-return-statements,too-many-positional-arguments,too-many-arguments
        vid, index = oid >> 32, oid & 0xffffffff
        vdi = self.of(vid)
        if not vdi or index >= TABLE:
            return NO_OBJ, b''
        unit = 1 << vdi.shift
        if offset + length > unit:
            return self.broke('beyond the end of an object')
        if opcode == READ:
            return (OK, bytes(self.objects[oid][offset:offset + length])) if oid in self.objects else (NO_OBJ, b'')
        if vdi.snap_id:
            return READONLY, b''
        if not vdi.locked:
            return self.broke('a write without the lock')
        if opcode == WRITE:
            if oid not in self.objects:
                return NO_OBJ, b''
        else:
            if vdi.entry(index) == vid and oid in self.objects:
                return self.broke(f'object {index} is made twice')
            if bool(flags & F_COW) != bool(cow) or bool(cow) != bool(vdi.entry(index)):
                return self.broke('the parent of a new object is forgotten')
            if cow and cow != (vdi.entry(index) << 32 | index):
                return self.broke('another parent')
            self.objects[oid] = bytearray(self.objects[cow]) if cow else bytearray(unit)
        self.objects[oid][offset:offset + length] = data
        return OK, b''

    # ---- Disks ----

    def about_vdi(self, opcode, body, snap_id):
        name, tag = body[:256].split(b'\0')[0].decode(), body[256:512].split(b'\0')[0].decode()
        if len(body) != 512:
            return self.broke('names of another length'), 0
        vdi = self.find(name, snap_id, tag)
        if not vdi:
            return (NO_TAG if snap_id or tag else NO_VDI, b''), 0
        if opcode == LOCK:
            if vdi.locked:
                return (LOCKED, b''), 0
            vdi.locked = True
        if opcode == DELETE:
            self.vdis.remove(vdi)
        return (OK, b''), vdi.vid

    def new(self, head, body):
        size, base, copies, policy, _, shift, snap_id = struct.unpack_from('<QIBBBBI', head, 16)
        name = body.split(b'\0')[0].decode()
        parent = self.of(base)
        if self.find(name) or snap_id:
            return (EXIST, b''), 0
        if base and not (parent and parent.snap_id):
            return (NO_BASE, b''), 0
        vdi = self.add(name, size, shift=shift or 22, copies=copies or 3, policy=policy, parent=base)
        if parent:
            vdi.table[:] = parent.table
        return (OK, b''), vdi.vid

    def answer(self, head, body):
        """Result, data, number of the disk."""
        _, opcode, flags, _, _, length = REQUEST.unpack_from(head)
        self.counts[opcode] = self.counts.get(opcode, 0) + 1
        with self.lock:
            if opcode in (CREATE, READ, WRITE):
                oid, cow = struct.unpack_from('<QQ', head, 16)
                offset, = struct.unpack_from('<Q', head, 40)
                if (opcode != READ) != bool(flags & F_WRITE):
                    return *self.broke('the flag of writes is wrong'), 0
                if oid & VDI_BIT:
                    return *self.inode(opcode, oid, offset, length, body), 0
                return *self.data(opcode, flags, oid, cow, offset, length, body), 0
            if opcode in (LOCK, GET_INFO, DELETE):
                result, vid = self.about_vdi(opcode, body, struct.unpack_from('<I', head, 32)[0])
                return *result, vid
            if opcode == NEW_VDI:
                result, vid = self.new(head, body)
                return *result, vid
            if opcode == RELEASE:
                vdi = self.of(struct.unpack_from('<I', head, 24)[0])
                if not vdi or not vdi.locked:
                    return NOT_LOCKED, b'', 0
                vdi.locked = False
                return OK, b'', 0
            if opcode == FLUSH:
                return OK if self.has_cache else INVALID, b'', 0
            if opcode == DEFAULT:
                return OK, b'', 0
            return *self.broke(f'opcode {opcode}'), 0


class Server:
    """Serves a cluster at a port of the loopback or at a socket.  `spoil` may change each reply (head, data, opcode), or
    return None to hang up; `late` is seconds before each one."""

    def __init__(self, cluster, path=None):
        self.cluster, self.path, self.port = cluster, path, 0
        self.spoil, self.late = None, 0
        self.listener, self.open, self.gate = None, set(), threading.Lock()
        self.start()

    def start(self):
        self.listener = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(self.path if self.path else ('127.0.0.1', self.port))
        if not self.path:
            self.port = self.listener.getsockname()[1]
        self.listener.listen(16)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def kill(self):
        """As when the program is killed: connections end, and so do the locks of its clients."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.gate:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.open = set()
            for vdi in self.cluster.vdis:
                vdi.locked = False

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.gate:
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection:
                self.talk(connection)
        except OSError:
            pass
        with self.gate:
            self.open.discard(connection)

    @staticmethod
    def take(connection, length):
        data = bytearray()
        while len(data) < length:
            part = connection.recv(min(length - len(data), 1 << 20))
            if not part:
                return None
            data += part
        return bytes(data)

    def talk(self, connection):
        held = []
        while (head := self.take(connection, 48)) is not None:
            version, opcode, flags, epoch, number, length = REQUEST.unpack_from(head)
            body = self.take(connection, length) if flags & F_WRITE else b''
            if body is None:
                return
            if opcode == READ and len(held) < 8 and self.more(connection):
                held.append((head, body))  # answers come in another order than calls
                continue
            for head, body in [(head, body), *reversed(held)]:
                if not self.reply(connection, head, body):
                    return
            held = []

    @staticmethod
    def more(connection):
        try:
            return len(connection.recv(48, socket.MSG_PEEK | socket.MSG_DONTWAIT)) == 48
        except BlockingIOError:
            return False

    def reply(self, connection, head, body):
        version, opcode, flags, epoch, number, _ = REQUEST.unpack_from(head)
        with self.gate:
            if connection not in self.open:
                return False
            result, data, vid = self.cluster.answer(head, body)
        answer = bytearray(48)
        REQUEST.pack_into(answer, 0, version, opcode, flags, epoch, number, len(data))
        struct.pack_into('<I', answer, 16, result)
        if opcode == DEFAULT:
            struct.pack_into('<BBB', answer, 20, 3, 0, 22)
        elif vid:
            struct.pack_into('<I', answer, 24, vid)
        if self.late:
            time.sleep(self.late)
        message = bytes(answer) + data
        if self.spoil:
            message = self.spoil(answer, data, opcode)
            if message is None:
                return False
        connection.sendall(message)
        return True

    def uri(self, vdi, snapshot=''):
        mark = f'#{snapshot}' if snapshot else ''
        if self.path:
            return f'sheepdog+unix:///{vdi}?socket={self.path}{mark}'
        return f'sheepdog://127.0.0.1:{self.port}/{vdi}{mark}'
