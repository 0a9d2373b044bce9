#include "sim/truth.h"

#include "runner/err.h"
#include "sim/words.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    uint64_t hash;
    bool known, right[2]; /* weak, strong */
};

struct truth {
    struct row *rows;
    size_t size, count; /* size: a power of two */
};

static struct row *find(const struct truth *t, uint64_t hash)
{
    size_t i = words_mix(hash) & (t->size - 1);
    while (t->rows[i].known && t->rows[i].hash != hash)
        i = (i + 1) & (t->size - 1);
    return &t->rows[i];
}

static bool grow(struct truth *t)
{
    struct truth more = {.size = t->size ? t->size * 2 : 1024, .count = t->count};
    more.rows = calloc(more.size, sizeof *more.rows);
    if (more.rows == NULL)
        return false;
    for (size_t i = 0; i < t->size; i++)
        if (t->rows[i].known)
            *find(&more, t->rows[i].hash) = t->rows[i];
    free(t->rows);
    *t = more;
    return true;
}

void truth_free(struct truth *t)
{
    if (t)
        free(t->rows);
    free(t);
}

struct truth *truth_read(const char *path, struct err *e)
{
    struct truth *t = calloc(1, sizeof *t);
    FILE *f = fopen(path, "re");
    char line[128];
    int64_t n = 0;
    if (f == NULL)
        err_set(e, ERR_CONF, "truth.file = %s: %s", path, strerror(errno));
    else if (t == NULL)
        err_set(e, ERR_NOMEM, "out of memory");
    while (t && e->code == ERR_NONE && fgets(line, sizeof line, f)) {
        uint64_t hash;
        int weak, strong;
        n++;
        if (sscanf(line, "%" SCNx64 " %1d %1d", &hash, &weak, &strong) != 3) {
            err_set(e, ERR_CONF, "%s:%" PRId64 ": want HASH WEAK STRONG", path, n);
            break;
        }
        if (t->count * 2 >= t->size && !grow(t)) {
            err_set(e, ERR_NOMEM, "out of memory");
            break;
        }
        struct row *r = find(t, hash);
        t->count += !r->known;
        *r = (struct row){hash, true, {weak == 1, strong == 1}};
    }
    if (f)
        fclose(f);
    if (e->code == ERR_NONE && t && t->size == 0)
        err_set(e, ERR_CONF, "truth.file = %s: it is empty", path);
    if (e->code == ERR_NONE)
        return t;
    truth_free(t);
    return NULL;
}

bool truth_of(const struct truth *t, struct span prompt, bool weak, double errs,
              uint64_t seed, bool *right, bool *passes)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < prompt.len; i++)
        h = (h ^ (unsigned char)prompt.at[i]) * UINT64_C(1099511628211);
    const struct row *r = find(t, h);
    if (!r->known)
        return false;
    *right = r->right[!weak];
    *passes = *right !=
              (words_unit(words_mix(h + words_mix(seed) + (weak ? 1 : 2))) < errs);
    return true;
}
