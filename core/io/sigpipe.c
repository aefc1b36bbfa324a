/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SIGPIPE, for libraries that write to sockets without asking to be spared it. */
#include "tenon/loop.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

static void
sigpipe_set (sigset_t *set)
{
  sigemptyset (set);
  sigaddset (set, SIGPIPE);
}

TnSigpipe
tn_sigpipe_block (void)
{
  sigset_t pipe, before;
  sigpipe_set (&pipe);
  pthread_sigmask (SIG_BLOCK, &pipe, &before);
  return sigismember (&before, SIGPIPE) ? TN_SIGPIPE_WAS_BLOCKED : TN_SIGPIPE_WAS_OPEN;
}

void
tn_sigpipe_restore (TnSigpipe before)
{
  const struct timespec at_once = { 0 };
  sigset_t pipe;
  if (before == TN_SIGPIPE_WAS_BLOCKED)
    return;
  sigpipe_set (&pipe);
  while (sigtimedwait (&pipe, NULL, &at_once) < 0 && errno == EINTR)
    continue;
  pthread_sigmask (SIG_UNBLOCK, &pipe, NULL);
}
