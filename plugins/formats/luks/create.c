/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making images. */
#include "luks.h"

static TnPrealloc
luks_prealloc (const TnOptions *options)
{
  const char *text = tn_options_get (options, "preallocation");
  if (g_strcmp0 (text, "falloc") == 0)
    return TN_PREALLOC_FALLOC;
  return g_strcmp0 (text, "full") == 0 ? TN_PREALLOC_FULL : TN_PREALLOC_OFF;
}

static bool
is_version_2 (const TnOptions *options)
{
  return g_strcmp0 (tn_options_get (options, "version"), "2") == 0;
}

/* ---- Version 2 ---- */

static int
refuse_version_2_options (const TnOptions *options, GError **error)
{
  static const char *const names[] = { "pbkdf", "pbkdf-memory", "pbkdf-parallel", "sector-size", "label" };
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++)
    if (tn_options_has (options, names[i]))
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s is for version=2 only", names[i]);
  return 0;
}

static int
read_params_2 (const TnOptions *options, Luks2Params *params, GError **error)
{
  memset (params, 0, sizeof *params);
  int rc = luks_params_read (options, "", &params->common, error);
  if (rc)
    return rc;
  const char *kdf = tn_options_get (options, "pbkdf");
  luks_name (params->kdf.name, kdf ? kdf : "argon2id");
  luks_name (params->kdf.digest, params->common.digest);
  uint64_t memory = tn_options_uint (options, "pbkdf-memory"),
           lanes = tn_options_uint (options, "pbkdf-parallel");
  bool argon2 = strcmp (params->kdf.name, "pbkdf2") != 0;
  if (!argon2 && (memory || lanes))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "pbkdf-memory and pbkdf-parallel are for Argon2");
  params->kdf.memory_kib = memory ? (uint32_t) (memory >> 10) : 65536;
  params->kdf.lanes = lanes ? (uint32_t) lanes : MIN (4, g_get_num_processors ());
  params->kdf.salt_length = 32;
  params->label = tn_options_get (options, "label");
  params->sector_size =
      tn_options_has (options, "sector-size") ? tn_options_uint (options, "sector-size") : 512;
  if (params->sector_size & (params->sector_size - 1))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "sector-size must be 512, 1024, 2048 or 4096");
  if (params->label && strlen (params->label) > 47)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "a label has at most 47 bytes");
  return 0;
}

static int
create_2 (TnNode *file, const TnOptions *options, uint64_t size, bool detached, const TnSecret *secret,
          GError **error)
{
  Luks2Params params;
  Luks1 unused; /* planned for its checks of ciphers and digests */
  int rc = read_params_2 (options, &params, error);
  if (!rc)
    rc = luks1_plan (&params.common, &unused, error);
  if (!rc && size % params.sector_size)
    rc = tn_fail (error, TN_OPTION_ERROR, EINVAL, "the size must be a multiple of sector-size");
  if (!rc)
    rc = tn_node_resize (file, LUKS2_NEW_PAYLOAD + (detached ? 0 : size), luks_prealloc (options), error);
  return rc ? rc : luks2_write_new (file, &params, detached, secret, error);
}

/* ---- Version 1 ---- */

static int
create_1 (TnNode *file, const TnOptions *options, uint64_t size, bool detached, const TnSecret *secret,
          GError **error)
{
  LuksParams params;
  Luks1 header;
  int rc = refuse_version_2_options (options, error);
  if (!rc)
    rc = luks_params_read (options, "", &params, error);
  if (!rc)
    rc = luks1_plan (&params, &header, error);
  if (!rc)
    rc = tn_node_resize (file, header.payload_offset + (detached ? 0 : size), luks_prealloc (options), error);
  if (detached)
    header.payload_offset = 0;
  return rc ? rc : luks1_write_new (file, 0, &header, &params, secret, error);
}

/* ---- Both ---- */

static int
luks_round_up (uint64_t size, uint64_t *rounded, GError **error)
{
  if (size > INT64_MAX - 2 * (uint64_t) LUKS2_NEW_PAYLOAD)
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "a disk of %" G_GUINT64_FORMAT " bytes is too large", size);
  *rounded = (size + LUKS_SECTOR - 1) / LUKS_SECTOR * LUKS_SECTOR;
  return 0;
}

int
luks_create (TnNode *file, const TnOptions *options, uint64_t size, GError **error)
{
  uint64_t rounded = 0;
  int rc = luks_round_up (size, &rounded, error);
  if (rc)
    return rc;
  g_autoptr (TnSecret) secret = luks_params_secret (options, "", error);
  if (!secret)
    return -EINVAL;
  bool detached = tn_options_bool (options, "detached-header");
  return is_version_2 (options) ? create_2 (file, options, rounded, detached, secret, error)
                                : create_1 (file, options, rounded, detached, secret, error);
}

static int
header_bytes (const TnOptions *options, uint64_t *bytes, GError **error)
{
  *bytes = LUKS2_NEW_PAYLOAD;
  if (is_version_2 (options))
    return 0;
  LuksParams params;
  Luks1 header;
  int rc = luks_params_read (options, "", &params, error);
  if (!rc)
    rc = luks1_plan (&params, &header, error);
  if (!rc)
    *bytes = header.payload_offset;
  return rc;
}

int
luks_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  uint64_t rounded = 0, header = 0;
  int rc = luks_round_up (source ? tn_node_size (source) : size, &rounded, error);
  if (!rc)
    rc = header_bytes (options, &header, error);
  if (rc)
    return rc;
  bool detached = tn_options_bool (options, "detached-header");
  measure->required = measure->fully_allocated = header + (detached ? 0 : rounded);
  measure->bitmaps = UINT64_MAX;
  return 0;
}
