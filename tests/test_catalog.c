#include "conf/catalog.h"
#include "runner/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static struct catalog *builtin(void)
{
    struct err e = {0};
    struct catalog *c = catalog_new(&e);
    assert_string_equal(e.text, "");
    assert_non_null(c);
    return c;
}

/* Lays `text` over the built-in rows as a user's file would. */
static int lay_over(struct catalog *c, const char *text, char *path, struct err *e)
{
    strcpy(path, "/tmp/test-catalog-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    int rc = catalog_add_file(c, path, e);
    unlink(path);
    return rc;
}

static void every_built_in_model_has_prices_and_a_family(void **state)
{
    (void)state;
    struct catalog *c = builtin();
    assert_string_equal(catalog_date(c), "2026-11-12");
    assert_int_equal(catalog_count(c), 15);
    for (size_t i = 0; i < catalog_count(c); i++) {
        const struct model *m = catalog_at(c, i);
        assert_true(m->priced);
        assert_true(m->base.input > 0 && m->base.output > m->base.input);
        assert_true(m->base.cache_read < m->base.input);
        assert_true(m->base.cache_write_5m > m->base.input);
        assert_true(m->base.cache_write_1h > m->base.cache_write_5m);
        assert_true(m->min_cacheable >= 512);
        assert_true(strlen(m->family) > 0);
        assert_ptr_equal(catalog_find(c, m->id), m);
    }
    catalog_free(c);
}

static void models_are_found_by_id_and_by_alias(void **state)
{
    (void)state;
    static const struct {
        const char *name, *id, *family;
    } cases[] = {
        {"claude-opus-5-5", "claude-opus-5-5", "opus-5.5"},
        {"opus", "claude-opus-5-5", "opus-5.5"},
        {"sonnet", "claude-sonnet-5-5", "sonnet-5.5"},
        {"haiku", "claude-haiku-5-5", "haiku-5.5"},
        {"fable", "claude-fable-5-2", "fable-5"},
        {"claude-opus-4-5", "claude-opus-4-5-20251101", "opus-4"},
        {"claude-opus-4-8", "claude-opus-4-8", "opus-4"},
        {"claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "sonnet-4"},
        {"claude-haiku-4-5", "claude-haiku-4-5-20251001", "haiku-4.5"},
    };
    struct catalog *c = builtin();
    for (size_t i = 0; i < CASES(cases); i++) {
        const struct model *m = catalog_find(c, cases[i].name);
        assert_non_null(m);
        assert_string_equal(m->id, cases[i].id);
        assert_string_equal(m->family, cases[i].family);
    }
    assert_null(catalog_find(c, "claude-opus-9"));
    assert_null(catalog_find(c, ""));
    catalog_free(c);
}

/*
 * Bills reckoned by hand from the published price list (dollars per million tokens), for
 * 10,000 tokens of input, 4,000 written to the cache for five minutes, 3,000 for an hour,
 * 50,000 read from it, 2,000 of output. Sonnet 5.5: 0.02 + 0.01 + 0.012 + 0.005 + 0.02.
 */
static void every_price_of_the_list_is_in_a_bill_reckoned_by_hand(void **state)
{
    (void)state;
    static const struct {
        const char *id, *usd, *batch;
    } bills[] = {
        {"claude-fable-5-2", "0.288000", "0.144000"},
        {"claude-fable-5-1", "0.322500", "0.161250"},
        {"claude-fable-5", "0.360000", "0.180000"},
        {"claude-opus-5-5", "0.134000", "0.067000"},
        {"claude-opus-5", "0.180000", "0.090000"},
        {"claude-opus-4-8", "0.180000", "0.090000"},
        {"claude-opus-4-7", "0.180000", "0.090000"},
        {"claude-opus-4-6", "0.180000", "0.090000"},
        {"claude-opus-4-5-20251101", "0.180000", "0.090000"},
        {"claude-sonnet-5-5", "0.067000", "0.033500"},
        {"claude-sonnet-5", "0.072000", "0.036000"},
        {"claude-sonnet-4-6", "0.108000", "0.054000"},
        {"claude-sonnet-4-5-20250929", "0.108000", "0.054000"},
        {"claude-haiku-5-5", "0.003600", "0.001800"},
        {"claude-haiku-4-5-20251001", "0.036000", "0.018000"},
    };
    const struct usage u = {.input = 10000,
                            .cache_write_5m = 4000,
                            .cache_write_1h = 3000,
                            .cache_read = 50000,
                            .output = 2000};
    char usd[CATALOG_USD_MAX];
    struct catalog *c = catalog_new(NULL);
    assert_non_null(c);
    assert_int_equal(catalog_count(c),
                     CASES(bills)); /* a new model wants a bill here */
    for (size_t i = 0; i < CASES(bills); i++) {
        const struct model *m = catalog_find(c, bills[i].id);
        assert_non_null(m);
        assert_string_equal(catalog_usd(catalog_cost(m, &u), usd), bills[i].usd);
        assert_string_equal(catalog_usd(catalog_cost_batch(m, &u), usd),
                            bills[i].batch);
        assert_true(m->min_cacheable > 0);
    }

    /* A long prompt pays other prices throughout: 60,000 + 1,000 + 1,000 + 50,000 are
     * more than 100,000. At 100,000 it is not long yet. */
    const struct usage above = {.input = 60000,
                                .cache_write_5m = 1000,
                                .cache_write_1h = 1000,
                                .cache_read = 50000,
                                .output = 2000};
    const struct usage at = {.input = 50000, .cache_read = 50000};
    const struct model *haiku = catalog_find(c, "claude-haiku-5-5");
    assert_string_equal(catalog_usd(catalog_cost(haiku, &above), usd), "0.039125");
    assert_string_equal(catalog_usd(catalog_cost_batch(haiku, &above), usd),
                        "0.0195625");
    assert_string_equal(catalog_usd(catalog_cost(haiku, &at), usd), "0.005500");
    catalog_free(c);
}

static void costs_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        struct usage usage;
        const char *usd;
    } cases[] = {
        {"claude-opus-5-5", {.input = 1000000}, "4.000000"},
        {"claude-opus-5-5", {.output = 1}, "0.000020"},
        {"claude-opus-5-5", {.cache_read = 1}, "0.0000002"},
        {"claude-opus-5-5", {1, 1, 1, 1, 1}, "0.0000372"},
        {"claude-sonnet-4-6", {1000, 500, 2000, 100, 10}, "0.011535"},
        {"claude-fable-5-1", {.cache_read = 3}, "0.00000075"},
        {"claude-fable-5-2", {.cache_write_5m = 1000000}, "10.000000"},
        {"claude-haiku-5-5", {.cache_write_5m = 1}, "0.000000125"},
        {"claude-haiku-5-5", {.input = 100000}, "0.010000"},
        {"claude-haiku-5-5", {.input = 100001}, "0.0500005"},
        /* What was cached counts towards the length of the prompt. */
        {"claude-haiku-5-5", {.input = 1, .cache_read = 100000}, "0.0050005"},
        {"claude-haiku-5-5", {.input = 1, .cache_read = 99999}, "0.00100009"},
        {"claude-haiku-5-5", {.input = 100001, .output = 1000}, "0.0525005"},
        {"claude-opus-5-5", {0}, "0.000000"},
    };
    struct catalog *c = builtin();
    char usd[CATALOG_USD_MAX];
    for (size_t i = 0; i < CASES(cases); i++) {
        const struct model *m = catalog_find(c, cases[i].model);
        picodollars cost = catalog_cost(m, &cases[i].usage);
        assert_string_equal(catalog_usd(cost, usd), cases[i].usd);
    }
    catalog_free(c);
}

static void costs_saturate_instead_of_wrapping(void **state)
{
    (void)state;
    struct catalog *c = builtin();
    const struct model *m = catalog_find(c, "opus");
    static const struct usage cases[] = {
        {.input = INT64_MAX},
        {.output = INT64_MAX / 2},
        {.input = INT64_MAX / 5000000, .output = INT64_MAX / 25000000},
        {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX},
    };
    for (size_t i = 0; i < CASES(cases); i++)
        assert_true(catalog_cost(m, &cases[i]) > INT64_MAX / 2);
    assert_true(catalog_cost(m, &cases[3]) == INT64_MAX);
    assert_true(catalog_cost(m, &(struct usage){.input = -5, .output = -5}) == 0);
    catalog_free(c);
}

static void money_is_written_with_six_decimals_and_no_idle_zeros(void **state)
{
    (void)state;
    static const struct {
        picodollars amount;
        const char *usd;
    } cases[] = {
        {0, "0.000000"},
        {1, "0.000000000001"},
        {123000000, "0.000123"},
        {123400000, "0.0001234"},
        {PICODOLLARS_PER_DOLLAR * 5, "5.000000"},
        {-PICODOLLARS_PER_DOLLAR / 2, "-0.500000"},
        {INT64_MAX, "9223372.036854775807"},
        {INT64_MIN, "-9223372.036854775808"},
    };
    char usd[CATALOG_USD_MAX];
    for (size_t i = 0; i < CASES(cases); i++)
        assert_string_equal(catalog_usd(cases[i].amount, usd), cases[i].usd);
}

static void a_users_rows_are_laid_over_the_built_in_ones(void **state)
{
    (void)state;
    struct catalog *c = builtin();
    struct err e = {0};
    char path[64], usd[CATALOG_USD_MAX];
    size_t before = catalog_count(c);

    assert_int_equal(lay_over(c,
                              "[catalog]\ndate = 2027-01-01\n"
                              "[model claude-opus-5-5]\n"
                              "output = 18.5 ; negotiated\n"
                              "[model claude-next-1]\n"
                              "input = 3\noutput = 15\naliases = next, opus\n"
                              "[model claude-unpriced-1]\n"
                              "family = secret\n",
                              path, &e),
                     0);

    const struct model *m = catalog_find(c, "claude-opus-5-5");
    assert_true(m->base.output == 18500000 && m->base.input == 4000000);
    assert_string_equal(m->family, "opus-5.5");
    /* What is not said follows the general rule; who names no family is one. */
    m = catalog_find(c, "next");
    assert_true(m->priced);
    assert_string_equal(m->family, "claude-next-1");
    assert_true(m->base.cache_write_5m == 3750000 &&
                m->base.cache_write_1h == 6000000 && m->base.cache_read == 300000);
    assert_ptr_equal(catalog_find(c, "opus"), m);
    m = catalog_find(c, "claude-unpriced-1");
    assert_false(m->priced);
    assert_string_equal(catalog_usd(catalog_cost(m, &(struct usage){.input = 9}), usd),
                        "0.000000");
    assert_int_equal(catalog_count(c), before + 2);
    assert_string_equal(catalog_date(c), "2026-11-12");
    catalog_free(c);
}

static void a_bad_row_is_named_with_its_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *says;
    } cases[] = {
        {"[model x]\ninput = dear\n", ":2:", "want dollars"},
        {"[model x]\ninput = -1\n", ":2:", "want dollars"},
        {"[model x]\n\ninput = 0.0000001\n", ":3:", "6 decimals"},
        {"[model x]\ninput = 1.2.3\n", ":2:", "want dollars"},
        {"[model x]\ninput = 99999999999999999999\n", ":2:", "want dollars"},
        {"[model x]\ninput =\n", ":2:", "want dollars"},
        {"[model x]\ncontext = many\n", ":2:", "number of tokens"},
        {"[model x]\nretires = soon\n", ":2:", "YYYY-MM-DD"},
        {"[model x]\ncolour = red\n", ":2:", "no key is named colour"},
        {"[model x]\naliases = a,,b\n", ":2:", "commas"},
        {"[model ]\ninput = 1\n", ":2:", "id"},
        {"[models x]\ninput = 1\n", ":2:", "want [catalog] or [model ID]"},
        {"[catalog]\ncolour = red\n", ":2:", "no key named colour"},
        {"[model x]\nwhat is this\n", ":2:", "want [section]"},
        {"[model a-name-that-is-far-too-long-for-the-reader-of-ini-files]\ninput = 1\n",
         ":2:", "at most"},
        {"[model x]\ninput = 1\noutput = 2\nlong_above = 5\n", ":", "long_input"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct catalog *c = builtin();
        struct err e = {0};
        char path[64], where[96];
        assert_int_equal(lay_over(c, cases[i].text, path, &e), -1);
        assert_int_equal(e.code, ERR_CONF);
        snprintf(where, sizeof where, "%s%s", path, cases[i].line);
        assert_non_null(strstr(e.text, where));
        assert_non_null(strstr(e.text, cases[i].says));
        catalog_free(c);
    }
}

static void a_line_too_long_for_the_reader_is_refused_not_cut(void **state)
{
    (void)state;
    struct catalog *c = builtin();
    struct err e = {0};
    char path[64], text[2048] = "[model x]\naliases = ";
    for (int i = 0; i < 100; i++)
        strcat(text, "name-of-it,");
    strcat(text, "last\n");
    assert_int_equal(lay_over(c, text, path, &e), -1);
    assert_non_null(strstr(e.text, ":2: a line of"));
    catalog_free(c);
}

static void a_missing_file_is_an_error_that_names_it(void **state)
{
    (void)state;
    struct catalog *c = builtin();
    struct err e = {0};
    assert_int_equal(catalog_add_file(c, "/nowhere/models.ini", &e), -1);
    assert_non_null(strstr(e.text, "/nowhere/models.ini"));
    catalog_free(c);
    catalog_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_built_in_model_has_prices_and_a_family),
        cmocka_unit_test(models_are_found_by_id_and_by_alias),
        cmocka_unit_test(every_price_of_the_list_is_in_a_bill_reckoned_by_hand),
        cmocka_unit_test(costs_are_exact),
        cmocka_unit_test(costs_saturate_instead_of_wrapping),
        cmocka_unit_test(money_is_written_with_six_decimals_and_no_idle_zeros),
        cmocka_unit_test(a_users_rows_are_laid_over_the_built_in_ones),
        cmocka_unit_test(a_bad_row_is_named_with_its_file_and_line),
        cmocka_unit_test(a_line_too_long_for_the_reader_is_refused_not_cut),
        cmocka_unit_test(a_missing_file_is_an_error_that_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
