/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log.h"

#include <endian.h>

#define LOG_MAGIC UINT64_C (0x6a736677736872)
#define LOG_VERSION UINT64_C (1)

typedef struct LogSuper {
  uint64_t magic, version, n_entries;
  uint32_t block;
} __attribute__ ((packed)) LogSuper;

typedef struct LogEntry {
  uint64_t sector, n_sectors, flags, data_length;
} LogEntry;

/* One block that begins with @bytes. */
static int
log_write_block (Log *log, uint64_t at, const void *bytes, size_t length, GError **error)
{
  g_autofree char *block = g_try_malloc0 (log->block);

  if (block == NULL)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for a block of the log");
  memcpy (block, bytes, length);
  return tn_node_write (log->node, at * log->block, block, log->block, error);
}

static int
log_write_super (Log *log, GError **error)
{
  const LogSuper super = { htole64 (LOG_MAGIC), htole64 (LOG_VERSION), htole64 (log->n_entries),
                           htole32 (log->block) };
  int r = log_write_block (log, 0, &super, sizeof super, error);

  if (r >= 0)
    log->in_super = log->n_entries;
  return MIN (r, 0);
}

int
log_start (Log *log, GError **error)
{
  log->next = 1;
  return log_write_super (log, error);
}

/* ---- Going on with a log ---- */

static int
log_refuse (const Log *log, const char *what, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "%s: %s: open it without log-append to begin a new log",
                  tn_node_filename (log->node), what);
}

/* How many blocks of data follow an entry. */
static bool
log_data_blocks (const Log *log, const LogEntry *entry, uint64_t *n)
{
  uint64_t length = le64toh (entry->n_sectors);

  *n = 0;
  if ((le64toh (entry->flags) & LOG_DISCARD) != 0)
    return true;
  *n = length;
  return length < INT64_MAX / log->block;
}

static int
log_skip_entries (Log *log, uint64_t n_entries, GError **error)
{
  uint64_t n_blocks = tn_node_size (log->node) / log->block;

  log->next = 1;
  for (log->n_entries = 0; log->n_entries < n_entries; log->n_entries++) {
    LogEntry entry;
    uint64_t n;
    int r;

    if (log->next >= n_blocks)
      return log_refuse (log, "the log ends before its last entry", error);
    r = tn_node_read (log->node, log->next * log->block, &entry, sizeof entry, error);
    if (r < 0)
      return r;
    if (!log_data_blocks (log, &entry, &n) || n > n_blocks - log->next - 1)
      return log_refuse (log, "an entry of the log reaches beyond its end", error);
    log->next += 1 + n;
  }
  log->in_super = n_entries;
  return 0;
}

int
log_resume (Log *log, GError **error)
{
  LogSuper super;
  uint32_t block;
  int r = tn_node_read (log->node, 0, &super, sizeof super, error);

  if (r < 0)
    return r;
  block = le32toh (super.block);
  if (super.magic != htole64 (LOG_MAGIC) || super.version != htole64 (LOG_VERSION))
    return log_refuse (log, "there is no log of writes to append to", error);
  if (block < 512 || block > LOG_BLOCK_MAX || (block & (block - 1)) != 0)
    return log_refuse (log, "the log has an impossible sector size", error);
  log->block = block;
  return log_skip_entries (log, le64toh (super.n_entries), error);
}

/* ---- Appending ---- */

static int
log_write_data (Log *log, const struct iovec *iov, unsigned n_iov, uint64_t length)
{
  uint64_t at = (log->next + 1) * log->block;

  if (length == 0)
    return 0;
  return n_iov > 0 ? tn_node_writev (log->node, at, iov, n_iov, 0, NULL)
                   : tn_node_write_zeroes (log->node, at, length, 0, NULL);
}

static int
log_append_locked (Log *log, const LogEntry *entry, const struct iovec *iov, unsigned n_iov,
                   uint64_t data_length)
{
  int r = log_write_data (log, iov, n_iov, data_length);

  if (r >= 0)
    r = log_write_block (log, log->next, entry, sizeof *entry, NULL);
  if (r < 0)
    return r;
  log->next += 1 + data_length / log->block;
  log->n_entries++;
  if (log->n_entries - log->in_super >= log->update_interval)
    r = log_write_super (log, NULL);
  return MIN (r, 0);
}

int
log_append (Log *log, uint64_t flags, uint64_t offset, uint64_t length, const struct iovec *iov,
            unsigned n_iov, uint64_t data_length)
{
  const LogEntry entry = { htole64 (offset / log->block), htole64 (length / log->block), htole64 (flags),
                           htole64 (data_length) };
  int r;

  tn_co_mutex_lock (&log->lock);
  r = log_append_locked (log, &entry, iov, n_iov, data_length);
  tn_co_mutex_unlock (&log->lock);
  return r;
}

int
log_flush (Log *log, GError **error)
{
  int r = 0;

  tn_co_mutex_lock (&log->lock);
  if (log->in_super != log->n_entries)
    r = log_write_super (log, error);
  tn_co_mutex_unlock (&log->lock);
  return r < 0 ? r : tn_node_flush (log->node, error);
}
