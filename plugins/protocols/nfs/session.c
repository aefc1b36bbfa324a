/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mounting and opening.  All here waits, with a deadline. */
#include "nfs.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#define GOODBYE_NS INT64_C (1000000000)
#define SMALLEST_TRANSFER 4096
#define LARGEST_TRANSFER (1u << 20)

/* What is waited for.  It outlives the wait: an answer may come when the context is destroyed. */
typedef struct Wait {
  int refs;
  bool over;
  int result;
  char *words;
  struct nfs_stat_64 stat;
  struct nfsfh *file;
} Wait;

static Wait *
wait_new (void)
{
  Wait *wait = g_new0 (Wait, 1);
  wait->refs = 2;
  return wait;
}

static void
wait_drop (Wait *wait)
{
  if (--wait->refs > 0)
    return;
  g_free (wait->words);
  g_free (wait);
}

static void
settle (Wait *wait, int result, const void *data)
{
  wait->over = true;
  wait->result = result;
  if (result < 0 && data)
    wait->words = g_strndup (data, 200);
  wait_drop (wait);
}

static void
came (int result, struct nfs_context *context, void *data, void *opaque)
{
  settle (opaque, result, data);
}

static void
came_file (int result, struct nfs_context *context, void *data, void *opaque)
{
  Wait *wait = opaque;
  if (result >= 0)
    wait->file = data;
  settle (wait, result, data);
}

static void
came_stat (int result, struct nfs_context *context, void *data, void *opaque)
{
  Wait *wait = opaque;
  if (result >= 0 && data)
    wait->stat = *(const struct nfs_stat_64 *) data;
  settle (wait, result, data);
}

int
nfs_session_serve (NfsSession *session, int events)
{
  const TnSigpipe before = tn_sigpipe_block ();
  const int ret = nfs_service (session->context, events);
  tn_sigpipe_restore (before);
  return ret;
}

/* Lets libnfs do what it can, once.  0, or why there is no use in going on. */
static int
serve (NfsSession *session, const int *cancel, int64_t deadline)
{
  const int64_t left = deadline - tn_clock_ns ();
  if (cancel && g_atomic_int_get (cancel))
    return -ECANCELED;
  if (left <= 0)
    return -ETIMEDOUT;
  struct pollfd poller = { nfs_get_fd (session->context), (short) nfs_which_events (session->context), 0 };
  if (poller.fd < 0)
    return -ENOTCONN;
  const int ready = poll (&poller, 1, (int) MIN (left / 1000000 + 1, 100));
  if (ready < 0)
    return errno == EINTR ? 0 : -errno;
  return nfs_session_serve (session, ready ? poller.revents : 0) < 0 ? -ENOTCONN : 0;
}

/* @started is what began it.  Afterwards @wait is the caller's until wait_drop(). */
static int
wait_for (NfsSession *session, Wait *wait, int started, const int *cancel, int64_t deadline)
{
  if (started < 0) {
    wait_drop (wait); /* no answer will come for it */
    return -ENOTCONN;
  }
  int rc = 0;
  while (!wait->over && rc == 0)
    rc = serve (session, cancel, deadline);
  return wait->over ? wait->result : rc;
}

/* libnfs tells of damage and of losses by errnos that say something else. */
static int
errno_of (int rc)
{
  switch (-rc) {
  case EINTR:
  case EFAULT:
  case ENOTCONN:
    return EIO;
  default:
    return -rc > 0 && -rc < 4096 ? -rc : EIO;
  }
}

static const char *
remedy_of (int errnum)
{
  switch (errnum) {
  case EACCES:
  case EPERM:
    return " (check the export, and user and group)";
  case ENOENT:
    return " (check the path)";
  case EROFS:
    return " (open it read-only)";
  case ETIMEDOUT:
    return ": it does not answer";
  default:
    return "";
  }
}

static int
fail_at (const NfsPlace *place, const char *what, const Wait *wait, int rc, GError **error)
{
  const int errnum = errno_of (rc);
  g_autofree char *words = g_strdup (wait && wait->words ? wait->words : g_strerror (errnum));
  g_strstrip (g_strdelimit (words, "\r\n", ' '));
  return tn_fail (error, TN_BLOCK_ERROR, errnum, "the %s cannot %s: %s%s", place->name, what, words,
                  remedy_of (errnum));
}

/* ---- The context ---- */

/* Ports have no setter: libnfs takes them from a name only. */
static void
set_ports (struct nfs_context *context, const NfsPlace *place)
{
  g_autoptr (GString) url = g_string_new ("nfs://127.0.0.1/?");
  if (place->port)
    g_string_append_printf (url, "nfsport=%u", place->port);
  if (place->mount_port || place->port)
    g_string_append_printf (url, "%smountport=%u", place->port ? "&" : "",
                            place->mount_port ? place->mount_port : place->port);
  else
    return;
  struct nfs_url *parsed = nfs_parse_url_incomplete (context, url->str);
  if (parsed)
    nfs_destroy_url (parsed);
}

static NfsSession *
session_new (const NfsPlace *place)
{
  NfsSession *session = g_new0 (NfsSession, 1);
  session->context = nfs_init_context ();
  if (!session->context) {
    g_free (session);
    return NULL;
  }
  struct nfs_context *context = session->context;
  set_ports (context, place);
  nfs_set_version (context, (int) place->version);
  nfs_set_autoreconnect (context, 0);
  nfs_set_dircache (context, 0);
  nfs_set_timeout (context, place->timeout_ns ? (int) (place->timeout_ns / 1000000) : -1);
  if (place->uid >= 0)
    nfs_set_uid (context, (int) place->uid);
  if (place->gid >= 0)
    nfs_set_gid (context, (int) place->gid);
  if (place->syn_count)
    nfs_set_tcp_syncnt (context, (int) place->syn_count);
  if (place->readahead)
    nfs_set_readahead (context, place->readahead);
  if (place->page_cache)
    nfs_set_pagecache (context, place->page_cache);
  return session;
}

void
nfs_session_free (NfsSession *session, bool friendly)
{
  if (!session)
    return;
  if (session->file) {
    Wait *wait = wait_new ();
    const int started = nfs_close_async (session->context, session->file, came, wait);
    if (friendly || started < 0)
      wait_for (session, wait, started, NULL, tn_clock_ns () + GOODBYE_NS);
    wait_drop (wait);
  }
  nfs_destroy_context (session->context);
  g_free (session);
}

/* ---- Steps ---- */

typedef struct Steps {
  const NfsPlace *place;
  NfsSession *session;
  const int *cancel;
  int64_t deadline;
  GError **error;
} Steps;

static int
mount_folder (const Steps *steps)
{
  const NfsPlace *place = steps->place;
  Wait *wait = wait_new ();
  const int started = nfs_mount_async (steps->session->context, place->server, place->folder, came, wait);
  const int rc = wait_for (steps->session, wait, started, steps->cancel, steps->deadline);
  g_autofree char *what = g_strdup_printf ("mount '%.200s'", place->folder);
  if (rc < 0)
    fail_at (place, what, wait, rc, steps->error);
  wait_drop (wait);
  return rc < 0 ? -errno_of (rc) : 0;
}

static int
open_file (const Steps *steps, NfsOpenHow how)
{
  const NfsPlace *place = steps->place;
  struct nfs_context *context = steps->session->context;
  Wait *wait = wait_new ();
  int started;
  if (how == NFS_OPEN_CREATE)
    started = nfs_open2_async (context, place->file, O_RDWR | O_CREAT | O_TRUNC, 0644, came_file, wait);
  else
    started = nfs_open_async (context, place->file,
                              how == NFS_OPEN_READ     ? O_RDONLY
                              : how == NFS_OPEN_STABLE ? O_RDWR | O_SYNC
                                                       : O_RDWR,
                              came_file, wait);
  const int rc = wait_for (steps->session, wait, started, steps->cancel, steps->deadline);
  steps->session->file = wait->file;
  g_autofree char *what =
      g_strdup_printf ("%s '%.200s'", how == NFS_OPEN_CREATE ? "create" : "open", place->file + 1);
  if (rc < 0)
    fail_at (place, what, wait, rc, steps->error);
  wait_drop (wait);
  return rc < 0 ? -errno_of (rc) : 0;
}

static int
take_stat (const Steps *steps, const struct nfs_stat_64 *stat)
{
  NfsSession *session = steps->session;
  if ((stat->nfs_mode & S_IFMT) != S_IFREG)
    return tn_fail (steps->error, TN_BLOCK_ERROR, EINVAL, "'%.200s' on the %s is not a file: name a file",
                    steps->place->file + 1, steps->place->name);
  if (stat->nfs_size > INT64_MAX)
    return tn_fail (steps->error, TN_BLOCK_ERROR, EFBIG, "the %s says that '%.200s' is larger than any file",
                    steps->place->name, steps->place->file + 1);
  session->size = stat->nfs_size;
  session->allocated = stat->nfs_used;
  return 0;
}

static int
ask_size (const Steps *steps)
{
  NfsSession *session = steps->session;
  Wait *wait = wait_new ();
  const int started = nfs_fstat64_async (session->context, session->file, came_stat, wait);
  int rc = wait_for (session, wait, started, steps->cancel, steps->deadline);
  if (rc < 0)
    rc = fail_at (steps->place, "tell the size of the file", wait, rc, steps->error);
  else
    rc = take_stat (steps, &wait->stat);
  wait_drop (wait);
  const uint64_t most = MIN (nfs_get_readmax (session->context), nfs_get_writemax (session->context));
  session->max_transfer =
      CLAMP (most, SMALLEST_TRANSFER, LARGEST_TRANSFER) & ~(uint64_t) (SMALLEST_TRANSFER - 1);
  session->max_write = session->max_transfer;
  return rc;
}

static int
find_server (NfsPlace *place, GError **error)
{
  const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
  struct addrinfo *list = NULL;
  char text[NI_MAXHOST];
  if (place->server)
    return 0;
  int failed = getaddrinfo (place->host, NULL, &hints, &list);
  if (!failed)
    failed = getnameinfo (list->ai_addr, list->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
  if (list)
    freeaddrinfo (list);
  if (failed)
    return tn_fail (error, TN_BLOCK_ERROR, EIO, "cannot find the %s: %s (check the name)", place->name,
                    gai_strerror (failed));
  place->server = g_strdup (text);
  return 0;
}

int
nfs_session_open (NfsPlace *place, NfsOpenHow how, const int *cancel, int64_t deadline, NfsSession **made,
                  GError **error)
{
  int rc = find_server (place, error);
  if (rc < 0)
    return rc;
  NfsSession *session = session_new (place);
  if (!session)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for a session with the %s", place->name);
  const Steps steps = { place, session, cancel, deadline, error };
  rc = mount_folder (&steps);
  if (rc == 0)
    rc = open_file (&steps, how);
  if (rc == 0)
    rc = ask_size (&steps);
  if (rc == 0)
    *made = session;
  else
    nfs_session_free (session, false);
  return rc;
}

int
nfs_session_truncate (const NfsPlace *place, NfsSession *session, uint64_t size, int64_t deadline,
                      GError **error)
{
  Wait *wait = wait_new ();
  const int started = nfs_ftruncate_async (session->context, session->file, size, came, wait);
  int rc = wait_for (session, wait, started, NULL, deadline);
  if (rc < 0)
    rc = fail_at (place, "make the file so large", wait, rc, error);
  wait_drop (wait);
  return MIN (rc, 0);
}

int
nfs_session_remove_file (NfsPlace *place, int64_t deadline, GError **error)
{
  int rc = find_server (place, error);
  if (rc < 0)
    return rc;
  NfsSession *session = session_new (place);
  if (!session)
    return tn_fail (error, TN_BLOCK_ERROR, ENOMEM, "no memory for a session with the %s", place->name);
  const Steps steps = { place, session, NULL, deadline, error };
  rc = mount_folder (&steps);
  if (rc == 0) {
    Wait *wait = wait_new ();
    const int started = nfs_unlink_async (session->context, place->file, came, wait);
    rc = wait_for (session, wait, started, NULL, deadline);
    if (rc < 0)
      rc = fail_at (place, "remove the file", wait, rc, error);
    wait_drop (wait);
  }
  nfs_session_free (session, false);
  return MIN (rc, 0);
}
