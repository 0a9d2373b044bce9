#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The connections, and what each had sent when the first refusal for credit was
 * written: what was sent before the refusal could be read is nobody's fault, so
 * requests that lie in our sockets then are told apart from those that are sent from
 * then on.
 */
struct stats;

struct peer {
    struct peer *next, **link;
    int fd;
    bool busy;        /* with a request */
    bool came_before; /* something of its next request was here before the refusal left
                       */
    bool too_late;    /* the request at hand came after it */
    int64_t first_byte_ns;
};

struct peers {
    struct peer *first;
    struct stats *stats;          /* borrowed */
    int64_t round, refusal_round; /* of the loop; refusal_round -1: none yet */
};

/* NULL without memory. */
struct peer *peers_opened(struct peers *ps, int fd);
void peers_closed(struct peers *ps, struct peer *p);

/* A request of this peer begins. Whoever ends it clears `busy`. */
void peers_heard(struct peers *ps, struct peer *p, int64_t now_ns);
/* A refusal for credit has been written; only the first matters. */
void peers_refused_credit(struct peers *ps, int64_t now_ns);

#endif
