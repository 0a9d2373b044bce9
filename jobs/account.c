#include "jobs/account.h"

#include "jobs/files.h"
#include "runner/effect.h"
#include "runner/err.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS alias (fingerprint TEXT PRIMARY KEY, account TEXT NOT"
    " NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS halt (account TEXT PRIMARY KEY, reason TEXT NOT NULL,"
    " says TEXT NOT NULL, at INT NOT NULL, until INT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS lane (account TEXT, lane TEXT, hold_until INT NOT NULL,"
    " hold_span INT NOT NULL, hold_why TEXT NOT NULL, rpm INT NOT NULL, itpm INT NOT"
    " NULL, otpm INT NOT NULL, PRIMARY KEY (account, lane)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS bill (account TEXT, run TEXT, day TEXT, spent INT NOT"
    " NULL, PRIMARY KEY (run, day, account)) WITHOUT ROWID;";

/* Of later versions, each a string: a store of version n gets the n-th and all behind. */
static const char *const migrations[] = {
    "ALTER TABLE bill ADD COLUMN doubt INT NOT NULL DEFAULT 0;"
    "ALTER TABLE bill ADD COLUMN lease INT NOT NULL DEFAULT 0;",
};

#define STATEMENTS(X)                                                                  \
    X(NAME, "SELECT account FROM alias WHERE fingerprint = ?1")                        \
    X(LEARN, "REPLACE INTO alias (fingerprint, account) VALUES (?1, ?2)")              \
    X(ADOPT_HALT, "UPDATE OR REPLACE halt SET account = ?2 WHERE account = ?1")        \
    X(ADOPT_LANE, "UPDATE OR REPLACE lane SET account = ?2 WHERE account = ?1")        \
    X(ADOPT_BILL, "UPDATE OR REPLACE bill SET account = ?2 WHERE account = ?1")        \
    X(HALT, "SELECT reason, says, at, until FROM halt WHERE account = ?1")             \
    X(SET_HALT, "REPLACE INTO halt (account, reason, says, at, until) VALUES (?1, ?2," \
                " ?3, ?4, ?5)")                                                        \
    X(CLEAR_HALT, "DELETE FROM halt WHERE account = ?1")                               \
    X(LANE, "SELECT hold_until, hold_span, hold_why, rpm, itpm, otpm FROM lane WHERE"  \
            " account = ?1 AND lane = ?2")                                             \
    X(SET_LANE,                                                                        \
      "REPLACE INTO lane (account, lane, hold_until, hold_span, hold_why, rpm,"        \
      " itpm, otpm) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                          \
    X(BILL,                                                                            \
      "REPLACE INTO bill (account, run, day, spent, doubt, lease) VALUES (?1, ?2,"     \
      " ?3, ?4, ?5, ?6)")                                                              \
    X(BEGIN, "BEGIN IMMEDIATE")                                                        \
    X(COMMIT, "COMMIT")                                                                \
    X(ROLLBACK, "ROLLBACK")                                                            \
    X(OTHERS,                                                                          \
      "SELECT COALESCE(SUM(CASE WHEN day = ?3 THEN MAX(spent + doubt, lease)"          \
      " ELSE 0 END), 0), COALESCE(SUM(MAX(spent + doubt, lease)), 0) FROM bill"        \
      " WHERE account = ?1 AND substr(day, 1, 7) = substr(?3, 1, 7) AND NOT"           \
      " (run = ?2 AND day = ?3)")

enum {
#define X(name, sql) SQL_##name,
    STATEMENTS(X) SQL_TOTAL
#undef X
};
static const char *const sql_text[] = {
#define X(name, sql) [SQL_##name] = sql,
    STATEMENTS(X)
#undef X
};

struct account_store {
    sqlite3 *db;
    sqlite3_stmt *sql[SQL_TOTAL];
    int probe_fd; /* holds the probe's lock; -1: we do not */
    char dir[3800];
};

static int refused(struct account_store *st, struct err *e)
{
    return err_set(e, ERR_STORE, "the account store %s: %s", st->dir,
                   sqlite3_errmsg(st->db));
}

int account_dir(char *buf, size_t size, struct err *e)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/')
        snprintf(buf, size, "%s/nightmill", xdg);
    else if (geteuid() == 0)
        snprintf(buf, size, "/var/lib/nightmill");
    else if (home && *home == '/')
        snprintf(buf, size, "%s/.local/state/nightmill", home);
    else {
        struct passwd *pw = getpwuid(geteuid());
        if (pw == NULL)
            return err_set(e, ERR_SYSTEM,
                           "no home directory for the account store; set HOME or "
                           "XDG_STATE_HOME");
        snprintf(buf, size, "%s/.local/state/nightmill", pw->pw_dir);
    }
    return 0;
}

static int version_of(sqlite3 *db)
{
    sqlite3_stmt *q = NULL;
    int version = -1;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return version;
}

/* Several runners may open it at once: who holds the lock looks again. */
static int migrate(sqlite3 *db)
{
    enum { VERSION = sizeof migrations / sizeof migrations[0] };
    if (version_of(db) >= VERSION)
        return 0;
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return -1;
    int version = version_of(db);
    for (; version >= 0 && version < VERSION; version++) {
        char done[64];
        snprintf(done, sizeof done, "PRAGMA user_version = %d", version + 1);
        if (sqlite3_exec(db, migrations[version], NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, done, NULL, NULL, NULL) != SQLITE_OK)
            break;
    }
    if (version >= VERSION && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

/*
 * One at a time may open or close it: the change to a write-ahead log, and its clearing
 * away with the last connection, do not wait for each other as transactions do, and
 * many queues that cron starts at the same second would fail. -1: no lock, go on.
 */
static int door_lock(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/door", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
        ;
    return fd;
}

static void door_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}

struct account_store *account_open(const char *dir, struct err *e)
{
    struct account_store *st = calloc(1, sizeof *st);
    char path[4096];
    int door = -1;
    if (st == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    st->probe_fd = -1;
    snprintf(st->dir, sizeof st->dir, "%s", dir);
    snprintf(path, sizeof path, "%s/account.db", st->dir);
    if (files_make_dirs(dir, 0700, e) < 0)
        goto bad;
    door = door_lock(dir);
    if (sqlite3_open_v2(path, &st->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                        NULL) != SQLITE_OK) {
        refused(st, e);
        goto bad;
    }
    sqlite3_busy_timeout(st->db, 30000); /* disks can be slow */
    if (sqlite3_exec(st->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(st->db, schema, NULL, NULL, NULL) != SQLITE_OK ||
        migrate(st->db) < 0) {
        refused(st, e);
        goto bad;
    }
    for (int i = 0; i < SQL_TOTAL; i++)
        if (sqlite3_prepare_v2(st->db, sql_text[i], -1, &st->sql[i], NULL) !=
            SQLITE_OK) {
            refused(st, e);
            goto bad;
        }
    door_unlock(door);
    return st;

bad:
    files_blame_disk(dir, e);
    door_unlock(door);
    account_close(st);
    return NULL;
}

void account_close(struct account_store *st)
{
    if (st == NULL)
        return;
    account_probe_end(st);
    for (int i = 0; i < SQL_TOTAL; i++)
        sqlite3_finalize(st->sql[i]);
    int door = door_lock(st->dir);
    sqlite3_close(st->db);
    door_unlock(door);
    free(st);
}

const char *account_where(const struct account_store *st)
{
    return st->dir;
}

static sqlite3_stmt *with_text(struct account_store *st, int which, const char *a,
                               const char *b)
{
    sqlite3_stmt *q = st->sql[which];
    sqlite3_bind_text(q, 1, a, -1, SQLITE_STATIC);
    if (b)
        sqlite3_bind_text(q, 2, b, -1, SQLITE_STATIC);
    return q;
}

static int done(struct account_store *st, sqlite3_stmt *q, struct err *e)
{
    effect_before("account", 0);
    int rc = sqlite3_step(q);
    effect_after("account", 0);
    if (rc != SQLITE_DONE)
        refused(st, e);
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return rc == SQLITE_DONE ? 0 : -1;
}

/* After a step that may give a row: 1, 0 or -1, and the statement is at rest again. */
static int found(struct account_store *st, sqlite3_stmt *q, int rc, struct err *e)
{
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        refused(st, e);
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}

static void copy_text(sqlite3_stmt *q, int col, char *buf, size_t size)
{
    const char *s = (const char *)sqlite3_column_text(q, col);
    snprintf(buf, size, "%s", s ? s : "");
}

int account_name(struct account_store *st, const char *fingerprint, char *buf,
                 size_t size, struct err *e)
{
    sqlite3_stmt *q = with_text(st, SQL_NAME, fingerprint, NULL);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        copy_text(q, 0, buf, size);
    else
        snprintf(buf, size, "%s", fingerprint);
    return found(st, q, rc, e) < 0 ? -1 : 0;
}

int account_learn(struct account_store *st, const char *fingerprint, const char *name,
                  struct err *e)
{
    static const int adopt[] = {SQL_LEARN, SQL_ADOPT_HALT, SQL_ADOPT_LANE,
                                SQL_ADOPT_BILL};
    for (size_t i = 0; i < sizeof adopt / sizeof adopt[0]; i++)
        if (done(st, with_text(st, adopt[i], fingerprint, name), e) < 0)
            return -1;
    return 0;
}

int account_halt(struct account_store *st, const char *account,
                 struct account_halt *ret, struct err *e)
{
    sqlite3_stmt *q = with_text(st, SQL_HALT, account, NULL);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        copy_text(q, 0, ret->reason, sizeof ret->reason);
        copy_text(q, 1, ret->says, sizeof ret->says);
        ret->at = sqlite3_column_int64(q, 2);
        ret->until = sqlite3_column_int64(q, 3);
    }
    return found(st, q, rc, e);
}

int account_halt_set(struct account_store *st, const char *account,
                     const struct account_halt *h, struct err *e)
{
    sqlite3_stmt *q = with_text(st, SQL_SET_HALT, account, h->reason);
    sqlite3_bind_text(q, 3, h->says, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 4, h->at);
    sqlite3_bind_int64(q, 5, h->until);
    return done(st, q, e);
}

int account_halt_clear(struct account_store *st, const char *account, struct err *e)
{
    return done(st, with_text(st, SQL_CLEAR_HALT, account, NULL), e);
}

int account_lane(struct account_store *st, const char *account, const char *lane,
                 int64_t now, struct account_lane *ret, struct err *e)
{
    sqlite3_stmt *q = with_text(st, SQL_LANE, account, lane);
    int rc = sqlite3_step(q);
    *ret = (struct account_lane){0};
    if (rc == SQLITE_ROW) {
        ret->hold_until = sqlite3_column_int64(q, 0);
        ret->hold_span = sqlite3_column_int64(q, 1);
        copy_text(q, 2, ret->hold_why, sizeof ret->hold_why);
        ret->rpm = sqlite3_column_int64(q, 3);
        ret->itpm = sqlite3_column_int64(q, 4);
        ret->otpm = sqlite3_column_int64(q, 5);
        if (ret->hold_until > now + ret->hold_span)
            ret->hold_until = now + ret->hold_span;
        if (ret->hold_until <= now)
            ret->hold_until = ret->hold_span = 0;
    }
    return found(st, q, rc, e);
}

int account_lane_set(struct account_store *st, const char *account, const char *lane,
                     const struct account_lane *l, struct err *e)
{
    sqlite3_stmt *q = with_text(st, SQL_SET_LANE, account, lane);
    sqlite3_bind_int64(q, 3, l->hold_until);
    sqlite3_bind_int64(q, 4, l->hold_span);
    sqlite3_bind_text(q, 5, l->hold_why, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 6, l->rpm);
    sqlite3_bind_int64(q, 7, l->itpm);
    sqlite3_bind_int64(q, 8, l->otpm);
    return done(st, q, e);
}

int account_bill(struct account_store *st, const char *account, const char *run,
                 const char *day, const struct account_row *row, struct err *e)
{
    sqlite3_stmt *q = with_text(st, SQL_BILL, account, run);
    sqlite3_bind_text(q, 3, day, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 4, row->spent);
    sqlite3_bind_int64(q, 5, row->doubt);
    sqlite3_bind_int64(q, 6, row->lease);
    return done(st, q, e);
}

static int others_of(struct account_store *st, const char *account, const char *run,
                     const char *day, struct account_others *o)
{
    sqlite3_stmt *q = with_text(st, SQL_OTHERS, account, run);
    sqlite3_bind_text(q, 3, day, -1, SQLITE_STATIC);
    bool found = sqlite3_step(q) == SQLITE_ROW;
    if (found)
        *o = (struct account_others){sqlite3_column_int64(q, 0),
                                     sqlite3_column_int64(q, 1)};
    sqlite3_reset(q);
    return found ? 0 : -1;
}

int account_lease(struct account_store *st, const char *account, const char *run,
                  const char *day, struct account_row *row, account_grant_fn *grant,
                  void *arg, struct err *e)
{
    struct account_others o;
    picodollars lease;
    if (sqlite3_step(st->sql[SQL_BEGIN]) != SQLITE_DONE) {
        refused(st, e);
        sqlite3_reset(st->sql[SQL_BEGIN]);
        return -1;
    }
    sqlite3_reset(st->sql[SQL_BEGIN]);
    if (others_of(st, account, run, day, &o) < 0)
        goto bad;
    lease = grant(arg, &o);
    if (lease >= 0)
        row->lease = lease;
    if (account_bill(st, account, run, day, row, e) < 0)
        goto bad;
    int rc = sqlite3_step(st->sql[SQL_COMMIT]);
    sqlite3_reset(st->sql[SQL_COMMIT]);
    if (rc == SQLITE_DONE)
        return 0;
bad:
    refused(st, e);
    sqlite3_step(st->sql[SQL_ROLLBACK]);
    sqlite3_reset(st->sql[SQL_ROLLBACK]);
    return -1;
}

/* One lock file an account; its name is the account's with what paths dislike replaced.
 */
int account_probe_begin(struct account_store *st, const char *account, struct err *e)
{
    char path[4096];
    if (st->probe_fd >= 0)
        return 1;
    int n = snprintf(path, sizeof path, "%s/probe-%s", st->dir, account);
    for (char *p = path + strlen(st->dir) + 1; n > 0 && *p; p++)
        if (*p == '/')
            *p = '_';
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, ERR_STORE, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        st->probe_fd = fd;
        return 1;
    }
    close(fd);
    return errno == EWOULDBLOCK
               ? 0
               : err_set(e, ERR_STORE, "%s: %s", path, strerror(errno));
}

void account_probe_end(struct account_store *st)
{
    if (st->probe_fd >= 0)
        close(st->probe_fd);
    st->probe_fd = -1;
}
