/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Encrypted images. */
#ifndef QCOW2_CRYPT_H
#define QCOW2_CRYPT_H

#include "qcow2.h"

#include <tenon/json.h>

#define QCOW2_EXTENSION_CRYPT 0x0537be77u
#define QCOW2_CRYPT_AES 1
#define QCOW2_CRYPT_LUKS 2

/* Notes where the header extension says the LUKS header is. */
int qcow2_crypt_extension (Qcow2 *q, const uint8_t *p, uint32_t length, GError **error);
/* Derives the key and gives the node its cipher. */
int qcow2_crypt_open (Qcow2 *q, const TnOptions *options, GError **error);
/* Refuses options that go together with no encryption, or not with each other. */
int qcow2_crypt_check_options (const TnOptions *options, const Qcow2Layout *layout, GError **error);
/* Refuses, before anything is written, what qcow2_crypt_create() could not do for want of a secret or a
 * cipher.
 */
int qcow2_crypt_check_secret (const TnOptions *options, GError **error);
/* Puts a LUKS header into a new image when the options ask for it. */
int qcow2_crypt_create (Qcow2 *q, const TnOptions *options, GError **error);
/* Bytes that this takes in a new image. */
uint64_t qcow2_crypt_size (const TnOptions *options);
/* Guest data that the format moves itself, in whole sectors; nothing is done in images that are not
 * encrypted. */
void qcow2_encrypt (const Qcow2 *q, uint64_t guest, uint64_t host, void *bytes, size_t length);
void qcow2_decrypt (const Qcow2 *q, uint64_t guest, uint64_t host, void *bytes, size_t length);
/* Makes a reserved extent read as zeroes. */
int qcow2_crypt_write_zeroes (Qcow2 *q, const TnExtent *extent, GError **error);
/* Whether options of `amend` speak of encryption; refuses those that can't be changed. */
int qcow2_crypt_check_amend (Qcow2 *q, const TnOptions *options, bool *wanted, GError **error);
/* Changes key slots. */
int qcow2_crypt_amend (Qcow2 *q, const TnOptions *options, GError **error);
void qcow2_crypt_describe (Qcow2 *q, TnJson *json);

#endif
