/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "throttle.h"

void
throttle_group_join (ThrottleGroup *group, ThrottleMember *member)
{
  if (group->members == NULL) {
    member->next = group->members = member;
    return;
  }
  member->next = group->members->next;
  group->members->next = member;
}

void
throttle_group_leave (ThrottleGroup *group, ThrottleMember *member)
{
  ThrottleMember *before = member;

  while (before->next != member)
    before = before->next;
  before->next = member->next;
  if (group->members == member)
    group->members = before == member ? NULL : before;
  for (unsigned i = 0; i < THROTTLE_WHATS; i++)
    if (group->turn[i] == member)
      group->turn[i] = group->members;
}

/* Elects the first waiter of the member behind the one served last. */
static ThrottleWaiter *
throttle_elect (ThrottleGroup *group, ThrottleWhat direction)
{
  ThrottleMember *last = group->turn[direction] != NULL ? group->turn[direction] : group->members;
  ThrottleMember *at = last;

  group->head[direction] = NULL;
  do {
    at = at->next;
    if (at->first[direction] != NULL) {
      group->turn[direction] = at;
      group->head[direction] = at->first[direction];
      return group->head[direction];
    }
  } while (at != last);
  return NULL;
}

void
throttle_group_queue (ThrottleGroup *group, ThrottleMember *member, ThrottleWhat direction,
                      ThrottleWaiter *waiter)
{
  waiter->next = NULL;
  if (member->first[direction] == NULL)
    member->first[direction] = waiter;
  else
    member->last[direction]->next = waiter;
  member->last[direction] = waiter;
  if (group->head[direction] == NULL)
    throttle_elect (group, direction);
}

ThrottleWaiter *
throttle_group_next (ThrottleGroup *group, ThrottleWhat direction)
{
  ThrottleMember *served = group->turn[direction];

  served->first[direction] = served->first[direction]->next;
  return throttle_elect (group, direction);
}
