#ifndef TUTOR_H
#define TUTOR_H

#include "runner/learn.h"
#include "runner/route.h"

#include <stdbool.h>

struct catalog;
struct conf;
struct err;
struct store;
struct store_job;

/*
 * What a queue's outcomes taught, for its ladder: learn.h joined with jobs as the store
 * gives them. What is kept belongs to one ladder; with another one it begins anew.
 */
struct tutor;

/* NULL where the ladder has one rung: there is nothing to choose; or without memory.
 * Loads what `st` keeps. */
struct tutor *tutor_new(const struct conf *conf, const struct catalog *catalog,
                        struct store *st);
void tutor_free(struct tutor *t); /* NULL is fine */

/* What is expected of a job whose body is there. False: nothing can be said. */
bool tutor_view(struct tutor *t, const struct store_job *j, struct learn_view *ret);

/* A job's answer on that rung was right, or not. Without its body it teaches nothing. */
void tutor_outcome(struct tutor *t, const struct store_job *j, int rung, bool right);
int tutor_rung(const struct tutor *t, const char *tier); /* -1: not on the ladder */

void tutor_forget(struct tutor *t);

/* To be kept: fresh memory (give it to free()), and its name. NULL: nothing new since the
 * last time, or no memory. */
void *tutor_save(struct tutor *t, size_t *len, const char **name);

void tutor_standing(const struct tutor *t, struct learn_standing *ret);

#endif
