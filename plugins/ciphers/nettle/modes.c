/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ECB, CBC and XTS.  XTS is written out here because nettle's own goes block by block, and the processor's
 * AES unit is only busy when it is given many blocks in one call.
 */
#include "modes.h"

#include <nettle/cbc.h>
#include <nettle/memxor.h>

#define XTS_BLOCK 16
#define XTS_BATCH TN_CIPHER_MAX_UNIT /* bytes whose tweaks are made at a time */

void
mode_ecb_encrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                  uint8_t *out)
{
  cipher->encrypt (cipher->encrypt_key, unit * n, out, in);
}

void
mode_ecb_decrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                  uint8_t *out)
{
  cipher->decrypt (cipher->decrypt_key, unit * n, out, in);
}

/* ---- CBC ---- */

void
mode_cbc_encrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                  uint8_t *out)
{
  for (size_t i = 0; i < n; i++) {
    uint8_t iv[TN_CIPHER_IV_SIZE];
    memcpy (iv, ivs + i * TN_CIPHER_IV_SIZE, sizeof iv);
    cbc_encrypt (cipher->encrypt_key, cipher->encrypt, cipher->block_size, iv, unit, out + i * unit,
                 in + i * unit);
  }
}

void
mode_cbc_decrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                  uint8_t *out)
{
  for (size_t i = 0; i < n; i++) {
    uint8_t iv[TN_CIPHER_IV_SIZE];
    memcpy (iv, ivs + i * TN_CIPHER_IV_SIZE, sizeof iv);
    cbc_decrypt (cipher->decrypt_key, cipher->decrypt, cipher->block_size, iv, unit, out + i * unit,
                 in + i * unit);
  }
}

/* ---- XTS (IEEE 1619) ---- */

/* The tweaks of consecutive blocks: each is the one before times x in GF(2^128), little endian. */
static void
fill_tweaks (const uint8_t *first, uint64_t *tweaks, size_t n)
{
  uint64_t low = tn_load_le64 (first), high = tn_load_le64 (first + 8);
  for (size_t i = 0; i < n; i++) {
    tweaks[2 * i] = GUINT64_TO_LE (low);
    tweaks[2 * i + 1] = GUINT64_TO_LE (high);
    uint64_t carry = (uint64_t) ((int64_t) high >> 63) & 0x87;
    high = high << 1 | low >> 63;
    low = low << 1 ^ carry;
  }
}

static void
xor_words (uint8_t *out, const uint8_t *in, const uint64_t *tweaks, size_t length)
{
  for (size_t i = 0; i < length; i += 8) {
    uint64_t word;
    memcpy (&word, in + i, 8);
    word ^= tweaks[i / 8];
    memcpy (out + i, &word, 8);
  }
}

static void
xts_run (nettle_cipher_func *run, const void *key, const uint64_t *tweaks, const uint8_t *in, uint8_t *out,
         size_t length)
{
  xor_words (out, in, tweaks, length);
  run (key, length, out, out);
  xor_words (out, out, tweaks, length);
}

/* Several units per call of the cipher. */
static void
xts_units (nettle_cipher_func *run, const void *key, const uint8_t *first, size_t unit, size_t n,
           const uint8_t *in, uint8_t *out)
{
  uint64_t tweaks[XTS_BATCH / 8];
  size_t per_batch = XTS_BATCH / unit;
  while (n) {
    size_t count = MIN (n, per_batch), words = unit / 8;
    for (size_t i = 0; i < count; i++)
      fill_tweaks (first + i * XTS_BLOCK, tweaks + i * words, unit / XTS_BLOCK);
    xts_run (run, key, tweaks, in, out, count * unit);
    first += count * XTS_BLOCK;
    in += count * unit;
    out += count * unit;
    n -= count;
  }
}

#define TWEAKS_AT_ONCE 64

static void
xts (const ModeCipher *cipher, nettle_cipher_func *run, const void *key, const uint8_t *ivs, size_t unit,
     size_t n, const uint8_t *in, uint8_t *out)
{
  uint8_t first[TWEAKS_AT_ONCE * XTS_BLOCK];
  while (n) {
    size_t count = MIN (n, TWEAKS_AT_ONCE);
    cipher->encrypt (cipher->tweak_key, count * XTS_BLOCK, first, ivs);
    xts_units (run, key, first, unit, count, in, out);
    ivs += count * TN_CIPHER_IV_SIZE;
    in += count * unit;
    out += count * unit;
    n -= count;
  }
}

void
mode_xts_encrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                  uint8_t *out)
{
  xts (cipher, cipher->encrypt, cipher->encrypt_key, ivs, unit, n, in, out);
}

void
mode_xts_decrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                  uint8_t *out)
{
  xts (cipher, cipher->decrypt, cipher->decrypt_key, ivs, unit, n, in, out);
}
