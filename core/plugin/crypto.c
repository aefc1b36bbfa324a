/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <tenon/cipher.h>

static const void *
find_ops (TnKind kind, const char *name, GError **error)
{
  const TnClass *class = tn_class_find (kind, name, error);
  return class ? class->ops : NULL;
}

static void
fail_incomplete (const char *what, const char *name, GError **error)
{
  tn_fail (error, TN_PLUGIN_ERROR, EINVAL, "%s '%s' is incomplete: install a newer package of it", what,
           name);
}

const TnCipherOps *
tn_cipher_find (const char *name, GError **error)
{
  const TnCipherOps *ops = find_ops (TN_KIND_CIPHER, name, error);
  if (!ops
      || (ops->context_size && ops->prepare && ops->encrypt && ops->decrypt && ops->key_sizes && ops->modes
          && ops->block_size && ops->block_size <= TN_CIPHER_IV_SIZE))
    return ops;
  fail_incomplete ("cipher", name, error);
  return NULL;
}

const TnDigestOps *
tn_digest_find (const char *name, GError **error)
{
  const TnDigestOps *ops = find_ops (TN_KIND_DIGEST, name, error);
  if (!ops || (ops->digest && ops->pbkdf2 && ops->digest_size && ops->digest_size <= TN_DIGEST_MAX))
    return ops;
  fail_incomplete ("digest", name, error);
  return NULL;
}

const TnKdfOps *
tn_kdf_find (const char *name, GError **error)
{
  const TnKdfOps *ops = find_ops (TN_KIND_KDF, name, error);
  if (!ops || ops->derive)
    return ops;
  fail_incomplete ("key derivation", name, error);
  return NULL;
}
