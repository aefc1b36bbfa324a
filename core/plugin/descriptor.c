/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/descriptor.h"

#include "plugin/kinds.h"
#include "util/option-table.h"

/* What every SDK 1.x has had from the start; a structure that is shorter is damaged, not old. */
#define PLUGIN_MIN_SIZE (offsetof (TnPlugin, classes) + sizeof (void *))
#define CLASS_MIN_SIZE (offsetof (TnClass, ops) + sizeof (void *))
#define OPTION_MIN_SIZE (offsetof (TnOption, help) + sizeof (void *))
#define MAGIC_MIN_SIZE (offsetof (TnMagic, bytes) + sizeof (void *))
#define OPS_MIN_SIZE 8
#define STRUCT_MAX_SIZE 65536

#define MAX_CLASSES 64
#define MAX_LIST 256
#define MAX_OPTIONS 1024
#define MAX_MAGIC 32
#define MAX_TEXT 1024

typedef struct Adoption {
  const char *file;
  TnDescriptor *descriptor;
  bool newer; /* built for a newer minor: may hold values that this core doesn't know */
  GError **error;
} Adoption;

static int TN_PRINTF (2, 3) fail (const Adoption *adoption, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  return tn_fail (adoption->error, TN_PLUGIN_ERROR, EINVAL, "%s: %s", adoption->file, what);
}

static void *
new_block (Adoption *adoption, size_t size)
{
  void *block = g_malloc0 (size);
  g_ptr_array_add (adoption->descriptor->blocks, block);
  return block;
}

static int
check_size (const Adoption *adoption, const char *what, size_t found, size_t least)
{
  if (found >= least && found <= STRUCT_MAX_SIZE && found % _Alignof(void *) == 0)
    return 0;
  return fail (adoption,
               "%s has size %zu, wanted %zu to %d: the plugin is damaged or was not built with the SDK's "
               "macros",
               what, found, least, STRUCT_MAX_SIZE);
}

/* ---- Text ---- */

static bool
is_line (const char *text)
{
  size_t length = 0;
  for (; text[length]; length++) {
    if (length >= MAX_TEXT || g_ascii_iscntrl (text[length]))
      return false;
  }
  return length > 0 && g_utf8_validate_len (text, length, NULL);
}

static int
check_line (const Adoption *adoption, const char *what, const char *text)
{
  if (text && is_line (text))
    return 0;
  return fail (adoption, "%s is missing or not one line of text: set it in the plugin's source", what);
}

static int
check_name (const Adoption *adoption, const char *what, const char *name)
{
  if (name && tn_name_is_valid (name))
    return 0;
  return fail (adoption,
               "%s is missing or not a name (letters, digits and . _ + -): correct the plugin's source",
               what);
}

static int
check_names (const Adoption *adoption, const char *what, const char *const *names)
{
  for (size_t i = 0; names && names[i]; i++) {
    if (i >= MAX_LIST)
      return fail (adoption, "%s has more than %d elements or lacks the NULL at its end", what, MAX_LIST);
    int r = check_name (adoption, what, names[i]);
    if (r < 0)
      return r;
  }
  return 0;
}

/* ---- Tables ---- */

/* Rows of @row_size bytes, ended by one for which @is_last holds, become rows of @own_size bytes.  NULL: an
 * error was set. */
static void *
copy_rows (Adoption *adoption, const char *what, const void *rows, size_t row_size, size_t own_size,
           size_t most, bool (*is_last) (const void *row))
{
  size_t n = 0;
  while (!is_last ((const char *) rows + n * row_size)) {
    if (++n > most) {
      fail (adoption, "%s has more than %zu rows or lacks the empty one at its end", what, most);
      return NULL;
    }
  }
  char *block = new_block (adoption, (n + 1) * own_size);
  for (size_t i = 0; i < n; i++)
    memcpy (block + i * own_size, (const char *) rows + i * row_size, MIN (row_size, own_size));
  return block;
}

static bool
is_last_option (const void *row)
{
  return !((const TnOption *) row)->name;
}

static bool
is_last_magic (const void *row)
{
  return !((const TnMagic *) row)->length;
}

static int
check_option (const Adoption *adoption, const TnClass *class, const TnOption *option)
{
  g_autofree char *what = g_strdup_printf ("option '%.63s' of class '%s'", option->name, class->name);
  int r = check_name (adoption, what, option->name);
  if (r < 0)
    return r;
  bool known = option->type >= TN_OPTION_STRING && option->type <= TN_OPTION_GROUP;
  if (!known && !adoption->newer)
    return fail (adoption, "%s has type %u, wanted %u to %u: correct the plugin's source", what, option->type,
                 TN_OPTION_STRING, TN_OPTION_GROUP);
  if (option->help && !is_line (option->help))
    return fail (adoption, "%s has a help text that is not one line", what);
  for (size_t i = 0; option->choices && option->choices[i]; i++) {
    if (i >= MAX_LIST || !is_line (option->choices[i]))
      return fail (adoption, "%s has a damaged list of choices", what);
  }
  if (option->type == TN_OPTION_ENUM && !option->choices)
    return fail (adoption, "%s is one of a list of choices but has no list", what);
  if (!option->value)
    return 0;
  g_autofree char *canonical = NULL;
  g_autoptr (GError) why = NULL;
  if (tn_option_canonical (option, option->value, what, &canonical, &why) < 0)
    return fail (adoption, "the default value is wrong: %s", why->message);
  return 0;
}

static int
adopt_options (Adoption *adoption, TnClass *class)
{
  if (!class->options)
    return 0;
  int r =
      check_size (adoption, "a row of the option table (option_size)", class->option_size, OPTION_MIN_SIZE);
  if (r < 0)
    return r;
  TnOption *rows = copy_rows (adoption, "the option table", class->options, class->option_size,
                              sizeof (TnOption), MAX_OPTIONS, is_last_option);
  if (!rows)
    return -EINVAL;
  class->options = rows;
  class->option_size = sizeof (TnOption);
  for (const TnOption *option = rows; option->name; option++) {
    r = check_option (adoption, class, option);
    if (r < 0)
      return r;
  }
  return 0;
}

static int
adopt_magics (Adoption *adoption, TnClass *class)
{
  if (!class->magics)
    return 0;
  int r = check_size (adoption, "a row of the magic table (magic_size)", class->magic_size, MAGIC_MIN_SIZE);
  if (r < 0)
    return r;
  TnMagic *rows = copy_rows (adoption, "the magic table", class->magics, class->magic_size, sizeof (TnMagic),
                             MAX_LIST, is_last_magic);
  if (!rows)
    return -EINVAL;
  class->magics = rows;
  class->magic_size = sizeof (TnMagic);
  for (const TnMagic *magic = rows; magic->length; magic++) {
    if (magic->length > MAX_MAGIC || !magic->bytes)
      return fail (adoption, "class '%s' has a magic of %u bytes, wanted 1 to %d", class->name, magic->length,
                   MAX_MAGIC);
  }
  return 0;
}

static int
adopt_ops (Adoption *adoption, TnClass *class, const TnKindInfo *kind)
{
  if (!class->ops)
    return fail (adoption, "class '%s' has no operations (ops is NULL)", class->name);
  uint32_t size;
  memcpy (&size, class->ops, sizeof size);
  int r = check_size (adoption, "the operations structure (ops->size)", size, OPS_MIN_SIZE);
  if (r < 0)
    return r;
  void *copy = new_block (adoption, kind->ops_size);
  memcpy (copy, class->ops, MIN (size, kind->ops_size));
  memcpy (copy, &kind->ops_size, sizeof kind->ops_size);
  class->ops = copy;
  return 0;
}

/* ---- Classes ---- */

static int
check_kind (const Adoption *adoption, const TnClass *class, const TnKindInfo **kind)
{
  *kind = tn_kind_info (class->kind);
  if (!*kind)
    return fail (adoption,
                 "class '%s' is of kind %u, wanted %u to %u: install a newer Tenon, or correct the plugin's "
                 "source",
                 class->name, class->kind, TN_KIND_FORMAT, TN_KIND_LAST);
  if (class->major == (*kind)->major)
    return 0;
  bool too_new = class->major > (*kind)->major;
  return fail (adoption, "%s '%s' is built for version %u.%u of the %s interface, this Tenon has %u.%u: %s",
               (*kind)->name, class->name, class->major, class->minor, (*kind)->name, (*kind)->major,
               (*kind)->minor,
               too_new ? "install a newer Tenon, or an older package of the plugin"
                       : "install a newer package of the plugin, or rebuild it with this SDK");
}

static int
check_class_texts (const Adoption *adoption, const TnClass *class)
{
  int r = check_line (adoption, "a class's summary", class->summary);
  if (r == 0)
    r = check_names (adoption, "a class's list of aliases", class->aliases);
  if (r == 0)
    r = check_names (adoption, "a class's list of suffixes", class->suffixes);
  if (r == 0)
    r = check_names (adoption, "a class's list of schemes", class->schemes);
  return r;
}

static int
adopt_class (Adoption *adoption, const TnClass *raw, const TnClass **adopted)
{
  uint32_t size;
  memcpy (&size, raw, sizeof size);
  int r = check_size (adoption, "a class (TnClass.size)", size, CLASS_MIN_SIZE);
  if (r < 0)
    return r;
  TnClass *class = new_block (adoption, sizeof (TnClass));
  memcpy (class, raw, MIN (size, sizeof (TnClass)));
  class->size = sizeof (TnClass);
  *adopted = class;
  r = check_name (adoption, "a class's name", class->name);
  if (r < 0)
    return r;
  const TnKindInfo *kind;
  r = check_kind (adoption, class, &kind);
  if (r == 0)
    r = check_class_texts (adoption, class);
  if (r == 0)
    r = adopt_options (adoption, class);
  if (r == 0)
    r = adopt_magics (adoption, class);
  if (r == 0)
    r = adopt_ops (adoption, class, kind);
  return r;
}

static int
adopt_classes (Adoption *adoption, const TnClass *const *raw)
{
  size_t n = 0;
  while (raw && raw[n]) {
    if (++n > MAX_CLASSES)
      return fail (adoption, "it has more than %d classes or lacks the NULL at their end", MAX_CLASSES);
  }
  if (n == 0)
    return fail (adoption, "it provides no class: list them in the descriptor's 'classes'");
  const TnClass **classes = new_block (adoption, (n + 1) * sizeof (TnClass *));
  adoption->descriptor->plugin.classes = classes;
  for (size_t i = 0; i < n; i++) {
    int r = adopt_class (adoption, raw[i], &classes[i]);
    if (r < 0)
      return r;
  }
  return 0;
}

/* ---- The plugin ---- */

static int
check_head (const Adoption *adoption, const TnPlugin *raw)
{
  if (raw->magic != TN_PLUGIN_MAGIC)
    return fail (
        adoption,
        "the descriptor's magic is 0x%08x, wanted 0x%08x: it is not a Tenon plugin, or it is damaged",
        raw->magic, TN_PLUGIN_MAGIC);
  if (raw->abi_major != TN_ABI_MAJOR)
    return fail (adoption, "built for Tenon ABI %u.%u, this Tenon has ABI %u.%u: %s", raw->abi_major,
                 raw->abi_minor, TN_ABI_MAJOR, TN_ABI_MINOR,
                 raw->abi_major > TN_ABI_MAJOR
                     ? "install a newer Tenon, or the plugin's package for this one"
                     : "install a newer package of the plugin, or rebuild it with this SDK");
  return check_size (adoption, "the descriptor (TnPlugin.size)", raw->size, PLUGIN_MIN_SIZE);
}

static int
check_facts (const Adoption *adoption, const TnPlugin *plugin, const char *name)
{
  int r = check_name (adoption, "the plugin's name", plugin->name);
  if (r < 0)
    return r;
  if (strcmp (plugin->name, name) != 0)
    return fail (adoption, "the descriptor's name is '%s', the file's is '%s': give the file back its name",
                 plugin->name, name);
  r = check_line (adoption, "the plugin's version", plugin->version);
  if (r == 0)
    r = check_line (adoption, "the plugin's licence", plugin->licence);
  if (r == 0)
    r = check_name (adoption, "the plugin's package", plugin->package);
  if (r == 0)
    r = check_names (adoption, "the plugin's list of codecs", plugin->requires_codecs);
  return r;
}

TnDescriptor *
tn_descriptor_adopt (const TnPlugin *raw, const char *file, const char *name, GError **error)
{
  g_autoptr (TnDescriptor) descriptor = g_new0 (TnDescriptor, 1);
  descriptor->blocks = g_ptr_array_new_with_free_func (g_free);
  Adoption adoption = { .file = file, .descriptor = descriptor, .error = error };
  if (check_head (&adoption, raw) < 0)
    return NULL;
  adoption.newer = raw->abi_minor > TN_ABI_MINOR;
  memcpy (&descriptor->plugin, raw, MIN (raw->size, sizeof (TnPlugin)));
  descriptor->plugin.size = sizeof (TnPlugin);
  if (check_facts (&adoption, &descriptor->plugin, name) < 0)
    return NULL;
  if (adopt_classes (&adoption, descriptor->plugin.classes) < 0)
    return NULL;
  return g_steal_pointer (&descriptor);
}

void
tn_descriptor_free (TnDescriptor *descriptor)
{
  if (!descriptor)
    return;
  g_ptr_array_unref (descriptor->blocks);
  g_free (descriptor);
}
