#include "jobs/prefix.h"

#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"
#include "sim/ask.h"
#include "sim/cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define NS INT64_C(1000000000)

/* `$N` in a body stands for N hundred letters. */
static char *grown(const char *text)
{
    struct textbuf b = {0};
    for (const char *p = text; *p; p++) {
        if (*p != '$') {
            textbuf_put(&b, p, 1);
            continue;
        }
        for (int n = 100 * (*++p - '0'); n > 0; n--)
            textbuf_puts(&b, "x");
    }
    assert_false(b.failed);
    /* exactly as long as it is, so that a byte too many is noticed */
    char *exact = malloc(b.len + 1);
    assert_non_null(exact);
    memcpy(exact, b.at ? b.at : "", b.len);
    exact[b.len] = '\0';
    textbuf_free(&b);
    return exact;
}

static struct prefix found(const char *text)
{
    struct prefix p;
    prefix_find(&p, text, strlen(text));
    return p;
}

static struct prefix of(const char *text)
{
    char *whole = grown(text);
    size_t len = strlen(whole);
    char *bare = malloc(len ? len : 1); /* no NUL behind it */
    assert_non_null(bare);
    memcpy(bare, whole, len);
    struct prefix p;
    prefix_find(&p, bare, len);
    free(bare);
    free(whole);
    return p;
}

static bool same_key(const struct prefix_cut *a, const struct prefix_cut *b)
{
    return a->key[0] == b->key[0] && a->key[1] == b->key[1];
}

static char *marked(const char *text, int count, int first, int second, bool hour)
{
    struct prefix p = found(text);
    struct prefix_marks marks = {.count = count, .cut = {first, second}, .hour = hour};
    struct textbuf b = {0};
    prefix_mark(&b, text, strlen(text), &p, &marks);
    assert_false(b.failed);
    return b.at;
}

/* ---- where cuts are ---- */

#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]"
#define TOOL "{\"name\":\"f\",\"input_schema\":{},\"description\":\"$9$9\"}"

static const struct {
    const char *members;
    const char *bears[PREFIX_CUTS_MAX + 1]; /* how each bearer begins */
} places[] = {
    {ASK, {0}},
    {"\"system\":\"$9$9\"," ASK, {"\"xxx"}},
    {ASK ",\"system\" : \"$9$9\" ", {"\"xxx"}},
    {"\"system\":\"$9\"," ASK, {0}},
    {"\"system\":\"$9$9 \\\" \\\\\"," ASK, {"\"xxx"}},
    {"\"system\":\" \\n\\t \",\"tools\":[" TOOL "]," ASK, {"{\"name\""}},
    {"\"tools\":[{\"name\":\"g\"}, " TOOL " ],\"system\":\"s\"," ASK,
     {"{\"name\":\"f\"", "\"s\""}},
    {"\"tools\":[],\"system\":[]," ASK, {0}},
    {"\"tools\":[{\"name\":\"f\",\"defer_loading\":true,\"description\":\"$9$9\"}]"
     "," ASK,
     {0}},
    {"\"system\":[{\"type\":\"text\",\"text\":\"$9$9\"},"
     "{\"type\":\"text\",\"text\":\"my own\"}]," ASK,
     {"{\"type\":\"text\",\"text\":\"xxx", "{\"type\":\"text\",\"text\":\"my own"}},
    {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"document\",\"source\":"
     "{\"type\":\"text\",\"data\":\"$9$9\"}},{\"type\":\"text\",\"text\":\"\"},"
     "{\"type\":\"image\",\"source\":{}},{\"type\":\"text\",\"text\":\"q\"}]}]",
     {"{\"type\":\"document\"", "{\"type\":\"image\""}},
    /* the whole of it is the job's own question */
    {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"$9$"
     "9\"}"
     "]}]",
     {0}},
    {"\"messages\":[{\"role\":\"user\",\"content\":\"$9$9\"}]", {0}},
    {"\"messages\":[{\"role\":\"user\",\"content\":\"$9$9\"},"
     "{\"role\":\"assistant\",\"content\":\"fine\"},"
     "{\"role\":\"user\",\"content\":\"q\"}]",
     {"\"xxx", "\"fine\""}},
    /* thinking bears no mark */
    {"\"messages\":[{\"role\":\"user\",\"content\":\"$9$9\"},"
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"h\"}]}"
     ","
     "{\"role\":\"user\",\"content\":\"q\"}]",
     {"\"xxx"}},
    /* of eight, the first five and the last */
    {"\"system\":[{\"type\":\"text\",\"text\":\"$9$3\"},{\"type\":\"text\",\"text\":"
     "\"2\"},"
     "{\"type\":\"text\",\"text\":\"3\"},{\"type\":\"text\",\"text\":\"4\"},"
     "{\"type\":\"text\",\"text\":\"5\"},{\"type\":\"text\",\"text\":\"6\"},"
     "{\"type\":\"text\",\"text\":\"7\"},{\"type\":\"text\",\"text\":\"8\"}]," ASK,
     {"{\"type\":\"text\",\"text\":\"xxx", "{\"type\":\"text\",\"text\":\"2\"",
      "{\"type\":\"text\",\"text\":\"3\"", "{\"type\":\"text\",\"text\":\"4\"",
      "{\"type\":\"text\",\"text\":\"5\"", "{\"type\":\"text\",\"text\":\"8\""}},
    {"", {0}},
    {"\"messages\":[{\"role\":\"user\"},{\"content\":[]},7,[]]", {0}},
    {"\"messages\":7,\"system\":null,\"tools\":{}", {0}},
};

static void cuts_are_where_a_mark_may_stand(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(places); i++) {
        char *text = grown(places[i].members);
        struct prefix p = found(text);
        int n = 0;
        for (; places[i].bears[n]; n++) {
            const char *want = places[i].bears[n];
            if (n >= p.count || strncmp(text + p.cut[n].from, want, strlen(want)) != 0)
                fail_msg("case %zu: cut %d is not at %s", i, n, want);
            assert_int_equal(p.cut[n].wrap, *want == '"');
            char end = text[p.cut[n].to - 1];
            assert_int_equal(end, *want == '"' ? '"' : '}');
        }
        if (n != p.count)
            fail_msg("case %zu: %d cuts, want %d", i, p.count, n);
        assert_false(p.own);
        free(text);
    }
}

static void a_mark_of_its_own_is_seen_wherever_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        bool own;
    } cases[] = {
        {"\"cache_control\":{\"type\":\"ephemeral\"},\"system\":\"$9$9\"," ASK, true},
        {"\"system\":[{\"type\":\"text\",\"text\":\"$9$9\",\"cache_control\" "
         ":\n{}}]," ASK,
         true},
        {"\"system\":\"$9$9\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
         "\"tool_result\",\"content\":[{\"type\":\"text\",\"text\":\"x\","
         "\"cache_control\":{}}]}]}]",
         true},
        {"\"system\":\"$9$9 say \\\"cache_control\\\": no\"," ASK, false},
        {"\"system\":\"$9$9\",\"metadata\":{\"user_id\":\"cache_control\"}," ASK,
         false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct prefix p = of(cases[i].members);
        assert_int_equal(p.own, cases[i].own);
        assert_int_equal(p.count, cases[i].own ? 0 : 1);
    }
}

/* ---- who shares what ---- */

#define SHARED "\"system\":\"$9$9\",\"messages\":[{\"role\":\"user\",\"content\":["

static const struct {
    const char *a, *b;
    int shared; /* cuts that both have */
} pairs[] = {
    {SHARED
     "{\"type\":\"text\",\"text\":\"doc\"},{\"type\":\"text\",\"text\":\"1\"}]}]",
     SHARED
     "{\"type\":\"text\",\"text\":\"doc\"},{\"type\":\"text\",\"text\":\"2\"}]}]",
     2},
    {SHARED
     "{\"type\":\"text\",\"text\":\"doc\"},{\"type\":\"text\",\"text\":\"1\"}]}]",
     SHARED
     "{\"type\":\"text\",\"text\":\"dog\"},{\"type\":\"text\",\"text\":\"2\"}]}]",
     1},
    /* one byte, at every place of it */
    {"\"system\":\"a$9$9\"," ASK, "\"system\":\"b$9$9\"," ASK, 0},
    {"\"system\":\"$9$9a\"," ASK, "\"system\":\"$9$9b\"," ASK, 0},
    {"\"system\":\"$9$9\"," ASK, "\"system\":\"$9$9x\"," ASK, 0},
    {"\"tools\":[" TOOL "],\"system\":\"s\"," ASK,
     "\"tools\":[" TOOL "],\"system\":\"t\"," ASK, 1},
    /* the same bytes in another place */
    {"\"system\":\"$9$9\"," ASK,
     "\"messages\":[{\"role\":\"user\",\"content\":\"$9$9\"},{\"role\":\"user\","
     "\"content\":"
     "\"q\"}]",
     0},
    {"\"messages\":[{\"role\":\"user\",\"content\":\"$9$9\"},{\"role\":\"user\","
     "\"content\":"
     "\"q\"}]",
     "\"messages\":[{\"role\":\"assistant\",\"content\":\"$9$9\"},{\"role\":\"user\","
     "\"content\":\"q\"}]",
     0},
    /* settings that the cache tells apart, and those that it does not */
    {"\"thinking\":{\"type\":\"enabled\"},\"system\":\"$9$9\"," ASK,
     "\"system\":\"$9$9\"," ASK, 0},
    {"\"thinking\":{\"type\":\"enabled\"},\"tool_choice\":{},\"system\":\"$9$9\"," ASK,
     ASK ",\"tool_choice\":{},\"system\":\"$9$9\",\"thinking\":{\"type\":\"enabled\"}",
     1},
    {"\"unheard_of\":1,\"system\":\"$9$9\"," ASK,
     "\"unheard_of\":2,\"system\":\"$9$9\"," ASK, 0},
    {"\"temperature\":0.5,\"max_tokens\":7,\"metadata\":{\"user_id\":\"a\"},"
     "\"system\":\"$9$9\"," ASK,
     ASK ",\"system\":\"$9$9\"", 1},
};

static void jobs_share_a_cut_if_every_byte_before_it_is_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(pairs); i++) {
        struct prefix a = of(pairs[i].a), b = of(pairs[i].b);
        int n = 0;
        while (n < a.count && n < b.count && same_key(&a.cut[n], &b.cut[n]))
            n++;
        if (n != pairs[i].shared)
            fail_msg("pair %zu shares %d cuts, want %d", i, n, pairs[i].shared);
        for (int k = 0; k < n; k++)
            assert_int_equal(a.cut[k].bytes, b.cut[k].bytes);
    }
}

/* Rows that were stored by one version are found again by the next. */
static void the_key_stays_what_it_is(void **state)
{
    (void)state;
    struct prefix p = of("\"system\":\"$9$9\"," ASK);
    char text[40];
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)p.cut[0].key[0],
             (unsigned long long)p.cut[0].key[1]);
    assert_string_equal(text, "b93447e923ca62f295445d2d03e01317");
}

static void no_two_of_many_prefixes_collide(void **state)
{
    (void)state;
    enum { MANY = 4000 };
    static uint64_t seen[MANY][2];
    static char text[1400];
    for (int i = 0; i < MANY; i++) {
        int n = snprintf(text, sizeof text, "\"system\":\"%01200d\"," ASK, i);
        struct prefix p;
        prefix_find(&p, text, (size_t)n);
        assert_int_equal(p.count, 1);
        memcpy(seen[i], p.cut[0].key, sizeof seen[i]);
    }
    for (int i = 0; i < MANY; i++)
        for (int k = 0; k < i; k++)
            assert_true(seen[i][0] != seen[k][0] && seen[i][1] != seen[k][1]);
}

/* ---- marks ---- */

#define C5 "\"cache_control\":{\"type\":\"ephemeral\"}"
#define C1 "\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}"

static const struct {
    const char *members;
    int count, cut[2];
    bool hour;
    const char *want;
} marks[] = {
    {"\"system\":\"$9$9\"," ASK, 0, {0, 0}, false, "\"system\":\"$9$9\"," ASK},
    {"\"system\" : \"$9$9\" ," ASK,
     1,
     {0, 0},
     false,
     "\"system\" : [{\"type\":\"text\",\"text\":\"$9$9\"," C5 "}] ," ASK},
    {"\"tools\":[" TOOL "]," ASK,
     1,
     {0, 0},
     true,
     "\"tools\":[{\"name\":\"f\",\"input_schema\":{},\"description\":\"$9$9\"," C1
     "}]," ASK},
    {"\"tools\":[" TOOL
     "],\"temperature\":0.70,\"system\":[ {\"type\":\"text\",\"text\":"
     "\"a\" } ]," ASK,
     2,
     {0, 1},
     false,
     "\"tools\":[{\"name\":\"f\",\"input_schema\":{},\"description\":\"$9$9\"," C5
     "}],\"temperature\":0.70,\"system\":[ {\"type\":\"text\",\"text\":\"a\" ," C5
     "} ]," ASK},
    /* the text's order is not the prompt's */
    {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{}},"
     "{"
     "\"type\":\"text\",\"text\":\"q\"}]}],\"system\":\"$9$9\"",
     2,
     {0, 1},
     true,
     "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{}"
     "," C1 "},{\"type\":\"text\",\"text\":\"q\"}]}],"
     "\"system\":[{\"type\":\"text\",\"text\":\"$9$9\"," C1 "}]"},
    /* a string before the mark is said as whoever marks it says it */
    {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{}},"
     "{"
     "\"type\":\"text\",\"text\":\"q\"}]}],\"system\":\"$9$9\"",
     1,
     {1, 0},
     false,
     "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{}"
     "," C5 "},{\"type\":\"text\",\"text\":\"q\"}]}],"
     "\"system\":[{\"type\":\"text\",\"text\":\"$9$9\"}]"},
    /* and one behind it stays */
    {"\"tools\":[" TOOL "],\"system\":\"s\"," ASK,
     1,
     {0, 0},
     false,
     "\"tools\":[{\"name\":\"f\",\"input_schema\":{},\"description\":\"$9$9\"," C5
     "}],\"system\":\"s\"," ASK},
};

static void a_mark_changes_no_other_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(marks); i++) {
        char *text = grown(marks[i].members), *want = grown(marks[i].want);
        char *got = marked(text, marks[i].count, marks[i].cut[0], marks[i].cut[1],
                           marks[i].hour);
        assert_string_equal(got, want);
        free(got);
        free(want);
        free(text);
    }
}

/* What is marked is valid, has at most two marks more, and without them is what came. */
static void every_way_to_mark_leaves_a_valid_body(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(places); i++) {
        char *text = grown(places[i].members);
        int n = found(text).count;
        for (int a = 0; a < n; a++)
            for (int b = a; b < n; b++) {
                char *got = marked(text, 1 + (b > a), a, b, false);
                struct textbuf whole = {0};
                textbuf_putf(&whole, "{%s}", got);
                assert_int_equal(json_valid(whole.at, whole.len, NULL), 0);
                int marks_put = 0;
                for (const char *p = got; (p = strstr(p, C5)); p++)
                    marks_put++;
                assert_int_equal(marks_put, 1 + (b > a));
                assert_true(found(got).own);
                textbuf_free(&whole);
                free(got);
            }
        free(text);
    }
}

/* ---- a group, as the simulator's cache reads it ---- */

static struct cache_plan asked(struct cache *c, const char *members, int64_t now_ns)
{
    struct textbuf body = {0};
    struct ask a;
    struct cache_plan plan;
    char why[ASK_WHY_MAX];
    textbuf_puts(&body, "{\"model\":\"m\",\"max_tokens\":9,");
    textbuf_puts(&body, members);
    textbuf_puts(&body, "}");
    if (!ask_read(&a, body.at, body.len, ASK_2023_06_01, false, why))
        fail_msg("%s", why);
    cache_ask(c, &a, 1, 512, 4, now_ns, &plan);
    cache_keep(c, &plan, now_ns);
    textbuf_free(&body);
    return plan;
}

static void all_jobs_of_a_group_say_the_same_before_the_mark(void **state)
{
    (void)state;
    enum { JOBS = 50 };
    char *first = NULL;
    size_t same = 0;
    for (int i = 0; i < JOBS; i++) {
        char members[4096];
        snprintf(
            members, sizeof members,
            "\"system\":\"%01500d\",\"messages\":[{\"role\":\"user\",\"content\":[{"
            "\"type\":\"text\",\"text\":\"%01500d\"},{\"type\":\"text\",\"text\":"
            "\"question %d\"}]}]",
            1, 2, i);
        char *got = marked(members, i % 3 == 0 ? 2 : 1, i % 3 == 0 ? 0 : 1, 1, false);
        char *end = strstr(got, "},{\"type\":\"text\",\"text\":\"question");
        assert_non_null(end);
        if (i % 3) { /* followers: byte for byte */
            if (first)
                assert_memory_equal(got, first, same);
            else
                same = (size_t)(end - got);
        }
        if (i % 3 && first == NULL)
            first = got;
        else
            free(got);
    }
    free(first);
}

static void what_a_leader_wrote_its_followers_read(void **state)
{
    (void)state;
    static const char *const forms[] = {
        /* %d: the group's text (of 4,000 bytes), and the job's question */
        "\"system\":\"%04000d\",\"messages\":[{\"role\":\"user\",\"content\":\"q "
        "%d\"}]",
        "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"%"
        "04000d\"},"
        "{\"type\":\"text\",\"text\":\"q %d\"}]}],\"system\":\"short\"",
        "\"tools\":[{\"name\":\"f\",\"description\":\"%04000d\"}],\"messages\":[{"
        "\"role\":"
        "\"user\",\"content\":\"q %d\"}]",
        "\"messages\":[{\"role\":\"user\",\"content\":\"%04000d\"},{\"role\":"
        "\"assistant\","
        "\"content\":\"ok\"},{\"role\":\"user\",\"content\":\"q %d\"}]",
    };
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct cache *c = cache_new();
        assert_non_null(c);
        int64_t tokens = 0;
        for (int job = 0; job < 5; job++) {
            struct textbuf members = {0};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            textbuf_putf(&members, forms[f], 7, job);
#pragma GCC diagnostic pop
            int last = found(members.at).count - 1;
            assert_true(last >= 0);
            char *got = marked(members.at, 1, last, 0, false);
            struct cache_plan plan = asked(c, got, job * NS);
            if (job == 0) {
                tokens = plan.write_5m;
                assert_true(tokens > 900);
                assert_int_equal(plan.read, 0);
            } else {
                assert_int_equal(plan.read, tokens);
                assert_int_equal(plan.write_5m, 0);
            }
            free(got);
            textbuf_free(&members);
        }
        cache_free(c);
    }
}

/* 40 documents under one system prompt: the first of each reads the system prompt. */
static void two_marks_share_what_groups_have_in_common(void **state)
{
    (void)state;
    struct cache *c = cache_new();
    assert_non_null(c);
    int64_t system = 0;
    for (int doc = 0; doc < 40; doc++)
        for (int job = 0; job < 3; job++) {
            char members[9000];
            snprintf(
                members, sizeof members,
                "\"system\":\"%04000d\",\"messages\":[{\"role\":\"user\",\"content\":"
                "[{\"type\":\"text\",\"text\":\"%04000d\"},{\"type\":\"text\","
                "\"text\":\"question %d\"}]}]",
                1, doc, job);
            bool leads = job == 0;
            char *got = leads ? marked(members, 2, 0, 1, true)
                              : marked(members, 1, 1, 0, true);
            struct cache_plan plan = asked(c, got, (doc * 3 + job) * NS);
            if (doc == 0 && leads)
                system = plan.write_1h / 2;
            else if (leads)
                assert_in_range(plan.read, system - 20, system + 20);
            else
                assert_in_range(plan.read, 2 * system - 1, 2 * system + 1);
            assert_int_equal(plan.write_5m, 0);
            assert_true(leads == (plan.write_1h > 0));
            free(got);
        }
    cache_free(c);
}

/* ---- what it costs ---- */

static void finding_costs_little(void **state)
{
    (void)state;
    enum { TIMES = 200 };
    struct textbuf b = {0};
    textbuf_puts(&b, "\"system\":\"");
    while (b.len < 20000)
        textbuf_puts(&b,
                     "A sentence of which there are many, with \\\"words\\\" in it. ");
    textbuf_puts(&b, "\"," ASK);
    struct timespec from, to;
    struct prefix p = {0};
    uint64_t sum = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    for (int i = 0; i < TIMES; i++) {
        prefix_find(&p, b.at, b.len);
        sum += p.cut[0].key[0];
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    assert_int_equal(p.count, 1);
    double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 +
                (double)(to.tv_nsec - from.tv_nsec);
    print_message("%.2f ns a byte (%llu)\n", ns / TIMES / (double)b.len,
                  (unsigned long long)sum % 10);
    assert_true(ns / TIMES / (double)b.len < 100); /* under sanitizers, too */
    textbuf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_are_where_a_mark_may_stand),
        cmocka_unit_test(a_mark_of_its_own_is_seen_wherever_it_is),
        cmocka_unit_test(jobs_share_a_cut_if_every_byte_before_it_is_the_same),
        cmocka_unit_test(the_key_stays_what_it_is),
        cmocka_unit_test(no_two_of_many_prefixes_collide),
        cmocka_unit_test(a_mark_changes_no_other_byte),
        cmocka_unit_test(every_way_to_mark_leaves_a_valid_body),
        cmocka_unit_test(all_jobs_of_a_group_say_the_same_before_the_mark),
        cmocka_unit_test(what_a_leader_wrote_its_followers_read),
        cmocka_unit_test(two_marks_share_what_groups_have_in_common),
        cmocka_unit_test(finding_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
