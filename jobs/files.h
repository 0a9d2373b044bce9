#ifndef FILES_H
#define FILES_H

#include <stddef.h>

struct err;

/*
 * Directories that a power cut cannot take back: a name is safe only when the directory
 * that holds it was synced.
 */

/* Make `path` and the parents that it lacks; those that are there stay as they are. */
int files_make_dirs(const char *path, unsigned mode, struct err *e);

/* Make only the parents of a file, below `base` (a prefix of `full` without the slash).
 */
int files_make_parents(const char *base, const char *full, struct err *e);

/* Where the disk under `dir` has next to nothing left, `e` says that, and what to do. */
void files_blame_disk(const char *dir, struct err *e);

int files_sync_dir(const char *dir, struct err *e);
int files_sync_parent(const char *full, struct err *e);

#endif
