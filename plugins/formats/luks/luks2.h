/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * LUKS version 2: two copies of a binary header, each followed by a JSON text that describes key slots,
 * digests and segments.
 */
#ifndef FORMATS_LUKS_LUKS2_H
#define FORMATS_LUKS_LUKS2_H

#include "../common/luks/luks.h"

#define LUKS2_SLOTS 32
#define LUKS2_BINARY 4096            /* bytes before the JSON text */
#define LUKS2_MIN_HEADER 16384       /* of one copy */
#define LUKS2_MAX_HEADER (4u << 20)  /* likewise; sizes between are powers of two */
#define LUKS2_MAX_AREAS (128u << 20) /* room for key slots that is believed */

typedef struct Luks2Slot {
  LuksSlot slot;
  bool ignored; /* its passphrases are not to be tried */
  bool first;   /* to be tried before others */
} Luks2Slot;

typedef struct Luks2Digest {
  bool used;
  LuksDigest digest;
  uint32_t slots, segments; /* bits */
} Luks2Digest;

typedef struct Luks2 {
  /* The binary header. */
  uint64_t header_size, sequence, at;
  char label[49], subsystem[49], uuid[41], checksum[LUKS_NAME + 1];
  /* The JSON text. */
  uint64_t areas_size; /* room for key slots, behind the two copies */
  Luks2Slot slots[LUKS2_SLOTS];
  Luks2Digest digests[LUKS2_SLOTS];
  unsigned segment;                 /* its number */
  uint64_t offset, size, iv_offset; /* size 0: to the end */
  uint32_t sector_size;
  char encryption[2 * LUKS_NAME + 1];
  LuksCipher cipher;
} Luks2;

/* Finds a copy whose checksum is right, and reads it. */
int luks2_load (TnNode *file, Luks2 **header, GError **error);
/* The JSON text (ended by NUL) alone (luks2-json.c). */
int luks2_parse_json (const char *text, Luks2 *header, GError **error);
/* Whether everything lies where it may in a file of @size bytes; @detached: the data is elsewhere. */
int luks2_check (const Luks2 *header, uint64_t size, bool detached, GError **error);
/* Finds the disk's key and its length. */
int luks2_unlock (TnNode *file, const Luks2 *header, const TnSecret *secret, bool untrusted, void *key,
                  uint32_t *key_bytes, GError **error);

/* New headers (luks2-write.c). */
typedef struct Luks2Params {
  LuksParams common;
  LuksKdf kdf; /* with a cost of 0: to be tuned */
  uint32_t sector_size;
  const char *label;
} Luks2Params;

/* Where the data of a new image begins. */
#define LUKS2_NEW_PAYLOAD (16u << 20)
int luks2_write_new (TnNode *file, const Luks2Params *params, bool detached, const TnSecret *secret,
                     GError **error);

/* The digest that says whether a slot holds the disk's key, and its number (or NULL). */
const LuksDigest *luks2_digest_of (const Luks2 *header, unsigned slot, unsigned *number);

/* A new slot, and the digest that it is for. */
typedef struct Luks2Added {
  unsigned id, digest;
  LuksSlot slot;
  char encryption[3 * LUKS_NAME + 1];
} Luks2Added;

void luks2_write_slot (TnJson *json, const char *name, const LuksSlot *slot, const char *encryption);
/* The JSON text without the slots @removed (bits) and with @added, or NULL (luks2-edit.c). */
int luks2_edit (const char *text, uint32_t removed, const Luks2Added *added, GString **out, GError **error);
/* @opened: the secret that the image was opened with, or NULL.  *@header says what is on the disk afterwards,
 * whether it fails or not (luks2-change.c). */
int luks2_change (TnNode *file, Luks2 **header, bool detached, const LuksChange *change,
                  const TnSecret *opened, GError **error);

void luks2_describe (const Luks2 *header, TnJson *json);

#endif
