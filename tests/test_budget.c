#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "conf/catalog.h"
#include "jobs/job.h"
#include "runner/budget.h"
#include "runner/err.h"

static uint64_t seed = 88172645463325252u;

static int64_t any_up_to(int64_t most)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (int64_t)(seed % (uint64_t)(most + 1));
}

static picodollars worst_of(const struct model *m, int64_t bytes, int64_t max_tokens)
{
    picodollars worst;
    budget_worst(m, &(struct budget_job){.bytes = bytes, .max_tokens = max_tokens},
                 &worst);
    return worst;
}

/* Whatever an answer within the bounds says it used, it was reckoned with. */
static void no_answer_costs_more_than_the_worst(void **state)
{
    (void)state;
    struct catalog *c = catalog_new(NULL);
    assert_non_null(c);
    for (size_t i = 0; i < catalog_count(c); i++) {
        const struct model *m = catalog_at(c, i);
        for (int k = 0; k < 5000; k++) {
            int64_t bytes = any_up_to(k % 2 ? 20000 : 2000000);
            int64_t max_tokens = 1 + any_up_to(64000);
            int64_t left = m->context && bytes > m->context ? m->context : bytes;
            struct usage u = {0};
            int64_t *parts[] = {&u.cache_write_1h, &u.input, &u.cache_write_5m,
                                &u.cache_read};
            int first = (int)any_up_to(3);
            for (int p = 0; p < 4; p++) {
                *parts[(first + p) % 4] = any_up_to(left);
                left -= *parts[(first + p) % 4];
            }
            u.output = any_up_to(max_tokens);
            picodollars cost = catalog_cost(m, &u);
            picodollars worst = worst_of(m, bytes, max_tokens);
            if (cost > worst)
                fail_msg("%s: %lld bytes, %lld tokens: %lld > %lld", m->id,
                         (long long)bytes, (long long)max_tokens, (long long)cost,
                         (long long)worst);
        }
    }
    catalog_free(c);
}

static void the_worst_is_every_byte_a_written_token_and_every_token_said(void **state)
{
    (void)state;
    struct model m = {.priced = true,
                      .base = {.input = 5,
                               .cache_write_5m = 6,
                               .cache_write_1h = 10,
                               .cache_read = 1,
                               .output = 25}};
    assert_int_equal(worst_of(&m, 1000, 100), 1000 * 10 + 100 * 25);
    assert_int_equal(worst_of(&m, 0, 0), 0);
    m.long_prompt_above = 999;
    m.long_prompt = m.base;
    m.long_prompt.output = 50;
    assert_int_equal(worst_of(&m, 1000, 100), 1000 * 10 + 100 * 50);
    assert_int_equal(worst_of(&m, INT64_MAX / 2, INT64_MAX / 2), INT64_MAX);
}

static void a_model_without_a_price_costs_nothing_here(void **state)
{
    (void)state;
    struct model m = {.base = {.input = 5, .output = 25, .cache_write_1h = 10}};
    assert_int_equal(worst_of(&m, 1000, 100), 0);
    assert_int_equal(worst_of(NULL, 1000, 100), 0);
}

/* ---- nights under a ceiling ---- */

/*
 * Some runners of one account, each with jobs of its own whose answers cost anything up
 * to their worst case, mostly little; requests that are never answered though billed;
 * runners that die and come back. The account store's rows are as jobs/account.c keeps
 * them: a row counts as spent + doubt, or as its lease where that is more.
 */
enum { RUNNERS = 4, OUT_MAX = 500, JOBS_MAX = 400 };

struct night_runner {
    picodollars worst[JOBS_MAX]; /* of jobs that wait */
    int jobs;
    struct {
        picodollars worst, cost;
    } out[OUT_MAX];
    int out_len, out_max;
    struct budget run;
    struct budget_lease day;
    picodollars row_spent, row_doubt, row_lease; /* on disk */
};

struct night {
    struct night_runner r[RUNNERS];
    int runners;
    picodollars ceilings[BUDGET_CEILINGS], run_ceiling;
    picodollars dead;  /* rows of runs that died, told anew by those that followed */
    picodollars truth; /* what the other side billed */
};

static picodollars row_of(const struct night_runner *x)
{
    picodollars told = x->row_spent + x->row_doubt;
    return told > x->row_lease ? told : x->row_lease;
}

static void tell_row(struct night_runner *x)
{
    x->row_spent = x->day.b.spent;
    x->row_doubt = x->day.b.doubt;
    x->row_lease = x->day.lease;
}

static bool night_allows(struct night *n, struct night_runner *x, picodollars worst,
                         picodollars *left)
{
    struct budget run = x->run;
    run.ceiling = n->run_ceiling;
    *left = budget_room(&run);
    if (*left < worst)
        return false;
    if (budget_committed(&x->day.b) + worst <= x->day.lease)
        return true;
    picodollars others[BUDGET_CEILINGS] = {n->dead, n->dead};
    for (int i = 0; i < n->runners; i++)
        for (int k = 0; &n->r[i] != x && k < BUDGET_CEILINGS; k++)
            others[k] += row_of(&n->r[i]);
    picodollars lease = budget_grant(&x->day, n->ceilings, others, worst);
    if (lease >= 0)
        x->day.lease = lease;
    tell_row(x);
    *left = x->day.left < *left ? x->day.left : *left;
    return budget_committed(&x->day.b) + worst <= x->day.lease;
}

static void night_send(struct night_runner *x, int job)
{
    picodollars worst = x->worst[job], cost = worst;
    for (int64_t halves = any_up_to(12); halves > 0; halves--)
        cost /= 2; /* a heavy tail: now and then the worst case itself */
    x->out[x->out_len].worst = worst;
    x->out[x->out_len++].cost = cost;
    x->worst[job] = x->worst[--x->jobs];
    x->run.reserved += worst;
    x->day.b.reserved += worst;
}

static void night_ends(struct night *n, struct night_runner *x, int k, bool answered,
                       bool billed)
{
    picodollars worst = x->out[k].worst, cost = x->out[k].cost;
    struct budget *both[] = {&x->run, &x->day.b};
    x->out[k] = x->out[--x->out_len];
    n->truth += billed ? cost : 0;
    for (int i = 0; i < 2; i++) {
        both[i]->reserved -= worst;
        both[i]->spent += answered ? cost : 0;
        both[i]->doubt += answered ? 0 : worst;
    }
}

/* Killed: what was out is in doubt. Until the next run tells its row anew from its
 * queue's store, the lease stands, which is never less. */
static void night_dies(struct night *n, struct night_runner *x)
{
    picodollars stood = row_of(x);
    while (x->out_len > 0)
        night_ends(n, x, 0, false, any_up_to(1));
    if (n->ceilings[BUDGET_DAY] || n->ceilings[BUDGET_MONTH])
        assert_true(stood >= budget_committed(&x->day.b));
    n->dead += budget_committed(&x->day.b);
    x->run = (struct budget){0};
    x->day = (struct budget_lease){0};
    tell_row(x);
}

static void night_begins(struct night *n, int number)
{
    static const struct night none;
    *n = none;
    n->runners = 1 + (int)any_up_to(RUNNERS - 1);
    picodollars size = 1 + any_up_to(1000000000);
    for (int i = 0; i < n->runners; i++) {
        struct night_runner *x = &n->r[i];
        x->out_max = 1 + (int)any_up_to(number % 3 == 0 ? OUT_MAX - 1 : 20);
        x->jobs = (int)any_up_to(JOBS_MAX);
        for (int k = 0; k < x->jobs; k++)
            x->worst[k] = (1 + any_up_to(size)) * (any_up_to(9) == 0 ? 20 : 1);
    }
    n->ceilings[BUDGET_DAY] = any_up_to(3) ? size * (1 + any_up_to(300)) : 0;
    n->ceilings[BUDGET_MONTH] = any_up_to(3) ? size * (1 + any_up_to(300)) : 0;
    n->run_ceiling = any_up_to(1) ? size * (1 + any_up_to(200)) : 0;
}

static void no_ceiling_is_passed(const struct night *n, int number)
{
    picodollars rows = n->dead;
    for (int i = 0; i < n->runners; i++) {
        rows += row_of(&n->r[i]);
        if (n->run_ceiling && budget_committed(&n->r[i].run) > n->run_ceiling)
            fail_msg("night %d: a run of %lld", number,
                     (long long)budget_committed(&n->r[i].run));
    }
    for (int i = 0; i < BUDGET_CEILINGS; i++)
        if (n->ceilings[i] && (n->truth > n->ceilings[i] || rows > n->ceilings[i]))
            fail_msg("night %d: %lld billed, %lld in the rows, the ceiling is %lld",
                     number, (long long)n->truth, (long long)rows,
                     (long long)n->ceilings[i]);
}

static void night_goes_on(struct night *n)
{
    struct night_runner *x = &n->r[any_up_to(n->runners - 1)];
    picodollars left;
    if (any_up_to(9) < 5 && x->jobs > 0 && x->out_len < x->out_max) {
        int job = (int)any_up_to(x->jobs - 1);
        if (night_allows(n, x, x->worst[job], &left))
            night_send(x, job);
    } else if (x->out_len > 0) {
        bool answered = any_up_to(30) > 0;
        night_ends(n, x, (int)any_up_to(x->out_len - 1), answered,
                   answered || any_up_to(1));
    }
    if (any_up_to(1000) == 0)
        night_dies(n, x);
}

/* All have answered, and given back what they hold beyond need: then whatever still fits
 * is let through, and what is left fits nowhere. */
static void night_ends_well(struct night *n)
{
    for (int i = 0; i < n->runners; i++) {
        struct night_runner *x = &n->r[i];
        while (x->out_len > 0)
            night_ends(n, x, 0, true, true);
        x->day.lease = budget_committed(&x->day.b);
        tell_row(x);
    }
    for (int i = 0; i < n->runners; i++) {
        struct night_runner *x = &n->r[i];
        for (int k = 0; k < x->jobs;) {
            picodollars left;
            if (!night_allows(n, x, x->worst[k], &left)) {
                assert_true(left < x->worst[k++]);
                continue;
            }
            night_send(x, k);
            night_ends(n, x, 0, true, true);
            k = 0;
        }
        x->day.lease = budget_committed(&x->day.b);
        tell_row(x);
    }
}

static void no_night_passes_a_ceiling_or_leaves_room_for_a_job_that_waits(void **state)
{
    (void)state;
    for (int number = 0; number < 3000; number++) {
        static struct night n;
        night_begins(&n, number);
        for (int step = 0; step < 3000; step++) {
            night_goes_on(&n);
            if (step % 16 == 0)
                no_ceiling_is_passed(&n, number);
        }
        night_ends_well(&n);
        no_ceiling_is_passed(&n, number);
    }
}

static void what_a_request_brings_along_is_reckoned_or_said_to_be_unknown(void **state)
{
    (void)state;
    struct model m = {.priced = true, .context = 200000, .base = {.cache_write_1h = 1}};
    const struct {
        struct budget_job job;
        bool known;
        picodollars worst;
    } cases[] = {
        {{.bytes = 100}, true, 100},
        {{.bytes = 100, .asks = ASKS_IMAGES * 2}, true, 100 + 2 * BUDGET_IMAGE_TOKENS},
        {{.bytes = 100, .asks = ASKS_TOOLS}, true, 100 + BUDGET_TOOLS_TOKENS},
        {{.bytes = 900000}, true, 200000}, /* longer is refused */
        {{.bytes = 100, .asks = ASKS_UNBOUNDED}, false, 100},
        {{.bytes = 100, .asks = ASKS_SERVER_SIDE}, false, 100},
        {{.bytes = 100, .asks = ASKS_UNBOUNDED, .max_cost = 777}, true, 777},
        {{.bytes = 1000, .asks = ASKS_UNBOUNDED, .max_cost = 7}, true, 1000},
        {{.bytes = 100, .max_cost = 777}, true, 100}, /* what can be reckoned is */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        picodollars worst;
        assert_int_equal(budget_worst(&m, &cases[i].job, &worst), cases[i].known);
        assert_int_equal(worst, cases[i].worst);
    }
    picodollars worst;
    m.priced = false;
    assert_false(budget_worst(&m, &cases[0].job, &worst));
    assert_true(budget_worst(NULL, &cases[6].job, &worst));
    assert_int_equal(worst, 777);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_answer_costs_more_than_the_worst),
        cmocka_unit_test(the_worst_is_every_byte_a_written_token_and_every_token_said),
        cmocka_unit_test(a_model_without_a_price_costs_nothing_here),
        cmocka_unit_test(what_a_request_brings_along_is_reckoned_or_said_to_be_unknown),
        cmocka_unit_test(no_night_passes_a_ceiling_or_leaves_room_for_a_job_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
