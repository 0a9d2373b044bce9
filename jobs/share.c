#include "jobs/share.h"

#include "jobs/digest.h"
#include "jobs/files.h"
#include "jobs/store.h"
#include "runner/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC = 0x6e6d7368, HEAD_BYTES = 256 };

/* At the file's beginning; the bytes follow. A file of another size is another version's
 * and begins anew. */
struct head {
    uint32_t magic;
    uint32_t size;
    unsigned char used[SHARE_SLOTS]; /* opened, and not closed in peace */
};
_Static_assert(sizeof(struct head) <= HEAD_BYTES, "the head has its place");

struct share {
    int fd; /* -1: memory of our own */
    int slot;
    bool first;
    size_t size;
    struct head *head;
};

/*
 * Locks lie on bytes of the file: byte 0 is the lock on the contents, byte 1 + n is slot
 * n's. They belong to the open file, not to the process, so that two queues of one
 * process exclude each other as well.
 */
static int lock_byte(int fd, int byte, int type, bool wait)
{
    struct flock l = {
        .l_type = (short)type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int rc;
    do
        rc = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
    while (rc < 0 && errno == EINTR);
    return rc;
}

static bool is_locked(int fd, int byte)
{
    struct flock l = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static void path_of(const char *dir, const char *name, char *path)
{
    unsigned char digest[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1];
    struct digest *d = digest_new();
    digest_add(d, name, strlen(name));
    digest_end(d, digest);
    digest_free(d);
    digest_hex(digest, DIGEST_BYTES, hex);
    snprintf(path, PATH_MAX, "%s/%s.share", dir, hex);
}

void *share_bytes(const struct share *s)
{
    return (char *)s->head + HEAD_BYTES;
}

/* With the lock on the contents held. */
static int take_slot(struct share *s)
{
    s->slot = -1;
    s->first = true;
    for (int i = 0; i < SHARE_SLOTS; i++) {
        if (is_locked(s->fd, 1 + i))
            s->first = false;
        else if (s->slot < 0 && !s->head->used[i])
            s->slot = i;
    }
    /* One that a dead runner left, where no other is free: its things come with it. */
    for (int i = 0; s->slot < 0 && i < SHARE_SLOTS; i++)
        if (!is_locked(s->fd, 1 + i))
            s->slot = i;
    return s->slot < 0 ? -1 : lock_byte(s->fd, 1 + s->slot, F_WRLCK, false);
}

static int map(struct share *s, const char *path, struct err *e)
{
    size_t whole = HEAD_BYTES + s->size;
    struct stat st;
    s->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->fd < 0 || lock_byte(s->fd, 0, F_WRLCK, true) < 0)
        return err_set(e, ERR_SYSTEM, "%s: %s", path, strerror(errno));
    /* Really there, not a hole: a full disk must be told here, not by a signal later. */
    int rc = fstat(s->fd, &st) < 0        ? errno
             : (size_t)st.st_size < whole ? posix_fallocate(s->fd, 0, (off_t)whole)
                                          : 0;
    if (rc != 0)
        return err_set(e, ERR_SYSTEM, "%s: %s", path, strerror(rc));
    s->head = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (s->head == MAP_FAILED) {
        s->head = NULL;
        return err_set(e, ERR_SYSTEM, "%s: %s", path, strerror(errno));
    }
    if (take_slot(s) < 0)
        return err_set(e, ERR_SYSTEM, "%s: more than %d runners at once", path,
                       SHARE_SLOTS);
    if (s->first && (s->head->magic != MAGIC || s->head->size != (uint32_t)s->size)) {
        memset(s->head, 0, whole);
        s->head->magic = MAGIC;
        s->head->size = (uint32_t)s->size;
    } else if (s->head->magic != MAGIC || s->head->size != (uint32_t)s->size) {
        return err_set(e, ERR_SYSTEM, "%s: another version of nightmill is using it",
                       path);
    }
    s->head->used[s->slot] = 1;
    return 0;
}

static void unmap(struct share *s)
{
    if (s->head && s->fd >= 0)
        munmap(s->head, HEAD_BYTES + s->size);
    else
        free(s->head);
    s->head = NULL;
    if (s->fd >= 0)
        close(s->fd); /* and with it all locks */
    s->fd = -1;
}

struct share *share_open(const char *dir, const char *name, size_t size, struct err *e)
{
    struct share *s = calloc(1, sizeof *s);
    char path[PATH_MAX];
    if (s == NULL)
        return NULL;
    s->fd = -1;
    s->size = size;
    path_of(dir, name, path);
    if (files_make_dirs(dir, 0700, e) == 0 && map(s, path, e) == 0)
        return s;
    unmap(s);
    s->slot = 0;
    s->first = true;
    s->head = calloc(1, HEAD_BYTES + size);
    if (s->head == NULL) {
        free(s);
        return NULL;
    }
    return s;
}

void share_close(struct share *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0) {
        share_lock(s);
        s->head->used[s->slot] = 0;
        share_unlock(s);
    }
    unmap(s);
    free(s);
}

bool share_first(const struct share *s)
{
    return s->first;
}

int share_slot(const struct share *s)
{
    return s->slot;
}

void *share_lock(struct share *s)
{
    if (s->fd >= 0)
        lock_byte(s->fd, 0, F_WRLCK, true);
    return share_bytes(s);
}

void share_unlock(struct share *s)
{
    if (s->fd >= 0)
        lock_byte(s->fd, 0, F_UNLCK, false);
}

void share_bury(struct share *s, share_dead_fn *fn)
{
    for (int i = 0; s->fd >= 0 && i < SHARE_SLOTS; i++)
        if (i != s->slot && s->head->used[i] && !is_locked(s->fd, 1 + i)) {
            fn(share_bytes(s), i);
            s->head->used[i] = 0;
        }
}

bool share_look(const char *dir, const char *name, void *buf, size_t size)
{
    char path[PATH_MAX];
    struct head head;
    path_of(dir, name, path);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool ok = lock_byte(fd, 0, F_WRLCK, true) == 0 &&
              pread(fd, &head, sizeof head, 0) == (ssize_t)sizeof head &&
              head.magic == MAGIC && head.size == (uint32_t)size &&
              pread(fd, buf, size, HEAD_BYTES) == (ssize_t)size;
    close(fd);
    return ok;
}
