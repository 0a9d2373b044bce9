#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>

struct conf;
struct err;

/*
 * Where a queue's things lie: the directory of job files, the state, the results.
 * Relative store.dir and results.dir are meant from the queue's directory.
 */
struct queue {
    char *root, *state, *results;
    int lock_root, lock_state; /* held locks; -1: none */
};

/* Names alone; nothing is made or touched. `dir` must be a directory. */
int queue_find(struct queue *q, const char *dir, const struct conf *conf,
               struct err *e);

/* Is there state already? */
bool queue_known(const struct queue *q);

/* Is a runner at work on it? */
bool queue_busy(const struct queue *q);

/* 0 where the store is safe; -1 on a network file system, `e` says what to do. */
int queue_local(const char *path, struct err *e);

/*
 * Make the state directory (0700) and take the queue's lock, on the directory and on
 * the state. ERR_BUSY where another runner has it. The kernel frees it when we die.
 */
int queue_lock(struct queue *q, struct err *e);
void queue_close(struct queue *q);

#endif
