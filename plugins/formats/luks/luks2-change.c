/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Adding passphrases to a version 2 header, and taking them away.
 *
 * Order on disk: a slot's area before a header that tells of it; noise over an erased slot's area before the
 * headers that have forgotten it, since until both have, one of them still opens what is there.  Of the two
 * copies that which was not read is written first, so that one is right at any time; a larger sequence number
 * tells which is newer.
 */
#include "luks2.h"

#define AREA_ALIGNMENT 4096

enum {
  AT_SEQUENCE = 16,
  AT_SALT = 104,
  AT_OFFSET = 256,
  AT_CHECKSUM = 448,
  CHECKSUM_BYTES = 64,
  SALT_BYTES = 64
};

static uint32_t
used_slots (const Luks2 *header)
{
  uint32_t used = 0;
  for (unsigned i = 0; i < LUKS2_SLOTS; i++)
    used |= header->slots[i].slot.used ? 1u << i : 0;
  return used;
}

/* ---- Both copies ---- */

static int
write_copy (TnNode *file, const Luks2 *header, uint64_t at, uint8_t *bytes, GError **error)
{
  const TnDigestOps *digest = tn_digest_find (header->checksum, error);
  uint8_t sum[TN_DIGEST_MAX];
  if (!digest)
    return -ENOTSUP;
  memcpy (bytes, at ? "SKUL\xba\xbe\0\2" : "LUKS\xba\xbe\0\2", 8);
  tn_store_be64 (bytes + AT_SEQUENCE, header->sequence + 1);
  tn_store_be64 (bytes + AT_OFFSET, at);
  int rc = luks_random (bytes + AT_SALT, SALT_BYTES, error);
  if (rc)
    return rc;
  memset (bytes + AT_CHECKSUM, 0, CHECKSUM_BYTES);
  struct iovec part = { bytes, header->header_size };
  digest->digest (&part, 1, sum);
  memcpy (bytes + AT_CHECKSUM, sum, digest->digest_size);
  rc = tn_node_write (file, at, bytes, header->header_size, error);
  return rc ? rc : tn_node_flush (file, error);
}

/* The new text must say what the old one did, but for the slots. */
static int
check_text (TnNode *file, const Luks2 *header, const GString *text, bool detached, GError **error)
{
  g_autofree Luks2 *next = g_memdup2 (header, sizeof *header);
  memset (next->slots, 0, sizeof next->slots);
  memset (next->digests, 0, sizeof next->digests);
  if (text->len >= header->header_size - LUKS2_BINARY)
    return tn_fail (error, TN_BLOCK_ERROR, ENOSPC, "LUKS: the header has no room for another key slot");
  int rc = luks2_parse_json (text->str, next, error);
  return rc ? rc : luks2_check (next, tn_node_size (file), detached, error);
}

static int
write_text (TnNode *file, const Luks2 *header, uint8_t *bytes, const GString *text, GError **error)
{
  memset (bytes + LUKS2_BINARY, 0, header->header_size - LUKS2_BINARY);
  memcpy (bytes + LUKS2_BINARY, text->str, text->len);
  const uint64_t other = header->at ? 0 : header->header_size;
  int rc = write_copy (file, header, other, bytes, error);
  return rc ? rc : write_copy (file, header, header->at, bytes, error);
}

/* Writes headers without and with slots; @header is what the file has then. */
static int
replace_headers (TnNode *file, Luks2 **header, bool detached, uint32_t removed, const Luks2Added *added,
                 GError **error)
{
  const Luks2 *now = *header;
  Luks2 *next = NULL;
  g_autofree uint8_t *bytes = g_malloc (now->header_size + 1);
  bytes[now->header_size] = 0;
  GString *text = NULL;
  int rc = tn_node_read (file, now->at, bytes, now->header_size, error);
  if (!rc)
    rc = luks2_edit ((const char *) bytes + LUKS2_BINARY, removed, added, &text, error);
  if (rc)
    return rc;
  rc = check_text (file, now, text, detached, error);
  if (!rc)
    rc = tn_node_flush (file, error);
  if (!rc)
    rc = write_text (file, now, bytes, text, error);
  g_string_free (text, TRUE);
  if (luks2_load (file, &next, NULL) == 0) {
    g_free (*header);
    *header = next;
  }
  return rc;
}

/* ---- Erasing ---- */

static int
erase (TnNode *file, Luks2 **header, bool detached, uint32_t chosen, GError **error)
{
  int rc = 0;
  for (unsigned i = 0; i < LUKS2_SLOTS && !rc; i++)
    if ((chosen >> i & 1) && (*header)->slots[i].slot.used)
      rc = luks_slot_wipe (file, 0, &(*header)->slots[i].slot, error);
  return rc ? rc : replace_headers (file, header, detached, chosen, NULL, error);
}

/* The slots among @among that the old secret opens. */
static int
find_old (TnNode *file, const Luks2 *header, const TnSecret *secret, uint32_t among, uint32_t *found,
          GError **error)
{
  void *key = tn_secure_new (LUKS_MAX_KEY);
  int rc = 0;
  *found = 0;
  for (unsigned i = 0; i < LUKS2_SLOTS && rc >= 0; i++) {
    const LuksDigest *digest = luks2_digest_of (header, i, NULL);
    if (!(among >> i & 1) || !digest)
      continue;
    rc = luks_slot_open (file, 0, &header->slots[i].slot, digest, secret, key, error);
    *found |= rc > 0 ? 1u << i : 0;
  }
  tn_secure_free (key);
  if (rc < 0)
    return rc;
  return *found ? 0
                : tn_fail (error, TN_BLOCK_ERROR, EPERM, "old-secret opens no key slot: nothing is erased");
}

static int
erase_slots (TnNode *file, Luks2 **header, bool detached, const LuksChange *change, GError **error)
{
  const uint32_t used = used_slots (*header);
  uint32_t chosen = change->slot >= 0 ? used & 1u << change->slot : used, others = 0;
  if (!chosen)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "key slot %d is not in use", change->slot);
  const int rc =
      change->old_secret ? find_old (file, *header, change->old_secret, chosen, &chosen, error) : 0;
  if (rc)
    return rc;
  for (unsigned i = 0; i < LUKS2_SLOTS; i++)
    others |= (used & ~chosen) >> i & 1 && luks2_digest_of (*header, i, NULL) ? 1u << i : 0;
  if (!others && !change->force)
    return tn_fail (
        error, TN_BLOCK_ERROR, EPERM,
        "no other key slot is in use: without these all data is lost; use --force if that is meant");
  return erase (file, header, detached, chosen, error);
}

/* ---- Adding ---- */

static int
choose_slot (const Luks2 *header, const LuksChange *change, unsigned *id, GError **error)
{
  const uint32_t used = used_slots (header);
  if (change->slot < 0) {
    for (*id = 0; *id < LUKS2_SLOTS; ++*id)
      if (!(used >> *id & 1))
        return 0;
    return tn_fail (error, TN_BLOCK_ERROR, ENOSPC, "all its key slots are in use: erase one first");
  }
  *id = (unsigned) change->slot;
  if (!(used >> *id & 1))
    return 0;
  if (used == 1u << *id)
    return tn_fail (error, TN_BLOCK_ERROR, EBUSY,
                    "key slot %u is the only one in use: add the new secret in another, then erase this one",
                    *id);
  return change->force ? 0
                       : tn_fail (error, TN_BLOCK_ERROR, EBUSY,
                                  "key slot %u is in use: erase it first, or use --force", *id);
}

/* The first room between other areas. */
static int
place_area (const Luks2 *header, uint64_t file_size, bool detached, LuksSlot *slot, GError **error)
{
  const uint64_t first = 2 * header->header_size;
  const uint64_t end = detached ? MIN (first + header->areas_size, file_size) : first + header->areas_size;
  slot->size = (luks_slot_length (slot) + AREA_ALIGNMENT - 1) / AREA_ALIGNMENT * AREA_ALIGNMENT;
  slot->offset = first;
  for (unsigned i = 0; i < LUKS2_SLOTS; i++) {
    const LuksSlot *other = &header->slots[i].slot;
    if (!other->used || slot->offset >= other->offset + other->size
        || other->offset >= slot->offset + slot->size)
      continue;
    slot->offset = (other->offset + other->size + AREA_ALIGNMENT - 1) / AREA_ALIGNMENT * AREA_ALIGNMENT;
    i = (unsigned) -1; /* others may be there */
  }
  if (slot->offset <= end && slot->size <= end - slot->offset)
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, ENOSPC, "there is no room for the area of another key slot");
}

/* A slot like another that opens the disk. */
static int
plan_slot (const Luks2 *header, Luks2Added *added, GError **error)
{
  for (unsigned i = 0; i < LUKS2_SLOTS; i++) {
    const LuksSlot *model = &header->slots[i].slot;
    if (!model->used || !luks2_digest_of (header, i, &added->digest))
      continue;
    g_autofree char *mode = luks_cipher_mode_text (&model->cipher);
    added->slot = *model;
    g_snprintf (added->encryption, sizeof added->encryption, "%s-%s", model->cipher.algorithm, mode);
    return 0;
  }
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "it has no key slot that opens it");
}

static int
store_slot (TnNode *file, Luks2 **header, bool detached, const LuksChange *change, Luks2Added *added,
            const void *key, GError **error)
{
  LuksSlot *slot = &added->slot;
  int rc = plan_slot (*header, added, error);
  if (!rc && ((*header)->slots[added->id].slot.used))
    rc = erase (file, header, detached, 1u << added->id, error);
  if (!rc)
    rc = place_area (*header, tn_node_size (file), detached, slot, error);
  if (!rc)
    rc = luks_kdf_tune (&slot->kdf, slot->area_key_bytes, change->iter_time, error);
  if (!rc)
    rc = luks_slot_store (file, 0, slot, change->new_secret, key, error);
  return rc ? rc : replace_headers (file, header, detached, 0, added, error);
}

static int
add_secret (TnNode *file, Luks2 **header, bool detached, const LuksChange *change, const TnSecret *opened,
            GError **error)
{
  const TnSecret *secret = change->old_secret ? change->old_secret : opened;
  Luks2Added added = { 0 };
  uint32_t key_bytes;
  int rc = choose_slot (*header, change, &added.id, error);
  if (rc)
    return rc;
  if (!secret)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a secret that opens it is needed: give old-secret");
  void *key = tn_secure_new (LUKS_MAX_KEY);
  rc = luks2_unlock (file, *header, secret, false, key, &key_bytes, error);
  if (!rc)
    rc = store_slot (file, header, detached, change, &added, key, error);
  tn_secure_free (key);
  return rc;
}

int
luks2_change (TnNode *file, Luks2 **header, bool detached, const LuksChange *change, const TnSecret *opened,
              GError **error)
{
  return change->activate ? add_secret (file, header, detached, change, opened, error)
                          : erase_slots (file, header, detached, change, error);
}
