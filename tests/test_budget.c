#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "conf/catalog.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_answer_costs_more_than_the_worst),
        cmocka_unit_test(the_worst_is_every_byte_a_written_token_and_every_token_said),
        cmocka_unit_test(a_model_without_a_price_costs_nothing_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
