#include "sim/words.h"

#include "runner/err.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

int words_int(const char *text, int64_t min, int64_t max, int64_t *n)
{
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (end == text || *end || errno || x < min || x > max)
        return -1;
    *n = x;
    return 0;
}

int words_real(const char *text, double min, double max, double *x)
{
    char *end;
    double d = strtod(text, &end);
    if (end == text || *end || !(d >= min && d <= max))
        return -1;
    *x = d;
    return 0;
}

int words_span(const char *text, int64_t *ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"ns", 1},  {"us", 1e3}, {"ms", 1e6},
                 {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    char *end;
    double x = strtod(text, &end);
    if (end == text || !(x >= 0))
        return -1;
    if (*end == '\0' && x == 0) {
        *ns = 0;
        return 0;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0 && x * units[i].ns < 9e18) {
            *ns = (int64_t)llround(x * units[i].ns);
            return 0;
        }
    return -1;
}

int words_dollars(const char *text, int64_t *picodollars)
{
    enum { DECIMALS = 12 };
    int minus = *text == '-', decimals = -1;
    int64_t n = 0;
    const char *c = text + minus;

    if (*c < '0' || *c > '9')
        return -1;
    for (; *c; c++) {
        if (*c == '.' && decimals < 0) {
            decimals = 0;
            continue;
        }
        if (*c < '0' || *c > '9' || decimals == DECIMALS)
            return -1;
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, *c - '0', &n))
            return -1;
        if (decimals >= 0)
            decimals++;
    }
    for (int i = decimals < 0 ? 0 : decimals; i < DECIMALS; i++)
        if (__builtin_mul_overflow(n, 10, &n))
            return -1;
    *picodollars = minus ? -n : n;
    return 0;
}

int words_replace(char **field, const char *value, struct err *e)
{
    char *copy = NULL;
    if (*value && (copy = strdup(value)) == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    free(*field);
    *field = copy;
    return 0;
}

/* ---- hashes ---- */

uint64_t words_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t words_hash(const void *data, size_t len, uint64_t seed)
{
    const unsigned char *c = data;
    const uint64_t k = UINT64_C(0x9fb21c651e98df25);
    uint64_t h = words_mix(seed ^ len), w;

    for (; len >= sizeof w; c += sizeof w, len -= sizeof w) {
        memcpy(&w, c, sizeof w);
        h = (h ^ w) * k;
        h ^= h >> 29;
    }
    w = 0;
    if (len > 0)
        memcpy(&w, c, len);
    return words_mix((h ^ w) * k);
}

double words_unit(uint64_t x)
{
    return (double)(x >> 11) * 0x1p-53;
}

/* ---- text ---- */

void text_reserve(struct text *t, size_t more)
{
    if (t->failed || t->len + more < t->room)
        return;
    size_t room = t->room ? t->room : 512;
    while (room <= t->len + more)
        room *= 2;
    char *at = realloc(t->at, room);
    if (at == NULL) {
        t->failed = 1;
        return;
    }
    t->at = at;
    t->room = room;
}

void text_add(struct text *t, const char *data, size_t len)
{
    text_reserve(t, len);
    if (t->failed)
        return;
    if (len > 0)
        memcpy(t->at + t->len, data, len);
    t->len += len;
    t->at[t->len] = '\0';
}

void text_str(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_int(struct text *t, int64_t n)
{
    char buf[24], *c = buf + sizeof buf;
    uint64_t u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do
        *--c = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (n < 0)
        *--c = '-';
    text_add(t, c, (size_t)(buf + sizeof buf - c));
}

void text_fmt(struct text *t, const char *fmt, ...)
{
    char buf[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    if (n > 0)
        text_add(t, buf, (size_t)n < sizeof buf ? (size_t)n : sizeof buf - 1);
}

void text_json(struct text *t, const char *s)
{
    text_add(t, "\"", 1);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            text_fmt(t, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            text_fmt(t, "\\u%04x", (unsigned)*s);
        else
            text_add(t, s, 1);
    }
    text_add(t, "\"", 1);
}

void text_free(struct text *t)
{
    free(t->at);
    *t = (struct text){0};
}
