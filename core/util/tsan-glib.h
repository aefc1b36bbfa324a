/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Included before everything else when ThreadSanitizer checks the build: tells it of GLib's locks,
 * which it can't see, for GLib itself is not instrumented.
 */
#ifndef TN_CORE_UTIL_TSAN_GLIB_H
#define TN_CORE_UTIL_TSAN_GLIB_H
#ifndef __ASSEMBLER__

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <glib.h>
#include <sanitizer/tsan_interface.h>

static inline void
tn_tsan_mutex_lock (GMutex *mutex)
{
  __tsan_mutex_pre_lock (mutex, 0);
  g_mutex_lock (mutex);
  __tsan_mutex_post_lock (mutex, 0, 0);
}

static inline gboolean
tn_tsan_mutex_trylock (GMutex *mutex)
{
  gboolean locked;

  __tsan_mutex_pre_lock (mutex, __tsan_mutex_try_lock);
  locked = g_mutex_trylock (mutex);
  __tsan_mutex_post_lock (mutex, __tsan_mutex_try_lock | (locked ? 0 : __tsan_mutex_try_lock_failed), 0);
  return locked;
}

static inline void
tn_tsan_mutex_unlock (GMutex *mutex)
{
  __tsan_mutex_pre_unlock (mutex, 0);
  g_mutex_unlock (mutex);
  __tsan_mutex_post_unlock (mutex, 0);
}

static inline void
tn_tsan_cond_wait (GCond *cond, GMutex *mutex)
{
  __tsan_mutex_pre_unlock (mutex, 0);
  __tsan_mutex_post_unlock (mutex, 0);
  g_cond_wait (cond, mutex);
  __tsan_mutex_pre_lock (mutex, 0);
  __tsan_mutex_post_lock (mutex, 0, 0);
}

static inline gboolean
tn_tsan_cond_wait_until (GCond *cond, GMutex *mutex, gint64 end)
{
  gboolean in_time;

  __tsan_mutex_pre_unlock (mutex, 0);
  __tsan_mutex_post_unlock (mutex, 0);
  in_time = g_cond_wait_until (cond, mutex, end);
  __tsan_mutex_pre_lock (mutex, 0);
  __tsan_mutex_post_lock (mutex, 0, 0);
  return in_time;
}

static inline void
tn_tsan_rec_mutex_lock (GRecMutex *mutex)
{
  __tsan_mutex_pre_lock (mutex, __tsan_mutex_write_reentrant);
  g_rec_mutex_lock (mutex);
  __tsan_mutex_post_lock (mutex, __tsan_mutex_write_reentrant, 1);
}

static inline void
tn_tsan_rec_mutex_unlock (GRecMutex *mutex)
{
  __tsan_mutex_pre_unlock (mutex, __tsan_mutex_write_reentrant);
  g_rec_mutex_unlock (mutex);
  __tsan_mutex_post_unlock (mutex, __tsan_mutex_write_reentrant);
}

static inline void
tn_tsan_writer_lock (GRWLock *lock)
{
  __tsan_mutex_pre_lock (lock, 0);
  g_rw_lock_writer_lock (lock);
  __tsan_mutex_post_lock (lock, 0, 0);
}

static inline void
tn_tsan_writer_unlock (GRWLock *lock)
{
  __tsan_mutex_pre_unlock (lock, 0);
  g_rw_lock_writer_unlock (lock);
  __tsan_mutex_post_unlock (lock, 0);
}

static inline void
tn_tsan_reader_lock (GRWLock *lock)
{
  __tsan_mutex_pre_lock (lock, __tsan_mutex_read_lock);
  g_rw_lock_reader_lock (lock);
  __tsan_mutex_post_lock (lock, __tsan_mutex_read_lock, 0);
}

static inline void
tn_tsan_reader_unlock (GRWLock *lock)
{
  __tsan_mutex_pre_unlock (lock, __tsan_mutex_read_lock);
  g_rw_lock_reader_unlock (lock);
  __tsan_mutex_post_unlock (lock, __tsan_mutex_read_lock);
}

#define g_mutex_lock tn_tsan_mutex_lock
#define g_mutex_trylock tn_tsan_mutex_trylock
#define g_mutex_unlock tn_tsan_mutex_unlock
#define g_cond_wait tn_tsan_cond_wait
#define g_cond_wait_until tn_tsan_cond_wait_until
#define g_rec_mutex_lock tn_tsan_rec_mutex_lock
#define g_rec_mutex_unlock tn_tsan_rec_mutex_unlock
#define g_rw_lock_writer_lock tn_tsan_writer_lock
#define g_rw_lock_writer_unlock tn_tsan_writer_unlock
#define g_rw_lock_reader_lock tn_tsan_reader_lock
#define g_rw_lock_reader_unlock tn_tsan_reader_unlock

#endif
#endif
