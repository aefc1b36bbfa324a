/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --list: what another server exports. */
#include "../../plugins/common/nbd/address.h"
#include "../../plugins/common/nbd/handshake.h"
#include "nbd.h"

#include <tenon/json.h>
#include <tenon/loop.h>

/* A server that answers nothing is given up after this. */
#define LIST_NS INT64_C (30000000000)

static const char *const flag_names[] = {
  NULL,     "readonly", "flush", "fua",    "rotational", "trim",
  "zeroes", "df",       "multi", "resize", "cache",      "fast-zero"
};

typedef struct Listing {
  CliArgs *args;
  unsigned n;
  GString *text;
  TnJson *json; /* or NULL */
} Listing;

/* What a server says may hold anything. */
static char *
printable (const char *text)
{
  char *valid = g_utf8_make_valid (text, -1);
  for (char *at = valid; *at; at++)
    if (g_ascii_iscntrl (*at))
      *at = '?';
  return valid;
}

static void
show_flags (Listing *listing, const NbdOffer *offer)
{
  g_string_append_printf (listing->text, "  size:  %" G_GUINT64_FORMAT "\n  flags: 0x%x (", offer->size,
                          offer->flags);
  for (unsigned bit = 1; bit < G_N_ELEMENTS (flag_names); bit++)
    if (offer->flags & 1u << bit)
      g_string_append_printf (listing->text, " %s", flag_names[bit]);
  g_string_append (listing->text, " )\n");
}

static void
show (Listing *listing, const NbdListed *listed)
{
  const NbdOffer *offer = &listed->offer;
  g_autofree char *name = printable (listed->name), *description = printable (listed->description);
  GString *text = listing->text;
  g_string_append_printf (text, " export: '%s'\n", name);
  if (*description)
    g_string_append_printf (text, "  description: %s\n", description);
  if (offer->flags & NBD_FLAG_HAS_FLAGS)
    show_flags (listing, offer);
  if (offer->min_block)
    g_string_append_printf (text, "  min block: %u\n  opt block: %u\n  max block: %u\n", offer->min_block,
                            offer->preferred_block, offer->max_block);
  g_string_append_printf (text, "  transaction size: %s\n", offer->extended ? "64-bit" : "32-bit");
  if (listed->contexts->len)
    g_string_append_printf (text, "  available meta contexts: %u\n", listed->contexts->len);
  for (guint i = 0; i < listed->contexts->len; i++) {
    g_autofree char *context = printable (listed->contexts->pdata[i]);
    g_string_append_printf (text, "   %s\n", context);
  }
}

static void
show_json (TnJson *json, const NbdListed *listed)
{
  const NbdOffer *offer = &listed->offer;
  g_autofree char *name = g_utf8_make_valid (listed->name, -1),
                  *description = g_utf8_make_valid (listed->description, -1);
  tn_json_object_begin (json, NULL);
  tn_json_string (json, "name", name);
  if (*description)
    tn_json_string (json, "description", description);
  if (offer->flags & NBD_FLAG_HAS_FLAGS) {
    tn_json_uint (json, "size", offer->size);
    tn_json_array_begin (json, "flags");
    for (unsigned bit = 1; bit < G_N_ELEMENTS (flag_names); bit++)
      if (offer->flags & 1u << bit)
        tn_json_string (json, NULL, flag_names[bit]);
    tn_json_array_end (json);
  }
  if (offer->min_block) {
    tn_json_uint (json, "min-block", offer->min_block);
    tn_json_uint (json, "opt-block", offer->preferred_block);
    tn_json_uint (json, "max-block", offer->max_block);
  }
  tn_json_bool (json, "structured-replies", offer->structured);
  tn_json_bool (json, "extended-headers", offer->extended);
  tn_json_array_begin (json, "contexts");
  for (guint i = 0; i < listed->contexts->len; i++) {
    g_autofree char *context = g_utf8_make_valid (listed->contexts->pdata[i], -1);
    tn_json_string (json, NULL, context);
  }
  tn_json_array_end (json);
  tn_json_object_end (json);
}

static void
visit (const NbdListed *listed, void *opaque)
{
  Listing *listing = opaque;
  listing->n++;
  if (listing->json)
    show_json (listing->json, listed);
  else
    show (listing, listed);
}

/* -k, or -b and -p, are where the server is. */
static int
find_server (const CliArgs *args, TnOptions *options, GError **error)
{
  const char *path = cli_text (args, "socket"), *host = cli_text (args, "bind");
  uint64_t port = NBD_DEFAULT_PORT;
  if (path && (host || cli_text (args, "port")))
    return tn_fail (error, TN_OPTION_ERROR, EINVAL,
                    "-k is a Unix socket: it does not go together with -p and -b");
  const int rc = cli_uint (args, "port", 1, 65535, &port, error);
  if (rc < 0)
    return rc;
  if (cli_text (args, "tls-creds"))
    tn_options_set (options, "tls-creds", cli_text (args, "tls-creds"));
  if (cli_text (args, "tls-hostname"))
    tn_options_set (options, "tls-hostname", cli_text (args, "tls-hostname"));
  if (path) {
    tn_options_set (options, "server.path", path);
    return 0;
  }
  tn_options_set (options, "server.host", host ? host : "localhost");
  tn_options_set_uint (options, "server.port", port);
  return 0;
}

static int
ask (const TnOptions *options, Listing *listing, GError **error)
{
  NbdChannel channel = { .fd = -1 };
  g_autoptr (TnTlsCredentials) credentials = NULL;
  const int64_t deadline = tn_clock_ns () + LIST_NS;
  g_autofree char *server = nbd_address_text (options);
  int rc = nbd_address_credentials (options, &credentials, error);
  if (rc < 0)
    return rc;
  const NbdTalk talk = {
    .channel = &channel, .deadline = deadline, .tls = credentials, .hostname = nbd_address_hostname (options)
  };
  rc = nbd_address_connect (options, &channel, deadline, NULL, error);
  if (rc < 0) {
    g_prefix_error (error, "cannot connect to the %s: ", server);
    return rc;
  }
  rc = nbd_handshake_list (&talk, visit, listing, error);
  nbd_channel_close (&channel);
  if (rc < 0)
    g_prefix_error (error, "%s: ", server);
  return rc;
}

static void
print (Listing *listing)
{
  if (listing->json)
    g_string_append_c (listing->text, '\n');
  else
    cli_print (listing->args, "exports available: %u\n", listing->n);
  cli_print_text (listing->args, listing->text->str, listing->text->len);
}

int
nbd_list (CliArgs *args)
{
  g_autoptr (TnOptions) options = tn_options_new ();
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (TnJson) json = cli_json (args) ? tn_json_new (text, true) : NULL;
  Listing listing = { .args = args, .text = text, .json = json };
  GError *error = NULL;
  int rc = args->n_words ? tn_fail (&error, TN_OPTION_ERROR, EINVAL,
                                    "--list asks a server: give its address by -k, -b and -p, and no image")
                         : cli_define_objects (args, &error);
  if (json) {
    tn_json_object_begin (json, NULL);
    tn_json_array_begin (json, "exports");
  }
  if (rc == 0)
    rc = find_server (args, options, &error);
  if (rc == 0)
    rc = ask (options, &listing, &error);
  if (json) {
    tn_json_array_end (json);
    tn_json_object_end (json);
  }
  if (rc < 0)
    return cli_fail (args, EXIT_FAILURE, &error);
  print (&listing);
  return EXIT_SUCCESS;
}
