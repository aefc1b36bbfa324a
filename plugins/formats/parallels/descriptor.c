/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DiskDescriptor.xml, read with GLib's parser, which knows no entities of a document's own. */
#include "bundle.h"

#include <string.h>

#define MAX_PARTS 4096u
#define MAX_IMAGES 65536u
#define MAX_SHOTS 4096u
#define MAX_DEPTH 16u
#define MAX_TEXT 4096u
#define ROOT "/Parallels_disk_image"
#define PARAMETERS ROOT "/Disk_Parameters"
#define STORAGE ROOT "/StorageData/Storage"
#define SHOT ROOT "/Snapshots/Shot"

typedef struct Reader {
  BundleDescriptor *descriptor;
  GString *path; /* "/A/B" of the element that is open */
  GString *text; /* of that element */
  guint images;
} Reader;

/* ---- The descriptor ---- */

static void
clear_image (gpointer data)
{
  BundleImage *image = data;
  g_free (image->guid);
  g_free (image->file);
}

static void
clear_part (gpointer data)
{
  BundlePart *part = data;
  g_array_unref (part->images);
}

static void
clear_shot (gpointer data)
{
  BundleShot *shot = data;
  g_free (shot->guid);
  g_free (shot->parent);
}

void
bundle_descriptor_free (BundleDescriptor *descriptor)
{
  g_free (descriptor->top);
  g_free (descriptor->encryption);
  g_array_unref (descriptor->parts);
  g_array_unref (descriptor->shots);
  g_free (descriptor);
}

static BundleDescriptor *
bundle_descriptor_new (void)
{
  BundleDescriptor *descriptor = g_new0 (BundleDescriptor, 1);
  descriptor->parts = g_array_new (false, true, sizeof (BundlePart));
  descriptor->shots = g_array_new (false, true, sizeof (BundleShot));
  g_array_set_clear_func (descriptor->parts, clear_part);
  g_array_set_clear_func (descriptor->shots, clear_shot);
  return descriptor;
}

/* ---- Elements ---- */

static void
fail (GError **error, const char *path, const char *what)
{
  g_set_error (error, G_MARKUP_ERROR, G_MARKUP_ERROR_INVALID_CONTENT, "%s: %s", path, what);
}

static void
add_part (Reader *reader)
{
  BundlePart part = { .images = g_array_new (false, true, sizeof (BundleImage)) };
  g_array_set_clear_func (part.images, clear_image);
  g_array_append_val (reader->descriptor->parts, part);
}

static BundlePart *
last_part (Reader *reader)
{
  GArray *parts = reader->descriptor->parts;
  return &g_array_index (parts, BundlePart, parts->len - 1);
}

static void
start_element (GMarkupParseContext *context, const char *name, const char **names, const char **values,
               gpointer data, GError **error)
{
  Reader *reader = data;
  const BundleImage no_image = { 0 };
  const BundleShot no_shot = { 0 };
  g_string_append_printf (reader->path, "/%s", name);
  g_string_truncate (reader->text, 0);
  if (reader->path->len > MAX_TEXT
      || g_slist_length ((GSList *) g_markup_parse_context_get_element_stack (context)) > MAX_DEPTH) {
    fail (error, name, "elements nest too deeply");
  } else if (strcmp (reader->path->str, STORAGE) == 0) {
    add_part (reader);
  } else if (strcmp (reader->path->str, STORAGE "/Image") == 0) {
    g_array_append_val (last_part (reader)->images, no_image);
    reader->images++;
  } else if (strcmp (reader->path->str, SHOT) == 0) {
    g_array_append_val (reader->descriptor->shots, no_shot);
  }
  if (reader->descriptor->parts->len > MAX_PARTS || reader->images > MAX_IMAGES
      || reader->descriptor->shots->len > MAX_SHOTS) {
    fail (error, reader->path->str, "there are too many");
  }
}

static void
text (GMarkupParseContext *context, const char *characters, gsize length, gpointer data, GError **error)
{
  Reader *reader = data;
  if (length > MAX_TEXT - MIN (reader->text->len, MAX_TEXT)) {
    fail (error, reader->path->str, "its text is too long");
    return;
  }
  g_string_append_len (reader->text, characters, (gssize) length);
}

static void
take_number (Reader *reader, uint64_t *number, GError **error)
{
  guint64 value;
  if (!g_ascii_string_to_unsigned (g_strstrip (reader->text->str), 10, 0, INT64_MAX / 512, &value, NULL)) {
    fail (error, reader->path->str, "is not a number that can be right");
    return;
  }
  *number = value;
}

static void
take_text (Reader *reader, char **to)
{
  g_free (*to);
  *to = g_strdup (g_strstrip (reader->text->str));
}

static void
take_type (Reader *reader, BundleImage *image, GError **error)
{
  const char *type = g_strstrip (reader->text->str);
  if (strcmp (type, "Plain") != 0 && strcmp (type, "Compressed") != 0) {
    fail (error, reader->path->str, "is neither Plain nor Compressed");
    return;
  }
  image->plain = *type == 'P';
}

static void
end_of_image (Reader *reader, const char *name, GError **error)
{
  BundlePart *part = last_part (reader);
  BundleImage *image = &g_array_index (part->images, BundleImage, part->images->len - 1);
  if (strcmp (name, "GUID") == 0) {
    take_text (reader, &image->guid);
  } else if (strcmp (name, "File") == 0) {
    take_text (reader, &image->file);
  } else if (strcmp (name, "Type") == 0) {
    take_type (reader, image, error);
  }
}

static void
end_of_shot (Reader *reader, const char *name)
{
  GArray *shots = reader->descriptor->shots;
  BundleShot *shot = &g_array_index (shots, BundleShot, shots->len - 1);
  if (strcmp (name, "GUID") == 0) {
    take_text (reader, &shot->guid);
  } else if (strcmp (name, "ParentGUID") == 0) {
    take_text (reader, &shot->parent);
  }
}

static void
end_element (GMarkupParseContext *context, const char *name, gpointer data, GError **error)
{
  Reader *reader = data;
  BundleDescriptor *descriptor = reader->descriptor;
  const char *path = reader->path->str;
  if (strcmp (path, PARAMETERS "/Disk_size") == 0) {
    take_number (reader, &descriptor->sectors, error);
  } else if (strcmp (path, PARAMETERS "/LogicSectorSize") == 0) {
    take_number (reader, &descriptor->sector_size, error);
  } else if (strcmp (path, PARAMETERS "/Encryption/Engine") == 0) {
    take_text (reader, &descriptor->encryption);
  } else if (strcmp (path, STORAGE "/Start") == 0) {
    take_number (reader, &last_part (reader)->start, error);
  } else if (strcmp (path, STORAGE "/End") == 0) {
    take_number (reader, &last_part (reader)->end, error);
  } else if (strcmp (path, ROOT "/Snapshots/TopGUID") == 0) {
    take_text (reader, &descriptor->top);
  } else if (g_str_has_prefix (path, STORAGE "/Image/")) {
    end_of_image (reader, name, error);
  } else if (g_str_has_prefix (path, SHOT "/")) {
    end_of_shot (reader, name);
  }
  g_string_truncate (reader->path, reader->path->len - strlen (name) - 1);
  g_string_truncate (reader->text, 0);
}

/* ---- The whole ---- */

static gint
compare_parts (gconstpointer a, gconstpointer b)
{
  const BundlePart *one = a, *two = b;
  return one->start < two->start ? -1 : one->start > two->start;
}

static bool
check_parts (BundleDescriptor *descriptor, GError **error)
{
  uint64_t end = 0;
  g_array_sort (descriptor->parts, compare_parts);
  for (guint i = 0; i < descriptor->parts->len; i++) {
    const BundlePart *part = &g_array_index (descriptor->parts, BundlePart, i);
    if (part->start != end || part->end <= part->start || part->images->len == 0) {
      fail (error, STORAGE, "the parts of the disk do not follow each other");
      return false;
    }
    for (guint j = 0; j < part->images->len; j++) {
      const BundleImage *image = &g_array_index (part->images, BundleImage, j);
      if (image->guid == NULL || image->file == NULL || *image->file == '\0') {
        fail (error, STORAGE "/Image", "GUID or File is missing");
        return false;
      }
    }
    end = part->end;
  }
  if (end == 0 || (descriptor->sectors && descriptor->sectors != end)) {
    fail (error, ROOT, "the parts of the disk are not as long as the disk");
    return false;
  }
  descriptor->sectors = end;
  return true;
}

BundleDescriptor *
bundle_descriptor_parse (const char *bytes, gsize length, GError **error)
{
  static const GMarkupParser parser = { .start_element = start_element,
                                        .end_element = end_element,
                                        .text = text };
  g_autoptr (BundleDescriptor) descriptor = bundle_descriptor_new ();
  g_autoptr (GString) path = g_string_new (NULL), characters = g_string_new (NULL);
  Reader reader = { .descriptor = descriptor, .path = path, .text = characters };
  g_autoptr (GMarkupParseContext) context = g_markup_parse_context_new (&parser, 0, &reader, NULL);
  if (!g_markup_parse_context_parse (context, bytes, (gssize) length, error)
      || !g_markup_parse_context_end_parse (context, error) || !check_parts (descriptor, error)) {
    return NULL;
  }
  return g_steal_pointer (&descriptor);
}
