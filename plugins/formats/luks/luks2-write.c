/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New version 2 headers. */
#include "luks2.h"

#define HEADER_BYTES LUKS2_MIN_HEADER
#define FIRST_AREA (2 * HEADER_BYTES)
#define AREA_ALIGNMENT 4096
#define DIGEST_ITERATION_PART 8
#define CHECKSUM "sha256"

static void
write_base64 (TnJson *json, const char *name, const void *bytes, size_t length)
{
  g_autofree char *text = g_base64_encode (bytes, length);
  tn_json_string (json, name, text);
}

/* Sizes and offsets are written as text, as numbers in JSON may be cut to 53 bits. */
static void
write_text_uint (TnJson *json, const char *name, uint64_t value)
{
  char text[24];
  g_snprintf (text, sizeof text, "%" G_GUINT64_FORMAT, value);
  tn_json_string (json, name, text);
}

static void
write_kdf (TnJson *json, const LuksKdf *kdf)
{
  tn_json_string (json, "type", kdf->name);
  if (strcmp (kdf->name, "pbkdf2") == 0) {
    tn_json_string (json, "hash", kdf->digest);
    tn_json_uint (json, "iterations", kdf->iterations);
  } else {
    tn_json_uint (json, "time", kdf->iterations);
    tn_json_uint (json, "memory", kdf->memory_kib);
    tn_json_uint (json, "cpus", kdf->lanes);
  }
  write_base64 (json, "salt", kdf->salt, kdf->salt_length);
}

void
luks2_write_slot (TnJson *json, const char *name, const LuksSlot *slot, const char *encryption)
{
  tn_json_object_begin (json, name);
  tn_json_string (json, "type", "luks2");
  tn_json_uint (json, "key_size", slot->key_bytes);
  tn_json_object_begin (json, "af");
  tn_json_string (json, "type", "luks1");
  tn_json_uint (json, "stripes", slot->stripes);
  tn_json_string (json, "hash", slot->af_digest);
  tn_json_object_end (json);
  tn_json_object_begin (json, "area");
  tn_json_string (json, "type", "raw");
  write_text_uint (json, "offset", slot->offset);
  write_text_uint (json, "size", slot->size);
  tn_json_string (json, "encryption", encryption);
  tn_json_uint (json, "key_size", slot->area_key_bytes);
  tn_json_object_end (json);
  tn_json_object_begin (json, "kdf");
  write_kdf (json, &slot->kdf);
  tn_json_object_end (json);
  tn_json_object_end (json);
}

static void
write_segment (TnJson *json, const Luks2Params *params, bool detached, const char *encryption)
{
  tn_json_object_begin (json, "0");
  tn_json_string (json, "type", "crypt");
  write_text_uint (json, "offset", detached ? 0 : LUKS2_NEW_PAYLOAD);
  tn_json_string (json, "size", "dynamic");
  tn_json_string (json, "iv_tweak", "0");
  tn_json_string (json, "encryption", encryption);
  tn_json_uint (json, "sector_size", params->sector_size);
  tn_json_object_end (json);
}

static void
write_one_id (TnJson *json, const char *name)
{
  tn_json_array_begin (json, name);
  tn_json_string (json, NULL, "0");
  tn_json_array_end (json);
}

static void
write_digest (TnJson *json, const LuksDigest *digest)
{
  tn_json_object_begin (json, "0");
  write_kdf (json, &digest->kdf);
  write_one_id (json, "keyslots");
  write_one_id (json, "segments");
  write_base64 (json, "digest", digest->bytes, digest->length);
  tn_json_object_end (json);
}

static GString *
make_text (const Luks2Params *params, const LuksSlot *slot, const LuksDigest *digest, bool detached)
{
  GString *text = g_string_new (NULL);
  g_autoptr (TnJson) json = tn_json_new (text, false);
  g_autofree char *mode = luks_cipher_mode_text (&params->common.cipher);
  g_autofree char *encryption = g_strdup_printf ("%s-%s", params->common.cipher.algorithm, mode);
  tn_json_object_begin (json, NULL);
  tn_json_object_begin (json, "keyslots");
  luks2_write_slot (json, "0", slot, encryption);
  tn_json_object_end (json);
  tn_json_object_begin (json, "tokens");
  tn_json_object_end (json);
  tn_json_object_begin (json, "segments");
  write_segment (json, params, detached, encryption);
  tn_json_object_end (json);
  tn_json_object_begin (json, "digests");
  write_digest (json, digest);
  tn_json_object_end (json);
  tn_json_object_begin (json, "config");
  write_text_uint (json, "json_size", HEADER_BYTES - LUKS2_BINARY);
  write_text_uint (json, "keyslots_size", LUKS2_NEW_PAYLOAD - FIRST_AREA);
  tn_json_object_end (json);
  tn_json_object_end (json);
  return text;
}

/* ---- The two copies ---- */

static int
write_copy (TnNode *file, uint64_t at, const GString *text, const char *uuid, const char *label,
            GError **error)
{
  const TnDigestOps *digest = tn_digest_find (CHECKSUM, error);
  if (!digest)
    return -ENOENT;
  g_autofree uint8_t *p = g_malloc0 (HEADER_BYTES);
  memcpy (p, at ? "SKUL\xba\xbe\0\2" : "LUKS\xba\xbe\0\2", 8);
  tn_store_be64 (p + 8, HEADER_BYTES);
  tn_store_be64 (p + 16, 1);
  g_strlcpy ((char *) p + 24, label ? label : "", 48);
  g_strlcpy ((char *) p + 72, CHECKSUM, 32);
  int rc = luks_random (p + 104, 64, error);
  if (rc)
    return rc;
  g_strlcpy ((char *) p + 168, uuid, 40);
  tn_store_be64 (p + 256, at);
  memcpy (p + LUKS2_BINARY, text->str, text->len);
  uint8_t sum[TN_DIGEST_MAX];
  struct iovec part = { p, HEADER_BYTES };
  digest->digest (&part, 1, sum);
  memcpy (p + 448, sum, digest->digest_size);
  return tn_node_write (file, at, p, HEADER_BYTES, error);
}

static int
write_headers (TnNode *file, const Luks2Params *params, const LuksSlot *slot, const LuksDigest *digest,
               bool detached, GError **error)
{
  GString *text = make_text (params, slot, digest, detached);
  g_autofree char *uuid = g_uuid_string_random ();
  int rc = text->len < HEADER_BYTES - LUKS2_BINARY ? 0 : -E2BIG;
  if (!rc)
    rc = write_copy (file, HEADER_BYTES, text, uuid, params->label, error);
  if (!rc)
    rc = write_copy (file, 0, text, uuid, params->label, error);
  g_string_free (text, TRUE);
  return rc;
}

/* ---- Key slot and digest ---- */

static void
plan (const Luks2Params *params, LuksSlot *slot, LuksDigest *digest)
{
  const LuksParams *common = &params->common;
  *slot = (LuksSlot){ .used = true,
                      .key_bytes = common->key_bytes,
                      .area_key_bytes = common->key_bytes,
                      .stripes = LUKS_STRIPES,
                      .cipher = common->cipher,
                      .offset = FIRST_AREA,
                      .kdf = params->kdf };
  luks_name (slot->af_digest, common->digest);
  slot->size = (luks_slot_length (slot) + AREA_ALIGNMENT - 1) / AREA_ALIGNMENT * AREA_ALIGNMENT;
  *digest = (LuksDigest){ .kdf = { .salt_length = 32 } };
  luks_name (digest->kdf.name, "pbkdf2");
  luks_name (digest->kdf.digest, common->digest);
}

/* The digest's PBKDF2 takes an eighth of the time that a key slot may. */
static int
tune (const Luks2Params *params, LuksSlot *slot, LuksDigest *digest, GError **error)
{
  const TnDigestOps *ops = tn_digest_find (params->common.digest, error);
  if (!ops)
    return -ENOENT;
  digest->length = ops->digest_size;
  int rc = luks_kdf_tune (&slot->kdf, slot->area_key_bytes, params->common.iter_time, error);
  if (!rc)
    rc = luks_kdf_tune (&digest->kdf, digest->length,
                        MAX (params->common.iter_time / DIGEST_ITERATION_PART, 1), error);
  return rc;
}

static int
write_new (TnNode *file, const Luks2Params *params, bool detached, const TnSecret *secret, void *key,
           GError **error)
{
  LuksSlot slot;
  LuksDigest digest;
  plan (params, &slot, &digest);
  g_autoptr (TnSectorCipher) fits =
      luks_cipher_open (&params->common.cipher, params->sector_size, 0, key, params->common.key_bytes, error);
  if (!fits)
    return -EINVAL;
  int rc = luks_random (key, slot.key_bytes, error);
  if (!rc)
    rc = tune (params, &slot, &digest, error);
  if (!rc)
    rc = luks_digest_make (&digest, key, slot.key_bytes, error);
  if (!rc)
    rc = luks_slot_store (file, 0, &slot, secret, key, error);
  return rc ? rc : write_headers (file, params, &slot, &digest, detached, error);
}

int
luks2_write_new (TnNode *file, const Luks2Params *params, bool detached, const TnSecret *secret,
                 GError **error)
{
  void *key = tn_secure_new (LUKS_MAX_KEY);
  int rc = write_new (file, params, detached, secret, key, error);
  tn_secure_free (key);
  return rc;
}
