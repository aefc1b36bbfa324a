/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LUKS version 1: one header of 592 bytes, big endian, with eight key slots. */
#include "luks.h"

#define SLOT_USED 0x00ac71f3u
#define SLOT_FREE 0x0000deadu
#define SLOT_ALIGNMENT 4096
#define FIRST_SLOT 4096
#define DIGEST_BYTES 20
#define SALT_BYTES 32
#define HEADER_SECTORS (2 * LUKS_SECTOR)
#define DIGEST_TIME 8 /* the digest may take this part of a slot's time */

/* Where things stand in the header. */
enum {
  AT_VERSION = 6,
  AT_CIPHER = 8,
  AT_MODE = 40,
  AT_HASH = 72,
  AT_PAYLOAD = 104,
  AT_KEY_BYTES = 108,
  AT_DIGEST = 112,
  AT_DIGEST_SALT = 132,
  AT_DIGEST_ITERATIONS = 164,
  AT_UUID = 168,
  AT_SLOTS = 208,
  SLOT_BYTES = 48
};

static const uint8_t magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

/* ---- Reading ---- */

static int
parse_slot (const uint8_t *p, const Luks1 *header, unsigned index, LuksSlot *slot, GError **error)
{
  uint32_t state = tn_load_be32 (p);
  if (state != SLOT_USED && state != SLOT_FREE)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: key slot %u has the unknown state 0x%08x", index,
                    state);
  slot->used = state == SLOT_USED;
  slot->key_bytes = slot->area_key_bytes = header->key_bytes;
  slot->cipher = header->cipher;
  luks_name (slot->af_digest, header->digest_name);
  luks_name (slot->kdf.name, "pbkdf2");
  luks_name (slot->kdf.digest, header->digest_name);
  slot->kdf.iterations = tn_load_be32 (p + 4);
  slot->kdf.salt_length = SALT_BYTES;
  memcpy (slot->kdf.salt, p + 8, SALT_BYTES);
  slot->offset = (uint64_t) tn_load_be32 (p + 40) * LUKS_SECTOR;
  slot->stripes = tn_load_be32 (p + 44);
  slot->size = luks_slot_length (slot);
  return 0;
}

static int
parse_names (const uint8_t *bytes, Luks1 *header, GError **error)
{
  g_autofree char *cipher = g_strndup ((const char *) bytes + AT_CIPHER, LUKS_NAME);
  g_autofree char *mode = g_strndup ((const char *) bytes + AT_MODE, LUKS_NAME);
  g_autofree char *hash = g_strndup ((const char *) bytes + AT_HASH, LUKS_NAME);
  luks_name (header->digest_name, hash);
  return luks_cipher_parse (cipher, mode, &header->cipher, error);
}

int
luks1_parse (const uint8_t *bytes, Luks1 *header, GError **error)
{
  memset (header, 0, sizeof *header);
  if (memcmp (bytes, magic, sizeof magic) != 0)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: there is no LUKS header");
  if (tn_load_be16 (bytes + AT_VERSION) != 1)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "LUKS: version %u is not supported here",
                    tn_load_be16 (bytes + AT_VERSION));
  int rc = parse_names (bytes, header, error);
  header->payload_offset = (uint64_t) tn_load_be32 (bytes + AT_PAYLOAD) * LUKS_SECTOR;
  header->key_bytes = tn_load_be32 (bytes + AT_KEY_BYTES);
  memcpy (header->uuid, bytes + AT_UUID, 40);
  LuksDigest *digest = &header->digest;
  luks_name (digest->kdf.name, "pbkdf2");
  luks_name (digest->kdf.digest, header->digest_name);
  digest->kdf.iterations = tn_load_be32 (bytes + AT_DIGEST_ITERATIONS);
  digest->kdf.salt_length = SALT_BYTES;
  memcpy (digest->kdf.salt, bytes + AT_DIGEST_SALT, SALT_BYTES);
  memcpy (digest->bytes, bytes + AT_DIGEST, DIGEST_BYTES);
  digest->length = DIGEST_BYTES;
  for (unsigned i = 0; i < LUKS1_SLOTS && !rc; i++)
    rc = parse_slot (bytes + AT_SLOTS + i * SLOT_BYTES, header, i, &header->slots[i], error);
  return rc;
}

static bool
overlap (const LuksSlot *a, const LuksSlot *b)
{
  return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

static int
check_slot (const Luks1 *header, unsigned index, uint64_t room, GError **error)
{
  const LuksSlot *slot = &header->slots[index];
  if (slot->used || slot->offset) {
    LuksSlot checked = *slot;
    /* What a free slot says of its passphrase counts for nothing. */
    checked.kdf.iterations = slot->used ? slot->kdf.iterations : 1;
    int rc = luks_slot_check (&checked, index, error);
    if (rc)
      return rc;
  }
  if (!slot->offset)
    return slot->used ? tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: key slot %u has no area", index) : 0;
  if (slot->offset < LUKS1_HEADER || slot->offset > room || slot->size > room - slot->offset)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "LUKS: key slot %u (%" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                    ") reaches into the header, the data, or beyond the end of the file",
                    index, slot->size, slot->offset);
  for (unsigned i = 0; i < index; i++)
    if (header->slots[i].offset && overlap (slot, &header->slots[i]))
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: the key slots %u and %u overlap", i, index);
  return 0;
}

int
luks1_check (const Luks1 *header, uint64_t room, GError **error)
{
  if (!header->key_bytes || header->key_bytes > LUKS_MAX_KEY)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: the key has %u bytes, allowed are 1 to %u",
                    header->key_bytes, LUKS_MAX_KEY);
  int rc = luks_kdf_check (&header->digest.kdf, "the key's digest", error);
  for (unsigned i = 0; i < LUKS1_SLOTS && !rc; i++)
    rc = check_slot (header, i, room, error);
  return rc;
}

int
luks1_load (TnNode *file, uint64_t base, Luks1 *header, GError **error)
{
  uint8_t bytes[LUKS1_HEADER];
  int rc = tn_node_read (file, base, bytes, sizeof bytes, error);
  return rc ? rc : luks1_parse (bytes, header, error);
}

static int
check_work (const Luks1 *header, bool untrusted, GError **error)
{
  LuksWork work = { 0 };
  for (unsigned i = 0; i < LUKS1_SLOTS; i++)
    if (header->slots[i].used) {
      luks_work_add (&work, &header->slots[i].kdf);
      luks_work_add (&work, &header->digest.kdf);
    }
  return luks_work_check (&work, untrusted, error);
}

int
luks1_unlock (TnNode *file, uint64_t base, const Luks1 *header, const TnSecret *secret, bool untrusted,
              void *key, unsigned *slot, GError **error)
{
  int too_much = check_work (header, untrusted, error);
  if (too_much)
    return too_much;
  for (unsigned i = 0; i < LUKS1_SLOTS; i++) {
    if (!header->slots[i].used)
      continue;
    int rc = luks_slot_open (file, base, &header->slots[i], &header->digest, secret, key, error);
    if (rc > 0)
      *slot = i;
    if (rc)
      return MIN (rc, 0);
  }
  return tn_fail (error, TN_BLOCK_ERROR, EPERM,
                  "%s: the secret opens none of its key slots: give the right one", tn_node_filename (file));
}

/* ---- Writing ---- */

static void
format_slot (const LuksSlot *slot, uint8_t *p)
{
  tn_store_be32 (p, slot->used ? SLOT_USED : SLOT_FREE);
  tn_store_be32 (p + 4, slot->used ? slot->kdf.iterations : 0);
  if (slot->used)
    memcpy (p + 8, slot->kdf.salt, SALT_BYTES);
  tn_store_be32 (p + 40, (uint32_t) (slot->offset / LUKS_SECTOR));
  tn_store_be32 (p + 44, slot->stripes);
}

static void
format_header (const Luks1 *header, uint8_t *bytes)
{
  memset (bytes, 0, HEADER_SECTORS);
  g_autofree char *mode = luks_cipher_mode_text (&header->cipher);
  memcpy (bytes, magic, sizeof magic);
  tn_store_be16 (bytes + AT_VERSION, 1);
  g_strlcpy ((char *) bytes + AT_CIPHER, header->cipher.algorithm, LUKS_NAME);
  g_strlcpy ((char *) bytes + AT_MODE, mode, LUKS_NAME);
  g_strlcpy ((char *) bytes + AT_HASH, header->digest_name, LUKS_NAME);
  tn_store_be32 (bytes + AT_PAYLOAD, (uint32_t) (header->payload_offset / LUKS_SECTOR));
  tn_store_be32 (bytes + AT_KEY_BYTES, header->key_bytes);
  memcpy (bytes + AT_DIGEST, header->digest.bytes, DIGEST_BYTES);
  memcpy (bytes + AT_DIGEST_SALT, header->digest.kdf.salt, SALT_BYTES);
  tn_store_be32 (bytes + AT_DIGEST_ITERATIONS, header->digest.kdf.iterations);
  memcpy (bytes + AT_UUID, header->uuid, 40);
  for (unsigned i = 0; i < LUKS1_SLOTS; i++)
    format_slot (&header->slots[i], bytes + AT_SLOTS + i * SLOT_BYTES);
}

int
luks1_store (TnNode *file, uint64_t base, const Luks1 *header, GError **error)
{
  uint8_t bytes[HEADER_SECTORS];
  format_header (header, bytes);
  return tn_node_write (file, base, bytes, sizeof bytes, error);
}

/* The first sector has the state of slot 6, whose salt reaches into the second. */
int
luks1_store_in_order (TnNode *file, uint64_t base, const Luks1 *header, GError **error)
{
  uint8_t bytes[HEADER_SECTORS];
  format_header (header, bytes);
  int rc = tn_node_write (file, base + LUKS_SECTOR, bytes + LUKS_SECTOR, LUKS_SECTOR, error);
  if (!rc)
    rc = tn_node_flush (file, error);
  if (!rc)
    rc = tn_node_write (file, base, bytes, LUKS_SECTOR, error);
  return rc ? rc : tn_node_flush (file, error);
}

static void
plan_kdf (LuksKdf *kdf, const LuksParams *params)
{
  luks_name (kdf->name, "pbkdf2");
  luks_name (kdf->digest, params->digest);
  kdf->salt_length = SALT_BYTES;
}

int
luks1_plan (const LuksParams *params, Luks1 *header, GError **error)
{
  memset (header, 0, sizeof *header);
  header->cipher = params->cipher;
  header->key_bytes = params->key_bytes;
  luks_name (header->digest_name, params->digest);
  g_autofree char *uuid = g_uuid_string_random ();
  g_strlcpy (header->uuid, uuid, sizeof header->uuid);
  plan_kdf (&header->digest.kdf, params);
  header->digest.length = DIGEST_BYTES;
  uint64_t at = FIRST_SLOT;
  for (unsigned i = 0; i < LUKS1_SLOTS; i++) {
    LuksSlot *slot = &header->slots[i];
    slot->key_bytes = slot->area_key_bytes = params->key_bytes;
    slot->stripes = LUKS_STRIPES;
    slot->cipher = params->cipher;
    luks_name (slot->af_digest, params->digest);
    plan_kdf (&slot->kdf, params);
    slot->offset = at;
    slot->size = luks_slot_length (slot);
    at += (slot->size + SLOT_ALIGNMENT - 1) / SLOT_ALIGNMENT * SLOT_ALIGNMENT;
  }
  header->payload_offset = at;
  /* Finds out now whether cipher, mode and digest go together. */
  static const uint8_t key[LUKS_MAX_KEY];
  g_autoptr (TnSectorCipher) cipher =
      luks_cipher_open (&params->cipher, LUKS_SECTOR, 0, key, params->key_bytes, error);
  return cipher && tn_digest_find (params->digest, error) ? 0 : -EINVAL;
}

static int
write_new (TnNode *file, uint64_t base, Luks1 *header, const LuksParams *params, const TnSecret *secret,
           void *key, GError **error)
{
  LuksSlot *first = &header->slots[0];
  int rc = luks_random (key, header->key_bytes, error);
  if (!rc)
    rc = luks_kdf_tune (&first->kdf, first->area_key_bytes, params->iter_time, error);
  header->digest.kdf.iterations = MAX (first->kdf.iterations / DIGEST_TIME, 1000);
  if (!rc)
    rc = luks_digest_make (&header->digest, key, header->key_bytes, error);
  if (!rc)
    rc = luks_slot_store (file, base, first, secret, key, error);
  if (rc)
    return rc;
  first->used = true;
  return luks1_store (file, base, header, error);
}

int
luks1_write_new (TnNode *file, uint64_t base, Luks1 *header, const LuksParams *params, const TnSecret *secret,
                 GError **error)
{
  void *key = tn_secure_new (LUKS_MAX_KEY);
  int rc = write_new (file, base, header, params, secret, key, error);
  tn_secure_free (key);
  return rc;
}

/* ---- For people ---- */

static void
describe_slot (const LuksSlot *slot, TnJson *json)
{
  tn_json_object_begin (json, NULL);
  tn_json_bool (json, "active", slot->used);
  if (slot->used)
    tn_json_uint (json, "iters", slot->kdf.iterations);
  tn_json_uint (json, "key-offset", slot->offset);
  if (slot->used)
    tn_json_uint (json, "stripes", slot->stripes);
  tn_json_object_end (json);
}

void
luks1_describe (const Luks1 *header, TnJson *json)
{
  g_autofree char *cipher = luks_cipher_name (&header->cipher, header->key_bytes);
  tn_json_string (json, "ivgen-alg", header->cipher.iv);
  if (*header->cipher.iv_digest)
    tn_json_string (json, "ivgen-hash-alg", header->cipher.iv_digest);
  tn_json_string (json, "hash-alg", header->digest_name);
  tn_json_string (json, "cipher-alg", cipher);
  tn_json_string (json, "uuid", header->uuid);
  tn_json_string (json, "cipher-mode", header->cipher.mode);
  tn_json_array_begin (json, "slots");
  for (unsigned i = 0; i < LUKS1_SLOTS; i++)
    describe_slot (&header->slots[i], json);
  tn_json_array_end (json);
  tn_json_uint (json, "payload-offset", header->payload_offset);
  tn_json_uint (json, "master-key-iters", header->digest.kdf.iterations);
}
