#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "runner/bucket.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

enum { BEGIN = 5000000, HOUR = 3600000 };

static uint64_t seed;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static const struct bucket_ask a_job = {
    .group = 7, .input_est = 1000, .max_tokens = 4096};

static struct bucket_headers told(int64_t rpm, int64_t itpm, int64_t otpm)
{
    struct bucket_headers h = bucket_headers_none;
    h.limit[BUCKET_REQUESTS] = h.remaining[BUCKET_REQUESTS] = rpm;
    h.limit[BUCKET_INPUT] = h.remaining[BUCKET_INPUT] = itpm;
    h.limit[BUCKET_OUTPUT] = h.remaining[BUCKET_OUTPUT] = otpm;
    return h;
}

static struct bucket_ticket go(struct buckets *b, int slot,
                               const struct bucket_ask *ask, int64_t now)
{
    struct bucket_look look = buckets_ask(b, ask, now);
    assert_true(look.may);
    return buckets_take(b, slot, ask, &look, now);
}

/* One answer has told these limits, with full buckets. Returns the slot. */
static int opened(struct buckets *b, const struct bucket_headers *h)
{
    buckets_init(b, BEGIN);
    int slot = buckets_join(b, BEGIN);
    struct bucket_ticket t = go(b, slot, &a_job, BEGIN);
    buckets_headers(b, &t, h, BEGIN + 500);
    buckets_ended(b, &t, 1000, 200, BEGIN + 3000);
    return slot;
}

/* How many leave within a span, each a millisecond after it is asked to come. */
static int leave(struct buckets *b, int slot, const struct bucket_ask *ask,
                 int64_t from, int64_t to)
{
    int n = 0;
    for (int64_t now = from; now < to;) {
        struct bucket_look look = buckets_ask(b, ask, now);
        if (look.may) {
            struct bucket_ticket t = buckets_take(b, slot, ask, &look, now);
            buckets_ended(b, &t, (int64_t)ask->input_est, 10, now);
            n++;
        } else {
            assert_true(look.ask_at > now);
            now = look.ask_at;
        }
    }
    return n;
}

/* ---- the first request ---- */

static void one_request_goes_out_and_the_rest_wait_for_its_answer(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    buckets_init(&b, BEGIN);
    int slot = buckets_join(&b, BEGIN);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN);
    struct bucket_look look = buckets_ask(&b, &a_job, BEGIN + 10);
    assert_false(look.may);
    assert_int_equal(look.ask_at, 0); /* only an event can tell */
    buckets_headers(&b, &t, &h, BEGIN + 500);
    assert_true(buckets_ask(&b, &a_job, BEGIN + 700).may);
}

static void if_the_first_is_lost_another_one_goes(void **state)
{
    (void)state;
    struct buckets b;
    buckets_init(&b, BEGIN);
    int slot = buckets_join(&b, BEGIN);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN);
    buckets_ended(&b, &t, -1, -1, BEGIN + 500);
    t = go(&b, slot, &a_job, BEGIN + 500);
    assert_false(buckets_ask(&b, &a_job, BEGIN + 500).may);
}

static void where_no_limits_are_told_everything_passes(void **state)
{
    (void)state;
    struct buckets b;
    buckets_init(&b, BEGIN);
    int slot = buckets_join(&b, BEGIN);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN);
    buckets_headers(&b, &t, &bucket_headers_none, BEGIN + 500);
    for (int i = 0; i < 1000; i++)
        go(&b, slot, &a_job, BEGIN + 500);
}

static void limits_of_earlier_are_forgotten_where_none_are_told_now(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(60, 2000000, 400000);
    buckets_free_slot(&b, opened(&b, &h), BEGIN + HOUR);
    int slot = buckets_join(&b, BEGIN + HOUR);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN + HOUR);
    buckets_ended(&b, &t, 1000, 200, BEGIN + HOUR + 3000);
    for (int i = 0; i < 200; i++)
        go(&b, slot, &a_job, BEGIN + HOUR + 3000);
}

/* ---- the rate ---- */

static void each_bucket_holds_its_rate(void **state)
{
    (void)state;
    static const struct {
        int64_t rpm, itpm, otpm;
        double input;
        enum bucket binds;
        int least, most; /* a minute, after the full bucket was emptied */
    } cases[] = {
        {60, 10000000, 10000000, 1000, BUCKET_REQUESTS, 58, 61},
        {1000, 10000000, 10000000, 1000, BUCKET_REQUESTS, 990, 1001},
        {20000, 100000000, 100000000, 1000, BUCKET_REQUESTS, 19800, 20001},
        {1000, 200000, 10000000, 1000, BUCKET_INPUT, 195, 201},
        {1000, 30000, 10000000, 1500, BUCKET_INPUT, 19, 21},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct buckets b;
        struct bucket_headers h = told(cases[i].rpm, cases[i].itpm, cases[i].otpm);
        struct bucket_ask ask = {.group = 7, .input_est = cases[i].input};
        int slot = opened(&b, &h);
        leave(&b, slot, &ask, BEGIN + 3000, BEGIN + 600000);
        int n = leave(&b, slot, &ask, BEGIN + 600000, BEGIN + 660000);
        assert_in_range(n, cases[i].least, cases[i].most);
        assert_int_equal(buckets_ask(&b, &ask, BEGIN + 660000).binds, cases[i].binds);
        double share = buckets_share(&b, cases[i].binds, BEGIN + 660000);
        assert_true(share > 0.95 && share < 1.05);
    }
}

static void the_moment_to_ask_again_is_neither_early_nor_late(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(100, 10000000, 10000000);
    int slot = opened(&b, &h);
    leave(&b, slot, &a_job, BEGIN + 3000, BEGIN + 300000);
    for (int64_t now = BEGIN + 300000, i = 0; i < 50; i++) {
        struct bucket_look look = buckets_ask(&b, &a_job, now);
        if (look.may) {
            buckets_take(&b, slot, &a_job, &look, now);
            continue;
        }
        struct buckets copy = b;
        assert_false(buckets_ask(&copy, &a_job, look.ask_at - 2).may);
        assert_true(buckets_ask(&b, &a_job, look.ask_at).may);
        now = look.ask_at;
    }
}

static void what_never_left_is_given_back(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    leave(&b, slot, &a_job, BEGIN + 3000, BEGIN + 4000);
    double level = b.one[BUCKET_INPUT].level, excess = b.one[BUCKET_REQUESTS].excess;
    struct bucket_look look = {.may = true};
    struct bucket_ticket t = buckets_take(&b, slot, &a_job, &look, b.at);
    assert_true(b.one[BUCKET_INPUT].level < level);
    buckets_dropped(&b, &t, b.at);
    assert_true(fabs(b.one[BUCKET_INPUT].level - level) < 1);
    assert_true(b.one[BUCKET_REQUESTS].excess <= excess + 1e-9);
    assert_true(b.out < 0.5);
}

static void an_estimate_is_settled_when_the_answer_tells(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    leave(&b, slot, &a_job, BEGIN + 4000, BEGIN + 6000);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN + 9000);
    double level = b.one[BUCKET_INPUT].level;
    buckets_ended(&b, &t, 400, 100, BEGIN + 9000); /* the cache held the rest */
    assert_true(fabs(b.one[BUCKET_INPUT].level - (level + t.cost[BUCKET_INPUT] - 400)) <
                1);
}

/* ---- what jobs are like ---- */

static void each_kind_of_job_has_its_own_measure(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(20000, 1000000000, 1000000000);
    int slot = opened(&b, &h);
    struct bucket_ask twice = {.group = 1, .input_est = 1000, .max_tokens = 64000};
    struct bucket_ask half = {.group = 2, .input_est = 1000, .max_tokens = 64000};
    for (int i = 0; i < 100; i++) {
        int64_t now = BEGIN + 10000 + 2000 * i;
        struct bucket_ticket t = go(&b, slot, &twice, now);
        struct bucket_ticket u = go(&b, slot, &half, now + 500);
        buckets_ended(&b, &t, 2000, 4000, now + 1000);
        buckets_ended(&b, &u, 500, 50, now + 1000);
    }
    struct bucket_ticket t = go(&b, slot, &twice, BEGIN + HOUR);
    struct bucket_ticket u = go(&b, slot, &half, BEGIN + HOUR + 500);
    assert_true(fabs(t.cost[BUCKET_INPUT] - 2000) < 50);
    assert_true(fabs(u.cost[BUCKET_INPUT] - 500) < 50);
    assert_true(fabs(t.cost[BUCKET_OUTPUT] - 4000) < 100);
    assert_true(fabs(u.cost[BUCKET_OUTPUT] - 50) < 10);
}

static void max_tokens_is_no_cost(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(20000, 1000000000, 1000000000);
    int slot = opened(&b, &h);
    struct bucket_ask new_kind = {.group = 99, .input_est = 10, .max_tokens = 128000};
    assert_true(go(&b, slot, &new_kind, BEGIN + 9000).cost[BUCKET_OUTPUT] <= 600);
    struct bucket_ask brief = {.group = 98, .input_est = 10, .max_tokens = 20};
    assert_true(go(&b, slot, &brief, BEGIN + 9900).cost[BUCKET_OUTPUT] <= 20);
}

static void more_kinds_than_there_is_room_for_push_out_the_oldest(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(0, 0, 0);
    int slot = opened(&b, &h);
    struct bucket_ask usual = {.group = 42, .input_est = 1000};
    struct bucket_ticket u = go(&b, slot, &usual, BEGIN + 9000);
    buckets_ended(&b, &u, 500, 70, BEGIN + 9000);
    for (uint64_t i = 1; i <= 3000; i++) {
        buckets_ask(&b, &usual, BEGIN + 9000 + (int64_t)i); /* one that is in use */
        struct bucket_ask ask = {.group = i * UINT64_C(0x9e3779b97f4a7c15),
                                 .input_est = 1000};
        struct bucket_ticket t = go(&b, slot, &ask, BEGIN + 9000 + (int64_t)i);
        buckets_ended(&b, &t, 3000, 70, BEGIN + 9000 + (int64_t)i);
        t = go(&b, slot, &ask, BEGIN + 9000 + (int64_t)i);
        assert_true(t.cost[BUCKET_INPUT] > 2900); /* the newest is always known */
        buckets_dropped(&b, &t, BEGIN + 9000 + (int64_t)i);
    }
    u = go(&b, slot, &usual, BEGIN + 13000);
    assert_true(fabs(u.cost[BUCKET_INPUT] - 500) < 1);
    assert_true(buckets_sane(&b));
}

/* ---- headers ---- */

static void levels_are_believed_of_the_newest_request_alone(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    struct bucket_ticket older = go(&b, slot, &a_job, BEGIN + 9000);
    struct bucket_ticket newer = go(&b, slot, &a_job, BEGIN + 9500);
    struct bucket_headers low = told(1000, 2000000, 400000);
    low.remaining[BUCKET_INPUT] = 40000;
    buckets_headers(&b, &newer, &h, BEGIN + 9600);
    double level = b.one[BUCKET_INPUT].level;
    buckets_headers(&b, &older, &low, BEGIN + 9601);
    assert_true(b.one[BUCKET_INPUT].level >= level);
}

static void what_others_use_is_heard(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN + 9000);
    h.remaining[BUCKET_INPUT] = 100000;
    buckets_headers(&b, &t, &h, BEGIN + 9500);
    assert_true(b.one[BUCKET_INPUT].level < 300000);
    assert_true(b.one[BUCKET_INPUT].drift > 0);
}

static void a_new_limit_is_heard_at_once(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    leave(&b, slot, &a_job, BEGIN + 3000, BEGIN + 120000);
    struct bucket_look look = {.may = true};
    struct bucket_ticket t = buckets_take(&b, slot, &a_job, &look, BEGIN + 120000);
    struct bucket_headers less = told(500, 2000000, 400000);
    less.remaining[BUCKET_REQUESTS] = 0;
    buckets_headers(&b, &t, &less, BEGIN + 120500);
    buckets_ended(&b, &t, 1000, 10, BEGIN + 120500);
    int n = leave(&b, slot, &a_job, BEGIN + 120500, BEGIN + 180500);
    assert_in_range(n, 480, 501);
}

/* ---- refusals ---- */

static struct bucket_refused refusal(enum bucket_refusal kind, enum bucket bucket,
                                     int64_t retry_after_ms)
{
    return (struct bucket_refused){.kind = kind,
                                   .bucket = bucket,
                                   .retry_after_ms = retry_after_ms,
                                   .headers = bucket_headers_none};
}

static void a_quota_refusal_is_waited_out(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN + 9000);
    struct bucket_refused r = refusal(REFUSED_QUOTA, BUCKET_INPUT, 7000);
    r.headers = told(1000, 2000000, 400000);
    r.headers.remaining[BUCKET_INPUT] = 0;
    buckets_refused(&b, &t, &r, BEGIN + 9100);
    struct bucket_look look = buckets_ask(&b, &a_job, BEGIN + 9200);
    assert_false(look.may);
    assert_int_equal(look.ask_at, BEGIN + 9100 + 7000);
    assert_int_equal(look.binds, BUCKET_INPUT);
    assert_true(b.one[BUCKET_INPUT].level < 40000);
    assert_true(buckets_ask(&b, &a_job, look.ask_at).may);
}

static void what_is_not_the_buckets_matter_leaves_them_as_they_are(void **state)
{
    (void)state;
    static const enum bucket_refusal kinds[] = {REFUSED_CONCURRENCY, REFUSED_EDGE,
                                                REFUSED_LONG_CONTEXT};
    for (size_t i = 0; i < CASES(kinds); i++) {
        struct buckets b;
        struct bucket_headers h = told(1000, 2000000, 400000);
        int slot = opened(&b, &h);
        leave(&b, slot, &a_job, BEGIN + 8900, BEGIN + 8990);
        buckets_ask(&b, &a_job, BEGIN + 9000);
        double levels[BUCKETS];
        for (int k = 0; k < BUCKETS; k++)
            levels[k] = b.one[k].level;
        struct bucket_look look = {.may = true};
        struct bucket_ticket t = buckets_take(&b, slot, &a_job, &look, BEGIN + 9000);
        struct bucket_refused r = refusal(kinds[i], BUCKET_NONE, 60000);
        buckets_refused(&b, &t, &r, BEGIN + 9000);
        for (int k = 0; k < BUCKETS; k++)
            assert_true(fabs(b.one[k].level - levels[k]) < 1);
        assert_true(b.out < 0.5);
        assert_true(buckets_ask(&b, &a_job, BEGIN + 9500).may);
    }
}

static void a_failure_of_the_server_changes_nothing_but_what_is_out(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN + 9000);
    double level = b.one[BUCKET_INPUT].level, q = b.all.q, out = b.all.out;
    buckets_ended(&b, &t, -1, -1, BEGIN + 9000);
    assert_true(fabs(b.one[BUCKET_INPUT].level - level) < 1e-6);
    assert_true(fabs(b.all.q - q) < 1e-12 && fabs(b.all.out - out) < 1e-12);
    assert_true(b.out < 0.5);
}

static void a_refusal_against_the_headers_teaches_a_smaller_burst(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    int before = leave(&b, slot, &a_job, BEGIN + 3000, BEGIN + 5000);
    struct bucket_ticket t = go(&b, slot, &a_job, BEGIN + 5100);
    struct bucket_refused r = refusal(REFUSED_QUOTA, BUCKET_REQUESTS, 1000);
    r.headers = told(1000, 2000000, 400000);
    r.headers.remaining[BUCKET_REQUESTS] = 950;
    buckets_refused(&b, &t, &r, BEGIN + 5200);
    assert_true(b.one[BUCKET_REQUESTS].hidden_ms > 0);
    leave(&b, slot, &a_job, BEGIN + 5200, BEGIN + 8000);
    int after = leave(&b, slot, &a_job, BEGIN + 8000, BEGIN + 10000);
    assert_true(after < before); /* not faster than the refill any more */
    assert_in_range(after, 31, 35);
}

static void a_request_larger_than_a_bucket_leaves_alone_when_that_is_full(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 100000, 400000);
    int slot = opened(&b, &h);
    leave(&b, slot, &a_job, BEGIN + 3000, BEGIN + 100000);
    struct bucket_ask huge = {.group = 8, .input_est = 150000, .reserve = true};
    int64_t now = BEGIN + 100000;
    struct bucket_look look = buckets_ask(&b, &huge, now);
    assert_false(look.may);
    assert_true(look.alone);
    assert_in_range(look.ask_at - now, 1000, 61000);
    assert_false(buckets_ask(&b, &a_job, look.ask_at - 1).may); /* they wait for it */
    now = look.ask_at;
    look = buckets_ask(&b, &huge, now);
    assert_true(look.may && look.alone);
    struct bucket_ticket t = buckets_take(&b, slot, &huge, &look, now);
    assert_true(t.alone);

    struct bucket_refused r = refusal(REFUSED_QUOTA, BUCKET_INPUT, 60000);
    r.headers = told(1000, 100000, 400000);
    buckets_refused(&b, &t, &r, now + 100);
    assert_true(buckets_ask(&b, &a_job, now + 400).may); /* and the lane goes on */
}

/* ---- acceleration ---- */

static void a_lane_that_rose_too_fast_doubles_every_half_minute(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(20000, 1000000000, 1000000000);
    int slot = opened(&b, &h);
    int64_t now = BEGIN + 60000;
    int n = leave(&b, slot, &a_job, BEGIN + 50000, now);
    assert_true(n > 3000);
    struct bucket_ticket t = go(&b, slot, &a_job, now + 100);
    struct bucket_refused r = refusal(REFUSED_ACCELERATION, BUCKET_REQUESTS, -1);
    b.one[BUCKET_REQUESTS].ramp_from = 2000; /* as if it had begun at 2,000 a minute */
    b.one[BUCKET_REQUESTS].ramp_at = now + 100;
    buckets_refused(&b, &t, &r, now + 100);
    int first = leave(&b, slot, &a_job, now + 100, now + 5100);
    assert_in_range(first, 100, 200);
    leave(&b, slot, &a_job, now + 5100, now + 30100);
    int second = leave(&b, slot, &a_job, now + 30100, now + 35100);
    assert_true(second > first * 17 / 10 && second < first * 23 / 10);
    leave(&b, slot, &a_job, now + 35100, now + 300000);
    int full = leave(&b, slot, &a_job, now + 300000, now + 305000);
    assert_true(full > 1600);

    /* and begins low again after long idleness */
    int again = leave(&b, slot, &a_job, now + HOUR, now + HOUR + 5000);
    assert_true(again < 400);
}

static void a_stated_ceiling_is_kept_until_the_minute_is_over(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(20000, 2000000, 1000000000);
    int slot = opened(&b, &h);
    int64_t now = BEGIN + 60000;
    struct bucket_ticket t = go(&b, slot, &a_job, now);
    struct bucket_refused r = refusal(REFUSED_ACCELERATION, BUCKET_INPUT, 10000);
    r.stated_now = 120000;
    r.stated_next = 240000;
    buckets_refused(&b, &t, &r, now);
    assert_int_equal(leave(&b, slot, &a_job, now, now + 10000), 0);
    int n = leave(&b, slot, &a_job, now + 20000, now + 60000);
    assert_in_range(n, 145, 175); /* 240 a minute */
}

/* ---- runners ---- */

static void a_runner_that_joins_others_need_not_ask_first(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int first = opened(&b, &h);
    go(&b, first, &a_job, BEGIN + 9000);
    int second = buckets_join(&b, BEGIN + 9100);
    assert_int_not_equal(first, second);
    assert_true(buckets_ask(&b, &a_job, BEGIN + 9500).may);
}

static void a_new_run_keeps_what_was_learned_and_asks_first(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h);
    buckets_free_slot(&b, slot, BEGIN + 9000);
    double out = b.all.out;
    slot = buckets_join(&b, BEGIN + HOUR);
    go(&b, slot, &a_job, BEGIN + HOUR);
    assert_false(buckets_ask(&b, &a_job, BEGIN + HOUR).may);
    assert_true(fabs(b.all.out - out) < 1e-9);
}

static void what_a_dead_runner_had_out_is_forgotten(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&b, &h), other = buckets_join(&b, BEGIN + 9000);
    struct bucket_ticket t[20], mine = go(&b, slot, &a_job, BEGIN + 9000);
    for (int i = 0; i < 20; i++)
        t[i] = go(&b, other, &a_job, BEGIN + 9300 + 300 * i);
    assert_true(fabs(b.out - 21) < 0.1);
    buckets_free_slot(&b, other, BEGIN + 20000);
    assert_true(fabs(b.out - 1) < 0.1);
    buckets_ended(&b, &t[0], 1000, 10, BEGIN + 20000); /* it was not so dead */
    assert_true(fabs(b.out - 1) < 0.1);
    buckets_ended(&b, &mine, 1000, 10, BEGIN + 20000);
    assert_true(b.out < 0.1);
    assert_true(b.writing.rate + b.waiting.rate < 1e-9);
}

static void more_runners_than_slots_share_none(void **state)
{
    (void)state;
    struct buckets b;
    buckets_init(&b, BEGIN);
    for (int i = 0; i < BUCKET_SLOTS; i++)
        assert_int_equal(buckets_join(&b, BEGIN), i);
    assert_int_equal(buckets_join(&b, BEGIN), -1);
    struct bucket_ticket t = go(&b, -1, &a_job, BEGIN);
    buckets_ended(&b, &t, 10, 10, BEGIN);
    buckets_free_slot(&b, -1, BEGIN);
    buckets_free_slot(&b, BUCKET_SLOTS, BEGIN);
}

/* ---- people ---- */

static void it_says_what_binds(void **state)
{
    (void)state;
    struct buckets b;
    char buf[BUCKETS_SAY_MAX];
    struct bucket_headers h = told(1000, 200000, 400000);
    buckets_init(&b, BEGIN);
    struct bucket_look look = buckets_ask(&b, &a_job, BEGIN);
    assert_string_equal(buckets_say(&b, &look, BEGIN, buf, sizeof buf),
                        "one request goes out to learn the limits");
    int slot = opened(&b, &h);
    leave(&b, slot, &a_job, BEGIN + 3000, BEGIN + 600000);
    int64_t now = BEGIN + 600000;
    look = buckets_ask(&b, &a_job, now);
    while (look.may) {
        buckets_take(&b, slot, &a_job, &look, now);
        look = buckets_ask(&b, &a_job, now);
    }
    buckets_say(&b, &look, now, buf, sizeof buf);
    assert_non_null(strstr(buf, "input tokens bind, "));
    assert_non_null(strstr(buf, " % of 200,000 a minute in use, next send in 0."));
}

/* ---- bytes in a file ---- */

static void what_it_wrote_itself_is_sane(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 400000);
    buckets_init(&b, BEGIN);
    assert_true(buckets_sane(&b));
    int slot = opened(&b, &h);
    leave(&b, slot, &a_job, BEGIN + 3000, BEGIN + 30000);
    assert_true(buckets_sane(&b));
}

static void bytes_of_another_kind_are_refused(void **state)
{
    (void)state;
    struct buckets b, whole;
    struct bucket_headers h = told(1000, 2000000, 400000);
    opened(&whole, &h);
    memset(&b, 0, sizeof b);
    assert_false(buckets_sane(&b));
    memset(&b, 0xff, sizeof b);
    assert_false(buckets_sane(&b));
    double *const bad[] = {&b.one[0].level, &b.one[1].limit,   &b.one[2].excess,
                           &b.one[0].pace,  &b.one[1].used[3], &b.one[2].drift,
                           &b.all.q,        &b.groups[5].out,  &b.writing.rate,
                           &b.out,          &b.slots[3].out,   &b.coming[9].ahead};
    const double worse[] = {NAN, INFINITY, -INFINITY, 1e300};
    for (size_t i = 0; i < CASES(bad); i++)
        for (size_t k = 0; k < CASES(worse); k++) {
            b = whole;
            *bad[i] = worse[k];
            assert_false(buckets_sane(&b));
        }
    b = whole;
    b.version++;
    assert_false(buckets_sane(&b));
    b = whole;
    b.at = -1;
    assert_false(buckets_sane(&b));
    b = whole;
    b.flow_slice += 7;
    assert_false(buckets_sane(&b));
}

/* ---- nothing breaks it ---- */

static int64_t some(const int64_t *of, size_t n)
{
    return any() % 4 == 0 ? (int64_t)(any() % 3000000) : of[any() % n];
}

static struct bucket_headers wild(void)
{
    static const int64_t values[] = {-1,        0,
                                     1,         60,
                                     1000,      400000,
                                     -77,       INT64_MAX,
                                     INT64_MIN, (int64_t)1e18,
                                     2000000,   (int64_t)1e15};
    struct bucket_headers h;
    for (int k = 0; k < BUCKETS; k++) {
        h.limit[k] = some(values, CASES(values));
        h.remaining[k] = some(values, CASES(values));
        h.reset_ms[k] = some(values, CASES(values));
    }
    return h;
}

/* Random requests, answers, clocks. In the end the lane must still be able to send. */
static void walk(struct buckets *b, int64_t now, int steps)
{
    enum { OUT = 32 };
    struct bucket_ticket t[OUT];
    bool busy[OUT] = {false};
    static const int64_t spans[] = {0,   0,    1,     5,    20,
                                    300, 2000, 60000, HOUR, 48LL * HOUR};
    int slot = buckets_join(b, now);
    for (int i = 0; i < steps; i++) {
        now += spans[any() % CASES(spans)];
        if (any() % 200 == 0)
            now = (int64_t)(any() % 10000000); /* another boot's clock */
        int at = (int)(any() % OUT);
        double est[] = {0, 1, 1500, 1e6, 1e18, -5, NAN, INFINITY};
        struct bucket_ask ask = {.group = any() % 5,
                                 .input_est = est[any() % CASES(est)],
                                 .max_tokens = any() % 2 ? INT64_MAX : -3,
                                 .reserve = any() % 2};
        struct bucket_look look = buckets_ask(b, &ask, now);
        assert_true(look.ask_at == 0 || (look.ask_at > now || now < 0));
        assert_true(look.ask_at <= now + 24LL * HOUR + 2000);
        if (!busy[at]) {
            if (look.may || any() % 4 == 0) { /* even without being allowed to */
                t[at] = buckets_take(b, slot, &ask, &look, now);
                busy[at] = true;
            }
        } else {
            struct bucket_headers h = wild();
            struct bucket_refused r = {.kind = (enum bucket_refusal)(any() % 5),
                                       .bucket = (enum bucket)((int)(any() % 4) - 1),
                                       .retry_after_ms = some(spans, CASES(spans)),
                                       .stated_now = (double)(any() % 100000),
                                       .stated_next = any() % 2 ? 1e300 : NAN,
                                       .headers = h};
            if (any() % 9 == 0)
                r.retry_after_ms = INT64_MAX;
            switch (any() % 5) {
            case 0:
                buckets_headers(b, &t[at], &h, now);
                break;
            case 1:
                buckets_dropped(b, &t[at], now);
                busy[at] = false;
                break;
            case 2:
                buckets_refused(b, &t[at], &r, now);
                busy[at] = false;
                break;
            default:
                buckets_ended(b, &t[at], any() % 3 ? (int64_t)(any() % 100000) : -1,
                              any() % 3 ? (int64_t)(any() % 100000) : INT64_MAX, now);
                busy[at] = false;
            }
        }
        if (any() % 50 == 0) {
            buckets_free_slot(b, slot, now);
            slot = buckets_join(b, now);
        }
        assert_true(buckets_sane(b));
    }
    for (int i = 0; i < OUT; i++)
        if (busy[i])
            buckets_dropped(b, &t[i], now);
    struct bucket_look look = buckets_ask(b, &a_job, now);
    for (int i = 0; i < 5000 && !look.may; i++) {
        assert_true(look.ask_at > now);
        now = look.ask_at;
        look = buckets_ask(b, &a_job, now);
    }
    assert_true(look.may);
    buckets_free_slot(b, slot, now);
}

static void whatever_headers_and_clocks_tell_it_stays_sane_and_goes_on(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 60; i++) {
        struct buckets b;
        seed = i * UINT64_C(0x9e3779b97f4a7c15);
        buckets_init(&b, BEGIN);
        walk(&b, BEGIN, 400);
    }
}

static void bytes_that_pass_for_sane_do_no_harm(void **state)
{
    (void)state;
    struct buckets whole;
    struct bucket_headers h = told(1000, 2000000, 400000);
    int slot = opened(&whole, &h);
    leave(&whole, slot, &a_job, BEGIN + 3000, BEGIN + 30000);
    buckets_free_slot(&whole, slot, BEGIN + 30000);
    int passed = 0;
    for (uint64_t i = 1; i <= 400; i++) {
        struct buckets b = whole;
        seed = i * UINT64_C(0x9e3779b97f4a7c15);
        for (int n = 0; n < 4; n++)
            ((unsigned char *)&b)[any() % sizeof b] ^= (unsigned char)(1u << any() % 8);
        if (!buckets_sane(&b))
            continue;
        passed++;
        for (int n = 0; n < BUCKET_SLOTS; n++) /* the caller knows that they are dead */
            if (b.slots[n].taken)
                buckets_free_slot(&b, n, BEGIN + 40000);
        walk(&b, BEGIN + 40000, 50);
    }
    assert_true(passed > 100);
}

static void nothing_that_is_lost_stops_it_for_ever(void **state)
{
    (void)state;
    struct buckets b;
    struct bucket_headers h = told(1000, 2000000, 8000);
    int slot = opened(&b, &h);
    int64_t now = BEGIN + 3000;
    for (int i = 0; i < 50; i++) { /* none of these is ever heard of again */
        struct bucket_look look = {.may = true};
        buckets_take(&b, slot, &a_job, &look, now);
    }
    struct bucket_look look = buckets_ask(&b, &a_job, now);
    for (int i = 0; i < 20000 && !look.may; i++) {
        assert_true(look.ask_at > now);
        now = look.ask_at;
        look = buckets_ask(&b, &a_job, now);
    }
    assert_true(look.may);
    assert_true(now < BEGIN + HOUR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_goes_out_and_the_rest_wait_for_its_answer),
        cmocka_unit_test(if_the_first_is_lost_another_one_goes),
        cmocka_unit_test(where_no_limits_are_told_everything_passes),
        cmocka_unit_test(limits_of_earlier_are_forgotten_where_none_are_told_now),
        cmocka_unit_test(each_bucket_holds_its_rate),
        cmocka_unit_test(the_moment_to_ask_again_is_neither_early_nor_late),
        cmocka_unit_test(what_never_left_is_given_back),
        cmocka_unit_test(an_estimate_is_settled_when_the_answer_tells),
        cmocka_unit_test(each_kind_of_job_has_its_own_measure),
        cmocka_unit_test(max_tokens_is_no_cost),
        cmocka_unit_test(more_kinds_than_there_is_room_for_push_out_the_oldest),
        cmocka_unit_test(levels_are_believed_of_the_newest_request_alone),
        cmocka_unit_test(what_others_use_is_heard),
        cmocka_unit_test(a_new_limit_is_heard_at_once),
        cmocka_unit_test(a_quota_refusal_is_waited_out),
        cmocka_unit_test(what_is_not_the_buckets_matter_leaves_them_as_they_are),
        cmocka_unit_test(a_failure_of_the_server_changes_nothing_but_what_is_out),
        cmocka_unit_test(a_refusal_against_the_headers_teaches_a_smaller_burst),
        cmocka_unit_test(a_request_larger_than_a_bucket_leaves_alone_when_that_is_full),
        cmocka_unit_test(a_lane_that_rose_too_fast_doubles_every_half_minute),
        cmocka_unit_test(a_stated_ceiling_is_kept_until_the_minute_is_over),
        cmocka_unit_test(a_runner_that_joins_others_need_not_ask_first),
        cmocka_unit_test(a_new_run_keeps_what_was_learned_and_asks_first),
        cmocka_unit_test(what_a_dead_runner_had_out_is_forgotten),
        cmocka_unit_test(more_runners_than_slots_share_none),
        cmocka_unit_test(it_says_what_binds),
        cmocka_unit_test(what_it_wrote_itself_is_sane),
        cmocka_unit_test(bytes_of_another_kind_are_refused),
        cmocka_unit_test(whatever_headers_and_clocks_tell_it_stays_sane_and_goes_on),
        cmocka_unit_test(bytes_that_pass_for_sane_do_no_harm),
        cmocka_unit_test(nothing_that_is_lost_stops_it_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
