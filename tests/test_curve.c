#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/curve.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

/* Each worked by hand: the corners of the curve are in the comment. */
static void curves_are_what_they_are_by_hand(void **state)
{
    (void)state;
    static const struct {
        struct curve_row row[5];
        size_t len;
        double apgr, cpt50, cpt80;
    } cases[] = {
        /* (0,0) (1/2,1) (1,1) */
        {{{2, 1}, {1, 0}}, 2, 0.75, 0.25, 0.4},
        /* the same, told backwards: (0,0) (1/2,0) (1,1) */
        {{{1, 1}, {2, 0}}, 2, 0.25, 0.75, 0.9},
        /* one score is one straight piece, however the rows stand */
        {{{5, 1}, {5, 0}, {5, 0}, {5, 1}}, 4, 0.5, 0.5, 0.8},
        {{{5, 0}, {5, 1}, {5, 1}, {5, 0}}, 4, 0.5, 0.5, 0.8},
        /* a tie behind a lone first: (0,0) (1/3,1/2) (1,1) */
        {{{1, 1}, {9, 1}, {1, 0}}, 3, 1 / 12.0 + 0.5, 1 / 3.0, 11 / 15.0},
        /* over the top: (0,0) (1/5,1) (2/5,2) (3/5,2) (4/5,2) (1,1) */
        {{{5, 1}, {4, 1}, {3, 0}, {2, 0}, {1, -1}}, 5, 1.5, 0.1, 0.16},
        /* below zero first: (0,0) (1/4,-1) (1/2,0) (3/4,1) (1,1) */
        {{{4, -1}, {3, 1}, {2, 1}, {1, 0}}, 4, 0.125, 0.625, 0.7},
        /* one row */
        {{{-7, 1}}, 1, 0.5, 0.5, 0.8},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct curve_row rows[5];
        struct curve c;
        struct err e = {0};
        for (size_t k = 0; k < cases[i].len; k++)
            rows[k] = cases[i].row[k];
        assert_int_equal(curve_of(rows, cases[i].len, &c, &e), 0);
        assert_float_equal(c.apgr, cases[i].apgr, 1e-12);
        assert_float_equal(c.cpt50, cases[i].cpt50, 1e-12);
        assert_float_equal(c.cpt80, cases[i].cpt80, 1e-12);
    }
}

static void without_a_gap_there_is_no_curve(void **state)
{
    (void)state;
    static const struct curve_row none[] = {{1, 1}, {2, -1}}, worse[] = {{1, -1}};
    static const struct {
        const struct curve_row *row;
        size_t len;
    } cases[] = {{none, 2}, {worse, 1}, {none, 0}};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct curve_row rows[2] = {{0}};
        struct curve c;
        struct err e = {0};
        for (size_t k = 0; k < cases[i].len; k++)
            rows[k] = cases[i].row[k];
        assert_int_equal(curve_of(rows, cases[i].len, &c, &e), -1);
        assert_string_equal(e.text,
                            "the strong rung is right no more often than the weak one");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves_are_what_they_are_by_hand),
        cmocka_unit_test(without_a_gap_there_is_no_curve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
