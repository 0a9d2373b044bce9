/*
 * Reads the facts out of an answer once, then takes the first row that fits them. A new
 * message of the API is a new row and a new case folder; the code around the rows
 * should not have to change.
 */
#include "runner/verdict.h"

#include "jobs/jsonscan.h"
#include "runner/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MESSAGE_MAX = 2048, /* of an error's message no more is looked at */
    DAY_MS = 24 * 60 * 60 * 1000,
};
#define TOKENS_MAX INT64_C(1000000000000) /* a larger count is no count */
#define AHEAD_MAX (INT64_C(400) * DAY_MS) /* a moment further off is no moment */

const char *verdict_name(enum verdict v)
{
    static const char *const names[] = {
#define X(verdict, name, whose) [VERDICT_##verdict] = name,
        VERDICTS(X)
#undef X
    };
    return names[v];
}

enum verdict_whose verdict_whose(enum verdict v)
{
    static const enum verdict_whose whose_is[] = {
#define X(verdict, name, whose) [VERDICT_##verdict] = WHOSE_##whose,
        VERDICTS(X)
#undef X
    };
    return whose_is[v];
}

bool verdict_counts(enum verdict v)
{
    return verdict_whose(v) == WHOSE_JOB;
}

/* ---- the rows ---- */

enum sign {
    ENVELOPE = 1 << 0,   /* the body is an error as the API writes them */
    HTML = 1 << 1,       /* the body is a page: somebody in between spoke */
    LIMITS = 1 << 2,     /* rate-limit headers */
    HINT = 1 << 3,       /* it says how long to wait */
    PLAN = 1 << 4,       /* a plan's limits, and they are used up */
    RETRY = 1 << 5,      /* x-should-retry: true */
    NO_RETRY = 1 << 6,   /* x-should-retry: false */
    JOBS_MODEL = 1 << 7, /* the job named the model */
    TIERS_MODEL = 1 << 8 /* the configuration did */
};

/* Where `until` comes from when the message names no date itself. */
enum until {
    UNTIL_NAMED,
    UNTIL_MONTH,  /* the 1st of the next month, 00:00 UTC */
    UNTIL_MINUTE, /* the next minute's beginning */
    UNTIL_PLAN,   /* the plan's reset header, else the hint */
    UNTIL_RESET,  /* without a hint: the first empty bucket to be full again */
};

struct row {
    short from, to;          /* status */
    const char *type, *code; /* of the error; NULL: any */
    const char *words;       /* in its message, in any case; NULL: any */
    unsigned signs;          /* all of these */
    enum verdict then;
    enum rate_kind rate;
    enum until until;
    bool unknown;
};

#define ERRORS 400, 599
#define ONLY(status) (status), (status)

/* Words that a message may quote from the request come before those that halt an
 * account, so that a model named "credit balance is too low" halts nothing. */
static const struct row rows[] = {
    {ONLY(404), .type = "not_found_error", .words = "model:", .signs = JOBS_MODEL,
     .then = VERDICT_BAD_REQUEST},
    {ONLY(404), .type = "not_found_error", .words = "model:", .signs = TIERS_MODEL,
     .then = VERDICT_MODEL_DENIED},

    /* Caps that somebody set, with a date on which they open again. */
    {ERRORS, .code = "enforced_spend_limit_reached", .then = VERDICT_SPEND_LIMIT,
     .until = UNTIL_MONTH},
    {ERRORS, .code = "contract_spend_limit_reached", .then = VERDICT_SPEND_LIMIT},
    {ERRORS, .code = "linked_organization_spend_limit_reached",
     .then = VERDICT_SPEND_LIMIT},
    {ERRORS, .words = "reached your specified API usage limits",
     .then = VERDICT_SPEND_LIMIT},
    {ERRORS, .words = "reached your specified workspace API usage limits",
     .then = VERDICT_SPEND_LIMIT},
    {ERRORS, .words = "reached your API usage limits", .then = VERDICT_SPEND_LIMIT,
     .until = UNTIL_MONTH},
    {ERRORS, .words = "you will regain access on", .then = VERDICT_SPEND_LIMIT},
    {ERRORS, .words = "spend limit reached", .then = VERDICT_SPEND_LIMIT},
    {ERRORS, .words = "monthly spend limit", .then = VERDICT_SPEND_LIMIT},

    /* The money is gone. The API says so with a plain 400, its documents with a 402. */
    {ERRORS, .words = "credit balance is too low", .then = VERDICT_NO_CREDIT},
    {ERRORS, .words = "third-party apps now draw from your extra usage",
     .then = VERDICT_NO_CREDIT},
    {ERRORS, .words = "out of extra usage", .then = VERDICT_NO_CREDIT},
    {ERRORS, .code = "credits_required", .then = VERDICT_NO_CREDIT},
    {ERRORS, .type = "billing_error", .then = VERDICT_NO_CREDIT},
    {ONLY(402), .then = VERDICT_NO_CREDIT},

    /* The key, or who stands behind it. */
    {ERRORS, .words = "organization has been disabled", .then = VERDICT_KEY_REFUSED},
    {ERRORS, .code = "organization_on_hold", .then = VERDICT_KEY_REFUSED},
    {ERRORS, .type = "authentication_error", .then = VERDICT_KEY_REFUSED},
    {ONLY(401), .signs = HTML, .then = VERDICT_TRANSIENT, .unknown = true},
    {ONLY(401), .then = VERDICT_KEY_REFUSED},
    {ONLY(403), .words = "model", .signs = JOBS_MODEL, .then = VERDICT_BAD_REQUEST},
    {ONLY(403), .words = "model", .then = VERDICT_MODEL_DENIED},
    {ONLY(403), .words = "feature", .then = VERDICT_MODEL_DENIED},
    {ONLY(403), .words = " tier", .then = VERDICT_MODEL_DENIED},
    {ONLY(403), .signs = ENVELOPE, .then = VERDICT_KEY_REFUSED},

    /* Rates. What no waiting cures comes first. */
    {ERRORS, .words = "extra usage is required for long context",
     .then = VERDICT_BAD_REQUEST},
    {ERRORS, .words = "would exceed your account", .then = VERDICT_PLAN_LIMIT,
     .until = UNTIL_PLAN},
    {ONLY(429), .signs = PLAN, .then = VERDICT_PLAN_LIMIT, .until = UNTIL_PLAN},
    {ONLY(429), .words = "concurrent", .then = VERDICT_RATE_LIMITED, RATE_CONCURRENCY,
     .until = UNTIL_RESET},
    {ONLY(429), .words = "usage increase rate", .then = VERDICT_RATE_LIMITED,
     RATE_ACCELERATION, .until = UNTIL_MINUTE},
    {ONLY(429), .code = "ramp_limit_exceeded", .then = VERDICT_RATE_LIMITED,
     RATE_ACCELERATION, .until = UNTIL_MINUTE},
    {ONLY(429), .signs = NO_RETRY, .then = VERDICT_RATE_LIMITED, RATE_QUOTA,
     .until = UNTIL_RESET, .unknown = true},
    {ONLY(429), .signs = HINT, .then = VERDICT_RATE_LIMITED, RATE_QUOTA},
    {ONLY(429), .signs = LIMITS, .then = VERDICT_RATE_LIMITED, RATE_QUOTA,
     .until = UNTIL_RESET},
    {ONLY(429), .words = "rate limit of", .then = VERDICT_RATE_LIMITED, RATE_QUOTA},
    {ONLY(429), .words = "exceed the rate limit", .then = VERDICT_RATE_LIMITED,
     RATE_QUOTA},
    {ONLY(429), .words = "has exceeded your", .then = VERDICT_RATE_LIMITED, RATE_QUOTA},
    {ONLY(429), .type = "rate_limit_error", .then = VERDICT_RATE_LIMITED, RATE_EDGE},
    {ONLY(429), .signs = ENVELOPE, .then = VERDICT_RATE_LIMITED, RATE_EDGE,
     .unknown = true},
    {ONLY(429), .then = VERDICT_RATE_LIMITED, RATE_EDGE},

    /* The other side's trouble. */
    {ONLY(529), .then = VERDICT_OVERLOADED},
    {ERRORS, .type = "overloaded_error", .then = VERDICT_OVERLOADED},
    {500, 599, .words = "overloaded", .then = VERDICT_OVERLOADED},
    {500, 599, .signs = NO_RETRY, .then = VERDICT_BAD_REQUEST},
    {408, 409, .signs = NO_RETRY, .then = VERDICT_BAD_REQUEST},
    {408, 409, .then = VERDICT_TRANSIENT},
    {ONLY(500), .then = VERDICT_TRANSIENT},
    {502, 504, .then = VERDICT_TRANSIENT},
    {520, 527, .then = VERDICT_TRANSIENT},
    {500, 599, .then = VERDICT_TRANSIENT, .unknown = true},

    /* The request's own fault. Its size is refused at the edge, in any words. */
    {ONLY(413), .then = VERDICT_BAD_REQUEST},
    {ONLY(400), .type = "invalid_request_error", .then = VERDICT_BAD_REQUEST},
    {ONLY(404), .type = "not_found_error", .then = VERDICT_BAD_REQUEST},
    {ONLY(422), .signs = ENVELOPE, .then = VERDICT_BAD_REQUEST},
    {400, 499, .signs = RETRY, .then = VERDICT_TRANSIENT},
    {400, 499, .signs = ENVELOPE, .then = VERDICT_BAD_REQUEST, .unknown = true},
    {400, 499, .then = VERDICT_TRANSIENT, .unknown = true},

    {300, 399, .then = VERDICT_UNREACHABLE},
    {0, INT16_MAX, .then = VERDICT_TRANSIENT, .unknown = true},
};

/* An error in the middle of a stream has no status; its type stands for one. */
static const struct {
    const char *type;
    short status;
} statuses[] = {
    {"invalid_request_error", 400},
    {"authentication_error", 401},
    {"billing_error", 402},
    {"permission_error", 403},
    {"not_found_error", 404},
    {"conflict_error", 409},
    {"request_too_large", 413},
    {"rate_limit_error", 429},
    {"api_error", 500},
    {"timeout_error", 504},
    {"overloaded_error", 529},
};

static const struct {
    const char *reason;
    enum verdict then;
    const char *sentence;
} stops[] = {
    {"end_turn", VERDICT_ACCEPTED, ""},
    {"stop_sequence", VERDICT_ACCEPTED, ""},
    {"tool_use", VERDICT_ACCEPTED, ""},
    {"max_tokens", VERDICT_TRUNCATED,
     "the answer reached max_tokens and was cut there"},
    {"model_context_window_exceeded", VERDICT_TRUNCATED,
     "the answer filled the model's context window and was cut there"},
    {"pause_turn", VERDICT_TRUNCATED, "the model paused its turn before the end"},
    {"refusal", VERDICT_REFUSED, "the model refused"},
};

/* How a sending breaks once the body began to leave; before that nobody was reached. */
static const struct {
    enum verdict then;
    bool always; /* whether or not anything left */
    const char *sentence;
} breaks[BREAK_COUNT] = {
    [ANSWER_WHOLE] = {VERDICT_TRANSIENT, false, ""},
    [BREAK_RESOLVE] = {VERDICT_UNREACHABLE, true, "the host has no address"},
    [BREAK_CONNECT] = {VERDICT_UNREACHABLE, true, "the host does not take connections"},
    [BREAK_TLS] = {VERDICT_UNREACHABLE, true, "no secure connection to the host"},
    [BREAK_RESET] = {VERDICT_TRANSIENT, false, "the connection was closed too soon"},
    [BREAK_FIRST_BYTE] = {VERDICT_TRANSIENT, false, "no answer began in time"},
    [BREAK_IDLE] = {VERDICT_TRANSIENT, false, "the answer stopped coming"},
    [BREAK_TOO_LARGE] = {VERDICT_BAD_REQUEST, true,
                         "the answer is longer than the ceiling on every answer"},
    [BREAK_CUT] = {VERDICT_TRANSIENT, false, "the stream ended before the message did"},
    [BREAK_GARBLED] = {VERDICT_TRANSIENT, false, "the answer cannot be read"},
    [BREAK_OTHER] = {VERDICT_TRANSIENT, false, "the sending broke"},
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* ---- words from outside ---- */

/* Length of the well-formed UTF-8 sequence at `p`; 0: it is none. */
static size_t utf8_len(const unsigned char *p, size_t room)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.*): `room` bytes are there, and never none */
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if ((p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4 || n > room)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* Copies what fits, as text that is safe to print: control characters become blanks,
 * and no character is cut in its middle. */
static void copy_clean(char *to, size_t size, const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0;
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len(p + i, len - i);
        bool control = n == 1 ? p[i] < 0x20 || p[i] == 0x7f
                              : n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0;
        size_t put = control || n == 0 ? 1 : n;
        if (at + put >= size)
            break;
        if (n == 0)
            to[at] = '?';
        else if (control)
            to[at] = ' ';
        else
            memcpy(to + at, p + i, n);
        at += put;
        i += n ? n : 1;
    }
    while (at > 0 && to[at - 1] == ' ')
        at--;
    to[at] = '\0';
}

static bool is_key_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           c == '-' || c == '_';
}

/* A server that quotes the key back to us must not get it into a log. */
static void hide_keys(char *text)
{
    enum { SHORTEST_KEY = 16 };
    for (char *p = text; (p = strstr(p, "sk-")) != NULL;) {
        size_t n = 0;
        while (is_key_char(p[n]))
            n++;
        if (n >= SHORTEST_KEY && (p == text || !is_key_char(p[-1]))) {
            memset(p + 3, '*', 3);
            memmove(p + 6, p + n, strlen(p + n) + 1);
            n = 6;
        }
        p += n;
    }
}

static void copy_json(char *to, size_t size, struct json_span s)
{
    size_t len;
    char *text = json_text(s, &len);
    copy_clean(to, size, text ? text : "", text ? len : 0);
    free(text);
}

/* ---- the facts ---- */

enum member {
    M_TYPE,
    M_ERROR,
    M_REQUEST_ID,
    M_MESSAGE,
    M_DETAIL,
    M_MODEL,
    M_STOP_REASON,
    M_STOP_DETAILS,
    M_CONTENT,
    M_USAGE,
    MEMBERS
};

struct facts {
    const struct answer *a;
    const struct verdict_about *about;
    long status; /* as judged */
    unsigned signs;
    bool json; /* the body is an object, and `member` tells where its members lie */
    struct json_want member[MEMBERS];
    char message[MESSAGE_MAX];
};

static struct json_span member(const struct facts *f, enum member m)
{
    return f->json ? f->member[m].value : (struct json_span){0};
}

static void read_body(struct facts *f)
{
    static const char *const keys[MEMBERS] = {
        [M_TYPE] = "type",
        [M_ERROR] = "error",
        [M_REQUEST_ID] = "request_id",
        [M_MESSAGE] = "message",
        [M_DETAIL] = "detail",
        [M_MODEL] = "model",
        [M_STOP_REASON] = "stop_reason",
        [M_STOP_DETAILS] = "stop_details",
        [M_CONTENT] = "content",
        [M_USAGE] = "usage",
    };
    for (int i = 0; i < MEMBERS; i++)
        f->member[i] = (struct json_want){.key = keys[i]};
    f->json = f->a->body_len > 0 &&
              json_scan(f->a->body, f->a->body_len, f->member, MEMBERS, NULL) == 0;
}

static bool is_message(const struct facts *f)
{
    return json_is(member(f, M_TYPE), "message");
}

/* The API's own form, or one of those in which things in between speak. */
static void read_error(struct facts *f, struct judgement *ret)
{
    struct json_span error = member(f, M_ERROR), says = {0};
    if (is_message(f))
        return;
    if (json_type(error) == '{') {
        says = json_get(error, "message");
        copy_json(ret->type, sizeof ret->type, json_get(error, "type"));
        copy_json(ret->code, sizeof ret->code,
                  json_get(json_get(error, "details"), "error_code"));
        if (says.at || ret->type[0])
            f->signs |= ENVELOPE;
    } else if (json_type(error) == '"') {
        says = error;
    } else {
        says = member(f, json_type(member(f, M_MESSAGE)) == '"' ? M_MESSAGE : M_DETAIL);
    }
    copy_json(f->message, sizeof f->message, says);
    hide_keys(f->message);
}

static bool has_header_like(const struct answer *a, const char *beginning)
{
    size_t n = strlen(beginning);
    for (const char *line = a->headers; line && *line;) {
        if (strncmp(line, beginning, n) == 0)
            return true;
        line = strchrnul(line, '\n');
        line += *line == '\n';
    }
    return false;
}

static bool header_is(const struct answer *a, const char *name, const char *value)
{
    char buf[64];
    return answer_header(a, name, buf, sizeof buf) && strcasecmp(buf, value) == 0;
}

static bool is_page(const struct facts *f)
{
    char type[64];
    if (f->json)
        return false;
    size_t blank = strspn(f->a->body_len ? f->a->body : "", " \t\r\n");
    return (f->a->body_len && f->a->body[blank] == '<') ||
           (answer_header(f->a, "content-type", type, sizeof type) &&
            strncasecmp(type, "text/html", strlen("text/html")) == 0);
}

static void read_signs(struct facts *f, const struct judgement *j)
{
    const struct {
        bool there;
        enum sign sign;
    } signs[] = {
        {is_page(f), HTML},
        {has_header_like(f->a, "anthropic-ratelimit-"), LIMITS},
        {j->retry_ms > 0, HINT},
        {header_is(f->a, "anthropic-ratelimit-unified-status", "rejected"), PLAN},
        {header_is(f->a, "x-should-retry", "true"), RETRY},
        {header_is(f->a, "x-should-retry", "false"), NO_RETRY},
        {f->about->model_from_job, JOBS_MODEL},
        {f->about->model_is_tiers, TIERS_MODEL},
    };
    for (size_t i = 0; i < COUNT(signs); i++)
        if (signs[i].there)
            f->signs |= signs[i].sign;
}

static void read_request_id(const struct facts *f, struct judgement *ret)
{
    char value[sizeof ret->request_id];
    if (answer_header(f->a, "request-id", value, sizeof value))
        copy_clean(ret->request_id, sizeof ret->request_id, value, strlen(value));
    else
        copy_json(ret->request_id, sizeof ret->request_id, member(f, M_REQUEST_ID));
}

static bool tokens(struct json_span value, int64_t *ret)
{
    long long n;
    if (json_int(value, &n) < 0 || n < 0 || n > TOKENS_MAX)
        return false;
    *ret = n;
    return true;
}

static void read_usage(const struct facts *f, struct judgement *ret)
{
    enum { IN, OUT, READ, ALL, SPLIT };
    struct json_want w[] = {
        [IN] = {.key = "input_tokens"},
        [OUT] = {.key = "output_tokens"},
        [READ] = {.key = "cache_read_input_tokens"},
        [ALL] = {.key = "cache_creation_input_tokens"},
        [SPLIT] = {.key = "cache_creation"},
    };
    struct json_span usage = member(f, M_USAGE);
    struct usage *u = &ret->usage;
    int64_t all = 0;

    if (json_type(usage) != '{' ||
        json_members(usage, w, sizeof w / sizeof w[0], NULL) < 0)
        return;
    ret->has_usage = tokens(w[IN].value, &u->input);
    ret->has_usage |= tokens(w[OUT].value, &u->output);
    tokens(w[READ].value, &u->cache_read);
    tokens(w[ALL].value, &all);
    tokens(json_get(w[SPLIT].value, "ephemeral_5m_input_tokens"), &u->cache_write_5m);
    tokens(json_get(w[SPLIT].value, "ephemeral_1h_input_tokens"), &u->cache_write_1h);
    /* What is not split was written for the shorter time, which is the default. */
    if (all > u->cache_write_5m + u->cache_write_1h)
        u->cache_write_5m = all - u->cache_write_1h;
}

/* ---- moments ---- */

static int64_t if_ahead(const struct facts *f, int64_t at)
{
    int64_t now = f->about->wall_ms;
    return at > now && at - now < AHEAD_MAX ? at : 0;
}

static int64_t named_moment(const struct facts *f)
{
    static const char *const before[] = {"regain access on ", "resets "};
    for (size_t i = 0; i < COUNT(before); i++) {
        const char *at = strcasestr(f->message, before[i]);
        if (at)
            return if_ahead(f, answer_date(at + strlen(before[i])));
    }
    return 0;
}

static int64_t month_end(int64_t now)
{
    time_t seconds = (time_t)(now / 1000);
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL)
        return 0;
    tm = (struct tm){.tm_year = tm.tm_year, .tm_mon = tm.tm_mon + 1, .tm_mday = 1};
    return (int64_t)timegm(&tm) * 1000;
}

static int64_t plan_reset(const struct facts *f, int64_t retry_ms)
{
    char value[32];
    if (answer_header(f->a, "anthropic-ratelimit-unified-reset", value, sizeof value)) {
        char *end;
        long long seconds = strtoll(value, &end, 10);
        int64_t at = *end == '\0' && seconds > 0 && seconds < TOKENS_MAX
                         ? if_ahead(f, seconds * 1000)
                         : if_ahead(f, answer_date(value));
        if (at)
            return at;
    }
    return retry_ms > 0 ? f->about->wall_ms + retry_ms : 0;
}

static int64_t bucket_reset(const struct facts *f)
{
    static const char *const buckets[] = {"requests", "input-tokens", "output-tokens",
                                          "tokens"};
    int64_t first = 0;
    for (size_t i = 0; i < COUNT(buckets); i++) {
        char name[64], value[64];
        snprintf(name, sizeof name, "anthropic-ratelimit-%s-remaining", buckets[i]);
        if (!header_is(f->a, name, "0"))
            continue;
        snprintf(name, sizeof name, "anthropic-ratelimit-%s-reset", buckets[i]);
        if (!answer_header(f->a, name, value, sizeof value))
            continue;
        int64_t at = if_ahead(f, answer_date(value));
        if (at && (first == 0 || at < first))
            first = at;
    }
    return first;
}

static int64_t until(const struct facts *f, enum until from, int64_t retry_ms)
{
    int64_t named = named_moment(f), now = f->about->wall_ms;
    if (named)
        return named;
    switch (from) {
    case UNTIL_NAMED:
        return 0;
    case UNTIL_MONTH:
        return month_end(now);
    case UNTIL_MINUTE:
        return now - now % 60000 + 60000;
    case UNTIL_PLAN:
        return plan_reset(f, retry_ms);
    case UNTIL_RESET:
        return retry_ms > 0 ? 0 : bucket_reset(f);
    }
    return 0;
}

/* ---- the judging ---- */

static void say(struct judgement *ret, const char *sentence)
{
    copy_clean(ret->sentence, sizeof ret->sentence, sentence, strlen(sentence));
}

/* Where the API has no sentence for us. */
static const char *body_is(const struct facts *f)
{
    return f->a->body_len == 0  ? "an empty body"
           : f->json            ? "JSON of another shape"
           : f->signs & HTML    ? "a web page"
           : *f->a->body == '{' ? "JSON that is not whole"
                                : "something that is no JSON";
}

static void say_status(const struct facts *f, struct judgement *ret)
{
    const char *with = ret->type[0] ? ret->type : body_is(f);
    snprintf(ret->sentence, sizeof ret->sentence, "HTTP %ld with %s", f->a->status,
             with);
}

static bool fits(const struct row *r, const struct facts *f, const struct judgement *j)
{
    return f->status >= r->from && f->status <= r->to && (r->signs & ~f->signs) == 0 &&
           (r->type == NULL || strcmp(r->type, j->type) == 0) &&
           (r->code == NULL || strcmp(r->code, j->code) == 0) &&
           (r->words == NULL || strcasestr(f->message, r->words));
}

static void judge_error(const struct facts *f, struct judgement *ret)
{
    const struct row *r = rows;
    while (r < rows + COUNT(rows) - 1 && !fits(r, f, ret))
        r++;

    ret->verdict = r->then;
    ret->rate = r->rate;
    ret->known = !r->unknown;
    ret->until = until(f, r->until, ret->retry_ms);
    if (f->status / 100 == 3)
        snprintf(
            ret->sentence, sizeof ret->sentence,
            "HTTP %ld: the endpoint points elsewhere, and redirects are not followed",
            f->status);
    else if (f->message[0])
        say(ret, f->message);
    else
        say_status(f, ret);
}

/* Does a text hold anything but blanks? Looks at the JSON as it is written. */
static bool has_ink(struct json_span text)
{
    for (size_t i = 1; json_type(text) == '"' && i + 1 < text.len; i++) {
        if (text.at[i] == '\\' && strchr("nrtfb", text.at[i + 1]))
            i++;
        else if (text.at[i] != ' ')
            return true;
    }
    return false;
}

/* Text, a tool's input, whatever kinds are yet to come; but not thoughts. */
static bool is_of_use(struct json_span block)
{
    struct json_span type = json_get(block, "type");
    if (json_is(type, "thinking") || json_is(type, "redacted_thinking"))
        return false;
    return !json_is(type, "text") || has_ink(json_get(block, "text"));
}

/* Is there a block that a person or a program can use? Mostly it is the first, and its
 * end is of no interest: looking for it would read a long answer once more. */
static bool has_answer(struct json_span content)
{
    struct json_span block = {content.at + 1, content.len - 1};
    size_t pos = 0;
    if (json_type(block) == '{' && is_of_use(block))
        return true;
    while (json_next(content, &pos, NULL, &block))
        if (is_of_use(block))
            return true;
    return false;
}

static void explain_refusal(const struct facts *f, struct judgement *ret)
{
    char category[64], why[sizeof ret->sentence];
    struct json_span details = member(f, M_STOP_DETAILS);
    copy_json(category, sizeof category, json_get(details, "category"));
    copy_json(why, sizeof why, json_get(details, "explanation"));

    char all[sizeof category + sizeof why + 32];
    snprintf(all, sizeof all, "the model refused%s%s%s%s%s", category[0] ? " (" : "",
             category, category[0] ? ")" : "", why[0] ? ": " : "", why);
    say(ret, all);
}

static void judge_message(const struct facts *f, struct judgement *ret)
{
    struct json_span content = member(f, M_CONTENT);
    if (json_type(content) != '[' || ret->type[0] == '\0') {
        ret->verdict = VERDICT_TRANSIENT;
        ret->known = false;
        say(ret, "a message without content or stop reason");
        return;
    }
    ret->verdict = VERDICT_TRUNCATED;
    ret->known = false;
    snprintf(ret->sentence, sizeof ret->sentence,
             "the model stopped for a new reason: %s", ret->type);
    for (size_t i = 0; i < COUNT(stops); i++)
        if (strcmp(ret->type, stops[i].reason) == 0) {
            ret->verdict = stops[i].then;
            ret->known = true;
            say(ret, stops[i].sentence);
        }
    if (ret->verdict == VERDICT_REFUSED)
        explain_refusal(f, ret);
    if (ret->verdict == VERDICT_ACCEPTED && !has_answer(content)) {
        ret->verdict = VERDICT_REFUSED;
        say(ret, "the model ended its turn without an answer");
    }
}

static void judge_break(const struct facts *f, struct judgement *ret)
{
    const struct answer *a = f->a;
    bool reached = a->left || a->status != 0 || breaks[a->broke].always;
    ret->verdict = reached ? breaks[a->broke].then : VERDICT_UNREACHABLE;
    ret->known = a->broke != BREAK_OTHER;
    ret->bare_reset = ret->verdict == VERDICT_TRANSIENT && a->left && a->status == 0;

    char why[sizeof ret->sentence];
    bool told = a->why && a->why[0];
    const char *text = told ? a->why : breaks[a->broke].sentence;
    copy_clean(why, sizeof why, text, strlen(text));
    hide_keys(why);
    say(ret, why);
}

static long status_of_type(const char *type)
{
    enum { NO_TYPE_WE_KNOW = 599 };
    for (size_t i = 0; i < COUNT(statuses); i++)
        if (strcmp(type, statuses[i].type) == 0)
            return statuses[i].status;
    return NO_TYPE_WE_KNOW;
}

void verdict_judge(const struct answer *a, const struct verdict_about *about,
                   struct judgement *ret)
{
    struct facts f = {.a = a, .about = about, .status = a->status};

    *ret = (struct judgement){.known = true};
    ret->retry_ms = answer_retry_ms(a, about->wall_ms);
    read_body(&f);
    read_error(&f, ret);
    read_signs(&f, ret);
    read_request_id(&f, ret);
    if (is_message(&f)) {
        copy_json(ret->type, sizeof ret->type, member(&f, M_STOP_REASON));
        copy_json(ret->model, sizeof ret->model, member(&f, M_MODEL));
        read_usage(&f, ret);
    }

    /* A server may refuse and hang up while we still send; its status is its word. */
    if (a->broke != ANSWER_WHOLE && a->status < 400) {
        judge_break(&f, ret);
        return;
    }
    if (a->status == 200 && is_message(&f)) {
        judge_message(&f, ret);
        return;
    }
    if (a->status == 200 && f.signs & ENVELOPE)
        f.status = status_of_type(ret->type);
    judge_error(&f, ret);
}
