#ifndef ERR_H
#define ERR_H

/*
 * One error type for the whole program: a code to act on, a sentence to read.
 *
 * A function that can fail takes `struct err *e` last and returns 0 or -1
 * (or a pointer or NULL). On success it leaves `e` alone. The first cause
 * wins: a second err_set() on the same `e` is dropped, so clean-up that also
 * fails cannot hide what really broke. Each caller may put its own words in
 * front with err_wrap(). `e` may be NULL where nobody cares.
 */

#define ERR_CODES(X)                    \
    X(NOMEM, "out of memory")           \
    X(SYSTEM, "the system refused")     \
    X(USAGE, "wrong usage")             \
    X(CONF, "bad configuration")        \
    X(CONSENT, "consent is needed")     \
    X(INPUT, "bad input")               \
    X(STORE, "the store refused")       \
    X(BUSY, "somebody else is at work") \
    X(KEY, "the key was refused")       \
    X(NETWORK, "no usable answer from the network")

enum err_code {
    ERR_NONE,
#define X(name, text) ERR_##name,
    ERR_CODES(X)
#undef X
};

enum { ERR_TEXT_MAX = 480 };

struct err {
    enum err_code code;
    char text[ERR_TEXT_MAX];
};

/* Record a cause. Always returns -1, so `return err_set(e, ...)` reads well. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put context in front: "job 42: " + what is there. Always returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *err_code_text(enum err_code code);

#endif
