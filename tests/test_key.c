#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include "conf/conf.h"
#include "runner/err.h"
#include "runner/key.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])
#define SECRET "sk-ant-api03-quite_secret"

static struct conf conf;
static char dir[SCRATCH_MAX];

#define ONLY "want the key and nothing else"

static int set_up(void **state)
{
    (void)state;
    unsetenv("ANTHROPIC_API_KEY");
    scratch_make(dir);
    return conf_init(&conf, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    unsetenv("ANTHROPIC_API_KEY");
    conf_free(&conf);
    scratch_drop(dir);
    return 0;
}

static void set(const char *name, const char *value)
{
    assert_int_equal(conf_set(&conf, name, value, NULL), 0);
}

/* Loads, or fails with these words; whatever they are, the key is not among them. */
static void assert_key(const char *want, const char *says)
{
    char key[KEY_MAX] = "";
    struct err e = {0};
    int rc = key_load(&conf, key, sizeof key, &e);
    assert_null(strstr(e.text, "sk-ant"));
    if (says) {
        assert_int_equal(rc, -1);
        assert_int_equal(e.code, ERR_CONF);
        assert_string_equal(e.text, says);
    } else {
        if (rc < 0)
            fail_msg("%s", e.text);
        assert_string_equal(key, want);
    }
}

static void without_a_key_it_says_where_one_may_be_put(void **state)
{
    (void)state;
    assert_key(NULL,
               "no API key; export ANTHROPIC_API_KEY, or set api.key_file to a file "
               "with it");
    setenv("ANTHROPIC_API_KEY", "", 1); /* set to nothing is not set */
    assert_key(NULL,
               "no API key; export ANTHROPIC_API_KEY, or set api.key_file to a file "
               "with it");
}

static void the_environment_comes_first_then_the_file_then_the_command(void **state)
{
    (void)state;
    scratch_puts(dir, "key", SECRET "-file\n");
    chmod(scratch_path(dir, "key"), 0600);
    set("api.key_command", "echo " SECRET "-command");
    assert_key(SECRET "-command", NULL);
    set("api.key_file", scratch_path(dir, "key"));
    assert_key(SECRET "-file", NULL);
    setenv("ANTHROPIC_API_KEY", SECRET, 1);
    assert_key(SECRET, NULL);
}

static void blanks_around_a_key_are_an_editors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want, *says;
    } cases[] = {
        {SECRET, SECRET, NULL},
        {SECRET "\n", SECRET, NULL},
        {"\r\n \t" SECRET " \r\n\n", SECRET, NULL},
        {" \n\t", NULL, "ANTHROPIC_API_KEY: no key in it; " ONLY},
        {"sk-ant two", NULL,
         "ANTHROPIC_API_KEY: a key has no blanks or control characters; " ONLY},
        {"sk-ant\ntwo", NULL,
         "ANTHROPIC_API_KEY: a key has no blanks or control characters; " ONLY},
        {"sk-ant\x01", NULL,
         "ANTHROPIC_API_KEY: a key has no blanks or control characters; " ONLY},
        {"sk-ant\xc3\xbc", NULL,
         "ANTHROPIC_API_KEY: a key has no blanks or control characters; " ONLY},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        setenv("ANTHROPIC_API_KEY", cases[i].text, 1);
        assert_key(cases[i].want, cases[i].says);
    }
}

static void a_file_that_others_can_read_is_refused(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        int fine;
    } cases[] = {{0600, 1}, {0400, 1}, {0640, 0}, {0604, 0},
                 {0620, 0}, {0610, 0}, {0644, 0}, {0666, 0}};
    char says[200];
    const char *path = scratch_path(dir, "key");
    scratch_puts(dir, "key", SECRET);
    set("api.key_file", path);
    snprintf(says, sizeof says, "api.key_file = %s: others can read it; chmod 600 it",
             conf.api.key_file);
    for (size_t i = 0; i < CASES(cases); i++) {
        assert_int_equal(chmod(conf.api.key_file, cases[i].mode), 0);
        assert_key(SECRET, cases[i].fine ? NULL : says);
    }
}

static void a_file_that_holds_no_key_says_so(void **state)
{
    (void)state;
    char says[200];
    set("api.key_file", scratch_path(dir, "key"));
    snprintf(says, sizeof says,
             "api.key_file = %s: No such file or directory; put the key there, or name "
             "the file that holds it",
             conf.api.key_file);
    assert_key(NULL, says);
    scratch_puts(dir, "key", "\n");
    chmod(conf.api.key_file, 0600);
    assert_key(NULL, "api.key_file: no key in it; " ONLY);
    scratch_put(dir, "key", "sk-ant\0x y", 10);
    chmod(conf.api.key_file, 0600);
    char key[KEY_MAX];
    struct err e = {0};
    if (key_load(&conf, key, sizeof key, &e) == 0)
        assert_string_equal(key, "sk-ant"); /* at most what stands before the NUL */
    set("api.key_file", dir);
    e = (struct err){0};
    chmod(dir, 0700);
    assert_int_equal(key_load(&conf, key, sizeof key, &e), -1);
    assert_int_equal(e.code, ERR_CONF);
    assert_non_null(strstr(e.text, "a directory; name the file in it"));
    set("api.key_file", "~/key");
    assert_key(NULL, "api.key_file = ~/key: No such file or directory; want the whole "
                     "path, without ~");
}

/* systemd makes it readable for the unit's user by an ACL, and stat shows 0440. */
static void a_credential_of_systemd_may_show_bits_of_a_group(void **state)
{
    (void)state;
    static const struct {
        const char *dir;
        mode_t mode;
        int fine;
    } cases[] = {{"", 0440, 1},    {"", 0400, 1},  {"", 0444, 0},
                 {"/up", 0440, 0}, {"2", 0440, 0}, {NULL, 0440, 0}};
    char lent[200];
    scratch_puts(dir, "key", SECRET);
    set("api.key_file", scratch_path(dir, "key"));
    for (size_t i = 0; i < CASES(cases); i++) {
        snprintf(lent, sizeof lent, "%s%s", dir, cases[i].dir ? cases[i].dir : "");
        if (cases[i].dir)
            setenv("CREDENTIALS_DIRECTORY", lent, 1);
        else
            unsetenv("CREDENTIALS_DIRECTORY");
        char key[KEY_MAX];
        struct err e = {0};
        assert_int_equal(chmod(conf.api.key_file, cases[i].mode), 0);
        assert_int_equal(key_load(&conf, key, sizeof key, &e), cases[i].fine ? 0 : -1);
    }
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void a_command_that_fails_gives_no_key(void **state)
{
    (void)state;
    static const struct {
        const char *command, *says;
    } cases[] = {
        {"echo " SECRET "; exit 3",
         "api.key_command: it failed; run it by hand to see why"},
        {"kill -9 $$", "api.key_command: it failed; run it by hand to see why"},
        {"true", "api.key_command: no key in it; " ONLY},
        {"echo sk-ant two", "api.key_command: a key has no blanks or control "
                            "characters; " ONLY},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        set("api.key_command", cases[i].command);
        assert_key(NULL, cases[i].says);
    }
}

/* Half a key would be refused by the API, and nobody would know why. */
static void a_key_that_does_not_fit_is_refused_and_not_cut(void **state)
{
    (void)state;
    static char text[3 * KEY_MAX];
    char key[KEY_MAX], command[PATH_MAX];
    memset(text, 'k', sizeof text - 1);
    scratch_puts(dir, "key", text);
    chmod(scratch_path(dir, "key"), 0600);
    snprintf(command, sizeof command, "cat %s", scratch_path(dir, "key"));
    struct err e = {0};
    set("api.key_command", command);
    assert_int_equal(key_load(&conf, key, sizeof key, &e), -1);
    set("api.key_file", scratch_path(dir, "key"));
    assert_int_equal(key_load(&conf, key, sizeof key, &e), -1);
    setenv("ANTHROPIC_API_KEY", text, 1);
    assert_int_equal(key_load(&conf, key, sizeof key, &e), -1);
    text[KEY_MAX - 1] = '\0';
    setenv("ANTHROPIC_API_KEY", text, 1);
    assert_int_equal(key_load(&conf, key, sizeof key, NULL), 0);
    assert_string_equal(key, text);
}

static void a_fingerprint_knows_the_key_and_does_not_show_it(void **state)
{
    (void)state;
    char one[64], again[64], two[64];
    key_fingerprint(SECRET, one, sizeof one);
    key_fingerprint(SECRET, again, sizeof again);
    key_fingerprint(SECRET "x", two, sizeof two);
    assert_string_equal(one, again);
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), strlen("key-") + 16);
    assert_int_equal(strncmp(one, "key-", 4), 0);
    assert_int_equal(strspn(one + 4, "0123456789abcdef"), 16);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_key_it_says_where_one_may_be_put),
        TEST(the_environment_comes_first_then_the_file_then_the_command),
        TEST(blanks_around_a_key_are_an_editors),
        TEST(a_file_that_others_can_read_is_refused),
        TEST(a_file_that_holds_no_key_says_so),
        TEST(a_credential_of_systemd_may_show_bits_of_a_group),
        TEST(a_command_that_fails_gives_no_key),
        TEST(a_key_that_does_not_fit_is_refused_and_not_cut),
        TEST(a_fingerprint_knows_the_key_and_does_not_show_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
