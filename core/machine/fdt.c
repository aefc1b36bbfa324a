/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine/fdt.h"

#include <libfdt.h>

#define FDT_FIRST_SIZE (32 * 1024)
#define FDT_MAX_SIZE (4 * 1024 * 1024)

struct TnFdt {
  void *blob;
  int size;
  int failure;            /* first libfdt error, or 0 */
  bool numbering;         /* first pass */
  GHashTable *references; /* object id to phandle, for those referred to */
  GHashTable *objects;    /* ids seen as nodes in the first pass */
};

/* Makes room and says whether the call that ran out of it should be tried again. */
static bool
fdt_retry (TnFdt *fdt, int result)
{
  if (result != -FDT_ERR_NOSPACE) {
    if (result < 0 && fdt->failure == 0)
      fdt->failure = result;
    return false;
  }
  if (fdt->size >= FDT_MAX_SIZE) {
    fdt->failure = result;
    return false;
  }
  void *larger = g_malloc (fdt->size * 2);
  result = fdt_resize (fdt->blob, larger, fdt->size * 2);
  if (result < 0) {
    g_free (larger);
    fdt->failure = result;
    return false;
  }
  g_free (fdt->blob);
  fdt->blob = larger;
  fdt->size *= 2;
  return true;
}

void
tn_fdt_data (TnFdt *fdt, const char *name, const void *data, size_t length)
{
  if (fdt->failure != 0)
    return;
  if (length > FDT_MAX_SIZE) {
    fdt->failure = -FDT_ERR_NOSPACE;
    return;
  }
  while (fdt_retry (fdt, fdt_property (fdt->blob, name, data, (int) length)))
    ;
}

void
tn_fdt_string (TnFdt *fdt, const char *name, const char *value)
{
  tn_fdt_data (fdt, name, value, strlen (value) + 1);
}

void
tn_fdt_strings (TnFdt *fdt, const char *name, const char *const *values, size_t n)
{
  g_autoptr (GByteArray) list = g_byte_array_new ();
  for (size_t i = 0; i < n; i++)
    g_byte_array_append (list, (const guint8 *) values[i], (guint) strlen (values[i]) + 1);
  tn_fdt_data (fdt, name, list->data, list->len);
}

void
tn_fdt_u32 (TnFdt *fdt, const char *name, uint32_t value)
{
  tn_fdt_cells (fdt, name, &value, 1);
}

void
tn_fdt_u64 (TnFdt *fdt, const char *name, uint64_t value)
{
  tn_fdt_u64s (fdt, name, &value, 1);
}

void
tn_fdt_u64s (TnFdt *fdt, const char *name, const uint64_t *values, size_t n)
{
  g_autofree uint8_t *data = g_malloc (n * 8 + 1);
  for (size_t i = 0; i < n; i++)
    tn_store_be64 (data + i * 8, values[i]);
  tn_fdt_data (fdt, name, data, n * 8);
}

void
tn_fdt_cells (TnFdt *fdt, const char *name, const uint32_t *cells, size_t n)
{
  g_autofree uint8_t *data = g_malloc (n * 4 + 1);
  for (size_t i = 0; i < n; i++)
    tn_store_be32 (data + i * 4, cells[i]);
  tn_fdt_data (fdt, name, data, n * 4);
}

void
tn_fdt_empty (TnFdt *fdt, const char *name)
{
  tn_fdt_data (fdt, name, "", 0);
}

void
tn_fdt_begin (TnFdt *fdt, const char *node_name)
{
  if (fdt->failure != 0)
    return;
  while (fdt_retry (fdt, fdt_begin_node (fdt->blob, node_name)))
    ;
}

void
tn_fdt_end (TnFdt *fdt)
{
  if (fdt->failure != 0)
    return;
  while (fdt_retry (fdt, fdt_end_node (fdt->blob)))
    ;
}

uint32_t
tn_fdt_phandle (TnFdt *fdt, const char *id)
{
  gpointer phandle = g_hash_table_lookup (fdt->references, id);
  if (fdt->numbering && phandle == NULL) {
    phandle = GUINT_TO_POINTER (g_hash_table_size (fdt->references) + 1);
    g_hash_table_insert (fdt->references, g_strdup (id), phandle);
  }
  if (!fdt->numbering && !g_hash_table_contains (fdt->objects, id))
    return 0;
  return GPOINTER_TO_UINT (phandle);
}

void
tn_fdt_object (TnFdt *fdt, const char *id)
{
  gpointer phandle = g_hash_table_lookup (fdt->references, id);
  if (fdt->numbering)
    g_hash_table_add (fdt->objects, g_strdup (id));
  else if (phandle != NULL)
    tn_fdt_u32 (fdt, "phandle", GPOINTER_TO_UINT (phandle));
}

/* ---- Notation of board files ---- */

static int
notation_fail (const char *name, GError **error)
{
  return tn_fail (error, TN_MACHINE_ERROR, EINVAL,
                  "device tree property '%s': a value is \"text\",… or <number &object …> or nothing", name);
}

static int
notation_cells (TnFdt *fdt, const char *name, const char *text, GError **error)
{
  g_autoptr (GArray) cells = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  const char *close = strchr (text, '>');
  if (close == NULL || close[1] != '\0')
    return notation_fail (name, error);
  g_autofree char *inside = g_strndup (text + 1, (size_t) (close - text - 1));
  g_auto (GStrv) words = g_strsplit (inside, " ", 256);
  for (char **word = words; *word != NULL; word++) {
    if (**word == '\0')
      continue;
    char *end;
    uint64_t number = **word == '&' ? tn_fdt_phandle (fdt, *word + 1) : g_ascii_strtoull (*word, &end, 0);
    if (**word == '&' && number == 0)
      return tn_fail (error, TN_MACHINE_ERROR, ENOENT, "device tree property '%s': there is no object '%s'",
                      name, *word + 1);
    if (**word != '&' && (*end != '\0' || number > UINT32_MAX))
      return notation_fail (name, error);
    uint32_t cell = (uint32_t) number;
    g_array_append_val (cells, cell);
  }
  tn_fdt_cells (fdt, name, (const uint32_t *) (void *) cells->data, cells->len);
  return 0;
}

static int
notation_strings (TnFdt *fdt, const char *name, const char *text, GError **error)
{
  g_autoptr (GByteArray) list = g_byte_array_new ();
  while (*text == '"') {
    const char *close = strchr (text + 1, '"');
    if (close == NULL)
      return notation_fail (name, error);
    g_byte_array_append (list, (const guint8 *) text + 1, (guint) (close - text - 1));
    g_byte_array_append (list, (const guint8 *) "", 1);
    text = close + 1;
    text += strspn (text, " ");
    if (*text != ',')
      break;
    text++;
    text += strspn (text, " ");
  }
  if (*text != '\0')
    return notation_fail (name, error);
  tn_fdt_data (fdt, name, list->data, list->len);
  return 0;
}

int
tn_fdt_notation (TnFdt *fdt, const char *name, const char *text, GError **error)
{
  if (*text == '\0') {
    tn_fdt_empty (fdt, name);
    return 0;
  }
  return *text == '<' ? notation_cells (fdt, name, text, error) : notation_strings (fdt, name, text, error);
}

/* ---- Building ---- */

static int
fdt_pass (TnFdt *fdt, int (*write) (TnFdt *fdt, void *opaque, GError **error), void *opaque, GError **error)
{
  g_free (fdt->blob);
  fdt->size = FDT_FIRST_SIZE;
  fdt->blob = g_malloc0 (FDT_FIRST_SIZE);
  fdt->failure = fdt_create (fdt->blob, fdt->size);
  if (fdt->failure == 0)
    fdt->failure = fdt_finish_reservemap (fdt->blob);
  int r = write (fdt, opaque, error);
  if (r < 0)
    return r;
  while (fdt->failure == 0 && fdt_retry (fdt, fdt_finish (fdt->blob)))
    ;
  if (fdt->failure != 0)
    return tn_fail (error, TN_MACHINE_ERROR, EINVAL, "cannot make the device tree: %s",
                    fdt_strerror (fdt->failure));
  return 0;
}

int
tn_fdt_build (int (*write) (TnFdt *fdt, void *opaque, GError **error), void *opaque, void **blob,
              size_t *length, GError **error)
{
  TnFdt fdt = { .numbering = true };
  fdt.references = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  fdt.objects = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  int r = fdt_pass (&fdt, write, opaque, error);
  fdt.numbering = false;
  if (r == 0)
    r = fdt_pass (&fdt, write, opaque, error);
  g_hash_table_unref (fdt.references);
  g_hash_table_unref (fdt.objects);
  if (r < 0) {
    g_free (fdt.blob);
    return r;
  }
  *length = fdt_totalsize (fdt.blob);
  *blob = g_realloc (fdt.blob, *length);
  return 0;
}
