#include "sim/scan.h"

#include <string.h>

static const char *blank_skip(const char *c, const char *end)
{
    while (c < end && (*c == ' ' || *c == '\n' || *c == '\r' || *c == '\t'))
        c++;
    return c;
}

/* ---- values: each returns what follows, or NULL; *bad is then where it broke ---- */

/* Eight bytes at once: is there a quote, a backslash or a control character among them?
 */
static bool any_special(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
    uint64_t hit = (quote - ones) & ~quote;
    hit |= (slash - ones) & ~slash;
    hit |= (w - ones * 0x20) & ~w;
    return (hit & tops) != 0;
}

static const char *escape_skip(const char *c, const char *end)
{
    if (end - c < 2)
        return NULL;
    if (c[1] != 'u')
        return strchr("\"\\/bfnrt", c[1]) && c[1] ? c + 2 : NULL;
    if (end - c < 6)
        return NULL;
    for (int i = 2; i < 6; i++)
        if (!((c[i] >= '0' && c[i] <= '9') ||
              ((c[i] | 0x20) >= 'a' && (c[i] | 0x20) <= 'f')))
            return NULL;
    return c + 6;
}

static const char *string_skip(const char *c, const char *end, const char **bad)
{
    c++;
    for (;;) {
        uint64_t w;
        while (end - c >= (ptrdiff_t)sizeof w) {
            memcpy(&w, c, sizeof w);
            if (any_special(w))
                break;
            c += sizeof w;
        }
        while (c < end && *c != '"' && *c != '\\' && (unsigned char)*c >= 0x20)
            c++;
        *bad = c;
        if (c == end)
            return NULL;
        if (*c == '"')
            return c + 1;
        if (*c != '\\' || (c = escape_skip(c, end)) == NULL)
            return NULL;
    }
}

static const char *digits_skip(const char *c, const char *end)
{
    const char *from = c;
    while (c < end && *c >= '0' && *c <= '9')
        c++;
    return c > from ? c : NULL;
}

static const char *number_skip(const char *c, const char *end)
{
    if (*c == '-')
        c++;
    if (c < end && *c == '0')
        c++;
    else if ((c = digits_skip(c, end)) == NULL)
        return NULL;
    if (c < end && *c == '.' && (c = digits_skip(c + 1, end)) == NULL)
        return NULL;
    if (c < end && (*c | 0x20) == 'e') {
        c++;
        if (c < end && (*c == '+' || *c == '-'))
            c++;
        c = digits_skip(c, end);
    }
    return c;
}

static const char *word_skip(const char *c, const char *end, const char *word)
{
    size_t len = strlen(word);
    return (size_t)(end - c) >= len && memcmp(c, word, len) == 0 ? c + len : NULL;
}

static const char *value_skip(const char *c, const char *end, int depth,
                              const char **bad);

static const char *members_skip(const char *c, const char *end, int depth, char close,
                                const char **bad)
{
    c = blank_skip(c + 1, end);
    if (c < end && *c == close)
        return c + 1;
    for (;;) {
        if (close == '}') {
            *bad = c;
            if (c == end || *c != '"' || (c = string_skip(c, end, bad)) == NULL)
                return NULL;
            c = blank_skip(c, end);
            *bad = c;
            if (c == end || *c != ':')
                return NULL;
            c = blank_skip(c + 1, end);
        }
        if ((c = value_skip(c, end, depth + 1, bad)) == NULL)
            return NULL;
        c = blank_skip(c, end);
        *bad = c;
        if (c == end)
            return NULL;
        if (*c == close)
            return c + 1;
        if (*c != ',')
            return NULL;
        c = blank_skip(c + 1, end);
    }
}

static const char *value_skip(const char *c, const char *end, int depth,
                              const char **bad)
{
    *bad = c;
    if (c == end || depth > SCAN_DEPTH_MAX)
        return NULL;
    switch (*c) {
    case '"':
        return string_skip(c, end, bad);
    case '{':
        return members_skip(c, end, depth, '}', bad);
    case '[':
        return members_skip(c, end, depth, ']', bad);
    case 't':
        return word_skip(c, end, "true");
    case 'f':
        return word_skip(c, end, "false");
    case 'n':
        return word_skip(c, end, "null");
    default:
        return *c == '-' || (*c >= '0' && *c <= '9') ? number_skip(c, end) : NULL;
    }
}

bool scan_document(const char *text, size_t len, struct span *v, size_t *bad_at)
{
    const char *end = text + len, *bad = text;
    const char *from = blank_skip(text, end);
    const char *c = value_skip(from, end, 0, &bad);
    if (c != NULL) {
        v->at = from;
        v->len = (size_t)(c - from);
        c = blank_skip(c, end);
        if (c == end)
            return true;
        bad = c;
    }
    *bad_at = (size_t)(bad - text);
    return false;
}

/* ---- walking ---- */

void scan_into(struct scan *s, struct span v)
{
    bool deep = scan_is_array(v) || scan_is_object(v);
    s->at = deep ? v.at + 1 : NULL;
    s->end = deep ? v.at + v.len - 1 : NULL;
}

static bool span_next(struct scan *s, struct span *v)
{
    const char *bad;
    s->at = blank_skip(s->at, s->end);
    if (s->at == s->end)
        return false;
    const char *after = value_skip(s->at, s->end, 0, &bad);
    if (after == NULL)
        return false;
    v->at = s->at;
    v->len = (size_t)(after - s->at);
    s->at = blank_skip(after, s->end);
    if (s->at < s->end)
        s->at++; /* the comma or the colon */
    return true;
}

bool scan_element(struct scan *s, struct span *v)
{
    return span_next(s, v);
}

bool scan_member(struct scan *s, struct span *key, struct span *v)
{
    return span_next(s, key) && span_next(s, v);
}

struct span scan_get(struct span object, const char *key)
{
    struct span found = {NULL, 0}, k, v;
    struct scan s;
    if (!scan_is_object(object))
        return found;
    for (scan_into(&s, object); scan_member(&s, &k, &v);)
        if (scan_equal(k, key))
            found = v;
    return found;
}

/* ---- looking ---- */

bool scan_is_string(struct span v)
{
    return v.at && *v.at == '"';
}

bool scan_is_array(struct span v)
{
    return v.at && *v.at == '[';
}

bool scan_is_object(struct span v)
{
    return v.at && *v.at == '{';
}

bool scan_is_true(struct span v)
{
    return v.at && *v.at == 't';
}

bool scan_is_int(struct span v, int64_t *n)
{
    int64_t sum = 0;
    if (v.at == NULL || v.len == 0 || v.len > 19)
        return false;
    bool minus = *v.at == '-';
    for (size_t i = minus; i < v.len; i++) {
        if (v.at[i] < '0' || v.at[i] > '9')
            return false;
        if (__builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, v.at[i] - '0', &sum))
            return false;
    }
    *n = minus ? -sum : sum;
    return true;
}

struct span scan_inside(struct span string)
{
    if (!scan_is_string(string))
        return (struct span){NULL, 0};
    return (struct span){string.at + 1, string.len - 2};
}

bool scan_equal(struct span string, const char *word)
{
    struct span in = scan_inside(string);
    return in.at && in.len == strlen(word) && memcmp(in.at, word, in.len) == 0;
}

struct span scan_head(struct span inside, size_t max)
{
    const char *c = inside.at, *end = inside.at + inside.len;
    if (inside.len <= max)
        return inside;
    for (;;) {
        const char *next = c + 1;
        if (*c == '\\')
            next = c[1] == 'u' ? c + 6 : c + 2;
        /* A pair of surrogates is one character. */
        if (next - c == 6 && (c[2] | 0x20) == 'd' && strchr("89abAB", c[3]) &&
            end - next >= 6 && next[0] == '\\' && next[1] == 'u')
            next += 6;
        while (next < end && ((unsigned char)*next & 0xc0) == 0x80)
            next++;
        if (next - inside.at > (ptrdiff_t)max)
            return (struct span){inside.at, (size_t)(c - inside.at)};
        c = next;
    }
}

void scan_copy(struct span inside, char *buf, size_t size)
{
    size_t len = inside.len < size ? inside.len : size - 1;
    if (len > 0)
        memcpy(buf, inside.at, len);
    buf[len] = '\0';
}
