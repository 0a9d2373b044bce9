#ifndef FAULT_H
#define FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/*
 * What goes wrong, and when. A fault counts the requests that its `match` admits
 * (without one: all), from the moment it is set; it fires when all of its conditions
 * hold. Without a condition it fires every time. The first fault that fires wins.
 * Pure: time and chance come in as arguments or from a seed.
 */

/* The formatter would indent each row a step further, every time. */
/* clang-format off */
#define FAULT_KINDS(X)                                                           \
    X(400) X(402) X(401) X(403) X(404) X(408) X(409) X(413) X(422) X(429)        \
    X(500) X(502) X(503) X(504) X(529) X(credit) X(spend_own) X(spend_workspace) \
    X(spend_tier) X(bare429) X(concurrency429) X(acceleration429)                \
    X(longcontext429) X(reset) X(reset_mid) X(stall) X(stall_mid)                \
    X(cut_stream) X(stream_error) X(html) X(html200) X(oversize) X(empty200)     \
    X(truncated_json) X(refusal) X(empty_turn) X(pause_turn) X(redirect)
/* clang-format on */

enum fault_kind {
    FAULT_NONE,
#define X(name) FAULT_##name,
    FAULT_KINDS(X)
#undef X
        FAULT_KIND_COUNT
};

enum { FAULTS_MAX = 64, FAULT_AT_MAX = 64, FAULT_NAME_MAX = 48 };

struct fault {
    char name[FAULT_NAME_MAX];
    enum fault_kind kind;
    double p;                 /* a chance; below 0: no such condition */
    int64_t at[FAULT_AT_MAX]; /* the n-th requests, from 1 */
    size_t at_count;
    int64_t every, first;   /* each n-th; the first n */
    int64_t from_ns, to_ns; /* since it was set; to_ns < 0: for ever */
    int64_t count;          /* fires so often at most; 0: no end */
    char *match;            /* a piece of the body; NULL: every body */
    /* how it looks */
    int64_t retry_after_s; /* below 0: as the kind has it by default */
    int64_t status;        /* of `html`, `redirect` */
    int64_t bytes;         /* of `oversize` */
    char *message;         /* in place of the documented one */
    /* what it has seen */
    int64_t seen, fired, set_at_ns;
    uint64_t dice;
};

struct faults {
    struct fault *rows[FAULTS_MAX];
    size_t count;
};

const char *fault_kind_name(enum fault_kind kind);
/* FAULT_NONE where no kind is named so. */
enum fault_kind fault_kind_find(const char *name);

/* One key of the fault of that name, which is made where it does not exist. */
int faults_set(struct faults *f, const char *name, const char *key, const char *value,
               struct err *e);

/* Counting and the span from_s..to_s begin at this moment, for all that have not begun.
 */
void faults_begin(struct faults *f, int64_t now_ns, uint64_t seed);

/* The fault that this request meets, or NULL. Counts it. Lent until the next change. */
const struct fault *faults_meet(struct faults *f, const char *body, size_t len,
                                int64_t now_ns);

void faults_drop(struct faults *f, const char *name);
void faults_clear(struct faults *f);

#endif
