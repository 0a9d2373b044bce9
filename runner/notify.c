/*
 * Who wants to hear of a run: a URL, a command, a file for Prometheus. None of them can
 * delay a run by more than seconds, or make it fail: what goes wrong here is a warning.
 */
#include "runner/machine.h"

#include "jobs/textbuf.h"
#include "runner/checkrun.h"
#include "runner/log.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PING_SECONDS = 10, COMMAND_MS = 60000, SAYS_MAX = 400 };

struct notify {
    uv_thread_t thread;
    bool threaded, failed;
    char url[2048], host[256], says[SAYS_MAX], why[CURL_ERROR_SIZE];
    char run[40]; /* a number that both pings carry */
};

/* --- the URL --- */

static size_t thrown_away(char *bytes, size_t size, size_t n, void *arg)
{
    (void)bytes;
    (void)arg;
    return size * n;
}

static void ping(void *arg)
{
    struct notify *n = arg;
    CURL *c = curl_easy_init();
    long status = 0;
    n->failed = c == NULL;
    *n->why = '\0';
    if (c == NULL)
        return;
    curl_easy_setopt(c, CURLOPT_URL, n->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)PING_SECONDS);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, thrown_away);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "nightmill/" NIGHTMILL_VERSION);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, n->says);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, n->why);
    CURLcode rc = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    if (rc != CURLE_OK && *n->why == '\0')
        snprintf(n->why, sizeof n->why, "%s", curl_easy_strerror(rc));
    if (rc == CURLE_OK && status >= 400)
        snprintf(n->why, sizeof n->why, "status %ld", status);
    n->failed = rc != CURLE_OK || status >= 400;
    curl_easy_cleanup(c);
}

/* Such URLs are secrets: the log hears of the host alone. */
static void pinged(const struct notify *n)
{
    if (n->failed)
        log_warn("notify.url: %s was not told: %s", n->host, n->why);
}

static void set_url(struct notify *n, const char *base, const char *what)
{
    size_t len = strcspn(base, "?");
    const char *query = base[len] ? base + len + 1 : "";
    while (len > 0 && base[len - 1] == '/')
        len--;
    snprintf(n->url, sizeof n->url, "%.*s/%s?%s%srid=%s", (int)len, base, what, query,
             *query ? "&" : "", n->run);
}

static void set_host(struct notify *n, const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t len = strcspn(host, "/?#");
    for (size_t i = 0; i < len; i++)
        if (host[i] == '@') { /* what stands before it may be a password */
            host += i + 1;
            len -= i + 1;
            i = 0;
        }
    snprintf(n->host, sizeof n->host, "%.*s", (int)len, host);
}

void notify_begin(struct runner *r)
{
    struct notify *n;
    uint64_t a = runner_random(r), b = runner_random(r);
    if (*r->conf->notify.url == '\0' || (n = calloc(1, sizeof *n)) == NULL)
        return;
    r->notify = n;
    /* A random UUID, version 4. */
    snprintf(n->run, sizeof n->run, "%08x-%04x-4%03x-a%03x-%012" PRIx64,
             (unsigned)(a >> 32), (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff,
             (unsigned)(b >> 52), b & UINT64_C(0xffffffffffff));
    set_host(n, r->conf->notify.url);
    set_url(n, r->conf->notify.url, "start");
    n->threaded = uv_thread_create(&n->thread, ping, n) == 0;
}

static void ping_end(struct runner *r, int code, const char *says)
{
    struct notify *n = r->notify;
    char what[16];
    if (n == NULL)
        return;
    if (n->threaded) {
        uv_thread_join(&n->thread);
        pinged(n);
    }
    snprintf(what, sizeof what, "%d", code);
    set_url(n, r->conf->notify.url, what);
    snprintf(n->says, sizeof n->says, "%s", says);
    ping(n);
    pinged(n);
    free(n);
    r->notify = NULL;
}

/* --- the command --- */

static void on_command_end(void *arg, enum checkrun_end end, const char *why)
{
    struct runner *r = arg;
    r->checks_running--;
    if (end != CHECKRUN_PASS)
        log_warn("notify.on_finish: %s",
                 strncmp(why, "the check ", 10) == 0 ? why + 10 : why);
}

static void command(struct runner *r, int code, const struct store_totals *t,
                    const char *says)
{
    char text[8][PATH_MAX + 64], usd[CATALOG_USD_MAX];
    const char *vars[9] = {0};
    struct err e = {0};
    const int64_t counts[] = {t->jobs[JOB_DONE], t->jobs[JOB_FAILED],
                              t->jobs[JOB_PARKED],
                              t->jobs[JOB_QUEUED] + t->jobs[JOB_IN_FLIGHT]};
    static const char *const names[] = {"DONE", "FAILED", "PARKED", "WAITING"};
    if (*r->conf->notify.on_finish == '\0')
        return;
    for (int i = 0; i < 4; i++)
        snprintf(text[i], sizeof text[i], "NIGHTMILL_%s=%" PRId64, names[i], counts[i]);
    snprintf(text[4], sizeof text[4], "NIGHTMILL_EXIT=%d", code);
    snprintf(text[5], sizeof text[5], "NIGHTMILL_DIR=%s", r->o->queue->root);
    snprintf(text[6], sizeof text[6], "NIGHTMILL_SPENT_USD=%s",
             catalog_usd(r->tally.spent, usd));
    snprintf(text[7], sizeof text[7], "NIGHTMILL_SAYS=%s", says);
    for (int i = 0; i < 8; i++)
        vars[i] = text[i];
    uv_timer_stop(&r->beat); /* everything was said */
    if (checkrun_start(&r->loop,
                       &(struct checkrun_what){.command = r->conf->notify.on_finish,
                                               .shell = r->conf->notify.shell == 1,
                                               .timeout_ms = COMMAND_MS,
                                               .cwd = r->o->queue->root,
                                               .vars = vars,
                                               .text = says,
                                               .len = strlen(says)},
                       on_command_end, r, &e) == NULL)
        log_warn("notify.on_finish: %s", e.text);
    else
        r->checks_running++;
}

/* --- the file --- */

/* A label's value: \, " and line ends are escaped. */
static void label(struct textbuf *b, const char *s)
{
    for (; *s; s++)
        if (*s == '\n')
            textbuf_puts(b, "\\n");
        else if (*s == '\\' || *s == '"')
            textbuf_putf(b, "\\%c", *s);
        else
            textbuf_put(b, s, 1);
}

static void metric(struct textbuf *b, const char *name, const char *type,
                   const char *help)
{
    textbuf_putf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* `code` -1: the run has not ended. */
static void put_metrics(struct runner *r, struct textbuf *b, int code,
                        const struct store_totals *t)
{
    struct textbuf queue = {0};
    char usd[CATALOG_USD_MAX], root[PATH_MAX];
    /* The same, whatever directory it was named from. */
    label(&queue, realpath(r->o->queue->root, root) ? root : r->o->queue->root);
    const char *q = queue.at ? queue.at : "";
    metric(b, "nightmill_jobs", "gauge", "Jobs of the queue by state.");
    for (int i = 0; i < JOB_STATE_COUNT; i++)
        textbuf_putf(b, "nightmill_jobs{queue=\"%s\",state=\"%s\"} %" PRId64 "\n", q,
                     job_state_name((enum job_state)i), t->jobs[i]);
    metric(b, "nightmill_spent_dollars_total", "counter",
           "Dollars that the queue's answers have cost.");
    textbuf_putf(b, "nightmill_spent_dollars_total{queue=\"%s\"} %s\n", q,
                 catalog_usd(t->spent, usd));
    metric(b, "nightmill_in_doubt_attempts", "gauge",
           "Requests that may have been answered and billed unseen.");
    textbuf_putf(b, "nightmill_in_doubt_attempts{queue=\"%s\"} %" PRId64 "\n", q,
                 t->doubt);
    if (code < 0) {
        b->failed = b->failed || queue.failed;
        textbuf_free(&queue);
        return;
    }
    metric(b, "nightmill_last_run_timestamp_seconds", "gauge",
           "When the last run ended.");
    textbuf_putf(b, "nightmill_last_run_timestamp_seconds{queue=\"%s\"} %" PRId64 "\n",
                 q, runner_wall(r) / 1000);
    metric(b, "nightmill_last_exit_code", "gauge", "What the last run ended with.");
    textbuf_putf(b, "nightmill_last_exit_code{queue=\"%s\"} %d\n", q, code);
    b->failed = b->failed || queue.failed;
    textbuf_free(&queue);
}

static void textfile(struct runner *r, int code, const struct store_totals *t)
{
    char tmp[PATH_MAX];
    const char *path = r->conf->notify.textfile;
    struct textbuf b = {0};
    if (*path == '\0')
        return;
    put_metrics(r, &b, code, t);
    /* Another name ending: the collector must not read half a file. */
    snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid());
    FILE *f = b.failed ? NULL : fopen(tmp, "we");
    bool ok = f && fwrite(b.at, 1, b.len, f) == b.len && fflush(f) == 0 &&
              fsync(fileno(f)) == 0;
    if (f && fclose(f) != 0)
        ok = false;
    if (!ok || rename(tmp, path) < 0) {
        log_warn("notify.textfile: %s could not be written: %s", path, strerror(errno));
        unlink(tmp);
    }
    textbuf_free(&b);
}

void notify_meanwhile(struct runner *r)
{
    struct store_totals t;
    struct err e = {0};
    if (*r->conf->notify.textfile && store_totals(r->o->store, &t, &e) == 0)
        textfile(r, -1, &t);
}

void notify_end(struct runner *r, int code)
{
    struct store_totals t;
    struct err e = {0};
    char says[SAYS_MAX], usd[CATALOG_USD_MAX];
    const struct conf *c = r->conf;
    if (*c->notify.url == '\0' && *c->notify.on_finish == '\0' &&
        *c->notify.textfile == '\0')
        return;
    if (store_totals(r->o->store, &t, &e) < 0)
        t = (struct store_totals){0};
    snprintf(says, sizeof says,
             "exit %d: %" PRId64 " done, %" PRId64 " failed, %" PRId64
             " parked, %" PRId64 " waiting; this run cost $%s%s%.200s",
             code, t.jobs[JOB_DONE], t.jobs[JOB_FAILED], t.jobs[JOB_PARKED],
             t.jobs[JOB_QUEUED] + t.jobs[JOB_IN_FLIGHT],
             catalog_usd(r->tally.spent, usd), *r->stop_says ? "; " : "", r->stop_says);
    textfile(r, code, &t);
    command(r, code, &t, says);
    ping_end(r, code, says);
}
