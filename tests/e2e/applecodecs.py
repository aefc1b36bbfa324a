# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoders of ADC and LZFSE, made to reach every branch of a decoder rather than to pack well.  Imported."""
import random
import struct


def matches(data, rng, longest, farthest, shortest=3):
    """(literals, length, distance) that give the data; the last may have no match."""
    seen, out, literal, at = {}, [], bytearray(), 0
    while at < len(data):
        key = bytes(data[at:at + shortest])
        before = seen.get(key)
        seen[key] = at
        length = 0
        if before is not None and at - before <= farthest and len(key) == shortest and rng.random() < .95:
            while length < longest and at + length < len(data) and data[before + length] == data[at + length]:
                length += 1
        if length < shortest:
            literal.append(data[at])
            at += 1
            continue
        out.append((bytes(literal), length, at - before))
        literal, at = bytearray(), at + length
    out.append((bytes(literal), 0, 0))
    return out


def adc(data, rng=random):
    out = bytearray()
    for literal, length, distance in matches(data, rng, 67, 65536):
        for i in range(0, len(literal), 128):
            out += bytes([0x80 | len(literal[i:i + 128]) - 1]) + literal[i:i + 128]
        if length and length <= 18 and distance <= 1024:
            out += bytes([length - 3 << 2 | distance - 1 >> 8, (distance - 1) & 255])
        elif length >= 4:
            out += bytes([0x40 | length - 4]) + struct.pack('>H', distance - 1)
        elif length:
            at = len(out)
            out[at:] = bytes([0x80 | length - 1]) + adc.source(data, out, length)
    return bytes(out)


def _adc_source(data, out, length):
    """What a short, far match stands for, as literals: decode so far to see where we are."""
    done, at = 0, 0
    while at < len(out):
        first = out[at]
        if first & 0x80:
            done, at = done + (first & 0x7f) + 1, at + (first & 0x7f) + 2
        elif first & 0x40:
            done, at = done + (first & 0x3f) + 4, at + 3
        else:
            done, at = done + (first >> 2) + 3, at + 2
    return data[done:done + length]


adc.source = _adc_source


# ---- LZVN

def lzvn_literals(out, literal):
    while literal:
        part = literal[:271] if len(literal) >= 16 else literal[:15]
        out += bytes([0xe0, len(part) - 16]) if len(part) >= 16 else bytes([0xe0 | len(part)])
        out += part
        literal = literal[len(part):]


def lzvn_match(out, literal, length, distance, last, rng):
    """A command for up to three literals and the beginning of a match: how much of the match it took."""
    count = len(literal)
    if distance == last and count == 0 and rng.random() < .7:
        part = min(length, 271)
        out += bytes([0xf0, part - 16]) if part >= 16 else bytes([0xf0 | part])
        return part
    if length > 10 and distance < 1 << 14:
        part = min(length, 34)
        coded = part - 3
        out += bytes([0xa0 | count << 3 | coded >> 2]) + struct.pack('<H', distance << 2 | coded & 3) + literal
        return part
    part = min(length, 10 if count < 3 else 6)
    head = count << 6 | part - 3 << 3
    if (head >> 4) in (7, 13) or head >> 5 in (5, 7):  # the code is taken by another command
        part, head = 3, count << 6
    if distance == last and head >= 0x40:
        out += bytes([head | 6]) + literal
    elif distance < 0x600:
        out += bytes([head | distance >> 8, distance & 255]) + literal
    else:
        out += bytes([head | 7]) + struct.pack('<H', distance) + literal
    return part


def lzvn(data, rng=random):
    out, last = bytearray(), 0
    for literal, length, distance in matches(data, rng, 2000, 65535):
        keep = rng.randrange(4) if length else 0
        keep = min(keep, len(literal))
        lzvn_literals(out, literal[:len(literal) - keep])
        literal = literal[len(literal) - keep:]
        while length:
            if length < 3:
                out += bytes([0xf0 | length])
                break
            if rng.random() < .1:
                out += rng.choice((b'\x0e', b'\x16'))
            length -= lzvn_match(out, literal, length, distance, last, rng)
            literal, last = b'', distance
    return bytes(out) + b'\x06' + bytes(7)


# ---- LZFSE

L_BASE = list(range(16)) + [16, 20, 28, 60]
L_EXTRA = [0] * 16 + [2, 3, 5, 8]
M_BASE = list(range(16)) + [16, 24, 56, 312]
M_EXTRA = [0] * 16 + [3, 5, 8, 11]
D_EXTRA = [i // 4 for i in range(64)]
D_BASE = [sum(1 << e for e in D_EXTRA[:i]) for i in range(64)]
MOST_L, MOST_M, MOST_D = 315, 2359, 262139


def frequencies(symbols, count, states):
    used = [symbols.count(i) for i in range(count)]
    if not any(used):
        return [0] * count
    total, left = sum(used), states - sum(1 for u in used if u)
    out = [1 + u * left // total if u else 0 for u in used]
    out[out.index(max(out))] += states - sum(out)
    return out


class Coder:
    """Encodes symbols so that a decoder that reads backwards finds them."""

    def __init__(self, freq, states):
        self.states, self.state, self.table, start = states, 0, {}, 0
        for symbol, f in enumerate(freq):
            if f:
                k = states.bit_length() - f.bit_length()
                self.table[symbol] = (f, k, start)
                start += f

    def push(self, bits, symbol):
        f, k, start = self.table[symbol]
        if self.state >= (f << k) - self.states:
            used, delta = k, start - f + (self.states >> k)
        else:
            used, delta = k - 1, start - f + (self.states >> (k - 1))
        bits.push(used, self.state & (1 << used) - 1)
        self.state = delta + (self.state >> used)


class Bits:
    def __init__(self):
        self.value, self.count = 0, 0

    def push(self, count, value):
        self.value |= value << self.count
        self.count += count

    def done(self):
        length = (self.count + 7) // 8
        return self.value.to_bytes(length, 'little'), length * 8 - self.count


def symbol_of(value, base):
    return max(i for i in range(len(base)) if base[i] <= value)


def packed_frequencies(freq):
    bits = Bits()
    for f in freq:
        if f < 2:
            bits.push(2, f << 1)
        elif f < 4:
            bits.push(3, 1 | (f - 2) << 2)
        elif f < 8:
            bits.push(5, 3 | (f - 4) << 3)
        elif f < 24:
            bits.push(8, 7 | (f - 8) << 4)
        else:
            bits.push(14, 15 | (f - 24) << 4)
    return bits.done()[0]


def triplets_of(data, rng):
    out = []
    for literal, length, distance in matches(data, rng, 5000, MOST_D):
        at = 0
        while len(literal) - at > MOST_L:
            out.append((MOST_L, 0, 1))
            at += MOST_L
        rest = len(literal) - at
        if not length and not rest:
            continue
        first = min(length, MOST_M)
        out.append((rest, first, distance if length else 1))
        while length > first:
            part = min(length - first, MOST_M)
            out.append((0, part, distance))
            first += part
    return out


def literals_of(data, triplets):
    out, at = bytearray(), 0
    for literal, length, _ in triplets:
        out += data[at:at + literal]
        at += literal + length
    return out + bytes(-len(out) % 4)


def repeats(triplets):
    """Distances as written: 0 for the same again."""
    out, last = [], 0
    for literal, length, distance in triplets:
        out.append((literal, length, 0 if distance == last else distance))
        last = distance
    return out


def fse_block(data, rng, packed=True):
    """One block with entropy coding; the data are at most 30000 bytes."""
    triplets = triplets_of(data, rng)
    literals = literals_of(data, triplets)
    triplets = repeats(triplets)
    coded = [(symbol_of(a, L_BASE), symbol_of(b, M_BASE), symbol_of(c, D_BASE)) for a, b, c in triplets]
    tables = [frequencies([c[0] for c in coded], 20, 64), frequencies([c[1] for c in coded], 20, 64),
              frequencies([c[2] for c in coded], 64, 256), frequencies(list(literals), 256, 1024)]
    bits, streams = Bits(), [Coder(tables[3], 1024) for _ in range(4)]
    for i in range(len(literals) - 1, -1, -1):
        streams[i % 4].push(bits, literals[i])
    literal_bytes, literal_padding = bits.done()
    bits, coders = Bits(), [Coder(tables[0], 64), Coder(tables[1], 64), Coder(tables[2], 256)]
    for values, symbols in zip(reversed(triplets), reversed(coded)):
        for which in (2, 1, 0):
            base, extra = ((L_BASE, L_EXTRA), (M_BASE, M_EXTRA), (D_BASE, D_EXTRA))[which]
            symbol = symbols[which]
            bits.push(extra[symbol], values[which] - base[symbol])
            coders[which].push(bits, symbol)
    triplet_bytes, triplet_padding = bits.done()
    triplet_bytes = bytes(8) + triplet_bytes  # readers take eight bytes at a time
    body = literal_bytes + triplet_bytes
    literal_states, states = [s.state for s in streams], [c.state for c in coders]
    if not packed:
        head = struct.pack('<4s6I', b'bvx1', len(data), len(body), len(literals), len(triplets), len(literal_bytes),
                           len(triplet_bytes))
        head += struct.pack('<i4Hi3H', -literal_padding, *literal_states, -triplet_padding, *states)
        return (head + b''.join(struct.pack('<H', f) for t in tables for f in t)).ljust(772, b'\0') + body
    freq = packed_frequencies([f for t in tables for f in t])
    first = len(literals) | len(literal_bytes) << 20 | len(triplets) << 40 | 7 - literal_padding << 60
    second = sum(s << 10 * i for i, s in enumerate(literal_states)) | len(triplet_bytes) << 40 | 7 - triplet_padding << 60
    third = 32 + len(freq) | states[0] << 32 | states[1] << 42 | states[2] << 52
    return struct.pack('<4sI3Q', b'bvx2', len(data), first, second, third) + freq + body


def lzfse(data, rng=random, kinds=('bvx-', 'bvxn', 'bvx1', 'bvx2')):
    out, at = bytearray(), 0
    while at < len(data):
        part = data[at:at + rng.randrange(1, 30000)]
        kind = rng.choice(kinds)
        if kind == 'bvx-':
            out += struct.pack('<4sI', b'bvx-', len(part)) + part
        elif kind == 'bvxn':
            body = lzvn(part, rng)
            out += struct.pack('<4sII', b'bvxn', len(part), len(body)) + body
        else:
            out += fse_block(part, rng, kind == 'bvx2')
        at += len(part)
    return bytes(out) + b'bvx$'
