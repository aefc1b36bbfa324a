/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Adding passphrases to a version 1 header, and taking them away.
 *
 * Order on disk: a slot's area before the header that tells of it; noise over the area of an erased slot
 * before the header that has forgotten it.  The other way round a power cut would leave a key that an old
 * copy of the header opens, while nothing says any more where it is to be overwritten.  The header is written
 * sector by sector, so that a power cut leaves each slot's entry as it was or as it is to be.
 */
#include "luks.h"

#define DEFAULT_ITER_TIME 2000

/* ---- What is asked for ---- */

static const char *
change_get (const TnOptions *options, const char *prefix, const char *name)
{
  g_autofree char *key = g_strconcat (prefix, name, NULL);
  return tn_options_get (options, key);
}

static bool
change_number (const TnOptions *options, const char *prefix, const char *name, uint64_t *number)
{
  g_autofree char *key = g_strconcat (prefix, name, NULL);
  *number = tn_options_uint (options, key);
  return tn_options_has (options, key);
}

static int
change_refuse (GError **error, const char *prefix, const char *name, const char *why)
{
  return tn_fail (error, TN_OPTION_ERROR, EINVAL, "%s%s %s", prefix, name, why);
}

static int
change_secret (const TnOptions *options, const char *prefix, const char *name, TnSecret **secret,
               GError **error)
{
  const char *id = change_get (options, prefix, name);
  *secret = id ? tn_secret_get (id, error) : NULL;
  return id && !*secret ? -EINVAL : 0;
}

static int
change_check (const LuksChange *change, bool has_time, const char *prefix, GError **error)
{
  if (change->activate)
    return change->new_secret ? 0
                              : change_refuse (error, prefix, "new-secret", "is needed with state=active");
  if (change->new_secret)
    return change_refuse (error, prefix, "new-secret", "is for state=active only");
  if (has_time)
    return change_refuse (error, prefix, "iter-time", "is for state=active only");
  return change->old_secret || change->slot >= 0
             ? 0
             : change_refuse (error, prefix, "keyslot",
                              "or old-secret must say which key slots state=inactive is for");
}

int
luks_change_read (const TnOptions *options, const char *prefix, unsigned slots, LuksChange *change,
                  GError **error)
{
  const char *state = change_get (options, prefix, "state");
  uint64_t slot, time;
  *change = (LuksChange){ .slot = -1 };
  if (!state)
    return change_refuse (error, prefix, "state",
                          "must say what is to become of a key slot: active or inactive");
  change->activate = strcmp (state, "active") == 0;
  change->force = tn_options_bool (options, "force");
  if (change_number (options, prefix, "keyslot", &slot))
    change->slot = (int) MIN (slot, slots);
  const bool has_time = change_number (options, prefix, "iter-time", &time);
  change->iter_time = has_time ? (uint32_t) CLAMP (time, 1, 600000) : DEFAULT_ITER_TIME;
  int rc = change_secret (options, prefix, "new-secret", &change->new_secret, error);
  if (!rc)
    rc = change_secret (options, prefix, "old-secret", &change->old_secret, error);
  if (!rc)
    rc = change_check (change, has_time, prefix, error);
  if (!rc && change->slot >= (int) slots)
    rc =
        change_refuse (error, prefix, "keyslot", slots == LUKS1_SLOTS ? "must be 0 to 7" : "must be 0 to 31");
  if (rc)
    luks_change_clear (change);
  return rc;
}

void
luks_change_clear (LuksChange *change)
{
  g_clear_pointer (&change->new_secret, tn_secret_free);
  g_clear_pointer (&change->old_secret, tn_secret_free);
}

/* ---- The slots ---- */

static uint32_t
used_slots (const Luks1 *header)
{
  uint32_t used = 0;
  for (unsigned i = 0; i < LUKS1_SLOTS; i++)
    used |= header->slots[i].used ? 1u << i : 0;
  return used;
}

/* Everything written before, then @next in place of @header. */
static int
replace_header (TnNode *file, uint64_t base, Luks1 *header, const Luks1 *next, GError **error)
{
  int rc = tn_node_flush (file, error);
  if (!rc)
    rc = luks1_store_in_order (file, base, next, error);
  if (!rc)
    *header = *next;
  return rc;
}

/* ---- Forgetting ---- */

/* Noise over the areas of the slots @chosen, then a header without them. */
static int
forget_slots (TnNode *file, uint64_t base, Luks1 *header, uint32_t chosen, GError **error)
{
  Luks1 next = *header;
  int rc = 0;
  for (unsigned i = 0; i < LUKS1_SLOTS && !rc; i++) {
    if (!(chosen >> i & 1))
      continue;
    next.slots[i].used = false;
    rc = next.slots[i].offset ? luks_slot_wipe (file, base, &next.slots[i], error) : 0;
  }
  return rc ? rc : replace_header (file, base, header, &next, error);
}

/* ---- Adding ---- */

static int
choose_slot (const LuksChange *change, const Luks1 *header, unsigned *slot, GError **error)
{
  const uint32_t used = used_slots (header);
  if (change->slot >= 0) {
    *slot = (unsigned) change->slot;
    if (!(used >> *slot & 1))
      return header->slots[*slot].offset
                 ? 0
                 : tn_fail (error, TN_BLOCK_ERROR, EINVAL, "key slot %u has no room in this image", *slot);
    if (used == 1u << *slot)
      return tn_fail (
          error, TN_BLOCK_ERROR, EBUSY,
          "key slot %u is the only one in use: add the new secret in another, then erase this one", *slot);
    return change->force ? 0
                         : tn_fail (error, TN_BLOCK_ERROR, EBUSY,
                                    "key slot %u is in use: erase it first, or use --force", *slot);
  }
  for (*slot = 0; *slot < LUKS1_SLOTS; ++*slot)
    if (!header->slots[*slot].used && header->slots[*slot].offset)
      return 0;
  return tn_fail (error, TN_BLOCK_ERROR, ENOSPC, "all its key slots are in use: erase one first");
}

static int
fill_slot (TnNode *file, uint64_t base, const LuksChange *change, Luks1 *header, unsigned index,
           const void *key, GError **error)
{
  int rc = header->slots[index].used ? forget_slots (file, base, header, 1u << index, error) : 0;
  Luks1 next = *header;
  LuksSlot *slot = &next.slots[index];
  if (!rc)
    rc = luks_kdf_tune (&slot->kdf, slot->area_key_bytes, change->iter_time, error);
  if (!rc)
    rc = luks_slot_store (file, base, slot, change->new_secret, key, error);
  slot->used = true;
  return rc ? rc : replace_header (file, base, header, &next, error);
}

static int
add_secret (TnNode *file, uint64_t base, const LuksChange *change, const TnSecret *opened, Luks1 *header,
            GError **error)
{
  const TnSecret *secret = change->old_secret ? change->old_secret : opened;
  unsigned index = 0, from;
  int rc = choose_slot (change, header, &index, error);
  if (rc)
    return rc;
  if (!secret)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "a secret that opens it is needed: give old-secret");
  void *key = tn_secure_new (LUKS_MAX_KEY);
  rc = luks1_unlock (file, base, header, secret, false, key, &from, error);
  if (!rc)
    rc = fill_slot (file, base, change, header, index, key, error);
  tn_secure_free (key);
  return rc;
}

/* ---- Erasing ---- */

/* The slots in use among @among that the old secret opens. */
static int
find_old (TnNode *file, uint64_t base, const LuksChange *change, const Luks1 *header, uint32_t among,
          uint32_t *found, GError **error)
{
  void *key = tn_secure_new (LUKS_MAX_KEY);
  int rc = 0;
  *found = 0;
  for (unsigned i = 0; i < LUKS1_SLOTS && rc >= 0; i++) {
    if (!(among >> i & 1) || !header->slots[i].used)
      continue;
    rc = luks_slot_open (file, base, &header->slots[i], &header->digest, change->old_secret, key, error);
    *found |= rc > 0 ? 1u << i : 0;
  }
  tn_secure_free (key);
  if (rc < 0)
    return rc;
  return *found ? 0
                : tn_fail (error, TN_BLOCK_ERROR, EPERM, "old-secret opens no key slot: nothing is erased");
}

static int
choose_erased (TnNode *file, uint64_t base, const LuksChange *change, const Luks1 *header, uint32_t *chosen,
               GError **error)
{
  const uint32_t used = used_slots (header), among = change->slot >= 0 ? 1u << change->slot : used;
  int rc = 0;
  *chosen = among;
  if (change->old_secret)
    rc = find_old (file, base, change, header, among, chosen, error);
  else if (!(used & among) && !change->force)
    rc = tn_fail (error, TN_BLOCK_ERROR, EINVAL, "key slot %d is not in use", change->slot);
  if (rc)
    return rc;
  if (!(used & ~*chosen) && !change->force)
    return tn_fail (
        error, TN_BLOCK_ERROR, EPERM,
        "no other key slot is in use: without these all data is lost; use --force if that is meant");
  return 0;
}

static int
erase_slots (TnNode *file, uint64_t base, const LuksChange *change, Luks1 *header, GError **error)
{
  uint32_t chosen = 0;
  const int rc = choose_erased (file, base, change, header, &chosen, error);
  return rc ? rc : forget_slots (file, base, header, chosen, error);
}

int
luks1_change (TnNode *file, uint64_t base, const LuksChange *change, const TnSecret *opened, Luks1 *header,
              GError **error)
{
  return change->activate ? add_secret (file, base, change, opened, header, error)
                          : erase_slots (file, base, change, header, error);
}
