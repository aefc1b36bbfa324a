/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sub-commands of tenon-img: one file each. */
#ifndef TENON_TOOLS_IMG_H
#define TENON_TOOLS_IMG_H

#include "cli.h"
#include "image.h"
#include "sandbox.h"

extern const CliCommand img_amend, img_bench, img_bitmap, img_check, img_commit, img_compare, img_convert,
    img_create, img_dd, img_info, img_map, img_measure, img_rebase, img_resize, img_snapshot;

/* "Snapshot list:" with a heading and a line for each; nothing when there is none. */
int img_print_snapshots (CliArgs *args, TnNode *node, GError **error);

/* Creating images (create.c), for create, convert, dd and measure. */

/* The classes that take the create options of an image of @format called @filename: the format's and the
 * protocol's. */
int img_create_classes (const char *filename, const char *format, const TnClass *classes[2], unsigned *n,
                        GError **error);
/* Adds every -o of @args; "help" among them is told by *help. */
int img_create_options (const CliArgs *args, TnOptions *options, bool *help, GError **error);
/* Checks the options against the tables of the classes, before anything is opened or made. */
int img_check_create_options (const char *filename, const char *format, const TnOptions *options,
                              GError **error);
/* Checks what needs no file: names of options, backing format. */
int img_check_backing (const char *format, const TnOptions *options, GError **error);

/* Whether @target is a file among those that @node and its children use: it must not be overwritten. */
int img_check_not_source (const char *target, TnNode *node, GError **error);

/* A target that a command fills (target.c). */
typedef struct ImgTarget {
  CliArgs *args;
  const char *name;   /* file name, or key=value options */
  const char *format; /* or NULL: probe (existing ones only) */
  bool image_opts;
  bool made;       /* by this command: removed again if it fails */
  bool late_flush; /* flushes are left out until the end */
  bool resumable;  /* they are not: what has been flushed is to be relied upon */
  bool keep;       /* not removed when the command fails */
  bool unmap;      /* zeroes over what is there already may give its space back */
  CliCache cache;
  TnOptions *secrets; /* that it was made with and is opened with */
  bool stream; /* goes to standard output (stream.h): raw as it is read, else from the temporary file */
  int spool;   /* that file, with stream and any other format than raw */
  char *spool_name;
  TnNode *node;
} ImgTarget;

/* Makes the image (as the options say, with @size bytes) and opens it for writing. */
int img_target_create (ImgTarget *target, TnOptions *options, uint64_t size, GError **error);
/* Prepares for standard output: a name to create when the format needs a file, else the node that takes @size
 * bytes and forgets them. */
int img_target_stream (ImgTarget *target, uint64_t size, GError **error);
/* Opens one that is there. */
int img_target_open (ImgTarget *target, GError **error);
/* Opens one that an earlier command made for the same purpose. */
int img_target_reopen (ImgTarget *target, const TnOptions *options, GError **error);
/* Puts everything on stable storage, closes it and opens it again to read what is there. */
int img_target_settle (ImgTarget *target, GError **error);
/* Whether it reads as zeroes because it was just made. */
/* To be called when all files are open (sandbox.h). */
int img_target_seal (const ImgTarget *target, bool anew, GError **error);
bool img_target_is_zero (const ImgTarget *target);
/* Puts everything on stable storage and closes it; on failure (also @status != 0) removes what was made.
 * Returns the exit status. */
int img_target_finish (ImgTarget *target, int status);

/* Copying dirty bitmaps (bitmap-copy.c).  Whether all can be, but for those that --skip-broken-bitmaps leaves
 * out. */
int img_bitmaps_check (CliArgs *args, TnNode *source, GError **error);
int img_bitmaps_copy (TnNode *source, TnNode *target, GError **error);

/* The record of an interrupted conversion (resume.c). */
typedef struct ImgResume {
  char *path;        /* of the record */
  char *identity;    /* of the conversion: sources and options, line by line */
  bool found;        /* there was a record of this conversion */
  bool zero;         /* the target read as zeroes when it was made */
  uint64_t position; /* all below is in the target */
  uint64_t length;   /* of the target's file at that time; UINT64_MAX: as it is */
  uint64_t inode;    /* of that file */
} ImgResume;
/* Looks for the record of @target; one of another conversion is an error. */
int img_resume_load (ImgResume *resume, const CliArgs *args, const char *target, TnNode *const *sources,
                     unsigned n, GError **error);
/* Opens the target that was left and had been made with @options: 1, or 0 when the conversion has to begin at
 * the beginning. */
int img_resume_reopen (ImgResume *resume, ImgTarget *target, const TnOptions *options, GError **error);
/* Begins the record of a target just made. */
int img_resume_begin (ImgResume *resume, ImgTarget *target, bool zero, GError **error);
/* Bytes of data between two checkpoints; @wanted 0: the usual. */
uint64_t img_resume_interval (TnNode *target, uint64_t wanted);
/* All below @position has been written, and nothing is under way. */
int img_resume_checkpoint (ImgResume *resume, ImgTarget *target, uint64_t position, GError **error);
/* The command ends early, in good order. */
void img_resume_interrupt (ImgResume *resume);
/* Frees; with @done the record is removed, too. */
void img_resume_clear (ImgResume *resume, bool done);

/* The digest of what passes by (digest.c). */
typedef struct ImgDigest ImgDigest;
int img_digest_new (const char *name, ImgDigest **digest, GError **error);
/* @data NULL: zeroes.  Any thread, one at a time. */
void img_digest_update (ImgDigest *digest, const void *data, uint64_t length);
/* The first @length bytes of @node. */
int img_digest_node (ImgDigest *digest, TnNode *node, uint64_t length, GError **error);
/* In hexadecimal; g_free() it. */
char *img_digest_finish (ImgDigest *digest);
void img_digest_free (ImgDigest *digest);

/* Proves that a target holds what its sources do (verify.c). */
typedef struct ImgVerify {
  TnNode *const *sources; /* one behind the other */
  unsigned n_sources;
  TnNode *target;
  bool made; /* for these sources: what it has behind them must be zero */
  int (*progress) (uint64_t done, void *opaque);
  void *opaque;
} ImgVerify;
/* 0, -EILSEQ with the offset of the first difference in the error, or what else kept it from reading. */
int img_verify (const ImgVerify *job, GError **error);

/* Parses "snapshot.id=…", "snapshot.name=…" or a plain id or name into the option "snapshot" of @options. */
int img_snapshot_option (const char *text, TnOptions *options, GError **error);

#endif
