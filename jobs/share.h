#ifndef SHARE_H
#define SHARE_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct share;

/*
 * A piece of memory that all runners of this machine share: a mapped file in the account
 * store's directory. Who works on it holds its lock; who has it open holds a slot. Both
 * are locks of the kernel on the file, so a runner that dies lets go of them at once,
 * and share_bury() tells whose things are to be given back.
 *
 * What is in it outlives its runners, and is neither synced nor checked: it may be from
 * before a crash or a reboot, so the caller looks at it with distrust (share_first()).
 * It holds hints, never money or answers.
 */
enum { SHARE_SLOTS = 64 };

/*
 * Opens, and makes if need be (0600, zeroed), the file for `name` in DIR, with `size`
 * bytes. All SHARE_SLOTS taken, or no file possible: memory of our own, and `e` says
 * why; NULL only without memory.
 *
 * Comes locked, so that the first to come can put things in order before the next sees
 * them: call share_unlock().
 */
struct share *share_open(const char *dir, const char *name, size_t size, struct err *e);
void share_close(struct share *s); /* NULL is fine */

/* Nobody else had it open when we came: what it holds is from an earlier time. */
bool share_first(const struct share *s);
int share_slot(const struct share *s);

/* The bytes, ours alone until share_unlock(). Do not hold it over anything slow. */
void *share_lock(struct share *s);
void share_unlock(struct share *s);

/* The same bytes, without a lock taken: for who holds it already. */
void *share_bytes(const struct share *s);

/* Tell of each slot whose runner has died since it was told last. Holding the lock. */
typedef void share_dead_fn(void *bytes, int slot);
void share_bury(struct share *s, share_dead_fn *fn);

/* What is there, for somebody who runs nothing: copied into `buf`. False: nothing. */
bool share_look(const char *dir, const char *name, void *buf, size_t size);

#endif
