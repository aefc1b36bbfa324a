/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Watched descriptors, as far as both backends agree. */
#include "io/loop-private.h"

#include <poll.h>

/* Failures of the descriptor show as whatever is watched for, as they do with select(2): the read or
 * write that follows tells which it was. */
void
tn_watch_deliver (TnWatch *watch, short revents)
{
  short ready = revents & watch->events;

  if (revents & (POLLERR | POLLHUP | POLLNVAL))
    ready = watch->events;
  if (ready)
    watch->ready (watch->fd, ready, watch->opaque);
}

static TnWatch *
watch_add (TnLoop *loop, int fd)
{
  TnWatch *watch = g_new0 (TnWatch, 1);

  watch->fd = fd;
  watch->next = loop->watches;
  if (loop->watches)
    loop->watches->prev = watch;
  loop->watches = watch;
  g_hash_table_insert (loop->watch_by_fd, GINT_TO_POINTER (fd), watch);
  return watch;
}

/* Frees a watch that the kernel knows nothing of any more. */
void
tn_watch_drop (TnLoop *loop, TnWatch *watch)
{
  if (watch->prev)
    watch->prev->next = watch->next;
  else
    loop->watches = watch->next;
  if (watch->next)
    watch->next->prev = watch->prev;
  g_free (watch);
}

/* The backend drops it, at once or when the kernel has let go. */
static void
watch_remove (TnLoop *loop, TnWatch *watch)
{
  g_hash_table_remove (loop->watch_by_fd, GINT_TO_POINTER (watch->fd));
  watch->events = 0;
  loop->backend->watch (loop, watch);
}

int
tn_loop_watch_fd (TnLoop *loop, int fd, short events, void (*ready) (int fd, short events, void *opaque),
                  void *opaque, GError **error)
{
  TnWatch *watch;
  int failed;

  tn_loop_ensure_backend (loop);
  if (!loop->watch_by_fd)
    loop->watch_by_fd = g_hash_table_new (NULL, NULL);
  watch = g_hash_table_lookup (loop->watch_by_fd, GINT_TO_POINTER (fd));
  events &= POLLIN | POLLOUT;
  if (!events) {
    if (watch)
      watch_remove (loop, watch);
    return 0;
  }

  if (!watch)
    watch = watch_add (loop, fd);
  watch->events = events;
  watch->ready = ready;
  watch->opaque = opaque;
  failed = loop->backend->watch (loop, watch);
  if (failed) {
    watch_remove (loop, watch);
    return tn_fail_errno (error, TN_IO_ERROR, -failed, "cannot watch file descriptor %d", fd);
  }
  return 0;
}

/* Descriptors such as regular files, which are always ready and which epoll therefore refuses.  The
 * set may change under a callback, so it is looked up anew by number. */
bool
tn_watches_run_always (TnLoop *loop)
{
  g_autoptr (GArray) fds = g_array_new (FALSE, FALSE, sizeof (int));

  for (TnWatch *watch = loop->watches; watch; watch = watch->next)
    if (watch->always)
      g_array_append_val (fds, watch->fd);
  for (guint i = 0; i < fds->len; i++) {
    TnWatch *watch = g_hash_table_lookup (loop->watch_by_fd, GINT_TO_POINTER (g_array_index (fds, int, i)));

    if (watch && watch->always)
      tn_watch_deliver (watch, watch->events);
  }
  return true;
}

void
tn_watches_free (TnLoop *loop)
{
  while (loop->watches)
    tn_watch_drop (loop, loop->watches);
  g_clear_pointer (&loop->watch_by_fd, g_hash_table_unref);
}
