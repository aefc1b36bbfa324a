/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which clusters of an image file are in use: a set of numbers whose memory follows what is put in. */
#ifndef FORMATS_COMMON_CLUSTERSET_H
#define FORMATS_COMMON_CLUSTERSET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ClusterSet ClusterSet;

ClusterSet *cluster_set_new (void);
void cluster_set_free (ClusterSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ClusterSet, cluster_set_free)

/* Adds @n clusters from @first on: 0, 1 when at least one of them was in the set, or -ENOMEM. */
int cluster_set_add (ClusterSet *set, uint64_t first, uint64_t n);
bool cluster_set_has (ClusterSet *set, uint64_t cluster);
/* Whether any of @n clusters from @first on is in the set. */
bool cluster_set_has_any (ClusterSet *set, uint64_t first, uint64_t n);
uint64_t cluster_set_count (const ClusterSet *set);
/* One more than the highest number in the set. */
uint64_t cluster_set_end (const ClusterSet *set);

#endif
