#include "sim/front.h"

#include "sim/org.h"
#include "sim/problem.h"
#include "sim/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SENTENCE_MAX = 640 };

void front_init(struct front *f, const struct settings *s)
{
    *f = (struct front){.settings = s, .ids = words_mix((uint64_t)time(NULL))};
}

/* ---- ids, headers ---- */

void front_id(struct front *f, const char *prefix, char *id)
{
    static const char digits[] =
        "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    char *c = id + sprintf(id, "%s", prefix);
    for (int half = 0; half < 2; half++) {
        uint64_t x = words_mix(++f->ids);
        for (int i = 0; i < 10; i++, x /= 58)
            *c++ = digits[x % 58];
    }
    *c = '\0';
}

static const char *text_of(const char *s)
{
    return s ? s : "";
}

static void identity_headers(struct front *f, struct reply *r)
{
    reply_header(r, "anthropic-organization-id", "%s", text_of(f->settings->org_id));
    reply_header(r, "anthropic-workspace-id", "%s", text_of(f->settings->workspace_id));
}

/* A moment in RFC 3339; the same few seconds are asked for over and over. */
static const char *moment(struct front *f, int64_t in_ns)
{
    int64_t s = (int64_t)time(NULL) + (in_ns + NS_PER_S - 1) / NS_PER_S;
    size_t i = (size_t)s % (sizeof f->reset_s / sizeof f->reset_s[0]);
    if (f->reset_s[i] != s) {
        time_t t = (time_t)s;
        struct tm tm;
        strftime(f->reset_text[i], sizeof f->reset_text[i], "%Y-%m-%dT%H:%M:%SZ",
                 gmtime_r(&t, &tm));
        f->reset_s[i] = s;
    }
    return f->reset_text[i];
}

static int64_t rounded(int64_t n, int64_t to)
{
    return to > 1 ? (n + to / 2) / to * to : n;
}

void front_rate_headers(struct front *f, const struct org_view *v, struct reply *r)
{
    const struct {
        const struct org_limit *limit;
        const char *limit_name, *remaining_name, *reset_name;
        bool tokens;
    } rows[] = {
#define ROW(field, name, tokens)                                                     \
    {&v->field, "anthropic-ratelimit-" name "-limit",                                \
     "anthropic-ratelimit-" name "-remaining", "anthropic-ratelimit-" name "-reset", \
     tokens}
        ROW(requests, "requests", false),
        ROW(input, "input-tokens", true),
        ROW(output, "output-tokens", true),
        ROW(tokens, "tokens", true),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct org_limit *l = rows[i].limit;
        if (l->limit <= 0)
            continue;
        int64_t left = rounded(l->remaining,
                               rows[i].tokens ? f->settings->rounding : 0);
        reply_header(r, rows[i].limit_name, "%" PRId64, l->limit);
        reply_header(r, rows[i].remaining_name, "%" PRId64, left);
        reply_header(r, rows[i].reset_name, "%s", moment(f, l->full_in_ns));
    }
}

/* ---- refusals ---- */

/* "8,000" */
static const char *with_commas(int64_t n, char *buf, size_t size)
{
    char plain[24];
    int len = snprintf(plain, sizeof plain, "%" PRId64, n);
    size_t at = 0;
    for (int i = 0; i < len && at + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = plain[i];
    }
    buf[at] = '\0';
    return buf;
}

static void day_of_access(const struct front *f, char *day, size_t size)
{
    if (f->settings->spend_until) {
        snprintf(day, size, "%.10s", f->settings->spend_until);
        return;
    }
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    tm.tm_mday = 1;
    tm.tm_mon++;
    timegm(&tm); /* after December comes January */
    strftime(day, size, "%Y-%m-%d", &tm);
}

void front_refuse(struct front *f, enum fault_kind kind, const char *sentence,
                  const char *id, struct reply *r)
{
    const struct problem *p = problem_of(kind);
    char own[SENTENCE_MAX], day[16];

    if (sentence == NULL && (kind == FAULT_spend_own || kind == FAULT_spend_workspace ||
                             kind == FAULT_spend_tier)) {
        const char *hole = strstr(p->message, "%s");
        day_of_access(f, day, sizeof day);
        snprintf(own, sizeof own, "%.*s%s%s", (int)(hole - p->message), p->message, day,
                 hole + 2);
        sentence = own;
    }
    problem_write(p, sentence, id, r);
}

void front_refuse_spend(struct front *f, const char *id, struct reply *r)
{
    static const enum fault_kind kinds[] = {[SPEND_OWN] = FAULT_spend_own,
                                            [SPEND_WORKSPACE] = FAULT_spend_workspace,
                                            [SPEND_TIER] = FAULT_spend_tier};
    front_refuse(f, kinds[f->settings->spend_kind], NULL, id, r);
}

static void retry_after(struct reply *r, int64_t wait_ns)
{
    reply_header(r, "retry-after", "%" PRId64, (wait_ns + NS_PER_S - 1) / NS_PER_S);
}

void front_refuse_rate(struct front *f, int64_t limit, const char *what,
                       const char *model, int64_t wait_ns, const char *id,
                       struct reply *r)
{
    char sentence[SENTENCE_MAX], number[32];
    snprintf(
        sentence, sizeof sentence,
        "This request would exceed your organization's rate limit of %s %s per minute "
        "(org: %s, model: %s). For details, refer to: "
        "https://docs.claude.com/en/api/rate-limits. You can see the response headers "
        "for current usage. Please reduce the prompt length or the maximum tokens "
        "requested, or try again later. You may also contact sales at "
        "https://www.anthropic.com/contact-sales to discuss your options for a rate "
        "limit increase.",
        with_commas(limit, number, sizeof number), what, text_of(f->settings->org_id),
        model);
    problem_write(problem_of(FAULT_429), sentence, id, r);
    retry_after(r, wait_ns);
}

void front_refuse_rise(struct front *f, int64_t ceiling, int64_t next,
                       const char *model, int64_t wait_ns, const char *id,
                       struct reply *r)
{
    char sentence[SENTENCE_MAX], now_text[32], next_text[32];
    snprintf(sentence, sizeof sentence,
             "This request would exceed your organization's maximum usage increase "
             "rate for input tokens per minute (org: %s, model: %s). Your current "
             "limit is %s input tokens per minute, and will increase to %s at the next "
             "minute boundary. Please scale up your input tokens usage more gradually "
             "to stay within the acceleration limit. For details, refer to: "
             "https://docs.claude.com/en/api/rate-limits.",
             text_of(f->settings->org_id), model,
             with_commas(ceiling, now_text, sizeof now_text),
             with_commas(next, next_text, sizeof next_text));
    problem_write(problem_of(FAULT_acceleration429), sentence, id, r);
    retry_after(r, wait_ns);
}

/* ---- who asks ---- */

static bool listed(const char *list, const char *key)
{
    size_t len = strlen(key);
    for (const char *c = list; c && *c;) {
        c += strspn(c, ", ");
        size_t n = strcspn(c, ",");
        size_t word = n;
        while (word > 0 && c[word - 1] == ' ')
            word--;
        if (word == len && memcmp(c, key, len) == 0)
            return true;
        c += n;
    }
    return false;
}

bool front_welcome(struct front *f, const char *key, const char *version_text,
                   const char *id, enum ask_version *version, struct reply *r)
{
    const struct settings *s = f->settings;

    reply_header(r, "request-id", "%s", id);
    if (key == NULL || *key == '\0' || listed(s->refused_keys, key) ||
        (s->keys && !listed(s->keys, key))) {
        front_refuse(f, FAULT_401, NULL, id, r);
        return false;
    }
    identity_headers(f, r);
    if (version_text == NULL) {
        problem_say(400, "invalid_request_error",
                    "anthropic-version: header is required", id, r);
        return false;
    }
    *version = strcmp(version_text, "2026-10-21") == 0 ? ASK_2026_10_21
                                                       : ASK_2023_06_01;
    if (*version == ASK_2023_06_01 && strcmp(version_text, "2023-06-01") != 0) {
        problem_say(400, "invalid_request_error",
                    "anthropic-version: \"2023-06-01\" or \"2026-10-21\" is expected",
                    id, r);
        return false;
    }
    return true;
}
