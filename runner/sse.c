/*
 * Bytes become lines, lines events, events parts of a message. Nothing is parsed into a
 * tree and printed again: strings are joined as they are written, between their quotes,
 * and objects are cut and joined by their members. So every number and every escape is
 * in the message as the API wrote it, and a long answer costs one copy of its bytes.
 */
#include "runner/sse.h"

#include "jobs/jsonscan.h"
#include "runner/err.h"

#include <stdlib.h>
#include <string.h>

enum {
    EVENT_MAX = 64,    /* a longer event name is none that we know */
    BLOCK_COST = 256,  /* what a block holds beyond its bytes */
    MEMBERS_MAX = 100, /* of a message or its usage; more are refused */
};

struct bytes {
    char *at;
    size_t len, room;
};

/* Kinds of delta: which member of the delta is appended to which member of its block.
 */
#define PARTS(X)                                                      \
    X(TEXT, "text_delta", "text", "text", STRING)                     \
    X(THINKING, "thinking_delta", "thinking", "thinking", STRING)     \
    X(SIGNATURE, "signature_delta", "signature", "signature", STRING) \
    X(COMPACTION, "compaction_delta", "content", "content", STRING)   \
    X(INPUT, "input_json_delta", "partial_json", "input", INPUT)      \
    X(CITATIONS, "citations_delta", "citation", "citations", LIST)

enum part {
#define X(part, delta, from, to, how) PART_##part,
    PARTS(X)
#undef X
        PART_COUNT
};

enum how {
    JOIN_STRING, /* strings into one string */
    JOIN_INPUT,  /* strings into the JSON that they spell */
    JOIN_LIST    /* values into a list */
};

static const struct {
    const char *delta, *from, *to;
    enum how how;
} parts[] = {
#define X(part, delta, from, to, how) {delta, from, to, JOIN_##how},
    PARTS(X)
#undef X
};

struct block {
    long long index;
    bool stopped;
    struct bytes text; /* as it started; once it stopped: the whole block */
    struct bytes part[PART_COUNT];
};

struct sse {
    size_t max, held;
    struct err cause; /* set: it has failed */
    bool too_large;
    bool opened;       /* a line that only an event stream has came */
    bool after_return; /* a line ended in CR; an LF would belong to it */
    bool whole;
    struct bytes line, data;
    char event[EVENT_MAX];
    char *error;
    struct bytes message; /* an object, all but its content; empty before it begins */
    struct block *blocks;
    size_t count, room;
};

/* ---- bytes, with a ceiling ---- */

static int put(struct bytes *b, const char *p, size_t n)
{
    if (n > b->room - b->len) {
        size_t room = b->room ? b->room : 64;
        while (room - b->len < n)
            room *= 2;
        char *at = realloc(b->at, room);
        if (at == NULL)
            return -1;
        b->at = at;
        b->room = room;
    }
    if (n)
        memcpy(b->at + b->len, p, n);
    b->len += n;
    return 0;
}

static int put_text(struct bytes *b, const char *text)
{
    return put(b, text, strlen(text));
}

static int put_span(struct bytes *b, struct json_span s)
{
    return put(b, s.at, s.len);
}

static void bytes_free(struct bytes *b)
{
    free(b->at);
    *b = (struct bytes){0};
}

static struct json_span span_of(const struct bytes *b)
{
    return (struct json_span){b->at, b->len};
}

/* Valid JSON on one line, for files of lines: inside its strings there are no control
 * characters, outside they are white space. */
static void flatten(char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)at[i] < 0x20)
            at[i] = ' ';
}

static int no_memory(struct sse *s)
{
    return err_set(&s->cause, ERR_NOMEM, "out of memory within an answer");
}

static int garbled(struct sse *s, const char *what)
{
    return err_set(&s->cause, ERR_INPUT, "the stream cannot be read: %s", what);
}

static int too_large(struct sse *s)
{
    s->too_large = true;
    return err_set(&s->cause, ERR_INPUT, "the answer is longer than %zu bytes", s->max);
}

/* `held` counts what stays until the end; a line and an event are bounded each by
 * itself. */
static int hold(struct sse *s, size_t n)
{
    if (n > s->max - s->held)
        return too_large(s);
    s->held += n;
    return 0;
}

static int put_bounded(struct sse *s, struct bytes *b, const char *p, size_t n)
{
    if (b->len > s->max || n > s->max - b->len)
        return too_large(s);
    return put(b, p, n) < 0 ? no_memory(s) : 0;
}

/* ---- objects, member by member ---- */

static int put_key(struct bytes *to, struct json_span key)
{
    bool first = to->len == 0 || to->at[to->len - 1] == '{';
    return (!first && put_text(to, ",") < 0) || put_span(to, key) < 0 ||
                   put_text(to, ":") < 0
               ? -1
               : 0;
}

static int put_member(struct bytes *to, struct json_span key, struct json_span value)
{
    return put_key(to, key) < 0 ? -1 : put_span(to, value);
}

static struct json_span find(struct json_span object, struct json_span key)
{
    struct json_span k, v;
    size_t pos = 0;
    while (json_next(object, &pos, &k, &v))
        if (k.len == key.len && memcmp(k.at, key.at, k.len) == 0)
            return v;
    return (struct json_span){0};
}

static size_t members(struct json_span object)
{
    struct json_span v;
    size_t pos = 0, n = 0;
    while (n <= MEMBERS_MAX && json_next(object, &pos, NULL, &v))
        n++;
    return n;
}

/* What `over` says, holds from now on; null takes nothing away. Each key once. */
static int put_overlaid(struct bytes *to, struct json_span base, struct json_span over)
{
    struct json_span key, value;
    int rc = put_text(to, "{");
    for (size_t pos = 0; rc == 0 && json_next(base, &pos, &key, &value);) {
        struct json_span newer = find(over, key);
        if (find(base, key).at != value.at)
            continue;
        rc = put_member(to, key, json_type(newer) == 'n' ? value : newer);
    }
    for (size_t pos = 0; rc == 0 && json_next(over, &pos, &key, &value);)
        if (find(base, key).at == NULL && find(over, key).at == value.at)
            rc = put_member(to, key, value);
    return rc == 0 ? put_text(to, "}") : -1;
}

/* ---- blocks ---- */

static void block_free(struct block *b)
{
    for (int i = 0; i < PART_COUNT; i++)
        bytes_free(&b->part[i]);
    bytes_free(&b->text);
}

/* A tool's input that never became JSON is kept in the way the API's documents keep it.
 */
static int put_input(struct bytes *to, const struct bytes *part)
{
    struct bytes quoted = {0};
    char *input = NULL;
    size_t len;
    int rc = -1;
    if (put_text(&quoted, "\"") == 0 && put_span(&quoted, span_of(part)) == 0 &&
        put_text(&quoted, "\"") == 0)
        input = json_text(span_of(&quoted), &len);
    if (input && json_valid(input, len, NULL) == 0) {
        flatten(input, len);
        rc = put(to, input, len);
    } else if (input) {
        rc = put_text(to, "{\"INVALID_JSON\":") < 0 ||
                     put_span(to, span_of(&quoted)) < 0 || put_text(to, "}") < 0
                 ? -1
                 : 0;
    }
    free(input);
    bytes_free(&quoted);
    return rc;
}

/* What a string or list began with, without its quotes or brackets. */
static struct json_span inside(struct json_span value, char type)
{
    if (json_type(value) != type)
        return (struct json_span){0};
    return (struct json_span){value.at + 1, value.len - 2};
}

static int put_part(struct bytes *to, const struct block *b, enum part i)
{
    const struct bytes *part = &b->part[i];
    struct json_span begun = json_get(span_of(&b->text), parts[i].to), v;
    size_t pos = 0;
    switch (parts[i].how) {
    case JOIN_STRING:
        begun = inside(begun, '"');
        return put_text(to, "\"") < 0 || put_span(to, begun) < 0 ||
                       put_span(to, span_of(part)) < 0 || put_text(to, "\"") < 0
                   ? -1
                   : 0;
    case JOIN_INPUT:
        return put_input(to, part);
    case JOIN_LIST:
        begun = json_next(begun, &pos, NULL, &v) ? inside(begun, '[')
                                                 : (struct json_span){0};
        return put_text(to, "[") < 0 || put_span(to, begun) < 0 ||
                       (begun.len && put_text(to, ",") < 0) ||
                       put_span(to, span_of(part)) < 0 || put_text(to, "]") < 0
                   ? -1
                   : 0;
    }
    return -1;
}

static bool has_part(const struct block *b, struct json_span key)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (b->part[i].len && json_is(key, parts[i].to))
            return true;
    return false;
}

/* The block as it would have come unstreamed. */
static int put_block(struct bytes *to, const struct block *b)
{
    if (b->stopped)
        return put_span(to, span_of(&b->text));

    struct json_span key, value;
    int rc = put_text(to, "{");
    for (size_t pos = 0; rc == 0 && json_next(span_of(&b->text), &pos, &key, &value);)
        if (!has_part(b, key))
            rc = put_member(to, key, value);
    for (int i = 0; i < PART_COUNT && rc == 0; i++) {
        if (b->part[i].len == 0)
            continue;
        char name[32] = "\"";
        stpcpy(stpcpy(name + 1, parts[i].to), "\"");
        rc = put_key(to, (struct json_span){name, strlen(name)});
        if (rc == 0)
            rc = put_part(to, b, (enum part)i);
    }
    return rc == 0 ? put_text(to, "}") : -1;
}

/* ---- events ---- */

enum member { M_TYPE, M_INDEX, M_BLOCK, M_DELTA, M_MESSAGE, M_USAGE, MEMBERS };

struct event {
    struct json_span all;
    struct json_want member[MEMBERS];
};

static struct json_span member(const struct event *v, enum member m)
{
    return v->member[m].value;
}

static struct block *block_at(struct sse *s, const struct event *v)
{
    long long index;
    if (json_int(member(v, M_INDEX), &index) == 0)
        for (size_t i = s->count; i-- > 0;) /* the last is the open one */
            if (s->blocks[i].index == index)
                return &s->blocks[i];
    return NULL;
}

static int on_block_start(struct sse *s, const struct event *v)
{
    struct json_span started = member(v, M_BLOCK);
    struct block b = {0};
    if (json_int(member(v, M_INDEX), &b.index) < 0 || json_type(started) != '{')
        return garbled(s, "a block without index or content");
    if (block_at(s, v))
        return garbled(s, "a block that begins twice");
    if (hold(s, started.len + BLOCK_COST) < 0)
        return -1;
    if (s->count == s->room) {
        size_t room = s->room ? s->room * 2 : 4;
        struct block *blocks = realloc(s->blocks, room * sizeof *blocks);
        if (blocks == NULL)
            return no_memory(s);
        s->blocks = blocks;
        s->room = room;
    }
    if (put_span(&b.text, started) < 0)
        return no_memory(s);
    s->blocks[s->count++] = b;
    return 0;
}

static int on_block_delta(struct sse *s, const struct event *v)
{
    struct block *b = block_at(s, v);
    struct json_span delta = member(v, M_DELTA), kind = json_get(delta, "type");
    if (b == NULL || b->stopped)
        return garbled(s, "a piece of a block that is not open");
    if (json_type(kind) != '"')
        return garbled(s, "a piece of no kind");
    for (int i = 0; i < PART_COUNT; i++) {
        struct json_span piece = json_get(delta, parts[i].from);
        struct bytes *part = &b->part[i];
        bool is_list = parts[i].how == JOIN_LIST;
        if (!json_is(kind, parts[i].delta))
            continue;
        if (!is_list)
            piece = inside(piece, '"');
        if (piece.len == 0)
            continue;
        if (hold(s, piece.len + is_list) < 0)
            return -1;
        if ((is_list && part->len && put_text(part, ",") < 0) ||
            put_span(part, piece) < 0)
            return no_memory(s);
    }
    return 0;
}

static int on_block_stop(struct sse *s, const struct event *v)
{
    struct block *b = block_at(s, v);
    struct bytes whole = {0};
    if (b == NULL || b->stopped)
        return garbled(s, "the end of a block that is not open");
    if (put_block(&whole, b) < 0) {
        bytes_free(&whole);
        return no_memory(s);
    }
    block_free(b);
    b->text = whole;
    b->stopped = true;
    return 0;
}

static int on_message_start(struct sse *s, const struct event *v)
{
    struct json_span message = member(v, M_MESSAGE);
    if (json_type(message) != '{')
        return garbled(s, "a message that is none");
    if (s->message.len)
        return garbled(s, "a message that begins twice");
    if (members(message) > MEMBERS_MAX)
        return garbled(s, "a message of too many members");
    if (hold(s, message.len) < 0)
        return -1;
    return put_span(&s->message, message) < 0 ? no_memory(s) : 0;
}

/* What a message_delta says, in one object. Usage is cumulative there, and lays itself
 * over what the beginning told. */
static int put_news(struct bytes *to, struct json_span message, const struct event *v)
{
    static const struct json_span usage = {"\"usage\"", sizeof "\"usage\"" - 1};
    struct json_span key, value, known = json_get(message, "usage");
    int rc = put_text(to, "{");
    if (json_type(member(v, M_USAGE)) == '{') {
        struct bytes sum = {0};
        rc = rc || put_overlaid(&sum, known, member(v, M_USAGE)) < 0 ||
             put_member(to, usage, span_of(&sum)) < 0;
        bytes_free(&sum);
    }
    for (size_t pos = 0; !rc && json_next(member(v, M_DELTA), &pos, &key, &value);)
        rc = put_member(to, key, value);
    for (size_t pos = 0; !rc && json_next(v->all, &pos, &key, &value);)
        if (!json_is(key, "type") && !json_is(key, "usage") && !json_is(key, "delta"))
            rc = put_member(to, key, value);
    return rc || put_text(to, "}") < 0 ? -1 : 0;
}

static int on_message_delta(struct sse *s, const struct event *v)
{
    struct bytes news = {0}, whole = {0};
    struct json_span message = span_of(&s->message), usage = json_get(message, "usage");
    size_t most = members(message) + members(v->all) + members(member(v, M_DELTA)) +
                  members(member(v, M_USAGE)) + members(usage);
    if (most > MEMBERS_MAX)
        return garbled(s, "a message of too many members");
    if (hold(s, v->all.len + message.len) < 0)
        return -1;
    if (put_news(&news, message, v) < 0 ||
        put_overlaid(&whole, message, span_of(&news)) < 0) {
        bytes_free(&news);
        bytes_free(&whole);
        return no_memory(s);
    }
    bytes_free(&news);
    bytes_free(&s->message);
    s->message = whole;
    return 0;
}

static int on_message_stop(struct sse *s, const struct event *v)
{
    (void)v;
    s->whole = true;
    return 0;
}

static int on_error(struct sse *s, const struct event *v)
{
    s->error = strndup(v->all.at, v->all.len);
    return s->error ? 0 : no_memory(s);
}

static const struct {
    const char *name;
    int (*on)(struct sse *s, const struct event *v);
    bool first; /* may come before message_start */
} events[] = {
    {"content_block_delta", on_block_delta, false},
    {"content_block_start", on_block_start, false},
    {"content_block_stop", on_block_stop, false},
    {"message_delta", on_message_delta, false},
    {"message_start", on_message_start, true},
    {"message_stop", on_message_stop, false},
    {"error", on_error, true},
};

enum { EVENTS = sizeof events / sizeof *events };

static int take_event(struct sse *s)
{
    struct event v = {
        .member = {[M_TYPE] = {.key = "type"},
                   [M_INDEX] = {.key = "index"},
                   [M_BLOCK] = {.key = "content_block"},
                   [M_DELTA] = {.key = "delta"},
                   [M_MESSAGE] = {.key = "message"},
                   [M_USAGE] = {.key = "usage"}},
    };
    int i = 0;
    while (i < EVENTS && s->event[0] && strcmp(s->event, events[i].name) != 0)
        i++;
    if (i == EVENTS)
        return 0; /* a ping, or what is yet to be invented */
    if (json_scan(s->data.at, s->data.len, v.member, MEMBERS, NULL) < 0)
        return garbled(s, "an event that is no JSON object");
    while (i < EVENTS && !s->event[0] && !json_is(member(&v, M_TYPE), events[i].name))
        i++;
    if (i == EVENTS)
        return 0;
    if (!events[i].first && s->message.len == 0)
        return garbled(s, "an event before the message begins");

    flatten(s->data.at, s->data.len);
    v.all = span_of(&s->data);
    return events[i].on(s, &v);
}

/* ---- lines ---- */

static int field(struct sse *s, const char *name, const char *value, size_t len)
{
    s->opened = true;
    if (strcmp(name, "event") == 0) {
        if (len >= sizeof s->event)
            len = sizeof s->event - 1;
        memcpy(s->event, value, len);
        s->event[len] = '\0';
    } else if (strcmp(name, "data") == 0) {
        if (s->data.len && put_bounded(s, &s->data, "\n", 1) < 0)
            return -1;
        return put_bounded(s, &s->data, value, len);
    }
    return 0;
}

static int blank_line(struct sse *s)
{
    int rc = s->data.len ? take_event(s) : 0;
    s->data.len = 0;
    s->event[0] = '\0';
    return rc;
}

static int take_line(struct sse *s, const char *p, size_t len)
{
    static const char *const names[] = {"data", "event", "id", "retry"};
    static const char mark[] = "\xef\xbb\xbf";
    if (!s->opened && len >= strlen(mark) && memcmp(p, mark, strlen(mark)) == 0) {
        p += strlen(mark);
        len -= strlen(mark);
    }
    if (len == 0)
        return blank_line(s);
    const char *colon = memchr(p, ':', len);
    size_t n = colon ? (size_t)(colon - p) : len;
    size_t skip = colon ? n + 1 + (n + 1 < len && p[n + 1] == ' ') : len;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n && memcmp(names[i], p, n) == 0)
            return field(s, names[i], p + skip, len - skip);
    /* Comments and unknown fields are to be ignored; but what begins with an unknown
     * field is no event stream. */
    if (n == 0)
        s->opened = true;
    return s->opened ? 0 : garbled(s, "it is no event stream");
}

static size_t line_end(const char *p, size_t len)
{
    size_t n = 0;
    while (n < len && p[n] != '\n' && p[n] != '\r')
        n++;
    return n;
}

static int feed(struct sse *s, const char *p, size_t len)
{
    while (len > 0 && !s->whole && !s->error) {
        bool rest_of_end = s->after_return && *p == '\n';
        s->after_return = false;
        if (rest_of_end) {
            p++;
            len--;
            continue;
        }
        size_t n = line_end(p, len);
        if (put_bounded(s, &s->line, p, n) < 0)
            return -1;
        if (n == len)
            return 0;
        s->after_return = p[n] == '\r';
        if (take_line(s, s->line.at ? s->line.at : "", s->line.len) < 0)
            return -1;
        s->line.len = 0;
        p += n + 1;
        len -= n + 1;
    }
    return 0;
}

/* ---- the contract ---- */

struct sse *sse_new(size_t max_bytes)
{
    struct sse *s = calloc(1, sizeof *s);
    if (s)
        s->max = max_bytes;
    return s;
}

void sse_free(struct sse *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++)
        block_free(&s->blocks[i]);
    free(s->blocks);
    bytes_free(&s->line);
    bytes_free(&s->data);
    bytes_free(&s->message);
    free(s->error);
    free(s);
}

int sse_feed(struct sse *s, const char *bytes, size_t len, struct err *e)
{
    if (s->cause.code == ERR_NONE && feed(s, bytes, len) == 0)
        return 0;
    return err_set(e, s->cause.code, "%s", s->cause.text);
}

bool sse_began(const struct sse *s)
{
    return s->message.len > 0;
}

bool sse_whole(const struct sse *s)
{
    return s->whole;
}

bool sse_too_large(const struct sse *s)
{
    return s->too_large;
}

const char *sse_error(const struct sse *s)
{
    return s->error;
}

static int put_content(struct bytes *to, const struct sse *s)
{
    int rc = put_text(to, "[");
    for (size_t i = 0; i < s->count && rc == 0; i++)
        rc = (i > 0 && put_text(to, ",") < 0) || put_block(to, &s->blocks[i]) < 0 ? -1
                                                                                  : 0;
    return rc == 0 ? put_text(to, "]") : -1;
}

char *sse_message(const struct sse *s, size_t *len)
{
    static const struct json_span content = {"\"content\"", sizeof "\"content\"" - 1};
    struct json_span message = span_of(&s->message), key, value;
    struct bytes text = {0};
    if (message.len == 0)
        return NULL;

    int rc = put_text(&text, "{");
    for (size_t pos = 0; rc == 0 && json_next(message, &pos, &key, &value);)
        if (!json_is(key, "content"))
            rc = put_member(&text, key, value);
    if (rc < 0 || put_key(&text, content) < 0 || put_content(&text, s) < 0 ||
        put(&text, "}", sizeof "}") < 0) {
        bytes_free(&text);
        return NULL;
    }
    if (len)
        *len = text.len - 1;
    return text.at;
}
