/*
 * .json and one line of .jsonl: a body as the Messages API takes it, or one request as
 * the Message Batches API takes it, {"custom_id": ..., "params": {...}}. Beside either
 * may stand "nightmill": {"tier", "priority", "tags", "max_cost", "cache",
 * "check", "route"}, which is
 * never sent.
 *
 * A line is scanned twice at most (itself and its params) and never parsed: the body is
 * cut out of it, byte for byte, around the few members that are ours to fill in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/catalog.h"
#include "jobs/job.h"
#include "jobs/jsonscan.h"
#include "jobs/source.h"
#include "runner/err.h"

/* What is looked at; the first three are taken out of the body. */
#define KEYS(X)                                           \
    X(NIGHTMILL, "nightmill", 0)                          \
    X(MODEL, "model", 0)                                  \
    X(STREAM, "stream", 0)                                \
    X(MESSAGES, "messages", 0)                            \
    X(MAX_TOKENS, "max_tokens", ASKS_MAX_TOKENS)          \
    X(THINKING, "thinking", ASKS_THINKING)                \
    X(TOOLS, "tools", ASKS_TOOLS)                         \
    X(OUTPUT_CONFIG, "output_config", ASKS_OUTPUT_CONFIG) \
    X(CACHE_CONTROL, "cache_control", ASKS_CACHE)         \
    X(MCP_SERVERS, "mcp_servers", ASKS_SERVER_SIDE)       \
    X(CONTAINER, "container", ASKS_SERVER_SIDE)           \
    X(FALLBACKS, "fallbacks", ASKS_SERVER_SIDE)           \
    X(CUSTOM_ID, "custom_id", 0)                          \
    X(PARAMS, "params", 0)

enum {
#define X(id, key, ask) KEY_##id,
    KEYS(X)
#undef X
        KEY_COUNT,
    KEYS_TAKEN_OUT = 3
};

static const struct json_want wants[KEY_COUNT] = {
#define X(id, name, ask) [KEY_##id] = {.key = name},
    KEYS(X)
#undef X
};

static const unsigned asks[KEY_COUNT] = {
#define X(id, name, ask) [KEY_##id] = ask,
    KEYS(X)
#undef X
};

struct reader {
    const char *text;
    size_t len;
    size_t first_line;
    struct job_spec *spec;
    struct err *e;
};

static size_t line_of(const struct reader *r, const char *at)
{
    size_t line = r->first_line;
    for (const char *p = r->text; p < at; p++)
        line += *p == '\n';
    return line;
}

static int wrong(const struct reader *r, const char *name, struct json_span value,
                 const char *want)
{
    char shown[SOURCE_SHOWN];
    return err_set(r->e, ERR_INPUT, "%zu: %s = %s: want %s", line_of(r, value.at), name,
                   source_shown(shown, value.at, value.len), want);
}

/* A string's text, or NULL (`e` says so if memory is why). One that holds NUL is none.
 */
static char *text_of(struct json_span s, struct err *e)
{
    if (json_type(s) != '"')
        return NULL;
    size_t len;
    char *text = json_text(s, &len);
    if (text == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    if (strlen(text) == len)
        return text;
    free(text);
    return NULL;
}

/* Walks over what an object says besides some of its members. */
struct rest {
    const char *p, *end;
    const struct json_want *out;
    size_t n;
};

static bool between_members(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct rest rest_of(struct json_span object, const struct json_want *out,
                           size_t n)
{
    return (struct rest){object.at + 1, object.at + object.len - 1, out, n};
}

/* The next stretch of whole members and the commas between them. */
static bool rest_next(struct rest *r, struct json_span *ret)
{
    while (r->p < r->end) {
        const char *from = r->p, *to = r->end;
        r->p = r->end;
        for (size_t i = 0; i < r->n; i++) {
            const struct json_span *m = &r->out[i].member;
            if (m->at && m->at >= from && m->at < to) {
                to = m->at;
                r->p = m->at + m->len;
            }
        }
        while (from < to && between_members(*from))
            from++;
        while (to > from && between_members(to[-1]))
            to--;
        *ret = (struct json_span){from, (size_t)(to - from)};
        if (ret->len > 0)
            return true;
    }
    return false;
}

/* Tells of a member that nobody looked for. */
static int nothing_else(const struct reader *r, struct json_span object,
                        const struct json_want *known, size_t n, const char *where,
                        const char *want)
{
    struct rest rest = rest_of(object, known, n);
    struct json_span s;
    char shown[SOURCE_SHOWN];
    if (!rest_next(&rest, &s))
        return 0;
    const char *quote = memchr(s.at + 1, '"', s.len - 1);
    return err_set(r->e, ERR_INPUT, "%zu: unknown key %s %s; want %s", line_of(r, s.at),
                   source_shown(shown, s.at, (size_t)(quote + 1 - s.at)), where, want);
}

static int hint_tier(struct job_spec *s, struct json_span v, struct err *e)
{
    char *text = text_of(v, e);
    int rc = text ? source_word(&s->tier, text, e) : -1;
    free(text);
    return rc;
}

static int hint_priority(struct job_spec *s, struct json_span v, struct err *e)
{
    (void)e;
    long long n;
    if (json_int(v, &n) < 0 || n < -SOURCE_PRIORITY_MAX || n > SOURCE_PRIORITY_MAX)
        return -1;
    s->priority = n;
    return 0;
}

/* The strings of an array, joined by commas; NULL if they are not all tags. */
static char *joined(struct json_span array, struct err *e)
{
    char *list = malloc(array.len), *to = list; /* their quotes alone make more room */
    if (list == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    struct json_span v;
    for (size_t pos = 0; json_next(array, &pos, NULL, &v);) {
        char *tag = text_of(v, e);
        if (tag == NULL || strchr(tag, ',')) {
            free(tag);
            free(list);
            return NULL;
        }
        if (to > list)
            *to++ = ',';
        to = stpcpy(to, tag);
        free(tag);
    }
    *to = '\0';
    return list;
}

static bool is_empty_array(struct json_span s)
{
    size_t i = 1;
    while (i < s.len && between_members(s.at[i]))
        i++;
    return json_type(s) == '[' && i + 1 == s.len;
}

static int hint_tags(struct job_spec *s, struct json_span v, struct err *e)
{
    if (is_empty_array(v))
        return 0;
    char *text = json_type(v) == '[' ? joined(v, e) : text_of(v, e);
    int rc = text ? source_tags(&s->tags, text, e) : -1;
    free(text);
    return rc;
}

/* A number or a text: either way the very digits that stand there. */
static int hint_max_cost(struct job_spec *s, struct json_span v, struct err *e)
{
    char digits[40];
    const char *at = v.at;
    size_t len = v.len;
    (void)e;
    if (json_type(v) == '"' && len >= 2) {
        at++;
        len -= 2;
    }
    if (len >= sizeof digits)
        return -1;
    memcpy(digits, at, len);
    digits[len] = '\0';
    return catalog_dollars(digits, &s->max_cost) == 0 && s->max_cost > 0 ? 0 : -1;
}

static int hint_cache(struct job_spec *s, struct json_span v, struct err *e)
{
    (void)e;
    s->asks |= json_is(v, "off") ? ASKS_NO_CACHE : 0;
    return json_is(v, "off") || json_is(v, "auto") ? 0 : -1;
}

/* One text, or several that must all pass. */
static int hint_check(struct job_spec *s, struct json_span v, struct err *e)
{
    struct json_span one;
    if (json_type(v) != '[')
        return (s->check = text_of(v, e)) && *s->check ? 0 : -1;
    for (size_t pos = 0; json_next(v, &pos, NULL, &one);) {
        char *text = text_of(one, e), *all = NULL;
        bool ok = text && *text &&
                  asprintf(&all, "%s%s%s", s->check ? s->check : "",
                           s->check ? " && " : "", text) >= 0;
        free(text);
        if (!ok)
            return -1;
        free(s->check);
        s->check = all;
    }
    return 0;
}

static int hint_route(struct job_spec *s, struct json_span v, struct err *e)
{
    char *text = text_of(v, e);
    int rc = text ? source_word(&s->route, text, e) : -1;
    free(text);
    return rc;
}

static int read_hints(const struct reader *r, struct json_span object)
{
    static const struct {
        const char *key, *name;
        int (*set)(struct job_spec *s, struct json_span value, struct err *e);
        const char *wants;
    } hints[] = {
        {"tier", "nightmill.tier", hint_tier, "a tier's name, such as \"cheap\""},
        {"priority", "nightmill.priority", hint_priority,
         "a whole number from -1000000 to 1000000"},
        {"tags", "nightmill.tags", hint_tags, "up to 32 words"},
        {"max_cost", "nightmill.max_cost", hint_max_cost, "dollars, such as 0.25"},
        {"cache", "nightmill.cache", hint_cache, "\"auto\" or \"off\""},
        {"check", "nightmill.check", hint_check, "a text such as \"json\", or some"},
        {"route", "nightmill.route", hint_route, "\"tier\", \"cascade\" or \"learn\""},
    };
    enum { HINTS = sizeof hints / sizeof hints[0] };

    if (json_type(object) != '{')
        return wrong(r, "nightmill", object, "an object");
    struct json_want want[HINTS];
    for (size_t i = 0; i < HINTS; i++)
        want[i] = (struct json_want){.key = hints[i].key};
    struct json_fault f;
    if (json_members(object, want, HINTS, &f) < 0)
        return err_set(r->e, ERR_INPUT, "%zu: %s in nightmill",
                       line_of(r, object.at + f.offset), f.what);
    if (nothing_else(r, object, want, HINTS, "in nightmill",
                     "tier, priority, tags, max_cost, cache, check or route") < 0)
        return -1;
    for (size_t i = 0; i < HINTS; i++)
        if (want[i].value.at && hints[i].set(r->spec, want[i].value, r->e) < 0)
            return wrong(r, hints[i].name, want[i].value, hints[i].wants);
    return 0;
}

static bool is_control(const char *p)
{
    unsigned char c = (unsigned char)p[0];
    return c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)p[1] < 0xa0);
}

static int read_custom_id(const struct reader *r, struct json_span v)
{
    static const char want[] = "1 to 200 bytes of text without control characters";
    char *id = text_of(v, r->e);
    bool ok = id && *id && strlen(id) <= SOURCE_NAME_MAX;
    for (const char *p = id; ok && *p; p++)
        ok = !is_control(p);
    if (ok) {
        r->spec->custom_id = id;
        return 0;
    }
    free(id);
    return wrong(r, "custom_id", v, want);
}

static int read_model(const struct reader *r, struct json_span v)
{
    char *model = text_of(v, r->e);
    int rc = model ? source_word(&r->spec->model, model, r->e) : -1;
    free(model);
    return rc < 0 ? wrong(r, "model", v, "a model's name, a tier's name, or \"auto\"")
                  : 0;
}

static int read_max_tokens(const struct reader *r, struct json_span v)
{
    long long n;
    if (json_int(v, &n) < 0 || n <= 0)
        return wrong(r, "max_tokens", v, "a whole number above 0");
    if (n > SOURCE_TOKENS_MAX)
        return wrong(r, "max_tokens", v, "a number that a model could reach");
    r->spec->max_tokens = n;
    return 0;
}

static int read_stream(const struct reader *r, struct json_span v)
{
    char type = json_type(v);
    if (type != 't' && type != 'f')
        return wrong(r, "stream", v, "true or false");
    r->spec->asks |= type == 't' ? ASKS_STREAM : 0;
    return 0;
}

static int read_messages(const struct reader *r, struct json_span v)
{
    if (json_type(v) != '[' || is_empty_array(v))
        return wrong(r, "messages", v, "an array with at least one message");
    return 0;
}

static const struct {
    int key;
    int (*read)(const struct reader *r, struct json_span value);
} readers[] = {
    {KEY_NIGHTMILL, read_hints},       {KEY_MODEL, read_model},
    {KEY_STREAM, read_stream},         {KEY_MESSAGES, read_messages},
    {KEY_MAX_TOKENS, read_max_tokens},
};

/*
 * What makes a request's input larger than its bytes. In JSON that was found valid an
 * unescaped `"type"` before a colon is a member's name wherever it stands.
 */
static unsigned input_asks(struct json_span s)
{
    static const struct {
        const char *value;
        unsigned asks;
    } kinds[] = {{"\"url\"", ASKS_UNBOUNDED},
                 {"\"file\"", ASKS_UNBOUNDED},
                 {"\"document\"", ASKS_UNBOUNDED},
                 {"\"container_upload\"", ASKS_UNBOUNDED},
                 {"\"image\"", ASKS_IMAGES}};
    static const char member[] = "\"type\"";
    unsigned found = 0, images = 0;
    const char *p = s.at, *end = s.at + s.len;
    while (p && (p = memmem(p, (size_t)(end - p), member, sizeof member - 1)) != NULL) {
        p += sizeof member - 1;
        while (p < end && between_members(*p))
            p++;
        if (p == end || *p != ':')
            continue;
        for (p++; p < end && between_members(*p);)
            p++;
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            size_t n = strlen(kinds[i].value);
            if ((size_t)(end - p) < n || memcmp(p, kinds[i].value, n) != 0)
                continue;
            if (kinds[i].asks == ASKS_IMAGES)
                images += images < ASKS_IMAGES_MAX;
            else
                found |= kinds[i].asks;
        }
    }
    return found | images * ASKS_IMAGES;
}

/* A tool that the server runs reads what we never see. */
static bool has_server_tools(struct json_span tools)
{
    struct json_span tool;
    for (size_t pos = 0;
         json_type(tools) == '[' && json_next(tools, &pos, NULL, &tool);) {
        struct json_span type = json_get(tool, "type");
        if (type.at && !json_is(type, "custom"))
            return true;
    }
    return false;
}

static int cut_body(const struct reader *r, struct json_span object,
                    const struct json_want *want)
{
    char *body = malloc(object.len), *to = body;
    if (body == NULL)
        return err_set(r->e, ERR_NOMEM, "out of memory");
    struct rest rest = rest_of(object, want, KEYS_TAKEN_OUT);
    struct json_span s;
    while (rest_next(&rest, &s)) {
        if (to > body)
            *to++ = ',';
        memcpy(to, s.at, s.len);
        to += s.len;
    }
    *to = '\0';
    r->spec->body = body;
    r->spec->body_len = (size_t)(to - body);
    return 0;
}

/* `object` holds the Messages body; `want` says where its members lie. */
static int read_body(const struct reader *r, struct json_span object,
                     const struct json_want *want)
{
    if (want[KEY_MESSAGES].value.at == NULL)
        return err_set(r->e, ERR_INPUT, "%zu: no messages; want an array of them",
                       line_of(r, object.at));
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        struct json_span v = want[readers[i].key].value;
        if (v.at && readers[i].read(r, v) < 0)
            return -1;
    }
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (want[i].value.at)
            r->spec->asks |= asks[i];
    if (json_get(want[KEY_OUTPUT_CONFIG].value, "effort").at)
        r->spec->asks |= ASKS_EFFORT;
    r->spec->asks |= input_asks(want[KEY_MESSAGES].value);
    if (has_server_tools(want[KEY_TOOLS].value))
        r->spec->asks |= ASKS_UNBOUNDED;
    return cut_body(r, object, want);
}

static int read_wrapped(const struct reader *r, struct json_span whole,
                        const struct json_want *outer)
{
    const struct json_want known[] = {outer[KEY_CUSTOM_ID], outer[KEY_PARAMS],
                                      outer[KEY_NIGHTMILL]};
    if (nothing_else(r, whole, known, sizeof known / sizeof known[0], "beside params",
                     "custom_id, params or nightmill") < 0)
        return -1;

    struct json_span params = outer[KEY_PARAMS].value,
                     hints = outer[KEY_NIGHTMILL].value;
    if (json_type(params) != '{')
        return wrong(r, "params", params, "an object");
    struct json_want want[KEY_COUNT];
    struct json_fault f;
    memcpy(want, wants, sizeof want);
    if (json_members(params, want, KEY_COUNT, &f) < 0)
        return err_set(r->e, ERR_INPUT, "%zu: %s in params",
                       line_of(r, params.at + f.offset), f.what);
    if (hints.at && want[KEY_NIGHTMILL].value.at)
        return err_set(r->e, ERR_INPUT,
                       "%zu: nightmill beside params and in it; want one",
                       line_of(r, hints.at));
    if (hints.at && read_hints(r, hints) < 0)
        return -1;
    return read_body(r, params, want);
}

static int read_line(const struct reader *r)
{
    if (r->len > SOURCE_LINE_MAX)
        return err_set(r->e, ERR_INPUT, "%zu: a request of %zu bytes; want at most %d",
                       r->first_line, r->len, SOURCE_LINE_MAX);

    struct json_want want[KEY_COUNT];
    struct json_fault f;
    memcpy(want, wants, sizeof want);
    int rc = json_scan(r->text, r->len, want, KEY_COUNT, &f);

    /* First the name, so that a line that ends in the middle can still be told by it.
     */
    if (want[KEY_CUSTOM_ID].value.at &&
        read_custom_id(r, want[KEY_CUSTOM_ID].value) < 0)
        return -1;
    if (rc < 0)
        return err_set(r->e, ERR_INPUT,
                       "%zu: not JSON at column %zu: %s; want one object",
                       r->first_line + f.line - 1, f.column, f.what);

    const char *from = memchr(r->text, '{', r->len),
               *to = memrchr(r->text, '}', r->len);
    struct json_span whole = {from, (size_t)(to + 1 - from)};
    if (want[KEY_PARAMS].value.at)
        return read_wrapped(r, whole, want);
    if (want[KEY_MESSAGES].value.at == NULL)
        return err_set(r->e, ERR_INPUT,
                       "%zu: neither messages nor params; want a Messages body or "
                       "{\"custom_id\": ..., \"params\": {...}}",
                       r->first_line);
    if (want[KEY_CUSTOM_ID].value.at)
        return err_set(r->e, ERR_INPUT,
                       "%zu: custom_id beside messages; want "
                       "{\"custom_id\": ..., \"params\": {\"messages\": ...}}",
                       line_of(r, want[KEY_CUSTOM_ID].member.at));
    return read_body(r, whole, want);
}

int source_json_parse(const char *text, size_t len, size_t first_line,
                      struct job_spec *ret, struct err *e)
{
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        len -= 3;
    }
    struct reader r = {text, len, first_line, ret, e};
    if (read_line(&r) == 0)
        return 0;

    char *custom_id = ret->custom_id;
    ret->custom_id = NULL;
    job_spec_free(ret);
    ret->custom_id = custom_id;
    return -1;
}
