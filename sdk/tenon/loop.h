/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/loop.h
 * Event loops, coroutines, timers, workers.
 *
 * A TnLoop belongs to one thread.  It waits on io_uring (or, where the kernel has none, on
 * epoll with a worker pool), runs completions, timers and coroutines, and batches
 * submissions: everything queued while it dispatches goes to the kernel in one system call.
 * A function here is for the loop's own thread unless its text says "any thread".
 *
 * Coroutines let a driver be written straight down.  The core starts one whenever a driver may
 * have to wait, so most drivers only ever see functions that "just return".
 */
#ifndef TENON_LOOP_H
#define TENON_LOOP_H

#include <tenon/error.h>

/* ---- Loops ---- */

typedef enum TnLoopBackend {
  TN_LOOP_AUTO = 0, /**< io_uring if the kernel allows it, else epoll; TENON_LOOP=uring|epoll overrides */
  TN_LOOP_URING = 1,
  TN_LOOP_EPOLL = 2
} TnLoopBackend;

/** Makes a loop for the calling thread, which must have none.  Rings and pools are made at first
 *  use, so an unused loop costs nothing. */
TN_API TnLoop *tn_loop_new (TnLoopBackend backend, GError **error);

/** Frees a loop that has nothing pending. */
TN_API void tn_loop_free (TnLoop *loop);

/** The loop of the calling thread; made with TN_LOOP_AUTO when it has none.  Never NULL. */
TN_API TnLoop *tn_loop_current (void);

/** The backend in use (never AUTO). */
TN_API TnLoopBackend tn_loop_backend (TnLoop *loop);

/** Dispatches what is ready; when @wait is set and nothing is, waits first.  Returns whether
 *  anything was dispatched. */
TN_API bool tn_loop_iterate (TnLoop *loop, bool wait);

/** Iterates until tn_loop_quit(). */
TN_API void tn_loop_run (TnLoop *loop);

/** Makes tn_loop_run() return.  Any thread. */
TN_API void tn_loop_quit (TnLoop *loop);

/** Runs @fn in the loop's thread, soon, in order of posting.  Any thread, signal-unsafe. */
TN_API void tn_loop_post (TnLoop *loop, void (*fn) (void *opaque), void *opaque);

/** Attaches the loop to a GLib main context (NULL: the default one) as a source; afterwards that
 *  context drives it and tn_loop_run() must not be used.  The loop's thread must own the context. */
TN_API void tn_loop_attach (TnLoop *loop, GMainContext *context);

/** Calls @ready with the poll(2) events among @events (POLLIN, POLLOUT) that are true for @fd,
 *  level-triggered, until @events is changed to 0.  The descriptor stays the caller's. */
TN_API int tn_loop_watch_fd (TnLoop *loop, int fd, short events,
                             void (*ready) (int fd, short events, void *opaque), void *opaque,
                             GError **error);

/* ---- Timers ---- */

/** A stopped timer that will call @fire.  Times are CLOCK_MONOTONIC nanoseconds. */
TN_API TnTimer *tn_timer_new (TnLoop *loop, void (*fire) (void *opaque), void *opaque);
/** Starts or moves it.  Any thread. */
TN_API void tn_timer_set (TnTimer *timer, int64_t deadline_ns);
/** Stops it.  Any thread; a call already running in the loop's thread is not waited for. */
TN_API void tn_timer_stop (TnTimer *timer);
/** Frees a timer.  The loop's thread, or after the loop has ended. */
TN_API void tn_timer_free (TnTimer *timer);
/** CLOCK_MONOTONIC now, in nanoseconds.  Any thread. */
TN_API int64_t tn_clock_ns (void);

/* ---- Operations on file descriptors ---- */

typedef enum TnFdOpcode {
  TN_FD_READ = 1,
  TN_FD_WRITE = 2,
  TN_FD_FSYNC = 3,     /**< fdatasync(2) */
  TN_FD_FALLOCATE = 4, /**< fallocate(2) with mode @flags */
} TnFdOpcode;

typedef enum TnFdEngine {
  TN_FD_ENGINE_DEFAULT = 0, /**< io_uring if the loop has it, else threads */
  TN_FD_ENGINE_URING = 1,
  TN_FD_ENGINE_LINUX_AIO = 2, /**< needs O_DIRECT to be asynchronous */
  TN_FD_ENGINE_THREADS = 3,
  /** A plain system call by the loop itself if nothing else is under way, else as DEFAULT.  For descriptors
   * that never wait (a file in memory) and short operations: io_uring would hand them to a thread of the
   * kernel. */
  TN_FD_ENGINE_CALL = 4
} TnFdEngine;

/**
 * One operation.  The caller owns it and keeps it, its iovec and its buffers until @done, which
 * is called in the loop's thread with the byte count (reads and writes may be short) or a
 * negative errno value.  `core` is the loop's while the operation is under way.
 */
typedef struct TnFdOp {
  uint8_t opcode;
  uint8_t engine;
  uint16_t n_iov;
  int fd;
  int flags;
  const struct iovec *iov;
  uint64_t offset;
  uint64_t length; /**< FALLOCATE only */
  void (*done) (struct TnFdOp *op, int64_t result);
  uintptr_t core[12];
} TnFdOp;

/** Queues @op; never calls done() before it returns. */
TN_API void tn_loop_submit (TnLoop *loop, TnFdOp *op);

/** Whether @engine can be used on this loop; the error says why not and what to use instead. */
TN_API int tn_loop_has_engine (TnLoop *loop, TnFdEngine engine, GError **error);

/* ---- Workers ---- */

/** Runs @work on a worker thread, then @done in @loop's thread.  The pool is one per process, grows
 *  to @see tn_workers_limit() threads, and idle threads end. */
TN_API void tn_loop_work (TnLoop *loop, void (*work) (void *opaque), void (*done) (void *opaque),
                          void *opaque);

/** The most worker threads there will be.  Any thread. */
TN_API unsigned tn_workers_limit (void);

/** In a coroutine: runs @work on a worker thread while the coroutine waits. */
TN_API void tn_co_work (void (*work) (void *opaque), void *opaque);

/* ---- SIGPIPE ---- */

/** Whether SIGPIPE was blocked in this thread. */
typedef enum TnSigpipe { TN_SIGPIPE_WAS_OPEN = 0, TN_SIGPIPE_WAS_BLOCKED = 1 } TnSigpipe;

/** Keeps SIGPIPE from the calling thread, for a library that writes to sockets without MSG_NOSIGNAL: when the
 *  peer has gone, the signal would end the program.  The program's own way of handling it stays as it is. Two
 *  system calls more in tn_sigpipe_restore(), none of them on worker threads, which take no signals.  Any
 * thread. */
TN_API TnSigpipe tn_sigpipe_block (void);
/** Undoes tn_sigpipe_block(): a SIGPIPE that has come in between is forgotten.  The same thread. */
TN_API void tn_sigpipe_restore (TnSigpipe before);

/* ---- Coroutines ---- */

typedef void (*TnCoroutineFunc) (void *opaque);

/** Runs @fn in a coroutine of the current loop, at once; returns when it first yields or ends. */
TN_API void tn_co_start (TnCoroutineFunc fn, void *opaque);

/** Runs @fn in a coroutine and iterates the current loop until it has ended.  Called inside a
 *  coroutine it calls @fn directly. */
TN_API void tn_co_run (TnCoroutineFunc fn, void *opaque);

/** The running coroutine, or NULL. */
TN_API TnCoroutine *tn_co_self (void);

/** Suspends the running coroutine until tn_co_wake(). */
TN_API void tn_co_yield (void);

/** Makes a suspended coroutine runnable in its own loop.  Any thread.  Exactly one wake per yield; a
 *  wake that comes just before the yield is kept. */
TN_API void tn_co_wake (TnCoroutine *coroutine);

/** Suspends the running coroutine for @ns nanoseconds. */
TN_API void tn_co_sleep (int64_t ns);

/** A lock for coroutines of any loop.  Zero-filled memory is an unlocked one.  Needs no
 *  destruction.  Those that wait get it in their order; tn_co_mutex_trylock() may pass them, but each one
 *  of them once only. */
typedef struct TnCoMutex {
  uint32_t state;
  uint32_t spin;
  void *head, *tail;
} TnCoMutex;

/** Takes the lock without waiting, coroutine or not.  Any thread. */
TN_API bool tn_co_mutex_trylock (TnCoMutex *mutex);
/** Takes the lock; only in a coroutine. */
TN_API void tn_co_mutex_lock (TnCoMutex *mutex);
/** Releases it and wakes the longest waiter.  Any thread. */
TN_API void tn_co_mutex_unlock (TnCoMutex *mutex);

/** A queue of waiting coroutines.  Zero-filled memory is an empty one. */
typedef struct TnCoQueue {
  uint32_t spin;
  uint32_t reserved;
  void *head, *tail;
} TnCoQueue;

/** Waits on @queue; @mutex, when given, is released while waiting and held again on return. */
TN_API void tn_co_queue_wait (TnCoQueue *queue, TnCoMutex *mutex);
/** Wakes the longest waiter; false when there is none.  Any thread. */
TN_API bool tn_co_queue_wake_one (TnCoQueue *queue);
TN_API void tn_co_queue_wake_all (TnCoQueue *queue);

#endif
