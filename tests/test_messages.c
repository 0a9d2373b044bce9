#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "conf/conf.h"
#include "jobs/job.h"
#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"
#include "runner/messages.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void assert_body(const struct sending *s, bool stream, const char *want)
{
    struct textbuf b = {0};
    struct sending exact = *s;
    exact.members_len = strlen(s->members);
    messages_body(&b, &exact, stream);
    assert_false(b.failed);
    assert_string_equal(b.at, want);
    assert_int_equal(json_valid(b.at, b.len, NULL), 0);
    textbuf_free(&b);
}

static void what_we_add_goes_in_front_of_what_the_job_says(void **state)
{
    (void)state;
    static const struct {
        struct sending s;
        bool stream;
        const char *want;
    } cases[] = {
        {{.model = "m", .effort = "", .max_tokens = 100, .members = HI},
         false,
         "{\"model\":\"m\",\"max_tokens\":100," HI "}"},
        {{.model = "m",
          .effort = "",
          .max_tokens = 100,
          .asks = ASKS_MAX_TOKENS,
          .members = "\"max_tokens\": 7," HI},
         false,
         "{\"model\":\"m\",\"max_tokens\": 7," HI "}"},
        {{.model = "m", .effort = "", .max_tokens = 100, .members = HI},
         true,
         "{\"model\":\"m\",\"max_tokens\":100,\"stream\":true," HI "}"},
        {{.model = "m", .effort = "high", .max_tokens = 100, .members = HI},
         false,
         "{\"model\":\"m\",\"max_tokens\":100,\"output_config\":{\"effort\":\"high\"}"
         "," HI "}"},
        {{.model = "m", .effort = "high", .max_tokens = 100, .members = HI},
         true,
         "{\"model\":\"m\",\"max_tokens\":100,\"stream\":true,\"output_config\":{"
         "\"effort\":\"high\"}," HI "}"},
        {{.model = "a \"b\"", .effort = "l\\w", .max_tokens = 1, .members = HI},
         false,
         "{\"model\":\"a \\\"b\\\"\",\"max_tokens\":1,\"output_config\":{\"effort\":\"l"
         "\\\\w\"}," HI "}"},
    };
    for (size_t i = 0; i < CASES(cases); i++)
        assert_body(&cases[i].s, cases[i].stream, cases[i].want);
}

/* Every byte of the job's own stays as it came, in its place. */
static void an_effort_joins_an_output_config_that_is_there(void **state)
{
    (void)state;
    static const struct {
        const char *members, *want;
    } cases[] = {
        {"\"output_config\":{\"format\":{\"a\":1}}," HI,
         "\"output_config\":{\"effort\":\"low\",\"format\":{\"a\":1}}," HI},
        {HI ",\"output_config\":{\"format\":1}",
         HI ",\"output_config\":{\"effort\":\"low\",\"format\":1}"},
        {HI ", \"output_config\" : {\n \"format\" : 1 } ",
         HI ", \"output_config\" : {\"effort\":\"low\",\n \"format\" : 1 } "},
        {"\"output_config\":{}," HI, "\"output_config\":{\"effort\":\"low\"}," HI},
        {"\"output_config\":{ \t}," HI,
         "\"output_config\":{\"effort\":\"low\" \t}," HI},
        /* the word elsewhere is only a word */
        {"\"metadata\":{\"output_config\":{}},\"output_config\":{\"x\":\"\\\"{\"}," HI,
         "\"metadata\":{\"output_config\":{}},\"output_config\":{\"effort\":\"low\","
         "\"x\":\"\\\"{\"}," HI},
        {"\"system\":\"\\\"output_config\\\":{\"," HI ",\"output_config\":{\"x\":0.70}",
         "\"system\":\"\\\"output_config\\\":{\"," HI
         ",\"output_config\":{\"effort\":\"low\",\"x\":0.70}"},
        /* what is no object is the API's to judge */
        {"\"output_config\":null," HI, "\"output_config\":null," HI},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        char want[400];
        snprintf(want, sizeof want, "{\"model\":\"m\",\"max_tokens\":5,%s}",
                 cases[i].want);
        assert_body(&(struct sending){.model = "m",
                                      .effort = "low",
                                      .max_tokens = 5,
                                      .asks = ASKS_OUTPUT_CONFIG,
                                      .members = cases[i].members},
                    false, want);
    }
}

static void the_jobs_own_effort_stands(void **state)
{
    (void)state;
    assert_body(
        &(struct sending){.model = "m",
                          .effort = "low",
                          .max_tokens = 5,
                          .asks = ASKS_OUTPUT_CONFIG | ASKS_EFFORT,
                          .members = "\"output_config\":{\"effort\":\"max\"}," HI},
        false,
        "{\"model\":\"m\",\"max_tokens\":5,\"output_config\":{\"effort\":\"max\"}," HI
        "}");
}

static void members_are_taken_by_their_length(void **state)
{
    (void)state;
    struct textbuf b = {0};
    messages_body(&b,
                  &(struct sending){.model = "m",
                                    .effort = "",
                                    .max_tokens = 5,
                                    .members = HI "and what is behind",
                                    .members_len = strlen(HI)},
                  false);
    assert_string_equal(b.at, "{\"model\":\"m\",\"max_tokens\":5," HI "}");
    textbuf_free(&b);
}

static void long_answers_are_streamed_unless_the_user_says_otherwise(void **state)
{
    (void)state;
    static const struct {
        int when;
        unsigned asks;
        int64_t max_tokens;
        bool streams;
    } cases[] = {
        {STREAM_AUTO, 0, 16000, false},      {STREAM_AUTO, 0, 16001, true},
        {STREAM_AUTO, ASKS_STREAM, 1, true}, {STREAM_AUTO, ASKS_THINKING, 1, false},
        {STREAM_ALWAYS, 0, 1, true},         {STREAM_NEVER, ASKS_STREAM, 64000, false},
        {STREAM_NEVER, 0, 64000, false},
    };
    for (size_t i = 0; i < CASES(cases); i++)
        assert_int_equal(
            messages_streams(&(struct sending){.asks = cases[i].asks,
                                               .max_tokens = cases[i].max_tokens},
                             cases[i].when, 16000),
            cases[i].streams);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_we_add_goes_in_front_of_what_the_job_says),
        cmocka_unit_test(an_effort_joins_an_output_config_that_is_there),
        cmocka_unit_test(the_jobs_own_effort_stands),
        cmocka_unit_test(members_are_taken_by_their_length),
        cmocka_unit_test(long_answers_are_streamed_unless_the_user_says_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
