#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runner/gist.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static struct gist *gist;

static int open_gist(void **state)
{
    (void)state;
    gist = gist_new();
    return gist ? 0 : -1;
}

static int close_gist(void **state)
{
    (void)state;
    gist_free(gist);
    return 0;
}

/* The words and pairs of a text, added up by slot. */
static float text_of(const char *text, size_t len, uint64_t group, float *sum)
{
    size_t n;
    double squares = 0;
    memset(sum, 0, sizeof *sum * GIST_SLOTS);
    gist_read(gist, text, len, group);
    const struct gist_feature *f = gist_features(gist, &n);
    for (size_t i = 0; i < n; i++) {
        assert_true(f[i].slot < GIST_SLOTS);
        assert_true(isfinite(f[i].value));
        sum[f[i].slot] += f[i].value;
        if (f[i].slot < GIST_TEXT_SLOTS)
            squares += (double)f[i].value * (double)f[i].value;
    }
    return (float)squares;
}

static float a[GIST_SLOTS], b[GIST_SLOTS];

static bool same_words(const char *x, const char *y)
{
    text_of(x, strlen(x), 0, a);
    text_of(y, strlen(y), 0, b);
    return memcmp(a, b, sizeof *a * GIST_TEXT_SLOTS) == 0;
}

static void words_are_known_again_and_pairs_have_an_order(void **state)
{
    (void)state;
    static const struct {
        const char *x, *y;
        bool same;
    } cases[] = {
        {"Die Muehle mahlt", "die MUEHLE, mahlt!", true},
        {"a b", "a\tb", true},
        {"x\na b", "x\na\nb", true},
        {"a b", "b a", false},
        {"ab", "a b", false},
        {"x1 y", "x 1y", false},
        {"caf\xc3\xa9", "caf\xc3\xa9.", true},
        {"caf\xc3\xa9", "cafe", false},
        {"\xff\xfe", "\xff \xfe", false},
        {"a a b", "a b", false},
        {"", "?!", true},
    };
    for (size_t i = 0; i < CASES(cases); i++)
        assert_int_equal(same_words(cases[i].x, cases[i].y), cases[i].same);
}

/* Opening words and the end of the first line are terms of their own, later ones not. */
static void how_a_prompt_begins_and_its_first_line_ends_is_seen(void **state)
{
    (void)state;
    static const struct {
        const char *x, *y;
        bool same;
    } cases[] = {
        {"a b", "a\nb", false},
        {"a b c d\nx", "a b c\nd x", false},
        {"?\na b\nc d", "a b\nc d", true},
        {"a b\nc d\ne f", "a b\nc d e\nf", true},
        {"a b c d e\na b c", "a b c\nd e a b c", false},
    };
    for (size_t i = 0; i < CASES(cases); i++)
        assert_int_equal(same_words(cases[i].x, cases[i].y), cases[i].same);
}

static size_t moved(const char *x, const char *y)
{
    size_t n = 0;
    text_of(x, strlen(x), 0, a);
    text_of(y, strlen(y), 0, b);
    for (size_t i = GIST_TEXT_SLOTS; i < GIST_SLOTS; i++)
        n += a[i] != b[i];
    return n;
}

/* As long, with as many words, lines and marks: what differs is that one has answers. */
static void answers_to_choose_from_are_seen(void **state)
{
    (void)state;
    assert_true(moved("Which?\nA. red\nB. old", "Which?\nA red.\nB old.") > 0);
    assert_true(moved("Which?\n(1) red\n(2) old", "Which?\n1) (red\n2) (old") <= 3);
    assert_int_equal(moved("Which?\nA. red\nB. old", "Which?\nA) red\nB) old"), 1);
    assert_int_equal(moved("A\nA.\n(\n(A\n(A)", "A\nA.\n(\n(A\n(A)"), 0);
}

static void words_and_pairs_together_have_length_one(void **state)
{
    (void)state;
    static const char *const texts[] = {"one", "one two", "a a a a a b c",
                                        "1 2 3\n4 5\x80\xff", "The END. the end!"};
    for (size_t i = 0; i < CASES(texts); i++) {
        size_t len = strlen(texts[i]);
        assert_float_equal(text_of(texts[i], len, 0, a), 1, 1e-5);
        /* and the words once more with the group */
        assert_true(text_of(texts[i], len, 7, a) > 1.2f);
        assert_true(text_of(texts[i], len, 7, a) < 2.001f);
    }
    assert_float_equal(text_of("", 0, 0, a), 0, 0);
}

static void a_group_changes_what_is_seen_and_what_is_shared_stays(void **state)
{
    (void)state;
    size_t before, n;
    gist_read(gist, "how many mills", 14, 0);
    gist_features(gist, &before);
    gist_read(gist, "how many mills", 14, 7);
    gist_features(gist, &n);
    assert_int_equal(n - before, 3 + GIST_SHAPES + 1);
    text_of("how many mills", 14, 7, a);
    text_of("how many mills", 14, 8, b);
    assert_memory_not_equal(a, b, sizeof a);
}

/* Read from a block of the exact size; the sanitizers see a byte too far. */
static void any_bytes_of_any_length_will_do(void **state)
{
    (void)state;
    static const size_t lengths[] = {0,     1,     2,     255,   4096,
                                     16383, 16384, 16385, 40000, 1000000};
    static const int fills[] = {0, 'a', '\n', 0xff, -1, -2};
    for (size_t i = 0; i < CASES(lengths); i++)
        for (size_t k = 0; k < CASES(fills); k++) {
            char *p = malloc(lengths[i] + !lengths[i]);
            uint32_t random = 1;
            for (size_t at = 0; at < lengths[i]; at++) {
                random = random * 1664525 + 1013904223;
                p[at] = (char)(fills[k] == -1   ? (int)(random >> 24)
                               : fills[k] == -2 ? "a\x80 1"[random >> 30]
                                                : fills[k]);
            }
            assert_true(text_of(p, lengths[i], 3, a) < 3);
            assert_in_range(gist_cohort(gist), 0, GIST_COHORTS - 1);
            free(p);
        }
}

/* More different words than are kept: the first ones are. */
static void of_too_many_words_the_first_are_kept(void **state)
{
    (void)state;
    size_t len = GIST_READ_MAX, n;
    char *p = malloc(len);
    for (size_t i = 0; i < len; i++) {
        size_t word = i / 3;
        p[i] = (char)(i % 3 == 2   ? ' '
                      : i % 3 == 1 ? 128 + word % 127
                                   : 128 + word / 127);
    }
    p[2] = '\n';               /* past the first line, whose end is where it is cut */
    text_of(p, len / 2, 0, b); /* the last that are kept come from about here */
    gist_read(gist, p, len, 0);
    gist_features(gist, &n);
    assert_int_equal(n, GIST_TERMS_MAX + GIST_SHAPES + 1);
    text_of(p, len, 0, a);
    for (size_t i = 0; i < GIST_TEXT_SLOTS; i++)
        assert_false(b[i] > 0 && a[i] == 0);
    free(p);
}

static void of_a_long_prompt_its_end_is_seen_and_its_middle_is_not(void **state)
{
    (void)state;
    enum { LEN = 100000 };
    char *p = malloc(LEN);
    memset(p, ' ', LEN);
    text_of(p, LEN, 0, a);
    p[LEN / 2] = 'x';
    text_of(p, LEN, 0, b);
    assert_memory_equal(a, b, sizeof a);
    p[LEN - 1] = 'x';
    text_of(p, LEN, 0, b);
    assert_memory_not_equal(a, b, sizeof a);
    free(p);
}

static void a_cohort_is_length_code_sums_and_a_choice(void **state)
{
    (void)state;
    static char lengths[5000];
    static const struct {
        const char *text;
        int cohort;
    } cases[] = {
        {"What is a mill?", 0},           {"Which?\nA. red\nB. blue\nC. green", 1},
        {"Add 3 to 4 and 5.", 2},         {"x = a ^ b", 2},
        {"int f(void) { return x; }", 4},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        gist_read(gist, cases[i].text, strlen(cases[i].text), 0);
        assert_int_equal(gist_cohort(gist), cases[i].cohort);
    }
    memset(lengths, 'x', sizeof lengths);
    static const struct {
        size_t len;
        int cohort;
    } by_length[] = {{199, 0}, {200, 8}, {599, 8}, {600, 16}, {3999, 16}, {4000, 24}};
    for (size_t i = 0; i < CASES(by_length); i++) {
        gist_read(gist, lengths, by_length[i].len, 0);
        assert_int_equal(gist_cohort(gist), by_length[i].cohort);
    }
}

static void one_prompt_leaves_nothing_for_the_next(void **state)
{
    (void)state;
    static char other[20000];
    memset(other, 'q', sizeof other);
    for (size_t i = 0; i < sizeof other; i += 5)
        other[i] = "\n{9 "[i / 5 % 4];
    text_of("The same?", 9, 5, a);
    int cohort = gist_cohort(gist);
    text_of(other, sizeof other, 6, b);
    text_of("The same?", 9, 5, b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(gist_cohort(gist), cohort);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_known_again_and_pairs_have_an_order),
        cmocka_unit_test(how_a_prompt_begins_and_its_first_line_ends_is_seen),
        cmocka_unit_test(answers_to_choose_from_are_seen),
        cmocka_unit_test(words_and_pairs_together_have_length_one),
        cmocka_unit_test(a_group_changes_what_is_seen_and_what_is_shared_stays),
        cmocka_unit_test(any_bytes_of_any_length_will_do),
        cmocka_unit_test(of_too_many_words_the_first_are_kept),
        cmocka_unit_test(of_a_long_prompt_its_end_is_seen_and_its_middle_is_not),
        cmocka_unit_test(a_cohort_is_length_code_sums_and_a_choice),
        cmocka_unit_test(one_prompt_leaves_nothing_for_the_next),
    };
    return cmocka_run_group_tests(tests, open_gist, close_gist);
}
