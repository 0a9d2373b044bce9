#ifndef CONF_H
#define CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;

/*
 * What can be set. One row an option, in conf.c: name, type, place, default as text,
 * bounds, help. The default goes through the same parser as a user's words, so a bad
 * default cannot ship; help, the sample nightmill.ini and "no such option" all come
 * from the table.
 *
 * Order, the later wins: table < /etc/nightmill.ini < DIR/nightmill.ini < --conf FILE <
 * environment < --set.
 */
enum in_doubt { IN_DOUBT_AGAIN, IN_DOUBT_HOLD };
enum on_truncation { TRUNCATED_RAISE, TRUNCATED_KEEP, TRUNCATED_FAIL };
enum cache_when { CACHE_AUTO, CACHE_OFF };
/* How a rung is chosen: as tier and rules say; tried from the cheapest, climbing where a
 * check fails; as outcomes taught. ROUTE_UNSAID: a rule leaves it to jobs.route. */
enum route_how { ROUTE_TIER, ROUTE_CASCADE, ROUTE_LEARN, ROUTE_UNSAID };
enum stream_when { STREAM_AUTO, STREAM_ALWAYS, STREAM_NEVER };
enum store_sync { SYNC_FULL, SYNC_OFF };

/* Words in a row. Owned by the conf that holds it. */
struct words {
    char **word;
    size_t count;
};

/* A rung of the ladder: what a tier's work is sent with. */
struct tier {
    char *name;
    char *model;
    char *effort;       /* "": not said to the API */
    int64_t max_tokens; /* for jobs that say none; 0: jobs.max_tokens */
    char *fallback;     /* another tier, where this one's model is refused; "" */
};

struct route {
    char *name;
    char *match;                  /* glob on the job's name; "": any */
    struct words tags;            /* all of them must be there */
    int64_t min_bytes, max_bytes; /* of the body; max 0: no bound */
    char *tier;
    char *model;
    int how;     /* enum route_how */
    char *check; /* words of runner/check.h; "" */
};

/* A program that judges answers. */
struct check_command {
    char *name;
    char *command;
    int shell; /* 1: through /bin/sh */
    int64_t timeout_ms;
};

/* One mistake of the configuration, as a sentence that names its place. */
typedef void conf_mistake_fn(void *arg, const char *sentence);

struct conf {
    /* Set after conf_init(): is told every mistake. The functions below read on behind
     * one in any case, leave the option as it was, and fail with the first. */
    conf_mistake_fn *on_mistake; /* NULL: nobody asks */
    void *mistake_arg;

    struct {
        char *base_url, *key_file, *key_command, *version, *beta, *ca_file;
        int64_t connect_ms, first_byte_ms, idle_ms;
        int64_t max_answer, stream_above;
        int stream;
    } api;
    struct {
        int64_t in_flight, attempts, drain_ms, outage_ms, mass_failure, longest_wait_ms,
            credit_probe_ms;
    } limits;
    struct {
        char *tier;
        int64_t max_tokens;
        int in_doubt, on_truncation, cache;
        int how; /* enum route_how, not ROUTE_UNSAID */
        char *check;
        struct words ladder;
    } jobs;
    struct {
        int64_t max_cost; /* picodollars; 0: no cap */
    } cascade;
    struct {
        int64_t enough, explore, explore_max_cost;
    } learn;
    struct {
        int64_t run, day, month; /* picodollars; 0: no ceiling */
        char *zone;
    } budget;
    struct {
        char *file;
    } catalog;
    struct {
        char *open;
    } window;
    struct {
        char *url, *on_finish, *textfile;
        int shell; /* 1: on_finish through /bin/sh */
    } notify;
    struct {
        struct words ignore;
        int64_t settle_ms, max_bytes;
    } intake;
    struct {
        char *dir;
        int64_t patience_ms, reserve, keep_ms; /* keep: 0: for ever */
        int sync;
    } store;
    struct {
        char *dir;
    } results;
    struct tier *tiers;
    size_t tiers_len;
    struct route *routes;
    size_t routes_len;
    struct check_command *checks;
    size_t checks_len;
};

/* Every option at its default, the three default tiers included. */
int conf_init(struct conf *c, struct err *e);
void conf_free(struct conf *c);

/* Set one option by its full name: "limits.in_flight", "tier.deep.model". */
int conf_set(struct conf *c, const char *name, const char *value, struct err *e);

/*
 * Read an INI. With `guarded`, options that say where the key goes, what program runs
 * or where things are written are taken only from a file that belongs to the user (or
 * root) and that nobody else can write; otherwise they are an error. A file that is not
 * there is an error unless `optional`.
 */
int conf_read(struct conf *c, const char *path, bool optional, bool guarded,
              struct err *e);

/* ANTHROPIC_BASE_URL. (The key is not configuration: see runner/key.h.) */
int conf_environment(struct conf *c, struct err *e);

/* What only the whole can say: tiers that are named exist, the URL may carry a key. */
int conf_check(const struct conf *c, struct err *e);

/* Tell a mistake found elsewhere (on a command line, say). Returns -1. */
int conf_mistake(const struct conf *c, const struct err *cause, struct err *e);

/* Every option, in the table's order: its full name ("tier.NAME.model" where there may be
 * many), its default, its choices (or NULL) and its help. */
typedef void conf_option_fn(void *arg, const char *name, const char *def,
                            const char *choices, const char *help);
void conf_each_option(conf_option_fn *fn, void *arg);

/* The sample INI: every option at its default, with its help. */
void conf_print_sample(FILE *to);

/* NULL if there is none of that name. */
const struct tier *conf_tier(const struct conf *c, const char *name);
const struct check_command *conf_check_command(const struct conf *c, const char *name);

/* "tier", "cascade", "learn"; -1: none of them. */
int conf_route_how(const char *word);
const char *conf_route_how_name(enum route_how how);

#endif
