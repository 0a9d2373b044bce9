#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/chart.h"

#include <string.h>

#define CASES(a) (sizeof(a) / sizeof(a)[0])

#define S INT64_C(1000)
#define MIN (60 * S)
#define H (60 * MIN)
#define D (24 * H)

static void slices_are_as_a_clock_is_divided_and_few_enough(void **state)
{
    (void)state;
    static const struct {
        int64_t span, slice;
    } cases[] = {
        {1, 100},     {18 * S, 100},        {18 * S + 1, 200},  {2 * MIN, S},
        {3 * MIN, S}, {3 * MIN + 1, 2 * S}, {8 * H, 5 * MIN},   {30 * D, 6 * H},
        {180 * D, D}, {181 * D, 2 * D},     {4000 * D, 23 * D},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        int64_t slice = chart_slice(cases[i].span, 180);
        assert_int_equal(slice, cases[i].slice);
        assert_true((cases[i].span + slice - 1) / slice <= 180);
    }
}

static void short_slices_tell_what_went_in_the_minute_before(void **state)
{
    (void)state;
    double values[8] = {10, 0, 0, 20, 0, 0, 0, 0};
    static const double want[8] = {10, 10, 10, 20, 20, 20, 0, 0};
    chart_per_minute(values, 8, 20 * S);
    for (size_t i = 0; i < 8; i++)
        assert_float_equal(values[i], want[i], 1e-9);
}

static void long_slices_tell_their_mean(void **state)
{
    (void)state;
    double values[2] = {300, 30};
    chart_per_minute(values, 2, 5 * MIN);
    assert_float_equal(values[0], 60, 1e-9);
    assert_float_equal(values[1], 6, 1e-9);
}

static const double four[] = {0, 50, 50, 100};
static const struct chart_step steps[] = {{1000, 125}, {3000, 250}};

static struct chart sample(void)
{
    return (struct chart){.label = "a <b>",
                          .from = 1000,
                          .to = 5000,
                          .values = four,
                          .len = 4,
                          .slice_ms = 1000};
}

static void check(const struct chart *c, const char *want)
{
    struct textbuf b = {0};
    chart_svg(&b, c);
    assert_false(b.failed);
    if (strstr(b.at, want) == NULL)
        fail_msg("no %s in\n%s", want, b.at);
    textbuf_free(&b);
}

static void what_went_is_an_area_from_edge_to_edge(void **state)
{
    (void)state;
    struct chart c = sample();
    check(&c, "aria-label=\"a &lt;b&gt;\"");
    check(&c, "d=\"M0 100V100.0H250.0V55.4H750.0V10.7H1000.0V100Z\"");
    c.to = 4500; /* the last slice reaches beyond */
    check(&c, "V10.7H1000.0V100Z");
}

static void a_limit_is_a_line_with_a_step_where_it_changed(void **state)
{
    (void)state;
    struct chart c = sample();
    c.limits = steps;
    c.limits_len = 2;
    assert_true(chart_shows_limit(&c));
    assert_float_equal(chart_top(&c), 280, 1e-9);
    check(&c, "class=\"limit\" d=\"M0.0 55.4H500.0M500.0 10.7H1000.0\"");
}

static void a_limit_far_above_does_not_make_the_rest_flat(void **state)
{
    (void)state;
    static const struct chart_step far[] = {{0, 4000}};
    struct chart c = sample();
    struct textbuf b = {0};
    c.limits = far;
    c.limits_len = 1;
    assert_false(chart_shows_limit(&c));
    assert_float_equal(chart_limit(&c), 4000, 1e-9);
    assert_float_equal(chart_top(&c), 112, 1e-9);
    chart_svg(&b, &c);
    assert_null(strstr(b.at, "class=\"limit\""));
    textbuf_free(&b);
}

static void holds_are_bands_and_halts_are_lines_with_their_words(void **state)
{
    (void)state;
    static const struct chart_mark marks[] = {
        {.from = 2000, .to = 3000, .says = "rate limited: <slow>"},
        {.from = 4999, .to = 5000, .says = "short"},
        {.from = 500, .to = 900, .says = "before"},
        {.from = 4000, .to = 4000, .halt = true, .says = "no credit"},
        {.from = 5000, .to = 5000, .halt = true, .says = "at the edge"},
    };
    struct chart c = sample();
    struct textbuf b = {0};
    c.marks = marks;
    c.marks_len = CASES(marks);
    check(&c, "<rect class=\"held\" x=\"250.0\" y=\"0\" width=\"250.0\" height=\"100\">"
              "<title>rate limited: &lt;slow&gt;</title></rect>");
    check(&c, "x=\"997.5\" y=\"0\" width=\"2.5\""); /* seen, and within the picture */
    check(&c,
          "<path class=\"halt\" d=\"M750.0 0V100\"><title>no credit</title></path>");
    check(&c,
          "<path class=\"halt\" d=\"M998.0 0V100\"><title>at the edge</title></path>");
    chart_svg(&b, &c);
    assert_null(strstr(b.at, "before"));
    textbuf_free(&b);
}

static void nothing_sent_is_a_flat_line_and_no_division_by_it(void **state)
{
    (void)state;
    static const double none[4];
    struct chart c = sample();
    c.values = none;
    assert_float_equal(chart_top(&c), 1, 1e-9);
    check(&c, "d=\"M0 100V100.0H1000.0V100Z\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_as_a_clock_is_divided_and_few_enough),
        cmocka_unit_test(short_slices_tell_what_went_in_the_minute_before),
        cmocka_unit_test(long_slices_tell_their_mean),
        cmocka_unit_test(what_went_is_an_area_from_edge_to_edge),
        cmocka_unit_test(a_limit_is_a_line_with_a_step_where_it_changed),
        cmocka_unit_test(a_limit_far_above_does_not_make_the_rest_flat),
        cmocka_unit_test(holds_are_bands_and_halts_are_lines_with_their_words),
        cmocka_unit_test(nothing_sent_is_a_flat_line_and_no_division_by_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
