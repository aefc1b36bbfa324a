/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the JSON text of a version 2 header says.  Every member is looked up by its path. */
#include "luks2.h"

#include <stdarg.h>

#define MAX_TEXT (1u << 20) /* real ones have a few KiB */
#define MAX_VALUES 16384
#define MAX_NAME 64

/* ---- Paths to values ---- */

typedef struct Frame {
  gsize length; /* of the path outside */
  bool array;
  unsigned index;
} Frame;

typedef struct Document {
  GHashTable *values; /* "keyslots.0.kdf.type" → text */
  GString *path;
  GArray *frames;
} Document;

static int bad (GError **error, const char *format, ...) TN_PRINTF (2, 3);

static int
bad (GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: the header's JSON text: %s", text);
}

/* A name with a dot could be taken for two: nothing that is looked up has one. */
static void
append_name (Document *document, const char *name)
{
  Frame *frame =
      document->frames->len ? &g_array_index (document->frames, Frame, document->frames->len - 1) : NULL;
  if (!frame)
    return;
  if (document->path->len)
    g_string_append_c (document->path, '.');
  if (frame->array)
    g_string_append_printf (document->path, "%u", frame->index++);
  else
    g_string_append (document->path, name && !strchr (name, '.') && strlen (name) <= MAX_NAME ? name : "?");
}

static int
on_event (TnJsonType type, const char *name, const char *value, void *opaque, GError **error)
{
  Document *document = opaque;
  gsize outside = document->path->len;
  if (type == TN_JSON_OBJECT_END || type == TN_JSON_ARRAY_END) {
    Frame *last = &g_array_index (document->frames, Frame, document->frames->len - 1);
    g_string_truncate (document->path, last->length);
    g_array_set_size (document->frames, document->frames->len - 1);
    return 0;
  }
  append_name (document, name);
  if (type == TN_JSON_OBJECT_BEGIN || type == TN_JSON_ARRAY_BEGIN) {
    Frame frame = { outside, type == TN_JSON_ARRAY_BEGIN, 0 };
    g_array_append_val (document->frames, frame);
    return 0;
  }
  /* What tokens hold is other programs' own. */
  if (!g_str_has_prefix (document->path->str, "tokens."))
    g_hash_table_replace (document->values, g_strdup (document->path->str), g_strdup (value ? value : ""));
  g_string_truncate (document->path, outside);
  return g_hash_table_size (document->values) <= MAX_VALUES ? 0 : bad (error, "it has too many members");
}

static const char *get (const Document *document, const char *format, ...) TN_PRINTF (2, 3);

static const char *
get (const Document *document, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *path = g_strdup_vprintf (format, args);
  va_end (args);
  return g_hash_table_lookup (document->values, path);
}

static int
get_name (const Document *document, const char *path, char *to, GError **error)
{
  const char *text = get (document, "%s", path);
  return text && luks_name (to, text) ? 0 : bad (error, "%s is missing or too long", path);
}

static int
get_uint (const Document *document, const char *path, uint64_t max, uint64_t *value, GError **error)
{
  const char *text = get (document, "%s", path);
  guint64 number;
  if (!text || !g_ascii_string_to_unsigned (text, 10, 0, max, &number, NULL))
    return bad (error, "%s is missing or no number up to %" G_GUINT64_FORMAT, path, max);
  *value = number;
  return 0;
}

static int
get_uint32 (const Document *document, const char *path, uint32_t *value, GError **error)
{
  uint64_t wide = 0;
  int rc = get_uint (document, path, UINT32_MAX, &wide, error);
  *value = (uint32_t) wide;
  return rc;
}

static int
get_bytes (const Document *document, const char *path, uint8_t *to, size_t room, size_t *length,
           GError **error)
{
  const char *text = get (document, "%s", path);
  if (!text || strlen (text) > 2 * room)
    return bad (error, "%s is missing or too long", path);
  g_autofree guchar *bytes = g_base64_decode (text, length);
  if (*length > room)
    return bad (error, "%s is too long", path);
  memcpy (to, bytes, *length);
  return 0;
}

/* "aes-xts-plain64" */
static int
get_cipher (const Document *document, const char *path, LuksCipher *cipher, GError **error)
{
  const char *text = get (document, "%s", path);
  g_auto (GStrv) parts = g_strsplit (text ? text : "", "-", 2);
  if (!parts[0] || !parts[1])
    return bad (error, "%s is no cipher", path);
  return luks_cipher_parse (parts[0], parts[1], cipher, error);
}

/* ---- Key slots ---- */

static int
read_kdf (const Document *document, const char *at, LuksKdf *kdf, GError **error)
{
#define PATH(member) path = (g_free (path), g_strdup_printf ("%s." member, at))
  char *path = NULL;
  int rc = get_name (document, PATH ("type"), kdf->name, error);
  if (!rc)
    rc = get_bytes (document, PATH ("salt"), kdf->salt, sizeof kdf->salt, &kdf->salt_length, error);
  if (!rc && strcmp (kdf->name, "pbkdf2") == 0) {
    rc = get_name (document, PATH ("hash"), kdf->digest, error);
    if (!rc)
      rc = get_uint32 (document, PATH ("iterations"), &kdf->iterations, error);
  } else if (!rc) {
    rc = get_uint32 (document, PATH ("time"), &kdf->iterations, error);
    if (!rc)
      rc = get_uint32 (document, PATH ("memory"), &kdf->memory_kib, error);
    if (!rc)
      rc = get_uint32 (document, PATH ("cpus"), &kdf->lanes, error);
  }
  g_free (path);
  return rc;
}

static int
read_area (const Document *document, const char *at, LuksSlot *slot, GError **error)
{
  char *path = NULL;
  const char *type = get (document, "%s.area.type", at);
  if (g_strcmp0 (type, "raw") != 0)
    return bad (error, "%s.area has the unknown type '%.32s'", at, type ? type : "");
  int rc = get_uint (document, PATH ("area.offset"), INT64_MAX, &slot->offset, error);
  if (!rc)
    rc = get_uint (document, PATH ("area.size"), INT64_MAX, &slot->size, error);
  if (!rc)
    rc = get_uint32 (document, PATH ("area.key_size"), &slot->area_key_bytes, error);
  if (!rc)
    rc = get_cipher (document, PATH ("area.encryption"), &slot->cipher, error);
  g_free (path);
  return rc;
}

static int
read_slot (const Document *document, unsigned id, Luks2Slot *out, GError **error)
{
  g_autofree char *at = g_strdup_printf ("keyslots.%u", id);
  LuksSlot *slot = &out->slot;
  char *path = NULL;
  if (g_strcmp0 (get (document, "%s.type", at), "luks2") != 0)
    return 0; /* another kind: its owner knows */
  const char *priority = get (document, "%s.priority", at);
  out->ignored = g_strcmp0 (priority, "0") == 0;
  out->first = g_strcmp0 (priority, "2") == 0;
  int rc = get_uint32 (document, PATH ("key_size"), &slot->key_bytes, error);
  if (!rc)
    rc = get_uint32 (document, PATH ("af.stripes"), &slot->stripes, error);
  if (!rc)
    rc = get_name (document, PATH ("af.hash"), slot->af_digest, error);
  if (!rc)
    rc = read_area (document, at, slot, error);
  if (!rc)
    rc = read_kdf (document, PATH ("kdf"), &slot->kdf, error);
  if (!rc)
    rc = luks_slot_check (slot, id, error);
  g_free (path);
  slot->used = !rc;
  return rc;
}

/* ---- Digests ---- */

static int
read_ids (const Document *document, const char *path, uint32_t *bits, GError **error)
{
  const char *text;
  for (unsigned i = 0; (text = get (document, "%s.%u", path, i)); i++) {
    guint64 id;
    if (!g_ascii_string_to_unsigned (text, 10, 0, LUKS2_SLOTS - 1, &id, NULL))
      return bad (error, "%s.%u is no number below %u", path, i, LUKS2_SLOTS);
    *bits |= 1u << id;
  }
  return 0;
}

static int
read_digest (const Document *document, unsigned id, Luks2Digest *out, GError **error)
{
  g_autofree char *at = g_strdup_printf ("digests.%u", id);
  char *path = NULL;
  if (g_strcmp0 (get (document, "%s.type", at), "pbkdf2") != 0)
    return bad (error, "%s has an unknown type", at);
  int rc = read_kdf (document, at, &out->digest.kdf, error);
  if (!rc)
    rc = get_bytes (document, PATH ("digest"), out->digest.bytes, sizeof out->digest.bytes,
                    &out->digest.length, error);
  if (!rc)
    rc = read_ids (document, PATH ("keyslots"), &out->slots, error);
  if (!rc)
    rc = read_ids (document, PATH ("segments"), &out->segments, error);
  if (!rc && out->digest.length < 16)
    rc = bad (error, "%s is too short", at);
  if (!rc)
    rc = luks_kdf_check (&out->digest.kdf, at, error);
  g_free (path);
  out->used = !rc;
  return rc;
}

/* ---- The segment ---- */

static int
check_segment_kind (const Document *document, const char *at, GError **error)
{
  const char *type = get (document, "%s.type", at);
  if (g_strcmp0 (type, "crypt") != 0)
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "LUKS: data of type '%.32s' is not supported",
                    type ? type : "");
  if (get (document, "%s.integrity.type", at))
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "LUKS: data with integrity tags is not supported");
  return 0;
}

static int
read_segment (const Document *document, unsigned id, Luks2 *header, GError **error)
{
  g_autofree char *at = g_strdup_printf ("segments.%u", id);
  char *path = NULL;
  header->segment = id;
  int rc = check_segment_kind (document, at, error);
  if (!rc)
    rc = get_uint (document, PATH ("offset"), INT64_MAX / 2, &header->offset, error);
  if (!rc && g_strcmp0 (get (document, "%s.size", at), "dynamic") != 0) {
    rc = get_uint (document, PATH ("size"), INT64_MAX / 2, &header->size, error);
    if (!rc && !header->size)
      rc = bad (error, "%s has no bytes", at);
  }
  if (!rc)
    rc = get_uint (document, PATH ("iv_tweak"), UINT64_MAX, &header->iv_offset, error);
  if (!rc)
    rc = get_uint32 (document, PATH ("sector_size"), &header->sector_size, error);
  if (!rc)
    rc = get_cipher (document, PATH ("encryption"), &header->cipher, error);
  if (!rc)
    g_strlcpy (header->encryption, get (document, "%s.encryption", at), sizeof header->encryption);
  g_free (path);
#undef PATH
  return rc;
}

/* ---- All of it ---- */

/* Calls @read for every object "KIND.NUMBER"; *n is how many there are. */
static int
for_each (const Document *document, const char *kind, unsigned *n,
          int (*read) (const Document *document, unsigned id, void *opaque, GError **error), void *opaque,
          GError **error)
{
  GHashTableIter iter;
  gpointer key;
  size_t skip = strlen (kind) + 1;
  *n = 0;
  g_hash_table_iter_init (&iter, document->values);
  while (g_hash_table_iter_next (&iter, &key, NULL)) {
    const char *path = key, *dot = g_str_has_prefix (path, kind) && path[skip - 1] == '.'
                                       ? strchr (path + skip, '.')
                                       : NULL;
    if (!dot || strcmp (dot, ".type") != 0)
      continue;
    g_autofree char *text = g_strndup (path + skip, (gsize) (dot - path) - skip);
    guint64 id;
    if (!g_ascii_string_to_unsigned (text, 10, 0, LUKS2_SLOTS - 1, &id, NULL))
      return bad (error, "%s has an object that is no number below %u", kind, LUKS2_SLOTS);
    int rc = read (document, (unsigned) id, opaque, error);
    if (rc)
      return rc;
    ++*n;
  }
  return 0;
}

static int
each_slot (const Document *document, unsigned id, void *opaque, GError **error)
{
  return read_slot (document, id, &((Luks2 *) opaque)->slots[id], error);
}

static int
each_digest (const Document *document, unsigned id, void *opaque, GError **error)
{
  return read_digest (document, id, &((Luks2 *) opaque)->digests[id], error);
}

static int
each_segment (const Document *document, unsigned id, void *opaque, GError **error)
{
  return read_segment (document, id, opaque, error);
}

static int
read_config (const Document *document, Luks2 *header, GError **error)
{
  const char *requirement = get (document, "config.requirements.mandatory.0");
  if (requirement)
    return tn_fail (
        error, TN_BLOCK_ERROR, ENOTSUP,
        "LUKS: the disk needs '%.32s', which is not supported (a re-encryption must be finished with "
        "cryptsetup)",
        requirement);
  uint64_t json_size = 0;
  int rc = get_uint (document, "config.json_size", LUKS2_MAX_HEADER, &json_size, error);
  if (!rc)
    rc = get_uint (document, "config.keyslots_size", LUKS2_MAX_AREAS, &header->areas_size, error);
  if (!rc && json_size + LUKS2_BINARY != header->header_size)
    rc = bad (error, "config.json_size is wrong");
  return rc;
}

static int
read_all (const Document *document, Luks2 *header, GError **error)
{
  unsigned n;
  int rc = read_config (document, header, error);
  if (!rc)
    rc = for_each (document, "segments", &n, each_segment, header, error);
  if (!rc && n != 1)
    rc = tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "LUKS: a disk of %u segments is not supported", n);
  if (!rc)
    rc = for_each (document, "keyslots", &n, each_slot, header, error);
  return rc ? rc : for_each (document, "digests", &n, each_digest, header, error);
}

int
luks2_parse_json (const char *text, Luks2 *header, GError **error)
{
  if (strlen (text) > MAX_TEXT)
    return bad (error, "it has %zu bytes, more than 1 MiB", strlen (text));
  Document document = { .values = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free),
                        .path = g_string_new (NULL),
                        .frames = g_array_new (FALSE, FALSE, sizeof (Frame)) };
  int rc = tn_json_read (text, on_event, &document, error);
  if (!rc)
    rc = read_all (&document, header, error);
  g_hash_table_unref (document.values);
  g_string_free (document.path, TRUE);
  g_array_unref (document.frames);
  return rc;
}
