/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Encrypted images: read, not written. */
#include "../common/old-aes.h"
#include "qcow.h"

#define KEY_SECRET "encrypt.key-secret"

static int
qcow_crypt_unlock (Qcow *q, const char *id, GError **error)
{
  g_autoptr (TnSecret) secret = tn_secret_get (id, error);
  TnSectorCipher *cipher = secret ? old_aes_open (secret, error) : NULL;
  if (cipher == NULL) {
    return -EINVAL;
  }
  tn_node_set_cipher (q->node, cipher, 0);
  return 0;
}

int
qcow_crypt_open (Qcow *q, const TnOptions *options, GError **error)
{
  const char *id = tn_options_get (options, KEY_SECRET);
  if (q->header.crypt_method == QCOW_CRYPT_NONE) {
    return tn_options_has (options, "encrypt.format")
               ? qcow_fail (q, error, EINVAL, "it is not encrypted: leave encrypt.format out")
               : 0;
  }
  /* A check looks at tables only. */
  if ((q->flags & TN_OPEN_CHECK) && id == NULL) {
    return 0;
  }
  if (q->writable) {
    return qcow_fail (q, error, EROFS, OLD_AES_NOT_WRITTEN);
  }
  if (id == NULL) {
    return qcow_fail (q, error, EINVAL, "it is encrypted: give %s=ID of a --object secret", KEY_SECRET);
  }
  return qcow_crypt_unlock (q, id, error);
}
