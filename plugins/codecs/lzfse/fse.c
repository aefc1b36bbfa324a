/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocks with entropy coding: literals in four interleaved streams, then triplets of literal length, match
 * length and distance. */
#include "fse.h"
#include "lzfse.h"

#define L_SYMBOLS 20
#define M_SYMBOLS 20
#define D_SYMBOLS 64
#define LITERAL_SYMBOLS 256
#define ALL_SYMBOLS (L_SYMBOLS + M_SYMBOLS + D_SYMBOLS + LITERAL_SYMBOLS)
#define L_STATES 64
#define M_STATES 64
#define D_STATES 256
#define LITERAL_STATES 1024
#define MAX_MATCHES 10000u
#define MAX_LITERALS (4 * MAX_MATCHES)

#define PLAIN_HEADER 772u /* "bvx1" */
#define PACKED_HEADER 32u /* "bvx2", at least: packed frequencies follow */

static const uint8_t l_extra[L_SYMBOLS] = { [16] = 2, 3, 5, 8 };
static const uint32_t l_base[L_SYMBOLS] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
                                            10, 11, 12, 13, 14, 15, 16, 20, 28, 60 };
static const uint8_t m_extra[M_SYMBOLS] = { [16] = 3, 5, 8, 11 };
static const uint32_t m_base[M_SYMBOLS] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
                                            10, 11, 12, 13, 14, 15, 16, 24, 56, 312 };

typedef struct Header {
  size_t size;
  unsigned literals, matches;
  unsigned literal_bytes, triplet_bytes;
  unsigned literal_padding, triplet_padding;
  unsigned literal_state[4], l_state, m_state, d_state;
  uint16_t frequency[ALL_SYMBOLS]; /* L, M, D, literals */
} Header;

typedef struct Tables {
  FseState l[L_STATES], m[M_STATES], d[D_STATES], literal[LITERAL_STATES];
} Tables;

/* ---- Tables ---- */

bool
fse_table_make (FseState *table, unsigned states, const uint16_t *frequency, unsigned n, const uint32_t *base,
                const uint8_t *extra)
{
  unsigned used = 0;
  memset (table, 0, states * sizeof *table);
  for (unsigned i = 0; i < n; i++) {
    const unsigned f = frequency[i];
    if (f > states - used)
      return false;
    /* A symbol of f states reads enough bits that each of its states leads to any state: k or k - 1. */
    unsigned k = 0;
    while (f && f << (k + 1) < 2 * states)
      k++;
    const unsigned longer = f ? (2 * states >> k) - f : 0;
    for (unsigned j = 0; j < f; j++) {
      FseState *state = &table[used + j];
      state->base = base ? base[i] : i;
      state->extra_bits = extra ? extra[i] : 0;
      state->state_bits = (uint8_t) (j < longer ? k : k - 1);
      state->next = (uint16_t) (j < longer ? ((f + j) << k) - states : (j - longer) << (k - 1));
    }
    used += f;
  }
  return true;
}

/* Distances: four symbols share a number of extra bits. */
static void
fill_distances (uint32_t base[D_SYMBOLS], uint8_t extra[D_SYMBOLS])
{
  uint32_t next = 0;
  for (unsigned i = 0; i < D_SYMBOLS; i++) {
    base[i] = next;
    extra[i] = (uint8_t) (i / 4);
    next += 1u << extra[i];
  }
}

static bool
make_tables (const Header *header, Tables *tables)
{
  uint32_t d_base[D_SYMBOLS];
  uint8_t d_extra[D_SYMBOLS];
  const uint16_t *frequency = header->frequency;
  fill_distances (d_base, d_extra);
  return fse_table_make (tables->l, L_STATES, frequency, L_SYMBOLS, l_base, l_extra)
         && fse_table_make (tables->m, M_STATES, frequency + L_SYMBOLS, M_SYMBOLS, m_base, m_extra)
         && fse_table_make (tables->d, D_STATES, frequency + L_SYMBOLS + M_SYMBOLS, D_SYMBOLS, d_base,
                            d_extra)
         && fse_table_make (tables->literal, LITERAL_STATES, frequency + ALL_SYMBOLS - LITERAL_SYMBOLS,
                            LITERAL_SYMBOLS, NULL, NULL);
}

/* ---- Headers ---- */

static unsigned
field (uint64_t word, unsigned from, unsigned bits)
{
  return (unsigned) (word >> from & ((1ull << bits) - 1));
}

/* One frequency of the packed form, short for small ones: how many bits it took. */
static unsigned
unpack_frequency (uint32_t bits, uint16_t *frequency)
{
  if ((bits & 1) == 0) {
    *frequency = bits >> 1 & 1;
    return 2;
  }
  if ((bits & 2) == 0) {
    *frequency = 2 + (bits >> 2 & 1);
    return 3;
  }
  if ((bits & 4) == 0) {
    *frequency = 4 + (bits >> 3 & 3);
    return 5;
  }
  if ((bits & 8) == 0) {
    *frequency = 8 + (bits >> 4 & 15);
    return 8;
  }
  *frequency = 24 + (bits >> 4 & 1023);
  return 14;
}

static bool
unpack_frequencies (const uint8_t *in, size_t length, uint16_t *frequency)
{
  uint32_t bits = 0;
  unsigned count = 0;
  size_t at = 0;
  for (unsigned i = 0; i < ALL_SYMBOLS; i++) {
    for (; count < 14 && at < length; count += 8)
      bits |= (uint32_t) in[at++] << count;
    const unsigned took = unpack_frequency (bits, &frequency[i]);
    if (took > count)
      return false;
    bits >>= took;
    count -= took;
  }
  return at == length;
}

static bool
parse_packed_header (const uint8_t *in, size_t length, Header *header)
{
  if (length < PACKED_HEADER)
    return false;
  const uint64_t a = tn_load_le64 (in + 8), b = tn_load_le64 (in + 16), c = tn_load_le64 (in + 24);
  header->literals = field (a, 0, 20);
  header->literal_bytes = field (a, 20, 20);
  header->matches = field (a, 40, 20);
  header->literal_padding = 7 - field (a, 60, 3);
  for (unsigned i = 0; i < 4; i++)
    header->literal_state[i] = field (b, 10 * i, 10);
  header->triplet_bytes = field (b, 40, 20);
  header->triplet_padding = 7 - field (b, 60, 3);
  header->size = field (c, 0, 32);
  header->l_state = field (c, 32, 10);
  header->m_state = field (c, 42, 10);
  header->d_state = field (c, 52, 10);
  if (header->size < PACKED_HEADER || header->size > length)
    return false;
  return header->size == PACKED_HEADER
         || unpack_frequencies (in + PACKED_HEADER, header->size - PACKED_HEADER, header->frequency);
}

static bool
parse_plain_header (const uint8_t *in, size_t length, Header *header)
{
  if (length < PLAIN_HEADER)
    return false;
  header->size = PLAIN_HEADER;
  header->literals = tn_load_le32 (in + 12);
  header->matches = tn_load_le32 (in + 16);
  header->literal_bytes = tn_load_le32 (in + 20);
  header->triplet_bytes = tn_load_le32 (in + 24);
  header->literal_padding = 0u - tn_load_le32 (in + 28); /* stored as 0 to -7 */
  for (unsigned i = 0; i < 4; i++)
    header->literal_state[i] = tn_load_le16 (in + 32 + 2 * i);
  header->triplet_padding = 0u - tn_load_le32 (in + 40);
  header->l_state = tn_load_le16 (in + 44);
  header->m_state = tn_load_le16 (in + 46);
  header->d_state = tn_load_le16 (in + 48);
  for (unsigned i = 0; i < ALL_SYMBOLS; i++)
    header->frequency[i] = tn_load_le16 (in + 50 + 2 * i);
  return true;
}

static bool
is_sound (const Header *header, size_t length)
{
  for (unsigned i = 0; i < 4; i++)
    if (header->literal_state[i] >= LITERAL_STATES)
      return false;
  return header->literals <= MAX_LITERALS && header->matches <= MAX_MATCHES && header->literal_padding <= 7
         && header->triplet_padding <= 7 && header->l_state < L_STATES && header->m_state < M_STATES
         && header->d_state < D_STATES && header->literal_bytes <= length - header->size
         && header->triplet_bytes <= length - header->size - header->literal_bytes;
}

/* ---- Bodies ---- */

static bool
decode_literals (const Header *header, const Tables *tables, const uint8_t *in, uint8_t *literals)
{
  FseBits bits;
  unsigned state[4];
  memcpy (state, header->literal_state, sizeof state);
  if (!fse_bits_init (&bits, in, header->literal_bytes, header->literal_padding))
    return false;
  for (unsigned i = 0; i < header->literals; i++)
    literals[i] = (uint8_t) fse_decode (tables->literal, &state[i % 4], &bits);
  return !bits.short_of;
}

static bool
decode_triplets (const Header *header, const Tables *tables, const uint8_t *in, const uint8_t *literals,
                 LzfseOutput *out)
{
  FseBits bits;
  unsigned l_state = header->l_state, m_state = header->m_state, d_state = header->d_state;
  size_t at = 0, distance = 0;
  if (!fse_bits_init (&bits, in, header->triplet_bytes, header->triplet_padding))
    return false;
  for (unsigned i = 0; i < header->matches && !lzfse_is_full (out); i++) {
    const size_t literal = fse_decode (tables->l, &l_state, &bits),
                 match = fse_decode (tables->m, &m_state, &bits),
                 new_distance = fse_decode (tables->d, &d_state, &bits);
    distance = new_distance ? new_distance : distance;
    if (bits.short_of || literal > header->literals - at)
      return false;
    lzfse_put (out, literals + at, literal);
    at += literal;
    if (match && !lzfse_is_full (out) && !lzfse_repeat (out, distance, match))
      return false;
  }
  return true;
}

bool
lzfse_fse_decode (const uint8_t *in, size_t length, bool packed_header, LzfseOutput *out, size_t *used)
{
  g_autofree Header *header = g_new0 (Header, 1);
  g_autofree Tables *tables = g_new (Tables, 1);
  g_autofree uint8_t *literals = g_malloc (MAX_LITERALS);
  const bool parsed =
      packed_header ? parse_packed_header (in, length, header) : parse_plain_header (in, length, header);
  if (!parsed || !is_sound (header, length) || !make_tables (header, tables))
    return false;
  const uint8_t *body = in + header->size;
  *used = header->size + header->literal_bytes + header->triplet_bytes;
  return decode_literals (header, tables, body, literals)
         && decode_triplets (header, tables, body + header->literal_bytes, literals, out);
}
