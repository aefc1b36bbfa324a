/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Key slots: the disk's key, split, encrypted, and found again. */
#include "luks.h"

uint64_t
luks_slot_length (const LuksSlot *slot)
{
  uint64_t bytes = (uint64_t) slot->key_bytes * slot->stripes;
  return (bytes + LUKS_SECTOR - 1) / LUKS_SECTOR * LUKS_SECTOR;
}

int
luks_slot_check (const LuksSlot *slot, unsigned index, GError **error)
{
  g_autofree char *what = g_strdup_printf ("key slot %u", index);
  if (slot->stripes != LUKS_STRIPES)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: %s has %u stripes instead of %u", what,
                    slot->stripes, LUKS_STRIPES);
  if (!slot->key_bytes || slot->key_bytes > LUKS_MAX_KEY || !slot->area_key_bytes
      || slot->area_key_bytes > LUKS_MAX_KEY)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: %s holds a key of %u bytes, allowed are 1 to %u",
                    what, MAX (slot->key_bytes, slot->area_key_bytes), LUKS_MAX_KEY);
  if (slot->offset % LUKS_SECTOR || slot->offset > INT64_MAX / 2 || slot->size > INT64_MAX / 2
      || slot->size < luks_slot_length (slot))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "LUKS: %s has an impossible area (%" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT ")",
                    what, slot->size, slot->offset);
  return luks_kdf_check (&slot->kdf, what, error);
}

static TnSectorCipher *
open_area (const LuksSlot *slot, const TnSecret *secret, GError **error)
{
  size_t length;
  const void *password = tn_secret_bytes (secret, &length);
  void *key = tn_secure_new (LUKS_MAX_KEY);
  TnSectorCipher *cipher = NULL;
  if (!luks_kdf_derive (&slot->kdf, password, length, key, slot->area_key_bytes, error))
    cipher = luks_cipher_open (&slot->cipher, LUKS_SECTOR, 0, key, slot->area_key_bytes, error);
  tn_secure_free (key);
  return cipher;
}

/* ---- Digests ---- */

static int
digest_key (const LuksDigest *digest, const void *key, size_t key_length, uint8_t *out, GError **error)
{
  return luks_kdf_derive (&digest->kdf, key, key_length, out, digest->length, error);
}

static int
is_right_key (const LuksDigest *digest, const void *key, size_t key_length, GError **error)
{
  uint8_t bytes[TN_DIGEST_MAX], difference = 0;
  int rc = digest_key (digest, key, key_length, bytes, error);
  if (rc)
    return rc;
  for (size_t i = 0; i < digest->length; i++)
    difference |= bytes[i] ^ digest->bytes[i];
  return difference == 0;
}

int
luks_digest_make (LuksDigest *digest, const void *key, size_t key_length, GError **error)
{
  int rc = luks_random (digest->kdf.salt, digest->kdf.salt_length, error);
  return rc ? rc : digest_key (digest, key, key_length, digest->bytes, error);
}

/* ---- Areas ---- */

static int
read_area (TnNode *file, uint64_t base, const LuksSlot *slot, const TnSecret *secret, uint8_t *area,
           GError **error)
{
  g_autoptr (TnSectorCipher) cipher = open_area (slot, secret, error);
  if (!cipher)
    return error && *error ? tn_error_to_errno (*error) : -EINVAL;
  int rc = tn_node_read (file, base + slot->offset, area, luks_slot_length (slot), error);
  if (!rc)
    tn_sector_cipher_decrypt (cipher, 0, area, area, luks_slot_length (slot));
  return rc;
}

static int
open_with (TnNode *file, uint64_t base, const LuksSlot *slot, const LuksDigest *digest,
           const TnSecret *secret, const TnDigestOps *af, uint8_t *area, void *key, GError **error)
{
  int rc = read_area (file, base, slot, secret, area, error);
  if (rc)
    return rc;
  luks_af_merge (af, area, key, slot->key_bytes, slot->stripes);
  return is_right_key (digest, key, slot->key_bytes, error);
}

int
luks_slot_open (TnNode *file, uint64_t base, const LuksSlot *slot, const LuksDigest *digest,
                const TnSecret *secret, void *key, GError **error)
{
  const TnDigestOps *af = tn_digest_find (slot->af_digest, error);
  if (!af)
    return -ENOENT;
  g_autoptr (GError) why = NULL;
  uint8_t *area = tn_secure_new (luks_slot_length (slot));
  int rc = open_with (file, base, slot, digest, secret, af, area, key, &why);
  tn_secure_free (area);
  if (rc <= 0)
    explicit_bzero (key, LUKS_MAX_KEY);
  if (why)
    g_propagate_error (error, g_steal_pointer (&why));
  return rc;
}

static int
store_with (TnNode *file, uint64_t base, LuksSlot *slot, const TnSecret *secret, const void *key,
            const TnDigestOps *af, uint8_t *area, GError **error)
{
  int rc = luks_af_split (af, key, area, slot->key_bytes, slot->stripes, error);
  if (rc)
    return rc;
  g_autoptr (TnSectorCipher) cipher = open_area (slot, secret, error);
  if (!cipher)
    return error && *error ? tn_error_to_errno (*error) : -EINVAL;
  tn_sector_cipher_encrypt (cipher, 0, area, area, luks_slot_length (slot));
  return tn_node_write (file, base + slot->offset, area, luks_slot_length (slot), error);
}

int
luks_slot_store (TnNode *file, uint64_t base, LuksSlot *slot, const TnSecret *secret, const void *key,
                 GError **error)
{
  const TnDigestOps *af = tn_digest_find (slot->af_digest, error);
  if (!af)
    return -ENOENT;
  int rc = luks_random (slot->kdf.salt, slot->kdf.salt_length, error);
  if (rc)
    return rc;
  uint8_t *area = tn_secure_new (luks_slot_length (slot));
  rc = store_with (file, base, slot, secret, key, af, area, error);
  tn_secure_free (area);
  return rc;
}

int
luks_slot_wipe (TnNode *file, uint64_t base, const LuksSlot *slot, GError **error)
{
  uint64_t length = luks_slot_length (slot);
  g_autofree uint8_t *noise = g_malloc (length);
  int rc = luks_random (noise, length, error);
  return rc ? rc : tn_node_write (file, base + slot->offset, noise, length, error);
}
