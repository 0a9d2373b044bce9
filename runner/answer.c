/*
 * Reads what an answer's headers say. Nothing here trusts them: a header may be
 * missing, come twice, be endless or be nonsense, and then it says nothing.
 */
#include "runner/answer.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

const char *answer_header(const struct answer *a, const char *name, char *buf,
                          size_t size)
{
    size_t n = strlen(name);
    const char *line = a->headers;
    while (line && *line) {
        const char *end = strchrnul(line, '\n');
        if (strncmp(line, name, n) == 0 && line[n] == ':') {
            const char *from = line + n + 1;
            while (from < end && isspace((unsigned char)*from))
                from++;
            while (end > from && isspace((unsigned char)end[-1]))
                end--;
            size_t len = (size_t)(end - from);
            if (size == 0)
                return NULL;
            if (len >= size)
                len = size - 1;
            memcpy(buf, from, len);
            buf[len] = '\0';
            return buf;
        }
        line = *end ? end + 1 : end;
    }
    return NULL;
}

/* Exactly so many digits at `*p`, which moves behind them. */
static bool digits(const char **p, int n, int *ret)
{
    int v = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        v = v * 10 + (**p - '0');
    }
    *ret = v;
    return true;
}

static bool literal(const char **p, const char *text)
{
    size_t n = strlen(text);
    if (strncasecmp(*p, text, n) != 0)
        return false;
    *p += n;
    return true;
}

struct date {
    int year, month, day, hour, minute, second, ms;
    int offset; /* minutes east of UTC */
};

static int64_t to_ms(const struct date *d)
{
    struct tm tm = {
        .tm_year = d->year - 1900, .tm_mon = d->month - 1, .tm_mday = d->day};
    int64_t days = (int64_t)timegm(&tm) / (24 * 60 * 60);
    /* timegm() makes the 1st of March out of the 29th of February: no date. */
    if (d->year < 1970 || tm.tm_mon != d->month - 1 || d->hour > 23 || d->minute > 59 ||
        d->second > 60)
        return 0;
    int64_t minutes = (days * 24 + d->hour) * 60 + d->minute - d->offset;
    int64_t ms = (minutes * 60 + d->second) * 1000 + d->ms;
    return ms > 0 ? ms : 0;
}

static bool clock_time(const char **p, struct date *d)
{
    if (!digits(p, 2, &d->hour) || !literal(p, ":") || !digits(p, 2, &d->minute))
        return false;
    if (!literal(p, ":"))
        return true;
    if (!digits(p, 2, &d->second))
        return false;
    if (literal(p, "."))
        for (int unit = 100; **p >= '0' && **p <= '9'; (*p)++, unit /= 10)
            d->ms += (**p - '0') * unit;
    return true;
}

static bool zone(const char **p, struct date *d)
{
    literal(p, " ");
    if (literal(p, "utc") || literal(p, "gmt") || literal(p, "z"))
        return true;
    int sign = **p == '+' ? 1 : **p == '-' ? -1 : 0, hours, minutes;
    if (sign == 0)
        return true; /* none is written where UTC is meant */
    (*p)++;
    if (!digits(p, 2, &hours) || !literal(p, ":") || !digits(p, 2, &minutes))
        return false;
    d->offset = sign * (hours * 60 + minutes);
    return true;
}

static bool month(const char **p, int *ret)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    char name[] = "...";
    for (int i = 0; i < 12; i++) {
        memcpy(name, names + (ptrdiff_t)i * 3, 3);
        if (literal(p, name)) {
            *ret = i + 1;
            return true;
        }
    }
    return false;
}

/* Wed, 21 Oct 2026 07:28:00 GMT */
static bool http_date(const char *p, struct date *d)
{
    const char *comma = strchr(p, ',');
    if (comma == NULL)
        return false;
    p = comma + 1;
    return literal(&p, " ") && digits(&p, 2, &d->day) && literal(&p, " ") &&
           month(&p, &d->month) && literal(&p, " ") && digits(&p, 4, &d->year) &&
           literal(&p, " ") && clock_time(&p, d) && zone(&p, d);
}

/* 2026-08-09T00:00:00Z, 2026-08-09 at 00:00 UTC, 2026-08-09 00:00 UTC */
static bool iso_date(const char *p, struct date *d)
{
    return digits(&p, 4, &d->year) && literal(&p, "-") && digits(&p, 2, &d->month) &&
           literal(&p, "-") && digits(&p, 2, &d->day) &&
           (literal(&p, "T") || literal(&p, " at ") || literal(&p, " ")) &&
           clock_time(&p, d) && zone(&p, d);
}

int64_t answer_date(const char *text)
{
    struct date d = {0};
    if (iso_date(text, &d))
        return to_ms(&d);
    d = (struct date){0};
    return http_date(text, &d) ? to_ms(&d) : 0;
}

/* A plain decimal number of units of so many ms, rounded up; -1 if it is anything else,
 * or nothing to wait for. */
static int64_t decimal_ms(const char *p, int64_t unit)
{
    enum { WHOLE_DIGITS = 12 };
    int64_t whole = 0, part = 0, scale = 1;
    const char *from = p;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (p - from >= WHOLE_DIGITS)
            return -1;
        whole = whole * 10 + (*p - '0');
    }
    if (p == from)
        return -1;
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++)
            if (scale < 1000000) {
                part = part * 10 + (*p - '0');
                scale *= 10;
            }
    if (*p != '\0')
        return -1;
    int64_t ms = whole * unit + (part * unit + scale - 1) / scale;
    return ms > 0 ? ms : -1;
}

int64_t answer_retry_ms(const struct answer *a, int64_t wall_ms)
{
    char value[64];
    if (answer_header(a, "retry-after-ms", value, sizeof value)) {
        int64_t ms = decimal_ms(value, 1);
        if (ms > 0)
            return ms;
    }
    if (answer_header(a, "retry-after", value, sizeof value) == NULL)
        return -1;
    int64_t ms = decimal_ms(value, 1000);
    if (ms > 0)
        return ms;
    int64_t at = answer_date(value);
    return at > wall_ms ? at - wall_ms : -1;
}

/* --- limits --- */

/* A number that fills the rest of its line; -1: anything else. */
static int64_t number(const char *p)
{
    int64_t n = 0;
    while (*p == ' ')
        p++;
    if (!isdigit((unsigned char)*p))
        return -1;
    for (; isdigit((unsigned char)*p); p++) {
        if (n > INT64_MAX / 100)
            return -1;
        n = n * 10 + (*p - '0');
    }
    while (*p == ' ')
        p++;
    return *p == '\n' || *p == '\0' ? n : -1;
}

bool answer_limits(const struct answer *a, struct answer_limits *ret)
{
    static const char prefix[] = "anthropic-ratelimit-";
    static const char *const kinds[LIMIT_COUNT] = {"requests-", "input-tokens-",
                                                   "output-tokens-"};
    bool any = false;
    for (int i = 0; i < LIMIT_COUNT; i++)
        ret->limit[i] = ret->remaining[i] = -1;
    for (const char *p = a->headers; p && (p = strstr(p, prefix)); p += !!*p) {
        bool begins = p == a->headers || p[-1] == '\n';
        p += sizeof prefix - 1;
        for (int i = 0; begins && i < LIMIT_COUNT; i++) {
            const char *rest = p;
            if (!literal(&rest, kinds[i]))
                continue;
            int64_t *to = literal(&rest, "limit:")       ? &ret->limit[i]
                          : literal(&rest, "remaining:") ? &ret->remaining[i]
                                                         : NULL;
            if (to && *to < 0)
                *to = number(rest);
            any = any || (to && *to >= 0);
        }
    }
    return any;
}
