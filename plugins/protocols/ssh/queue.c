/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One worker at a time works off what the node is asked for. */
#include "ssh.h"

#include <fcntl.h>

/* Reads that are sent ahead: parts of this size, which every server serves, and as many. */
#define PART_BYTES (32u << 10)
#define MAX_PARTS 64

typedef struct Part {
  SshJob *job;
  uint64_t skip; /* in the job's request */
  uint32_t length;
  int id;
} Part;

typedef struct Window {
  SshNode *node;
  Part parts[MAX_PARTS];
  unsigned first, n;
  SshJob *reading; /* has more parts to be sent */
  uint8_t buffer[PART_BYTES];
} Window;

/* ---- The end of a job ---- */

static void
end_at_home (void *opaque)
{
  SshJob *job = opaque;
  job->done (job);
}

static void
end_job (SshJob *job, int result)
{
  job->result = result;
  tn_loop_post (job->home, end_at_home, job);
}

/* ---- The queue ---- */

/* NULL: it is empty (then another worker may begin), or, with @reads_only, the next is no read. */
static SshJob *
take_job (SshNode *node, bool reads_only)
{
  g_mutex_lock (&node->lock);
  SshJob *job = node->first;
  if (reads_only && job && !(job->request && job->request->op == TN_REQUEST_READ))
    job = NULL;
  else if (job)
    node->first = job->next;
  else if (!reads_only) {
    node->busy = false;
    g_cond_signal (&node->idle);
  }
  g_mutex_unlock (&node->lock);
  return job;
}

void
ssh_queue_wait_idle (SshNode *node)
{
  g_mutex_lock (&node->lock);
  while (node->busy)
    g_cond_wait (&node->idle, &node->lock);
  g_mutex_unlock (&node->lock);
}

/* ---- The link ---- */

static bool
is_up (const SshNode *node)
{
  return node->link.file;
}

static void
drop_if_lost (SshNode *node)
{
  if (is_up (node) && ssh_link_lost (&node->link))
    ssh_link_down (&node->target, &node->link);
}

/* Another connection has to lead to what was opened. */
static int
come_up (SshNode *node)
{
  uint64_t size = 0;
  if (is_up (node))
    return 0;
  int rc = ssh_link_up (&node->target, &node->link, NULL);
  if (rc == 0)
    rc = ssh_file_open (&node->target, &node->link, node->writable ? O_RDWR : O_RDONLY, &size, NULL);
  const uint64_t was = tn_node_size (node->node);
  if (rc == 0 && (node->writable ? size < was : size != was))
    rc = -ESTALE;
  if (rc < 0)
    ssh_link_down (&node->target, &node->link);
  return rc;
}

/* ---- Reads ---- */

static void
part_done (SshJob *job, int result)
{
  if (result < 0)
    job->result = result;
  if (--job->parts == 0 && job->begun == job->request->length)
    end_job (job, job->result);
}

static void
scatter (const TnRequest *request, uint64_t skip, const uint8_t *from, size_t length)
{
  for (const struct iovec *iov = request->iov; length; iov++) {
    if (skip >= iov->iov_len) {
      skip -= iov->iov_len;
      continue;
    }
    const size_t n = MIN (iov->iov_len - (size_t) skip, length);
    memcpy ((uint8_t *) iov->iov_base + skip, from, n);
    from += n;
    length -= n;
    skip = 0;
  }
}

static void
send_part (Window *window, SshJob *job, uint64_t skip, uint32_t length)
{
  SshLink *link = &window->node->link;
  sftp_seek64 (link->file, job->request->offset + skip);
  const int id = sftp_async_read_begin (link->file, length);
  window->parts[(window->first + window->n++) % MAX_PARTS] = (Part){ job, skip, length, id };
  job->parts++;
}

/* Sends the next part of the read that has some left. */
static void
begin_part (Window *window)
{
  SshJob *job = window->reading;
  const uint64_t skip = job->begun;
  const uint32_t length = (uint32_t) MIN (PART_BYTES, job->request->length - skip);
  job->begun += length;
  if (job->begun == job->request->length)
    window->reading = NULL;
  send_part (window, job, skip, length);
}

/* Bytes that came, at least one, or -errno.  What a short answer left out is asked for again at the end of
 * the window: libssh would miss an answer that came while it waited for a later one. */
static int
receive_part (Window *window, const Part *part)
{
  SshLink *link = &window->node->link;
  if (part->id < 0)
    return -EIO;
  link->file->eof = 0;
  const int got = sftp_async_read (link->file, window->buffer, part->length, (uint32_t) part->id);
  if (got < 0)
    return ssh_file_errno (link);
  /* The file had these bytes when it was opened. */
  if (got == 0 || (uint32_t) got > part->length)
    return -EIO;
  scatter (part->job->request, part->skip, window->buffer, (size_t) got);
  return got;
}

/* The answers of a connection that is gone do not come any more. */
static void
fail_parts (Window *window)
{
  SshJob *job = g_steal_pointer (&window->reading);
  if (job && job->parts == 0) {
    end_job (job, -EIO);
  } else if (job) {
    job->result = -EIO;
    job->begun = job->request->length;
  }
  for (; window->n; window->n--, window->first = (window->first + 1) % MAX_PARTS)
    part_done (window->parts[window->first].job, -EIO);
}

static void
take_part (Window *window)
{
  SshNode *node = window->node;
  const Part part = window->parts[window->first];
  ssh_watch_begin (&node->target);
  const int rc = receive_part (window, &part);
  ssh_watch_end (&node->target);
  window->first = (window->first + 1) % MAX_PARTS;
  window->n--;
  if (rc > 0 && (uint32_t) rc < part.length)
    send_part (window, part.job, part.skip + (uint32_t) rc, part.length - (uint32_t) rc);
  const bool lost = rc < 0 && ssh_link_lost (&node->link);
  part_done (part.job, rc);
  if (lost) {
    fail_parts (window);
    drop_if_lost (node);
  }
}

/* As many as there is room for.  False: there is none under way. */
static bool
send_ahead (Window *window)
{
  while (window->n < MAX_PARTS) {
    if (!window->reading)
      window->reading = take_job (window->node, true);
    if (!window->reading)
      break;
    const int rc = come_up (window->node);
    if (rc < 0)
      end_job (g_steal_pointer (&window->reading), rc);
    else
      begin_part (window);
  }
  return window->n > 0;
}

/* ---- All else ---- */

static int
do_request (SshNode *node, const TnRequest *request)
{
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_WRITE:
    return ssh_file_write (&node->link, request);
  case TN_REQUEST_FLUSH:
    return ssh_file_flush (&node->link);
  default:
    return -ENOTSUP;
  }
}

static void
do_job (SshNode *node, SshJob *job)
{
  int rc = come_up (node);
  if (rc == 0) {
    ssh_watch_begin (&node->target);
    rc = job->request ? do_request (node, job->request) : job->work (node, job->opaque);
    ssh_watch_end (&node->target);
  }
  drop_if_lost (node);
  end_job (job, rc);
}

/* ---- The worker ---- */

static void
work_off (void *opaque)
{
  Window *window = opaque;
  SshNode *node = window->node;
  for (;;) {
    while (send_ahead (window))
      take_part (window);
    SshJob *job = take_job (node, false);
    if (!job)
      return;
    if (job->request && job->request->op == TN_REQUEST_READ)
      window->reading = job;
    else
      do_job (node, job);
  }
}

void
ssh_queue_add (SshJob *job)
{
  SshNode *node = job->node;
  job->home = tn_loop_current ();
  g_mutex_lock (&node->lock);
  if (node->first)
    node->last->next = job;
  else
    node->first = job;
  node->last = job;
  const bool begin = !node->busy;
  node->busy = true;
  g_mutex_unlock (&node->lock);
  if (!begin)
    return;
  Window *window = g_new0 (Window, 1);
  window->node = node;
  tn_loop_work (job->home, work_off, g_free, window);
}

/* ---- Whoever waits for the end ---- */

typedef struct Call {
  SshJob job;
  TnCoroutine *waiter;
} Call;

static void
call_done (SshJob *job)
{
  Call *call = (Call *) job; /* its first member */
  tn_co_wake (call->waiter);
}

static void
wait_for_call (void *opaque)
{
  Call *call = opaque;
  call->waiter = tn_co_self ();
  ssh_queue_add (&call->job);
  tn_co_yield ();
}

int
ssh_queue_run (SshNode *node, int (*work) (SshNode *node, void *opaque), void *opaque)
{
  Call call = { .job = { .node = node, .work = work, .done = call_done, .opaque = opaque } };
  tn_co_run (wait_for_call, &call);
  return call.job.result;
}
