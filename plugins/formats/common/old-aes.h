/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The encryption of qcow images before LUKS: AES-128 in CBC mode, the passphrase being the key, sectors of
 * 512 bytes numbered by their offset in the disk.  Compressed clusters are not encrypted.  It is read only.
 */
#ifndef FORMATS_COMMON_OLD_AES_H
#define FORMATS_COMMON_OLD_AES_H

#include <tenon/cipher.h>
#include <tenon/error.h>
#include <tenon/secret.h>

#define OLD_AES_KEY 16

static inline TnSectorCipher *
old_aes_open (const TnSecret *secret, GError **error)
{
  static const TnSectorCipherSpec spec = {
    .size = sizeof spec, .sector_size = 512, .algorithm = "aes", .mode = "cbc", .iv = "plain64"
  };
  size_t length;
  const void *bytes = tn_secret_bytes (secret, &length);
  uint8_t *key = tn_secure_new (OLD_AES_KEY);
  memcpy (key, bytes, MIN (length, OLD_AES_KEY));
  TnSectorCipher *cipher = tn_sector_cipher_new (&spec, key, OLD_AES_KEY, error);
  tn_secure_free (key);
  return cipher;
}

#define OLD_AES_NOT_WRITTEN                                                                                  \
  "its encryption (AES) is too weak to be written: open it read-only, or convert it to an image with "       \
  "encrypt.format=luks"

#endif
