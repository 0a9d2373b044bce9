#ifndef STATS_H
#define STATS_H

#include "conf/catalog.h"
#include "sim/words.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the simulator has seen: counts, one row a request, one row a job. */
struct stats;

/* One messages request, as the log has it. */
struct stats_row {
    int64_t n, at_ns;  /* at_ns: its first byte, since the start */
    int64_t job;       /* -1: not told apart any more */
    int64_t reset;     /* how often the counts were reset before it came */
    int model;         /* in the catalogue; -1: unknown */
    int status;        /* 0: no answer left */
    const char *fault; /* static; NULL */
    bool answered;
    struct usage usage;
    picodollars billed;
};

struct stats *stats_new(const struct catalog *c, int64_t log_max, int64_t jobs_max);
void stats_free(struct stats *st);
/* Requests that are on their way end uncounted. */
void stats_reset(struct stats *st);
int64_t stats_resets(const struct stats *st);

/* The line and the headers are there; from here to stats_ended() it is in flight. */
void stats_started(struct stats *st, int64_t at_ns);
/* All of it is there. Gives its number. */
int64_t stats_whole(struct stats *st);
/* It is over, `row` says how. A request that never was whole has row->n == 0. */
void stats_ended(struct stats *st, const struct stats_row *row);

/* The job of that name, or with NULL of that content. -1: too many. */
int64_t stats_job(struct stats *st, const char *name, size_t len, uint64_t content);

void stats_counted(struct stats *st); /* a count_tokens request */
void stats_connection(struct stats *st, bool opened);

/*
 * From the moment the first refusal for credit was written, requests whose first byte
 * comes later are counted; stats_credit_refused() tells whether that moment was this.
 */
bool stats_credit_refused(struct stats *st, int64_t at_ns);
void stats_after_refusal(struct stats *st);
bool stats_is_refused(const struct stats *st);
/* There is credit again: nothing counts until it is refused anew. */
void stats_credit_back(struct stats *st);

/* As members of a JSON object, without the braces around. */
void stats_write(const struct stats *st, bool jobs, struct text *t);
void stats_write_log(const struct stats *st, struct text *t);

#endif
