#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <sys/wait.h>

#include "jobs/share.h"
#include "runner/err.h"

struct bytes {
    int64_t count;
    int of[SHARE_SLOTS];
};

static char dir[SCRATCH_MAX];

static int set_up(void **state)
{
    (void)state;
    scratch_make(dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_drop(dir);
    return 0;
}

static struct share *open_one(const char *name)
{
    struct err e = {0};
    struct share *s = share_open(dir, name, sizeof(struct bytes), &e);
    assert_non_null(s);
    assert_int_equal(e.code, ERR_NONE);
    share_unlock(s);
    return s;
}

static void add(struct share *s, int n)
{
    struct bytes *b = share_lock(s);
    b->count += n;
    b->of[share_slot(s)] += n;
    share_unlock(s);
}

static int64_t count(struct share *s)
{
    const struct bytes *b = share_lock(s);
    int64_t n = b->count;
    share_unlock(s);
    return n;
}

static void give_back(void *bytes, int slot)
{
    struct bytes *b = bytes;
    b->count -= b->of[slot];
    b->of[slot] = 0;
}

static void who_opens_the_same_name_sees_the_same_bytes(void **state)
{
    (void)state;
    struct share *a = open_one("org/opus"), *b = open_one("org/opus");
    struct share *other = open_one("org/haiku");
    assert_true(share_first(a));
    assert_false(share_first(b));
    assert_true(share_first(other));
    assert_int_not_equal(share_slot(a), share_slot(b));
    add(a, 3);
    add(b, 4);
    assert_int_equal(count(a), 7);
    assert_int_equal(count(b), 7);
    assert_int_equal(count(other), 0);
    share_close(a);
    share_close(b);
    share_close(other);
}

static bool somebody_holds_the_lock(void)
{
    glob_t found;
    assert_int_equal(glob(scratch_path(dir, "*.share"), 0, NULL, &found), 0);
    int fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
    close(fd);
    globfree(&found);
    return lock.l_type != F_UNLCK;
}

static void who_comes_first_has_it_alone_until_it_is_in_order(void **state)
{
    (void)state;
    struct err e = {0};
    struct share *a = share_open(dir, "x", sizeof(struct bytes), &e);
    assert_true(somebody_holds_the_lock());
    share_unlock(a);
    assert_false(somebody_holds_the_lock());
    share_close(a);
}

static void what_was_shared_is_there_for_the_next(void **state)
{
    (void)state;
    struct share *a = open_one("org/opus");
    add(a, 5);
    share_close(a);
    a = open_one("org/opus");
    assert_true(share_first(a));
    assert_int_equal(count(a), 5);
    share_close(a);
}

static void a_closed_slot_is_not_a_dead_one(void **state)
{
    (void)state;
    struct share *a = open_one("x"), *b = open_one("x");
    add(b, 5);
    share_close(b);
    share_lock(a);
    share_bury(a, give_back);
    share_unlock(a);
    assert_int_equal(count(a), 5);
    share_close(a);
}

/* A child that opens the share, adds, tells so, and waits to be killed; with `holding`
 * it dies holding the lock. */
static pid_t child_that_adds(int n, bool holding)
{
    int told[2];
    char c;
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err e = {0};
        struct share *s = share_open(dir, "x", sizeof(struct bytes), &e);
        add(s, n); /* and unlocks */
        if (holding)
            share_lock(s);
        if (write(told[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(told[0], &c, 1), 1);
    close(told[0]);
    close(told[1]);
    return pid;
}

static void reap(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void what_a_dead_runner_held_is_given_back_once(void **state)
{
    (void)state;
    struct share *a = open_one("x");
    add(a, 1);
    pid_t pid = child_that_adds(10, false);
    assert_int_equal(count(a), 11);
    share_lock(a);
    share_bury(a, give_back);
    share_unlock(a);
    assert_int_equal(count(a), 11); /* it lives */
    reap(pid);
    for (int i = 0; i < 2; i++) {
        share_lock(a);
        share_bury(a, give_back);
        share_unlock(a);
        assert_int_equal(count(a), 1);
    }
    share_close(a);
}

static void who_dies_with_the_lock_lets_go_of_it(void **state)
{
    (void)state;
    pid_t pid = child_that_adds(2, true);
    reap(pid);
    struct share *a = open_one("x");
    assert_true(share_first(a));
    assert_int_equal(count(a), 2);
    share_close(a);
}

static void bytes_of_another_size_begin_anew(void **state)
{
    (void)state;
    struct err e = {0};
    struct share *a = open_one("x");
    add(a, 9);
    share_close(a);
    struct share *b = share_open(dir, "x", sizeof(struct bytes) + 8, &e);
    assert_int_equal(e.code, ERR_NONE);
    assert_int_equal(count(b), 0);
    /* While somebody has it open it is his. */
    a = share_open(dir, "x", sizeof(struct bytes), &e);
    assert_int_equal(e.code, ERR_SYSTEM);
    assert_int_equal(count(a), 0);
    add(a, 1);
    assert_int_equal(count(b), 0);
    share_close(a);
    share_close(b);
}

static void without_a_file_there_is_memory_of_ones_own(void **state)
{
    (void)state;
    struct err e = {0};
    scratch_put(dir, "file", "", 0);
    struct share *a = share_open(scratch_path(dir, "file"), "x", sizeof(struct bytes),
                                 &e);
    assert_non_null(a);
    assert_int_not_equal(e.code, ERR_NONE);
    assert_true(share_first(a));
    add(a, 1);
    assert_int_equal(count(a), 1);
    share_bury(a, give_back);
    share_close(a);
}

static void more_runners_than_slots_go_on_by_themselves(void **state)
{
    (void)state;
    struct share *all[SHARE_SLOTS];
    struct err e = {0};
    for (int i = 0; i < SHARE_SLOTS; i++)
        all[i] = open_one("x");
    struct share *more = share_open(dir, "x", sizeof(struct bytes), &e);
    assert_non_null(more);
    assert_non_null(strstr(e.text, "more than 64 runners"));
    for (int i = 0; i < SHARE_SLOTS; i++)
        share_close(all[i]);
    share_close(more);
}

static void who_runs_nothing_can_look(void **state)
{
    (void)state;
    struct bytes b;
    assert_false(share_look(dir, "x", &b, sizeof b));
    struct share *a = open_one("x");
    add(a, 6);
    assert_true(share_look(dir, "x", &b, sizeof b));
    assert_int_equal(b.count, 6);
    assert_false(share_look(dir, "x", &b, sizeof b - 8));
    share_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(who_opens_the_same_name_sees_the_same_bytes),
        T(who_comes_first_has_it_alone_until_it_is_in_order),
        T(what_was_shared_is_there_for_the_next),
        T(a_closed_slot_is_not_a_dead_one),
        T(what_a_dead_runner_held_is_given_back_once),
        T(who_dies_with_the_lock_lets_go_of_it),
        T(bytes_of_another_size_begin_anew),
        T(without_a_file_there_is_memory_of_ones_own),
        T(more_runners_than_slots_go_on_by_themselves),
        T(who_runs_nothing_can_look),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
