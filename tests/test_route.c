#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "conf/catalog.h"
#include "conf/conf.h"
#include "runner/err.h"
#include "runner/route.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static struct catalog *catalog;

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

static void set(struct conf *c, const char *name, const char *value)
{
    struct err e = {0};
    if (conf_set(c, name, value, &e) < 0)
        fail_msg("%s", e.text);
}

static void conf_open(struct conf *c)
{
    assert_int_equal(conf_init(c, NULL), 0);
    set(c, "tier.deep.effort", "high");
    set(c, "tier.deep.max_tokens", "32000");
    set(c, "tier.deep.fallback", "standard");
    set(c, "route.mails.match", "mail/*");
    set(c, "route.mails.tier", "cheap");
    set(c, "route.both.tags", "law, urgent");
    set(c, "route.both.tier", "deep");
    set(c, "route.long.min_bytes", "100KB");
    set(c, "route.long.max_bytes", "200KB");
    set(c, "route.long.model", "claude-fable-5");
    assert_int_equal(conf_check(c, NULL), 0);
}

static void the_first_that_applies_decides_and_says_why(void **state)
{
    (void)state;
    static const struct {
        struct route_job job;
        const char *tier, *model, *effort, *why, *lane;
        int64_t max_tokens;
        bool from_job;
    } cases[] = {
        /* what the job says itself */
        {{.name = "a", .model = "claude-opus-5"},
         NULL,
         "claude-opus-5",
         "",
         "the job names the model",
         "opus-5",
         8192,
         true},
        {{.name = "mail/a",
          .model = "claude-opus-5",
          .tier = "cheap",
          .tags = "law,urgent"},
         NULL,
         "claude-opus-5",
         "",
         "the job names the model",
         "opus-5",
         8192,
         true},
        {{.name = "a", .model = "claude-opus-5", .effort = "low"},
         NULL,
         "claude-opus-5",
         "low",
         "the job names the model",
         "opus-5",
         8192,
         true},
        {{.name = "a", .model = "my-own-model"},
         NULL,
         "my-own-model",
         "",
         "the job names the model",
         "my-own-model",
         8192,
         true},
        {{.name = "mail/a", .tier = "deep"},
         "deep",
         "claude-opus-5-5",
         "high",
         "the job names the tier",
         "opus-5.5",
         32000,
         false},
        {{.name = "mail/a", .tier = "deep", .effort = "max"},
         "deep",
         "claude-opus-5-5",
         "max",
         "the job names the tier",
         "opus-5.5",
         32000,
         false},
        /* a tier's word where a model is wanted */
        {{.name = "mail/a", .model = "deep"},
         "deep",
         "claude-opus-5-5",
         "high",
         "the job names the tier",
         "opus-5.5",
         32000,
         false},
        {{.name = "mail/a", .model = "deep", .tier = "cheap"},
         "cheap",
         "claude-haiku-5-5",
         "",
         "the job names the tier",
         "haiku-5.5",
         8192,
         false},
        /* `auto` says nothing */
        {{.name = "a", .model = "auto"},
         "standard",
         "claude-sonnet-5-5",
         "",
         "the default tier",
         "sonnet-5.5",
         8192,
         false},
        {{.name = "mail/a", .model = "auto", .tier = "auto"},
         "cheap",
         "claude-haiku-5-5",
         "",
         "rule [route mails]",
         "haiku-5.5",
         8192,
         false},
        /* the rules, in their order */
        {{.name = "mail/a"},
         "cheap",
         "claude-haiku-5-5",
         "",
         "rule [route mails]",
         "haiku-5.5",
         8192,
         false},
        {{.name = "mail/a", .tags = "law,urgent"},
         "cheap",
         "claude-haiku-5-5",
         "",
         "rule [route mails]",
         "haiku-5.5",
         8192,
         false},
        {{.name = "a", .tags = "law,urgent"},
         "deep",
         "claude-opus-5-5",
         "high",
         "rule [route both]",
         "opus-5.5",
         32000,
         false},
        {{.name = "a", .tags = "a,law,more,urgent"},
         "deep",
         "claude-opus-5-5",
         "high",
         "rule [route both]",
         "opus-5.5",
         32000,
         false},
        {{.name = "a", .tags = "law"},
         "standard",
         "claude-sonnet-5-5",
         "",
         "the default tier",
         "sonnet-5.5",
         8192,
         false},
        {{.name = "a", .tags = "laws,urgent"},
         "standard",
         "claude-sonnet-5-5",
         "",
         "the default tier",
         "sonnet-5.5",
         8192,
         false},
        {{.name = "a", .bytes = 99999},
         "standard",
         "claude-sonnet-5-5",
         "",
         "the default tier",
         "sonnet-5.5",
         8192,
         false},
        {{.name = "a", .bytes = 100000},
         NULL,
         "claude-fable-5",
         "",
         "rule [route long]",
         "fable-5",
         8192,
         false},
        {{.name = "a", .bytes = 200000, .effort = "low"},
         NULL,
         "claude-fable-5",
         "low",
         "rule [route long]",
         "fable-5",
         8192,
         false},
        {{.name = "a", .bytes = 200001},
         "standard",
         "claude-sonnet-5-5",
         "",
         "the default tier",
         "sonnet-5.5",
         8192,
         false},
        {{.name = "a"},
         "standard",
         "claude-sonnet-5-5",
         "",
         "the default tier",
         "sonnet-5.5",
         8192,
         false},
    };
    struct conf c;
    conf_open(&c);
    for (size_t i = 0; i < CASES(cases); i++) {
        struct routed r;
        struct err e = {0};
        if (route_decide(&c, catalog, &cases[i].job, &r, &e) < 0)
            fail_msg("case %zu: %s", i, e.text);
        if (cases[i].tier)
            assert_string_equal(r.tier, cases[i].tier);
        else
            assert_null(r.tier);
        assert_string_equal(r.model, cases[i].model);
        assert_string_equal(r.effort, cases[i].effort);
        assert_string_equal(r.why, cases[i].why);
        assert_string_equal(r.lane, cases[i].lane);
        assert_int_equal(r.max_tokens, cases[i].max_tokens);
        assert_int_equal(r.from_job, cases[i].from_job);
    }
    conf_free(&c);
}

static void an_unknown_tier_is_an_error_that_names_the_known(void **state)
{
    (void)state;
    struct conf c;
    struct routed r;
    struct err e = {0};
    conf_open(&c);
    assert_int_equal(route_decide(&c, catalog,
                                  &(struct route_job){.name = "a", .tier = "deeep"}, &r,
                                  &e),
                     -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_string_equal(
        e.text, "tier = deeep: no such tier; want one of cheap, standard, deep");
    conf_free(&c);
}

static void the_default_tier_can_be_another(void **state)
{
    (void)state;
    struct conf c;
    struct routed r;
    conf_open(&c);
    set(&c, "jobs.tier", "deep");
    assert_int_equal(
        route_decide(&c, catalog, &(struct route_job){.name = "a"}, &r, NULL), 0);
    assert_string_equal(r.tier, "deep");
    assert_string_equal(r.fallback, "standard");
    conf_free(&c);
}

static void a_refused_model_gives_way_to_the_fallback_tier(void **state)
{
    (void)state;
    struct conf c;
    struct routed r;
    struct err e = {0};
    struct route_job job = {.name = "a", .tier = "deep"};
    conf_open(&c);
    assert_int_equal(route_decide(&c, catalog, &job, &r, &e), 0);
    assert_int_equal(route_fall_back(&c, catalog, &job, &r, &e), 0);
    assert_string_equal(r.tier, "standard");
    assert_string_equal(r.model, "claude-sonnet-5-5");
    assert_string_equal(r.effort, "");
    assert_string_equal(r.fallback, "");
    assert_string_equal(r.why, "fallback tier, since claude-opus-5-5 was refused");
    assert_string_equal(r.lane, "sonnet-5.5");
    assert_int_equal(r.max_tokens, 8192);
    assert_int_equal(route_fall_back(&c, catalog, &job, &r, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    conf_free(&c);
}

/* Waiting jobs are routed anew when the print changes: it must change when they might
 * go elsewhere, and a night's queue must not be routed anew for nothing. */
static void the_print_changes_when_routing_may_and_only_then(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        bool changes;
    } cases[] = {
        {"jobs.tier", "cheap", true},
        {"tier.deep.model", "claude-opus-5", true},
        {"tier.extra.model", "claude-opus-5", true},
        {"route.mails.match", "mails/*", true},
        {"route.mails.tags", "x", true},
        {"route.mails.min_bytes", "1B", true},
        {"route.mails.max_bytes", "1GiB", true},
        {"route.mails.tier", "standard", true},
        {"route.long.model", "claude-opus-5", true},
        {"route.new.tier", "cheap", true},
        {"tier.deep.effort", "low", false},
        {"tier.deep.max_tokens", "100", false},
        {"tier.deep.fallback", "cheap", false},
        {"jobs.max_tokens", "100", false},
        {"limits.in_flight", "3", false},
        {"api.base_url", "http://localhost:1", false},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct conf c;
        char before[64], after[64];
        conf_open(&c);
        route_print(&c, before, sizeof before);
        route_print(&c, after, sizeof after);
        assert_string_equal(before, after);
        set(&c, cases[i].name, cases[i].value);
        route_print(&c, after, sizeof after);
        if ((strcmp(before, after) != 0) != cases[i].changes)
            fail_msg("%s = %s", cases[i].name, cases[i].value);
        conf_free(&c);
    }
}

static void two_tags_are_not_one_tag_of_both_names(void **state)
{
    (void)state;
    char prints[2][64];
    static const char *const tags[] = {"ab c", "a bc"};
    for (int i = 0; i < 2; i++) {
        struct conf c;
        conf_open(&c);
        set(&c, "route.mails.tags", tags[i]);
        route_print(&c, prints[i], sizeof prints[i]);
        conf_free(&c);
    }
    assert_string_not_equal(prints[0], prints[1]);
}

/* However long the words of a configuration are. */
static void long_words_print_whole(void **state)
{
    (void)state;
    char glob[8000], prints[2][64];
    memset(glob, 'g', sizeof glob);
    glob[sizeof glob - 1] = '\0';
    for (int i = 0; i < 2; i++) {
        struct conf c;
        conf_open(&c);
        glob[sizeof glob - 2] = (char)('x' + i);
        set(&c, "route.mails.match", glob);
        route_print(&c, prints[i], sizeof prints[i]);
        conf_free(&c);
    }
    assert_string_not_equal(prints[0], prints[1]);
}

static void what_is_free_to_choose_goes_by_what_was_learned(void **state)
{
    /* Their prices are as 1 to 2 to 5. */
    static const struct {
        const char *how, *check, *tier, *climb;
        enum learn_source source;
        double p[3];
        const char *rung, *why;
    } cases[] = {
        {"learn",
         NULL,
         NULL,
         NULL,
         LEARN_TABLE,
         {.5, .8, .9},
         "standard",
         "80 % right on standard"},
        {"learn",
         NULL,
         NULL,
         NULL,
         LEARN_MODEL,
         {.8, .8, .9},
         "cheap",
         "80 % right on cheap expected, by the prompt's words"},
        {"learn",
         NULL,
         NULL,
         NULL,
         LEARN_TABLE,
         {.1, .2, .3},
         "deep",
         "30 % right on deep"},
        {"learn", NULL, NULL, NULL, LEARN_NOTHING, {0, 0, 0}, "standard", "too few"},
        {"learn",
         NULL,
         "cheap",
         NULL,
         LEARN_TABLE,
         {.1, .2, .9},
         "cheap",
         "names the tier"},
        {"cascade",
         "json",
         NULL,
         NULL,
         LEARN_TABLE,
         {.6, .6, .9},
         "cheap",
         "worth trying above 50 %"},
        {"cascade",
         "json",
         NULL,
         NULL,
         LEARN_TABLE,
         {.1, .6, .9},
         "standard",
         "60 % right"},
        {"cascade",
         "json",
         NULL,
         NULL,
         LEARN_TABLE,
         {.1, .2, .9},
         "deep",
         "90 % right"},
        {"cascade",
         "json",
         NULL,
         "cheap",
         LEARN_TABLE,
         {.9, .9, .9},
         "standard",
         "climbed from cheap, whose answer did not pass: it lacks"},
        {"cascade", "json", NULL, "standard", LEARN_NOTHING, {0}, "deep", "climbed"},
        {"cascade",
         "json",
         NULL,
         "gone",
         LEARN_NOTHING,
         {0},
         "cheap",
         "cheapest rung first"},
        {"tier",
         "json",
         NULL,
         NULL,
         LEARN_TABLE,
         {.9, .9, .9},
         "standard",
         "the default tier"},
    };
    (void)state;
    struct conf c;
    conf_open(&c);
    set(&c, "tier.cheap.model", "claude-haiku-4-5-20251001");
    set(&c, "tier.standard.model", "claude-sonnet-5");
    set(&c, "tier.deep.model", "claude-opus-5");
    set(&c, "learn.explore", "0");
    for (size_t i = 0; i < CASES(cases); i++) {
        struct learn_view v = {.source = cases[i].source, .rungs = 3, .all = 7};
        struct routed r;
        struct err e = {0};
        memcpy(v.p, cases[i].p, sizeof cases[i].p);
        struct route_job j = {.name = "a",
                              .route = cases[i].how,
                              .check = cases[i].check,
                              .tier = cases[i].tier,
                              .climb = cases[i].climb,
                              .says = "it lacks",
                              .bytes = 1000,
                              .learned = &v};
        if (route_decide(&c, catalog, &j, &r, &e) < 0)
            fail_msg("case %zu: %s", i, e.text);
        if (strcmp(r.tier, cases[i].rung) != 0 || strstr(r.why, cases[i].why) == NULL)
            fail_msg("case %zu: %s, since %s", i, r.tier, r.why);
        j.learned = NULL;
        assert_int_equal(route_decide(&c, catalog, &j, &r, &e), 0);
        assert_int_equal(r.wants_view, cases[i].tier == NULL &&
                                           strcmp(cases[i].how, "tier") != 0 &&
                                           (cases[i].climb == NULL ||
                                            strcmp(cases[i].climb, "gone") == 0));
    }
    conf_free(&c);
}

static void ladders_go_by_price_or_as_they_are_written(void **state)
{
    struct conf c;
    struct ladder l;
    struct route_job j = {.name = "a", .bytes = 4000, .max_tokens = 100};
    char one[ROUTE_PRINT_MAX], two[ROUTE_PRINT_MAX];
    (void)state;
    conf_open(&c);
    set(&c, "tier.huge.model", "claude-fable-5");
    set(&c, "tier.careful.model", "claude-opus-5-5");
    set(&c, "tier.careful.effort", "max");
    route_ladder(&c, catalog, &j, &l);
    assert_int_equal(l.len, 5);
    static const char *const want[] = {"cheap", "standard", "deep", "careful", "huge"};
    for (int i = 0; i < l.len; i++) {
        assert_string_equal(l.rung[i]->name, want[i]);
        assert_true(i == 0 || l.price[i] > l.price[i - 1]);
    }
    assert_true(l.priced);
    assert_string_equal(route_above(&c, catalog, &j, "deep")->name, "careful");
    assert_null(route_above(&c, catalog, &j, "huge"));
    assert_null(route_above(&c, catalog, &j, "none"));
    route_ladder_print(&c, catalog, one, sizeof one);
    set(&c, "jobs.ladder", "deep, cheap");
    route_ladder(&c, catalog, &j, &l);
    assert_int_equal(l.len, 2);
    assert_string_equal(l.rung[0]->name, "deep");
    assert_true(l.price[1] > l.price[0]);
    route_ladder_print(&c, catalog, two, sizeof two);
    assert_string_not_equal(one, two);
    set(&c, "tier.cheap.model", "not-in-the-catalogue");
    set(&c, "jobs.ladder", "");
    route_ladder(&c, catalog, &j, &l);
    assert_string_equal(l.rung[l.len - 1]->name, "cheap");
    assert_false(l.priced);
    conf_free(&c);
}

static void a_cascade_wants_a_check(void **state)
{
    struct conf c;
    struct routed r;
    struct err e = {0};
    (void)state;
    conf_open(&c);
    assert_int_equal(route_decide(&c, catalog,
                                  &(struct route_job){.name = "a", .route = "cascade"},
                                  &r, &e),
                     -1);
    assert_non_null(strstr(e.text, "want a check"));
    e = (struct err){0};
    assert_int_equal(route_decide(&c, catalog,
                                  &(struct route_job){.name = "a", .route = "up"}, &r,
                                  &e),
                     -1);
    assert_non_null(strstr(e.text, "tier, cascade or learn"));
    set(&c, "jobs.route", "cascade"); /* where nobody asked for it, it is left out */
    assert_int_equal(
        route_decide(&c, catalog, &(struct route_job){.name = "a"}, &r, NULL), 0);
    assert_int_equal(r.how, ROUTE_TIER);
    assert_string_equal(r.tier, "standard");
    conf_free(&c);
}

static void exploring_is_rare_and_never_with_what_is_dear(void **state)
{
    struct conf c;
    struct learn_view v = {
        .source = LEARN_TABLE, .rungs = 3, .all = 99, .p = {.9, .95, .99}};
    int explored[2] = {0};
    (void)state;
    conf_open(&c);
    set(&c, "learn.explore", "10");
    for (int dear = 0; dear < 2; dear++)
        for (uint64_t i = 0; i < 1000; i++) {
            struct routed r;
            struct route_job j = {.name = "a",
                                  .route = "learn",
                                  .bytes = dear ? 1000000 : 1000,
                                  .learned = &v,
                                  .random = i * (UINT64_MAX / 1000)};
            assert_int_equal(route_decide(&c, catalog, &j, &r, NULL), 0);
            explored[dear] += r.explored;
            assert_string_equal(r.tier, r.explored ? "standard" : "cheap");
            assert_true(!r.explored || strstr(r.why, "tried to learn") != NULL);
        }
    assert_in_range(explored[0], 80, 120);
    assert_int_equal(explored[1], 0);
    conf_free(&c);
}

static void the_words_tell_which_way_chose_the_rung(void **state)
{
    (void)state;
    static const struct {
        struct route_job job;
        enum route_by by;
    } cases[] = {
        {{.name = "a", .model = "claude-opus-5"}, ROUTE_BY_OWN},
        {{.name = "a", .tier = "deep"}, ROUTE_BY_OWN},
        {{.name = "mail/a"}, ROUTE_BY_RULE},
        {{.name = "a"}, ROUTE_BY_DEFAULT},
        {{.name = "a", .route = "learn"}, ROUTE_BY_COLD},
        {{.name = "a", .route = "cascade", .check = "json"}, ROUTE_BY_COLD},
        {{.name = "a", .route = "learn", .bytes = 99999}, ROUTE_BY_COLD},
        {{.name = "a", .route = "cascade", .check = "json", .climb = "cheap"},
         ROUTE_BY_CLIMBED},
    };
    struct learn_view v = {
        .source = LEARN_TABLE, .rungs = 3, .all = 99, .p = {.9, .95, .99}};
    struct conf c;
    struct routed r;
    conf_open(&c);
    for (size_t i = 0; i < CASES(cases); i++) {
        assert_int_equal(route_decide(&c, catalog, &cases[i].job, &r, NULL), 0);
        if (route_by(r.why) != cases[i].by)
            fail_msg("%s: %s", r.why, route_by_name(route_by(r.why)));
    }
    static const char *const ways[] = {"learn", "cascade"};
    for (size_t i = 0; i < CASES(ways); i++) {
        struct route_job j = {
            .name = "a", .route = ways[i], .check = "json", .learned = &v};
        assert_int_equal(route_decide(&c, catalog, &j, &r, NULL), 0);
        assert_int_equal(route_by(r.why), ROUTE_BY_LEARNED);
    }
    struct route_job deep = {.name = "a", .tier = "deep"};
    assert_int_equal(route_decide(&c, catalog, &deep, &r, NULL), 0);
    assert_int_equal(route_fall_back(&c, catalog, &deep, &r, NULL), 0);
    assert_int_equal(route_by(r.why), ROUTE_BY_FALLBACK);
    assert_int_equal(route_by(NULL), ROUTE_BY_DEFAULT);
    conf_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_that_applies_decides_and_says_why),
        cmocka_unit_test(an_unknown_tier_is_an_error_that_names_the_known),
        cmocka_unit_test(the_default_tier_can_be_another),
        cmocka_unit_test(a_refused_model_gives_way_to_the_fallback_tier),
        cmocka_unit_test(the_print_changes_when_routing_may_and_only_then),
        cmocka_unit_test(two_tags_are_not_one_tag_of_both_names),
        cmocka_unit_test(long_words_print_whole),
        cmocka_unit_test(what_is_free_to_choose_goes_by_what_was_learned),
        cmocka_unit_test(ladders_go_by_price_or_as_they_are_written),
        cmocka_unit_test(a_cascade_wants_a_check),
        cmocka_unit_test(exploring_is_rare_and_never_with_what_is_dear),
        cmocka_unit_test(the_words_tell_which_way_chose_the_rung),
    };
    return cmocka_run_group_tests(tests, open_catalog, close_catalog);
}
