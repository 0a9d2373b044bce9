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

void textbuf_json_time(struct textbuf *b, int64_t ms)
{
    char text[40];
    struct tm tm;
    time_t t = (time_t)(ms / 1000);
    if (ms == 0 || gmtime_r(&t, &tm) == NULL) {
        textbuf_puts(b, "null");
        return;
    }
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    textbuf_putf(b, "\"%.*s.%03dZ\"", (int)n, text, (int)(ms % 1000));
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
