#include "fake_api.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct fake_conn {
    struct fake_conn *prev, *next;
    struct fake_api *api;
    uv_tcp_t tcp;
    uv_timer_t timer;
    int handles;
    bool silent, closing;
    char *in; /* what came and is not answered */
    size_t in_len;
    char *out; /* what is still to be said */
    size_t out_len, out_at;
    struct fake_reply reply;
};

struct saying {
    uv_write_t write;
    char bytes[];
};

static void on_closed(uv_handle_t *handle)
{
    struct fake_conn *c = handle->data;
    if (--c->handles > 0)
        return;
    if (c->prev)
        c->prev->next = c->next;
    else
        c->api->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->api->open--;
    free(c->in);
    free(c->out);
    free(c);
}

static void conn_close(struct fake_conn *c, bool reset)
{
    if (c->closing)
        return;
    c->closing = true;
    if (!reset || uv_tcp_close_reset(&c->tcp, on_closed) != 0)
        uv_close((uv_handle_t *)&c->tcp, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
}

static void on_said(uv_write_t *write, int status)
{
    (void)status;
    free(write);
}

static void say(struct fake_conn *c, const char *bytes, size_t len)
{
    struct saying *s = malloc(sizeof *s + len);
    assert(s != NULL);
    memcpy(s->bytes, bytes, len);
    uv_buf_t buf = uv_buf_init(s->bytes, (unsigned)len);
    if (uv_write(&s->write, (uv_stream_t *)&c->tcp, &buf, 1, on_said) != 0)
        free(s);
}

static void read_on(struct fake_conn *c);

static void say_next(struct fake_conn *c)
{
    size_t n = c->out_len - c->out_at;
    if (c->reply.piece > 0 && n > c->reply.piece)
        n = c->reply.piece;
    if (n > 0)
        say(c, c->out + c->out_at, n);
    c->out_at += n;
    if (c->out_at < c->out_len)
        return;
    uv_timer_stop(&c->timer);
    free(c->out);
    c->out = NULL;
    switch (c->reply.then) {
    case KEEP_OPEN:
        read_on(c);
        break;
    case HANG_UP:
    case RESET:
        conn_close(c, c->reply.then == RESET);
        break;
    case STAY_SILENT:
        c->silent = true;
        break;
    }
}

static void on_timer(uv_timer_t *timer)
{
    say_next(timer->data);
}

static void answer(struct fake_conn *c, const char *body, size_t len)
{
    struct fake_api *api = c->api;
    size_t turn = (size_t)api->asked - 1;
    c->reply = api->script[turn < api->script_len ? turn : api->script_len - 1];
    const struct fake_reply *r = &c->reply;
    if (r->body) {
        body = r->body;
        len = strlen(body);
    }
    const char *headers = r->headers ? r->headers : "";
    size_t room = 200 + strlen(headers) + len;
    c->out = r->raw ? strdup(r->raw) : malloc(room);
    assert(c->out != NULL);
    c->out_at = 0;
    if (r->raw) {
        c->out_len = strlen(r->raw);
    } else if (r->status == 0) {
        c->out_len = 0;
    } else {
        int n = snprintf(c->out, room,
                         "HTTP/1.1 %ld Said\r\n%sContent-Length: %zu\r\n\r\n",
                         r->status, headers, len);
        memcpy(c->out + n, body, len);
        c->out_len = (size_t)n + len;
    }
    if (r->only > 0 && r->only < c->out_len)
        c->out_len = r->only;
    if (r->piece > 0)
        uv_timer_start(&c->timer, on_timer, r->every_ms, r->every_ms ? r->every_ms : 1);
    else
        say_next(c);
}

/* The next whole request out of what came, if it is all there. */
static void read_on(struct fake_conn *c)
{
    static const char length[] = "content-length:";
    if (c->silent || c->closing || c->out || c->in_len == 0)
        return;
    char *end = strstr(c->in, "\r\n\r\n");
    if (end == NULL)
        return;
    size_t head = (size_t)(end - c->in) + 4, body = 0;
    for (const char *p = c->in; p < end; p = strstr(p, "\r\n") + 2)
        if (strncasecmp(p, length, sizeof length - 1) == 0)
            body = strtoul(p + sizeof length - 1, NULL, 10);
    if (c->in_len < head + body)
        return;
    struct fake_api *api = c->api;
    api->asked++;
    free(api->request);
    api->request = strndup(c->in, head + body);
    char *own = strndup(c->in + head, body);
    c->in_len -= head + body;
    memmove(c->in, c->in + head + body, c->in_len + 1);
    answer(c, own, body);
    free(own);
}

static void want_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle;
    *buf = uv_buf_init(malloc(suggested), (unsigned)suggested);
}

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct fake_conn *c = stream->data;
    if (n > 0 && !c->closing) {
        c->in = realloc(c->in, c->in_len + (size_t)n + 1);
        assert(c->in != NULL);
        memcpy(c->in + c->in_len, buf->base, (size_t)n);
        c->in_len += (size_t)n;
        c->in[c->in_len] = '\0';
    }
    free(buf->base);
    if (n < 0)
        conn_close(c, false);
    else
        read_on(c);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct fake_api *api = listener->data;
    struct fake_conn *c = calloc(1, sizeof *c);
    assert(status == 0 && c != NULL);
    c->api = api;
    c->tcp.data = c->timer.data = c;
    c->handles = 2;
    uv_tcp_init(listener->loop, &c->tcp);
    uv_timer_init(listener->loop, &c->timer);
    c->next = api->conns;
    if (c->next)
        c->next->prev = c;
    api->conns = c;
    api->connections++;
    api->open++;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0)
        conn_close(c, false);
    else
        uv_read_start((uv_stream_t *)&c->tcp, want_room, on_bytes);
}

void fake_api_start(struct fake_api *api, uv_loop_t *loop,
                    const struct fake_reply *script, size_t script_len)
{
    struct sockaddr_in at;
    int len = sizeof at;
    *api = (struct fake_api){.script = script, .script_len = script_len};
    uv_ip4_addr("127.0.0.1", 0, &at);
    uv_tcp_init(loop, &api->listener);
    api->listener.data = api;
    int rc = uv_tcp_bind(&api->listener, (const struct sockaddr *)&at, 0);
    assert(rc == 0);
    rc = uv_listen((uv_stream_t *)&api->listener, 512, on_connection);
    assert(rc == 0);
    rc = uv_tcp_getsockname(&api->listener, (struct sockaddr *)&at, &len);
    assert(rc == 0);
    (void)rc;
    snprintf(api->url, sizeof api->url, "http://127.0.0.1:%d/v1/messages",
             ntohs(at.sin_port));
}

void fake_api_hang_up(struct fake_api *api)
{
    for (struct fake_conn *c = api->conns; c; c = c->next)
        conn_close(c, false);
}

void fake_api_stop(struct fake_api *api)
{
    fake_api_hang_up(api);
    uv_close((uv_handle_t *)&api->listener, NULL);
}

void fake_api_free(struct fake_api *api)
{
    free(api->request);
    api->request = NULL;
}
