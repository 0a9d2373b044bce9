#ifndef CHECKRUN_H
#define CHECKRUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

struct err;
struct checkrun;

/*
 * One program judges one answer: it reads the text on its standard input and ends with 0
 * if that passes. Its standard output is thrown away; what it says on standard error is
 * the reason. It runs in the queue's directory and in a process group of its own, with
 * the user's environment but for API keys, and with variables of ours.
 */
enum { CHECKRUN_WHY_MAX = 300, CHECKRUN_KILL_MS = 2000 };

enum checkrun_end {
    CHECKRUN_PASS,
    CHECKRUN_FAIL,     /* it said no */
    CHECKRUN_ERROR,    /* it could not say: not run, took too long, was killed */
    CHECKRUN_CANCELED, /* on request */
};

struct checkrun_what {
    const char *command; /* words as a shell splits them, or a script for one */
    bool shell;          /* through /bin/sh -c */
    int64_t timeout_ms;
    const char *cwd;
    const char *const *vars; /* "NIGHTMILL_JOB=..." up to a NULL; borrowed */
    const char *text;        /* copied */
    size_t len;
};

/* Once, from the loop, when the program is gone. `why` is lent for the call. */
typedef void checkrun_fn(void *arg, enum checkrun_end end, const char *why);

/* NULL: it could not be started; `e` says why, and nothing will be called. */
struct checkrun *checkrun_start(uv_loop_t *loop, const struct checkrun_what *what,
                                checkrun_fn *fn, void *arg, struct err *e);
void checkrun_cancel(struct checkrun *c);

/* Is there a program to run? 0, or -1 and the reason. */
int checkrun_exists(const char *command, const char *cwd, struct err *e);

/* A command's words: blanks part them, '...' and "..." and \ keep them together. Fresh;
 * free the list and its first word's memory with checkrun_words_free(). NULL: `e`. */
char **checkrun_words(const char *command, struct err *e);
void checkrun_words_free(char **words);

#endif
