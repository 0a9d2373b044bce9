#include "jobs/jsonscan.h"
#include "runner/err.h"
#include "runner/sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))
enum { MAX = 1 << 20 };

/* ---- an allocator that fails on cue ---- */

static int fail_at = -1; /* allocations until the one that fails; -1: none does */
static int failed;

static bool fails(void)
{
    if (fail_at < 0 || fail_at-- > 0)
        return false;
    failed++;
    return true;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

char *__real_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}

/* ---- streams ---- */

#define EVENT(name, data) "event: " name "\ndata: " data "\n\n"
#define START                                                                      \
    EVENT("message_start",                                                         \
          "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":"    \
          "\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-5-5\","    \
          "\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{" \
          "\"input_tokens\":25,\"cache_creation_input_tokens\":7,"                 \
          "\"cache_read_input_tokens\":9,\"cache_creation\":{"                     \
          "\"ephemeral_5m_input_tokens\":3,\"ephemeral_1h_input_tokens\":4},"      \
          "\"output_tokens\":1,\"service_tier\":\"standard\"}}}")
#define BLOCK(index, block)                                                           \
    EVENT("content_block_start", "{\"type\":\"content_block_start\",\"index\":" index \
                                 ",\"content_block\":" block "}")
#define DELTA(index, delta)                                                           \
    EVENT("content_block_delta", "{\"type\":\"content_block_delta\",\"index\":" index \
                                 ",\"delta\":" delta "}")
#define STOP(index) \
    EVENT("content_block_stop", "{\"type\":\"content_block_stop\",\"index\":" index "}")
#define TEXT(index, text) \
    DELTA(index, "{\"type\":\"text_delta\",\"text\":\"" text "\"}")
#define INPUT(index, part) \
    DELTA(index, "{\"type\":\"input_json_delta\",\"partial_json\":\"" part "\"}")
#define PING EVENT("ping", "{\"type\": \"ping\"}")
#define END(reason)                                                          \
    EVENT("message_delta",                                                   \
          "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason \
          "\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":null,"     \
          "\"output_tokens\":15}}")                                          \
    EVENT("message_stop", "{\"type\":\"message_stop\"}")

#define EMPTY_TEXT "{\"type\":\"text\",\"text\":\"\"}"
#define TOOL "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"sum\",\"input\":{}}"
#define HEAD                                                                   \
    "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":" \
    "\"claude-sonnet-5-5\","
#define USAGE(output)                                                                  \
    ",\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":7,"               \
    "\"cache_read_input_tokens\":9,\"cache_creation\":{\"ephemeral_5m_input_tokens\":" \
    "3,"                                                                               \
    "\"ephemeral_1h_input_tokens\":4},\"output_tokens\":" output                       \
    ",\"service_tier\":\"standard\"}}"
#define WANT(reason, content)                                  \
    HEAD "\"content\":[" content "],\"stop_reason\":\"" reason \
         "\",\"stop_sequence\":null" USAGE("15")
#define WANT_CUT(content)        \
    HEAD "\"content\":[" content \
         "],\"stop_reason\":null,\"stop_sequence\":null" USAGE("1")

#define SMALL START BLOCK("0", EMPTY_TEXT) TEXT("0", "Hello") STOP("0") END("end_turn")
#define SMALL_WANT WANT("end_turn", "{\"type\":\"text\",\"text\":\"Hello\"}")

/* Everything that a stream may hold. */
/* clang-format off */
static const char everything[] =
    START PING ": a comment\n\n"
    BLOCK("0", "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}")
    "retry: 10\nid: 7\n"
    DELTA("0", "{\"type\":\"thinking_delta\",\"thinking\":\"First \"}")
    DELTA("0", "{\"type\":\"thinking_delta\",\"thinking\":\"this.\"}")
    DELTA("0", "{\"type\":\"signature_delta\",\"signature\":\"EqQBCg\"}")
    STOP("0")
    BLOCK("1", "{\"type\":\"text\",\"citations\":[{\"type\":\"x\"}],\"text\":\"Gr\"}")
    TEXT("1", "üße, ") TEXT("1", "") PING TEXT("1", "\\ud83c\\udf19 \\u0000 €\\n")
    DELTA("1", "{\"type\":\"citations_delta\",\"citation\":{\"cited_text\":\"a\"}}")
    DELTA("1", "{\"type\":\"citations_delta\",\"citation\":{\"cited_text\":\"b\"}}")
    STOP("1")
    BLOCK("2", TOOL)
    INPUT("2", "") INPUT("2", "{\\\"a\\\": 0.") INPUT("2", "7, \\\"b\\\"")
    INPUT("2", ": \\\"\\\\u00e4\\\"}")
    STOP("2")
    BLOCK("3", "{\"type\":\"text\",\"citations\":[ ],\"text\":null}")
    DELTA("3", "{\"type\":\"citations_delta\",\"citation\":{\"cited_text\":\"c\"}}")
    STOP("3")
    BLOCK("4", "{\"type\":\"fallback\",\"to\":\"x\"}") STOP("4")
    END("tool_use");
/* clang-format on */
#define EVERYTHING_WANT                                                              \
    WANT("tool_use",                                                                 \
         "{\"type\":\"thinking\",\"thinking\":\"First this.\",\"signature\":"        \
         "\"EqQBCg\"},{\"type\":\"text\",\"text\":\"Grüße, 🌙 \\u0000 €\\n\"," \
         "\"citations\":[{\"type\":\"x\"},{\"cited_text\":\"a\"},"                   \
         "{\"cited_text\":\"b\"}]},{\"type\":\"tool_use\",\"id\":\"toolu_1\","       \
         "\"name\":\"sum\",\"input\":{\"a\":0.7,\"b\":\"ä\"}},{\"type\":\"text\","  \
         "\"citations\":[{\"cited_text\":\"c\"}],\"text\":null},"                    \
         "{\"type\":\"fallback\",\"to\":\"x\"}")

static void message_is(const struct sse *s, const char *want, const char *where)
{
    size_t len;
    char *text = sse_message(s, &len);
    assert_non_null(text);
    assert_int_equal(len, strlen(text));
    json_t *got = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    json_t *wanted = json_loads(want, JSON_ALLOW_NUL, NULL);
    assert_non_null(wanted);
    if (!json_equal(got, wanted))
        fail_msg("%s: got %s\nwant %s", where, text, want);
    json_decref(got);
    json_decref(wanted);
    free(text);
}

/* The stream in pieces of `step` bytes; 0: at once. */
static struct sse *fed(const char *stream, size_t len, size_t step)
{
    struct sse *s = sse_new(MAX);
    struct err e = {0};
    assert_non_null(s);
    for (size_t at = 0; at < len;) {
        size_t n = step && step < len - at ? step : len - at;
        char *piece = malloc(n); /* its own memory, so that no byte beyond it is read */
        assert_non_null(piece);
        memcpy(piece, stream + at, n);
        if (sse_feed(s, piece, n, &e) < 0)
            fail_msg("%s", e.text);
        free(piece);
        at += n;
    }
    return s;
}

static void a_message_is_the_same_wherever_it_is_split(void **state)
{
    (void)state;
    size_t len = sizeof everything - 1;
    struct err e = {0};
    for (size_t at = 0; at <= len; at++) {
        struct sse *s = sse_new(MAX);
        assert_int_equal(sse_feed(s, everything, at, &e), 0);
        assert_int_equal(sse_whole(s), at == len);
        assert_int_equal(sse_feed(s, everything + at, len - at, &e), 0);
        assert_true(sse_whole(s));
        message_is(s, EVERYTHING_WANT, "split");
        sse_free(s);
    }
    static const size_t steps[] = {0, 1, 2, 3, 7, 64, 1000};
    for (size_t i = 0; i < COUNT(steps); i++) {
        struct sse *s = fed(everything, len, steps[i]);
        message_is(s, EVERYTHING_WANT, "steps");
        sse_free(s);
    }
}

/* The same stream with other line ends, and a byte order mark. */
static char *with_ends(const char *stream, const char *end)
{
    char *text = calloc(2, strlen(stream) + 8), *to = text;
    assert_non_null(text);
    to = stpcpy(to, "\xef\xbb\xbf");
    for (; *stream; stream++)
        if (*stream == '\n')
            to = stpcpy(to, end);
        else
            *to++ = *stream;
    return text;
}

static void lines_may_end_in_any_of_three_ways(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n", "\r\n", "\r"};
    static const char twice[] =
        START BLOCK("0", EMPTY_TEXT) "event: content_block_delta\ndata: "
                                     "{\"index\":0,\ndata: \"delta\":{\"type\":"
                                     "\"text_delta\",\"text\":\"Hello\"}}\n\n" STOP("0")
                                         END("end_turn");
    for (size_t i = 0; i < COUNT(ends); i++) {
        char *stream = with_ends(everything, ends[i]);
        for (size_t step = 0; step < 5; step++) {
            struct sse *s = fed(stream, strlen(stream), step);
            assert_true(sse_whole(s));
            message_is(s, EVERYTHING_WANT, ends[i]);
            sse_free(s);
        }
        free(stream);
        stream = with_ends(twice, ends[i]);
        for (size_t step = 0; step < 5; step++) {
            struct sse *s = fed(stream, strlen(stream), step);
            message_is(s, SMALL_WANT, "two lines of data");
            sse_free(s);
        }
        free(stream);
    }
}

static void what_is_unknown_is_ignored(void **state)
{
    (void)state;
    static const char *const streams[] = {
        START EVENT("solar_flare", "not even JSON") BLOCK("0", EMPTY_TEXT)
            TEXT("0", "Hello") STOP("0") END("end_turn"),
        "data: {\"type\":\"new_thing\"}\n\n" SMALL,
        "event: ping\n\n" SMALL,
        "\n\n\n: hi\n\n" SMALL,
        "id\nretry\ndata\n\n" SMALL,
        SMALL "event: message_start\ndata: [DONE]\n\n<html>",
        START BLOCK("0", EMPTY_TEXT) DELTA("0", "{\"type\":\"mood_delta\",\"mood\":1}")
            TEXT("0", "Hello") "unheard: of\n" STOP("0") END("end_turn"),
        START BLOCK("0", EMPTY_TEXT)
            DELTA("0", "{\"type\":\"text_delta\",\"text\":null}") TEXT("0", "Hello")
                STOP("0") END("end_turn"),
        /* an event without a name has one in its data */
        START BLOCK("0",
                    EMPTY_TEXT) "data: {\"type\":\"content_block_delta\",\"index\":0,"
                                "\"delta\":{\"type\":\"text_delta\",\"text\":"
                                "\"Hello\"}}\n\n" STOP("0") END("end_turn"),
        /* data on many lines is one, and the blank behind the colon is not needed */
        START BLOCK("0", EMPTY_TEXT) "event:content_block_delta\ndata:{\"index\":0,\n"
                                     "data: \"delta\":{\"type\":\"text_delta\",\n"
                                     "data:\ndata:\"text\":\"Hello\"}}\n\n" STOP("0")
                                         END("end_turn"),
    };
    for (size_t i = 0; i < COUNT(streams); i++) {
        struct sse *s = fed(streams[i], strlen(streams[i]), 0);
        assert_true(sse_began(s) && sse_whole(s));
        assert_null(sse_error(s));
        message_is(s, SMALL_WANT, streams[i]);
        sse_free(s);
    }
}

static void usage_grows_and_null_takes_nothing_away(void **state)
{
    (void)state;
    const char *stream = START EVENT("message_delta",
                                     "{\"delta\":{},\"usage\":{\"output_tokens\":5}}")
        EVENT("message_delta",
              "{\"delta\":{\"stop_reason\":\"refusal\",\"stop_details\":{\"type\":"
              "\"refusal\",\"category\":\"cyber\"}},\"context_management\":{\"x\":1},"
              "\"usage\":{\"output_tokens\":15,\"input_tokens\":null,"
              "\"cache_creation\":null,\"server_tool_use\":null}}");
    struct sse *s = fed(stream, strlen(stream), 0);
    assert_false(sse_whole(s));
    message_is(s,
               HEAD "\"content\":[],\"stop_reason\":\"refusal\",\"stop_sequence\":null,"
                    "\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":7,"
                    "\"cache_read_input_tokens\":9,\"cache_creation\":{"
                    "\"ephemeral_5m_input_tokens\":3,\"ephemeral_1h_input_tokens\":4},"
                    "\"output_tokens\":15,\"service_tier\":\"standard\","
                    "\"server_tool_use\":null},\"stop_details\":{\"type\":\"refusal\","
                    "\"category\":\"cyber\"},\"context_management\":{\"x\":1}}",
               "refusal");
    sse_free(s);
}

static void an_error_event_ends_the_stream_and_keeps_what_came(void **state)
{
    (void)state;
#define ENVELOPE                                                                \
    "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":" \
    "\"Overloaded\"}}"
    const char *stream = START BLOCK("0", EMPTY_TEXT) TEXT("0", "Hel")
        EVENT("error", ENVELOPE) TEXT("0", "lo") STOP("0") END("end_turn");
    for (size_t step = 0; step < 3; step++) {
        struct sse *s = fed(stream, strlen(stream), step);
        assert_true(sse_began(s));
        assert_false(sse_whole(s));
        assert_string_equal(sse_error(s), ENVELOPE);
        message_is(s, WANT_CUT("{\"type\":\"text\",\"text\":\"Hel\"}"), "error");
        sse_free(s);
    }
    stream = EVENT("error", ENVELOPE);
    struct sse *s = fed(stream, strlen(stream), 0);
    assert_string_equal(sse_error(s), ENVELOPE);
    assert_false(sse_began(s));
    assert_null(sse_message(s, NULL));
    sse_free(s);
}

/* Wherever it is cut, what there is of it is a valid message that is not whole. */
static void a_cut_stream_gives_what_had_come(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof everything - 1; len++) {
        struct sse *s = fed(everything, len, 0);
        assert_false(sse_whole(s));
        size_t n;
        char *text = sse_message(s, &n);
        assert_int_equal(text != NULL, sse_began(s));
        if (text)
            assert_int_equal(json_scan(text, n, NULL, 0, NULL), 0);
        free(text);
        sse_free(s);
    }
    const char *stream = START BLOCK("0", TOOL) INPUT("0", "{\\\"a\\\": [1, 2");
    struct sse *s = fed(stream, strlen(stream), 0);
    message_is(s,
               WANT_CUT("{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"sum\","
                        "\"input\":{\"INVALID_JSON\":\"{\\\"a\\\": [1, 2\"}}"),
               "cut");
    sse_free(s);
}

static void a_tools_numbers_come_through_untouched(void **state)
{
    (void)state;
    const char *stream = START BLOCK("0", TOOL)
        INPUT("0", "{\\\"n\\\":[0.7,123456789012345678901234567890,\\n\\t1e400],")
            INPUT("0", "\\r\\n\\\"s\\\":\\\"\\\\n\\\"}") STOP("0") END("tool_use");
    struct sse *s = fed(stream, strlen(stream), 0);
    char *text = sse_message(s, NULL);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"input\":{\"n\":[0.7,123456789012345678901234567890,"
                                 "  1e400],  \"s\":\"\\n\"}}"));
    assert_null(strchr(text, '\n')); /* results are files of lines */
    free(text);
    sse_free(s);
}

static void what_is_no_stream_fails_and_stays_failed(void **state)
{
    (void)state;
    static const struct {
        const char *stream, *says;
    } cases[] = {
        {"<html>\n", "no event stream"},
        {"{\"type\":\"message\"}\n", "no event stream"},
        {"HTTP/1.1 200 OK\n", "no event stream"},
        {"event: message_start\ndata: {\"message\":\n\n", "no JSON"},
        {"event: message_start\ndata: {}\n\n", "a message that is none"},
        {"event: message_start\ndata: []\n\n", "no JSON object"},
        {START START, "a message that begins twice"},
        {START "data: {\n\n", "no JSON"},
        {START "data: {\"type\":\"\xff\"}\n\n", "no JSON"},
        {BLOCK("0", EMPTY_TEXT), "before the message begins"},
        {EVENT("message_stop", "{}"), "before the message begins"},
        {START BLOCK("\"0\"", EMPTY_TEXT), "without index"},
        {START BLOCK("0", "[]"), "without index or content"},
        {START BLOCK("0", EMPTY_TEXT) BLOCK("0", EMPTY_TEXT),
         "a block that begins twice"},
        /* lines of data are joined by a line end, which parts numbers */
        {START BLOCK("12", EMPTY_TEXT) "event: content_block_stop\n"
                                       "data: {\"index\":1\ndata: 2}\n\n",
         "no JSON"},
        {START TEXT("0", "x"), "not open"},
        {START BLOCK("0", EMPTY_TEXT) TEXT("1", "x"), "not open"},
        {START BLOCK("0", EMPTY_TEXT) STOP("0") TEXT("0", "x"), "not open"},
        {START BLOCK("0", EMPTY_TEXT) STOP("0") STOP("0"), "not open"},
        {START STOP("0"), "not open"},
        {START BLOCK("0", EMPTY_TEXT) DELTA("0", "{}"), "a piece of no kind"},
        {EVENT("error", "[]"), "no JSON object"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sse *s = sse_new(MAX);
        struct err e = {0}, again = {0};
        assert_int_equal(sse_feed(s, cases[i].stream, strlen(cases[i].stream), &e), -1);
        assert_int_equal(e.code, ERR_INPUT);
        if (strstr(e.text, cases[i].says) == NULL)
            fail_msg("%s\n%s, want %s", cases[i].stream, e.text, cases[i].says);
        assert_int_equal(sse_feed(s, "\n", 1, &again), -1);
        assert_string_equal(again.text, e.text);
        assert_false(sse_whole(s));
        assert_false(sse_too_large(s));
        sse_free(s);
    }
}

static void a_message_beyond_the_ceiling_is_refused(void **state)
{
    (void)state;
    char line[] = TEXT("0", "0123456789012345678901234567890123456789");
    struct sse *s = sse_new(4096);
    struct err e = {0};
    const char *head = START BLOCK("0", EMPTY_TEXT);
    assert_int_equal(sse_feed(s, head, strlen(head), &e), 0);
    int fed_lines = 0;
    while (fed_lines < 1000 && sse_feed(s, line, sizeof line - 1, &e) == 0)
        fed_lines++;
    assert_true(fed_lines > 50 && fed_lines < 103);
    assert_true(sse_too_large(s));
    assert_true(sse_began(s));
    assert_string_equal(e.text, "the answer is longer than 4096 bytes");
    sse_free(s);

    /* One endless line, one endless event, and blocks without end. */
    static const char *const endless[] = {
        "data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"};
    for (size_t i = 0; i < COUNT(endless); i++) {
        s = sse_new(4096);
        int n = 0;
        while (n < 1000 && sse_feed(s, endless[i], strlen(endless[i]), NULL) == 0)
            n++;
        assert_true(n < 200);
        assert_true(sse_too_large(s));
        sse_free(s);
    }
    s = sse_new(4096);
    assert_int_equal(sse_feed(s, START, sizeof START - 1, NULL), 0);
    int blocks = 0;
    for (;; blocks++) {
        char block[200];
        snprintf(block, sizeof block, BLOCK("%d", "{}") STOP("%d"), blocks, blocks);
        if (sse_feed(s, block, strlen(block), NULL) < 0)
            break;
        assert_true(blocks < 20);
    }
    assert_true(sse_too_large(s));
    sse_free(s);

    /* A piece larger than the ceiling is a fault whether it comes whole or not. */
    char *long_line = calloc(1, 8192);
    memset(long_line, ':', 8190);
    long_line[8190] = '\n';
    s = sse_new(4096);
    assert_int_equal(sse_feed(s, long_line, 8191, NULL), -1);
    assert_true(sse_too_large(s));
    sse_free(s);
    free(long_line);
}

/* Minutes of text in words of a few letters must not cost minutes. */
static void a_long_answer_takes_linear_time(void **state)
{
    (void)state;
    enum { WORDS = 30000 };
    char word[] = TEXT("0", "word ");
    const char *head = START BLOCK("0", EMPTY_TEXT), *tail = STOP("0") END("end_turn");
    struct sse *s = sse_new(MAX);
    assert_int_equal(sse_feed(s, head, strlen(head), NULL), 0);
    for (int i = 0; i < WORDS; i++)
        assert_int_equal(sse_feed(s, word, sizeof word - 1, NULL), 0);
    assert_int_equal(sse_feed(s, tail, strlen(tail), NULL), 0);
    assert_true(sse_whole(s));
    size_t len;
    char *text = sse_message(s, &len);
    assert_true(len > WORDS * strlen("word "));
    free(text);
    sse_free(s);
}

static void without_memory_it_fails_and_never_lies(void **state)
{
    (void)state;
    const char *stream = everything;
    struct sse *s = fed(stream, strlen(stream), 0);
    char *want = sse_message(s, NULL), *got = NULL;
    assert_non_null(want);
    sse_free(s);

    int at = 0, bad = 0;
    for (; got == NULL && at < 100000; at++) {
        failed = 0;
        fail_at = at;
        s = sse_new(MAX);
        bool ok = s && sse_feed(s, stream, strlen(stream), NULL) == 0;
        if (ok)
            got = sse_message(s, NULL);
        bad += failed;
        if (got)
            assert_string_equal(got, want);
        if (got && failed) { /* it did without */
            free(got);
            got = NULL;
        }
        sse_free(s);
        fail_at = -1;
    }
    assert_non_null(got);
    assert_true(bad > 20);
    free(got);
    free(want);
    sse_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_the_same_wherever_it_is_split),
        cmocka_unit_test(lines_may_end_in_any_of_three_ways),
        cmocka_unit_test(what_is_unknown_is_ignored),
        cmocka_unit_test(usage_grows_and_null_takes_nothing_away),
        cmocka_unit_test(an_error_event_ends_the_stream_and_keeps_what_came),
        cmocka_unit_test(a_cut_stream_gives_what_had_come),
        cmocka_unit_test(a_tools_numbers_come_through_untouched),
        cmocka_unit_test(what_is_no_stream_fails_and_stays_failed),
        cmocka_unit_test(a_message_beyond_the_ceiling_is_refused),
        cmocka_unit_test(a_long_answer_takes_linear_time),
        cmocka_unit_test(without_memory_it_fails_and_never_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
