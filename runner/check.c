#define PCRE2_CODE_UNIT_WIDTH 8
#include "runner/check.h"

#include "jobs/jsonscan.h"
#include "runner/err.h"
#include "runner/schema.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MATCH_LIMIT = 1000000, HEAP_KIB = 20000, SHOWN = 60 };

enum kind { JSON, SCHEMA, REGEX, CHOICES, MIN_CHARS, MAX_CHARS, COMMAND };

struct part {
    enum kind kind;
    char *words; /* behind the colon */
    struct schema *schema;
    pcre2_code *code;
    int64_t chars;
};

struct check {
    struct part part[CHECK_PARTS_MAX];
    size_t len, commands;
    pcre2_match_context *limits;
};

static const struct {
    const char *word;
    bool takes; /* something behind a colon */
} kinds[] = {
    [JSON] = {"json", false},          [SCHEMA] = {"schema", true},
    [REGEX] = {"regex", true},         [CHOICES] = {"choices", true},
    [MIN_CHARS] = {"min_chars", true}, [MAX_CHARS] = {"max_chars", true},
    [COMMAND] = {"command", true},
};

static const char list[] = "json, schema:, regex:, choices:, min_chars:, max_chars: or "
                           "the name of a [check]";

/* --- making --- */

static int make_schema(struct part *p, json_t *json, struct err *e)
{
    p->schema = schema_new(json, e);
    return p->schema ? 0 : err_wrap(e, "schema");
}

static int make_schema_file(struct part *p, const struct check_env *env, struct err *e)
{
    json_error_t fault;
    size_t len;
    if (env->file == NULL)
        return err_set(e, ERR_INPUT,
                       "schema:%.*s: here only schema:{...} itself can stand; or put "
                       "schema:FILE into a [route] of nightmill.ini",
                       SHOWN, p->words);
    char *text = env->file(env->arg, p->words, &len, e);
    if (text == NULL)
        return -1;
    json_t *json = json_loadb(text, len, 0, &fault);
    free(text);
    if (json == NULL)
        return err_set(e, ERR_INPUT, "schema:%.*s:%d: %s", SHOWN, p->words, fault.line,
                       fault.text);
    int rc = make_schema(p, json, e);
    json_decref(json);
    return rc;
}

static int make_regex(struct part *p, struct err *e)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR says[120];
    assert(p->words);
    if (*p->words == '\0')
        return err_set(e, ERR_INPUT, "regex: want a pattern behind the colon");
    p->code = pcre2_compile((PCRE2_SPTR)p->words, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
    if (p->code)
        return 0;
    pcre2_get_error_message(code, says, sizeof says);
    return err_set(e, ERR_INPUT, "regex:%.*s: at byte %zu: %s", SHOWN, p->words,
                   (size_t)at, (char *)says);
}

static int make_choices(const struct part *p, struct err *e)
{
    size_t n = 1;
    for (const char *s = p->words; *s; s++)
        n += *s == ',';
    if (*p->words == '\0' || strstr(p->words, ",,") || *p->words == ',' ||
        p->words[strlen(p->words) - 1] == ',' || n > CHECK_CHOICES_MAX)
        return err_set(e, ERR_INPUT, "choices:%.*s: want words joined by commas", SHOWN,
                       p->words);
    return 0;
}

static int make_chars(struct part *p, struct err *e)
{
    char *end;
    errno = 0;
    p->chars = strtoll(p->words, &end, 10);
    if (end == p->words || *end || errno || p->chars < 0)
        return err_set(e, ERR_INPUT, "%s:%.*s: want a number of characters",
                       kinds[p->kind].word, SHOWN, p->words);
    return 0;
}

static int make_part(struct part *p, const struct check_env *env, struct err *e)
{
    switch (p->kind) {
    case JSON:
        return 0;
    case SCHEMA:
        return make_schema_file(p, env, e);
    case REGEX:
        return make_regex(p, e);
    case CHOICES:
        return make_choices(p, e);
    case MIN_CHARS:
    case MAX_CHARS:
        return make_chars(p, e);
    case COMMAND:
        if (env->command && env->command(env->arg, p->words))
            return 0;
        return err_set(e, ERR_INPUT, "check = %.*s: no such check; want %s", SHOWN,
                       p->words, list);
    }
    return -1;
}

/* What stands there: a kind with its words, or else a program's name. */
static int read_part(struct part *p, const char *at, size_t len, struct err *e)
{
    size_t word = 0;
    while (word < len && at[word] != ':')
        word++;
    p->kind = COMMAND;
    size_t from = 0;
    for (int k = 0; k <= COMMAND; k++)
        if (strlen(kinds[k].word) == word && memcmp(kinds[k].word, at, word) == 0) {
            p->kind = (enum kind)k;
            from = word < len ? word + 1 : word;
            if (kinds[k].takes != (word < len))
                return err_set(e, ERR_INPUT, "check = %.*s: want %s%s", (int)len, at,
                               kinds[k].word, kinds[k].takes ? ":..." : " alone");
        }
    p->words = strndup(at + from, len - from);
    return p->words ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

/* A schema that stands there itself; how long it is, or 0. */
static size_t read_schema(struct part *p, const char *at, struct err *e)
{
    static const char word[] = "schema:";
    json_error_t fault;
    size_t n = sizeof word - 1;
    json_t *json = json_loadb(at + n, strlen(at + n), JSON_DISABLE_EOF_CHECK, &fault);
    if (json == NULL) {
        err_set(e, ERR_INPUT, "check = schema:{...}: line %d of it: %s", fault.line,
                fault.text);
        return 0;
    }
    p->kind = SCHEMA;
    p->words = strdup("{...}");
    int rc = make_schema(p, json, e);
    json_decref(json);
    return rc < 0 ? 0 : n + (size_t)fault.position;
}

static int bounds_fit(const struct check *c, struct err *e)
{
    int64_t least = 0, most = INT64_MAX;
    for (size_t i = 0; i < c->len; i++) {
        if (c->part[i].kind == MIN_CHARS && c->part[i].chars > least)
            least = c->part[i].chars;
        if (c->part[i].kind == MAX_CHARS && c->part[i].chars < most)
            most = c->part[i].chars;
    }
    return least <= most ? 0
                         : err_set(e, ERR_INPUT,
                                   "min_chars:%" PRId64 " and max_chars:%" PRId64
                                   ": no answer passes both",
                                   least, most);
}

static int read_all(struct check *c, const char *words, const struct check_env *env,
                    struct err *e)
{
    static const char and[] = " && ";
    if (*words == '\0')
        return err_set(e, ERR_INPUT, "check: want %s", list);
    for (const char *at = words;;) {
        if (c->len == CHECK_PARTS_MAX)
            return err_set(e, ERR_INPUT, "check: more than %d parts", CHECK_PARTS_MAX);
        struct part *p = &c->part[c->len++];
        const char *end = strstr(at, and);
        size_t len = end ? (size_t)(end - at) : strlen(at);
        if (strncmp(at, "schema:{", 8) == 0) {
            if ((len = read_schema(p, at, e)) == 0)
                return -1;
        } else if (read_part(p, at, len, e) < 0 || make_part(p, env, e) < 0) {
            return -1;
        }
        c->commands += p->kind == COMMAND;
        at += len + strspn(at + len, " \t\r\n");
        if (*at == '\0')
            return bounds_fit(c, e);
        if (strncmp(at, "&& ", 3) != 0)
            return err_set(e, ERR_INPUT, "check: want \" && \" before %.*s", SHOWN, at);
        at += 3;
    }
}

struct check *check_new(const char *words, const struct check_env *env, struct err *e)
{
    struct check *c = calloc(1, sizeof *c);
    if (c == NULL || (c->limits = pcre2_match_context_create(NULL)) == NULL) {
        free(c);
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    pcre2_set_match_limit(c->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(c->limits, HEAP_KIB);
    if (read_all(c, words, env, e) == 0)
        return c;
    check_free(c);
    return NULL;
}

void check_free(struct check *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->len; i++) {
        free(c->part[i].words);
        schema_free(c->part[i].schema);
        pcre2_code_free(c->part[i].code);
    }
    pcre2_match_context_free(c->limits);
    free(c);
}

/* --- judging --- */

struct text {
    const char *at;
    size_t len;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct text trimmed(struct text t)
{
    while (t.len > 0 && is_space(*t.at)) {
        t.at++;
        t.len--;
    }
    while (t.len > 0 && is_space(t.at[t.len - 1]))
        t.len--;
    return t;
}

static enum check_end fail(char *why, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum check_end fail(char *why, size_t size, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, size, fmt, args);
    va_end(args);
    return CHECK_FAIL;
}

static enum check_end no_json(struct text t, const char *what, char *why, size_t size)
{
    if (t.len >= 3 && memcmp(t.at, "```", 3) == 0)
        return fail(why, size, "not JSON alone: it is in a Markdown fence");
    return fail(why, size, "not JSON: %s", t.len ? what : "it is empty");
}

static enum check_end check_json(struct text t, char *why, size_t size)
{
    struct json_fault f = {0};
    if (json_valid(t.at, t.len, &f) == 0)
        return CHECK_PASS;
    return no_json(t, f.what ? f.what : "it ends early", why, size);
}

static enum check_end check_schema(const struct part *p, struct text t, char *why,
                                   size_t size)
{
    json_error_t fault;
    json_t *json = json_loadb(t.at, t.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
    if (json == NULL)
        return no_json(t, fault.text, why, size);
    int rc = schema_check(p->schema, json, why, size);
    json_decref(json);
    return rc < 0 ? CHECK_FAIL : CHECK_PASS;
}

static enum check_end check_regex(const struct check *c, const struct part *p,
                                  struct text t, char *why, size_t size)
{
    pcre2_match_data *d = pcre2_match_data_create(1, NULL);
    if (d == NULL)
        return fail(why, size, "no memory to match");
    int rc = pcre2_match(p->code, (PCRE2_SPTR)t.at, t.len, 0, 0, d, c->limits);
    pcre2_match_data_free(d);
    if (rc >= 0)
        return CHECK_PASS;
    return rc == PCRE2_ERROR_NOMATCH
               ? fail(why, size, "regex:%.*s does not match", SHOWN, p->words)
               : fail(why, size, "regex:%.*s is too hard to match with", SHOWN,
                      p->words);
}

static enum check_end check_choices(const struct part *p, struct text t, char *why,
                                    size_t size)
{
    for (const char *s = p->words; *s;) {
        size_t n = strcspn(s, ",");
        struct text one = trimmed((struct text){s, n});
        if (one.len == t.len && memcmp(one.at, t.at, n < t.len ? n : t.len) == 0)
            return CHECK_PASS;
        s += n + (s[n] == ',');
    }
    int shown = t.len > SHOWN ? SHOWN : (int)t.len;
    return fail(why, size, "\"%.*s%s\" is none of choices:%.*s", shown, t.at,
                t.len > SHOWN ? "..." : "", SHOWN, p->words);
}

static int64_t chars_of(struct text t)
{
    int64_t n = 0;
    for (size_t i = 0; i < t.len; i++)
        n += ((unsigned char)t.at[i] & 0xc0) != 0x80;
    return n;
}

static enum check_end check_part(const struct check *c, const struct part *p,
                                 struct text whole, char *why, size_t size)
{
    struct text t = trimmed(whole);
    int64_t n;
    switch (p->kind) {
    case JSON:
        return check_json(t, why, size);
    case SCHEMA:
        return check_schema(p, t, why, size);
    case REGEX:
        return check_regex(c, p, whole, why, size);
    case CHOICES:
        return check_choices(p, t, why, size);
    case MIN_CHARS:
        n = chars_of(t);
        return n >= p->chars
                   ? CHECK_PASS
                   : fail(why, size,
                          "%" PRId64 " characters, at least %" PRId64 " are wanted", n,
                          p->chars);
    case MAX_CHARS:
        n = chars_of(t);
        return n <= p->chars
                   ? CHECK_PASS
                   : fail(why, size,
                          "%" PRId64 " characters, at most %" PRId64 " are wanted", n,
                          p->chars);
    case COMMAND:
        return CHECK_PASS; /* asked for elsewhere */
    }
    return fail(why, size, "a check of an unknown kind");
}

enum check_end check_text(const struct check *c, const char *text, size_t len,
                          char *why, size_t size)
{
    struct text t = {text, len};
    if (t.len > 0 && t.at[t.len - 1] == '\n')
        t.len--;
    for (size_t i = 0; i < c->len; i++)
        if (check_part(c, &c->part[i], t, why, size) != CHECK_PASS)
            return CHECK_FAIL;
    return CHECK_PASS;
}

size_t check_commands(const struct check *c)
{
    return c->commands;
}

const char *check_command(const struct check *c, size_t i)
{
    for (size_t k = 0; k < c->len; k++)
        if (c->part[k].kind == COMMAND && i-- == 0)
            return c->part[k].words;
    return NULL;
}
