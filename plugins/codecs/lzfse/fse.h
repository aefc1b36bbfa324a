/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finite-state entropy decoding: bits read backwards, and tables of states. */
#ifndef LZFSE_FSE_H
#define LZFSE_FSE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Bits of [start, at), the last byte first, the highest bit first. */
typedef struct FseBits {
  const uint8_t *start, *at;
  uint64_t bits; /* the lowest @count are next */
  unsigned count;
  bool short_of; /* more were wanted than there are */
} FseBits;

/* @padding: unused bits at the top of the last byte, 0 to 7. */
static inline bool
fse_bits_init (FseBits *in, const uint8_t *bytes, size_t length, unsigned padding)
{
  *in = (FseBits){ .start = bytes, .at = bytes + length };
  if (length == 0)
    return padding == 0;
  in->bits = *--in->at;
  in->count = 8 - padding;
  return in->bits >> in->count == 0;
}

static inline unsigned
fse_bits_take (FseBits *in, unsigned count)
{
  while (in->count < count) {
    if (in->at == in->start) {
      in->short_of = true;
      return 0;
    }
    in->bits = (in->bits & ((1ull << in->count) - 1)) << 8 | *--in->at;
    in->count += 8;
  }
  in->count -= count;
  return (unsigned) (in->bits >> in->count & ((1ull << count) - 1));
}

/* What a state stands for and how to the next: base + extra bits, next + state bits. */
typedef struct FseState {
  uint32_t base;
  uint16_t next;
  uint8_t state_bits, extra_bits;
} FseState;

/* Makes @states (a power of two of them) of the frequencies of @n symbols, of which each stands for
 * base[i] (NULL: i) and extra[i] (NULL: 0) more bits.  False: the frequencies are too many. */
bool fse_table_make (FseState *table, unsigned states, const uint16_t *frequency, unsigned n,
                     const uint32_t *base, const uint8_t *extra);

static inline uint32_t
fse_decode (const FseState *table, unsigned *state, FseBits *in)
{
  const FseState *now = &table[*state];
  const unsigned bits = fse_bits_take (in, now->state_bits + now->extra_bits);
  *state = now->next + (bits >> now->extra_bits);
  return now->base + (bits & ((1u << now->extra_bits) - 1));
}

#endif
