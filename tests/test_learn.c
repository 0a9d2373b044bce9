#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/err.h"
#include "runner/learn.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

enum { TEXT_MAX = 120, ROWS = 600 };

static struct learn *new_learn(int rungs)
{
    struct err e = {0};
    struct learn *l = learn_new(rungs, &e);
    assert_string_equal(e.text, "");
    assert_non_null(l);
    return l;
}

static struct learn_job job_of(const char *prompt, const char *group)
{
    return (struct learn_job){
        .prompt = prompt, .len = strlen(prompt), .group = learn_group(group)};
}

static void teach(struct learn *l, const char *prompt, const char *group, int rung,
                  int right, int wrong)
{
    struct learn_job job = job_of(prompt, group);
    for (int i = 0; i < right + wrong; i++)
        learn_outcome(l, &job, rung, i < right);
}

static struct learn_view view_of(struct learn *l, const char *prompt, const char *group)
{
    struct learn_job job = job_of(prompt, group);
    struct learn_view v;
    learn_predict(l, &job, &v);
    return v;
}

/* Prompts in which one word decides: "alpha" is easy for both rungs, "omega" for the
 * second alone; all of one cohort and group, so that a table cannot tell them apart. */
static char texts[ROWS][TEXT_MAX];
static struct learn_row rows[ROWS];

static void make_rows(void)
{
    static const char *const filler[] = {"mill", "stone", "wheel", "water", "flour"};
    for (int i = 0; i < ROWS; i++) {
        int hard = i * 7919 % 13 < 6;
        snprintf(texts[i], TEXT_MAX, "the %s %s turns the %s", filler[i % 5],
                 hard ? "omega" : "alpha", filler[i / 5 % 5]);
        rows[i] = (struct learn_row){.job = job_of(texts[i], "g"), .right = {!hard, 1}};
    }
}

/* --- the table --- */

static void with_few_outcomes_nothing_is_known(void **state)
{
    (void)state;
    struct learn *l = new_learn(2);
    struct learn_choice c;
    char says[LEARN_SAY_MAX];
    for (int i = 0; i <= LEARN_TABLE_MIN; i++) {
        struct learn_view v = view_of(l, "p", "g");
        learn_decide(&v, &(struct learn_rule){.explore = 1}, &c);
        assert_int_equal(v.source, i < LEARN_TABLE_MIN ? LEARN_NOTHING : LEARN_TABLE);
        assert_int_equal(c.rung < 0, i < LEARN_TABLE_MIN);
        if (i == 3)
            assert_string_equal(learn_say(&v, &c, "haiku", says, sizeof says),
                                "nothing learned yet (3 of 20 outcomes)");
        teach(l, "p", "g", i % 2, 1, 0);
    }
    learn_free(l);
}

/* All: (right + 1) / (tried + 2); a group: (right + 20 all) / (tried + 20); a cohort of it
 * the same, leaning on the group. */
static void cells_lean_on_their_parents_by_hand(void **state)
{
    (void)state;
    struct learn *l = new_learn(2);
    teach(l, "short", "a", 0, 30, 10);
    teach(l, "1 + 2 + 3", "a", 0, 0, 20); /* of another cohort */
    teach(l, "short", "b", 0, 0, 38);
    double all = 31 / 100.0, a = (30 + 20 * all) / 80, b = 20 * all / 58;
    static const struct {
        const char *prompt, *group;
        double seen;
    } cases[] = {{"short", "a", 60},     {"1 + 2 + 3", "a", 60}, {"short", "b", 38},
                 {"1 + 2 + 3", "b", 38}, {"short", "new", 0},    {"short", NULL, 98}};
    const double want[] = {(30 + 20 * a) / 60, 20 * a / 40, 20 * b / 58, b, all, all};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct learn_view v = view_of(l, cases[i].prompt, cases[i].group);
        assert_float_equal(v.table[0], want[i], 1e-12);
        assert_float_equal(v.table[1], 0.5, 1e-12);
        assert_float_equal(v.seen[0], cases[i].seen, 0);
        assert_float_equal(v.all, 98, 0);
    }
    learn_free(l);
}

static void a_group_has_a_number_and_none_has_nought(void **state)
{
    (void)state;
    assert_true(learn_group(NULL) == 0);
    assert_true(learn_group("") == 0);
    assert_true(learn_group("a") != 0);
    assert_true(learn_group("a") == learn_group("a"));
    assert_true(learn_group("a") != learn_group("b"));
}

static void more_groups_than_are_counted_do_no_harm(void **state)
{
    (void)state;
    struct learn *l = new_learn(1);
    struct learn_job job = job_of("p", NULL);
    for (uint64_t g = 1; g <= LEARN_CELLS_MAX + 100; g++) {
        job.group = g;
        learn_outcome(l, &job, 0, true);
    }
    struct learn_view v;
    learn_predict(l, &job, &v);
    assert_float_equal(v.seen[0], 0, 0);
    assert_float_equal(v.all, LEARN_CELLS_MAX + 100, 0);
    assert_true(v.table[0] > 0.99);
    learn_free(l);
}

/* --- the model --- */

static void the_model_rules_only_from_its_minimum_on(void **state)
{
    (void)state;
    struct learn *l = new_learn(1);
    struct learn_standing s;
    for (int i = 0; i < ROWS; i++) {
        learn_standing(l, &s);
        assert_float_equal(s.outcomes, i, 0);
        assert_float_equal(s.compared, i, 0);
        if (i < LEARN_MODEL_MIN)
            assert_false(s.model_in_force);
        learn_outcome(l, &rows[i].job, 0, rows[i].right[0]);
    }
    learn_standing(l, &s);
    assert_true(s.model_in_force);
    assert_true(s.model_loss < s.table_loss);
    struct learn_view easy = view_of(l, "the wheel alpha turns the mill", "g");
    struct learn_view hard = view_of(l, "the wheel omega turns the mill", "g");
    assert_int_equal(easy.source, LEARN_MODEL);
    assert_true(easy.p[0] > 0.8 && hard.p[0] < 0.2);
    assert_float_equal(easy.table[0], hard.table[0], 0);
    learn_free(l);
}

static void the_model_rules_only_while_it_predicts_better(void **state)
{
    (void)state;
    struct learn *l = new_learn(1);
    struct learn_standing s;
    uint32_t random = 1;
    for (int i = 0; i < ROWS; i++)
        learn_outcome(l, &rows[i].job, 0, rows[i].right[0]);
    learn_standing(l, &s);
    assert_true(s.model_in_force);
    /* The word means nothing any more, and who trusts it is wrong more often. */
    for (int i = 0; i < 4 * LEARN_WINDOW; i++) {
        random = random * 1664525 + 1013904223;
        learn_outcome(l, &rows[i % ROWS].job, 0, random >> 31);
        learn_standing(l, &s);
        assert_int_equal(s.model_in_force, s.model_loss < s.table_loss);
    }
    assert_false(s.model_in_force);
    assert_int_equal(view_of(l, texts[0], "g").source, LEARN_TABLE);
    learn_free(l);
}

/* Were an outcome learned from first, the very first one would be half expected. */
static void an_outcome_is_scored_before_it_is_learned_from(void **state)
{
    (void)state;
    for (int right = 0; right < 2; right++) {
        struct learn *l = new_learn(1);
        struct learn_standing s;
        struct learn_job job = job_of("p", "g");
        learn_outcome(l, &job, 0, right);
        learn_standing(l, &s);
        assert_float_equal(s.table_loss, log(2), 1e-12);
        assert_float_equal(s.model_loss, log(2), 1e-12);
        /* (1 + 1) / (1 + 2), and both cells above lean on it: */
        double p = 2 / 3.0, g = (1 + LEARN_MASS * p) / (LEARN_MASS + 1);
        double c = (1 + LEARN_MASS * g) / (LEARN_MASS + 1);
        learn_outcome(l, &job, 0, right);
        learn_standing(l, &s);
        assert_float_equal(s.table_loss, (log(2) - log(c)) / 2, 1e-12);
        learn_free(l);
    }
}

static void training_forgets_and_depends_on_nothing_but_its_rows_and_seed(void **state)
{
    (void)state;
    struct learn *l = new_learn(2), *other = new_learn(2);
    static unsigned char a[LEARN_BLOB_MAX], b[LEARN_BLOB_MAX];
    struct err e = {0};
    teach(other, "something else", "h", 1, 3, 90);
    assert_int_equal(learn_train(l, rows, ROWS, 1, &e), 0);
    assert_int_equal(learn_train(other, rows, ROWS, 1, &e), 0);
    size_t len = learn_save(l, a, sizeof a);
    assert_int_equal(learn_save(other, b, sizeof b), len);
    assert_memory_equal(a, b, len);
    struct learn_standing s;
    learn_standing(l, &s);
    assert_float_equal(s.outcomes, 2 * ROWS, 0);
    assert_true(s.model_in_force);
    learn_free(l);
    learn_free(other);
}

/* The calibration was fitted at once, and yet one outcome more is one of hundreds. */
static void an_outcome_after_training_moves_little(void **state)
{
    (void)state;
    struct learn *l = new_learn(2);
    struct err e = {0};
    assert_int_equal(learn_train(l, rows, ROWS, 1, &e), 0);
    struct learn_view before = view_of(l, texts[0], "g");
    assert_int_equal(before.source, LEARN_MODEL);
    teach(l, "of another kind, 1 2 3 4 5 6 7 8", "h", 0, 0, 1);
    struct learn_view after = view_of(l, texts[0], "g");
    assert_true(after.plain[0] != before.plain[0]);
    assert_float_equal(after.plain[0], before.plain[0], 0.01);
    learn_free(l);
}

/* What one rung gets right the other gets wrong, and half of it is a coin: the fit of the
 * calibration must come to an end anywhere. */
static void rows_of_any_kind_leave_probabilities(void **state)
{
    (void)state;
    enum { KINDS = 4 };
    static struct learn_row some[ROWS];
    struct learn *l = new_learn(2);
    struct err e = {0};
    uint32_t random = 1;
    for (int kind = 0; kind < KINDS; kind++) {
        for (int i = 0; i < ROWS; i++) {
            random = random * 1664525 + 1013904223;
            int coin = random >> 31, right = rows[i].right[0];
            int first = kind == 0 ? coin : kind == 1 ? right : kind == 2 ? 1 : i & 1;
            some[i] = (struct learn_row){.job = rows[i].job};
            some[i].right[0] = (int8_t)first;
            some[i].right[1] = (int8_t)(kind == 3 ? coin : !first);
        }
        assert_int_equal(learn_train(l, some, ROWS, 1, &e), 0);
        for (int i = 0; i < ROWS; i++) {
            struct learn_view v;
            learn_predict(l, &some[i].job, &v);
            for (int r = 0; r < 2; r++)
                assert_true(v.plain[r] > 0 && v.plain[r] < 1);
            if (kind == 1)
                assert_true(v.plain[0] > 0.8 ? rows[i].right[0] : v.plain[0] < 0.2);
        }
    }
    learn_free(l);
}

static void rows_may_be_none_or_known_on_one_rung_only(void **state)
{
    (void)state;
    static struct learn_row some[40];
    struct learn *l = new_learn(2);
    struct learn_standing s;
    struct err e = {0};
    assert_int_equal(learn_train(l, rows, 0, 1, &e), 0);
    assert_int_equal(view_of(l, "p", "g").source, LEARN_NOTHING);
    for (size_t i = 0; i < CASES(some); i++)
        some[i] = (struct learn_row){.job = rows[i].job, .right = {-1, 1}};
    assert_int_equal(learn_train(l, some, CASES(some), 1, &e), 0);
    learn_standing(l, &s);
    assert_float_equal(s.outcomes, CASES(some), 0);
    struct learn_view v = view_of(l, "p", "g");
    assert_float_equal(v.table[0], 0.5, 1e-12);
    assert_true(v.table[1] > 0.9);
    learn_free(l);
}

/* --- decisions --- */

static void a_rung_is_chosen_by_the_rule(void **state)
{
    (void)state;
    static const double price[] = {1, 2, 10};
    static const struct {
        double p[3];
        bool checked;
        double tau;
        int rung;
        unsigned ladder;
    } cases[] = {
        /* the cheapest that is good enough; none: the best */
        {{.8, .9, .95}, false, 0, 0, 0},
        {{.75, .9, .95}, false, 0, 0, 0},
        {{.74, .9, .95}, false, 0, 1, 0},
        {{.74, .74, .75}, false, 0, 2, 0},
        {{.1, .2, .3}, false, 0, 2, 0},
        {{.3, .3, .3}, false, 0, 0, 0},
        {{.6, .9, .95}, false, .5, 0, 0},
        {{.6, .9, .95}, false, .92, 2, 0},
        /* checked: P above its price over that of the next one tried */
        {{.9, .9, .9}, true, 0, 0, 7},
        {{.51, .3, .9}, true, 0, 0, 7},
        {{.5, .3, .9}, true, 0, 1, 6},
        {{.11, .1, .9}, true, 0, 0, 5},
        {{.1, .2, .9}, true, 0, 2, 4},
        {{.1, .21, .9}, true, 0, 1, 6},
        {{.05, .1, .2}, true, .01, 2, 4},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct learn_view v = {.source = LEARN_TABLE, .rungs = 3};
        struct learn_choice c;
        memcpy(v.p, cases[i].p, sizeof cases[i].p);
        learn_decide(&v,
                     &(struct learn_rule){.price = price,
                                          .checked = cases[i].checked,
                                          .tau = cases[i].tau},
                     &c);
        assert_int_equal(c.rung, cases[i].rung);
        assert_int_equal(c.ladder, cases[i].ladder);
        assert_false(c.explored);
    }
}

static void the_share_that_explores_is_the_one_asked_for(void **state)
{
    (void)state;
    enum { TRIES = 20000 };
    static const double shares[] = {0, 0.05, 0.5, 1};
    for (size_t k = 0; k < CASES(shares); k++)
        for (int best = 0; best < 3; best++) {
            struct learn_view v = {.source = LEARN_TABLE, .rungs = 3};
            int explored = 0, at[3] = {0};
            uint64_t random = 1;
            for (int r = best; r < 3; r++)
                v.p[r] = 0.9;
            for (int i = 0; i < TRIES; i++) {
                struct learn_choice c;
                random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
                learn_decide(&v,
                             &(struct learn_rule){.explore = shares[k],
                                                  .random = random ^ random >> 33},
                             &c);
                assert_int_equal(c.explored, c.rung != best);
                assert_in_range(c.rung, best ? best - 1 : 0, best < 2 ? best + 1 : 2);
                explored += c.explored;
                at[c.rung]++;
            }
            assert_float_equal((double)explored / TRIES, shares[k], 0.02);
            if (best == 1 && shares[k] > 0) /* up as often as down */
                assert_float_equal((double)at[0] / explored, 0.5, 0.06);
        }
    struct learn_view one = {.source = LEARN_TABLE, .rungs = 1};
    struct learn_choice c;
    learn_decide(&one, &(struct learn_rule){.explore = 1}, &c);
    assert_int_equal(c.rung, 0);
    assert_false(c.explored);
}

static void a_dearer_rung_is_never_thought_worse(void **state)
{
    (void)state;
    struct learn *l = new_learn(4);
    teach(l, "p", "g", 0, 50, 50);
    teach(l, "p", "g", 1, 90, 10);
    teach(l, "p", "g", 2, 30, 70);
    teach(l, "p", "g", 3, 60, 40);
    struct learn_view v = view_of(l, "p", "g");
    assert_float_equal(v.p[0], v.plain[0], 1e-12);
    /* the three that are out of order: their mean */
    double mean = (v.plain[1] + v.plain[2] + v.plain[3]) / 3;
    double pair = (v.plain[1] + v.plain[2]) / 2;
    assert_float_equal(v.p[1], v.plain[3] < pair ? mean : pair, 1e-12);
    assert_float_equal(v.p[2], v.p[1], 1e-12);
    for (int r = 1; r < 4; r++)
        assert_true(v.p[r] >= v.p[r - 1]);
    learn_free(l);
}

static void why_is_told_in_a_sentence(void **state)
{
    (void)state;
    struct learn_view v = {
        .rungs = 2, .p = {0.8349, 0.9}, .seen = {120, 80}, .all = 3120};
    static const struct {
        enum learn_source source;
        struct learn_choice choice;
        const char *says;
    } cases[] = {
        {LEARN_MODEL,
         {.rung = 0},
         "learned: 83 % right on haiku expected, by the prompt's words (3120 "
         "outcomes)"},
        {LEARN_TABLE,
         {.rung = 1, .explored = true},
         "tried to learn: 90 % right on haiku expected, by the table (80 outcomes of "
         "its "
         "group there, 3120 in all)"},
        {LEARN_NOTHING, {.rung = -1}, "nothing learned yet (3120 of 20 outcomes)"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        char says[LEARN_SAY_MAX];
        v.source = cases[i].source;
        assert_string_equal(learn_say(&v, &cases[i].choice, "haiku", says, sizeof says),
                            cases[i].says);
    }
}

/* --- as a blob --- */

static unsigned char blob[LEARN_BLOB_MAX], again[LEARN_BLOB_MAX];

static size_t save_one(void)
{
    struct learn *l = new_learn(2);
    struct err e = {0};
    assert_int_equal(learn_train(l, rows, ROWS, 1, &e), 0);
    teach(l, "some other prompt", "h", 0, 3, 2);
    size_t len = learn_save(l, blob, sizeof blob);
    assert_true(len <= sizeof blob);
    learn_free(l);
    return len;
}

static void a_loaded_one_goes_on_bit_for_bit(void **state)
{
    (void)state;
    for (int rungs = 1; rungs <= LEARN_RUNGS; rungs += 3) {
        struct learn *l = new_learn(rungs);
        struct err e = {0};
        for (int i = 0; i < ROWS; i++)
            learn_outcome(l, &rows[i].job, i % rungs, rows[i].right[0]);
        size_t len = learn_save(l, blob, sizeof blob);
        struct learn *m = learn_load(blob, len, &e);
        assert_string_equal(e.text, "");
        for (int i = 0; i < 50; i++) {
            struct learn_view v, w;
            learn_predict(l, &rows[i].job, &v);
            learn_predict(m, &rows[i].job, &w);
            assert_int_equal(v.source, w.source);
            assert_memory_equal(v.p, w.p, sizeof v.p);
            assert_memory_equal(v.table, w.table, sizeof v.table);
            learn_outcome(l, &rows[i].job, i % rungs, i & 1);
            learn_outcome(m, &rows[i].job, i % rungs, i & 1);
        }
        len = learn_save(l, blob, sizeof blob);
        assert_int_equal(learn_save(m, again, sizeof again), len);
        learn_free(m);
        m = learn_load(again, len, &e);
        struct learn_standing s, t;
        learn_standing(l, &s);
        learn_standing(m, &t);
        assert_float_equal(s.outcomes, t.outcomes, 0);
        assert_float_equal(s.model_loss, t.model_loss, 0);
        learn_free(l);
        learn_free(m);
    }
}

static void a_blob_is_not_written_past_the_room_there_is(void **state)
{
    (void)state;
    struct learn *l = new_learn(2);
    teach(l, "p", "g", 0, 5, 5);
    size_t len = learn_save(l, NULL, 0);
    unsigned char *small = malloc(len - 1);
    assert_int_equal(learn_save(l, small, len - 1), len);
    free(small);
    assert_int_equal(learn_save(l, blob, len), len);
    learn_free(l);
}

/* From memory of the exact size. */
static void assert_refused(const unsigned char *bytes, size_t len, const char *says)
{
    struct err e = {0};
    unsigned char *p = malloc(len + !len);
    memcpy(p, bytes, len);
    assert_null(learn_load(p, len, &e));
    assert_int_equal(e.code, ERR_STORE);
    assert_string_equal(e.text, says);
    free(p);
}

static void a_blob_cut_short_or_with_more_behind_is_refused(void **state)
{
    (void)state;
    size_t len = save_one();
    for (size_t n = 0; n < 64; n++) {
        assert_refused(blob, n, "what was learned is damaged");
        assert_refused(blob, len - 1 - n, "what was learned is damaged");
    }
    assert_refused(blob, len / 2, "what was learned is damaged");
    blob[len] = 0;
    assert_refused(blob, len + 1, "what was learned is damaged");
}

static void a_blob_with_any_bit_changed_is_refused(void **state)
{
    (void)state;
    enum { VERSIONS = 8, VERSIONS_END = 20 }; /* in the header */
    size_t len = save_one();
    for (size_t at = 0; at < len; at += at < 200 ? 1 : 397) {
        blob[at] ^= (unsigned char)(1 << at % 8);
        assert_refused(blob, len,
                       at >= VERSIONS && at < VERSIONS_END
                           ? "what was learned is of another version"
                           : "what was learned is damaged");
        blob[at] ^= (unsigned char)(1 << at % 8);
    }
    struct err e = {0};
    struct learn *l = learn_load(blob, len, &e);
    assert_non_null(l);
    learn_free(l);
}

static void rungs_have_bounds(void **state)
{
    (void)state;
    static const int wrong[] = {0, -1, LEARN_RUNGS + 1};
    for (size_t i = 0; i < CASES(wrong); i++) {
        struct err e = {0};
        assert_null(learn_new(wrong[i], &e));
        assert_int_equal(e.code, ERR_INPUT);
    }
    learn_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_few_outcomes_nothing_is_known),
        cmocka_unit_test(cells_lean_on_their_parents_by_hand),
        cmocka_unit_test(a_group_has_a_number_and_none_has_nought),
        cmocka_unit_test(more_groups_than_are_counted_do_no_harm),
        cmocka_unit_test(the_model_rules_only_from_its_minimum_on),
        cmocka_unit_test(the_model_rules_only_while_it_predicts_better),
        cmocka_unit_test(an_outcome_is_scored_before_it_is_learned_from),
        cmocka_unit_test(training_forgets_and_depends_on_nothing_but_its_rows_and_seed),
        cmocka_unit_test(an_outcome_after_training_moves_little),
        cmocka_unit_test(rows_of_any_kind_leave_probabilities),
        cmocka_unit_test(rows_may_be_none_or_known_on_one_rung_only),
        cmocka_unit_test(a_rung_is_chosen_by_the_rule),
        cmocka_unit_test(the_share_that_explores_is_the_one_asked_for),
        cmocka_unit_test(a_dearer_rung_is_never_thought_worse),
        cmocka_unit_test(why_is_told_in_a_sentence),
        cmocka_unit_test(a_loaded_one_goes_on_bit_for_bit),
        cmocka_unit_test(a_blob_is_not_written_past_the_room_there_is),
        cmocka_unit_test(a_blob_cut_short_or_with_more_behind_is_refused),
        cmocka_unit_test(a_blob_with_any_bit_changed_is_refused),
        cmocka_unit_test(rungs_have_bounds),
    };
    make_rows();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
