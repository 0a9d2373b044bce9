#include "sim/spoil.h"

#include "sim/front.h"
#include "sim/problem.h"

#include <inttypes.h>
#include <string.h>

bool spoil_instead(struct front *front, const struct fault *f, const char *id,
                   struct reply *r)
{
    if (f->kind == FAULT_reset || f->kind == FAULT_stall) {
        r->end = f->kind == FAULT_reset ? REPLY_RESET : REPLY_STALL;
        return true;
    }
    if (problem_of(f->kind) == NULL)
        return false;

    if (f->kind == FAULT_401)
        r->header_count = 1; /* nobody is told whose key it is not */
    front_refuse(front, f->kind, f->message, id, r);
    if (f->status > 0)
        r->status = (int)f->status;
    if (f->kind == FAULT_redirect)
        reply_header(r, "location", "%s",
                     f->message ? f->message : "http://127.0.0.1:9/");
    if (f->retry_after_s >= 0)
        reply_header(r, "retry-after", "%" PRId64, f->retry_after_s);
    else if (f->kind == FAULT_429 || f->kind == FAULT_acceleration429)
        reply_header(r, "retry-after", "1");
    return true;
}

/* Where a stream breaks: behind the piece that holds its middle. */
static size_t middle_of_stream(struct reply *r)
{
    const char *middle = r->body.at + r->body.len / 2;
    const char *gap = strstr(middle, "\n\n");
    return gap ? (size_t)(gap - r->body.at) + 2 : r->body.len;
}

static void stream_cut(struct reply *r, size_t at)
{
    int64_t last_ns = 0;
    size_t n = 0;
    r->body.len = at;
    r->body.at[at] = '\0';
    for (; n < r->mark_count && (n == 0 || r->marks[n - 1].upto < at); n++)
        last_ns = r->marks[n].after_ns;
    r->mark_count = n;
    if (n > 0) {
        r->marks[n - 1].upto = at;
        r->marks[n - 1].after_ns = last_ns;
    }
}

void spoil_answer(const struct fault *f, const char *id, struct reply *r)
{
    if (r->body.failed)
        return;
    bool stream = r->streamed;
    size_t middle = stream ? middle_of_stream(r) : r->body.len / 2;

    switch (f->kind) {
    case FAULT_reset_mid:
    case FAULT_stall_mid:
        r->end = f->kind == FAULT_reset_mid ? REPLY_RESET_MID : REPLY_STALL_MID;
        r->sent = middle;
        break;
    case FAULT_cut_stream:
    case FAULT_stream_error:
        if (!stream)
            break;
        stream_cut(r, middle);
        if (f->kind == FAULT_cut_stream)
            break;
        text_str(&r->body,
                 "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
                 "\"overloaded_error\",\"message\":\"Overloaded\"},"
                 "\"request_id\":");
        text_json(&r->body, id);
        text_str(&r->body, "}\n\n");
        if (r->mark_count > 0)
            r->marks[r->mark_count - 1].upto = r->body.len;
        break;
    case FAULT_truncated_json:
        if (stream)
            stream_cut(r, r->body.len / 2);
        else
            r->body.len = middle;
        break;
    case FAULT_oversize:
        r->padding = (int64_t)r->body.len < f->bytes ? (size_t)f->bytes - r->body.len
                                                     : 0;
        break;
    default:
        break;
    }
}
