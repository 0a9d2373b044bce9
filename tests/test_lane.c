#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "runner/lane.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])
#define HOUR INT64_C(3600000)

static uint64_t seed = 42;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static enum lane_state now_it_is(const struct lane *l, int64_t now)
{
    int64_t at;
    return lane_state(l, now, &at);
}

/* A request that started at `now - 10` ends so. */
static bool ends(struct lane *l, enum verdict v, const char *says, int64_t retry_ms,
                 bool probe, int64_t now)
{
    struct judgement j = {.verdict = v, .retry_ms = retry_ms};
    snprintf(j.sentence, sizeof j.sentence, "%s", says);
    lane_started(l);
    return lane_ended(l,
                      &(struct lane_end){.verdict = v,
                                         .j = &j,
                                         .started_at = now - 10,
                                         .probe = probe,
                                         .random = any()},
                      now);
}

static void assert_says(const struct lane *l, int64_t now, const char *want)
{
    char buf[300];
    assert_string_equal(lane_says(l, now, buf, sizeof buf), want);
}

/* ---- holds ---- */

static void a_hold_is_the_whole_of_what_the_answer_asks(void **state)
{
    (void)state;
    static const struct {
        int64_t retry_ms, until, wall_now, span;
    } cases[] = {
        {3000, 0, 1000, 3000},
        {7 * HOUR, 0, 1000, 7 * HOUR},
        {-1, 61000, 1000, 60000}, /* a moment, against the wall */
        {-1, 1000 + 9 * HOUR, 1000, 9 * HOUR},
        {4000, 61000, 1000, 4000}, /* the span is said by the same clock */
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct lane l;
        struct judgement j = {.verdict = VERDICT_RATE_LIMITED,
                              .retry_ms = cases[i].retry_ms,
                              .until = cases[i].until};
        struct lane_end end = {.verdict = j.verdict,
                               .j = &j,
                               .started_at = 1,
                               .wall_now = cases[i].wall_now};
        int64_t now = 50000, at;
        lane_init(&l, "opus-5.5", 64);
        lane_started(&l);
        assert_true(lane_ended(&l, &end, now));
        assert_int_equal(l.hold_until, now + cases[i].span);
        assert_int_equal(lane_state(&l, now, &at), LANE_HELD);
        assert_int_equal(at, now + cases[i].span);
        assert_int_equal(now_it_is(&l, now + cases[i].span - 1), LANE_HELD);
        assert_int_equal(now_it_is(&l, now + cases[i].span), LANE_OPEN);
    }
}

/* Bare throttles in a row: from a quarter second on, doubling, never beyond a minute.
 */
static void a_hold_that_no_answer_names_backs_off(void **state)
{
    (void)state;
    for (int k = 0; k < 200; k++) {
        struct lane l;
        int64_t now = 1000, top = 1000;
        lane_init(&l, "x", 64);
        for (int n = 0; n < 12; n++) {
            ends(&l, VERDICT_RATE_LIMITED, "", -1, false, now);
            assert_true(l.hold_until >= now + 250);
            assert_true(l.hold_until <= now + 250 + top);
            now = l.hold_until;
            top = top * 2 > 60000 ? 60000 : top * 2;
        }
    }
}

static void a_word_from_the_api_forgets_the_row_of_bare_throttles(void **state)
{
    (void)state;
    static const struct {
        enum verdict verdict;
        int64_t retry_ms;
    } words[] = {{VERDICT_ACCEPTED, -1}, {VERDICT_RATE_LIMITED, 100}};
    for (size_t i = 0; i < CASES(words); i++) {
        struct lane l;
        int64_t now = 1000;
        lane_init(&l, "x", 64);
        for (int n = 0; n < 8; n++, now = l.hold_until)
            ends(&l, VERDICT_RATE_LIMITED, "", -1, false, now);
        ends(&l, words[i].verdict, "", words[i].retry_ms, false, now);
        now += 100;
        for (int k = 0; k < 50; k++) {
            struct lane again = l;
            ends(&again, VERDICT_RATE_LIMITED, "", -1, false, now);
            assert_true(again.hold_until <= now + 1250);
        }
    }
}

static void a_moment_that_is_over_is_as_good_as_unsaid(void **state)
{
    (void)state;
    struct lane l;
    struct judgement j = {
        .verdict = VERDICT_RATE_LIMITED, .retry_ms = -1, .until = 999};
    lane_init(&l, "x", 64);
    lane_started(&l);
    lane_ended(&l, &(struct lane_end){.verdict = j.verdict, .j = &j, .wall_now = 1000},
               5000);
    assert_true(l.hold_until >= 5250 && l.hold_until <= 6250);
}

static void of_two_holds_the_longer_wins(void **state)
{
    (void)state;
    struct lane l;
    lane_init(&l, "x", 64);
    assert_true(ends(&l, VERDICT_RATE_LIMITED, "first", 10000, false, 1000));
    assert_false(ends(&l, VERDICT_RATE_LIMITED, "shorter", 3000, false, 2000));
    assert_int_equal(l.hold_until, 11000);
    assert_string_equal(l.why, "rate limited: first");
    assert_true(ends(&l, VERDICT_RATE_LIMITED, "longer", 20000, false, 3000));
    assert_int_equal(l.hold_until, 23000);
    assert_string_equal(l.why, "rate limited: longer");
}

static void good_answers_do_not_end_a_hold(void **state)
{
    (void)state;
    struct lane l;
    lane_init(&l, "x", 64);
    ends(&l, VERDICT_RATE_LIMITED, "", 10000, false, 1000);
    assert_false(ends(&l, VERDICT_ACCEPTED, "", -1, false, 2000));
    assert_int_equal(now_it_is(&l, 2000), LANE_HELD);
}

/* ---- the window and the breaker of a lane ---- */

static void a_full_window_waits_for_an_ending(void **state)
{
    (void)state;
    struct lane l;
    int64_t at;
    lane_init(&l, "x", 64);
    assert_int_equal(now_it_is(&l, 0), LANE_OPEN);
    lane_started(&l);
    assert_int_equal(lane_state(&l, 0, &at), LANE_FULL);
    assert_int_equal(at, 0); /* time alone changes nothing */
    lane_dropped(&l);
    assert_int_equal(now_it_is(&l, 0), LANE_OPEN);
    assert_int_equal(l.window.size, 1); /* and a drop told nothing */
}

static void four_overloads_in_a_row_leave_one_probe_at_a_time(void **state)
{
    (void)state;
    static const int64_t spans[] = {1000, 2000, 4000, 8000};
    struct lane l;
    int64_t now = 1000, at;
    lane_init(&l, "x", 64);
    for (int i = 0; i < 20; i++)
        ends(&l, VERDICT_ACCEPTED, "", -1, false, now);
    for (int i = 0; i < LANE_TRIP; i++) {
        assert_int_equal(now_it_is(&l, now), LANE_OPEN);
        ends(&l, VERDICT_OVERLOADED, "busy", -1, false, now += 100);
    }
    for (size_t i = 0; i < CASES(spans); i++) {
        assert_int_equal(lane_state(&l, now, &at), LANE_TRIPPED);
        assert_int_equal(at, now + spans[i]);
        assert_int_equal(now_it_is(&l, at - 1), LANE_TRIPPED);
        now = at;
        assert_int_equal(now_it_is(&l, now), LANE_OPEN);
        lane_started(&l); /* the probe */
        assert_int_equal(lane_state(&l, now, &at), LANE_TRIPPED);
        assert_int_equal(at, 0); /* until it ends */
        assert_int_equal(now_it_is(&l, now + HOUR), LANE_TRIPPED);
        lane_dropped(&l);
        ends(&l, VERDICT_OVERLOADED, "busy", -1, true, now);
    }
    lane_state(&l, now, &at);
    ends(&l, VERDICT_ACCEPTED, "", -1, true, at);
    assert_int_equal(now_it_is(&l, at), LANE_OPEN);
    assert_false(l.breaker.open);
}

static void what_trips_a_lane(void **state)
{
    (void)state;
    static const struct {
        enum verdict verdict;
        bool bare, trips, cuts;
    } cases[] = {
        {VERDICT_OVERLOADED, false, true, true},
        {VERDICT_TRANSIENT, false, true, false},
        {VERDICT_TRANSIENT, true, false, false}, /* tells of the way, not of the lane */
        {VERDICT_UNREACHABLE, true, false, false},
        {VERDICT_BAD_REQUEST, false, false, false},
        {VERDICT_RATE_LIMITED, false, false, true},
        {VERDICT_NO_CREDIT, false, false, false},
        {VERDICT_KEY_REFUSED, false, false, false},
        {VERDICT_ACCEPTED, false, false, false},
        {VERDICT_TRUNCATED, false, false, false},
        {VERDICT_REFUSED, false, false, false},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct lane l;
        struct judgement j = {.verdict = cases[i].verdict, .retry_ms = 0};
        lane_init(&l, "x", 64);
        while (l.window.size < 40)
            window_good(&l.window, l.window.size, 1);
        for (int n = 0; n < 3 * LANE_TRIP; n++) {
            lane_started(&l);
            lane_ended(&l,
                       &(struct lane_end){.verdict = cases[i].verdict,
                                          .j = &j,
                                          .started_at = 10 + n,
                                          .bare_reset = cases[i].bare},
                       10 + n);
        }
        assert_int_equal(l.breaker.open, cases[i].trips);
        assert_int_equal(l.window.size < 40, cases[i].cuts);
        assert_int_equal(l.in_flight, 0);
    }
}

static void a_refused_model_closes_its_lane(void **state)
{
    (void)state;
    struct lane l;
    int64_t at = 7;
    lane_init(&l, "x", 64);
    ends(&l, VERDICT_MODEL_DENIED, "model: x", -1, false, 1000);
    assert_int_equal(lane_state(&l, 1000 + 100 * HOUR, &at), LANE_CLOSED);
    assert_int_equal(at, 0);
}

/* ---- words ---- */

static void a_lane_says_in_words_why_it_waits(void **state)
{
    (void)state;
    struct lane l;
    lane_init(&l, "opus-5.5", 64);
    assert_string_equal(l.name, "opus-5.5");
    assert_says(&l, 0, "open");
    lane_started(&l);
    assert_says(&l, 0, "window full 1/1");
    lane_dropped(&l);
    ends(&l, VERDICT_RATE_LIMITED, "slow down", 2400, false, 1000);
    assert_says(&l, 1000, "held 2.4 s more (rate limited: slow down)");
    assert_says(&l, 3350, "held 0.1 s more (rate limited: slow down)");
    ends(&l, VERDICT_RATE_LIMITED, "slow down", 3000000, false, 4000);
    assert_says(&l, 4000, "held 50 min more (rate limited: slow down)");
    ends(&l, VERDICT_RATE_LIMITED, "slow down", 8 * HOUR + 300000, false, 4000);
    assert_says(&l, 4000, "held 8 h 5 min more (rate limited: slow down)");
    l.hold_until = 4000;
    for (int i = 0; i < LANE_TRIP; i++)
        ends(&l, VERDICT_OVERLOADED, "Overloaded", -1, false, 5000 + i * 100);
    assert_says(
        &l, 5300,
        "one probe at a time after 4 failures in a row (overloaded: Overloaded)");
    ends(&l, VERDICT_MODEL_DENIED, "no such model", -1, false, 6000);
    assert_says(&l, 6000, "closed (model denied: no such model)");
}

static void long_words_are_cut_to_fit(void **state)
{
    (void)state;
    struct lane l;
    char name[300], small[16];
    struct judgement j = {.verdict = VERDICT_RATE_LIMITED, .retry_ms = 1000};
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    memset(j.sentence, 's', sizeof j.sentence - 1);
    lane_init(&l, name, 64);
    assert_int_equal(strlen(l.name), LANE_NAME_MAX - 1);
    lane_started(&l);
    lane_ended(&l, &(struct lane_end){.verdict = j.verdict, .j = &j}, 5);
    assert_true(strlen(l.why) < LANE_WHY_MAX);
    assert_string_equal(lane_says(&l, 5, small, sizeof small), "held 1.0 s more");
}

static void every_state_has_a_name(void **state)
{
    (void)state;
    static const char *const names[] = {"open", "paced",   "full",
                                        "held", "tripped", "closed"};
    for (int i = 0; i < 6; i++)
        assert_string_equal(lane_state_name((enum lane_state)i), names[i]);
}

/*
 * A pretend API that takes `room` requests a second out of a bucket of as many, and
 * answers the next one with the seconds to wait, as the real one does.
 */
enum { JOBS = 2000, LIMIT = 64 };

struct sending {
    int64_t started, ends;
    bool pushed_back;
    int64_t retry_ms;
};

struct world {
    struct lane lane;
    struct sending out[LIMIT];
    int most, done, push_backs;
    int64_t now, filled_at;
    double bucket;
};

static void world_send(struct world *w, int room)
{
    struct sending *s = &w->out[w->lane.in_flight];
    w->bucket += (double)(w->now - w->filled_at) * room / 1000;
    if (w->bucket > room)
        w->bucket = room;
    w->filled_at = w->now;
    *s = (struct sending){.started = w->now, .pushed_back = w->bucket < 1};
    if (s->pushed_back)
        s->retry_ms = 1000 * (1 + (int64_t)((1 - w->bucket) / room));
    else
        w->bucket -= 1;
    s->ends = w->now + (s->pushed_back ? 20 : 200 + (int64_t)(any() % 200));
    lane_started(&w->lane);
    if (w->lane.in_flight > w->most)
        w->most = w->lane.in_flight;
}

static void world_end_next(struct world *w)
{
    int first = 0;
    for (int i = 1; i < w->lane.in_flight; i++)
        if (w->out[i].ends < w->out[first].ends)
            first = i;
    struct sending s = w->out[first];
    w->out[first] = w->out[w->lane.in_flight - 1];
    w->now = s.ends > w->now ? s.ends : w->now;
    enum verdict v = s.pushed_back ? VERDICT_RATE_LIMITED : VERDICT_ACCEPTED;
    struct judgement j = {.verdict = v, .retry_ms = s.pushed_back ? s.retry_ms : -1};
    w->done += !s.pushed_back;
    w->push_backs += s.pushed_back;
    lane_ended(
        &w->lane,
        &(struct lane_end){.verdict = v, .j = &j, .started_at = s.started, .random = 1},
        w->now);
}

static void world_run(struct world *w, int room)
{
    int64_t at = 0;
    *w = (struct world){.bucket = room};
    lane_init(&w->lane, "x", LIMIT);
    for (int steps = 0; w->done < JOBS && steps < 40 * JOBS; steps++) {
        while (w->done + w->lane.in_flight < JOBS &&
               lane_state(&w->lane, w->now, &at) == LANE_OPEN)
            world_send(w, room);
        if (w->lane.in_flight > 0)
            world_end_next(w);
        else if (lane_state(&w->lane, w->now, &at) != LANE_OPEN)
            w->now = at; /* it also shows that a lane tells when to come back */
    }
}

static void every_job_gets_done_however_little_room(void **state)
{
    (void)state;
    /* Of one a second, every burst of two is pushed back: the window cannot say less
     * than one at a time. */
    static const struct {
        int room, push_backs;
    } cases[] = {{1, 2 * JOBS}, {7, JOBS / 6}, {50, JOBS / 40}, {100000, 0}};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        world_run(&w, cases[i].room);
        assert_int_equal(w.done, JOBS);
        assert_int_equal(w.lane.in_flight, 0);
        assert_true(w.most <= LIMIT);
        assert_true(w.push_backs <= cases[i].push_backs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hold_is_the_whole_of_what_the_answer_asks),
        cmocka_unit_test(a_hold_that_no_answer_names_backs_off),
        cmocka_unit_test(a_word_from_the_api_forgets_the_row_of_bare_throttles),
        cmocka_unit_test(a_moment_that_is_over_is_as_good_as_unsaid),
        cmocka_unit_test(of_two_holds_the_longer_wins),
        cmocka_unit_test(good_answers_do_not_end_a_hold),
        cmocka_unit_test(a_full_window_waits_for_an_ending),
        cmocka_unit_test(four_overloads_in_a_row_leave_one_probe_at_a_time),
        cmocka_unit_test(what_trips_a_lane),
        cmocka_unit_test(a_refused_model_closes_its_lane),
        cmocka_unit_test(a_lane_says_in_words_why_it_waits),
        cmocka_unit_test(long_words_are_cut_to_fit),
        cmocka_unit_test(every_state_has_a_name),
        cmocka_unit_test(every_job_gets_done_however_little_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
