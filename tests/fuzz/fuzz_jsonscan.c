/*
 * What json_scan() takes, jansson takes as well: it never lets a broken text through.
 * jansson also refuses numbers beyond its range and NULs in keys, which a text may
 * hold. And the walk over a valid object sees the same members and texts as jansson
 * does.
 */
#include "jobs/jsonscan.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check(struct json_span span, const json_t *want);

static void check_members(struct json_span span, const json_t *want)
{
    struct json_span key, value;
    size_t pos = 0, n = 0;
    while (json_next(span, &pos, &key, &value)) {
        size_t len;
        char *name = json_text(key, &len);
        if (name == NULL || strlen(name) != len)
            abort();
        /* of a key that comes twice jansson keeps the last */
        if (json_object_get(want, name) == NULL)
            abort();
        free(name);
        n++;
    }
    if (n < json_object_size(want))
        abort();
}

static void check(struct json_span span, const json_t *want)
{
    struct json_span value;
    size_t pos = 0, n = 0, len;
    switch (json_typeof(want)) {
    case JSON_OBJECT:
        if (json_type(span) != '{')
            abort();
        check_members(span, want);
        break;
    case JSON_ARRAY:
        if (json_type(span) != '[')
            abort();
        while (json_next(span, &pos, NULL, &value))
            check(value, json_array_get(want, n++));
        if (n != json_array_size(want))
            abort();
        break;
    case JSON_STRING: {
        char *text = json_text(span, &len);
        if (text == NULL || len != json_string_length(want) ||
            memcmp(text, json_string_value(want), len) != 0)
            abort();
        free(text);
        break;
    }
    case JSON_INTEGER: {
        long long i;
        if (json_type(span) != '0' || (span.len < 24 && json_int(span, &i) < 0))
            abort();
        if (span.len < 24 && i != json_integer_value(want))
            abort();
        break;
    }
    case JSON_REAL:
        if (json_type(span) != '0')
            abort();
        break;
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
        if (json_type(span) != "tfn"[json_typeof(want) - JSON_TRUE])
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_want want[] = {{.key = "a"}, {.key = "type"}, {.key = ""}};
    struct json_fault f;
    char *text = malloc(size ? size : 1); /* no NUL behind it */
    if (text == NULL)
        abort();
    memcpy(text, data, size);

    bool taken = json_scan(text, size, want, 3, &f) == 0;
    if (!taken && (f.what == NULL || f.offset > size || f.line < 1 || f.column < 1))
        abort();
    bool valid = json_valid(text, size, NULL) == 0;
    if (taken && !valid)
        abort();

    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (valid && root == NULL) {
        enum json_error_code code = json_error_code(&error);
        if (code != json_error_numeric_overflow && code != json_error_null_byte_in_key)
            abort();
    }
    /* The other way round only depth may differ; and jansson loses a NUL behind a
     * number. */
    if (!valid && root && memchr(text, 0, size) == NULL) {
        json_valid(text, size, &f);
        if (strcmp(f.what, "nested too deep") != 0)
            abort();
    }
    if (valid && root) {
        struct json_span all = {text, size};
        while (all.len && strchr(" \t\r\n", all.at[0]) && all.at[0]) {
            all.at++;
            all.len--;
        }
        while (all.len && strchr(" \t\r\n", all.at[all.len - 1]) && all.at[all.len - 1])
            all.len--;
        check(all, root);
    }
    for (size_t i = 0; taken && i < 3; i++)
        if (root && want[i].value.at)
            check(want[i].value, json_object_get(root, want[i].key));
    json_decref(root);
    free(text);
    return 0;
}
