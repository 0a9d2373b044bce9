#include "runner/answer.h"
#include "runner/verdict.h"

#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define NOW "2026-11-22T09:30:20Z"

static const char *const rate_names[] = {
    [RATE_NONE] = "none",
    [RATE_QUOTA] = "quota",
    [RATE_CONCURRENCY] = "concurrency",
    [RATE_ACCELERATION] = "acceleration",
    [RATE_EDGE] = "edge",
};

static const char *const break_names[BREAK_COUNT] = {
    [ANSWER_WHOLE] = "WHOLE",    [BREAK_RESOLVE] = "RESOLVE",
    [BREAK_CONNECT] = "CONNECT", [BREAK_TLS] = "TLS",
    [BREAK_RESET] = "RESET",     [BREAK_FIRST_BYTE] = "FIRST_BYTE",
    [BREAK_IDLE] = "IDLE",       [BREAK_TOO_LARGE] = "TOO_LARGE",
    [BREAK_CUT] = "CUT",         [BREAK_GARBLED] = "GARBLED",
    [BREAK_OTHER] = "OTHER",
};

/* ---- case folders ---- */

struct folder {
    char name[NAME_MAX + 1];
    char *status, *headers, *body, *about, *want;
    size_t body_len;
};

/* A file of the folder; an absent one is empty. */
static char *slurp(const char *name, const char *file, size_t *len)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/verdict/%s/%s", CASES_DIR, name, file);
    enum { FILE_MAX = 1 << 20 };
    char *text = calloc(1, FILE_MAX);
    assert_non_null(text);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, FILE_MAX - 1, f) : 0;
    if (f)
        fclose(f);
    if (len)
        *len = n;
    return text;
}

static void folder_open(struct folder *c, const char *name)
{
    snprintf(c->name, sizeof c->name, "%s", name);
    c->status = slurp(name, "status", NULL);
    c->headers = slurp(name, "headers", NULL);
    c->body = slurp(name, "body", &c->body_len);
    c->about = slurp(name, "about", NULL);
    c->want = slurp(name, "want", NULL);
}

static void folder_close(struct folder *c)
{
    free(c->status);
    free(c->headers);
    free(c->body);
    free(c->about);
    free(c->want);
}

static int each_folder(void (*visit)(struct folder *c, void *arg), void *arg)
{
    struct dirent **found;
    int n = scandir(CASES_DIR "/verdict", &found, NULL, alphasort), visited = 0;
    for (int i = 0; i < n; i++) {
        if (found[i]->d_name[0] != '.') {
            struct folder c;
            folder_open(&c, found[i]->d_name);
            visit(&c, arg);
            folder_close(&c);
            visited++;
        }
        free(found[i]);
    }
    if (n >= 0)
        free(found);
    return visited;
}

/* key=value lines, one at a time; `lines` is cut up. */
static char *next_pair(char **lines, char **value)
{
    char *line;
    while ((line = strsep(lines, "\n")) != NULL) {
        char *equals = strchr(line, '=');
        if (equals == NULL)
            continue;
        *equals = '\0';
        *value = equals + 1;
        return line;
    }
    return NULL;
}

static enum answer_break break_named(const char *name)
{
    for (int i = 0; i < BREAK_COUNT; i++)
        if (strcmp(break_names[i], name) == 0)
            return (enum answer_break)i;
    fail_msg("no such break: %s", name);
    return ANSWER_WHOLE;
}

static void judge_folder(struct folder *c, struct judgement *ret)
{
    struct answer a = {
        .why = "",
        .status = atol(c->status),
        .left = true,
        .headers = c->headers,
        .body = c->body,
        .body_len = c->body_len,
    };
    struct verdict_about about = {.wall_ms = answer_date(NOW)};
    char *lines = c->about, *key, *value;
    while ((key = next_pair(&lines, &value)) != NULL) {
        if (strcmp(key, "wall") == 0)
            about.wall_ms = answer_date(value);
        else if (strcmp(key, "model_from") == 0) {
            about.model_from_job = strcmp(value, "job") == 0;
            about.model_is_tiers = strcmp(value, "tier") == 0;
        } else if (strcmp(key, "broke") == 0)
            a.broke = break_named(value);
        else if (strcmp(key, "left") == 0)
            a.left = atoi(value);
        else if (strcmp(key, "streamed") == 0)
            a.streamed = atoi(value);
        else if (strcmp(key, "why") == 0)
            a.why = value;
        else
            fail_msg("%s: what does `%s` say about?", c->name, key);
    }
    verdict_judge(&a, &about, ret);
}

static void number_is(const char *folder, const char *key, const char *want,
                      int64_t got)
{
    if (strtoll(want, NULL, 10) != got)
        fail_msg("%s: %s = %" PRId64 ", want %s", folder, key, got, want);
}

static void text_is(const char *folder, const char *key, const char *want,
                    const char *got)
{
    if (strcmp(want, got) != 0)
        fail_msg("%s: %s = `%s`, want `%s`", folder, key, got, want);
}

static void check_folder(struct folder *c, void *arg)
{
    (void)arg;
    struct judgement j;
    judge_folder(c, &j);

    const struct {
        const char *key;
        int64_t got;
    } numbers[] = {
        {"known", j.known},
        {"retry_ms", j.retry_ms},
        {"usage", j.has_usage},
        {"input", j.usage.input},
        {"output", j.usage.output},
        {"cache_read", j.usage.cache_read},
        {"write_5m", j.usage.cache_write_5m},
        {"write_1h", j.usage.cache_write_1h},
        {"bare_reset", j.bare_reset},
    };
    const struct {
        const char *key, *got;
    } texts[] = {
        {"verdict", verdict_name(j.verdict)},
        {"rate", rate_names[j.rate]},
        {"type", j.type},
        {"code", j.code},
        {"request_id", j.request_id},
        {"model", j.model},
        {"sentence_is", j.sentence},
    };
    char *lines = c->want, *key, *value;
    int checked = 0;
    while ((key = next_pair(&lines, &value)) != NULL) {
        int before = checked;
        for (size_t i = 0; i < COUNT(numbers); i++)
            if (strcmp(key, numbers[i].key) == 0) {
                number_is(c->name, key, value, numbers[i].got);
                checked++;
            }
        for (size_t i = 0; i < COUNT(texts); i++)
            if (strcmp(key, texts[i].key) == 0) {
                text_is(c->name, key, value, texts[i].got);
                checked++;
            }
        if (strcmp(key, "until") == 0) {
            int64_t want = answer_date(value);
            if (want != j.until)
                fail_msg("%s: until = %" PRId64 ", want %" PRId64 " (%s)", c->name,
                         j.until, want, value);
            checked++;
        }
        if (strcmp(key, "sentence") == 0) {
            if (strstr(j.sentence, value) == NULL)
                fail_msg("%s: `%s` does not say `%s`", c->name, j.sentence, value);
            checked++;
        }
        if (checked != before + 1)
            fail_msg("%s: nobody can want `%s`", c->name, key);
    }
    if (checked == 0)
        fail_msg("%s wants nothing", c->name);
    if (j.verdict != VERDICT_ACCEPTED && j.sentence[0] == '\0')
        fail_msg("%s: %s, and not a word why", c->name, verdict_name(j.verdict));
}

static void each_folder_gets_the_verdict_it_wants(void **state)
{
    (void)state;
    assert_true(each_folder(check_folder, NULL) >= 60);
}

struct reached {
    int verdicts[VERDICT_COUNT], rates[COUNT(rate_names)], breaks[BREAK_COUNT];
};

static void note_reached(struct folder *c, void *arg)
{
    struct reached *r = arg;
    struct judgement j;
    char *broke = strstr(c->about, "broke=");
    if (broke) {
        char name[16] = "";
        sscanf(broke, "broke=%15s", name);
        r->breaks[break_named(name)]++;
    }
    judge_folder(c, &j);
    r->verdicts[j.verdict]++;
    r->rates[j.rate]++;
}

static void every_verdict_rate_and_break_has_a_folder(void **state)
{
    (void)state;
    struct reached r = {0};
    each_folder(note_reached, &r);
    for (int v = 0; v < VERDICT_COUNT; v++)
        if (r.verdicts[v] == 0)
            fail_msg("no folder is %s", verdict_name((enum verdict)v));
    for (size_t k = 0; k < COUNT(rate_names); k++)
        if (r.rates[k] == 0)
            fail_msg("no folder has the rate kind %s", rate_names[k]);
    for (int b = ANSWER_WHOLE + 1; b < BREAK_COUNT; b++)
        if (r.breaks[b] == 0)
            fail_msg("no folder broke with %s", break_names[b]);
}

/* However little of an answer comes, a part of it is never the whole. */
static void never_accept_a_part(struct folder *c, void *arg)
{
    int *tried = arg;
    struct judgement j;
    char *whole = c->body;
    size_t len = c->body_len;
    judge_folder(c, &j);
    if (j.verdict != VERDICT_ACCEPTED)
        return;
    for (c->body_len = 0; c->body_len < len; c->body_len++) {
        c->body = strndup(whole, c->body_len);
        assert_non_null(c->body);
        judge_folder(c, &j);
        if (j.verdict != VERDICT_TRANSIENT || j.known || j.has_usage)
            fail_msg("%s: %zu of %zu bytes are %s", c->name, c->body_len, len,
                     verdict_name(j.verdict));
        free(c->body);
    }
    c->body = whole;
    ++*tried;
}

static void a_part_of_an_answer_is_never_accepted(void **state)
{
    (void)state;
    int tried = 0;
    each_folder(never_accept_a_part, &tried);
    assert_true(tried > 5);
}

/* ---- corners ---- */

static void a_header_is_found_by_its_whole_name(void **state)
{
    (void)state;
    const struct answer a = {
        .headers =
            "retry-after-ms: 12\nretry-after:  7 \nempty:\nretry-after: 9\nlast: z",
    };
    static const struct {
        const char *name, *value;
    } cases[] = {
        {"retry-after", "7"}, {"retry-after-ms", "12"}, {"empty", ""}, {"last", "z"},
        {"retry", NULL},      {"after", NULL},          {"", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char buf[8];
        const char *got = answer_header(&a, cases[i].name, buf, sizeof buf);
        if (cases[i].value)
            assert_string_equal(got, cases[i].value);
        else
            assert_null(got);
    }
    char small[2];
    assert_string_equal(answer_header(&a, "retry-after-ms", small, sizeof small), "1");
    assert_null(
        answer_header(&(struct answer){.headers = ""}, "a", small, sizeof small));
    assert_null(answer_header(&(struct answer){0}, "a", small, sizeof small));
}

static void dates_are_read_as_answers_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"1970-01-01T00:00:01Z", 1000},
        {"2026-11-22T09:30:20Z", INT64_C(1795339820000)},
        {"2026-11-22T09:30:20.125Z", INT64_C(1795339820125)},
        {"2026-11-22T09:30:20.123456789Z", INT64_C(1795339820123)},
        {"2026-11-22t10:30:20+01:00", INT64_C(1795339820000)},
        {"2026-11-22T04:00:20-05:30", INT64_C(1795339820000)},
        {"2026-11-22 at 09:30 UTC.", INT64_C(1795339800000)},
        {"2026-11-22 09:30 UTC)", INT64_C(1795339800000)},
        {"Sun, 22 Nov 2026 09:30:20 GMT", INT64_C(1795339820000)},
        {"2028-02-29T00:00:00Z", INT64_C(1835395200000)},
        {"2100-03-01T00:00:00Z", INT64_C(4107542400000)},
        {"2026-02-29T00:00:00Z", 0},
        {"2100-02-29T00:00:00Z", 0},
        {"2026-13-01T00:00:00Z", 0},
        {"2026-00-01T00:00:00Z", 0},
        {"2026-01-00T00:00:00Z", 0},
        {"2026-01-01T24:00:00Z", 0},
        {"2026-01-01T00:60:00Z", 0},
        {"2026-1-1T00:00:00Z", 0},
        {"2026-11-22", 0},
        {"1969-12-31T23:59:59Z", 0},
        {"Sun, 22 Nov 2026", 0},
        {"Sun, 22 Nix 2026 09:30:20 GMT", 0},
        {"soon", 0},
        {"", 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (answer_date(cases[i].text) != cases[i].ms)
            fail_msg("%s is %" PRId64 ", want %" PRId64, cases[i].text,
                     answer_date(cases[i].text), cases[i].ms);
}

static void a_retry_hint_of_any_length_is_legal_and_junk_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *headers;
        int64_t ms;
    } cases[] = {
        {"retry-after: 1\n", 1000},
        {"retry-after: 1.5\n", 1500},
        {"retry-after: 0.0001\n", 1},
        {"retry-after: 7999\n", 7999000},
        {"retry-after: 2592000\n", INT64_C(2592000000)},
        {"retry-after-ms: 0.5\n", 1},
        {"retry-after-ms: 300\nretry-after: 9\n", 300},
        {"retry-after-ms: junk\nretry-after: 9\n", 9000},
        {"retry-after-ms: 0\nretry-after: 9\n", 9000},
        {"retry-after: Sun, 22 Nov 2026 09:30:21 GMT\n", 1000},
        {"retry-after: Sun, 22 Nov 2026 09:30:20 GMT\n", -1},
        {"retry-after: Sun, 22 Nov 2020 09:30:20 GMT\n", -1},
        {"retry-after: 0\n", -1},
        {"retry-after: -3\n", -1},
        {"retry-after: 1e3\n", -1},
        {"retry-after: nan\n", -1},
        {"retry-after: 0x10\n", -1},
        {"retry-after: 5 s\n", -1},
        {"retry-after: 99999999999999999999\n", -1},
        {"retry-after:\n", -1},
        {"", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct answer a = {.headers = cases[i].headers};
        int64_t got = answer_retry_ms(&a, answer_date(NOW));
        if (got != cases[i].ms)
            fail_msg("%s: %" PRId64 ", want %" PRId64, cases[i].headers, got,
                     cases[i].ms);
    }
}

static void judge_text(long status, const char *headers, const char *body,
                       struct judgement *ret)
{
    struct answer a = {.status = status,
                       .left = true,
                       .why = "",
                       .headers = headers,
                       .body = body,
                       .body_len = strlen(body)};
    verdict_judge(&a, &(struct verdict_about){.wall_ms = answer_date(NOW)}, ret);
}

static void a_long_sentence_is_cut_between_characters(void **state)
{
    (void)state;
    static const char *const letters[] = {"x", "ä", "€", "🌙"};
    for (size_t k = 0; k < COUNT(letters); k++)
        for (int shift = 0; shift < 4; shift++) {
            char body[8192] = "{\"error\":{\"type\":\"api_error\",\"message\":\"";
            strncat(body, "----", (size_t)shift);
            for (int i = 0; i < 1200; i++)
                strcat(body, letters[k]);
            strcat(body, "\"}}");
            struct judgement j;
            judge_text(500, "", body, &j);
            size_t n = strlen(j.sentence), width = strlen(letters[k]);
            assert_true(n > sizeof j.sentence - 1 - width && n < sizeof j.sentence);
            assert_memory_equal(j.sentence + n - width, letters[k], width);
        }
}

static void a_name_that_is_too_long_is_cut(void **state)
{
    (void)state;
    char body[1024], name[301];
    memset(name, 'n', 300);
    name[300] = '\0';
    snprintf(body, sizeof body,
             "{\"error\":{\"type\":\"%s\",\"details\":{\"error_code\":\"%s\"}},"
             "\"request_id\":\"%s\"}",
             name, name, name);
    struct judgement j;
    judge_text(500, "", body, &j);
    assert_int_equal(strlen(j.type), sizeof j.type - 1);
    assert_int_equal(strlen(j.code), sizeof j.code - 1);
    assert_int_equal(strlen(j.request_id), sizeof j.request_id - 1);
}

/* A moment that is years away would hold a lane for years. */
static void an_absurd_moment_is_none(void **state)
{
    (void)state;
    static const char *const resets[] = {
        "1795351200000",       "99999999999999999999", "-1", "", "never", "0",
        "2999-01-01T00:00:00Z"};
    for (size_t i = 0; i < COUNT(resets); i++) {
        char headers[256];
        struct judgement j;
        snprintf(headers, sizeof headers,
                 "anthropic-ratelimit-unified-status: rejected\n"
                 "anthropic-ratelimit-unified-reset: %s\n",
                 resets[i]);
        judge_text(429, headers, "", &j);
        assert_int_equal(j.verdict, VERDICT_PLAN_LIMIT);
        assert_int_equal(j.until, 0);
    }
}

static void a_body_on_a_brink_is_not_read_past(void **state)
{
    (void)state;
    static const char *const bodies[] = {"{",
                                         "\"",
                                         "[",
                                         "{\"error\":{}}",
                                         "{\"error\":[]}",
                                         "{\"error\":{\"type\":5,\"message\":null}}",
                                         "nul",
                                         "{\"type\":\"message\"}",
                                         "\xff",
                                         "   "};
    static const long statuses[] = {-1,  0,   99,  200, 299,  302,
                                    400, 429, 500, 600, 99999};
    for (size_t i = 0; i < COUNT(bodies); i++)
        for (size_t s = 0; s < COUNT(statuses); s++) {
            struct judgement j;
            judge_text(statuses[s], "", bodies[i], &j);
            assert_true(j.verdict != VERDICT_ACCEPTED);
            assert_true(j.sentence[0] != '\0');
        }
}

static void only_a_jobs_own_verdicts_use_an_attempt(void **state)
{
    (void)state;
    for (int v = 0; v < VERDICT_COUNT; v++)
        assert_int_equal(verdict_counts((enum verdict)v),
                         verdict_whose((enum verdict)v) == WHOSE_JOB);
    assert_true(verdict_counts(VERDICT_TRANSIENT));
    assert_false(verdict_counts(VERDICT_RATE_LIMITED));
    assert_false(verdict_counts(VERDICT_UNREACHABLE));
    assert_string_equal(verdict_name(VERDICT_NO_CREDIT), "no credit");
    assert_int_equal(verdict_whose(VERDICT_NO_CREDIT), WHOSE_ACCOUNT);
    assert_int_equal(verdict_whose(VERDICT_UNREACHABLE), WHOSE_ENDPOINT);
}

static void limits_are_read_from_the_headers(void **state)
{
    (void)state;
#define RL "anthropic-ratelimit-"
    static const struct {
        const char *headers;
        bool any;
        struct answer_limits want;
    } cases[] = {
        {"request-id: r\n" RL "requests-limit: 50\n" RL "requests-remaining: 49\n" RL
         "requests-reset: 2026-11-22T09:30:21Z\n" RL "input-tokens-limit: 30000\n" RL
         "input-tokens-remaining: 29000\n" RL "output-tokens-limit: 8000\n" RL
         "output-tokens-remaining: 0\n" RL "tokens-limit: 38000\n",
         true,
         {{50, 30000, 8000}, {49, 29000, 0}}},
        {"", false, {{-1, -1, -1}, {-1, -1, -1}}},
        {RL "requests-limit: 7", true, {{7, -1, -1}, {-1, -1, -1}}},
        {RL "requests-limit: many\n" RL "requests-remaining: -3\n" RL
            "input-tokens-limit: 1e9\n" RL "output-tokens-limit:\n",
         false,
         {{-1, -1, -1}, {-1, -1, -1}}},
        {RL "requests-limit: 99999999999999999999\n",
         false,
         {{-1, -1, -1}, {-1, -1, -1}}},
        {"x-" RL "requests-limit: 5\n", false, {{-1, -1, -1}, {-1, -1, -1}}},
        {RL "requests-limit: 5\n" RL "requests-limit: 6\n", /* the first wins */
         true,
         {{5, -1, -1}, {-1, -1, -1}}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct answer_limits got;
        bool any = answer_limits(&(struct answer){.headers = cases[i].headers}, &got);
        if (any != cases[i].any || memcmp(&got, &cases[i].want, sizeof got) != 0)
            fail_msg("case %zu", i);
    }
    struct answer_limits none;
    assert_false(answer_limits(&(struct answer){0}, &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_read_from_the_headers),
        cmocka_unit_test(each_folder_gets_the_verdict_it_wants),
        cmocka_unit_test(every_verdict_rate_and_break_has_a_folder),
        cmocka_unit_test(a_part_of_an_answer_is_never_accepted),
        cmocka_unit_test(a_header_is_found_by_its_whole_name),
        cmocka_unit_test(dates_are_read_as_answers_write_them),
        cmocka_unit_test(a_retry_hint_of_any_length_is_legal_and_junk_is_none),
        cmocka_unit_test(a_long_sentence_is_cut_between_characters),
        cmocka_unit_test(a_name_that_is_too_long_is_cut),
        cmocka_unit_test(an_absurd_moment_is_none),
        cmocka_unit_test(a_body_on_a_brink_is_not_read_past),
        cmocka_unit_test(only_a_jobs_own_verdicts_use_an_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
