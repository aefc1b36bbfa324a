/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fan.h"

static void
fan_done (TnRequest *request, int result)
{
  TnFanPart *part = request->opaque;
  TnFan *fan = part->fan;

  part->result = result;
  if (--fan->pending == 0 && fan->waiter != NULL)
    tn_co_wake (fan->waiter);
}

static void
fan_prepare (TnFan *fan, TnFanPart *part, const TnRequest *original)
{
  memcpy (&part->request, original, offsetof (TnRequest, core));
  part->request.done = fan_done;
  part->request.opaque = part;
  part->fan = fan;
  part->result = 0;
  part->buffer = NULL;
}

void
tn_fan_submit (TnFan *fan, TnFanPart *part, TnNode *child, const TnRequest *original)
{
  fan_prepare (fan, part, original);
  fan->pending++;
  tn_node_submit (child, &part->request);
}

void
tn_fan_read (TnFan *fan, TnFanPart *part, TnNode *child, const TnRequest *original)
{
  fan_prepare (fan, part, original);
  part->buffer = g_try_malloc (original->length);
  if (part->buffer == NULL) {
    part->result = -ENOMEM;
    return;
  }
  part->iov = (struct iovec){ part->buffer, original->length };
  part->request.iov = &part->iov;
  part->request.n_iov = 1;
  fan->pending++;
  tn_node_submit (child, &part->request);
}

void
tn_fan_wait (TnFan *fan)
{
  if (fan->pending == 0)
    return;
  fan->waiter = tn_co_self ();
  tn_co_yield ();
  fan->waiter = NULL;
}

bool
tn_fan_iov_equals (const struct iovec *iov, unsigned n_iov, const char *buffer)
{
  for (unsigned i = 0; i < n_iov; i++) {
    if (iov[i].iov_len > 0 && memcmp (iov[i].iov_base, buffer, iov[i].iov_len) != 0)
      return false;
    buffer += iov[i].iov_len;
  }
  return true;
}

void
tn_fan_iov_fill (const struct iovec *iov, unsigned n_iov, const char *buffer)
{
  for (unsigned i = 0; i < n_iov; i++) {
    if (iov[i].iov_len > 0)
      memcpy (iov[i].iov_base, buffer, iov[i].iov_len);
    buffer += iov[i].iov_len;
  }
}
