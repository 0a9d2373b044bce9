#ifndef LEARN_H
#define LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/*
 * What outcomes teach about a queue's jobs: the probability that a job will be right on
 * each rung, rungs in order of price. Pure; nothing is sent anywhere; one `struct learn`
 * a queue, kept in the store as a blob, and dropped by deleting that.
 *
 * Two predictors, trained by the same outcomes:
 *
 * - The table counts outcomes by group, and within it by cohort (a coarse kind of prompt,
 *   see gist.h). A cell leans on its parent with the weight of LEARN_MASS outcomes, the
 *   groups on the whole queue's share, and that on even odds with the weight of two.
 * - The model is one logistic head a rung over the features of gist.h, each weight with a
 *   learning rate of its own (FTRL-proximal: AdaGrad with a pull to zero), and behind each
 *   head a small calibration that also sees what the other heads say.
 *
 * Before an outcome is learned from, both say what they expected; the running sums of
 * -ln P(what came) decide which is in force. The model rules only from LEARN_MODEL_MIN
 * outcomes on, and only while its sum is the smaller one.
 *
 * Groups are what the caller knows of a job besides its prompt: the bulk file or the
 * directory it came from, a tag. They may be left out.
 *
 * Constants: the masses are LiteLLM's form of table with smaller numbers. On MMLU a group
 * mass of 20 predicts better than its 200 (log loss .542 against .558, 5 folds). Rate and
 * pull were tried from a third to three times their values, which changes little; so were
 * averaged weights, the table's odds in the calibration, shapes in bins and tables of four
 * times the slots: none gained more than .002 APGR, which is noise there. Nor did other
 * kinds of model, beside this one or instead of it: nearest neighbours, boosted and random
 * trees, kernels, latent factors, pieces of words, heads for what only one rung gets right.
 * And were every subject's true share known beforehand, the order that words give within
 * them would make it .686: what is left is in the jobs, not in their words.
 *
 * Memory: 12 bytes x GIST_SLOTS x rungs (1.8 MB for two), and 0.3 MB of scratch.
 */
enum {
    LEARN_RUNGS = 8,
    LEARN_MODEL_MIN = 300, /* labelled outcomes; fewer, and the table alone speaks */
    LEARN_TABLE_MIN = 20,  /* fewer, and nothing is known: the caller's default holds */
    LEARN_MASS = 20,
    LEARN_WINDOW = 2000,    /* outcomes over which the two are compared */
    LEARN_CELLS_MAX = 8192, /* groups and cohorts that are counted apart */
    LEARN_EPOCHS = 6,
    LEARN_FOLDS = 4,        /* how learn_train() sees what its model has not */
    LEARN_RATIO_MAX = 1000, /* prices further apart are taken as that far */
};

struct learn;

/* Rungs 1 to LEARN_RUNGS. */
struct learn *learn_new(int rungs, struct err *e);
void learn_free(struct learn *l);

/* A group's number: 0 for NULL and "". */
uint64_t learn_group(const char *name);

struct learn_job {
    const char *prompt; /* lent for the call; any bytes */
    size_t len;
    uint64_t group; /* 0: none */
};

/* A job's outcome on one rung. Constant time: tens of microseconds. */
void learn_outcome(struct learn *l, const struct learn_job *job, int rung, bool right);

/*
 * Forget, and learn from these rows: better than one outcome after the other, since the
 * model goes over them LEARN_EPOCHS times, and the calibration is fitted on all of them at once. Whether the model may speak is found out on
 * rows left out (LEARN_FOLDS parts in turn). `seed` sets the order. -1: no memory; then
 * `l` is what it was.
 */
struct learn_row {
    struct learn_job job;
    int8_t right[LEARN_RUNGS]; /* 1, 0; -1: not known on that rung */
};

int learn_train(struct learn *l, const struct learn_row *rows, size_t len,
                uint64_t seed, struct err *e);

enum learn_source { LEARN_NOTHING, LEARN_TABLE, LEARN_MODEL };

/* What is expected of one job. */
struct learn_view {
    enum learn_source source;
    int rungs;
    double p[LEARN_RUNGS];     /* P(right), never less on a dearer rung */
    double plain[LEARN_RUNGS]; /* the same before that was seen to */
    double table[LEARN_RUNGS]; /* what the table alone says, plain */
    double seen[LEARN_RUNGS];  /* outcomes of the job's group (without one: of all) */
    double all;                /* outcomes on all rungs */
};

/* Uses scratch of `l`: one thread at a time. */
void learn_predict(struct learn *l, const struct learn_job *job,
                   struct learn_view *ret);

struct learn_rule {
    const double *price; /* of a job on each rung, rising */
    /* A check tells right from wrong, so a failure climbs: a rung is worth trying where
     * P(right) is above its price over that of the next rung worth trying. Otherwise the
     * cheapest rung with P(right) >= tau, and where none has, the best. */
    bool checked;
    double tau;      /* 0: .75 */
    double explore;  /* share of decisions that try a neighbouring rung instead */
    uint64_t random; /* any 64 random bits */
};

struct learn_choice {
    int rung;        /* -1: nothing is known, the caller's default holds */
    unsigned ladder; /* checked: bit r is set where rung r is worth trying */
    bool explored;   /* chosen to learn something, not for what is known */
};

void learn_decide(const struct learn_view *view, const struct learn_rule *rule,
                  struct learn_choice *ret);

enum { LEARN_SAY_MAX = 160 };

/* Why, for people: "learned: 83 % right on haiku expected, by the prompt's words (3120
 * outcomes)". Returns `buf`. */
const char *learn_say(const struct learn_view *view, const struct learn_choice *choice,
                      const char *rung_name, char *buf, size_t size);

/* How the two predictors did of late: mean -ln P(what came), and over how many outcomes
 * the model was compared. For reports and tests. */
struct learn_standing {
    double outcomes, compared, table_loss, model_loss;
    bool model_in_force;
};

void learn_standing(const struct learn *l, struct learn_standing *ret);

/*
 * As one blob: a header with version, sizes and checksum; then what was counted, and the
 * slots that were ever touched. At most LEARN_BLOB_MAX bytes (1.2 MB for two rungs). Little-endian.
 * learn_save() returns how long the blob is, and writes it where `size` is enough.
 */
enum { LEARN_BLOB_MAX = 8 * 1024 * 1024 };

size_t learn_save(const struct learn *l, void *buf, size_t size);

/* NULL where the blob is not one that learn_save() wrote, or of another version. A loaded
 * one predicts, decides and learns bit for bit as the saved one. */
struct learn *learn_load(const void *blob, size_t len, struct err *e);

#endif
