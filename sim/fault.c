#include "sim/fault.h"

#include "runner/err.h"
#include "sim/words.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {[FAULT_NONE] = "none",
#define X(name) [FAULT_##name] = #name,
                                         FAULT_KINDS(X)
#undef X
};

const char *fault_kind_name(enum fault_kind kind)
{
    return kind_names[kind];
}

enum fault_kind fault_kind_find(const char *name)
{
    for (int k = FAULT_NONE + 1; k < FAULT_KIND_COUNT; k++)
        if (strcmp(kind_names[k], name) == 0)
            return (enum fault_kind)k;
    return FAULT_NONE;
}

/* ---- setting ---- */

enum key_kind { KIND, CHANCE, NUMBER, SECONDS, LIST, TEXT };

static const struct key {
    const char *name;
    enum key_kind kind;
    size_t at;
} keys[] = {
    {"kind", KIND, offsetof(struct fault, kind)},
    {"p", CHANCE, offsetof(struct fault, p)},
    {"at", LIST, 0},
    {"every", NUMBER, offsetof(struct fault, every)},
    {"first", NUMBER, offsetof(struct fault, first)},
    {"from_s", SECONDS, offsetof(struct fault, from_ns)},
    {"to_s", SECONDS, offsetof(struct fault, to_ns)},
    {"count", NUMBER, offsetof(struct fault, count)},
    {"match", TEXT, offsetof(struct fault, match)},
    {"retry_after", NUMBER, offsetof(struct fault, retry_after_s)},
    {"status", NUMBER, offsetof(struct fault, status)},
    {"bytes", NUMBER, offsetof(struct fault, bytes)},
    {"message", TEXT, offsetof(struct fault, message)},
};

static void fault_free(struct fault *f)
{
    if (f == NULL)
        return;
    free(f->match);
    free(f->message);
    free(f);
}

static struct fault *fault_find(struct faults *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->rows[i]->name, name) == 0)
            return f->rows[i];
    return NULL;
}

static struct fault *fault_add(struct faults *f, const char *name, struct err *e)
{
    if (*name == '\0' || strlen(name) >= FAULT_NAME_MAX) {
        err_set(e, ERR_CONF, "fault.%s: want a name of 1 to %d bytes", name,
                FAULT_NAME_MAX - 1);
        return NULL;
    }
    if (f->count == FAULTS_MAX) {
        err_set(e, ERR_CONF, "more than %d faults", FAULTS_MAX);
        return NULL;
    }
    struct fault *n = calloc(1, sizeof *n);
    if (n == NULL) {
        err_set(e, ERR_NOMEM, "out of memory for a fault");
        return NULL;
    }
    strcpy(n->name, name);
    n->p = -1;
    n->to_ns = -1;
    n->retry_after_s = -1;
    n->set_at_ns = -1;
    n->status = 0;
    n->bytes = INT64_C(64) << 20;
    /* [fault 529] needs no line that says `kind = 529`. */
    n->kind = fault_kind_find(name);
    f->rows[f->count++] = n;
    return n;
}

static int list_parse(struct fault *f, const char *text, struct err *e)
{
    f->at_count = 0;
    for (const char *c = text; *c;) {
        char *end;
        long long n = strtoll(c, &end, 10);
        if (end == c || n < 1 || f->at_count == FAULT_AT_MAX)
            return err_set(e, ERR_CONF,
                           "at = %s: want up to %d numbers with commas between", text,
                           FAULT_AT_MAX);
        f->at[f->at_count++] = n;
        c = end + strspn(end, ", ");
        if (c == end && *c)
            return err_set(e, ERR_CONF, "at = %s: want numbers with commas between",
                           text);
    }
    return 0;
}

static int key_set(struct fault *f, const struct key *k, const char *value,
                   struct err *e)
{
    void *field = (char *)f + k->at;
    double x;

    switch (k->kind) {
    case KIND:
        f->kind = fault_kind_find(value);
        if (f->kind == FAULT_NONE)
            return err_set(e, ERR_CONF, "kind = %s: no fault is named so", value);
        return 0;
    case CHANCE:
        if (words_real(value, 0, 1, &x) < 0)
            return err_set(e, ERR_CONF, "p = %s: want a number from 0 to 1", value);
        f->p = x;
        return 0;
    case NUMBER:
        if (words_int(value, -1, INT64_C(1) << 40, field) < 0)
            return err_set(e, ERR_CONF, "%s = %s: want a number", k->name, value);
        return 0;
    case SECONDS:
        if (words_real(value, 0, 1e9, &x) < 0)
            return err_set(e, ERR_CONF, "%s = %s: want seconds", k->name, value);
        *(int64_t *)field = (int64_t)(x * 1e9);
        return 0;
    case LIST:
        return list_parse(f, value, e);
    case TEXT:
        return words_replace(field, value, e);
    }
    return -1;
}

int faults_set(struct faults *f, const char *name, const char *key, const char *value,
               struct err *e)
{
    const struct key *k = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && k == NULL; i++)
        if (strcmp(keys[i].name, key) == 0)
            k = &keys[i];
    if (k == NULL)
        return err_set(e, ERR_CONF, "fault.%s: no key is named %s", name, key);

    struct fault *row = fault_find(f, name);
    if (row == NULL)
        row = fault_add(f, name, e);
    if (row == NULL)
        return -1;
    if (key_set(row, k, value, e) < 0)
        return err_wrap(e, "fault.%s", name);
    return 0;
}

void faults_drop(struct faults *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->rows[i]->name, name) == 0) {
            fault_free(f->rows[i]);
            memmove(&f->rows[i], &f->rows[i + 1],
                    (f->count - i - 1) * sizeof f->rows[0]);
            f->count--;
            return;
        }
}

void faults_clear(struct faults *f)
{
    while (f->count > 0)
        fault_free(f->rows[--f->count]);
}

/* ---- meeting ---- */

void faults_begin(struct faults *f, int64_t now_ns, uint64_t seed)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->rows[i]->set_at_ns < 0) {
            f->rows[i]->set_at_ns = now_ns;
            f->rows[i]->dice = words_mix(
                seed ^ words_hash(f->rows[i]->name, strlen(f->rows[i]->name), 0));
        }
}

static bool is_listed(const struct fault *f)
{
    for (size_t i = 0; i < f->at_count; i++)
        if (f->at[i] == f->seen)
            return true;
    return false;
}

static bool fault_fires(struct fault *f, int64_t now_ns)
{
    int64_t age = now_ns - f->set_at_ns;
    if (f->count > 0 && f->fired >= f->count)
        return false;
    if (age < f->from_ns || (f->to_ns >= 0 && age >= f->to_ns))
        return false;
    if (f->at_count > 0 && !is_listed(f))
        return false;
    if (f->every > 0 && f->seen % f->every != 0)
        return false;
    if (f->first > 0 && f->seen > f->first)
        return false;
    if (f->p >= 0) {
        f->dice = words_mix(f->dice + 1);
        if (words_unit(f->dice) >= f->p)
            return false;
    }
    return true;
}

const struct fault *faults_meet(struct faults *f, const char *body, size_t len,
                                int64_t now_ns)
{
    const struct fault *met = NULL;
    for (size_t i = 0; i < f->count; i++) {
        struct fault *row = f->rows[i];
        if (row->kind == FAULT_NONE)
            continue;
        if (row->match && memmem(body, len, row->match, strlen(row->match)) == NULL)
            continue;
        row->seen++;
        /* Those behind the first go on counting, so that `at` means what it says. */
        if (met == NULL && fault_fires(row, now_ns)) {
            row->fired++;
            met = row;
        }
    }
    return met;
}
