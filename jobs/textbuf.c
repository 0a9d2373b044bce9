#include "jobs/textbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool room(struct textbuf *b, size_t more)
{
    if (b->failed || more > TEXTBUF_MAX - b->len - 1) {
        b->failed = true;
        return false;
    }
    if (b->len + more < b->size)
        return true;
    size_t size = b->size ? b->size : 256;
    while (size <= b->len + more)
        size *= 2;
    char *grown = realloc(b->at, size);
    if (grown == NULL) {
        b->failed = true;
        return false;
    }
    b->at = grown;
    b->size = size;
    return true;
}

void textbuf_put(struct textbuf *b, const char *bytes, size_t len)
{
    if (!room(b, len))
        return;
    if (len > 0)
        memcpy(b->at + b->len, bytes, len);
    b->len += len;
    b->at[b->len] = '\0';
}

void textbuf_puts(struct textbuf *b, const char *s)
{
    textbuf_put(b, s, strlen(s));
}

void textbuf_putf(struct textbuf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !room(b, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf(b->at + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void textbuf_int(struct textbuf *b, int64_t n)
{
    char digits[24], *at = digits + sizeof digits;
    uint64_t u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do
        *--at = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (n < 0)
        *--at = '-';
    textbuf_put(b, at, (size_t)(digits + sizeof digits - at));
}

void textbuf_json_bytes(struct textbuf *b, const char *s, size_t len)
{
    textbuf_put(b, "\"", 1);
    for (size_t i = 0; i < len;) {
        size_t n = i;
        while (n < len && (unsigned char)s[n] >= 0x20 && s[n] != '"' && s[n] != '\\')
            n++;
        textbuf_put(b, s + i, n - i);
        if (n < len) {
            char c = s[n];
            const char *at = strchr("\"\"\\\\\nn\rr\tt\bb\ff", c);
            if (c && at)
                textbuf_put(b, (char[]){'\\', at[1]}, 2);
            else
                textbuf_putf(b, "\\u%04x", (unsigned)(unsigned char)c);
            n++;
        }
        i = n;
    }
    textbuf_put(b, "\"", 1);
}

void textbuf_json(struct textbuf *b, const char *s)
{
    if (s)
        textbuf_json_bytes(b, s, strlen(s));
    else
        textbuf_puts(b, "null");
}

static char *two(char *to, int n)
{
    *to++ = (char)('0' + n / 10);
    *to++ = (char)('0' + n % 10);
    return to;
}

void textbuf_json_time(struct textbuf *b, int64_t ms)
{
    struct tm tm;
    time_t t = (time_t)(ms / 1000);
    if (ms <= 0 || gmtime_r(&t, &tm) == NULL || tm.tm_year >= 9999 - 1900) {
        textbuf_puts(b, "null");
        return;
    }
    char text[] = "\"YYYY-MM-DDTHH:MM:SS.mmmZ\"", *at = text + 1;
    at = two(two(at, (tm.tm_year + 1900) / 100), (tm.tm_year + 1900) % 100) + 1;
    at = two(at, tm.tm_mon + 1) + 1;
    at = two(at, tm.tm_mday) + 1;
    at = two(at, tm.tm_hour) + 1;
    at = two(at, tm.tm_min) + 1;
    at = two(at, tm.tm_sec) + 1;
    *at++ = (char)('0' + ms % 1000 / 100);
    two(at, (int)(ms % 100));
    textbuf_put(b, text, sizeof text - 1);
}

void textbuf_clear(struct textbuf *b)
{
    b->len = 0;
    b->failed = false;
}

void textbuf_free(struct textbuf *b)
{
    free(b->at);
    *b = (struct textbuf){0};
}
