/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rules in a file.  Whether it has changed is looked at whenever somebody wants to come in: there is no
 * watching, so nothing happens between two clients. */
#include "util/authz.h"
#include "util/fd.h"

#include <tenon/sandbox.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILE (1 << 20)
/* A file that was written so short a time before it was read may be written once more without its times
 * telling. */
#define SETTLED_SECONDS 2

struct TnAuthzFile {
  char *path;
  bool refresh;
  GMutex lock;
  /* Under it. */
  TnAuthzRules *rules; /* NULL: it could not be read the last time */
  struct stat seen;
  bool settled;
};

static int
read_text (const TnAuthzFile *file, char *text, struct stat *status, GError **error)
{
  const int fd = open (file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return tn_fail_errno (error, TN_OPTION_ERROR, errno, "cannot open '%s'", file->path);
  ssize_t got = fstat (fd, status) < 0 ? -errno : 0;
  if (got == 0 && (!S_ISREG (status->st_mode) || status->st_size > MAX_FILE))
    got = -EFBIG;
  if (got == 0)
    got = tn_fd_read (fd, text, MAX_FILE);
  close (fd);
  if (got == -EFBIG)
    return tn_fail (error, TN_OPTION_ERROR, EFBIG, "'%s' is no file of at most 1 MiB", file->path);
  if (got < 0)
    return tn_fail_errno (error, TN_OPTION_ERROR, (int) -got, "cannot read '%s'", file->path);
  text[got] = '\0';
  if (strlen (text) != (size_t) got)
    return tn_fail (error, TN_OPTION_ERROR, EINVAL, "'%s' is no JSON: there are zero bytes in it",
                    file->path);
  return 0;
}

static int
read_rules (const TnAuthzFile *file, TnAuthzRules **rules, struct stat *status, GError **error)
{
  g_autofree char *text = g_malloc (MAX_FILE + 1), *what = g_strdup_printf ("'%s'", file->path);
  g_autoptr (TnOptions) options = tn_options_new ();
  int rc = read_text (file, text, status, error);
  if (rc < 0)
    return rc;
  rc = tn_options_parse_json (options, text, error);
  if (rc < 0) {
    g_prefix_error (error, "%s: ", what);
    return rc;
  }
  return tn_authz_rules_new (options, what, rules, error);
}

static int
load (TnAuthzFile *file, GError **error)
{
  g_clear_pointer (&file->rules, tn_authz_rules_free);
  const int rc = read_rules (file, &file->rules, &file->seen, error);
  file->settled = rc == 0 && time (NULL) - file->seen.st_mtim.tv_sec > SETTLED_SECONDS;
  return rc;
}

static bool
same_time (const struct timespec *a, const struct timespec *b)
{
  return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool
is_up_to_date (const TnAuthzFile *file)
{
  struct stat now;
  const struct stat *seen = &file->seen;
  return file->settled && stat (file->path, &now) == 0 && now.st_dev == seen->st_dev
         && now.st_ino == seen->st_ino && now.st_size == seen->st_size
         && same_time (&now.st_mtim, &seen->st_mtim) && same_time (&now.st_ctim, &seen->st_ctim);
}

int
tn_authz_file_new (const char *path, bool refresh, TnAuthzFile **result, GError **error)
{
  TnAuthzFile *file = g_new0 (TnAuthzFile, 1);
  file->path = g_strdup (path);
  file->refresh = refresh;
  g_mutex_init (&file->lock);
  const int rc = load (file, error);
  if (rc < 0)
    tn_authz_file_free (file);
  else
    *result = file;
  return rc;
}

void
tn_authz_file_free (TnAuthzFile *file)
{
  tn_authz_rules_free (file->rules);
  g_mutex_clear (&file->lock);
  g_free (file->path);
  g_free (file);
}

/* The folder: editors put a new file in the place of the old one. */
int
tn_authz_file_keep (const TnAuthzFile *file, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (file->path);
  return file->refresh ? tn_sandbox_keep (folder, TN_SANDBOX_READ, error) : 0;
}

int
tn_authz_file_allows (TnAuthzFile *file, const char *identity, bool *allowed, GError **error)
{
  g_mutex_lock (&file->lock);
  int rc = file->refresh && !is_up_to_date (file) ? load (file, error) : 0;
  if (rc == 0)
    *allowed = tn_authz_rules_allow (file->rules, identity);
  g_mutex_unlock (&file->lock);
  return rc;
}
