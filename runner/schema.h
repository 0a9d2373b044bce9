#ifndef SCHEMA_H
#define SCHEMA_H

#include <stddef.h>

struct err;
struct json_t;
struct schema;

/*
 * The part of JSON Schema (2020-12) that says what an answer looks like. Pure. Debian has
 * no validator for C, so this is ours:
 *
 *   type (a name or a list), enum, const, properties, required, additionalProperties,
 *   minProperties, maxProperties, items, minItems, maxItems, uniqueItems, minLength,
 *   maxLength, pattern, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf,
 *   anyOf, allOf, oneOf, not, $ref to "#", "#/$defs/NAME" or "#/definitions/NAME"
 *
 * title, description, default, examples, format, $schema, $id and $comment say nothing
 * about validity here. Any other keyword is an error: a rule that is not known must not
 * pass in silence.
 */
enum {
    SCHEMA_DEPTH = 64,               /* of values, and of references without one */
    SCHEMA_STEPS = 10 * 1000 * 1000, /* looks at a schema for one answer */
    SCHEMA_UNIQUE_MAX = 2000,        /* items that uniqueItems compares */
};

/* `what` is borrowed for the call: a JSON object, or true or false. */
struct schema *schema_new(struct json_t *what, struct err *e);
void schema_free(struct schema *s);

/* 0: valid. -1: `why` says where and what, "$.label: ...". */
int schema_check(struct schema *s, struct json_t *value, char *why, size_t size);

#endif
