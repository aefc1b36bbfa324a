/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Giving up files: Landlock, by its system calls, since the C library may not know them. */
#define _GNU_SOURCE /* O_PATH */

#include "io/sandbox.h"

#include "plugin/registry.h"
#include "util/asan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#define ASK_VERSION 1u
#define RULE_PATH_BENEATH 1

/* Rights, by the version of the interface that brought them. */
enum {
  FS_EXECUTE = 1 << 0,
  FS_WRITE_FILE = 1 << 1,
  FS_READ_FILE = 1 << 2,
  FS_READ_DIR = 1 << 3,
  FS_REMOVE_FILE = 1 << 5,
  FS_MAKE_FILE = 1 << 8,
  FS_VERSION_1 = (1 << 13) - 1,
  FS_REFER = 1 << 13,    /* 2 */
  FS_TRUNCATE = 1 << 14, /* 3 */
  NET_TCP = 3,           /* 4: bind and connect */
  SCOPE_ALL = 3          /* 6: abstract sockets, signals */
};

typedef struct Ruleset {
  uint64_t fs, net, scope;
} Ruleset;

typedef struct __attribute__ ((packed)) PathRule {
  uint64_t allowed;
  int32_t fd;
} PathRule;

/* The process's, once sealed; a process has one sandbox as it has one set of files. */
static int sealed_by = -1; /* atomic */
static __thread bool thread_sealed;

/* What plugins asked for between the first step and the second. */
typedef struct Kept {
  int fd;
  uint32_t access;
} Kept;

static GMutex kept_lock;
static bool keeping;
static Kept kept[TN_SANDBOX_MAX_KEPT];
static unsigned n_kept;

static Ruleset
everything (long version, bool sockets, size_t *size)
{
  Ruleset ruleset = { .fs = FS_VERSION_1 };
  *size = version < 4 ? 8 : version < 6 ? 16 : 24;
  ruleset.fs |= version >= 2 ? FS_REFER : 0;
  ruleset.fs |= version >= 3 ? FS_TRUNCATE : 0;
  ruleset.net = version >= 4 && !sockets ? NET_TCP : 0;
  ruleset.scope = version >= 6 && !sockets ? SCOPE_ALL : 0;
  return ruleset;
}

static uint64_t
rights (uint32_t access, bool folder)
{
  uint64_t right = 0;
  if (access & TN_SANDBOX_READ)
    right |= FS_READ_FILE | (folder ? FS_READ_DIR : 0);
  if (access & TN_SANDBOX_WRITE)
    right |= FS_WRITE_FILE | FS_TRUNCATE;
  if ((access & TN_SANDBOX_REMOVE) && folder)
    right |= FS_REMOVE_FILE;
  if ((access & TN_SANDBOX_MAKE) && folder)
    right |= FS_MAKE_FILE;
  return right;
}

/* Takes over @fd. */
static void
add_fd (int ruleset, const Ruleset *handled, int fd, uint32_t access)
{
  struct stat st;
  if (fd < 0)
    return;
  if (fstat (fd, &st) == 0) {
    const PathRule rule = { rights (access, S_ISDIR (st.st_mode)) & handled->fs, fd };
    if (rule.allowed)
      (void) syscall (SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
  }
  close (fd);
}

static void
add_path (int ruleset, const Ruleset *handled, const char *path, uint32_t access)
{
  add_fd (ruleset, handled, open (path, O_PATH | O_CLOEXEC), access);
}

static void
add_kept (int ruleset, const Ruleset *handled)
{
  g_mutex_lock (&kept_lock);
  for (unsigned i = 0; i < n_kept; i++)
    add_fd (ruleset, handled, kept[i].fd, kept[i].access);
  n_kept = 0;
  keeping = false;
  g_mutex_unlock (&kept_lock);
}

static void
add_plugins (int ruleset, const Ruleset *handled)
{
  static const char *const libraries[] = { "/lib",       "/lib64",         "/usr/lib",
                                           "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache" };
  g_auto (GStrv) folders = tn_plugins_directories ();
  for (char **folder = folders; *folder; folder++)
    add_path (ruleset, handled, *folder, TN_SANDBOX_READ);
  for (size_t i = 0; i < G_N_ELEMENTS (libraries); i++)
    add_path (ruleset, handled, libraries[i], TN_SANDBOX_READ);
}

static bool
seal_thread (int ruleset)
{
  thread_sealed = syscall (SYS_landlock_restrict_self, ruleset, 0) == 0;
  return thread_sealed;
}

void
tn_sandbox_follow (void)
{
  int ruleset = __atomic_load_n (&sealed_by, __ATOMIC_ACQUIRE);
  if (G_UNLIKELY (ruleset >= 0 && !thread_sealed))
    (void) seal_thread (ruleset);
}

/* The address sanitizer's search for leaks stops the program at its end from a process of its own and reads
 * its maps: there is no sandbox around that. */
static bool
leaks_are_searched (void)
{
#ifdef TN_ASAN
  const char *options = getenv ("ASAN_OPTIONS");
  return !options || !strstr (options, "detect_leaks=0");
#else
  return false;
#endif
}

int
tn_sandbox_begin (uint32_t flags, GError **error)
{
  if (leaks_are_searched ())
    return 0;
  const int ret = tn_syscall_filter_install (flags & TN_SANDBOX_SOCKETS, error);
  g_mutex_lock (&kept_lock);
  keeping = ret == 0;
  g_mutex_unlock (&kept_lock);
  return ret;
}

int
tn_sandbox_keep (const char *path, uint32_t access, GError **error)
{
  int ret = 0;
  g_mutex_lock (&kept_lock);
  if (keeping && n_kept == TN_SANDBOX_MAX_KEPT)
    ret = tn_fail (error, TN_IO_ERROR, EMFILE,
                   "'%s' is one too many to stay within the sandbox's reach (--no-sandbox "
                   "leaves it out)",
                   path);
  else if (keeping) {
    const int fd = open (path, O_PATH | O_CLOEXEC);
    if (fd < 0)
      ret = tn_fail_errno (error, TN_IO_ERROR, errno, "Could not open '%s'", path);
    else
      kept[n_kept++] = (Kept){ fd, access };
  }
  g_mutex_unlock (&kept_lock);
  return ret;
}

int
tn_sandbox_seal (uint32_t flags, const TnSandboxPath *paths, size_t n_paths, GError **error)
{
  if (leaks_are_searched ())
    return 0;
  long version = syscall (SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
  if (version < 1 || thread_sealed)
    return 0; /* a kernel without Landlock */
  size_t size;
  const Ruleset handled = everything (version, flags & TN_SANDBOX_SOCKETS, &size);
  int ruleset = (int) syscall (SYS_landlock_create_ruleset, &handled, size, 0);
  if (ruleset < 0)
    return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot seal the sandbox (--no-sandbox leaves it out)");
  if (flags & TN_SANDBOX_PLUGINS)
    add_plugins (ruleset, &handled);
  for (size_t i = 0; i < n_paths; i++)
    add_path (ruleset, &handled, paths[i].path, paths[i].access);
  add_kept (ruleset, &handled);
  if (!seal_thread (ruleset)) {
    int failed = errno;
    close (ruleset);
    return tn_fail_errno (error, TN_IO_ERROR, failed, "cannot seal the sandbox (--no-sandbox leaves it out)");
  }
  __atomic_store_n (&sealed_by, ruleset, __ATOMIC_RELEASE);
  return 0;
}
