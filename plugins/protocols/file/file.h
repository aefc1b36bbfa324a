/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The "file" protocol and those of devices: what their parts share.
 *
 *   file.c     class "file", properties, submit()
 *   open.c     opening and closing
 *   device.c   class "host_device": block devices; device-create.c: new images on them
 *   cdrom.c    class "host_cdrom"
 *   host.c     what is asked of the kernel about devices
 *   rw.c       reads, writes and flushes
 *   zero.c     write-zeroes and discard
 *   map.c      data and holes
 *   align.c    limits of O_DIRECT
 *   lock.c     image locks; holder.c: who holds one
 *   create.c   create, remove, resize, preallocation
 *   copy.c     copies inside the kernel
 *   reopen.c   other flags on an open file
 */
#ifndef TENON_FILE_H
#define TENON_FILE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_DIRECT, OFD locks, fallocate(), copy_file_range() */
#endif

#include <tenon/protocol.h>

#include "host.h"

/** What the file system turned out not to support; found once, remembered while the file is open. */
typedef enum FileLacks {
  FILE_LACKS_PUNCH = 1 << 0,
  FILE_LACKS_ZERO_RANGE = 1 << 1,
  FILE_LACKS_ALLOCATE = 1 << 2,
  FILE_LACKS_ZEROOUT = 1 << 3,
  FILE_LACKS_DISCARD = 1 << 4,
  FILE_LACKS_SEEK = 1 << 5,
  FILE_LACKS_CLONE = 1 << 6
} FileLacks;

/** What a class opens. */
typedef enum FileKind { FILE_REGULAR, FILE_DEVICE, FILE_CDROM } FileKind;

typedef struct FileState {
  int fd; /* the number never changes while open: reopen() replaces what stands behind it */
  uint8_t engine;
  uint8_t kind;      /* FileKind */
  bool in_memory;    /* on tmpfs, with an engine that would only use a thread of the kernel */
  bool block_device; /* of any kind */
  bool locks;
  bool lock_required;   /* locking=on: a file system without locks is an error */
  bool direct;          /* atomic */
  uint32_t lacks;       /* FileLacks, atomic */
  int flush_error;      /* atomic; the first failed fdatasync(): the kernel has dropped pages */
  uint32_t alignment;   /* of offset and length with O_DIRECT, atomic */
  uint64_t size;        /* atomic; only resize() makes it smaller */
  uint32_t permissions; /* held, TnPermission */
  uint32_t unshared;    /* denied to others */
  GMutex map_lock;
  uint64_t data_start, data_end; /* the last run of data that map() found */
  bool sought_from_start;        /* map() has looked how far the data at the beginning reaches */
  const FileHost *host;
  char *filename;
} FileState;

/** One request on its way, in the room that the request has for its leaf. */
typedef struct FileOp {
  TnFdOp fd; /* first: its done() finds the rest */
  TnRequest *request;
  FileState *state;
  uint64_t moved;     /* bytes that earlier, short transfers moved */
  struct iovec *rest; /* what is left of request->iov after them; ours */
  int32_t step;       /* zero.c: the way being tried */
  int32_t result;
} FileOp;

G_STATIC_ASSERT (sizeof (off_t) == 8); /* 32-bit hosts: build with -D_FILE_OFFSET_BITS=64 */
G_STATIC_ASSERT (sizeof (FileOp) <= TN_REQUEST_LEAF_WORDS * sizeof (uintptr_t));

static inline bool
file_lacks (FileState *s, FileLacks what)
{
  return (__atomic_load_n (&s->lacks, __ATOMIC_RELAXED) & what) != 0;
}

static inline void
file_set_lacks (FileState *s, FileLacks what)
{
  __atomic_fetch_or (&s->lacks, what, __ATOMIC_RELAXED);
}

static inline uint64_t
file_size (FileState *s)
{
  return __atomic_load_n (&s->size, __ATOMIC_RELAXED);
}

/** The file reaches at least to @end now.  Any thread. */
static inline void
file_grown_to (FileState *s, uint64_t end)
{
  uint64_t size = file_size (s);

  while (G_UNLIKELY (end > size))
    if (__atomic_compare_exchange_n (&s->size, &size, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return;
}

/** Runs @work where it may block: on a worker inside a coroutine, else right here. */
void file_blocking (void (*work) (void *opaque), void *opaque);

/* file.c */
extern const char *const file_aio_choices[];
extern const char *const file_locking_choices[];
void file_submit (TnNode *node, TnRequest *request);
int file_allocated (TnNode *node, uint64_t *bytes, GError **error);

/* open.c */
int file_open_as (TnNode *node, const TnOptions *options, FileKind kind, const FileHost *host, uint32_t flags,
                  GError **error);
int file_close (TnNode *node, GError **error);
/** What requests have to keep to, with (@direct) or without O_DIRECT. */
int file_limits (FileState *s, bool direct, TnLimits *limits, GError **error);

/* rw.c */
void file_rw_start (FileState *s, TnRequest *request, uint8_t opcode);
void file_flush_start (FileState *s, TnRequest *request);
FileOp *file_op_init (FileState *s, TnRequest *request, uint8_t opcode,
                      void (*done) (TnFdOp *op, int64_t result));
void file_op_finish (FileOp *op, int result);
int64_t file_pread (TnNode *node, void *buffer, uint64_t length, uint64_t offset, GError **error);
int64_t file_pwrite (TnNode *node, const void *buffer, uint64_t length, uint64_t offset, GError **error);
int file_sync (TnNode *node, GError **error);

/* zero.c */
void file_zero_start (FileState *s, TnRequest *request);
void file_discard_start (FileState *s, TnRequest *request);

/* map.c */
int file_map (TnNode *node, uint64_t offset, uint64_t length, uint32_t flags, TnExtent *extent,
              GError **error);
/** Forgets where data is: some was given back. */
void file_map_forget (FileState *s);

/* align.c */
/** Finds the alignment of requests with (@direct) or without O_DIRECT. */
int file_probe_limits (FileState *s, bool direct, TnLimits *limits, GError **error);

/* lock.c */
/** Every permission there is. */
#define FILE_LOCK_ALL ((1u << 4) - 1)
/** Holds exactly @permissions on @fd and denies others @unshared, where @old_… is held already. */
int file_lock (int fd, const char *filename, uint32_t old_permissions, uint32_t old_unshared,
               uint32_t permissions, uint32_t unshared, GError **error);
/** Takes the same locks on another open file of the same process, without looking for others' locks. */
int file_lock_copy (int fd, uint32_t permissions, uint32_t unshared);
/** Whether the file system of @fd knows locks. */
bool file_can_lock (int fd);
/** Gives back every lock that @fd holds. */
void file_unlock_all (int fd);
int file_set_permissions (TnNode *node, uint32_t permissions, uint32_t shared, GError **error);

/* holder.c */
/** "process 123 (name)", for a process that has a lock on byte @byte of the file behind @fd; NULL: not to be
 *  found out. */
char *file_find_holder (int fd, uint64_t byte);

/* create.c */
int file_create (const TnOptions *options, uint64_t size, GError **error);
int file_remove (const TnOptions *options, GError **error);
int file_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);
/** Takes the locks of who empties the file that @options name, open as @fd. */
int file_lock_for_create (const TnOptions *options, int fd, GError **error);

/* device.c */
extern const TnClass file_device_class;
/** The driver for the device called @path; NULL: it is no block device. */
const char *file_device_driver (const FileHost *host, const char *path);
int file_device_size (const FileHost *host, int fd, uint64_t *size);
/** Learns the size; refuses to write where that can't be. */
int file_device_begin (FileState *s, uint32_t flags, GError **error);
int file_device_check_writable (const FileHost *host, int fd, const char *filename, GError **error);
/** What the device says of discards. */
void file_device_limits (FileState *s, TnLimits *limits);
void file_device_tell_blocks (TnNode *node, FileState *s);
int file_device_get_size (TnNode *node, uint64_t *size, GError **error);
char *file_device_filename (const TnOptions *options);

/* device-create.c */
int file_device_create (const TnOptions *options, uint64_t size, GError **error);
int file_device_resize (TnNode *node, uint64_t size, TnPrealloc prealloc, GError **error);

/* cdrom.c */
extern const TnClass file_cdrom_class;
int file_cdrom_begin (FileState *s, uint32_t flags, GError **error);

/* copy.c */
int64_t file_share_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                          GError **error);
int64_t file_copy_range (TnNode *from, uint64_t from_offset, TnNode *to, uint64_t to_offset, uint64_t length,
                         GError **error);

/* reopen.c */
int file_reopen (TnNode *node, const TnOptions *options, uint32_t flags, GError **error);
/** The engine called @aio (NULL: the best there is), if the current loop has it and @flags fit. */
int file_choose_engine (const FileState *s, const char *aio, uint32_t flags, TnFdEngine *engine,
                        GError **error);
void file_set_engine (FileState *s, TnFdEngine engine, uint32_t flags);

#endif
