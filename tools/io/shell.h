/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tenon-io: what its parts share.
 *
 *   main.c      the command line, the prompt, running one line
 *   open.c      open, close, reopen
 *   transfer.c  one request with its buffer; read, write, readv, writev
 *   async.c     aio_read, aio_write, aio_flush
 *   space.c     flush, discard, map, alloc, truncate, length, info, stat
 *   process.c   sleep, sigraise, abort, quit, help
 *   breakpoint.c  break, resume, wait_break, remove_break
 *   report.c    the lines that commands print
 */
#ifndef TENON_IO_SHELL_H
#define TENON_IO_SHELL_H

#include "cli.h"
#include "image.h"

/* No single read or write is longer. */
#define IO_MAX_BYTES UINT64_C (2147483136)

typedef struct IoShell {
  CliArgs *args; /* of the program: standard output goes through it */
  TnNode *node;  /* the open image, or NULL */
  TnDrive *drive;
  TnCacheMode cache;
  uint32_t flags; /* TnOpenFlags that it was opened with */
  bool misalign;
  bool quit;
  unsigned pending; /* asynchronous requests under way */
  char *temporary;  /* overlay of -s, to be removed */
} IoShell;

/* The arguments of one command of the prompt; what run() gets. */
typedef struct IoCall {
  CliArgs args; /* first: commands are given this */
  IoShell *shell;
} IoCall;

static inline IoShell *
io_shell (CliArgs *args)
{
  return ((IoCall *) (void *) args)->shell;
}

/* main.c */
extern const CliTool io_tool;
/* The shell if an image is open (for @writing, if it may be written); else says what is missing. */
IoShell *io_image (CliArgs *args, bool writing);

/* open.c */
/* How an image is to be opened: by the program's command line or by `open`. */
typedef struct IoOpening {
  const char *filename;
  bool image_opts;
  const char *format;
  const char *options; /* key=value,… or NULL */
  const char *aio;     /* threads, native, io_uring or NULL */
  const char *cache;   /* mode or NULL */
  const char *discard; /* ignore, unmap, on, off or NULL */
  bool read_only, snapshot, shared, untrusted, misalign, copy_on_read;
} IoOpening;

int io_open (IoShell *shell, const IoOpening *opening, GError **error);
/* Waits for everything, stores what was written, closes. */
int io_close (IoShell *shell, GError **error);
int io_open_run (CliArgs *args);
int io_close_run (CliArgs *args);
int io_reopen_run (CliArgs *args);

/* transfer.c */
/* The segments and the buffer of one request. */
typedef struct IoBuffer {
  char *base; /* what is freed */
  char *data;
  uint64_t length;
  struct iovec *iov;
  unsigned n_iov;
} IoBuffer;

/* A buffer for the lengths in args->words[first…], filled with @pattern. */
int io_buffer_new (CliArgs *args, unsigned first, uint8_t pattern, IoBuffer *buffer, GError **error);
void io_buffer_clear (IoBuffer *buffer);
int io_offset (CliArgs *args, const char *text, const char *what, uint64_t *value, GError **error);
int io_length (CliArgs *args, const char *text, uint64_t *value, GError **error);
/* -P, or @fallback. */
int io_pattern (CliArgs *args, uint8_t fallback, uint8_t *pattern, GError **error);
/* -z, -u, -f as request flags; -u needs -z. */
int io_write_flags (CliArgs *args, uint32_t *flags, GError **error);
/* Whether [@offset, @offset + @length) is on the disk. */
bool io_in_range (IoShell *shell, uint64_t offset, uint64_t length);
/* Runs @request to its end. */
int io_do (IoShell *shell, TnRequest *request);
int io_read_run (CliArgs *args);
int io_readv_run (CliArgs *args);
int io_write_run (CliArgs *args);
int io_writev_run (CliArgs *args);

/* async.c */
int io_aio_read_run (CliArgs *args);
int io_aio_write_run (CliArgs *args);
int io_aio_flush_run (CliArgs *args);
void io_wait_for_all (IoShell *shell);

/* space.c */
int io_flush_run (CliArgs *args);
int io_discard_run (CliArgs *args);
int io_map_run (CliArgs *args);
int io_alloc_run (CliArgs *args);
int io_truncate_run (CliArgs *args);
int io_length_run (CliArgs *args);
int io_info_run (CliArgs *args);
int io_stat_run (CliArgs *args);

/* process.c */
int io_sleep_run (CliArgs *args);
int io_sigraise_run (CliArgs *args);
int io_abort_run (CliArgs *args);
int io_quit_run (CliArgs *args);
int io_help_run (CliArgs *args);

/* breakpoint.c */
int io_break_run (CliArgs *args);
int io_remove_break_run (CliArgs *args);
int io_resume_run (CliArgs *args);
int io_wait_break_run (CliArgs *args);

/* report.c */
typedef struct IoText {
  char text[64];
} IoText;
/* "4 KiB", "3.500 KiB", "100 bytes" */
IoText io_size_text (double bytes);
/* "wrote 4096/4096 bytes at offset 0", size, time and rate; -C: as comma-separated values; -q: nothing. */
void io_report (CliArgs *args, const char *did, uint64_t offset, uint64_t length, int64_t ns);
void io_dump (CliArgs *args, const char *data, uint64_t length, uint64_t offset);
/* Prints "WHAT failed: REASON" and returns EXIT_FAILURE. */
int io_failed (CliArgs *args, const char *what, int result);
/* Whether all of data[0..length) is @pattern; says where not. */
bool io_verify (CliArgs *args, const char *data, uint64_t length, uint64_t offset, uint8_t pattern);

#endif
