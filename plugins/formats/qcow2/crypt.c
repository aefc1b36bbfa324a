/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Encrypted images.  Guest clusters are encrypted, tables are not.  LUKS: a LUKS1 header lies in clusters of
 * its own, and sectors are numbered by their place in the file.  AES, of old: the passphrase is the key,
 * sectors are numbered by guest offset; such images are read, not made.
 */
#include "../common/luks/luks.h"
#include "../common/old-aes.h"
#include "crypt.h"

#define PREFIX "encrypt."
#define MAX_HEADER (16u << 20)

int
qcow2_crypt_extension (Qcow2 *q, const uint8_t *p, uint32_t length, GError **error)
{
  const uint64_t mask = (1ull << q->header.cluster_bits) - 1, size = tn_node_size (q->file);
  if (length != 16) {
    return qcow2_fail (q, error, EINVAL, "the encryption extension is %u bytes long instead of 16", length);
  }
  q->crypt_offset = tn_load_be64 (p);
  q->crypt_length = tn_load_be64 (p + 8);
  if (q->crypt_offset == 0 || (q->crypt_offset & mask) || q->crypt_length < LUKS1_HEADER
      || q->crypt_length > MAX_HEADER || q->crypt_offset > size || q->crypt_length > size - q->crypt_offset) {
    return qcow2_fail (q, error, EINVAL,
                       "the encryption header (%" PRIu64 " bytes at 0x%" PRIx64 ") is not within the file",
                       q->crypt_length, q->crypt_offset);
  }
  return 0;
}

/* ---- Opening ---- */

static int
use_cipher (Qcow2 *q, TnSectorCipher *cipher, uint32_t flags)
{
  if (cipher == NULL) {
    return -EINVAL;
  }
  tn_node_set_cipher (q->node, cipher, flags);
  q->cipher = cipher;
  return 0;
}

static int
open_aes (Qcow2 *q, const TnSecret *secret, GError **error)
{
  return q->writable ? qcow2_fail (q, error, EROFS, OLD_AES_NOT_WRITTEN)
                     : use_cipher (q, old_aes_open (secret, error), 0);
}

static int
load_luks (Qcow2 *q, Luks1 *header, GError **error)
{
  if (q->crypt_length == 0) {
    return qcow2_fail (q, error, EINVAL, "it is encrypted (LUKS), but does not say where its LUKS header is");
  }
  int ret = luks1_load (q->file, q->crypt_offset, header, error);
  return ret < 0 ? ret : luks1_check (header, q->crypt_length, error);
}

static int
open_luks (Qcow2 *q, const TnSecret *secret, GError **error)
{
  Luks1 header;
  unsigned slot;
  int ret = load_luks (q, &header, error);
  if (ret < 0) {
    return ret;
  }
  TnSectorCipher *cipher = NULL;
  void *key = tn_secure_new (LUKS_MAX_KEY);
  ret = luks1_unlock (q->file, q->crypt_offset, &header, secret, q->flags & TN_OPEN_UNTRUSTED, key, &slot,
                      error);
  if (ret == 0) {
    cipher = luks_cipher_open (&header.cipher, LUKS_SECTOR, 0, key, header.key_bytes, error);
  }
  tn_secure_free (key);
  return ret < 0 ? ret : use_cipher (q, cipher, TN_NODE_CIPHER_BY_PLACE);
}

static int
check_told_format (Qcow2 *q, const TnOptions *options, GError **error)
{
  const char *told = tn_options_get (options, PREFIX "format");
  const char *is = q->header.crypt_method == QCOW2_CRYPT_AES ? "aes" : "luks";
  if (told == NULL || (q->header.crypt_method && strcmp (told, is) == 0)) {
    return 0;
  }
  return q->header.crypt_method
             ? qcow2_fail (q, error, EINVAL, "it is encrypted with '%s', not '%s'", is, told)
             : qcow2_fail (q, error, EINVAL, "it is not encrypted: leave encrypt.format out");
}

int
qcow2_crypt_open (Qcow2 *q, const TnOptions *options, GError **error)
{
  int ret = check_told_format (q, options, error);
  if (ret < 0 || q->header.crypt_method == 0) {
    return ret;
  }
  /* A check looks at tables only. */
  if ((q->flags & TN_OPEN_CHECK) && !tn_options_has (options, PREFIX "key-secret")) {
    return 0;
  }
  g_autoptr (GError) why = NULL;
  g_autoptr (TnSecret) secret = luks_params_secret (options, PREFIX, &why);
  if (secret) {
    ret =
        q->header.crypt_method == QCOW2_CRYPT_AES ? open_aes (q, secret, &why) : open_luks (q, secret, &why);
  } else {
    ret = -EINVAL;
  }
  if (ret == 0) {
    q->secret_id = g_strdup (tn_options_get (options, PREFIX "key-secret"));
  }
  if (why) {
    const char *name = tn_node_filename (q->file);
    g_propagate_error (error, g_steal_pointer (&why));
    if (error && !strstr ((*error)->message, name)) {
      g_prefix_error (error, "%s: ", name);
    }
  }
  return ret;
}

/* Images that are written have LUKS, which goes by the place. */
void
qcow2_encrypt (const Qcow2 *q, uint64_t guest, uint64_t host, void *bytes, size_t length)
{
  if (q->cipher) {
    tn_sector_cipher_encrypt (q->cipher, q->header.crypt_method == QCOW2_CRYPT_AES ? guest : host, bytes,
                              bytes, length);
  }
}

void
qcow2_decrypt (const Qcow2 *q, uint64_t guest, uint64_t host, void *bytes, size_t length)
{
  if (q->cipher) {
    tn_sector_cipher_decrypt (q->cipher, q->header.crypt_method == QCOW2_CRYPT_AES ? guest : host, bytes,
                              bytes, length);
  }
}

int
qcow2_crypt_write_zeroes (Qcow2 *q, const TnExtent *extent, GError **error)
{
  if (q->cipher == NULL) {
    return tn_node_write_zeroes (extent->source, extent->source_offset, extent->length, 0, error);
  }
  g_autofree uint8_t *buffer = g_malloc0 (extent->length);
  qcow2_encrypt (q, extent->offset, extent->source_offset, buffer, extent->length);
  return tn_node_write (extent->source, extent->source_offset, buffer, extent->length, error);
}

/* ---- Making ---- */

static bool
is_wanted (const TnOptions *options)
{
  return tn_options_has (options, PREFIX "format");
}

int
qcow2_crypt_check_options (const TnOptions *options, const Qcow2Layout *layout, GError **error)
{
  static const char *const others[] = { "key-secret",     "cipher-alg", "cipher-mode", "ivgen-alg",
                                        "ivgen-hash-alg", "hash-alg",   "iter-time" };
  const char *format = tn_options_get (options, PREFIX "format");
  if (tn_options_bool (options, "encryption") || g_strcmp0 (format, "aes") == 0) {
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "qcow2: AES encryption is not made any more: give encrypt.format=luks");
  }
  for (size_t i = 0; format == NULL && i < G_N_ELEMENTS (others); i++) {
    g_autofree char *key = g_strconcat (PREFIX, others[i], NULL);
    if (tn_options_has (options, key)) {
      return tn_fail (error, TN_OPTION_ERROR, EINVAL, "qcow2: %s needs encrypt.format=luks", key);
    }
  }
  if (format && (layout->prealloc != TN_PREALLOC_OFF || layout->data_file)) {
    return tn_fail (error, TN_OPTION_ERROR, ENOTSUP,
                    "qcow2: encryption goes together with neither preallocation nor data_file");
  }
  LuksParams params;
  return format ? luks_params_read (options, PREFIX, &params, error) : 0;
}

int
qcow2_crypt_check_secret (const TnOptions *options, GError **error)
{
  if (!is_wanted (options)) {
    return 0;
  }
  LuksParams params;
  Luks1 header;
  g_autoptr (TnSecret) secret = luks_params_secret (options, PREFIX, error);
  if (secret == NULL) {
    return -EINVAL;
  }
  int ret = luks_params_read (options, PREFIX, &params, error);
  return ret < 0 ? ret : luks1_plan (&params, &header, error);
}

uint64_t
qcow2_crypt_size (const TnOptions *options)
{
  LuksParams params;
  Luks1 header;
  if (!is_wanted (options) || luks_params_read (options, PREFIX, &params, NULL)
      || luks1_plan (&params, &header, NULL)) {
    return 0;
  }
  return header.payload_offset;
}

static void
note_extension (Qcow2 *q)
{
  uint8_t p[16];
  tn_store_be64 (p, q->crypt_offset);
  tn_store_be64 (p + 8, q->crypt_length);
  Qcow2Extension extension = { QCOW2_EXTENSION_CRYPT, g_bytes_new (p, sizeof p) };
  g_array_append_val (q->extensions, extension);
  q->header.crypt_method = QCOW2_CRYPT_LUKS;
}

int
qcow2_crypt_create (Qcow2 *q, const TnOptions *options, GError **error)
{
  if (!is_wanted (options)) {
    return 0;
  }
  LuksParams params;
  Luks1 header;
  int ret = luks_params_read (options, PREFIX, &params, error);
  g_autoptr (TnSecret) secret = ret < 0 ? NULL : luks_params_secret (options, PREFIX, error);
  if (secret == NULL || luks1_plan (&params, &header, error) < 0) {
    return -EINVAL;
  }
  const uint64_t clusters = qcow2_clusters (q, header.payload_offset);
  if ((ret = qcow2_alloc_contiguous (q, clusters, &q->crypt_offset, error)) < 0) {
    return ret;
  }
  q->crypt_length = header.payload_offset;
  ret = tn_node_write_zeroes (q->file, q->crypt_offset, clusters << q->cluster_bits, 0, error);
  if (ret == 0) {
    ret = luks1_write_new (q->file, q->crypt_offset, &header, &params, secret, error);
  }
  if (ret < 0) {
    return ret;
  }
  note_extension (q);
  return qcow2_header_write (q, error);
}

/* ---- Key slots ---- */

static bool
is_slot_option (const char *name)
{
  static const char *const names[] = { "state", "keyslot", "new-secret", "old-secret", "iter-time", NULL };
  return g_strv_contains (names, name + strlen (PREFIX));
}

int
qcow2_crypt_check_amend (Qcow2 *q, const TnOptions *options, bool *wanted, GError **error)
{
  *wanted = false;
  for (size_t i = 0; i < tn_options_count (options); i++) {
    const char *name, *value;
    tn_options_pair (options, i, &name, &value);
    if (!g_str_has_prefix (name, PREFIX)) {
      continue;
    }
    const bool same = strcmp (name, PREFIX "format") == 0 && strcmp (value, "luks") == 0
                      && q->header.crypt_method == QCOW2_CRYPT_LUKS;
    if (!same && !is_slot_option (name)) {
      return qcow2_fail (q, error, ENOTSUP, "%s cannot be changed: convert the image instead", name);
    }
    *wanted |= !same;
  }
  if (!*wanted) {
    return 0;
  }
  if (q->header.crypt_method != QCOW2_CRYPT_LUKS) {
    return qcow2_fail (q, error, EINVAL, "it is not encrypted with LUKS and has no key slots");
  }
  /* What cannot be read is refused before anything is changed. */
  LuksChange change;
  int ret = luks_change_read (options, PREFIX, LUKS1_SLOTS, &change, error);
  if (ret == 0) {
    luks_change_clear (&change);
  }
  return ret;
}

int
qcow2_crypt_amend (Qcow2 *q, const TnOptions *options, GError **error)
{
  LuksChange change;
  Luks1 header;
  int ret = load_luks (q, &header, error);
  if (ret < 0 || (ret = luks_change_read (options, PREFIX, LUKS1_SLOTS, &change, error)) < 0) {
    return ret;
  }
  g_autoptr (TnSecret) opened = q->secret_id ? tn_secret_get (q->secret_id, NULL) : NULL;
  ret = luks1_change (q->file, q->crypt_offset, &change, opened, &header, error);
  luks_change_clear (&change);
  if (ret < 0 && error && *error && !strstr ((*error)->message, tn_node_filename (q->file))) {
    g_prefix_error (error, "%s: ", tn_node_filename (q->file));
  }
  return ret;
}

/* ---- For people ---- */

void
qcow2_crypt_describe (Qcow2 *q, TnJson *json)
{
  if (q->header.crypt_method == 0) {
    return;
  }
  Luks1 header;
  tn_json_object_begin (json, "encrypt");
  tn_json_string (json, "format", q->header.crypt_method == QCOW2_CRYPT_AES ? "aes" : "luks");
  if (q->header.crypt_method == QCOW2_CRYPT_LUKS && load_luks (q, &header, NULL) == 0) {
    luks1_describe (&header, json);
  }
  tn_json_object_end (json);
}
