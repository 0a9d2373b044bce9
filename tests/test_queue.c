#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <sys/wait.h>

#include "conf/conf.h"
#include "jobs/intake.h"
#include "jobs/queue.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static struct conf conf;
static char dir[SCRATCH_MAX], root[PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    scratch_make(dir);
    snprintf(root, sizeof root, "%s/q", dir);
    mkdir(root, 0755);
    return conf_init(&conf, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    conf_free(&conf);
    scratch_drop(dir);
    return 0;
}

static void set(const char *name, const char *value)
{
    assert_int_equal(conf_set(&conf, name, value, NULL), 0);
}

static void find(struct queue *q)
{
    struct err e = {0};
    if (queue_find(q, root, &conf, &e) < 0)
        fail_msg("%s", e.text);
}

static void its_things_lie_in_the_queue_unless_they_are_put_elsewhere(void **state)
{
    (void)state;
    static const struct {
        const char *store, *results, *state_at, *results_at;
    } cases[] = {
        {"", "", "/q/.nightmill", "/q/results"},
        {"state", "out/today", "/q/state", "/q/out/today"},
        {"../state", "../out", "/q/../state", "/q/../out"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct queue q;
        char want[PATH_MAX];
        set("store.dir", cases[i].store);
        set("results.dir", cases[i].results);
        find(&q);
        assert_string_equal(q.root, root);
        snprintf(want, sizeof want, "%s%s", dir, cases[i].state_at);
        assert_string_equal(q.state, want);
        snprintf(want, sizeof want, "%s%s", dir, cases[i].results_at);
        assert_string_equal(q.results, want);
        queue_close(&q);
    }
    struct queue q;
    set("store.dir", "/elsewhere/state");
    set("results.dir", "/elsewhere/results");
    find(&q);
    assert_string_equal(q.state, "/elsewhere/state");
    assert_string_equal(q.results, "/elsewhere/results");
    queue_close(&q);
    assert_false(scratch_there(dir, "q/.nightmill")); /* looking makes nothing */
}

static void slashes_at_the_end_of_its_name_are_nothing(void **state)
{
    (void)state;
    struct queue q;
    char name[PATH_MAX + 8];
    snprintf(name, sizeof name, "%s//", root);
    assert_int_equal(queue_find(&q, name, &conf, NULL), 0);
    assert_string_equal(q.root, root);
    queue_close(&q);
    queue_close(&q); /* once more is fine */
}

static void what_is_no_directory_is_no_queue(void **state)
{
    (void)state;
    struct queue q;
    struct err e = {0};
    char says[PATH_MAX + 100];
    const char *name = scratch_path(dir, "nothing");
    assert_int_equal(queue_find(&q, name, &conf, &e), -1);
    snprintf(says, sizeof says,
             "%s: No such file or directory; name the directory of your job files",
             name);
    assert_int_equal(e.code, ERR_USAGE);
    assert_string_equal(e.text, says);
    queue_close(&q);
    scratch_puts(dir, "file.md", "");
    name = scratch_path(dir, "file.md");
    e = (struct err){0};
    assert_int_equal(queue_find(&q, name, &conf, &e), -1);
    snprintf(says, sizeof says,
             "%s: not a directory; name the directory of your job files", name);
    assert_string_equal(e.text, says);
    queue_close(&q);
}

/* The marker that goes there would hide every job from then on. */
static void a_place_that_holds_the_queue_is_refused(void **state)
{
    (void)state;
    static const char *const options[] = {"results.dir", "store.dir"};
    static const char *const places[] = {".",     "..", "./",   "../q",
                                         "../..", "/",  "link", "sub/.."};
    assert_int_equal(symlink("..", scratch_path(root, "link")), 0);
    assert_int_equal(mkdir(scratch_path(root, "sub"), 0755), 0);
    for (size_t i = 0; i < CASES(options); i++)
        for (size_t k = 0; k < CASES(places); k++) {
            struct queue q;
            struct err e = {0};
            set("results.dir", "");
            set("store.dir", "");
            set(options[i], places[k]);
            if (queue_find(&q, root, &conf, &e) == 0)
                fail_msg("%s = %s", options[i], places[k]);
            assert_int_equal(e.code, ERR_CONF);
            assert_non_null(strstr(e.text, options[i]));
            assert_non_null(strstr(e.text, ": want a directory that does not hold the "
                                           "queue"));
            queue_close(&q);
        }
}

static void a_place_in_or_beside_the_queue_is_fine(void **state)
{
    (void)state;
    /* one whose name begins as the queue's, and one the queue's name begins with */
    static const char *const places[] = {"../qq", "../longer", "sub", "sub/sub"};
    char longer[PATH_MAX];
    assert_int_equal(mkdir(scratch_path(dir, "qq"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(dir, "longer"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(root, "sub"), 0755), 0);
    snprintf(longer, sizeof longer, "%s/longer-queue", dir);
    assert_int_equal(mkdir(longer, 0755), 0);
    for (size_t i = 0; i < CASES(places); i++) {
        struct queue q;
        struct err e = {0};
        set("results.dir", places[i]);
        if (queue_find(&q, i == 1 ? longer : root, &conf, &e) < 0)
            fail_msg("%s", e.text);
        queue_close(&q);
    }
}

static void one_runner_a_queue(void **state)
{
    (void)state;
    struct queue one, two;
    struct err e = {0};
    char says[PATH_MAX + 200];
    find(&one);
    find(&two);
    assert_int_equal(queue_lock(&one, &e), 0);
    assert_int_equal(queue_lock(&two, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    snprintf(says, sizeof says,
             "another nightmill is at work on %s; let it end, or look with `nightmill "
             "status`",
             root);
    assert_string_equal(e.text, says);
    queue_close(&two);
    queue_close(&one);
    find(&two);
    assert_int_equal(queue_lock(&two, NULL), 0);
    queue_close(&two);
}

static void one_runner_a_state(void **state)
{
    (void)state;
    struct queue one, two;
    struct err e = {0};
    char other[PATH_MAX];
    snprintf(other, sizeof other, "%s/other", dir);
    mkdir(other, 0755);
    set("store.dir", scratch_path(dir, "state"));
    find(&one);
    assert_int_equal(queue_find(&two, other, &conf, &e), 0);
    assert_int_equal(queue_lock(&one, &e), 0);
    assert_int_equal(queue_lock(&two, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    queue_close(&one);
    queue_close(&two);
}

static void the_state_is_private_and_marked(void **state)
{
    (void)state;
    struct queue q;
    struct stat st;
    mode_t was = umask(0);
    find(&q);
    assert_false(queue_known(&q));
    assert_int_equal(queue_lock(&q, NULL), 0);
    umask(was);
    assert_int_equal(stat(q.state, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_true(scratch_there(q.state, INTAKE_MARKER));
    assert_false(queue_known(&q)); /* a lock alone is no state */
    scratch_puts(q.state, "queue.db", "");
    assert_true(queue_known(&q));
    queue_close(&q);
}

static void a_state_that_cannot_be_made_says_what_to_set(void **state)
{
    (void)state;
    struct queue q;
    struct err e = {0};
    scratch_puts(root, "file", "");
    set("store.dir", "file/state");
    find(&q);
    assert_int_equal(queue_lock(&q, &e), -1);
    assert_int_equal(e.code, ERR_STORE);
    assert_non_null(strstr(e.text, "set store.dir"));
    queue_close(&q);
}

static void a_lock_dies_with_its_process(void **state)
{
    (void)state;
    struct queue q;
    int told[2], die[2], status;
    char c = 0;
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(die), 0);
    pid_t child = fork();
    if (child == 0) {
        struct queue theirs;
        c = queue_find(&theirs, root, &conf, NULL) == 0 &&
                    queue_lock(&theirs, NULL) == 0
                ? 'y'
                : 'n';
        close(die[1]);
        _exit(write(told[1], &c, 1) == 1 && read(die[0], &c, 1) == 0 ? 0 : 1);
    }
    assert_int_equal(read(told[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    find(&q);
    assert_int_equal(queue_lock(&q, NULL), -1);
    queue_close(&q);
    close(die[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    find(&q);
    assert_int_equal(queue_lock(&q, NULL), 0);
    queue_close(&q);
    close(told[0]);
    close(told[1]);
    close(die[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(its_things_lie_in_the_queue_unless_they_are_put_elsewhere),
        TEST(slashes_at_the_end_of_its_name_are_nothing),
        TEST(what_is_no_directory_is_no_queue),
        TEST(a_place_that_holds_the_queue_is_refused),
        TEST(a_place_in_or_beside_the_queue_is_fine),
        TEST(one_runner_a_queue),
        TEST(one_runner_a_state),
        TEST(the_state_is_private_and_marked),
        TEST(a_state_that_cannot_be_made_says_what_to_set),
        TEST(a_lock_dies_with_its_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
