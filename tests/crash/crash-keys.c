/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Passphrases are added, erased, replaced, and the power is cut at every operation, or one operation fails.
 *
 * Whatever happens, the passphrases that a change promises to keep open the image, and all data is there.
 * When the change has ended the new passphrase opens it, and the old one does not.  One that no longer opens
 * it is gone for good: neither the headers of before nor the other copy bring it back.  Afterwards key slots
 * can be changed again, which makes both copies of a version 2 header whole.
 */
#include "crash.h"

#include <tenon/secret.h>

#include <string.h>

#define DISK_BYTES 65536u
#define MAX_STEPS 2
#define V2_COPY 16384u

/* The passphrases. */
enum { KEY_A = 1, KEY_B = 2, KEY_C = 4, KEY_LAST = 8, N_KEYS = 4 };

typedef struct KeyImage {
  const char *driver, *label;
  const char *create, *prefix; /* of the options */
} KeyImage;

/* One change, and who opens the image: while it is under way for sure, and afterwards. */
typedef struct KeyStep {
  const char *change;
  uint32_t always, after;
} KeyStep;

typedef struct KeyPlot {
  const char *name;
  const char *prepare; /* a change made before, or NULL */
  uint32_t before;
  KeyStep steps[MAX_STEPS]; /* up to the first without a change */
} KeyPlot;

#define ADD(key) "state=active,iter-time=1,new-secret=" key

static const KeyPlot plots[] = {
  { "add", NULL, KEY_A, { { ADD ("keyB"), KEY_A, KEY_A | KEY_B } } },
  { "add-slot-6", NULL, KEY_A, { { ADD ("keyB") ",keyslot=6", KEY_A, KEY_A | KEY_B } } },
  { "erase", ADD ("keyB"), KEY_A | KEY_B, { { "state=inactive,old-secret=keyA", KEY_B, KEY_B } } },
  { "erase-slot-6",
    ADD ("keyB") ",keyslot=6",
    KEY_A | KEY_B,
    { { "state=inactive,keyslot=6", KEY_A, KEY_A } } },
  { "replace",
    ADD ("keyB") ",keyslot=6",
    KEY_A | KEY_B,
    { { ADD ("keyC") ",keyslot=6,force=on", KEY_A, KEY_A | KEY_C } } },
  { "change",
    NULL,
    KEY_A,
    { { ADD ("keyB"), KEY_A, KEY_A | KEY_B }, { "state=inactive,old-secret=keyA", KEY_B, KEY_B } } },
};

static const KeyImage images[] = {
  { "luks", "keys-version1", "key-secret=keyA,iter-time=1,cipher-alg=aes-128,cipher-mode=cbc", "" },
  { "luks", "keys-version2", "version=2,pbkdf=pbkdf2,key-secret=keyA,iter-time=1,cipher-alg=aes-128", "" },
  { "qcow2", "keys",
    "cluster_size=4096,encrypt.format=luks,encrypt.key-secret=keyA,encrypt.iter-time=1,"
    "encrypt.cipher-alg=aes-128",
    "encrypt." },
};

typedef struct KeyRun {
  const KeyImage *image;
  const KeyPlot *plot;
  uint32_t seed;
  GRand *rand;
  uint8_t *before; /* the disk before the change */
  uint64_t before_size;
  uint64_t header, header_bytes; /* where the LUKS header is */
} KeyRun;

/* ---- Images ---- */

static TnNode *
keys_open (const KeyRun *run, unsigned key, uint32_t flags, GError **error)
{
  g_autofree char *text = g_strdup_printf ("driver=%s,file.driver=mem,file.filename=cut,%skey-secret=key%c",
                                           run->image->driver, run->image->prefix, 'A' + key);
  g_autoptr (TnOptions) options = options_of (text);
  TnNode *node = NULL;
  return tn_node_open (options, flags, &node, error) == 0 ? node : NULL;
}

static int
keys_amend (const KeyRun *run, TnNode *node, const char *change, GError **error)
{
  g_autoptr (TnOptions) plain = options_of (change), options = tn_options_new ();
  for (size_t i = 0; i < tn_options_count (plain); i++) {
    const char *key, *value;
    tn_options_pair (plain, i, &key, &value);
    g_autofree char *name =
        strcmp (key, "force") == 0 ? g_strdup (key) : g_strconcat (run->image->prefix, key, NULL);
    tn_options_set (options, name, value);
  }
  return tn_node_amend (node, options, error);
}

static void
keys_find_header (KeyRun *run)
{
  const MemDisk *disk = mem_disk_find ("cut");
  for (run->header = 0; memcmp (disk->bytes + run->header, "LUKS\xba\xbe", 6) != 0;
       run->header += CRASH_SECTOR) {
    g_assert_cmpuint (run->header + CRASH_SECTOR, <, disk->size);
  }
  run->header_bytes = disk->bytes[run->header + 7] == 1 ? 2 * CRASH_SECTOR : 2 * V2_COPY;
}

/* An image with data in it, and the passphrases that the plot begins with; made once, since how long a
 * derivation takes is measured each time. */
static void
keys_make (KeyRun *run)
{
  g_autoptr (TnOptions) options = options_of (run->image->create);
  g_autoptr (GError) error = NULL;
  uint8_t bytes[DISK_BYTES];
  MemDisk *disk = mem_disk ("cut", 0);
  disk->punches = true;
  if (run->before) {
    memcpy (mem_disk ("cut", run->before_size)->bytes, run->before, run->before_size);
    return;
  }
  tn_image_create ("mem:cut", run->image->driver, options, DISK_BYTES, &error);
  g_assert_no_error (error);
  TnNode *node = keys_open (run, 0, TN_OPEN_WRITE | TN_OPEN_RESIZE, &error);
  g_assert_no_error (error);
  memset (bytes, 0xda, sizeof bytes);
  g_assert_cmpint (tn_node_write (node, 0, bytes, sizeof bytes, NULL), ==, 0);
  if (run->plot->prepare) {
    keys_amend (run, node, run->plot->prepare, &error);
    g_assert_no_error (error);
  }
  g_assert_cmpint (tn_node_close (node, NULL), ==, 0);
  keys_find_header (run);
  run->before = g_memdup2 (disk->bytes, disk->size);
  run->before_size = disk->size;
}

/* ---- Looking ---- */

static void
keys_compare_data (TnNode *node, const char *when)
{
  uint8_t bytes[DISK_BYTES];
  g_autoptr (GError) error = NULL;
  if (tn_node_size (node) != DISK_BYTES || tn_node_read (node, 0, bytes, sizeof bytes, &error) < 0) {
    g_error ("%s: the data cannot be read: %s", when, error ? error->message : "the size is another");
  }
  if (bytes[0] != 0xda || memcmp (bytes, bytes + 1, sizeof bytes - 1) != 0) {
    g_error ("%s: the data is not what it was", when);
  }
}

/* All that ever open the image. */
static uint32_t
keys_of_plot (const KeyPlot *plot)
{
  uint32_t keys = plot->before;
  for (unsigned i = 0; i < MAX_STEPS; i++) {
    keys |= plot->steps[i].after;
  }
  return keys;
}

/* Who of @keys opens the image; who does finds the data. */
static uint32_t
keys_that_open (const KeyRun *run, uint32_t keys, const char *when)
{
  uint32_t found = 0;
  for (unsigned i = 0; i < N_KEYS; i++) {
    if (!(keys >> i & 1)) {
      continue;
    }
    g_autoptr (GError) error = NULL;
    TnNode *node = keys_open (run, i, 0, &error);
    if (node) {
      keys_compare_data (node, when);
      g_assert_cmpint (tn_node_close (node, NULL), ==, 0);
      found |= 1u << i;
    } else if (!g_error_matches (error, TN_BLOCK_ERROR, EPERM)) {
      g_error ("%s: key %c: %s", when, 'A' + i, error->message);
    }
  }
  return found;
}

/* A passphrase that does not open the image any more would not do so with the headers of before either: of
 * these someone may have a copy, and of version 2 there are two. */
static void
keys_look_for_remains (const KeyRun *run, uint32_t found, const char *when)
{
  const uint32_t erased = run->plot->before & ~found;
  uint8_t *header = mem_disk_find ("cut")->bytes + run->header;
  if (!erased) {
    return;
  }
  g_autofree uint8_t *now = g_memdup2 (header, run->header_bytes);
  memcpy (header, run->before + run->header, run->header_bytes);
  const uint32_t remains = keys_that_open (run, erased, when);
  memcpy (header, now, run->header_bytes);
  if (remains) {
    g_error ("%s: keys %#x are erased, but what they opened is still there", when, remains);
  }
}

/* Either copy of a version 2 header serves alone. */
static void
keys_try_copies (const KeyRun *run, uint32_t expected, const char *when)
{
  MemDisk *disk = mem_disk_find ("cut");
  for (unsigned copy = 0; copy < 2 && run->header_bytes == 2 * V2_COPY; copy++) {
    uint8_t *bytes = disk->bytes + run->header + copy * V2_COPY;
    g_autofree uint8_t *saved = g_memdup2 (bytes, V2_COPY);
    memset (bytes, 0, V2_COPY);
    const uint32_t found = keys_that_open (run, keys_of_plot (run->plot) | KEY_LAST, when);
    memcpy (bytes, saved, V2_COPY);
    if (found != expected) {
      g_error ("%s: without copy %u of the header keys %#x open it, not %#x", when, copy, found, expected);
    }
  }
}

/* Whoever opens it can change key slots again. */
static void
keys_go_on (const KeyRun *run, uint32_t found, const char *when)
{
  g_autoptr (GError) error = NULL;
  TnNode *node = keys_open (run, (unsigned) __builtin_ctz (found), TN_OPEN_WRITE | TN_OPEN_RESIZE, &error);
  if (!node || keys_amend (run, node, ADD ("keyD"), &error) < 0 || tn_node_close (node, &error) < 0) {
    g_error ("%s: no passphrase can be added: %s", when, error->message);
  }
  g_autofree char *later = g_strdup_printf ("%s, another one added", when);
  g_assert_cmpuint (keys_that_open (run, keys_of_plot (run->plot) | KEY_LAST, later), ==, found | KEY_LAST);
  keys_try_copies (run, found | KEY_LAST, later);
}

/* @step: the last that had begun, or NULL; whether it had ended. */
static void
keys_look (const KeyRun *run, const KeyStep *step, bool ended, const char *when)
{
  const uint32_t found = keys_that_open (run, keys_of_plot (run->plot), when);
  const uint32_t always = step == NULL ? run->plot->before : ended ? step->after : step->always;
  const uint32_t may = step && !ended ? run->plot->before | run->plot->steps[0].after | step->after : always;
  if ((found & always) != always || (found & ~may)) {
    g_error ("%s: keys %#x open it; %#x should, %#x may", when, found, always, may);
  }
  keys_look_for_remains (run, found, when);
  if (g_rand_int_range (run->rand, 0, 8) == 0) {
    keys_go_on (run, found, when);
  }
}

/* ---- Cuts ---- */

typedef struct KeyTurns {
  uint64_t begun, ended;
} KeyTurns;

static void
keys_cut_at (const KeyRun *run, const KeyTurns *turns, CrashLog *log, guint cut)
{
  const uint64_t turn = crash_log_turn (log, cut);
  const CrashTearing tearing = (CrashTearing) g_rand_int_range (run->rand, 0, CRASH_TEARINGS);
  const KeyStep *step = NULL;
  bool ended = false;
  for (unsigned i = 0; i < MAX_STEPS && run->plot->steps[i].change; i++) {
    if (cut && turns[i].begun < turn) {
      step = &run->plot->steps[i];
      ended = turns[i].ended <= turn;
    }
  }
  g_autofree char *when =
      g_strdup_printf ("%s/%s/%s, seed %u, cut at %u of %u, tearing %u", run->image->driver,
                       run->image->label, run->plot->name, run->seed, cut, crash_log_length (log), tearing);
  crash_log_cut (log, turn, tearing, run->rand);
  keys_look (run, step, ended, when);
}

static void
keys_test_cuts (KeyRun *run)
{
  KeyTurns turns[MAX_STEPS] = { 0 };
  keys_make (run);
  CrashLog *log = crash_log_begin ();
  for (unsigned i = 0; i < MAX_STEPS && run->plot->steps[i].change; i++) {
    g_autoptr (GError) error = NULL;
    const uint32_t opens = i ? run->plot->steps[i - 1].after : run->plot->before;
    TnNode *node = keys_open (run, (unsigned) __builtin_ctz (opens), TN_OPEN_WRITE | TN_OPEN_RESIZE, &error);
    g_assert_no_error (error);
    turns[i].begun = crash_last_turn ();
    keys_amend (run, node, run->plot->steps[i].change, &error);
    g_assert_no_error (error);
    turns[i].ended = crash_last_turn ();
    g_assert_cmpint (tn_node_close (node, NULL), ==, 0);
  }
  crash_log_stop (log);
  g_assert_cmpuint (crash_log_length (log), >, 3);
  for (guint cut = 0; cut <= crash_log_length (log); cut++) {
    keys_cut_at (run, turns, log, cut);
  }
  crash_log_free (log);
}

/* ---- Faults ---- */

/* The first step with operation @at failing; false: there are fewer. */
static bool
keys_fail_at (KeyRun *run, CrashFault fault)
{
  g_autofree char *when = g_strdup_printf ("%s/%s/%s, seed %u, operation %u %s with %d", run->image->driver,
                                           run->image->label, run->plot->name, run->seed, fault.countdown,
                                           fault.lasting ? "and all behind it fail" : "fails", fault.result);
  const KeyStep *step = &run->plot->steps[0];
  g_autoptr (GError) error = NULL, again = NULL;
  keys_make (run);
  TnNode *node =
      keys_open (run, (unsigned) __builtin_ctz (run->plot->before), TN_OPEN_WRITE | TN_OPEN_RESIZE, &error);
  g_assert_no_error (error);
  crash_fault_set (&fault);
  const int ret = keys_amend (run, node, step->change, &error);
  crash_fault_set (NULL);
  g_assert_true (ret == 0 || error);
  const bool repeated = ret < 0 && g_rand_boolean (run->rand);
  const int second = repeated ? keys_amend (run, node, step->change, &again) : ret;
  g_assert_true (second == 0 || !repeated || again);
  (void) tn_node_close (node, NULL);
  keys_look (run, step, second == 0, when);
  return fault.met;
}

static void
keys_test_faults (KeyRun *run)
{
  bool more = true;
  for (unsigned at = 0; more; at++) {
    more = keys_fail_at (run, (CrashFault){ at, at % 2 ? -ENOSPC : -EIO, at % 3 == run->seed % 3, false });
  }
}

/* ---- The tests ---- */

static void
keys_test (gconstpointer data)
{
  KeyRun run = *(const KeyRun *) data;
  if (!tn_class_find (TN_KIND_FORMAT, "luks", NULL)
      || !tn_class_find (TN_KIND_FORMAT, run.image->driver, NULL)) {
    g_test_skip ("the format has not been built");
    return;
  }
  run.rand = g_rand_new_with_seed (run.seed);
  keys_test_cuts (&run);
  keys_test_faults (&run);
  g_rand_free (run.rand);
  g_free (run.before);
}

static void
keys_define_secrets (void)
{
  for (unsigned i = 0; i < N_KEYS; i++) {
    g_autoptr (TnOptions) options = tn_options_new ();
    const char id[] = { 'k', 'e', 'y', (char) ('A' + i), 0 };
    tn_options_set (options, "id", id);
    tn_options_set (options, "data", id);
    g_assert_cmpint (tn_secret_define (options, NULL), ==, 0);
  }
}

void
crash_add_key_tests (uint32_t first, unsigned rounds, bool (*wanted) (const char *driver, const char *label))
{
  keys_define_secrets ();
  for (size_t i = 0; i < G_N_ELEMENTS (images) * G_N_ELEMENTS (plots); i++) {
    const KeyImage *image = &images[i / G_N_ELEMENTS (plots)];
    const KeyPlot *plot = &plots[i % G_N_ELEMENTS (plots)];
    for (uint32_t seed = first; seed < first + rounds && wanted (image->driver, image->label); seed++) {
      g_autofree char *name = g_strdup_printf ("/%s/%s/%s/%u", image->driver, image->label, plot->name, seed);
      const KeyRun run = { .image = image, .plot = plot, .seed = seed };
      g_test_add_data_func_full (name, g_memdup2 (&run, sizeof run), keys_test, g_free);
    }
  }
}
