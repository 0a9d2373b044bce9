#ifndef WATCH_H
#define WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct moves;
struct runner;

/*
 * What a runner does besides when it keeps running: it watches the directories that the
 * walk shows it, says when another scan is worth while, keeps the window's hours, tells
 * the service manager how it stands. All of it on the loop's thread.
 */
struct watch;

struct watch *watch_new(struct runner *r, struct err *e);
void watch_stop(struct watch *w); /* its handles close with the loop's next turn */
void watch_free(struct watch *w); /* after that; NULL is fine */

/* The walk is about to look through this directory: what happens in it from now on is
 * noticed. For intake_opts.dir; `arg` is the runner. */
void watch_dir(void *arg, const char *full);

/* A scan begins; it came to its end, and what is left is worth a look at `again_at` (wall
 * ms; 0: nothing is). Directories that a whole scan did not show are let go. */
void watch_scan_begins(struct watch *w);
void watch_scan_ended(struct watch *w, int64_t again_at, bool whole);

/* Is it time for another? Else `*at` is when (monotonic), as far as is known now. */
bool watch_scan_due(struct watch *w, int64_t *at);

/* Is the queue's directory still the one that it was? Not after an unmount. */
bool watch_same_root(const struct watch *w);

/* The service manager, where there is one that listens. A reload ends with `ready`. */
void watch_ready(struct watch *w);
void watch_ending(struct watch *w, bool reload);
void watch_beat(struct watch *w); /* status and watchdog, several times a second */

#endif
