/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request that becomes several, to several children, in a coroutine that waits for all of them. */
#ifndef TENON_FILTER_FAN_H
#define TENON_FILTER_FAN_H

#include <tenon/protocol.h>

typedef struct TnFan {
  TnCoroutine *waiter;
  unsigned pending;
} TnFan;

typedef struct TnFanPart {
  TnRequest request;
  TnFan *fan;
  int result;
  char *buffer; /* of tn_fan_part_read() */
  struct iovec iov;
} TnFanPart;

/* Sends a copy of @original to @child. */
void tn_fan_submit (TnFan *fan, TnFanPart *part, TnNode *child, const TnRequest *original);
/* The same for a read, into a buffer of the part's own. */
void tn_fan_read (TnFan *fan, TnFanPart *part, TnNode *child, const TnRequest *original);
void tn_fan_wait (TnFan *fan);

/* Whether the bytes of @iov are those of @buffer. */
bool tn_fan_iov_equals (const struct iovec *iov, unsigned n_iov, const char *buffer);
void tn_fan_iov_fill (const struct iovec *iov, unsigned n_iov, const char *buffer);

#endif
