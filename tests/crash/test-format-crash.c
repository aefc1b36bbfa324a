/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts and failing writes below every format that can be written.
 *
 * For each line of the table a random workload (writes, zeroes, discards, compressed writes, flushes,
 * resizing, reopening) runs on memory disks that log every write, flush, discard and change of length.  Then
 *  - /DRIVER/LABEL/cut/SEED puts the disks back to what a power cut after each of these operations leaves:
 *    everything before the last flush, and of what follows all, some, or some torn at a sector;
 *  - /DRIVER/LABEL/fault/SEED runs the workload again and again while one operation fails (EIO, ENOSPC, and
 *    now and then all operations from that one on), likewise for creating the image;
 *  - /DRIVER/LABEL/modes/SEED has a drive on it with many requests under way while cache modes and the
 *    guest's write cache change, and cuts the power as above;
 *  - /DRIVER/keys…/PLOT/SEED changes passphrases (crash-keys.c).
 * Each time the image must open; every sector must
 * hold what was flushed last or something written since; check may find leaks but no corruption; after `check
 * -r all` there is neither, contents are as before, and qemu-img agrees where it knows the format.
 *
 * To add a format add a line to the table: its class name, a label, options to create with, what it can do
 * (crash.h).  Several lines for one format are welcome where options change how metadata is written.  Give
 * the smallest units that the format has and a disk of some dozens of them.  Files that the image has beside
 * the first are logged too when their names begin with "cut" (an image on "mem:cut" that names its data file
 * "cut.data" opens "mem:cut.data").  A format that is not built is skipped, and so are checks that it does
 * not have.
 *
 * TENON_CRASH_ROUNDS says how many workloads there are for each line (default 2), TENON_CRASH_SEED where the
 * seeds begin (default 1), TENON_CRASH_ONLY names the lines to run: "qcow2", or "qcow2/lazy".
 */
#include "crash.h"

#include <tenon/secret.h>

#include <glib/gstdio.h>
#include <stdlib.h>
#include <unistd.h>

#define QCOW2_V2 (CRASH_PACKS | CRASH_BACKING)
#define QCOW2_V3 (QCOW2_V2 | CRASH_DISCARD_ZERO)

static const CrashCase cases[] = {
  { "raw", "plain", "", NULL, CRASH_MODES, 0, NULL },
  { "qcow2", "clusters-512", "cluster_size=512", NULL, QCOW2_V3, 0, "qcow2" },
  { "qcow2", "clusters-4k", "cluster_size=4096", NULL, QCOW2_V3 | CRASH_MODES, 0, "qcow2" },
  { "qcow2", "version2", "cluster_size=4096,compat=0.10", NULL, QCOW2_V2, 0, "qcow2" },
  { "qcow2", "lazy", "cluster_size=4096,lazy_refcounts=on", NULL, QCOW2_V3 | CRASH_MODES, 0, "qcow2" },
  { "qcow2", "extended", "cluster_size=16384,extended_l2=on", NULL, QCOW2_V3 & ~CRASH_PACKS, 0, "qcow2" },
  { "qcow2", "resize", "cluster_size=512", NULL, (QCOW2_V3 & ~CRASH_BACKING) | CRASH_RESIZE | CRASH_SHRINK, 0,
    "qcow2" },
  { "qcow2", "resize-extended", "cluster_size=16384,extended_l2=on", NULL,
    CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 0, "qcow2" },
  { "qcow2", "resize-lazy", "cluster_size=1024,lazy_refcounts=on", NULL,
    CRASH_DISCARD_ZERO | CRASH_PACKS | CRASH_RESIZE | CRASH_SHRINK, 0, "qcow2" },
  { "qcow2", "resize-backing", "cluster_size=1024", NULL, QCOW2_V3 | CRASH_RESIZE | CRASH_SHRINK, 0,
    "qcow2" },
  { "qcow2", "data-file", "cluster_size=4096,data_file=cut.data", NULL,
    CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 0, NULL },
  { "qcow2", "data-file-raw", "cluster_size=4096,data_file=cut.data,data_file_raw=on", NULL, 0, 0, NULL },
  { "qcow2", "data-file-extended", "cluster_size=16384,data_file=cut.data,extended_l2=on", NULL,
    QCOW2_V3 & ~CRASH_PACKS, 0, NULL },
  { "qcow2", "snapshots", "cluster_size=1024", NULL, QCOW2_V3 | CRASH_SNAPSHOTS, 0, "qcow2" },
  { "qcow2", "snapshots-extended", "cluster_size=16384,extended_l2=on", NULL,
    (QCOW2_V3 & ~CRASH_PACKS) | CRASH_SNAPSHOTS, 0, "qcow2" },
  { "qcow2", "snapshots-lazy", "cluster_size=4096,lazy_refcounts=on", NULL, QCOW2_V3 | CRASH_SNAPSHOTS, 0,
    "qcow2" },
  { "qcow2", "snapshots-version2", "cluster_size=4096,compat=0.10", NULL,
    QCOW2_V2 | CRASH_SNAPSHOTS | CRASH_CHECK_REPORTS, 0, "qcow2" },
  { "qcow2", "zstd", "cluster_size=4096,compression_type=zstd", NULL, QCOW2_V3, 0, "qcow2" },
  { "qcow2", "refcount-1", "cluster_size=2048,refcount_bits=1", NULL, QCOW2_V3, 0, "qcow2" },
  { "qcow2", "refcount-2", "cluster_size=2048,refcount_bits=2", NULL, QCOW2_V3, 0, "qcow2" },
  { "qcow2", "refcount-4", "cluster_size=2048,refcount_bits=4", NULL, QCOW2_V3, 0, "qcow2" },
  { "qcow2", "refcount-8", "cluster_size=1024,refcount_bits=8", NULL, QCOW2_V3, 0, "qcow2" },
  { "qcow2", "refcount-32", "cluster_size=1024,refcount_bits=32", NULL, QCOW2_V3, 0, "qcow2" },
  { "qcow2", "refcount-64", "cluster_size=512,refcount_bits=64", NULL, QCOW2_V3, 0, "qcow2" },
  { "qed", "clusters-4k", "cluster_size=4k,table_size=2", NULL, CRASH_BACKING | CRASH_LEAKS_STAY, 0, "qed" },
  { "qed", "resize", "cluster_size=4k,table_size=4", NULL, CRASH_RESIZE | CRASH_LEAKS_STAY, 0, "qed" },
  { "qed", "resize-backing", "cluster_size=4k,table_size=2", NULL,
    CRASH_BACKING | CRASH_RESIZE | CRASH_LEAKS_STAY, 0, "qed" },
  { "vdi", "blocks-4k", "block_size=4096", NULL, CRASH_DISCARD_ZERO, 0, NULL },
  { "vdi", "blocks-64k", "block_size=65536", NULL, CRASH_DISCARD_ZERO, 2 << 20, NULL },
  { "vdi", "blocks-1M", "", NULL, CRASH_DISCARD_ZERO, 4 << 20, "vdi" },
  { "vdi", "static", "static=on,block_size=4096", NULL, CRASH_DISCARD_ZERO, 0, NULL },
  { "vdi", "resize", "block_size=4096", NULL, CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 0, NULL },
  { "vdi", "resize-moves", "block_size=4096", NULL, CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 4 << 20,
    NULL },
  { "vdi", "resize-static", "static=on,block_size=4096", NULL,
    CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 0, NULL },
  { "vpc", "blocks-4k", "block_size=4096,force_size=on", NULL, CRASH_DISCARD_ZERO, 0, NULL },
  { "vpc", "blocks-2M", "force_size=on", NULL, CRASH_DISCARD_ZERO, 8 << 20, NULL },
  { "vpc", "fixed", "subformat=fixed,force_size=on", NULL, CRASH_DISCARD_ZERO, 0, NULL },
  { "vpc", "resize", "block_size=4096,force_size=on", NULL, CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK,
    0, NULL },
  { "vpc", "resize-sizes", "block_size=4096", NULL, CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 557056,
    NULL },
  { "vpc", "resize-fixed", "subformat=fixed,force_size=on", NULL,
    CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK | CRASH_SEAM, 0, NULL },
  { "vpc", "differencing", "block_size=4096,force_size=on", NULL, CRASH_BACKING | CRASH_PARENT, 0, NULL },
  { "qcow", "plain", "", NULL, CRASH_PACKS, 0, "qcow" },
  { "qcow", "backing", "", NULL, CRASH_PACKS | CRASH_BACKING, 0, "qcow" },
  { "parallels", "clusters-4k", "cluster_size=4096", NULL, 0, 0, "parallels" },
  { "parallels", "clusters-63", "cluster_size=32256", NULL, 0, 1 << 20, "parallels" },
  { "parallels", "resize", "cluster_size=4096", NULL, CRASH_RESIZE, 0, "parallels" },
  { "vhdx", "dynamic", "block_size=1M", NULL, CRASH_DISCARD_ZERO, 6 << 20, "vhdx" },
  { "vhdx", "not-present", "block_size=2M,block_state_zero=off", NULL, CRASH_DISCARD_ZERO, 6 << 20, "vhdx" },
  { "vhdx", "fixed", "block_size=1M,subformat=fixed", NULL, CRASH_DISCARD_ZERO, 4 << 20, "vhdx" },
  { "vhdx", "resize", "block_size=1M", NULL, CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 4 << 20,
    "vhdx" },
  { "vhdx", "resize-fixed", "block_size=1M,subformat=fixed", NULL,
    CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK, 3 << 20, "vhdx" },
  { "vhdx", "differencing", "block_size=1M", NULL, CRASH_BACKING | CRASH_PARENT, 6 << 20, "vhdx" },
  { "vmdk", "sparse", "", NULL, CRASH_DISCARD_ZERO | CRASH_LEAKS_STAY, 2 << 20, "vmdk" },
  { "vmdk", "zeroed-grain", "zeroed_grain=on", NULL, CRASH_BACKING | CRASH_PARENT | CRASH_LEAKS_STAY, 2 << 20,
    "vmdk" },
  { "vmdk", "parent", "", NULL, CRASH_BACKING | CRASH_PARENT | CRASH_LEAKS_STAY, 2 << 20, "vmdk" },
  { "vmdk", "resize", "", NULL, CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK | CRASH_LEAKS_STAY, 2 << 20,
    "vmdk" },
  { "vmdk", "resize-tables", "", NULL, CRASH_DISCARD_ZERO | CRASH_RESIZE | CRASH_SHRINK | CRASH_LEAKS_STAY,
    20 << 20, "vmdk" },
  { "vmdk", "split-sparse", "", NULL, CRASH_DISCARD_ZERO | CRASH_LEAKS_STAY, 2 << 20, NULL,
    "sparse:524288+sparse:655360+sparse:917504" },
  { "vmdk", "split-zeroed", "zeroed_grain=on", NULL, CRASH_BACKING | CRASH_PARENT | CRASH_LEAKS_STAY, 2 << 20,
    NULL, "sparse:1048576+sparse:1048576" },
  { "vmdk", "split-parent", "", NULL, CRASH_BACKING | CRASH_PARENT | CRASH_LEAKS_STAY, 2 << 20, NULL,
    "sparse:65536+sparse:2031616" },
  { "vmdk", "split-flat", "", NULL, 0, 0, NULL, "split-flat:131072+split-flat:196608+split-flat:196608" },
  { "vmdk", "split-mixed", "", NULL, CRASH_LEAKS_STAY, 1 << 20, NULL,
    "sparse:524288+flat:131072+sparse:393216" },
  { "vmdk", "flat-resize", "", NULL, CRASH_RESIZE | CRASH_SHRINK, 0, NULL, "flat:524288" },
  { "luks", "version1", "key-secret=crash,iter-time=1,cipher-alg=aes-128,cipher-mode=cbc", "key-secret=crash",
    CRASH_NEW_IS_NOISE, 0, NULL },
  { "luks", "version2", "version=2,pbkdf=pbkdf2,key-secret=crash,iter-time=1", "key-secret=crash",
    CRASH_NEW_IS_NOISE, 0, NULL },
};

typedef struct Run {
  const CrashCase *kind;
  uint32_t seed;
} Run;

static bool
is_built (const CrashCase *kind)
{
  if (tn_class_find (TN_KIND_FORMAT, kind->driver, NULL)) {
    return true;
  }
  g_test_skip ("the format has not been built");
  return false;
}

static void
test_cuts (gconstpointer data)
{
  const Run *run = data;
  if (is_built (run->kind)) {
    crash_test_cuts (run->kind, run->seed);
  }
}

static void
test_faults (gconstpointer data)
{
  const Run *run = data;
  if (is_built (run->kind)) {
    crash_test_faults (run->kind, run->seed);
  }
}

static void
test_modes (gconstpointer data)
{
  const Run *run = data;
  if (is_built (run->kind)) {
    crash_test_modes (run->kind, run->seed);
  }
}

static unsigned
number_from (const char *variable, unsigned otherwise)
{
  const char *text = g_getenv (variable);
  return text ? (unsigned) strtoul (text, NULL, 10) : otherwise;
}

static void
add_runs (const CrashCase *kind, uint32_t seed)
{
  g_autofree char *cuts = g_strdup_printf ("/%s/%s/cut/%u", kind->driver, kind->label, seed),
                  *faults = g_strdup_printf ("/%s/%s/fault/%u", kind->driver, kind->label, seed);
  const Run run = { kind, seed };
  g_test_add_data_func_full (cuts, g_memdup2 (&run, sizeof run), test_cuts, g_free);
  g_test_add_data_func_full (faults, g_memdup2 (&run, sizeof run), test_faults, g_free);
  if (kind->flags & CRASH_MODES) {
    g_autofree char *modes = g_strdup_printf ("/%s/%s/modes/%u", kind->driver, kind->label, seed);
    g_test_add_data_func_full (modes, g_memdup2 (&run, sizeof run), test_modes, g_free);
  }
}

static bool
is_wanted (const char *driver, const char *label)
{
  const char *only = g_getenv ("TENON_CRASH_ONLY");
  g_autofree char *name = g_strdup_printf ("%s/%s", driver, label);
  return only == NULL || strcmp (only, driver) == 0 || strcmp (only, name) == 0;
}

/* The passphrase of encrypted images. */
static void
define_secret (void)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  tn_options_set (options, "id", "crash");
  tn_options_set (options, "data", "tenon");
  g_assert_cmpint (tn_secret_define (options, NULL), ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  define_secret ();
  const unsigned rounds = number_from ("TENON_CRASH_ROUNDS", 2), first = number_from ("TENON_CRASH_SEED", 1);
  for (size_t i = 0; i < G_N_ELEMENTS (cases); i++) {
    for (unsigned seed = first; seed < first + rounds && is_wanted (cases[i].driver, cases[i].label);
         seed++) {
      add_runs (&cases[i], seed);
    }
  }
  crash_add_key_tests (first, MAX (rounds / 2, 1), is_wanted);
  g_autofree char *folder = g_dir_make_tmp ("tenon-crash-XXXXXX", NULL);
  g_assert_nonnull (folder);
  g_assert_cmpint (chdir (folder), ==, 0);
  const int status = g_test_run ();
  mem_disks_free ();
  g_unlink ("parent.img");
  g_rmdir (folder);
  return status;
}
