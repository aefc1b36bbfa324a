/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log: a ring of entries, each of which has descriptors of pages to be written or ranges to be cleared,
 * and the pages.  What is to be replayed is the sequence that ends with the youngest entry and begins where
 * that says; all of its entries must be right.
 */
#include "vhdx.h"

#include "../common/crc32c.h"

#define ENTRY_HEADER 64u
#define DESCRIPTOR 32u
#define MAX_HEADS 64u

/* Places in an entry's header. */
#define AT_CHECKSUM 4
#define AT_LENGTH 8
#define AT_TAIL 12
#define AT_SEQUENCE 16
#define AT_DESCRIPTORS 24
#define AT_LOG_GUID 32
#define AT_FLUSHED_SIZE 48
#define AT_LAST_SIZE 56

typedef struct VhdxEntry {
  uint32_t page; /* of the log, at which it begins */
  uint32_t pages, tail;
  uint64_t sequence;
} VhdxEntry;

typedef struct VhdxLog {
  Vhdx *v;
  uint8_t *bytes;
  uint32_t pages;
  uint64_t work;      /* bytes that may still be summed up */
  GArray *entries;    /* VhdxEntry, youngest first */
  uint32_t *entry_of; /* for each page, the number of the entry that begins there, plus one */
} VhdxLog;

static const uint8_t *
vhdx_log_page (const VhdxLog *log, uint64_t page)
{
  return log->bytes + (page % log->pages) * (size_t) VHDX_PAGE;
}

/* ---- Which entries are right ---- */

/* Pages of descriptors, that with the header included. */
static uint64_t
vhdx_descriptor_pages (uint32_t count)
{
  return (ENTRY_HEADER + (uint64_t) count * DESCRIPTOR + VHDX_PAGE - 1) / VHDX_PAGE;
}

static uint32_t
vhdx_entry_checksum (const VhdxLog *log, const VhdxEntry *entry)
{
  static const uint8_t zero[4];
  const uint8_t *first = vhdx_log_page (log, entry->page);
  uint32_t crc = crc32c_add (CRC32C_BEGIN, first, AT_CHECKSUM);
  crc = crc32c_add (crc, zero, sizeof zero);
  crc = crc32c_add (crc, first + AT_CHECKSUM + 4, VHDX_PAGE - AT_CHECKSUM - 4);
  for (uint32_t i = 1; i < entry->pages; i++)
    crc = crc32c_add (crc, vhdx_log_page (log, entry->page + i), VHDX_PAGE);
  return ~crc;
}

static bool
vhdx_entry_decode (VhdxLog *log, uint32_t page, VhdxEntry *entry)
{
  const uint8_t *bytes = vhdx_log_page (log, page);
  const uint32_t length = tn_load_le32 (bytes + AT_LENGTH),
                 descriptors = tn_load_le32 (bytes + AT_DESCRIPTORS);
  if (memcmp (bytes, "loge", 4) != 0 || memcmp (bytes + AT_LOG_GUID, log->v->header.log_guid, 16) != 0)
    return false;
  *entry = (VhdxEntry){
    .page = page,
    .pages = length / VHDX_PAGE,
    .tail = tn_load_le32 (bytes + AT_TAIL),
    .sequence = tn_load_le64 (bytes + AT_SEQUENCE),
  };
  if (length == 0 || length % VHDX_PAGE || entry->pages > log->pages || entry->tail % VHDX_PAGE
      || entry->tail / VHDX_PAGE >= log->pages || entry->sequence == 0
      || vhdx_descriptor_pages (descriptors) > entry->pages || log->work < length)
    return false;
  log->work -= length;
  return vhdx_entry_checksum (log, entry) == tn_load_le32 (bytes + AT_CHECKSUM);
}

static gint
vhdx_youngest_first (gconstpointer a, gconstpointer b)
{
  const VhdxEntry *one = a, *two = b;
  return one->sequence > two->sequence ? -1 : one->sequence < two->sequence;
}

static void
vhdx_find_entries (VhdxLog *log)
{
  for (uint32_t page = 0; page < log->pages; page++) {
    VhdxEntry entry;
    if (vhdx_entry_decode (log, page, &entry))
      g_array_append_val (log->entries, entry);
  }
  g_array_sort (log->entries, vhdx_youngest_first);
  for (guint i = 0; i < log->entries->len; i++)
    log->entry_of[g_array_index (log->entries, VhdxEntry, i).page] = i + 1;
}

static const VhdxEntry *
vhdx_entry_at (const VhdxLog *log, uint32_t page)
{
  const uint32_t number = log->entry_of[page];
  return number ? &g_array_index (log->entries, VhdxEntry, number - 1) : NULL;
}

/* The entries from @head's tail up to @head itself, oldest first; false: they are not all there. */
static bool
vhdx_collect_sequence (const VhdxLog *log, const VhdxEntry *head, GPtrArray *sequence)
{
  const VhdxEntry *entry = vhdx_entry_at (log, head->tail / VHDX_PAGE);
  uint32_t pages = 0;
  g_ptr_array_set_size (sequence, 0);
  while (entry) {
    pages += entry->pages;
    if (pages > log->pages)
      return false;
    g_ptr_array_add (sequence, (gpointer) entry);
    if (entry == head)
      return true;
    const VhdxEntry *next = vhdx_entry_at (log, (entry->page + entry->pages) % log->pages);
    entry = next && next->sequence == entry->sequence + 1 ? next : NULL;
  }
  return false;
}

/* ---- Replaying ---- */

static int
vhdx_bad_entry (const VhdxLog *log, const VhdxEntry *entry, const char *what, GError **error)
{
  return vhdx_fail (log->v, error, EINVAL, "log entry %" PRIu64 ": %s", entry->sequence, what);
}

static bool
vhdx_hits_log (const Vhdx *v, uint64_t offset, uint64_t length)
{
  return offset < v->header.log_offset + v->header.log_length && v->header.log_offset < offset + length;
}

static int
vhdx_replay_zeroes (VhdxLog *log, const VhdxEntry *entry, const uint8_t *descriptor, GError **error)
{
  const uint64_t length = tn_load_le64 (descriptor + 8), offset = tn_load_le64 (descriptor + 16);
  if (offset % VHDX_PAGE || length % VHDX_PAGE || offset > (uint64_t) INT64_MAX / 2 || length > VHDX_MAX_SIZE
      || vhdx_hits_log (log->v, offset, length))
    return vhdx_bad_entry (log, entry, "a range of zeroes is impossible", error);
  return vhdx_overlay_add_zeroes (&log->v->overlay, offset, length)
             ? 0
             : vhdx_bad_entry (log, entry, "there are too many ranges to be replayed in memory", error);
}

static int
vhdx_replay_page (VhdxLog *log, const VhdxEntry *entry, const uint8_t *descriptor, uint64_t data_page,
                  GError **error)
{
  const uint64_t offset = tn_load_le64 (descriptor + 16);
  const uint8_t *data = vhdx_log_page (log, entry->page + data_page);
  uint8_t page[VHDX_PAGE];
  if (data_page >= entry->pages || memcmp (data, "data", 4) != 0
      || tn_load_le32 (data + 4) != entry->sequence >> 32
      || tn_load_le32 (data + VHDX_PAGE - 4) != (uint32_t) entry->sequence)
    return vhdx_bad_entry (log, entry, "a page is not there", error);
  if (offset % VHDX_PAGE || offset > (uint64_t) INT64_MAX / 2 || vhdx_hits_log (log->v, offset, VHDX_PAGE))
    return vhdx_bad_entry (log, entry, "a page has an impossible place", error);
  memcpy (page, descriptor + 8, 8);
  memcpy (page + 8, data + 8, VHDX_PAGE - 12);
  memcpy (page + VHDX_PAGE - 4, descriptor + 4, 4);
  return vhdx_overlay_add_page (&log->v->overlay, offset, page)
             ? 0
             : vhdx_bad_entry (log, entry, "there are too many pages to be replayed in memory", error);
}

/* Descriptors stand one behind the other, also across the end of the ring. */
static void
vhdx_load_descriptor (const VhdxLog *log, const VhdxEntry *entry, uint32_t number, uint8_t *descriptor)
{
  const uint64_t at = ENTRY_HEADER + (uint64_t) number * DESCRIPTOR;
  memcpy (descriptor, vhdx_log_page (log, entry->page + at / VHDX_PAGE) + at % VHDX_PAGE, DESCRIPTOR);
}

static int
vhdx_replay_entry (VhdxLog *log, const VhdxEntry *entry, GError **error)
{
  const uint8_t *header = vhdx_log_page (log, entry->page);
  const uint32_t count = tn_load_le32 (header + AT_DESCRIPTORS);
  uint64_t data_page = vhdx_descriptor_pages (count);
  if (tn_load_le64 (header + AT_FLUSHED_SIZE) > vhdx_file_size (log->v))
    return vhdx_bad_entry (log, entry, "the file has been truncated since", error);
  int ret = 0;
  for (uint32_t i = 0; ret == 0 && i < count; i++) {
    uint8_t descriptor[DESCRIPTOR];
    vhdx_load_descriptor (log, entry, i, descriptor);
    if (tn_load_le64 (descriptor + 24) != entry->sequence)
      ret = vhdx_bad_entry (log, entry, "a descriptor belongs to another entry", error);
    else if (memcmp (descriptor, "zero", 4) == 0)
      ret = vhdx_replay_zeroes (log, entry, descriptor, error);
    else if (memcmp (descriptor, "desc", 4) == 0)
      ret = vhdx_replay_page (log, entry, descriptor, data_page++, error);
    else
      ret = vhdx_bad_entry (log, entry, "a descriptor is of no known kind", error);
  }
  const uint64_t last = tn_load_le64 (header + AT_LAST_SIZE);
  if (ret == 0 && last <= (uint64_t) INT64_MAX / 2)
    log->v->overlay.file_size = MAX (log->v->overlay.file_size, last);
  return ret;
}

static int
vhdx_replay_youngest (VhdxLog *log, GError **error)
{
  g_autoptr (GPtrArray) sequence = g_ptr_array_new ();
  int ret = 0;
  for (guint i = 0; i < MIN (log->entries->len, MAX_HEADS); i++) {
    if (!vhdx_collect_sequence (log, &g_array_index (log->entries, VhdxEntry, i), sequence))
      continue;
    for (guint j = 0; ret == 0 && j < sequence->len; j++)
      ret = vhdx_replay_entry (log, g_ptr_array_index (sequence, j), error);
    return ret;
  }
  return 0; /* nothing has been logged yet */
}

int
vhdx_log_replay (Vhdx *v, GError **error)
{
  const uint32_t length = v->header.log_length;
  if (uuid_is_null (v->header.log_guid) || length == 0)
    return 0;
  if (v->header.log_version != 0)
    return vhdx_fail (v, error, ENOTSUP, "a log of version %u cannot be replayed", v->header.log_version);
  if (length > VHDX_MAX_LOG || v->header.log_offset > tn_node_size (v->file)
      || length > tn_node_size (v->file) - v->header.log_offset)
    return vhdx_fail (v, error, EINVAL, "its log of %u bytes at %" PRIu64 " is larger than 64 MiB or cut off",
                      length, v->header.log_offset);
  VhdxLog log = { .v = v, .pages = length / VHDX_PAGE, .work = 2 * (uint64_t) length };
  log.bytes = g_try_malloc (length);
  log.entry_of = g_new0 (uint32_t, log.pages);
  if (!log.bytes) {
    g_free (log.entry_of);
    return vhdx_fail (v, error, ENOMEM, "no memory for a log of %u bytes", length);
  }
  log.entries = g_array_new (false, false, sizeof (VhdxEntry));
  int ret = tn_node_read (v->file, v->header.log_offset, log.bytes, length, error);
  if (ret == 0) {
    vhdx_find_entries (&log);
    ret = vhdx_replay_youngest (&log, error);
  }
  g_array_unref (log.entries);
  g_free (log.entry_of);
  g_free (log.bytes);
  return ret;
}
