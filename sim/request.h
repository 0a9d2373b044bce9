#ifndef REQUEST_H
#define REQUEST_H

#include "sim/peer.h"
#include "sim/timers.h"

#include <microhttpd.h>
#include <stdint.h>

/*
 * HTTP requests from their line to their end: read whole, given to whom they are for,
 * answered when their time has come. While one waits it costs memory, not a thread.
 */
struct api;
struct request;
struct settings;

/* What all of them share. The caller fills in the first five and frees the timers. */
struct requests {
    struct api *api;
    struct settings *settings;
    int epoll; /* tells of clients that left a stalled request: the event's pointer is
                  the request */
    int64_t start_ns;
    struct peers peers;
    struct timers timers;
    struct request *first;
};

/* Nanoseconds since start_ns. */
int64_t requests_now_ns(const struct requests *all);

/* For the HTTP library; `arg` is the struct requests. The context of a connection's
 * socket is its struct peer. */
enum MHD_Result request_on_access(void *arg, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version,
                                  const char *upload, size_t *upload_len,
                                  void **con_cls);
void request_on_completed(void *arg, struct MHD_Connection *c, void **con_cls,
                          enum MHD_RequestTerminationCode code);

/* Those whose moment has come go on. */
void requests_wake_due(struct requests *all);
/* The epoll said that its client is gone. */
void request_left(struct request *rq);
/* Nobody is answered any more: before the library is stopped. */
void requests_give_up(struct requests *all);

#endif
