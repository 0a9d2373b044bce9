#include "sim/reply.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void reply_clear(struct reply *r)
{
    text_free(&r->body);
    free(r->marks);
    /* The headers' values are large and stay as they are. */
    memset(r, 0, offsetof(struct reply, headers));
}

void reply_header(struct reply *r, const char *name, const char *fmt, ...)
{
    assert(r->header_count < REPLY_HEADERS_MAX);
    struct reply_header *h = &r->headers[r->header_count++];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(h->value, sizeof h->value, fmt, ap);
    va_end(ap);
    h->name = name;
}

void reply_mark(struct reply *r, int64_t after_ns, int64_t tokens)
{
    struct reply_mark *last = r->mark_count ? &r->marks[r->mark_count - 1] : NULL;

    if (r->mark_count == r->mark_room && r->mark_room < REPLY_MARKS_MAX) {
        size_t room = r->mark_room ? r->mark_room * 2 : 8;
        struct reply_mark *marks = realloc(r->marks, room * sizeof *marks);
        if (marks != NULL) {
            r->marks = marks;
            r->mark_room = room;
            last = r->mark_count ? &marks[r->mark_count - 1] : NULL;
        }
    }
    /* Pieces of one moment, and all beyond the ceiling, become one. */
    if (last == NULL || (last->after_ns != after_ns && r->mark_count < r->mark_room)) {
        if (r->mark_count == r->mark_room) {
            r->body.failed = 1;
            return;
        }
        assert(r->marks); /* there is room, so it was made */
        last = &r->marks[r->mark_count++];
        last->tokens = 0;
    }
    last->upto = r->body.len;
    last->after_ns = after_ns;
    last->tokens += tokens;
}
