#ifndef KEY_H
#define KEY_H

#include <stddef.h>

struct conf;
struct err;

/*
 * The API key: from ANTHROPIC_API_KEY, else api.key_file (which nobody else may read),
 * else what api.key_command prints. It is handed to the sender and wiped; it is never
 * logged, stored, or part of a message.
 */
enum { KEY_MAX = 1024 };

/* Copied into `buf`. -1: there is none, or it cannot be read; `e` says what to do. */
int key_load(const struct conf *conf, char *buf, size_t size, struct err *e);

/* Where key_load() looks, in words; NULL: nowhere. */
const char *key_from(const struct conf *conf);

/* A short digest of the key, to know the account by until an answer names it. */
void key_fingerprint(const char *key, char *buf, size_t size);

#endif
