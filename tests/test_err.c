#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "runner/err.h"

static void a_cause_is_a_code_and_a_sentence(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, ERR_CONF, "limits.%s = %d", "in_flight", 0), -1);
    assert_int_equal(e.code, ERR_CONF);
    assert_string_equal(e.text, "limits.in_flight = 0");
}

static void the_first_cause_wins(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, ERR_STORE, "the disk is full");
    assert_int_equal(err_set(&e, ERR_SYSTEM, "cannot close"), -1);
    assert_int_equal(e.code, ERR_STORE);
    assert_string_equal(e.text, "the disk is full");
}

static void each_caller_puts_its_words_in_front(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, ERR_INPUT, "no such tier");
    assert_int_equal(err_wrap(&e, "line %d", 3), -1);
    assert_int_equal(err_wrap(&e, "%s", "a.jsonl"), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_string_equal(e.text, "a.jsonl: line 3: no such tier");
}

static void words_without_a_cause_are_dropped(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_wrap(&e, "a.jsonl"), -1);
    assert_int_equal(e.code, ERR_NONE);
    assert_string_equal(e.text, "");
}

static void nobody_need_care(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_CONF, "x"), -1);
    assert_int_equal(err_wrap(NULL, "x"), -1);
}

/* Every length of context around the one that leaves no room. */
static void what_does_not_fit_is_cut_and_the_cause_outlives_its_context(void **state)
{
    (void)state;
    char words[ERR_TEXT_MAX + 8];
    memset(words, 'c', sizeof words);
    for (int n = 0; n < ERR_TEXT_MAX + 8; n++) {
        struct err e = {0};
        err_set(&e, ERR_INPUT, "cause");
        err_wrap(&e, "%.*s", n, words);
        size_t len = strlen(e.text);
        assert_true(len < sizeof e.text);
        if (n + 2 + 5 < ERR_TEXT_MAX) {
            assert_int_equal(len, n + 2 + 5);
            assert_string_equal(e.text + n, ": cause");
        } else if (n + 2 >= ERR_TEXT_MAX) {
            assert_string_equal(e.text, "cause");
        } else {
            assert_int_equal(strncmp(e.text + n, ": cause", len - (size_t)n), 0);
        }
    }

    struct err e = {0};
    err_set(&e, ERR_INPUT, "%.*s", (int)sizeof words, words);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    err_wrap(&e, "front");
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_int_equal(strncmp(e.text, "front: ccc", 10), 0);
}

static void every_code_has_a_text(void **state)
{
    (void)state;
    for (int code = ERR_NONE; code <= ERR_NETWORK; code++) {
        assert_non_null(err_code_text((enum err_code)code));
        assert_true(*err_code_text((enum err_code)code) != '\0');
    }
    assert_string_equal(err_code_text(ERR_BUSY), "somebody else is at work");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cause_is_a_code_and_a_sentence),
        cmocka_unit_test(the_first_cause_wins),
        cmocka_unit_test(each_caller_puts_its_words_in_front),
        cmocka_unit_test(words_without_a_cause_are_dropped),
        cmocka_unit_test(nobody_need_care),
        cmocka_unit_test(what_does_not_fit_is_cut_and_the_cause_outlives_its_context),
        cmocka_unit_test(every_code_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
