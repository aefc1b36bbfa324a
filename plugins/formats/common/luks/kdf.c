/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From passphrases to keys. */
#include "luks.h"

#include <time.h>
#include <unistd.h>

#define MIN_ITERATIONS 1000
#define MIN_PASSES 4
#define ENOUGH_NS 20000000 /* a measurement this long is believed */

static bool
is_pbkdf2 (const LuksKdf *kdf)
{
  return strcmp (kdf->name, "pbkdf2") == 0;
}

static int
too_much (const char *what, const char *of, uint64_t value, uint64_t limit, GError **error)
{
  return tn_fail (error, TN_BLOCK_ERROR, ERANGE,
                  "LUKS: %s asks for %" G_GUINT64_FORMAT " %s, allowed are 1 to %" G_GUINT64_FORMAT, what,
                  value, of, limit);
}

/* A header must not push everything else out of memory. */
static uint64_t
memory_limit_kib (void)
{
  long pages = sysconf (_SC_PHYS_PAGES), page = sysconf (_SC_PAGESIZE);
  if (pages <= 0 || page <= 0)
    return LUKS_MAX_MEMORY_KIB;
  return MIN (LUKS_MAX_MEMORY_KIB, (uint64_t) pages * (uint64_t) page / 1024 * 3 / 4);
}

static int
check_argon2 (const LuksKdf *kdf, const char *what, GError **error)
{
  if (!kdf->iterations || kdf->iterations > LUKS_MAX_PASSES)
    return too_much (what, "passes", kdf->iterations, LUKS_MAX_PASSES, error);
  if (!kdf->memory_kib || kdf->memory_kib > memory_limit_kib ())
    return too_much (what, "KiB of memory", kdf->memory_kib, memory_limit_kib (), error);
  if (!kdf->lanes || kdf->lanes > LUKS_MAX_LANES)
    return too_much (what, "threads", kdf->lanes, LUKS_MAX_LANES, error);
  uint64_t work = (uint64_t) kdf->iterations * kdf->memory_kib;
  return work <= LUKS_MAX_ARGON2_KIB ? 0 : too_much (what, "KiB of work", work, LUKS_MAX_ARGON2_KIB, error);
}

int
luks_kdf_check (const LuksKdf *kdf, const char *what, GError **error)
{
  if (kdf->salt_length < 8 || kdf->salt_length > LUKS_MAX_SALT)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "LUKS: %s has a salt of %zu bytes", what,
                    kdf->salt_length);
  if (is_pbkdf2 (kdf))
    return kdf->iterations && kdf->iterations <= LUKS_MAX_ITERATIONS
               ? 0
               : too_much (what, "iterations", kdf->iterations, LUKS_MAX_ITERATIONS, error);
  if (strcmp (kdf->name, "argon2i") == 0 || strcmp (kdf->name, "argon2id") == 0)
    return check_argon2 (kdf, what, error);
  return tn_fail (error, TN_BLOCK_ERROR, ENOTSUP, "LUKS: %s uses the unknown key derivation '%.32s'", what,
                  kdf->name);
}

/* ---- All slots together ---- */

void
luks_work_add (LuksWork *work, const LuksKdf *kdf)
{
  if (is_pbkdf2 (kdf))
    work->iterations += kdf->iterations;
  else
    work->argon2_kib += (uint64_t) kdf->iterations * kdf->memory_kib;
}

static int
check_sum (uint64_t sum, uint64_t most, uint64_t untrusted_most, bool untrusted, const char *of,
           GError **error)
{
  if (sum <= (untrusted ? untrusted_most : most))
    return 0;
  return tn_fail (error, TN_BLOCK_ERROR, ERANGE,
                  "LUKS: the key slots together ask for %" G_GUINT64_FORMAT
                  " %s, allowed are %" G_GUINT64_FORMAT "%s",
                  sum, of, untrusted ? untrusted_most : most,
                  untrusted ? " in an untrusted image: leave --untrusted out if it is yours" : "");
}

int
luks_work_check (const LuksWork *work, bool untrusted, GError **error)
{
  int rc = check_sum (work->iterations, LUKS_MAX_ALL_ITERATIONS, LUKS_UNTRUSTED_ITERATIONS, untrusted,
                      "iterations", error);
  return rc ? rc
            : check_sum (work->argon2_kib, LUKS_MAX_ALL_ARGON2_KIB, LUKS_UNTRUSTED_ARGON2_KIB, untrusted,
                         "KiB of work", error);
}

/* ---- On a worker ---- */

typedef struct Derive {
  const LuksKdf *kdf;
  const TnDigestOps *digest;
  const TnKdfOps *ops;
  const void *password;
  size_t password_length;
  void *out;
  size_t out_length;
  int64_t ns; /* of processor time */
  int result;
  GError *error;
} Derive;

static int64_t
thread_ns (void)
{
  struct timespec now;
  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * (int64_t) 1000000000 + now.tv_nsec;
}

static void
derive_work (void *opaque)
{
  Derive *derive = opaque;
  const LuksKdf *kdf = derive->kdf;
  /* Argon2 runs in threads of its own. */
  int64_t start = derive->ops ? tn_clock_ns () : thread_ns ();
  if (derive->ops)
    derive->result = derive->ops->derive (derive->password, derive->password_length, kdf->salt,
                                          kdf->salt_length, kdf->iterations, kdf->memory_kib, kdf->lanes,
                                          derive->out, derive->out_length, &derive->error);
  else
    derive->digest->pbkdf2 (derive->password, derive->password_length, kdf->salt, kdf->salt_length,
                            kdf->iterations, derive->out, derive->out_length);
  derive->ns = (derive->ops ? tn_clock_ns () : thread_ns ()) - start;
}

static int
prepare (Derive *derive, GError **error)
{
  if (is_pbkdf2 (derive->kdf))
    derive->digest = tn_digest_find (derive->kdf->digest, error);
  else
    derive->ops = tn_kdf_find (derive->kdf->name, error);
  return derive->digest || derive->ops ? 0 : -ENOENT;
}

static int
run (Derive *derive, GError **error)
{
  tn_co_work (derive_work, derive);
  if (derive->error)
    g_propagate_error (error, derive->error);
  return derive->result < 0 ? derive->result : 0;
}

int
luks_kdf_derive (const LuksKdf *kdf, const void *password, size_t password_length, void *out,
                 size_t out_length, GError **error)
{
  Derive derive = {
    .kdf = kdf, .password = password, .password_length = password_length, .out = out, .out_length = out_length
  };
  int rc = prepare (&derive, error);
  return rc ? rc : run (&derive, error);
}

/* ---- Costs ---- */

static int
tune_pbkdf2 (LuksKdf *kdf, Derive *derive, uint32_t milliseconds, GError **error)
{
  for (kdf->iterations = 1024; derive->ns < ENOUGH_NS && kdf->iterations < LUKS_MAX_ITERATIONS / 2;) {
    kdf->iterations *= 2;
    int rc = run (derive, error);
    if (rc)
      return rc;
  }
  double wanted = (double) kdf->iterations / (double) MAX (derive->ns, 1) * 1e6 * milliseconds;
  kdf->iterations = (uint32_t) CLAMP (wanted, MIN_ITERATIONS, LUKS_MAX_ITERATIONS);
  return 0;
}

static int
tune_argon2 (LuksKdf *kdf, Derive *derive, uint32_t milliseconds, GError **error)
{
  kdf->iterations = 1;
  int rc = run (derive, error);
  if (rc)
    return rc;
  double passes = (double) milliseconds * 1e6 / (double) MAX (derive->ns, 1);
  double most = MIN (LUKS_MAX_PASSES, LUKS_MAX_ARGON2_KIB / kdf->memory_kib);
  kdf->iterations = (uint32_t) CLAMP (passes, MIN_PASSES, most);
  return 0;
}

int
luks_kdf_tune (LuksKdf *kdf, size_t out_length, uint32_t milliseconds, GError **error)
{
  g_autofree void *out = g_malloc (out_length);
  Derive derive = {
    .kdf = kdf, .password = "benchmark", .password_length = 9, .out = out, .out_length = out_length
  };
  int rc = prepare (&derive, error);
  if (!rc)
    rc = is_pbkdf2 (kdf) ? tune_pbkdf2 (kdf, &derive, milliseconds, error)
                         : tune_argon2 (kdf, &derive, milliseconds, error);
  return rc;
}
