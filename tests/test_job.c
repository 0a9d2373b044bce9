#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "jobs/job.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static void only_the_drawn_edges_exist(void **state)
{
    (void)state;
    static const char *const may[JOB_STATE_COUNT] = {
        /* to:           QUEUED IN_FLIGHT DONE FAILED PARKED */
        [JOB_QUEUED] = "-x-xx", [JOB_IN_FLIGHT] = "x-xxx", [JOB_DONE] = "x----",
        [JOB_FAILED] = "x----", [JOB_PARKED] = "x--x-",
    };
    for (int from = 0; from < JOB_STATE_COUNT; from++)
        for (int to = 0; to < JOB_STATE_COUNT; to++)
            assert_int_equal(job_may_move(from, to), may[from][to] == 'x');
}

static void names_are_the_words_of_results(void **state)
{
    (void)state;
    assert_string_equal(job_state_name(JOB_IN_FLIGHT), "in_flight");
    assert_string_equal(job_state_name(JOB_PARKED), "parked");
    assert_string_equal(job_outcome_name(OUTCOME_NONE), "");
    assert_string_equal(job_outcome_name(OUTCOME_BAD_REQUEST), "bad_request");
    assert_string_equal(job_outcome_name(OUTCOME_CANCELED), "canceled");
}

static void no_two_outcomes_share_a_name(void **state)
{
    (void)state;
    for (int a = 0; a < OUTCOME_COUNT; a++)
        for (int b = a + 1; b < OUTCOME_COUNT; b++)
            assert_string_not_equal(job_outcome_name(a), job_outcome_name(b));
}

static void a_system_text_goes_in_front_of_the_body(void **state)
{
    (void)state;
    static const struct {
        const char *body, *text, *want;
    } cases[] = {
        {"\"messages\":[1]", "Be brief.", "\"system\":\"Be brief.\",\"messages\":[1]"},
        {"\"a\":0.70", "\"\\\t\x01\x7f/\n\nx",
         "\"system\":\"\\\"\\\\\\t\\u0001\x7f/\\n\\nx\",\"a\":0.70"},
        {"", "alone", "\"system\":\"alone\""},
        {"\"a\":1", "", "\"system\":\"\",\"a\":1"},
        {"\"a\":1", "a file ends\r\n\n", "\"system\":\"a file ends\",\"a\":1"},
        {"\"a\":1", "\xef\xbb\xbfmarked", "\"system\":\"marked\",\"a\":1"},
        {"\"a\":1", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\xa6",
         "\"system\":\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\xa6\",\"a\":1"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct job_spec s = {.body = strdup(cases[i].body),
                             .body_len = strlen(cases[i].body)};
        struct err e = {0};
        assert_int_equal(job_spec_system(&s, cases[i].text, strlen(cases[i].text), &e),
                         0);
        assert_string_equal(s.body, cases[i].want);
        assert_int_equal(s.body_len, strlen(cases[i].want));
        job_spec_free(&s);
    }
}

static void a_system_that_is_no_text_leaves_the_body_alone(void **state)
{
    (void)state;
    struct job_spec s = {.body = strdup("\"a\":1"), .body_len = 5};
    struct err e = {0};
    assert_int_equal(job_spec_system(&s, "fine\nb\xe4se", 9, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_string_equal(e.text, "2: bytes that are no text; want UTF-8");
    assert_string_equal(s.body, "\"a\":1");
    job_spec_free(&s);
}

static void what_is_no_text_is_told_by_its_line(void **state)
{
    (void)state;
#define BYTES(s) s, sizeof s - 1
    static const struct {
        const char *text;
        size_t len, line;
    } cases[] = {
        {BYTES(""), 0},
        {BYTES("plain\n\x7f\x01"), 0},
        {BYTES("\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf"),
         0},
        {BYTES("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"), 0},
        {BYTES("a\nb\nc\0d"), 3},
        {BYTES("\x80"), 1},
        {BYTES("\n\xc0\xaf"), 2},       /* overlong */
        {BYTES("\n\xe0\x9f\xbf"), 2},   /* overlong */
        {BYTES("\xf0\x8f\xbf\xbf"), 1}, /* overlong */
        {BYTES("\xed\xa0\x80"), 1},     /* a surrogate */
        {BYTES("\xf4\x90\x80\x80"), 1}, /* above U+10FFFF */
        {BYTES("\xf5\x80\x80\x80"), 1},
        {BYTES("\xff\xfeh\0i\0"), 1}, /* UTF-16 */
        {BYTES("ok\n\xe2\x82"), 2},   /* cut off */
        {BYTES("ok\n\xe2\x82\n"), 2},
        {BYTES("\xf0\x9f\x90x"), 1},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        char *exact = malloc(cases[i].len + 1); /* so that a byte too far is seen */
        memcpy(exact + 1, cases[i].text, cases[i].len);
        assert_int_equal(job_text_fault(exact + 1, cases[i].len), cases[i].line);
        free(exact);
    }
}

static void a_freed_spec_is_empty_and_may_be_freed_again(void **state)
{
    (void)state;
    struct job_spec s = {.custom_id = strdup("a"), .tags = strdup("b"), .priority = 3};
    static const struct job_spec empty;
    job_spec_free(&s);
    assert_memory_equal(&s, &empty, sizeof s);
    job_spec_free(&s);
    job_spec_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_drawn_edges_exist),
        cmocka_unit_test(names_are_the_words_of_results),
        cmocka_unit_test(no_two_outcomes_share_a_name),
        cmocka_unit_test(a_system_text_goes_in_front_of_the_body),
        cmocka_unit_test(a_system_that_is_no_text_leaves_the_body_alone),
        cmocka_unit_test(what_is_no_text_is_told_by_its_line),
        cmocka_unit_test(a_freed_spec_is_empty_and_may_be_freed_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
