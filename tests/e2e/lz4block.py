# SPDX-License-Identifier: LGPL-2.1-or-later
"""Blocks of LZ4, from the published description of the format, for tests of what contains them.  Imported."""


def _length(value):
    out = bytearray()
    while value >= 255:
        out.append(255)
        value -= 255
    return bytes(out + bytes([value]))


def _sequence(literal, match, distance):
    token = min(len(literal), 15) << 4 | (min(match - 4, 15) if match else 0)
    out = bytes([token]) + (_length(len(literal) - 15) if len(literal) >= 15 else b'') + literal
    if not match:
        return out
    return out + distance.to_bytes(2, 'little') + (_length(match - 19) if match >= 19 else b'')


def compress(data):
    """Greedy; the last five bytes are literals and no match begins in the last twelve, as readers rely upon."""
    out, seen, start, at, end = bytearray(), {}, 0, 0, len(data)
    while at < end - 12:
        key = data[at:at + 4]
        before = seen.get(key)
        seen[key] = at
        if before is None or at - before > 65535:
            at += 1
            continue
        length = 4
        while at + length < end - 5 and data[before + length] == data[at + length]:
            length += 1
        out += _sequence(data[start:at], length, at - before)
        at += length
        start = at
    return bytes(out + _sequence(data[start:], 0, 0))


def _more(block, at, value):
    while value >= 15:
        byte = block[at]
        value, at = value + byte, at + 1
        if byte != 255:
            break
    return value, at


def decompress(block, wanted=None):
    """Stops where @wanted bytes have been made; what follows may be padding."""
    out, at = bytearray(), 0
    while at < len(block) and (wanted is None or len(out) < wanted):
        token, at = block[at], at + 1
        literal, at = _more(block, at, token >> 4)
        if at + literal > len(block):
            raise ValueError('literals behind the end')
        out += block[at:at + literal]
        at += literal
        if at >= len(block) or (wanted is not None and len(out) >= wanted):
            break
        distance, at = int.from_bytes(block[at:at + 2], 'little'), at + 2
        match, at = _more(block, at, token & 15)
        if not 0 < distance <= len(out):
            raise ValueError('a match from before the beginning')
        for _ in range(match + 4):
            out.append(out[-distance])
    if wanted is not None and len(out) != wanted:
        raise ValueError(f'{len(out)} bytes, not {wanted}')
    return bytes(out)
