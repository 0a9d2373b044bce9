#include "jobs/queue.h"

#include "conf/conf.h"
#include "jobs/files.h"
#include "jobs/intake.h"
#include "runner/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static char *join(const char *root, const char *set, const char *otherwise)
{
    char *path;
    const char *name = *set ? set : otherwise;
    if (*name == '/')
        return strdup(name);
    return asprintf(&path, "%s/%s", root, name) < 0 ? NULL : path;
}

/* Results that are the queue itself would put the marker there, and no job would ever
 * be seen again. */
static int apart(const char *option, const char *root, const char *dir, struct err *e)
{
    char real_root[PATH_MAX], real[PATH_MAX];
    if (realpath(root, real_root) == NULL || realpath(dir, real) == NULL)
        return 0; /* not there yet: it is nobody's parent */
    size_t n = strlen(real);
    bool within = n == 1 || (strncmp(real_root, real, n) == 0 &&
                             (real_root[n] == '/' || real_root[n] == '\0'));
    if (!within)
        return 0;
    return err_set(e, ERR_CONF,
                   "%s = %s: want a directory that does not hold the queue", option,
                   dir);
}

int queue_find(struct queue *q, const char *dir, const struct conf *conf, struct err *e)
{
    struct stat st;
    *q = (struct queue){.lock_root = -1, .lock_state = -1};
    if (stat(dir, &st) < 0)
        return err_set(e, ERR_USAGE, "%s: %s; name the directory of your job files",
                       dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_USAGE,
                       "%s: not a directory; name the directory of your job files",
                       dir);
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    q->root = strndup(dir, n);
    q->state = q->root ? join(q->root, conf->store.dir, ".nightmill") : NULL;
    q->results = q->root ? join(q->root, conf->results.dir, "results") : NULL;
    if (q->state == NULL || q->results == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    return apart("results.dir", q->root, q->results, e) < 0 ||
                   apart("store.dir", q->root, q->state, e) < 0
               ? -1
               : 0;
}

bool queue_known(const struct queue *q)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/queue.db", q->state);
    return access(path, F_OK) == 0;
}

/* SQLite's locks and its shared memory do not work across machines. */
int queue_local(const char *path, struct err *e)
{
    static const struct {
        unsigned long type;
        const char *name;
    } remote[] = {{0x6969, "NFS"},     {0xff534d42, "CIFS"}, {0xfe534d42, "SMB"},
                  {0x517b, "SMB"},     {0x5346414f, "AFS"},  {0x00c36400, "Ceph"},
                  {0x73757245, "Coda"}};
    struct statfs fs;
    if (statfs(path, &fs) < 0)
        return 0;
    for (size_t i = 0; i < sizeof remote / sizeof remote[0]; i++)
        if (((unsigned long)fs.f_type & 0xffffffffUL) == remote[i].type)
            return err_set(e, ERR_CONF,
                           "%s lies on %s, where the store would not be safe; set "
                           "store.dir to a local disk",
                           path, remote[i].name);
    return 0;
}

static int take(const char *path, int flags, const char *what, int *ret, struct err *e)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, ERR_STORE, "%s: %s; run as the one who owns the queue", path,
                       strerror(errno));
    /* `status` holds a shared lock for an instant, to see whether anybody is at work. */
    int rc = -1;
    for (int i = 0;
         i < 5 && (rc = flock(fd, LOCK_EX | LOCK_NB)) < 0 && errno == EWOULDBLOCK; i++)
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    if (rc < 0) {
        int busy = errno == EWOULDBLOCK;
        close(fd);
        return busy ? err_set(e, ERR_BUSY,
                              "another nightmill is at work on %s; let it end, or look "
                              "with `nightmill status`",
                              what)
                    : err_set(e, ERR_STORE, "%s: cannot be locked: %s", path,
                              strerror(errno));
    }
    *ret = fd;
    return 0;
}

bool queue_busy(const struct queue *q)
{
    int fd = open(q->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool busy = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return busy;
}

static int lock_both(struct queue *q, struct err *e)
{
    char path[PATH_MAX];
    if (take(q->root, O_RDONLY | O_DIRECTORY, q->root, &q->lock_root, e) < 0)
        return -1;
    int rc = mkdir(q->state, 0700);
    if (rc < 0 && errno == ENOENT) /* not mounted? nothing is begun anew elsewhere */
        return err_set(e, ERR_STORE,
                       "%s cannot be made: the directory that is to hold it is not "
                       "there; make that, or change store.dir",
                       q->state);
    if (rc < 0 && errno != EEXIST)
        return err_set(
            e, ERR_STORE,
            "%s cannot be made: %s; run as the one who owns the queue, or if it is "
            "read-only, set store.dir and results.dir to places that can be written",
            q->state, strerror(errno));
    if (access(q->state, W_OK | X_OK) < 0)
        return err_set(e, ERR_STORE, "%s: %s; run as the one who owns the queue",
                       q->state, strerror(errno));
    if (queue_local(q->state, e) < 0 || intake_mark(q->state, 0700, e) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/lock", q->state);
    return take(path, O_RDWR | O_CREAT, q->state, &q->lock_state, e);
}

int queue_lock(struct queue *q, struct err *e)
{
    if (lock_both(q, e) == 0)
        return 0;
    files_blame_disk(q->state, e);
    return -1;
}

void queue_close(struct queue *q)
{
    if (q->lock_state >= 0)
        close(q->lock_state);
    if (q->lock_root >= 0)
        close(q->lock_root);
    free(q->root);
    free(q->state);
    free(q->results);
    *q = (struct queue){.lock_root = -1, .lock_state = -1};
}
