/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How large an image would be. */
#include "vmdk.h"

#define MEASURE_GRAIN 65536u

/* Bytes of grains that hold data. */
static int
vmdk_used_bytes (TnNode *source, uint64_t *used, GError **error)
{
  const uint64_t size = tn_node_size (source), grain = MEASURE_GRAIN;
  uint64_t counted = 0; /* end of the last grain counted */
  *used = 0;
  for (uint64_t at = 0; at < size;) {
    TnStatus status = { 0 };
    int ret = tn_node_status (source, NULL, at, size - at, &status, error);
    if (ret < 0) {
      return ret;
    }
    const uint64_t length = CLAMP (status.length, 1, size - at);
    if (!status.zero) {
      const uint64_t start = MAX (at / grain * grain, counted);
      const uint64_t end = (at + length + grain - 1) / grain * grain;
      *used += end > start ? end - start : 0;
      counted = MAX (counted, end);
    }
    at += length;
  }
  return 0;
}

int
vmdk_measure (const TnOptions *options, TnNode *source, uint64_t size, TnMeasure *measure, GError **error)
{
  const char *form = tn_options_get (options, "subformat");
  uint64_t used = 0;
  size = source ? tn_node_size (source) : size;
  if (size > (uint64_t) INT64_MAX / 2) {
    return tn_fail (error, TN_BLOCK_ERROR, EFBIG, "vmdk: a disk of %" PRIu64 " bytes is too large", size);
  }
  measure->bitmaps = UINT64_MAX;
  if (form && g_str_has_suffix (form, "Flat")) {
    measure->required = measure->fully_allocated = size;
    return 0;
  }
  int ret = source ? vmdk_used_bytes (source, &used, error) : 0;
  if (ret < 0) {
    return ret;
  }
  const uint64_t overhead = vmdk_sparse_overhead (size);
  measure->required = overhead + used;
  measure->fully_allocated = overhead + (size + MEASURE_GRAIN - 1) / MEASURE_GRAIN * MEASURE_GRAIN;
  return 0;
}
