#ifndef SENDER_H
#define SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct answer;
struct err;

/*
 * A way of sending: one file behind this interface. A call is one exchange with the
 * outside and carries attempts: one for a message, many for a batch. Of every call that
 * was started the sender tells, from the loop and never from inside start():
 *
 *   headers(owner, answer)  status and headers of what is coming, before report(), at
 *                           most once an attempt; not a place to cancel from
 *   report(owner, answer)   an attempt's answer, any number of times a call
 *   ended(call's owner)     once, last; attempts without a report by then have none
 *
 * unless cancel() comes first, after which nothing is told.
 */
struct sending {
    void *owner; /* of this attempt; given back in report() */
    const char *model;
    const char *effort;  /* "": not said */
    int64_t max_tokens;  /* in force; put into the body unless ASKS_MAX_TOKENS, */
    bool stream;         /* its begin has to be seen early */
    bool raised;         /* or in the place of the job's own */
    unsigned asks;       /* enum job_asks */
    const char *members; /* the body's members, borrowed until the call has ended */
    size_t members_len;
};

struct sender_call;

struct sender_told {
    /* `a` is lent for the call. `*keep`: set it to take the body that `a` points to. */
    void (*report)(void *owner, const struct answer *a, char **keep);
    void (*ended)(void *owner);
    void (*headers)(void *owner, const struct answer *a); /* NULL: nobody asks */
};

enum sender_recovery {
    RECOVER_DOUBT, /* it may have been answered, and nobody can say */
    RECOVER_OUT,   /* it is still out and will report */
};

struct sender {
    struct sender_call *(*start)(struct sender *s, void *owner,
                                 const struct sending *list, size_t n, struct err *e);
    /* What an attempt that a dead run left out has become. */
    enum sender_recovery (*recover)(struct sender *s, int64_t attempt);
    bool (*left)(const struct sender_call *c); /* has a byte left the house? */
    void (*cancel)(struct sender_call *c);
    void (*rest)(
        struct sender *s); /* nothing is out: what it keeps for the next is let go */
    void (*free)(struct sender *s); /* then run the loop until it is empty */
};

#endif
