#ifndef RESULTS_H
#define RESULTS_H

#include "jobs/store.h"

#include <stdint.h>
#include <stdio.h>

struct err;
struct results;
struct textbuf;

/*
 * What users read: NAME.md and NAME.json for single jobs, one NAME.jsonl for a bulk
 * file. They follow the store and can be made again from it at any time.
 *
 * A single result appears whole (temporary name, fsync, rename). A bulk result is a
 * line at the end of its file; the store keeps each file's inode and the length that is
 * surely on disk, so that a start cuts what a crash left half-written and adds what is
 * missing. A file that is not the one the store knew, and one in which a line would
 * have to change, is made anew and takes the old one's place by rename.
 */
struct results *results_open(const char *dir, struct store *st, struct err *e);
void results_close(struct results *r); /* NULL is fine */

/*
 * Write one result. Bulk lines gather in memory until results_flush(), and their messages
 * are borrowed until then. One thread at a time.
 */
int results_write(struct results *r, const struct store_result *x, struct err *e);
int results_flush(struct results *r, struct err *e);

/* Results whose name is another file's or directory's: passed over, and said. */
int64_t results_skipped(const struct results *r);

/* Everything written so far is made durable, and told as moves: each file's length, and
 * that results up to the highest `seq` are on disk. */
int results_sync(struct results *r, struct moves *m, struct err *e);

/* Make anew what has to be; reads the store, so it belongs to the thread that opened
 * it, while nobody writes results. Adds moves as results_sync() does. */
int results_rebuild(struct results *r, struct moves *m, struct err *e);

/* At a start: cut, add what is missing since `seq`. Then as results_rebuild(). */
int results_recover(struct results *r, int64_t seq, struct moves *m, struct err *e);

/* One result as a line of JSON, without newline: the shape of NAME.json, or of a bulk
 * line. */
void results_json(struct textbuf *b, const struct store_result *x, bool bulk_line);

/* The text of an answer: its text blocks, joined. */
void results_text(struct textbuf *b, const char *message, size_t len);

#endif
