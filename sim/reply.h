#ifndef REPLY_H
#define REPLY_H

#include "sim/words.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What goes back for one request, and how: when its bytes may leave, and whether it
 * comes to a good end. Built by api.c, carried out by server.c.
 */

enum reply_end {
    REPLY_WHOLE,
    REPLY_RESET,     /* not a byte, the connection breaks */
    REPLY_STALL,     /* not a byte, ever */
    REPLY_RESET_MID, /* headers and the first `sent` bytes, then it breaks */
    REPLY_STALL_MID, /* likewise, then nothing more */
};

enum { REPLY_HEADERS_MAX = 24, REPLY_VALUE_MAX = 128, REPLY_MARKS_MAX = 4096 };

struct reply_header {
    const char *name; /* static */
    char value[REPLY_VALUE_MAX];
};

/* Up to `upto` the body may leave `after_ns` after the request was whole. */
struct reply_mark {
    size_t upto;
    int64_t after_ns;
    int64_t tokens; /* of output, that this piece brings */
};

struct reply {
    int status;
    const char *content_type; /* static; NULL: none */
    struct text body;
    size_t padding; /* blanks behind it, made on the fly */
    enum reply_end end;
    size_t sent;     /* of a reply that ends badly */
    bool streamed;   /* chunked, in pieces as the marks say */
    int64_t wait_ns; /* of a reply that is not streamed: until its first byte */
    struct reply_mark *marks;
    size_t mark_count, mark_room;
    size_t header_count;
    struct reply_header headers[REPLY_HEADERS_MAX];
};

/* Ready for use again; what it held is freed. */
void reply_clear(struct reply *r);
void reply_header(struct reply *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* All of the body so far belongs before this mark. */
void reply_mark(struct reply *r, int64_t after_ns, int64_t tokens);

#endif
