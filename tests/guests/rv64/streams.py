# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random instruction streams for rv64-compare.py: encodes them and writes an assembler file of data.

A stream is straight code with forward jumps.  sp, s0 and s1 point into scratch memory and are never
written, so every load and store stays inside; everything else is free: other registers, operands that are likely
to meet corner cases, illegal encodings, misaligned addresses, rounding modes that don't exist.
"""
import random

POINTERS = {2: 2048, 8: 1024, 9: 1536}  # register: offset into scratch
X_FREE = [r for r in range(32) if r not in POINTERS]
C_FREE = [10, 11, 12, 13, 14, 15]

OP = [(0, f) for f in range(8)] + [(0x20, 0), (0x20, 5)]
MULDIV = [(1, f) for f in range(8)]
OP_32 = [(0, 0), (0x20, 0), (0, 1), (0, 5), (0x20, 5), (1, 0), (1, 4), (1, 5), (1, 6), (1, 7)]
ZB = [(0x20, 4), (0x20, 6), (0x20, 7), (5, 4), (5, 5), (5, 6), (5, 7), (0x10, 2), (0x10, 4), (0x10, 6),
      (0x30, 1), (0x30, 5), (0x24, 1), (0x24, 5), (0x34, 1), (0x14, 1)]
ZB_32 = [(4, 0), (0x10, 2), (0x10, 4), (0x10, 6), (0x30, 1), (0x30, 5)]
AMOS = [0x00, 0x01, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c]


def r_type(opcode, rd, f3, rs1, rs2, f7):
    return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode


def i_type(opcode, rd, f3, rs1, imm):
    return (imm & 0xfff) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode


def s_type(opcode, f3, rs1, rs2, imm):
    return (imm >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (imm & 31) << 7 | opcode


def b_type(f3, rs1, rs2, imm):
    return ((imm >> 12 & 1) << 31 | (imm >> 5 & 63) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12
            | (imm >> 1 & 15) << 8 | (imm >> 11 & 1) << 7 | 0x63)


def j_type(rd, imm):
    return ((imm >> 20 & 1) << 31 | (imm >> 1 & 0x3ff) << 21 | (imm >> 11 & 1) << 20 | (imm >> 12 & 0xff) << 12
            | rd << 7 | 0x6f)


class Jump:
    """A forward jump over `over` instructions, encoded when the distance is known."""

    def __init__(self, over, encode):
        self.over, self.encode = over, encode


class Streams:
    def __init__(self, seed, groups):
        self.random = random.Random(seed)
        self.groups = groups

    def pick(self, items):
        return self.random.choice(items)

    def rd(self):
        return self.pick(X_FREE)

    def rs(self):
        return self.random.randrange(32)

    def freg(self):
        return self.random.randrange(32)

    def rm(self):
        return self.random.choice([0, 1, 2, 3, 4, 7, 7, 7, 7, 0, 5, 6] if self.random.random() < .2
                                  else [0, 1, 2, 3, 4, 7])

    def imm12(self):
        return self.pick([0, 1, -1, 2047, -2048, self.random.randrange(-2048, 2048)])

    # Values

    def integer(self):
        kind = self.random.randrange(6)
        if kind == 0:
            return self.pick([0, 1, 2**64 - 1, 2**63, 2**63 - 1, 2**31, 2**31 - 1, 2**32, 2**32 - 1,
                              2**64 - 2**31, 63, 64, 32, 31])
        if kind == 1:
            return self.random.getrandbits(64) >> self.random.randrange(64)
        if kind == 2:
            return 2**64 - 1 - (self.random.getrandbits(64) >> self.random.randrange(64))
        if kind == 3:
            return 1 << self.random.randrange(64)
        return self.random.getrandbits(64)

    def pattern(self, exp_bits, frac_bits):
        top, bias = 2**exp_bits - 1, 2**(exp_bits - 1) - 1
        exp = self.pick([0, 1, top, top - 1, bias, bias + 1, bias - 1, bias + frac_bits, bias - frac_bits,
                         bias + 31, bias + 63, self.random.randrange(top), self.random.randrange(top)])
        frac = self.pick([0, 1, 2**frac_bits - 1, 2**(frac_bits - 1), self.random.getrandbits(frac_bits),
                          self.random.getrandbits(frac_bits), 1 << self.random.randrange(frac_bits)])
        return self.random.getrandbits(1) << (exp_bits + frac_bits) | exp << frac_bits | frac

    def floating(self):
        kind = self.random.randrange(8)
        if kind < 3:
            return 0xffffffff00000000 | self.pattern(8, 23)
        if kind == 3:
            return self.random.getrandbits(64)
        return self.pattern(11, 52)

    # Instructions

    def alu(self):
        kind = self.random.randrange(8)
        if kind == 0:
            return i_type(0x13, self.rd(), self.pick([0, 2, 3, 4, 6, 7]), self.rs(), self.imm12())
        if kind == 1:
            f3 = self.pick([1, 5])
            return i_type(0x13, self.rd(), f3, self.rs(), self.random.randrange(64) | (0x400 if f3 == 5 and self.random.random() < .5 else 0))
        if kind == 2:
            return self.pick([i_type(0x1b, self.rd(), 0, self.rs(), self.imm12()),
                              i_type(0x1b, self.rd(), 1, self.rs(), self.random.randrange(32)),
                              i_type(0x1b, self.rd(), 5, self.rs(), self.random.randrange(32) | self.pick([0, 0x400]))])
        if kind == 3:
            return self.random.getrandbits(20) << 12 | self.rd() << 7 | self.pick([0x37, 0x17])
        if kind == 4:
            f7, f3 = self.pick(OP_32)
            return r_type(0x3b, self.rd(), f3, self.rs(), self.rs(), f7)
        f7, f3 = self.pick(OP + MULDIV)
        return r_type(0x33, self.rd(), f3, self.rs(), self.rs(), f7)

    def constant(self):
        """lui or auipc with the addition that makes a constant of it."""
        rd = self.rd()
        first = self.random.getrandbits(20) << 12 | rd << 7 | self.pick([0x37, 0x17])
        return [first, i_type(self.pick([0x13, 0x1b]), rd, 0, self.pick([rd, rd, rd, self.rs()]), self.imm12())]

    def bits(self):
        kind = self.random.randrange(4)
        if kind == 0:
            f7, f3 = self.pick(ZB)
            return r_type(0x33, self.rd(), f3, self.rs(), self.rs(), f7)
        if kind == 1:
            f7, f3 = self.pick(ZB_32)
            return r_type(0x3b, self.rd(), f3, self.rs(), self.rs(), f7)
        if kind == 2:
            return self.pick([i_type(0x13, self.rd(), 1, self.rs(), 0x600 | self.pick([0, 1, 2, 4, 5])),
                              i_type(0x1b, self.rd(), 1, self.rs(), 0x600 | self.pick([0, 2])),
                              i_type(0x13, self.rd(), 5, self.rs(), self.pick([0x287, 0x6b8])),
                              r_type(0x3b, self.rd(), 4, self.rs(), 0, 4)])
        shift = self.random.randrange(64)
        return self.pick([i_type(0x13, self.rd(), 5, self.rs(), 0x600 | shift),
                          i_type(0x1b, self.rd(), 5, self.rs(), 0x600 | shift & 31),
                          i_type(0x1b, self.rd(), 1, self.rs(), 0x080 | shift),
                          i_type(0x13, self.rd(), 1, self.rs(), self.pick([0x280, 0x480, 0x680]) | shift),
                          i_type(0x13, self.rd(), 5, self.rs(), 0x480 | shift)])

    def trailing_zeros(self):
        """ctzw of a word that isn't zero: QEMU 7.2 answers by the upper half otherwise (selfcheck.c tests that)."""
        rd = self.pick([r for r in X_FREE if r])
        return [0x80000 << 12 | rd << 7 | 0x37, r_type(0x33, rd, 6, rd, self.pick([r for r in range(32) if r != rd]), 0),
                i_type(0x1b, self.rd(), 1, rd, 0x601)]

    def memory(self):
        base = self.pick(list(POINTERS))
        imm = self.random.randrange(-1000, 1000)
        if self.random.random() < .7:
            imm &= ~7
        kind = self.random.randrange(4)
        if kind == 0:
            return i_type(0x03, self.rd(), self.random.randrange(7), base, imm)
        if kind == 1:
            return s_type(0x23, self.random.randrange(4), base, self.rs(), imm)
        if kind == 2:
            return i_type(0x07, self.freg(), self.pick([2, 3]), base, imm)
        return s_type(0x27, self.pick([2, 3]), base, self.freg(), imm)

    def atomic(self):
        f3, base = self.pick([2, 3]), self.pick(list(POINTERS))
        order = self.random.randrange(4)
        if self.random.random() < .3:
            return [r_type(0x2f, self.rd(), f3, base, 0, 2 << 2 | order),
                    r_type(0x2f, self.rd(), f3, self.pick([base, base, 2]), self.rs(),
                           3 << 2 | order)]
        return r_type(0x2f, self.rd(), f3, base, self.rs(), self.pick(AMOS) << 2 | order)

    def misaligned_atomic(self):
        """lr only: QEMU 7.2 reports others as loads (selfcheck.c tests them), and doesn't look at sc's address."""
        rd = self.pick([r for r in X_FREE if r])
        return [i_type(0x13, rd, 0, 9, self.pick([0, 1, 2, 4, 6, 8])),
                r_type(0x2f, self.rd(), self.pick([2, 3]), rd, 0, 2 << 2)]

    def fp(self):
        fmt = self.pick([0, 1])
        kind = self.random.randrange(12)
        if kind < 3:
            return r_type(0x53, self.freg(), self.rm(), self.freg(), self.freg(), self.pick([0, 1, 2, 3]) << 2 | fmt)
        if kind == 3:
            return r_type(0x53, self.freg(), self.rm(), self.freg(), 0, 0x0b << 2 | fmt)
        if kind < 6:
            return (self.freg() << 27 | fmt << 25 | self.freg() << 20 | self.freg() << 15 | self.rm() << 12
                    | self.freg() << 7 | self.pick([0x43, 0x47, 0x4b, 0x4f]))
        if kind == 6:
            return r_type(0x53, self.freg(), self.pick([0, 1, 2]), self.freg(), self.freg(), 4 << 2 | fmt)
        if kind == 7:
            return r_type(0x53, self.freg(), self.pick([0, 1]), self.freg(), self.freg(), 5 << 2 | fmt)
        if kind == 8:
            return r_type(0x53, self.rd(), self.pick([0, 1, 2]), self.freg(), self.freg(), 0x14 << 2 | fmt)
        if kind == 9:
            return self.pick([r_type(0x53, self.rd(), self.rm(), self.freg(), self.random.randrange(4), 0x18 << 2 | fmt),
                              r_type(0x53, self.freg(), self.rm(), self.rs(), self.random.randrange(4), 0x1a << 2 | fmt)])
        if kind == 10:
            return r_type(0x53, self.freg(), self.rm(), self.freg(), 1 - fmt, 8 << 2 | fmt)
        return self.pick([r_type(0x53, self.rd(), 0, self.freg(), 0, 0x1c << 2 | fmt),
                          r_type(0x53, self.rd(), 1, self.freg(), 0, 0x1c << 2 | fmt),
                          r_type(0x53, self.freg(), 0, self.rs(), 0, 0x1e << 2 | fmt)])

    def fp_csr(self):
        csr, f3 = self.pick([1, 2, 3]), self.pick([1, 2, 3, 5, 6, 7])
        return i_type(0x73, self.rd(), f3, self.rs(), csr)

    def compressed(self):
        """16-bit instructions by their fields; illegal ones among them on purpose."""
        while True:
            half = self.random.getrandbits(16)
            quadrant, f3 = half & 3, half >> 13
            rd, rdc, rs1c, rs2 = half >> 7 & 31, half >> 2 & 7, half >> 7 & 7, half >> 2 & 31
            if quadrant == 3 or (quadrant == 1 and f3 in (5, 6, 7)):  # 32 bits; jumps
                continue
            if quadrant == 0:
                if f3 != 0 and rs1c not in (0, 1):  # memory through s0 or s1 only
                    half = half & ~(7 << 7) | self.pick([0, 1]) << 7
                if f3 in (0, 2, 3) and rdc in (0, 1):  # would overwrite a pointer
                    half = half & ~(7 << 2) | self.random.randrange(2, 8) << 2
            elif quadrant == 1:
                if f3 == 4 and rs1c in (0, 1):
                    half = half & ~(7 << 7) | self.random.randrange(2, 8) << 7
                elif f3 != 4 and rd in POINTERS:
                    continue
            else:
                if f3 in (0, 2, 3, 4) and rd in POINTERS:
                    continue
                if f3 == 4 and rs2 == 0 and rd != 0:  # c.jr, c.jalr
                    continue
            return ('half', half)

    def branch(self):
        f3, rs1, rs2 = self.pick([0, 1, 4, 5, 6, 7]), self.rs(), self.rs()
        if self.random.random() < .2:
            rd = self.rd()
            return Jump(self.random.randrange(1, 6), lambda imm: j_type(rd, imm))
        return Jump(self.random.randrange(1, 6), lambda imm: b_type(f3, rs1, rs2, imm))

    def odd(self):
        """Encodings next to real ones.  Jumps, CSRs and valid memory accesses would leave the stream."""
        word = self.random.getrandbits(32)
        opcode = self.pick([0x13, 0x1b, 0x33, 0x3b, 0x53, 0x53, 0x43, 0x0b, 0x2b, 0x5b, 0x7b, 0x6b, 0x57, 0x77])
        rd = self.freg() if opcode in (0x43,) else self.rd()
        if opcode in (0x33, 0x3b) and self.random.random() < .8:
            f7 = self.pick([0, 1, 4, 5, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34])
            word = word & 0x01ffffff | f7 << 25
        if opcode in (0x13, 0x1b) and self.random.random() < .8:
            word = word & ~0x7000 | self.pick([1, 5]) << 12
        if opcode == 0x53 and self.random.random() < .5:
            word = word & ~0x01f00000 | self.random.randrange(4) << 20
        if word & 0xfff07000 == 0x60101000 and opcode == 0x1b:  # ctzw, see trailing_zeros()
            return self.odd()
        return word & ~0xfff | rd << 7 | opcode

    def system(self):
        return self.pick([0x00000073, 0x00100073, 0x0ff0000f, 0x0330000f, 0x8330000f, 0x0100000f, 0x0000100f, i_type(0x73, self.rd(), 2, 0, 0x5c0),
                          i_type(0x73, self.rd(), 1, self.rs(), 0xc00), i_type(0x73, 0, 0, 0, 0x7b2),
                          i_type(0x03, self.rd(), 7, 2, 0), s_type(0x23, self.pick([4, 5, 6, 7]), 2, 0, 0),
                          b_type(self.pick([2, 3]), 0, 0, 8), i_type(0x67, 0, self.pick([1, 2, 3, 7]), 2, 0),
                          r_type(0x2f, self.rd(), self.pick([0, 1, 5, 6, 7]), 9, self.rs(), 0),
                          r_type(0x2f, self.rd(), 2, 9, self.rs(), self.pick([5, 6, 7, 9, 0x1f]) << 2)])

    def stream(self, length):
        out = []
        while len(out) < length:
            made = getattr(self, self.pick(self.groups))()
            out.extend(made if isinstance(made, list) else [made])
        return out

    def lines(self, index, length):
        body = self.stream(length)
        sizes = [2 if isinstance(i, tuple) else 4 for i in body]
        starts = [sum(sizes[:i]) for i in range(len(body) + 1)]
        lines = ['\t.balign 4', 'code_%d:' % index]
        if self.random.random() < .3:  # so that 32-bit instructions straddle words and, now and then, pages
            lines.append('\t.half 1')
            starts = [s + 2 for s in starts]
        for i, insn in enumerate(body):
            if isinstance(insn, tuple):
                lines.append('\t.half 0x%04x' % insn[1])
                continue
            if isinstance(insn, Jump):
                insn = insn.encode(starts[min(i + 1 + insn.over, len(body))] - starts[i])
            lines.append('\t.half 0x%04x, 0x%04x' % (insn & 0xffff, insn >> 16 & 0xffff))
        lines += ['end_%d:' % index, '\t.half 0x0073, 0x0000']
        return lines

    def values(self, index):
        lines = ['\t.balign 8', 'init_%d:' % index, '\t.dword 0']
        for r in range(1, 32):
            lines.append('\t.dword scratch + %d' % POINTERS[r] if r in POINTERS else '\t.dword 0x%x' % self.integer())
        lines += ['\t.dword 0x%x' % self.floating() for _ in range(32)]
        lines.append('\t.dword 0x%x' % (self.random.choice([0, 1, 2, 3, 4, 0, 7]) << 5 | self.random.choice([0, 1, 31])))
        return lines


GROUPS = {
    'integer': ['alu', 'alu', 'alu', 'constant', 'memory', 'branch', 'compressed'],
    'bits': ['bits', 'bits', 'bits', 'bits', 'trailing_zeros', 'alu', 'constant'],
    'float': ['fp', 'fp', 'fp', 'fp', 'fp_csr', 'memory', 'alu'],
    'atomic': ['atomic', 'atomic', 'misaligned_atomic', 'memory', 'alu'],
    'compressed': ['compressed', 'compressed', 'compressed', 'alu', 'branch'],
    'illegal': ['odd', 'odd', 'odd', 'system', 'compressed', 'alu'],
    'mixed': ['alu', 'bits', 'memory', 'atomic', 'fp', 'fp_csr', 'compressed', 'branch', 'odd', 'system', 'constant'],
}


def assemble(seed, group, count, only=None):
    """Assembler text of `count` streams; with `only`, of that one alone, to be shown in full."""
    code, values, table = ['\t.text'], ['\t.data'], ['\t.balign 8', '\t.globl streams', 'streams:']
    shown = 0
    for index in range(count):
        maker = Streams('%s-%s-%d' % (seed, group, index), GROUPS[group])
        length = maker.random.randrange(8, 40)
        mode = maker.random.choice([0, 1, 3])
        lines, init = maker.lines(index, length), maker.values(index)
        if only is not None and index != only:
            # The place in memory is part of the results, so keep the space.
            code += ['\t.balign 4'] + [l.split(':')[0] + ':' if l.endswith(':') else l for l in lines]
            continue
        code += lines
        values += init
        table.append('\t.dword code_%d, end_%d, 0x%x, init_%d' % (index, index, mode << 11, index))
        shown += 1
    values += table + ['\t.globl stream_count, verbose', 'stream_count: .dword %d' % shown,
                       'verbose: .dword %d' % (only is not None)]
    return '\n'.join(code + values) + '\n'
