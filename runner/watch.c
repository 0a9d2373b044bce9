#include "runner/watch.h"

#include "runner/log.h"
#include "runner/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

enum {
    WATCH_BUCKETS = 1024,
    REST_MIN_MS = 250,      /* between two scans */
    REST_SHARE = 9,         /* times what a scan took: it takes a tenth of the time */
    RESCAN_MS = 300000,     /* though nothing stirred: not every change is told */
    BLIND_RESCAN_MS = 5000, /* where a directory cannot be watched */
    QUIET_MS = 2000,        /* of nothing to send: then what was for haste is let go */
    STATUS_MS = 1000,
    STATUS_MAX = 400,
};

struct watched {
    uv_fs_event_t event;
    struct watched *next;
    struct watch *watch;
    dev_t dev;
    ino_t ino;
    int64_t scan;             /* that showed it last */
    bool blind, stale, going; /* going: its handle is closing */
    char path[];
};

struct watch {
    struct runner *r;
    struct watched *bucket[WATCH_BUCKETS];
    int64_t scan;           /* counts scans */
    int64_t began, took;    /* the last one */
    int64_t ended, stirred; /* monotonic; 0: not yet */
    int64_t again_at;       /* monotonic: what was left; 0: nothing was */
    bool scanning, blind, blind_told;
    dev_t dev;
    ino_t ino;
    int64_t sent, quiet_since; /* quiet_since: monotonic; 0: rested already */
    uint64_t dog_us;           /* 0: no watchdog */
    int64_t dog_at, status_at;
    char status[STATUS_MAX];
};

struct watch *watch_new(struct runner *r, struct err *e)
{
    struct stat st;
    struct watch *w = calloc(1, sizeof *w);
    if (w == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    w->r = r;
    if (stat(r->o->queue->root, &st) == 0) {
        w->dev = st.st_dev;
        w->ino = st.st_ino;
    }
    if (sd_watchdog_enabled(0, &w->dog_us) <= 0)
        w->dog_us = 0;
    return w;
}

/* --- directories --- */

static struct watched **slot_of(struct watch *w, const char *path)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const char *p = path; *p; p++)
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
    struct watched **at = &w->bucket[hash % WATCH_BUCKETS];
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    return at;
}

/* Files that are being written stir all the time: the first one counts, or the scan would
 * be put off for as long as anybody writes. */
static void stir(struct watch *w)
{
    if (w->stirred == 0)
        w->stirred = runner_mono(w->r);
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct watched *d = event->data;
    const char *slash = strrchr(d->path, '/');
    bool itself = name && slash && strcmp(name, slash + 1) == 0;
    if (status < 0 || ((events & UV_RENAME) && itself))
        d->stale = true; /* perhaps gone, or another one: looked at by the next scan */
    if (d->watch->stirred == 0) {
        stir(d->watch);
        runner_poke(d->watch->r);
    }
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

static void let_go(struct watched *d)
{
    d->going = true;
    uv_close((uv_handle_t *)&d->event, on_closed);
}

static void begin(struct watch *w, struct watched *d)
{
    int rc = uv_fs_event_start(&d->event, on_event, d->path, 0);
    d->blind = rc < 0;
    d->stale = false;
    if (rc == 0 || rc == UV_ENOENT || w->blind_told)
        return;
    w->blind_told = true;
    log_warn("dir=%s cannot be watched (%s); all is looked through every %d s instead. "
             "Raise fs.inotify.%s",
             d->path, uv_strerror(rc), BLIND_RESCAN_MS / 1000,
             rc == UV_EMFILE ? "max_user_instances" : "max_user_watches");
}

void watch_dir(void *arg, const char *full)
{
    struct runner *r = arg;
    struct watch *w = r->watch;
    struct stat st;
    struct watched **at = slot_of(w, full), *d = *at;
    if (stat(full, &st) < 0)
        return;
    if (d && (d->stale || d->dev != st.st_dev || d->ino != st.st_ino)) {
        *at = d->next; /* another one of that name */
        let_go(d);
        at = slot_of(w, full);
        d = NULL;
    }
    if (d == NULL) {
        if ((d = calloc(1, sizeof *d + strlen(full) + 1)) == NULL)
            return;
        strcpy(d->path, full);
        d->watch = w;
        d->dev = st.st_dev;
        d->ino = st.st_ino;
        d->event.data = d;
        uv_fs_event_init(&r->loop, &d->event);
        *at = d;
        begin(w, d);
    } else if (d->blind) {
        begin(w, d);
    }
    d->scan = w->scan;
    w->blind = w->blind || d->blind;
}

void watch_stop(struct watch *w)
{
    for (int i = 0; w && i < WATCH_BUCKETS; i++) {
        for (struct watched *d = w->bucket[i], *next; d; d = next) {
            next = d->next;
            let_go(d);
        }
        w->bucket[i] = NULL;
    }
}

void watch_free(struct watch *w)
{
    free(w);
}

/* --- when to scan --- */

void watch_scan_begins(struct watch *w)
{
    w->scan++;
    w->scanning = true;
    w->began = runner_mono(w->r);
    w->stirred = 0; /* what comes from now on may come too late for it */
    w->again_at = 0;
    w->blind = false;
}

void watch_scan_ended(struct watch *w, int64_t again_at, bool whole)
{
    struct runner *r = w->r;
    w->scanning = false;
    w->ended = runner_mono(r);
    w->took = w->ended - w->began;
    if (again_at > 0) {
        int64_t in = again_at - runner_wall(r);
        w->again_at = w->ended + (in > 0 ? in : 0);
    }
    for (int i = 0; whole && i < WATCH_BUCKETS; i++)
        for (struct watched **at = &w->bucket[i]; *at;) {
            struct watched *d = *at;
            if (d->scan == w->scan) {
                at = &d->next;
                continue;
            }
            *at = d->next;
            let_go(d);
        }
}

bool watch_scan_due(struct watch *w, int64_t *at)
{
    struct runner *r = w->r;
    int64_t now = runner_mono(r);
    int64_t due = w->ended + (w->blind ? BLIND_RESCAN_MS : RESCAN_MS);
    /* What has just changed is too young as yet. */
    int64_t stirred = w->stirred ? w->stirred + r->conf->intake.settle_ms : 0;
    if (stirred && stirred < due)
        due = stirred;
    if (w->again_at && w->again_at < due)
        due = w->again_at;
    int64_t rest = REST_SHARE * w->took;
    if (due < w->ended + (rest > REST_MIN_MS ? rest : REST_MIN_MS))
        due = w->ended + (rest > REST_MIN_MS ? rest : REST_MIN_MS);
    *at = due;
    return !w->scanning && now >= due;
}

bool watch_same_root(const struct watch *w)
{
    struct stat st;
    return stat(w->r->o->queue->root, &st) == 0 && st.st_dev == w->dev &&
           st.st_ino == w->ino;
}

/* --- the service manager --- */

void watch_ready(struct watch *w)
{
    (void)w;
    sd_notify(0, "READY=1");
}

void watch_ending(struct watch *w, bool reload)
{
    (void)w;
    if (reload)
        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, uv_hrtime() / 1000);
    else
        sd_notify(0, "STOPPING=1");
}

/* A service waits most of its time: without connections, and without the memory that a
 * busy hour took. */
static void rest(struct watch *w)
{
    struct runner *r = w->r;
    int64_t now = runner_mono(r);
    if (r->out > 0 || r->tally.sent != w->sent) {
        w->sent = r->tally.sent;
        w->quiet_since = now;
    }
    if (w->quiet_since == 0 || now - w->quiet_since < QUIET_MS)
        return;
    w->quiet_since = 0;
    r->sender->rest(r->sender);
    malloc_trim(0);
}

void watch_beat(struct watch *w)
{
    struct runner *r = w->r;
    int64_t now = runner_mono(r);
    char says[STATUS_MAX];
    rest(w);
    if (w->dog_us > 0 && now >= w->dog_at) {
        sd_notify(0, "WATCHDOG=1");
        w->dog_at = now + (int64_t)(w->dog_us / 3000);
    }
    if (now < w->status_at)
        return;
    w->status_at = now + STATUS_MS;
    const char *waits = r->out > 0  ? ""
                        : *r->waits ? r->waits
                        : r->paused ? "paused"
                                    : "";
    snprintf(says, sizeof says,
             "%" PRId64 " done, %" PRId64 " failed, %" PRId64
             " parked, %d in flight, %" PRId64 " waiting%s%.200s",
             r->tally.done, r->tally.failed, r->tally.parked, r->out,
             r->tally.queued > r->out ? r->tally.queued - r->out : 0,
             *waits ? "; " : "", waits);
    if (strcmp(says, w->status) == 0)
        return;
    snprintf(w->status, sizeof w->status, "%s", says);
    sd_notifyf(0, "STATUS=%s", says);
}
