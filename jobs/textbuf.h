#ifndef TEXTBUF_H
#define TEXTBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Text that grows. A failed append (no memory, or the ceiling) makes the whole of it
 * `failed`, and stays so: what was built is checked once, at the end. Zeroed is empty;
 * free it with textbuf_free().
 */
struct textbuf {
    char *at; /* NUL-terminated once anything was put; may be NULL */
    size_t len, size;
    bool failed;
};

enum { TEXTBUF_MAX = 256 * 1024 * 1024 };

void textbuf_put(struct textbuf *b, const char *bytes, size_t len);
void textbuf_puts(struct textbuf *b, const char *s);
void textbuf_putf(struct textbuf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

void textbuf_int(struct textbuf *b, int64_t n); /* as decimal: the way of hot paths */

/* As a JSON string, quotes included; NULL as null. Bytes that are not UTF-8 are the
 * caller's fault and pass as they are. */
void textbuf_json(struct textbuf *b, const char *s);
void textbuf_json_bytes(struct textbuf *b, const char *s, size_t len);

/* A moment in wall ms as a JSON string, RFC 3339 in UTC; 0 as null. */
void textbuf_json_time(struct textbuf *b, int64_t ms);

void textbuf_clear(struct textbuf *b); /* empty again; keeps its memory */
void textbuf_free(struct textbuf *b);

#endif
