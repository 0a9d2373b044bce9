#ifndef FAKE_API_H
#define FAKE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/*
 * A fake API in the loop of the test: a script of replies, one a request, the last one
 * again and again. It reads whole requests, and knows nothing of what they mean.
 */
enum fake_then {
    KEEP_OPEN,
    HANG_UP,     /* close, politely */
    RESET,       /* close, with a reset */
    STAY_SILENT, /* say nothing more, ever */
};

struct fake_reply {
    long status;         /* 0: not a byte is said */
    const char *headers; /* "Name: value\r\n" lines; NULL: none but the length */
    const char *body;    /* NULL: the request's own */
    const char *raw;     /* the very bytes, in place of all the above */
    size_t only;         /* of the whole reply so many bytes; 0: all */
    size_t piece;        /* so many bytes at a time; 0: at once */
    unsigned every_ms;   /* between pieces */
    enum fake_then then;
};

struct fake_api {
    uv_tcp_t listener;
    const struct fake_reply *script;
    size_t script_len;
    struct fake_conn *conns;
    int asked;       /* whole requests that came */
    int connections; /* ever */
    int open;        /* now */
    char url[64];
    char *request; /* the last one, head and body */
};

/* The loop and the script are borrowed. */
void fake_api_start(struct fake_api *api, uv_loop_t *loop,
                    const struct fake_reply *script, size_t script_len);

/* Close the connections that are open, as a server that is tired of them. */
void fake_api_hang_up(struct fake_api *api);

/* Let go of everything; then run the loop until it is empty, and it may be freed. */
void fake_api_stop(struct fake_api *api);
void fake_api_free(struct fake_api *api);

#endif
