/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The anti-forensic splitter: a key becomes many stripes, all of which are needed to get it back, so that
 * losing any sector of them destroys it.
 */
#include "luks.h"

/* Hashes each digest-sized part of the block, numbered, over itself; the last may be shorter. */
static void
diffuse (const TnDigestOps *digest, uint8_t *block, size_t length)
{
  uint8_t out[TN_DIGEST_MAX];
  for (uint32_t i = 0; length; i++) {
    size_t part = MIN (length, digest->digest_size);
    uint8_t number[4];
    tn_store_be32 (number, i);
    struct iovec parts[2] = { { number, sizeof number }, { block, part } };
    digest->digest (parts, 2, out);
    memcpy (block, out, part);
    block += part;
    length -= part;
  }
  explicit_bzero (out, sizeof out);
}

static void
xor_block (uint8_t *to, const uint8_t *from, size_t length)
{
  for (size_t i = 0; i < length; i++)
    to[i] ^= from[i];
}

/* @out becomes what all stripes but the last amount to. */
static void
fold (const TnDigestOps *digest, const uint8_t *stripes, uint8_t *out, size_t length, unsigned n)
{
  memset (out, 0, length);
  for (unsigned i = 0; i + 1 < n; i++) {
    xor_block (out, stripes + i * length, length);
    diffuse (digest, out, length);
  }
}

void
luks_af_merge (const TnDigestOps *digest, const uint8_t *in, uint8_t *out, size_t length, unsigned stripes)
{
  fold (digest, in, out, length, stripes);
  xor_block (out, in + (stripes - 1) * length, length);
}

int
luks_af_split (const TnDigestOps *digest, const uint8_t *in, uint8_t *out, size_t length, unsigned stripes,
               GError **error)
{
  uint8_t *last = out + (stripes - 1) * length;
  int rc = luks_random (out, (stripes - 1) * length, error);
  if (rc)
    return rc;
  fold (digest, out, last, length, stripes);
  xor_block (last, in, length);
  return 0;
}
