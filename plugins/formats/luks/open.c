/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening: header, key, cipher. */
#include "luks.h"

#include <stdarg.h>

int
luks_fail (Luks *s, GError **error, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "%s: %s", tn_node_filename (s->header), text);
}

bool
luks_is_detached (const Luks *s)
{
  return s->header != s->file;
}

static int
name_file (Luks *s, int rc, GError **error)
{
  if (rc && error && *error && !strstr ((*error)->message, tn_node_filename (s->header)))
    g_prefix_error (error, "%s: ", tn_node_filename (s->header));
  return rc;
}

/* ---- Headers ---- */

static int
load_v1 (Luks *s, uint32_t flags, GError **error)
{
  int rc = luks1_load (s->header, 0, &s->v1, error);
  if (rc)
    return rc;
  bool elsewhere = luks_is_detached (s) || !s->v1.payload_offset;
  uint64_t room = tn_node_size (s->header);
  rc = luks1_check (&s->v1, elsewhere ? room : MIN (room, s->v1.payload_offset), error);
  if (rc)
    return rc;
  s->version = 1;
  s->payload = s->v1.payload_offset;
  s->sector_size = LUKS_SECTOR;
  if (elsewhere && !luks_is_detached (s) && !(flags & TN_OPEN_NO_IO))
    return luks_fail (s, error, EINVAL,
                      "it is a header without data: open the data with header.filename=HEADER");
  return 0;
}

static int
load_v2 (Luks *s, GError **error)
{
  int rc = luks2_load (s->header, &s->v2, error);
  if (!rc)
    rc = luks2_check (s->v2, tn_node_size (s->header), luks_is_detached (s), error);
  if (rc)
    return rc;
  s->version = 2;
  s->payload = s->v2->offset;
  s->fixed_size = s->v2->size;
  s->sector_size = s->v2->sector_size;
  return 0;
}

static int
load_header (Luks *s, uint32_t flags, GError **error)
{
  uint8_t head[8];
  if (tn_node_size (s->header) < LUKS1_HEADER)
    return luks_fail (s, error, EINVAL, "it is too short for a LUKS header");
  int rc = tn_node_read (s->header, 0, head, sizeof head, error);
  if (rc)
    return rc;
  /* Version 2 may have lost its first copy. */
  bool v1 = memcmp (head, "LUKS\xba\xbe\0\1", sizeof head) == 0;
  rc = v1 ? load_v1 (s, flags, error) : load_v2 (s, error);
  return name_file (s, rc, error);
}

static int
find_size (Luks *s, uint64_t *size, GError **error)
{
  uint64_t whole = tn_node_size (s->file);
  if (s->payload > whole)
    return luks_fail (s, error, EINVAL,
                      "the data begins at %" G_GUINT64_FORMAT ", beyond the file's end at %" G_GUINT64_FORMAT,
                      s->payload, whole);
  if (s->fixed_size > whole - s->payload)
    return luks_fail (s, error, EINVAL, "the file ends before the data's %" G_GUINT64_FORMAT " bytes do",
                      s->fixed_size);
  *size = s->fixed_size ? s->fixed_size : whole - s->payload;
  *size -= *size % s->sector_size;
  return 0;
}

/* ---- Keys ---- */

static int
unlock (Luks *s, const TnSecret *secret, bool untrusted, void *key, TnSectorCipher **cipher, GError **error)
{
  unsigned slot;
  uint32_t length = s->v1.key_bytes;
  int rc = s->version == 1 ? luks1_unlock (s->header, 0, &s->v1, secret, untrusted, key, &slot, error)
                           : luks2_unlock (s->header, s->v2, secret, untrusted, key, &length, error);
  if (rc)
    return rc;
  *cipher = luks_cipher_open (s->version == 1 ? &s->v1.cipher : &s->v2->cipher, s->sector_size,
                              s->version == 1 ? 0 : s->v2->iv_offset, key, length, error);
  return *cipher ? 0 : -EINVAL;
}

static int
set_cipher (TnNode *node, Luks *s, const TnOptions *options, uint32_t flags, GError **error)
{
  g_autoptr (TnSecret) secret = luks_params_secret (options, "", error);
  if (!secret)
    return name_file (s, -EINVAL, error);
  TnSectorCipher *cipher = NULL;
  void *key = tn_secure_new (LUKS_MAX_KEY);
  int rc = unlock (s, secret, flags & TN_OPEN_UNTRUSTED, key, &cipher, error);
  tn_secure_free (key);
  if (!rc)
    tn_node_set_cipher (node, cipher, 0);
  return name_file (s, rc, error);
}

int
luks_open (TnNode *node, const TnOptions *options, uint32_t flags, GError **error)
{
  Luks *s = tn_node_state (node);
  s->file = s->header = tn_node_child (node, "file");
  int rc = tn_node_child_described (node, "header")
               ? tn_node_open_child (node, "header", NULL, &s->header, error)
               : 0;
  uint64_t size = 0;
  if (!rc)
    rc = load_header (s, flags, error);
  if (!rc)
    rc = find_size (s, &size, error);
  if (!rc && !(flags & TN_OPEN_NO_IO))
    rc = set_cipher (node, s, options, flags, error);
  if (rc) {
    g_clear_pointer (&s->v2, g_free);
    return rc;
  }
  s->secret_id = g_strdup (tn_options_get (options, "key-secret"));
  tn_node_set_allocation_unit (node, s->sector_size);
  tn_node_set_size (node, size);
  return 0;
}

int
luks_close (TnNode *node, GError **error)
{
  Luks *s = tn_node_state (node);
  g_clear_pointer (&s->v2, g_free);
  g_clear_pointer (&s->secret_id, g_free);
  return 0;
}
