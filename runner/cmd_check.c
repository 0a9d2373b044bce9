/*
 * Before the night: everything that would stop a run in its first minute, asked now, and
 * for each thing a line that says what was found and what to do about it. Writes nothing;
 * sends GETs and one count_tokens, which are free, and with --paid one request.
 */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/account.h"
#include "jobs/intake.h"
#include "jobs/textbuf.h"
#include "runner/answer.h"
#include "runner/err.h"
#include "runner/http.h"
#include "runner/key.h"
#include "runner/log.h"
#include "runner/machine.h"
#include "runner/runner.h"
#include "runner/verdict.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum {
    ASK_ANSWER_MAX = 1 << 20,
    ASK_PATIENCE_MS = 30000, /* a person waits for this */
    CLOCK_OFF_MS = 60000,
    OLD_DAYS = 90,
    SOON_DAYS = 30,
    DISK_EASY = 256 << 20, /* less than this free is worth a word */
    MODELS_MAX = 256,
};

#define DAY_S (24 * 3600)

enum level { LEVEL_OK, LEVEL_WARN, LEVEL_FAIL };
static const char *const levels[] = {"ok", "warn", "FAIL"};

/* What came back from one question. */
struct heard {
    bool over, whole;
    long status;
    enum answer_break broke;
    char why[200];
    struct judgement judged;
    struct answer_limits limits;
    bool limited;
    int64_t date, at; /* wall ms: theirs (0: not told) and ours */
};

/* A model that jobs may be sent to, and what leads there. */
struct wanted {
    const char *id;
    const char *fallback; /* the tier that takes over, or "" */
    char who[200];        /* "tier deep, route legal" */
};

struct check {
    const struct cmd_args *a;
    const char *dir; /* NULL: none was named */
    struct conf conf;
    struct queue q;
    struct catalog *catalog;
    struct textbuf json;
    int count, code;
    bool conf_bad;

    char key[KEY_MAX];
    uv_loop_t loop;
    struct http *http;
    struct heard heard;
    bool mute; /* nobody answers, or not us: ask nothing more */

    struct wanted wanted[MODELS_MAX];
    int wanted_len;
    const char *known; /* a model that the API knows; NULL: none so far */
};

/* --- saying --- */

/* The worst decides, in the order in which a run would stop. */
static void worst(struct check *k, int code)
{
    static const int order[] = {EXIT_USAGE, EXIT_STORE, EXIT_KEY, EXIT_AGAIN,
                                EXIT_SOME_FAILED};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (k->code == order[i] || code == order[i]) {
            k->code = order[i];
            return;
        }
}

/* `code` counts for LEVEL_FAIL alone; `then`, what to do, is "" where nothing is. */
__attribute__((format(printf, 6, 7))) static void say(struct check *k, enum level level,
                                                      int code, const char *what,
                                                      const char *then, const char *fmt,
                                                      ...)
{
    char found[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(found, sizeof found, fmt, ap);
    va_end(ap);
    for (char *p = found; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    if (level == LEVEL_FAIL)
        worst(k, code);
    if (k->a->json) {
        textbuf_putf(&k->json, "%s{\"level\":\"%s\",\"what\":\"%s\",\"found\":",
                     k->count++ ? "," : "", levels[level], what);
        textbuf_json(&k->json, found);
        textbuf_puts(&k->json, ",\"do\":");
        textbuf_json(&k->json, *then ? then : NULL);
        textbuf_puts(&k->json, "}");
    } else if (level != LEVEL_OK || !k->a->quiet) {
        printf("%-4s  %-13s  %s%s%s\n", levels[level], what, found,
               *then ? "  -> " : "", then);
        fflush(stdout);
    }
}

static int64_t wall_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static const char *day_text(int64_t s, char buf[16])
{
    time_t t = (time_t)s;
    struct tm tm;
    strftime(buf, 16, "%Y-%m-%d", localtime_r(&t, &tm));
    return buf;
}

static const char *moment_text(int64_t wall_ms, char buf[40])
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    strftime(buf, 40, "%Y-%m-%d %H:%M", localtime_r(&t, &tm));
    return buf;
}

/* --- what needs nobody's answer --- */

static void on_mistake(void *arg, const char *sentence)
{
    struct check *k = arg;
    k->conf_bad = true;
    say(k, LEVEL_FAIL, EXIT_USAGE, "configuration", "mend that line", "%s", sentence);
}

static void check_conf(struct check *k)
{
    struct err e = {0};
    char files[600] = "", path[4200];
    struct cmd_args a = *k->a;
    a.dir = k->dir;
    if (cmd_conf_each(&a, &k->conf, on_mistake, k, &e) < 0) {
        if (!k->conf_bad)
            on_mistake(k, e.text);
        return;
    }
    snprintf(path, sizeof path, "%s/nightmill.ini", k->dir ? k->dir : "");
    const char *const all[] = {"/etc/nightmill.ini", k->dir ? path : NULL, a.conf_file};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] && access(all[i], F_OK) == 0) {
            size_t n = strlen(files);
            snprintf(files + n, sizeof files - n, "%s%.180s", n ? ", " : "", all[i]);
        }
    say(k, LEVEL_OK, 0, "configuration", "", "%s",
        *files ? files : "every option at its default or from the command line");
}

static void check_catalog(struct check *k)
{
    struct err e = {0};
    char old[16];
    k->catalog = cmd_catalog(&k->conf, &e);
    if (k->catalog == NULL) {
        say(k, LEVEL_FAIL, EXIT_USAGE, "catalogue", "mend the file of catalog.file",
            "%s", e.text);
        return;
    }
    const char *date = catalog_date(k->catalog);
    day_text(wall_now() / 1000 - (int64_t)OLD_DAYS * DAY_S, old);
    if (strcmp(date, old) < 0)
        say(k, LEVEL_WARN, 0, "catalogue",
            "get a newer nightmill, or lay new prices over it with catalog.file",
            "of %s, more than %d days old: costs and ceilings may be wrong", date,
            OLD_DAYS);
    else
        say(k, LEVEL_OK, 0, "catalogue", "", "of %s", date);
}

static bool loopback(const struct check *k)
{
    return strncmp(k->conf.api.base_url, "http://", 7) == 0;
}

static void check_proxy(struct check *k)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY"};
    for (size_t i = 0; !loopback(k) && i < sizeof names / sizeof names[0]; i++) {
        const char *v = getenv(names[i]);
        if (v == NULL || *v == '\0')
            continue;
        const char *at = strrchr(v, '@'); /* what stands before it is secret */
        say(k, LEVEL_WARN, 0, "proxy", "unset it if that is not meant",
            "requests go through %.100s (%s), except to what NO_PROXY names",
            at ? at + 1 : v, names[i]);
        return;
    }
    say(k, LEVEL_OK, 0, "proxy", "", "none is used");
}

/* The nearest directory upwards that is there. */
static void nearest(char *path)
{
    while (*path && access(path, F_OK) != 0) {
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            strcpy(path, ".");
        else if (slash == path)
            path[1] = '\0';
        else
            *slash = '\0';
    }
}

static void check_disk_of(struct check *k, const char *what, const char *dir)
{
    char path[4200];
    struct statvfs fs;
    struct stat st;
    snprintf(path, sizeof path, "%s", dir);
    nearest(path);
    int64_t wanted = k->conf.store.reserve + DISK_MARGIN;
    if (statvfs(path, &fs) < 0 || stat(path, &st) < 0 || !S_ISDIR(st.st_mode) ||
        access(path, W_OK | X_OK) != 0) {
        say(k, LEVEL_FAIL, EXIT_STORE, what, "make it yours, or set another directory",
            "%s cannot be written", path);
        return;
    }
    int64_t have = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    if (have < wanted)
        say(k, LEVEL_FAIL, EXIT_STORE, what, "make room, or set another directory",
            "%s: %" PRId64 " MiB free, and %" PRId64 " are wanted to begin", path,
            have >> 20, (wanted + (1 << 20) - 1) >> 20);
    else if (have < DISK_EASY || (fs.f_files > 0 && fs.f_favail < 1000))
        say(k, LEVEL_WARN, 0, what, "make room before a long night",
            "%s: only %" PRId64 " MiB and %" PRId64 " files free", path, have >> 20,
            (int64_t)fs.f_favail);
    else
        say(k, LEVEL_OK, 0, what, "", "%s: %" PRId64 " MiB free", path, have >> 20);
}

static void check_disk(struct check *k)
{
    char dir[3800];
    struct err e = {0};
    if (k->q.state) {
        check_disk_of(k, "disk: state", k->q.state);
        check_disk_of(k, "disk: results", k->q.results);
    }
    if (account_dir(dir, sizeof dir, &e) < 0)
        say(k, LEVEL_FAIL, EXIT_STORE, "disk: account", "set HOME or XDG_STATE_HOME",
            "%s", e.text);
    else
        check_disk_of(k, "disk: account", dir);
}

static void check_ini_owner(struct check *k)
{
    char path[4200];
    struct stat st;
    snprintf(path, sizeof path, "%s/nightmill.ini", k->q.root);
    bool ini = stat(path, &st) == 0;
    if (!ini)
        snprintf(path, sizeof path, "%s", k->q.root);
    if (!ini && stat(path, &st) < 0)
        return;
    bool ours = st.st_uid == geteuid() || st.st_uid == 0;
    if (!ours || (st.st_mode & (S_IWGRP | S_IWOTH)))
        say(k, LEVEL_WARN, 0, "owner",
            ini ? "chown it to yourself and chmod go-w it, if only you should decide"
                : "chmod go-w it, if only you should bring jobs",
            "%s: others can %s", path,
            ini ? "change it, so it may set neither key nor money" : "put jobs there");
    else
        say(k, LEVEL_OK, 0, "owner", "", "%s: only you write it", path);
}

static void check_queue(struct check *k)
{
    struct err e = {0};
    struct intake_look look;
    char path[4200];
    if (k->dir == NULL)
        return;
    if (queue_find(&k->q, k->dir, &k->conf, &e) < 0) {
        say(k, LEVEL_FAIL, EXIT_USAGE, "queue", "name the directory of your job files",
            "%s", e.text);
        return;
    }
    snprintf(path, sizeof path, "%s", k->q.state);
    nearest(path);
    if (queue_local(path, &e) < 0)
        say(k, LEVEL_FAIL, EXIT_USAGE, "queue", "set store.dir to a local disk", "%s",
            e.text);
    if (queue_busy(&k->q))
        say(k, LEVEL_FAIL, EXIT_AGAIN, "queue",
            "let it end, or look with nightmill status",
            "another nightmill is at work on %s", k->q.root);
    if (intake_look(k->q.root, &k->conf, &look, &e) < 0)
        say(k, LEVEL_FAIL, EXIT_USAGE, "jobs", "make the directory readable", "%s",
            e.text);
    else if (look.unreadable > 0)
        say(k, LEVEL_FAIL, EXIT_SOME_FAILED, "jobs", "chmod u+r it, or chown it to you",
            "%zu job files, and %zu that may not be read: %s", look.files,
            look.unreadable, look.first);
    else if (look.files == 0)
        say(k, LEVEL_WARN, 0, "jobs",
            "put .md, .txt, .json or .jsonl files there; nightmill init makes some",
            "no job files in %s", k->q.root);
    else
        say(k, LEVEL_OK, 0, "jobs", "", "%zu job file%s in %s", look.files,
            look.files == 1 ? "" : "s", k->q.root);
    check_ini_owner(k);
}

/* --- asking --- */

static void on_answer(void *arg, const struct answer *a)
{
    struct heard *h = arg;
    char date[64];
    h->over = true;
    h->at = wall_now();
    h->whole = a->broke == ANSWER_WHOLE;
    h->broke = a->broke;
    h->status = a->status;
    snprintf(h->why, sizeof h->why, "%.190s", a->why ? a->why : "");
    h->limited = answer_limits(a, &h->limits);
    if (answer_header(a, "date", date, sizeof date))
        h->date = answer_date(date);
    verdict_judge(a, &(struct verdict_about){.wall_ms = h->at}, &h->judged);
}

/* A question, and its answer in k->heard. */
static void ask(struct check *k, const char *path, const char *body)
{
    struct err e = {0};
    char url[2600];
    size_t n = strlen(k->conf.api.base_url);
    while (n > 0 && k->conf.api.base_url[n - 1] == '/')
        n--;
    snprintf(url, sizeof url, "%.*s%s", (int)n, k->conf.api.base_url, path);
    k->heard = (struct heard){0};
    struct http_call *c = http_post(
        k->http,
        &(struct http_post){.url = url,
                            .get = body == NULL,
                            .body = body,
                            .body_len = body ? strlen(body) : 0,
                            .max_answer = ASK_ANSWER_MAX,
                            .on_answer = on_answer,
                            .arg = &k->heard},
        &e);
    if (c == NULL) {
        snprintf(k->heard.why, sizeof k->heard.why, "%.190s", e.text);
        k->heard.broke = BREAK_OTHER;
        return;
    }
    while (!k->heard.over)
        uv_run(&k->loop, UV_RUN_ONCE);
}

/* Nobody is there: said once, and nothing more is asked. */
static bool unreachable(struct check *k)
{
    const struct heard *h = &k->heard;
    if (h->whole)
        return false;
    k->mute = true;
    say(k, LEVEL_FAIL, EXIT_AGAIN, "endpoint",
        h->broke == BREAK_TLS
            ? "check the clock, and api.ca_file if a proxy of your own is between"
            : "check the network, the proxy and api.base_url",
        "%s does not answer: %s", k->conf.api.base_url, h->why);
    return true;
}

static void key_refused(struct check *k)
{
    k->mute = true;
    say(k, LEVEL_FAIL, EXIT_KEY, "key", "take a valid key from the console",
        "%s: the API refuses it (\"%s\")", key_from(&k->conf),
        k->heard.judged.sentence);
}

/* The first answer tells of key and clock. */
static void check_key(struct check *k)
{
    const struct heard *h = &k->heard;
    ask(k, "/v1/models?limit=1", NULL);
    if (unreachable(k))
        return;
    if (h->judged.verdict == VERDICT_KEY_REFUSED || h->status == 401) {
        key_refused(k);
    } else if (h->status == 200) {
        say(k, LEVEL_OK, 0, "key", "", "%s, accepted by %s", key_from(&k->conf),
            k->conf.api.base_url);
    } else {
        say(k, LEVEL_WARN, 0, "key", "look again in a while",
            "%s; the API answers %ld (\"%s\")", key_from(&k->conf), h->status,
            h->judged.sentence);
    }
    if (h->date == 0)
        return;
    int64_t off = h->at - h->date;
    if (off > CLOCK_OFF_MS || off < -CLOCK_OFF_MS)
        say(k, LEVEL_WARN, 0, "clock", "set it: timedatectl set-ntp true",
            "%" PRId64 " s %s the API's; holds and days would be off",
            (off < 0 ? -off : off) / 1000, off < 0 ? "behind" : "ahead of");
    else
        say(k, LEVEL_OK, 0, "clock", "", "as the API's");
}

static void want_model(struct check *k, const char *id, const char *fallback,
                       const char *kind, const char *name)
{
    struct wanted *w = NULL;
    for (int i = 0; i < k->wanted_len && w == NULL; i++)
        if (strcmp(k->wanted[i].id, id) == 0)
            w = &k->wanted[i];
    if (w == NULL && k->wanted_len < MODELS_MAX) {
        w = &k->wanted[k->wanted_len++];
        *w = (struct wanted){.id = id, .fallback = fallback};
    }
    if (w == NULL)
        return;
    if (*fallback == '\0')
        w->fallback = ""; /* one of its users has nowhere else to go */
    size_t n = strlen(w->who);
    snprintf(w->who + n, sizeof w->who - n, "%s%s %.60s", n ? ", " : "", kind, name);
}

static void check_model(struct check *k, const struct wanted *w)
{
    char path[1024], today[16], soon[16], then[200];
    const struct heard *h = &k->heard;
    const struct model *m = k->catalog ? catalog_find(k->catalog, w->id) : NULL;
    const char *retires = m ? m->retires : NULL;
    int64_t now = wall_now() / 1000;
    day_text(now, today);
    day_text(now + (int64_t)SOON_DAYS * DAY_S, soon);
    bool gone = retires && strcmp(retires, today) <= 0;

    if (!k->mute) {
        char *escaped = curl_easy_escape(NULL, w->id, 0);
        snprintf(path, sizeof path, "/v1/models/%.900s", escaped ? escaped : w->id);
        curl_free(escaped);
        ask(k, path, NULL);
        if (unreachable(k))
            return;
        if (h->status == 200 && k->known == NULL)
            k->known = w->id;
        if (h->status == 404 ||
            h->status == 403) { /* its lane would close: work left */
            bool caught = *w->fallback != '\0';
            snprintf(then, sizeof then,
                     caught ? "its jobs take tier %.60s; or name another model"
                            : "name a model that the key may use, or a fallback%.0s",
                     w->fallback);
            say(k, caught ? LEVEL_WARN : LEVEL_FAIL, EXIT_AGAIN, "model", then,
                "%s (%s): the API does not know it for this key%s%s", w->id, w->who,
                gone ? "; retired since " : "", gone ? retires : "");
            return;
        }
    }
    if (retires && strcmp(retires, soon) <= 0)
        say(k, LEVEL_WARN, 0, "model", "name its successor",
            "%s (%s): by the catalogue it %s %s", w->id, w->who,
            gone ? "is retired since" : "retires on", retires);
    else if (m == NULL || !m->priced)
        say(k, LEVEL_WARN, 0, "model", "give its price in catalog.file",
            "%s (%s): its price is not known, so no ceiling can hold it", w->id,
            w->who);
    else if (k->mute)
        say(k, LEVEL_OK, 0, "model", "", "%s (%s), by the catalogue alone", w->id,
            w->who);
    else if (h->status != 200)
        say(k, LEVEL_WARN, 0, "model", "look again in a while",
            "%s (%s): the API answers %ld (\"%s\")", w->id, w->who, h->status,
            h->judged.sentence);
    else
        say(k, LEVEL_OK, 0, "model", "", "%s (%s)", w->id, w->who);
}

static void check_models(struct check *k)
{
    for (size_t i = 0; i < k->conf.tiers_len; i++)
        want_model(k, k->conf.tiers[i].model, k->conf.tiers[i].fallback, "tier",
                   k->conf.tiers[i].name);
    for (size_t i = 0; i < k->conf.routes_len; i++)
        if (*k->conf.routes[i].model)
            want_model(k, k->conf.routes[i].model, "", "route", k->conf.routes[i].name);
    for (int i = 0; i < k->wanted_len; i++)
        check_model(k, &k->wanted[i]);
}

/* --- money --- */

static void spend_limit(struct check *k, const char *what)
{
    char when[40], then[120] = "raise it in the console";
    if (k->heard.judged.until)
        snprintf(then, sizeof then, "wait until %s, or raise it in the console",
                 moment_text(k->heard.judged.until, when));
    say(k, LEVEL_FAIL, EXIT_AGAIN, what, then, "a spend limit is reached (\"%s\")",
        k->heard.judged.sentence);
}

/* What a refusal for money, key or rate means; false: it was none. */
static bool refused(struct check *k, const char *what)
{
    const struct judgement *j = &k->heard.judged;
    switch (j->verdict) {
    case VERDICT_NO_CREDIT:
        say(k, LEVEL_FAIL, EXIT_AGAIN, what,
            "add credit in the console; it may take a while to count",
            "none is left (\"%s\")", j->sentence);
        return true;
    case VERDICT_SPEND_LIMIT:
        spend_limit(k, what);
        return true;
    case VERDICT_KEY_REFUSED:
        key_refused(k);
        return true;
    case VERDICT_PLAN_LIMIT:
    case VERDICT_RATE_LIMITED:
    case VERDICT_OVERLOADED:
        say(k, LEVEL_WARN, 0, what, "a run waits by itself; look again in a while",
            "not now: %s", j->sentence);
        return true;
    default:
        return false;
    }
}

static void check_credit(struct check *k)
{
    struct textbuf b = {0};
    const struct tier *t = conf_tier(&k->conf, k->conf.jobs.tier);
    textbuf_puts(&b, "{\"model\":");
    textbuf_json(&b, k->known ? k->known : t ? t->model : k->conf.tiers[0].model);
    textbuf_puts(&b, ",\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}]}");
    if (!b.failed) {
        ask(k, "/v1/messages/count_tokens", b.at);
        if (unreachable(k) || refused(k, "credit"))
            ;
        else if (k->heard.status == 200)
            say(k, LEVEL_OK, 0, "credit",
                k->a->paid ? ""
                           : "nightmill check --paid makes sure, plan says what for",
                "probably some: a free request was taken (nobody tells how much)");
        else
            say(k, LEVEL_WARN, 0, "credit", "nightmill check --paid makes sure",
                "not known: the free request was answered %ld (\"%s\")",
                k->heard.status, k->heard.judged.sentence);
    }
    textbuf_free(&b);
}

static void limits_text(const int64_t limit[], char *buf, size_t size)
{
    static const char *const names[] = {"requests", "input tokens", "output tokens"};
    size_t n = 0;
    *buf = '\0';
    for (int i = 0; i < LIMIT_COUNT && n < size; i++)
        if (limit[i] > 0)
            n += (size_t)snprintf(buf + n, size - n, "%s%" PRId64 " %s", n ? ", " : "",
                                  limit[i], names[i]);
}

static const struct tier *cheapest(const struct check *k, const struct model **ret)
{
    const struct tier *best = NULL;
    for (size_t i = 0; i < k->conf.tiers_len; i++) {
        const struct tier *t = &k->conf.tiers[i];
        const struct model *m = catalog_find(k->catalog, t->model);
        if (m && m->priced &&
            (best == NULL || m->base.input + m->base.output <
                                 (*ret)->base.input + (*ret)->base.output)) {
            best = t;
            *ret = m;
        }
    }
    return best;
}

static void check_paid(struct check *k)
{
    struct textbuf b = {0};
    const struct model *m = NULL;
    const struct heard *h = &k->heard;
    char usd[CATALOG_USD_MAX], text[160];
    if (k->catalog == NULL || cheapest(k, &m) == NULL) {
        say(k, LEVEL_WARN, 0, "paid", "give prices in catalog.file",
            "not sent: no tier's model has a known price");
        return;
    }
    textbuf_puts(&b, "{\"model\":");
    textbuf_json(&b, m->id);
    textbuf_puts(&b, ",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":"
                     "\"ping\"}]}");
    if (!b.failed)
        ask(k, "/v1/messages", b.at);
    textbuf_free(&b);
    if (!h->over || unreachable(k) || refused(k, "paid"))
        return;
    if (h->status != 200) {
        say(k, LEVEL_FAIL, EXIT_AGAIN, "paid", "see what the API says",
            "%s answered %ld (\"%s\")", m->id, h->status, h->judged.sentence);
        return;
    }
    say(k, LEVEL_OK, 0, "paid", "",
        "%s answered; it cost $%s, which no bill of nightmill's holds", m->id,
        h->judged.has_usage ? catalog_usd(catalog_cost(m, &h->judged.usage), usd)
                            : "(not told)");
    if (h->limited) {
        limits_text(h->limits.limit, text, sizeof text);
        say(k, LEVEL_OK, 0, "limits", "", "%s: %s a minute, as it says", m->family,
            text);
    }
}

/* --- what earlier runs learned --- */

static void check_lane(struct check *k, struct account_store *st, const char *account,
                       const char *lane, int *known)
{
    struct account_lane x;
    struct err e = {0};
    char text[160], when[40];
    int64_t now = wall_now();
    if (account_lane(st, account, lane, now, &x, &e) != 1)
        return;
    ++*known;
    limits_text((const int64_t[]){x.rpm, x.itpm, x.otpm}, text, sizeof text);
    if (x.hold_until > now)
        say(k, LEVEL_WARN, 0, "limits", "a run waits by itself",
            "%s: held until %s (%s)", lane, moment_text(x.hold_until, when),
            x.hold_why);
    else if (*text)
        say(k, LEVEL_OK, 0, "limits", "", "%s: %s a minute, when last heard", lane,
            text);
}

static void check_account(struct check *k)
{
    char dir[3800], path[4000], print[64], account[ACCOUNT_NAME_MAX], when[40];
    struct err e = {0};
    struct account_halt halt;
    struct account_store *st = NULL;
    int known = 0;
    if (account_dir(dir, sizeof dir, &e) < 0)
        return;
    snprintf(path, sizeof path, "%s/account.db", dir);
    key_fingerprint(k->key, print, sizeof print);
    if (access(path, F_OK) == 0 && (st = account_open(dir, &e)) != NULL &&
        account_name(st, print, account, sizeof account, &e) == 0) {
        if (account_halt(st, account, &halt, &e) == 1)
            say(k, LEVEL_WARN, 0, "account", "the next run sends one request to see",
                "an earlier run was stopped on %s: %s (\"%s\")",
                moment_text(halt.at, when), halt.reason, halt.says);
        for (int i = 0; i < k->wanted_len; i++) {
            const struct model *m = k->catalog
                                        ? catalog_find(k->catalog, k->wanted[i].id)
                                        : NULL;
            check_lane(k, st, account, m ? m->family : k->wanted[i].id, &known);
        }
    }
    account_close(st);
    if (e.code != ERR_NONE)
        say(k, LEVEL_FAIL, EXIT_STORE, "account", "make it yours, or mend it", "%s",
            e.text);
    else if (known == 0)
        say(k, LEVEL_OK, 0, "limits", "",
            "not known yet: the first answer of a run tells them");
}

/* --- all of it --- */

static void check_online(struct check *k)
{
    struct err e = {0};
    char url[2200];
    const char *from = key_from(&k->conf);
    if (key_load(&k->conf, k->key, sizeof k->key, &e) < 0) {
        say(k, LEVEL_FAIL, EXIT_USAGE, "key",
            from ? "put it right; nothing was asked of the API"
                 : "export ANTHROPIC_API_KEY=...; nothing was asked of the API",
            "%s", e.text);
        k->mute = true;
    }
    if (k->mute) {
        check_models(k);
        return;
    }
    snprintf(url, sizeof url, "%.2000s/v1/messages", k->conf.api.base_url);
    int64_t patience = k->conf.api.first_byte_ms < ASK_PATIENCE_MS
                           ? k->conf.api.first_byte_ms
                           : ASK_PATIENCE_MS;
    uv_loop_init(&k->loop);
    k->http = http_new(&k->loop,
                       &(struct http_opts){.url = url,
                                           .key = k->key,
                                           .version = k->conf.api.version,
                                           .beta = k->conf.api.beta,
                                           .ca_file = k->conf.api.ca_file,
                                           .connect_ms = k->conf.api.connect_ms,
                                           .first_byte_ms = patience,
                                           .idle_ms = patience},
                       &e);
    if (k->http == NULL) {
        say(k, LEVEL_FAIL, EXIT_STORE, "endpoint", "free some memory", "%s", e.text);
        k->mute = true;
    } else {
        check_key(k);
    }
    check_models(k);
    if (!k->mute)
        check_credit(k);
    if (!k->mute && k->a->paid)
        check_paid(k);
    check_account(k);
    http_free(k->http);
    uv_run(&k->loop, UV_RUN_DEFAULT);
    uv_loop_close(&k->loop);
}

int cmd_check(const struct cmd_args *a)
{
    struct check *k = calloc(1, sizeof *k);
    if (k == NULL)
        return EXIT_STORE;
    if (a->names_len > 1) {
        fprintf(stderr, "nightmill: one directory at a time; what is %s\n",
                a->names[1]);
        free(k);
        return EXIT_USAGE;
    }
    log_setup(LOG_ERROR); /* what is found is said here */
    k->a = a;
    k->dir = a->names_len ? a->names[0] : NULL;
    k->q = (struct queue){.lock_root = -1, .lock_state = -1};
    textbuf_puts(&k->json, "{\"checks\":[");
    check_conf(k);
    if (k->conf_bad) {
        say(k, LEVEL_WARN, 0, "the rest", "mend the configuration, then check again",
            "was not looked at, and nothing was asked of the API");
    } else {
        check_queue(k);
        check_disk(k);
        check_catalog(k);
        check_proxy(k);
        check_online(k);
    }
    textbuf_putf(&k->json, "],\"exit\":%d}\n", k->code);
    if (a->json && !k->json.failed)
        fwrite(k->json.at, 1, k->json.len, stdout);
    else if (!a->quiet && k->code == 0)
        puts("ready for the night");
    int code = k->code;
    explicit_bzero(k->key, sizeof k->key);
    textbuf_free(&k->json);
    queue_close(&k->q);
    catalog_free(k->catalog);
    conf_free(&k->conf);
    free(k);
    return code;
}
