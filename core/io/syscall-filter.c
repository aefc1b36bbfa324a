/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * System calls that are refused with EPERM.  The filter is made here, without a library, because every
 * library that a tool maps costs it start-up time.
 */
#define _GNU_SOURCE /* CLONE_THREAD */

#include "io/sandbox.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <linux/audit.h>
#include <linux/blkzoned.h>
#include <linux/cdrom.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __x86_64__
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined __riscv && __riscv_xlen == 64
#define NATIVE_ARCH AUDIT_ARCH_RISCV64
#endif

#ifdef NATIVE_ARCH

#define X32_CALLS 0x40000000u /* on x86-64: the same calls by other numbers */
#define MOST_RULES 320

static const int refused_calls[] = {
  /* Other programs and processes. */
  SYS_execve,
  SYS_execveat,
  SYS_ptrace,
  SYS_process_vm_readv,
  SYS_process_vm_writev,
  SYS_rt_sigqueueinfo,
  SYS_rt_tgsigqueueinfo,
  SYS_tkill,
  SYS_kcmp,
  SYS_pidfd_send_signal,
  SYS_pidfd_open,
  SYS_pidfd_getfd,
  SYS_process_madvise,
  SYS_setpriority,
#ifdef SYS_fork
  SYS_fork,
  SYS_vfork,
#endif
  /* Who and where the process is. */
  SYS_setuid,
  SYS_setgid,
  SYS_setreuid,
  SYS_setregid,
  SYS_setresuid,
  SYS_setresgid,
  SYS_setgroups,
  SYS_setfsuid,
  SYS_setfsgid,
  SYS_capset,
  SYS_chroot,
  SYS_unshare,
  SYS_setns,
  SYS_mount,
  SYS_umount2,
  SYS_pivot_root,
  SYS_open_tree,
  SYS_move_mount,
  SYS_fsopen,
  SYS_fsconfig,
  SYS_fsmount,
  SYS_fspick,
  SYS_open_by_handle_at,
  SYS_name_to_handle_at,
  /* The machine. */
  SYS_bpf,
  SYS_perf_event_open,
  SYS_keyctl,
  SYS_add_key,
  SYS_request_key,
  SYS_init_module,
  SYS_finit_module,
  SYS_delete_module,
  SYS_kexec_load,
  SYS_reboot,
  SYS_swapon,
  SYS_swapoff,
  SYS_acct,
  SYS_quotactl,
  SYS_settimeofday,
  SYS_clock_settime,
  SYS_adjtimex,
  SYS_clock_adjtime,
  SYS_sethostname,
  SYS_setdomainname,
  SYS_syslog,
  SYS_vhangup,
  SYS_userfaultfd,
  SYS_personality,
#ifdef __x86_64__
  SYS_iopl,
  SYS_ioperm,
  SYS_modify_ldt,
#endif
};

/* What may be asked of a descriptor by ioctl(2). */
static const uint32_t allowed_controls[] = {
  /* Whether it is a terminal, and of which width. */
  TCGETS,
  TCGETS2,
  TIOCGWINSZ,
  /* Files: shared extents, attributes. */
  FICLONERANGE,
  FS_IOC_GETFLAGS,
  FS_IOC_SETFLAGS,
  FS_IOC_FSGETXATTR,
  FS_IOC_FSSETXATTR,
  /* Block devices: what they are, zeroes, discards. */
  BLKGETSIZE64,
  BLKSSZGET,
  BLKPBSZGET,
  BLKROGET,
  BLKGETZONESZ,
  BLKDISCARD,
  BLKZEROOUT,
  /* CD-ROM drives: what is in them. */
  CDROM_DRIVE_STATUS,
  CDROM_MEDIA_CHANGED,
};

/* What waits in a socket, and network interfaces: libraries ask for these. */
static const uint32_t socket_controls[] = {
  FIONREAD,     FIONBIO,     SIOCGIFINDEX, SIOCGIFNAME, SIOCGIFCONF,
  SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFMTU,   SIOCOUTQ,    SIOCATMARK,
};

static const int socket_calls[] = { SYS_socket, SYS_socketpair, SYS_connect, SYS_bind,
                                    SYS_listen, SYS_accept,     SYS_accept4 };

typedef struct Filter {
  struct sock_filter rules[MOST_RULES];
  unsigned short n;
} Filter;

static void
put (Filter *filter, uint16_t code, uint32_t value, uint8_t if_true, uint8_t if_false)
{
  filter->rules[filter->n++] = (struct sock_filter){ code, if_true, if_false, value };
}

static void
load (Filter *filter, size_t at)
{
  put (filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t) at, 0, 0);
}

static void
answer (Filter *filter, uint32_t what)
{
  put (filter, BPF_RET | BPF_K, what, 0, 0);
}

static void
refuse (Filter *filter)
{
  answer (filter, SECCOMP_RET_ERRNO | EPERM);
}

/* Where the lower half of an argument stands. */
static size_t
argument (unsigned index)
{
  const size_t low = G_BYTE_ORDER == G_LITTLE_ENDIAN ? 0 : 4;
  return offsetof (struct seccomp_data, args) + index * sizeof (uint64_t) + low;
}

static void
refuse_calls (Filter *filter, const int *calls, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    put (filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) calls[i], 0, 1);
    refuse (filter);
  }
}

/* One call, as its argument at @index is. */
static void
refuse_by_argument (Filter *filter, int call, unsigned index, uint16_t test, uint32_t value, bool refused_if)
{
  put (filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) call, 0, 4);
  load (filter, argument (index));
  put (filter, BPF_JMP | test | BPF_K, value, refused_if ? 0 : 1, refused_if ? 1 : 0);
  refuse (filter);
  answer (filter, SECCOMP_RET_ALLOW);
}

static void
allow_controls (Filter *filter, const uint32_t *controls, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    put (filter, BPF_JMP | BPF_JEQ | BPF_K, controls[i], 0, 1);
    answer (filter, SECCOMP_RET_ALLOW);
  }
}

/* Of ioctl() all but what is listed is refused. */
static void
refuse_controls (Filter *filter, bool sockets)
{
  size_t n = G_N_ELEMENTS (allowed_controls) + (sockets ? G_N_ELEMENTS (socket_controls) : 0);
  put (filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, (uint8_t) (2 * n + 2));
  load (filter, argument (1));
  allow_controls (filter, allowed_controls, G_N_ELEMENTS (allowed_controls));
  if (sockets)
    allow_controls (filter, socket_controls, G_N_ELEMENTS (socket_controls));
  refuse (filter);
}

G_STATIC_ASSERT (2 * (G_N_ELEMENTS (allowed_controls) + G_N_ELEMENTS (socket_controls)) + 2 <= UINT8_MAX);

static void
build (Filter *filter, bool sockets)
{
  load (filter, offsetof (struct seccomp_data, arch));
  put (filter, BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
  refuse (filter);
  load (filter, offsetof (struct seccomp_data, nr));
#ifdef __x86_64__
  put (filter, BPF_JMP | BPF_JGE | BPF_K, X32_CALLS, 0, 1);
  refuse (filter);
#endif
  /* A signal for oneself ends in abort(). */
  const uint32_t self = (uint32_t) getpid ();
  refuse_by_argument (filter, SYS_kill, 0, BPF_JEQ, self, false);
  refuse_by_argument (filter, SYS_tgkill, 0, BPF_JEQ, self, false);
  refuse_by_argument (filter, SYS_clone, 0, BPF_JSET, CLONE_THREAD, false);
  refuse_controls (filter, sockets);
  /* Its flags are in memory, where a filter cannot look; the C library then takes clone(). */
  put (filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
  answer (filter, SECCOMP_RET_ERRNO | ENOSYS);
  refuse_calls (filter, refused_calls, G_N_ELEMENTS (refused_calls));
  if (!sockets)
    refuse_calls (filter, socket_calls, G_N_ELEMENTS (socket_calls));
  answer (filter, SECCOMP_RET_ALLOW);
}

G_STATIC_ASSERT (2
                         * (G_N_ELEMENTS (refused_calls) + G_N_ELEMENTS (socket_calls)
                            + G_N_ELEMENTS (allowed_controls) + G_N_ELEMENTS (socket_controls))
                     + 40
                 < MOST_RULES);

int
tn_syscall_filter_install (bool sockets, GError **error)
{
  Filter filter;
  filter.n = 0;
  build (&filter, sockets);
  const struct sock_fprog program = { filter.n, filter.rules };
  /* Landlock asks for it, too. */
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return 0;
  if (prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 || errno == EINVAL || errno == ENOSYS)
    return 0; /* a kernel without filters */
  return tn_fail_errno (error, TN_IO_ERROR, errno, "cannot enter the sandbox (--no-sandbox leaves it out)");
}

#else

int
tn_syscall_filter_install (bool sockets, GError **error)
{
  return 0;
}

#endif
