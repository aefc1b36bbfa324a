/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection to a cluster. */
#include "rbd.h"

#define MAX_VALUE 4096

/* What bounds waiting, and what librados does if nobody says anything. */
static const struct {
  const char *name;
  double unset;
} rbd_timeouts[] = {
  { "client_mount_timeout", 300 },
  { "rados_mon_op_timeout", 0 },
  { "rados_osd_op_timeout", 0 },
};

/* ---- Settings ---- */

static int
rbd_set (rados_t rados, const char *name, const char *value, GError **error)
{
  const int rc = rados_conf_set (rados, name, value);
  if (rc == -ENOENT)
    return tn_fail (error, TN_BLOCK_ERROR, EINVAL, "librados has no setting '%s'", name);
  return rc < 0 ? tn_fail (error, TN_BLOCK_ERROR, EINVAL, "librados does not take this value of '%s'", name)
                : 0;
}

static int
rbd_read_file (rados_t rados, const RbdPlace *place, GError **error)
{
  if (!place->conf) {
    rados_conf_read_file (rados, NULL); /* there may be none */
    return 0;
  }
  const int rc = rados_conf_read_file (rados, place->conf);
  return rc < 0 ? tn_fail_errno (error, TN_BLOCK_ERROR, MIN (-rc, 4095),
                                 "cannot read the configuration file '%s' of Ceph", place->conf)
                : 0;
}

/* What was asked for; else what the file says; else ours, since librados would wait for ever. */
static int
rbd_set_timeouts (rados_t rados, const RbdPlace *place, GError **error)
{
  char present[64], value[16];
  const int seconds = place->timeout >= 0 ? place->timeout : RBD_DEFAULT_TIMEOUT;
  g_snprintf (value, sizeof value, "%d", seconds);
  for (size_t i = 0; i < G_N_ELEMENTS (rbd_timeouts); i++) {
    const bool unset = rados_conf_get (rados, rbd_timeouts[i].name, present, sizeof present) < 0
                       || g_ascii_strtod (present, NULL) == rbd_timeouts[i].unset;
    const int rc = place->timeout >= 0 || unset ? rbd_set (rados, rbd_timeouts[i].name, value, error) : 0;
    if (rc < 0)
      return rc;
  }
  return 0;
}

static int
rbd_set_identity (rados_t rados, const RbdPlace *place, GError **error)
{
  int rc = place->monitors ? rbd_set (rados, "mon_host", place->monitors, error) : 0;
  if (rc == 0 && place->auth)
    rc = rbd_set (rados, "auth_client_required", place->auth, error);
  return rc == 0 && place->key ? rbd_set (rados, "key", place->key, error) : rc;
}

static int
rbd_set_given (rados_t rados, const RbdPlace *place, GError **error)
{
  for (size_t i = 0; i < tn_options_count (place->settings); i++) {
    const char *key, *value;
    tn_options_pair (place->settings, i, &key, &value);
    const int rc = rbd_set (rados, key, value, error);
    if (rc < 0)
      return rc;
  }
  return 0;
}

/* A library does not write to the terminal, whatever the file says. */
static int
rbd_set_quiet (rados_t rados, GError **error)
{
  static const char *const loud[] = { "log_to_stderr", "err_to_stderr" };
  int rc = 0;
  for (size_t i = 0; i < G_N_ELEMENTS (loud) && rc == 0; i++)
    rc = rbd_set (rados, loud[i], "false", error);
  return rc;
}

static int
rbd_configure (rados_t rados, const RbdPlace *place, bool cached, GError **error)
{
  int rc = rbd_read_file (rados, place, error);
  if (rc == 0)
    rc = rbd_set_quiet (rados, error);
  if (rc == 0)
    rc = rbd_set_timeouts (rados, place, error);
  if (rc == 0)
    rc = rbd_set (rados, "rbd_cache", cached ? "true" : "false", error);
  if (rc == 0)
    rc = rbd_set_identity (rados, place, error);
  return rc == 0 ? rbd_set_given (rados, place, error) : rc;
}

/* ---- Connecting ---- */

static char *
rbd_setting_of (rados_t rados, const char *name)
{
  g_autofree char *value = g_malloc0 (MAX_VALUE);
  return rados_conf_get (rados, name, value, MAX_VALUE) < 0 || !*value ? NULL : g_steal_pointer (&value);
}

static int
rbd_fail_connect (const RbdCluster *cluster, const RbdPlace *place, int rc, GError **error)
{
  const char *user = place->user ? place->user : "admin";
  const int errnum = MIN (-rc, 4095);
  g_autofree char *known = rbd_setting_of (cluster->rados, "mon_host");
  g_autofree char *timeout = rbd_setting_of (cluster->rados, "client_mount_timeout");
  if (!known)
    return tn_fail (error, TN_BLOCK_ERROR, errnum,
                    "cannot open %s: no monitor of the Ceph cluster is known: give server.0.host=HOST, or a "
                    "configuration file by conf=",
                    place->name);
  if (rc == -ETIMEDOUT)
    return tn_fail (error, TN_BLOCK_ERROR, ETIMEDOUT,
                    "cannot open %s: no answer from the %s within %s seconds (option timeout)", place->name,
                    cluster->where, timeout ? timeout : "the");
  if (rc == -EACCES || rc == -EPERM || rc == -EOPNOTSUPP)
    return tn_fail (error, TN_BLOCK_ERROR, EACCES,
                    "cannot open %s: the %s refuses client.%s: check user and key-secret", place->name,
                    cluster->where, user);
  if (rc == -ENOENT)
    return tn_fail (
        error, TN_BLOCK_ERROR, ENOENT,
        "cannot open %s: there is no key of client.%s for the %s: give key-secret, or a keyring in "
        "the configuration file",
        place->name, user, cluster->where);
  return tn_fail_errno (error, TN_BLOCK_ERROR, errnum, "cannot open %s: the %s", place->name, cluster->where);
}

static int
rbd_open_pool (RbdCluster *cluster, const RbdPlace *place, GError **error)
{
  const int rc = rados_ioctx_create (cluster->rados, place->pool, &cluster->pool);
  if (rc == -ENOENT)
    return tn_fail (error, TN_BLOCK_ERROR, ENOENT, "cannot open %s: there is no pool '%s' at the %s",
                    place->name, place->pool, cluster->where);
  if (rc < 0)
    return tn_fail_errno (error, TN_BLOCK_ERROR, MIN (-rc, 4095), "cannot open %s: pool '%s' at the %s",
                          place->name, place->pool, cluster->where);
  rados_ioctx_set_namespace (cluster->pool, place->space);
  return 0;
}

static int
rbd_connect (RbdCluster *cluster, const RbdPlace *place, bool cached, GError **error)
{
  int rc = rbd_configure (cluster->rados, place, cached, error);
  if (rc < 0)
    return rc;
  g_autofree char *monitors = rbd_setting_of (cluster->rados, "mon_host");
  cluster->where = g_strdup_printf ("Ceph cluster at %s", monitors ? monitors : "no monitor");
  rc = rados_connect (cluster->rados);
  if (rc < 0)
    return rbd_fail_connect (cluster, place, rc, error);
  return rbd_open_pool (cluster, place, error);
}

int
rbd_cluster_open (RbdCluster *cluster, const RbdPlace *place, bool cached, GError **error)
{
  int rc = rados_create (&cluster->rados, place->user);
  if (rc < 0) {
    cluster->rados = NULL;
    return tn_fail_errno (error, TN_BLOCK_ERROR, MIN (-rc, 4095), "cannot open %s: librados", place->name);
  }
  rc = rbd_connect (cluster, place, cached, error);
  if (rc < 0)
    rbd_cluster_close (cluster);
  return rc;
}

void
rbd_cluster_close (RbdCluster *cluster)
{
  if (cluster->pool)
    rados_ioctx_destroy (cluster->pool);
  if (cluster->rados)
    rados_shutdown (cluster->rados);
  g_free (cluster->where);
  *cluster = (RbdCluster){ 0 };
}
