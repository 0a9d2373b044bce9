#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include "conf/conf.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static void conf_open(struct conf *c)
{
    struct err e = {0};
    if (conf_init(c, &e) < 0)
        fail_msg("%s", e.text);
}

/* ---- the table ---- */

static void the_defaults_parse_and_pass(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    conf_open(&c);
    assert_int_equal(conf_check(&c, &e), 0);
    assert_string_equal(c.api.base_url, "https://api.anthropic.com");
    assert_string_equal(c.api.version, "2023-06-01");
    assert_int_equal(c.api.first_byte_ms, 600000);
    assert_int_equal(c.api.stream, STREAM_AUTO);
    assert_int_equal(c.limits.in_flight, 256);
    assert_int_equal(c.limits.attempts, 5);
    assert_int_equal(c.limits.drain_ms, 30000);
    assert_int_equal(c.limits.outage_ms, 1800000);
    assert_int_equal(c.limits.mass_failure, 20);
    assert_string_equal(c.jobs.tier, "standard");
    assert_int_equal(c.jobs.in_doubt, IN_DOUBT_AGAIN);
    assert_int_equal(c.intake.ignore.count, 0);
    assert_int_equal(c.intake.settle_ms, 2000);
    assert_int_equal(c.intake.max_bytes, 32 * 1024 * 1024);
    assert_int_equal(c.store.patience_ms, 30000);
    assert_int_equal(c.store.sync, SYNC_FULL);
    assert_int_equal(c.tiers_len, 3);
    assert_string_equal(c.tiers[0].name, "cheap");
    assert_string_equal(c.tiers[1].name, "standard");
    assert_string_equal(c.tiers[2].name, "deep");
    assert_int_equal(c.routes_len, 0);
    conf_free(&c);
}

static void bad_values_say_what_is_wanted(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *says;
    } cases[] = {
        {"limits.in_flight", "0", "limits.in_flight = 0: want a number from 1 to 1000"},
        {"limits.in_flight", "1001",
         "limits.in_flight = 1001: want a number from 1 to 1000"},
        {"limits.in_flight", "1e9",
         "limits.in_flight = 1e9: want a number from 1 to 1000"},
        {"limits.in_flight", "-1",
         "limits.in_flight = -1: want a number from 1 to 1000"},
        {"limits.in_flight", "", "limits.in_flight = : want a number from 1 to 1000"},
        {"limits.in_flight", "4 ",
         "limits.in_flight = 4 : want a number from 1 to 1000"},
        {"limits.in_flight", "4s",
         "limits.in_flight = 4s: want a number from 1 to 1000"},
        {"jobs.max_tokens", "99999999999999999999999",
         "jobs.max_tokens = 99999999999999999999999: want a number from 1 to 10000000"},
        {"api.connect_timeout", "30",
         "api.connect_timeout = 30: want a time with its unit (30s, 10m) from 100ms to "
         "5m"},
        {"api.connect_timeout", "s",
         "api.connect_timeout = s: want a time with its unit (30s, 10m) from 100ms to "
         "5m"},
        {"api.connect_timeout", "9223372036854775807h",
         "api.connect_timeout = 9223372036854775807h: want a time with its unit (30s, "
         "10m) from 100ms to 5m"},
        {"limits.drain", "61m",
         "limits.drain = 61m: want a time with its unit (30s, 10m) from 0ms to 1h"},
        {"limits.outage", "999ms",
         "limits.outage = 999ms: want a time with its unit (30s, 10m) from 1s to 7d"},
        {"limits.outage", "8d",
         "limits.outage = 8d: want a time with its unit (30s, 10m) from 1s to 7d"},
        {"api.max_answer", "10",
         "api.max_answer = 10: want a size with its unit (16MiB) from 1KiB to 1GiB"},
        {"api.max_answer", "1000B",
         "api.max_answer = 1000B: want a size with its unit (16MiB) from 1KiB to 1GiB"},
        {"api.max_answer", "8mib",
         "api.max_answer = 8mib: want a size with its unit (16MiB) from 1KiB to 1GiB"},
        {"api.max_answer", "18014398509481989KiB", /* 5 KiB, if nobody looks */
         "api.max_answer = 18014398509481989KiB: want a size with its unit (16MiB) "
         "from 1KiB to 1GiB"},
        {"intake.max_bytes", "33MiB",
         "intake.max_bytes = 33MiB: want a size with its unit (16MiB) from 1KiB to "
         "32MiB"},
        {"store.reserve", "2GiB",
         "store.reserve = 2GiB: want a size with its unit (16MiB) from 0B to 1GiB"},
        {"jobs.in_doubt", "maybe", "jobs.in_doubt = maybe: want one of: again hold"},
        {"jobs.in_doubt", "", "jobs.in_doubt = : want one of: again hold"},
        {"jobs.in_doubt", "agai", "jobs.in_doubt = agai: want one of: again hold"},
        {"api.stream", "again", "api.stream = again: want one of: auto always never"},
        {"api.timeot", "30s",
         "api.timeot: no such option; `nightmill options` has all"},
        {"in_flight", "3", "in_flight: no such option; `nightmill options` has all"},
        {"", "3", ": no such option; `nightmill options` has all"},
        {"tier.deep.colour", "red",
         "tier.deep.colour: no such option; `nightmill options` has all"},
        {"tier.model", "x",
         "tier.model: want tier.NAME.OPTION, NAME of letters, digits, - and _"},
        {"tier..model", "x",
         "tier..model: want tier.NAME.OPTION, NAME of letters, digits, - and _"},
        {"tier.a b.model", "x",
         "tier.a b.model: want tier.NAME.OPTION, NAME of letters, digits, - and _"},
        {"route.x/y.tier", "x",
         "route.x/y.tier: want route.NAME.OPTION, NAME of letters, digits, - and _"},
        {"tier.deep.max_tokens", "-1",
         "tier.deep.max_tokens = -1: want a number from 0 to 10000000"},
        {"route.r.min_bytes", "7",
         "route.r.min_bytes = 7: want a size with its unit (16MiB) from 0B to 1GiB"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct err e = {0};
        struct conf c;
        conf_open(&c);
        assert_int_equal(conf_set(&c, cases[i].name, cases[i].value, &e), -1);
        assert_int_equal(e.code, ERR_CONF);
        assert_string_equal(e.text, cases[i].says);
        assert_int_equal(c.limits.in_flight, 256); /* what was there stands */
        conf_free(&c);
    }
}

static void numbers_carry_their_units(void **state)
{
    (void)state;
    struct conf c;
    conf_open(&c);
    const struct {
        const char *name, *value;
        const int64_t *at;
        int64_t want;
    } cases[] = {
        {"limits.in_flight", "1", &c.limits.in_flight, 1},
        {"limits.in_flight", "1000", &c.limits.in_flight, 1000},
        {"limits.drain", "0s", &c.limits.drain_ms, 0},
        {"limits.drain", "1h", &c.limits.drain_ms, 3600000},
        {"api.connect_timeout", "100ms", &c.api.connect_ms, 100},
        {"api.connect_timeout", "5m", &c.api.connect_ms, 300000},
        {"limits.outage", "7d", &c.limits.outage_ms, 7 * 86400000},
        {"limits.outage", "90s", &c.limits.outage_ms, 90000},
        {"api.max_answer", "1024B", &c.api.max_answer, 1024},
        {"api.max_answer", "3KiB", &c.api.max_answer, 3072},
        {"api.max_answer", "3MiB", &c.api.max_answer, 3 * 1024 * 1024},
        {"api.max_answer", "1GiB", &c.api.max_answer, 1 << 30},
        {"api.max_answer", "2KB", &c.api.max_answer, 2000},
        {"api.max_answer", "2MB", &c.api.max_answer, 2000000},
        {"api.max_answer", "1GB", &c.api.max_answer, 1000000000},
        {"store.reserve", "0B", &c.store.reserve, 0},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct err e = {0};
        if (conf_set(&c, cases[i].name, cases[i].value, &e) < 0)
            fail_msg("%s", e.text);
        assert_int_equal(*cases[i].at, cases[i].want);
    }
    conf_free(&c);
}

static void words_are_cut_at_blanks_and_commas(void **state)
{
    (void)state;
    struct conf c;
    conf_open(&c);
    assert_int_equal(conf_set(&c, "intake.ignore", " *.bak,old/* ,,\tx ", NULL), 0);
    assert_int_equal(c.intake.ignore.count, 3);
    assert_string_equal(c.intake.ignore.word[0], "*.bak");
    assert_string_equal(c.intake.ignore.word[1], "old/*");
    assert_string_equal(c.intake.ignore.word[2], "x");
    assert_int_equal(conf_set(&c, "intake.ignore", "", NULL), 0);
    assert_int_equal(c.intake.ignore.count, 0);
    conf_free(&c);
}

static void tiers_and_routes_keep_the_order_they_came_in(void **state)
{
    (void)state;
    static const char *const names[] = {"zebra", "ant", "Mid-2_x"};
    struct conf c;
    char option[64];
    conf_open(&c);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < CASES(names); i++) {
            snprintf(option, sizeof option, "tier.%s.model", names[i]);
            assert_int_equal(conf_set(&c, option, "m", NULL), 0);
            snprintf(option, sizeof option, "route.%s.tier", names[i]);
            assert_int_equal(conf_set(&c, option, "deep", NULL), 0);
        }
    assert_int_equal(c.tiers_len, 6);
    assert_int_equal(c.routes_len, 3);
    for (size_t i = 0; i < CASES(names); i++) {
        assert_string_equal(c.tiers[3 + i].name, names[i]);
        assert_string_equal(c.routes[i].name, names[i]);
        assert_ptr_equal(conf_tier(&c, names[i]), &c.tiers[3 + i]);
        assert_string_equal(c.routes[i].match, "");
        assert_int_equal(c.routes[i].max_bytes, 0);
    }
    assert_null(conf_tier(&c, "zebr"));
    conf_free(&c);
}

static void groups_have_a_ceiling(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    char option[64];
    conf_open(&c);
    for (int i = 0; i < 32 - 3; i++) {
        snprintf(option, sizeof option, "tier.t%d.model", i);
        assert_int_equal(conf_set(&c, option, "m", NULL), 0);
    }
    assert_int_equal(conf_set(&c, "tier.more.model", "m", &e), -1);
    assert_string_equal(e.text, "[tier more]: more than 32 sections of this kind");
    conf_free(&c);
}

/* ---- INI ---- */

static int read_text(struct conf *c, const char *text, struct err *e, char *dir)
{
    scratch_make(dir);
    scratch_puts(dir, "nightmill.ini", text);
    int rc = conf_read(c, scratch_path(dir, "nightmill.ini"), false, false, e);
    scratch_drop(dir);
    return rc;
}

static void an_ini_lays_its_values_over_what_is_there(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    char dir[SCRATCH_MAX];
    conf_open(&c);
    int rc = read_text(&c,
                       "; a comment\n"
                       "# another\n"
                       "[limits]\n"
                       "in_flight = 7\n"
                       "drain=1m ; said why\n"
                       "\n"
                       "[tier deep]\n"
                       "effort = high\n"
                       "[tier   huge]\n"
                       "model = claude-fable-5\n"
                       "[route z]\n"
                       "match = mail/*\n"
                       "tier = cheap\n"
                       "[route a]\n"
                       "tags = x y\n"
                       "model = m\n",
                       &e, dir);
    if (rc < 0)
        fail_msg("%s", e.text);
    assert_int_equal(c.limits.in_flight, 7);
    assert_int_equal(c.limits.drain_ms, 60000);
    assert_int_equal(c.limits.attempts, 5);
    assert_string_equal(conf_tier(&c, "deep")->effort, "high");
    assert_string_equal(conf_tier(&c, "deep")->model, "claude-opus-5-5");
    assert_string_equal(conf_tier(&c, "huge")->model, "claude-fable-5");
    assert_int_equal(c.routes_len, 2);
    assert_string_equal(c.routes[0].name, "z");
    assert_string_equal(c.routes[0].match, "mail/*");
    assert_string_equal(c.routes[1].name, "a");
    assert_int_equal(c.routes[1].tags.count, 2);
    conf_free(&c);
}

#define BYTES_100                                                                      \
    "12345678901234567890123456789012345678901234567890123456789012345678901234567890" \
    "12"                                                                               \
    "345678901234567890"

static void a_bad_ini_says_where_and_what(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[limits]\n\nin_flight = 0\n",
         ":3: limits.in_flight = 0: want a number from 1 to 1000"},
        {"[limits]\nin_flght = 3\n",
         ":2: limits.in_flght: no such option; `nightmill options` has all"},
        {"[limit]\nin_flight = 3\n",
         ":2: limit.in_flight: no such option; `nightmill options` has all"},
        {"in_flight = 3\n", ":1: in_flight: want a [section] before it"},
        {"[limits]\njust words\nin_flght = 3\n",
         ":2: want [section], name = value, or a comment"},
        {"[limits]\nin_flght = 3\njust words\n",
         ":2: limits.in_flght: no such option; `nightmill options` has all"},
        {"[limits]\nin_flight = 0\n\nattempts = 0\n",
         ":2: limits.in_flight = 0: want a number from 1 to 1000"},
        {"[limits]\njust words\n", ":2: want [section], name = value, or a comment"},
        {"[limits\nin_flight = 3\n", ":1: want [section], name = value, or a comment"},
        {"[tier a.b/c]\nmodel = x\n",
         ":2: tier.a.b/c.model: want tier.NAME.OPTION, NAME of letters, digits, - and "
         "_"},
        {"[tier]\nmodel = x\n",
         ":2: tier.model: want tier.NAME.OPTION, NAME of letters, digits, - and _"},
        {"; " BYTES_100 BYTES_100 "\n", ":1: a line longer than 198 bytes"},
        {"[limits]\n; fine\n;" BYTES_100 BYTES_100, ":3: a line longer than 198 bytes"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct conf c;
        struct err e = {0};
        char dir[SCRATCH_MAX], want[400];
        conf_open(&c);
        assert_int_equal(read_text(&c, cases[i].text, &e, dir), -1);
        assert_int_equal(e.code, ERR_CONF);
        snprintf(want, sizeof want, "%s/nightmill.ini%s", dir, cases[i].says);
        assert_string_equal(e.text, want);
        conf_free(&c);
    }
}

struct heard_of {
    int count;
    char text[1200];
};

static void on_mistake(void *arg, const char *sentence)
{
    struct heard_of *h = arg;
    size_t n = strlen(h->text);
    const char *name = strrchr(sentence, '/');
    h->count++;
    snprintf(h->text + n, sizeof h->text - n, "%s\n", name ? name + 1 : sentence);
}

static void
all_mistakes_are_told_each_with_its_line_and_what_is_right_is_taken(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    struct heard_of h = {0};
    char dir[SCRATCH_MAX];
    conf_open(&c);
    c.on_mistake = on_mistake;
    c.mistake_arg = &h;
    assert_int_equal(read_text(&c,
                               "[limits]\nin_flight = 0\njust words\nfoo ; = 1\n"
                               "attempts = 7\n[jobs\n[route a]\nfoo: 3\n",
                               &e, dir),
                     -1);
    assert_string_equal(
        h.text, "nightmill.ini:2: limits.in_flight = 0: want a number from 1 to "
                "1000\n"
                "nightmill.ini:3: want [section], name = value, or a comment\n"
                "nightmill.ini:4: want [section], name = value, or a comment\n"
                "nightmill.ini:6: want [section], name = value, or a comment\n"
                "nightmill.ini:8: route.a.foo: no such option; `nightmill "
                "options` has all\n");
    assert_non_null(strstr(e.text, ":2: limits.in_flight"));
    assert_int_equal(c.limits.attempts, 7);

    h = (struct heard_of){0};
    e = (struct err){0};
    assert_int_equal(conf_set(&c, "tier.deep.fallback", "zebra", NULL), 0);
    assert_int_equal(conf_set(&c, "tier.cheap.model", "", NULL), 0);
    assert_int_equal(conf_set(&c, "route.a.match", "x*", NULL), 0);
    assert_int_equal(conf_check(&c, &e), -1);
    assert_int_equal(h.count, 3);
    assert_string_equal(e.text, "[tier cheap]: want model = a model's id");
    conf_free(&c);
}

static void the_longest_line_is_read_whole(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    char dir[SCRATCH_MAX], text[300] = "[tier deep]\nmodel = ";
    size_t lead = strlen("[tier deep]\n");
    conf_open(&c);
    memset(text + strlen(text), 'm', lead + 198 - strlen(text));
    assert_int_equal(strlen(text), lead + 198);
    strcat(text, "\neffort = low\n");
    if (read_text(&c, text, &e, dir) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(strlen(conf_tier(&c, "deep")->model), 198 - strlen("model = "));
    assert_string_equal(conf_tier(&c, "deep")->effort, "low");
    conf_free(&c);
}

/* An editor's indentation must not turn an option into the end of the one before. */
static void an_indented_option_is_an_option(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    char dir[SCRATCH_MAX];
    conf_open(&c);
    int rc = read_text(
        &c,
        "[tier deep]\n  model = m\n\t effort = high\n\n  [limits]\n ; so\n in_flight=3",
        &e, dir);
    if (rc < 0)
        fail_msg("%s", e.text);
    assert_string_equal(conf_tier(&c, "deep")->model, "m");
    assert_string_equal(conf_tier(&c, "deep")->effort, "high");
    assert_int_equal(c.limits.in_flight, 3);
    conf_free(&c);
}

static void a_file_that_is_not_there_is_an_error_unless_it_is_optional(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    char dir[SCRATCH_MAX], want[300];
    conf_open(&c);
    scratch_make(dir);
    const char *path = scratch_path(dir, "none.ini");
    assert_int_equal(conf_read(&c, path, true, true, &e), 0);
    assert_int_equal(e.code, ERR_NONE);
    assert_int_equal(conf_read(&c, path, false, true, &e), -1);
    snprintf(want, sizeof want,
             "%s: No such file or directory; name an INI that you can read", path);
    assert_string_equal(e.text, want);
    e = (struct err){0};
    assert_int_equal(conf_read(&c, dir, true, true, &e), -1); /* a directory is none */
    assert_int_equal(e.code, ERR_CONF);
    scratch_drop(dir);
    conf_free(&c);
}

static const char *const guarded[] = {
    "api.base_url = https://evil.example",
    "api.key_file = /etc/passwd",
    "api.key_command = curl evil.example",
    "api.version = 1",
    "api.beta = x",
    "api.ca_file = /tmp/ca",
    "api.max_answer = 1MiB",
    "store.dir = /tmp/x",
    "store.sync = off",
    "results.dir = /tmp/x",
};

static void write_option(const char *dir, const char *option, mode_t mode)
{
    char text[200];
    int section = (int)strcspn(option, ".");
    snprintf(text, sizeof text, "[%.*s]\n%s\n", section, option, option + section + 1);
    scratch_puts(dir, "nightmill.ini", text);
    assert_int_equal(chmod(scratch_path(dir, "nightmill.ini"), mode), 0);
}

/* A queue that others can write to cannot say where the key goes or what runs. */
static void guarded_options_are_refused_from_a_file_that_others_can_write(void **state)
{
    (void)state;
    static const mode_t modes[] = {0664, 0646, 0666};
    char dir[SCRATCH_MAX], want[400];
    scratch_make(dir);
    for (size_t i = 0; i < CASES(guarded); i++)
        for (size_t k = 0; k < CASES(modes); k++) {
            struct conf c;
            struct err e = {0};
            conf_open(&c);
            write_option(dir, guarded[i], modes[k]);
            const char *path = scratch_path(dir, "nightmill.ini");
            assert_int_equal(conf_read(&c, path, true, true, &e), -1);
            snprintf(want, sizeof want,
                     "%s:2: %.*s: not taken from a file that others can write or own; "
                     "chown it to yourself, chmod go-w, or use --conf",
                     path, (int)strcspn(guarded[i], " "), guarded[i]);
            assert_string_equal(e.text, want);
            assert_string_equal(c.api.base_url, "https://api.anthropic.com");
            conf_free(&c);
        }
    scratch_drop(dir);
}

static void guarded_options_are_taken_from_a_file_of_ones_own(void **state)
{
    (void)state;
    static const mode_t modes[] = {0644, 0600, 0444};
    char dir[SCRATCH_MAX];
    scratch_make(dir);
    for (size_t i = 0; i < CASES(guarded); i++)
        for (size_t k = 0; k < CASES(modes); k++) {
            struct conf c;
            struct err e = {0};
            conf_open(&c);
            unlink(scratch_path(dir, "nightmill.ini"));
            write_option(dir, guarded[i], modes[k]);
            if (conf_read(&c, scratch_path(dir, "nightmill.ini"), true, true, &e) < 0)
                fail_msg("%s", e.text);
            conf_free(&c);
        }
    scratch_drop(dir);
}

static void guarded_options_are_refused_from_another_users_file(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    char dir[SCRATCH_MAX];
    if (geteuid() != 0)
        skip(); /* files cannot be given away */
    conf_open(&c);
    scratch_make(dir);
    write_option(dir, "api.base_url = https://evil.example", 0600);
    assert_int_equal(chown(scratch_path(dir, "nightmill.ini"), 12345, 12345), 0);
    assert_int_equal(conf_read(&c, scratch_path(dir, "nightmill.ini"), true, true, &e),
                     -1);
    assert_non_null(strstr(e.text, "api.base_url: not taken"));
    scratch_drop(dir);
    conf_free(&c);
}

static void other_options_are_taken_from_any_file(void **state)
{
    (void)state;
    struct conf c;
    struct err e = {0};
    char dir[SCRATCH_MAX];
    conf_open(&c);
    scratch_make(dir);
    write_option(dir, "limits.in_flight = 3", 0666);
    if (conf_read(&c, scratch_path(dir, "nightmill.ini"), true, true, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(c.limits.in_flight, 3);
    /* and a file named by hand is trusted as it is */
    write_option(dir, "api.base_url = https://proxy.example", 0666);
    assert_int_equal(
        conf_read(&c, scratch_path(dir, "nightmill.ini"), false, false, &e), 0);
    assert_string_equal(c.api.base_url, "https://proxy.example");
    scratch_drop(dir);
    conf_free(&c);
}

static void the_environment_names_the_api(void **state)
{
    (void)state;
    struct conf c;
    conf_open(&c);
    unsetenv("ANTHROPIC_BASE_URL");
    assert_int_equal(conf_environment(&c, NULL), 0);
    assert_string_equal(c.api.base_url, "https://api.anthropic.com");
    setenv("ANTHROPIC_BASE_URL", "", 1);
    assert_int_equal(conf_environment(&c, NULL), 0);
    assert_string_equal(c.api.base_url, "https://api.anthropic.com");
    setenv("ANTHROPIC_BASE_URL", "http://localhost:8080", 1);
    assert_int_equal(conf_environment(&c, NULL), 0);
    assert_string_equal(c.api.base_url, "http://localhost:8080");
    unsetenv("ANTHROPIC_BASE_URL");
    conf_free(&c);
}

/* ---- the whole ---- */

#define CLEAR(url)                                                \
    "api.base_url = " url                                         \
    ": want https://HOST, or http:// to 127.0.0.1 or localhost: " \
    "the key does not travel in the clear"

static void the_key_never_travels_in_the_clear(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } cases[] = {
        {"https://api.anthropic.com", NULL},
        {"https://proxy.example:8443/path", NULL},
        {"http://127.0.0.1", NULL},
        {"http://127.0.0.1:8080", NULL},
        {"http://localhost:8080/x", NULL},
        {"http://[::1]:8080", NULL},
        {"http://api.anthropic.com", CLEAR("http://api.anthropic.com")},
        {"http://127.0.0.1.evil.example", CLEAR("http://127.0.0.1.evil.example")},
        {"http://localhost.evil.example", CLEAR("http://localhost.evil.example")},
        {"http://localhost@evil.example", CLEAR("http://localhost@evil.example")},
        {"http://localhost:x@evil.example", CLEAR("http://localhost:x@evil.example")},
        {"http://127.0.0.1:80@evil.example/",
         CLEAR("http://127.0.0.1:80@evil.example/")},
        {"https://me@proxy.example", CLEAR("https://me@proxy.example")},
        {"http://127.0.0.1:80x", CLEAR("http://127.0.0.1:80x")},
        {"http://127.0.0.1:80\\@evil.example",
         CLEAR("http://127.0.0.1:80\\@evil.example")},
        {"http://localhost:1#@evil.example", NULL}, /* a fragment: the host is ours */
        {"https://", CLEAR("https://")},
        {"https:///x", CLEAR("https:///x")},
        {"ftp://127.0.0.1", CLEAR("ftp://127.0.0.1")},
        {"api.anthropic.com", CLEAR("api.anthropic.com")},
        {"", CLEAR("")},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct conf c;
        struct err e = {0};
        conf_open(&c);
        conf_set(&c, "api.base_url", cases[i].url, NULL);
        int rc = conf_check(&c, &e);
        if (cases[i].says == NULL && rc < 0)
            fail_msg("%s", e.text);
        if (cases[i].says && rc == 0)
            fail_msg("%s passed", cases[i].url);
        assert_string_equal(e.text, cases[i].says ? cases[i].says : "");
        conf_free(&c);
    }
}

static void only_the_whole_can_say_whether_names_fit(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *says;
    } cases[] = {
        {"jobs.tier", "dep",
         "jobs.tier = dep: no such tier; there are cheap, standard, deep"},
        {"tier.deep.fallback", "x",
         "tier.deep.fallback = x: no such tier; there are cheap, standard, deep"},
        {"tier.deep.fallback", "cheap", NULL},
        {"tier.new.effort", "low", "[tier new]: want model = a model's id"},
        {"tier.auto.model", "m", "[tier auto]: `auto` means: choose for me"},
        {"route.r.match", "x*", "[route r]: want tier, model, route or check"},
        {"route.r.check", "json", NULL},
        {"route.r.route", "learn", NULL},
        {"check.x.timeout", "1s", "[check x]: want command = a program"},
        {"jobs.ladder", "cheap,steep",
         "jobs.ladder = steep: no such tier; there are cheap, standard, deep"},
        {"route.r.tier", "x",
         "route.r.tier = x: no such tier; there are cheap, standard, deep"},
        {"route.r.tier", "deep", NULL},
        {"route.r.model", "claude-opus-5", NULL},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct conf c;
        struct err e = {0};
        conf_open(&c);
        assert_int_equal(conf_set(&c, cases[i].name, cases[i].value, NULL), 0);
        assert_int_equal(conf_check(&c, &e), cases[i].says ? -1 : 0);
        assert_string_equal(e.text, cases[i].says ? cases[i].says : "");
        conf_free(&c);
    }
    struct conf c;
    struct err e = {0};
    conf_open(&c);
    conf_set(&c, "route.r.tier", "deep", NULL);
    conf_set(&c, "route.r.model", "m", NULL);
    assert_int_equal(conf_check(&c, &e), -1);
    assert_string_equal(e.text, "[route r]: want either tier or model");
    conf_free(&c);
}

/* ---- the sample ---- */

static char *sample(size_t *len)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, len);
    conf_print_sample(f);
    fclose(f);
    return text;
}

/* `nightmill options > conf/nightmill.ini` brings it up to date. */
static void the_sample_is_the_file_that_ships(void **state)
{
    (void)state;
    size_t len;
    char *text = sample(&len);
    scratch_equals(CASES_DIR "/../../conf", "nightmill.ini", text);
    free(text);
}

static void the_sample_parses_and_changes_nothing(void **state)
{
    (void)state;
    struct conf c, plain;
    struct err e = {0};
    char dir[SCRATCH_MAX];
    size_t len;
    char *text = sample(&len);
    conf_open(&c);
    conf_open(&plain);
    if (read_text(&c, text, &e, dir) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(conf_check(&c, &e), 0);
    assert_int_equal(c.tiers_len, plain.tiers_len);
    assert_int_equal(c.routes_len, 0);
    free(text);
    conf_free(&c);
    conf_free(&plain);
}

/* With the `;` taken away from each option, as it invites to. */
static void every_option_of_the_sample_says_its_default(void **state)
{
    (void)state;
    struct conf c, plain;
    struct err e = {0};
    char dir[SCRATCH_MAX];
    size_t len, to = 0;
    int options = 0;
    char *text = sample(&len);
    for (size_t i = 0; i < len; i++) {
        bool starts = i == 0 || text[i - 1] == '\n';
        if (starts && text[i] == ';' && text[i + 1] != ' ') {
            options++;
            continue;
        }
        text[to++] = text[i];
    }
    text[to] = '\0';
    conf_open(&c);
    conf_open(&plain);
    if (read_text(&c, text, &e, dir) < 0)
        fail_msg("%s", e.text);
    assert_true(options > 40);
    assert_int_equal(c.routes_len, 1);
    assert_string_equal(c.routes[0].name, "NAME");

    assert_string_equal(c.api.base_url, plain.api.base_url);
    assert_string_equal(c.api.key_file, plain.api.key_file);
    assert_string_equal(c.api.version, plain.api.version);
    assert_memory_equal(&c.api.connect_ms, &plain.api.connect_ms,
                        sizeof c.api - offsetof(struct conf, api.connect_ms) +
                            offsetof(struct conf, api));
    assert_memory_equal(&c.limits, &plain.limits, sizeof c.limits);
    assert_string_equal(c.jobs.tier, plain.jobs.tier);
    assert_int_equal(c.jobs.max_tokens, plain.jobs.max_tokens);
    assert_int_equal(c.intake.ignore.count, 0);
    assert_int_equal(c.intake.max_bytes, plain.intake.max_bytes);
    assert_string_equal(c.store.dir, "");
    assert_int_equal(c.store.reserve, plain.store.reserve);
    assert_int_equal(c.tiers_len, plain.tiers_len);
    for (size_t i = 0; i < c.tiers_len; i++) {
        assert_string_equal(c.tiers[i].name, plain.tiers[i].name);
        assert_string_equal(c.tiers[i].model, plain.tiers[i].model);
    }
    free(text);
    conf_free(&c);
    conf_free(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_parse_and_pass),
        cmocka_unit_test(bad_values_say_what_is_wanted),
        cmocka_unit_test(numbers_carry_their_units),
        cmocka_unit_test(words_are_cut_at_blanks_and_commas),
        cmocka_unit_test(tiers_and_routes_keep_the_order_they_came_in),
        cmocka_unit_test(groups_have_a_ceiling),
        cmocka_unit_test(an_ini_lays_its_values_over_what_is_there),
        cmocka_unit_test(a_bad_ini_says_where_and_what),
        cmocka_unit_test(
            all_mistakes_are_told_each_with_its_line_and_what_is_right_is_taken),
        cmocka_unit_test(the_longest_line_is_read_whole),
        cmocka_unit_test(an_indented_option_is_an_option),
        cmocka_unit_test(a_file_that_is_not_there_is_an_error_unless_it_is_optional),
        cmocka_unit_test(guarded_options_are_refused_from_a_file_that_others_can_write),
        cmocka_unit_test(guarded_options_are_taken_from_a_file_of_ones_own),
        cmocka_unit_test(guarded_options_are_refused_from_another_users_file),
        cmocka_unit_test(other_options_are_taken_from_any_file),
        cmocka_unit_test(the_environment_names_the_api),
        cmocka_unit_test(the_key_never_travels_in_the_clear),
        cmocka_unit_test(only_the_whole_can_say_whether_names_fit),
        cmocka_unit_test(the_sample_is_the_file_that_ships),
        cmocka_unit_test(the_sample_parses_and_changes_nothing),
        cmocka_unit_test(every_option_of_the_sample_says_its_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
