/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Argon2 (RFC 9106), version 1.3, by the reference library. */
#include <tenon/cipher.h>

#include <argon2.h>

static int
derive (argon2_type type, const void *password, size_t password_length, const void *salt, size_t salt_length,
        uint32_t passes, uint32_t memory_kib, uint32_t lanes, void *out, size_t out_length, GError **error)
{
  argon2_context context = {
    .out = out,
    .outlen = (uint32_t) out_length,
    .pwd = (uint8_t *) password,
    .pwdlen = (uint32_t) password_length,
    .salt = (uint8_t *) salt,
    .saltlen = (uint32_t) salt_length,
    .t_cost = passes,
    .m_cost = memory_kib,
    .lanes = lanes,
    .threads = MIN (lanes, g_get_num_processors ()),
    .version = ARGON2_VERSION_13,
  };
  if (out_length > UINT32_MAX || password_length > UINT32_MAX || salt_length > UINT32_MAX)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "Argon2: the input is too long");
  int rc = argon2_ctx (&context, type);
  if (rc == ARGON2_OK)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, rc == ARGON2_MEMORY_ALLOCATION_ERROR ? ENOMEM : EINVAL, "Argon2: %s",
                  argon2_error_message (rc));
}

static int
argon2i_derive (const void *password, size_t password_length, const void *salt, size_t salt_length,
                uint32_t passes, uint32_t memory_kib, uint32_t lanes, void *out, size_t out_length,
                GError **error)
{
  return derive (Argon2_i, password, password_length, salt, salt_length, passes, memory_kib, lanes, out,
                 out_length, error);
}

static int
argon2id_derive (const void *password, size_t password_length, const void *salt, size_t salt_length,
                 uint32_t passes, uint32_t memory_kib, uint32_t lanes, void *out, size_t out_length,
                 GError **error)
{
  return derive (Argon2_id, password, password_length, salt, salt_length, passes, memory_kib, lanes, out,
                 out_length, error);
}

static const TnKdfOps argon2i_ops = { .size = sizeof (TnKdfOps), .derive = argon2i_derive };
static const TnKdfOps argon2id_ops = { .size = sizeof (TnKdfOps), .derive = argon2id_derive };

static const TnClass argon2i_class = {
  TN_CLASS_HEAD (TN_KIND_KDF, TN_KDF_MAJOR, TN_KDF_MINOR),
  .name = "argon2i",
  .summary = "Argon2i (RFC 9106)",
  .ops = &argon2i_ops,
};

static const TnClass argon2id_class = {
  TN_CLASS_HEAD (TN_KIND_KDF, TN_KDF_MAJOR, TN_KDF_MINOR),
  .name = "argon2id",
  .summary = "Argon2id (RFC 9106)",
  .ops = &argon2id_ops,
};

static const TnClass *const argon2_classes[] = { &argon2i_class, &argon2id_class, NULL };

TN_PLUGIN_DEFINE (kdf_argon2, .security = TN_SECURITY_HARDENED, .name = "kdf-argon2", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-kdf-argon2", .classes = argon2_classes);
