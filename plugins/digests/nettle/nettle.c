/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The digests of the nettle library, and PBKDF2 over them. */
#include <tenon/cipher.h>

#include <nettle/hmac.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>

#define MAX_STATE 512 /* of any of these hashes */

G_STATIC_ASSERT (sizeof (struct sha512_ctx) <= MAX_STATE);

static void
run_digest (const struct nettle_hash *hash, const struct iovec *parts, unsigned n, void *out)
{
  uint64_t state[MAX_STATE / 8];
  hash->init (state);
  for (unsigned i = 0; i < n; i++)
    hash->update (state, parts[i].iov_len, parts[i].iov_base);
  hash->digest (state, hash->digest_size, out);
  explicit_bzero (state, sizeof state);
}

/* What PBKDF2 needs to know of an HMAC. */
typedef struct Mac {
  void *context;
  nettle_hash_update_func *update;
  nettle_hash_digest_func *digest;
  size_t size;
} Mac;

static void
run_pbkdf2 (const Mac *mac, const void *salt, size_t salt_length, uint32_t iterations, void *out,
            size_t out_length)
{
  nettle_pbkdf2 (mac->context, mac->update, mac->digest, mac->size, iterations, salt_length, salt, out_length,
                 out);
}

#define UPDATE(hmac) ((nettle_hash_update_func *) (hmac##_update))
#define DIGEST(hmac) ((nettle_hash_digest_func *) (hmac##_digest))

static void
sha1_pbkdf2 (const void *password, size_t password_length, const void *salt, size_t salt_length,
             uint32_t iterations, void *out, size_t out_length)
{
  struct hmac_sha1_ctx context;
  hmac_sha1_set_key (&context, password_length, password);
  Mac mac = { &context, UPDATE (hmac_sha1), DIGEST (hmac_sha1), SHA1_DIGEST_SIZE };
  run_pbkdf2 (&mac, salt, salt_length, iterations, out, out_length);
  explicit_bzero (&context, sizeof context);
}

static void
sha224_pbkdf2 (const void *password, size_t password_length, const void *salt, size_t salt_length,
               uint32_t iterations, void *out, size_t out_length)
{
  struct hmac_sha224_ctx context;
  hmac_sha224_set_key (&context, password_length, password);
  Mac mac = { &context, UPDATE (hmac_sha224), DIGEST (hmac_sha224), SHA224_DIGEST_SIZE };
  run_pbkdf2 (&mac, salt, salt_length, iterations, out, out_length);
  explicit_bzero (&context, sizeof context);
}

static void
sha256_pbkdf2 (const void *password, size_t password_length, const void *salt, size_t salt_length,
               uint32_t iterations, void *out, size_t out_length)
{
  struct hmac_sha256_ctx context;
  hmac_sha256_set_key (&context, password_length, password);
  Mac mac = { &context, UPDATE (hmac_sha256), DIGEST (hmac_sha256), SHA256_DIGEST_SIZE };
  run_pbkdf2 (&mac, salt, salt_length, iterations, out, out_length);
  explicit_bzero (&context, sizeof context);
}

static void
sha384_pbkdf2 (const void *password, size_t password_length, const void *salt, size_t salt_length,
               uint32_t iterations, void *out, size_t out_length)
{
  struct hmac_sha384_ctx context;
  hmac_sha384_set_key (&context, password_length, password);
  Mac mac = { &context, UPDATE (hmac_sha512), DIGEST (hmac_sha384), SHA384_DIGEST_SIZE };
  run_pbkdf2 (&mac, salt, salt_length, iterations, out, out_length);
  explicit_bzero (&context, sizeof context);
}

static void
sha512_pbkdf2 (const void *password, size_t password_length, const void *salt, size_t salt_length,
               uint32_t iterations, void *out, size_t out_length)
{
  struct hmac_sha512_ctx context;
  hmac_sha512_set_key (&context, password_length, password);
  Mac mac = { &context, UPDATE (hmac_sha512), DIGEST (hmac_sha512), SHA512_DIGEST_SIZE };
  run_pbkdf2 (&mac, salt, salt_length, iterations, out, out_length);
  explicit_bzero (&context, sizeof context);
}

static void
ripemd160_pbkdf2 (const void *password, size_t password_length, const void *salt, size_t salt_length,
                  uint32_t iterations, void *out, size_t out_length)
{
  struct hmac_ripemd160_ctx context;
  hmac_ripemd160_set_key (&context, password_length, password);
  Mac mac = { &context, UPDATE (hmac_ripemd160), DIGEST (hmac_ripemd160), RIPEMD160_DIGEST_SIZE };
  run_pbkdf2 (&mac, salt, salt_length, iterations, out, out_length);
  explicit_bzero (&context, sizeof context);
}

static void
sha1_digest_parts (const struct iovec *parts, unsigned n, void *out)
{
  run_digest (&nettle_sha1, parts, n, out);
}

static void
sha224_digest_parts (const struct iovec *parts, unsigned n, void *out)
{
  run_digest (&nettle_sha224, parts, n, out);
}

static void
sha256_digest_parts (const struct iovec *parts, unsigned n, void *out)
{
  run_digest (&nettle_sha256, parts, n, out);
}

static void
sha384_digest_parts (const struct iovec *parts, unsigned n, void *out)
{
  run_digest (&nettle_sha384, parts, n, out);
}

static void
sha512_digest_parts (const struct iovec *parts, unsigned n, void *out)
{
  run_digest (&nettle_sha512, parts, n, out);
}

static void
ripemd160_digest_parts (const struct iovec *parts, unsigned n, void *out)
{
  run_digest (&nettle_ripemd160, parts, n, out);
}

/* ---- Bit by bit ---- */

typedef struct Running {
  const struct nettle_hash *hash;
  uint64_t state[MAX_STATE / 8];
} Running;

static void
begin (Running *running, const struct nettle_hash *hash)
{
  running->hash = hash;
  hash->init (running->state);
}

static void
update_running (void *context, const void *data, size_t length)
{
  Running *running = context;
  running->hash->update (running->state, length, data);
}

static void
finish_running (void *context, void *out)
{
  Running *running = context;
  running->hash->digest (running->state, running->hash->digest_size, out);
  explicit_bzero (running, sizeof *running);
}

static void
sha1_begin (void *context)
{
  begin (context, &nettle_sha1);
}

static void
sha224_begin (void *context)
{
  begin (context, &nettle_sha224);
}

static void
sha256_begin (void *context)
{
  begin (context, &nettle_sha256);
}

static void
sha384_begin (void *context)
{
  begin (context, &nettle_sha384);
}

static void
sha512_begin (void *context)
{
  begin (context, &nettle_sha512);
}

static void
ripemd160_begin (void *context)
{
  begin (context, &nettle_ripemd160);
}

/* ---- The plugin ---- */

static const TnDigestOps sha1_ops = { sizeof (TnDigestOps), SHA1_DIGEST_SIZE, sha1_digest_parts,
                                      sha1_pbkdf2,          sizeof (Running), 0,
                                      sha1_begin,           update_running,   finish_running };
static const TnDigestOps sha224_ops = { sizeof (TnDigestOps), SHA224_DIGEST_SIZE, sha224_digest_parts,
                                        sha224_pbkdf2,        sizeof (Running),   0,
                                        sha224_begin,         update_running,     finish_running };
static const TnDigestOps sha256_ops = { sizeof (TnDigestOps), SHA256_DIGEST_SIZE, sha256_digest_parts,
                                        sha256_pbkdf2,        sizeof (Running),   0,
                                        sha256_begin,         update_running,     finish_running };
static const TnDigestOps sha384_ops = { sizeof (TnDigestOps), SHA384_DIGEST_SIZE, sha384_digest_parts,
                                        sha384_pbkdf2,        sizeof (Running),   0,
                                        sha384_begin,         update_running,     finish_running };
static const TnDigestOps sha512_ops = { sizeof (TnDigestOps), SHA512_DIGEST_SIZE, sha512_digest_parts,
                                        sha512_pbkdf2,        sizeof (Running),   0,
                                        sha512_begin,         update_running,     finish_running };
static const TnDigestOps ripemd160_ops = {
  sizeof (TnDigestOps), RIPEMD160_DIGEST_SIZE, ripemd160_digest_parts, ripemd160_pbkdf2, sizeof (Running), 0,
  ripemd160_begin,      update_running,        finish_running
};

static const TnClass sha1_class = {
  TN_CLASS_HEAD (TN_KIND_DIGEST, TN_DIGEST_MAJOR, TN_DIGEST_MINOR),
  .name = "sha1",
  .summary = "SHA-1 (FIPS 180-4)",
  .ops = &sha1_ops,
};

static const TnClass sha224_class = {
  TN_CLASS_HEAD (TN_KIND_DIGEST, TN_DIGEST_MAJOR, TN_DIGEST_MINOR),
  .name = "sha224",
  .summary = "SHA-224 (FIPS 180-4)",
  .ops = &sha224_ops,
};

static const TnClass sha256_class = {
  TN_CLASS_HEAD (TN_KIND_DIGEST, TN_DIGEST_MAJOR, TN_DIGEST_MINOR),
  .name = "sha256",
  .summary = "SHA-256 (FIPS 180-4)",
  .ops = &sha256_ops,
};

static const TnClass sha384_class = {
  TN_CLASS_HEAD (TN_KIND_DIGEST, TN_DIGEST_MAJOR, TN_DIGEST_MINOR),
  .name = "sha384",
  .summary = "SHA-384 (FIPS 180-4)",
  .ops = &sha384_ops,
};

static const TnClass sha512_class = {
  TN_CLASS_HEAD (TN_KIND_DIGEST, TN_DIGEST_MAJOR, TN_DIGEST_MINOR),
  .name = "sha512",
  .summary = "SHA-512 (FIPS 180-4)",
  .ops = &sha512_ops,
};

static const TnClass ripemd160_class = {
  TN_CLASS_HEAD (TN_KIND_DIGEST, TN_DIGEST_MAJOR, TN_DIGEST_MINOR),
  .name = "ripemd160",
  .summary = "RIPEMD-160",
  .ops = &ripemd160_ops,
};

static const TnClass *const nettle_classes[] = { &sha1_class,   &sha224_class, &sha256_class,
                                                 &sha384_class, &sha512_class, &ripemd160_class,
                                                 NULL };

TN_PLUGIN_DEFINE (digest_nettle, .security = TN_SECURITY_HARDENED, .name = "digest-nettle", .version = "1.0",
                  .licence = "LGPL-2.1-or-later", .package = "tenon-crypto-nettle",
                  .classes = nettle_classes);
