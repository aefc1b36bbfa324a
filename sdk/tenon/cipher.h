/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/cipher.h
 * Block ciphers, digests and key derivation, each kind a plugin of its own so that a cryptographic library is
 * mapped only when an image is encrypted, and the sector cipher that formats give to their nodes.
 *
 * A format whose data is encrypted derives the volume's key, makes a TnSectorCipher of it and hands that to
 * tn_node_set_cipher().  From then on it answers map() and reserve() with TN_EXTENT_ENCRYPTED, and the core
 * encrypts and decrypts what it moves.
 */
#ifndef TENON_CIPHER_H
#define TENON_CIPHER_H

#include <tenon/node.h>
#include <tenon/plugin.h>

/* ---- What plugins provide ---- */

#define TN_CIPHER_MAJOR 1
#define TN_CIPHER_MINOR 0
#define TN_CIPHER_IV_SIZE 16
#define TN_CIPHER_MAX_UNIT 4096

/** A block cipher ("aes", "serpent", …) with its modes. */
typedef struct TnCipherOps {
  uint32_t size;       /**< sizeof (TnCipherOps) */
  uint32_t block_size; /**< bytes, at most TN_CIPHER_IV_SIZE */
  const uint16_t
      *key_sizes;           /**< bytes, ascending, ended by 0; XTS takes two such keys, one after the other */
  const char *const *modes; /**< "ecb", "cbc", "xts", ended by NULL */
  /** Bytes that one prepared key takes.  The core allocates them locked and wipes them. */
  size_t (*context_size) (const char *mode);
  /** Prepares a key whose length and mode have been checked. */
  int (*prepare) (void *context, const char *mode, const void *key, size_t key_length, GError **error);
  /** En- or decrypts @n units of @unit bytes (a multiple of the block size, at most
   *  TN_CIPHER_MAX_UNIT), each on its own with the next
   *  TN_CIPHER_IV_SIZE bytes of @ivs.  @in may be @out.  Any thread, several at once. */
  void (*encrypt) (const void *context, const uint8_t *ivs, size_t unit, size_t n, const void *in, void *out);
  void (*decrypt) (const void *context, const uint8_t *ivs, size_t unit, size_t n, const void *in, void *out);
} TnCipherOps;

#define TN_DIGEST_MAJOR 1
#define TN_DIGEST_MINOR 1
#define TN_DIGEST_MAX 64

/** A hash function ("sha256", …). */
typedef struct TnDigestOps {
  uint32_t size;        /**< sizeof (TnDigestOps) */
  uint32_t digest_size; /**< bytes, at most TN_DIGEST_MAX */
  /** The digest of the concatenation of @parts. */
  void (*digest) (const struct iovec *parts, unsigned n, void *out);
  /** PBKDF2 (RFC 8018) with HMAC over this hash.  Any thread. */
  void (*pbkdf2) (const void *password, size_t password_length, const void *salt, size_t salt_length,
                  uint32_t iterations, void *out, size_t out_length);
  /** Since 1.1, all of these or none: a digest of what comes bit by bit.  @context_size bytes, aligned for
   * any type, are the caller's; begin() fills them.  Any thread, one at a time per context. */
  uint32_t context_size;
  uint32_t reserved;
  void (*begin) (void *context);
  void (*update) (void *context, const void *data, size_t length);
  void (*finish) (void *context, void *out); /**< the context must be begun anew to be used again */
} TnDigestOps;

#define TN_KDF_MAJOR 1
#define TN_KDF_MINOR 0

/** A memory-hard key derivation function ("argon2id", "argon2i"). */
typedef struct TnKdfOps {
  uint32_t size; /**< sizeof (TnKdfOps) */
  uint32_t reserved;
  /** Any thread; may start @lanes more of its own.  The caller has bounded the costs. */
  int (*derive) (const void *password, size_t password_length, const void *salt, size_t salt_length,
                 uint32_t passes, uint32_t memory_kib, uint32_t lanes, void *out, size_t out_length,
                 GError **error);
} TnKdfOps;

/** The class's ops, loading its plugin when needed. */
TN_API const TnCipherOps *tn_cipher_find (const char *name, GError **error);
TN_API const TnDigestOps *tn_digest_find (const char *name, GError **error);
TN_API const TnKdfOps *tn_kdf_find (const char *name, GError **error);

/* ---- Memory for keys ---- */

/** Zeroed memory that is kept out of swap and core dumps where the system allows it; never NULL. */
TN_API void *tn_secure_new (size_t length);
/** Wipes and frees it.  NULL is ignored. */
TN_API void tn_secure_free (void *memory);

/* ---- Sector ciphers ---- */

/** An encrypted disk's cipher: en- and decrypts whole sectors by their number. */
typedef struct TnSectorCipher TnSectorCipher;

typedef struct TnSectorCipherSpec {
  uint32_t size;         /**< sizeof (TnSectorCipherSpec) */
  uint32_t sector_size;  /**< bytes that are one unit: 512 to 4096, a power of two */
  const char *algorithm; /**< "aes" */
  const char *mode;      /**< "xts" */
  const char *iv;        /**< "plain" (32 bits), "plain64", "plain64be", "essiv", "null"; NULL with "ecb" */
  const char *iv_digest; /**< "essiv" only: the hash that makes its key */
  uint64_t iv_offset;    /**< added to the sector's number (in units of 512 bytes) */
} TnSectorCipherSpec;

/** Copies what it needs of @key. */
TN_API TnSectorCipher *tn_sector_cipher_new (const TnSectorCipherSpec *spec, const void *key,
                                             size_t key_length, GError **error);
TN_API void tn_sector_cipher_free (TnSectorCipher *cipher);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnSectorCipher, tn_sector_cipher_free)
TN_API uint32_t tn_sector_cipher_sector_size (const TnSectorCipher *cipher);
/** @offset (bytes, selects the IVs) and @length are multiples of the sector size.  @in may be @out.  Any
 *  thread, several at once. */
TN_API void tn_sector_cipher_encrypt (const TnSectorCipher *cipher, uint64_t offset, const void *in,
                                      void *out, size_t length);
TN_API void tn_sector_cipher_decrypt (const TnSectorCipher *cipher, uint64_t offset, const void *in,
                                      void *out, size_t length);

typedef enum TnNodeCipherFlags {
  /** Sectors are numbered by where they stand in the extent's source, not by the disk's offsets. */
  TN_NODE_CIPHER_BY_PLACE = 1 << 0
} TnNodeCipherFlags;

/** Called by a format's open(): the cipher of extents that are TN_EXTENT_ENCRYPTED.  The node frees it after
 *  close().  Offsets of such extents are multiples of the sector size, as is the allocation unit. */
TN_API void tn_node_set_cipher (TnNode *node, TnSectorCipher *cipher, uint32_t flags);

#endif
