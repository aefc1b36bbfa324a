/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at what a power cut or a failed write has left. */
#include "crash.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Contents ---- */

static bool
size_is_possible (const CrashState *state, uint64_t size)
{
  for (guint i = 0; i < state->sizes->len; i++) {
    if (g_array_index (state->sizes, uint64_t, i) == size) {
      return true;
    }
  }
  return false;
}

static bool
value_is_possible (const CrashState *state, uint64_t sector, const uint8_t *bytes)
{
  const uint8_t value = bytes[0];
  const uint64_t any[4] = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
  if (memcmp (state->may[sector], any, sizeof any) == 0) {
    return true;
  }
  return (state->may[sector][value / 64] >> (value % 64) & 1)
         && memcmp (bytes, bytes + 1, CRASH_SECTOR - 1) == 0;
}

/* A sector that nothing but one value is possible in was not written since the flush. */
static bool
is_sure (const CrashState *state, uint64_t sector)
{
  unsigned values = 0;
  for (unsigned i = 0; i < 4; i++) {
    values += (unsigned) __builtin_popcountll (state->may[sector][i]);
  }
  return values == 1;
}

static void
compare_contents (const CrashStory *story, const CrashState *state, TnNode *node, const char *when)
{
  const uint64_t size = tn_node_size (node);
  const bool loose = story->kind->flags & CRASH_LOST_ON_SYNC;
  g_autoptr (GError) error = NULL;
  if (!size_is_possible (state, size)) {
    g_error ("%s: the disk has %" G_GUINT64_FORMAT " bytes, which it never had", when, size);
  }
  g_autofree uint8_t *found = g_malloc (size);
  if (tn_node_read (node, 0, found, size, &error) < 0) {
    g_error ("%s: it cannot be read: %s", when, error->message);
  }
  for (uint64_t i = 0; i < size / CRASH_SECTOR; i++) {
    if (!value_is_possible (state, i, found + i * CRASH_SECTOR) && !(loose && !is_sure (state, i))) {
      g_error ("%s: sector %" G_GUINT64_FORMAT " holds 0x%02x, which is neither %s", when, i,
               found[i * CRASH_SECTOR],
               is_sure (state, i) ? "what was flushed" : "what was flushed nor what was written since");
    }
  }
}

static void
read_all (CrashStory *story, const CrashState *state, bool writable, const char *when)
{
  g_autoptr (GError) error = NULL;
  TnNode *node = crash_open (story, writable ? TN_OPEN_WRITE | TN_OPEN_RESIZE : 0, &error);
  if (node == NULL) {
    g_error ("%s: it does not open for %s: %s", when, writable ? "writing" : "reading", error->message);
  }
  compare_contents (story, state, node, when);
  if (tn_node_close (node, &error) < 0) {
    g_error ("%s: closing failed: %s", when, error->message);
  }
}

/* ---- Check ---- */

static void
note_finding (const char *line, bool is_error, void *opaque)
{
  if (is_error) {
    g_string_append_printf (opaque, "%s; ", line);
  }
}

/* false: the format has no check, or cannot be looked at before it is recovered. */
static bool
run_check (CrashStory *story, uint32_t fix, TnCheck *check, bool *dirty, const char *when)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (TnNode) node =
      crash_open (story, TN_OPEN_CHECK | (fix ? TN_OPEN_WRITE | TN_OPEN_RESIZE : 0), &error);
  if (node == NULL && !fix && (story->kind->flags & CRASH_RECOVERS)) {
    return false;
  }
  if (node == NULL) {
    g_error ("%s: it does not open for a check: %s", when, error->message);
  }
  TnInfo info = { .size = sizeof info };
  tn_node_info (node, &info, NULL);
  *dirty = info.dirty;
  const int ret = tn_node_check (node, fix, check, &error);
  if (ret < 0 && ret != -ENOTSUP) {
    g_error ("%s: check failed: %s", when, error->message);
  }
  return ret == 0;
}

static void
check_image (CrashStory *story, uint32_t fix, bool repaired, const char *when)
{
  g_autoptr (GString) findings = g_string_new (NULL);
  TnCheck check = { .size = sizeof check, .report = note_finding, .opaque = findings };
  bool dirty = false;
  if (!run_check (story, fix, &check, &dirty, when)) {
    return;
  }
  const bool tolerated = !repaired && (dirty || (story->kind->flags & CRASH_CHECK_REPORTS));
  if ((check.corruptions || check.check_errors) && !tolerated) {
    g_error ("%s: check%s finds %" G_GUINT64_FORMAT " corruptions: %s", when,
             fix        ? " -r all"
             : repaired ? " after the repair"
                        : "",
             check.corruptions, findings->str);
  }
  if (check.leaks && repaired && !(story->kind->flags & CRASH_LEAKS_STAY)) {
    g_error ("%s: %" G_GUINT64_FORMAT " leaks are left", when, check.leaks);
  }
}

void
crash_look (CrashStory *story, const CrashState *state, bool write_first, const char *when)
{
  check_image (story, 0, false, when);
  if (write_first || (story->kind->flags & CRASH_RECOVERS)) {
    read_all (story, state, true, when);
  } else {
    read_all (story, state, false, when);
  }
  check_image (story, TN_CHECK_FIX_LEAKS | TN_CHECK_FIX_ERRORS, true, when);
  check_image (story, 0, true, when);
  g_autofree char *repaired = g_strdup_printf ("%s, after the repair", when);
  read_all (story, state, false, repaired);
}

/* ---- A second opinion ---- */

void
crash_ask_qemu (CrashStory *story, const char *when)
{
  g_autofree char *program = g_find_program_in_path ("qemu-img");
  g_autofree char *path = NULL, *output = NULL;
  const MemDisk *disk = mem_disk_find ("cut");
  int status = 0, fd = -1;
  if (story->kind->qemu && program && !story->backing) {
    fd = g_file_open_tmp ("tenon-cut-XXXXXX", &path, NULL);
  }
  if (fd < 0) {
    return;
  }
  close (fd);
  g_assert_true (g_file_set_contents (path, (const char *) disk->bytes, (gssize) disk->size, NULL));
  const char *argv[] = { program, "check", "-f", story->kind->qemu, path, NULL };
  g_assert_true (g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &output,
                               NULL, &status, NULL));
  remove (path);
  /* 63: qemu-img knows no check for this format; 3: it has leaks */
  const int code = WIFEXITED (status) ? WEXITSTATUS (status) : -1;
  if (code != 0 && code != 63 && !(code == 3 && (story->kind->flags & CRASH_LEAKS_STAY))) {
    g_error ("%s: qemu-img check disagrees: %s", when, output);
  }
}
