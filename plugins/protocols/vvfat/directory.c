/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories: short names, long names, entries. */
#include "vvfat.h"

#include <time.h>

#define PER_LONG_ENTRY 13u
#define LONGEST 255u
#define ATTRIBUTE_LABEL 0x08
#define ATTRIBUTE_FOLDER 0x10
#define ATTRIBUTE_FILE 0x20
#define ATTRIBUTE_LONG 0x0f

/* ---- Names ---- */

static bool
is_short_character (char c)
{
  return g_ascii_isupper (c) || g_ascii_isdigit (c) || (c && strchr ("$%'-_@~`!(){}^#&", c));
}

/* Fills @out with what of [text, end) a short name can hold; false when that is not all, unchanged. */
static bool
shorten (const char *text, const char *end, uint8_t *out, size_t room)
{
  bool exact = true;
  size_t used = 0;
  for (; text < end; text++) {
    const char c = g_ascii_toupper (*text);
    if (c == ' ' || c == '.' || used == room) {
      exact = false;
      continue;
    }
    out[used++] = is_short_character (c) ? (uint8_t) c : '_';
    exact = exact && is_short_character (*text);
  }
  return exact;
}

static void
number_name (uint8_t name[11], unsigned number)
{
  g_autofree char *tail = g_strdup_printf ("~%u", number);
  const size_t length = strlen (tail);
  size_t at = 8;
  while (at && name[at - 1] == ' ')
    at--;
  at = MIN (at, 8 - length);
  memcpy (name + at, tail, length);
}

/* The short name: as it is where that is possible, else with a number that makes it the only one. */
static int
choose_short_name (VvfatItem *item, GHashTable *taken, GError **error)
{
  const char *dot = strrchr (item->name, '.'), *end = item->name + strlen (item->name);
  uint8_t base[11];
  memset (base, ' ', sizeof base);
  const bool has_extension = dot && dot != item->name;
  bool exact = shorten (item->name, has_extension ? dot : end, base, 8);
  exact = (!has_extension || shorten (dot + 1, end, base + 8, 3)) && exact && base[0] != ' '
          && (!has_extension || dot[1]);
  if (base[0] == ' ')
    base[0] = '_';
  memcpy (item->short_name, base, sizeof base);
  for (unsigned number = exact ? 0 : 1; number < 1000000; number++) {
    if (number) {
      memcpy (item->short_name, base, sizeof base);
      number_name (item->short_name, number);
    }
    char *key = g_strndup ((const char *) item->short_name, 11);
    if (g_hash_table_add (taken, key))
      return 0;
  }
  return tn_fail (error, TN_BLOCK_ERROR, EEXIST, "vvfat: there is no short name left for '%s'", item->path);
}

int
vvfat_name_children (VvfatItem *folder, GError **error)
{
  g_autoptr (GHashTable) taken = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  int ret = 0;
  for (guint i = 0; ret == 0 && i < folder->children->len; i++) {
    VvfatItem *item = g_ptr_array_index (folder->children, i);
    if (!g_utf8_validate (item->name, -1, NULL) || g_utf8_strlen (item->name, -1) > LONGEST)
      ret = tn_fail (error, TN_BLOCK_ERROR, EILSEQ, "vvfat: the name '%s' cannot be shown on a FAT disk",
                     item->path);
    else
      ret = choose_short_name (item, taken, error);
  }
  return ret;
}

/* Whether the short name is the name. */
static bool
is_short (const VvfatItem *item)
{
  char text[13];
  size_t length = 0;
  for (size_t i = 0; i < 8 && item->short_name[i] != ' '; i++)
    text[length++] = (char) item->short_name[i];
  if (item->short_name[8] != ' ')
    text[length++] = '.';
  for (size_t i = 8; i < 11 && item->short_name[i] != ' '; i++)
    text[length++] = (char) item->short_name[i];
  text[length] = '\0';
  return strcmp (text, item->name) == 0;
}

static uint32_t
long_entries (const VvfatItem *item)
{
  if (is_short (item))
    return 0;
  uint32_t units = 0;
  for (const char *p = item->name; *p; p = g_utf8_next_char (p))
    units += g_utf8_get_char (p) > 0xffff ? 2 : 1;
  return (units + PER_LONG_ENTRY - 1) / PER_LONG_ENTRY;
}

/* ---- Entries ---- */

/* The root begins with the label, other folders with themselves and the one above. */
uint32_t
vvfat_directory_bytes (const Vvfat *v, const VvfatItem *folder)
{
  uint32_t entries = folder == v->root ? 1 : 2;
  for (guint i = 0; i < folder->children->len; i++)
    entries += 1 + long_entries (g_ptr_array_index (folder->children, i));
  return entries * VVFAT_ENTRY;
}

static void
store_time (uint8_t *entry, int64_t when)
{
  const time_t seconds = (time_t) when;
  struct tm t;
  if (!localtime_r (&seconds, &t) || t.tm_year < 80)
    t = (struct tm){ .tm_year = 80, .tm_mday = 1 };
  const unsigned year = (unsigned) MIN (t.tm_year - 80, 127);
  const uint16_t day = (uint16_t) (year << 9 | (unsigned) (t.tm_mon + 1) << 5 | (unsigned) t.tm_mday),
                 clock = (uint16_t) ((unsigned) t.tm_hour << 11 | (unsigned) t.tm_min << 5
                                     | (unsigned) MIN (t.tm_sec, 59) / 2);
  tn_store_le16 (entry + 14, clock);
  tn_store_le16 (entry + 16, day);
  tn_store_le16 (entry + 18, day);
  tn_store_le16 (entry + 22, clock);
  tn_store_le16 (entry + 24, day);
}

static void
add_entry (GByteArray *to, const void *name, uint8_t attributes, const VvfatItem *item, uint32_t first)
{
  uint8_t entry[VVFAT_ENTRY] = { 0 };
  memcpy (entry, name, 11);
  entry[11] = attributes;
  store_time (entry, item->time);
  tn_store_le16 (entry + 20, (uint16_t) (first >> 16));
  tn_store_le16 (entry + 26, (uint16_t) first);
  tn_store_le32 (entry + 28, (uint32_t) item->size);
  g_byte_array_append (to, entry, sizeof entry);
}

static uint8_t
short_checksum (const uint8_t name[11])
{
  uint8_t sum = 0;
  for (unsigned i = 0; i < 11; i++)
    sum = (uint8_t) ((sum >> 1 | sum << 7) + name[i]);
  return sum;
}

/* A long name stands before its entry, the last part first. */
static void
add_long_name (GByteArray *to, const VvfatItem *item)
{
  static const uint8_t places[PER_LONG_ENTRY] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
  const uint32_t parts = long_entries (item);
  glong units = 0;
  g_autofree gunichar2 *name = g_utf8_to_utf16 (item->name, -1, NULL, &units, NULL);
  for (uint32_t part = parts; name && part-- > 0;) {
    uint8_t entry[VVFAT_ENTRY] = { 0 };
    entry[0] = (uint8_t) ((part + 1) | (part + 1 == parts ? 0x40 : 0));
    entry[11] = ATTRIBUTE_LONG;
    entry[13] = short_checksum (item->short_name);
    for (uint32_t i = 0; i < PER_LONG_ENTRY; i++) {
      const uint32_t at = part * PER_LONG_ENTRY + i;
      const uint16_t unit = at < (uint32_t) units ? name[at] : at == (uint32_t) units ? 0 : 0xffff;
      tn_store_le16 (entry + places[i], unit);
    }
    g_byte_array_append (to, entry, sizeof entry);
  }
}

void
vvfat_write_directory (const Vvfat *v, VvfatItem *folder)
{
  g_clear_pointer (&folder->entries, g_byte_array_unref);
  folder->entries = g_byte_array_new ();
  if (folder == v->root) {
    add_entry (folder->entries, v->label, ATTRIBUTE_LABEL, folder, 0);
  } else {
    add_entry (folder->entries, ".          ", ATTRIBUTE_FOLDER, folder, folder->first);
    /* The root is 0 here, wherever it is. */
    add_entry (folder->entries, "..         ", ATTRIBUTE_FOLDER, folder->parent,
               folder->parent == v->root ? 0 : folder->parent->first);
  }
  for (guint i = 0; i < folder->children->len; i++) {
    const VvfatItem *item = g_ptr_array_index (folder->children, i);
    add_long_name (folder->entries, item);
    add_entry (folder->entries, item->short_name, item->is_folder ? ATTRIBUTE_FOLDER : ATTRIBUTE_FILE, item,
               item->first);
  }
}
