#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_api.h"

#include "conf/conf.h"
#include "jobs/job.h"
#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"
#include "runner/answer.h"
#include "runner/err.h"
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

/* ---- the sender ---- */

#define EVENT(name, data) "event: " name "\ndata: " data "\n\n"
#define BEGINS                                                                         \
    EVENT("message_start",                                                             \
          "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":"        \
          "\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],"         \
          "\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}") \
    EVENT("content_block_start",                                                       \
          "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":" \
          "\"text\",\"text\":\"\"}}")                                                  \
    EVENT("content_block_delta",                                                       \
          "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"         \
          "\"text_delta\",\"text\":\"hello\"}}")
#define ENDS                                                                      \
    EVENT("content_block_stop", "{\"type\":\"content_block_stop\",\"index\":0}")  \
    EVENT("message_delta",                                                        \
          "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}," \
          "\"usage\":{\"output_tokens\":7}}")                                     \
    EVENT("message_stop", "{\"type\":\"message_stop\"}")
#define FAILS                                                                      \
    EVENT("error", "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"," \
                   "\"message\":\"Overloaded\"}}")
#define SSE "Content-Type: text/event-stream\r\n"

struct told {
    int heads, reports, ends;
    char limit[16];
    enum answer_break broke;
    long status;
    bool streamed, keep;
    char *kept, body[600];
};

static void headers(void *owner, const struct answer *a)
{
    struct told *t = owner;
    t->heads++;
    assert_int_equal(t->reports, 0); /* they come first */
    t->status = a->status;
    answer_header(a, "anthropic-ratelimit-requests-limit", t->limit, sizeof t->limit);
}

static void report(void *owner, const struct answer *a, char **keep)
{
    struct told *t = owner;
    t->reports++;
    assert_int_equal(t->ends, 0); /* ended comes last */
    t->broke = a->broke;
    t->status = a->status;
    t->streamed = a->streamed;
    snprintf(t->body, sizeof t->body, "%s", a->body);
    assert_int_equal(strlen(a->body), a->body_len);
    if (t->keep) {
        t->kept = *keep;
        *keep = NULL;
    }
}

static void ended(void *owner)
{
    struct told *t = owner;
    t->ends++;
}

struct world {
    uv_loop_t loop;
    struct fake_api api;
    struct conf conf;
    struct sender *sender;
    struct told told;
};

static void open_world(struct world *w, const struct fake_reply *reply)
{
    struct err e = {0};
    char *path;
    *w = (struct world){0};
    uv_loop_init(&w->loop);
    fake_api_start(&w->api, &w->loop, reply, 1);
    assert_int_equal(conf_init(&w->conf, NULL), 0);
    path = strstr(w->api.url, "/v1/messages");
    path[1] = '\0'; /* a base may end in a slash */
    assert_int_equal(conf_set(&w->conf, "api.base_url", w->api.url, NULL), 0);
    assert_int_equal(conf_set(&w->conf, "api.idle_timeout", "100ms", NULL), 0);
    assert_int_equal(conf_set(&w->conf, "api.max_answer", "1KiB", NULL), 0);
    w->sender = messages_new(&w->loop, &w->conf, "sk-secret",
                             &(struct sender_told){report, ended, headers}, &e);
    if (w->sender == NULL)
        fail_msg("%s", e.text);
}

static struct sender_call *start(struct world *w, bool stream)
{
    struct err e = {0};
    struct sending s = {.owner = &w->told,
                        .model = "m",
                        .effort = "",
                        .max_tokens = 5,
                        .asks = stream ? ASKS_STREAM : 0,
                        .members = HI,
                        .members_len = strlen(HI)};
    struct sender_call *c = w->sender->start(w->sender, &w->told, &s, 1, &e);
    if (c == NULL)
        fail_msg("%s", e.text);
    assert_int_equal(w->told.reports, 0); /* never from inside */
    return c;
}

static void close_world(struct world *w)
{
    w->sender->free(w->sender);
    fake_api_stop(&w->api);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    fake_api_free(&w->api);
    conf_free(&w->conf);
}

static void an_answer_is_reported_once_and_then_it_has_ended(void **state)
{
    (void)state;
    static const char garbage[] = "event: message_start\ndata: {\n\n";
    static const struct {
        struct fake_reply reply;
        bool stream;
        enum answer_break broke;
        bool streamed;
        const char *has; /* somewhere in the body */
    } cases[] = {
        {{.status = 200, .body = "{\"content\":[]}"},
         false,
         ANSWER_WHOLE,
         false,
         "{\"content\":[]}"},
        {{.status = 529, .body = "busy"}, true, ANSWER_WHOLE, false, "busy"},
        {{.status = 0, .then = HANG_UP}, false, BREAK_RESET, false, ""},
        {{.status = 200, .headers = SSE, .body = BEGINS ENDS},
         true,
         ANSWER_WHOLE,
         true,
         "hello"},
        {{.status = 200, .headers = SSE, .body = BEGINS ENDS, .piece = 11},
         true,
         ANSWER_WHOLE,
         true,
         "\"end_turn\""},
        /* whole HTTP, and yet not a whole message */
        {{.status = 200, .headers = SSE, .body = BEGINS},
         true,
         BREAK_CUT,
         true,
         "hello"},
        {{.status = 200, .headers = SSE, .body = ""}, true, ANSWER_WHOLE, false, ""},
        {{.status = 200, .headers = SSE, .body = BEGINS, .only = 500, .then = HANG_UP},
         true,
         BREAK_RESET,
         true,
         NULL},
        {{.status = 200,
          .headers = SSE,
          .body = BEGINS,
          .only = 500,
          .then = STAY_SILENT},
         true,
         BREAK_IDLE,
         true,
         NULL},
        {{.status = 200, .headers = SSE, .body = BEGINS FAILS},
         true,
         ANSWER_WHOLE,
         true,
         "overloaded_error"},
        {{.status = 200, .headers = SSE, .body = garbage},
         true,
         BREAK_GARBLED,
         true,
         ""},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w;
        open_world(&w, &cases[i].reply);
        start(&w, cases[i].stream);
        for (int n = 0; n < 5000 && w.told.ends == 0; n++)
            uv_run(&w.loop, UV_RUN_ONCE);
        struct told t = w.told;
        if (t.broke != cases[i].broke || t.streamed != cases[i].streamed)
            fail_msg("case %zu: %d, streamed %d: %s", i, (int)t.broke, t.streamed,
                     t.body);
        if (cases[i].has && strstr(t.body, cases[i].has) == NULL)
            fail_msg("case %zu: %s", i, t.body);
        assert_int_equal(t.reports, 1);
        assert_int_equal(t.ends, 1);
        assert_in_range(t.heads, t.broke == ANSWER_WHOLE, 1);
        assert_non_null(strstr(w.api.request, "POST /v1/messages HTTP/1.1\r\n"));
        assert_int_equal(strstr(w.api.request, "\"stream\":true") != NULL,
                         cases[i].stream);
        assert_int_equal(w.api.asked, 1);
        close_world(&w);
        assert_int_equal(w.told.reports + w.told.ends, 2);
    }
}

static void headers_are_told_before_the_answer_has_come(void **state)
{
    (void)state;
    static const struct fake_reply reply = {
        .status = 200,
        .headers = SSE "Anthropic-RateLimit-Requests-Limit: 50\r\n",
        .body = BEGINS ENDS,
        .piece = 100,
        .every_ms = 1};
    struct world w;
    open_world(&w, &reply);
    start(&w, true);
    while (w.told.heads == 0)
        uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(w.told.reports, 0);
    assert_int_equal(w.told.status, 200);
    assert_string_equal(w.told.limit, "50");
    while (w.told.ends == 0)
        uv_run(&w.loop, UV_RUN_ONCE);
    assert_int_equal(w.told.heads, 1);
    close_world(&w);
}

static void the_one_who_is_told_may_keep_the_body(void **state)
{
    (void)state;
    static const struct fake_reply replies[] = {
        {.status = 200, .body = "{\"content\":[]}"},
        {.status = 200, .headers = SSE, .body = BEGINS ENDS},
    };
    for (size_t i = 0; i < CASES(replies); i++) {
        struct world w;
        open_world(&w, &replies[i]);
        w.told.keep = true;
        start(&w, i == 1);
        while (w.told.ends == 0)
            uv_run(&w.loop, UV_RUN_ONCE);
        close_world(&w);
        assert_non_null(w.told.kept);
        assert_string_equal(w.told.kept, w.told.body);
        free(w.told.kept);
    }
}

static void a_call_that_is_taken_back_is_never_told(void **state)
{
    (void)state;
    static const struct fake_reply silent = {.status = 0, .then = STAY_SILENT};
    struct world w;
    open_world(&w, &silent);
    struct sender_call *c = start(&w, true);
    assert_false(w.sender->left(c));
    while (w.api.asked == 0)
        uv_run(&w.loop, UV_RUN_ONCE);
    assert_true(w.sender->left(c));
    w.sender->cancel(c);
    close_world(&w);
    assert_int_equal(w.told.reports + w.told.ends, 0);
}

static void what_a_dead_run_left_out_is_in_doubt(void **state)
{
    (void)state;
    static const struct fake_reply silent = {.status = 0, .then = STAY_SILENT};
    struct world w;
    open_world(&w, &silent);
    assert_int_equal(w.sender->recover(w.sender, 7), RECOVER_DOUBT);
    close_world(&w);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_we_add_goes_in_front_of_what_the_job_says),
        cmocka_unit_test(an_effort_joins_an_output_config_that_is_there),
        cmocka_unit_test(the_jobs_own_effort_stands),
        cmocka_unit_test(members_are_taken_by_their_length),
        cmocka_unit_test(long_answers_are_streamed_unless_the_user_says_otherwise),
        cmocka_unit_test(an_answer_is_reported_once_and_then_it_has_ended),
        cmocka_unit_test(the_one_who_is_told_may_keep_the_body),
        cmocka_unit_test(headers_are_told_before_the_answer_has_come),
        cmocka_unit_test(a_call_that_is_taken_back_is_never_told),
        cmocka_unit_test(what_a_dead_run_left_out_is_in_doubt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
