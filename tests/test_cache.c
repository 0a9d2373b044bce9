#include "runner/cache.h"

#include "conf/catalog.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define S INT64_C(1000)
#define MINUTE (60 * S)
#define BYTES(tokens) ((tokens)*7 / 2)

static struct catalog *catalog;

static const struct model *model(const char *id)
{
    const struct model *m = catalog_find(catalog, id);
    assert_non_null(m);
    return m;
}

#define OPUS model("claude-opus-5-5")

/* A prefix of one cut; or of two, where `inner` is within `outer`. 0: no cut. */
static struct prefix prefix_of(uint64_t outer, int64_t outer_tokens, uint64_t inner,
                               int64_t inner_tokens)
{
    struct prefix p = {0};
    if (outer_tokens)
        p.cut[p.count++] = (struct prefix_cut){.key = {outer * 77, outer},
                                               .bytes = (size_t)BYTES(outer_tokens)};
    if (inner_tokens)
        p.cut[p.count++] = (struct prefix_cut){
            .key = {outer * 1000003 + inner, inner},
            .bytes = (size_t)BYTES(outer_tokens + inner_tokens)};
    return p;
}

/* ---- what pays ---- */

static void what_pays_follows_from_size_and_rate(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        int64_t jobs, gap_ms, uses, lapses;
        enum cache_worth worth;
    } cases[] = {
        {"claude-opus-5-5", 1, 0, 0, 0, CACHE_WORTH_NOTHING},
        {"claude-opus-5-5", 2, 0, 0, 0, CACHE_WORTH_5M}, /* 1.25 + 0.05 < 2 */
        {"claude-haiku-4-5", 2, 0, 0, 0, CACHE_WORTH_5M},
        {"claude-opus-5-5", 1000000000, 0, 0, 0, CACHE_WORTH_5M},
        /* six minutes between uses: 2 + 0.05 (n - 1) < n from the third on */
        {"claude-opus-5-5", 2, 6 * MINUTE, 0, 0, CACHE_WORTH_NOTHING},
        {"claude-opus-5-5", 3, 6 * MINUTE, 0, 0, CACHE_WORTH_1H},
        {"claude-haiku-4-5", 3, 6 * MINUTE, 0, 0, CACHE_WORTH_1H},
        {"claude-opus-5-5", 3, 280 * S, 0, 0, CACHE_WORTH_5M},
        {"claude-opus-5-5", 3, 291 * S, 0, 0, CACHE_WORTH_1H}, /* it may be late */
        {"claude-opus-5-5", 1000, 61 * MINUTE, 0, 0, CACHE_WORTH_NOTHING},
        /* a lapse costs 1.2, the hour 0.75 more than the five minutes */
        {"claude-opus-5-5", 101, 0, 1000, 5, CACHE_WORTH_5M},
        {"claude-opus-5-5", 101, 0, 1000, 10, CACHE_WORTH_1H},
        {"claude-opus-5-5", 11, 0, 1000, 10, CACHE_WORTH_5M},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct cache_outlook o = {.jobs = cases[i].jobs,
                                  .tokens = 6000,
                                  .gap_ms = cases[i].gap_ms,
                                  .uses = cases[i].uses,
                                  .lapses = cases[i].lapses};
        if (cache_worth(model(cases[i].model), &o, NULL) != cases[i].worth)
            fail_msg("case %zu", i);
    }
}

static void costs_are_exact(void **state)
{
    (void)state;
    struct cache_costs s;
    struct cache_outlook o = {.jobs = 50, .tokens = 6000};
    cache_worth(OPUS, &o, &s); /* 4, 5, 8 and 0.2 dollars a million */
    assert_int_equal(s.none, INT64_C(6000) * 50 * 4000000);
    assert_int_equal(s.five, INT64_C(6000) * (5000000 + 49 * 200000));
    assert_int_equal(s.hour, INT64_C(6000) * (8000000 + 49 * 200000));

    /* above its bound a long prompt pays other prices; nothing wraps */
    o = (struct cache_outlook){.jobs = 2, .tokens = 200000};
    cache_worth(model("claude-haiku-5-5"), &o, &s);
    assert_int_equal(s.none, INT64_C(200000) * 2 * 500000);
    o = (struct cache_outlook){
        .jobs = INT64_MAX, .tokens = INT64_MAX, .gap_ms = INT64_MAX};
    assert_int_equal(cache_worth(model("claude-fable-5"), &o, &s), CACHE_WORTH_NOTHING);
    assert_true(s.none > 0 && s.five > s.none && s.hour > s.five);

    /* a model without prices goes by the usual ratios */
    static const struct model unpriced = {.id = "new"};
    o = (struct cache_outlook){.jobs = 2, .tokens = 6000};
    assert_int_equal(cache_worth(&unpriced, &o, NULL), CACHE_WORTH_5M);
}

/* ---- one group, step by step ---- */

enum { FEW = 6 };

struct few {
    struct cache c;
    struct cache_job job[FEW];
};

static void few_begin(struct few *f, int n, int64_t tokens)
{
    struct prefix p = prefix_of(1, tokens, 0, 0);
    cache_init(&f->c, 1);
    memset(f->job, 0, sizeof f->job);
    for (int i = 0; i < n; i++) {
        cache_join(&f->c, &f->job[i], &p, 0, OPUS);
        cache_waits(&f->c, &f->job[i], true);
    }
}

static void few_end(struct few *f)
{
    for (int i = 0; i < FEW; i++)
        cache_part(&f->c, &f->job[i], false);
    assert_int_equal(f->c.open_stock, 0);
    assert_int_equal(f->c.leading, 0);
    cache_clear(&f->c);
}

static struct cache_say ask(struct few *f, int i, int64_t now)
{
    cache_refresh(&f->c, 0, 100, now);
    return cache_decide(&f->c, &f->job[i], now);
}

static struct cache_say start(struct few *f, int i, int64_t now)
{
    struct cache_say say = ask(f, i, now);
    assert_true(say.word != CACHE_WAIT);
    cache_waits(&f->c, &f->job[i], false);
    cache_started(&f->c, &f->job[i], &say, now);
    return say;
}

static void followers_wait_for_the_first_byte_and_not_for_the_end(void **state)
{
    (void)state;
    struct few f;
    char says[CACHE_SAYS_MAX];
    few_begin(&f, 3, 6000);
    struct cache_say say = start(&f, 0, 0);
    assert_int_equal(say.word, CACHE_LEAD);
    assert_int_equal(say.marks.count, 1);
    assert_false(say.marks.hour);
    assert_int_equal(say.read_bytes, 0);
    assert_string_equal(cache_explain(&say, says, sizeof says),
                        "leads 3 jobs that share 6000 tokens, kept 5 minutes");
    say = ask(&f, 1, 10);
    assert_int_equal(say.word, CACHE_WAIT);
    assert_int_equal(say.ask_at, CACHE_PATIENCE_MS);

    cache_began(&f.c, &f.job[0], 1000);
    say = start(&f, 1, 1001);
    assert_int_equal(say.word, CACHE_FOLLOW);
    assert_int_equal(say.marks.count, 1);
    assert_int_equal(say.read_bytes, BYTES(6000));
    /* the last of them reads, too, though it is alone by now */
    assert_int_equal(start(&f, 2, 1002).word, CACHE_FOLLOW);
    few_end(&f);
}

static void a_leader_that_ends_without_a_first_byte_gives_way(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 3, 6000);
    start(&f, 0, 0);
    cache_ended(&f.c, &f.job[0], NULL, 500);
    assert_int_equal(start(&f, 1, 501).word, CACHE_LEAD);
    assert_int_equal(ask(&f, 2, 502).word, CACHE_WAIT);

    /* that it is never streamed does not matter: its end tells as well */
    cache_ended(&f.c, &f.job[1], &(struct usage){.input = 9, .cache_write_5m = 6000},
                900);
    assert_int_equal(ask(&f, 2, 902).word, CACHE_FOLLOW);
    few_end(&f);
}

static void a_silent_leader_gets_company(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 4, 6000);
    start(&f, 0, 0);
    assert_int_equal(ask(&f, 1, CACHE_PATIENCE_MS - 1).word, CACHE_WAIT);
    assert_int_equal(start(&f, 1, CACHE_PATIENCE_MS).word, CACHE_LEAD);
    assert_int_equal(ask(&f, 2, CACHE_PATIENCE_MS + 1).word, CACHE_WAIT);
    /* the first one fails; the second is still out */
    cache_ended(&f.c, &f.job[0], NULL, CACHE_PATIENCE_MS + 2);
    assert_int_equal(ask(&f, 2, CACHE_PATIENCE_MS + 3).word, CACHE_WAIT);
    cache_began(&f.c, &f.job[1], CACHE_PATIENCE_MS + 4);
    assert_int_equal(ask(&f, 2, CACHE_PATIENCE_MS + 5).word, CACHE_FOLLOW);
    few_end(&f);
}

static void a_group_lapses_when_its_last_use_is_too_long_ago(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 6, 6000);
    start(&f, 0, 0);
    cache_began(&f.c, &f.job[0], 2 * S);
    /* its time runs from when the request left, not from when its answer began */
    assert_int_equal(ask(&f, 1, CACHE_5M_MS - CACHE_GUARD_MS - 1).word, CACHE_FOLLOW);
    assert_int_equal(ask(&f, 1, CACHE_5M_MS - CACHE_GUARD_MS).word, CACHE_LEAD);

    /* a use keeps it */
    start(&f, 1, 200 * S);
    cache_began(&f.c, &f.job[1], 201 * S);
    assert_int_equal(ask(&f, 2, 200 * S + CACHE_5M_MS - CACHE_GUARD_MS - 1).word,
                     CACHE_FOLLOW);

    /* one that was refused was none */
    start(&f, 2, 400 * S);
    cache_ended(&f.c, &f.job[2], NULL, 401 * S);
    assert_int_equal(ask(&f, 3, 200 * S + CACHE_5M_MS - CACHE_GUARD_MS).word,
                     CACHE_LEAD);
    few_end(&f);
}

static void where_none_shares_a_prefix_no_search_is_worth_it(void **state)
{
    (void)state;
    struct cache c;
    cache_init(&c, 1);
    cache_refresh(&c, 0, 256, 0); /* room for many, and no group to fill it with */
    assert_int_equal(cache_best(&c), CACHE_RANK_GO);
    cache_clear(&c);
}

static void a_group_that_is_about_to_lapse_goes_before_all_others(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 4, 6000);
    start(&f, 0, 0);
    cache_began(&f.c, &f.job[0], 1 * S);
    assert_int_equal(ask(&f, 1, 200 * S).rank, CACHE_RANK_GO);
    assert_int_equal(cache_best(&f.c), CACHE_RANK_LEAD);
    assert_int_equal(ask(&f, 1, 245 * S).rank, CACHE_RANK_WARM);
    assert_int_equal(cache_best(&f.c), CACHE_RANK_WARM);
    start(&f, 1, 245 * S);
    assert_int_equal(ask(&f, 2, 246 * S).rank, CACHE_RANK_GO);
    assert_int_equal(cache_best(&f.c), CACHE_RANK_LEAD);
    few_end(&f);
}

static void what_is_too_small_is_left_alone(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 4, 400);
    struct cache_say say = start(&f, 0, 0);
    assert_int_equal(say.word, CACHE_NONE);
    assert_int_equal(say.marks.count, 0);
    assert_string_equal(say.why, "its prefix is shorter than the model caches");
    few_end(&f);

    few_begin(&f, 1, 6000);
    say = start(&f, 0, 0);
    assert_int_equal(say.word, CACHE_NONE);
    assert_string_equal(say.why, "alone with its prefix");
    few_end(&f);

    struct cache_job none = {0};
    cache_init(&f.c, 1);
    cache_waits(&f.c, &none, true);
    say = cache_decide(&f.c, &none, 0);
    assert_int_equal(say.word, CACHE_NONE);
    assert_string_equal(say.why, "shares no prefix");
    cache_clear(&f.c);
}

static void one_rung_does_not_read_what_another_wrote(void **state)
{
    (void)state;
    struct few f;
    struct prefix p = prefix_of(1, 6000, 0, 0);
    few_begin(&f, 0, 0);
    for (int i = 0; i < 4; i++) {
        cache_join(&f.c, &f.job[i], &p, 1 + (uint64_t)i / 2, OPUS);
        cache_waits(&f.c, &f.job[i], true);
    }
    start(&f, 0, 0);
    cache_began(&f.c, &f.job[0], 1);
    assert_int_equal(ask(&f, 1, 2).word, CACHE_FOLLOW);
    assert_int_equal(ask(&f, 2, 2).word, CACHE_LEAD);
    few_end(&f);
}

static void what_the_api_did_not_cache_is_not_marked_again(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 4, 600);
    start(&f, 0, 0);
    cache_began(&f.c, &f.job[0], 1);
    cache_ended(&f.c, &f.job[0], &(struct usage){.input = 500, .output = 1}, 2);
    assert_int_equal(ask(&f, 1, 3).word, CACHE_NONE);
    for (int i = 0; i < 8; i++) /* away, and back an hour later: who knows */
        cache_waits(&f.c, &f.job[i % 4], i >= 4);
    assert_int_equal(ask(&f, 1, 61 * MINUTE).word, CACHE_LEAD);
    few_end(&f);
}

static void an_entry_that_nobody_can_read_is_given_up(void **state)
{
    (void)state;
    struct few f;
    static const struct usage wrote = {.input = 9, .cache_write_5m = 6000};
    few_begin(&f, 6, 6000);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(start(&f, i, i * S).word, i ? CACHE_FOLLOW : CACHE_LEAD);
        cache_ended(&f.c, &f.job[i], &wrote, i * S + 500);
    }
    assert_int_equal(ask(&f, 4, 9 * S).word, CACHE_NONE);
    few_end(&f);

    /* those that were out together say it but once */
    few_begin(&f, 6, 6000);
    start(&f, 0, 0);
    cache_began(&f.c, &f.job[0], 1);
    for (int i = 1; i < 5; i++)
        start(&f, i, 2);
    for (int i = 0; i < 5; i++)
        cache_ended(&f.c, &f.job[i], &wrote, 500 + i);
    assert_int_equal(ask(&f, 5, 9 * S).word, CACHE_FOLLOW);
    few_end(&f);
}

static void usage_corrects_what_was_guessed(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 4, 6000);
    start(&f, 0, 0);
    cache_ended(&f.c, &f.job[0], &(struct usage){.input = 9, .cache_write_5m = 4500},
                2);
    assert_int_equal(ask(&f, 1, 3).tokens, 4500);
    few_end(&f);

    /* each its own: pictures are denser than prose */
    few_begin(&f, 2, 6000);
    struct prefix q = prefix_of(8, 6000, 0, 0);
    for (int i = 2; i < 4; i++) {
        cache_join(&f.c, &f.job[i], &q, 0, OPUS);
        cache_waits(&f.c, &f.job[i], true);
    }
    start(&f, 0, 0);
    start(&f, 2, 0);
    cache_ended(&f.c, &f.job[0], &(struct usage){.input = 9, .cache_write_5m = 4500},
                2);
    cache_ended(&f.c, &f.job[2], &(struct usage){.input = 9, .cache_write_5m = 9000},
                2);
    assert_int_equal(ask(&f, 1, 3).tokens, 4500);
    assert_int_equal(ask(&f, 3, 3).tokens, 9000);
    few_end(&f);

    /* of others, too: what was guessed to be long enough is not */
    few_begin(&f, 2, 600);
    struct prefix p = prefix_of(9, 6000, 0, 0);
    for (int i = 2; i < 4; i++) {
        cache_join(&f.c, &f.job[i], &p, 0, OPUS);
        cache_waits(&f.c, &f.job[i], true);
    }
    assert_int_equal(ask(&f, 0, 0).word, CACHE_LEAD);
    start(&f, 2, 0);
    cache_ended(&f.c, &f.job[2], &(struct usage){.input = 9, .cache_write_5m = 4500},
                2);
    assert_int_equal(ask(&f, 0, 3).word, CACHE_NONE);
    few_end(&f);
}

static void jobs_that_wait_on_disk_count(void **state)
{
    (void)state;
    struct few f;
    struct prefix p = prefix_of(1, 6000, 0, 0);
    few_begin(&f, 0, 0);
    int64_t turn = cache_seen(&f.c, &p, 0, OPUS, 1, 0);
    assert_true(cache_seen(&f.c, &(struct prefix){0}, 0, OPUS, 1, 0) > turn);
    assert_int_equal(cache_seen(&f.c, &p, 0, OPUS, 1, 0), turn);
    cache_join(&f.c, &f.job[0], &p, 0, OPUS);
    cache_waits(&f.c, &f.job[0], true);
    assert_int_equal(ask(&f, 0, 0).word, CACHE_LEAD);
    cache_part(&f.c, &f.job[0], true);
    cache_join(&f.c, &f.job[0], &p, 0, OPUS);
    cache_waits(&f.c, &f.job[0], true);
    assert_int_equal(ask(&f, 0, 0).jobs, 2);
    few_end(&f);
}

static void turns_keep_groups_within_groups_together(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 0, 0);
    int64_t turn[6];
    static const uint64_t outer[] = {1, 2, 1, 2, 1, 1}, inner[] = {1, 1, 2, 1, 1, 2};
    for (int i = 0; i < 6; i++) {
        struct prefix p = prefix_of(outer[i], 2000, inner[i], 2000);
        turn[i] = cache_seen(&f.c, &p, 0, OPUS, 1, 0);
    }
    assert_int_equal(turn[0], turn[4]);
    assert_int_equal(turn[2], turn[5]);
    assert_int_equal(turn[1], turn[3]);
    assert_true(turn[0] < turn[2] && turn[2] < turn[1]);
    few_end(&f);
}

static void a_prefix_that_others_share_is_marked_beside_the_longer_one(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 0, 0);
    for (int i = 0; i < 5; i++) {
        struct prefix p = prefix_of(1, 2000, (uint64_t)i / 2, 2000);
        cache_join(&f.c, &f.job[i], &p, 0, OPUS);
        cache_waits(&f.c, &f.job[i], true);
    }
    struct cache_say say = start(&f, 0, 0);
    assert_int_equal(say.word, CACHE_LEAD);
    assert_int_equal(say.marks.count, 2);
    /* the next group's leader could read the shorter one, once that is there */
    assert_int_equal(ask(&f, 2, 1).word, CACHE_WAIT);
    cache_began(&f.c, &f.job[0], 2);
    say = start(&f, 1, 3);
    assert_int_equal(say.read_bytes, BYTES(4000));
    assert_int_equal(say.marks.count, 1);
    assert_int_equal(say.marks.cut[0], 1);
    say = start(&f, 2, 3);
    assert_int_equal(say.word, CACHE_LEAD);
    assert_int_equal(say.read_bytes, BYTES(2000));
    assert_int_equal(say.marks.count, 2);
    /* whose longer prefix is its own reads the shorter */
    say = ask(&f, 4, 4);
    assert_int_equal(say.word, CACHE_FOLLOW);
    assert_int_equal(say.marks.cut[0], 0);
    assert_int_equal(say.read_bytes, BYTES(2000));
    few_end(&f);
}

static void a_prefix_hardly_longer_gets_no_leader_of_its_own(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 0, 0);
    for (int i = 0; i < 6; i++) {
        struct prefix p = prefix_of(1, 2000, (uint64_t)i / 2, 100);
        cache_join(&f.c, &f.job[i], &p, 0, OPUS);
        cache_waits(&f.c, &f.job[i], true);
    }
    struct cache_say say = start(&f, 0, 0);
    assert_int_equal(say.marks.count, 1);
    assert_int_equal(say.marks.cut[0], 0);
    assert_int_equal(say.jobs, 6);
    few_end(&f);

    /* but where the shorter one is too short to be cached, it does */
    few_begin(&f, 0, 0);
    for (int i = 0; i < 6; i++) {
        struct prefix p = prefix_of(1, 400, (uint64_t)i / 2, 200);
        cache_join(&f.c, &f.job[i], &p, 0, OPUS);
        cache_waits(&f.c, &f.job[i], true);
    }
    say = start(&f, 0, 0);
    assert_int_equal(say.word, CACHE_LEAD);
    assert_int_equal(say.marks.count, 1);
    assert_int_equal(say.marks.cut[0], 1);
    assert_int_equal(say.jobs, 2);
    few_end(&f);
}

static void a_group_is_not_opened_while_open_ones_have_jobs(void **state)
{
    (void)state;
    struct few f;
    struct prefix p = prefix_of(2, 6000, 0, 0);
    few_begin(&f, 4, 6000);
    for (int i = 4; i < 6; i++) {
        cache_join(&f.c, &f.job[i], &p, 0, OPUS);
        cache_waits(&f.c, &f.job[i], true);
    }
    /* four could leave at once, and three would be at hand */
    struct cache_say say = start(&f, 0, 0);
    cache_refresh(&f.c, 1, 3, 1);
    for (int i = 1; i < 4; i++)
        assert_int_equal(cache_decide(&f.c, &f.job[i], 1).word, CACHE_WAIT);
    assert_int_equal(cache_decide(&f.c, &f.job[4], 1).rank, CACHE_RANK_LEAD);

    /* one could: there is enough, and its leader will begin */
    cache_refresh(&f.c, 0, 1, 1);
    say = cache_decide(&f.c, &f.job[4], 1);
    assert_int_equal(say.word, CACHE_WAIT);
    assert_string_equal(say.why, "other prefixes are worked first");

    /* nobody's begin is awaited any more: if none of those may go, this one does */
    cache_began(&f.c, &f.job[0], 2);
    cache_refresh(&f.c, 0, 1, 3);
    assert_int_equal(cache_best(&f.c), CACHE_RANK_GO);
    assert_int_equal(cache_decide(&f.c, &f.job[1], 3).rank, CACHE_RANK_GO);
    say = cache_decide(&f.c, &f.job[4], 3);
    assert_int_equal(say.word, CACHE_LEAD);
    assert_int_equal(say.rank, CACHE_RANK_LATER);

    /* nor does it wait for ever where the others never end */
    int others = 0;
    for (; others < 100 && say.rank != CACHE_RANK_LEAD; others++) {
        int64_t now = 10 + others;
        cache_refresh(&f.c, 0, 1, now);
        cache_ended(&f.c, &f.job[1], &(struct usage){.input = 9, .cache_read = 6000},
                    now);
        cache_waits(&f.c, &f.job[1], true);
        say = cache_decide(&f.c, &f.job[1], now);
        cache_started(&f.c, &f.job[1], &say, now);
        say = cache_decide(&f.c, &f.job[4], now);
    }
    assert_in_range(others, 5, 50);
    few_end(&f);
}

static void jobs_that_come_one_by_one_are_trusted_to_go_on_coming(void **state)
{
    (void)state;
    static const struct {
        int64_t step_ms;
        enum cache_word words[6];
        bool hour;
    } cases[] = {
        {2 * MINUTE,
         {CACHE_NONE, CACHE_NONE, CACHE_LEAD, CACHE_FOLLOW, CACHE_FOLLOW, CACHE_FOLLOW},
         false},
        {20 * MINUTE,
         {CACHE_NONE, CACHE_NONE, CACHE_LEAD, CACHE_FOLLOW, CACHE_FOLLOW, CACHE_FOLLOW},
         true},
        {2 * 60 * MINUTE,
         {CACHE_NONE, CACHE_NONE, CACHE_NONE, CACHE_NONE, CACHE_NONE, CACHE_NONE},
         false},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        struct few f;
        struct prefix p = prefix_of(1, 6000, 0, 0);
        few_begin(&f, 0, 0);
        for (int i = 0; i < 6; i++) {
            int64_t now = i * cases[k].step_ms;
            cache_seen(&f.c, &p, 0, OPUS, 1, now);
            cache_join(&f.c, &f.job[i], &p, 0, OPUS);
            cache_waits(&f.c, &f.job[i], true);
            struct cache_say say = start(&f, i, now);
            if (say.word != cases[k].words[i])
                fail_msg("step %zu job %d: %d", k, i, say.word);
            assert_int_equal(say.word != CACHE_NONE && say.marks.hour,
                             say.word != CACHE_NONE && cases[k].hour);
            cache_ended(&f.c, &f.job[i],
                        &(struct usage){.input = 9, .cache_read = 6000}, now + 9 * S);
        }
        few_end(&f);
    }
}

static void what_is_known_has_a_ceiling(void **state)
{
    (void)state;
    struct few f;
    few_begin(&f, 2, 6000);
    for (uint64_t i = 2; i < 3 * CACHE_NODES_MAX; i++) {
        struct prefix p = prefix_of(i, 6000, 0, 0);
        cache_seen(&f.c, &p, 0, OPUS, 1, (int64_t)i);
    }
    assert_true(f.c.size <= CACHE_NODES_MAX + 1);
    assert_int_equal(ask(&f, 0, 0).jobs, 2); /* what is in memory stays known */

    /* full of what is in memory: the next does without */
    struct cache_job *many = calloc(CACHE_NODES_MAX + 10, sizeof *many);
    assert_non_null(many);
    for (uint64_t i = 0; i < CACHE_NODES_MAX + 10; i++) {
        struct prefix p = prefix_of(i + 7, 6000, 0, 0);
        cache_join(&f.c, &many[i], &p, 3, OPUS);
        cache_waits(&f.c, &many[i], true);
    }
    assert_int_equal(many[CACHE_NODES_MAX + 9].count, 0);
    assert_int_equal(cache_decide(&f.c, &many[CACHE_NODES_MAX + 9], 0).word,
                     CACHE_NONE);
    for (uint64_t i = 0; i < CACHE_NODES_MAX + 10; i++)
        cache_part(&f.c, &many[i], true);
    free(many);
    struct prefix fresh = prefix_of(5, 5000, 0, 0); /* and then there is room again */
    cache_join(&f.c, &f.job[2], &fresh, 99, OPUS);
    assert_int_equal(f.job[2].count, 1);
    few_end(&f);
}

/* ---- anything at all ---- */

static void whatever_happens_somebody_may_go(void **state)
{
    (void)state;
    enum { JOBS = 60, STEPS = 60000 };
    static struct cache_job job[JOBS];
    static enum { AWAY, IN, WAITS, AT_WORK } where[JOBS];
    struct cache c;
    uint64_t seed = 2463534242;
    int64_t now = 0, went = 0, read = 0;
    cache_init(&c, 1);
    memset(job, 0, sizeof job);
    for (int step = 0; step < STEPS; step++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        int i = (int)(seed % JOBS), dice = (int)(seed >> 20 & 7);
        struct prefix p = prefix_of((uint64_t)step / 1000 + (seed >> 32) % 3, 1000,
                                    1 + (seed >> 40) % 4, (seed >> 50) % 900);
        struct usage u = {.input = 10};
        now += (int64_t)(seed >> 24 & (dice == 7 ? 0x1ffff : 0xff));
        switch (where[i]) {
        case AWAY:
            if (dice & 1)
                cache_seen(&c, &p, seed >> 60 & 1, OPUS, 1, now);
            cache_join(&c, &job[i], &p, seed >> 60 & 1, OPUS);
            where[i] = IN;
            break;
        case IN:
            if (dice == 0)
                cache_part(&c, &job[i], seed >> 30 & 1);
            else
                cache_waits(&c, &job[i], true);
            where[i] = dice == 0 ? AWAY : WAITS;
            break;
        case WAITS: {
            cache_refresh(&c, dice, 8 - dice, now);
            struct cache_say say = cache_decide(&c, &job[i], now);
            if (dice == 0) {
                cache_part(&c, &job[i], true);
                where[i] = AWAY;
            } else if (say.word != CACHE_WAIT) {
                cache_started(&c, &job[i], &say, now);
                where[i] = AT_WORK;
                went++;
                read += say.word == CACHE_FOLLOW;
            }
            break;
        }
        case AT_WORK:
            if (dice < 3) {
                cache_began(&c, &job[i], now);
                break;
            }
            if (dice < 5)
                u.cache_read = 1500;
            else if (dice == 5)
                u.cache_write_5m = 1500;
            cache_ended(&c, &job[i], dice == 6 ? NULL : &u, now);
            where[i] = IN;
            break;
        }

        /* nobody out: then one of those that wait may go */
        int out = 0, waiting = 0, may = 0;
        for (int k = 0; k < JOBS; k++)
            out += where[k] == AT_WORK;
        for (int k = 0; out == 0 && k < JOBS; k++)
            if (where[k] == WAITS) {
                waiting++;
                may += cache_decide(&c, &job[k], now).word != CACHE_WAIT;
            }
        assert_true(waiting == 0 || may > 0);
        assert_in_range(c.open_stock, 0, JOBS);
        assert_in_range(c.leading, 0, JOBS);
        assert_true(out > 0 || c.leading == 0);
    }
    for (int i = 0; i < JOBS; i++)
        cache_part(&c, &job[i], false);
    assert_int_equal(c.open_stock, 0);
    assert_int_equal(c.leading, 0);
    assert_true(went > STEPS / 20 && read > went / 20);
    cache_clear(&c);
}

/* ---- nights: a lane, and a model of the server's cache ---- */

enum { RUNNERS = 2, JOBS_MOST = 4000, GROUPS_MOST = 4000, WINDOW_MOST = 256 };

enum how { OURS, COLD_FAN_OUT, UNCACHED };

struct night {
    int groups, each, window, runners;
    int64_t tokens, ttft_ms, took_ms;
    int64_t shared;    /* tokens in front of them, the same in all groups */
    bool by_turn;      /* the rows are read by the turns that cache_seen() gave */
    bool interleaved;  /* disk gives job 1 of each group, then job 2 ... */
    int64_t pace_ms;   /* the account's buckets let one leave so often; 0: any time */
    int fail_percent;  /* of those that leave end at their first byte */
    bool leaders_fail; /* the first three leaders of each group do */
    int64_t hold_from, hold_for;
    enum how how;
};

struct outcome {
    int64_t followers, read, led, none, writes, writes_1h, most_writes;
    int64_t most_open; /* groups that were led and still have jobs */
    double busy;       /* of the window, while jobs wait */
    picodollars cost;
    int64_t ms;
};

struct entry { /* of the server */
    bool there;
    int64_t readable_at, dies_at, ttl_ms;
    int64_t writes;
};

struct night_job {
    int group;
    int64_t turn, nth;
    struct cache_job cache;
    enum { ON_DISK, READY, OUT, OVER } where;
    struct cache_say say;
    struct usage usage;
    bool fails, began;
    int64_t first_at, end_at;
};

struct lane_of {
    struct cache cache;
    struct night_job *job; /* in the order that disk gives them */
    int count, next;       /* of those on disk */
    int ready[WINDOW_MOST * 4 + 64 + JOBS_MOST], ready_count;
    int out[WINDOW_MOST], out_count;
    int64_t may_at;
};

struct world {
    const struct night *n;
    struct entry *server;
    int *failed, *left; /* a group's leaders that failed; jobs not sent yet */
    bool *led;
    int64_t open;
    struct lane_of lane[RUNNERS];
    int64_t now, waiting_ms, used_ms;
    uint64_t seed;
    struct outcome o;
};

static uint64_t any(struct world *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed;
}

static struct prefix prefix_in(const struct night *n, int group)
{
    uint64_t g = (uint64_t)group + 1;
    return n->shared ? prefix_of(1, n->shared, g, n->tokens)
                     : prefix_of(g, n->tokens, 0, 0);
}

/* Its entry at this cut; the one that all groups share comes behind theirs. */
static struct entry *entry_at(struct world *w, int group, int cut)
{
    return &w->server[w->n->shared && cut == 0 ? w->n->groups : group];
}

static int64_t tokens_at(const struct night *n, int cut)
{
    return n->shared && cut == 0 ? n->shared : n->shared + n->tokens;
}

static void keep(struct world *w, struct entry *e, const struct night_job *j)
{
    int64_t ttl = j->say.marks.hour ? CACHE_1H_MS : CACHE_5M_MS;
    if (!e->there || w->now >= e->dies_at || j->first_at < e->readable_at)
        *e = (struct entry){true, j->first_at, w->now + ttl, ttl, e->writes};
    e->writes++;
}

/* What the API's cache does with a request that comes now. */
static void look_up(struct world *w, struct night_job *j)
{
    const struct prefix_marks *marks = &j->say.marks;
    int deepest = marks->count ? marks->cut[marks->count - 1] : -1;
    int64_t all = w->n->shared + w->n->tokens, have = 0, want = 0;
    if (deepest >= 0 && tokens_at(w->n, deepest) >= OPUS->min_cacheable)
        want = tokens_at(w->n, deepest);
    for (int k = deepest; want && k >= 0; k--) {
        struct entry *e = entry_at(w, j->group, k);
        if (!e->there || w->now < e->readable_at || w->now >= e->dies_at)
            continue;
        e->dies_at = w->now + e->ttl_ms;
        have = tokens_at(w->n, k);
        break;
    }
    for (int i = 0; want > have && i < marks->count; i++)
        if (tokens_at(w->n, marks->cut[i]) > have)
            keep(w, entry_at(w, j->group, marks->cut[i]), j);
    j->usage.cache_read = have;
    *(marks->hour ? &j->usage.cache_write_1h : &j->usage.cache_write_5m) = want - have;
    j->usage.input += all - want;
}

static void serve(struct world *w, struct night_job *j)
{
    const struct night *n = w->n;
    j->usage = (struct usage){.input = 300, .output = 200};
    j->first_at = w->now + n->ttft_ms;
    j->end_at = w->now + n->took_ms * (90 + (int64_t)(any(w) % 21)) / 100;
    j->began = false;
    bool leads = j->say.word == CACHE_LEAD;
    j->fails = (int)(any(w) % 100) < n->fail_percent ||
               (n->leaders_fail && leads && w->failed[j->group]++ < 3);
    if (j->fails)
        j->end_at = j->first_at;
    else
        look_up(w, j);
}

static void fill(struct world *w, struct lane_of *l)
{
    int want = w->n->window * 4 + 32;
    if (l->ready_count > want / 2)
        return;
    for (; l->next < l->count && l->ready_count < want; l->next++) {
        struct night_job *j = &l->job[l->next];
        struct prefix p = prefix_in(w->n, j->group);
        cache_join(&l->cache, &j->cache, &p, 0, OPUS);
        cache_waits(&l->cache, &j->cache, true);
        j->where = READY;
        l->ready[l->ready_count++] = l->next;
    }
}

static int choose(struct world *w, struct lane_of *l)
{
    int best = -1;
    enum cache_rank rank = CACHE_RANK_NOT;
    int more = CACHE_LOOK;
    for (int i = 0; i < l->ready_count && more > 0; i++) {
        struct night_job *j = &l->job[l->ready[i]];
        more -= best >= 0;
        struct cache_say say = {.rank = CACHE_RANK_GO};
        if (w->n->how == OURS)
            say = cache_decide(&l->cache, &j->cache, w->now);
        else if (w->n->how == COLD_FAN_OUT)
            say.marks = (struct prefix_marks){1, {j->cache.count - 1, 0}, false};
        if (say.rank >= rank)
            continue;
        rank = say.rank;
        best = i;
        j->say = say;
        if (rank <= cache_best(&l->cache))
            break;
    }
    return best;
}

static void send(struct world *w, struct lane_of *l)
{
    const struct night *n = w->n;
    bool held = w->now >= n->hold_from && w->now < n->hold_from + n->hold_for;
    while (!held && l->out_count < n->window && w->now >= l->may_at) {
        fill(w, l);
        cache_refresh(&l->cache, l->out_count,
                      n->pace_ms ? 1 : n->window - l->out_count, w->now);
        int i = choose(w, l);
        if (i < 0)
            return;
        int which = l->ready[i];
        struct night_job *j = &l->job[which];
        memmove(&l->ready[i], &l->ready[i + 1],
                (size_t)(--l->ready_count - i) * sizeof *l->ready);
        cache_waits(&l->cache, &j->cache, false);
        cache_started(&l->cache, &j->cache, &j->say, w->now);
        j->where = OUT;
        if (j->say.word == CACHE_LEAD && !w->led[j->group]) {
            w->led[j->group] = true;
            w->open++;
        }
        if (--w->left[j->group] == 0)
            w->open -= w->led[j->group];
        w->o.most_open = w->open > w->o.most_open ? w->open : w->o.most_open;
        l->out[l->out_count++] = which;
        serve(w, j);
        l->may_at = w->now + n->pace_ms;
    }
}

static void tally(struct world *w, const struct night_job *j)
{
    struct outcome *o = &w->o;
    bool wrote = j->usage.cache_write_5m + j->usage.cache_write_1h > 0;
    o->led += j->say.word == CACHE_LEAD;
    o->none += j->say.word == CACHE_NONE;
    o->followers += j->say.word == CACHE_FOLLOW;
    o->read += j->say.word == CACHE_FOLLOW && j->usage.cache_read > 0;
    o->writes += wrote;
    o->writes_1h += j->usage.cache_write_1h > 0;
    o->cost += catalog_cost(OPUS, &j->usage);
}

static void hear(struct world *w, struct lane_of *l)
{
    for (int i = 0; i < l->out_count; i++) {
        struct night_job *j = &l->job[l->out[i]];
        if (w->now >= j->first_at && !j->fails && !j->began) {
            j->began = true;
            if (j->say.word == CACHE_LEAD) /* others need not be streamed */
                cache_began(&l->cache, &j->cache, w->now);
        }
        if (w->now < j->end_at)
            continue;
        cache_ended(&l->cache, &j->cache, j->fails ? NULL : &j->usage, w->now);
        if (j->fails) {
            cache_waits(&l->cache, &j->cache, true);
            j->where = READY;
            memmove(&l->ready[1], l->ready,
                    (size_t)l->ready_count++ * sizeof *l->ready);
            l->ready[0] = l->out[i];
        } else {
            tally(w, j);
            cache_part(&l->cache, &j->cache, false);
            j->where = OVER;
        }
        l->out[i--] = l->out[--l->out_count];
    }
}

static bool pass(struct world *w)
{
    const struct night *n = w->n;
    int64_t next = INT64_MAX;
    bool waits = false;
    for (int r = 0; r < n->runners; r++) {
        struct lane_of *l = &w->lane[r];
        for (int i = 0; i < l->out_count; i++) {
            const struct night_job *j = &l->job[l->out[i]];
            int64_t at = j->began || j->fails ? j->end_at : j->first_at;
            next = at < next ? at : next;
        }
        if (l->ready_count > 0 || l->next < l->count) {
            waits = true;
            if (l->may_at > w->now && l->may_at < next && l->out_count < n->window)
                next = l->may_at;
            if (w->now < n->hold_from + n->hold_for &&
                n->hold_from + n->hold_for < next && w->now >= n->hold_from)
                next = n->hold_from + n->hold_for;
        }
    }
    if (next == INT64_MAX) {
        assert_false(waits); /* nothing waits for ever */
        return false;
    }
    if (waits) {
        w->waiting_ms += (next - w->now) * n->window * n->runners;
        for (int r = 0; r < n->runners; r++)
            w->used_ms += (next - w->now) * w->lane[r].out_count;
    }
    w->now = next;
    return true;
}

static int in_turn(const void *a, const void *b)
{
    const struct night_job *x = a, *y = b;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    return x->nth < y->nth ? -1 : 1;
}

static struct outcome live(const struct night *n)
{
    static struct world world;
    struct world *w = &world;
    int all = n->groups * n->each, share = all / n->runners;
    memset(w, 0, sizeof *w);
    w->n = n;
    w->seed = 88172645463325252;
    w->server = calloc((size_t)n->groups + 1, sizeof *w->server);
    w->failed = calloc((size_t)n->groups, sizeof *w->failed);
    w->left = calloc((size_t)n->groups, sizeof *w->left);
    w->led = calloc((size_t)n->groups, sizeof *w->led);
    assert_true(w->server && w->failed && w->left && w->led);
    for (int g = 0; g < n->groups; g++)
        w->left[g] = n->each;
    for (int r = 0; r < n->runners; r++) {
        struct lane_of *l = &w->lane[r];
        cache_init(&l->cache, 1);
        l->job = calloc((size_t)share, sizeof *l->job);
        assert_non_null(l->job);
        for (int i = 0; i < share; i++) {
            int nth = i * n->runners + r;
            l->job[i].group = n->interleaved ? nth % n->groups : nth / n->each;
            struct prefix p = prefix_in(n, l->job[i].group);
            l->job[i].turn = cache_seen(&l->cache, &p, 0, OPUS, 1, 0);
            l->job[i].nth = i;
        }
        if (n->by_turn)
            qsort(l->job, (size_t)share, sizeof *l->job, in_turn);
        l->count = share;
    }
    do {
        for (int r = 0; r < n->runners; r++)
            hear(w, &w->lane[r]);
        for (int r = 0; r < n->runners; r++)
            send(w, &w->lane[r]);
    } while (pass(w));
    for (int r = 0; r < n->runners; r++) {
        assert_int_equal(w->lane[r].cache.open_stock, 0);
        assert_int_equal(w->lane[r].cache.leading, 0);
        cache_clear(&w->lane[r].cache);
        free(w->lane[r].job);
    }
    for (int g = 0; g < n->groups; g++)
        if (w->server[g].writes > w->o.most_writes)
            w->o.most_writes = w->server[g].writes;
    free(w->server);
    free(w->failed);
    free(w->left);
    free(w->led);
    w->o.busy = w->waiting_ms ? (double)w->used_ms / (double)w->waiting_ms : 1;
    w->o.ms = w->now;
    return w->o;
}

static struct outcome told(const char *name, struct night n)
{
    char a[CATALOG_USD_MAX], b[CATALOG_USD_MAX], c[CATALOG_USD_MAX];
    struct night other = n;
    n.how = OURS;
    struct outcome o = live(&n);
    other.how = UNCACHED;
    struct outcome uncached = live(&other);
    other.how = COLD_FAN_OUT;
    struct outcome cold = live(&other);
    print_message("%-28s %4d x %4d: read %" PRId64 "/%" PRId64 " writes %" PRId64
                  " (most %" PRId64 ", 1h %" PRId64 ") open %" PRId64 " alone %" PRId64
                  " busy %.1f%% in %.0f s (uncached %.0f s); $ ours %s, cold %s, "
                  "uncached %s\n",
                  name, n.groups, n.each, o.read, o.followers, o.writes, o.most_writes,
                  o.writes_1h, o.most_open, o.none, 100 * o.busy, (double)o.ms / 1000,
                  (double)uncached.ms / 1000, catalog_usd(o.cost, a),
                  catalog_usd(cold.cost, b), catalog_usd(uncached.cost, c));
    assert_int_equal(o.led + o.followers + o.none, n.groups * n.each);
    return o;
}

static const struct night usual = {.groups = 40,
                                   .each = 50,
                                   .window = 100,
                                   .runners = 1,
                                   .tokens = 6000,
                                   .ttft_ms = 1000,
                                   .took_ms = 10000};

static void forty_prefixes_of_fifty_jobs(void **state)
{
    (void)state;
    for (int quick = 0; quick < 2; quick++)
        for (int order = 0; order < 3; order++) {
            static const char *const names[] = {"one by one", "interleaved",
                                                "interleaved, by turn"};
            struct night n = usual;
            n.interleaved = order > 0;
            n.by_turn = order == 2;
            if (quick)
                n.took_ms = 2500;
            struct outcome o = told(names[order], n);
            assert_int_equal(o.writes, 40);
            assert_int_equal(o.most_writes, 1);
            assert_int_equal(o.followers, 40 * 49);
            assert_int_equal(o.read, o.followers);
            assert_true(o.busy >= 0.9);
            /* the lane's memory holds few jobs of each where they lie scattered */
            assert_true(o.most_open <= (order == 1 ? 40 : 6));
        }
}

static void one_prefix_for_all(void **state)
{
    (void)state;
    struct night n = usual;
    n.groups = 1;
    n.each = 2000;
    struct outcome o = told("one prefix", n);
    assert_int_equal(o.writes, 1);
    assert_int_equal(o.read, 1999);
    assert_true(o.busy >= 0.9);
}

static void what_all_groups_share_is_written_once(void **state)
{
    (void)state;
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        struct night n = usual;
        n.shared = 4000;
        n.tokens = 2000;
        n.interleaved = interleaved;
        struct outcome o = told("two levels", n), flat;
        assert_int_equal(o.writes, 40);
        assert_int_equal(o.most_writes, 1);
        assert_int_equal(o.read, o.followers);
        assert_true(o.busy >= 0.9);
        n = usual;
        flat = live(&n);
        assert_true(o.cost < flat.cost);
    }

    /* each with a document of its own, under one system prompt */
    struct night n = usual;
    n.shared = 4000;
    n.tokens = 2000;
    n.groups = 2000;
    n.each = 1;
    struct outcome o = told("own documents", n);
    assert_int_equal(o.writes, 1);
    assert_int_equal(o.read, 1999);
}

static void many_small_groups(void **state)
{
    (void)state;
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        struct night n = usual;
        n.groups = 500;
        n.each = 4;
        n.interleaved = interleaved;
        struct outcome o = told(interleaved ? "small, interleaved" : "small", n);
        assert_int_equal(o.writes, 500);
        assert_int_equal(o.read, 1500);
        assert_true(o.busy >= 0.9);
    }
}

static void jobs_that_share_nothing_are_sent_as_they_are(void **state)
{
    (void)state;
    struct night n = usual, uncached = usual;
    n.groups = uncached.groups = 1000;
    n.each = uncached.each = 1;
    uncached.how = UNCACHED;
    struct outcome o = told("alone", n), u = live(&uncached);
    assert_int_equal(o.none, 1000);
    assert_int_equal(o.cost, u.cost);
    assert_int_equal(o.ms, u.ms);

    n = usual;
    n.tokens = uncached.tokens = 400; /* too short to be cached */
    o = told("short", n);
    assert_int_equal(o.none, 2000);
}

static void a_slow_lane_keeps_an_hour_where_that_pays(void **state)
{
    (void)state;
    struct night n = usual;
    n.window = 4;
    n.pace_ms = 6 * MINUTE;
    n.groups = 3;
    n.each = 20;
    struct outcome o = told("a job each 6 minutes", n);
    assert_true(o.writes <= 5 && o.writes_1h >= 3);
    assert_true(o.read >= o.followers * 97 / 100);

    /* interleaved, the uses of one are 18 minutes apart: still the hour */
    n.interleaved = true;
    o = told("... interleaved", n);
    assert_true(o.writes <= 6 && o.writes_1h >= 3);

    /* two jobs: what they would save does not pay for an hour */
    n = usual;
    n.window = 4;
    n.pace_ms = 6 * MINUTE;
    n.groups = 20;
    n.each = 2;
    o = told("... in twos", n);
    assert_true(o.writes <= 2);
    assert_int_equal(o.writes_1h, 0);

    /* more than an hour: nothing pays */
    n.pace_ms = 70 * MINUTE;
    n.groups = 2;
    n.each = 10;
    o = told("a job each 70 minutes", n);
    assert_true(o.writes <= 1);
    assert_int_equal(o.writes_1h, 0);

    /* two minutes: five are enough */
    n.pace_ms = 2 * MINUTE;
    o = told("a job each 2 minutes", n);
    assert_int_equal(o.writes, 2);
    assert_int_equal(o.writes_1h, 0);
}

static void open_groups_are_kept_warm(void **state)
{
    (void)state;
    /* one leaves every 10 s: ten groups, used in turn, would do; each in its order
     * would be cold long before the end */
    struct night n = usual;
    n.window = 20;
    n.pace_ms = 10 * S;
    n.groups = 10;
    n.each = 100;
    n.interleaved = true;
    struct outcome o = told("a job each 10 seconds", n);
    assert_int_equal(o.writes, 10);
    assert_int_equal(o.read, 990);
}

/* Disk gives them scattered so far that each prefix is cold when it comes again. */
static void groups_that_lie_too_far_apart_cost_little_more(void **state)
{
    (void)state;
    struct night n = usual, uncached;
    n.window = 8;
    n.groups = 400;
    n.each = 10;
    n.interleaved = true;
    uncached = n;
    uncached.how = UNCACHED;
    struct outcome o = told("scattered", n), u = live(&uncached);
    assert_true(o.cost < u.cost / 2);
    n.by_turn = true;
    o = told("... by turn", n);
    assert_int_equal(o.writes, 400);
    assert_int_equal(o.read, 3600);
    assert_true(o.most_open <= 4);
}

static void after_a_long_hold_each_open_group_is_led_again(void **state)
{
    (void)state;
    struct night n = usual;
    n.hold_from = 40 * S;
    n.hold_for = 20 * MINUTE;
    struct outcome o = told("held for 20 minutes", n);
    assert_in_range(o.writes, 40, 48);
    assert_int_equal(o.read, o.followers);
    assert_true(o.most_writes <= 2);
}

static void leaders_that_fail_are_replaced(void **state)
{
    (void)state;
    struct night n = usual;
    n.leaders_fail = true;
    struct outcome o = told("three leaders fail", n);
    assert_int_equal(o.writes, 40);
    assert_int_equal(o.read, o.followers);
    assert_true(o.busy >= 0.9);

    n.leaders_fail = false;
    n.fail_percent = 20;
    o = told("every fifth fails", n);
    assert_int_equal(o.writes, 40);
    assert_int_equal(o.read, o.followers);
    assert_true(o.busy >= 0.9);
}

static void two_runners_each_lead_at_most_once(void **state)
{
    (void)state;
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        struct night n = usual;
        n.runners = 2;
        n.window = 50;
        n.interleaved = interleaved;
        struct outcome o = told("two runners", n);
        assert_true(o.most_writes <= 2);
        assert_int_equal(o.read, o.followers);
        assert_true(o.followers >= 40 * 48);
        assert_true(o.busy >= 0.9);
    }
}

static int open_catalog(void **state)
{
    (void)state;
    catalog = catalog_new(NULL);
    return catalog ? 0 : -1;
}

static int close_catalog(void **state)
{
    (void)state;
    catalog_free(catalog);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_pays_follows_from_size_and_rate),
        cmocka_unit_test(costs_are_exact),
        cmocka_unit_test(followers_wait_for_the_first_byte_and_not_for_the_end),
        cmocka_unit_test(a_leader_that_ends_without_a_first_byte_gives_way),
        cmocka_unit_test(a_silent_leader_gets_company),
        cmocka_unit_test(a_group_lapses_when_its_last_use_is_too_long_ago),
        cmocka_unit_test(where_none_shares_a_prefix_no_search_is_worth_it),
        cmocka_unit_test(a_group_that_is_about_to_lapse_goes_before_all_others),
        cmocka_unit_test(what_is_too_small_is_left_alone),
        cmocka_unit_test(one_rung_does_not_read_what_another_wrote),
        cmocka_unit_test(what_the_api_did_not_cache_is_not_marked_again),
        cmocka_unit_test(an_entry_that_nobody_can_read_is_given_up),
        cmocka_unit_test(usage_corrects_what_was_guessed),
        cmocka_unit_test(jobs_that_wait_on_disk_count),
        cmocka_unit_test(turns_keep_groups_within_groups_together),
        cmocka_unit_test(a_prefix_that_others_share_is_marked_beside_the_longer_one),
        cmocka_unit_test(a_prefix_hardly_longer_gets_no_leader_of_its_own),
        cmocka_unit_test(a_group_is_not_opened_while_open_ones_have_jobs),
        cmocka_unit_test(jobs_that_come_one_by_one_are_trusted_to_go_on_coming),
        cmocka_unit_test(what_is_known_has_a_ceiling),
        cmocka_unit_test(whatever_happens_somebody_may_go),
        cmocka_unit_test(forty_prefixes_of_fifty_jobs),
        cmocka_unit_test(one_prefix_for_all),
        cmocka_unit_test(what_all_groups_share_is_written_once),
        cmocka_unit_test(many_small_groups),
        cmocka_unit_test(jobs_that_share_nothing_are_sent_as_they_are),
        cmocka_unit_test(a_slow_lane_keeps_an_hour_where_that_pays),
        cmocka_unit_test(open_groups_are_kept_warm),
        cmocka_unit_test(groups_that_lie_too_far_apart_cost_little_more),
        cmocka_unit_test(after_a_long_hold_each_open_group_is_led_again),
        cmocka_unit_test(leaders_that_fail_are_replaced),
        cmocka_unit_test(two_runners_each_lead_at_most_once),
    };
    return cmocka_run_group_tests(tests, open_catalog, close_catalog);
}
