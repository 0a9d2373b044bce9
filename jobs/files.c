#include "jobs/files.h"

#include "runner/effect.h"
#include "runner/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { FULL_BELOW = 1 << 20 };

int files_sync_dir(const char *dir, struct err *e)
{
    int fd = open(*dir ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    effect_before("fsync dir", 0);
    int rc = fd < 0 || fsync(fd) < 0 ? err_set(e, ERR_STORE, "%s: cannot be synced: %s",
                                               dir, strerror(errno))
                                     : 0;
    effect_after("fsync dir", 0);
    if (fd >= 0)
        close(fd);
    return rc;
}

int files_sync_parent(const char *full, struct err *e)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", full);
    char *slash = strrchr(dir, '/');
    if (slash == NULL)
        return files_sync_dir(".", e);
    *slash = '\0';
    return files_sync_dir(dir, e);
}

void files_blame_disk(const char *dir, struct err *e)
{
    struct statvfs fs;
    if (e == NULL || e->code != ERR_STORE || statvfs(dir, &fs) < 0 ||
        (unsigned long long)fs.f_bavail * fs.f_frsize >= FULL_BELOW)
        return;
    struct err why = *e;
    *e = (struct err){0};
    err_set(e, why.code,
            "%.150s; the disk is full: make room, then run the same command", why.text);
}

static int make_one(const char *path, unsigned mode, struct err *e)
{
    effect_before("mkdir", 0);
    int rc = mkdir(path, mode);
    effect_after("mkdir", 0);
    if (rc < 0 && errno == EEXIST)
        return 0;
    if (rc < 0)
        return err_set(e, ERR_STORE,
                       "%s cannot be made: %s; make it yourself, or name another place",
                       path, strerror(errno));
    return files_sync_parent(path, e);
}

/* Every level of `path` from `from` on, the last one only if `whole`. */
static int make_levels(const char *full, size_t from, int whole, unsigned mode,
                       struct err *e)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s", full) >= (int)sizeof path)
        return err_set(e, ERR_STORE, "%s: the path is too long", full);
    for (char *p = path + from; (p = strchr(p, '/')); p++) {
        *p = '\0';
        if (make_one(path, mode, e) < 0)
            return -1;
        *p = '/';
    }
    return whole ? make_one(path, mode, e) : 0;
}

int files_make_dirs(const char *path, unsigned mode, struct err *e)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return make_levels(path, 1, 1, mode, e);
}

int files_make_parents(const char *base, const char *full, struct err *e)
{
    return make_levels(full, strlen(base) + 1, 0, 0777, e);
}
