#ifndef EFFECT_H
#define EFFECT_H

/*
 * Every change of the outside world (a commit, a write, an fsync, a rename, a request's
 * start) passes one of these two, before and after. In an ordinary build they are
 * nothing. In a test build (NIGHTMILL_EFFECTS) they are numbered 1, 2, 3, ... and
 *
 *   NIGHTMILL_STOP_AT=n     the program is killed dead (SIGKILL) at the n-th
 *   NIGHTMILL_TRACE=FILE    each is written to FILE as a line: "n before|after WHAT
 * DETAIL"
 *
 * so that a test can stop it at every one of them in turn.
 */
#ifdef NIGHTMILL_EFFECTS
void effect_before(const char *what, long long detail);
void effect_after(const char *what, long long detail);
#else
#define effect_before(what, detail) ((void)0)
#define effect_after(what, detail) ((void)0)
#endif

#endif
