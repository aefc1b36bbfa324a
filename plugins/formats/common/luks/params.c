/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of a new header, as QEMU names them. */
#include "luks.h"

const char *const luks_cipher_choices[] = { "aes-128",     "aes-192",     "aes-256",     "serpent-128",
                                            "serpent-192", "serpent-256", "twofish-128", "twofish-192",
                                            "twofish-256", "cast5-128",   NULL };
const char *const luks_mode_choices[] = { "xts", "cbc", "ecb", NULL };
const char *const luks_iv_choices[] = { "plain", "plain64", "essiv", NULL };
const char *const luks_digest_choices[] = {
  "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", NULL
};

static const char *
get (const TnOptions *options, const char *prefix, const char *name, const char *fallback)
{
  g_autofree char *key = g_strconcat (prefix, name, NULL);
  const char *value = tn_options_get (options, key);
  return value ? value : fallback;
}

static void
read_cipher (LuksParams *params, const char *text)
{
  g_auto (GStrv) parts = g_strsplit (text, "-", 2);
  luks_name (params->cipher.algorithm, parts[0]);
  params->key_bytes = (uint32_t) (parts[1] ? g_ascii_strtoull (parts[1], NULL, 10) / 8 : 0);
}

int
luks_params_read (const TnOptions *options, const char *prefix, LuksParams *params, GError **error)
{
  memset (params, 0, sizeof *params);
  const char *mode = get (options, prefix, "cipher-mode", "xts");
  const char *iv = get (options, prefix, "ivgen-alg", "plain64");
  const char *iv_digest = get (options, prefix, "ivgen-hash-alg", NULL);
  read_cipher (params, get (options, prefix, "cipher-alg", "aes-256"));
  luks_name (params->cipher.mode, mode);
  luks_name (params->digest, get (options, prefix, "hash-alg", "sha256"));
  if (strcmp (mode, "xts") == 0)
    params->key_bytes *= 2;
  luks_name (params->cipher.iv, iv); /* other programs want one even with ecb */
  bool essiv = strcmp (params->cipher.iv, "essiv") == 0;
  if (iv_digest && !essiv)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%sivgen-hash-alg is for %sivgen-alg=essiv only", prefix,
                    prefix);
  if (essiv)
    luks_name (params->cipher.iv_digest, iv_digest ? iv_digest : "sha256");
  uint64_t time = g_ascii_strtoull (get (options, prefix, "iter-time", "2000"), NULL, 10);
  if (!time || time > 600000)
    return tn_fail (error, TN_OPTION_ERROR, ERANGE, "%siter-time must be from 1 to 600000 milliseconds",
                    prefix);
  params->iter_time = (uint32_t) time;
  return 0;
}

TnSecret *
luks_params_secret (const TnOptions *options, const char *prefix, GError **error)
{
  const char *id = get (options, prefix, "key-secret", NULL);
  if (id)
    return tn_secret_get (id, error);
  tn_fail (error, TN_OPTION_ERROR, EINVAL,
           "%skey-secret=ID is needed: it names the passphrase, defined with --object secret,id=ID,file=FILE",
           prefix);
  return NULL;
}
