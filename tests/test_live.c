#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "runner/live.h"

static struct store_job row(int64_t id)
{
    return (struct store_job){.id = id, .name = "a", .path = "a.md"};
}

static void what_it_holds_is_its_own(void **state)
{
    (void)state;
    struct live_table *t = calloc(1, sizeof *t);
    char name[] = "mail#7", id[] = "7", tier[] = "deep", model[] = "m",
         effort[] = "low";
    char tags[] = "a,b", path[] = "mail.jsonl", body[] = "\"messages\":[]";
    struct store_job j = {.id = 7,
                          .priority = 3,
                          .attempts = 2,
                          .name = name,
                          .custom_id = id,
                          .lane = "lent",
                          .tier = tier,
                          .model = model,
                          .effort = effort,
                          .tags = tags,
                          .says = "lent",
                          .type = "lent",
                          .path = path,
                          .body = body,
                          .body_len = strlen(body)};
    struct live *l = live_new(t, &j);
    char *all[] = {name, id, tier, model, effort, tags, path, body};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        memset(all[i], '?', strlen(all[i]));

    assert_string_equal(l->job.name, "mail#7");
    assert_string_equal(l->job.custom_id, "7");
    assert_string_equal(l->job.tier, "deep");
    assert_string_equal(l->job.model, "m");
    assert_string_equal(l->job.effort, "low");
    assert_string_equal(l->job.tags, "a,b");
    assert_string_equal(l->job.path, "mail.jsonl");
    assert_string_equal(l->job.body, "\"messages\":[]");
    assert_int_equal(l->job.priority, 3);
    assert_int_equal(l->job.attempts, 2);
    assert_null(l->job.lane); /* these are said anew by whoever moves it */
    assert_null(l->job.says);
    assert_null(l->job.type);
    live_forget(t, l);
    live_free(l);
    free(t);
}

static void what_was_not_said_stays_unsaid(void **state)
{
    (void)state;
    struct live_table *t = calloc(1, sizeof *t);
    struct store_job j = row(1);
    struct live *l = live_new(t, &j);
    assert_null(l->job.custom_id);
    assert_null(l->job.tier);
    assert_null(l->job.tags);
    assert_string_equal(l->job.body, "");
    live_forget(t, l);
    live_free(l);
    live_free(NULL);
    free(t);
}

/* Ids that fall into one bucket, forgotten in every order. */
static void a_job_is_found_until_it_is_forgotten(void **state)
{
    (void)state;
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const int64_t ids[] = {5, 5 + LIVE_BUCKETS, 5 + 3 * (int64_t)LIVE_BUCKETS};
    for (size_t k = 0; k < 6; k++) {
        struct live_table *t = calloc(1, sizeof *t);
        struct live *l[3];
        for (int i = 0; i < 3; i++) {
            struct store_job j = row(ids[i]);
            j.body = "12345";
            j.body_len = 5;
            l[i] = live_new(t, &j);
        }
        assert_int_equal(t->count, 3);
        assert_int_equal(t->bytes, 15);
        assert_null(live_find(t, 6));
        assert_null(live_find(t, 5 + 2 * (int64_t)LIVE_BUCKETS));
        for (int n = 0; n < 3; n++) {
            struct live *gone = l[orders[k][n]];
            assert_ptr_equal(live_find(t, gone->job.id), gone);
            live_forget(t, gone);
            assert_null(live_find(t, gone->job.id));
            assert_int_equal(t->count, 2 - n);
            assert_int_equal(t->bytes, (2 - n) * 5);
            for (int rest = n + 1; rest < 3; rest++)
                assert_ptr_equal(live_find(t, ids[orders[k][rest]]),
                                 l[orders[k][rest]]);
            live_free(gone);
        }
        free(t);
    }
}

/* A revision comes while the old one is still being written. */
static void one_that_was_forgotten_makes_room_for_its_revision(void **state)
{
    (void)state;
    struct live_table *t = calloc(1, sizeof *t);
    struct store_job j = row(9);
    struct live *old = live_new(t, &j);
    live_forget(t, old);
    struct live *anew = live_new(t, &j);
    assert_ptr_equal(live_find(t, 9), anew);
    live_free(old);
    assert_ptr_equal(live_find(t, 9), anew);
    live_forget(t, anew);
    live_free(anew);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_holds_is_its_own),
        cmocka_unit_test(what_was_not_said_stays_unsaid),
        cmocka_unit_test(a_job_is_found_until_it_is_forgotten),
        cmocka_unit_test(one_that_was_forgotten_makes_room_for_its_revision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
