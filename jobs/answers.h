#ifndef ANSWERS_H
#define ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct answers;

/*
 * Long answers, in a file of their own beside the store: DIR/answers. The store's rows
 * say where each lies. Inside SQLite 20 KB would be written twice, page by page; here it
 * is once, in one piece with the others of its commit.
 *
 * The file only grows at its end, so a row that is committed points to bytes that
 * nobody changes any more. What a crash left behind the last committed one is never
 * pointed to. Of what is forgotten the blocks are given back, and the file keeps a hole.
 */

/* `write`: the file is made where it is not, and may be added to. */
struct answers *answers_open(const char *dir, bool write, struct err *e);

/* Rows point into the file up to `end`; 0: none does. What is added from here on lies
 * behind that, also in a file that lost its end, so that no row ever tells another's
 * answer. True where it lost it. For the one who writes. */
bool answers_known(struct answers *a, int64_t end);
void answers_close(struct answers *a); /* NULL is fine */

/* --- for the one who applies a list --- */

/* A list begins: what an earlier one added and never committed is forgotten. -1: no
 * memory. */
int answers_begin(struct answers *a, struct err *e);

/* Copied; tells where it will lie. Whether it could be written says answers_sync(). */
int64_t answers_add(struct answers *a, const char *bytes, size_t len);

/* All that was added is on disk, and with `sync` stays there without power. With `*full`
 * the disk had no room. */
int answers_sync(struct answers *a, bool sync, bool *full, struct err *e);

/* Where the file ends with what was added; 0: nothing was. */
int64_t answers_added(const struct answers *a);

/* The list is committed: what was added stays, what was forgotten goes. */
void answers_committed(struct answers *a);

/* It goes when the list is committed. No memory: its room stays in use. */
void answers_forget(struct answers *a, int64_t at, int64_t len);

/* --- for all --- */

/* Lent until the next call. NULL: the file is too short or cannot be read, its bytes were
 * given back since the row was read, or no memory. */
const char *answers_read(struct answers *a, int64_t at, size_t len, struct err *e);

#endif
