/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests and their ends. */
#include "rbd.h"

#define MAX_ERRNO 4095

/* ---- The end ---- */

static void
rbd_zero_from (const TnRequest *request, uint64_t skip)
{
  for (uint32_t i = 0; i < request->n_iov; i++) {
    const struct iovec *iov = &request->iov[i];
    if (skip < iov->iov_len)
      memset ((uint8_t *) iov->iov_base + skip, 0, iov->iov_len - (size_t) skip);
    skip -= MIN (skip, iov->iov_len);
  }
}

/* A read that meets the end of an image that somebody has made smaller finds zeroes there. */
static int
rbd_read_result (const RbdCall *call)
{
  const TnRequest *request = call->request;
  const bool beyond = call->result == -EINVAL && request->offset >= rbd_size_now (call->client);
  if (call->result < 0 && !beyond)
    return (int) MAX (call->result, -MAX_ERRNO);
  const uint64_t got = beyond ? 0 : (uint64_t) call->result;
  if (got > request->length)
    return -EIO;
  rbd_zero_from (request, got);
  return 0;
}

static void
rbd_end_at_home (void *opaque)
{
  RbdCall *call = opaque;
  TnRequest *request = call->request;
  const int result =
      request->op == TN_REQUEST_READ ? rbd_read_result (call) : (int) CLAMP (call->result, -MAX_ERRNO, 0);
  request->done (request, result);
}

void
rbd_request_end (RbdCall *call, int64_t result)
{
  call->result = result;
  tn_loop_post (call->home, rbd_end_at_home, call);
}

/* In a thread of librbd's. */
static void
rbd_answered (rbd_completion_t completion, void *opaque)
{
  const int64_t result = rbd_aio_get_return_value (completion);
  rbd_aio_release (completion);
  rbd_request_end (opaque, result);
}

/* ---- The beginning ---- */

static int
rbd_hand_over (const TnRequest *request, rbd_image_t image, rbd_completion_t completion)
{
  /* Space that the caller wants to keep is filled with zeroes, all else given back. */
  const int thick = request->flags & TN_REQUEST_MAY_UNMAP ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION;
  switch ((TnRequestOp) request->op) {
  case TN_REQUEST_READ:
    return rbd_aio_readv (image, request->iov, (int) request->n_iov, request->offset, completion);
  case TN_REQUEST_WRITE:
    return rbd_aio_writev (image, request->iov, (int) request->n_iov, request->offset, completion);
  case TN_REQUEST_WRITE_ZEROES:
    return rbd_aio_write_zeroes (image, request->offset, request->length, completion, thick, 0);
  case TN_REQUEST_DISCARD:
    return rbd_aio_discard (image, request->offset, request->length, completion);
  case TN_REQUEST_FLUSH:
    return rbd_aio_flush (image, completion);
  }
  return -ENOTSUP;
}

void
rbd_request_start (RbdCall *call)
{
  rbd_completion_t completion;
  int rc = rbd_aio_create_completion (call, rbd_answered, &completion);
  if (rc < 0) {
    rbd_request_end (call, rc);
    return;
  }
  rc = rbd_hand_over (call->request, call->client->image.handle, completion);
  if (rc < 0) {
    /* It has not been begun, and will not be answered. */
    rbd_aio_release (completion);
    rbd_request_end (call, rc);
  }
}

/* 1: there is something to do, 0: nothing, or -errno. */
static int
rbd_check (const RbdClient *client, const TnRequest *request)
{
  const bool flush = request->op == TN_REQUEST_FLUSH;
  if (!client->image.writable)
    return flush ? 0 : request->op != TN_REQUEST_READ ? -EROFS : request->length != 0;
  /* Zeroes that keep their space are written, by the servers, but written. */
  if (request->op == TN_REQUEST_WRITE_ZEROES && (request->flags & TN_REQUEST_NO_FALLBACK)
      && !(request->flags & TN_REQUEST_MAY_UNMAP))
    return -ENOTSUP;
  return flush || request->length != 0;
}

static bool
rbd_has_to_wait (const RbdClient *client, const TnRequest *request)
{
  if (request->op == TN_REQUEST_FLUSH)
    return false;
  return __atomic_load_n (&client->stale, __ATOMIC_ACQUIRE) || rbd_end_of (request) > rbd_size_now (client);
}

void
rbd_request_submit (RbdClient *client, TnRequest *request)
{
  const int rc = rbd_check (client, request);
  if (rc <= 0) {
    request->done (request, rc);
    return;
  }
  RbdCall *call = tn_request_leaf_scratch (request);
  *call = (RbdCall){ .client = client, .home = tn_loop_current (), .request = request };
  if (rbd_has_to_wait (client, request))
    rbd_queue_add (call);
  else
    rbd_request_start (call);
}
