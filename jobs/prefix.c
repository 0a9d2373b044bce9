#include "jobs/prefix.h"

#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"

#include <endian.h>
#include <string.h>

/* ---- hashing: MurmurHash3 (x64, 128 bits) over pieces, each from where the last one
 * ended ---- */

static uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static uint64_t stir(uint64_t x)
{
    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static void hash_block(uint64_t h[2], const void *bytes)
{
    const uint64_t c1 = UINT64_C(0x87c37b91114253d5), c2 = UINT64_C(0x4cf5ad432745937f);
    uint64_t k[2];
    memcpy(k, bytes, sizeof k);
    h[0] ^= rotate(le64toh(k[0]) * c1, 31) * c2;
    h[0] = (rotate(h[0], 27) + h[1]) * 5 + 0x52dce729;
    h[1] ^= rotate(le64toh(k[1]) * c2, 33) * c1;
    h[1] = (rotate(h[1], 31) + h[0]) * 5 + 0x38495ab5;
}

/* The tag keeps apart the same bytes in different places. */
static void hash(uint64_t h[2], char tag, struct json_span s)
{
    char rest[16] = {0};
    size_t n = s.len & ~(size_t)15;
    for (size_t i = 0; i < n; i += 16)
        hash_block(h, s.at + i);
    if (s.len > n)
        memcpy(rest, s.at + n, s.len - n);
    hash_block(h, rest);
    h[0] ^= (uint64_t)s.len;
    h[1] ^= (uint64_t)s.len ^ (uint64_t)(unsigned char)tag << 56;
    h[0] += h[1];
    h[1] += h[0];
    h[0] = stir(h[0]);
    h[1] = stir(h[1]);
    h[0] += h[1];
    h[1] += h[0];
}

/* ---- the members, which have no braces around them ---- */

static const char *behind_string(const char *p, const char *end)
{
    for (p++; p < end; p++) {
        p = memchr(p, '"', (size_t)(end - p));
        if (p == NULL)
            return end;
        size_t slashes = 0;
        while (p[-1 - (ptrdiff_t)slashes] == '\\')
            slashes++;
        if (slashes % 2 == 0)
            return p + 1;
    }
    return end;
}

static const char *behind_value(const char *p, const char *end)
{
    for (int depth = 0; p < end;) {
        if (*p == '"') {
            p = behind_string(p, end);
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
            continue;
        } else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        } else if (strchr(", \t\r\n", *p)) {
            if (depth == 0)
                return p;
            p++;
            continue;
        } else {
            p++;
            continue;
        }
        if (depth == 0)
            return p;
    }
    return end;
}

static const char *blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    return p;
}

/* The next member; false at the end. `*p` moves on. */
static bool next_member(const char **p, const char *end, struct json_span *key,
                        struct json_span *value)
{
    const char *at = blanks(*p, end);
    if (at < end && *at == ',')
        at = blanks(at + 1, end);
    if (at >= end || *at != '"')
        return false;
    key->at = at;
    at = behind_string(at, end);
    key->len = (size_t)(at - key->at);
    at = blanks(at, end);
    if (at >= end || *at != ':')
        return false;
    value->at = blanks(at + 1, end);
    *p = behind_value(value->at, end);
    value->len = (size_t)(*p - value->at);
    return value->len > 0;
}

/* Within a text the key's quotes have backslashes in front, so that this is not found
 * there. */
static bool has_marks(const char *members, size_t len)
{
    static const char key[] = "\"cache_control\"";
    const char *end = members + len;
    while ((members = memmem(members, (size_t)(end - members), key, sizeof key - 1))) {
        members += sizeof key - 1;
        const char *p = blanks(members, end);
        if (p < end && *p == ':')
            return true;
    }
    return false;
}

/* ---- cuts ---- */

struct finder {
    struct prefix *p;
    const char *members;
    uint64_t h[2];
    size_t bytes;
};

static void add(struct finder *f, char tag, struct json_span s)
{
    hash(f->h, tag, s);
    f->bytes += s.len;
}

static void cut(struct finder *f, struct json_span bearer)
{
    struct prefix *p = f->p;
    if (f->bytes < PREFIX_BYTES_MIN)
        return;
    if (p->count == PREFIX_CUTS_MAX)
        p->count--; /* the one that holds most is the likeliest of the last ones */
    size_t from = (size_t)(bearer.at - f->members);
    p->cut[p->count++] = (struct prefix_cut){.key = {f->h[0], f->h[1]},
                                             .bytes = f->bytes,
                                             .from = from,
                                             .to = from + bearer.len,
                                             .wrap = json_type(bearer) == '"'};
}

/* The API refuses a mark on a text of nothing but white space. */
static bool says_something(struct json_span s)
{
    if (json_type(s) != '"')
        return false;
    for (const char *p = s.at + 1, *end = s.at + s.len - 1; p < end; p++) {
        if (*p == '\\' && strchr("nrt", p[1]))
            p++;
        else if (*p != ' ')
            return true;
    }
    return false;
}

static bool may_bear(struct json_span block)
{
    static const char *const kinds[] = {"image", "document", "search_result",
                                        "tool_use", "tool_result"};
    struct json_want want[] = {{.key = "type"}, {.key = "text"}};
    if (json_type(block) != '{' || json_members(block, want, 2, NULL) < 0)
        return false;
    if (json_is(want[0].value, "text"))
        return says_something(want[1].value);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (json_is(want[0].value, kinds[i]))
            return true;
    return false;
}

/* A tool that is loaded later is no part of the prompt, and bears no mark. */
static void find_in_tools(struct finder *f, struct json_span tools)
{
    struct json_span tool, last = {0};
    if (json_type(tools) != '[')
        return;
    for (size_t pos = 0; json_next(tools, &pos, NULL, &tool);)
        last = tool;
    add(f, 't', tools);
    struct json_want want[] = {{.key = "name"}, {.key = "defer_loading"}};
    if (json_type(last) == '{' && json_members(last, want, 2, NULL) == 0 &&
        want[0].value.at && json_type(want[1].value) != 't')
        cut(f, last);
}

static void find_in_system(struct finder *f, struct json_span system)
{
    struct json_span block;
    if (json_type(system) == '"') {
        add(f, 's', system);
        if (says_something(system))
            cut(f, system);
    }
    if (json_type(system) == '[')
        for (size_t pos = 0; json_next(system, &pos, NULL, &block);) {
            add(f, 'b', block);
            if (may_bear(block))
                cut(f, block);
        }
}

/* The last block of the last message is never looked at. */
static void find_in_content(struct finder *f, struct json_span content, bool last)
{
    struct json_span block, next;
    size_t pos = 0;
    if (json_type(content) == '"' && !last) {
        add(f, 'c', content);
        if (says_something(content))
            cut(f, content);
    }
    if (json_type(content) != '[' || !json_next(content, &pos, NULL, &block))
        return;
    for (bool more = true; more; block = next) {
        more = json_next(content, &pos, NULL, &next);
        if (!more && last)
            return;
        add(f, 'b', block);
        if (may_bear(block))
            cut(f, block);
    }
}

static void find_in_messages(struct finder *f, struct json_span messages)
{
    struct json_span message, next;
    size_t pos = 0;
    if (json_type(messages) != '[' || !json_next(messages, &pos, NULL, &message))
        return;
    for (bool more = true; more; message = next) {
        more = json_next(messages, &pos, NULL, &next);
        struct json_want want[] = {{.key = "role"}, {.key = "content"}};
        if (json_type(message) != '{' || json_members(message, want, 2, NULL) < 0 ||
            want[0].value.at == NULL || want[1].value.at == NULL)
            return; /* the API's to judge */
        hash(f->h, 'r', want[0].value);
        find_in_content(f, want[1].value, !more);
    }
}

/* Members that say nothing of what is in the cache. */
static bool is_harmless(struct json_span key)
{
    static const char *const keys[] = {
        "model",       "max_tokens", "stream", "metadata",     "stop_sequences",
        "temperature", "top_p",      "top_k",  "service_tier",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_is(key, keys[i]))
            return true;
    return false;
}

void prefix_find(struct prefix *p, const char *members, size_t len)
{
    const char *at = members;
    struct finder f = {.p = p, .members = members};
    struct json_span key, value, tools = {0}, system = {0}, messages = {0};
    p->count = 0;
    p->own = has_marks(members, len);
    if (p->own)
        return;
    while (next_member(&at, members + len, &key, &value)) {
        if (json_is(key, "tools")) {
            tools = value;
        } else if (json_is(key, "system")) {
            system = value;
        } else if (json_is(key, "messages")) {
            messages = value;
        } else if (!is_harmless(key)) {
            uint64_t one[2] = {0}; /* a sum: whatever order they come in */
            hash(one, 'k', key);
            hash(one, 'v', value);
            f.h[0] += one[0];
            f.h[1] += one[1];
        }
    }
    find_in_tools(&f, tools);
    find_in_system(&f, system);
    find_in_messages(&f, messages);
}

/* ---- marks ---- */

static const char *control(bool hour)
{
    return hour ? ",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}"
                : ",\"cache_control\":{\"type\":\"ephemeral\"}";
}

static bool is_marked(const struct prefix_marks *marks, int cut)
{
    for (int i = 0; i < marks->count; i++)
        if (marks->cut[i] == cut)
            return true;
    return false;
}

static void put_bearer(struct textbuf *to, const char *members,
                       const struct prefix_cut *c, const char *mark)
{
    const char *from = members + c->from;
    size_t len = c->to - c->from;
    if (c->wrap)
        textbuf_puts(to, "[{\"type\":\"text\",\"text\":");
    textbuf_put(to, from, c->wrap ? len : len - 1); /* less the brace */
    textbuf_puts(to, mark);
    textbuf_puts(to, c->wrap ? "}]" : "}");
}

/*
 * Strings before the last mark become lists even where they bear none: whoever reads an
 * entry has to say the prefix in the very form of the one who wrote it, and that one may
 * have marked there.
 */
void prefix_mark(struct textbuf *to, const char *members, size_t len,
                 const struct prefix *p, const struct prefix_marks *marks)
{
    int order[PREFIX_CUTS_MAX], n = 0, last = -1;
    for (int i = 0; i < marks->count; i++)
        last = marks->cut[i] > last ? marks->cut[i] : last;

    /* In the order of the text, which may have the messages in front of the system. */
    for (int i = 0; i <= last; i++) {
        if (!is_marked(marks, i) && !p->cut[i].wrap)
            continue;
        int k = n++;
        for (; k > 0 && p->cut[order[k - 1]].from > p->cut[i].from; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }

    size_t done = 0;
    for (int k = 0; k < n; k++) {
        const struct prefix_cut *c = &p->cut[order[k]];
        textbuf_put(to, members + done, c->from - done);
        put_bearer(to, members, c,
                   is_marked(marks, order[k]) ? control(marks->hour) : "");
        done = c->to;
    }
    textbuf_put(to, members + done, len - done);
}
