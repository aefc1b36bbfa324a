/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * LUKS: how a passphrase becomes the key of a disk.  Shared by the format "luks" and by qcow2, which keeps a
 * LUKS1 header among its metadata.
 *
 * A key slot holds the disk's key: spread over many stripes (anti-forensic split), encrypted with a key
 * derived from the passphrase.  A digest tells whether a key is the right one.
 */
#ifndef FORMATS_COMMON_LUKS_H
#define FORMATS_COMMON_LUKS_H

#include <tenon/cipher.h>
#include <tenon/json.h>
#include <tenon/secret.h>

#define LUKS_SECTOR 512
#define LUKS_STRIPES 4000
#define LUKS_MAX_KEY 128
#define LUKS_MAX_SALT 64
#define LUKS_NAME 32

/* What a header may ask for.  PBKDF2 runs a few million rounds per second, so this is half a minute; Argon2's
 * limits are those of the tools that write such headers. */
#define LUKS_MAX_ITERATIONS (1u << 26)
#define LUKS_MAX_PASSES 1024u
#define LUKS_MAX_MEMORY_KIB (4u << 20)
#define LUKS_MAX_LANES 64u
#define LUKS_MAX_ARGON2_KIB (1u << 27) /* memory times passes */
/* Trying a secret on every slot may take twice what one slot may; of an untrusted image, part of a second. */
#define LUKS_MAX_ALL_ITERATIONS (1u << 27)
#define LUKS_MAX_ALL_ARGON2_KIB (1u << 28)
#define LUKS_UNTRUSTED_ITERATIONS (1u << 21)
#define LUKS_UNTRUSTED_ARGON2_KIB (1u << 20)

/* ---- Ciphers (cipher.c) ---- */

/* "aes-xts-plain64", taken apart. */
typedef struct LuksCipher {
  char algorithm[LUKS_NAME + 1], mode[LUKS_NAME + 1], iv[LUKS_NAME + 1], iv_digest[LUKS_NAME + 1];
} LuksCipher;

/* @mode is "xts-plain64", "cbc-essiv:sha256", "ecb". */
int luks_cipher_parse (const char *algorithm, const char *mode, LuksCipher *cipher, GError **error);
/* The reverse of the above for the mode; g_free() it. */
char *luks_cipher_mode_text (const LuksCipher *cipher);
TnSectorCipher *luks_cipher_open (const LuksCipher *cipher, uint32_t sector_size, uint64_t iv_offset,
                                  const void *key, size_t key_length, GError **error);

/* Copies a name of limited length; false when it is too long. */
bool luks_name (char *to, const char *from);
int luks_random (void *to, size_t length, GError **error);

/* ---- Anti-forensic split (af.c) ---- */

/* @in: @length times @stripes bytes. */
void luks_af_merge (const TnDigestOps *digest, const uint8_t *in, uint8_t *out, size_t length,
                    unsigned stripes);
int luks_af_split (const TnDigestOps *digest, const uint8_t *in, uint8_t *out, size_t length,
                   unsigned stripes, GError **error);

/* ---- Derivation (kdf.c) ---- */

typedef struct LuksKdf {
  char name[LUKS_NAME + 1];   /* "pbkdf2", "argon2i", "argon2id" */
  char digest[LUKS_NAME + 1]; /* PBKDF2's hash */
  uint32_t iterations;        /* PBKDF2's; Argon2's passes */
  uint32_t memory_kib, lanes; /* Argon2's */
  uint8_t salt[LUKS_MAX_SALT];
  size_t salt_length;
} LuksKdf;

/* Refuses what would take unreasonably long. @what is for messages: "key slot 3". */
int luks_kdf_check (const LuksKdf *kdf, const char *what, GError **error);
/* What all derivations together cost that opening an image may need. */
typedef struct LuksWork {
  uint64_t iterations, argon2_kib;
} LuksWork;

void luks_work_add (LuksWork *work, const LuksKdf *kdf);
/* Refuses at once what would take too long.  @untrusted: as TN_OPEN_UNTRUSTED has it. */
int luks_work_check (const LuksWork *work, bool untrusted, GError **error);
/* Both work on another thread while the coroutine waits. */
int luks_kdf_derive (const LuksKdf *kdf, const void *password, size_t password_length, void *out,
                     size_t out_length, GError **error);
/* Sets the costs (PBKDF2's iterations, Argon2's passes) so that @out_length bytes take @milliseconds here. */
int luks_kdf_tune (LuksKdf *kdf, size_t out_length, uint32_t milliseconds, GError **error);

/* ---- Key slots (slot.c) ---- */

typedef struct LuksSlot {
  bool used;
  uint32_t key_bytes;      /* of the disk's key */
  uint32_t area_key_bytes; /* of the key made from the passphrase */
  uint32_t stripes;
  char af_digest[LUKS_NAME + 1];
  LuksCipher cipher; /* of the area */
  uint64_t offset, size;
  LuksKdf kdf;
} LuksSlot;

typedef struct LuksDigest {
  LuksKdf kdf;
  uint8_t bytes[TN_DIGEST_MAX];
  size_t length;
} LuksDigest;

int luks_slot_check (const LuksSlot *slot, unsigned index, GError **error);
/* How many bytes the spread key takes, in whole sectors. */
uint64_t luks_slot_length (const LuksSlot *slot);
/* Tries the secret: 1 and the disk's key in @key, 0 when it is another one, or -errno. */
int luks_slot_open (TnNode *file, uint64_t base, const LuksSlot *slot, const LuksDigest *digest,
                    const TnSecret *secret, void *key, GError **error);
/* Writes the key's area with a new salt; the header that tells of it is the caller's. */
int luks_slot_store (TnNode *file, uint64_t base, LuksSlot *slot, const TnSecret *secret, const void *key,
                     GError **error);
/* Overwrites the area with noise. */
int luks_slot_wipe (TnNode *file, uint64_t base, const LuksSlot *slot, GError **error);
/* Makes the digest of a new key. */
int luks_digest_make (LuksDigest *digest, const void *key, size_t key_length, GError **error);

/* ---- Options of new headers (params.c) ---- */

typedef struct LuksParams {
  LuksCipher cipher;
  uint32_t key_bytes;
  char digest[LUKS_NAME + 1];
  uint32_t iter_time; /* milliseconds */
} LuksParams;

extern const char *const luks_cipher_choices[], *const luks_mode_choices[], *const luks_iv_choices[],
                                                                                *const luks_digest_choices[];

/* From options named @prefix + "cipher-alg" and so on, as QEMU names them. */
int luks_params_read (const TnOptions *options, const char *prefix, LuksParams *params, GError **error);
/* The secret that @prefix + "key-secret" names. */
TnSecret *luks_params_secret (const TnOptions *options, const char *prefix, GError **error);

/* ---- Version 1 headers (luks1.c) ---- */

#define LUKS1_HEADER 592
#define LUKS1_SLOTS 8

typedef struct Luks1 {
  LuksCipher cipher;
  char digest_name[LUKS_NAME + 1];
  char uuid[41];
  uint32_t key_bytes;
  uint64_t payload_offset;
  LuksSlot slots[LUKS1_SLOTS];
  LuksDigest digest;
} Luks1;

int luks1_parse (const uint8_t *bytes, Luks1 *header, GError **error);
/* @room: bytes from the header's beginning on that it and its key slots may take. */
int luks1_check (const Luks1 *header, uint64_t room, GError **error);
int luks1_load (TnNode *file, uint64_t base, Luks1 *header, GError **error);
/* Finds the disk's key (key_bytes at @key, which is LUKS_MAX_KEY long) and the slot that gave it. */
int luks1_unlock (TnNode *file, uint64_t base, const Luks1 *header, const TnSecret *secret, bool untrusted,
                  void *key, unsigned *slot, GError **error);
/* Lays out a header for a new disk; payload_offset is the end of the key slots. */
int luks1_plan (const LuksParams *params, Luks1 *header, GError **error);
/* Makes a new key and writes the header with it in the first slot. */
int luks1_write_new (TnNode *file, uint64_t base, Luks1 *header, const LuksParams *params,
                     const TnSecret *secret, GError **error);
/* Writes the header's sectors. */
int luks1_store (TnNode *file, uint64_t base, const Luks1 *header, GError **error);

/* The same one by one, in an order in which a power cut leaves each slot as it was or as it is to be. */
int luks1_store_in_order (TnNode *file, uint64_t base, const Luks1 *header, GError **error);

/* ---- Changing key slots (change.c) ---- */

typedef struct LuksChange {
  bool activate, force;
  int slot; /* -1: none is named */
  uint32_t iter_time;
  TnSecret *old_secret, *new_secret; /* or NULL */
} LuksChange;

/* From options named @prefix + "state" and so on, as QEMU names them; the header has @slots key slots. */
int luks_change_read (const TnOptions *options, const char *prefix, unsigned slots, LuksChange *change,
                      GError **error);
void luks_change_clear (LuksChange *change);
/* @opened: the secret that the image was opened with, or NULL.  @header says what is on the disk afterwards,
 * whether it fails or not. */
int luks1_change (TnNode *file, uint64_t base, const LuksChange *change, const TnSecret *opened,
                  Luks1 *header, GError **error);

/* As QEMU's users see it: the members of the data object. */

void luks1_describe (const Luks1 *header, TnJson *json);
/* "aes-256", as options name it; g_free() it. */
char *luks_cipher_name (const LuksCipher *cipher, uint32_t key_bytes);

#endif
