/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ciphers "aes", "serpent", "twofish" and "cast5" of the nettle library. */
#include "modes.h"

#include <nettle/nettle-meta.h>

#define ALIGNED(length) (((length) + 63) / 64 * 64)

/* One algorithm with its key lengths. */
typedef struct Algorithm {
  const struct nettle_cipher *variants[4]; /* ended by NULL */
} Algorithm;

/* What the core holds for one key; the key schedules follow it. */
typedef struct Context {
  ModeCipher cipher;
  ModeRun encrypt, decrypt;
} Context;

static const struct {
  const char *name;
  ModeRun encrypt, decrypt;
} modes[] = { { "ecb", mode_ecb_encrypt, mode_ecb_decrypt },
              { "cbc", mode_cbc_encrypt, mode_cbc_decrypt },
              { "xts", mode_xts_encrypt, mode_xts_decrypt } };

static size_t
largest_schedule (const Algorithm *algorithm)
{
  size_t largest = 0;
  for (unsigned i = 0; algorithm->variants[i]; i++)
    largest = MAX (largest, algorithm->variants[i]->context_size);
  return ALIGNED (largest);
}

static size_t
nettle_context_size (const Algorithm *algorithm)
{
  return ALIGNED (sizeof (Context)) + 3 * largest_schedule (algorithm);
}

static const struct nettle_cipher *
find_variant (const Algorithm *algorithm, size_t key_length)
{
  for (unsigned i = 0; algorithm->variants[i]; i++)
    if (algorithm->variants[i]->key_size == key_length)
      return algorithm->variants[i];
  return NULL;
}

static bool
choose_mode (Context *context, const char *mode)
{
  for (size_t i = 0; i < G_N_ELEMENTS (modes); i++)
    if (strcmp (modes[i].name, mode) == 0) {
      context->encrypt = modes[i].encrypt;
      context->decrypt = modes[i].decrypt;
      return true;
    }
  return false;
}

static int
nettle_prepare (const Algorithm *algorithm, void *memory, const char *mode, const void *key,
                size_t key_length, GError **error)
{
  Context *context = memory;
  bool xts = strcmp (mode, "xts") == 0;
  size_t length = xts ? key_length / 2 : key_length, step = largest_schedule (algorithm);
  const struct nettle_cipher *variant = find_variant (algorithm, length);
  if (!variant || !choose_mode (context, mode))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a key of %zu bytes does not fit in mode '%s'", key_length,
                    mode);
  uint8_t *schedules = (uint8_t *) memory + ALIGNED (sizeof (Context));
  variant->set_encrypt_key (schedules, key);
  variant->set_decrypt_key (schedules + step, key);
  if (xts)
    variant->set_encrypt_key (schedules + 2 * step, (const uint8_t *) key + length);
  context->cipher = (ModeCipher){ variant->encrypt, variant->decrypt, variant->block_size,
                                  schedules,        schedules + step, schedules + 2 * step };
  return 0;
}

static void
nettle_encrypt (const void *memory, const uint8_t *ivs, size_t unit, size_t n, const void *in, void *out)
{
  const Context *context = memory;
  context->encrypt (&context->cipher, ivs, unit, n, in, out);
}

static void
nettle_decrypt (const void *memory, const uint8_t *ivs, size_t unit, size_t n, const void *in, void *out)
{
  const Context *context = memory;
  context->decrypt (&context->cipher, ivs, unit, n, in, out);
}

/* ---- The algorithms ---- */

static const Algorithm aes = { { &nettle_aes128, &nettle_aes192, &nettle_aes256 } };
static const Algorithm serpent = { { &nettle_serpent128, &nettle_serpent192, &nettle_serpent256 } };
static const Algorithm twofish = { { &nettle_twofish128, &nettle_twofish192, &nettle_twofish256 } };
static const Algorithm cast5 = { { &nettle_cast128 } };

static size_t
aes_context_size (const char *mode)
{
  return nettle_context_size (&aes);
}

static int
aes_prepare (void *context, const char *mode, const void *key, size_t key_length, GError **error)
{
  return nettle_prepare (&aes, context, mode, key, key_length, error);
}

static size_t
serpent_context_size (const char *mode)
{
  return nettle_context_size (&serpent);
}

static int
serpent_prepare (void *context, const char *mode, const void *key, size_t key_length, GError **error)
{
  return nettle_prepare (&serpent, context, mode, key, key_length, error);
}

static size_t
twofish_context_size (const char *mode)
{
  return nettle_context_size (&twofish);
}

static int
twofish_prepare (void *context, const char *mode, const void *key, size_t key_length, GError **error)
{
  return nettle_prepare (&twofish, context, mode, key, key_length, error);
}

static size_t
cast5_context_size (const char *mode)
{
  return nettle_context_size (&cast5);
}

static int
cast5_prepare (void *context, const char *mode, const void *key, size_t key_length, GError **error)
{
  return nettle_prepare (&cast5, context, mode, key, key_length, error);
}

/* ---- The plugin ---- */

static const uint16_t long_keys[] = { 16, 24, 32, 0 }, cast5_keys[] = { 16, 0 };
static const char *const all_modes[] = { "ecb", "cbc", "xts", NULL };
static const char *const short_block_modes[] = { "ecb", "cbc", NULL };

static const TnCipherOps aes_ops = {
  .size = sizeof (TnCipherOps),
  .block_size = 16,
  .key_sizes = long_keys,
  .modes = all_modes,
  .context_size = aes_context_size,
  .prepare = aes_prepare,
  .encrypt = nettle_encrypt,
  .decrypt = nettle_decrypt,
};

static const TnCipherOps serpent_ops = {
  .size = sizeof (TnCipherOps),
  .block_size = 16,
  .key_sizes = long_keys,
  .modes = all_modes,
  .context_size = serpent_context_size,
  .prepare = serpent_prepare,
  .encrypt = nettle_encrypt,
  .decrypt = nettle_decrypt,
};

static const TnCipherOps twofish_ops = {
  .size = sizeof (TnCipherOps),
  .block_size = 16,
  .key_sizes = long_keys,
  .modes = all_modes,
  .context_size = twofish_context_size,
  .prepare = twofish_prepare,
  .encrypt = nettle_encrypt,
  .decrypt = nettle_decrypt,
};

static const TnCipherOps cast5_ops = {
  .size = sizeof (TnCipherOps),
  .block_size = 8,
  .key_sizes = cast5_keys,
  .modes = short_block_modes,
  .context_size = cast5_context_size,
  .prepare = cast5_prepare,
  .encrypt = nettle_encrypt,
  .decrypt = nettle_decrypt,
};

static const TnClass aes_class = {
  TN_CLASS_HEAD (TN_KIND_CIPHER, TN_CIPHER_MAJOR, TN_CIPHER_MINOR),
  .name = "aes",
  .summary = "AES (FIPS 197) with 128, 192 or 256 bits",
  .ops = &aes_ops,
};

static const TnClass serpent_class = {
  TN_CLASS_HEAD (TN_KIND_CIPHER, TN_CIPHER_MAJOR, TN_CIPHER_MINOR),
  .name = "serpent",
  .summary = "Serpent with 128, 192 or 256 bits",
  .ops = &serpent_ops,
};

static const TnClass twofish_class = {
  TN_CLASS_HEAD (TN_KIND_CIPHER, TN_CIPHER_MAJOR, TN_CIPHER_MINOR),
  .name = "twofish",
  .summary = "Twofish with 128, 192 or 256 bits",
  .ops = &twofish_ops,
};

static const TnClass cast5_class = {
  TN_CLASS_HEAD (TN_KIND_CIPHER, TN_CIPHER_MAJOR, TN_CIPHER_MINOR),
  .name = "cast5",
  .summary = "CAST-128 (RFC 2144) with 128 bits",
  .ops = &cast5_ops,
};

static const TnClass *const nettle_classes[] = { &aes_class, &serpent_class, &twofish_class, &cast5_class,
                                                 NULL };

TN_PLUGIN_DEFINE (cipher_nettle, .security = TN_SECURITY_HARDENED, .name = "cipher-nettle", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-crypto-nettle",
                  .classes = nettle_classes);
