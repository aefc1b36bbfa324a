/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Version 2 headers: finding the good copy, and the key. */
#include "luks2.h"

enum {
  AT_VERSION = 6,
  AT_HEADER_SIZE = 8,
  AT_SEQUENCE = 16,
  AT_LABEL = 24,
  AT_CHECKSUM_NAME = 72,
  AT_UUID = 168,
  AT_SUBSYSTEM = 208,
  AT_OFFSET = 256,
  AT_CHECKSUM = 448,
  CHECKSUM_BYTES = 64
};

/* ---- One copy ---- */

static int
check_binary (const uint8_t *p, uint64_t at, Luks2 *header, GError **error)
{
  static const char *const magics[] = { "LUKS\xba\xbe", "SKUL\xba\xbe" };
  if (memcmp (p, magics[at != 0], 6) != 0 || tn_load_be16 (p + AT_VERSION) != 2)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "there is no LUKS header that can be read");
  uint64_t size = tn_load_be64 (p + AT_HEADER_SIZE);
  if (size < LUKS2_MIN_HEADER || size > LUKS2_MAX_HEADER || (size & (size - 1)))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: a header cannot have %" G_GUINT64_FORMAT " bytes",
                    size);
  if (tn_load_be64 (p + AT_OFFSET) != at || (at && at != size))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "LUKS: the header at %" G_GUINT64_FORMAT " belongs elsewhere", at);
  header->at = at;
  header->header_size = size;
  header->sequence = tn_load_be64 (p + AT_SEQUENCE);
  memcpy (header->label, p + AT_LABEL, 48);
  memcpy (header->subsystem, p + AT_SUBSYSTEM, 48);
  memcpy (header->uuid, p + AT_UUID, 40);
  memcpy (header->checksum, p + AT_CHECKSUM_NAME, LUKS_NAME);
  return 0;
}

static int
check_sum (uint8_t *bytes, const Luks2 *header, GError **error)
{
  uint8_t told[CHECKSUM_BYTES], found[TN_DIGEST_MAX];
  const TnDigestOps *digest = tn_digest_find (header->checksum, error);
  if (!digest)
    return -ENOTSUP;
  memcpy (told, bytes + AT_CHECKSUM, sizeof told);
  memset (bytes + AT_CHECKSUM, 0, CHECKSUM_BYTES);
  struct iovec part = { bytes, header->header_size };
  digest->digest (&part, 1, found);
  return memcmp (told, found, digest->digest_size) == 0
             ? 0
             : tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                        "LUKS: the checksum of the header at %" G_GUINT64_FORMAT " is wrong", header->at);
}

static int
load_text (TnNode *file, Luks2 *header, uint8_t *bytes, GError **error)
{
  int rc = tn_node_read (file, header->at, bytes, header->header_size, error);
  if (!rc)
    rc = check_sum (bytes, header, error);
  if (rc)
    return rc;
  const char *text = (const char *) bytes + LUKS2_BINARY;
  if (!memchr (text, 0, header->header_size - LUKS2_BINARY))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: the header's JSON text does not end");
  return luks2_parse_json (text, header, error);
}

static int
load_copy (TnNode *file, uint64_t at, Luks2 *header, GError **error)
{
  uint8_t binary[512];
  memset (header, 0, sizeof *header);
  int rc = tn_node_read (file, at, binary, sizeof binary, error);
  if (!rc)
    rc = check_binary (binary, at, header, error);
  if (rc)
    return rc;
  if (header->header_size > tn_node_size (file) - MIN (at, tn_node_size (file)))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: the file ends within the header");
  g_autofree uint8_t *bytes = g_malloc (header->header_size);
  return load_text (file, header, bytes, error);
}

/* ---- Both copies ---- */

static int
load_second (TnNode *file, Luks2 *header)
{
  int rc = -EINVAL;
  for (uint64_t at = LUKS2_MIN_HEADER; at <= LUKS2_MAX_HEADER && rc; at *= 2)
    rc = load_copy (file, at, header, NULL);
  return rc;
}

static void
take_newer (TnNode *file, Luks2 *header)
{
  g_autofree Luks2 *second = g_new0 (Luks2, 1);
  if (!load_copy (file, header->header_size, second, NULL) && second->sequence > header->sequence)
    *header = *second;
}

int
luks2_load (TnNode *file, Luks2 **out, GError **error)
{
  g_autofree Luks2 *header = g_new0 (Luks2, 1);
  g_autoptr (GError) why = NULL;
  int rc = load_copy (file, 0, header, &why);
  if (!rc)
    take_newer (file, header);
  else if (!load_second (file, header))
    rc = 0;
  if (rc) {
    g_propagate_error (error, g_steal_pointer (&why));
    return rc;
  }
  *out = g_steal_pointer (&header);
  return 0;
}

/* ---- Layout ---- */

static int
check_areas (const Luks2 *header, uint64_t size, GError **error)
{
  uint64_t first = 2 * header->header_size, end = MIN (first + header->areas_size, size);
  for (unsigned i = 0; i < LUKS2_SLOTS; i++) {
    const LuksSlot *a = &header->slots[i].slot;
    if (!a->used)
      continue;
    if (a->offset < first || a->offset > end || luks_slot_length (a) > end - a->offset)
      return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                      "LUKS: key slot %u is not among the key slots' %" G_GUINT64_FORMAT
                      " bytes at %" G_GUINT64_FORMAT,
                      i, header->areas_size, first);
    for (unsigned j = 0; j < i; j++) {
      const LuksSlot *b = &header->slots[j].slot;
      if (b->used && a->offset < b->offset + b->size && b->offset < a->offset + a->size)
        return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: the key slots %u and %u overlap", j, i);
    }
  }
  return 0;
}

int
luks2_check (const Luks2 *header, uint64_t size, bool detached, GError **error)
{
  uint32_t sector = header->sector_size;
  if (sector < 512 || sector > 4096 || (sector & (sector - 1)))
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: sectors cannot have %u bytes", sector);
  if (header->offset % LUKS_SECTOR || header->size % sector)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: the data is not in whole sectors");
  if (!detached && header->offset < 2 * header->header_size + header->areas_size)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL,
                    "LUKS: the data at %" G_GUINT64_FORMAT
                    " overlaps the header: it is damaged, or the data is in "
                    "another file (open that with header.filename=HEADER)",
                    header->offset);
  return check_areas (header, size, error);
}

/* ---- The key ---- */

const LuksDigest *
luks2_digest_of (const Luks2 *header, unsigned slot, unsigned *number)
{
  for (unsigned i = 0; i < LUKS2_SLOTS; i++) {
    const Luks2Digest *digest = &header->digests[i];
    if (digest->used && (digest->slots & 1u << slot) && (digest->segments & 1u << header->segment)) {
      if (number)
        *number = i;
      return &digest->digest;
    }
  }
  return NULL;
}

static const LuksDigest *
digest_of (const Luks2 *header, unsigned slot)
{
  return luks2_digest_of (header, slot, NULL);
}

static bool
is_tried (const Luks2 *header, unsigned i)
{
  return header->slots[i].slot.used && !header->slots[i].ignored && digest_of (header, i);
}

/* 1: it was this one. */
static int
try_slot (TnNode *file, const Luks2 *header, unsigned i, const TnSecret *secret, void *key,
          uint32_t *key_bytes, GError **error)
{
  const LuksSlot *slot = &header->slots[i].slot;
  if (!is_tried (header, i))
    return 0;
  *key_bytes = slot->key_bytes;
  return luks_slot_open (file, 0, slot, digest_of (header, i), secret, key, error);
}

static int
check_work (const Luks2 *header, bool untrusted, GError **error)
{
  LuksWork work = { 0 };
  for (unsigned i = 0; i < LUKS2_SLOTS; i++)
    if (is_tried (header, i)) {
      luks_work_add (&work, &header->slots[i].slot.kdf);
      luks_work_add (&work, &digest_of (header, i)->kdf);
    }
  return luks_work_check (&work, untrusted, error);
}

int
luks2_unlock (TnNode *file, const Luks2 *header, const TnSecret *secret, bool untrusted, void *key,
              uint32_t *key_bytes, GError **error)
{
  int too_much = check_work (header, untrusted, error);
  if (too_much)
    return too_much;
  for (unsigned round = 0; round < 2; round++)
    for (unsigned i = 0; i < LUKS2_SLOTS; i++) {
      if (header->slots[i].first == (round != 0))
        continue;
      int rc = try_slot (file, header, i, secret, key, key_bytes, error);
      if (rc)
        return MIN (rc, 0);
    }
  return tn_fail (error, TN_BLOCK_ERROR, EPERM,
                  "%s: the secret opens none of its key slots: give the right one", tn_node_filename (file));
}

/* ---- For people ---- */

static void
describe_slot (const Luks2 *header, unsigned i, TnJson *json)
{
  const LuksSlot *slot = &header->slots[i].slot;
  tn_json_object_begin (json, NULL);
  tn_json_uint (json, "id", i);
  tn_json_string (json, "pbkdf", slot->kdf.name);
  if (slot->kdf.memory_kib) {
    tn_json_uint (json, "passes", slot->kdf.iterations);
    tn_json_uint (json, "memory-kib", slot->kdf.memory_kib);
    tn_json_uint (json, "threads", slot->kdf.lanes);
  } else {
    tn_json_uint (json, "iters", slot->kdf.iterations);
    tn_json_string (json, "hash-alg", slot->kdf.digest);
  }
  tn_json_uint (json, "key-offset", slot->offset);
  tn_json_uint (json, "stripes", slot->stripes);
  tn_json_object_end (json);
}

static uint32_t
key_bytes (const Luks2 *header)
{
  for (unsigned i = 0; i < LUKS2_SLOTS; i++)
    if (header->slots[i].slot.used && digest_of (header, i))
      return header->slots[i].slot.key_bytes;
  return 0;
}

void
luks2_describe (const Luks2 *header, TnJson *json)
{
  g_autofree char *cipher = luks_cipher_name (&header->cipher, key_bytes (header));
  tn_json_uint (json, "version", 2);
  tn_json_string (json, "uuid", header->uuid);
  if (*header->label)
    tn_json_string (json, "label", header->label);
  tn_json_uint (json, "sequence", header->sequence);
  tn_json_string (json, "cipher-alg", cipher);
  tn_json_string (json, "cipher-mode", header->cipher.mode);
  tn_json_string (json, "ivgen-alg", header->cipher.iv);
  if (*header->cipher.iv_digest)
    tn_json_string (json, "ivgen-hash-alg", header->cipher.iv_digest);
  tn_json_uint (json, "sector-size", header->sector_size);
  tn_json_uint (json, "payload-offset", header->offset);
  tn_json_array_begin (json, "slots");
  for (unsigned i = 0; i < LUKS2_SLOTS; i++)
    if (header->slots[i].slot.used)
      describe_slot (header, i, json);
  tn_json_array_end (json);
}
