#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/checkrun.h"
#include "runner/err.h"

struct told {
    int times;
    enum checkrun_end end;
    char why[CHECKRUN_WHY_MAX];
};

static const char *const vars[] = {"NIGHTMILL_JOB=dir/a job",
                                   "NIGHTMILL_MODEL=claude-x", NULL};

static void on_end(void *arg, enum checkrun_end end, const char *why)
{
    struct told *t = arg;
    t->times++;
    t->end = end;
    snprintf(t->why, sizeof t->why, "%s", why);
}

static struct told judge(const char *command, bool shell, const char *text, size_t len,
                         int64_t timeout_ms)
{
    uv_loop_t loop;
    struct told t = {0};
    struct err e = {0};
    uv_loop_init(&loop);
    struct checkrun *c = checkrun_start(
        &loop,
        &(struct checkrun_what){.command = command,
                                .shell = shell,
                                .timeout_ms = timeout_ms,
                                .cwd = "/",
                                .vars = vars,
                                .text = text,
                                .len = len},
        on_end, &t, &e);
    if (c == NULL) {
        t.end = CHECKRUN_ERROR;
        snprintf(t.why, sizeof t.why, "%.250s", e.text);
    }
    assert_int_equal(t.times, 0); /* never from inside */
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(t.times, c != NULL);
    return t;
}

static struct told said(const char *script, const char *text)
{
    return judge(script, true, text, strlen(text), 20000);
}

static void exit_0_passes_and_another_does_not(void **state)
{
    (void)state;
    assert_int_equal(said("exit 0", "x").end, CHECKRUN_PASS);
    struct told t = said("echo 'line 3: no' >&2; echo more >&2; exit 3", "x");
    assert_int_equal(t.end, CHECKRUN_FAIL);
    assert_string_equal(t.why, "the check says no (exit 3): line 3: no");
}

static void it_reads_the_answer_and_is_told_whose_it_is(void **state)
{
    (void)state;
    struct told t = judge("grep -q 'it is \"so\"'", false, "well, it is \"so\"\n", 17,
                          20000);
    assert_int_equal(t.end, CHECKRUN_PASS);
    assert_int_equal(said("test \"$NIGHTMILL_JOB $NIGHTMILL_MODEL\" = 'dir/a job "
                          "claude-x'",
                          "")
                         .end,
                     CHECKRUN_PASS);
}

static void it_does_not_see_the_key(void **state)
{
    (void)state;
    setenv("ANTHROPIC_API_KEY", "sk-secret", 1);
    assert_int_equal(said("env | grep -q secret", "").end, CHECKRUN_FAIL);
    unsetenv("ANTHROPIC_API_KEY");
}

static void an_answer_that_nobody_reads_does_no_harm(void **state)
{
    size_t len = 4 << 20;
    char *text = malloc(len);
    (void)state;
    memset(text, 'x', len);
    assert_int_equal(judge("exit 0", true, text, len, 20000).end, CHECKRUN_PASS);
    assert_int_equal(judge("test $(wc -c) = 4194304", true, text, len, 20000).end,
                     CHECKRUN_PASS);
    free(text);
}

static void what_takes_too_long_is_ended_with_all_it_started(void **state)
{
    (void)state;
    struct told t = judge("sleep 600 & sleep 600", true, "", 0, 200);
    assert_int_equal(t.end, CHECKRUN_ERROR);
    assert_string_equal(t.why, "the check took longer than 0.2 s and was ended");
    t = judge("trap '' TERM; while :; do sleep 1; done", true, "", 0, 200);
    assert_int_equal(t.end, CHECKRUN_ERROR);
}

static void what_cannot_run_is_an_error_and_no_pass(void **state)
{
    (void)state;
    struct told t = judge("/no/such/program", false, "x", 1, 1000);
    assert_int_equal(t.end, CHECKRUN_ERROR);
    assert_non_null(strstr(t.why, "no such file"));
    assert_int_equal(said("/no/such/program", "x").end, CHECKRUN_ERROR);
    t = judge("grep 'open", false, "x", 1, 1000);
    assert_int_equal(t.end, CHECKRUN_ERROR);
    assert_non_null(strstr(t.why, "quote"));
    t = said("kill -9 $$", "x");
    assert_int_equal(t.end, CHECKRUN_ERROR);
    assert_non_null(strstr(t.why, "signal 9"));
}

static void missing_programs_are_found_before_they_are_needed(void **state)
{
    char dir[SCRATCH_MAX];
    struct err e = {0};
    (void)state;
    scratch_make(dir);
    scratch_put(dir, "mine", "#!/bin/sh\n", 10);
    assert_int_equal(checkrun_exists("grep -q x", dir, &e), 0);
    assert_int_equal(checkrun_exists("./mine", dir, &e), -1); /* not executable */
    assert_non_null(strstr(e.text, "no such program can be run"));
    assert_int_equal(chmod(scratch_path(dir, "mine"), 0755), 0);
    assert_int_equal(checkrun_exists("./mine --x", dir, &e), 0);
    e = (struct err){0};
    assert_int_equal(checkrun_exists("nmnosuchprogram", dir, &e), -1);
    scratch_drop(dir);
}

static void words_part_as_in_a_shell(void **state)
{
    struct err e = {0};
    (void)state;
    char **w = checkrun_words("a  'b c' \"d\\\"e\" f\\ g '' h'i'j", &e);
    static const char *const want[] = {"a", "b c", "d\"e", "f g", "", "hij"};
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(w[i], want[i]);
    assert_null(w[6]);
    checkrun_words_free(w);
    assert_null(checkrun_words("", &e));
    assert_null(checkrun_words("   ", &e));
    assert_null(checkrun_words("a \"b", &e));
}

static void a_program_can_be_called_off(void **state)
{
    uv_loop_t loop;
    struct told t = {0};
    struct err e = {0};
    (void)state;
    uv_loop_init(&loop);
    struct checkrun *c = checkrun_start(&loop,
                                        &(struct checkrun_what){.command = "sleep 600",
                                                                .timeout_ms = 60000,
                                                                .cwd = "/",
                                                                .vars = vars,
                                                                .text = "x",
                                                                .len = 1},
                                        on_end, &t, &e);
    assert_non_null(c);
    checkrun_cancel(c);
    checkrun_cancel(c);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(t.times, 1);
    assert_int_equal(t.end, CHECKRUN_CANCELED);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_0_passes_and_another_does_not),
        cmocka_unit_test(it_reads_the_answer_and_is_told_whose_it_is),
        cmocka_unit_test(it_does_not_see_the_key),
        cmocka_unit_test(an_answer_that_nobody_reads_does_no_harm),
        cmocka_unit_test(what_takes_too_long_is_ended_with_all_it_started),
        cmocka_unit_test(what_cannot_run_is_an_error_and_no_pass),
        cmocka_unit_test(missing_programs_are_found_before_they_are_needed),
        cmocka_unit_test(words_part_as_in_a_shell),
        cmocka_unit_test(a_program_can_be_called_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
