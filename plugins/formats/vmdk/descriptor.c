/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The descriptor: lines of text that VMware's tools, others' and people write.
 *
 * What is taken: either end of line, blanks around everything, names with and without quotes, keys in any
 * case, the first of two equal keys, comments and unknown keys anywhere, a missing createType or version.
 */
#include "vmdk.h"

#define CID_DIGITS 8

static bool
vmdk_is_blank (char c)
{
  return c == ' ' || c == '\t' || c == '\r';
}

static char *
vmdk_trim (char *line)
{
  while (vmdk_is_blank (*line)) {
    line++;
  }
  size_t n = strlen (line);
  while (n && vmdk_is_blank (line[n - 1])) {
    line[--n] = '\0';
  }
  return line;
}

static char *
vmdk_unquote (char *value)
{
  value = vmdk_trim (value);
  const size_t n = strlen (value);
  if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
    value[n - 1] = '\0';
    value++;
  }
  return value;
}

static void
vmdk_line_clear (void *p)
{
  VmdkLine *line = p;
  g_free (line->kind);
  g_free (line->name);
}

void
vmdk_descriptor_clear (VmdkDescriptor *d)
{
  g_free (d->text);
  g_free (d->create_type);
  g_free (d->parent_hint);
  if (d->lines) {
    g_array_unref (d->lines);
  }
  *d = (VmdkDescriptor){ .parent_cid = VMDK_NO_PARENT };
}

/* ---- Extent lines ---- */

/* The next word, which ends at a blank; a word in quotes ends at the second. */
static char *
vmdk_word (char **rest)
{
  char *word = *rest;
  while (vmdk_is_blank (*word)) {
    word++;
  }
  const bool quoted = *word == '"';
  char *end = quoted ? strchr (word + 1, '"') : word + strcspn (word, " \t\r");
  if (*word == '\0' || end == NULL) {
    return NULL;
  }
  *rest = *end ? end + 1 : end;
  *end = '\0';
  return quoted ? word + 1 : word;
}

static bool
vmdk_number (const char *word, uint64_t *number)
{
  char *end;
  if (word == NULL || !g_ascii_isdigit (*word)) {
    return false;
  }
  errno = 0;
  *number = g_ascii_strtoull (word, &end, 10);
  return errno == 0 && *end == '\0';
}

static bool
vmdk_access (const char *word, VmdkAccess *access)
{
  static const char *const words[] = { "NOACCESS", "RDONLY", "RW" };
  for (unsigned i = 0; i < G_N_ELEMENTS (words); i++) {
    if (g_ascii_strcasecmp (word, words[i]) == 0) {
      *access = (VmdkAccess) i;
      return true;
    }
  }
  return false;
}

static bool
vmdk_type (const char *word, VmdkType *type)
{
  static const struct {
    const char *word;
    VmdkType type;
  } types[] = {
    { "FLAT", VMDK_FLAT },         { "VMFS", VMDK_FLAT },       { "VMFSRDM", VMDK_FLAT },
    { "VMFSRAW", VMDK_FLAT },      { "ZERO", VMDK_ZERO },       { "SPARSE", VMDK_SPARSE },
    { "VMFSSPARSE", VMDK_SPARSE }, { "SESPARSE", VMDK_SPARSE },
  };
  for (unsigned i = 0; i < G_N_ELEMENTS (types); i++) {
    if (g_ascii_strcasecmp (word, types[i].word) == 0) {
      *type = types[i].type;
      return true;
    }
  }
  return false;
}

/* ACCESS SECTORS TYPE "NAME" [FIRST]; more words may follow. */
static int
vmdk_parse_extent (VmdkDescriptor *d, VmdkAccess access, char *rest, const char *where, GError **error)
{
  VmdkLine line = { .access = access };
  const char *sectors = vmdk_word (&rest);
  if (!vmdk_number (sectors, &line.sectors) || line.sectors > INT64_MAX / VMDK_SECTOR) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: extent %u has no sensible length (%s)", where,
                    d->lines->len + 1, sectors ? sectors : "nothing");
  }
  const char *kind = vmdk_word (&rest);
  if (kind == NULL || !vmdk_type (kind, &line.type)) {
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "%s: extent %u is of type '%s': only FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE, SESPARSE and "
                    "raw device mappings are known",
                    where, d->lines->len + 1, kind ? kind : "");
  }
  const char *name = vmdk_word (&rest);
  if (line.type != VMDK_ZERO && (name == NULL || *name == '\0')) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: extent %u names no file", where, d->lines->len + 1);
  }
  const char *first = vmdk_word (&rest);
  if (line.type == VMDK_FLAT && first
      && (!vmdk_number (first, &line.first) || line.first > INT64_MAX / VMDK_SECTOR)) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: extent %u begins at no sensible sector (%s)", where,
                    d->lines->len + 1, first);
  }
  if (d->lines->len >= VMDK_MAX_EXTENTS) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "%s: it has more than %u extents", where, VMDK_MAX_EXTENTS);
  }
  line.kind = g_strdup (kind);
  line.name = g_strdup (name);
  g_array_append_val (d->lines, line);
  return 0;
}

/* ---- Keys ---- */

static int
vmdk_parse_cid (const char *value, const char *key, uint32_t *cid, const char *where, GError **error)
{
  char *end;
  errno = 0;
  const guint64 number = g_ascii_strtoull (value, &end, 16);
  if (!g_ascii_isxdigit (*value) || *end || errno || number > UINT32_MAX) {
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: %s=%.40s is not a content id", where, key, value);
  }
  *cid = (uint32_t) number;
  return 0;
}

static int
vmdk_parse_version (const char *value, const char *where, GError **error)
{
  uint64_t version;
  if (!vmdk_number (value, &version) || version < 1 || version > 3) {
    return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP,
                    "%s: the descriptor is of version %.20s: 1 to 3 are known", where, value);
  }
  return 0;
}

static int
vmdk_parse_key (VmdkDescriptor *d, const char *key, const char *value, bool *has_parent, const char *where,
                GError **error)
{
  if (g_ascii_strcasecmp (key, "CID") == 0 && !d->has_cid) {
    d->has_cid = true;
    return vmdk_parse_cid (value, key, &d->cid, where, error);
  }
  if (g_ascii_strcasecmp (key, "parentCID") == 0 && !*has_parent) {
    *has_parent = true;
    return vmdk_parse_cid (value, key, &d->parent_cid, where, error);
  }
  if (g_ascii_strcasecmp (key, "createType") == 0 && d->create_type == NULL) {
    d->create_type = g_strdup (value);
  } else if (g_ascii_strcasecmp (key, "parentFileNameHint") == 0 && d->parent_hint == NULL) {
    d->parent_hint = g_strdup (value);
  } else if (g_ascii_strcasecmp (key, "version") == 0) {
    return vmdk_parse_version (value, where, error);
  }
  return 0;
}

static int
vmdk_parse_line (VmdkDescriptor *d, char *line, bool *has_parent, const char *where, GError **error)
{
  VmdkAccess access;
  line = vmdk_trim (line);
  if (*line == '\0' || *line == '#') {
    return 0;
  }
  char *rest = line + strcspn (line, " \t\r=");
  if (vmdk_is_blank (*rest)) {
    g_autofree char *word = g_strndup (line, (gsize) (rest - line));
    if (vmdk_access (word, &access)) {
      return vmdk_parse_extent (d, access, rest, where, error);
    }
  }
  char *equals = strchr (line, '=');
  if (equals == NULL) {
    return 0;
  }
  *equals = '\0';
  return vmdk_parse_key (d, vmdk_trim (line), vmdk_unquote (equals + 1), has_parent, where, error);
}

int
vmdk_descriptor_parse (VmdkDescriptor *d, char *text, const char *where, GError **error)
{
  bool has_parent = false;
  g_autofree char *copy = g_strdup (text);
  char *next = copy;
  *d = (VmdkDescriptor){ .text = text, .parent_cid = VMDK_NO_PARENT };
  d->lines = g_array_new (false, false, sizeof (VmdkLine));
  g_array_set_clear_func (d->lines, vmdk_line_clear);
  if (g_str_has_prefix (next, "\xef\xbb\xbf")) {
    next += 3;
  }
  while (next) {
    char *line = next, *end = strchr (line, '\n');
    next = end ? end + 1 : NULL;
    if (end) {
      *end = '\0';
    }
    int ret = vmdk_parse_line (d, line, &has_parent, where, error);
    if (ret < 0) {
      return ret;
    }
  }
  return 0;
}

bool
vmdk_descriptor_looks_right (const char *head, size_t length)
{
  g_autofree char *text = g_strndup (head, length);
  g_auto (GStrv) lines = g_strsplit (text, "\n", 64);
  for (char **p = lines; *p; p++) {
    char *line = vmdk_trim (g_str_has_prefix (*p, "\xef\xbb\xbf") ? *p + 3 : *p);
    if (g_ascii_strncasecmp (line, "# Disk DescriptorFile", 21) == 0
        || g_ascii_strncasecmp (line, "version", 7) == 0 || g_ascii_strncasecmp (line, "CID", 3) == 0
        || g_ascii_strncasecmp (line, "RW ", 3) == 0) {
      return true;
    }
    if (*line && *line != '#') {
      return false;
    }
  }
  return false;
}

/* ---- Changing ---- */

static bool
vmdk_line_has_key (const char *line, size_t length, const char *key)
{
  while (length && vmdk_is_blank (*line)) {
    line++;
    length--;
  }
  const size_t n = strlen (key);
  if (length < n || g_ascii_strncasecmp (line, key, n) != 0) {
    return false;
  }
  for (size_t i = n; i < length; i++) {
    if (!vmdk_is_blank (line[i])) {
      return line[i] == '=';
    }
  }
  return false;
}

static void
vmdk_append_key (GString *out, const char *key, const char *value, bool quoted, const char *end_of_line)
{
  const char *quote = quoted ? "\"" : "";
  g_string_append_printf (out, "%s=%s%s%s%s", key, quote, value, quote, end_of_line);
}

char *
vmdk_descriptor_with (const char *text, const char *key, const char *value, bool quoted)
{
  GString *out = g_string_new (NULL);
  const char *end_of_line = strstr (text, "\r\n") ? "\r\n" : "\n";
  bool done = false;
  size_t after_cid = 0;
  while (*text) {
    const char *end = strchr (text, '\n');
    const size_t length = end ? (size_t) (end + 1 - text) : strlen (text);
    if (vmdk_line_has_key (text, length, key)) {
      if (value && !done) {
        vmdk_append_key (out, key, value, quoted, end_of_line);
      }
      done = true;
    } else {
      g_string_append_len (out, text, (gssize) length);
    }
    if (vmdk_line_has_key (text, length, "version") || vmdk_line_has_key (text, length, "CID")
        || vmdk_line_has_key (text, length, "parentCID")) {
      after_cid = out->len;
    }
    text += length;
  }
  if (value && !done) {
    GString *line = g_string_new (NULL);
    vmdk_append_key (line, key, value, quoted, end_of_line);
    g_string_insert (out, (gssize) after_cid, line->str);
    g_string_free (line, true);
  }
  return g_string_free (out, false);
}

/* The number that a key has, or 0. */
static uint64_t
vmdk_descriptor_number (const char *text, const char *key)
{
  while (*text) {
    const char *end = strchr (text, '\n');
    const size_t length = end ? (size_t) (end + 1 - text) : strlen (text);
    if (vmdk_line_has_key (text, length, key)) {
      const char *value = strchr (text, '=') + 1;
      return g_ascii_strtoull (value + strspn (value, " \t\""), NULL, 10);
    }
    text += length;
  }
  return 0;
}

/* Behind the access of an extent line where its length begins, or NULL. */
static const char *
vmdk_find_length (const char *text)
{
  while (*text) {
    const char *end = strchr (text, '\n'), *word = text + strspn (text, " \t");
    const size_t n = strcspn (word, " \t\r\n=");
    VmdkAccess access;
    g_autofree char *first = g_strndup (word, n);
    if (vmdk_is_blank (word[n]) && vmdk_access (first, &access)) {
      return word + n + strspn (word + n, " \t");
    }
    if (end == NULL) {
      return NULL;
    }
    text = end + 1;
  }
  return NULL;
}

char *
vmdk_descriptor_resized (const char *text, uint64_t sectors)
{
  const char *length = vmdk_find_length (text), *cylinders = "ddb.geometry.cylinders";
  const uint64_t heads = vmdk_descriptor_number (text, "ddb.geometry.heads"),
                 track = vmdk_descriptor_number (text, "ddb.geometry.sectors");
  if (length == NULL) {
    return g_strdup (text);
  }
  const int before = (int) (length - text);
  char *resized =
      g_strdup_printf ("%.*s%" PRIu64 "%s", before, text, sectors, length + strspn (length, "0123456789"));
  if (heads == 0 || heads > 255 || track == 0 || track > 255
      || vmdk_descriptor_number (text, cylinders) == 0) {
    return resized;
  }
  g_autofree char *plain = resized, *value = g_strdup_printf ("%" PRIu64, sectors / (heads * track));
  return vmdk_descriptor_with (plain, cylinders, value, true);
}
