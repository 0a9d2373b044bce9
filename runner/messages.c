#include "runner/messages.h"

#include "conf/conf.h"
#include "jobs/job.h"
#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"
#include "runner/answer.h"
#include "runner/err.h"
#include "runner/http.h"
#include "runner/sse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct messages {
    struct sender sender; /* first: the interface is this */
    struct http *http;
    struct sender_told told;
    int64_t max_answer, stream_above;
    int stream;
};

struct sender_call {
    struct messages *messages;
    struct http_call *http;
    struct textbuf body;
    struct sse *sse; /* NULL: not streamed */
    void *call_owner, *owner;
};

/* Where the job's own max_tokens stand, others do now. */
static void put_members_raised(struct textbuf *b, const struct sending *s)
{
    struct json_want want[] = {{.key = "max_tokens"}};
    struct textbuf whole = {0};
    textbuf_puts(&whole, "{");
    textbuf_put(&whole, s->members, s->members_len);
    textbuf_puts(&whole, "}");
    if (!whole.failed && json_scan(whole.at, whole.len, want, 1, NULL) == 0 &&
        want[0].value.at) {
        size_t at = (size_t)(want[0].value.at - whole.at) - 1;
        textbuf_put(b, s->members, at);
        textbuf_putf(b, "%lld", (long long)s->max_tokens);
        at += want[0].value.len;
        textbuf_put(b, s->members + at, s->members_len - at);
    } else {
        textbuf_put(b, s->members, s->members_len);
    }
    b->failed = b->failed || whole.failed;
    textbuf_free(&whole);
}

/*
 * A job with an output_config of its own gets the rung's effort into that object: as
 * its first member, so that the rest stays as it came.
 */
static void put_members_with_effort(struct textbuf *b, const struct sending *s)
{
    struct textbuf whole = {0};
    struct json_want want[] = {{.key = "output_config"}};
    textbuf_puts(&whole, "{");
    textbuf_put(&whole, s->members, s->members_len);
    textbuf_puts(&whole, "}");
    size_t cut = 0;
    if (!whole.failed && json_scan(whole.at, whole.len, want, 1, NULL) == 0 &&
        json_type(want[0].value) == '{')
        cut = (size_t)(want[0].value.at - whole.at); /* of the members: one `{` less */
    textbuf_put(b, s->members, cut);
    if (cut > 0) {
        size_t pos = 0;
        struct json_span v;
        bool more = json_next(want[0].value, &pos, NULL, &v);
        textbuf_puts(b, "\"effort\":");
        textbuf_json(b, s->effort);
        if (more)
            textbuf_puts(b, ",");
    }
    textbuf_put(b, s->members + cut, s->members_len - cut);
    b->failed = b->failed || whole.failed;
    textbuf_free(&whole);
}

void messages_body(struct textbuf *b, const struct sending *job, bool stream)
{
    struct textbuf raised = {0};
    struct sending own = *job;
    const struct sending *s = &own;
    if (own.raised && (own.asks & ASKS_MAX_TOKENS)) {
        put_members_raised(&raised, job);
        own.members = raised.at;
        own.members_len = raised.len;
        b->failed = b->failed || raised.failed;
    }
    bool effort = *s->effort && !(s->asks & ASKS_EFFORT);
    textbuf_puts(b, "{\"model\":");
    textbuf_json(b, s->model);
    if (!(s->asks & ASKS_MAX_TOKENS))
        textbuf_putf(b, ",\"max_tokens\":%lld", (long long)s->max_tokens);
    if (stream)
        textbuf_puts(b, ",\"stream\":true");
    if (effort && !(s->asks & ASKS_OUTPUT_CONFIG)) {
        textbuf_puts(b, ",\"output_config\":{\"effort\":");
        textbuf_json(b, s->effort);
        textbuf_puts(b, "}");
    }
    textbuf_puts(b, ",");
    if (effort && (s->asks & ASKS_OUTPUT_CONFIG))
        put_members_with_effort(b, s);
    else
        textbuf_put(b, s->members, s->members_len);
    textbuf_puts(b, "}");
    textbuf_free(&raised);
}

bool messages_streams(const struct sending *s, int when, int64_t above)
{
    if (when != STREAM_AUTO)
        return when == STREAM_ALWAYS;
    return s->stream || (s->asks & ASKS_STREAM) || s->max_tokens > above;
}

static void call_free(struct sender_call *c)
{
    sse_free(c->sse);
    textbuf_free(&c->body);
    free(c);
}

static int on_bytes(void *arg, const char *bytes, size_t len)
{
    struct sender_call *c = arg;
    return sse_feed(c->sse, bytes, len, NULL);
}

static void on_headers(void *arg, const struct answer *a)
{
    struct sender_call *c = arg;
    c->messages->told.headers(c->owner, a);
}

/* What a stream amounts to, in place of the body that did not come. The text, if any,
 * is put into `*made`. */
static struct answer of_stream(const struct sender_call *c, const struct answer *a,
                               char **made)
{
    struct answer s = *a;
    const char *error = sse_error(c->sse);
    s.streamed = true;
    s.body = "";
    s.body_len = 0;
    if (error) {
        s.body = error;
        s.body_len = strlen(error);
        s.broke = ANSWER_WHOLE;
        return s;
    }
    if (sse_whole(c->sse)) {
        s.broke =
            ANSWER_WHOLE; /* how the line ended after the last word is no matter */
        s.why = "";
    } else if (a->broke == ANSWER_WHOLE) {
        s.broke = BREAK_CUT;
        s.why = "the stream ended without message_stop";
    }
    *made = sse_message(c->sse, &s.body_len);
    if (*made)
        s.body = *made;
    else if (s.broke == ANSWER_WHOLE)
        s.broke = BREAK_GARBLED;
    return s;
}

static void on_answer(void *arg, const struct answer *a)
{
    struct sender_call *c = arg;
    struct messages *ms = c->messages;
    void *owner = c->owner, *call_owner = c->call_owner;
    char *made = NULL, *keep = NULL;
    struct answer s = *a;

    if (a->streamed)
        s = of_stream(c, a, &made);
    else if (a->body_len > 0)
        made = http_take_body(c->http);
    c->http = NULL;
    ms->told.report(owner, &s, made && s.body == made ? &made : &keep);
    free(made);
    call_free(c);
    ms->told.ended(call_owner);
}

static struct sender_call *messages_start(struct sender *sender, void *owner,
                                          const struct sending *list, size_t n,
                                          struct err *e)
{
    struct messages *ms = (struct messages *)sender;
    struct sender_call *c = n == 1 ? calloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    bool stream = messages_streams(list, ms->stream, ms->stream_above);
    c->messages = ms;
    c->call_owner = owner;
    c->owner = list->owner;
    messages_body(&c->body, list, stream);
    if (stream)
        c->sse = sse_new((size_t)ms->max_answer);
    if (c->body.failed || (stream && c->sse == NULL)) {
        err_set(e, ERR_NOMEM, "out of memory");
        call_free(c);
        return NULL;
    }
    c->http = http_post(
        ms->http,
        &(struct http_post){.body = c->body.at,
                            .body_len = c->body.len,
                            .max_answer = (size_t)ms->max_answer,
                            .on_bytes = stream ? on_bytes : NULL,
                            .on_headers = ms->told.headers ? on_headers : NULL,
                            .on_answer = on_answer,
                            .arg = c},
        e);
    if (c->http == NULL) {
        call_free(c);
        return NULL;
    }
    return c;
}

static enum sender_recovery messages_recover(struct sender *sender, int64_t attempt)
{
    (void)sender;
    (void)attempt;
    return RECOVER_DOUBT;
}

static bool messages_left(const struct sender_call *c)
{
    return http_left(c->http);
}

static void messages_cancel(struct sender_call *c)
{
    http_cancel(c->http);
    call_free(c);
}

static void messages_rest(struct sender *sender)
{
    http_rest(((struct messages *)sender)->http);
}

static void messages_free(struct sender *sender)
{
    struct messages *ms = (struct messages *)sender;
    http_free(ms->http);
    free(ms);
}

struct sender *messages_new(uv_loop_t *loop, const struct conf *conf, const char *key,
                            const struct sender_told *told, struct err *e)
{
    struct messages *ms = calloc(1, sizeof *ms);
    char url[2048];
    if (ms == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    size_t n = strlen(conf->api.base_url);
    while (n > 0 && conf->api.base_url[n - 1] == '/')
        n--;
    snprintf(url, sizeof url, "%.*s/v1/messages", (int)n, conf->api.base_url);
    ms->sender = (struct sender){messages_start,  messages_recover, messages_left,
                                 messages_cancel, messages_rest,    messages_free};
    ms->told = *told;
    ms->max_answer = conf->api.max_answer;
    ms->stream = conf->api.stream;
    ms->stream_above = conf->api.stream_above;
    ms->http = http_new(loop,
                        &(struct http_opts){.url = url,
                                            .key = key,
                                            .version = conf->api.version,
                                            .beta = conf->api.beta,
                                            .ca_file = conf->api.ca_file,
                                            .connect_ms = conf->api.connect_ms,
                                            .first_byte_ms = conf->api.first_byte_ms,
                                            .idle_ms = conf->api.idle_ms},
                        e);
    if (ms->http == NULL) {
        free(ms);
        return NULL;
    }
    return &ms->sender;
}
