/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Proving that a target holds what its sources do, by reading both. */
#include "img.h"

#include <tenon/copy.h>
#include <tenon/loop.h>

#define VERIFY_CHUNK (512u << 10)

typedef struct Verify {
  const ImgVerify *job;
  unsigned char *buffer[2];
  uint64_t done;
  int result;
  GError **error;
} Verify;

/* Both reads are under way at a time. */
typedef struct VerifyRead {
  TnRequest request;
  struct iovec iov;
  TnCoroutine *waiter;
  unsigned *pending;
  int result;
} VerifyRead;

static void
read_done (TnRequest *request, int result)
{
  VerifyRead *read = request->opaque;
  read->result = result;
  if (--*read->pending == 0)
    tn_co_wake (read->waiter);
}

static void
read_begin (VerifyRead *read, TnNode *node, uint64_t offset)
{
  read->waiter = tn_co_self ();
  read->request = (TnRequest){ .op = TN_REQUEST_READ,
                               .n_iov = 1,
                               .iov = &read->iov,
                               .offset = offset,
                               .length = read->iov.iov_len,
                               .done = read_done,
                               .opaque = read };
  tn_node_submit (node, &read->request);
}

static int
read_both (Verify *verify, TnNode *source, uint64_t offset, uint64_t at, uint64_t length)
{
  unsigned pending = 2;
  TnNode *nodes[2] = { source, verify->job->target };
  uint64_t offsets[2] = { offset, at };
  VerifyRead reads[2];
  for (unsigned i = 0; i < 2; i++) {
    reads[i].iov = (struct iovec){ verify->buffer[i], length };
    reads[i].pending = &pending;
    read_begin (&reads[i], nodes[i], offsets[i]);
  }
  tn_co_yield ();
  for (unsigned i = 0; i < 2; i++)
    if (reads[i].result < 0)
      return tn_fail_errno (verify->error, TN_BLOCK_ERROR, -reads[i].result,
                            "%s: cannot read at offset %" G_GUINT64_FORMAT, tn_node_filename (nodes[i]),
                            offsets[i]);
  return 0;
}

static int
fail_at (Verify *verify, uint64_t offset)
{
  return tn_fail (verify->error, TN_BLOCK_ERROR, EILSEQ,
                  "'%s' is not the same as its source: the first difference is at offset %" G_GUINT64_FORMAT,
                  tn_node_filename (verify->job->target), offset);
}

static int
compare_chunk (Verify *verify, TnNode *source, uint64_t offset, uint64_t at, uint64_t length)
{
  int ret = read_both (verify, source, offset, at, length);
  if (ret < 0 || memcmp (verify->buffer[0], verify->buffer[1], length) == 0)
    return ret;
  uint64_t i = 0;
  while (verify->buffer[0][i] == verify->buffer[1][i])
    i++;
  return fail_at (verify, at + i);
}

static int
status_of (Verify *verify, TnNode *node, uint64_t offset, uint64_t length, TnStatus *status)
{
  int ret = tn_node_status (node, NULL, offset, length, status, verify->error);
  if (ret >= 0 && status->length == 0)
    return tn_fail (verify->error, TN_BLOCK_ERROR, EIO, "%s: no block status at offset %" G_GUINT64_FORMAT,
                    tn_node_filename (node), offset);
  return ret;
}

/* One stretch from @offset of the source on, at most @length bytes: how many were proved. */
static int64_t
compare_stretch (Verify *verify, TnNode *source, uint64_t offset, uint64_t at, uint64_t length)
{
  TnStatus from, to;
  int ret = status_of (verify, source, offset, length, &from);
  if (ret >= 0)
    ret = status_of (verify, verify->job->target, at, length, &to);
  if (ret < 0)
    return ret;
  length = MIN (length, MIN (from.length, to.length));
  if (from.zero && to.zero)
    return (int64_t) length;
  length = MIN (length, VERIFY_CHUNK);
  ret = compare_chunk (verify, source, offset, at, length);
  return ret < 0 ? ret : (int64_t) length;
}

static int
compare_source (Verify *verify, TnNode *source)
{
  const ImgVerify *job = verify->job;
  uint64_t size = tn_node_size (source);
  for (uint64_t offset = 0; offset < size;) {
    int64_t n = compare_stretch (verify, source, offset, verify->done, size - offset);
    if (n < 0)
      return (int) n;
    offset += n;
    verify->done += n;
    int ret = job->progress ? job->progress (verify->done, job->opaque) : 0;
    if (ret < 0)
      return tn_fail (verify->error, TN_BLOCK_ERROR, -ret, "the comparison was stopped");
  }
  return 0;
}

/* What a made target has behind the sources (it is rounded up to sectors) is zero. */
static int
compare_rest (Verify *verify)
{
  const ImgVerify *job = verify->job;
  uint64_t size = job->made ? tn_node_size (job->target) : verify->done;
  while (verify->done < size) {
    uint64_t n = MIN (size - verify->done, VERIFY_CHUNK), i = 0;
    int ret = tn_node_read (job->target, verify->done, verify->buffer[1], n, verify->error);
    if (ret < 0)
      return ret;
    while (i < n && verify->buffer[1][i] == 0)
      i++;
    if (i < n)
      return fail_at (verify, verify->done + i);
    verify->done += n;
  }
  return 0;
}

static void
verify_main (void *opaque)
{
  Verify *verify = opaque;
  for (unsigned i = 0; i < verify->job->n_sources && verify->result >= 0; i++)
    verify->result = compare_source (verify, verify->job->sources[i]);
  if (verify->result >= 0)
    verify->result = compare_rest (verify);
}

int
img_verify (const ImgVerify *job, GError **error)
{
  g_autofree unsigned char *source = g_malloc (VERIFY_CHUNK), *target = g_malloc (VERIFY_CHUNK);
  Verify verify = { .job = job, .buffer = { source, target }, .error = error };
  tn_co_run (verify_main, &verify);
  return verify.result;
}
