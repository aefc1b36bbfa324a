/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TN_MEMORY_SPACE_PRIVATE_H
#define TN_MEMORY_SPACE_PRIVATE_H

#include <pthread.h>

#include "memory/view.h"

struct TnSpace {
  TnViewCell view;
  pthread_mutex_t lock; /**< serialises changes of the map */
  char *name;
  GPtrArray *regions; /**< ascending, without overlap */
  GPtrArray *removed; /**< RAM and ROM taken out of the map */
  GArray *watches;    /**< ascending */
  void (*changed) (void *opaque);
  void *changed_opaque;
};

/** Sets every TnDirty bit of @pages pages. */
void tn_dirty_set (uint8_t *dirty, uint64_t pages);

#endif
