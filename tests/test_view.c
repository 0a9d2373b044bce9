#include "runner/view.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include <cmocka.h>

#define CASES(a) (sizeof(a) / sizeof(a)[0])
#define DOLLAR PICODOLLARS_PER_DOLLAR

static int columns_of(const char *s)
{
    int sum = 0;
    mbstate_t st = {0};
    while (*s) {
        wchar_t w;
        size_t n = mbrtowc(&w, s, strlen(s), &st);
        assert_true(n > 0 && n <= strlen(s));
        assert_true(wcwidth(w) >= 0);
        sum += wcwidth(w);
        s += n;
    }
    return sum;
}

static void text_is_cut_to_columns_and_not_within_a_character(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int columns;
        const char *says;
    } cases[] = {
        {"", 5, ""},
        {"hello", 5, "hello"},
        {"hello!", 5, "he..."},
        {"hello!", 2, "he"},
        {"h\033[2Ji", 9, "h?[2Ji"},
        {"a\xff\xfe"
         "b",
         9, "a??b"},
        {"日本語", 6, "日本語"},
        {"日本語です", 6, "日..."},
        {"日本語です", 7, "日本..."},
        {"e\xcc\x81"
         "a",
         2,
         "e\xcc\x81"
         "a"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        char buf[64];
        int n = view_fit(cases[i].text, cases[i].columns, buf, sizeof buf);
        assert_string_equal(buf, cases[i].says);
        assert_int_equal(n, columns_of(buf));
    }
}

static void what_is_left_takes_as_long_as_its_lanes_need(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t left;
        struct view_lane lanes[3];
        int64_t ms; /* -1: nobody knows */
    } cases[] = {
        {"nothing", 0, {{.speed = 0}}, 0},
        {"no speed", 5, {{.speed = 0}}, -1},
        {"one lane", 600, {{.speed = 60}}, 600000},
        {"two lanes share", 600, {{.speed = 60}, {.speed = 40}}, 360000},
        {"a hold comes first", 60, {{.speed = 60, .hold_ms = 300000}}, 360000},
        {"a held lane joins late",
         180,
         {{.speed = 60}, {.speed = 60, .hold_ms = 60000}},
         120000},
        {"a hold that ends too late",
         60,
         {{.speed = 60}, {.speed = 9, .hold_ms = 9000000}},
         60000},
        {"longer than a year", 1000000000, {{.speed = 1}}, -1},
        {"each lane its own",
         660,
         {{.speed = 60, .left = 600}, {.speed = 60, .left = 60}},
         600000},
        {"who has time helps with what is nobody's",
         180,
         {{.speed = 60, .left = 100}, {.speed = 60, .left = 20}},
         100000},
        {"a lane of its own that is held",
         61,
         {{.speed = 60, .left = 60}, {.speed = 60, .left = 1, .hold_ms = 300000}},
         301000},
        {"a lane that nobody has seen work",
         61,
         {{.speed = 60, .left = 60}, {.speed = 0, .left = 1}},
         -1},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        int64_t ms = view_eta(cases[i].left, cases[i].lanes, 3);
        if (ms < cases[i].ms || ms > cases[i].ms + 200)
            fail_msg("%s: %lld", cases[i].name, (long long)ms);
    }
}

static const struct view_lane two_lanes[] = {
    {.name = "sonnet-5.5",
     .done = 1320,
     .in_flight = 12,
     .cost = DOLLAR / 4,
     .says = "97 % of input tokens",
     .speed = 600},
    {.name = "opus-5.5",
     .done = 3,
     .in_flight = 0,
     .cost = DOLLAR,
     .says = "held until 05:00 (rate limited)",
     .speed = 10,
     .hold_ms = 60000},
};

static void a_run_in_the_middle_looks_like_this(void **state)
{
    (void)state;
    static const char *const want[] = {
        "[=======.........]  49 %  1,323 of 2,700 done, 4 failed  1:05, about 2 min "
        "to go",
        "sonnet-5.5   1,320 done   12 out  97 % of input tokens                   "
        "$0.2500",
        "opus-5.5         3 done    0 out  held until 05:00 (rate limited)          "
        "$1.00",
        "failed: a: bad request",
        "spent $1.25 of $5.00 that this run may cost, up to $0.0300 in doubt",
    };
    struct view v = {.done = 1323,
                     .failed = 3,
                     .parked = 1,
                     .left = 1373,
                     .elapsed_ms = 65000,
                     .spent = 5 * DOLLAR / 4,
                     .doubt = 3 * DOLLAR / 100,
                     .ceiling = 5 * DOLLAR,
                     .ceilings = "this run",
                     .lanes = two_lanes,
                     .lanes_len = 2,
                     .failures = {NULL, NULL, "a: bad request"}};
    struct view_lines l;
    view_draw(&v, 80, 23, &l);
    assert_int_equal(l.count, CASES(want));
    for (size_t i = 0; i < CASES(want); i++)
        assert_string_equal(l.line[i], want[i]);
}

static void on_a_narrow_window_the_words_are_kept_and_the_bar_is_not(void **state)
{
    (void)state;
    struct view v = {.done = 1323,
                     .failed = 4,
                     .left = 1373,
                     .elapsed_ms = 65000,
                     .spent = DOLLAR,
                     .lanes = two_lanes,
                     .lanes_len = 2};
    struct view_lines l;
    view_draw(&v, VIEW_COLUMNS_MIN, 9, &l);
    assert_string_equal(l.line[0], "49 %  1,323 of 2,700, 4 failed, 2 min");
    assert_string_equal(l.line[2], "opus-5.5         3 done    0 ...  $1.00");
    v.over = true;
    view_draw(&v, VIEW_COLUMNS_MIN, 9, &l);
    assert_string_equal(l.line[0], "49 %  1,323 of 2,700, 4 failed, 1:05");
}

static void a_run_that_is_over_says_nothing_of_what_is_to_come(void **state)
{
    (void)state;
    struct view v = {.done = 2, .elapsed_ms = 3723000, .over = true};
    struct view_lines l;
    view_draw(&v, 60, 23, &l);
    assert_string_equal(l.line[0],
                        "[========================] 100 %  2 of 2 done  1:02:03");
    assert_string_equal(l.line[1], "spent $0.00");
    v.left = 1;
    view_draw(&v, 60, 23, &l);
    assert_null(strstr(l.line[0], "to go"));
}

static void no_line_is_too_wide_and_none_too_many_whatever_is_shown(void **state)
{
    (void)state;
    struct view_lane lanes[40];
    struct view_lines l;
    char name[40][64];
    for (int i = 0; i < 40; i++) {
        lanes[i] = (struct view_lane){.name = name[i],
                                      .done = INT64_MAX,
                                      .in_flight = 999,
                                      .cost = INT64_MAX,
                                      .speed = 1e-9,
                                      .hold_ms = INT64_MAX / 4};
        snprintf(name[i], sizeof name[i], "日本語の長い名前-%d-\xff-claude-something",
                 i);
        memset(lanes[i].says, 'x', sizeof lanes[i].says - 1);
    }
    for (int columns = VIEW_COLUMNS_MIN; columns < 220; columns += 31)
        for (int rows = VIEW_ROWS_MIN; rows < 30; rows += 3)
            for (size_t n = 0; n <= 40; n += 5) {
                struct view v = {.done = INT64_MAX / 4,
                                 .failed = 5,
                                 .left = INT64_MAX / 4,
                                 .elapsed_ms = INT64_MAX / 4,
                                 .spent = INT64_MAX,
                                 .doubt = INT64_MAX,
                                 .ceiling = INT64_MAX,
                                 .ceilings = "this run",
                                 .lanes = lanes,
                                 .lanes_len = n,
                                 .waits = lanes[0].says,
                                 .failures = {lanes[1].says, name[3], "c\r\nd\033[H"}};
                view_draw(&v, columns, rows, &l);
                assert_in_range(l.count, 1, rows);
                assert_true(l.count <= VIEW_ROWS_MAX);
                for (int i = 0; i < l.count; i++)
                    assert_true(columns_of(l.line[i]) <= columns);
                assert_non_null(strstr(l.line[l.count - 1], "spent"));
            }
}

int main(void)
{
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_cut_to_columns_and_not_within_a_character),
        cmocka_unit_test(what_is_left_takes_as_long_as_its_lanes_need),
        cmocka_unit_test(a_run_in_the_middle_looks_like_this),
        cmocka_unit_test(on_a_narrow_window_the_words_are_kept_and_the_bar_is_not),
        cmocka_unit_test(a_run_that_is_over_says_nothing_of_what_is_to_come),
        cmocka_unit_test(no_line_is_too_wide_and_none_too_many_whatever_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
