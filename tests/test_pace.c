#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/pace.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static uint64_t seed;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A whole window of good answers, each of a request that left at `at`. */
static void one_full_round(struct window *w, int64_t at)
{
    for (int n = w->size; n > 0; n--)
        window_good(w, w->size, at);
}

/* ---- the window ---- */

static void a_lane_starts_with_one_request(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    assert_int_equal(w.size, 1);
    assert_true(window_may_start(&w, 0));
    assert_false(window_may_start(&w, 1));
}

static void the_first_good_answer_opens_it(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    assert_false(w.opened);
    window_good(&w, 1, 10);
    assert_true(w.opened);
    assert_int_equal(w.size, 2);
}

static void until_the_first_cut_it_doubles_with_each_round(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    for (int want = 2; want <= 64; want *= 2) {
        one_full_round(&w, 10);
        assert_true(w.size >= want || w.size == 64);
    }
    assert_int_equal(w.size, 64);
}

static void after_a_cut_it_grows_by_one_a_round(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    while (w.size < 20)
        window_good(&w, w.size, 10);
    window_cut(&w, 100, 50);
    assert_int_equal(w.size, 16);
    for (int i = 0; i < 15; i++)
        window_good(&w, w.size, 101);
    assert_int_equal(w.size, 16);
    window_good(&w, w.size, 101);
    assert_int_equal(w.size, 17);
    one_full_round(&w, 102);
    assert_int_equal(w.size, 18);
}

static void an_idle_window_proves_nothing(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    while (w.size < 10)
        window_good(&w, w.size, 10);
    for (int i = 0; i < 100; i++)
        window_good(&w, 7, 10); /* seven of ten in use */
    assert_int_equal(w.size, 10);
    window_good(&w, 8, 10);
    assert_int_equal(w.size, 11);
}

static void it_never_passes_its_limit(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 3);
    for (int i = 0; i < 50; i++)
        window_good(&w, w.size, 10);
    assert_int_equal(w.size, 3);
}

static void one_episode_cuts_once(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    while (w.size < 40)
        window_good(&w, w.size, 10);
    window_cut(&w, 200, 150);
    assert_int_equal(w.size, 32);
    for (int64_t started = 151; started <= 200; started++)
        window_cut(&w, 210, started); /* these were out before the cut */
    assert_int_equal(w.size, 32);
    window_cut(&w, 300, 201);
    assert_int_equal(w.size, 25);
}

static void what_was_out_before_a_cut_does_not_open_it_again(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    while (w.size < 40)
        window_good(&w, w.size, 10);
    window_cut(&w, 200, 150);
    for (int i = 0; i < 200; i++)
        window_good(&w, w.size, 200);
    assert_int_equal(w.size, 32);
}

static void cuts_end_at_one_request(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    for (int64_t now = 0; now < 100; now++) {
        window_cut(&w, now * 10 + 5, now * 10);
        assert_true(w.size >= 1);
    }
    assert_int_equal(w.size, 1);
    assert_true(window_may_start(&w, 0));
}

/* A push-back of the very first request does not make the growth slow for good. */
static void before_it_opened_there_was_nothing_to_be_wrong_about(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    window_cut(&w, 5, 0);
    for (int i = 0; i < 9; i++)
        window_good(&w, w.size, 10);
    assert_int_equal(w.size, 10);
}

static void shut_it_waits_for_a_good_answer_again(void **state)
{
    (void)state;
    struct window w;
    window_init(&w, 64);
    while (w.size < 40)
        window_good(&w, w.size, 10);
    window_cut(&w, 200, 150);
    window_shut(&w);
    assert_int_equal(w.size, 1);
    assert_int_equal(w.limit, 64);
    assert_false(w.opened);
    window_good(&w, 1, 201);
    assert_int_equal(w.size, 2);
}

static void whatever_happens_it_stays_between_one_and_its_limit(void **state)
{
    (void)state;
    static const int limits[] = {1, 2, 3, 64, 1000};
    for (size_t i = 0; i < CASES(limits); i++)
        for (seed = 1; seed < 60;) {
            struct window w;
            uint64_t was = seed++;
            window_init(&w, limits[i]);
            for (int64_t now = 0; now < 3000; now++) {
                int64_t started = now - (int64_t)(any() % 50);
                int in_flight = 1 + (int)(any() % (uint64_t)w.size), size = w.size;
                switch (any() % 40) {
                case 0:
                    window_shut(&w);
                    break;
                case 1:
                case 2:
                    window_cut(&w, now, started);
                    assert_true(w.size <= size);
                    break;
                default:
                    window_good(&w, in_flight, started);
                    assert_true(w.size == size || w.size == size + 1);
                }
                assert_in_range(w.size, 1, limits[i]);
            }
            seed = was + 1;
        }
}

/*
 * A pretend API that serves `room` requests at once and pushes the next one back. Each
 * takes about a second; the clock is an int64_t.
 */
enum { JOBS = 3000, LIMIT = 64 };

struct sending {
    int64_t started, ends;
    bool pushed_back;
};

struct world {
    struct window window;
    struct sending out[LIMIT];
    int in_flight, served, most, done, push_backs;
    int64_t now;
};

static void world_send(struct world *w, int room)
{
    struct sending *s = &w->out[w->in_flight++];
    s->started = w->now;
    s->pushed_back = w->served >= room;
    s->ends = w->now + (s->pushed_back ? 20 : 800 + (int64_t)(any() % 400));
    w->served += !s->pushed_back;
    if (w->in_flight > w->most)
        w->most = w->in_flight;
}

static void world_end_next(struct world *w)
{
    int first = 0;
    for (int i = 1; i < w->in_flight; i++)
        if (w->out[i].ends < w->out[first].ends)
            first = i;
    struct sending s = w->out[first];
    w->now = s.ends;
    if (s.pushed_back) {
        w->push_backs++;
        window_cut(&w->window, w->now, s.started);
        w->now += 1; /* the next one leaves later than the cut */
    } else {
        w->done++;
        w->served--;
        window_good(&w->window, w->in_flight, s.started);
    }
    w->out[first] = w->out[--w->in_flight];
}

static void world_run(struct world *w, int room)
{
    seed = 42;
    *w = (struct world){0};
    window_init(&w->window, LIMIT);
    for (int steps = 0; w->done < JOBS && steps < 20 * JOBS; steps++) {
        while (window_may_start(&w->window, w->in_flight) &&
               w->done + w->in_flight < JOBS)
            world_send(w, room);
        world_end_next(w);
    }
}

static void every_job_gets_done_however_little_room(void **state)
{
    (void)state;
    static const int rooms[] = {1, 7, 50, 100000};
    for (size_t i = 0; i < CASES(rooms); i++) {
        struct world w;
        world_run(&w, rooms[i]);
        assert_int_equal(w.done, JOBS);
        assert_int_equal(w.in_flight, 0);
        assert_true(w.most <= LIMIT);
    }
}

/* Being pushed back must not turn into hammering, nor caution into idleness. */
static void push_backs_stay_few_and_the_room_is_used(void **state)
{
    (void)state;
    static const int rooms[] = {7, 20, 50};
    for (size_t i = 0; i < CASES(rooms); i++) {
        struct world w;
        world_run(&w, rooms[i]);
        assert_true(w.push_backs * 15 < JOBS);
        int64_t ideal = 1000 * JOBS / rooms[i];
        assert_true(w.now < ideal * 5 / 4);
    }
}

/* ---- the breaker ---- */

static void a_row_of_failures_opens_the_breaker(void **state)
{
    (void)state;
    struct breaker b = {0};
    assert_false(breaker_bad(&b, 4, false, 100));
    assert_false(breaker_bad(&b, 4, false, 200));
    assert_false(breaker_bad(&b, 4, false, 300));
    assert_false(b.open);
    assert_true(breaker_bad(&b, 4, false, 400));
    assert_true(b.open);
    assert_int_equal(b.since, 100);
    assert_int_equal(b.probe_at, 1400);
    assert_false(breaker_bad(&b, 4, false, 500)); /* it is open already */
    assert_int_equal(b.probe_at, 1400); /* stragglers do not put the probe off */
}

static void a_good_answer_between_begins_the_row_anew(void **state)
{
    (void)state;
    struct breaker b = {0};
    for (int i = 0; i < 20; i++) {
        assert_false(breaker_bad(&b, 3, false, i));
        assert_false(breaker_bad(&b, 3, false, i));
        breaker_good(&b);
    }
    assert_false(b.open);
}

static void probes_that_fail_come_at_doubled_distance_up_to_a_minute(void **state)
{
    (void)state;
    static const int64_t spans[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    struct breaker b = {0};
    int64_t now = 5000;
    assert_true(breaker_bad(&b, 1, false, now));
    for (size_t i = 0; i < CASES(spans); i++) {
        assert_int_equal(b.probe_at - now, spans[i]);
        now = b.probe_at;
        assert_false(breaker_bad(&b, 1, true, now));
    }
}

static void one_good_answer_closes_it(void **state)
{
    (void)state;
    struct breaker b = {0};
    for (int i = 0; i < 9; i++)
        breaker_bad(&b, 1, i > 0, 1000 * i);
    breaker_good(&b);
    assert_false(b.open);
    assert_int_equal(b.row, 0);
    assert_true(breaker_bad(&b, 1, false, 90000));
    assert_int_equal(b.probe_at, 91000); /* and the first span is a second again */
}

/* ---- backoff ---- */

static void backoff_is_anywhere_below_its_top_and_reaches_it(void **state)
{
    (void)state;
    static const struct {
        int n;
        int64_t base, cap, top;
    } cases[] = {
        {0, 1000, 60000, 1000},
        {1, 1000, 60000, 2000},
        {5, 1000, 60000, 32000},
        {6, 1000, 60000, 60000},
        {63, 1000, 60000, 60000},
        {1000000, 1000, 60000, 60000},
        {0, 90000, 60000, 60000},
        {3, 500, 0, 0},
        {200, 1, INT64_MAX / 2, INT64_MAX / 2},
    };
    seed = 7;
    for (size_t i = 0; i < CASES(cases); i++) {
        int64_t least = INT64_MAX, most = -1;
        for (int k = 0; k < 4000; k++) {
            int64_t ms = backoff_ms(cases[i].n, cases[i].base, cases[i].cap, any());
            assert_true(ms >= 0 && ms <= cases[i].top);
            least = ms < least ? ms : least;
            most = ms > most ? ms : most;
        }
        assert_true(least <= cases[i].top / 20);
        assert_true(most >= cases[i].top - cases[i].top / 20);
        assert_int_equal(
            backoff_ms(cases[i].n, cases[i].base, cases[i].cap, (uint64_t)cases[i].top),
            cases[i].top);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lane_starts_with_one_request),
        cmocka_unit_test(the_first_good_answer_opens_it),
        cmocka_unit_test(until_the_first_cut_it_doubles_with_each_round),
        cmocka_unit_test(after_a_cut_it_grows_by_one_a_round),
        cmocka_unit_test(an_idle_window_proves_nothing),
        cmocka_unit_test(it_never_passes_its_limit),
        cmocka_unit_test(one_episode_cuts_once),
        cmocka_unit_test(what_was_out_before_a_cut_does_not_open_it_again),
        cmocka_unit_test(cuts_end_at_one_request),
        cmocka_unit_test(before_it_opened_there_was_nothing_to_be_wrong_about),
        cmocka_unit_test(shut_it_waits_for_a_good_answer_again),
        cmocka_unit_test(whatever_happens_it_stays_between_one_and_its_limit),
        cmocka_unit_test(every_job_gets_done_however_little_room),
        cmocka_unit_test(push_backs_stay_few_and_the_room_is_used),
        cmocka_unit_test(a_row_of_failures_opens_the_breaker),
        cmocka_unit_test(a_good_answer_between_begins_the_row_anew),
        cmocka_unit_test(probes_that_fail_come_at_doubled_distance_up_to_a_minute),
        cmocka_unit_test(one_good_answer_closes_it),
        cmocka_unit_test(backoff_is_anywhere_below_its_top_and_reaches_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
