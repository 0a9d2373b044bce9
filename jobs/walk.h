#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <sys/stat.h>

struct err;
struct walk;

/*
 * All that lies under a directory, one entry at a time and each directory before what is
 * in it. Memory is bounded by depth, not by how many files a directory has. Links are not
 * followed.
 */
enum { WALK_DEPTH_MAX = 64 }; /* each level keeps a directory open */

enum walk_kind {
    WALK_DIR, /* the root, too; what is in it follows, unless walk_skip() */
    WALK_FILE,
    WALK_LINK,
    WALK_OTHER,
    WALK_DARK, /* it cannot be looked at, or into: `why` */
};

struct walk_entry { /* strings are lent until the next call */
    enum walk_kind kind;
    const char *full, *path, *name; /* path: from the root, where it is "" */
    struct stat st;                 /* not of what is dark */
    const char *why;
};

struct walk *walk_new(const char *root, struct err *e); /* the root exists */
void walk_free(struct walk *w);                         /* NULL is fine */

bool walk_next(struct walk *w, struct walk_entry *ret); /* false: that was all */
void walk_skip(struct walk *w); /* the directory that was told last is not entered */

#endif
