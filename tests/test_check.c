#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "runner/check.h"
#include "runner/err.h"

static bool is_compiles(void *arg, const char *name)
{
    (void)arg;
    return strcmp(name, "compiles") == 0 || strcmp(name, "lints") == 0;
}

static char *a_file(void *arg, const char *name, size_t *len, struct err *e)
{
    const char *text = strcmp(name, "good.json") == 0  ? "{\"type\":\"object\"}"
                       : strcmp(name, "bad.json") == 0 ? "{\"type\":"
                                                       : NULL;
    (void)arg;
    if (text == NULL) {
        err_set(e, ERR_CONF, "schema:%s: no such file", name);
        return NULL;
    }
    *len = strlen(text);
    return strdup(text);
}

static const struct check_env env = {.command = is_compiles, .file = a_file};

static void words_and_answers_say_pass_or_why_not(void **state)
{
    static const struct {
        const char *words, *text, *why; /* NULL: it passes */
    } cases[] = {
        {"json", "{\"a\": [1, 2]}\n", NULL},
        {"json", "  7  ", NULL},
        {"json", "", "it is empty"},
        {"json", "{\"a\": 1} and more", "not JSON"},
        {"json", "```json\n{}\n```", "Markdown fence"},
        {"json", "{\"a\": 1,}", "not JSON"},
        {"regex:^yes$", "yes\n", NULL},
        {"regex:^yes$", "yes, and no", "does not match"},
        {"regex:(?i)Total: \\d+", "the total: 12", NULL},
        {"regex:\xc3\xa9{2}", "caf\xc3\xa9\xc3\xa9", NULL},
        {"regex:a[ ]&&b", "a &&b", NULL},
        {"regex:a", "\xff\xfe", "does not match"},
        {"regex:(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
         "too hard"},
        {"choices:yes,no,not sure", " not sure\n", NULL},
        {"choices:yes,no", "Yes", "none of choices:yes,no"},
        {"choices:yes,no", "ye", "\"ye\" is none"},
        {"choices:yes,no", "", "is none of"},
        {"choices:yes,no", "yes,no", "is none of"},
        {"min_chars:3", "\xc3\xa9\xc3\xa9\xc3\xa9", NULL},
        {"min_chars:3", "  ab \n", "2 characters, at least 3"},
        {"max_chars:3", "abcd", "4 characters, at most 3"},
        {"max_chars:0", "  \n", NULL},
        {"schema:good.json", "{}", NULL},
        {"schema:good.json", "[]", "$: array where object is wanted"},
        {"schema:good.json", "{", "not JSON"},
        {"schema:{\"enum\": [\"a && b\"]}", "\"a && b\"", NULL},
        {"schema:{\"type\": \"string\"} && min_chars:4", "\"a\"", "3 characters"},
        {"json && min_chars:2 && compiles", "12", NULL},
        {"json && min_chars:3 && compiles", "12", "2 characters"},
        {"compiles", "anything", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        char why[CHECK_WHY_MAX] = "";
        struct check *c = check_new(cases[i].words, &env, &e);
        if (c == NULL)
            fail_msg("%s: %s", cases[i].words, e.text);
        enum check_end end = check_text(c, cases[i].text, strlen(cases[i].text), why,
                                        sizeof why);
        bool good = cases[i].why == NULL
                        ? end == CHECK_PASS
                        : end == CHECK_FAIL && strstr(why, cases[i].why) != NULL;
        if (!good)
            fail_msg("%s on \"%s\": %s \"%s\", wanted \"%s\"", cases[i].words,
                     cases[i].text, end == CHECK_PASS ? "passes" : "fails", why,
                     cases[i].why ? cases[i].why : "a pass");
        check_free(c);
    }
}

static void words_that_cannot_be_are_errors_and_never_passes(void **state)
{
    static const struct {
        const char *words, *says;
    } cases[] = {
        {"", "want json, schema:"},
        {"jsno", "no such check"},
        {"json:", "want json alone"},
        {"regex", "want regex:..."},
        {"regex:", "want a pattern"},
        {"regex:(", "at byte 1"},
        {"choices:", "words joined by commas"},
        {"choices:a,,b", "words joined by commas"},
        {"min_chars:few", "a number of characters"},
        {"min_chars:-1", "a number of characters"},
        {"min_chars:9 && max_chars:8", "no answer passes both"},
        {"command:missing", "no such check"},
        {"schema:none.json", "no such file"},
        {"schema:bad.json", "schema:bad.json:1"},
        {"schema:{\"type\": \"text\"}", "type: want null"},
        {"schema:{\"type\": ", "line 1"},
        {"schema:{\"typ\": 1}", "keyword typ is not known"},
        {"schema:{} json", "want \" && \" before json"},
        {"json && ", "no such check"},
        {"json &&", "no such check"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        struct check *c = check_new(cases[i].words, &env, &e);
        if (c)
            fail_msg("%s: taken", cases[i].words);
        if (strstr(e.text, cases[i].says) == NULL)
            fail_msg("%s: \"%s\", wanted \"%s\"", cases[i].words, e.text,
                     cases[i].says);
    }
}

static void a_job_cannot_reach_files_by_its_check(void **state)
{
    struct err e = {0};
    (void)state;
    assert_null(
        check_new("schema:good.json", &(struct check_env){.command = is_compiles}, &e));
    assert_non_null(strstr(e.text, "schema:{...}"));
}

static void programs_are_told_in_their_order(void **state)
{
    struct err e = {0};
    (void)state;
    struct check *c = check_new("lints && json && command:compiles", &env, &e);
    assert_non_null(c);
    assert_int_equal(check_commands(c), 2);
    assert_string_equal(check_command(c, 0), "lints");
    assert_string_equal(check_command(c, 1), "compiles");
    assert_null(check_command(c, 2));
    check_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_answers_say_pass_or_why_not),
        cmocka_unit_test(words_that_cannot_be_are_errors_and_never_passes),
        cmocka_unit_test(a_job_cannot_reach_files_by_its_check),
        cmocka_unit_test(programs_are_told_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
