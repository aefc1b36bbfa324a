/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cipher specifications as headers spell them. */
#include "luks.h"

#include <sys/random.h>

bool
luks_name (char *to, const char *from)
{
  return g_strlcpy (to, from, LUKS_NAME + 1) <= LUKS_NAME;
}

int
luks_random (void *to, size_t length, GError **error)
{
  uint8_t *at = to;
  while (length) {
    ssize_t n = getrandom (at, MIN (length, 256), 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return tn_fail_errno (error, TN_BLOCK_ERROR, errno, "no random numbers for a key");
    at += n;
    length -= (size_t) n;
  }
  return 0;
}

static int
bad_mode (const char *algorithm, const char *mode, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "LUKS: cipher '%.32s-%.64s' is not supported", algorithm,
                  mode);
}

int
luks_cipher_parse (const char *algorithm, const char *mode, LuksCipher *cipher, GError **error)
{
  memset (cipher, 0, sizeof *cipher);
  g_auto (GStrv) parts = g_strsplit (mode, "-", 2);
  const char *iv = parts[0] && parts[1] ? parts[1] : "";
  g_auto (GStrv) iv_parts = g_strsplit (iv, ":", 2);
  const char *iv_name = iv_parts[0] ? iv_parts[0] : "",
             *digest = iv_parts[0] && iv_parts[1] ? iv_parts[1] : "";
  if (!parts[0] || !luks_name (cipher->algorithm, algorithm) || !luks_name (cipher->mode, parts[0])
      || !luks_name (cipher->iv, iv_name) || !luks_name (cipher->iv_digest, digest))
    return bad_mode (algorithm, mode, error);
  /* The oldest images name the IV generator alone. */
  if (strcmp (cipher->mode, "plain") == 0 && !*cipher->iv) {
    luks_name (cipher->mode, "cbc");
    luks_name (cipher->iv, "plain");
  }
  return 0;
}

char *
luks_cipher_mode_text (const LuksCipher *cipher)
{
  if (!*cipher->iv)
    return g_strdup (cipher->mode);
  return g_strdup_printf ("%s-%s%s%s", cipher->mode, cipher->iv, *cipher->iv_digest ? ":" : "",
                          cipher->iv_digest);
}

char *
luks_cipher_name (const LuksCipher *cipher, uint32_t key_bytes)
{
  unsigned halves = strcmp (cipher->mode, "xts") == 0 ? 2 : 1;
  return g_strdup_printf ("%s-%u", cipher->algorithm, key_bytes * 8 / halves);
}

TnSectorCipher *
luks_cipher_open (const LuksCipher *cipher, uint32_t sector_size, uint64_t iv_offset, const void *key,
                  size_t key_length, GError **error)
{
  TnSectorCipherSpec spec = { .size = sizeof spec,
                              .sector_size = sector_size,
                              .algorithm = cipher->algorithm,
                              .mode = cipher->mode,
                              .iv = cipher->iv,
                              .iv_digest = cipher->iv_digest,
                              .iv_offset = iv_offset };
  return tn_sector_cipher_new (&spec, key, key_length, error);
}
