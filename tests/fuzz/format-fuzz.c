/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format-fuzz-private.h"

#include <tenon/secret.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DISK "fuzz"
#define MOST_INPUT (8u << 20)
/* How far writing may make the file grow. */
#define MOST_GROWTH (8u << 20)
#define MAX_EXTENTS 48u
#define READ_SIZE 16384u
#define MAX_READS 8u

/* As libFuzzer wants a finding: g_error() would raise a signal that it doesn't know. */
void
fuzz_fail (const char *format, ...)
{
  va_list list;
  va_start (list, format);
  vfprintf (stderr, format, list);
  va_end (list);
  fputc ('\n', stderr);
  abort ();
}

/* ---- The file ---- */

uint64_t
fuzz_random (Fuzz *fuzz, uint64_t below)
{
  fuzz->random ^= fuzz->random << 13;
  fuzz->random ^= fuzz->random >> 7;
  fuzz->random ^= fuzz->random << 17;
  return below ? fuzz->random % below : 0;
}

/* The same input must always do the same. */
static uint64_t
seed_of (const uint8_t *data, size_t size)
{
  uint64_t hash = UINT64_C (0xcbf29ce484222325);
  for (size_t i = 0; i < size; i++) {
    hash = (hash ^ data[i]) * UINT64_C (0x100000001b3);
  }
  return hash | 1;
}

static int
refuse_writes (MemDisk *disk, const TnRequest *request)
{
  if (request->op != TN_REQUEST_READ && request->op != TN_REQUEST_FLUSH) {
    fuzz_fail ("%s: an image opened for reading was written to", disk->name);
  }
  return 0;
}

static int
refuse_growth (MemDisk *disk, const TnRequest *request)
{
  const uint64_t limit = *(uint64_t *) disk->fault_opaque;
  if (request->op == TN_REQUEST_READ || request->op == TN_REQUEST_FLUSH) {
    return 0;
  }
  return request->offset > limit || request->length > limit - request->offset ? -ENOSPC : 0;
}

static MemDisk *
lay_disk (Fuzz *fuzz, const char *name)
{
  static uint64_t limit;
  limit = fuzz->size + MOST_GROWTH;
  MemDisk *disk = mem_disk (name, fuzz->size);
  memcpy (disk->bytes, fuzz->data, fuzz->size);
  disk->fault = refuse_growth;
  disk->fault_opaque = &limit;
  return disk;
}

static void
lay_file (Fuzz *fuzz)
{
  fuzz->disk = lay_disk (fuzz, DISK);
  if (fuzz->format->beside) {
    lay_disk (fuzz, fuzz->format->beside);
  }
}

static bool
is_unchanged (const Fuzz *fuzz)
{
  return fuzz->disk->size == fuzz->size && memcmp (fuzz->disk->bytes, fuzz->data, fuzz->size) == 0;
}

/* ---- Opening ---- */

static bool
has_backing (const FormatFuzz *format)
{
  const TnClass *class = tn_class_find (TN_KIND_FORMAT, format->driver, NULL);
  return class && ((const TnFormatOps *) class->ops)->flags & TN_FORMAT_BACKING;
}

TnNode *
fuzz_open (Fuzz *fuzz, uint32_t flags)
{
  static char *text;
  if (text == NULL) {
    text = g_strdup_printf ("driver=%s,file.driver=mem,file.filename=" DISK "%s%s", fuzz->format->driver,
                            has_backing (fuzz->format) ? ",backing=" : "",
                            fuzz->format->secret ? ",key-secret=fuzz" : "");
  }
  /* Other images may ask for derivations of a minute. */
  flags |= fuzz->format->secret ? TN_OPEN_UNTRUSTED : 0;
  g_autoptr (TnOptions) options = options_of (text);
  g_autoptr (GError) error = NULL;
  TnNode *node = NULL;
  fuzz->disk->fault = flags & TN_OPEN_WRITE ? refuse_growth : refuse_writes;
  const int ret = tn_node_open (options, flags, &node, &error);
  g_assert_true ((ret == 0) == (node != NULL));
  g_assert_true ((ret < 0) == (error != NULL));
  return node;
}

/* ---- Looking ---- */

static void
visit_snapshot (const TnSnapshot *snapshot, void *opaque)
{
  g_assert_nonnull (snapshot->id);
  g_assert_nonnull (snapshot->name);
}

static void
describe (Fuzz *fuzz)
{
  g_autoptr (TnNode) node = fuzz_open (fuzz, TN_OPEN_NO_IO | TN_OPEN_UNTRUSTED);
  if (node == NULL) {
    return;
  }
  TnInfo info = { .size = sizeof info };
  (void) tn_node_info (node, &info, NULL);
  g_autofree char *specific = tn_node_info_specific (node, NULL);
  g_assert_true (specific == NULL || g_utf8_validate (specific, -1, NULL));
  (void) tn_node_snapshots (node, visit_snapshot, NULL, NULL);
}

static void
check_extent (TnNode *node, uint64_t offset, const TnExtent *extent)
{
  const uint64_t size = tn_node_size (node);
  g_assert_cmpuint (extent->offset, <=, offset);
  g_assert_cmpuint (extent->length, <=, size - extent->offset);
  g_assert_cmpuint (extent->length, >, offset - extent->offset);
  g_assert_cmpuint (extent->kind, <=, TN_EXTENT_PACKED);
  if (extent->kind == TN_EXTENT_DATA) {
    g_assert_nonnull (extent->source);
    g_assert_cmpuint (extent->source_offset, <=, (uint64_t) INT64_MAX - extent->length);
  }
}

/* The quick answer, where there is one, is the same. */
static void
check_nowait (TnNode *node, uint64_t offset, const TnExtent *waited)
{
  TnExtent extent;
  if (tn_node_map (node, offset, tn_node_size (node) - offset, TN_MAP_NOWAIT, &extent, NULL) < 0) {
    return;
  }
  check_extent (node, offset, &extent);
  g_assert_cmpuint (extent.kind, ==, waited->kind);
  if (extent.kind == TN_EXTENT_DATA) {
    g_assert_true (extent.source == waited->source);
    g_assert_cmpuint (extent.source_offset - extent.offset, ==, waited->source_offset - waited->offset);
  }
}

/* Maps at @offset and returns where the next extent begins. */
static uint64_t
map_one (TnNode *node, uint64_t offset)
{
  const uint64_t size = tn_node_size (node);
  TnExtent extent;
  TnStatus status;
  if (tn_node_map (node, offset, size - offset, 0, &extent, NULL) < 0) {
    return offset + MIN (READ_SIZE, size - offset);
  }
  check_extent (node, offset, &extent);
  check_nowait (node, offset, &extent);
  if (tn_node_status (node, NULL, offset, size - offset, &status, NULL) == 0) {
    g_assert_cmpuint (status.length, >, 0);
    g_assert_cmpuint (status.length, <=, size - offset);
  }
  return extent.offset + extent.length;
}

static void
map_and_read (Fuzz *fuzz, uint32_t flags)
{
  g_autoptr (TnNode) node = fuzz_open (fuzz, flags);
  if (node == NULL) {
    return;
  }
  const uint64_t size = tn_node_size (node);
  g_autofree uint8_t *buffer = g_malloc (READ_SIZE);
  uint64_t offset = 0;
  for (unsigned i = 0; i < MAX_EXTENTS && offset < size; i++) {
    if (i < MAX_READS) {
      (void) tn_node_read (node, offset, buffer, MIN (READ_SIZE, size - offset), NULL);
    }
    offset = map_one (node, offset);
  }
  for (unsigned i = 0; i < MAX_READS && size; i++) {
    offset = fuzz_random (fuzz, size);
    map_one (node, offset);
    (void) tn_node_read (node, offset, buffer, MIN (1 + fuzz_random (fuzz, READ_SIZE), size - offset), NULL);
  }
}

/* ---- Checking ---- */

typedef struct Findings {
  const char *harmless;
  unsigned errors;
} Findings;

static void
print_finding (const char *line, bool is_error, void *opaque)
{
  Findings *findings = opaque;
  if (is_error && !(findings->harmless && g_str_has_suffix (line, findings->harmless))) {
    findings->errors++;
    fprintf (stderr, "%s\n", line);
  }
}

bool
fuzz_is_whole (Fuzz *fuzz)
{
  g_autoptr (TnNode) node = fuzz_open (fuzz, TN_OPEN_CHECK);
  g_autoptr (GError) error = NULL;
  Findings findings = { .harmless = fuzz->format->harmless };
  TnCheck check = { .size = sizeof check, .report = print_finding, .opaque = &findings };
  if (node && tn_node_check (node, 0, &check, &error) < 0) {
    print_finding (error->message, true, &findings);
  }
  return node && findings.errors == 0 && check.check_errors == 0;
}

bool
fuzz_is_sound (Fuzz *fuzz)
{
  g_autoptr (TnNode) node = fuzz_open (fuzz, TN_OPEN_CHECK);
  TnCheck check = { .size = sizeof check };
  return node && tn_node_check (node, 0, &check, NULL) == 0 && check.corruptions == 0
         && check.check_errors == 0;
}

/* Whether it says that all is well now. */
static bool
repair (Fuzz *fuzz)
{
  TnNode *node = fuzz_open (fuzz, TN_OPEN_CHECK | TN_OPEN_WRITE | TN_OPEN_RESIZE);
  TnCheck check = { .size = sizeof check };
  if (node == NULL) {
    g_assert_true (is_unchanged (fuzz));
    return false;
  }
  const bool mended = tn_node_check (node, TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS, &check, NULL) == 0
                      && check.corruptions == 0 && check.check_errors == 0;
  return tn_node_close (node, NULL) == 0 && mended;
}

static bool
can_write (const FormatFuzz *format)
{
  const TnClass *class = tn_class_find (TN_KIND_FORMAT, format->driver, NULL);
  const TnFormatOps *ops = class->ops;
  return ops->reserve || format->secret || (ops->flags & TN_FORMAT_STATIC_MAP);
}

static void
change (Fuzz *fuzz)
{
  if (fuzz_is_sound (fuzz)) {
    fuzz_write (fuzz, true);
    return;
  }
  if (repair (fuzz)) {
    if (!fuzz_is_whole (fuzz)) {
      fuzz_fail ("check finds errors after all were repaired");
    }
    fuzz_write (fuzz, true);
  }
  lay_file (fuzz);
  TnNode *node = fuzz_open (fuzz, TN_OPEN_WRITE | TN_OPEN_RESIZE | TN_OPEN_UNMAP);
  if (node == NULL) {
    g_assert_true (is_unchanged (fuzz));
    return;
  }
  (void) tn_node_close (node, NULL);
  lay_file (fuzz);
  fuzz_write (fuzz, false);
}

/* ---- One input ---- */

static void
define_secret (const char *bytes)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set (options, "id", "fuzz");
  tn_options_set (options, "data", bytes);
  if (tn_secret_define (options, NULL) < 0) {
    fuzz_fail ("the secret cannot be defined");
  }
}

static void
name_plugin (const TnClassInfo *class, void *opaque)
{
  g_string_append_printf (opaque, ",%s", class->plugin);
}

/* Formats, what they decode with, and memory: no name in an image may reach a file of this machine. */
static void
confine (const FormatFuzz *format)
{
  g_autoptr (GError) error = NULL;
  if (!tn_class_find (TN_KIND_FORMAT, format->driver, &error)) {
    fuzz_fail ("%s (TENON_PLUGIN_PATH must name the plugins' folder)", error->message);
  }
  g_autoptr (GString) list = g_string_new ("mem");
  tn_plugins_foreach (TN_KIND_FORMAT, name_plugin, NULL, list, NULL);
  tn_plugins_foreach (TN_KIND_CODEC, name_plugin, NULL, list, NULL);
  if (tn_plugins_allow (list->str, NULL) < 0 || tn_class_find (TN_KIND_PROTOCOL, "file", NULL)) {
    fuzz_fail ("the plugins cannot be confined to %s", list->str);
  }
}

int
format_fuzz (const FormatFuzz *format, const uint8_t *data, size_t size)
{
  static bool confined;
  if (!confined) {
    confine (format);
    if (format->secret) {
      define_secret (format->secret);
    }
    confined = true;
  }
  if (size == 0 || size > MOST_INPUT) {
    return 0;
  }
  Fuzz fuzz = { .format = format, .data = data, .size = size, .random = seed_of (data, size) };
  lay_file (&fuzz);
  describe (&fuzz);
  map_and_read (&fuzz, format->beside ? 0 : TN_OPEN_UNTRUSTED);
  if (can_write (format)) {
    change (&fuzz);
  } else {
    fuzz_is_sound (&fuzz);
  }
  return 0;
}
