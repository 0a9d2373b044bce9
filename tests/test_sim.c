#include "conf/catalog.h"
#include "runner/err.h"
#include "sim/api.h"
#include "sim/control.h"
#include "sim/fault.h"
#include "sim/org.h"
#include "sim/scan.h"
#include "sim/settings.h"
#include "sim/timers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define CASES(a) (sizeof(a) / sizeof(a)[0])
#define S(n) ((int64_t)(n)*NS_PER_S)

/* ---- an API without a network, at a clock of our own ---- */

struct world {
    struct settings settings;
    struct catalog *catalog;
    struct api *api;
    int64_t now_ns;
};

static void open_world(struct world *w, const char *const *pairs)
{
    struct err e = {0};
    memset(w, 0, sizeof *w);
    assert_int_equal(settings_init(&w->settings, &e), 0);
    for (; pairs && *pairs; pairs += 2)
        assert_int_equal(settings_set(&w->settings, pairs[0], pairs[1], &e), 0);
    w->catalog = catalog_new(&e);
    w->api = api_new(&w->settings, w->catalog, &e);
    assert_string_equal(e.text, "");
    faults_begin(&w->settings.faults, 0, 1);
}

static void close_world(struct world *w)
{
    api_free(w->api);
    catalog_free(w->catalog);
    settings_free(&w->settings);
}

static void began(struct world *w, struct exchange *x, const char *body)
{
    struct api_request rq = {.key = "k",
                             .version = "2023-06-01",
                             .body = body,
                             .len = strlen(body),
                             .now_ns = w->now_ns};
    memset(x, 0, sizeof *x);
    stats_started(api_stats(w->api), w->now_ns);
    api_message(w->api, &rq, x);
}

static void ended(struct world *w, struct exchange *x)
{
    api_finish(w->api, x, w->now_ns);
    api_first_byte(w->api, x, w->now_ns);
    x->row.answered = true;
    api_ended(w->api, x);
}

/* From start to end at one moment; returns the status. */
static int ask(struct world *w, const char *body)
{
    static struct exchange x;
    began(w, &x, body);
    ended(w, &x);
    reply_clear(&x.reply);
    return x.row.status;
}

static const char *header_of(const struct exchange *x, const char *name)
{
    for (size_t i = 0; i < x->reply.header_count; i++)
        if (strcmp(x->reply.headers[i].name, name) == 0)
            return x->reply.headers[i].value;
    return NULL;
}

#define HELLO                                                                   \
    "{\"model\":\"claude-opus-5-5\",\"max_tokens\":50,\"messages\":[{\"role\":" \
    "\"user\","                                                                 \
    "\"content\":\"hello\"}]}"
#define HAIKU                                                                    \
    "{\"model\":\"claude-haiku-4-5\",\"max_tokens\":50,\"messages\":[{\"role\":" \
    "\"user\",\"content\":\"hello\"}]}"

/* ---- buckets ---- */

static void a_bucket_refills_with_time_and_never_beyond_its_room(void **state)
{
    (void)state;
    struct bucket b = {0};
    bucket_rate(&b, 60, 60, 0);
    assert_true(bucket_level(&b, 0) == 60);
    bucket_take(&b, 60, 0);
    assert_true(bucket_level(&b, 0) == 0);
    assert_true(bucket_level(&b, S(1)) == 1);
    assert_true(bucket_level(&b, S(10)) == 10);
    assert_true(bucket_level(&b, S(1000)) == 60);
    /* Output may overdraw it; the debt is paid first. */
    bucket_take(&b, 90, S(1000));
    assert_true(bucket_wait_ns(&b, 1, S(1000)) == S(31));
    assert_true(bucket_wait_ns(&b, 1000, S(1000)) == S(90));
}

static void a_new_rate_keeps_the_level_and_a_first_one_comes_full(void **state)
{
    (void)state;
    struct bucket b = {0};
    bucket_rate(&b, 60, 60, 0);
    bucket_take(&b, 20, 0);
    bucket_rate(&b, 600, 600, 0);
    assert_true(bucket_level(&b, 0) == 40);
    bucket_rate(&b, 30, 30, 0);
    assert_true(bucket_level(&b, 0) == 30);
    bucket_rate(&b, 0, 1, 0);
    assert_true(bucket_wait_ns(&b, 5, 0) == 0);
    bucket_rate(&b, 120, 120, 0);
    assert_true(bucket_level(&b, 0) == 120);
}

static void what_a_small_bucket_never_holds_passes_when_it_is_full(void **state)
{
    (void)state;
    struct bucket b = {0};
    bucket_rate(&b, 600, 10, 0); /* a second's worth */
    assert_true(bucket_holds(&b, 25, 0));
    assert_false(bucket_holds(&b, 601, 0)); /* fits into no minute */
    bucket_take(&b, 25, 0);
    assert_false(bucket_holds(&b, 25, S(2)));
    assert_true(bucket_wait_ns(&b, 25, S(2)) == S(1) / 2);
    assert_true(bucket_holds(&b, 25, S(5) / 2));
}

static bool near(double a, double b)
{
    return a - b < 1e-6 && b - a < 1e-6;
}

static void somebody_else_takes_what_is_there_and_no_more(void **state)
{
    (void)state;
    static const struct {
        double level, demand, after, lost; /* of a bucket of 60 a minute, in 10 s */
    } cases[] = {
        {60, 0, 60, 0},    /* nobody else: full stays full */
        {60, 30, 60, 5},   /* takes from what would have run over */
        {20, 30, 25, 5},   /* half of what comes in */
        {20, 120, 10, 20}, /* twice of what comes in: the level falls */
        {5, 600, 0, 15},   /* all there is, and then what comes in */
        {0, 600, 0, 10},   /* down to nothing and not below */
        {-4, 600, 0, 6},   /* a debt is paid first */
        {-4, 30, -1 + 4, 3}, {-20, 600, -10, 0},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct bucket b = {0};
        bucket_rate(&b, 60, 60, 0);
        bucket_take(&b, 60 - cases[i].level, 0);
        bucket_flow(&b, cases[i].demand, S(10));
        assert_true(near(b.level, cases[i].after));
        assert_true(near(b.lost, cases[i].lost));
        assert_true(near(b.poured, 60 + 10 - cases[i].lost));
    }
}

static void each_limit_refuses_in_its_own_words_and_says_when_to_come(void **state)
{
    (void)state;
    static const struct {
        const char *const pairs[5];
        int fits;
        const char *says, *retry_after;
    } cases[] = {
        {{"limits.rpm", "3", NULL}, 3, "3 requests per minute", "20"},
        {{"limits.rpm", "60", "limits.burst", "1s", NULL}, 1, "60 requests", "1"},
        {{"limits.otpm", "1200", NULL}, 24, "1,200 output tokens per minute", "1"},
        {{"limits.itpm", "30", NULL}, 3, "30 input tokens per minute", "12"},
        {{"limits.opus-5.5.rpm", "1", NULL}, 1, "1 requests per minute", "60"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        struct exchange x;
        open_world(&w, cases[i].pairs);
        for (int n = 0; n < cases[i].fits; n++)
            assert_int_equal(ask(&w, HELLO), 200);
        began(&w, &x, HELLO);
        assert_int_equal(x.reply.status, 429);
        assert_non_null(strstr(x.reply.body.at, cases[i].says));
        assert_non_null(strstr(x.reply.body.at, "\"rate_limit_error\""));
        assert_string_equal(header_of(&x, "retry-after"), cases[i].retry_after);
        ended(&w, &x);
        reply_clear(&x.reply);
        /* Another class of models has buckets of its own. */
        if (i == 4)
            assert_int_equal(ask(&w, HAIKU), 200);
        w.now_ns += S(atoi(cases[i].retry_after));
        assert_int_equal(ask(&w, HELLO), 200);
        close_world(&w);
    }
}

static void too_many_at_a_time_are_refused_until_one_ends(void **state)
{
    (void)state;
    struct world w;
    static struct exchange a, b;
    open_world(&w, (const char *const[]){"limits.concurrent", "1", NULL});
    began(&w, &a, HELLO);
    assert_int_equal(a.reply.status, 200);
    began(&w, &b, HELLO);
    assert_int_equal(b.reply.status, 429);
    assert_non_null(strstr(b.reply.body.at, "Number of concurrent connections"));
    ended(&w, &b);
    ended(&w, &a);
    assert_int_equal(ask(&w, HELLO), 200);
    reply_clear(&a.reply);
    reply_clear(&b.reply);
    close_world(&w);
}

/* ---- an organisation in a time of our own ---- */

#define FAMILY "opus-5.5"

/* `input` tokens and an answer of as many as `output`, at once. */
static enum org_word org_try(struct world *w, int64_t input, int64_t output)
{
    int64_t wait_ns;
    enum org_word word = org_start(api_org(w->api), FAMILY, input, w->now_ns, &wait_ns);
    if (word == ORG_ADMITTED) {
        org_produced(api_org(w->api), FAMILY, output, w->now_ns);
        org_ended(api_org(w->api));
    }
    return word;
}

static int how_many_fit(struct world *w, int64_t input, int64_t output)
{
    int n = 0;
    while (org_try(w, input, output) == ORG_ADMITTED)
        n++;
    return n;
}

static const struct meter *meter_of(struct world *w)
{
    return org_meter(api_org(w->api), FAMILY, w->now_ns);
}

static void a_burst_is_so_many_seconds_of_every_limit(void **state)
{
    (void)state;
    static const struct {
        const char *limit, *burst;
        int64_t input, output;
        int at_once, a_second;
    } cases[] = {
        {"limits.rpm", "1s", 1, 1, 10, 10},   {"limits.rpm", "5s", 1, 1, 50, 10},
        {"limits.rpm", "60s", 1, 1, 600, 10}, {"limits.itpm", "1s", 2, 1, 5, 5},
        {"limits.itpm", "5s", 2, 1, 25, 5},   {"limits.itpm", "60s", 2, 1, 300, 5},
        {"limits.otpm", "1s", 1, 2, 5, 5},    {"limits.otpm", "5s", 1, 2, 25, 5},
        {"limits.otpm", "60s", 1, 2, 300, 5},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        open_world(&w, (const char *const[]){cases[i].limit, "600", "limits.burst",
                                             cases[i].burst, NULL});
        assert_int_equal(how_many_fit(&w, cases[i].input, cases[i].output),
                         cases[i].at_once);
        for (int s = 1; s < 4; s++) {
            w.now_ns = S(s);
            assert_int_equal(how_many_fit(&w, cases[i].input, cases[i].output),
                             cases[i].a_second);
        }
        close_world(&w);
    }
}

static int64_t number_of(const struct exchange *x, const char *name)
{
    const char *value = header_of(x, name);
    return value ? atoll(value) : -1;
}

static void requests_by_the_second_are_refused_under_roomy_headers(void **state)
{
    (void)state;
    struct world w;
    struct exchange x;
    open_world(&w, (const char *const[]){"limits.rpm", "120", "limits.rpm_enforced",
                                         "second", "tenant.share", "0.5",
                                         "tenant.period", "0", NULL});
    assert_int_equal(ask(&w, HELLO), 200);
    assert_int_equal(ask(&w, HELLO), 200);
    began(&w, &x, HELLO);
    assert_int_equal(x.reply.status, 429);
    assert_non_null(strstr(x.reply.body.at, "120 requests per minute"));
    assert_int_equal(number_of(&x, "anthropic-ratelimit-requests-limit"), 120);
    assert_int_equal(number_of(&x, "anthropic-ratelimit-requests-remaining"), 118);
    assert_string_equal(header_of(&x, "retry-after"), "1");
    ended(&w, &x);
    reply_clear(&x.reply);
    w.now_ns = S(1);
    assert_int_equal(how_many_fit(&w, 1, 1), 1);
    assert_int_equal(org_look(api_org(w.api), FAMILY, w.now_ns).requests.remaining,
                     118);
    close_world(&w);
}

static void a_co_tenant_takes_its_share_in_waves_or_evenly(void **state)
{
    (void)state;
    static const struct {
        const char *period;
        double tenant[3]; /* requests it had after 30, 60 and 75 s, of 600 a minute */
    } cases[] = {
        {"60s", {150, 150, 225}},
        {"0", {75, 150, 187.5}},
        {"20s", {100, 150, 200}},
        {"5.5s", {81.25, 151.25, 192.5}},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        open_world(&w,
                   (const char *const[]){"limits.rpm", "600", "tenant.share", "0.25",
                                         "tenant.period", cases[i].period, NULL});
        w.now_ns = S(1000); /* nobody is there before the day begins */
        assert_int_equal(how_many_fit(&w, 1, 1), 600);
        static const int at[] = {30, 60, 75};
        for (size_t k = 0; k < CASES(at); k++) {
            w.now_ns = S(1000 + at[k]);
            const struct meter *m = meter_of(&w);
            const struct meter_sums *sums = &m->buckets[METER_REQUESTS].sums;
            assert_true(near(sums->tenant, cases[i].tenant[k]));
            assert_true(near(sums->allowed, 600 + at[k] * 10 - cases[i].tenant[k]));
        }
        close_world(&w);
    }
}

static void limits_change_and_change_back_as_planned(void **state)
{
    (void)state;
    struct world w;
    struct exchange x;
    open_world(&w, (const char *const[]){"limits.rpm", "600", "limits.burst", "1s",
                                         "limits.change_at", "10.5s",
                                         "limits.change_factor", "0.5",
                                         "limits.change_back_at", "20.5s", NULL});
    w.now_ns = S(100);
    static const struct {
        int at_s, fit, limit;
    } cases[] = {{0, 10, 600}, {5, 10, 600}, {11, 0, 300},
                 {12, 5, 300}, {20, 5, 300}, {25, 10, 600}};
    for (size_t i = 0; i < CASES(cases); i++) {
        w.now_ns = S(100 + cases[i].at_s);
        /* At the change let one through: answers tell the new limit too. */
        if (cases[i].fit > 0)
            assert_int_equal(how_many_fit(&w, 1, 1), cases[i].fit);
        began(&w, &x, HELLO);
        ended(&w, &x);
        assert_int_equal(x.row.status, cases[i].fit > 0 ? 429 : 200);
        assert_int_equal(number_of(&x, "anthropic-ratelimit-requests-limit"),
                         cases[i].limit);
        reply_clear(&x.reply);
    }
    /* 1 s of burst, 10.5 s at 10 a second, 10 s at 5, 4.5 s at 10. */
    assert_true(near(meter_of(&w)->buckets[METER_REQUESTS].sums.allowed, 210));
    close_world(&w);
}

static void token_headers_are_rounded_and_requests_are_not(void **state)
{
    (void)state;
    static const struct {
        const char *rounding;
        int64_t input;
    } cases[] = {
        {"1000", 24000}, {"0", 23991}, {"1", 23991}, {"100", 24000}, {"10", 23990}};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        struct exchange x;
        open_world(&w,
                   (const char *const[]){"limits.rpm", "777", "limits.itpm", "24000",
                                         "limits.rounding", cases[i].rounding, NULL});
        began(&w, &x, HELLO);
        ended(&w, &x);
        assert_int_equal(number_of(&x, "anthropic-ratelimit-requests-remaining"), 776);
        assert_int_equal(number_of(&x, "anthropic-ratelimit-input-tokens-remaining"),
                         cases[i].input);
        reply_clear(&x.reply);
        close_world(&w);
    }
}

static void limits_show_on_answers_and_on_refusals_for_rate(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        bool shown;
    } cases[] = {
        {"429", true},      {"acceleration429", true}, {"concurrency429", true},
        {"bare429", false}, {"longcontext429", false}, {"spend_tier", false},
        {"529", false},     {"refusal", true},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        struct exchange x;
        open_world(&w, (const char *const[]){"limits.rpm", "50", "limits.itpm", "30000",
                                             "limits.otpm", "8000", "fault.it.kind",
                                             cases[i].kind, NULL});
        began(&w, &x, HELLO);
        ended(&w, &x);
        static const char *const names[] = {
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
            "anthropic-ratelimit-tokens-limit",
        };
        for (size_t k = 0; k < CASES(names); k++)
            assert_int_equal(header_of(&x, names[k]) != NULL, cases[i].shown);
        if (cases[i].shown) {
            const char *reset = header_of(&x, "anthropic-ratelimit-requests-reset");
            assert_true(strlen(reset) == 20 && reset[10] == 'T' && reset[19] == 'Z');
        }
        reply_clear(&x.reply);
        close_world(&w);
    }
}

static void headers_of_a_stream_come_before_its_output_is_charged(void **state)
{
    (void)state;
    static const char body[] =
        "{\"model\":\"claude-opus-5-5\",\"stream\":true,\"max_tokens\":900,"
        "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";
    struct world w;
    struct exchange x;
    open_world(
        &w, (const char *const[]){"limits.otpm", "8000", "limits.rounding", "0", NULL});
    began(&w, &x, body);
    api_first_byte(w.api, &x, w.now_ns);
    assert_int_equal(number_of(&x, "anthropic-ratelimit-output-tokens-remaining"),
                     8000);
    api_finish(w.api, &x, w.now_ns);
    api_ended(w.api, &x);
    assert_true(near(meter_of(&w)->buckets[METER_OUTPUT].level,
                     8000 - (double)x.row.usage.output));
    reply_clear(&x.reply);
    close_world(&w);
}

static void usage_may_rise_so_steeply_and_not_more(void **state)
{
    (void)state;
    struct world w;
    struct exchange x;
    open_world(&w, (const char *const[]){"limits.itpm", "100000", "limits.acceleration",
                                         "2", NULL});
    w.now_ns = S(30);
    /* A fifth of the limit, and twice as much from minute to minute. */
    assert_int_equal(how_many_fit(&w, 1000, 1), 20);
    w.now_ns = S(30 + 47);
    began(&w, &x, HELLO);
    assert_int_equal(x.reply.status, 429);
    assert_non_null(strstr(
        x.reply.body.at,
        "This request would exceed your organization's maximum usage increase rate for "
        "input tokens per minute (org: 5f0c9d3e-7a41-4c58-9b1d-2e6f8a90c3d7, model: "
        "claude-opus-5-5). Your current limit is 20,000 input tokens per minute, and "
        "will increase to 40,000 at the next minute boundary. Please scale up your "
        "input tokens usage more gradually"));
    assert_string_equal(header_of(&x, "retry-after"), "13");
    assert_int_equal(number_of(&x, "anthropic-ratelimit-input-tokens-limit"), 100000);
    ended(&w, &x);
    reply_clear(&x.reply);

    /* Who was held back may use the whole of what was promised. */
    static const struct {
        int64_t input;
        int fit;
    } minutes[] = {{1500, 26}, {1000, 80}, {1000, 100}};
    for (int i = 0; i < 3; i++) {
        w.now_ns = S(30 + 60 * (i + 1));
        assert_int_equal(how_many_fit(&w, minutes[i].input, 1), minutes[i].fit);
    }
    /* Who falls asleep begins anew, and the first of a minute always passes. */
    w.now_ns = S(30 + 60 * 10);
    assert_int_equal(how_many_fit(&w, 30000, 1), 1);
    assert_int_equal(meter_of(&w)->refused[1][REFUSED_INPUT], 1); /* at 100 % */
    assert_int_equal(meter_of(&w)->refused[0][REFUSED_ACCELERATION], 2);
    close_world(&w);
}

/* Sends whenever something can pass, each 10 ms. */
static void send_all_one_can(struct world *w, int64_t seconds, int64_t input,
                             int64_t output)
{
    int64_t end_ns = w->now_ns + S(seconds);
    for (; w->now_ns < end_ns; w->now_ns += 10 * NS_PER_MS)
        how_many_fit(w, input, output);
}

static void who_sends_all_one_can_gets_just_what_was_allowed(void **state)
{
    (void)state;
    static const struct {
        enum meter_bucket tight;
        const char *const pairs[13];
    } cases[] = {
        {METER_REQUESTS, {"limits.rpm", "600", NULL}},
        {METER_REQUESTS, {"limits.rpm", "600", "limits.rpm_enforced", "second", NULL}},
        {METER_REQUESTS, {"limits.rpm", "600", "tenant.share", "0.25", NULL}},
        {METER_REQUESTS,
         {"limits.rpm", "600", "limits.change_at", "50s", "limits.change_factor", "0.5",
          "limits.change_back_at", "100s", "tenant.share", "0.3", NULL}},
        {METER_INPUT, {"limits.itpm", "30000", "limits.burst", "1s", NULL}},
        {METER_INPUT, {"limits.itpm", "30000", "tenant.share", "0.6", NULL}},
        {METER_OUTPUT, {"limits.otpm", "20000", "limits.burst", "5s", NULL}},
        {METER_OUTPUT,
         {"limits.otpm", "20000", "tenant.share", "0.25", "tenant.period", "0", NULL}},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        open_world(&w, cases[i].pairs);
        send_all_one_can(&w, 150, 30, 20);
        const struct meter *m = meter_of(&w);
        const struct meter_sums *sums = &m->buckets[cases[i].tight].sums;
        assert_in_range((int)(1e4 * sums->used / sums->allowed), 9900, 10020);
        assert_true(m->refused[1][cases[i].tight] > 0);
        assert_int_equal(m->requests[0] + m->requests[1],
                         (int64_t)m->buckets[METER_REQUESTS].sums.used +
                             m->refused[0][cases[i].tight] +
                             m->refused[1][cases[i].tight]);

        /* Its seconds add up to it. */
        struct meter_sums all = {0};
        uint32_t refused = 0;
        assert_int_equal(m->count, 150);
        for (size_t s = 0; s < m->count; s++) {
            all.allowed += m->rows[s].buckets[cases[i].tight].sums.allowed;
            all.used += m->rows[s].buckets[cases[i].tight].sums.used;
            all.tenant += m->rows[s].buckets[cases[i].tight].sums.tenant;
            refused += m->rows[s].refused[cases[i].tight];
        }
        assert_true(near(all.allowed, sums->allowed));
        assert_true(near(all.used, sums->used));
        assert_true(near(all.tenant, sums->tenant));
        assert_int_equal(refused,
                         m->refused[0][cases[i].tight] + m->refused[1][cases[i].tight]);
        close_world(&w);
    }
}

static void what_runs_over_was_allowed_all_the_same(void **state)
{
    (void)state;
    struct world w;
    open_world(&w,
               (const char *const[]){"limits.rpm", "60", "limits.burst", "5s", NULL});
    assert_int_equal(how_many_fit(&w, 1, 1), 5);
    w.now_ns = S(65);
    assert_int_equal(how_many_fit(&w, 1, 1), 5);
    const struct meter *m = meter_of(&w);
    assert_true(near(m->buckets[METER_REQUESTS].sums.allowed, 70));
    assert_int_equal(m->refused[0][REFUSED_REQUESTS], 1);
    assert_int_equal(m->refused[1][REFUSED_REQUESTS], 1);
    assert_int_equal(m->requests[1], 6);
    /* Once nothing comes any more, the sums stand still. */
    w.now_ns = S(1000);
    m = meter_of(&w);
    assert_true(near(m->buckets[METER_REQUESTS].at_last.allowed, 70));
    /* The seconds go on for an hour. */
    w.now_ns = S(100000);
    assert_int_equal(meter_of(&w)->count, METER_SECONDS_MAX);
    close_world(&w);
}

static struct reply posted(struct world *w, const char *method, const char *path,
                           const char *body)
{
    struct reply r = {0};
    control_serve(w->api, &w->settings,
                  &(struct control_request){.method = method,
                                            .path = path,
                                            .body = body,
                                            .len = strlen(body),
                                            .now_ns = w->now_ns},
                  &r);
    assert_int_equal(r.status, 200);
    return r;
}

static void post(struct world *w, const char *path, const char *body)
{
    struct reply r = posted(w, "POST", path, body);
    reply_clear(&r);
}

static void limits_change_while_it_runs_and_a_reset_can_fill_the_buckets(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, (const char *const[]){"limits.rpm", "600", NULL});
    static const struct {
        const char *limits;
        int fit;
    } cases[] = {
        {"{\"burst\":\"1s\"}", 10},    {"{\"burst\":\"5s\"}", 50},
        {"{\"rpm\":1200}", 100},       {"{\"rpm_enforced\":\"second\"}", 20},
        {"{\"opus-5.5.rpm\":60}", 1},  {"{\"rpm_enforced\":\"minute\"}", 5},
        {"{\"change_at\":\"1s\"}", 5},
    };
    assert_int_equal(how_many_fit(&w, 1, 1), 600);
    for (size_t i = 0; i < CASES(cases); i++) {
        post(&w, "/sim/limits", cases[i].limits);
        assert_int_equal(how_many_fit(&w, 1, 1), 0);
        post(&w, "/sim/reset", "{\"full\":true}");
        assert_null(meter_of(&w));
        assert_int_equal(how_many_fit(&w, 1, 1), cases[i].fit);
        assert_true(
            near(meter_of(&w)->buckets[METER_REQUESTS].sums.allowed, cases[i].fit));
        post(&w, "/sim/reset", "");
        assert_int_equal(how_many_fit(&w, 1, 1), 0);
    }
    close_world(&w);
}

static void a_reset_ends_the_day_and_can_fill_every_bucket(void **state)
{
    (void)state;
    static const char *const periods[] = {"60s", "0"};
    for (size_t i = 0; i < CASES(periods); i++) {
        struct world w;
        open_world(&w,
                   (const char *const[]){"limits.rpm", "600", "tenant.share", "0.25",
                                         "tenant.period", periods[i], NULL});
        how_many_fit(&w, 1, 1);
        w.now_ns = S(100);
        how_many_fit(&w, 1, 1);
        post(&w, "/sim/reset", "");
        w.now_ns = S(130); /* the co-tenant has slept since */
        assert_int_equal(how_many_fit(&w, 1, 1), 300);
        w.now_ns = S(160);
        assert_int_equal(how_many_fit(&w, 1, 1), i == 0 ? 150 : 225);
        close_world(&w);
    }
    static const struct {
        const char *limit;
        int64_t input, output;
    } cases[] = {{"limits.rpm", 1, 1}, {"limits.itpm", 10, 1}, {"limits.otpm", 1, 10}};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        open_world(&w, (const char *const[]){cases[i].limit, "600", NULL});
        int fit = how_many_fit(&w, cases[i].input, cases[i].output);
        post(&w, "/sim/reset", "{\"full\":true}");
        assert_int_equal(how_many_fit(&w, cases[i].input, cases[i].output), fit);
        close_world(&w);
    }
}

static void the_meters_are_told_as_json_and_as_json_lines(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, (const char *const[]){"limits.rpm", "2", "limits.otpm", "8000",
                                         "fault.it.kind", "bare429", "fault.it.at", "4",
                                         "tenant.share", "0.5", "tenant.period", "0",
                                         NULL});
    w.now_ns = S(7);
    assert_int_equal(ask(&w, HELLO), 200);
    assert_int_equal(ask(&w, HELLO), 200);
    assert_int_equal(ask(&w, HELLO), 429);
    w.now_ns = S(10);
    assert_int_equal(ask(&w, HELLO), 429);
    w.now_ns = S(12);

    struct reply r = posted(&w, "GET", "/sim/stats", "");
    json_t *o = json_loads(r.body.at, 0, NULL);
    double allowed = 0, used = 0, tenant = 0, seconds = 0;
    double rpm = 0;
    int sent, by_requests, by_fault, all, later;
    assert_int_equal(
        json_unpack(o,
                    "{s:{s:{s:F,s:{s:F,s:F,s:F,s:F},s:{s:n},s:i,s:{s:i,s:i,s:i},s:{s:i"
                    "}}}}",
                    "limits", FAMILY, "seconds", &seconds, "requests", "used", &used,
                    "allowed", &allowed, "tenant", &tenant, "per_minute", &rpm, "input",
                    "allowed", "sent", &sent, "refused", "requests", &by_requests,
                    "fault", &by_fault, "all", &all, "after_first_minute", "sent",
                    &later),
        0);
    assert_true(used == 2 && near(allowed, 2.05) && near(tenant, 0.05));
    assert_true(near(seconds, 3) && rpm == 2);
    assert_true(sent == 4 && by_requests == 1 && by_fault == 1 && all == 2);
    assert_int_equal(later, 0);
    json_decref(o);
    reply_clear(&r);

    r = posted(&w, "GET", "/sim/pace", "");
    char *line = r.body.at;
    for (int s = 0; s < 5; s++, line = strchr(line, '\n') + 1) {
        int at = -1, otherwise = -1, refused = -1;
        const char *family;
        o = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
        assert_int_equal(json_unpack(o, "{s:i,s:s,s:{s:i,s:F,s:F},s:i}", "s", &at,
                                     "family", &family, "requests", "refused", &refused,
                                     "used", &used, "per_minute", &rpm,
                                     "refused_otherwise", &otherwise),
                         0);
        assert_int_equal(at, s);
        assert_string_equal(family, FAMILY);
        assert_int_equal((int)used, s == 0 ? 2 : 0);
        assert_int_equal(refused, s == 0);
        assert_int_equal(otherwise, s == 3);
        assert_true(rpm == 2);
        json_decref(o);
    }
    assert_string_equal(line, "");
    reply_clear(&r);
    close_world(&w);
}

static int64_t input_of(struct world *w, int n)
{
    struct exchange x;
    char body[1600], filler[1000];
    memset(filler, 'w', sizeof filler);
    snprintf(body, sizeof body,
             "{\"model\":\"claude-opus-5-5\",\"max_tokens\":5,\"messages\":[{\"role\":"
             "\"user\",\"content\":\"%.*s %06d\"}]}",
             (int)sizeof filler, filler, n);
    began(w, &x, body);
    assert_int_equal(x.reply.status, 200);
    int64_t input = x.row.usage.input;
    char said[64];
    snprintf(said, sizeof said, "\"input_tokens\":%d,", (int)input);
    assert_non_null(strstr(x.reply.body.at, said));
    ended(w, &x);
    reply_clear(&x.reply);

    struct reply r = {0};
    api_count_tokens(
        w->api,
        &(struct api_request){
            .key = "k", .version = "2023-06-01", .body = body, .len = strlen(body)},
        &r);
    snprintf(said, sizeof said, "\"input_tokens\":%d}", (int)input);
    assert_non_null(strstr(r.body.at, said));
    reply_clear(&r);
    return input;
}

static void estimates_of_input_are_wrong_by_a_jitter_and_charged_as_told(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    struct world even, w;
    open_world(&even, NULL);
    open_world(&w, (const char *const[]){"input.jitter", "0.1", "limits.itpm",
                                         "1000000", NULL});
    double exact = (double)input_of(&even, 0), sum = 0, least = 1e9, most = 0;
    for (int i = 0; i < COUNT; i++) {
        double n = (double)input_of(&w, i);
        sum += n;
        least = n < least ? n : least;
        most = n > most ? n : most;
    }
    assert_true(least >= 0.9 * exact - 1 && least < 0.92 * exact);
    assert_true(most <= 1.1 * exact + 1 && most > 1.08 * exact);
    assert_true(sum / COUNT > 0.99 * exact && sum / COUNT < 1.01 * exact);
    assert_true(near(meter_of(&w)->buckets[METER_INPUT].sums.used, sum));
    assert_true(input_of(&w, 7) == input_of(&w, 7));
    close_world(&w);
    close_world(&even);
}

/* ---- money ---- */

/* What a client asks before it sends: without money too, but not without a key. */
static void models_are_told_one_by_one_and_need_a_key_but_no_credit(void **state)
{
    (void)state;
    struct world w;
    static const struct {
        const char *key, *name;
        long status;
        const char *says;
    } cases[] = {
        {"k", "claude-opus-5-5", 200, "\"id\":\"claude-opus-5-5\""},
        {"k", "claude-nope", 404, "model: claude-nope"},
        {"k", "opus", 404, "model: opus"},
        {"bad", "claude-opus-5-5", 401, "authentication_error"},
        {NULL, "claude-opus-5-5", 401, "authentication_error"},
    };
    open_world(
        &w, (const char *const[]){"credit.balance", "0", "auth.refuse", "bad", NULL});
    for (size_t i = 0; i < CASES(cases); i++) {
        struct reply r = {0};
        api_model(w.api,
                  &(struct api_request){.key = cases[i].key, .version = "2023-06-01"},
                  cases[i].name, &r);
        assert_int_equal(r.status, cases[i].status);
        assert_non_null(strstr(r.body.at, cases[i].says));
        reply_clear(&r);
    }
    close_world(&w);
}

static void counting_tokens_is_free_and_tells_of_credit_key_and_model(void **state)
{
    (void)state;
    static const struct {
        const char *key, *model, *credit;
        long status;
        const char *says;
    } cases[] = {
        {"k", "claude-haiku-5-5", "5", 200, "\"input_tokens\":"},
        {"k", "claude-haiku-5-5", "0", 400, "credit balance is too low"},
        {"k", "claude-nope", "5", 404, "model: claude-nope"},
        {"bad", "claude-haiku-5-5", "5", 401, "authentication_error"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        struct reply r = {0};
        char body[200];
        open_world(&w, (const char *const[]){"credit.balance", cases[i].credit,
                                             "auth.refuse", "bad", NULL});
        snprintf(body, sizeof body,
                 "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":"
                 "\"ping\"}]}",
                 cases[i].model);
        api_count_tokens(w.api,
                         &(struct api_request){.key = cases[i].key,
                                               .version = "2023-06-01",
                                               .body = body,
                                               .len = strlen(body)},
                         &r);
        assert_int_equal(r.status, cases[i].status);
        assert_non_null(strstr(r.body.at, cases[i].says));
        reply_clear(&r);
        close_world(&w);
    }
}

static void credit_is_charged_at_the_end_and_what_is_in_flight_completes(void **state)
{
    (void)state;
    struct world w;
    static struct exchange a, b;
    char usd[CATALOG_USD_MAX];
    /* One answer costs 50 tokens of $20 and 9 of $4 a million. */
    open_world(&w, (const char *const[]){"credit.balance", "0.001", NULL});
    began(&w, &a, HELLO);
    began(&w, &b, HELLO);
    ended(&w, &a);
    assert_string_equal(catalog_usd(org_credit(api_org(w.api)), usd), "-0.000036");
    ended(&w, &b);
    assert_string_equal(catalog_usd(org_credit(api_org(w.api)), usd), "-0.001072");
    reply_clear(&a.reply);
    reply_clear(&b.reply);

    began(&w, &a, HELLO);
    assert_int_equal(a.reply.status, 400);
    assert_true(a.refused_for_credit);
    assert_non_null(strstr(a.reply.body.at,
                           "\"message\":\"Your credit balance is too low to access the "
                           "Anthropic API. Please go to Plans & Billing to upgrade or "
                           "purchase credits.\""));
    assert_non_null(strstr(a.reply.body.at, "\"invalid_request_error\""));
    ended(&w, &a);
    reply_clear(&a.reply);

    struct reply r = {0};
    api_count_tokens(
        w.api,
        &(struct api_request){
            .key = "k", .version = "2023-06-01", .body = HELLO, .len = strlen(HELLO)},
        &r);
    assert_int_equal(r.status, 400);
    reply_clear(&r);

    org_credit_add(api_org(w.api), PICODOLLARS_PER_DOLLAR);
    assert_int_equal(ask(&w, HELLO), 200);
    close_world(&w);
}

static void a_spend_limit_names_the_day_of_access(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        int status;
        const char *says;
    } cases[] = {
        {"own", 400,
         "You have reached your specified API usage limits. You will regain access on "
         "2026-04-01 at 00:00 UTC."},
        {"workspace", 400,
         "You have reached your specified workspace API usage limits. You will regain "
         "access on 2026-04-01 at 00:00 UTC."},
        {"tier", 429, "\"error_code\":\"enforced_spend_limit_reached\""},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        struct exchange x;
        open_world(&w, (const char *const[]){"spend.limit", "0.001", "spend.until",
                                             "2026-04-01", "spend.kind", cases[i].kind,
                                             NULL});
        assert_int_equal(ask(&w, HELLO), 200);
        began(&w, &x, HELLO);
        assert_int_equal(x.reply.status, cases[i].status);
        assert_non_null(strstr(x.reply.body.at, cases[i].says));
        assert_null(header_of(&x, "retry-after"));
        ended(&w, &x);
        reply_clear(&x.reply);
        close_world(&w);
    }
}

/* ---- faults ---- */

static void faults_fire_when_their_conditions_say_so(void **state)
{
    (void)state;
    static const struct {
        const char *const keys[7];
        const char *fires; /* one letter a second, one request a second */
    } cases[] = {
        {{"kind", "500", NULL}, "xxxxxxxxxx"},
        {{"kind", "500", "at", "3,7", NULL}, "--x---x---"},
        {{"kind", "500", "every", "4", NULL}, "---x---x--"},
        {{"kind", "500", "first", "3", NULL}, "xxx-------"},
        {{"kind", "500", "from_s", "2", "to_s", "4.5", NULL}, "--xxx-----"},
        {{"kind", "500", "count", "2", NULL}, "xx--------"},
        {{"kind", "500", "every", "2", "count", "2", NULL}, "-x-x------"},
        {{"kind", "500", "p", "0", NULL}, "----------"},
        {{"kind", "500", "p", "1", "first", "1", NULL}, "x---------"},
        {{"kind", "500", "match", "nowhere", NULL}, "----------"},
        {{"kind", "500", "match", "ell", "at", "2", NULL}, "-x--------"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct faults f = {0};
        struct err e = {0};
        for (const char *const *k = cases[i].keys; *k; k += 2)
            assert_int_equal(faults_set(&f, "it", k[0], k[1], &e), 0);
        faults_begin(&f, 0, 1);
        for (int s = 0; s < 10; s++)
            assert_int_equal(faults_meet(&f, "hello", 5, S(s)) != NULL,
                             cases[i].fires[s] == 'x');
        faults_clear(&f);
    }
}

static void chance_is_about_right_and_the_same_every_time(void **state)
{
    (void)state;
    bool first[2000];
    for (int round = 0; round < 2; round++) {
        struct faults f = {0};
        int fired = 0;
        faults_set(&f, "529", "p", "0.2", NULL);
        faults_begin(&f, 0, 7);
        for (int i = 0; i < 2000; i++) {
            bool fires = faults_meet(&f, "", 0, 0) != NULL;
            if (round > 0)
                assert_int_equal(fires, first[i]);
            first[i] = fires;
            fired += fires;
        }
        assert_in_range(fired, 330, 470);
        faults_clear(&f);
    }
}

static void each_refusal_arrives_with_its_status_and_type(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        int status;
        const char *says;
    } cases[] = {
        {"400", 400, "invalid_request_error"},
        {"401", 401, "\"authentication_error\",\"message\":\"invalid x-api-key\""},
        {"402", 402, "billing_error"},
        {"403", 403, "permission_error"},
        {"404", 404, "not_found_error"},
        {"409", 409, "conflict_error"},
        {"413", 413, "request_too_large"},
        {"429", 429, "rate_limit_error"},
        {"500", 500, "\"api_error\",\"message\":\"Internal server error\""},
        {"504", 504, "timeout_error"},
        {"529", 529, "\"overloaded_error\",\"message\":\"Overloaded\""},
        {"credit", 400, "credit balance is too low"},
        {"spend_own", 400, "You will regain access on "},
        {"spend_workspace", 400, "specified workspace API usage limits"},
        {"spend_tier", 429, "enforced_spend_limit_reached"},
        {"bare429", 429, "\"message\":\"Error\""},
        {"concurrency429", 429, "Number of concurrent connections"},
        {"acceleration429", 429, "maximum usage increase rate"},
        {"longcontext429", 429, "Extra usage is required for long context requests."},
        {"html", 502, "<html>"},
        {"html200", 200, "<html>"},
        {"refusal", 200, "\"stop_reason\":\"refusal\""},
        {"empty_turn", 200, "\"content\":[]"},
        {"pause_turn", 200, "\"stop_reason\":\"pause_turn\""},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        struct exchange x;
        open_world(&w, (const char *const[]){"fault.it.kind", cases[i].kind, NULL});
        began(&w, &x, HELLO);
        assert_int_equal(x.reply.status, cases[i].status);
        assert_non_null(strstr(x.reply.body.at, cases[i].says));
        assert_non_null(header_of(&x, "request-id"));
        assert_string_equal(x.row.fault, cases[i].kind);
        ended(&w, &x);
        reply_clear(&x.reply);
        close_world(&w);
    }
}

/* ---- answers ---- */

static char *answer_to(const char *body, const char *const *pairs, bool stream)
{
    struct world w;
    struct exchange x;
    open_world(&w, pairs);
    began(&w, &x, body);
    assert_int_equal(x.reply.status, 200);
    char *copy = strdup(x.reply.body.at);
    if (!stream) {
        json_t *o = json_loads(copy, 0, NULL);
        assert_non_null(o);
        free(copy);
        copy = strdup(json_string_value(
            json_object_get(json_array_get(json_object_get(o, "content"), 0), "text")));
        json_decref(o);
    }
    ended(&w, &x);
    reply_clear(&x.reply);
    close_world(&w);
    return copy;
}

static void the_same_job_is_always_answered_alike(void **state)
{
    (void)state;
    char *a = answer_to(HELLO, NULL, false), *b = answer_to(HELLO, NULL, false);
    char *c = answer_to(HELLO, (const char *const[]){"output.seed", "2", NULL}, false);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    assert_non_null(strstr(a, "Simulated answer"));
    assert_non_null(strstr(a, "hello"));
    free(a);
    free(b);
    free(c);
}

static void an_answer_has_the_bytes_that_were_asked_for(void **state)
{
    (void)state;
    static const char *const bytes[] = {"1", "50", "1024", "20480", "200000"};
    for (size_t i = 0; i < CASES(bytes); i++) {
        static const char big[] = "{\"model\":\"claude-opus-5-5\",\"max_tokens\":"
                                  "128000,\"messages\":[{\"role\":"
                                  "\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                                  "\"a\\u00e9\\n\\\"q\"}]}]}";
        char *a = answer_to(big, (const char *const[]){"output.bytes", bytes[i], NULL},
                            false);
        assert_int_equal(strlen(a), atoi(bytes[i]));
        free(a);
    }
}

static void a_stream_says_the_same_as_the_whole_answer(void **state)
{
    (void)state;
    static const char body[] =
        "{\"model\":\"claude-opus-5-5\",\"stream\":true,\"max_tokens\":900,"
        "\"messages\":"
        "[{\"role\":\"user\",\"content\":\"h\xc3\xa4llo \\\"x\\\"\"}]}";
    char *stream = answer_to(body, NULL, true), *line = stream, text[8192] = "";
    static const char *const order[] = {
        "message_start",       "content_block_start", "ping",
        "content_block_delta", "content_block_stop",  "message_delta",
        "message_stop"};
    size_t at = 0;
    while ((line = strstr(line, "data: ")) != NULL) {
        line += strlen("data: ");
        json_error_t bad;
        json_t *o = json_loads(line, JSON_DISABLE_EOF_CHECK, &bad);
        assert_non_null(o);
        const char *type = json_string_value(json_object_get(o, "type"));
        if (strcmp(type, order[at]) != 0)
            at++;
        assert_true(at < CASES(order));
        assert_string_equal(type, order[at]);
        if (strcmp(type, "content_block_delta") == 0)
            strcat(text, json_string_value(
                             json_object_get(json_object_get(o, "delta"), "text")));
        json_decref(o);
    }
    assert_int_equal(at, CASES(order) - 1);
    assert_non_null(strstr(text, "h\xc3\xa4llo"));
    assert_true(strlen(text) > 100 && text[strlen(text) - 1] == '.');
    free(stream);
}

static void a_request_is_refused_in_the_words_of_the_api(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int status;
        const char *says;
    } cases[] = {
        {"{\"model\":", 400, "not valid JSON"},
        {"[]", 400, "not a JSON object"},
        {"{\"model\":\"claude-opus-5-5\",\"messages\":[]}", 400,
         "max_tokens: Field required"},
        {"{\"model\":\"claude-opus-5-5\",\"max_tokens\":5}", 400,
         "messages: Field required"},
        {"{\"max_tokens\":5,\"messages\":[]}", 400, "model: Field required"},
        {"{\"model\":\"claude-opus-5-5\",\"max_tokens\":5,\"messages\":[]}", 400,
         "at least one message is required"},
        {"{\"model\":\"claude-opus-5-5\",\"max_tokens\":\"5\",\"messages\":[]}", 400,
         "max_tokens: Input should be a valid integer"},
        {"{\"model\":\"gpt\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\","
         "\"content\":\"x\"}]}",
         404, "\"not_found_error\",\"message\":\"model: gpt\""},
        {"{\"model\":\"opus\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\","
         "\"content\":\"x\"}]}",
         404, "model: opus"},
        {"{\"model\":\"claude-haiku-4-5\",\"max_tokens\":64001,\"messages\":[{\"role\":"
         "\"user\",\"content\":\"x\"}]}",
         400, "max_tokens: 64001 > 64000"},
    };
    struct world w;
    struct exchange x;
    open_world(&w, NULL);
    for (size_t i = 0; i < CASES(cases); i++) {
        began(&w, &x, cases[i].body);
        assert_int_equal(x.reply.status, cases[i].status);
        assert_non_null(strstr(x.reply.body.at, cases[i].says));
        ended(&w, &x);
        reply_clear(&x.reply);
    }
    close_world(&w);
}

/* ---- the prompt cache ---- */

static char *cached_prompt(size_t bytes, const char *control, const char *question)
{
    char *filler = malloc(bytes + 1), *body = malloc(bytes + 512);
    memset(filler, 'w', bytes);
    filler[bytes] = '\0';
    sprintf(body,
            "{\"model\":\"claude-opus-5-5\",\"max_tokens\":5,\"system\":[{\"type\":"
            "\"text\",\"text\":\"%s\"%s}],\"messages\":[{\"role\":\"user\",\"content\":"
            "\"%s\"}]}",
            filler, control, question);
    free(filler);
    return body;
}

#define KEEP_5M ",\"cache_control\":{\"type\":\"ephemeral\"}"
#define KEEP_1H ",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}"

static struct usage usage_of(struct world *w, size_t bytes, const char *control,
                             const char *question)
{
    struct exchange x;
    char *body = cached_prompt(bytes, control, question);
    began(w, &x, body);
    struct usage u = x.row.usage;
    ended(w, &x);
    reply_clear(&x.reply);
    free(body);
    return u;
}

static void
a_prefix_is_read_after_the_first_byte_and_until_its_time_is_over(void **state)
{
    (void)state;
    struct world w;
    static struct exchange a, b;
    open_world(&w, NULL);
    char *one = cached_prompt(8000, KEEP_5M, "one");
    char *two = cached_prompt(8000, KEEP_5M, "two");

    began(&w, &a, one);
    began(&w, &b, two); /* too early: nothing of the first has left */
    assert_true(a.row.usage.cache_write_5m > 1900 && a.row.usage.cache_read == 0);
    assert_true(b.row.usage.cache_write_5m == a.row.usage.cache_write_5m);
    ended(&w, &a);
    ended(&w, &b);

    int64_t kept = a.row.usage.cache_write_5m;
    w.now_ns += S(290);
    struct usage u = usage_of(&w, 8000, KEEP_5M, "three");
    assert_true(u.cache_read == kept && u.cache_write_5m == 0 && u.input < 30);
    w.now_ns += S(290); /* the use kept it alive */
    assert_true(usage_of(&w, 8000, KEEP_5M, "four").cache_read == kept);
    w.now_ns += S(301);
    assert_true(usage_of(&w, 8000, KEEP_5M, "five").cache_read == 0);

    reply_clear(&a.reply);
    reply_clear(&b.reply);
    free(one);
    free(two);
    close_world(&w);
}

static void an_hour_is_kept_an_hour_and_short_prompts_not_at_all(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, NULL);
    struct usage u = usage_of(&w, 8000, KEEP_1H, "one");
    assert_true(u.cache_write_1h > 1900 && u.cache_write_5m == 0);
    w.now_ns += S(3599);
    assert_true(usage_of(&w, 8000, KEEP_1H, "two").cache_read > 1900);

    u = usage_of(&w, 1000, KEEP_5M, "short");
    assert_true(u.cache_write_5m == 0 && u.cache_read == 0);
    close_world(&w);
}

static void what_the_cache_holds_is_free_of_the_input_limit(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, (const char *const[]){"limits.itpm", "2200", NULL});
    assert_true(usage_of(&w, 8000, KEEP_5M, "a").cache_write_5m > 0);
    for (int i = 0; i < 5; i++)
        assert_true(usage_of(&w, 8000, KEEP_5M, "b").cache_read > 1900);
    assert_true(usage_of(&w, 8000, "", "b").input == 0); /* refused */
    close_world(&w);
}

/* ---- small parts ---- */

static void only_sound_json_is_a_document(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool sound;
    } cases[] = {
        {"{}", true},
        {" [1, -2.5e+3, \"a\\u00e9\\n\", true, false, null, {\"a\":[]}] ", true},
        {"\"0123456789abcdef\"", true},
        {"", false},
        {"{", false},
        {"{\"a\"}", false},
        {"{\"a\":1,}", false},
        {"[1 2]", false},
        {"01", false},
        {"1.", false},
        {"\"\\x\"", false},
        {"\"\\u12g4\"", false},
        {"\"open", false},
        {"\"tab\there, behind eight bytes\"", false},
        {"{} x", false},
        {"nul", false},
        {"{a:1}", false},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        /* Exactly as long as it is, so that a step beyond is seen. */
        size_t len = strlen(cases[i].text), bad_at;
        char *copy = malloc(len ? len : 1);
        struct span v;
        memcpy(copy, cases[i].text, len);
        assert_int_equal(scan_document(copy, len, &v, &bad_at), cases[i].sound);
        free(copy);
    }
    char deep[2000];
    struct span v;
    size_t bad_at;
    memset(deep, '[', 1000);
    memset(deep + 1000, ']', 1000);
    assert_false(scan_document(deep, sizeof deep, &v, &bad_at));
}

static void timers_come_in_the_order_of_their_moments(void **state)
{
    (void)state;
    struct timers ts = {0};
    struct timer t[200] = {{0, 0}};
    for (int i = 0; i < 200; i++)
        assert_int_equal(timers_set(&ts, &t[i], (i * 7919) % 1000), 0);
    for (int i = 0; i < 200; i += 3)
        timers_drop(&ts, &t[i]);
    timers_set(&ts, &t[1], 2000);

    int64_t last = -1;
    int count = 0;
    for (struct timer *due; (due = timers_due(&ts, 1000)) != NULL; count++) {
        assert_true(due->due_ns >= last);
        last = due->due_ns;
    }
    assert_int_equal(count, 200 - 67 - 1);
    assert_true(timers_next_ns(&ts) == 2000);
    timers_free(&ts);
}

static void settings_are_read_with_their_units_and_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *says; /* says NULL: fine */
    } cases[] = {
        {"latency.ttft", "30ms", NULL},
        {"latency.ttft", "1.5s", NULL},
        {"latency.ttft", "30", "want a time with its unit"},
        {"limits.rpm", "many", "limits.rpm = many: want a number"},
        {"limits.opus-5.5.itpm", "1000", NULL},
        {"limits.opus-5.5.color", "1000", "no setting is named so"},
        {"credit.balance", "0.25", NULL},
        {"credit.balance", "cheap", "want dollars"},
        {"spend.kind", "mine", "want own, workspace or tier"},
        {"limits.rpm_enforced", "second", NULL},
        {"limits.rpm_enforced", "hour", "want minute or second"},
        {"limits.change_at", "90s", NULL},
        {"limits.change_factor", "0", "want a number from 0.001"},
        {"tenant.share", "1.5", "want a number from 0 to 1"},
        {"fault.a.kind", "529", NULL},
        {"fault.a.kind", "999", "no fault is named so"},
        {"fault.a.colour", "1", "no key is named colour"},
        {"fault.a.at", "3,x", "numbers"},
        {"nonsense", "1", "nonsense: no setting is named so"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct settings s;
        struct err e = {0};
        assert_int_equal(settings_init(&s, &e), 0);
        int rc = settings_set(&s, cases[i].name, cases[i].value, &e);
        assert_int_equal(rc, cases[i].says ? -1 : 0);
        if (cases[i].says)
            assert_non_null(strstr(e.text, cases[i].says));
        settings_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_refills_with_time_and_never_beyond_its_room),
        cmocka_unit_test(a_new_rate_keeps_the_level_and_a_first_one_comes_full),
        cmocka_unit_test(what_a_small_bucket_never_holds_passes_when_it_is_full),
        cmocka_unit_test(somebody_else_takes_what_is_there_and_no_more),
        cmocka_unit_test(each_limit_refuses_in_its_own_words_and_says_when_to_come),
        cmocka_unit_test(too_many_at_a_time_are_refused_until_one_ends),
        cmocka_unit_test(a_burst_is_so_many_seconds_of_every_limit),
        cmocka_unit_test(requests_by_the_second_are_refused_under_roomy_headers),
        cmocka_unit_test(a_co_tenant_takes_its_share_in_waves_or_evenly),
        cmocka_unit_test(limits_change_and_change_back_as_planned),
        cmocka_unit_test(token_headers_are_rounded_and_requests_are_not),
        cmocka_unit_test(limits_show_on_answers_and_on_refusals_for_rate),
        cmocka_unit_test(headers_of_a_stream_come_before_its_output_is_charged),
        cmocka_unit_test(usage_may_rise_so_steeply_and_not_more),
        cmocka_unit_test(who_sends_all_one_can_gets_just_what_was_allowed),
        cmocka_unit_test(what_runs_over_was_allowed_all_the_same),
        cmocka_unit_test(limits_change_while_it_runs_and_a_reset_can_fill_the_buckets),
        cmocka_unit_test(a_reset_ends_the_day_and_can_fill_every_bucket),
        cmocka_unit_test(the_meters_are_told_as_json_and_as_json_lines),
        cmocka_unit_test(estimates_of_input_are_wrong_by_a_jitter_and_charged_as_told),
        cmocka_unit_test(models_are_told_one_by_one_and_need_a_key_but_no_credit),
        cmocka_unit_test(counting_tokens_is_free_and_tells_of_credit_key_and_model),
        cmocka_unit_test(credit_is_charged_at_the_end_and_what_is_in_flight_completes),
        cmocka_unit_test(a_spend_limit_names_the_day_of_access),
        cmocka_unit_test(faults_fire_when_their_conditions_say_so),
        cmocka_unit_test(chance_is_about_right_and_the_same_every_time),
        cmocka_unit_test(each_refusal_arrives_with_its_status_and_type),
        cmocka_unit_test(the_same_job_is_always_answered_alike),
        cmocka_unit_test(an_answer_has_the_bytes_that_were_asked_for),
        cmocka_unit_test(a_stream_says_the_same_as_the_whole_answer),
        cmocka_unit_test(a_request_is_refused_in_the_words_of_the_api),
        cmocka_unit_test(
            a_prefix_is_read_after_the_first_byte_and_until_its_time_is_over),
        cmocka_unit_test(an_hour_is_kept_an_hour_and_short_prompts_not_at_all),
        cmocka_unit_test(what_the_cache_holds_is_free_of_the_input_limit),
        cmocka_unit_test(only_sound_json_is_a_document),
        cmocka_unit_test(timers_come_in_the_order_of_their_moments),
        cmocka_unit_test(settings_are_read_with_their_units_and_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
