#ifndef WORDS_H
#define WORDS_H

#include <stddef.h>
#include <stdint.h>

struct err;

/* Small change: words into numbers, bytes into hashes, and text that grows. */

int words_int(const char *text, int64_t min, int64_t max, int64_t *n);
int words_real(const char *text, double min, double max, double *x);
/* "30ms", "1.5s", "250us", "2m", "1h"; a bare 0 needs no unit. */
int words_span(const char *text, int64_t *ns);
/* "5", "0.25": dollars into picodollars, exactly; "-" in front is fine. */
int words_dollars(const char *text, int64_t *picodollars);
/* Frees what was there and puts a copy; an empty value becomes NULL. */
int words_replace(char **field, const char *value, struct err *e);

uint64_t words_hash(const void *data, size_t len, uint64_t seed);
uint64_t words_mix(uint64_t x);
/* Into [0, 1). */
double words_unit(uint64_t x);

/* Text that grows. Once memory has run out it stays as it is and `failed` says so. */
struct text {
    char *at;
    size_t len, room;
    int failed;
};

void text_add(struct text *t, const char *data, size_t len);
void text_str(struct text *t, const char *s);
void text_int(struct text *t, int64_t n);
void text_fmt(struct text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* With quotes around and escapes inside. */
void text_json(struct text *t, const char *s);
void text_reserve(struct text *t, size_t more);
void text_free(struct text *t);

#endif
