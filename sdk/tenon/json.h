/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file tenon/json.h
 * Writing and reading JSON (RFC 8259), for tools and for drivers' info.
 *
 * A writer appends to a GString as it goes; nothing is kept in memory twice.  Every value takes a name, which
 * is NULL for the outermost value and inside arrays.  The text is plain ASCII: other characters are escaped,
 * and bytes that are not UTF-8 become U+FFFD.
 *
 *   GString *text = g_string_new (NULL);
 *   TnJson *json = tn_json_new (text, true);
 *   tn_json_object_begin (json, NULL);
 *   tn_json_string (json, "format", "qcow2");
 *   tn_json_object_end (json);
 *   tn_json_free (json);
 *
 * The pretty form indents by four spaces, as scripts written for qemu-img's `--output=json` see it:
 *
 *   {
 *       "format": "qcow2"
 *   }
 */
#ifndef TENON_JSON_H
#define TENON_JSON_H

#include <tenon/error.h>

typedef struct TnJson TnJson;

/** A writer that appends to @text, which stays the caller's and must outlive it. */
TN_API TnJson *tn_json_new (GString *text, bool pretty);
/** Frees the writer, not the text. */
TN_API void tn_json_free (TnJson *json);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (TnJson, tn_json_free)

TN_API void tn_json_object_begin (TnJson *json, const char *name);
TN_API void tn_json_object_end (TnJson *json);
TN_API void tn_json_array_begin (TnJson *json, const char *name);
TN_API void tn_json_array_end (TnJson *json);

/** @value NULL writes null. */
TN_API void tn_json_string (TnJson *json, const char *name, const char *value);
TN_API void tn_json_uint (TnJson *json, const char *name, uint64_t value);
TN_API void tn_json_int (TnJson *json, const char *name, int64_t value);
TN_API void tn_json_bool (TnJson *json, const char *name, bool value);
/** With 17 significant digits, so that it reads back the same; infinities and NaN are written as null. */
TN_API void tn_json_double (TnJson *json, const char *name, double value);
TN_API void tn_json_null (TnJson *json, const char *name);

/** Writes the value that @text (one JSON document, of a driver's info_specific for instance) holds, in this
 *  writer's layout.  Nothing is written when @text is not JSON. */
TN_API int tn_json_text (TnJson *json, const char *name, const char *text, GError **error);

/** What tn_json_read() meets. */
typedef enum TnJsonType {
  TN_JSON_OBJECT_BEGIN = 1,
  TN_JSON_OBJECT_END,
  TN_JSON_ARRAY_BEGIN,
  TN_JSON_ARRAY_END,
  TN_JSON_STRING,
  TN_JSON_INT,
  TN_JSON_DOUBLE,
  TN_JSON_BOOL,
  TN_JSON_NULL
} TnJsonType;

/**
 * Reads one JSON document and calls @event for each value in the order of the text.  @name is the member's
 * name, NULL in arrays, at the top and for the END events; @value is the text of a string, number, true or
 * false, else NULL.  Both are valid during the call only.  A result of @event below zero ends the reading and
 * is returned; @event then sets *error.  Objects nest at most 64 deep and no object has a name twice.
 */
TN_API int tn_json_read (const char *text,
                         int (*event) (TnJsonType type, const char *name, const char *value, void *opaque,
                                       GError **error),
                         void *opaque, GError **error);

#endif
