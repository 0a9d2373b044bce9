#ifndef INTAKE_H
#define INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct err;
struct intake;
struct job_spec;
struct moves;
struct store;

/*
 * Walks a queue's directory and turns what is new or changed into moves, a slice at a
 * time, so that sending goes on beside it. The order: the walk; sources that are gone;
 * known sources that changed (until these are read nobody knows how many done jobs
 * would be sent again); new files; new bulk files, as streams. A source whose size,
 * times and inode are as they were, referenced files included, is not read.
 */
#define INTAKE_MARKER ".nightmill-own" /* a directory that holds it is never walked */

enum intake_step {
    INTAKE_MORE,   /* there may be more at once */
    INTAKE_WALKED, /* told once: the walk is over, intake_found() is known */
    INTAKE_WAIT,   /* what is left is too young; ask again at intake_wake_at() */
    INTAKE_END,    /* everything was looked at */
};

/* Which lane a job would wait in, as a string that outlives the intake, and its turn
 * among the jobs of its priority there; NULL, with `e` saying why, where what it asks
 * for does not exist. */
typedef const char *intake_lane_fn(void *arg, const struct job_spec *s,
                                   const char *name, int64_t *turn, struct err *e);

/* A directory that is about to be looked through: who watches it sees all that comes
 * after. `full` is lent for the call. */
typedef void intake_dir_fn(void *arg, const char *full);

struct intake_opts {
    const char *root;        /* the queue's directory, as the user named it */
    const struct conf *conf; /* borrowed */
    struct store *store;     /* its reader is used, between slices alone */
    int64_t scan;            /* this scan's number, never used before */
    int64_t next_source;
    intake_lane_fn *lane;
    intake_dir_fn *dir; /* NULL: nobody watches */
    bool watching;      /* there is a next scan: see intake_again() */
    void *arg;
};

struct intake *intake_new(const struct intake_opts *o, struct err *e);
void intake_free(struct intake *in); /* NULL is fine */

/*
 * Do a slice and add its moves. What the moves borrow stays until the next call, which
 * therefore comes only after they were applied. `now` is wall time in ms.
 */
int intake_slice(struct intake *in, int64_t now, struct moves *m,
                 enum intake_step *step, struct err *e);

/*
 * With `watching`: what is too young is left for the next scan, which is worth while from
 * intake_wake_at() on (0: nothing was left), and so are files beyond the first some
 * thousand, for which it is worth while at once. So a scan always comes to its end.
 */
int intake_again(struct intake *in, struct err *e); /* the next one begins */
void intake_drop(struct intake *in);                /* this one is over, as it is */

/* May jobs be sent yet? Not before all known sources that changed have been read. */
bool intake_may_send(const struct intake *in);

/* Was there a directory or a bulk file that could not be read? It was said. */
bool intake_failed(const struct intake *in);

size_t intake_found(const struct intake *in);    /* sources that the walk saw */
int64_t intake_wake_at(const struct intake *in); /* wall ms */
size_t intake_young(const struct intake *in);    /* sources that still settle */

/* What a walk would find, without reading or storing anything. */
struct intake_look {
    size_t files;      /* that have the name of a job */
    size_t unreadable; /* files or directories that we may not read */
    char first[256];   /* the first of these */
};
int intake_look(const char *root, const struct conf *conf, struct intake_look *ret,
                struct err *e);

/* Make `dir` if need be, with the given mode, and put the marker in. */
int intake_mark(const char *dir, unsigned mode, struct err *e);

#endif
