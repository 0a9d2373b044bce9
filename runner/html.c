#include "runner/html.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BROKEN 0xfffdu
#define ELLIPSIS "\xe2\x80\xa6"

/* The next character of `s`; `*used` bytes of it. BROKEN where it is none: one byte. */
static uint32_t next_char(const unsigned char *s, size_t len, size_t *used)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80             ? 1
               : (s[0] & 0xe0) == 0xc0 ? 2
               : (s[0] & 0xf0) == 0xe0 ? 3
               : (s[0] & 0xf8) == 0xf0 ? 4
                                       : 0;
    *used = 1;
    if (n == 0 || n > len)
        return BROKEN;
    uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return BROKEN;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return BROKEN;
    *used = n;
    return c;
}

/* What is shown in its place. */
static uint32_t shown_as(uint32_t c)
{
    if (c == '\n' || c == '\r' || c == '\t' || c == 0x2028 || c == 0x2029)
        return ' ';
    if (c < 0x20)
        return 0x2400 + c;
    if (c == 0x7f)
        return 0x2421;
    bool control = c >= 0x80 && c < 0xa0;
    bool turns = c == 0x61c || c == 0x200e || c == 0x200f ||
                 (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    bool none = (c & 0xfffe) == 0xfffe || (c >= 0xfdd0 && c <= 0xfdef) || c == 0xfeff;
    return control || turns || none ? BROKEN : c;
}

/* Belongs to the character before it: accents, joiners, variation selectors. */
static bool joins(uint32_t c)
{
    return (c >= 0x300 && c <= 0x36f) || c == 0x200d || (c >= 0xfe00 && c <= 0xfe0f) ||
           (c >= 0x1ab0 && c <= 0x1aff) || (c >= 0x20d0 && c <= 0x20ff);
}

static void put_char(struct textbuf *b, uint32_t c)
{
    char u[4];
    size_t n = 0;
    switch (c) {
    case '&':
        textbuf_puts(b, "&amp;");
        return;
    case '<':
        textbuf_puts(b, "&lt;");
        return;
    case '>':
        textbuf_puts(b, "&gt;");
        return;
    case '"':
        textbuf_puts(b, "&quot;");
        return;
    case '\'':
        textbuf_puts(b, "&#39;");
        return;
    default:
        break;
    }
    if (c < 0x80) {
        u[n++] = (char)c;
    } else if (c < 0x800) {
        u[n++] = (char)(0xc0 | c >> 6);
        u[n++] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        u[n++] = (char)(0xe0 | c >> 12);
        u[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        u[n++] = (char)(0x80 | (c & 0x3f));
    } else {
        u[n++] = (char)(0xf0 | c >> 18);
        u[n++] = (char)(0x80 | (c >> 12 & 0x3f));
        u[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        u[n++] = (char)(0x80 | (c & 0x3f));
    }
    textbuf_put(b, u, n);
}

/* Where the text is cut so that the ellipsis is its last character; `len`: nowhere. */
static size_t cut_at(const char *s, size_t len, size_t max)
{
    size_t chars = 0, keep = len, used;
    bool joined = false;
    for (size_t at = 0; at < len; at += used) {
        uint32_t c = next_char((const unsigned char *)s + at, len - at, &used);
        bool belongs = chars > 0 && (joins(c) || joined);
        joined = c == 0x200d;
        /* However many marks one character gathers, they are not worth a page. */
        if (belongs && at < 4 * max + 64)
            continue;
        chars++;
        if (chars == max)
            keep = at;
        if (chars > max)
            return keep;
    }
    return len;
}

void html_bytes(struct textbuf *b, const char *s, size_t len, size_t max)
{
    size_t end = max > 0 ? cut_at(s, len, max) : len, used;
    for (size_t at = 0; at < end; at += used)
        put_char(b,
                 shown_as(next_char((const unsigned char *)s + at, end - at, &used)));
    if (end < len)
        textbuf_puts(b, ELLIPSIS);
}

void html_text(struct textbuf *b, const char *s, size_t max)
{
    if (s)
        html_bytes(b, s, strlen(s), max);
}
