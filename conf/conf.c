#include "conf/conf.h"

#include "conf/catalog.h"
#include "conf/hours.h"

#include "runner/err.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INI_LINE_MAX = 199, /* inih's own line buffer, less its NUL */
    INI_BYTES_MAX = 1024 * 1024,
    TIERS_MAX = 32,
    ROUTES_MAX = 200,
    CHECKS_MAX = 100,
};

enum opt_type {
    OPT_STRING,
    OPT_COUNT,
    OPT_DURATION,
    OPT_SIZE,
    OPT_DOLLARS,
    OPT_CHOICE,
    OPT_WORDS
};

struct opt {
    const char *name;
    enum opt_type type;
    size_t at;
    const char *def;
    int64_t min, max;
    const char *choices; /* OPT_CHOICE: words by their enum's order, "a b c" */
    bool guarded;        /* never from an INI that others can write */
    const char *help;
};

#define KIB INT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define AT(field) offsetof(struct conf, field)

static const struct opt options[] = {
    {.name = "api.base_url",
     .type = OPT_STRING,
     .at = AT(api.base_url),
     .def = "https://api.anthropic.com",
     .guarded = true,
     .help = "where requests go: https, or http to this machine itself"},
    {.name = "api.key_file",
     .type = OPT_STRING,
     .at = AT(api.key_file),
     .def = "",
     .guarded = true,
     .help = "a file that holds the key and that only you can read"},
    {.name = "api.key_command",
     .type = OPT_STRING,
     .at = AT(api.key_command),
     .def = "",
     .guarded = true,
     .help = "a command that prints the key"},
    {.name = "api.version",
     .type = OPT_STRING,
     .at = AT(api.version),
     .def = "2023-06-01",
     .guarded = true,
     .help = "the anthropic-version header"},
    {.name = "api.beta",
     .type = OPT_STRING,
     .at = AT(api.beta),
     .def = "",
     .guarded = true,
     .help = "the anthropic-beta header, names joined by commas"},
    {.name = "api.ca_file",
     .type = OPT_STRING,
     .at = AT(api.ca_file),
     .def = "",
     .guarded = true,
     .help = "certificates to trust instead of the system's"},
    {.name = "api.connect_timeout",
     .type = OPT_DURATION,
     .at = AT(api.connect_ms),
     .def = "10s",
     .min = 100,
     .max = 5 * MINUTE,
     .guarded = true,
     .help = "how long a connection may take to stand"},
    {.name = "api.first_byte_timeout",
     .type = OPT_DURATION,
     .at = AT(api.first_byte_ms),
     .def = "10m",
     .min = 100,
     .max = 2 * HOUR,
     .guarded = true,
     .help =
         "how long an answer may take to begin (one that is not streamed begins when "
         "it is complete)"},
    {.name = "api.idle_timeout",
     .type = OPT_DURATION,
     .at = AT(api.idle_ms),
     .def = "5m",
     .min = 100,
     .max = 2 * HOUR,
     .guarded = true,
     .help = "how long an answer that has begun may fall silent"},
    {.name = "api.max_answer",
     .type = OPT_SIZE,
     .at = AT(api.max_answer),
     .def = "32MiB",
     .min = KIB,
     .max = GIB,
     .guarded = true,
     .help = "a longer answer is refused"},
    {.name = "api.stream",
     .type = OPT_CHOICE,
     .at = AT(api.stream),
     .def = "auto",
     .choices = "auto always never",
     .guarded = true,
     .help = "auto: stream where the job asks for it or its max_tokens is large"},
    {.name = "api.stream_above",
     .type = OPT_COUNT,
     .at = AT(api.stream_above),
     .def = "16000",
     .min = 0,
     .max = 10000000,
     .guarded = true,
     .help = "max_tokens above which `auto` streams"},

    {.name = "limits.in_flight",
     .type = OPT_COUNT,
     .at = AT(limits.in_flight),
     .def = "256",
     .min = 1,
     .max = 1000,
     .help = "requests in flight at once on one lane, at most"},
    {.name = "limits.attempts",
     .type = OPT_COUNT,
     .at = AT(limits.attempts),
     .def = "5",
     .min = 1,
     .max = 100,
     .help = "attempts before a job is given up; waiting for limits uses none"},
    {.name = "limits.drain",
     .type = OPT_DURATION,
     .at = AT(limits.drain_ms),
     .def = "30s",
     .min = 0,
     .max = HOUR,
     .help = "how long a run that was told to stop awaits what is out"},
    {.name = "limits.outage",
     .type = OPT_DURATION,
     .at = AT(limits.outage_ms),
     .def = "30m",
     .min = SECOND,
     .max = 7 * 24 * HOUR,
     .help = "how long an endpoint may be unreachable before the run stops"},
    {.name = "limits.longest_wait",
     .type = OPT_DURATION,
     .at = AT(limits.longest_wait_ms),
     .def = "0s",
     .min = 0,
     .max = 30 * 24 * HOUR,
     .help =
         "a run that could send nothing for longer than this ends instead of waiting; "
         "0: it waits as long as it takes"},
    {.name = "limits.credit_probe",
     .type = OPT_DURATION,
     .at = AT(limits.credit_probe_ms),
     .def = "1m",
     .min = 100,
     .max = HOUR,
     .help = "how long --wait-for-credit waits before it tries one request; each time "
             "twice as long, up to 15 times this"},
    {.name = "limits.mass_failure",
     .type = OPT_COUNT,
     .at = AT(limits.mass_failure),
     .def = "20",
     .min = 1,
     .max = 1000000,
     .help = "like failures in a row after which the rest of a bulk file is parked"},

    {.name = "jobs.tier",
     .type = OPT_STRING,
     .at = AT(jobs.tier),
     .def = "standard",
     .help = "the tier of jobs that say none and that no [route] fits"},
    {.name = "jobs.max_tokens",
     .type = OPT_COUNT,
     .at = AT(jobs.max_tokens),
     .def = "8192",
     .min = 1,
     .max = 10000000,
     .help = "max_tokens of jobs that say none"},
    {.name = "jobs.in_doubt",
     .type = OPT_CHOICE,
     .at = AT(jobs.in_doubt),
     .def = "again",
     .choices = "again hold",
     .help =
         "jobs that may have been answered when a run died: send again, or hold for "
         "a person"},

    {.name = "jobs.on_truncation",
     .type = OPT_CHOICE,
     .at = AT(jobs.on_truncation),
     .def = "raise",
     .choices = "raise keep fail",
     .help =
         "an answer cut at max_tokens: ask once more with twice as many, keep it as "
         "done, or fail the job"},
    {.name = "jobs.cache",
     .type = OPT_CHOICE,
     .at = AT(jobs.cache),
     .def = "auto",
     .choices = "auto off",
     .help = "auto: what many jobs begin with is cached where that is cheaper"},

    {.name = "jobs.route",
     .type = OPT_CHOICE,
     .at = AT(jobs.how),
     .def = "tier",
     .choices = "tier cascade learn",
     .help = "tier: as tier and rules say; cascade: the cheapest rung that is worth "
             "it, and "
             "up where the check fails; learn: as outcomes taught"},
    {.name = "jobs.check",
     .type = OPT_STRING,
     .at = AT(jobs.check),
     .def = "",
     .guarded = true,
     .help =
         "what every answer must pass, such as json or min_chars:20; empty: nothing"},
    {.name = "jobs.ladder",
     .type = OPT_WORDS,
     .at = AT(jobs.ladder),
     .def = "",
     .help =
         "the tiers that cascade and learn choose from, cheapest first; empty: all, "
         "by their prices"},

    {.name = "cascade.max_cost",
     .type = OPT_DOLLARS,
     .at = AT(cascade.max_cost),
     .def = "0",
     .guarded = true,
     .help =
         "a job whose rungs would together cost more dollars climbs no further; 0: no "
         "cap"},

    {.name = "learn.enough",
     .type = OPT_COUNT,
     .at = AT(learn.enough),
     .def = "75",
     .min = 1,
     .max = 99,
     .help = "percent: without a cascade, the cheapest rung that is right as often as "
             "this is chosen"},
    {.name = "learn.explore",
     .type = OPT_COUNT,
     .at = AT(learn.explore),
     .def = "3",
     .min = 0,
     .max = 50,
     .help = "percent of jobs that try a neighbouring rung, to learn from it"},
    {.name = "learn.explore_max_cost",
     .type = OPT_DOLLARS,
     .at = AT(learn.explore_max_cost),
     .def = "0.05",
     .help =
         "a job that is expected to cost more dollars than this is not explored with"},

    {.name = "budget.run",
     .type = OPT_DOLLARS,
     .at = AT(budget.run),
     .def = "0",
     .guarded = true,
     .help = "a run never costs more dollars than this; 0: no ceiling"},
    {.name = "budget.day",
     .type = OPT_DOLLARS,
     .at = AT(budget.day),
     .def = "0",
     .guarded = true,
     .help = "all runs of an account on one day, all queues together; 0: no ceiling"},
    {.name = "budget.month",
     .type = OPT_DOLLARS,
     .at = AT(budget.month),
     .def = "0",
     .guarded = true,
     .help = "all runs of an account in one month; 0: no ceiling"},
    {.name = "budget.zone",
     .type = OPT_STRING,
     .at = AT(budget.zone),
     .def = "",
     .guarded = true,
     .help = "the time zone in which days and months begin, such as Europe/Berlin; "
             "empty: the machine's"},

    {.name = "catalog.file",
     .type = OPT_STRING,
     .at = AT(catalog.file),
     .def = "",
     .guarded = true,
     .help =
         "models and prices of your own, laid over the built-in ones (the form is that "
         "of conf/models.ini)"},

    {.name = "window.open",
     .type = OPT_STRING,
     .at = AT(window.open),
     .def = "",
     .help = "the hours in which runs may send, such as 22:00-07:00 or Mon-Fri "
             "22:00-07:00, by the clocks of budget.zone; empty: always"},

    {.name = "notify.url",
     .type = OPT_STRING,
     .at = AT(notify.url),
     .def = "",
     .guarded = true,
     .help = "asked for when a run begins (URL/start) and ends (URL/EXIT), as "
             "healthchecks.io has it"},
    {.name = "notify.on_finish",
     .type = OPT_STRING,
     .at = AT(notify.on_finish),
     .def = "",
     .guarded = true,
     .help = "a command that is run when a run has ended; NIGHTMILL_EXIT, _DIR, _DONE, "
             "_FAILED, _PARKED, _WAITING, _SPENT_USD and _SAYS tell it how"},
    {.name = "notify.shell",
     .type = OPT_CHOICE,
     .at = AT(notify.shell),
     .def = "no",
     .choices = "no yes",
     .guarded = true,
     .help = "yes: run it through /bin/sh -c"},
    {.name = "notify.textfile",
     .type = OPT_STRING,
     .at = AT(notify.textfile),
     .def = "",
     .guarded = true,
     .help = "a file ending in .prom that node_exporter's textfile collector reads, "
             "written whole when a run ends"},

    {.name = "intake.ignore",
     .type = OPT_WORDS,
     .at = AT(intake.ignore),
     .def = "",
     .help = "globs of paths that are never jobs"},
    {.name = "intake.settle",
     .type = OPT_DURATION,
     .at = AT(intake.settle_ms),
     .def = "2s",
     .min = 0,
     .max = HOUR,
     .help = "a file that changed less long ago is not trusted to be whole"},
    {.name = "intake.max_bytes",
     .type = OPT_SIZE,
     .at = AT(intake.max_bytes),
     .def = "32MiB",
     .min = KIB,
     .max = 32 * MIB,
     .help = "a longer file or line is not a job (the API's own limit is 32 MB)"},

    {.name = "store.dir",
     .type = OPT_STRING,
     .at = AT(store.dir),
     .def = "",
     .guarded = true,
     .help = "where the state lives; empty: DIR/.nightmill"},
    {.name = "store.patience",
     .type = OPT_DURATION,
     .at = AT(store.patience_ms),
     .def = "30s",
     .min = 0,
     .max = HOUR,
     .help = "how long answers that cannot be stored are tried again"},
    {.name = "store.keep",
     .type = OPT_DURATION,
     .at = AT(store.keep_ms),
     .def = "0s",
     .min = 0,
     .max = 3650 * 24 * HOUR,
     .guarded = true,
     .help =
         "so long after they came to rest, the store forgets the answers of single "
         "jobs "
         "and all of jobs whose files are gone (what lies in the results stays, and so "
         "does what was spent); 0: never"},
    {.name = "store.reserve",
     .type = OPT_SIZE,
     .at = AT(store.reserve),
     .def = "8MiB",
     .min = 0,
     .max = GIB,
     .help = "disk space set aside, and given back when the disk fills"},
    {.name = "store.sync",
     .type = OPT_CHOICE,
     .at = AT(store.sync),
     .def = "full",
     .choices = "full off",
     .guarded = true,
     .help = "off: for tests alone, a power cut may lose answers"},

    {.name = "results.dir",
     .type = OPT_STRING,
     .at = AT(results.dir),
     .def = "",
     .guarded = true,
     .help = "where results go; empty: DIR/results"},
};

#define TIER_AT(field) offsetof(struct tier, field)
static const struct opt tier_options[] = {
    {.name = "model",
     .type = OPT_STRING,
     .at = TIER_AT(model),
     .def = "",
     .help = "the model's id"},
    {.name = "effort",
     .type = OPT_STRING,
     .at = TIER_AT(effort),
     .def = "",
     .help = "low, medium, high, ...; empty: the model's own default"},
    {.name = "max_tokens",
     .type = OPT_COUNT,
     .at = TIER_AT(max_tokens),
     .def = "0",
     .min = 0,
     .max = 10000000,
     .help = "for jobs that say none; 0: jobs.max_tokens"},
    {.name = "fallback",
     .type = OPT_STRING,
     .at = TIER_AT(fallback),
     .def = "",
     .help = "the tier that takes over where this one's model is refused"},
};

#define ROUTE_AT(field) offsetof(struct route, field)
static const struct opt route_options[] = {
    {.name = "match",
     .type = OPT_STRING,
     .at = ROUTE_AT(match),
     .def = "",
     .help = "a glob on the job's name; empty: every job"},
    {.name = "tags",
     .type = OPT_WORDS,
     .at = ROUTE_AT(tags),
     .def = "",
     .help = "tags that the job must have, all of them"},
    {.name = "min_bytes",
     .type = OPT_SIZE,
     .at = ROUTE_AT(min_bytes),
     .def = "0KiB",
     .min = 0,
     .max = GIB,
     .help = "the request's size at least"},
    {.name = "max_bytes",
     .type = OPT_SIZE,
     .at = ROUTE_AT(max_bytes),
     .def = "0KiB",
     .min = 0,
     .max = GIB,
     .help = "the request's size at most; 0: no bound"},
    {.name = "tier",
     .type = OPT_STRING,
     .at = ROUTE_AT(tier),
     .def = "",
     .help = "the tier of jobs that fit"},
    {.name = "model",
     .type = OPT_STRING,
     .at = ROUTE_AT(model),
     .def = "",
     .help = "or the model itself"},
    {.name = "route",
     .type = OPT_CHOICE,
     .at = ROUTE_AT(how),
     .def = "default",
     .choices = "tier cascade learn default",
     .help = "how their rung is chosen; default: as jobs.route says"},
    {.name = "check",
     .type = OPT_STRING,
     .at = ROUTE_AT(check),
     .def = "",
     .help = "what their answers must pass; empty: what jobs.check says"},
};

#define CHECK_AT(field) offsetof(struct check_command, field)
static const struct opt check_options[] = {
    {.name = "command",
     .type = OPT_STRING,
     .at = CHECK_AT(command),
     .def = "",
     .guarded = true,
     .help =
         "a program and its words; it reads the answer, and ends with 0 if it passes"},
    {.name = "shell",
     .type = OPT_CHOICE,
     .at = CHECK_AT(shell),
     .def = "no",
     .choices = "no yes",
     .guarded = true,
     .help = "yes: run it through /bin/sh -c"},
    {.name = "timeout",
     .type = OPT_DURATION,
     .at = CHECK_AT(timeout_ms),
     .def = "30s",
     .min = 100,
     .max = HOUR,
     .guarded = true,
     .help = "a check that takes longer has failed"},
};

/* Repeatable sections, `[kind NAME]`: each NAME makes one more item of a list. */
struct group {
    const char *kind, *what;
    const struct opt *opts;
    size_t opts_len, size, list_at, len_at, name_at, max;
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
static const struct group groups[] = {
    {"tier", "a rung: what jobs of this tier are sent with", tier_options,
     COUNT(tier_options), sizeof(struct tier), AT(tiers), AT(tiers_len), TIER_AT(name),
     TIERS_MAX},
    {"route", "a rule: the first one that fits a job decides", route_options,
     COUNT(route_options), sizeof(struct route), AT(routes), AT(routes_len),
     ROUTE_AT(name), ROUTES_MAX},
    {"check", "a program that judges answers; jobs name it in their check",
     check_options, COUNT(check_options), sizeof(struct check_command), AT(checks),
     AT(checks_len), CHECK_AT(name), CHECKS_MAX},
};

/* Dated with the catalogue: the smallest, the middle and the large model of the day. */
static const char *const first_values[][2] = {
    {"tier.cheap.model", "claude-haiku-5-5"},
    {"tier.standard.model", "claude-sonnet-5-5"},
    {"tier.deep.model", "claude-opus-5-5"},
};

static void words_free(struct words *w)
{
    for (size_t i = 0; i < w->count; i++)
        free(w->word[i]);
    free(w->word);
    *w = (struct words){0};
}

static void item_free(const struct opt *opts, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++) {
        void *at = (char *)base + opts[i].at;
        if (opts[i].type == OPT_STRING)
            free(*(char **)at);
        else if (opts[i].type == OPT_WORDS)
            words_free(at);
    }
}

static int set_string(char **to, const char *value, struct err *e)
{
    char *copy = strdup(value);
    if (copy == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    free(*to);
    *to = copy;
    return 0;
}

static int set_words(struct words *to, const char *value, struct err *e)
{
    struct words w = {0};
    char *copy = strdup(value), *rest = copy, *one;
    if (copy == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    while ((one = strsep(&rest, ", \t\n")) != NULL) {
        if (*one == '\0')
            continue;
        char **grown = realloc(w.word, (w.count + 1) * sizeof *grown);
        char *kept = grown ? strdup(one) : NULL;
        if (grown)
            w.word = grown;
        if (kept == NULL) {
            words_free(&w);
            free(copy);
            return err_set(e, ERR_NOMEM, "out of memory");
        }
        w.word[w.count++] = kept;
    }
    free(copy);
    words_free(to);
    *to = w;
    return 0;
}

static int set_choice(const struct opt *o, const char *name, int *to, const char *value,
                      struct err *e)
{
    size_t n = strlen(value);
    int index = 0;
    for (const char *p = o->choices; *p; index++) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, value, n) == 0) {
            *to = index;
            return 0;
        }
        p += len + strspn(p + len, " ");
    }
    return err_set(e, ERR_CONF, "%s = %s: want one of: %s", name, value, o->choices);
}

struct unit {
    const char *name;
    int64_t of;
};

static const struct unit durations[] = {
    {"ms", 1}, {"s", SECOND}, {"m", MINUTE}, {"h", HOUR}, {"d", 24 * HOUR}};
static const struct unit sizes[] = {{"B", 1},          {"KiB", KIB}, {"MiB", MIB},
                                    {"GiB", GIB},      {"KB", 1000}, {"MB", 1000000},
                                    {"GB", 1000000000}};
static const struct unit counts[] = {{"", 1}};

/* The largest unit that leaves a whole number, so that bounds read as people write. */
static const char *with_unit(int64_t n, const struct unit *units, size_t len, char *buf,
                             size_t size)
{
    const struct unit *best = &units[0];
    for (size_t i = 0; i < len; i++)
        if (n != 0 && units[i].of > best->of && n % units[i].of == 0)
            best = &units[i];
    assert(best->of > 0);
    snprintf(buf, size, "%" PRId64 "%s", n / best->of, best->name);
    return buf;
}

static int set_number(const struct opt *o, const char *name, int64_t *to,
                      const char *value, struct err *e)
{
    const struct unit *units = o->type == OPT_DURATION ? durations
                               : o->type == OPT_SIZE   ? sizes
                                                       : counts;
    size_t len = o->type == OPT_DURATION ? COUNT(durations)
                 : o->type == OPT_SIZE   ? COUNT(sizes)
                                         : COUNT(counts);
    char *end;
    errno = 0;
    intmax_t n = strtoimax(value, &end, 10);
    int64_t unit = 0;
    for (size_t i = 0; i < len && unit == 0; i++)
        if (strcmp(end, units[i].name) == 0)
            unit = units[i].of;
    if (end == value || errno || unit == 0 || n < 0 || n > o->max / unit ||
        n * unit < o->min) {
        char lo[40], hi[40];
        const char *what = o->type == OPT_DURATION ? "a time with its unit (30s, 10m)"
                           : o->type == OPT_SIZE   ? "a size with its unit (16MiB)"
                                                   : "a number";
        return err_set(e, ERR_CONF, "%s = %s: want %s from %s to %s", name, value, what,
                       with_unit(o->min, units, len, lo, sizeof lo),
                       with_unit(o->max, units, len, hi, sizeof hi));
    }
    *to = n * unit;
    return 0;
}

static int set_dollars(const char *name, int64_t *to, const char *value, struct err *e)
{
    if (catalog_dollars(value, to) < 0)
        return err_set(e, ERR_CONF, "%s = %s: want dollars, such as 12.50", name,
                       value);
    return 0;
}

static int set_option(const struct opt *o, void *base, const char *name,
                      const char *value, struct err *e)
{
    void *at = (char *)base + o->at;
    switch (o->type) {
    case OPT_STRING:
        return set_string(at, value, e);
    case OPT_WORDS:
        return set_words(at, value, e);
    case OPT_CHOICE:
        return set_choice(o, name, at, value, e);
    case OPT_DOLLARS:
        return set_dollars(name, at, value, e);
    case OPT_COUNT:
    case OPT_DURATION:
    case OPT_SIZE:
        return set_number(o, name, at, value, e);
    }
    return -1;
}

static int set_defaults(const struct opt *opts, size_t n, void *base, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (set_option(&opts[i], base, opts[i].name, opts[i].def, e) < 0)
            return -1;
    return 0;
}

/* The item of that name, made if it is new. */
static void *group_item(struct conf *c, const struct group *g, const char *name,
                        size_t name_len, struct err *e)
{
    char **list = (char **)((char *)c + g->list_at);
    size_t *len = (size_t *)((char *)c + g->len_at);

    for (size_t i = 0; i < *len; i++) {
        char *item = *list + i * g->size;
        const char *known = *(char **)(item + g->name_at);
        if (strlen(known) == name_len && memcmp(known, name, name_len) == 0)
            return item;
    }
    if (*len == g->max) {
        err_set(e, ERR_CONF, "[%s %.*s]: more than %zu sections of this kind", g->kind,
                (int)name_len, name, g->max);
        return NULL;
    }
    char *grown = realloc(*list, (*len + 1) * g->size);
    if (grown == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    *list = grown;
    char *item = grown + *len * g->size;
    memset(item, 0, g->size);
    *(char **)(item + g->name_at) = strndup(name, name_len);
    ++*len;
    if (set_defaults(g->opts, g->opts_len, item, e) < 0)
        return NULL;
    return item;
}

static bool plain_name(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("-_", s[i]))
            return false;
    return len > 0 && len <= 64;
}

/* `guarded` comes back for a name that is found, so that a file can be held to it. */
static int set_by_name(struct conf *c, const char *name, const char *value,
                       bool only_look, bool *guarded, struct err *e)
{
    for (size_t i = 0; i < COUNT(options); i++)
        if (strcmp(options[i].name, name) == 0) {
            *guarded = options[i].guarded;
            return only_look ? 0 : set_option(&options[i], c, name, value, e);
        }
    for (size_t i = 0; i < COUNT(groups); i++) {
        const struct group *g = &groups[i];
        size_t kind = strlen(g->kind);
        if (strncmp(name, g->kind, kind) != 0 || name[kind] != '.')
            continue;
        const char *item = name + kind + 1, *dot = strrchr(item, '.');
        if (dot == NULL || !plain_name(item, (size_t)(dot - item)))
            return err_set(e, ERR_CONF,
                           "%s: want %s.NAME.OPTION, NAME of letters, digits, - and _",
                           name, g->kind);
        for (size_t k = 0; k < g->opts_len; k++)
            if (strcmp(g->opts[k].name, dot + 1) == 0) {
                *guarded = g->opts[k].guarded;
                if (only_look)
                    return 0;
                void *to = group_item(c, g, item, (size_t)(dot - item), e);
                return to ? set_option(&g->opts[k], to, name, value, e) : -1;
            }
    }
    return err_set(e, ERR_CONF, "%s: no such option; `nightmill options` has all",
                   name);
}

int conf_set(struct conf *c, const char *name, const char *value, struct err *e)
{
    bool guarded;
    return set_by_name(c, name, value, false, &guarded, e);
}

int conf_init(struct conf *c, struct err *e)
{
    *c = (struct conf){0};
    if (set_defaults(options, COUNT(options), c, e) < 0)
        return -1;
    for (size_t i = 0; i < COUNT(first_values); i++)
        if (conf_set(c, first_values[i][0], first_values[i][1], e) < 0)
            return -1;
    return 0;
}

void conf_free(struct conf *c)
{
    item_free(options, COUNT(options), c);
    for (size_t i = 0; i < COUNT(groups); i++) {
        const struct group *g = &groups[i];
        char *list = *(char **)((char *)c + g->list_at);
        size_t len = *(size_t *)((char *)c + g->len_at);
        for (size_t k = 0; k < len; k++) {
            item_free(g->opts, g->opts_len, list + k * g->size);
            free(*(char **)(list + k * g->size + g->name_at));
        }
        free(list);
    }
    *c = (struct conf){0};
}

int conf_mistake(const struct conf *c, const struct err *cause, struct err *e)
{
    if (c->on_mistake)
        c->on_mistake(c->mistake_arg, cause->text);
    return err_set(e, cause->code, "%s", cause->text);
}

struct reading {
    struct conf *conf;
    const char *path;
    bool refuse_guarded;
    const char *text; /* what is left of it */
    int line;         /* that was handed over last */
    int wrong;        /* the line of our first complaint */
    struct err *e;    /* the first complaint */
};

/* inih's handler: 1 is good. */
static int complain(struct reading *r, struct err *cause)
{
    if (r->wrong == 0)
        r->wrong = r->line;
    err_wrap(cause, "%s:%d", r->path, r->line);
    conf_mistake(r->conf, cause, r->e);
    return 0;
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    struct reading *r = user;
    char full[256];
    const char *blank = strchr(section, ' ');
    bool guarded = false;
    struct err cause = {0};

    if (*section == '\0') {
        err_set(&cause, ERR_CONF, "%s: want a [section] before it", name);
        return complain(r, &cause);
    }
    if (blank)
        snprintf(full, sizeof full, "%.*s.%s.%s", (int)(blank - section), section,
                 blank + strspn(blank, " "), name);
    else
        snprintf(full, sizeof full, "%s.%s", section, name);
    if (set_by_name(r->conf, full, value, true, &guarded, &cause) < 0)
        return complain(r, &cause);
    if (guarded && r->refuse_guarded) {
        err_set(&cause, ERR_CONF,
                "%s: not taken from a file that others can write or own; chown it to "
                "yourself, chmod go-w, or use --conf",
                full);
        return complain(r, &cause);
    }
    if (set_by_name(r->conf, full, value, false, &guarded, &cause) < 0)
        return complain(r, &cause);
    return 1;
}

/* inih would tell the first such line alone. A `;` behind a blank begins a comment. */
static bool well_formed(const char *line, size_t n)
{
    if (n == 0 || *line == '\r' || strchr(";#", *line))
        return true;
    for (size_t i = *line == '['; i < n; i++) {
        if (*line == '[' ? line[i] == ']' : strchr("=:", line[i]) != NULL)
            return true;
        if (line[i] == ';' && i > 0 && isspace((unsigned char)line[i - 1]))
            return false;
    }
    return false;
}

/* Lines for inih, without their leading blanks: it would take an indented line for more
 * of the value before. A line that its buffer would cut is a complaint. */
static char *next_line(char *to, int size, void *user)
{
    struct reading *r = user;
    if (*r->text == '\0')
        return NULL;
    size_t len = strcspn(r->text, "\n"), skip = strspn(r->text, " \t");
    if (skip > len)
        skip = len;
    r->line++;
    size_t n = len - skip;
    struct err cause = {0};
    if (n > INI_LINE_MAX - 1 || n > (size_t)size - 2)
        err_set(&cause, ERR_CONF, "a line longer than %d bytes", INI_LINE_MAX - 1);
    else if (!well_formed(r->text + skip, n))
        err_set(&cause, ERR_CONF, "want [section], name = value, or a comment");
    if (cause.code != ERR_NONE) {
        complain(r, &cause);
        n = 0;
    }
    memcpy(to, r->text + skip, n);
    to[n] = '\n';
    to[n + 1] = '\0';
    r->text += len + (r->text[len] == '\n');
    return to;
}

static char *read_small(const char *path, struct stat *st, struct err *e)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    if (f == NULL || fstat(fileno(f), st) < 0) {
        err_set(e, ERR_CONF, "%s: %s; name an INI that you can read", path,
                strerror(errno));
    } else if (!S_ISREG(st->st_mode) || st->st_size > INI_BYTES_MAX) {
        err_set(e, ERR_CONF, "%s: want a file of at most 1 MiB", path);
    } else if ((text = malloc((size_t)st->st_size + 1)) == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
    } else {
        text[fread(text, 1, (size_t)st->st_size, f)] = '\0';
    }
    if (f)
        fclose(f);
    return text;
}

int conf_read(struct conf *c, const char *path, bool optional, bool guarded,
              struct err *e)
{
    struct stat st;
    struct err cause = {0};
    if (optional && access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    char *text = read_small(path, &st, &cause);
    if (text == NULL)
        return conf_mistake(c, &cause, e);

    bool ours = (st.st_uid == geteuid() || st.st_uid == 0) &&
                (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
    struct reading r = {.conf = c,
                        .path = path,
                        .refuse_guarded = guarded && !ours,
                        .text = text,
                        .e = e};
    int line = ini_parse_stream(next_line, &r, on_pair, &r);
    free(text);
    if (line == 0 && r.wrong == 0)
        return 0;
    if (line > 0 && r.wrong == 0) { /* a form that only inih objects to */
        r.line = line;
        err_set(&cause, ERR_CONF, "want [section], name = value, or a comment");
        complain(&r, &cause);
    } else if (line < 0) {
        err_set(&cause, ERR_NOMEM, "%s: out of memory", path);
        return conf_mistake(c, &cause, e);
    }
    return -1;
}

int conf_environment(struct conf *c, struct err *e)
{
    const char *url = getenv("ANTHROPIC_BASE_URL");
    struct err cause = {0};
    if (url && *url && conf_set(c, "api.base_url", url, &cause) < 0)
        return conf_mistake(c, &cause, e);
    return 0;
}

const struct tier *conf_tier(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < c->tiers_len; i++)
        if (strcmp(c->tiers[i].name, name) == 0)
            return &c->tiers[i];
    return NULL;
}

const struct check_command *conf_check_command(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < c->checks_len; i++)
        if (strcmp(c->checks[i].name, name) == 0)
            return &c->checks[i];
    return NULL;
}

static const char *const hows[] = {[ROUTE_UNSAID] = "default",
                                   [ROUTE_TIER] = "tier",
                                   [ROUTE_CASCADE] = "cascade",
                                   [ROUTE_LEARN] = "learn"};

int conf_route_how(const char *word)
{
    for (int i = ROUTE_TIER; i <= ROUTE_LEARN; i++)
        if (strcmp(hows[i], word) == 0)
            return i;
    return -1;
}

const char *conf_route_how_name(enum route_how how)
{
    return hows[how];
}

static int check_tier_name(const struct conf *c, const char *option, const char *name,
                           struct err *e)
{
    if (conf_tier(c, name))
        return 0;
    char known[200] = "";
    for (size_t i = 0; i < c->tiers_len; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", c->tiers[i].name);
    }
    return err_set(e, ERR_CONF, "%s = %s: no such tier; there are %s", option, name,
                   known);
}

/* The key goes over TLS, or stays on this machine. An `@` would make what stands before
 * it a user, and what follows the host. */
static int check_url(const char *url, struct err *e)
{
    static const char *const loopback[] = {"127.0.0.1", "localhost", "[::1]"};
    const char *host = strstr(url, "://") ? strstr(url, "://") + 3 : url;
    size_t len = strcspn(host, "/?#");
    bool plain = memchr(host, '@', len) == NULL && strpbrk(url, " \\") == NULL;
    if (plain && strncmp(url, "https://", 8) == 0 && len > 0)
        return 0;
    if (plain && strncmp(url, "http://", 7) == 0)
        for (size_t i = 0; i < COUNT(loopback); i++) {
            size_t n = strlen(loopback[i]);
            if (len < n || strncmp(host, loopback[i], n) != 0)
                continue;
            if (len == n ||
                (host[n] == ':' && strspn(host + n + 1, "0123456789") == len - n - 1))
                return 0;
        }
    return err_set(e, ERR_CONF,
                   "api.base_url = %s: want https://HOST, or http:// to 127.0.0.1 or "
                   "localhost: the key does not travel in the clear",
                   url);
}

/* A zone that is misspelt would quietly be UTC. */
static int check_zone(const char *zone, struct err *e)
{
    char path[256];
    if (*zone == '\0')
        return 0;
    int n = snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", zone);
    if (strstr(zone, "..") || n >= (int)sizeof path || access(path, R_OK) < 0)
        return err_set(
            e, ERR_CONF,
            "budget.zone = %.80s: no such time zone on this machine; want one "
            "such as Europe/Berlin (Debian's tzdata has them)",
            zone);
    return 0;
}

static int check_window(const char *open, struct err *e)
{
    struct hours h;
    return *open && hours_read(open, &h, e) < 0 ? err_wrap(e, "window.open") : 0;
}

static int check_tier(const struct conf *c, const struct tier *t, struct err *e)
{
    char option[160];
    snprintf(option, sizeof option, "tier.%s.fallback", t->name);
    if (*t->model == '\0')
        return err_set(e, ERR_CONF, "[tier %s]: want model = a model's id", t->name);
    if (*t->fallback && check_tier_name(c, option, t->fallback, e) < 0)
        return -1;
    if (strcmp(t->name, "auto") == 0)
        return err_set(e, ERR_CONF, "[tier auto]: `auto` means: choose for me");
    return 0;
}

static int check_route(const struct conf *c, const struct route *r, struct err *e)
{
    char option[160];
    snprintf(option, sizeof option, "route.%s.tier", r->name);
    if (*r->tier && *r->model)
        return err_set(e, ERR_CONF, "[route %s]: want either tier or model", r->name);
    if (!*r->tier && !*r->model && r->how == ROUTE_UNSAID && !*r->check)
        return err_set(e, ERR_CONF, "[route %s]: want tier, model, route or check",
                       r->name);
    return *r->tier ? check_tier_name(c, option, r->tier, e) : 0;
}

static int check_program(const struct check_command *x, struct err *e)
{
    if (*x->command)
        return 0;
    return err_set(e, ERR_CONF, "[check %s]: want command = a program", x->name);
}

int conf_check(const struct conf *c, struct err *e)
{
    int rc = 0;
    struct err cause = {0};
#define CHECK(call)                          \
    do {                                     \
        cause = (struct err){0};             \
        if ((call) < 0)                      \
            rc = conf_mistake(c, &cause, e); \
    } while (0)
    CHECK(check_url(c->api.base_url, &cause));
    CHECK(check_zone(c->budget.zone, &cause));
    CHECK(check_window(c->window.open, &cause));
    CHECK(check_tier_name(c, "jobs.tier", c->jobs.tier, &cause));
    for (size_t i = 0; i < c->jobs.ladder.count; i++)
        CHECK(check_tier_name(c, "jobs.ladder", c->jobs.ladder.word[i], &cause));
    for (size_t i = 0; i < c->checks_len; i++)
        CHECK(check_program(&c->checks[i], &cause));
    for (size_t i = 0; i < c->tiers_len; i++)
        CHECK(check_tier(c, &c->tiers[i], &cause));
    for (size_t i = 0; i < c->routes_len; i++)
        CHECK(check_route(c, &c->routes[i], &cause));
#undef CHECK
    return rc;
}

void conf_each_option(conf_option_fn *fn, void *arg)
{
    char name[160];
    for (size_t i = 0; i < COUNT(options); i++)
        fn(arg, options[i].name, options[i].def, options[i].choices, options[i].help);
    for (size_t i = 0; i < COUNT(groups); i++)
        for (size_t k = 0; k < groups[i].opts_len; k++) {
            const struct opt *o = &groups[i].opts[k];
            snprintf(name, sizeof name, "%s.NAME.%s", groups[i].kind, o->name);
            fn(arg, name, o->def, o->choices, o->help);
        }
}

static void print_option(FILE *to, const char *name, const char *value,
                         const struct opt *o)
{
    fprintf(to, "; %s\n", o->help);
    if (o->choices)
        fprintf(to, "; one of: %s\n", o->choices);
    fprintf(to, ";%s = %s\n", name, value);
}

void conf_print_sample(FILE *to)
{
    size_t section = 0;
    const char *last = "";
    fputs(
        "; nightmill.ini: every option at its default. Take away the ; in front of a\n"
        "; line to change it. Later wins: /etc/nightmill.ini, DIR/nightmill.ini,\n"
        "; --conf FILE, environment, --set section.key=value.\n",
        to);
    for (size_t i = 0; i < COUNT(options); i++) {
        const char *dot = strchr(options[i].name, '.');
        size_t n = (size_t)(dot - options[i].name);
        if (n != section || memcmp(last, options[i].name, n) != 0)
            fprintf(to, "\n[%.*s]\n", (int)n, options[i].name);
        section = n;
        last = options[i].name;
        print_option(to, dot + 1, options[i].def, &options[i]);
    }
    for (size_t i = 0; i < COUNT(first_values); i++) {
        const char *name = first_values[i][0] + strlen("tier.");
        fprintf(to, "\n[tier %.*s]\n", (int)strcspn(name, "."), name);
        for (size_t k = 0; k < COUNT(tier_options); k++)
            if (k == 0 || i == 0)
                print_option(to, tier_options[k].name,
                             k == 0 ? first_values[i][1] : tier_options[k].def,
                             &tier_options[k]);
    }
    fputs("\n; Rules, as many as wanted; the first that fits a job decides. For "
          "example:\n"
          ";[route NAME]\n",
          to);
    for (size_t k = 0; k < COUNT(route_options); k++)
        print_option(to, route_options[k].name, route_options[k].def,
                     &route_options[k]);
    fputs("\n; Programs that judge answers; a job names one in its `check`.\n"
          ";[check NAME]\n",
          to);
    for (size_t k = 0; k < COUNT(check_options); k++)
        print_option(to, check_options[k].name, check_options[k].def,
                     &check_options[k]);
}
