#include "sim/settings.h"

#include "runner/err.h"
#include "sim/words.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

enum kind { INT, REAL, SPAN, TEXT, DOLLARS, SPEND_KIND, ENFORCEMENT };

struct option {
    const char *name;
    enum kind kind;
    const char *value; /* by default, read like a user's */
    const char *help;
    size_t at;
    size_t endless_at; /* DOLLARS: where an empty value is noted */
    double min, max;
};

enum { WORDS_MAX = 4 };

static const char *const words_of[][WORDS_MAX] = {
    [SPEND_KIND] =
        {[SPEND_OWN] = "own", [SPEND_WORKSPACE] = "workspace", [SPEND_TIER] = "tier"},
    [ENFORCEMENT] = {[RPM_BY_MINUTE] = "minute", [RPM_BY_SECOND] = "second"},
};

#define AT(field) offsetof(struct settings, field)
#define MANY 1e12

static const struct option options[] = {
    {"server.port", INT, "8787", "port on 127.0.0.1; 0: a free one", AT(port), 0, 0,
     65535},
    {"server.connections", INT, "20000", "connections at a time", AT(connections), 0, 1,
     1000000},
    {"auth.keys", TEXT, "", "accepted keys, commas between; empty: every key", AT(keys),
     0, 0, 0},
    {"auth.refuse", TEXT, "", "keys that are refused", AT(refused_keys), 0, 0, 0},
    {"org.id", TEXT, "5f0c9d3e-7a41-4c58-9b1d-2e6f8a90c3d7", "organisation in headers",
     AT(org_id), 0, 0, 0},
    {"org.workspace", TEXT, "wrkspc_01SimulatedWorkspace00000", "workspace in headers",
     AT(workspace_id), 0, 0, 0},
    {"limits.rpm", INT, "0", "requests a minute, each family; 0: no limit",
     AT(rates.rpm), 0, 0, MANY},
    {"limits.itpm", INT, "0", "uncached input tokens a minute", AT(rates.itpm), 0, 0,
     MANY},
    {"limits.otpm", INT, "0", "output tokens a minute", AT(rates.otpm), 0, 0, MANY},
    {"limits.count_rpm", INT, "0", "count_tokens requests a minute", AT(count_rpm), 0,
     0, MANY},
    {"limits.burst", SPAN, "60s", "how much rate a bucket holds", AT(burst_ns), 0, 0,
     0},
    {"limits.rpm_enforced", ENFORCEMENT, "minute",
     "second: not more requests at once than one second's", AT(rpm_enforced), 0, 0, 0},
    {"limits.rounding", INT, "1000", "`remaining` of tokens to the nearest; 0: exact",
     AT(rounding), 0, 0, MANY},
    {"limits.change_at", SPAN, "0", "after so long the limits change; 0: never",
     AT(change_ns), 0, 0, 0},
    {"limits.change_factor", REAL, "1", "to so many times what they are",
     AT(change_factor), 0, 0.001, 1000},
    {"limits.change_back_at", SPAN, "0", "after so long they change back; 0: never",
     AT(change_back_ns), 0, 0, 0},
    {"limits.acceleration", REAL, "0",
     "input may grow so many times a minute; 0: at will", AT(acceleration), 0, 0, 1000},
    {"limits.concurrent", INT, "0", "messages requests at a time", AT(concurrent), 0, 0,
     MANY},
    {"tenant.share", REAL, "0", "of every limit, that somebody else uses",
     AT(tenant_share), 0, 0, 1},
    {"tenant.period", SPAN, "60s", "in waves: twice that for half of it; 0: evenly",
     AT(tenant_period_ns), 0, 0, 0},
    {"credit.balance", DOLLARS, "", "dollars of prepaid credit; empty: endless",
     AT(credit), AT(credit_endless), 0, 0},
    {"spend.limit", DOLLARS, "", "dollars until the spend limit; empty: none",
     AT(spend_limit), AT(spend_endless), 0, 0},
    {"spend.kind", SPEND_KIND, "own", "whose spend limit: own, workspace, tier",
     AT(spend_kind), 0, 0, 0},
    {"spend.until", TEXT, "", "YYYY-MM-DD of access; empty: the 1st of next month",
     AT(spend_until), 0, 0, 0},
    {"latency.ttft", SPAN, "0", "time to the first token (30ms, 1.5s)", AT(ttft_ns), 0,
     0, 0},
    {"latency.per_token", SPAN, "0", "time a token of output takes", AT(per_token_ns),
     0, 0, 0},
    {"output.median", REAL, "150", "tokens of an answer, lognormal", AT(output_median),
     0, 1, 1e6},
    {"output.sigma", REAL, "0.6", "its spread; 0: every answer alike", AT(output_sigma),
     0, 0, 5},
    {"output.seed", INT, "1", "another seed, other answers", AT(output_seed), 0, 0,
     1e15},
    {"output.bytes", INT, "0", "fixes the bytes of an answer's text; 0: by tokens",
     AT(output_bytes), 0, 0, 1 << 28},
    {"input.bytes_per_token", REAL, "4", "how input tokens are estimated",
     AT(bytes_per_token), 0, 0.1, 1000},
    {"input.jitter", REAL, "0", "by how much of itself that may be wrong",
     AT(input_jitter), 0, 0, 1},
    {"truth.file", TEXT, "",
     "who answers right: lines of hash, weak and strong model (sim/truth.h)",
     AT(truth_file), 0, 0, 0},
    {"truth.weak", TEXT, "haiku", "what the weak model's id holds", AT(truth_weak), 0,
     0, 0},
    {"truth.errs", REAL, "0", "how often an answer says wrongly whether it passes",
     AT(truth_errs), 0, 0, 1},
    {"stream.chunk", INT, "16", "tokens of one content_block_delta", AT(chunk_tokens),
     0, 1, 100000},
    {"log.max", INT, "200000", "requests that /sim/log remembers", AT(log_max), 0, 0,
     1e8},
    {"stats.jobs_max", INT, "2000000", "jobs told apart in /sim/stats?jobs=1",
     AT(jobs_max), 0, 0, 1e8},
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static int dollars_set(struct settings *s, const struct option *o, const char *value,
                       struct err *e)
{
    bool *endless = (bool *)((char *)s + o->endless_at);
    picodollars amount = 0;
    if (*value && words_dollars(value, &amount) < 0)
        return err_set(e, ERR_CONF, "%s = %s: want dollars", o->name, value);
    *endless = *value == '\0';
    *(picodollars *)((char *)s + o->at) = amount;
    return 0;
}

static int word_set(int64_t *field, const struct option *o, const char *value,
                    struct err *e)
{
    const char *const *words = words_of[o->kind];
    char all[64] = "";
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], value) == 0) {
            *field = i;
            return 0;
        }
        size_t len = strlen(all);
        snprintf(all + len, sizeof all - len, "%s%s",
                 i == 0         ? ""
                 : words[i + 1] ? ", "
                                : " or ",
                 words[i]);
    }
    return err_set(e, ERR_CONF, "%s = %s: want %s", o->name, value, all);
}

static int option_set(struct settings *s, const struct option *o, const char *value,
                      struct err *e)
{
    void *field = (char *)s + o->at;

    switch (o->kind) {
    case INT:
        if (words_int(value, (int64_t)o->min, (int64_t)o->max, field) < 0)
            return err_set(e, ERR_CONF, "%s = %s: want a number from %.0f to %.0f",
                           o->name, value, o->min, o->max);
        return 0;
    case REAL:
        if (words_real(value, o->min, o->max, field) < 0)
            return err_set(e, ERR_CONF, "%s = %s: want a number from %g to %g", o->name,
                           value, o->min, o->max);
        return 0;
    case SPAN:
        if (words_span(value, field) < 0)
            return err_set(e, ERR_CONF, "%s = %s: want a time with its unit (30ms, 3s)",
                           o->name, value);
        return 0;
    case TEXT:
        return words_replace(field, value, e);
    case DOLLARS:
        return dollars_set(s, o, value, e);
    case SPEND_KIND:
    case ENFORCEMENT:
        return word_set(field, o, value, e);
    }
    assert(0);
    return -1;
}

static int64_t *rate_field(struct rates *r, const char *key)
{
    if (strcmp(key, "rpm") == 0)
        return &r->rpm;
    if (strcmp(key, "itpm") == 0)
        return &r->itpm;
    return strcmp(key, "otpm") == 0 ? &r->otpm : NULL;
}

/* "opus-5.5.rpm": the family may hold points itself. */
static int family_set(struct settings *s, const char *name, const char *value,
                      struct err *e)
{
    const char *point = strrchr(name, '.');
    size_t len = point ? (size_t)(point - name) : 0;
    struct rates probe;
    if (len == 0 || len >= FAMILY_NAME_MAX || rate_field(&probe, point + 1) == NULL)
        return err_set(e, ERR_CONF, "limits.%s: no setting is named so", name);

    int64_t n;
    if (words_int(value, 0, (int64_t)MANY, &n) < 0)
        return err_set(e, ERR_CONF, "limits.%s = %s: want a number", name, value);

    struct family_limits *f = NULL;
    for (size_t i = 0; i < s->family_count && f == NULL; i++)
        if (strlen(s->families[i].family) == len &&
            memcmp(s->families[i].family, name, len) == 0)
            f = &s->families[i];
    if (f == NULL) {
        if (s->family_count == FAMILY_LIMITS_MAX)
            return err_set(e, ERR_CONF, "limits for more than %d families",
                           FAMILY_LIMITS_MAX);
        f = &s->families[s->family_count++];
        memcpy(f->family, name, len);
        f->family[len] = '\0';
        f->rates = (struct rates){-1, -1, -1};
    }
    *rate_field(&f->rates, point + 1) = n;
    return 0;
}

static int fault_set(struct settings *s, const char *name, const char *value,
                     struct err *e)
{
    const char *point = strrchr(name, '.');
    char fault[FAULT_NAME_MAX];
    size_t len = point ? (size_t)(point - name) : 0;
    if (len == 0 || len >= sizeof fault)
        return err_set(e, ERR_CONF, "fault.%s: want fault.NAME.key", name);
    memcpy(fault, name, len);
    fault[len] = '\0';
    return faults_set(&s->faults, fault, point + 1, value, e);
}

int settings_set(struct settings *s, const char *name, const char *value, struct err *e)
{
    for (size_t i = 0; i < COUNT(options); i++)
        if (strcmp(options[i].name, name) == 0)
            return option_set(s, &options[i], value, e);
    if (strncmp(name, "fault.", 6) == 0)
        return fault_set(s, name + 6, value, e);
    if (strncmp(name, "limits.", 7) == 0)
        return family_set(s, name + 7, value, e);
    return err_set(e, ERR_CONF, "%s: no setting is named so", name);
}

int settings_init(struct settings *s, struct err *e)
{
    *s = (struct settings){0};
    for (size_t i = 0; i < COUNT(options); i++)
        if (option_set(s, &options[i], options[i].value, e) < 0)
            return -1;
    return 0;
}

void settings_free(struct settings *s)
{
    for (size_t i = 0; i < COUNT(options); i++)
        if (options[i].kind == TEXT)
            free(*(char **)((char *)s + options[i].at));
    faults_clear(&s->faults);
}

struct rates settings_rates(const struct settings *s, const char *family)
{
    struct rates r = s->rates;
    for (size_t i = 0; i < s->family_count; i++) {
        const struct rates *own = &s->families[i].rates;
        if (strcmp(s->families[i].family, family) != 0)
            continue;
        r.rpm = own->rpm >= 0 ? own->rpm : r.rpm;
        r.itpm = own->itpm >= 0 ? own->itpm : r.itpm;
        r.otpm = own->otpm >= 0 ? own->otpm : r.otpm;
    }
    return r;
}

void settings_help(FILE *out)
{
    for (size_t i = 0; i < COUNT(options); i++)
        fprintf(out, "  %-22s %-10s %s\n", options[i].name,
                strlen(options[i].value) > 10 ? "..." : options[i].value,
                options[i].help);
    fprintf(out,
            "  %-22s %-10s %s\n"
            "  %-22s %-10s %s\n"
            "  fault kinds:",
            "limits.FAMILY.rpm", "",
            "(itpm, otpm) of one family of models, as opus-5.5", "fault.NAME.KEY", "",
            "kind p at every first from_s to_s count match\n"
            "                                    retry_after status bytes message");
    int column = 80;
    for (int k = FAULT_NONE + 1; k < FAULT_KIND_COUNT; k++) {
        const char *name = fault_kind_name((enum fault_kind)k);
        if (column + strlen(name) > 72)
            column = fprintf(out, "\n   ") - 1;
        column += fprintf(out, " %s", name);
    }
    fprintf(out, "\n");
}

/* ---- files ---- */

struct reading {
    struct settings *settings;
    FILE *file;
    int line, bad_line;
    struct err err;
};

/* inih knows lines up to its own buffer only and would take the rest for the next. */
static char *want_line(char *buf, int size, void *arg)
{
    struct reading *rd = arg;
    if (rd->bad_line || fgets(buf, size, rd->file) == NULL)
        return NULL;
    rd->line++;
    if (strchr(buf, '\n') == NULL && !feof(rd->file)) {
        err_set(&rd->err, ERR_CONF, "the line is longer than %d bytes", size - 2);
        rd->bad_line = rd->line;
        return NULL;
    }
    return buf;
}

static int on_setting(void *arg, const char *section, const char *name,
                      const char *value)
{
    struct reading *rd = arg;
    char full[256];

    if (rd->bad_line)
        return 0;
    /* Both `[fault slow]` and `[fault.slow]` read well. */
    size_t word = strcspn(section, " ");
    const char *rest = section + word + strspn(section + word, " ");
    snprintf(full, sizeof full, "%.*s%s%s.%s", (int)word, section, *rest ? "." : "",
             rest, name);
    if (settings_set(rd->settings, full, value, &rd->err) < 0) {
        rd->bad_line = rd->line;
        return 0;
    }
    return 1;
}

int settings_load(struct settings *s, const char *path, struct err *e)
{
    struct reading rd = {.settings = s};
    rd.file = fopen(path, "r");
    if (rd.file == NULL)
        return err_set(e, ERR_CONF, "%s: %s", path, strerror(errno));

    int line = ini_parse_stream(want_line, &rd, on_setting, &rd);
    fclose(rd.file);
    if (line > 0 && (rd.bad_line == 0 || line < rd.bad_line))
        return err_set(e, ERR_CONF, "%s:%d: want [section] or key = value", path, line);
    if (rd.bad_line)
        return err_set(e, ERR_CONF, "%s:%d: %s", path, rd.bad_line, rd.err.text);
    return 0;
}
