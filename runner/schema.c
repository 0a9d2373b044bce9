#define PCRE2_CODE_UNIT_WIDTH 8
#include "runner/schema.h"

#include "runner/err.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_ROOM = 200, MATCH_LIMIT = 1000000, HEAP_KIB = 20000 };

struct pattern {
    struct pattern *next;
    const json_t *text;
    pcre2_code *code;
};

struct schema {
    json_t *root;
    struct pattern *patterns;
    pcre2_match_context *limits;
};

static const char *const types[] = {"null",    "boolean", "object", "array",
                                    "integer", "number",  "string"};
enum { TYPES = sizeof types / sizeof types[0] };

/* --- is it a schema? --- */

struct making {
    struct schema *s;
    struct err *e;
    int depth;
};

static int make(struct making *m, json_t *x);

static int is_type_name(const json_t *x)
{
    for (int i = 0; json_is_string(x) && i < TYPES; i++)
        if (strcmp(json_string_value(x), types[i]) == 0)
            return 1;
    return 0;
}

static int make_type(struct making *m, json_t *x)
{
    size_t i;
    json_t *one;
    if (json_is_array(x) && json_array_size(x) > 0) {
        json_array_foreach(x, i, one) if (!is_type_name(one)) return err_set(
            m->e, ERR_INPUT, "type: want names of types");
        return 0;
    }
    return is_type_name(x) ? 0
                           : err_set(m->e, ERR_INPUT,
                                     "type: want null, boolean, object, array, number, "
                                     "integer or string");
}

static int make_pattern(struct making *m, json_t *x)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR says[120];
    if (!json_is_string(x))
        return err_set(m->e, ERR_INPUT, "pattern: want a text");
    struct pattern *p = calloc(1, sizeof *p);
    if (p == NULL)
        return err_set(m->e, ERR_NOMEM, "out of memory");
    p->text = x;
    p->next = m->s->patterns;
    m->s->patterns = p;
    p->code = pcre2_compile((PCRE2_SPTR)json_string_value(x), json_string_length(x),
                            PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
    if (p->code)
        return 0;
    pcre2_get_error_message(code, says, sizeof says);
    return err_set(m->e, ERR_INPUT, "pattern %.60s: at byte %zu: %s",
                   json_string_value(x), (size_t)at, (char *)says);
}

static int make_all(struct making *m, json_t *x)
{
    size_t i;
    json_t *one;
    if (!json_is_array(x) || json_array_size(x) == 0)
        return err_set(m->e, ERR_INPUT, "want a list of schemas");
    json_array_foreach(x, i, one) if (make(m, one) < 0) return -1;
    return 0;
}

static int make_map(struct making *m, json_t *x)
{
    const char *key;
    json_t *one;
    if (!json_is_object(x))
        return err_set(m->e, ERR_INPUT, "want an object of schemas");
    json_object_foreach(x, key,
                        one) if (make(m, one) < 0) return err_wrap(m->e, "%.40s", key);
    return 0;
}

static int make_names(struct making *m, json_t *x)
{
    size_t i;
    json_t *one;
    if (!json_is_array(x))
        return err_set(m->e, ERR_INPUT, "want a list of names");
    json_array_foreach(x, i, one) if (!json_is_string(one)) return err_set(
        m->e, ERR_INPUT, "want a list of names");
    return 0;
}

static int make_list(struct making *m, json_t *x)
{
    return json_is_array(x) ? 0 : err_set(m->e, ERR_INPUT, "want a list");
}

static int make_count(struct making *m, json_t *x)
{
    return json_is_integer(x) && json_integer_value(x) >= 0
               ? 0
               : err_set(m->e, ERR_INPUT, "want a whole number, 0 or more");
}

static int make_number(struct making *m, json_t *x)
{
    return json_is_number(x) ? 0 : err_set(m->e, ERR_INPUT, "want a number");
}

static int make_positive(struct making *m, json_t *x)
{
    return json_is_number(x) && json_number_value(x) > 0
               ? 0
               : err_set(m->e, ERR_INPUT, "want a number above 0");
}

static int make_bool(struct making *m, json_t *x)
{
    return json_is_boolean(x) ? 0 : err_set(m->e, ERR_INPUT, "want true or false");
}

static int make_anything(struct making *m, json_t *x)
{
    (void)m;
    (void)x;
    return 0;
}

/* What a reference names; NULL: nothing that is there. */
static json_t *referred(const struct schema *s, const char *name)
{
    static const char *const homes[] = {"$defs", "definitions"};
    if (strcmp(name, "#") == 0)
        return s->root;
    for (int i = 0; i < 2; i++) {
        char home[32];
        int n = snprintf(home, sizeof home, "#/%s/", homes[i]);
        if (strncmp(name, home, (size_t)n) == 0)
            return json_object_get(json_object_get(s->root, homes[i]), name + n);
    }
    return NULL;
}

static int make_ref(struct making *m, json_t *x)
{
    return json_is_string(x) && referred(m->s, json_string_value(x))
               ? 0
               : err_set(m->e, ERR_INPUT,
                         "$ref: want \"#\" or \"#/$defs/NAME\" of something that is "
                         "there");
}

static const struct keyword {
    const char *name;
    int (*make)(struct making *m, json_t *x);
} keywords[] = {
    {"type", make_type},
    {"enum", make_list},
    {"const", make_anything},
    {"properties", make_map},
    {"required", make_names},
    {"additionalProperties", make},
    {"minProperties", make_count},
    {"maxProperties", make_count},
    {"items", make},
    {"minItems", make_count},
    {"maxItems", make_count},
    {"uniqueItems", make_bool},
    {"minLength", make_count},
    {"maxLength", make_count},
    {"pattern", make_pattern},
    {"minimum", make_number},
    {"maximum", make_number},
    {"exclusiveMinimum", make_number},
    {"exclusiveMaximum", make_number},
    {"multipleOf", make_positive},
    {"anyOf", make_all},
    {"allOf", make_all},
    {"oneOf", make_all},
    {"not", make},
    {"$ref", make_ref},
    {"$defs", make_map},
    {"definitions", make_map},
    {"title", make_anything},
    {"description", make_anything},
    {"default", make_anything},
    {"examples", make_anything},
    {"format", make_anything},
    {"$schema", make_anything},
    {"$id", make_anything},
    {"$comment", make_anything},
};

static int make(struct making *m, json_t *x)
{
    const char *key;
    json_t *value;
    if (json_is_boolean(x))
        return 0;
    if (!json_is_object(x))
        return err_set(m->e, ERR_INPUT, "want a schema: an object, true or false");
    if (++m->depth > SCHEMA_DEPTH)
        return err_set(m->e, ERR_INPUT, "schemas nested deeper than %d", SCHEMA_DEPTH);
    json_object_foreach(x, key, value)
    {
        const struct keyword *k = NULL;
        for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
            if (strcmp(keywords[i].name, key) == 0)
                k = &keywords[i];
        if (k == NULL)
            return err_set(m->e, ERR_INPUT,
                           "keyword %.40s is not known here (see the manual for those "
                           "that are)",
                           key);
        if (k->make(m, value) < 0)
            return err_wrap(m->e, "%s", key);
    }
    m->depth--;
    return 0;
}

struct schema *schema_new(json_t *what, struct err *e)
{
    struct schema *s = calloc(1, sizeof *s);
    if (s == NULL || (s->limits = pcre2_match_context_create(NULL)) == NULL) {
        free(s);
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    pcre2_set_match_limit(s->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(s->limits, HEAP_KIB);
    s->root = json_incref(what);
    struct making m = {.s = s, .e = e};
    if (make(&m, what) == 0)
        return s;
    schema_free(s);
    return NULL;
}

void schema_free(struct schema *s)
{
    if (s == NULL)
        return;
    for (struct pattern *p = s->patterns, *next; p; p = next) {
        next = p->next;
        pcre2_code_free(p->code);
        free(p);
    }
    pcre2_match_context_free(s->limits);
    json_decref(s->root);
    free(s);
}

/* --- is it valid? --- */

struct looking {
    struct schema *s;
    char *why;
    size_t size;
    char path[PATH_ROOM];
    size_t path_len;
    int depth;
    int64_t steps;
};

static int look(struct looking *l, json_t *schema, json_t *x);

static int wrong(struct looking *l, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int wrong(struct looking *l, const char *fmt, ...)
{
    va_list args;
    int n = snprintf(l->why, l->size, "$%s: ", l->path);
    va_start(args, fmt);
    if (n > 0 && (size_t)n < l->size)
        vsnprintf(l->why + n, l->size - (size_t)n, fmt, args);
    va_end(args);
    return -1;
}

static size_t go_down(struct looking *l, const char *key, size_t index)
{
    size_t was = l->path_len, room = sizeof l->path - was;
    int n = key ? snprintf(l->path + was, room, ".%.60s", key)
                : snprintf(l->path + was, room, "[%zu]", index);
    l->path_len += (size_t)n < room ? (size_t)n : room - 1;
    return was;
}

static void go_up(struct looking *l, size_t was)
{
    l->path_len = was;
    l->path[was] = '\0';
}

static bool has_type(const json_t *x, const char *name)
{
    double n = json_number_value(x);
    switch (json_typeof(x)) {
    case JSON_NULL:
        return strcmp(name, "null") == 0;
    case JSON_TRUE:
    case JSON_FALSE:
        return strcmp(name, "boolean") == 0;
    case JSON_OBJECT:
        return strcmp(name, "object") == 0;
    case JSON_ARRAY:
        return strcmp(name, "array") == 0;
    case JSON_STRING:
        return strcmp(name, "string") == 0;
    case JSON_INTEGER:
        return strcmp(name, "number") == 0 || strcmp(name, "integer") == 0;
    case JSON_REAL:
        return strcmp(name, "number") == 0 ||
               (strcmp(name, "integer") == 0 && n == floor(n));
    }
    return false;
}

static const char *type_of(const json_t *x)
{
    for (int i = 0; i < TYPES; i++)
        if (has_type(x, types[i]))
            return types[i];
    return "something else";
}

/* A number is equal to itself, whole or not: 1 and 1.0. */
static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b) && json_typeof(a) != json_typeof(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static int look_type(struct looking *l, json_t *rule, json_t *x)
{
    size_t i;
    json_t *one;
    if (json_is_string(rule))
        return has_type(x, json_string_value(rule))
                   ? 0
                   : wrong(l, "%s where %s is wanted", type_of(x),
                           json_string_value(rule));
    json_array_foreach(rule, i, one) if (has_type(x, json_string_value(one))) return 0;
    return wrong(l, "%s is none of the types that are wanted", type_of(x));
}

static int look_enum(struct looking *l, json_t *rule, json_t *x)
{
    size_t i;
    json_t *one;
    json_array_foreach(rule, i, one) if (same(one, x)) return 0;
    if (json_is_string(x))
        return wrong(l, "\"%.60s\" is none of the %zu values that are wanted",
                     json_string_value(x), json_array_size(rule));
    return wrong(l, "none of the %zu values that are wanted", json_array_size(rule));
}

static size_t points(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

static int look_pattern(struct looking *l, const json_t *rule, const json_t *x)
{
    const struct pattern *p = l->s->patterns;
    while (p && p->text != rule)
        p = p->next;
    if (p == NULL)
        return wrong(l, "its pattern is lost");
    pcre2_match_data *d = pcre2_match_data_create(1, NULL);
    if (d == NULL)
        return wrong(l, "no memory to match the pattern");
    int rc = pcre2_match(p->code, (PCRE2_SPTR)json_string_value(x),
                         json_string_length(x), 0, 0, d, l->s->limits);
    pcre2_match_data_free(d);
    if (rc >= 0)
        return 0;
    return rc == PCRE2_ERROR_NOMATCH
               ? wrong(l, "\"%.60s\" does not match %.60s", json_string_value(x),
                       json_string_value(rule))
               : wrong(l, "too hard to match with %.60s", json_string_value(rule));
}

static int look_string(struct looking *l, json_t *s, json_t *x)
{
    json_t *rule;
    json_int_t n = (json_int_t)points(json_string_value(x), json_string_length(x));
    if ((rule = json_object_get(s, "minLength")) && n < json_integer_value(rule))
        return wrong(l,
                     "%" JSON_INTEGER_FORMAT
                     " characters, at least %" JSON_INTEGER_FORMAT " are wanted",
                     n, json_integer_value(rule));
    if ((rule = json_object_get(s, "maxLength")) && n > json_integer_value(rule))
        return wrong(l,
                     "%" JSON_INTEGER_FORMAT
                     " characters, at most %" JSON_INTEGER_FORMAT " are wanted",
                     n, json_integer_value(rule));
    rule = json_object_get(s, "pattern");
    return rule ? look_pattern(l, rule, x) : 0;
}

static int look_number(struct looking *l, json_t *s, json_t *x)
{
    json_t *rule;
    double n = json_number_value(x);
    if ((rule = json_object_get(s, "minimum")) && n < json_number_value(rule))
        return wrong(l, "%g is below %g", n, json_number_value(rule));
    if ((rule = json_object_get(s, "maximum")) && n > json_number_value(rule))
        return wrong(l, "%g is above %g", n, json_number_value(rule));
    if ((rule = json_object_get(s, "exclusiveMinimum")) && n <= json_number_value(rule))
        return wrong(l, "%g is not above %g", n, json_number_value(rule));
    if ((rule = json_object_get(s, "exclusiveMaximum")) && n >= json_number_value(rule))
        return wrong(l, "%g is not below %g", n, json_number_value(rule));
    if ((rule = json_object_get(s, "multipleOf"))) {
        double q = n / json_number_value(rule);
        if (!isfinite(q) || fabs(q - round(q)) > 1e-9 * fmax(1, fabs(q)))
            return wrong(l, "%g is no multiple of %g", n, json_number_value(rule));
    }
    return 0;
}

static int look_array(struct looking *l, json_t *s, json_t *x)
{
    json_t *rule;
    size_t i, n = json_array_size(x);
    if ((rule = json_object_get(s, "minItems")) && n < (size_t)json_integer_value(rule))
        return wrong(l, "%zu items, at least %" JSON_INTEGER_FORMAT " are wanted", n,
                     json_integer_value(rule));
    if ((rule = json_object_get(s, "maxItems")) && n > (size_t)json_integer_value(rule))
        return wrong(l, "%zu items, at most %" JSON_INTEGER_FORMAT " are wanted", n,
                     json_integer_value(rule));
    if (json_is_true(json_object_get(s, "uniqueItems"))) {
        if (n > SCHEMA_UNIQUE_MAX)
            return wrong(l, "%zu items are too many to compare", n);
        for (i = 0; i < n; i++)
            for (size_t k = 0; k < i; k++)
                if (same(json_array_get(x, i), json_array_get(x, k)))
                    return wrong(l, "items %zu and %zu are the same", k, i);
    }
    rule = json_object_get(s, "items");
    for (i = 0; rule && i < n; i++) {
        size_t was = go_down(l, NULL, i);
        if (look(l, rule, json_array_get(x, i)) < 0)
            return -1;
        go_up(l, was);
    }
    return 0;
}

static int look_object(struct looking *l, json_t *s, json_t *x)
{
    json_t *rule, *one, *known = json_object_get(s, "properties"),
                        *more = json_object_get(s, "additionalProperties");
    const char *key;
    size_t i, n = json_object_size(x);
    if ((rule = json_object_get(s, "minProperties")) &&
        n < (size_t)json_integer_value(rule))
        return wrong(l, "%zu members, at least %" JSON_INTEGER_FORMAT " are wanted", n,
                     json_integer_value(rule));
    if ((rule = json_object_get(s, "maxProperties")) &&
        n > (size_t)json_integer_value(rule))
        return wrong(l, "%zu members, at most %" JSON_INTEGER_FORMAT " are wanted", n,
                     json_integer_value(rule));
    json_array_foreach(json_object_get(s, "required"), i,
                       one) if (json_object_get(x, json_string_value(one)) ==
                                NULL) return wrong(l, "%.60s is missing",
                                                   json_string_value(one));
    json_object_foreach(x, key, one)
    {
        json_t *its = json_object_get(known, key);
        size_t was = go_down(l, key, 0);
        if (its == NULL && json_is_false(more))
            return wrong(l, "no member of this name is wanted");
        if ((its || more) && look(l, its ? its : more, one) < 0)
            return -1;
        go_up(l, was);
    }
    return 0;
}

/* How many of these let it pass; `stop` once so many do. The last reason stays in `why`. */
static size_t count_passing(struct looking *l, json_t *all, json_t *x, size_t stop)
{
    size_t i, n = 0, was = l->path_len;
    int depth = l->depth;
    json_t *one;
    json_array_foreach(all, i, one)
    {
        n += look(l, one, x) == 0;
        go_up(l, was);
        l->depth = depth;
        if (n == stop)
            break;
    }
    return n;
}

static int look_combined(struct looking *l, json_t *s, json_t *x)
{
    json_t *rule, *one;
    size_t i;
    if ((rule = json_object_get(s, "allOf")))
        json_array_foreach(rule, i, one) if (look(l, one, x) < 0) return -1;
    if ((rule = json_object_get(s, "anyOf")) && count_passing(l, rule, x, 1) == 0)
        return json_array_size(rule) == 1
                   ? -1
                   : wrong(l, "none of the %zu kinds that are wanted",
                           json_array_size(rule));
    if ((rule = json_object_get(s, "oneOf"))) {
        size_t n = count_passing(l, rule, x, 2);
        if (n != 1)
            return wrong(l, "%s of the %zu kinds, exactly one is wanted",
                         n ? "more than one" : "none", json_array_size(rule));
    }
    if ((rule = json_object_get(s, "not"))) {
        size_t was = l->path_len;
        int depth = l->depth, rc = look(l, rule, x);
        go_up(l, was);
        l->depth = depth;
        if (rc == 0)
            return wrong(l, "it is what it must not be");
    }
    if ((rule = json_object_get(s, "$ref")))
        return look(l, referred(l->s, json_string_value(rule)), x);
    return 0;
}

static int look(struct looking *l, json_t *s, json_t *x)
{
    json_t *rule;
    int rc = 0;
    if (json_is_true(s))
        return 0;
    if (json_is_false(s))
        return wrong(l, "nothing is allowed here");
    if (++l->depth > SCHEMA_DEPTH)
        return wrong(l, "nested deeper than %d", SCHEMA_DEPTH);
    if (++l->steps > SCHEMA_STEPS)
        return wrong(l, "too much work to check");
    if ((rule = json_object_get(s, "type")) && look_type(l, rule, x) < 0)
        return -1;
    if ((rule = json_object_get(s, "enum")) && look_enum(l, rule, x) < 0)
        return -1;
    if ((rule = json_object_get(s, "const")) && !same(rule, x))
        return wrong(l, "it is not the one value that is wanted");
    if (json_is_string(x))
        rc = look_string(l, s, x);
    else if (json_is_number(x))
        rc = look_number(l, s, x);
    else if (json_is_array(x))
        rc = look_array(l, s, x);
    else if (json_is_object(x))
        rc = look_object(l, s, x);
    if (rc == 0)
        rc = look_combined(l, s, x);
    l->depth--;
    return rc;
}

int schema_check(struct schema *s, json_t *value, char *why, size_t size)
{
    struct looking l = {.s = s, .why = why, .size = size};
    return look(&l, s->root, value);
}
