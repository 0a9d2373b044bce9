#ifndef JSONSCAN_H
#define JSONSCAN_H

#include <stddef.h>

/*
 * Reads over a JSON object once: checks that it is valid, whole and UTF-8, and notes
 * where members of its top level lie. What a job says is sent, kept and written as the
 * bytes that came, so it needs cutting and joining rather than parsing and printing
 * (a parsed 0.7 does not print as 0.7, and a prefix cache wants the same bytes); and an
 * answer of 20 KB is checked at the speed of memory. Everything smaller goes to
 * jansson.
 *
 * Pure. The text is borrowed; spans point into it.
 */
enum { JSONSCAN_DEPTH = 200 }; /* deeper nesting is refused */

struct json_span {
    const char *at; /* NULL: not there */
    size_t len;
};

struct json_want {
    const char *key;
    struct json_span value;  /* the value's bytes, without white space around */
    struct json_span member; /* from the key's quote to the value's end */
};

struct json_fault {
    size_t offset;
    size_t line, column; /* from 1; the column counts bytes */
    const char *what;    /* static */
};

/*
 * Scan `text`, which must hold one object and nothing else but white space, and fill
 * `want[0..n)`. A key that is wanted and comes twice, or a top-level key that is
 * written with escapes, is a fault: two readers could disagree about it. Returns 0, or
 * -1 with `f` filled (may be NULL).
 */
int json_scan(const char *text, size_t len, struct json_want *want, size_t n,
              struct json_fault *f);

/* The same for an object within a text that json_scan() found valid: its members are
 * not looked into again. */
int json_members(struct json_span object, struct json_want *want, size_t n,
                 struct json_fault *f);

/* The same for any one value; tells nothing but whether it is valid. */
int json_valid(const char *text, size_t len, struct json_fault *f);

/* The first byte tells the type: '{' '[' '"' 't' 'f' 'n' or '0' for numbers. */
char json_span_type(struct json_span s);
#define json_type(s) json_span_type(s) /* jansson.h has a type of this name */

/* For a span that is a JSON string without escapes: is it `s`? */
int json_is(struct json_span s, const char *text);

/* Walk a valid array or object (as json_scan() left it). Start with *pos = 0. Returns 1
 * and the next element's value (and key, quotes included, for an object; `key` may be
 * NULL), or 0 at the end. */
int json_next(struct json_span whole, size_t *pos, struct json_span *key,
              struct json_span *value);

/* One member of a valid object, or a span with `at` NULL. */
struct json_span json_get(struct json_span object, const char *key);

/* A valid JSON string, decoded to UTF-8 into fresh memory (free it), NUL-terminated;
 * `len` may be NULL. Returns NULL if it is no string or out of memory. */
char *json_text(struct json_span s, size_t *len);

/* A valid JSON number that is a whole one within int64; -1 if not. */
int json_int(struct json_span s, long long *ret);

#endif
