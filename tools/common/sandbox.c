/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When a tool gives up what. */
#include "sandbox.h"

/* The user's words name something on the network: a URI, or a server as options or QEMU's older names
 * describe it. */
static bool
names_network (const char *text)
{
  return text
         && (strstr (text, "://") || strstr (text, "server.") || strstr (text, "\"server\"")
             || strstr (text, "driver=ssh") || strstr (text, "portal=") || strstr (text, "\"portal\"")
             || strstr (text, "driver=rbd") || strstr (text, "\"rbd\"") || strstr (text, "driver=sheepdog")
             || strstr (text, "\"sheepdog\"") || g_str_has_prefix (text, "nbd:")
             || g_str_has_prefix (text, "sheepdog:") || g_str_has_prefix (text, "rbd:"));
}

static bool
asks_for_sockets (const CliArgs *args)
{
  for (unsigned i = 0; i < args->n_words; i++)
    if (names_network (args->words[i]))
      return true;
  for (unsigned i = 0; i < args->n_given; i++)
    if (names_network (args->given[i].value))
      return true;
  return false;
}

int
cli_confine (CliArgs *args, GError **error)
{
  if (!args->tool->sandboxed || args->no_sandbox || cli_flag (args, "no-sandbox"))
    return 0;
  args->confined = true;
  args->sandbox_flags = args->tool->sockets || asks_for_sockets (args) ? TN_SANDBOX_SOCKETS : 0;
  return tn_sandbox_begin (args->sandbox_flags, error);
}

int
cli_seal (const CliArgs *args, uint32_t more, const char *target, uint32_t access, GError **error)
{
  if (!args->confined)
    return 0;
  g_autofree char *folder = target ? g_path_get_dirname (target) : NULL;
  const TnSandboxPath path = { folder, access };
  return tn_sandbox_seal (args->sandbox_flags | more, &path, folder ? 1 : 0, error);
}
