/*
 * A recursive descent with an explicit stack of one bit a level: containers are either
 * arrays or objects, and that is all there is to remember.
 */
#include "jobs/jsonscan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct scan {
    const char *p, *end;
    const char *what; /* the first fault, where `p` stands */
    bool trusted;     /* an earlier scan found all of it valid */
};

static const char *behind(const char *p, const char *end);

static bool fault(struct scan *s, const char *what)
{
    if (s->what == NULL)
        s->what = what;
    return false;
}

static void blanks(struct scan *s)
{
    while (s->p < s->end &&
           (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
        s->p++;
}

/* Length of the UTF-8 sequence at `p`, 0 if it is none (overlong, surrogate, cut). */
static size_t utf8_len(const unsigned char *p, size_t room)
{
    unsigned char c = p[0];
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || n > room)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) ||
        (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

#define ONES UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* How many of the eight bytes at `p` are plain before the first special one: a control,
 * a quote, a backslash, or what is not ASCII. (A borrow can flag too much, never below
 * the first true one.) */
static unsigned plain_bytes(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    uint64_t quote = w ^ (ONES * '"'), slash = w ^ (ONES * '\\');
    uint64_t low = w - ONES * 0x20;
    uint64_t special = (w | low | (quote - ONES) | (slash - ONES)) & HIGHS;
    return special ? (unsigned)__builtin_ctzll(special) / 8 : 8;
}

/* Are these bytes all plain? As signed numbers, what is not ASCII lies below the controls.
 * A vector of the compiler, which it makes of what the machine has. */
typedef signed char bytes16 __attribute__((vector_size(16)));
enum { WIDE = sizeof(bytes16) };
static bool all_plain(const char *p)
{
    bytes16 v;
    uint64_t any[2];
    memcpy(&v, p, sizeof v);
    bytes16 special = (v < 0x20) | (v == '"') | (v == '\\');
    memcpy(any, &special, sizeof any);
    return (any[0] | any[1]) == 0;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* A \u escape at `p` (on the u). Lone surrogates are refused: they are no text. */
static bool unicode(struct scan *s)
{
    if (s->end - s->p < 5)
        return fault(s, "a \\u escape is cut off");
    int hi = hex4(s->p + 1);
    if (hi < 0)
        return fault(s, "a \\u escape wants four hexadecimal digits");
    s->p += 5;
    if (hi >= 0xdc00 && hi <= 0xdfff)
        return fault(s, "a lone surrogate");
    if (hi < 0xd800 || hi > 0xdbff)
        return true;
    if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u')
        return fault(s, "a lone surrogate");
    int lo = hex4(s->p + 2);
    if (lo < 0xdc00 || lo > 0xdfff)
        return fault(s, "a lone surrogate");
    s->p += 6;
    return true;
}

/* `p` is on the opening quote; ends behind the closing one. */
static bool string(struct scan *s, bool *escaped)
{
    const char *p = s->p + 1;
    for (;;) {
        while (s->end - p >= WIDE && all_plain(p))
            p += WIDE;
        for (unsigned n = 8; n == 8 && s->end - p >= 8;)
            p += n = plain_bytes(p);
        if (p >= s->end) {
            s->p = p;
            return fault(s, "a string does not end");
        }
        unsigned char c = (unsigned char)*p;
        if (c == '"') {
            s->p = p + 1;
            return true;
        }
        if (c == '\\') {
            *escaped = true;
            s->p = p + 1;
            if (s->p >= s->end)
                return fault(s, "a string does not end");
            if (*s->p == 'u') {
                if (!unicode(s))
                    return false;
                p = s->p;
                continue;
            }
            if (*s->p == '\0' || !strchr("\"\\/bfnrt", *s->p))
                return fault(s, "an unknown escape in a string");
            p = s->p + 1;
        } else if (c < 0x20) {
            s->p = p;
            return fault(s, "a control character in a string");
        } else if (c >= 0x80) {
            size_t n = utf8_len((const unsigned char *)p, (size_t)(s->end - p));
            if (n == 0) {
                s->p = p;
                return fault(s, "bytes that are not UTF-8");
            }
            p += n;
        } else {
            p++;
        }
    }
}

static bool digits(struct scan *s)
{
    const char *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > from || fault(s, "a number is not finished");
}

static bool number(struct scan *s)
{
    if (*s->p == '-')
        s->p++;
    if (s->p < s->end && *s->p == '0')
        s->p++;
    else if (!digits(s))
        return false;
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!digits(s))
            return false;
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!digits(s))
            return false;
    }
    return true;
}

static bool word(struct scan *s, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n) != 0)
        return fault(s, "an unknown word");
    s->p += n;
    return true;
}

static bool scalar(struct scan *s)
{
    bool escaped = false;
    if (s->p >= s->end)
        return fault(s, "a value is missing");
    switch (*s->p) {
    case '"':
        return string(s, &escaped);
    case 't':
        return word(s, "true");
    case 'f':
        return word(s, "false");
    case 'n':
        return word(s, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return number(s);
    default:
        return fault(s, "no JSON value begins like this");
    }
}

static bool key_and_colon(struct scan *s, struct json_span *key, bool *escaped)
{
    blanks(s);
    const char *from = s->p;
    if (s->p >= s->end || *s->p != '"')
        return fault(s, "want a key in double quotes");
    if (!string(s, escaped))
        return false;
    *key = (struct json_span){from, (size_t)(s->p - from)};
    blanks(s);
    if (s->p >= s->end || *s->p != ':')
        return fault(s, "want a colon behind the key");
    s->p++;
    blanks(s);
    return true;
}

/* One value of any depth; ends behind it. */
static bool value(struct scan *s)
{
    uint8_t is_object[JSONSCAN_DEPTH];
    int depth = 0;
    struct json_span key;
    bool escaped;

    for (;;) {
        /* Here a value begins. */
        if (s->p < s->end && (*s->p == '{' || *s->p == '[')) {
            bool object = *s->p == '{';
            if (depth == JSONSCAN_DEPTH)
                return fault(s, "nested too deep");
            is_object[depth++] = object;
            s->p++;
            blanks(s);
            if (s->p < s->end && *s->p == (object ? '}' : ']')) {
                s->p++;
                depth--;
            } else {
                if (object && !key_and_colon(s, &key, &escaped))
                    return false;
                continue;
            }
        } else if (!scalar(s)) {
            return false;
        }
        /* Here a value has ended: close what ends with it. */
        for (;;) {
            if (depth == 0)
                return true;
            blanks(s);
            if (s->p >= s->end)
                return fault(s, "it ends too soon");
            if (*s->p == ',') {
                s->p++;
                blanks(s);
                if (is_object[depth - 1] && !key_and_colon(s, &key, &escaped))
                    return false;
                break;
            }
            if (*s->p != (is_object[depth - 1] ? '}' : ']'))
                return fault(s, "want a comma or the end of the list");
            s->p++;
            depth--;
        }
    }
}

static int report(const struct scan *s, const char *text, struct json_fault *f)
{
    if (f == NULL)
        return -1;
    f->what = s->what;
    f->offset = (size_t)(s->p - text);
    f->line = f->column = 1;
    for (const char *p = text; p < s->p; p++) {
        f->column++;
        if (*p == '\n') {
            f->line++;
            f->column = 1;
        }
    }
    return -1;
}

static struct json_want *wanted(struct json_want *want, size_t n, struct json_span key)
{
    for (size_t i = 0; i < n; i++)
        if (key.len == strlen(want[i].key) + 2 &&
            memcmp(key.at + 1, want[i].key, key.len - 2) == 0)
            return &want[i];
    return NULL;
}

static bool object(struct scan *s, struct json_want *want, size_t n)
{
    blanks(s);
    if (s->p >= s->end || *s->p != '{')
        return fault(s, "want a JSON object");
    s->p++;
    blanks(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        return true;
    }
    for (;;) {
        struct json_span key;
        bool escaped = false;
        if (!key_and_colon(s, &key, &escaped))
            return false;
        const char *from = s->p;
        struct json_want *w = wanted(want, n, key);
        if (escaped)
            return fault(s, "a key with escapes in it");
        if (w && w->value.at)
            return fault(s, "a key that comes twice");
        if (s->trusted)
            s->p = behind(s->p, s->end);
        else if (!value(s))
            return false;
        if (w) {
            w->value = (struct json_span){from, (size_t)(s->p - from)};
            w->member = (struct json_span){key.at, (size_t)(s->p - key.at)};
        }
        blanks(s);
        if (s->p >= s->end)
            return fault(s, "it ends too soon");
        if (*s->p == '}') {
            s->p++;
            return true;
        }
        if (*s->p != ',')
            return fault(s, "want a comma or the end of the object");
        s->p++;
    }
}

static bool nothing_more(struct scan *s)
{
    blanks(s);
    return s->p == s->end || fault(s, "something follows the end");
}

static int scan_object(const char *text, size_t len, bool trusted,
                       struct json_want *want, size_t n, struct json_fault *f)
{
    struct scan s = {.p = text, .end = text + len, .trusted = trusted};
    for (size_t i = 0; i < n; i++)
        want[i].value = want[i].member = (struct json_span){0};
    if (object(&s, want, n) && nothing_more(&s))
        return 0;
    return report(&s, text, f);
}

int json_scan(const char *text, size_t len, struct json_want *want, size_t n,
              struct json_fault *f)
{
    return scan_object(text, len, false, want, n, f);
}

int json_members(struct json_span object_at, struct json_want *want, size_t n,
                 struct json_fault *f)
{
    return scan_object(object_at.at, object_at.len, true, want, n, f);
}

int json_valid(const char *text, size_t len, struct json_fault *f)
{
    struct scan s = {.p = text, .end = text + len};
    blanks(&s);
    if (value(&s) && nothing_more(&s))
        return 0;
    return report(&s, text, f);
}

char json_span_type(struct json_span s)
{
    char c = s.at && s.len ? s.at[0] : 'n';
    return c == '-' || (c >= '0' && c <= '9') ? '0' : c;
}

int json_is(struct json_span s, const char *text)
{
    size_t n = strlen(text);
    return s.at && s.len == n + 2 && s.at[0] == '"' && memcmp(s.at + 1, text, n) == 0;
}

/* Over a value that is known to be valid: only its end is of interest. */
static const char *behind_string(const char *p, const char *end)
{
    for (p++; p < end;) {
        p = memchr(p, '"', (size_t)(end - p));
        if (p == NULL)
            return end;
        const char *slash = p;
        while (slash[-1] == '\\')
            slash--;
        p++;
        if ((p - 1 - slash) % 2 == 0)
            return p;
    }
    return end;
}

static const char *behind(const char *p, const char *end)
{
    int depth = 0;
    while (p < end) {
        switch (*p) {
        case '"':
            p = behind_string(p, end);
            break;
        case '{':
        case '[':
            depth++;
            p++;
            break;
        case '}':
        case ']':
            if (depth == 0)
                return p;
            depth--;
            p++;
            break;
        case ',':
        case ' ':
        case '\t':
        case '\n':
        case '\r':
            if (depth == 0)
                return p;
            p++;
            continue;
        default:
            p++;
            continue;
        }
        if (depth == 0)
            return p;
    }
    return end;
}

int json_next(struct json_span whole, size_t *pos, struct json_span *key,
              struct json_span *value_at)
{
    if (whole.at == NULL || whole.len < 2 || (*whole.at != '{' && *whole.at != '['))
        return 0;
    struct scan s = {.p = whole.at + (*pos ? *pos : 1), .end = whole.at + whole.len};
    struct json_span k = {0};

    blanks(&s);
    if (s.p < s.end && *s.p == ',') {
        s.p++;
        blanks(&s);
    }
    if (s.p >= s.end || *s.p == '}' || *s.p == ']')
        return 0;
    if (*whole.at == '{') {
        k.at = s.p;
        s.p = behind_string(s.p, s.end);
        k.len = (size_t)(s.p - k.at);
        blanks(&s);
        s.p += s.p < s.end; /* the colon */
        blanks(&s);
    }
    const char *from = s.p;
    s.p = behind(s.p, s.end);
    *value_at = (struct json_span){from, (size_t)(s.p - from)};
    if (key)
        *key = k;
    *pos = (size_t)(s.p - whole.at);
    return s.p > from;
}

struct json_span json_get(struct json_span obj, const char *key)
{
    struct json_span k, v;
    size_t pos = 0;
    if (json_type(obj) == '{')
        while (json_next(obj, &pos, &k, &v))
            if (json_is(k, key))
                return v;
    return (struct json_span){0};
}

static size_t put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

char *json_text(struct json_span s, size_t *len)
{
    if (json_type(s) != '"')
        return NULL;
    char *text = malloc(s.len); /* decoding never grows it */
    if (text == NULL)
        return NULL;

    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t n = 0;
    for (const char *p = s.at + 1, *end = s.at + s.len - 1; p < end;) {
        if (*p != '\\') {
            text[n++] = *p++;
            continue;
        }
        p++;
        if (*p != 'u') {
            text[n++] = to[strchr(from, *p) - from];
            p++;
            continue;
        }
        unsigned c = (unsigned)hex4(p + 1);
        p += 5;
        if (c >= 0xd800 && c <= 0xdbff) {
            c = 0x10000 + ((c - 0xd800) << 10) + ((unsigned)hex4(p + 2) - 0xdc00);
            p += 6;
        }
        n += put_utf8(text + n, c);
    }
    text[n] = '\0';
    if (len)
        *len = n;
    return text;
}

int json_int(struct json_span s, long long *ret)
{
    char text[24];
    if (json_type(s) != '0' || s.len >= sizeof text)
        return -1;
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (*end != '\0' || errno)
        return -1;
    *ret = v;
    return 0;
}
