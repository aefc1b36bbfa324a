/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resolve.h"

#include <tenon/loop.h>

#define MOST_LOOKUPS 16
/* How often *cancel is looked at. */
#define SLICE_US 100000

/* One question, which outlives whoever asked. */
typedef struct Lookup {
  char *host, *port;
  GMutex lock;
  GCond answered;
  int references;
  bool done;
  int rc;
  struct addrinfo *found;
} Lookup;

/* The system's resolver cannot be interrupted, so that those under way have to be counted. */
static int lookups_under_way; /* atomic */

static void
lookup_unref (Lookup *lookup)
{
  if (!g_atomic_int_dec_and_test (&lookup->references))
    return;
  if (lookup->found)
    freeaddrinfo (lookup->found);
  g_mutex_clear (&lookup->lock);
  g_cond_clear (&lookup->answered);
  g_free (lookup->host);
  g_free (lookup->port);
  g_free (lookup);
}

static int
ask (const char *host, const char *port, int flags, struct addrinfo **found)
{
  const struct addrinfo hints = { .ai_flags = flags, .ai_socktype = SOCK_STREAM };
  return getaddrinfo (host, port, &hints, found);
}

static gpointer
lookup_thread (gpointer data)
{
  Lookup *lookup = data;
  struct addrinfo *found = NULL;
  const int rc = ask (lookup->host, lookup->port, 0, &found);
  g_mutex_lock (&lookup->lock);
  lookup->rc = rc;
  lookup->found = rc ? NULL : found;
  lookup->done = true;
  g_cond_signal (&lookup->answered);
  g_mutex_unlock (&lookup->lock);
  lookup_unref (lookup);
  g_atomic_int_add (&lookups_under_way, -1);
  return NULL;
}

/* NULL: there are too many, or no thread can be had. */
static Lookup *
lookup_start (const char *host, const char *port)
{
  if (g_atomic_int_add (&lookups_under_way, 1) >= MOST_LOOKUPS) {
    g_atomic_int_add (&lookups_under_way, -1);
    return NULL;
  }
  Lookup *lookup = g_new0 (Lookup, 1);
  lookup->host = g_strdup (host);
  lookup->port = g_strdup (port);
  lookup->references = 2;
  g_mutex_init (&lookup->lock);
  g_cond_init (&lookup->answered);
  GThread *thread = g_thread_try_new ("nbd-resolve", lookup_thread, lookup, NULL);
  if (thread) {
    g_thread_unref (thread);
    return lookup;
  }
  g_atomic_int_add (&lookups_under_way, -1);
  lookup_unref (lookup);
  lookup_unref (lookup);
  return NULL;
}

/* 0, -ETIMEDOUT or -ECANCELED. */
static int
lookup_wait (Lookup *lookup, int64_t deadline, const int *cancel)
{
  int rc = 0;
  g_mutex_lock (&lookup->lock);
  while (!lookup->done && rc == 0) {
    const int64_t left = (deadline - tn_clock_ns ()) / 1000;
    if (cancel && g_atomic_int_get (cancel))
      rc = -ECANCELED;
    else if (left <= 0)
      rc = -ETIMEDOUT;
    else
      g_cond_wait_until (&lookup->answered, &lookup->lock, g_get_monotonic_time () + MIN (left, SLICE_US));
  }
  g_mutex_unlock (&lookup->lock);
  return rc;
}

static int
fail_lookup (int rc, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, EHOSTUNREACH, "%s", gai_strerror (rc));
}

int
nbd_resolve (const char *host, const char *port, int64_t deadline, const int *cancel, struct addrinfo **found,
             GError **error)
{
  *found = NULL;
  /* Numbers need nobody to be asked. */
  if (ask (host, port, AI_NUMERICHOST, found) == 0)
    return 0;
  Lookup *lookup = lookup_start (host, port);
  if (!lookup)
    return tn_fail (error, TN_BLOCK_ERROR, EAGAIN, "too many names wait for a name server: use an address");
  int rc = lookup_wait (lookup, deadline, cancel);
  if (rc < 0)
    tn_fail (error, TN_BLOCK_ERROR, -rc, "no name server has answered in time");
  else if (lookup->rc)
    rc = fail_lookup (lookup->rc, error);
  else
    *found = g_steal_pointer (&lookup->found);
  lookup_unref (lookup);
  return rc;
}
