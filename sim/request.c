#include "sim/request.h"

#include "sim/api.h"
#include "sim/control.h"
#include "sim/settings.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { READ_BLOCK = 16 * 1024 };

enum route { TO_NOWHERE, TO_MESSAGES, TO_COUNT, TO_MODELS, TO_MODEL, TO_CONTROL };

enum phase {
    READING, /* its body */
    WAITING, /* until the answer may begin */
    SENDING,
    STALLED, /* for ever, or until the client leaves */
};

struct request {
    struct request *next, **link;
    struct requests *all;
    struct peer *peer;
    struct MHD_Connection *connection;
    struct timer timer;
    enum route route;
    enum phase phase;
    bool suspended, watched, gone, too_large;
    int64_t whole_ns;
    char *body;
    size_t len, room;
    size_t mark; /* those before it may leave */
    struct exchange x;
};

int64_t requests_now_ns(const struct requests *all)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec - all->start_ns;
}

static struct peer *peer_of(struct MHD_Connection *c)
{
    return MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
        ->socket_context;
}

/* ---- requests ---- */

static enum route route_of(const char *method, const char *path)
{
    bool post = strcmp(method, "POST") == 0, get = strcmp(method, "GET") == 0;
    if (post && strcmp(path, "/v1/messages") == 0)
        return TO_MESSAGES;
    if (post && strcmp(path, "/v1/messages/count_tokens") == 0)
        return TO_COUNT;
    if (get && strcmp(path, "/v1/models") == 0)
        return TO_MODELS;
    if (get && strncmp(path, "/v1/models/", 11) == 0)
        return TO_MODEL;
    return strncmp(path, "/sim/", 5) == 0 ? TO_CONTROL : TO_NOWHERE;
}

static struct request *request_new(struct requests *all, struct MHD_Connection *c,
                                   const char *method, const char *path)
{
    struct request *rq = malloc(sizeof *rq);
    struct peer *p = peer_of(c);
    if (rq == NULL || p == NULL) {
        free(rq);
        return NULL;
    }
    /* The room for headers is large and needs no zeros. */
    memset(rq, 0, offsetof(struct request, x.reply.headers));
    rq->all = all;
    rq->peer = p;
    rq->connection = c;
    rq->route = route_of(method, path);
    rq->x.row.at_ns = p->first_byte_ns;
    rq->next = all->first;
    rq->link = &all->first;
    if (rq->next)
        rq->next->link = &rq->next;
    all->first = rq;

    if (rq->route == TO_MESSAGES) {
        stats_started(api_stats(all->api), p->first_byte_ns);
        if (p->too_late)
            stats_after_refusal(api_stats(all->api));
    }
    return rq;
}

static void request_free(struct request *rq)
{
    struct requests *all = rq->all;
    timers_drop(&all->timers, &rq->timer);
    if (rq->watched)
        epoll_ctl(all->epoll, EPOLL_CTL_DEL, rq->peer->fd, NULL);
    *rq->link = rq->next;
    if (rq->next)
        rq->next->link = rq->link;
    reply_clear(&rq->x.reply);
    free(rq->body);
    free(rq);
}

static void request_suspend(struct request *rq)
{
    rq->suspended = true;
    MHD_suspend_connection(rq->connection);
}

static void request_wake(struct request *rq)
{
    if (!rq->suspended)
        return;
    rq->suspended = false;
    MHD_resume_connection(rq->connection);
}

/* A stalled connection is out of everybody's sight: notice when its client gives up. */
static void request_stall(struct request *rq)
{
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLHUP | EPOLLERR,
                             .data.ptr = rq};
    rq->phase = STALLED;
    rq->watched = epoll_ctl(rq->all->epoll, EPOLL_CTL_ADD, rq->peer->fd, &ev) == 0;
    request_suspend(rq);
}

void request_on_completed(void *arg, struct MHD_Connection *c, void **con_cls,
                          enum MHD_RequestTerminationCode code)
{
    struct requests *all = arg;
    struct request *rq = *con_cls;
    struct peer *p = peer_of(c);

    if (p != NULL)
        p->busy = false;
    if (rq == NULL)
        return;
    *con_cls = NULL;
    struct exchange *x = &rq->x;
    if (rq->route == TO_MESSAGES) {
        x->row.answered = code == MHD_REQUEST_TERMINATED_COMPLETED_OK &&
                          x->reply.end == REPLY_WHOLE && rq->phase == SENDING;
        /* A stream that its client left is billed as far as it came; an answer that
         * was being made when its client left is billed whole. */
        if (x->admitted && !x->finished && x->reply.streamed)
            x->row.usage.output = x->produced;
        if (x->row.n > 0)
            api_finish(all->api, x, requests_now_ns(all));
        if (rq->phase != SENDING)
            x->row.status = 0;
        api_ended(all->api, x);
        if (x->row.answered && x->refused_for_credit)
            peers_refused_credit(&all->peers, requests_now_ns(all));
    }
    request_free(rq);
}

/* ---- sending ---- */

/* The body of replies that come in pieces, break off, or are too large to be kept. */
static ssize_t want_body(void *arg, uint64_t pos, char *buf, size_t max)
{
    struct request *rq = arg;
    struct requests *all = rq->all;
    struct reply *r = &rq->x.reply;
    size_t stop = r->end == REPLY_WHOLE ? r->body.len + r->padding : r->sent;
    size_t allowed = stop;

    if (rq->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (r->streamed) {
        int64_t now = requests_now_ns(all);
        for (; rq->mark < r->mark_count &&
               r->marks[rq->mark].after_ns <= now - rq->whole_ns;
             rq->mark++)
            api_produced(all->api, &rq->x, r->marks[rq->mark].tokens, now);
        allowed = rq->mark > 0 ? r->marks[rq->mark - 1].upto : 0;
        allowed = allowed < stop && rq->mark < r->mark_count ? allowed : stop;
    }
    if (pos < allowed) {
        size_t n = allowed - pos < max ? allowed - pos : max;
        if (pos >= r->body.len) {
            memset(buf, ' ', n);
        } else {
            n = r->body.len - pos < n ? r->body.len - pos : n;
            memcpy(buf, r->body.at + pos, n);
        }
        return (ssize_t)n;
    }
    if (pos < stop) {
        if (timers_set(&all->timers, &rq->timer,
                       rq->whole_ns + r->marks[rq->mark].after_ns) < 0)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        request_suspend(rq);
        return 0;
    }
    if (rq->route == TO_MESSAGES)
        api_finish(all->api, &rq->x, requests_now_ns(all));
    if (r->end == REPLY_WHOLE)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (r->end == REPLY_RESET_MID)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    request_stall(rq);
    return 0;
}

static enum MHD_Result reply_queue(struct request *rq)
{
    struct requests *all = rq->all;
    struct reply *r = &rq->x.reply;
    struct MHD_Response *response;

    rq->phase = SENDING;
    if (r->body.failed)
        return MHD_NO;
    if (rq->route == TO_MESSAGES) {
        if (!r->streamed)
            api_finish(all->api, &rq->x, requests_now_ns(all));
        api_first_byte(all->api, &rq->x, requests_now_ns(all));
    }
    if (r->streamed || r->padding > 0 || r->end != REPLY_WHOLE) {
        uint64_t size = r->streamed ? MHD_SIZE_UNKNOWN : r->body.len + r->padding;
        response = MHD_create_response_from_callback(size, READ_BLOCK, want_body, rq,
                                                     NULL);
    } else {
        response = MHD_create_response_from_buffer(r->body.len, r->body.at,
                                                   MHD_RESPMEM_MUST_FREE);
        if (response != NULL)
            r->body = (struct text){0};
    }
    if (response == NULL)
        return MHD_NO;
    if (r->content_type)
        MHD_add_response_header(response, "content-type", r->content_type);
    for (size_t i = 0; i < r->header_count; i++)
        MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
    enum MHD_Result rc = MHD_queue_response(rq->connection, (unsigned)r->status,
                                            response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result reply_begin(struct request *rq)
{
    struct reply *r = &rq->x.reply;
    int64_t wait_ns = r->wait_ns;

    if (r->end == REPLY_RESET) {
        struct linger hard = {1, 0};
        setsockopt(rq->peer->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        return MHD_NO;
    }
    if (r->end == REPLY_STALL) {
        request_stall(rq);
        return MHD_YES;
    }
    if (r->streamed && r->mark_count > 0)
        wait_ns = r->marks[0].after_ns;
    if (wait_ns <= 0)
        return reply_queue(rq);

    rq->phase = WAITING;
    if (timers_set(&rq->all->timers, &rq->timer, rq->whole_ns + wait_ns) < 0)
        return MHD_NO;
    request_suspend(rq);
    return MHD_YES;
}

/* ---- reading ---- */

static const char *header(struct request *rq, const char *name)
{
    return MHD_lookup_connection_value(rq->connection, MHD_HEADER_KIND, name);
}

static const char *argument(struct request *rq, const char *name)
{
    return MHD_lookup_connection_value(rq->connection, MHD_GET_ARGUMENT_KIND, name);
}

static void request_serve(struct request *rq, const char *method, const char *path)
{
    struct requests *all = rq->all;
    struct api_request in = {
        .body = rq->body ? rq->body : "", .len = rq->len, .now_ns = rq->whole_ns};
    struct reply *r = &rq->x.reply;

    if (rq->route != TO_CONTROL) {
        const char *bearer = header(rq, "authorization");
        in.key = header(rq, "x-api-key");
        in.version = header(rq, "anthropic-version");
        if (in.key == NULL && bearer && strncasecmp(bearer, "Bearer ", 7) == 0)
            in.key = bearer + 7;
    }
    if (rq->too_large) {
        api_too_large(all->api, &rq->x, rq->route == TO_MESSAGES);
        return;
    }
    switch (rq->route) {
    case TO_MESSAGES:
        in.job = header(rq, "x-job-id");
        api_message(all->api, &in, &rq->x);
        break;
    case TO_COUNT:
        api_count_tokens(all->api, &in, r);
        break;
    case TO_MODELS:
        api_models(all->api, &in, argument(rq, "limit"), argument(rq, "after_id"),
                   argument(rq, "before_id"), r);
        break;
    case TO_MODEL:
        api_model(all->api, &in, path + strlen("/v1/models/"), r);
        break;
    case TO_CONTROL: {
        const char *jobs = argument(rq, "jobs");
        control_serve(all->api, all->settings,
                      &(struct control_request){.method = method,
                                                .path = path,
                                                .jobs = jobs && strcmp(jobs, "0") != 0,
                                                .body = in.body,
                                                .len = in.len,
                                                .now_ns = in.now_ns},
                      r);
        break;
    }
    case TO_NOWHERE:
        api_nowhere(all->api, r);
        break;
    }
}

static bool body_add(struct request *rq, const char *data, size_t len)
{
    if (rq->too_large || rq->len + len > API_BODY_MAX) {
        rq->too_large = true;
        return true; /* read on: an answer may come at the end only */
    }
    if (rq->len + len > rq->room) {
        size_t room = rq->room ? rq->room * 2 : 4096;
        while (room < rq->len + len)
            room *= 2;
        char *body = realloc(rq->body, room);
        if (body == NULL)
            return false;
        rq->body = body;
        rq->room = room;
    }
    memcpy(rq->body + rq->len, data, len);
    rq->len += len;
    return true;
}

/* Of a body whose length was said there is no need to guess. */
static void body_expect(struct request *rq)
{
    int64_t len;
    const char *said = header(rq, "content-length");
    if (said == NULL || words_int(said, 1, INT64_MAX, &len) < 0)
        return;
    if (len > API_BODY_MAX)
        rq->too_large = true;
    else if ((rq->body = malloc((size_t)len)) != NULL)
        rq->room = (size_t)len;
}

enum MHD_Result request_on_access(void *arg, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version,
                                  const char *upload, size_t *upload_len,
                                  void **con_cls)
{
    struct requests *all = arg;
    struct request *rq = *con_cls;
    (void)version;

    if (rq == NULL) {
        rq = request_new(all, c, method, url);
        if (rq == NULL)
            return MHD_NO;
        *con_cls = rq;
        body_expect(rq);
        /* Who asks first is told before the body is sent. All others are heard to their
         * end: an answer in the middle may be lost with the connection. */
        if (!rq->too_large || header(rq, "expect") == NULL)
            return MHD_YES;
        request_serve(rq, method, url);
        return reply_begin(rq);
    }
    if (*upload_len > 0) {
        bool kept = body_add(rq, upload, *upload_len);
        *upload_len = 0;
        return kept ? MHD_YES : MHD_NO;
    }
    if (rq->phase == SENDING)
        return MHD_YES;
    if (rq->phase == READING) {
        rq->whole_ns = requests_now_ns(all);
        request_serve(rq, method, url);
        return reply_begin(rq);
    }
    return rq->gone || rq->phase == STALLED ? MHD_NO : reply_queue(rq);
}

/* ---- waking ---- */

void requests_wake_due(struct requests *all)
{
    struct timer *t;
    while ((t = timers_due(&all->timers, requests_now_ns(all))) != NULL)
        request_wake((struct request *)((char *)t - offsetof(struct request, timer)));
}

void request_left(struct request *rq)
{
    epoll_ctl(rq->all->epoll, EPOLL_CTL_DEL, rq->peer->fd, NULL);
    rq->watched = false;
    rq->gone = true;
    request_wake(rq);
}

void requests_give_up(struct requests *all)
{
    for (struct request *rq = all->first; rq; rq = rq->next) {
        rq->gone = true;
        request_wake(rq);
    }
}
