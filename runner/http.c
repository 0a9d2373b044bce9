/*
 * Where libcurl meets libuv. Four things ask to be remembered: a poll handle is freed
 * only when libuv has closed it; endings are collected after every step, also when
 * nothing runs any more; sockets outlive the transfers that opened them, so nothing of a
 * call hangs on one; and between two transfers of a connection its socket stays watched,
 * since to let go of it and to take it up again costs four calls of the kernel a job.
 */
#include "runner/http.h"

#include "runner/answer.h"
#include "runner/effect.h"
#include "runner/err.h"

#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { HEADERS_MAX = 4096, KEPT_CALLS_MAX = 1024, BODY_KEPT_MAX = 256 * 1024 };

struct http {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t timer; /* libcurl's */
    uv_timer_t dog;   /* the watchdogs' */
    int64_t first_byte_ms, idle_ms;
    struct curl_slist *headers;
    char *url, *ca_file;
    long connect_ms;
    struct http_call *calls; /* on the wire */
    struct http_call *kept;  /* idle, to be used again */
    size_t kept_len;
    struct watch **watches; /* by socket */
    size_t watches_size;
    int handles; /* of the two timers, not closed yet */
};

struct http_call {
    struct http_call *prev, *next;
    struct http *http;
    CURL *easy;
    struct http_post post;
    curl_off_t sent;      /* of the body, when the watchdog looked last */
    bool left;            /* the request was written, or is being written */
    bool began;           /* a byte of the answer came */
    bool elsewhere;       /* the handle was last set to another URL, or to a GET */
    bool headed;          /* the empty line behind the headers came */
    curl_socket_t socket; /* the last that was watched for it */
    bool streaming;       /* its body goes to on_bytes */
    int64_t last_at;      /* loop time of the last sign of life */
    enum answer_break broke;
    char *body;
    size_t len, size;
    size_t headers_len;
    char headers[HEADERS_MAX];
    char why[CURL_ERROR_SIZE];
};

/* A socket that is watched, or will be. */
struct watch {
    uv_poll_t poll;
    struct http *http;
    curl_socket_t socket;
    int events; /* asked of libuv; 0: none */
    /* A connection stands on it. Then, and not before, libcurl says when it closes it,
     * so it may stay watched when idle. */
    bool stands;
    bool idle; /* no transfer wants it */
};

static struct watch *watch_of(const struct http *h, curl_socket_t s)
{
    return s >= 0 && (size_t)s < h->watches_size ? h->watches[s] : NULL;
}

static void link_call(struct http_call **list, struct http_call *c)
{
    c->prev = NULL;
    c->next = *list;
    if (*list)
        (*list)->prev = c;
    *list = c;
}

static void unlink_call(struct http_call **list, struct http_call *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        *list = c->next;
    if (c->next)
        c->next->prev = c->prev;
}

static void call_free(struct http_call *c)
{
    curl_easy_cleanup(c->easy);
    free(c->body);
    free(c);
}

/* Off the wire, and back to where the next call is taken from. */
static void call_over(struct http_call *c)
{
    struct http *h = c->http;
    curl_multi_remove_handle(h->multi, c->easy);
    unlink_call(&h->calls, c);
    if (h->calls == NULL)
        uv_timer_stop(&h->dog);
    if (h->kept_len >= KEPT_CALLS_MAX) {
        call_free(c);
        return;
    }
    if (c->size > BODY_KEPT_MAX) {
        free(c->body);
        c->body = NULL;
        c->size = 0;
    }
    h->kept_len++;
    link_call(&h->kept, c);
}

/* --- what libcurl tells of a call --- */

/*
 * The request is about to be written, body and all. libcurl comes here again when a
 * kept connection turned out dead and it would quietly send once more; but the first
 * may have been read, and is perhaps being answered and billed, so that is an ending
 * instead.
 */
static int on_departure(void *arg, char *to_ip, char *from_ip, int to_port,
                        int from_port)
{
    struct http_call *c = arg;
    (void)to_ip;
    (void)from_ip;
    (void)to_port;
    (void)from_port;
    if (c->left) {
        c->broke = BREAK_RESET;
        snprintf(c->why, sizeof c->why, "the connection was closed before any answer");
        return CURL_PREREQFUNC_ABORT;
    }
    struct watch *w = watch_of(c->http, c->socket);
    if (w)
        w->stands = true;
    effect_before("send", (long long)c->post.body_len);
    c->left = true;
    c->last_at = (int64_t)uv_now(c->http->loop);
    return CURL_PREREQFUNC_OK;
}

static bool kept_header(const struct http_call *c, const char *line, size_t len)
{
    static const char *const names[] = {"retry-after", "x-should-retry", "request-id",
                                        "anthropic-", "content-type"};
    if (c->elsewhere && len > 5 && strncasecmp(line, "date:", 5) == 0)
        return true; /* whoever asks a question may ask the time */
    if (len == 0 || strchr("rxacRXAC", *line) == NULL)
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = strlen(names[i]);
        if (len > n && strncasecmp(line, names[i], n) == 0)
            return true;
    }
    return false;
}

/* Also called for an interim answer (1xx), which tells nothing. */
static void tell_headers(struct http_call *c)
{
    struct answer a = {.left = true,
                       .why = "",
                       .headers = c->headers,
                       .body = "",
                       .broke = ANSWER_WHOLE};
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &a.status);
    if (c->post.on_headers && a.status >= 200)
        c->post.on_headers(c->post.arg, &a);
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct http_call *c = arg;
    size_t len = size * n;
    c->last_at = (int64_t)uv_now(c->http->loop);
    c->began = true;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        c->headed = false;
        c->headers_len = 0; /* an interim answer's headers are not the answer's */
        c->headers[0] = '\0';
    }
    if (len <= 2 && (*line == '\r' || *line == '\n') && !c->headed) {
        c->headed = true;
        tell_headers(c);
    }
    if (!kept_header(c, line, len) || c->headers_len + len + 2 > sizeof c->headers)
        return len;
    char *to = c->headers + c->headers_len;
    bool name = true;
    for (size_t i = 0; i < len && line[i] != '\r' && line[i] != '\n'; i++) {
        name = name && line[i] != ':';
        *to++ = (char)(name ? tolower((unsigned char)line[i]) : line[i]);
    }
    *to++ = '\n';
    *to = '\0';
    c->headers_len = (size_t)(to - c->headers);
    return len;
}

static bool is_stream(struct http_call *c)
{
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300 &&
           strstr(c->headers, "content-type: text/event-stream") != NULL;
}

static int gather(struct http_call *c, const char *bytes, size_t len)
{
    if (c->len + len + 1 > c->size) {
        /* An answer that said how long it is gets its memory at once. */
        curl_off_t said = -1;
        if (c->len == 0)
            curl_easy_getinfo(c->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &said);
        size_t size = c->size ? c->size : 4096;
        if (said > 0 && (size_t)said < c->post.max_answer && (size_t)said + 1 > size)
            size = (size_t)said + 1;
        while (size < c->len + len + 1)
            size *= 2;
        char *grown = realloc(c->body, size);
        if (grown == NULL)
            return -1;
        c->body = grown;
        c->size = size;
    }
    memcpy(c->body + c->len, bytes, len);
    c->len += len;
    c->body[c->len] = '\0';
    return 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct http_call *c = arg;
    size_t len = size * n;
    c->last_at = (int64_t)uv_now(c->http->loop);
    if (c->len == 0 && c->post.on_bytes && !c->streaming)
        c->streaming = is_stream(c);
    if (c->streaming && c->post.on_bytes) {
        if (c->post.on_bytes(c->post.arg, bytes, len) == 0)
            return len;
        c->broke = BREAK_GARBLED;
        snprintf(c->why, sizeof c->why, "the event stream cannot be read");
        return 0;
    }
    if (c->len + len > c->post.max_answer) {
        c->broke = BREAK_TOO_LARGE;
        snprintf(c->why, sizeof c->why, "an answer of more than %zu bytes",
                 c->post.max_answer);
        return 0;
    }
    return gather(c, bytes, len) == 0 ? len : 0;
}

/* --- endings --- */

static const struct {
    CURLcode code;
    enum answer_break broke;
} breaks[] = {
    {CURLE_COULDNT_RESOLVE_HOST, BREAK_RESOLVE},
    {CURLE_COULDNT_RESOLVE_PROXY, BREAK_RESOLVE},
    {CURLE_COULDNT_CONNECT, BREAK_CONNECT},
    {CURLE_OPERATION_TIMEDOUT, BREAK_CONNECT}, /* libcurl times the connecting alone */
    {CURLE_SSL_CONNECT_ERROR, BREAK_TLS},
    {CURLE_PEER_FAILED_VERIFICATION, BREAK_TLS},
    {CURLE_SSL_CERTPROBLEM, BREAK_TLS},
    {CURLE_SSL_CIPHER, BREAK_TLS},
    {CURLE_SSL_CACERT_BADFILE, BREAK_TLS},
    {CURLE_SSL_ISSUER_ERROR, BREAK_TLS},
    {CURLE_GOT_NOTHING, BREAK_RESET},
    {CURLE_RECV_ERROR, BREAK_RESET},
    {CURLE_SEND_ERROR, BREAK_RESET},
    {CURLE_SEND_FAIL_REWIND, BREAK_RESET},
    {CURLE_PARTIAL_FILE, BREAK_RESET},
    {CURLE_HTTP2, BREAK_RESET},
    {CURLE_HTTP2_STREAM, BREAK_RESET},
    {CURLE_WEIRD_SERVER_REPLY, BREAK_GARBLED},
    {CURLE_BAD_CONTENT_ENCODING, BREAK_GARBLED},
    {CURLE_UNSUPPORTED_PROTOCOL, BREAK_GARBLED},
};

static enum answer_break break_of(CURLcode code)
{
    for (size_t i = 0; i < sizeof breaks / sizeof breaks[0]; i++)
        if (breaks[i].code == code)
            return breaks[i].broke;
    return BREAK_OTHER;
}

static void tell(struct http_call *c, enum answer_break broke, const char *why)
{
    struct answer a = {
        .broke = broke,
        .why = why,
        .left = http_left(c),
        .headers = c->headers,
        .body = c->body && c->len ? c->body : "",
        .body_len = c->len,
        .streamed = c->streaming,
    };
    if (c->began)
        curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &a.status);
    c->post.on_answer(c->post.arg, &a);
    call_over(c);
}

static void finish(struct http_call *c, CURLcode code)
{
    if (code == CURLE_OK && !c->headed) {
        tell(c, BREAK_RESET, "the connection was closed within the headers");
    } else if (code == CURLE_OK) {
        tell(c, ANSWER_WHOLE, "");
    } else if (c->broke != ANSWER_WHOLE) {
        tell(c, c->broke, c->why);
    } else {
        tell(c, break_of(code), *c->why ? c->why : curl_easy_strerror(code));
    }
}

static void collect(struct http *h)
{
    int pending;
    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &pending));) {
        struct http_call *c = NULL;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        finish(c, code); /* m is dead from here on */
    }
}

static void step(struct http *h, curl_socket_t socket, int events)
{
    int running;
    curl_multi_socket_action(h->multi, socket, events, &running);
    collect(h);
}

/* --- the loop --- */

static void watch_stop(struct watch *w)
{
    uv_poll_stop(&w->poll);
    w->events = 0;
}

static void on_socket(uv_poll_t *poll_handle, int status, int events)
{
    struct watch *w = poll_handle->data;
    struct http *h = w->http;
    curl_socket_t s = w->socket;
    int what = 0;
    if (w->idle) {
        watch_stop(w); /* closed over there, most likely: libcurl finds out by itself */
        return;
    }
    if (status < 0) {
        /* What came before the reset is there to be read; only then is it an error. */
        step(h, s, CURL_CSELECT_IN);
        step(h, s, CURL_CSELECT_ERR); /* w may be gone */
        return;
    }
    if (events & UV_READABLE)
        what |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        what |= CURL_CSELECT_OUT;
    step(h, s, what);
}

static void on_timer(uv_timer_t *timer)
{
    step(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void free_watch(uv_handle_t *handle)
{
    free(handle->data);
}

/* Before the descriptor is closed, as libuv and the next socket of that number want it. */
static void watch_end(struct watch *w)
{
    w->http->watches[w->socket] = NULL;
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, free_watch);
}

static struct watch *watch_new(struct http *h, curl_socket_t s)
{
    if ((size_t)s >= h->watches_size) {
        size_t size = h->watches_size ? h->watches_size : 64;
        while (size <= (size_t)s)
            size *= 2;
        struct watch **grown = realloc(h->watches, size * sizeof *grown);
        if (grown == NULL)
            return NULL;
        memset(grown + h->watches_size, 0, (size - h->watches_size) * sizeof *grown);
        h->watches = grown;
        h->watches_size = size;
    }
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL || uv_poll_init_socket(h->loop, &w->poll, s) != 0) {
        free(w);
        return NULL;
    }
    w->http = h;
    w->socket = s;
    w->idle = true;
    w->poll.data = w;
    return h->watches[s] = w;
}

static int want_socket(CURL *easy, curl_socket_t s, int what, void *arg, void *assigned)
{
    struct http *h = arg;
    struct watch *w = watch_of(h, s);
    struct http_call *c = NULL;
    (void)assigned;

    if (what == CURL_POLL_REMOVE) {
        if (w == NULL)
            return 0;
        w->idle = true;
        uv_unref((uv_handle_t *)&w->poll); /* nobody waits for it */
        if (!w->stands)
            watch_end(w);
        else if (w->events != UV_READABLE)
            watch_stop(w);
        return 0;
    }
    if (w == NULL && (w = watch_new(h, s)) == NULL)
        return -1;
    w->idle = false;
    uv_ref((uv_handle_t *)&w->poll);
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&c);
    if (c)
        c->socket = s;
    int events = (what != CURL_POLL_OUT ? UV_READABLE : 0) |
                 (what != CURL_POLL_IN ? UV_WRITABLE : 0);
    if (events == w->events)
        return 0;
    w->events = events;
    return uv_poll_start(&w->poll, events, on_socket);
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
    struct http *h = arg;
    (void)multi;
    if (ms < 0)
        uv_timer_stop(&h->timer);
    else
        uv_timer_start(&h->timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

/* A large request takes its time to leave: while it does, the line is not dead. */
static void note_upload(struct http_call *c)
{
    curl_off_t sent = 0;
    if (c->began || !c->left)
        return;
    curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    if (sent > c->sent)
        c->last_at = (int64_t)uv_now(c->http->loop);
    c->sent = sent;
}

/* A machine that slept, or a loop that was busy, has answers waiting that nobody read:
 * look once more before giving up. True if there was something. */
static bool look_once_more(struct http_call *c)
{
    curl_socket_t s = c->socket;
    int64_t was = c->last_at;
    int running;
    if (s == CURL_SOCKET_BAD)
        return false;
    struct pollfd p = {.fd = s, .events = POLLIN};
    if (poll(&p, 1, 0) <= 0)
        return false;
    uv_update_time(c->http->loop);
    curl_multi_socket_action(c->http->multi, s, CURL_CSELECT_IN, &running);
    return c->last_at != was;
}

static void on_dog(uv_timer_t *timer)
{
    struct http *h = timer->data;
    for (struct http_call *c = h->calls, *next; c; c = next) {
        next = c->next; /* NOLINT(clang-analyzer-unix.Malloc): see the loop's end */
        note_upload(c);
        int64_t limit = c->began ? h->idle_ms : h->first_byte_ms;
        if ((int64_t)uv_now(h->loop) - c->last_at < limit || look_once_more(c))
            continue;
        c->broke = c->began ? BREAK_IDLE : BREAK_FIRST_BYTE;
        snprintf(c->why, sizeof c->why, "no sign of life for %lld s",
                 (long long)limit / 1000);
        tell(c, c->broke, c->why);
        next = h->calls; /* the callback may have cancelled others: begin again */
    }
    collect(h);
}

/* --- calls --- */

/* libcurl sets two of the three keep-alive numbers; the third is how many go
 * unanswered. */
static int on_new_socket(void *arg, curl_socket_t s, curlsocktype purpose)
{
    struct watch *w = watch_of(arg, s);
    int count = 5;
    (void)purpose;
    setsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    if (w)
        watch_end(w); /* of an earlier socket of this number, closed without a word */
    return CURL_SOCKOPT_OK;
}

static int on_close_socket(void *arg, curl_socket_t s)
{
    struct watch *w = watch_of(arg, s);
    if (w)
        watch_end(w);
    return close(s);
}

static int set_up(struct http *h, struct http_call *c)
{
    CURL *q = c->easy;
    const char *url = h->url;
    bool loopback = strncmp(url, "http://", 7) == 0;
    return curl_easy_setopt(q, CURLOPT_URL, url) ||
           curl_easy_setopt(q, CURLOPT_PRIVATE, (void *)c) ||
           curl_easy_setopt(q, CURLOPT_POST, 1L) ||
           curl_easy_setopt(q, CURLOPT_HTTPHEADER, h->headers) ||
           curl_easy_setopt(q, CURLOPT_PREREQFUNCTION, on_departure) ||
           curl_easy_setopt(q, CURLOPT_PREREQDATA, (void *)c) ||
           curl_easy_setopt(q, CURLOPT_WRITEFUNCTION, on_body) ||
           curl_easy_setopt(q, CURLOPT_WRITEDATA, (void *)c) ||
           curl_easy_setopt(q, CURLOPT_HEADERFUNCTION, on_header) ||
           curl_easy_setopt(q, CURLOPT_HEADERDATA, (void *)c) ||
           curl_easy_setopt(q, CURLOPT_ERRORBUFFER, c->why) ||
           curl_easy_setopt(q, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS) ||
           curl_easy_setopt(q, CURLOPT_PIPEWAIT, loopback ? 0L : 1L) ||
           curl_easy_setopt(q, CURLOPT_PROXY, loopback ? "" : NULL) ||
           curl_easy_setopt(q, CURLOPT_PROTOCOLS_STR, loopback ? "http" : "https") ||
           curl_easy_setopt(q, CURLOPT_FOLLOWLOCATION, 0L) ||
           curl_easy_setopt(q, CURLOPT_ACCEPT_ENCODING, "") ||
           curl_easy_setopt(q, CURLOPT_NOSIGNAL, 1L) ||
           curl_easy_setopt(q, CURLOPT_CONNECTTIMEOUT_MS, h->connect_ms) ||
           curl_easy_setopt(q, CURLOPT_TCP_KEEPALIVE, 1L) ||
           curl_easy_setopt(q, CURLOPT_TCP_KEEPIDLE, 60L) ||
           curl_easy_setopt(q, CURLOPT_TCP_KEEPINTVL, 60L) ||
           curl_easy_setopt(q, CURLOPT_SOCKOPTFUNCTION, on_new_socket) ||
           curl_easy_setopt(q, CURLOPT_SOCKOPTDATA, (void *)h) ||
           curl_easy_setopt(q, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket) ||
           curl_easy_setopt(q, CURLOPT_CLOSESOCKETDATA, (void *)h) ||
           curl_easy_setopt(q, CURLOPT_USERAGENT, "nightmill/" NIGHTMILL_VERSION) ||
           (*h->ca_file && curl_easy_setopt(q, CURLOPT_CAINFO, h->ca_file));
}

static struct http_call *call_new(struct http *h)
{
    struct http_call *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->http = h;
    c->easy = curl_easy_init();
    if (c->easy == NULL || set_up(h, c)) {
        call_free(c);
        return NULL;
    }
    return c;
}

/* What differs from the many POSTs to one place; the handle is used again. */
static CURLcode aim(struct http *h, struct http_call *c, const struct http_post *p)
{
    bool elsewhere = p->url || p->get, was = c->elsewhere;
    CURLcode rc = CURLE_OK;
    if (!elsewhere && !was)
        return rc;
    c->elsewhere = elsewhere;
    rc = curl_easy_setopt(c->easy, CURLOPT_URL, p->url ? p->url : h->url);
    return rc ? rc
              : curl_easy_setopt(c->easy, p->get ? CURLOPT_HTTPGET : CURLOPT_POST, 1L);
}

struct http_call *http_post(struct http *h, const struct http_post *p, struct err *e)
{
    struct http_call *c = h->kept;
    if (c) {
        unlink_call(&h->kept, c);
        h->kept_len--;
    } else if ((c = call_new(h)) == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    c->post = *p;
    c->left = false;
    c->sent = 0;
    c->len = c->headers_len = 0;
    c->headers[0] = c->why[0] = '\0';
    c->began = c->streaming = c->headed = false;
    c->socket = CURL_SOCKET_BAD;
    c->broke = ANSWER_WHOLE;
    c->last_at = (int64_t)uv_now(h->loop);
    if (curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, p->body) ||
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)p->body_len) ||
        aim(h, c, p) || curl_multi_add_handle(h->multi, c->easy) != CURLM_OK) {
        call_free(c);
        err_set(e, ERR_NOMEM, "the request could not be set up");
        return NULL;
    }
    if (h->calls == NULL) {
        int64_t shortest = h->idle_ms < h->first_byte_ms ? h->idle_ms
                                                         : h->first_byte_ms;
        uint64_t every = shortest >= 4000 ? 1000 : (uint64_t)shortest / 4 + 1;
        uv_timer_start(&h->dog, on_dog, every, every);
    }
    link_call(&h->calls, c);
    return c;
}

char *http_take_body(struct http_call *c)
{
    char *body = c->body;
    c->body = NULL;
    c->size = c->len = 0;
    return body;
}

bool http_left(const struct http_call *c)
{
    return c->left;
}

void http_cancel(struct http_call *c)
{
    call_over(c);
}

/* --- the client --- */

static int add_header(struct http *h, const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 3;
    char *line = malloc(size);
    if (line == NULL)
        return -1;
    snprintf(line, size, "%s: %s", name, value);
    struct curl_slist *grown = curl_slist_append(h->headers, line);
    explicit_bzero(line, size);
    free(line);
    if (grown == NULL)
        return -1;
    h->headers = grown;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct http *h = handle->data;
    if (--h->handles > 0)
        return;
    for (struct curl_slist *l = h->headers; l; l = l->next)
        explicit_bzero(l->data, strlen(l->data));
    curl_slist_free_all(h->headers);
    free(h->watches);
    free(h->url);
    free(h->ca_file);
    free(h);
}

static void set_multi(struct http *h)
{
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, 1024L);
}

struct http *http_new(uv_loop_t *loop, const struct http_opts *o, struct err *e)
{
    struct http *h = calloc(1, sizeof *h);
    if (h == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    h->loop = loop;
    h->first_byte_ms = o->first_byte_ms;
    h->idle_ms = o->idle_ms;
    h->connect_ms = (long)o->connect_ms;
    uv_timer_init(loop, &h->timer);
    uv_timer_init(loop, &h->dog);
    h->timer.data = h->dog.data = h;
    h->handles = 2;
    h->url = strdup(o->url);
    h->ca_file = strdup(o->ca_file);
    h->multi = curl_multi_init();
    if (h->url == NULL || h->ca_file == NULL || h->multi == NULL ||
        add_header(h, "content-type", "application/json") < 0 ||
        add_header(h, "accept", "application/json") < 0 ||
        add_header(h, "anthropic-version", o->version) < 0 ||
        add_header(h, "x-api-key", o->key) < 0 ||
        (*o->beta && add_header(h, "anthropic-beta", o->beta) < 0) ||
        add_header(h, "expect", "") < 0) {
        err_set(e, ERR_NOMEM, "out of memory");
        http_free(h);
        return NULL;
    }
    set_multi(h);
    return h;
}

static void free_kept(struct http *h)
{
    for (struct http_call *c = h->kept, *next; c; c = next) {
        next = c->next;
        call_free(c);
    }
    h->kept = NULL;
    h->kept_len = 0;
}

/* Closes what is kept open. */
static void let_go(struct http *h)
{
    curl_multi_cleanup(h->multi);
    for (size_t i = 0; i < h->watches_size; i++)
        if (h->watches[i])
            watch_end(h->watches[i]);
}

void http_rest(struct http *h)
{
    CURLM *fresh = h->calls ? NULL : curl_multi_init();
    if (fresh == NULL)
        return;
    free_kept(h);
    let_go(h);
    uv_timer_stop(&h->timer);
    h->multi = fresh;
    set_multi(h);
}

void http_free(struct http *h)
{
    if (h == NULL)
        return;
    while (h->calls)
        call_over(h->calls); /* NOLINT(clang-analyzer-unix.Malloc) */
    free_kept(h);
    let_go(h);
    uv_close((uv_handle_t *)&h->timer, on_closed);
    uv_close((uv_handle_t *)&h->dog, on_closed);
}
