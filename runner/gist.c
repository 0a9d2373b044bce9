#include "runner/gist.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    TABLE_MAX = 2 * GIST_TERMS_MAX,
    FEATURES_MAX = 2 * GIST_TERMS_MAX + 2 * GIST_SHAPES + 2,
    HEAD_MAX = GIST_READ_MAX / 4 * 3,
    COUNT_MAX = 60000,
    LOGS = 256,
    KIND_BITS = 21, /* more than GIST_READ_MAX */
};

/* Added up a byte at a time, three counts in one number. */
#define ONE_DIGIT UINT64_C(1)
#define ONE_UPPER (UINT64_C(1) << KIND_BITS)
#define ONE_HIGH (UINT64_C(1) << 2 * KIND_BITS)

/* How much the parts weigh: words and pairs each as a vector of that length, so that a
 * long prompt's many pairs do not drown its words. Words at .4 cost .005 APGR on school
 * sums, at .8 they cost .001 on questions of many subjects. */
static const float WORDS = 0.6f, PAIRS = 0.8f, GROUP_WORDS = 0.7f;
static const float SHAPE_WEIGHT = 0.1f, GROUP_WEIGHT = 0.2f, CONSTANT = 0.5f;

struct term {
    uint32_t hash;
    uint16_t count; /* 0: a free place */
    uint16_t word;  /* a single one, not a pair */
};

struct counts {
    uint32_t byte[256]; /* of bytes that are in no word */
    uint32_t letters, upper, digits, high, words, numbers, long_numbers, longest_word;
    uint32_t lines, line_longest, line_first, lines_with_digit;
    double line_sum, line_squares;
    uint32_t choices, choices_with_digit; /* lines like "A. a mill" */
    double choice_sum, choice_squares;
};

struct gist {
    size_t len;
    struct gist_feature feature[FEATURES_MAX];
    int cohort;
    uint32_t mask, terms;
    uint16_t place[GIST_TERMS_MAX]; /* of each term, in order of appearance */
    struct term table[TABLE_MAX];
    struct counts n;
    /* Filled once: of each byte what it is in a word (0: nothing, it parts words) and
     * what it counts as; and ln(1 + n). */
    uint8_t fold[256];
    uint64_t kind[256];
    float log[LOGS];
};

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

struct gist *gist_new(void)
{
    struct gist *g = calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    for (int c = 0; c < 256; c++) {
        bool digit = c >= '0' && c <= '9', lower = c >= 'a' && c <= 'z';
        bool upper = c >= 'A' && c <= 'Z', high = c > 127;
        g->fold[c] = (uint8_t)(upper ? c | 0x20 : digit || lower || high ? c : 0);
        g->kind[c] = digit ? ONE_DIGIT : upper ? ONE_UPPER : high ? ONE_HIGH : 0;
    }
    for (int i = 0; i < LOGS; i++)
        g->log[i] = logf(1 + (float)i);
    return g;
}

void gist_free(struct gist *g)
{
    free(g);
}

static void add_term(struct gist *g, uint64_t key, bool word)
{
    uint32_t hash = (uint32_t)mix(key), i = (hash >> 16 ^ hash) & g->mask;
    struct term *t;
    while ((t = &g->table[i])->count && t->hash != hash)
        i = (i + 1) & g->mask;
    if (t->count) {
        t->count += t->count < COUNT_MAX;
    } else if (g->terms < GIST_TERMS_MAX) {
        *t = (struct term){hash, 1, word};
        g->place[g->terms++] = (uint16_t)i;
    }
}

enum { EDGE = 3 };

struct reading {
    const unsigned char *p;
    uint64_t last, before; /* the word before, and that before it */
    uint64_t edge[EDGE];   /* the last word, the last two, the last three */
    bool opened;           /* past the first line that has words */
    size_t line_at;
    bool line_digit;
};

/* How the prompt begins and how its first line ends, which is where it says what is asked
 * for ("Which of the following", "... is false?"): terms of their own, apart from the same
 * words elsewhere. +.0015 APGR on questions of many subjects. */
static void add_edge(struct gist *g, uint64_t key, unsigned which)
{
    add_term(g, key ^ (which + 1) * UINT64_C(0x9e3779b97f4a7c15), false);
}

static void note_edges(struct gist *g, struct reading *r, uint64_t h)
{
    r->edge[0] = h;
    r->edge[1] = r->last * 31 + h;
    r->edge[2] = (r->before * 31 + r->last) * 31 + h;
    if (g->n.words <= EDGE)
        add_edge(g, r->edge[g->n.words - 1], g->n.words - 1);
}

/* One of several answers to choose from: a letter or digit, then one of ". ) :". */
static void count_choice(struct gist *g, const unsigned char *line, size_t len,
                         bool digit)
{
    struct counts *n = &g->n;
    size_t mark = line[0] == '(';
    if (len < mark + 3 || g->fold[line[mark]] == 0 ||
        (line[mark + 1] != '.' && line[mark + 1] != ')' && line[mark + 1] != ':'))
        return;
    n->choices++;
    n->choices_with_digit += digit;
    n->choice_sum += (double)len;
    n->choice_squares += (double)len * (double)len;
}

static void end_line(struct gist *g, struct reading *r, size_t at)
{
    struct counts *n = &g->n;
    size_t len = at - r->line_at;
    if (!r->opened && n->words > 0) {
        r->opened = true;
        for (unsigned i = 0; i < EDGE; i++)
            add_edge(g, r->edge[i], EDGE + i);
    }
    if (len > 0) {
        count_choice(g, r->p + r->line_at, len, r->line_digit);
        if (n->lines == 0)
            n->line_first = (uint32_t)len;
        if (len > n->line_longest)
            n->line_longest = (uint32_t)len;
        n->lines++;
        n->lines_with_digit += r->line_digit;
        n->line_sum += (double)len;
        n->line_squares += (double)len * (double)len;
    }
    r->line_at = at + 1;
    r->line_digit = false;
}

/* One word from `at`, which is in it; returns where it ends. */
static size_t read_word(struct gist *g, struct reading *r, const unsigned char *p,
                        size_t at, size_t len)
{
    struct counts *n = &g->n;
    uint64_t h = UINT64_C(1469598103934665603);
    size_t from = at;
    uint64_t kinds = 0;
    uint8_t c;
    for (; at < len && (c = g->fold[p[at]]) != 0; at++) {
        kinds += g->kind[p[at]];
        h = (h ^ c) * UINT64_C(1099511628211);
    }
    uint32_t size = (uint32_t)(at - from);
    uint32_t digits = kinds & (ONE_UPPER - 1);
    n->digits += digits;
    n->upper += kinds >> KIND_BITS & (ONE_UPPER - 1);
    n->high += (uint32_t)(kinds >> 2 * KIND_BITS);
    n->letters += size;
    n->words++;
    if (size > n->longest_word)
        n->longest_word = size;
    if (digits)
        r->line_digit = true;
    if (digits == size) {
        n->numbers++;
        n->long_numbers += size > 2;
    }
    add_term(g, h, true);
    add_term(g, r->last * 31 + h * 7 + 1, false);
    if (!r->opened)
        note_edges(g, r, h);
    r->before = r->last;
    r->last = h;
    return at;
}

static void read_bytes(struct gist *g, const char *bytes, size_t len)
{
    const unsigned char *p = (const unsigned char *)bytes;
    struct reading r = {.p = p, .opened = g->n.words > 0};
    for (size_t at = 0; at < len;) {
        if (g->fold[p[at]] != 0) {
            at = read_word(g, &r, p, at, len);
            continue;
        }
        g->n.byte[p[at]]++;
        if (p[at] == '\n')
            end_line(g, &r, at);
        at++;
    }
    end_line(g, &r, len);
}

static uint32_t sum_of(const struct counts *n, const char *bytes)
{
    uint32_t sum = 0;
    for (; *bytes; bytes++)
        sum += n->byte[(unsigned char)*bytes];
    return sum;
}

static double log_of(const struct gist *g, uint32_t n)
{
    return n < LOGS ? (double)g->log[n] : log(1.0 + n);
}

/* The numbers about a prompt's shape, each brought to about -1 to 1. `read` is how much
 * of it was looked at. */
static void shape(const struct gist *g, size_t len, size_t read, float *x)
{
    const struct counts *n = &g->n;
    double per = 1.0 / (double)(read + 1);
    double lines = n->lines ? n->lines : 1, mean = n->line_sum / lines;
    double spread = n->line_squares / lines - mean * mean;
    double choices = n->choices ? n->choices : 1, answer = n->choice_sum / choices;
    double uneven = n->choice_squares / choices - answer * answer;
    bool choice = n->choices > 0;
    uint32_t marks = sum_of(n, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~");
    const double v[GIST_SHAPES] = {
        log((double)len + 1) - 5.5,
        n->digits * per * 10,
        log_of(g, n->numbers) - 1,
        n->upper * per * 10,
        log_of(g, n->byte['\n']) - 1,
        marks * per * 10,
        n->high ? 1 : 0,
        sum_of(n, "+-*/=^<>\\{}_") * per * 20,
        log_of(g, n->byte['.']) - 1,
        n->byte['?'] ? 0.5 : -0.5,
        n->words ? (double)n->letters / n->words - 4.5 : 0,
        (n->longest_word - 10.0) / 5,
        log_of(g, n->words) - 3.8,
        log_of(g, n->byte['$']),
        log_of(g, n->byte['%']),
        log_of(g, n->long_numbers),
        log_of(g, n->byte['/']),
        log_of(g, n->line_longest) - 4.5,
        log_of(g, n->line_first) - 4.5,
        log(1.0 + mean) - 3.5,
        n->lines_with_digit / lines * 2,
        log_of(g, n->byte[','] + n->byte[';']) - 1,
        sqrt(spread > 0 ? spread : 0) / (mean + 1) - 1,
        log_of(g, sum_of(n, "\"`")),
        choice,
        choice ? 2 * n->choices_with_digit / choices - 1 : 0,
        choice ? log(1 + answer) - 3 : 0,
        choice ? 2 * sqrt(uneven > 0 ? uneven : 0) / answer - 0.5 : 0,
        log(1 + (double)read - n->choice_sum) - 5,
        (g->terms / (2.0 * n->words + 1) - 0.8) * 4,
    };
    for (int i = 0; i < GIST_SHAPES; i++)
        x[i] = (float)(v[i] < -3 ? -3 : v[i] > 3 ? 3 : v[i]);
}

static int cohort(const struct counts *n, size_t len, size_t read)
{
    int size = len < 200 ? 0 : len < 600 ? 1 : len < 4000 ? 2 : 3;
    bool code = sum_of(n, "{}`;") * 100 > read;
    bool sums = n->numbers >= 3 || sum_of(n, "+*=^\\") * 50 > read;
    bool choice = n->lines >= 4 && n->line_sum < 120.0 * n->lines;
    return size * 8 + code * 4 + sums * 2 + choice;
}

static void put(struct gist *g, uint32_t slot, float value)
{
    g->feature[g->len++] = (struct gist_feature){slot, value};
}

static uint32_t shape_slot(uint64_t group, int i)
{
    enum { SHARED = 64 };
    uint32_t at = group ? SHARED + (uint32_t)(mix(group + (uint64_t)i * 0x9e3779b9u) %
                                              (GIST_SHAPE_SLOTS - SHARED))
                        : (uint32_t)i;
    return GIST_TEXT_SLOTS + at;
}

static float scale_to(float length, double squares)
{
    return squares > 0 ? length / (float)sqrt(squares) : 0;
}

static void put_terms(struct gist *g, uint64_t group)
{
    double squares[2] = {0}; /* of pairs, of words */
    for (uint32_t i = 0; i < g->terms; i++) {
        const struct term *t = &g->table[g->place[i]];
        float v = 1 + (float)log_of(g, t->count - 1u);
        squares[t->word] += (double)v * (double)v;
        put(g, t->hash & (GIST_TEXT_SLOTS - 1), v);
    }
    const float scale[2] = {scale_to(PAIRS, squares[0]), scale_to(WORDS, squares[1])};
    size_t end = g->len;
    for (size_t i = 0; i < end; i++)
        g->feature[i].value *= scale[g->table[g->place[i]].word];
    for (size_t i = 0; i < end && group; i++) {
        const struct term *t = &g->table[g->place[i]];
        uint64_t h = (t->hash ^ group) * UINT64_C(0x9e3779b97f4a7c15);
        /* Written always, kept where it is a word: there is no telling beforehand which
         * are, and a processor that guesses wrong loses more time. */
        g->feature[g->len] = (struct gist_feature){
            (uint32_t)(h >> 48), g->feature[i].value * (GROUP_WORDS / WORDS)};
        g->len += t->word;
    }
}

void gist_read(struct gist *g, const char *prompt, size_t len, uint64_t group)
{
    size_t read = len < GIST_READ_MAX ? len : GIST_READ_MAX, table = 256;
    float x[GIST_SHAPES];

    while (table < TABLE_MAX && table * 3 < read * 4)
        table *= 2;
    g->mask = (uint32_t)table - 1;
    memset(g->table, 0, table * sizeof *g->table);
    g->terms = 0;
    g->len = 0;
    g->n = (struct counts){0};
    if (len <= GIST_READ_MAX) {
        read_bytes(g, prompt, len);
    } else {
        read_bytes(g, prompt, HEAD_MAX);
        read_bytes(g, prompt + len - (GIST_READ_MAX - HEAD_MAX),
                   GIST_READ_MAX - HEAD_MAX);
    }

    put_terms(g, group);
    shape(g, len, read, x);
    for (int i = 0; i < GIST_SHAPES; i++) {
        put(g, shape_slot(0, i), SHAPE_WEIGHT * x[i]);
        if (group)
            put(g, shape_slot(group, i), SHAPE_WEIGHT * x[i]);
    }
    put(g, shape_slot(0, GIST_SHAPES), CONSTANT);
    if (group)
        put(g, shape_slot(group, GIST_SHAPES), GROUP_WEIGHT);
    g->cohort = cohort(&g->n, len, read);
}

const struct gist_feature *gist_features(const struct gist *g, size_t *len)
{
    *len = g->len;
    return g->feature;
}

int gist_cohort(const struct gist *g)
{
    return g->cohort;
}
