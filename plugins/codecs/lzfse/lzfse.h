/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decoding Apple's LZFSE: blocks that are plain, of LZVN, or of LZ77 with finite-state entropy coding. */
#ifndef LZFSE_H
#define LZFSE_H

#include <tenon/codec.h>

/* Where decoded bytes go.  Matches may reach back to its beginning, into earlier blocks. */
typedef struct LzfseOutput {
  uint8_t *bytes;
  size_t length, done;
} LzfseOutput;

/* What an output of known length has no room for is dropped: the decoder stops there. */
static inline bool
lzfse_is_full (const LzfseOutput *out)
{
  return out->done == out->length;
}

static inline void
lzfse_put (LzfseOutput *out, const uint8_t *from, size_t length)
{
  length = MIN (length, out->length - out->done);
  memcpy (out->bytes + out->done, from, length);
  out->done += length;
}

/* Repeats @length bytes from @distance back, which may overlap what is being written. */
static inline bool
lzfse_repeat (LzfseOutput *out, size_t distance, size_t length)
{
  if (distance == 0 || distance > out->done)
    return false;
  length = MIN (length, out->length - out->done);
  uint8_t *to = out->bytes + out->done;
  for (size_t i = 0; i < length; i++)
    to[i] = to[(ptrdiff_t) i - (ptrdiff_t) distance];
  out->done += length;
  return true;
}

/* The body of one block.  False: it is damaged. */
bool lzfse_lzvn_decode (const uint8_t *in, size_t length, LzfseOutput *out);

/* A block with entropy coding: *used is what its header and body take. */
bool lzfse_fse_decode (const uint8_t *in, size_t length, bool packed_header, LzfseOutput *out, size_t *used);

#endif
