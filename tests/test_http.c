#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_api.h"
#include "runner/answer.h"
#include "runner/err.h"
#include "runner/http.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

struct got {
    int times;
    struct http_call *call; /* NULL: over */
    struct http *http;
    enum answer_break broke;
    char why[200];
    long status;
    bool left, streamed;
    char headers[400], body[400];
    size_t body_len;
    char bytes[400]; /* of a stream */
    bool refuse_bytes;
    void (*then)(struct got *g);
    struct got *other;
};

struct world {
    uv_loop_t loop;
    struct fake_api api;
    struct http *http;
    int64_t first_byte_ms, idle_ms;
    size_t max_answer;
    const char *body, *url;
    http_bytes_fn *on_bytes;
};

static void open_world(struct world *w, const struct fake_reply *script, size_t len)
{
    struct err e = {0};
    assert_int_equal(uv_loop_init(&w->loop), 0);
    fake_api_start(&w->api, &w->loop, script, len);
    w->http = http_new(&w->loop,
                       &(struct http_opts){
                           .url = w->url ? w->url : w->api.url,
                           .key = "sk-secret",
                           .version = "2023-06-01",
                           .beta = "one,two",
                           .ca_file = "",
                           .connect_ms = 3000,
                           .first_byte_ms = w->first_byte_ms ? w->first_byte_ms : 5000,
                           .idle_ms = w->idle_ms ? w->idle_ms : 5000,
                       },
                       &e);
    if (w->http == NULL)
        fail_msg("%s", e.text);
}

/* Everything is let go of, or the loop does not close. */
static void close_world(struct world *w)
{
    http_free(w->http);
    fake_api_stop(&w->api);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    fake_api_free(&w->api);
}

static void on_answer(void *arg, const struct answer *a)
{
    struct got *g = arg;
    g->times++;
    g->broke = a->broke;
    g->status = a->status;
    g->left = a->left;
    g->streamed = a->streamed;
    g->body_len = a->body_len;
    snprintf(g->why, sizeof g->why, "%s", a->why);
    snprintf(g->headers, sizeof g->headers, "%s", a->headers);
    snprintf(g->body, sizeof g->body, "%s", a->body);
    assert_int_equal(a->body[a->body_len], '\0');
    assert_int_equal(a->left, http_left(g->call));
    if (g->then)
        g->then(g);
    g->call = NULL;
}

static int on_bytes(void *arg, const char *bytes, size_t len)
{
    struct got *g = arg;
    size_t n = strlen(g->bytes);
    if (n + len < sizeof g->bytes) {
        memcpy(g->bytes + n, bytes, len);
        g->bytes[n + len] = '\0';
    }
    return g->refuse_bytes ? -1 : 0;
}

static void post(struct world *w, struct got *g)
{
    struct err e = {0};
    const char *body = w->body ? w->body : "{\"max_tokens\":1}";
    g->http = w->http;
    g->call = http_post(
        w->http,
        &(struct http_post){.body = body,
                            .body_len = strlen(body),
                            .max_answer = w->max_answer ? w->max_answer : 300,
                            .on_bytes = w->on_bytes,
                            .on_answer = on_answer,
                            .arg = g},
        &e);
    if (g->call == NULL)
        fail_msg("%s", e.text);
}

/* Until it is told; or for that many turns of the loop, which the watchdogs bound. */
static void run_until_told(struct world *w, const struct got *g, int times)
{
    for (int i = 0; i < 20000 && g->times < times; i++)
        uv_run(&w->loop, UV_RUN_ONCE);
}

#define LONG_BODY                                                                      \
    "a body that is longer than three hundred bytes, which is what a test takes: "     \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct ending {
    struct fake_reply reply;
    enum answer_break broke;
    long status;
    const char *body;
} endings[] = {
    {{.status = 200, .body = "hello"}, ANSWER_WHOLE, 200, "hello"},
    {{.status = 200, .body = ""}, ANSWER_WHOLE, 200, ""},
    {{.status = 429, .body = "slow", .headers = "Retry-After: 3\r\n"},
     ANSWER_WHOLE,
     429,
     "slow"},
    {{.status = 529, .body = "busy", .then = HANG_UP}, ANSWER_WHOLE, 529, "busy"},
    {{.status = 200, .body = "one byte at a time", .piece = 1},
     ANSWER_WHOLE,
     200,
     "one byte at a time"},
    {{.raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
             "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"},
     ANSWER_WHOLE,
     200,
     "hello!"},
    {{.raw = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", .then = HANG_UP},
     ANSWER_WHOLE,
     200,
     "to the end"},
    /* cut short, at every place where it can be */
    {{.status = 0, .then = HANG_UP}, BREAK_RESET, 0, ""},
    {{.status = 0, .then = RESET}, BREAK_RESET, 0, ""},
    {{.status = 200, .body = "hello", .only = 12, .then = HANG_UP}, BREAK_RESET, 0, ""},
    {{.status = 200, .body = "hello", .only = 20, .then = HANG_UP},
     BREAK_RESET,
     200,
     ""},
    {{.status = 200, .body = "hello", .only = 43, .then = HANG_UP},
     BREAK_RESET,
     200,
     "hel"},
    {{.raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
      .then = HANG_UP},
     BREAK_RESET,
     200,
     "hel"},
    {{.raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
      .then = RESET},
     BREAK_RESET,
     200,
     "hello"},
    /* too much, whether it was announced or not */
    {{.status = 200, .body = LONG_BODY}, BREAK_TOO_LARGE, 200, ""},
    {{.raw = "HTTP/1.1 200 OK\r\n\r\n" LONG_BODY, .piece = 100, .then = HANG_UP},
     BREAK_TOO_LARGE,
     200,
     NULL},
    /* no HTTP */
    {{.raw = "220 mail.example ESMTP\r\n", .then = HANG_UP}, BREAK_GARBLED, 0, NULL},
    {{.raw = "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", .then = HANG_UP},
     BREAK_GARBLED,
     200,
     NULL},
};

static void each_ending_is_told_exactly_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES(endings); i++) {
        const struct ending *c = &endings[i];
        struct world w = {0};
        struct got g = {0};
        open_world(&w, &c->reply, 1);
        post(&w, &g);
        assert_int_equal(g.times, 0); /* never from inside the call */
        run_until_told(&w, &g, 1);
        for (int n = 0; n < 5; n++)
            uv_run(&w.loop, UV_RUN_NOWAIT);
        assert_int_equal(g.times, 1);
        if (g.broke != c->broke || g.status != c->status)
            fail_msg("case %zu: %d, status %ld (%s)", i, (int)g.broke, g.status, g.why);
        if (c->body)
            assert_string_equal(g.body, c->body);
        assert_int_equal(*g.why != '\0', c->broke != ANSWER_WHOLE);
        assert_true(g.left);
        assert_int_equal(w.api.asked, 1);
        close_world(&w);
        assert_int_equal(g.times, 1);
    }
}

static void silence_ends_by_the_clock(void **state)
{
    (void)state;
    static const struct {
        struct fake_reply reply;
        enum answer_break broke;
        long status;
    } cases[] = {
        {{.status = 0, .then = STAY_SILENT}, BREAK_FIRST_BYTE, 0},
        {{.status = 200, .body = "hello", .only = 30, .then = STAY_SILENT},
         BREAK_IDLE,
         200},
        {{.status = 200, .body = "hello", .only = 42, .then = STAY_SILENT},
         BREAK_IDLE,
         200},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w = {.first_byte_ms = 120, .idle_ms = 60};
        struct got g = {0};
        open_world(&w, &cases[i].reply, 1);
        uint64_t began = uv_hrtime();
        post(&w, &g);
        run_until_told(&w, &g, 1);
        int64_t ms = (int64_t)(uv_hrtime() - began) / 1000000;
        assert_int_equal(g.times, 1);
        assert_int_equal(g.broke, cases[i].broke);
        assert_int_equal(g.status, cases[i].status);
        assert_true(ms >= (cases[i].broke == BREAK_FIRST_BYTE ? 115 : 55));
        assert_true(g.left);
        assert_true(strlen(g.why) > 0);
        close_world(&w);
    }
}

static void slow_bytes_are_signs_of_life(void **state)
{
    (void)state;
    static const struct fake_reply slow = {
        .status = 200, .body = "0123456789", .piece = 6, .every_ms = 30};
    struct world w = {.first_byte_ms = 120, .idle_ms = 120};
    struct got g = {0};
    open_world(&w, &slow, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1); /* some 270 ms in all */
    assert_int_equal(g.broke, ANSWER_WHOLE);
    assert_string_equal(g.body, "0123456789");
    close_world(&w);
}

/* The machine slept while the answer came in: the watchdog looks before it barks. */
static void an_answer_that_waits_in_the_socket_is_read_before_giving_up(void **state)
{
    (void)state;
    static const struct fake_reply hello = {.status = 200, .body = "hello"};
    struct world w = {.first_byte_ms = 40, .idle_ms = 40};
    struct got g = {0};
    open_world(&w, &hello, 1);
    post(&w, &g);
    while (w.api.asked == 0)
        uv_run(&w.loop, UV_RUN_NOWAIT);
    if (g.times == 0)
        usleep(100 * 1000);
    run_until_told(&w, &g, 1);
    assert_int_equal(g.broke, ANSWER_WHOLE);
    assert_string_equal(g.body, "hello");
    close_world(&w);
}

/* ---- what left ---- */

static void a_refused_connection_let_nothing_leave(void **state)
{
    (void)state;
    static const struct fake_reply none = {.status = 200, .body = ""};
    struct world w = {0}, gone = {0};
    struct got g = {0};
    char url[64];
    open_world(&gone, &none, 1);
    snprintf(url, sizeof url, "%s", gone.api.url);
    close_world(&gone); /* nobody listens there any more */
    w.url = url;
    open_world(&w, &none, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    assert_int_equal(g.times, 1);
    assert_int_equal(g.broke, BREAK_CONNECT);
    assert_false(g.left);
    assert_int_equal(g.status, 0);
    close_world(&w);
}

static void a_handshake_that_fails_let_nothing_leave(void **state)
{
    (void)state;
    static const struct fake_reply plain = {.raw = "HTTP/1.1 400 Bad\r\n\r\n",
                                            .then = HANG_UP};
    struct world w = {0};
    struct got g = {0};
    char url[80];
    uv_loop_t loop;
    struct fake_api api;
    uv_loop_init(&loop);
    fake_api_start(&api, &loop, &plain, 1);
    snprintf(url, sizeof url, "https%s", api.url + 4);
    w.url = url;
    open_world(&w, &plain, 1);
    post(&w, &g);
    for (int i = 0; i < 20000 && g.times == 0; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        uv_run(&w.loop, UV_RUN_NOWAIT);
        fake_api_hang_up(&api); /* it does not speak TLS */
    }
    assert_int_equal(g.times, 1);
    assert_int_equal(g.broke, BREAK_TLS);
    assert_false(g.left);
    close_world(&w);
    fake_api_stop(&api);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    fake_api_free(&api);
}

static void a_request_is_what_the_caller_says(void **state)
{
    (void)state;
    static const struct fake_reply hello = {.status = 200, .body = "hello"};
    static const char *const wanted[] = {
        "POST /v1/messages HTTP/1.1\r\n", "content-type: application/json\r\n",
        "accept: application/json\r\n",   "anthropic-version: 2023-06-01\r\n",
        "x-api-key: sk-secret\r\n",       "anthropic-beta: one,two\r\n",
        "\r\n\r\n{\"max_tokens\":1}",
    };
    static const char *const unwanted[] = {"Expect", "expect", "Authorization",
                                           "Transfer-Encoding"};
    struct world w = {0};
    struct got g = {0};
    open_world(&w, &hello, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    for (size_t i = 0; i < CASES(wanted); i++)
        if (strstr(w.api.request, wanted[i]) == NULL)
            fail_msg("%s: not in\n%s", wanted[i], w.api.request);
    for (size_t i = 0; i < CASES(unwanted); i++)
        assert_null(strstr(w.api.request, unwanted[i]));
    close_world(&w);
}

/* The handle is used again: what it asked before must not show in what comes next. */
static void a_get_elsewhere_leaves_the_next_post_as_it_was(void **state)
{
    (void)state;
    static const struct fake_reply dated = {
        .status = 200,
        .body = "hello",
        .headers = "Date: Mon, 23 Nov 2026 02:00:00 GMT\r\n"};
    struct world w = {0};
    struct err e = {0};
    char url[120];
    open_world(&w, &dated, 1);
    for (int i = 0; i < 2; i++) {
        struct got g = {.http = w.http};
        snprintf(url, sizeof url, "%s/else%d", w.api.url, i);
        g.call = http_post(w.http,
                           &(struct http_post){.url = url,
                                               .get = true,
                                               .max_answer = 300,
                                               .on_answer = on_answer,
                                               .arg = &g},
                           &e);
        assert_non_null(g.call);
        run_until_told(&w, &g, 1);
        assert_int_equal(g.status, 200);
        assert_non_null(strstr(g.headers, "date: Mon, 23 Nov 2026 02:00:00 GMT\n"));
        assert_non_null(strstr(w.api.request, i ? "/else1 HTTP" : "/else0 HTTP"));
        assert_ptr_equal(strstr(w.api.request, "GET /v1/messages/else"), w.api.request);
        assert_non_null(strstr(w.api.request, "x-api-key: sk-secret\r\n"));

        struct got p = {0};
        post(&w, &p);
        run_until_told(&w, &p, 1);
        assert_ptr_equal(strstr(w.api.request, "POST /v1/messages HTTP/1.1"),
                         w.api.request);
        assert_non_null(strstr(w.api.request, "\r\n\r\n{\"max_tokens\":1}"));
    }
    close_world(&w);
}

static void a_long_request_arrives_whole(void **state)
{
    (void)state;
    enum { LEN = 5 * 1000 * 1000 };
    static const struct fake_reply hello = {.status = 200, .body = "hello"};
    char *body = malloc(LEN + 1);
    for (int i = 0; i < LEN; i++)
        body[i] = (char)('a' + i % 23);
    body[LEN] = '\0';
    struct world w = {.body = body};
    struct got g = {0};
    open_world(&w, &hello, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    assert_int_equal(g.broke, ANSWER_WHOLE);
    assert_int_equal(w.api.asked, 1);
    const char *arrived = strstr(w.api.request, "\r\n\r\n") + 4;
    assert_true(strcmp(arrived, body) == 0);
    close_world(&w);
    free(body);
}

/*
 * The server closes the kept connection just as the second request arrives. libcurl
 * would quietly send it again; but it may be answered and billed already.
 */
static void what_was_sent_once_is_not_sent_again(void **state)
{
    (void)state;
    static const enum fake_then ways[] = {HANG_UP, RESET};
    for (size_t i = 0; i < CASES(ways); i++) {
        const struct fake_reply script[] = {
            {.status = 200, .body = "first"},
            {.status = 0, .then = ways[i]},
            {.status = 200, .body = "third"},
        };
        struct world w = {0};
        struct got g = {0};
        open_world(&w, script, CASES(script));
        post(&w, &g);
        run_until_told(&w, &g, 1);
        assert_string_equal(g.body, "first");
        post(&w, &g);
        run_until_told(&w, &g, 2);
        assert_int_equal(g.times, 2);
        assert_int_equal(g.broke, BREAK_RESET);
        assert_int_equal(g.status, 0);
        assert_true(g.left);
        assert_true(strlen(g.why) > 0);
        for (int n = 0; n < 20; n++)
            uv_run(&w.loop, UV_RUN_NOWAIT);
        assert_int_equal(w.api.asked, 2);
        post(&w, &g); /* the client is as good as new */
        run_until_told(&w, &g, 3);
        assert_string_equal(g.body, "third");
        close_world(&w);
    }
}

static void a_connection_that_died_idle_is_replaced(void **state)
{
    (void)state;
    static const struct fake_reply hello = {.status = 200, .body = "hello"};
    struct world w = {0};
    struct got g = {0};
    open_world(&w, &hello, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    fake_api_hang_up(&w.api);
    while (w.api.open > 0)
        uv_run(&w.loop, UV_RUN_NOWAIT);
    post(&w, &g);
    run_until_told(&w, &g, 2);
    assert_int_equal(g.broke, ANSWER_WHOLE);
    assert_string_equal(g.body, "hello");
    assert_int_equal(w.api.asked, 2);
    assert_int_equal(w.api.connections, 2);
    close_world(&w);
}

static void ring(uv_timer_t *t)
{
    *(bool *)t->data = true;
}

static void a_connection_that_died_idle_is_heard_of_once(void **state)
{
    (void)state;
    static const struct fake_reply fine = {.status = 200, .body = "fine"};
    struct world w = {0};
    struct got g = {0};
    uv_timer_t timer;
    bool rung = false;
    int turns = 0;
    open_world(&w, &fine, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    fake_api_hang_up(&w.api);
    uv_timer_init(&w.loop, &timer);
    timer.data = &rung;
    uv_timer_start(&timer, ring, 30, 0);
    for (; !rung; turns++)
        uv_run(&w.loop, UV_RUN_ONCE);
    assert_true(turns < 20); /* a socket that is watched on would wake it for ever */
    uv_close((uv_handle_t *)&timer, NULL);
    post(&w, &g);
    run_until_told(&w, &g, 2);
    assert_int_equal(w.api.connections, 2);
    close_world(&w);
}

static void count_waiting(uv_handle_t *h, void *arg)
{
    *(int *)arg += h->type == UV_POLL && uv_is_active(h) && uv_has_ref(h);
}

static void an_idle_connection_keeps_no_loop_alive(void **state)
{
    (void)state;
    static const struct fake_reply fine = {.status = 200, .body = "fine"};
    struct world w = {0};
    struct got g = {0};
    int waiting = 0;
    open_world(&w, &fine, 1);
    for (int i = 1; i < 4; i++) {
        post(&w, &g);
        run_until_told(&w, &g, i);
        uv_walk(&w.loop, count_waiting, &waiting);
        assert_int_equal(waiting, 0);
    }
    assert_int_equal(w.api.connections, 1);
    close_world(&w);
}

static void connections_are_kept(void **state)
{
    (void)state;
    static const struct fake_reply hello = {.status = 200, .body = "hello"};
    struct world w = {0};
    struct got g = {0};
    open_world(&w, &hello, 1);
    for (int i = 1; i <= 10; i++) {
        post(&w, &g);
        run_until_told(&w, &g, i);
    }
    assert_int_equal(w.api.asked, 10);
    assert_int_equal(w.api.connections, 1);
    close_world(&w);
}

/* ---- cancelling ---- */

static void a_cancelled_call_is_never_told(void **state)
{
    (void)state;
    static const struct fake_reply replies[] = {
        {.status = 0, .then = STAY_SILENT},
        {.status = 200, .body = "0123456789", .piece = 1, .every_ms = 1},
    };
    for (size_t i = 0; i < CASES(replies); i++)
        for (int turns = 0; turns < 12; turns++) {
            struct world w = {0};
            struct got g = {0};
            open_world(&w, &replies[i], 1);
            post(&w, &g);
            for (int n = 0; n < turns && g.times == 0; n++)
                uv_run(&w.loop, UV_RUN_NOWAIT);
            if (g.times == 0)
                http_cancel(g.call);
            int told = g.times;
            for (int n = 0; n < 20; n++)
                uv_run(&w.loop, UV_RUN_NOWAIT);
            close_world(&w);
            assert_int_equal(g.times, told);
        }
}

static void what_is_let_go_with_the_client_is_never_told(void **state)
{
    (void)state;
    static const struct fake_reply silent = {.status = 0, .then = STAY_SILENT};
    struct world w = {0};
    struct got g[3] = {{0}};
    open_world(&w, &silent, 1);
    for (int i = 0; i < 3; i++)
        post(&w, &g[i]);
    while (w.api.asked < 3)
        uv_run(&w.loop, UV_RUN_ONCE);
    close_world(&w);
    for (int i = 0; i < 3; i++)
        assert_int_equal(g[i].times, 0);
    http_free(NULL);
}

static void cancel_other(struct got *g)
{
    if (g->other && g->other->times == 0 && g->other->call) {
        http_cancel(g->other->call);
        g->other->call = NULL;
    }
}

/* Two end in one turn of the loop, and each would cancel the other. */
static void a_callback_may_cancel_others(void **state)
{
    (void)state;
    static const struct fake_reply ways[] = {
        {.status = 200, .body = "hello"},
        {.status = 0, .then = HANG_UP},
        {.status = 0, .then = STAY_SILENT}, /* the watchdog tells both at once */
    };
    for (size_t i = 0; i < CASES(ways); i++) {
        struct world w = {.first_byte_ms = 60, .idle_ms = 60};
        struct got g[2] = {{0}};
        open_world(&w, &ways[i], 1);
        for (int k = 0; k < 2; k++) {
            g[k].then = cancel_other;
            g[k].other = &g[1 - k];
            post(&w, &g[k]);
        }
        for (int n = 0; n < 20000 && g[0].times + g[1].times == 0; n++)
            uv_run(&w.loop, UV_RUN_ONCE);
        for (int n = 0; n < 20; n++)
            uv_run(&w.loop, UV_RUN_NOWAIT);
        close_world(&w);
        assert_int_equal(g[0].times + g[1].times, 1);
    }
}

static struct world *again_in;

static void post_again(struct got *g)
{
    if (g->times < 5)
        post(again_in, g);
}

static void a_callback_may_start_others(void **state)
{
    (void)state;
    static const struct fake_reply hello = {.status = 200, .body = "hello"};
    struct world w = {0};
    struct got g = {.then = post_again};
    again_in = &w;
    open_world(&w, &hello, 1);
    post(&w, &g);
    for (int i = 0; i < 20000 && g.times < 5; i++) {
        struct http_call *call = g.call;
        uv_run(&w.loop, UV_RUN_ONCE);
        if (g.call == NULL && g.times < 5)
            g.call = call; /* on_answer() forgets it behind our back */
    }
    assert_int_equal(g.times, 5);
    assert_int_equal(w.api.asked, 5);
    close_world(&w);
}

static char *taken;

static void take_body(struct got *g)
{
    taken = http_take_body(g->call);
}

static void a_body_can_be_kept_without_a_copy(void **state)
{
    (void)state;
    static const struct fake_reply script[] = {{.status = 200, .body = "hello"},
                                               {.status = 200, .body = "another"}};
    struct world w = {0};
    struct got g = {.then = take_body};
    open_world(&w, script, 2);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    assert_string_equal(taken, "hello");
    char *first = taken;
    post(&w, &g);
    run_until_told(&w, &g, 2);
    assert_string_equal(taken, "another");
    close_world(&w);
    assert_string_equal(first, "hello");
    free(first);
    free(taken);
}

/* ---- what comes back ---- */

static void only_headers_that_mean_something_are_kept(void **state)
{
    (void)state;
    static const struct fake_reply reply = {
        .status = 429,
        .body = "",
        .headers = "Date: today\r\n"
                   "Request-Id: Req_1\r\n"
                   "Set-Cookie: secret=1\r\n"
                   "RETRY-AFTER:  30\r\n"
                   "anthropic-ratelimit-requests-limit: 50\r\n"
                   "Anthropic-Organization-Id: org\r\n"
                   "X-Should-Retry: true\r\n"
                   "Content-Type: application/json\r\n"};
    struct world w = {0};
    struct got g = {0};
    open_world(&w, &reply, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    assert_string_equal(g.headers, "request-id: Req_1\n"
                                   "retry-after:  30\n"
                                   "anthropic-ratelimit-requests-limit: 50\n"
                                   "anthropic-organization-id: org\n"
                                   "x-should-retry: true\n"
                                   "content-type: application/json\n");
    close_world(&w);
}

static void headers_without_end_do_not_matter(void **state)
{
    (void)state;
    enum { LEN = 60000 };
    char *raw = malloc(LEN + 200), *p = raw;
    p += sprintf(p, "HTTP/1.1 200 OK\r\nrequest-id: first\r\n");
    while (p - raw < LEN)
        p += sprintf(p, "anthropic-%04d: %040d\r\n", (int)(p - raw) % 10000, 7);
    sprintf(p, "retry-after: 5\r\nContent-Length: 2\r\n\r\nok");
    const struct fake_reply reply = {.raw = raw};
    struct world w = {0};
    struct got g = {0};
    open_world(&w, &reply, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    assert_int_equal(g.broke, ANSWER_WHOLE);
    assert_string_equal(g.body, "ok");
    assert_int_equal(strncmp(g.headers, "request-id: first\nanthropic-", 28), 0);
    close_world(&w);
    free(raw);
}

static void an_interim_answer_is_not_the_answer(void **state)
{
    (void)state;
    static const struct fake_reply reply = {
        .raw = "HTTP/1.1 100 Continue\r\nrequest-id: interim\r\n\r\n"
               "HTTP/1.1 103 Early Hints\r\nretry-after: 99\r\n\r\n"
               "HTTP/1.1 200 OK\r\nRequest-Id: real\r\nContent-Length: 5\r\n\r\nhello",
        .piece = 30};
    struct world w = {0};
    struct got g = {0};
    open_world(&w, &reply, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    assert_int_equal(g.times, 1);
    assert_int_equal(g.status, 200);
    assert_string_equal(g.headers, "request-id: real\n");
    assert_string_equal(g.body, "hello");
    close_world(&w);
}

/* The key goes to the one place that was configured. */
static void a_redirect_is_not_followed(void **state)
{
    (void)state;
    static const int codes[] = {301, 302, 307, 308};
    for (size_t i = 0; i < CASES(codes); i++) {
        struct world w = {0};
        struct got g = {0};
        char headers[100];
        struct fake_reply reply = {.status = codes[i], .body = "moved"};
        open_world(&w, &reply, 1);
        snprintf(headers, sizeof headers, "Location: %s\r\n", w.api.url);
        reply.headers = headers;
        post(&w, &g);
        run_until_told(&w, &g, 1);
        assert_int_equal(g.broke, ANSWER_WHOLE);
        assert_int_equal(g.status, codes[i]);
        assert_int_equal(w.api.asked, 1);
        close_world(&w);
    }
}

/* ---- streams ---- */

#define EVENTS "event: ping\ndata: {}\n\nevent: message_stop\ndata: {}\n\n"
#define SSE "Content-Type: text/event-stream; charset=utf-8\r\n"

static void the_bytes_of_a_stream_go_where_they_are_wanted(void **state)
{
    (void)state;
    static const struct {
        struct fake_reply reply;
        bool streamed;
        const char *bytes, *body;
    } cases[] = {
        {{.status = 200, .headers = SSE, .body = EVENTS}, true, EVENTS, ""},
        {{.status = 200, .headers = SSE, .body = EVENTS, .piece = 7}, true, EVENTS, ""},
        /* beyond max_answer: whoever gathers the events has a ceiling of its own */
        {{.status = 200, .headers = SSE, .body = LONG_BODY}, true, LONG_BODY, ""},
        /* a refusal of the request is no stream, whatever it calls itself */
        {{.status = 529, .headers = SSE, .body = "busy"}, false, "", "busy"},
        {{.status = 400, .headers = "Content-Type: application/json\r\n", .body = "{}"},
         false,
         "",
         "{}"},
        {{.status = 200, .headers = "Content-Type: application/json\r\n", .body = "{}"},
         false,
         "",
         "{}"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct world w = {.on_bytes = on_bytes};
        struct got g = {0};
        open_world(&w, &cases[i].reply, 1);
        post(&w, &g);
        run_until_told(&w, &g, 1);
        assert_int_equal(g.broke, ANSWER_WHOLE);
        assert_int_equal(g.streamed, cases[i].streamed);
        assert_string_equal(g.bytes, cases[i].bytes);
        assert_string_equal(g.body, cases[i].body);
        close_world(&w);
    }
}

static void a_stream_that_nobody_can_read_ends_the_call(void **state)
{
    (void)state;
    static const struct fake_reply events = {
        .status = 200, .headers = SSE, .body = EVENTS, .piece = 5, .then = STAY_SILENT};
    struct world w = {.on_bytes = on_bytes};
    struct got g = {.refuse_bytes = true};
    open_world(&w, &events, 1);
    post(&w, &g);
    run_until_told(&w, &g, 1);
    assert_int_equal(g.times, 1);
    assert_int_equal(g.broke, BREAK_GARBLED);
    assert_true(g.streamed);
    assert_int_equal(g.status, 200);
    close_world(&w);
}

static void a_stream_that_is_cut_keeps_what_came(void **state)
{
    (void)state;
    static const struct fake_reply ways[] = {
        {.status = 200, .headers = SSE, .body = EVENTS, .only = 110, .then = HANG_UP},
        {.status = 200,
         .headers = SSE,
         .body = EVENTS,
         .only = 110,
         .then = STAY_SILENT},
    };
    for (size_t i = 0; i < CASES(ways); i++) {
        struct world w = {.on_bytes = on_bytes, .idle_ms = 60};
        struct got g = {0};
        open_world(&w, &ways[i], 1);
        post(&w, &g);
        run_until_told(&w, &g, 1);
        assert_int_equal(g.broke, i == 0 ? BREAK_RESET : BREAK_IDLE);
        assert_true(g.streamed);
        assert_int_equal(strncmp(g.bytes, "event: ping", 11), 0);
        assert_true(strlen(g.bytes) < strlen(EVENTS));
        close_world(&w);
    }
}

/* ---- many ---- */

static void many_calls_at_once_get_each_its_own_answer(void **state)
{
    (void)state;
    enum { CALLS = 150, ROUNDS = 3 };
    static const struct fake_reply echo = {.status = 200};
    static struct got g[CALLS];
    static char bodies[CALLS][40];
    struct world w = {0};
    memset(g, 0, sizeof g);
    open_world(&w, &echo, 1);
    for (int round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < CALLS; i++) {
            snprintf(bodies[i], sizeof bodies[i], "{\"round\":%d,\"call\":%d}", round,
                     i);
            w.body = bodies[i];
            post(&w, &g[i]);
        }
        for (int i = 0; i < CALLS; i++)
            run_until_told(&w, &g[i], round);
        for (int i = 0; i < CALLS; i++) {
            assert_int_equal(g[i].times, round);
            assert_int_equal(g[i].broke, ANSWER_WHOLE);
            assert_string_equal(g[i].body, bodies[i]);
        }
    }
    assert_int_equal(w.api.asked, CALLS * ROUNDS);
    assert_true(w.api.connections <= CALLS);
    close_world(&w);
}

static void a_used_call_remembers_nothing_of_the_one_before(void **state)
{
    (void)state;
    static const struct fake_reply script[] = {
        {.status = 200, .headers = SSE "request-id: one\r\n", .body = "events"},
        {.status = 0, .then = HANG_UP},
        {.status = 200, .body = LONG_BODY},
        {.status = 400, .body = "no"},
    };
    struct world w = {.on_bytes = on_bytes};
    struct got g[4] = {{0}};
    open_world(&w, script, CASES(script));
    for (int i = 0; i < 4; i++) {
        post(&w, &g[i]);
        run_until_told(&w, &g[i], 1);
        w.on_bytes = NULL;
    }
    assert_true(g[0].streamed);
    assert_int_equal(g[1].broke, BREAK_RESET);
    assert_false(g[1].streamed);
    assert_string_equal(g[1].headers, "");
    assert_int_equal(g[2].broke, BREAK_TOO_LARGE);
    assert_int_equal(g[3].broke, ANSWER_WHOLE);
    assert_int_equal(g[3].status, 400);
    assert_string_equal(g[3].why, "");
    assert_string_equal(g[3].body, "no");
    close_world(&w);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* as main() does */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_ending_is_told_exactly_once),
        cmocka_unit_test(silence_ends_by_the_clock),
        cmocka_unit_test(slow_bytes_are_signs_of_life),
        cmocka_unit_test(an_answer_that_waits_in_the_socket_is_read_before_giving_up),
        cmocka_unit_test(a_refused_connection_let_nothing_leave),
        cmocka_unit_test(a_handshake_that_fails_let_nothing_leave),
        cmocka_unit_test(a_request_is_what_the_caller_says),
        cmocka_unit_test(a_get_elsewhere_leaves_the_next_post_as_it_was),
        cmocka_unit_test(a_long_request_arrives_whole),
        cmocka_unit_test(what_was_sent_once_is_not_sent_again),
        cmocka_unit_test(a_connection_that_died_idle_is_replaced),
        cmocka_unit_test(a_connection_that_died_idle_is_heard_of_once),
        cmocka_unit_test(an_idle_connection_keeps_no_loop_alive),
        cmocka_unit_test(connections_are_kept),
        cmocka_unit_test(a_cancelled_call_is_never_told),
        cmocka_unit_test(what_is_let_go_with_the_client_is_never_told),
        cmocka_unit_test(a_callback_may_cancel_others),
        cmocka_unit_test(a_callback_may_start_others),
        cmocka_unit_test(a_body_can_be_kept_without_a_copy),
        cmocka_unit_test(only_headers_that_mean_something_are_kept),
        cmocka_unit_test(headers_without_end_do_not_matter),
        cmocka_unit_test(an_interim_answer_is_not_the_answer),
        cmocka_unit_test(a_redirect_is_not_followed),
        cmocka_unit_test(the_bytes_of_a_stream_go_where_they_are_wanted),
        cmocka_unit_test(a_stream_that_nobody_can_read_ends_the_call),
        cmocka_unit_test(a_stream_that_is_cut_keeps_what_came),
        cmocka_unit_test(many_calls_at_once_get_each_its_own_answer),
        cmocka_unit_test(a_used_call_remembers_nothing_of_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
