#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/catalog.h"
#include "jobs/job.h"
#include "runner/budget.h"
#include "runner/forecast.h"

/* Two prices of the usual shape, and one that rises with the prompt's length. */
static const struct model small = {.id = "claude-haiku-test",
                                   .family = "haiku",
                                   .base = {.input = 100000,
                                            .cache_write_5m = 125000,
                                            .cache_write_1h = 200000,
                                            .cache_read = 10000,
                                            .output = 500000},
                                   .priced = true};
static const struct model long_one = {
    .id = "claude-long-test",
    .family = "long",
    .base = {.input = 100000, .output = 500000},
    .long_prompt = {.input = 500000, .output = 2500000},
    .long_prompt_above = 100000,
    .priced = true};
static const struct model unpriced = {.id = "claude-new-test", .family = "new"};

/* --- chance --- */

static uint64_t seed;

static double unit(void)
{
    seed += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
    double r = sqrt(-2 * log(unit()));
    return r * cos(6.283185307179586 * unit());
}

static int64_t at_most(double x, int64_t most)
{
    return x < 1 ? 1 : x > (double)most ? most : (int64_t)x;
}

/* --- jobs --- */

static struct forecast_job a_job(const struct model *m, const char *where)
{
    return (struct forecast_job){.model = m,
                                 .model_id = m->id,
                                 .effort = "",
                                 .where = where,
                                 .where_len = strlen(where),
                                 .bytes = 400,
                                 .max_tokens = 4096};
}

static struct forecast_sum sum_of(struct forecast *f)
{
    struct forecast_sum s;
    forecast_sum(f, NULL, NULL, &s);
    return s;
}

static struct forecast *none(void)
{
    struct forecast *f = forecast_new();
    assert_non_null(f);
    return f;
}

static picodollars worst_of(const struct forecast_job *j)
{
    picodollars worst;
    budget_worst(j->model,
                 &(struct budget_job){.bytes = j->bytes, .max_tokens = j->max_tokens},
                 &worst);
    return worst;
}

static void add(struct forecast *f, const struct forecast_job *j, int row,
                int64_t count)
{
    assert_int_equal(forecast_add(f, j, row, count, worst_of(j)), 0);
}

static void learn(struct forecast *f, const struct forecast_job *j, int64_t in,
                  int64_t out)
{
    assert_int_equal(
        forecast_learn(f, j,
                       &(struct forecast_answer){.usage = {.input = in, .output = out},
                                                 .took_ms = 1000,
                                                 .paid = 1}),
        0);
}

static struct forecast_sum cold(const struct forecast_job *j, int64_t count)
{
    struct forecast *f = none();
    add(f, j, 0, count);
    struct forecast_sum s = sum_of(f);
    forecast_free(f);
    return s;
}

static double ratio(const struct forecast_usd *u)
{
    return (double)u->high / (double)u->low;
}

static void in_order(const struct forecast_usd *u)
{
    assert_true(u->low <= u->likely && u->likely <= u->high);
}

/* --- the guess --- */

static void a_guess_is_at_most_a_factor_of_three(void **state)
{
    (void)state;
    static const int64_t bytes[] = {1, 30, 400, 20000, 3000000, 30000000},
                         tokens[] = {0, 1, 16, 512, 8192, 128000};
    static const char *const efforts[] = {"", "low", "max", "so-so"};
    for (size_t b = 0; b < sizeof bytes / sizeof *bytes; b++)
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
            for (size_t x = 0; x < 8; x++) {
                struct forecast_job j = a_job(&small, "q.jsonl");
                j.bytes = bytes[b];
                j.max_tokens = tokens[t];
                j.effort = efforts[x % 4];
                j.asks = x & 4 ? ASKS_THINKING : 0;
                struct forecast_sum s = cold(&j, 1000);
                in_order(&s.usd);
                assert_true(s.usd.low > 0 && ratio(&s.usd) <= 3);
                if (tokens[t] > 0)
                    assert_true(s.usd.high <= s.worst);
                assert_true(s.out.high <= 1000 * (tokens[t] ? tokens[t] : 1));
                assert_int_equal(s.measured, 0);
            }
}

static void a_guess_grows_with_what_may_be_written_and_is_asked_for(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    int64_t last = 0;
    for (j.max_tokens = 1; j.max_tokens < 200000; j.max_tokens *= 2) {
        int64_t out = cold(&j, 100).out.likely;
        assert_true(out > last);
        last = out;
    }
    j.max_tokens = 4096;
    int64_t plain = cold(&j, 100).out.likely;
    j.effort = "high";
    assert_true(cold(&j, 100).out.likely > plain);
    j.effort = "low";
    assert_true(cold(&j, 100).out.likely < plain);
    j.effort = "";
    j.asks = ASKS_THINKING;
    assert_true(cold(&j, 100).out.likely > plain * 2);
}

static void an_encoded_image_is_not_read_as_text(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    j.bytes = 1000400;
    int64_t text = cold(&j, 1).in.high;
    j.opaque = 1000000;
    j.opaque_blocks = 1;
    int64_t image = cold(&j, 1).in.high;
    assert_true(text > 200000 && image > 1000 && image < 4000);
}

/* --- what was learned --- */

enum shape { NARROW, USUAL, WIDE, PARETO, SOME_ENDLESS, BY_SIZE, SHAPES };

static const struct {
    const char *name;
    int from;    /* answers from which the range must hold, */
    double sure; /* in this part of the nights; 300 of them are told apart by .02 */
    double wide; /* and so wide it may be with 200 answers */
} shapes[SHAPES] = {
    [NARROW] = {"lognormal, sigma 0.3", 16, 0.98, 1.3},
    [USUAL] = {"lognormal, sigma 0.6", 16, 0.97, 1.5},
    [WIDE] = {"lognormal, sigma 1.0", 16, 0.95, 2.0},
    [PARETO] = {"Pareto, alpha 2.2", 16, 0.95, 1.8},
    [SOME_ENDLESS] = {"1 in 50 writes on to max_tokens", 16, 0.93, 2.0},
    /* From 16 of 516 that are sorted, nobody can tell the length of the last. */
    [BY_SIZE] = {"as long as the prompt, shortest first", 50, 0.95, 1.6},
};

/* Job `i` of `n`: its bytes, and what it reads and writes. */
static void draw(enum shape s, double i, double n, struct forecast_job *j, int64_t *in,
                 int64_t *out)
{
    double x;
    j->bytes = 300 + (int64_t)(200 * unit());
    switch (s) {
    case NARROW:
        x = 300 * exp(0.3 * normal());
        break;
    case USUAL:
        x = 300 * exp(0.6 * normal());
        break;
    case WIDE:
        x = 300 * exp(normal());
        break;
    case PARETO:
        x = 150 * pow(unit(), -1 / 2.2);
        break;
    case SOME_ENDLESS:
        x = unit() < 0.02 ? 1e9 : 300 * exp(0.6 * normal());
        break;
    default:
        j->bytes = 400 + (int64_t)(1600 * i / n);
        x = (double)j->bytes / 4 * exp(0.3 * normal());
    }
    *in = at_most((double)j->bytes / 4 * exp(0.1 * normal()) + 12, 1000000);
    *out = at_most(x, j->max_tokens);
}

struct night {
    int answers, jobs;
    bool held;
    double ratio;
};

/* Some of the jobs are answered, the others are forecast; then they are sent. */
static void live_through(enum shape s, struct night *n)
{
    struct forecast *f = none();
    struct forecast_job j = a_job(&small, "q.jsonl");
    picodollars bill = 0;
    int all = n->answers + n->jobs;
    for (int i = 0; i < all; i++) {
        int64_t in, out;
        draw(s, i, all, &j, &in, &out);
        if (i < n->answers) {
            learn(f, &j, in, out);
            continue;
        }
        add(f, &j, 0, 1);
        bill += catalog_cost(&small, &(struct usage){.input = in, .output = out});
    }
    struct forecast_sum sum = sum_of(f);
    forecast_free(f);
    in_order(&sum.usd);
    assert_int_equal(sum.jobs, n->jobs);
    n->held = sum.usd.low <= bill && bill <= sum.usd.high;
    n->ratio = ratio(&sum.usd);
}

static void nights(enum shape s, int answers, int jobs, int count, double *held,
                   double *mean_ratio)
{
    double yes = 0, logs = 0;
    for (int i = 0; i < count; i++) {
        struct night n = {.answers = answers, .jobs = jobs};
        seed = (uint64_t)i * 1000003 + (uint64_t)s * 77777 + (uint64_t)answers;
        live_through(s, &n);
        yes += n.held;
        logs += log(n.ratio);
    }
    *held = yes / count;
    *mean_ratio = exp(logs / count);
}

static void a_range_holds_the_bill_as_often_as_it_says(void **state)
{
    (void)state;
    static const int answers[] = {16, 50, 200, 1000};
    for (enum shape s = 0; s < SHAPES; s++) {
        double last = 1e9;
        for (size_t a = 0; a < sizeof answers / sizeof *answers; a++) {
            double held, wide;
            nights(s, answers[a], 500, 300, &held, &wide);
            print_message("%-40s %4d answers: held %.3f, high/low %.2f\n",
                          shapes[s].name, answers[a], held, wide);
            assert_true(answers[a] < shapes[s].from || held >= shapes[s].sure);
            assert_true(answers[a] < 200 || wide <= shapes[s].wide);
            assert_true(wide < last);
            last = wide;
        }
    }
}

/* `n` answers that write `out` tokens, give or take half. */
static void learn_some(struct forecast *f, const struct forecast_job *j, int n,
                       double out)
{
    for (int i = 0; i < n; i++)
        learn(f, j, j->bytes / 4 + 5, (int64_t)(out * (0.5 + (i % 11) / 10.0)));
}

static void a_few_answers_draw_the_guess_towards_them(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    int64_t last = cold(&j, 100).out.likely;
    for (int n = 1; n < FORECAST_MEASURED; n++) {
        struct forecast *f = none();
        for (int i = 0; i < n; i++)
            learn(f, &j, 100, 2000);
        add(f, &j, 0, 100);
        struct forecast_sum s = sum_of(f);
        assert_true(s.out.likely > last && s.out.likely < 100 * 2000);
        assert_true(ratio(&s.usd) <= 3);
        assert_int_equal(s.measured, 0);
        assert_int_equal(s.answers, n);
        last = s.out.likely;
        forecast_free(f);
    }
}

static void a_wrong_guess_is_gone_once_there_are_answers(void **state)
{
    (void)state;
    for (double out = 5; out < 4000; out *= 5) {
        struct forecast_job j = a_job(&small, "q.jsonl");
        struct forecast *f = none();
        learn_some(f, &j, 66, out);
        add(f, &j, 0, 1000);
        struct forecast_sum s = sum_of(f);
        assert_true(s.out.low < 1000 * out && 1000 * out < s.out.high);
        assert_true(ratio(&s.usd) < 1.6);
        assert_int_equal(s.measured, 1000);
        forecast_free(f);
    }
}

static void other_kinds_of_the_rung_mend_the_guess(void **state)
{
    (void)state;
    struct forecast_job seen = a_job(&small, "seen.jsonl"),
                        j = a_job(&small, "q.jsonl");
    struct forecast *f = none();
    learn_some(f, &seen, 100, 2500);
    add(f, &j, 0, 100);
    struct forecast_sum s = sum_of(f);
    assert_true(s.out.likely > cold(&j, 100).out.likely * 3 / 2);
    assert_true(s.out.likely < 250000);
    assert_true(s.in.low < 105 * 100 && 105 * 100 < s.in.high);
    assert_true(ratio(&s.usd) <= 3);
    assert_int_equal(s.answers, 0);
    forecast_free(f);

    f = none(); /* another rung's do not */
    seen.effort = "high";
    learn_some(f, &seen, 100, 2500);
    add(f, &j, 0, 100);
    assert_int_equal(sum_of(f).out.likely, cold(&j, 100).out.likely);
    forecast_free(f);
}

static void measured_kinds_err_apart_and_guesses_together(void **state)
{
    (void)state;
    struct forecast *measured = none(), *guessed = none();
    struct forecast_usd one[2];
    for (int i = 0; i < 40; i++) {
        char where[16];
        snprintf(where, sizeof where, "d%d", i);
        struct forecast_job j = a_job(&small, where);
        learn_some(measured, &j, 33, 300);
        add(measured, &j, i, 100);
        add(guessed, &j, i, 100);
        if (i == 0) {
            one[0] = sum_of(measured).usd;
            one[1] = sum_of(guessed).usd;
        }
    }
    struct forecast_sum m = sum_of(measured), g = sum_of(guessed);
    assert_true(log(ratio(&m.usd)) < 0.5 * log(ratio(&one[0])));
    assert_true(fabs(ratio(&g.usd) - ratio(&one[1])) < 0.001);
    assert_int_equal(m.jobs, 4000);
    assert_int_equal(g.usd.low / one[1].low, 40);
    forecast_free(measured);
    forecast_free(guessed);
}

static void sendings_that_are_paid_again_are_in_the_range(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    struct forecast *f = none(), *again = none();
    for (int i = 0; i < 100; i++) {
        struct forecast_answer a = {.usage = {.input = 100, .output = 300}, .paid = 1};
        assert_int_equal(forecast_learn(f, &j, &a), 0);
        a.paid = i % 10 ? 1 : 2;
        assert_int_equal(forecast_learn(again, &j, &a), 0);
    }
    add(f, &j, 0, 1000);
    add(again, &j, 0, 1000);
    double more = (double)sum_of(again).usd.likely / (double)sum_of(f).usd.likely;
    assert_true(fabs(more - 1.1) < 0.001);
    forecast_free(f);
    forecast_free(again);
}

static void cut_answers_that_are_asked_for_with_more_are_no_longer_bound(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    struct forecast *f = none();
    j.max_tokens = 100;
    for (int i = 0; i < 100; i++)
        learn(f, &j, 100, 150);
    add(f, &j, 0, 1000);
    struct forecast_sum s = sum_of(f);
    assert_true(s.out.low < 150000 && 150000 <= s.out.high);
    forecast_free(f);
}

static void what_is_refused_costs_nothing_and_counts(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    struct forecast *f = none();
    for (int i = 0; i < 100; i++)
        learn(f, &j, i % 2 ? 0 : 100, i % 2 ? 0 : 300);
    add(f, &j, 0, 1000);
    struct forecast_sum s = sum_of(f);
    assert_true(s.out.low < 150000 && 150000 < s.out.high && s.out.high < 250000);
    forecast_free(f);
}

/* --- prices --- */

static bool is_row(void *arg, int row)
{
    return row == *(int *)arg;
}

static void rows_are_told_apart_and_add_up(void **state)
{
    (void)state;
    struct forecast *f = none();
    struct forecast_job j = a_job(&small, "q.jsonl");
    int64_t jobs = 0, low = 0;
    for (int row = 0; row < 3; row++)
        add(f, &j, row, 10 * (row + 1));
    for (int row = 0; row < 3; row++) {
        struct forecast_sum s;
        forecast_sum(f, is_row, &row, &s);
        assert_int_equal(s.jobs, 10 * (row + 1));
        jobs += s.jobs;
        low += s.usd.low;
    }
    struct forecast_sum all = sum_of(f);
    assert_int_equal(all.jobs, jobs);
    assert_true(llabs(all.usd.low - low) <= 3);
    assert_int_equal(all.worst, 60 * worst_of(&j));
    forecast_free(f);
}

static void a_price_that_is_not_known_is_in_no_sum(void **state)
{
    (void)state;
    struct forecast *f = none();
    struct forecast_job j = a_job(&unpriced, "q.jsonl"), known = a_job(&small, "p");
    add(f, &j, 0, 5);
    j.model = NULL;
    j.model_id = "nobody-knows-it";
    add(f, &j, 0, 2);
    struct forecast_sum s = sum_of(f);
    assert_int_equal(s.jobs, 7);
    assert_int_equal(s.unpriced, 7);
    assert_int_equal(s.usd.high, 0);
    assert_true(s.out.low > 0 && s.in.low > 0);
    add(f, &known, 0, 1);
    s = sum_of(f);
    assert_int_equal(s.unpriced, 7);
    assert_true(s.usd.low == cold(&known, 1).usd.low);
    forecast_free(f);
    assert_int_equal(cold(&(struct forecast_job){.max_tokens = 5}, 0).jobs, 0);
}

static void a_free_model_costs_nothing(void **state)
{
    (void)state;
    static const struct model gift = {.id = "gift", .family = "gift", .priced = true};
    struct forecast_job j = a_job(&gift, "q.jsonl");
    struct forecast *f = none();
    learn_some(f, &j, 20, 100);
    add(f, &j, 0, 10);
    struct forecast_sum s = sum_of(f);
    assert_int_equal(s.usd.high, 0);
    assert_int_equal(s.unpriced, 0);
    assert_true(s.out.high > 0);
    forecast_free(f);
}

static void a_long_prompt_has_the_price_of_its_length(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&long_one, "q.jsonl");
    j.bytes = 100000; /* 21,000 to 37,000 tokens */
    struct forecast_sum s = cold(&j, 1), base = s;
    j.bytes = 1000000; /* 210,000 and more */
    s = cold(&j, 1);
    assert_true(s.usd.low > base.usd.low * 45);
    j.bytes = 400000; /* it may be either */
    s = cold(&j, 1);
    assert_true(ratio(&s.usd) > 5);

    struct forecast *f = none(); /* until it is known what a token is */
    for (int i = 0; i < 50; i++)
        learn(f, &j, 150000, 100);
    add(f, &j, 0, 10);
    s = sum_of(f);
    assert_true(ratio(&s.usd) < 1.5);
    struct usage u = {.input = 150000, .output = 100};
    assert_true(s.usd.low < 10 * catalog_cost(&long_one, &u) &&
                10 * catalog_cost(&long_one, &u) < s.usd.high);
    forecast_free(f);
}

static void the_cache_is_a_figure_of_its_own(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    struct forecast *f = none();
    j.bytes = 40000;
    add(f, &j, 0, 10);
    struct forecast_sum s = sum_of(f);
    assert_memory_equal(&s.usd, &s.cached, sizeof s.usd);
    assert_memory_equal(&s.in, &s.uncached, sizeof s.in);
    forecast_free(f);

    f = none(); /* expected: */
    j.cache = (struct forecast_cache){.read = 0.9};
    add(f, &j, 0, 10);
    s = sum_of(f);
    assert_true(s.cached.likely < s.usd.likely && s.cached.low < s.usd.low);
    assert_true(s.uncached.likely < s.in.likely / 9);
    forecast_free(f);

    f = none(); /* and seen: it is written each time, and never read */
    struct usage u = {.input = 100, .output = 100, .cache_write_1h = 9900};
    for (int i = 0; i < 200; i++)
        assert_int_equal(
            forecast_learn(f, &j, &(struct forecast_answer){.usage = u, .paid = 1}), 0);
    add(f, &j, 0, 10);
    s = sum_of(f);
    assert_true(s.cached.low < 10 * catalog_cost(&small, &u) &&
                10 * catalog_cost(&small, &u) < s.cached.high);
    assert_true(s.usd.high < s.cached.low);
    assert_true(llabs(s.uncached.likely - s.in.likely) <= 1);
    forecast_free(f);
}

/* --- bounds --- */

static void nothing_overflows(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    struct forecast_sum s = cold(&j, 1000000000);
    in_order(&s.usd);
    assert_int_equal(s.jobs, 1000000000);
    assert_true(s.usd.high < INT64_MAX && s.usd.low > 0 && ratio(&s.usd) <= 3);

    struct model dear = small;
    dear.base.output = dear.base.input = INT64_MAX / 1000;
    j.model = &dear;
    j.bytes = 30000000;
    j.max_tokens = 128000;
    struct forecast *f = none();
    for (int i = 0; i < 5; i++)
        add(f, &j, i, 1000000000);
    s = sum_of(f);
    assert_int_equal(s.worst, INT64_MAX);
    assert_int_equal(s.usd.high, INT64_MAX);
    assert_true(s.out.high <= INT64_C(128000) * 5000000000);
    struct forecast_time t = forecast_time(
        &s, &(struct forecast_limits){.rpm = 1, .itpm = 1, .otpm = 1, .window = 1});
    assert_true(t.low_ms > 0 && t.low_ms <= t.high_ms);
    forecast_free(f);

    f = none();
    j = a_job(&small, "q.jsonl");
    for (int i = 0; i < 40; i++)
        learn(f, &j, i % 2 ? INT64_MAX / 2 : 0, i % 2 ? INT64_MAX / 2 : 0);
    add(f, &j, 0, 1000000000);
    s = sum_of(f);
    in_order(&s.usd);
    assert_true(s.out.low <= s.out.likely && s.out.likely <= s.out.high);
    forecast_free(f);
}

static void kinds_and_rungs_have_a_ceiling(void **state)
{
    (void)state;
    struct forecast *f = none();
    char where[32], model[32];
    for (int i = 0; i < 20000; i++) {
        snprintf(where, sizeof where, "dir-%d", i);
        snprintf(model, sizeof model, "model-%d", i % 1000);
        struct forecast_job j = a_job(&small, where);
        add(f, &j, 0, 1);
        j.model = NULL;
        j.model_id = model;
        j.effort = i % 2 ? "high" : "";
        add(f, &j, 0, 1);
    }
    struct forecast_sum s = sum_of(f);
    assert_int_equal(s.jobs, 40000);
    assert_int_equal(s.unpriced, 20000);
    forecast_free(f);
    forecast_free(NULL);
}

/* --- time --- */

static const struct forecast_sum thousand = {.jobs = 1000,
                                             .in = {400000, 500000, 600000},
                                             .uncached = {400000, 500000, 600000},
                                             .out = {200000, 300000, 400000},
                                             .busy_low = 1000000,
                                             .busy_high = 4000000};

static void the_tightest_limit_makes_the_time(void **state)
{
    (void)state;
    static const struct {
        struct forecast_limits limits;
        enum forecast_bound bound;
        int64_t low_min, high_min; /* what the limit alone says */
    } rows[] = {
        {{.rpm = 50, .window = 1000}, FORECAST_BY_REQUESTS, 19, 20},
        {{.itpm = 30000, .window = 1000}, FORECAST_BY_INPUT, 12, 20},
        {{.otpm = 8000, .window = 1000}, FORECAST_BY_OUTPUT, 24, 50},
        {{.rpm = 50, .itpm = 30000, .otpm = 8000, .window = 1000},
         FORECAST_BY_OUTPUT,
         24,
         50},
        {{.rpm = 1000000, .itpm = 900000000, .window = 1}, FORECAST_BY_WINDOW, 16, 66},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct forecast_time t = forecast_time(&thousand, &rows[i].limits);
        assert_int_equal(t.bound, rows[i].bound);
        assert_true(t.limits_known);
        assert_int_equal(t.low_ms / 60000, rows[i].low_min);
        assert_true(t.high_ms >= rows[i].high_min * 60000);
        assert_true(t.high_ms < rows[i].high_min * 60000 * 5 / 4 + 60000);
    }
}

static void without_limits_the_window_is_reckoned_with_and_said(void **state)
{
    (void)state;
    struct forecast_time t = forecast_time(&thousand,
                                           &(struct forecast_limits){.window = 100});
    assert_false(t.limits_known);
    assert_int_equal(t.low_ms, 10000);
    assert_true(t.high_ms > 40000 && t.high_ms < 120000);
    t = forecast_time(&(struct forecast_sum){0}, &(struct forecast_limits){.rpm = 5});
    assert_int_equal(t.high_ms, 0);
}

static void the_time_of_answers_is_learned(void **state)
{
    (void)state;
    struct forecast_job j = a_job(&small, "q.jsonl");
    struct forecast *f = none();
    learn_some(f, &j, 50, 300); /* each took a second */
    add(f, &j, 0, 1000);
    struct forecast_sum s = sum_of(f);
    assert_true(s.busy_low > 500000 && s.busy_low < 1000000);
    assert_true(s.busy_high > 1000000 && s.busy_high < 2000000);
    forecast_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guess_is_at_most_a_factor_of_three),
        cmocka_unit_test(a_guess_grows_with_what_may_be_written_and_is_asked_for),
        cmocka_unit_test(an_encoded_image_is_not_read_as_text),
        cmocka_unit_test(a_range_holds_the_bill_as_often_as_it_says),
        cmocka_unit_test(a_few_answers_draw_the_guess_towards_them),
        cmocka_unit_test(a_wrong_guess_is_gone_once_there_are_answers),
        cmocka_unit_test(other_kinds_of_the_rung_mend_the_guess),
        cmocka_unit_test(measured_kinds_err_apart_and_guesses_together),
        cmocka_unit_test(sendings_that_are_paid_again_are_in_the_range),
        cmocka_unit_test(cut_answers_that_are_asked_for_with_more_are_no_longer_bound),
        cmocka_unit_test(what_is_refused_costs_nothing_and_counts),
        cmocka_unit_test(rows_are_told_apart_and_add_up),
        cmocka_unit_test(a_price_that_is_not_known_is_in_no_sum),
        cmocka_unit_test(a_free_model_costs_nothing),
        cmocka_unit_test(a_long_prompt_has_the_price_of_its_length),
        cmocka_unit_test(the_cache_is_a_figure_of_its_own),
        cmocka_unit_test(nothing_overflows),
        cmocka_unit_test(kinds_and_rungs_have_a_ceiling),
        cmocka_unit_test(the_tightest_limit_makes_the_time),
        cmocka_unit_test(without_limits_the_window_is_reckoned_with_and_said),
        cmocka_unit_test(the_time_of_answers_is_learned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
