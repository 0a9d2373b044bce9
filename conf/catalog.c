#include "conf/catalog.h"

#include "runner/err.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MODELS_MAX = 512,
    ALIASES_MAX = 2048,
    NAME_MAX_BYTES = 128,
    SECTION_MAX_BYTES = 48, /* inih cuts a longer section name without a word */
    PRICE_DECIMALS = 6, /* a millionth of a dollar per million tokens is a picodollar */
    USD_DECIMALS = 12,
    USD_DECIMALS_MIN = 6,
};

#define TOKENS_MAX INT64_C(1000000000000)
#define PRICE_MAX INT64_C(1000000000000) /* a million dollars per million tokens */

/* models.ini as bytes; its .c file is made by the build. */
extern const char catalog_builtin[];
extern const size_t catalog_builtin_len;

struct row {
    struct model model;
    /* Which of the five prices were said; the rest follows from the input price. */
    unsigned said, said_long;
};

struct alias {
    char *name;
    char *id;
};

struct catalog {
    struct row *rows[MODELS_MAX];
    size_t count;
    struct alias aliases[ALIASES_MAX];
    size_t alias_count;
    char date[sizeof "YYYY-MM-DD"];
};

/* One key of a [model] section. */
enum kind { PRICE, LONG_PRICE, TOKENS, TEXT, DATE, ALIASES };

struct key {
    const char *name;
    enum kind kind;
    size_t at; /* in struct model; for prices in struct prices */
};

#define AT(field) offsetof(struct model, field)
#define PRICE_AT(field) offsetof(struct prices, field)

static const struct key keys[] = {
    {"family", TEXT, AT(family)},
    {"input", PRICE, PRICE_AT(input)},
    {"cache_write_5m", PRICE, PRICE_AT(cache_write_5m)},
    {"cache_write_1h", PRICE, PRICE_AT(cache_write_1h)},
    {"cache_read", PRICE, PRICE_AT(cache_read)},
    {"output", PRICE, PRICE_AT(output)},
    {"long_above", TOKENS, AT(long_prompt_above)},
    {"long_input", LONG_PRICE, PRICE_AT(input)},
    {"long_cache_write_5m", LONG_PRICE, PRICE_AT(cache_write_5m)},
    {"long_cache_write_1h", LONG_PRICE, PRICE_AT(cache_write_1h)},
    {"long_cache_read", LONG_PRICE, PRICE_AT(cache_read)},
    {"long_output", LONG_PRICE, PRICE_AT(output)},
    {"context", TOKENS, AT(context)},
    {"max_output", TOKENS, AT(max_output)},
    {"min_cacheable", TOKENS, AT(min_cacheable)},
    {"batch_percent", TOKENS, AT(batch_percent)},
    {"retires", DATE, AT(retires)},
    {"aliases", ALIASES, 0},
};

static unsigned price_bit(size_t at)
{
    return 1u << (at / sizeof(picodollars));
}

static bool price_said(unsigned said, size_t at)
{
    return (said & price_bit(at)) != 0;
}

/* ---- values ---- */

/* "12.50" dollars per million tokens to picodollars a token. No float comes near it. */
static int price_parse(const char *text, picodollars *price)
{
    int64_t n = 0;
    int decimals = -1; /* -1: before the point */
    const char *c = text;

    if (*c < '0' || *c > '9')
        return -1;
    for (; *c; c++) {
        if (*c == '.' && decimals < 0) {
            decimals = 0;
            continue;
        }
        if (*c < '0' || *c > '9')
            return -1;
        if (decimals >= PRICE_DECIMALS) {
            if (*c != '0')
                return -1;
            continue;
        }
        n = n * 10 + (*c - '0');
        if (n > PRICE_MAX)
            return -1;
        if (decimals >= 0)
            decimals++;
    }
    for (int i = decimals < 0 ? 0 : decimals; i < PRICE_DECIMALS; i++)
        n *= 10;
    if (n > PRICE_MAX)
        return -1;
    *price = n;
    return 0;
}

static int tokens_parse(const char *text, int64_t *tokens)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n > TOKENS_MAX)
        return -1;
    *tokens = n;
    return 0;
}

static bool is_date(const char *text)
{
    for (int i = 0; i < 10; i++)
        if (i == 4 || i == 7 ? text[i] != '-' : text[i] < '0' || text[i] > '9')
            return false;
    return text[10] == '\0';
}

static int text_replace(const char **field, const char *value, struct err *e)
{
    char *copy = strdup(value);
    if (copy == NULL)
        return err_set(e, ERR_NOMEM, "out of memory for the catalogue");
    free((char *)*field);
    *field = copy;
    return 0;
}

/* ---- rows ---- */

static struct row *row_find(const struct catalog *c, const char *id)
{
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->rows[i]->model.id, id) == 0)
            return c->rows[i];
    return NULL;
}

static void row_free(struct row *r)
{
    if (r == NULL)
        return;
    free((char *)r->model.id);
    free((char *)r->model.family);
    free((char *)r->model.retires);
    free(r);
}

static struct row *row_add(struct catalog *c, const char *id, struct err *e)
{
    if (c->count == MODELS_MAX) {
        err_set(e, ERR_CONF, "more than %d models", MODELS_MAX);
        return NULL;
    }
    struct row *r = calloc(1, sizeof *r);
    /* A model of no stated family shares its limits with nobody. */
    if (r == NULL || text_replace(&r->model.id, id, e) < 0 ||
        text_replace(&r->model.family, id, e) < 0) {
        row_free(r);
        err_set(e, ERR_NOMEM, "out of memory for the catalogue");
        return NULL;
    }
    c->rows[c->count++] = r;
    return r;
}

/* The general rule for cache prices nobody published, rounded up to be on the safe
 * side. */
static void prices_complete(struct prices *p, unsigned said)
{
    if (!price_said(said, PRICE_AT(cache_write_5m)))
        p->cache_write_5m = (p->input * 5 + 3) / 4;
    if (!price_said(said, PRICE_AT(cache_write_1h)))
        p->cache_write_1h = p->input * 2;
    if (!price_said(said, PRICE_AT(cache_read)))
        p->cache_read = (p->input + 9) / 10;
}

static void row_complete(struct row *r)
{
    prices_complete(&r->model.base, r->said);
    prices_complete(&r->model.long_prompt, r->said_long);
    if (r->model.batch_percent == 0)
        r->model.batch_percent = 50; /* the general rule, caching included */
    r->model.priced = price_said(r->said, PRICE_AT(input)) &&
                      price_said(r->said, PRICE_AT(output));
}

static int row_check(const struct row *r, struct err *e)
{
    unsigned both = price_bit(PRICE_AT(input)) | price_bit(PRICE_AT(output));
    if (r->model.long_prompt_above > 0 && (r->said_long & both) != both)
        return err_set(e, ERR_CONF,
                       "model %s: long_above is set, so long_input and long_output are "
                       "needed too",
                       r->model.id);
    return 0;
}

static int alias_set(struct catalog *c, const char *name, const char *id, struct err *e)
{
    struct alias *a = NULL;
    for (size_t i = 0; i < c->alias_count && a == NULL; i++)
        if (strcmp(c->aliases[i].name, name) == 0)
            a = &c->aliases[i];

    char *own_id = strdup(id);
    char *own_name = a ? NULL : strdup(name);
    if (own_id == NULL || (a == NULL && own_name == NULL)) {
        free(own_id);
        free(own_name);
        return err_set(e, ERR_NOMEM, "out of memory for the catalogue");
    }
    if (a == NULL && c->alias_count == ALIASES_MAX) {
        free(own_id);
        free(own_name);
        return err_set(e, ERR_CONF, "more than %d aliases", ALIASES_MAX);
    }
    if (a == NULL) {
        a = &c->aliases[c->alias_count++];
        a->name = own_name;
    } else {
        free(a->id);
    }
    a->id = own_id;
    return 0;
}

static int aliases_set(struct catalog *c, const char *list, const char *id,
                       struct err *e)
{
    while (*list) {
        size_t len = strcspn(list, ",");
        size_t from = strspn(list, " \t");
        size_t to = len;
        while (to > from && strchr(" \t", list[to - 1]))
            to--;
        if (to <= from || to - from > NAME_MAX_BYTES)
            return err_set(e, ERR_CONF, "aliases: want names with commas between");
        char name[NAME_MAX_BYTES + 1];
        snprintf(name, sizeof name, "%.*s", (int)(to - from), list + from);
        if (alias_set(c, name, id, e) < 0)
            return -1;
        list += len;
        if (*list == ',')
            list++;
    }
    return 0;
}

static int row_set(struct catalog *c, struct row *r, const char *name,
                   const char *value, struct err *e)
{
    const struct key *k = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && k == NULL; i++)
        if (strcmp(keys[i].name, name) == 0)
            k = &keys[i];
    if (k == NULL)
        return err_set(e, ERR_CONF, "model %s: no key is named %s", r->model.id, name);

    void *field = (char *)&r->model + k->at;
    switch (k->kind) {
    case PRICE:
    case LONG_PRICE: {
        struct prices *p = k->kind == PRICE ? &r->model.base : &r->model.long_prompt;
        if (price_parse(value, (picodollars *)((char *)p + k->at)) < 0)
            return err_set(e, ERR_CONF,
                           "%s = %s: want dollars per million tokens, at most %d "
                           "decimals",
                           name, value, PRICE_DECIMALS);
        *(k->kind == PRICE ? &r->said : &r->said_long) |= price_bit(k->at);
        return 0;
    }
    case TOKENS:
        if (tokens_parse(value, field) < 0)
            return err_set(e, ERR_CONF, "%s = %s: want a number of tokens", name,
                           value);
        return 0;
    case DATE:
        if (!is_date(value))
            return err_set(e, ERR_CONF, "%s = %s: want YYYY-MM-DD", name, value);
        return text_replace(field, value, e);
    case TEXT:
        if (*value == '\0')
            return err_set(e, ERR_CONF, "%s: want a word", name);
        return text_replace(field, value, e);
    case ALIASES:
        return aliases_set(c, value, r->model.id, e);
    }
    assert(0);
    return -1;
}

/* ---- reading ---- */

struct reading {
    struct catalog *catalog;
    const char *name; /* of the file, for errors */
    const char *text; /* what is left of it */
    size_t left;
    bool builtin; /* only the built-in file dates the catalogue */
    int line;
    int bad_line; /* the first that we refused */
    struct err *err;
};

/* inih asks for lines as fgets() gives them. It knows lines up to its own buffer only
 * and would take the rest of a longer one for the next: that is refused here. */
static char *want_line(char *buf, int size, void *arg)
{
    struct reading *rd = arg;
    if (rd->left == 0 || rd->bad_line || size < 2)
        return NULL;

    const char *nl = memchr(rd->text, '\n', rd->left);
    size_t len = nl ? (size_t)(nl - rd->text) + 1 : rd->left;
    rd->line++;
    if (len >= (size_t)size) {
        err_set(rd->err, ERR_CONF, "a line of %zu bytes is too long", len);
        rd->bad_line = rd->line;
        return NULL;
    }
    memcpy(buf, rd->text, len);
    buf[len] = '\0';
    rd->text += len;
    rd->left -= len;
    return buf;
}

static int setting(struct reading *rd, const char *section, const char *name,
                   const char *value)
{
    static const char prefix[] = "model ";
    struct catalog *c = rd->catalog;

    if (strcmp(section, "catalog") == 0) {
        if (strcmp(name, "source") == 0)
            return 0;
        if (strcmp(name, "date") != 0)
            return err_set(rd->err, ERR_CONF, "[catalog] has no key named %s", name);
        if (!is_date(value))
            return err_set(rd->err, ERR_CONF, "date = %s: want YYYY-MM-DD", value);
        if (rd->builtin)
            memcpy(c->date, value, sizeof c->date);
        return 0;
    }
    if (strlen(section) > SECTION_MAX_BYTES)
        return err_set(rd->err, ERR_CONF,
                       "[%s...]: a section name has at most %d bytes", section,
                       SECTION_MAX_BYTES);
    if (strncmp(section, prefix, strlen(prefix)) != 0)
        return err_set(rd->err, ERR_CONF, "[%s]: want [catalog] or [model ID]",
                       section);

    const char *id = section + strlen(prefix);
    id += strspn(id, " \t");
    if (*id == '\0')
        return err_set(rd->err, ERR_CONF, "[%s]: want the model's id", section);
    struct row *r = row_find(c, id);
    if (r == NULL)
        r = row_add(c, id, rd->err);
    if (r == NULL)
        return -1;
    return row_set(c, r, name, value, rd->err);
}

static int on_setting(void *arg, const char *section, const char *name,
                      const char *value)
{
    struct reading *rd = arg;
    if (rd->bad_line)
        return 0;
    if (setting(rd, section, name, value) < 0) {
        rd->bad_line = rd->line;
        return 0;
    }
    return 1;
}

static int catalog_read(struct catalog *c, const char *name, const char *text,
                        size_t len, bool builtin, struct err *e)
{
    struct err cause = {0};
    struct reading rd = {.catalog = c,
                         .name = name,
                         .text = text,
                         .left = len,
                         .builtin = builtin,
                         .err = &cause};

    int line = ini_parse_stream(want_line, &rd, on_setting, &rd);
    if (line > 0 && (rd.bad_line == 0 || line < rd.bad_line))
        return err_set(e, ERR_CONF, "%s:%d: want [section] or key = value", name, line);
    if (rd.bad_line)
        return err_set(e, cause.code, "%s:%d: %s", name, rd.bad_line, cause.text);
    if (line < 0)
        return err_set(e, ERR_NOMEM, "%s: out of memory", name);
    for (size_t i = 0; i < c->count; i++) {
        if (row_check(c->rows[i], &cause) < 0)
            return err_set(e, ERR_CONF, "%s: %s", name, cause.text);
        row_complete(c->rows[i]);
    }
    return 0;
}

struct catalog *catalog_new(struct err *e)
{
    struct catalog *c = calloc(1, sizeof *c);
    if (c == NULL) {
        err_set(e, ERR_NOMEM, "out of memory for the catalogue");
        return NULL;
    }
    if (catalog_read(c, "models.ini", catalog_builtin, catalog_builtin_len, true, e) <
        0) {
        catalog_free(c);
        return NULL;
    }
    return c;
}

static char *file_read(const char *path, size_t *len, struct err *e)
{
    enum { FILE_MAX_BYTES = 4 << 20 };
    char *text = NULL;
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        err_set(e, ERR_CONF, "%s: %s", path, strerror(errno));
        return NULL;
    }
    text = malloc(FILE_MAX_BYTES);
    if (text == NULL) {
        err_set(e, ERR_NOMEM, "%s: out of memory", path);
        goto bad;
    }
    *len = fread(text, 1, FILE_MAX_BYTES, f);
    if (ferror(f)) {
        err_set(e, ERR_CONF, "%s: %s", path, strerror(errno));
        goto bad;
    }
    if (*len == FILE_MAX_BYTES) {
        err_set(e, ERR_CONF, "%s: larger than %d bytes", path, FILE_MAX_BYTES);
        goto bad;
    }
    fclose(f);
    return text;

bad:
    free(text);
    fclose(f);
    return NULL;
}

int catalog_add_file(struct catalog *c, const char *path, struct err *e)
{
    size_t len;
    char *text = file_read(path, &len, e);
    if (text == NULL)
        return -1;
    int rc = catalog_read(c, path, text, len, false, e);
    free(text);
    return rc;
}

void catalog_free(struct catalog *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->count; i++)
        row_free(c->rows[i]);
    for (size_t i = 0; i < c->alias_count; i++) {
        free(c->aliases[i].name);
        free(c->aliases[i].id);
    }
    free(c);
}

/* ---- asking ---- */

const struct model *catalog_find(const struct catalog *c, const char *id)
{
    const struct row *r = row_find(c, id);
    for (size_t i = 0; i < c->alias_count && r == NULL; i++)
        if (strcmp(c->aliases[i].name, id) == 0)
            r = row_find(c, c->aliases[i].id);
    return r ? &r->model : NULL;
}

const char *catalog_date(const struct catalog *c)
{
    return c->date;
}

size_t catalog_count(const struct catalog *c)
{
    return c->count;
}

const struct model *catalog_at(const struct catalog *c, size_t i)
{
    assert(i < c->count);
    return &c->rows[i]->model;
}

/* ---- money ---- */

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static int64_t times(int64_t tokens, picodollars price)
{
    int64_t product;
    if (tokens <= 0 || price <= 0)
        return 0;
    return __builtin_mul_overflow(tokens, price, &product) ? INT64_MAX : product;
}

static int64_t no_less_than_nothing(int64_t n)
{
    return n > 0 ? n : 0;
}

static int64_t prompt_tokens(const struct usage *u)
{
    int64_t n = no_less_than_nothing(u->input);
    n = add(n, no_less_than_nothing(u->cache_read));
    n = add(n, no_less_than_nothing(u->cache_write_5m));
    return add(n, no_less_than_nothing(u->cache_write_1h));
}

picodollars catalog_cost(const struct model *m, const struct usage *u)
{
    bool is_long = m->long_prompt_above > 0 && prompt_tokens(u) > m->long_prompt_above;
    const struct prices *p = is_long ? &m->long_prompt : &m->base;

    picodollars sum = times(u->input, p->input);
    sum = add(sum, times(u->cache_write_5m, p->cache_write_5m));
    sum = add(sum, times(u->cache_write_1h, p->cache_write_1h));
    sum = add(sum, times(u->cache_read, p->cache_read));
    return add(sum, times(u->output, p->output));
}

const char *catalog_usd(picodollars amount, char *buf)
{
    uint64_t n = amount < 0 ? 0 - (uint64_t)amount : (uint64_t)amount;
    uint64_t dollar = (uint64_t)PICODOLLARS_PER_DOLLAR;
    int len = snprintf(buf, CATALOG_USD_MAX, "%s%llu.%0*llu", amount < 0 ? "-" : "",
                       (unsigned long long)(n / dollar), USD_DECIMALS,
                       (unsigned long long)(n % dollar));

    for (int spare = USD_DECIMALS - USD_DECIMALS_MIN; spare > 0 && buf[len - 1] == '0';
         spare--)
        buf[--len] = '\0';
    return buf;
}

picodollars catalog_cost_batch(const struct model *m, const struct usage *u)
{
    picodollars cost = catalog_cost(m, u);
    return cost / 100 * m->batch_percent + (cost % 100 * m->batch_percent + 99) / 100;
}

int catalog_dollars(const char *text, picodollars *ret)
{
    picodollars n = 0, unit = PICODOLLARS_PER_DOLLAR;
    const char *c = *text == '$' ? text + 1 : text;
    if (*c < '0' || *c > '9')
        return -1;
    for (; *c >= '0' && *c <= '9'; c++) {
        n = n * 10 + (*c - '0');
        if (n > 1000000)
            return -1;
    }
    n *= PICODOLLARS_PER_DOLLAR;
    if (*c == '.') {
        if (c[1] < '0' || c[1] > '9')
            return -1;
        for (c++; *c >= '0' && *c <= '9'; c++) {
            unit /= 10;
            if (unit == 0 && *c != '0')
                return -1;
            n += unit * (*c - '0');
        }
    }
    if (*c != '\0')
        return -1;
    *ret = n;
    return 0;
}
