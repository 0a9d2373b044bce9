#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What came back from one sending, or how it broke. The plain facts: what they mean is
 * for verdict.h to say.
 */
enum answer_break {
    ANSWER_WHOLE,     /* status, headers and body came to their proper end */
    BREAK_RESOLVE,    /* no address for the host */
    BREAK_CONNECT,    /* refused, unreachable, or the connect watchdog */
    BREAK_TLS,        /* handshake or certificate */
    BREAK_RESET,      /* closed before the answer was whole */
    BREAK_FIRST_BYTE, /* the first-byte watchdog */
    BREAK_IDLE,       /* the idle watchdog, in the middle of an answer */
    BREAK_TOO_LARGE,  /* longer than the ceiling on every answer */
    BREAK_CUT,        /* a stream that ended without message_stop */
    BREAK_GARBLED,    /* bytes that are no HTTP, no event stream or no JSON */
    BREAK_OTHER,
    BREAK_COUNT
};

struct answer {
    enum answer_break broke;
    const char *why; /* a sentence where it broke; else "" */
    long status;     /* HTTP; 0: no status line came */
    bool left;       /* at least a byte of the request's body left the house */
    const char
        *headers;     /* "name: value\n" lines, names in lower case, NUL-terminated */
    const char *body; /* NUL-terminated; of a stream, the message it amounts to */
    size_t body_len;
    bool streamed; /* `body` was put together from events */
};

/* The value of a header, copied into `buf` and trimmed; NULL if absent. A value that
 * does not fit is cut. `name` in lower case. The first of several wins. */
const char *answer_header(const struct answer *a, const char *name, char *buf,
                          size_t size);

/* A date at the beginning of `text` as answers write them (RFC 3339, `2026-08-09 at
 * 00:00 UTC`, HTTP's): wall ms. 0: none. */
int64_t answer_date(const char *text);

/* How long the answer asks to wait: retry-after-ms, else retry-after as seconds or as
 * an HTTP date against `wall_ms`. Any length is legal. -1: it does not say. */
int64_t answer_retry_ms(const struct answer *a, int64_t wall_ms);

/*
 * The limits of the account's class of models, as anthropic-ratelimit-* headers tell
 * them: a minute's worth, and what is left of it (tokens to the nearest 1,000). -1: not
 * told. In one pass over the headers: it is asked of every answer.
 */
enum { LIMIT_REQUESTS, LIMIT_INPUT, LIMIT_OUTPUT, LIMIT_COUNT };

struct answer_limits {
    int64_t limit[LIMIT_COUNT], remaining[LIMIT_COUNT];
};

/* True: at least one of them was told. */
bool answer_limits(const struct answer *a, struct answer_limits *ret);

#endif
