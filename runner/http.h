#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct answer;
struct err;
struct http;
struct http_call;

/*
 * POSTs over libcurl's multi interface on a libuv loop. There is no retry in here, and
 * libcurl's own (a silent resend when a kept connection turns out dead) is disarmed:
 * what was sent once is told once.
 */
struct http_opts {
    const char *url;     /* everything goes there */
    const char *key;     /* copied into the one header list, and nowhere else */
    const char *version; /* anthropic-version */
    const char *beta;    /* anthropic-beta; "" */
    const char *ca_file; /* "": the system's */
    int64_t connect_ms, first_byte_ms, idle_ms;
};

/* The loop is borrowed and must outlive the client. */
struct http *http_new(uv_loop_t *loop, const struct http_opts *o, struct err *e);

/* Bytes of a 2xx answer's body as they come; not 0 ends the call as BREAK_GARBLED. */
typedef int http_bytes_fn(void *arg, const char *bytes, size_t len);
typedef void http_answer_fn(void *arg, const struct answer *a);

/* Status and headers are there, the body may be a long way off; at most once a call,
 * from the loop, and not a place to cancel from. `a` has no body, and is lent. */
typedef void http_headers_fn(void *arg, const struct answer *a);

struct http_post {
    const char *url;  /* NULL: the client's own; else the `date` header is kept, too */
    bool get;         /* a GET; it has no body */
    const char *body; /* borrowed until the call is over */
    size_t body_len;
    size_t max_answer;           /* a longer answer is BREAK_TOO_LARGE */
    http_bytes_fn *on_bytes;     /* NULL: the body is gathered. Else, an event stream's
                                bytes go there, and any other body is still gathered */
    http_headers_fn *on_headers; /* NULL: nobody asks */
    http_answer_fn *on_answer;
    void *arg;
};

/*
 * Start a POST (or a GET). `on_answer` is called exactly once, from the loop, never from inside
 * this call, unless http_cancel() comes first, in which case it is never called. The
 * answer is valid only while the callback runs; the call is gone when it returns.
 */
struct http_call *http_post(struct http *h, const struct http_post *p, struct err *e);

/* Within `on_answer`: the gathered body becomes the caller's (free it). */
char *http_take_body(struct http_call *c);

/* Has any byte of the body left the house? */
bool http_left(const struct http_call *c);
void http_cancel(struct http_call *c);

/* Cancel what is left and let go of the loop. The memory is freed by the loop itself,
 * so run it until it has nothing left to do. NULL is fine. */
/* Nothing is out, and nothing is expected soon: connections and memory that are kept for
 * the next calls are let go. */
void http_rest(struct http *h);

void http_free(struct http *h);

#endif
