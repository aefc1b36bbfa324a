/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random 4 KiB reads of a file in the page cache through a loop: nanoseconds of wall and of processor
 * time per read, for each engine, at queue depths 1 and 64.  System calls: run it under `strace -cf`.
 */
#include <tenon/loop.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define BLOCK 4096
#define FILE_BLOCKS 16384
#define MAX_DEPTH 64

typedef struct Bench Bench;

typedef struct Slot {
  TnFdOp op; /* first */
  struct iovec iov;
  Bench *bench;
  uint8_t bytes[BLOCK];
} Slot;

struct Bench {
  TnLoop *loop;
  uint64_t random;
  long to_start, to_end;
  Slot slots[MAX_DEPTH];
};

static void
start (Bench *bench, Slot *slot)
{
  bench->to_start--;
  bench->random = bench->random * 6364136223846793005u + 1442695040888963407u;
  slot->op.offset = (bench->random >> 33) % FILE_BLOCKS * BLOCK;
  tn_loop_submit (bench->loop, &slot->op);
}

static void
done (TnFdOp *op, int64_t result)
{
  Slot *slot = (Slot *) op;

  if (result != BLOCK)
    abort ();
  slot->bench->to_end--;
  if (slot->bench->to_start > 0)
    start (slot->bench, slot);
}

static double
cpu_seconds (void)
{
  struct rusage usage;

  getrusage (RUSAGE_SELF, &usage);
  return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
         + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void
run (Bench *bench, const char *name, TnFdEngine engine, int fd, int depth, long n)
{
  int64_t begun = tn_clock_ns ();
  double cpu = cpu_seconds ();

  bench->to_start = bench->to_end = n;
  for (int i = 0; i < depth; i++) {
    Slot *slot = &bench->slots[i];

    slot->bench = bench;
    slot->iov = (struct iovec){ slot->bytes, BLOCK };
    slot->op = (TnFdOp){
      .opcode = TN_FD_READ, .engine = (uint8_t) engine, .fd = fd, .iov = &slot->iov, .n_iov = 1, .done = done
    };
    start (bench, slot);
  }
  while (bench->to_end > 0)
    tn_loop_iterate (bench->loop, true);
  printf ("%-8s depth %2d  %8.0f ns wall  %8.0f ns cpu per read\n", name, depth,
          (double) (tn_clock_ns () - begun) / (double) n, (cpu_seconds () - cpu) * 1e9 / (double) n);
}

static int
make_file (void)
{
  g_autofree char *name = NULL;
  uint8_t bytes[BLOCK] = { 1 };
  int fd = g_file_open_tmp ("bench-loop-XXXXXX", &name, NULL);

  if (fd < 0)
    exit (1);
  unlink (name);
  for (int i = 0; i < FILE_BLOCKS; i++)
    if (pwrite (fd, bytes, BLOCK, (off_t) i * BLOCK) != BLOCK)
      exit (1);
  return fd;
}

int
main (int argc, char **argv)
{
  static const struct {
    const char *name;
    TnFdEngine engine;
    long share;
  } engines[] = { { "uring", TN_FD_ENGINE_URING, 1 },
                  { "aio", TN_FD_ENGINE_LINUX_AIO, 1 },
                  { "threads", TN_FD_ENGINE_THREADS, 10 } };
  static const int depths[] = { 1, 64 };
  long n = argc > 1 ? atol (argv[1]) : 500000;
  Bench *bench = g_new0 (Bench, 1);
  int fd = make_file ();

  bench->loop = tn_loop_current ();
  for (size_t i = 0; i < G_N_ELEMENTS (engines); i++)
    for (size_t j = 0; j < G_N_ELEMENTS (depths); j++)
      if (tn_loop_has_engine (bench->loop, engines[i].engine, NULL) == 0)
        run (bench, engines[i].name, engines[i].engine, fd, depths[j], n / engines[i].share);
  close (fd);
  g_free (bench);
  return 0;
}
