#include "jobs/walk.h"

#include "runner/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct level {
    DIR *dir;
    size_t len; /* of its path */
};

struct walk {
    struct level level[WALK_DEPTH_MAX];
    int depth;
    size_t root_len;
    bool told_root, enter; /* enter: what was told last is a directory to go into */
    char full[PATH_MAX];
};

struct walk *walk_new(const char *root, struct err *e)
{
    struct walk *w = calloc(1, sizeof *w);
    size_t n = strlen(root);
    if (w == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    if (n >= sizeof w->full) {
        err_set(e, ERR_INPUT, "%.200s...: the path is too long", root);
        free(w);
        return NULL;
    }
    memcpy(w->full, root, n + 1);
    w->root_len = n;
    return w;
}

void walk_free(struct walk *w)
{
    if (w == NULL)
        return;
    while (w->depth > 0)
        closedir(w->level[--w->depth].dir);
    free(w);
}

void walk_skip(struct walk *w)
{
    w->enter = false;
}

static void tell(struct walk *w, struct walk_entry *ret, enum walk_kind kind)
{
    const char *slash = strrchr(w->full, '/');
    ret->kind = kind;
    ret->full = w->full;
    ret->path = w->full + w->root_len;
    ret->path += *ret->path == '/';
    ret->name = slash ? slash + 1 : w->full;
}

static bool dark(struct walk *w, struct walk_entry *ret, const char *why)
{
    tell(w, ret, WALK_DARK);
    ret->why = why;
    return true;
}

/* Into the directory that was told last; false: it is dark. */
static bool enter(struct walk *w, struct walk_entry *ret)
{
    w->enter = false;
    if (w->depth == WALK_DEPTH_MAX)
        return !dark(w, ret, "directories lie too deep");
    int fd = open(w->full, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (errno == ENOENT && w->depth > 0)
            return true; /* gone since it was told: nothing is in it */
        const char *why = strerror(errno);
        if (fd >= 0)
            close(fd);
        return !dark(w, ret, why);
    }
    w->level[w->depth++] = (struct level){dir, strlen(w->full)};
    return true;
}

static bool dots(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static enum walk_kind kind_of(const struct stat *st)
{
    return S_ISDIR(st->st_mode)   ? WALK_DIR
           : S_ISREG(st->st_mode) ? WALK_FILE
           : S_ISLNK(st->st_mode) ? WALK_LINK
                                  : WALK_OTHER;
}

bool walk_next(struct walk *w, struct walk_entry *ret)
{
    if (!w->told_root) {
        w->told_root = w->enter = true;
        if (stat(w->full, &ret->st) < 0) {
            w->enter = false;
            return dark(w, ret, strerror(errno));
        }
        tell(w, ret, WALK_DIR);
        return true;
    }
    if (w->enter && !enter(w, ret))
        return true;
    while (w->depth > 0) {
        struct level *l = &w->level[w->depth - 1];
        w->full[l->len] = '\0';
        errno = 0;
        struct dirent *d = readdir(l->dir);
        if (d == NULL) {
            const char *why = errno ? strerror(errno) : NULL;
            closedir(l->dir);
            w->depth--;
            if (why)
                return dark(w, ret, why);
            continue;
        }
        size_t n = strlen(d->d_name);
        if (dots(d->d_name))
            continue;
        if (l->len + n + 2 > sizeof w->full)
            return dark(w, ret, "a path in it is too long");
        w->full[l->len] = '/';
        memcpy(w->full + l->len + 1, d->d_name, n + 1);
        if (fstatat(dirfd(l->dir), d->d_name, &ret->st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno == ENOENT)
                continue; /* gone since the directory was read */
            return dark(w, ret, strerror(errno));
        }
        tell(w, ret, kind_of(&ret->st));
        w->enter = ret->kind == WALK_DIR;
        return true;
    }
    return false;
}
