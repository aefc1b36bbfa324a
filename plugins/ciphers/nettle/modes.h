/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Modes of operation over a block cipher of nettle, for many short units at a time. */
#ifndef CIPHER_NETTLE_MODES_H
#define CIPHER_NETTLE_MODES_H

#include <tenon/cipher.h>

#include <nettle/nettle-types.h>

/* A block cipher with one of its key lengths set. */
typedef struct ModeCipher {
  nettle_cipher_func *encrypt, *decrypt;
  size_t block_size;
  const void *encrypt_key, *decrypt_key, *tweak_key; /* prepared; the last for XTS only */
} ModeCipher;

typedef void (*ModeRun) (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n,
                         const uint8_t *in, uint8_t *out);

void mode_ecb_encrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                       uint8_t *out);
void mode_ecb_decrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                       uint8_t *out);
void mode_cbc_encrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                       uint8_t *out);
void mode_cbc_decrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                       uint8_t *out);
void mode_xts_encrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                       uint8_t *out);
void mode_xts_decrypt (const ModeCipher *cipher, const uint8_t *ivs, size_t unit, size_t n, const uint8_t *in,
                       uint8_t *out);

#endif
