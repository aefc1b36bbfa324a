/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading manifests.  They are read at each start of each tool, so this works in place on one copy of the
 * text: GKeyFile would take some hundred allocations each, and could not name the line of a mistake. */
#include "plugin/manifest.h"

#include "plugin/kinds.h"

#define MAX_CLASSES 64
#define MAX_LIST 256
#define MAX_MAGIC 32

static const char *const empty_list[] = { NULL };

typedef struct Parser {
  TnManifest *manifest;
  TnManifestClass *current; /* NULL: the group [plugin], or none yet */
  bool in_plugin, seen_plugin;
  bool seen_version; /* of the current class */
  unsigned line;
  GArray *classes;
  GError **error;
} Parser;

static int TN_PRINTF (2, 3) fail (Parser *parser, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (parser->error, TN_PLUGIN_ERROR, EINVAL, "%s:%u: %s: reinstall or regenerate the manifest",
                  parser->manifest->path, parser->line, what);
}

/* ---- Values ---- */

static char
unescaped (char c)
{
  switch (c) {
  case 's':
    return ' ';
  case 't':
    return '\t';
  case '\\':
  case ';':
    return c;
  default:
    return '\0';
  }
}

/* Takes the next element (up to @separator, or all of it when that is NUL) out of *@text, undoing escapes in
 * place, and moves *@text behind it. */
static int
take_element (Parser *parser, char **text, char separator, char **element)
{
  char *from = *text;
  char *to = *text;
  *element = *text;
  while (*from && !(separator && *from == separator)) {
    if (*from == '\\') {
      from++;
      if (!unescaped (*from))
        return fail (parser, "unknown escape in a value");
      *to++ = unescaped (*from++);
    } else {
      *to++ = *from++;
    }
  }
  *text = *from ? from + 1 : from;
  *to = '\0';
  return 0;
}

static int
parse_text (Parser *parser, const char *key, char *value, const char **result)
{
  char *text;
  int r = take_element (parser, &value, '\0', &text);
  if (r < 0)
    return r;
  if (*result)
    return fail (parser, "'%s' is given twice", key);
  if (!*text)
    return fail (parser, "'%s' is empty", key);
  *result = text;
  return 0;
}

static int
parse_name (Parser *parser, const char *key, char *value, const char **result)
{
  int r = parse_text (parser, key, value, result);
  if (r < 0)
    return r;
  if (!tn_name_is_valid (*result))
    return fail (parser, "'%s' is not a name", *result);
  return 0;
}

static size_t
count_elements (const char *value)
{
  size_t n = 1;
  for (; *value; value++)
    n += *value == ';';
  return n;
}

static int
parse_names (Parser *parser, const char *key, char *value, const char *const **result)
{
  if (*result != empty_list)
    return fail (parser, "'%s' is given twice", key);
  size_t most = count_elements (value);
  if (most > MAX_LIST)
    return fail (parser, "'%s' has more than %d elements", key, MAX_LIST);
  const char **list = g_new0 (const char *, most + 1);
  *result = list;
  for (size_t n = 0; *value; n++) {
    char *name;
    int r = take_element (parser, &value, ';', &name);
    if (r < 0)
      return r;
    if (!tn_name_is_valid (name))
      return fail (parser, "'%s' in '%s' is not a name", name, key);
    list[n] = name;
  }
  return 0;
}

static bool
parse_version (const char *value, uint16_t *major, uint16_t *minor)
{
  char *end;
  if (!g_ascii_isdigit (*value))
    return false;
  uint64_t first = g_ascii_strtoull (value, &end, 10);
  if (*end != '.' || !g_ascii_isdigit (end[1]))
    return false;
  uint64_t second = g_ascii_strtoull (end + 1, &end, 10);
  if (*end || first > UINT16_MAX || second > UINT16_MAX)
    return false;
  *major = (uint16_t) first;
  *minor = (uint16_t) second;
  return true;
}

static int
parse_security (Parser *parser, const char *value)
{
  for (uint32_t security = TN_SECURITY_UNKNOWN; security <= TN_SECURITY_HARDENED; security++) {
    if (strcmp (value, tn_security_name (security)) != 0)
      continue;
    parser->manifest->security = security;
    return 0;
  }
  return fail (parser, "'%s' is not a security class", value);
}

/* Decodes hexadecimal digits onto themselves; the number of bytes, or -1. */
static int
decode_hex (char *text)
{
  size_t length = strlen (text);
  if (length == 0 || length % 2 || length > 2 * MAX_MAGIC)
    return -1;
  for (size_t i = 0; i < length; i += 2) {
    if (!g_ascii_isxdigit (text[i]) || !g_ascii_isxdigit (text[i + 1]))
      return -1;
    text[i / 2] = (char) (g_ascii_xdigit_value (text[i]) << 4 | g_ascii_xdigit_value (text[i + 1]));
  }
  return (int) (length / 2);
}

/* OFFSET:HEX or OFFSET:HEX/HEXMASK */
static bool
parse_magic (char *text, TnMagic *magic)
{
  char *bytes;
  errno = 0;
  magic->offset = g_ascii_strtoll (text, &bytes, 10);
  if (errno || bytes == text || *bytes != ':')
    return false;
  bytes++;
  char *mask = strchr (bytes, '/');
  if (mask)
    *mask++ = '\0';
  int length = decode_hex (bytes);
  if (length < 0 || (mask && decode_hex (mask) != length))
    return false;
  magic->length = (uint32_t) length;
  magic->bytes = (const uint8_t *) bytes;
  magic->mask = (const uint8_t *) mask;
  return true;
}

static int
parse_magics (Parser *parser, char *value)
{
  if (parser->current->magics)
    return fail (parser, "'magics' is given twice");
  size_t most = count_elements (value);
  if (most > MAX_LIST)
    return fail (parser, "'magics' has more than %d elements", MAX_LIST);
  TnMagic *magics = g_new0 (TnMagic, most + 1);
  parser->current->magics = magics;
  for (size_t n = 0; *value; n++) {
    char *text;
    int r = take_element (parser, &value, ';', &text);
    if (r < 0)
      return r;
    if (!parse_magic (text, &magics[n]))
      return fail (parser,
                   "'magics' has an element that is not OFFSET:BYTES/MASK in hexadecimal, at most %d bytes",
                   MAX_MAGIC);
  }
  return 0;
}

/* ---- Lines ---- */

static int
parse_plugin_key (Parser *parser, const char *key, char *value)
{
  TnManifest *manifest = parser->manifest;
  if (strcmp (key, "name") == 0)
    return parse_name (parser, key, value, &manifest->name);
  if (strcmp (key, "version") == 0)
    return parse_text (parser, key, value, &manifest->version);
  if (strcmp (key, "licence") == 0)
    return parse_text (parser, key, value, &manifest->licence);
  if (strcmp (key, "package") == 0)
    return parse_name (parser, key, value, &manifest->package);
  if (strcmp (key, "requires-codecs") == 0)
    return parse_names (parser, key, value, &manifest->requires_codecs);
  if (strcmp (key, "security") == 0)
    return parse_security (parser, value);
  if (strcmp (key, "abi") == 0 && !parse_version (value, &manifest->abi_major, &manifest->abi_minor))
    return fail (parser, "'abi' is not MAJOR.MINOR");
  return 0;
}

static int
parse_class_key (Parser *parser, const char *key, char *value)
{
  TnClassInfo *info = &parser->current->info;
  if (strcmp (key, "version") == 0) {
    parser->seen_version = parse_version (value, &info->major, &info->minor);
    return parser->seen_version ? 0 : fail (parser, "'version' is not MAJOR.MINOR");
  }
  if (strcmp (key, "summary") == 0)
    return parse_text (parser, key, value, &info->summary);
  if (strcmp (key, "aliases") == 0)
    return parse_names (parser, key, value, &info->aliases);
  if (strcmp (key, "suffixes") == 0)
    return parse_names (parser, key, value, &info->suffixes);
  if (strcmp (key, "schemes") == 0)
    return parse_names (parser, key, value, &info->schemes);
  if (strcmp (key, "magics") == 0)
    return parse_magics (parser, value);
  return 0;
}

static int
parse_key (Parser *parser, char *line)
{
  char *value = strchr (line, '=');
  if (!value || value == line)
    return fail (parser, "neither KEY=VALUE nor [GROUP]");
  *value++ = '\0';
  g_strchomp (line);
  value = g_strchug (value);
  if (parser->current)
    return parse_class_key (parser, line, value);
  if (parser->in_plugin)
    return parse_plugin_key (parser, line, value);
  return fail (parser, "'%s' stands before the first group", line);
}

static int
finish_class (Parser *parser)
{
  if (!parser->current)
    return 0;
  const TnClassInfo *info = &parser->current->info;
  if (!parser->seen_version || !info->summary)
    return fail (parser, "%s '%s' has no '%s'", tn_kind_name (info->kind), info->name,
                 info->summary ? "version" : "summary");
  return 0;
}

static int
begin_class (Parser *parser, const char *group)
{
  const char *space = strchr (group, ' ');
  const TnKindInfo *kind = space ? tn_kind_by_name (group, (size_t) (space - group)) : NULL;
  if (!kind)
    return fail (parser, "group [%s] is of no kind that this Tenon knows", group);
  if (!tn_name_is_valid (space + 1))
    return fail (parser, "'%s' is not a name", space + 1);
  for (guint i = 0; i < parser->classes->len; i++) {
    const TnClassInfo *other = &g_array_index (parser->classes, TnManifestClass, i).info;
    if (other->kind == kind->kind && strcmp (other->name, space + 1) == 0)
      return fail (parser, "group [%s] stands there twice", group);
  }
  if (parser->classes->len >= MAX_CLASSES)
    return fail (parser, "more than %d classes", MAX_CLASSES);
  TnManifestClass added = { .info = { .kind = kind->kind,
                                      .name = space + 1,
                                      .aliases = empty_list,
                                      .suffixes = empty_list,
                                      .schemes = empty_list } };
  g_array_append_val (parser->classes, added);
  parser->current = &g_array_index (parser->classes, TnManifestClass, parser->classes->len - 1);
  parser->seen_version = false;
  return 0;
}

static int
parse_group (Parser *parser, char *line)
{
  size_t length = strlen (line);
  if (line[length - 1] != ']')
    return fail (parser, "group without ']'");
  line[length - 1] = '\0';
  const char *group = line + 1;
  int r = finish_class (parser);
  if (r < 0)
    return r;
  parser->current = NULL;
  parser->in_plugin = strcmp (group, "plugin") == 0;
  if (!parser->in_plugin)
    return begin_class (parser, group);
  if (parser->seen_plugin)
    return fail (parser, "group [plugin] stands there twice");
  parser->seen_plugin = true;
  return 0;
}

static int
parse_line (Parser *parser, char *line)
{
  g_strstrip (line);
  if (*line == '\0' || *line == '#')
    return 0;
  for (const char *p = line; *p; p++) {
    if (g_ascii_iscntrl (*p))
      return fail (parser, "control character");
  }
  return *line == '[' ? parse_group (parser, line) : parse_key (parser, line);
}

static int
check_complete (Parser *parser)
{
  const TnManifest *manifest = parser->manifest;
  int r = finish_class (parser);
  if (r < 0)
    return r;
  if (!manifest->name || !manifest->version || !manifest->licence || !manifest->package
      || !manifest->abi_major)
    return fail (parser, "group [plugin] lacks one of name, abi, version, licence, package");
  g_autofree char *expected = tn_plugin_name_of_path (manifest->path, TN_MANIFEST_SUFFIX);
  if (!expected || strcmp (expected, manifest->name) != 0)
    return fail (parser, "it describes '%s', which its file name does not say", manifest->name);
  if (!parser->classes->len)
    return fail (parser, "it offers no class");
  return 0;
}

static int
parse_lines (Parser *parser)
{
  char *line = parser->manifest->text;
  while (*line) {
    char *end = line + strcspn (line, "\n");
    bool last = !*end;
    *end = '\0';
    parser->line++;
    int r = parse_line (parser, line);
    if (r < 0)
      return r;
    line = last ? end : end + 1;
  }
  return check_complete (parser);
}

static void
share_plugin_facts (TnManifest *manifest)
{
  for (unsigned i = 0; i < manifest->n_classes; i++) {
    TnClassInfo *info = &manifest->classes[i].info;
    info->plugin = manifest->name;
    info->plugin_version = manifest->version;
    info->package = manifest->package;
    info->manifest_path = manifest->path;
    info->security = manifest->security;
  }
}

TnManifest *
tn_manifest_parse (const char *text, size_t length, const char *path, GError **error)
{
  g_autoptr (TnManifest) manifest = g_new0 (TnManifest, 1);
  manifest->path = g_strdup (path);
  manifest->requires_codecs = empty_list;
  if (length > TN_MANIFEST_MAX_SIZE || !g_utf8_validate_len (text, length, NULL)) {
    tn_fail (error, TN_PLUGIN_ERROR, EINVAL, "%s: not a manifest (over %d bytes, or not text): reinstall it",
             path, TN_MANIFEST_MAX_SIZE);
    return NULL;
  }
  manifest->text = g_strndup (text, length);
  Parser parser = { .manifest = manifest, .error = error };
  parser.classes = g_array_new (FALSE, FALSE, sizeof (TnManifestClass));
  int r = parse_lines (&parser);
  manifest->n_classes = parser.classes->len;
  manifest->classes = (TnManifestClass *) (void *) g_array_free (parser.classes, FALSE);
  if (r < 0)
    return NULL;
  share_plugin_facts (manifest);
  return g_steal_pointer (&manifest);
}

static void
list_free (const char *const *list)
{
  if (list != empty_list)
    g_free ((void *) list);
}

void
tn_manifest_free (TnManifest *manifest)
{
  if (!manifest)
    return;
  bool owns_lists = manifest->text != NULL;
  for (unsigned i = 0; owns_lists && i < manifest->n_classes; i++) {
    list_free (manifest->classes[i].info.aliases);
    list_free (manifest->classes[i].info.suffixes);
    list_free (manifest->classes[i].info.schemes);
    g_free ((void *) manifest->classes[i].magics);
  }
  if (owns_lists)
    list_free (manifest->requires_codecs);
  g_free (manifest->classes);
  g_free (manifest->path);
  g_free (manifest->text);
  g_free (manifest);
}

const char *
tn_security_name (uint32_t security)
{
  switch (security) {
  case TN_SECURITY_TRUSTED_INPUT:
    return "trusted-input";
  case TN_SECURITY_HARDENED:
    return "hardened";
  default:
    return "unknown";
  }
}

char *
tn_plugin_name_of_path (const char *path, const char *suffix)
{
  const char *slash = strrchr (path, '/');
  const char *base = slash ? slash + 1 : path;
  if (!g_str_has_suffix (base, suffix))
    return NULL;
  return g_strndup (base, strlen (base) - strlen (suffix));
}

/* ---- From a descriptor ---- */

static const char *const *
list_or_empty (const char *const *list)
{
  return list ? list : empty_list;
}

TnManifest *
tn_manifest_from_plugin (const TnPlugin *plugin)
{
  TnManifest *manifest = g_new0 (TnManifest, 1);
  manifest->name = plugin->name;
  manifest->version = plugin->version;
  manifest->licence = plugin->licence;
  manifest->package = plugin->package;
  manifest->abi_major = plugin->abi_major;
  manifest->abi_minor = plugin->abi_minor;
  manifest->security = plugin->security;
  manifest->requires_codecs = list_or_empty (plugin->requires_codecs);
  while (plugin->classes[manifest->n_classes])
    manifest->n_classes++;
  manifest->classes = g_new0 (TnManifestClass, manifest->n_classes);
  for (unsigned i = 0; i < manifest->n_classes; i++) {
    const TnClass *class = plugin->classes[i];
    manifest->classes[i].magics = class->magics;
    manifest->classes[i].info = (TnClassInfo){
      .kind = class->kind,
      .major = class->major,
      .minor = class->minor,
      .name = class->name,
      .summary = class->summary,
      .aliases = list_or_empty (class->aliases),
      .suffixes = list_or_empty (class->suffixes),
      .schemes = list_or_empty (class->schemes),
    };
  }
  share_plugin_facts (manifest);
  return manifest;
}
