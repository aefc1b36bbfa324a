/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk's cipher: which IV a sector has, and many sectors at a time through the cipher's plugin. */
#include "block/internal.h"

#include <tenon/cipher.h>

#define IV_SECTOR 512  /* IVs count these, whatever the sector size */
#define IVS_AT_ONCE 64 /* sectors per call of the plugin */
#define MAX_KEY 128

typedef enum IvKind { IV_NONE, IV_PLAIN, IV_PLAIN64, IV_PLAIN64BE, IV_ESSIV } IvKind;

struct TnSectorCipher {
  const TnCipherOps *ops;
  void *context;       /* the prepared key */
  void *essiv_context; /* ESSIV: the prepared hash of the key */
  IvKind iv;
  uint64_t iv_offset;
  uint32_t sector_size;
};

/* ---- Making ---- */

static bool
has_key_size (const TnCipherOps *ops, size_t length)
{
  for (const uint16_t *size = ops->key_sizes; *size; size++)
    if (*size == length)
      return true;
  return false;
}

static int
check_key (const TnCipherOps *ops, const TnSectorCipherSpec *spec, size_t key_length, GError **error)
{
  bool xts = g_str_equal (spec->mode, "xts");
  if (key_length && key_length <= MAX_KEY && has_key_size (ops, xts ? key_length / 2 : key_length)
      && !(xts && key_length % 2))
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a key of %zu bytes does not fit cipher '%s' in mode '%s'",
                  key_length, spec->algorithm, spec->mode);
}

static int
check_spec (const TnCipherOps *ops, const TnSectorCipherSpec *spec, size_t key_length, GError **error)
{
  if (!g_strv_contains (ops->modes, spec->mode))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "cipher '%s' has no mode '%s'", spec->algorithm,
                    spec->mode);
  if (!tn_is_power_of_2 (spec->sector_size) || spec->sector_size < IV_SECTOR || spec->sector_size > 4096)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "encryption sectors cannot have %u bytes",
                    spec->sector_size);
  return check_key (ops, spec, key_length, error);
}

static int
choose_iv (TnSectorCipher *cipher, const TnSectorCipherSpec *spec, GError **error)
{
  static const struct {
    const char *name;
    IvKind kind;
  } known[] = { { "plain", IV_PLAIN },
                { "plain64", IV_PLAIN64 },
                { "plain64be", IV_PLAIN64BE },
                { "essiv", IV_ESSIV },
                { "null", IV_NONE } };
  if (g_str_equal (spec->mode, "ecb"))
    return 0;
  for (size_t i = 0; i < G_N_ELEMENTS (known); i++)
    if (spec->iv && g_str_equal (spec->iv, known[i].name)) {
      cipher->iv = known[i].kind;
      return 0;
    }
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                  "IV generator '%s' is not supported: plain, plain64, plain64be, essiv and null are",
                  spec->iv ? spec->iv : "");
}

static int
prepare (const TnCipherOps *ops, const char *mode, const void *key, size_t length, void **context,
         GError **error)
{
  *context = tn_secure_new (ops->context_size (mode));
  return tn_failure (ops->prepare (*context, mode, key, length, error));
}

static int
prepare_essiv (TnSectorCipher *cipher, const TnSectorCipherSpec *spec, const void *key, size_t key_length,
               GError **error)
{
  const TnDigestOps *digest = tn_digest_find (spec->iv_digest ? spec->iv_digest : "", error);
  if (!digest)
    return -ENOENT;
  if (!has_key_size (cipher->ops, digest->digest_size))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "IV generator essiv: the digest '%s' makes no key that fits cipher '%s'", spec->iv_digest,
                    spec->algorithm);
  uint8_t *salt = tn_secure_new (TN_DIGEST_MAX);
  struct iovec part = { (void *) key, key_length };
  digest->digest (&part, 1, salt);
  int rc = prepare (cipher->ops, "ecb", salt, digest->digest_size, &cipher->essiv_context, error);
  tn_secure_free (salt);
  return rc;
}

TnSectorCipher *
tn_sector_cipher_new (const TnSectorCipherSpec *given, const void *key, size_t key_length, GError **error)
{
  TnSectorCipherSpec spec = { 0 };
  memcpy (&spec, given, MIN (given->size, sizeof spec));
  const TnCipherOps *ops = tn_cipher_find (spec.algorithm, error);
  if (!ops || check_spec (ops, &spec, key_length, error))
    return NULL;
  g_autoptr (TnSectorCipher) cipher = g_new0 (TnSectorCipher, 1);
  cipher->ops = ops;
  cipher->sector_size = spec.sector_size;
  cipher->iv_offset = spec.iv_offset;
  int rc = choose_iv (cipher, &spec, error);
  if (!rc)
    rc = prepare (ops, spec.mode, key, key_length, &cipher->context, error);
  if (!rc && cipher->iv == IV_ESSIV)
    rc = prepare_essiv (cipher, &spec, key, key_length, error);
  return rc ? NULL : g_steal_pointer (&cipher);
}

void
tn_sector_cipher_free (TnSectorCipher *cipher)
{
  if (!cipher)
    return;
  tn_secure_free (cipher->context);
  tn_secure_free (cipher->essiv_context);
  g_free (cipher);
}

uint32_t
tn_sector_cipher_sector_size (const TnSectorCipher *cipher)
{
  return cipher->sector_size;
}

/* ---- Sectors ---- */

static void
store_number (const TnSectorCipher *cipher, uint64_t number, uint8_t *iv)
{
  switch (cipher->iv) {
  case IV_NONE:
    return;
  case IV_PLAIN:
    tn_store_le32 (iv, (uint32_t) number);
    return;
  case IV_PLAIN64:
  case IV_ESSIV:
    tn_store_le64 (iv, number);
    return;
  case IV_PLAIN64BE:
    tn_store_be64 (iv + TN_CIPHER_IV_SIZE - 8, number);
    return;
  }
}

/* A cipher with shorter blocks takes the beginning of each. */
static void
make_ivs (const TnSectorCipher *cipher, uint64_t offset, size_t n, uint8_t *ivs)
{
  memset (ivs, 0, n * TN_CIPHER_IV_SIZE);
  for (size_t i = 0; i < n; i++)
    store_number (cipher, cipher->iv_offset + (offset + i * cipher->sector_size) / IV_SECTOR,
                  ivs + i * TN_CIPHER_IV_SIZE);
  if (cipher->iv != IV_ESSIV)
    return;
  for (size_t i = 0; i < n; i++) {
    uint8_t *iv = ivs + i * TN_CIPHER_IV_SIZE;
    cipher->ops->encrypt (cipher->essiv_context, iv, cipher->ops->block_size, 1, iv, iv);
  }
}

typedef void (*Crypt) (const void *context, const uint8_t *ivs, size_t unit, size_t n, const void *in,
                       void *out);

static void
each_sector (const TnSectorCipher *cipher, Crypt crypt, uint64_t offset, const char *in, char *out,
             size_t length)
{
  uint8_t ivs[IVS_AT_ONCE * TN_CIPHER_IV_SIZE];
  while (length) {
    size_t n = MIN (length / cipher->sector_size, IVS_AT_ONCE), bytes = n * cipher->sector_size;
    make_ivs (cipher, offset, n, ivs);
    crypt (cipher->context, ivs, cipher->sector_size, n, in, out);
    offset += bytes;
    in += bytes;
    out += bytes;
    length -= bytes;
  }
}

void
tn_sector_cipher_encrypt (const TnSectorCipher *cipher, uint64_t offset, const void *in, void *out,
                          size_t length)
{
  each_sector (cipher, cipher->ops->encrypt, offset, in, out, length - length % cipher->sector_size);
}

void
tn_sector_cipher_decrypt (const TnSectorCipher *cipher, uint64_t offset, const void *in, void *out,
                          size_t length)
{
  each_sector (cipher, cipher->ops->decrypt, offset, in, out, length - length % cipher->sector_size);
}
