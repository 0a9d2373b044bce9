/*
 * The store on SQLite: one file, WAL, synced at every commit. Every statement is in one
 * of the tables below.
 */
#include "jobs/store.h"

#include "jobs/answers.h"
#include "jobs/files.h"
#include "runner/effect.h"
#include "runner/err.h"
#include "runner/log.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A change of the schema is one more string here, never an edit of an old one: a store
 * of version n gets migrations n, n+1, ... when it is opened for a run.
 */
static const char *const migrations[] = {
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
    "CREATE TABLE source (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE,"
    " bulk INT NOT NULL, whole INT NOT NULL DEFAULT 0, gone INT NOT NULL DEFAULT 0,"
    " stamp TEXT NOT NULL DEFAULT '', refs TEXT NOT NULL DEFAULT '', parked TEXT);"
    "CREATE TABLE job (id INTEGER PRIMARY KEY, state INT NOT NULL, outcome INT NOT NULL"
    " DEFAULT 0, gone INT NOT NULL DEFAULT 0, source INT NOT NULL, revision INT NOT "
    "NULL"
    " DEFAULT 1, line INT NOT NULL, scan INT NOT NULL, priority INT NOT NULL DEFAULT 0,"
    " lane TEXT, ready_at INT NOT NULL DEFAULT 0, ready_span INT NOT NULL DEFAULT 0,"
    " attempts INT NOT NULL DEFAULT 0, silent INT NOT NULL DEFAULT 0,"
    " asks INT NOT NULL DEFAULT 0, max_tokens INT NOT NULL DEFAULT 0,"
    " bytes INT NOT NULL DEFAULT 0, last_attempt INT NOT NULL DEFAULT 0,"
    " sendings INT NOT NULL DEFAULT 0, cost INT NOT NULL DEFAULT 0,"
    " first_started INT NOT NULL DEFAULT 0, finished INT NOT NULL DEFAULT 0,"
    " seq INT NOT NULL DEFAULT 0, rests INT NOT NULL DEFAULT 0,"
    " name TEXT NOT NULL UNIQUE, custom_id TEXT, digest BLOB NOT NULL, tier TEXT,"
    " model TEXT, effort TEXT, tags TEXT, says TEXT, type TEXT, members BLOB);"
    "CREATE INDEX job_ready ON job (lane, priority DESC, id)"
    " WHERE state = 0 AND gone = 0 AND ready_at = 0;"
    "CREATE INDEX job_rest ON job (ready_at) WHERE state = 0 AND ready_at > 0;"
    "CREATE INDEX job_source ON job (source);"
    "CREATE TABLE body (job INTEGER PRIMARY KEY, members BLOB NOT NULL);"
    "CREATE TABLE staged (job INTEGER PRIMARY KEY, source INT, line INT, priority INT,"
    " asks INT, max_tokens INT, bytes INT, lane TEXT, digest BLOB, tier TEXT, model "
    "TEXT,"
    " effort TEXT, tags TEXT, says TEXT, members BLOB);"
    /* An attempt is two rows that are each written once: what left, and how it ended.
     */
    "CREATE TABLE sending (id INTEGER PRIMARY KEY, job INT NOT NULL, revision INT NOT"
    " NULL, no INT NOT NULL, run INT NOT NULL, started INT NOT NULL, lane TEXT,"
    " tier TEXT, model TEXT, why TEXT, worst INT NOT NULL);"
    "CREATE TABLE ending (attempt INTEGER PRIMARY KEY, state INT NOT NULL, ended INT,"
    " verdict INT, status INT, request_id TEXT, says TEXT, tokens_in INT, tokens_out "
    "INT,"
    " cache_read INT, write_5m INT, write_1h INT, cost INT NOT NULL, message BLOB);"
    "CREATE INDEX ending_doubt ON ending (attempt) WHERE state = 2;"
    "CREATE VIEW attempt AS SELECT s.id, s.job, s.revision, s.no, s.run, s.started,"
    " e.ended, COALESCE(e.state, 0) AS state, e.verdict, e.status, s.lane, s.tier,"
    " s.model, s.why, e.request_id, e.says, e.tokens_in, e.tokens_out, e.cache_read,"
    " e.write_5m, e.write_1h, COALESCE(e.cost, 0) AS cost, s.worst, e.message"
    " FROM sending s LEFT JOIN ending e ON e.attempt = s.id;"
    "CREATE TABLE run (id INTEGER PRIMARY KEY, started INT NOT NULL, ended INT,"
    " first_attempt INT NOT NULL, reason TEXT, spent INT NOT NULL DEFAULT 0,"
    " tokens_in INT NOT NULL DEFAULT 0, tokens_out INT NOT NULL DEFAULT 0);"
    "CREATE TABLE result_file (source INTEGER PRIMARY KEY, inode INT NOT NULL DEFAULT "
    "0,"
    " length INT NOT NULL DEFAULT 0);"
    "CREATE TABLE request (id INTEGER PRIMARY KEY, verb TEXT NOT NULL, job TEXT, at "
    "INT);",
    /* raised: max_tokens, where an answer was cut and is asked for once more */
    "ALTER TABLE job ADD COLUMN max_cost INT NOT NULL DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN raised INT NOT NULL DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN turn INT NOT NULL DEFAULT 0;"
    "ALTER TABLE staged ADD COLUMN max_cost INT NOT NULL DEFAULT 0;"
    "ALTER TABLE staged ADD COLUMN turn INT NOT NULL DEFAULT 0;"
    "DROP INDEX job_ready;"
    "CREATE INDEX job_ready ON job (lane, priority DESC, turn, id)"
    " WHERE state = 0 AND gone = 0 AND ready_at = 0;",
    /* must: what its answer must pass; climb: the tier whose answer did not; checking:
     * the answer is stored, and a program judges it */
    "ALTER TABLE job ADD COLUMN must TEXT;"
    "ALTER TABLE job ADD COLUMN route TEXT;"
    "ALTER TABLE job ADD COLUMN climb TEXT;"
    "ALTER TABLE job ADD COLUMN checking INT NOT NULL DEFAULT 0;"
    "ALTER TABLE staged ADD COLUMN must TEXT;"
    "ALTER TABLE staged ADD COLUMN route TEXT;"
    "CREATE INDEX job_checking ON job (id) WHERE checking = 1;"
    "CREATE TABLE learned (key TEXT PRIMARY KEY, at INT NOT NULL, what BLOB NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE grade (job INTEGER PRIMARY KEY, fine INT NOT NULL, at INT NOT NULL,"
    " taken INT NOT NULL DEFAULT 0);"
    "CREATE INDEX grade_open ON grade (job) WHERE taken = 0;",
    /* What was pruned stays in the ledger, summed up. */
    "CREATE TABLE pruned (day TEXT, model TEXT, tier TEXT, lane TEXT, tags TEXT, run "
    "INT,"
    " attempts INT NOT NULL, done INT NOT NULL, tokens_in INT NOT NULL, tokens_out INT"
    " NOT NULL, cache_read INT NOT NULL, write_5m INT NOT NULL, write_1h INT NOT NULL,"
    " cost INT NOT NULL, PRIMARY KEY (day, model, tier, lane, tags, run)) WITHOUT "
    "ROWID;",
    /* what a report tells of a run beside its attempts */
    "CREATE TABLE history (run INT NOT NULL, kind INT NOT NULL, lane TEXT NOT NULL,"
    " at INT NOT NULL, until INT NOT NULL, held INT NOT NULL, times INT NOT NULL,"
    " rpm INT NOT NULL, itpm INT NOT NULL, otpm INT NOT NULL, word TEXT NOT NULL,"
    " says TEXT NOT NULL, PRIMARY KEY (run, kind, lane, at)) WITHOUT ROWID;",
    /* A long answer lies in answers.h's file: its place, in place of the message. */
    ("ALTER TABLE ending ADD COLUMN answer_at INT;"
     "ALTER TABLE ending ADD COLUMN answer_len INT;"),
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof migrations[0] };

#define JOB_COLUMNS                                                                    \
    "j.id, j.source, j.revision, j.line, j.priority, j.max_tokens, j.bytes, "          \
    "j.ready_at,"                                                                      \
    " j.seq, j.finished, j.state, j.outcome, j.asks, j.attempts, j.silent, j.gone,"    \
    " j.name, j.custom_id, j.lane, j.tier, j.model, j.effort, j.tags, j.says, j.type," \
    " s.path, s.bulk, j.rests, j.first_started, j.sendings, j.cost,"                   \
    " j.max_cost, j.raised, j.must, j.route, j.climb, j.members"
#define JOB_FROM " FROM job j JOIN source s ON s.id = j.source"
enum { JOB_COLUMN_COUNT = 37 };

#define ATTEMPT_COLUMNS                                                               \
    "a.id, a.job, a.revision, a.no, a.run, a.started, e.ended, COALESCE(e.state, 0)," \
    " e.verdict, e.status, a.lane, a.tier, a.model, a.why, e.request_id, e.says,"     \
    " e.tokens_in, e.tokens_out, e.cache_read, e.write_5m, e.write_1h,"               \
    " COALESCE(e.cost, 0), a.worst"
#define ANSWER_COLUMNS "e.message, e.answer_at, e.answer_len"
#define ATTEMPT_JOIN                                \
    " LEFT JOIN sending a ON a.id = j.last_attempt" \
    " LEFT JOIN ending e ON e.attempt = j.last_attempt"
enum { ATTEMPT_COLUMN_COUNT = 23 };

/* Of single jobs that came to rest before ?3, with their results on disk. */
#define OLD_ANSWERS                                                                 \
    "(SELECT j.last_attempt FROM job j JOIN source s ON s.id = j.source WHERE"      \
    " j.id >= ?1 AND j.id < ?2 AND j.state = 2 AND j.finished > 0 AND j.finished <" \
    " ?3 AND s.bulk = 0 AND j.seq <= COALESCE((SELECT CAST(value AS INT) FROM meta" \
    " WHERE key = 'results_seq'), 0))"

/* What the writer runs. */
#define WRITES(X)                                                                        \
    X(BEGIN, "BEGIN IMMEDIATE")                                                          \
    X(COMMIT, "COMMIT")                                                                  \
    X(ROLLBACK, "ROLLBACK")                                                              \
    X(SOURCE,                                                                            \
      "INSERT INTO source (id, path, bulk) VALUES (?1, ?2, ?3) ON CONFLICT (path)"       \
      " DO UPDATE SET whole = 0, gone = 0, stamp = '', parked = NULL")                   \
    X(SOURCE_END, "UPDATE source SET whole = 1, gone = 0, stamp = ?2, refs = ?3"         \
                  " WHERE id = ?1")                                                      \
    X(JOBS_GONE,                                                                         \
      "UPDATE job SET gone = 1 WHERE source = ?1 AND scan <> ?2 AND gone = 0")           \
    X(SOURCE_GONE, "UPDATE source SET gone = 1, whole = 0, stamp = '' WHERE id = ?1")    \
    X(NEW_JOB,                                                                           \
      "INSERT INTO job (state, outcome, source, line, scan, priority, lane,"             \
      " asks, max_tokens, bytes, name, custom_id, digest, tier, model, effort,"          \
      " tags, says, seq, finished, rests, members, max_cost, turn, must, route) "        \
      "VALUES (?1, "                                                                     \
      "?2, ?3, ?4,"                                                                      \
      " ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,"      \
      " ?19 > 0, ?21, ?22, ?23, ?24, ?25)"                                               \
      " ON CONFLICT (name) DO NOTHING")                                                  \
    X(KNOWN_JOB,                                                                         \
      "SELECT j.id, j.state, j.digest, j.source, j.scan, s.gone, j.outcome, j.gone"      \
      " FROM job j JOIN source s ON s.id = j.source WHERE j.name = ?1")                  \
    X(SEEN_JOB, "UPDATE job SET scan = ?2, gone = 0, source = ?3, line = ?4"             \
                " WHERE id = ?1")                                                        \
    X(CHANGE_JOB,                                                                        \
      "UPDATE job SET state = ?2, outcome = ?3, gone = 0, source = ?4,"                  \
      " line = ?5, scan = ?6, priority = ?7, lane = ?8, asks = ?9,"                      \
      " max_tokens = ?10, bytes = ?11, digest = ?12, tier = ?13,"                        \
      " model = ?14, effort = ?15, tags = ?16, says = ?17, seq ="                        \
      " CASE WHEN ?18 > 0 THEN ?18 ELSE seq END, rests = rests + (?18 > 0), finished "   \
      "= ?19, type ="                                                                    \
      " NULL, revision = revision + 1, ready_at = 0, attempts = 0, silent ="             \
      " 0, last_attempt = 0, members = ?20, max_cost = ?21, raised = 0, turn = ?22, "    \
      "must = ?23, route = ?24, climb = NULL, checking = 0 "                             \
      "WHERE id = ?1")                                                                   \
    X(PUT_BODY, "REPLACE INTO body (job, members) VALUES (?1, ?2)")                      \
    X(DROP_BODY, "DELETE FROM body WHERE job = ?1")                                      \
    X(STAGE,                                                                             \
      "REPLACE INTO staged (job, source, line, priority, asks, max_tokens, bytes,"       \
      " lane, digest, tier, model, effort, tags, says, members, max_cost, turn, "        \
      "must, route) "                                                                    \
      "VALUES (?1,"                                                                      \
      " ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, "   \
      "?19)")                                                                            \
    X(UNSTAGE_ONE, "DELETE FROM staged WHERE job = ?1")                                  \
    X(STAGED, "SELECT t.job, t.source, t.line, t.priority, t.asks, t.max_tokens,"        \
              " t.bytes, t.lane, t.digest, t.tier, t.model, t.effort, t.tags, t.says,"   \
              " t.members, j.scan, t.max_cost, t.turn, t.must, t.route FROM staged t "   \
              "JOIN job j ON "                                                           \
              "j.id = t.job"                                                             \
              " WHERE j.state <> 1 LIMIT ?1")                                            \
    X(UNSTAGE_SOURCES, "UPDATE source SET stamp = '', whole = 0 WHERE id IN"             \
                       " (SELECT source FROM staged)")                                   \
    X(UNSTAGE_ALL, "DELETE FROM staged")                                                 \
    X(SET_LANE, "UPDATE job SET lane = ?2 WHERE id = ?1 AND state = 0")                  \
    X(UNROUTE, "UPDATE job SET lane = NULL WHERE state = 0 AND lane IS NOT NULL")        \
    /* Nothing in this row may grow: it lies on a page that was filled to the brim,    \
     * and would be split off it. What grows is written by SETTLE, when the body goes. \
     */ \
    X(ADMIT,                                                                             \
      "UPDATE job SET state = 1, ready_at = 0, lane = ?3, sendings = sendings + 1"       \
      " WHERE id = ?1 AND state = 0 AND revision = ?2 AND gone = 0")                     \
    X(NEW_ATTEMPT, "INSERT INTO sending (id, job, revision, no, run, started,"           \
                   " lane, tier, model, why, worst) VALUES (?1, ?2, ?3, ?4, ?5, ?6,"     \
                   " ?7, ?8, ?9, ?10, ?11)")                                             \
    X(END_ATTEMPT,                                                                       \
      "INSERT INTO ending (attempt, state, ended, verdict, status, request_id, says,"    \
      " tokens_in, tokens_out, cache_read, write_5m, write_1h, cost, message,"           \
      " answer_at, answer_len)"                                                          \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"       \
      " ?16)")                                                                           \
    X(SETTLE,                                                                            \
      "UPDATE job SET state = ?2, outcome = ?3, ready_at = ?4, ready_span = ?5,"         \
      " attempts = ?6, silent = ?7, finished = ?8, says = ?9, type = ?10,"               \
      " raised = ?16, lane = COALESCE(?17, lane), climb = COALESCE(?18, climb), "        \
      "checking = ?19, cost = cost + ?11, sendings = sendings - ?12, seq ="              \
      " CASE WHEN ?13 > 0 THEN ?13 ELSE seq END, rests = rests + (?13 > 0), members ="   \
      " CASE WHEN ?2 = 2 AND ?20 = 0 THEN NULL ELSE members END, last_attempt = ?14, "   \
      "first_started "                                                                   \
      "="                                                                                \
      " CASE first_started WHEN 0 THEN ?15 ELSE first_started END"                       \
      " WHERE id = ?1 AND state = 1")                                                    \
    X(CHECKED,                                                                           \
      "UPDATE job SET state = ?2, outcome = ?3, finished = ?4, says = ?5, type = ?6,"    \
      " seq = CASE WHEN ?7 > 0 THEN ?7 ELSE seq END, rests = rests + (?7 > 0),"          \
      " lane = COALESCE(?8, lane), climb = COALESCE(?9, climb), checking = 0, "          \
      "members ="                                                                        \
      " CASE WHEN ?2 = 2 AND ?10 = 0 THEN NULL ELSE members END"                         \
      " WHERE id = ?1 AND state = 1 AND checking = 1")                                   \
    X(CHECK_SAYS, "UPDATE ending SET says = ?2 WHERE attempt = ?1")                      \
    X(LEARNED, "REPLACE INTO learned (key, at, what) VALUES (?1, ?2, ?3)")               \
    X(FORGET, "DELETE FROM learned")                                                     \
    X(GRADED, "UPDATE grade SET taken = 1 WHERE job = ?1")                               \
    X(GRADED_APART, "DELETE FROM body WHERE job = ?1 AND job IN (SELECT id FROM job"     \
                    " WHERE id = ?1 AND state = 2)")                                     \
    X(GRADED_BODY, "UPDATE job SET members = NULL WHERE id = ?1 AND state = 2")          \
    X(CHARGE, "UPDATE job SET attempts = attempts + ?2, silent = silent + ?3"            \
              " WHERE id = ?1 AND state = 0 AND revision = ?4")                          \
    X(GIVE_UP, "UPDATE job SET state = ?2, outcome = ?3, finished = ?4, says = ?5,"      \
               " seq = ?6, rests = rests + 1 WHERE id = ?1 AND state = 0")               \
    X(PARK_SOURCE, "UPDATE source SET parked = ?2 WHERE id = ?1")                        \
    X(PARK_JOBS, "UPDATE job SET state = 4, outcome = ?2, says = ?3, finished = ?4"      \
                 " WHERE id IN (SELECT id FROM job WHERE source = ?1 AND state = 0"      \
                 " LIMIT ?5)")                                                           \
    X(UNPARK,                                                                            \
      "UPDATE source SET parked = NULL WHERE parked IS NOT NULL AND id IN"               \
      " (SELECT source FROM job WHERE ?1 IS NULL OR name = ?1 OR name GLOB ?1)")         \
    X(RETRY, "UPDATE job SET state = 0, outcome = 0, ready_at = 0, attempts = 0,"        \
             " silent = 0, says = NULL, type = NULL, last_attempt = 0, raised = 0, "     \
             "climb = NULL"                                                              \
             " WHERE state IN "                                                          \
             "(3, 4) AND gone = 0"                                                       \
             " AND outcome <> ?2 AND (?1 IS NULL OR name = ?1 OR name GLOB ?1)")         \
    X(CANCELABLE, "SELECT id FROM job WHERE id > ?2 AND state IN (0, 4) AND"             \
                  " (name = ?1 OR name GLOB ?1) ORDER BY id LIMIT 1")                    \
    X(CANCEL, "UPDATE job SET state = 3, outcome = ?2, finished = ?3, seq = ?4, "        \
              "rests = rests + 1, says ="                                                \
              " 'canceled on request' WHERE id = ?1")                                    \
    X(DOUBT_OVER, "UPDATE ending SET state = 1 WHERE attempt = ?1 AND state = 2")        \
    X(DOUBT_COST, "UPDATE run SET spent = spent + (SELECT cost FROM ending WHERE"        \
                  " attempt = ?1) WHERE id = (SELECT run FROM sending WHERE id = ?1)")   \
    X(DROP_REQUEST, "DELETE FROM request WHERE id = ?1")                                 \
    X(RESULT_FILE, "REPLACE INTO result_file (source, inode, length) VALUES (?1, ?2,"    \
                   " ?3)")                                                               \
    X(RUN_BEGIN, "INSERT INTO run (id, started, first_attempt) VALUES (?1, ?2, ?3)")     \
    X(RUN_TOTALS, "UPDATE run SET spent = spent + ?2, tokens_in = tokens_in + ?3,"       \
                  " tokens_out = tokens_out + ?4 WHERE id = ?1")                         \
    X(RUN_END, "UPDATE run SET ended = ?1, reason = ?2 WHERE ended IS NULL")             \
    X(HISTORY,                                                                           \
      "INSERT INTO history (run, kind, lane, at, until, held, times, rpm, itpm,"         \
      " otpm, word, says) VALUES (?1, ?2, ?3, ?4, ?5, MAX(?5 - ?4, 0), 1, ?6,"           \
      " ?7, ?8, ?9, ?10) ON CONFLICT (run, kind, lane, at) DO UPDATE SET until"          \
      " = excluded.until, held = excluded.held, says = excluded.says")                   \
    X(HISTORY_COUNT, "SELECT COUNT(*), MIN(at), MAX(at) FROM history WHERE run = ?1"     \
                     " AND kind = ?2 AND lane = ?3")                                     \
    X(HISTORY_SPREAD,                                                                    \
      "UPDATE history AS h SET (until, held, times) = (SELECT MAX(x.until), "            \
      "SUM(x.held),"                                                                     \
      " SUM(x.times) FROM history x WHERE x.run = ?1 AND x.kind = ?2 AND x.lane = ?3"    \
      " AND x.at < ?4 AND x.at / ?5 = h.at / ?5) WHERE run = ?1 AND kind = ?2 AND "      \
      "lane"                                                                             \
      " = ?3 AND at < ?4 AND at IN (SELECT MIN(at) FROM history WHERE run = ?1 AND"      \
      " kind = ?2 AND lane = ?3 AND at < ?4 GROUP BY at / ?5)")                          \
    X(HISTORY_MERGE,                                                                     \
      "DELETE FROM history WHERE run = ?1 AND kind = ?2 AND lane = ?3 AND at < ?4 AND"   \
      " at NOT IN (SELECT MIN(at) FROM history WHERE run = ?1 AND kind = ?2 AND lane "   \
      "="                                                                                \
      " ?3 AND at < ?4 GROUP BY at / ?5)")                                               \
    X(META, "REPLACE INTO meta (key, value) VALUES (?1, ?2)")                            \
    /* Only what lies in the results as well, and never the newest: its number would be
     * given again. */  \
    X(PRUNE_PICK,                                                                        \
      "INSERT INTO doomed SELECT id FROM job WHERE id >= ?1 AND id < ?2 AND gone = 1"    \
      " AND ((state >= 2 AND finished > 0 AND finished < ?3) OR"                         \
      " (state = 0 AND sendings = 0)) AND seq < ?4 AND seq <= "                          \
      "COALESCE((SELECT CAST(value AS INT) FROM meta WHERE key = 'results_seq'), 0)"     \
      " AND id NOT IN (SELECT job FROM staged) AND id < (SELECT MAX(id) FROM job)")      \
    X(PRUNE_DOUBT, "DELETE FROM doomed WHERE job IN (SELECT a.job FROM ending e JOIN"    \
                   " sending a ON a.id = e.attempt WHERE e.state = 2)")                  \
    X(PRUNE_SUM,                                                                         \
      "INSERT INTO pruned SELECT date(a.started / 1000, 'unixepoch', 'localtime'),"      \
      " COALESCE(a.model, ''), COALESCE(a.tier, ''), COALESCE(a.lane, ''),"              \
      " COALESCE(j.tags, ''), a.run, COUNT(*), SUM(j.state = 2 AND j.last_attempt ="     \
      " a.id), TOTAL(e.tokens_in), TOTAL(e.tokens_out), TOTAL(e.cache_read),"            \
      " TOTAL(e.write_5m), TOTAL(e.write_1h), SUM(e.cost) FROM sending a JOIN ending "   \
      "e"                                                                                \
      " ON e.attempt = a.id JOIN job j ON j.id = a.job WHERE a.job IN (SELECT job "      \
      "FROM"                                                                             \
      " doomed) AND e.state <> 3 GROUP BY 1, 2, 3, 4, 5, 6 ON CONFLICT DO UPDATE SET"    \
      " attempts = attempts + excluded.attempts, done = done + excluded.done,"           \
      " tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out +"           \
      " excluded.tokens_out, cache_read = cache_read + excluded.cache_read,"             \
      " write_5m = write_5m + excluded.write_5m, write_1h = write_1h +"                  \
      " excluded.write_1h, cost = cost + excluded.cost")                                 \
    X(PRUNE_ENDING,                                                                      \
      "DELETE FROM ending WHERE attempt IN (SELECT id FROM sending WHERE"                \
      " job IN (SELECT job FROM doomed))")                                               \
    X(PRUNE_SENDING, "DELETE FROM sending WHERE job IN (SELECT job FROM doomed)")        \
    X(PRUNE_BODY, "DELETE FROM body WHERE job IN (SELECT job FROM doomed)")              \
    X(PRUNE_GRADE, "DELETE FROM grade WHERE job IN (SELECT job FROM doomed)")            \
    X(PRUNE_JOB, "DELETE FROM job WHERE id IN (SELECT job FROM doomed)")                 \
    /* A bulk file's row stays: its results file may be added to one day. */             \
    X(PRUNE_SOURCE, "DELETE FROM source WHERE gone = 1 AND bulk = 0 AND NOT EXISTS"      \
                    " (SELECT 1 FROM job WHERE job.source = source.id) AND id <"         \
                    " (SELECT MAX(id) FROM source)")                                     \
    X(PRUNE_HISTORY,                                                                     \
      "DELETE FROM history WHERE run IN (SELECT id FROM run WHERE ended <"               \
      " ?1)")                                                                            \
    X(PRUNE_CLEAR, "DELETE FROM doomed")                                                 \
    X(PRUNE_ANSWERS,                                                                     \
      "UPDATE ending SET message = NULL, answer_at = NULL, answer_len ="                 \
      " NULL WHERE (message IS NOT NULL OR answer_at IS NOT NULL) AND"                   \
      " attempt IN " OLD_ANSWERS)                                                        \
    X(OLD_LONG, "SELECT answer_at, answer_len FROM ending WHERE answer_at IS NOT NULL"   \
                " AND attempt IN " OLD_ANSWERS)                                          \
    X(DOOMED_LONG,                                                                       \
      "SELECT answer_at, answer_len FROM ending WHERE answer_at IS NOT NULL AND"         \
      " attempt IN (SELECT id FROM sending WHERE job IN (SELECT job FROM doomed))")      \
    X(MAX_JOB, "SELECT COALESCE(MAX(id), 0) FROM job")                                   \
    X(MAX_SEQ, "SELECT COALESCE(MAX(seq), 0) FROM job WHERE seq > 0")                    \
    X(CLIP, "UPDATE job SET ready_at = ?1 + ready_span WHERE state = 0 AND"              \
            " ready_at > ?1 + ready_span")

#define LEDGER(live, old)                                                            \
    "SELECT k, SUM(n), SUM(d), SUM(ti), SUM(tn), SUM(cr), SUM(w5), SUM(w1), SUM(c)," \
    " SUM(x), SUM(xl), SUM(xh) FROM (SELECT " live " AS k, COUNT(*) AS n,"           \
    " SUM(j.state = 2 AND j.last_attempt = a.id) AS d, SUM(e.tokens_in) AS ti,"      \
    " SUM(e.tokens_out) AS tn, SUM(e.cache_read) AS cr, SUM(e.write_5m) AS w5,"      \
    " SUM(e.write_1h) AS w1, SUM(CASE e.state WHEN 1 THEN e.cost ELSE 0 END) AS c,"  \
    " SUM(e.state = 2) AS x, SUM(CASE e.state WHEN 2 THEN e.cost ELSE 0 END) AS xl," \
    " SUM(CASE e.state WHEN 2 THEN a.worst ELSE 0 END) AS xh"                        \
    " FROM ending e JOIN sending a ON a.id = e.attempt JOIN job j ON j.id = a.job"   \
    " WHERE e.state <> 3 GROUP BY 1 UNION ALL SELECT " old                           \
    ", attempts, done, tokens_in,"                                                   \
    " tokens_out, cache_read, write_5m, write_1h, cost, 0, 0, 0 FROM pruned)"        \
    " GROUP BY 1 ORDER BY 1"

/* Attempts of a run: numbers rise from one run to the next. */
#define OF_RUN                                                                \
    " WHERE a.id >= (SELECT first_attempt FROM run WHERE id = ?1) AND a.id <" \
    " (SELECT COALESCE(MIN(first_attempt), 9223372036854775807) FROM run"     \
    " WHERE id > ?1) AND a.run = ?1"

/* What the reader runs. */
#define READS(X)                                                                       \
    X(SOURCE_OF, "SELECT id, path, stamp, refs, parked, bulk, whole, gone FROM source" \
                 " WHERE path = ?1")                                                   \
    X(SOURCES, "SELECT id, path, stamp, refs, parked, bulk, whole, gone FROM source")  \
    X(READY, "SELECT " JOB_COLUMNS JOB_FROM " WHERE j.lane IS ?1 AND j.state = 0 AND"  \
             " j.gone = 0 AND j.ready_at = 0 AND s.parked IS NULL"                     \
             " ORDER BY j.priority DESC, j.turn, j.id")                                \
    X(RESTED,                                                                          \
      "SELECT " JOB_COLUMNS JOB_FROM " WHERE j.state = 0 AND j.ready_at > 0 AND"       \
      " j.ready_at <= ?1 AND j.gone = 0 AND s.parked IS NULL"                          \
      " ORDER BY j.ready_at")                                                          \
    X(NEXT_REST,                                                                       \
      "SELECT MIN(ready_at) FROM job WHERE state = 0 AND gone = 0 AND ready_at > ?1")  \
    X(BODY, "SELECT members FROM body WHERE job = ?1")                                 \
    X(LANES, "SELECT DISTINCT lane FROM job WHERE state = 0 AND gone = 0 AND lane IS"  \
             " NOT NULL")                                                              \
    X(WAITING, "SELECT lane, COUNT(*) FROM job WHERE state = 0 AND gone = 0 AND"       \
               " ready_at = 0 AND lane IS NOT NULL GROUP BY lane")                     \
    X(OUT, "SELECT " ATTEMPT_COLUMNS ", " JOB_COLUMNS " FROM sending a"                \
           " LEFT JOIN ending e ON e.attempt = a.id"                                   \
           " JOIN job j ON j.id = a.job JOIN source s ON s.id = j.source"              \
           " WHERE a.id >= (SELECT MIN(first_attempt) FROM run WHERE ended IS NULL)"   \
           " AND e.attempt IS NULL")                                                   \
    X(ATTEMPTS_OF, "SELECT " ATTEMPT_COLUMNS " FROM sending a LEFT JOIN ending e ON"   \
                   " e.attempt = a.id WHERE a.job = ?1 ORDER BY a.id")                 \
    X(ATTEMPTS, "SELECT " ATTEMPT_COLUMNS " FROM sending a LEFT JOIN ending e ON"      \
                " e.attempt = a.id WHERE a.id >= (SELECT first_attempt FROM run WHERE" \
                " id = ?1) AND a.run = ?1")                                            \
    X(DOUBTS,                                                                          \
      "SELECT " ATTEMPT_COLUMNS ", " JOB_COLUMNS " FROM ending e JOIN sending a"       \
      " ON a.id = e.attempt JOIN job j ON j.id = a.job JOIN source s ON s.id ="        \
      " j.source WHERE e.state = 2")                                                   \
    X(LEDGER_DAY, LEDGER("date(a.started / 1000, 'unixepoch', 'localtime')", "day"))   \
    X(LEDGER_MODEL, LEDGER("a.model", "model"))                                        \
    X(LEDGER_TIER, LEDGER("a.tier", "tier"))                                           \
    X(LEDGER_LANE, LEDGER("a.lane", "lane"))                                           \
    X(LEDGER_TAG, LEDGER("COALESCE(j.tags, '')", "tags"))                              \
    X(LEDGER_RUN, LEDGER("a.run", "run"))                                              \
    X(RESULTS, "SELECT " JOB_COLUMNS ", " ATTEMPT_COLUMNS                              \
               ", " ANSWER_COLUMNS JOB_FROM ATTEMPT_JOIN                               \
               " WHERE j.seq > ?1 AND j.state >= 2 ORDER BY j.id")                     \
    X(RESULTS_OF, "SELECT " JOB_COLUMNS ", " ATTEMPT_COLUMNS                           \
                  ", " ANSWER_COLUMNS JOB_FROM ATTEMPT_JOIN                            \
                  " WHERE j.source = ?2 AND j.seq > ?1 AND j.state >= 2")              \
    X(RESULT,                                                                          \
      "SELECT " JOB_COLUMNS ", " ATTEMPT_COLUMNS                                       \
      ", " ANSWER_COLUMNS JOB_FROM ATTEMPT_JOIN " WHERE j.id = ?1 AND j.state >= 2")   \
    X(FINISHED, "SELECT id FROM job WHERE seq > 0 AND state >= 2 ORDER BY seq")        \
    X(CHECKING, "SELECT " JOB_COLUMNS ", " ATTEMPT_COLUMNS                             \
                ", " ANSWER_COLUMNS JOB_FROM ATTEMPT_JOIN " WHERE j.checking = 1")     \
    X(GRADES,                                                                          \
      "SELECT g.fine, a.tier, " JOB_COLUMNS " FROM grade g JOIN job j ON j.id"         \
      " = g.job JOIN source s ON s.id = j.source LEFT JOIN sending a ON a.id ="        \
      " j.last_attempt WHERE g.taken = 0 LIMIT ?1")                                    \
    X(GRADE, "INSERT INTO grade (job, fine, at) VALUES (?1, ?2, ?3) ON CONFLICT (job)" \
             " DO UPDATE SET fine = ?2, at = ?3, taken = 0")                           \
    X(GET_LEARNED, "SELECT what FROM learned WHERE key = ?1")                          \
    X(FILE, "SELECT source, inode, length FROM result_file WHERE source = ?1")         \
    /* One pass and no sorting: a million rows would be sorted in memory. */           \
    X(STATES, "SELECT COUNT(*), TOTAL(gone), TOTAL(gone = 0 AND outcome = ?1),"        \
              " TOTAL(gone = 0 AND state = 0), TOTAL(gone = 0 AND state = 1),"         \
              " TOTAL(gone = 0 AND state = 2), TOTAL(gone = 0 AND state = 3),"         \
              " TOTAL(gone = 0 AND state = 4), MAX(turn) FROM job")                    \
    X(DOUBT, "SELECT COUNT(*), COALESCE(SUM(e.cost), 0), COALESCE(SUM(a.worst), 0)"    \
             " FROM ending e JOIN sending a ON a.id = e.attempt WHERE e.state = 2")    \
    X(SPENT, "SELECT COALESCE(SUM(spent), 0), COALESCE(SUM(tokens_in), 0),"            \
             " COALESCE(SUM(tokens_out), 0) FROM run")                                 \
    X(NEXT_IDS, "SELECT MAX((SELECT COALESCE(MAX(id), 0) + 1 FROM sending),"           \
                " (SELECT COALESCE(MAX(first_attempt), 0) FROM run)),"                 \
                " (SELECT COALESCE(MAX(id), 0) + 1 FROM run),"                         \
                " (SELECT COALESCE(MAX(id), 0) + 1 FROM source)")                      \
    X(STAGED_COUNT,                                                                    \
      "SELECT COALESCE(SUM(j.state = 2), 0), COUNT(*) FROM staged t JOIN"              \
      " job j ON j.id = t.job")                                                        \
    X(REQUESTS, "SELECT id, verb, job FROM request ORDER BY id")                       \
    X(ASK, "INSERT INTO request (verb, job, at) VALUES (?1, ?2, ?3)")                  \
    X(FIND, "SELECT " JOB_COLUMNS JOB_FROM " WHERE j.name = ?1")                       \
    X(IN_STATE, "SELECT " JOB_COLUMNS JOB_FROM " WHERE j.state = ?1 AND j.gone = 0"    \
                " ORDER BY j.finished DESC LIMIT ?2")                                  \
    X(OPEN_RUNS, "SELECT id, started, spent FROM run WHERE ended IS NULL")             \
    X(RUNS, "SELECT id, started, spent, COALESCE(ended, 0), first_attempt, tokens_in," \
            " tokens_out, COALESCE(reason, '') FROM run ORDER BY id DESC")             \
    X(RUN_SENT, "SELECT run FROM sending ORDER BY id DESC LIMIT 1")                    \
    X(RUN_SPAN,                                                                        \
      "SELECT COALESCE(MIN(a.started), 0), COALESCE(MAX(COALESCE(e.ended, a.started))" \
      ", 0) FROM sending a LEFT JOIN ending e ON e.attempt = a.id" OF_RUN)             \
    X(RUN_SINCE,                                                                       \
      "SELECT COALESCE(MIN(a.id), 9223372036854775807) FROM sending a" OF_RUN          \
      " AND a.started >= ?2")                                                          \
    X(SENT, "SELECT " ATTEMPT_COLUMNS ", " JOB_COLUMNS                                 \
            ", j.state >= 2 AND j.last_attempt = a.id FROM sending a LEFT JOIN ending" \
            " e ON e.attempt = a.id JOIN job j ON j.id = a.job JOIN source s ON s.id"  \
            " = j.source" OF_RUN " AND a.id >= ?2")                                    \
    X(BEFORE, "SELECT " JOB_COLUMNS ", " ATTEMPT_COLUMNS JOB_FROM ATTEMPT_JOIN         \
              " WHERE j.state >= 2 AND j.last_attempt > 0 AND j.last_attempt < ?1")    \
    X(FAILED_ROWS,                                                                     \
      "SELECT " JOB_COLUMNS JOB_FROM " WHERE j.state >= 3 AND j.gone = 0")             \
    X(HISTORY, "SELECT kind, lane, at, until, held, times, rpm, itpm, otpm, word,"     \
               " says FROM history WHERE run = ?1 ORDER BY kind, lane, at")            \
    X(GET_META, "SELECT value FROM meta WHERE key = ?1")

enum {
#define X(name, sql) W_##name,
    WRITES(X) W_COUNT
#undef X
};
enum {
#define X(name, sql) R_##name,
    READS(X) R_COUNT
#undef X
};

static const char *const write_sql[] = {
#define X(name, sql) [W_##name] = sql,
    WRITES(X)
#undef X
};
static const char *const read_sql[] = {
#define X(name, sql) [R_##name] = sql,
    READS(X)
#undef X
};

enum {
    LENT_MAX = 13,
    TWINS = 1024,
    INLINE_MAX = 2000, /* bytes of a body in the job's own row: a few rows a page */
    /* A shorter answer lies in its row: a file of its own costs one more sync a commit,
     * which is less than its pages from about so many bytes on. */
    APART_MIN = 4096,
};

/* How often a digest without a name of its own came in a scan. A cache: a slot that
 * another digest takes over costs a search, not a wrong name. */
struct twin {
    unsigned char digest[DIGEST_BYTES];
    int64_t scan;
    int count;
};

struct store {
    sqlite3 *writer, *reader;
    sqlite3_stmt *w[W_COUNT], *r[R_COUNT];
    struct answers *answers;
    bool sync;
    enum store_use use;
    char lost[400];
    int64_t next_seq;
    struct twin twins[TWINS];
    char *lent[LENT_MAX]; /* what store_source() and store_find() gave last */
    char path[4096];
};

static int refused(sqlite3 *db, const char *doing, struct err *e)
{
    return err_set(e, ERR_STORE, "%s: %s", doing, sqlite3_errmsg(db));
}

/* --- binding, by position --- */

static void bind_text(sqlite3_stmt *q, int at, const char *s)
{
    if (s)
        sqlite3_bind_text(q, at, s, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, at);
}

static const char *text_at(sqlite3_stmt *q, int col)
{
    return (const char *)sqlite3_column_text(q, col);
}

/* --- opening --- */

static int prepare(sqlite3 *db, sqlite3_stmt **to, const char *const *sql, size_t n,
                   struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &to[i],
                               NULL) != SQLITE_OK)
            return refused(db, "the store cannot be read", e);
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

static int migrate(sqlite3 *db, struct err *e)
{
    int version = version_of(db);
    if (version < 0)
        return refused(db, "the store cannot be read", e);
    if (version > SCHEMA_VERSION)
        return err_set(
            e, ERR_STORE,
            "the store is of a newer nightmill (version %d, this one knows %d)",
            version, SCHEMA_VERSION);
    for (; version < SCHEMA_VERSION; version++) {
        char done[64];
        snprintf(done, sizeof done, "PRAGMA user_version = %d", version + 1);
        if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, migrations[version], NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, done, NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
            refused(db, "the store cannot be set up", e);
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return -1;
        }
    }
    return 0;
}

static int connect_to(const char *path, int flags, const char *pragmas, sqlite3 **ret,
                      struct err *e)
{
    if (sqlite3_open_v2(path, ret, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return refused(*ret, path, e);
    sqlite3_busy_timeout(*ret, 10000);
    if (sqlite3_exec(*ret, pragmas, NULL, NULL, NULL) != SQLITE_OK)
        return refused(*ret, path, e);
    return 0;
}

static int open_writer(struct store *st, const char *dir, bool sync, struct err *e)
{
    char pragmas[200];
    snprintf(
        pragmas, sizeof pragmas,
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = %s;"
        " PRAGMA wal_autocheckpoint = 4000; PRAGMA temp_store = MEMORY",
        sync ? "FULL" : "OFF");
    if (connect_to(st->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, pragmas,
                   &st->writer, e) < 0 ||
        migrate(st->writer, e) < 0 ||
        sqlite3_exec(st->writer, "CREATE TEMP TABLE doomed (job INTEGER PRIMARY KEY)",
                     NULL, NULL, NULL) != SQLITE_OK ||
        prepare(st->writer, st->w, write_sql, W_COUNT, e) < 0)
        return -1;
    /* The file's own name must outlive a power cut as well. */
    if (sync && files_sync_dir(dir, e) < 0)
        return -1;
    sqlite3_stmt *q = st->w[W_MAX_SEQ];
    if (sqlite3_step(q) != SQLITE_ROW)
        return refused(st->writer, st->path, e);
    st->next_seq = sqlite3_column_int64(q, 0) + 1;
    sqlite3_reset(q);
    return 0;
}

/* How far rows point into the file of long answers is told with each list that adds to it.
 * A store copied without that file, say, is not a reason to mix answers up. */
static int know_answers(struct store *st, const char *dir, struct err *e)
{
    char end[24];
    if (store_meta(st, "answers_end", end, sizeof end, e) < 0)
        return -1;
    if (answers_known(st->answers, strtoll(end, NULL, 10)))
        log_error("%s/answers is shorter than the store says: long answers of earlier "
                  "runs are lost; was queue.db copied or put back without it?",
                  dir);
    return 0;
}

void store_set_up(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

struct store *store_open(const char *dir, enum store_use use, bool sync, struct err *e)
{
    struct store *st = calloc(1, sizeof *st);
    if (st == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    snprintf(st->path, sizeof st->path, "%s/queue.db", dir);
    bool write = use != STORE_ASK;
    st->sync = sync;
    st->use = use;
    if ((st->answers = answers_open(dir, write, e)) == NULL)
        goto bad;
    if (write && open_writer(st, dir, sync, e) < 0)
        goto bad;
    /* One connection for both, with its one cache: a reader of its own would throw its
     * cache away at every commit. */
    if (write)
        st->reader = st->writer;
    else if (connect_to(st->path, SQLITE_OPEN_READWRITE, "PRAGMA synchronous = FULL",
                        &st->reader, e) < 0)
        goto bad;
    if (version_of(st->reader) != SCHEMA_VERSION) {
        err_set(
            e, ERR_STORE,
            "the store is of another version of nightmill; `nightmill run` brings it "
            "up to date");
        goto bad;
    }
    if (prepare(st->reader, st->r, read_sql, R_COUNT, e) < 0 ||
        (use == STORE_RUN && know_answers(st, dir, e) < 0))
        goto bad;
    return st;

bad:
    files_blame_disk(dir, e);
    store_close(st);
    return NULL;
}

void store_close(struct store *st)
{
    if (st == NULL)
        return;
    for (int i = 0; i < W_COUNT; i++)
        sqlite3_finalize(st->w[i]);
    for (int i = 0; i < R_COUNT; i++)
        sqlite3_finalize(st->r[i]);
    for (int i = 0; i < LENT_MAX; i++)
        free(st->lent[i]);
    if (st->reader != st->writer)
        sqlite3_close(st->reader);
    sqlite3_close(st->writer);
    answers_close(st->answers);
    free(st);
}

int store_copy(const char *dir, const char *to, struct err *e)
{
    char from[4096], path[4096];
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    snprintf(from, sizeof from, "%s/queue.db", dir);
    snprintf(path, sizeof path, "%s/queue.db", to);
    int rc = connect_to(from, SQLITE_OPEN_READWRITE, "PRAGMA synchronous = OFF", &db,
                        e);
    if (rc == 0 &&
        (sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &q, NULL) != SQLITE_OK ||
         sqlite3_bind_text(q, 1, path, -1, SQLITE_STATIC) != SQLITE_OK ||
         sqlite3_step(q) != SQLITE_DONE))
        rc = refused(db, from, e);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return rc;
}

void store_checkpoint(struct store *st)
{
    sqlite3_wal_checkpoint_v2(st->writer, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

/* --- moves --- */

void moves_init(struct moves *m)
{
    *m = (struct moves){.last = &m->first};
}

struct move *moves_add(struct moves *m, enum move_kind kind)
{
    struct move *v = m->spare ? m->spare : malloc(sizeof *v);
    if (v == NULL)
        return NULL;
    if (v == m->spare) {
        m->spare = v->next;
        m->spare_count--;
    }
    *v = (struct move){.kind = kind};
    *m->last = v;
    m->last = &v->next;
    m->count++;
    return v;
}

static void free_moves(struct move *v)
{
    for (struct move *next; v; v = next) {
        next = v->next;
        free(v);
    }
}

void moves_clear(struct moves *m)
{
    struct move *v = m->first, *next;
    for (; v && m->spare_count < MOVES_SPARE_MAX; v = next, m->spare_count++) {
        next = v->next;
        v->next = m->spare;
        m->spare = v;
    }
    free_moves(v);
    m->first = NULL;
    m->last = &m->first;
    m->count = 0;
}

void moves_free(struct moves *m)
{
    free_moves(m->first);
    free_moves(m->spare);
    moves_init(m);
}

/* Run a statement that gives no rows; tells how many rows it changed, or -1. */
static int64_t run(struct store *st, int which)
{
    sqlite3_stmt *q = st->w[which];
    int rc = sqlite3_step(q);
    int64_t changed = rc == SQLITE_DONE ? sqlite3_changes64(st->writer) : -1;
    sqlite3_reset(q);
    return changed;
}

static int64_t run_id(struct store *st, int which, int64_t id)
{
    sqlite3_bind_int64(st->w[which], 1, id);
    return run(st, which);
}

static int apply_source(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_SOURCE];
    sqlite3_bind_int64(q, 1, v->source);
    bind_text(q, 2, v->name);
    sqlite3_bind_int64(q, 3, v->count);
    return run(st, W_SOURCE) < 0 ? -1 : 0;
}

static int apply_source_end(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_SOURCE_END];
    sqlite3_bind_int64(q, 1, v->source);
    bind_text(q, 2, v->text);
    bind_text(q, 3, v->name ? v->name : "");
    if (run(st, W_SOURCE_END) < 0)
        return -1;
    if (!v->gone)
        return 0;
    q = st->w[W_JOBS_GONE];
    sqlite3_bind_int64(q, 1, v->source);
    sqlite3_bind_int64(q, 2, v->in.scan);
    v->changed = run(st, W_JOBS_GONE);
    return v->changed < 0 ? -1 : 0;
}

static int apply_source_gone(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_JOBS_GONE];
    sqlite3_bind_int64(q, 1, v->source);
    sqlite3_bind_int64(q, 2, -1); /* no scan has this number: all of them */
    v->changed = run(st, W_JOBS_GONE);
    return v->changed < 0 || run_id(st, W_SOURCE_GONE, v->source) < 0 ? -1 : 0;
}

/* A job's words, bound from position `at` on, as NEW_JOB and CHANGE_JOB share them. */
static void bind_spec(sqlite3_stmt *q, int at, const struct job_spec *s)
{
    static const struct job_spec none;
    if (s == NULL)
        s = &none;
    bind_text(q, at, s->tier);
    bind_text(q, at + 1, s->model);
    bind_text(q, at + 2, s->effort);
    bind_text(q, at + 3, s->tags);
}

/*
 * A short body lies in the job's own row: a statement less for each of a million short
 * jobs. A long one lies apart, so that the row can move without dragging it along.
 */
static void bind_members(sqlite3_stmt *q, int at, const struct job_spec *s)
{
    if (s && s->body_len <= INLINE_MAX)
        sqlite3_bind_blob64(q, at, s->body, s->body_len, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, at);
}

static int put_body(struct store *st, int64_t job, const struct job_spec *s)
{
    if (s == NULL || s->body_len <= INLINE_MAX)
        return 0;
    sqlite3_stmt *q = st->w[W_PUT_BODY];
    sqlite3_bind_int64(q, 1, job);
    sqlite3_bind_blob64(q, 2, s->body, s->body_len, SQLITE_STATIC);
    return run(st, W_PUT_BODY) < 0 ? -1 : 0;
}

/* 1: a row was made; 0: the name is taken; -1. */
static int new_job(struct store *st, struct move *v, const char *name)
{
    const struct job_spec *s = v->in.spec;
    sqlite3_stmt *q = st->w[W_NEW_JOB];
    sqlite3_bind_int(q, 1, s ? JOB_QUEUED : JOB_FAILED);
    sqlite3_bind_int(q, 2, s ? OUTCOME_NONE : OUTCOME_INVALID);
    sqlite3_bind_int64(q, 3, v->source);
    sqlite3_bind_int64(q, 4, v->in.line);
    sqlite3_bind_int64(q, 5, v->in.scan);
    sqlite3_bind_int64(q, 6, s ? s->priority : 0);
    bind_text(q, 7, v->in.lane);
    sqlite3_bind_int64(q, 8, s ? s->asks : 0);
    sqlite3_bind_int64(q, 9, s ? s->max_tokens : 0);
    sqlite3_bind_int64(q, 10, s ? (int64_t)s->body_len : 0);
    bind_text(q, 11, name);
    bind_text(q, 12, v->in.custom_id);
    sqlite3_bind_blob(q, 13, v->in.digest, DIGEST_BYTES, SQLITE_STATIC);
    bind_spec(q, 14, s);
    bind_text(q, 18, v->text);
    sqlite3_bind_int64(q, 19, s ? 0 : st->next_seq);
    sqlite3_bind_int64(q, 20, s ? 0 : v->now);
    bind_members(q, 21, s);
    sqlite3_bind_int64(q, 22, s ? s->max_cost : 0);
    sqlite3_bind_int64(q, 23, v->in.turn);
    bind_text(q, 24, s ? s->check : NULL);
    bind_text(q, 25, s ? s->route : NULL);
    int64_t changed = run(st, W_NEW_JOB);
    if (changed != 1)
        return (int)changed;
    v->job = sqlite3_last_insert_rowid(st->writer);
    if (s == NULL)
        v->seq = st->next_seq++;
    else if (put_body(st, v->job, s) < 0)
        return -1;
    return 1;
}

static int change_job(struct store *st, struct move *v)
{
    const struct job_spec *s = v->in.spec;
    sqlite3_stmt *q = st->w[W_CHANGE_JOB];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int(q, 2, s ? JOB_QUEUED : JOB_FAILED);
    sqlite3_bind_int(q, 3, s ? OUTCOME_NONE : OUTCOME_INVALID);
    sqlite3_bind_int64(q, 4, v->source);
    sqlite3_bind_int64(q, 5, v->in.line);
    sqlite3_bind_int64(q, 6, v->in.scan);
    sqlite3_bind_int64(q, 7, s ? s->priority : 0);
    bind_text(q, 8, v->in.lane);
    sqlite3_bind_int64(q, 9, s ? s->asks : 0);
    sqlite3_bind_int64(q, 10, s ? s->max_tokens : 0);
    sqlite3_bind_int64(q, 11, s ? (int64_t)s->body_len : 0);
    sqlite3_bind_blob(q, 12, v->in.digest, DIGEST_BYTES, SQLITE_STATIC);
    bind_spec(q, 13, s);
    bind_text(q, 17, v->text);
    sqlite3_bind_int64(q, 18, s ? 0 : st->next_seq);
    sqlite3_bind_int64(q, 19, s ? 0 : v->now);
    bind_members(q, 20, s);
    sqlite3_bind_int64(q, 21, s ? s->max_cost : 0);
    sqlite3_bind_int64(q, 22, v->in.turn);
    bind_text(q, 23, s ? s->check : NULL);
    bind_text(q, 24, s ? s->route : NULL);
    if (run(st, W_CHANGE_JOB) != 1)
        return -1;
    if (s == NULL)
        v->seq = st->next_seq++;
    return run_id(st, W_DROP_BODY, v->job) < 0 || put_body(st, v->job, s) < 0 ? -1 : 0;
}

static int seen_job(struct store *st, const struct move *v)
{
    sqlite3_stmt *q = st->w[W_SEEN_JOB];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int64(q, 2, v->in.scan);
    sqlite3_bind_int64(q, 3, v->source);
    sqlite3_bind_int64(q, 4, v->in.line);
    return run(st, W_SEEN_JOB) == 1 ? 0 : -1;
}

static int stage_job(struct store *st, struct move *v)
{
    const struct job_spec *s = v->in.spec;
    sqlite3_stmt *q = st->w[W_STAGE];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int64(q, 2, v->source);
    sqlite3_bind_int64(q, 3, v->in.line);
    sqlite3_bind_int64(q, 4, s ? s->priority : 0);
    sqlite3_bind_int64(q, 5, s ? s->asks : 0);
    sqlite3_bind_int64(q, 6, s ? s->max_tokens : 0);
    sqlite3_bind_int64(q, 7, s ? (int64_t)s->body_len : 0);
    bind_text(q, 8, v->in.lane);
    sqlite3_bind_blob(q, 9, v->in.digest, DIGEST_BYTES, SQLITE_STATIC);
    bind_spec(q, 10, s);
    bind_text(q, 14, v->text);
    if (s)
        sqlite3_bind_blob64(q, 15, s->body, s->body_len, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, 15);
    sqlite3_bind_int64(q, 16, s ? s->max_cost : 0);
    sqlite3_bind_int64(q, 17, v->in.turn);
    bind_text(q, 18, s ? s->check : NULL);
    bind_text(q, 19, s ? s->route : NULL);
    v->in.taken = TAKEN_STAGED;
    return run(st, W_STAGE) < 0 ? -1 : seen_job(st, v);
}

struct known {
    int64_t id, source, scan;
    enum job_outcome outcome;
    enum job_state state;
    bool owner_gone, gone, same;
};

/* 1 found, 0 not, -1. */
static int known_job(struct store *st, const struct move *v, const char *name,
                     struct known *k)
{
    sqlite3_stmt *q = st->w[W_KNOWN_JOB];
    bind_text(q, 1, name);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        k->id = sqlite3_column_int64(q, 0);
        k->state = (enum job_state)sqlite3_column_int(q, 1);
        const void *digest = sqlite3_column_blob(q, 2);
        k->same = digest && sqlite3_column_bytes(q, 2) == DIGEST_BYTES &&
                  memcmp(digest, v->in.digest, DIGEST_BYTES) == 0;
        k->source = sqlite3_column_int64(q, 3);
        k->scan = sqlite3_column_int64(q, 4);
        k->owner_gone = sqlite3_column_int(q, 5);
        k->outcome = (enum job_outcome)sqlite3_column_int(q, 6);
        k->gone = sqlite3_column_int(q, 7);
    }
    sqlite3_reset(q);
    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}

/* The name is somebody else's: an invalid row under the next free name of its kind. */
static int take_in_duplicate(struct store *st, struct move *v)
{
    char name[STORE_NAME_MAX + 32], says[300];
    snprintf(says, sizeof says,
             "%.120s:%" PRId64
             ": the name %.100s is taken by an earlier job; want another",
             v->in.path, v->in.line, v->name);
    v->in.spec = NULL;
    v->text = says;
    v->in.taken = TAKEN_DUPLICATE;
    for (int k = 2; k < 1000000; k++) {
        struct known known;
        if (v->in.other_name && k == 2)
            snprintf(name, sizeof name, "%s", v->in.other_name);
        else
            snprintf(name, sizeof name, "%s~%d", v->name, k);
        int rc = known_job(st, v, name, &known);
        if (rc == 0)
            rc = new_job(st, v, name) == 1 ? 0 : -1;
        else if (rc > 0 &&
                 (known.scan == v->in.scan || known.source != v->source ||
                  known.state != JOB_FAILED || known.outcome != OUTCOME_INVALID))
            continue; /* somebody else's row, or this scan's */
        else if (rc > 0) {
            v->job = known.id;
            rc = known.same ? seen_job(st, v) : change_job(st, v);
        }
        v->text = NULL;
        return rc;
    }
    return -1;
}

/* The name for the next line of these bytes in this scan: bare, ~2, ~3, ... Lines that
 * are all the same must not search from the start each time. */
static int name_by_digest(struct store *st, const struct move *v, char *name,
                          size_t size)
{
    struct twin *t = &st->twins[v->in.digest[0] | (v->in.digest[1] & 3) << 8];
    if (t->scan != v->in.scan || memcmp(t->digest, v->in.digest, DIGEST_BYTES) != 0) {
        *t = (struct twin){.scan = v->in.scan};
        memcpy(t->digest, v->in.digest, DIGEST_BYTES);
    }
    for (;;) {
        struct known k;
        if (++t->count == 1)
            snprintf(name, size, "%s", v->name);
        else
            snprintf(name, size, "%s~%d", v->name, t->count);
        int rc = known_job(st, v, name, &k);
        if (rc < 0)
            return -1;
        if (rc == 0 || k.scan != v->in.scan)
            return 0;
    }
}

static int apply_take_in(struct store *st, struct move *v)
{
    char by_digest[STORE_NAME_MAX + 32];
    const char *name = v->name;
    if (v->in.by_digest) {
        if (name_by_digest(st, v, by_digest, sizeof by_digest) < 0)
            return -1;
        name = by_digest;
    }
    v->in.taken = TAKEN_NEW;
    int made = new_job(st, v, name);
    if (made != 0)
        return made < 0 ? -1 : 0;

    struct known k;
    if (known_job(st, v, name, &k) != 1)
        return -1;
    if (k.scan == v->in.scan || (k.source != v->source && !k.owner_gone && !k.gone))
        return take_in_duplicate(st, v);
    v->job = k.id;
    v->seq = 0;
    if (k.same) {
        v->in.taken = TAKEN_KNOWN; /* also of a revision that was taken back */
        return seen_job(st, v) < 0 || run_id(st, W_UNSTAGE_ONE, v->job) < 0 ? -1 : 0;
    }
    if (k.state == JOB_DONE || k.state == JOB_IN_FLIGHT)
        return stage_job(st, v);
    v->in.taken = TAKEN_CHANGED;
    return change_job(st, v) < 0 || run_id(st, W_UNSTAGE_ONE, v->job) < 0 ? -1 : 0;
}

/* Staged rows become jobs, some at a time; `changed` tells how many. */
static int apply_revise(struct store *st, struct move *v)
{
    enum { AT_A_TIME = 500 };
    sqlite3_stmt *q = st->w[W_STAGED];
    v->changed = 0;
    for (;;) {
        sqlite3_bind_int(q, 1, 1);
        int rc = sqlite3_step(q);
        if (rc != SQLITE_ROW || v->changed == AT_A_TIME) {
            sqlite3_reset(q);
            return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : -1;
        }
        struct job_spec s = {
            .priority = sqlite3_column_int64(q, 3),
            .asks = (unsigned)sqlite3_column_int64(q, 4),
            .max_tokens = sqlite3_column_int64(q, 5),
            .max_cost = sqlite3_column_int64(q, 16),
            .tier = (char *)sqlite3_column_text(q, 9),
            .model = (char *)sqlite3_column_text(q, 10),
            .effort = (char *)sqlite3_column_text(q, 11),
            .tags = (char *)sqlite3_column_text(q, 12),
            .check = (char *)sqlite3_column_text(q, 18),
            .route = (char *)sqlite3_column_text(q, 19),
            .body = (char *)sqlite3_column_blob(q, 14),
            .body_len = (size_t)sqlite3_column_bytes(q, 14),
        };
        struct move one = {
            .job = sqlite3_column_int64(q, 0),
            .source = sqlite3_column_int64(q, 1),
            .text = text_at(q, 13),
            .now = v->now,
            .in = {.spec = s.body ? &s : NULL,
                   .line = sqlite3_column_int64(q, 2),
                   .lane = text_at(q, 7),
                   .scan = sqlite3_column_int64(q, 15),
                   .turn = sqlite3_column_int64(q, 17)},
        };
        memcpy(one.in.digest, sqlite3_column_blob(q, 8), DIGEST_BYTES);
        /* The row goes only when nothing stands on it any more. */
        rc = change_job(st, &one);
        sqlite3_reset(q);
        if (rc < 0 || run_id(st, W_UNSTAGE_ONE, one.job) < 0)
            return -1;
        v->changed++;
    }
}

static int apply_admit(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_ADMIT];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int64(q, 2, v->count); /* revision */
    bind_text(q, 3, v->at.lane);
    v->changed = run(st, W_ADMIT);
    if (v->changed != 1)
        return (int)v->changed; /* 0: canceled or changed meanwhile; not sent */
    q = st->w[W_NEW_ATTEMPT];
    sqlite3_bind_int64(q, 1, v->attempt);
    sqlite3_bind_int64(q, 2, v->job);
    sqlite3_bind_int64(q, 3, v->count);
    sqlite3_bind_int(q, 4, v->at.attempts);
    sqlite3_bind_int64(q, 5, v->run);
    sqlite3_bind_int64(q, 6, v->now);
    bind_text(q, 7, v->at.lane);
    bind_text(q, 8, v->at.tier);
    bind_text(q, 9, v->at.model);
    bind_text(q, 10, v->text);
    sqlite3_bind_int64(q, 11, v->at.worst);
    return run(st, W_NEW_ATTEMPT) == 1 ? 0 : -1;
}

static int end_attempt(struct store *st, const struct move *v)
{
    sqlite3_stmt *q = st->w[W_END_ATTEMPT];
    const struct usage *u = &v->at.usage;
    sqlite3_bind_int64(q, 1, v->attempt);
    sqlite3_bind_int(q, 2, v->at.state);
    sqlite3_bind_int64(q, 3, v->now);
    sqlite3_bind_int(q, 4, v->at.verdict);
    sqlite3_bind_int64(q, 5, v->at.status);
    bind_text(q, 6, v->at.request_id);
    bind_text(q, 7, v->text);
    const int64_t tokens[] = {u->input, u->output, u->cache_read, u->cache_write_5m,
                              u->cache_write_1h};
    for (int i = 0; i < 5; i++)
        if (v->at.has_usage)
            sqlite3_bind_int64(q, 8 + i, tokens[i]);
        else
            sqlite3_bind_null(q, 8 + i);
    sqlite3_bind_int64(q, 13, v->at.cost);
    bool apart = v->at.message && v->at.message_len >= APART_MIN;
    if (v->at.message && !apart)
        sqlite3_bind_blob64(q, 14, v->at.message, v->at.message_len, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, 14);
    if (apart) {
        sqlite3_bind_int64(q, 15,
                           answers_add(st->answers, v->at.message, v->at.message_len));
        sqlite3_bind_int64(q, 16, (int64_t)v->at.message_len);
    } else {
        sqlite3_bind_null(q, 15);
        sqlite3_bind_null(q, 16);
    }
    return run(st, W_END_ATTEMPT) == 1 ? 0 : -1;
}

static int apply_settle(struct store *st, struct move *v)
{
    bool at_rest = v->to != JOB_QUEUED && v->to != JOB_IN_FLIGHT;
    if (end_attempt(st, v) < 0)
        return -1;
    sqlite3_stmt *q = st->w[W_SETTLE];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int(q, 2, v->to);
    sqlite3_bind_int(q, 3, v->outcome);
    sqlite3_bind_int64(q, 4, v->ready_at);
    sqlite3_bind_int64(q, 5, v->ready_span);
    sqlite3_bind_int(q, 6, v->at.attempts);
    sqlite3_bind_int(q, 7, v->at.silent);
    sqlite3_bind_int64(q, 8, at_rest ? v->now : 0);
    bind_text(q, 9, v->text);
    bind_text(q, 10, v->type);
    sqlite3_bind_int64(q, 11, v->at.cost);
    sqlite3_bind_int(q, 12, v->at.state == ATTEMPT_TAKEN_BACK);
    sqlite3_bind_int64(q, 13, at_rest ? st->next_seq : 0);
    sqlite3_bind_int64(q, 14, v->attempt);
    sqlite3_bind_int64(q, 15, v->started);
    sqlite3_bind_int64(q, 16, v->at.raised);
    bind_text(q, 17, v->to == JOB_QUEUED ? v->name : NULL);
    bind_text(q, 18, v->at.climb);
    sqlite3_bind_int(q, 19, v->to == JOB_IN_FLIGHT);
    sqlite3_bind_int(q, 20, v->at.keep_body);
    if (run(st, W_SETTLE) != 1)
        return -1;
    if (at_rest)
        v->seq = st->next_seq++;
    if (v->to == JOB_DONE && v->length > INLINE_MAX && !v->at.keep_body &&
        run_id(st, W_DROP_BODY, v->job) < 0)
        return -1;
    return 0;
}

/* A program has judged an answer that is stored. */
static int apply_checked(struct store *st, struct move *v)
{
    bool at_rest = v->to != JOB_QUEUED;
    sqlite3_stmt *q = st->w[W_CHECKED];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int(q, 2, v->to);
    sqlite3_bind_int(q, 3, v->outcome);
    sqlite3_bind_int64(q, 4, at_rest ? v->now : 0);
    bind_text(q, 5, v->text);
    bind_text(q, 6, v->type);
    sqlite3_bind_int64(q, 7, at_rest ? st->next_seq : 0);
    bind_text(q, 8, v->to == JOB_QUEUED ? v->name : NULL);
    bind_text(q, 9, v->at.climb);
    sqlite3_bind_int(q, 10, v->at.keep_body);
    if (run(st, W_CHECKED) != 1)
        return -1;
    if (at_rest)
        v->seq = st->next_seq++;
    if (v->text) {
        sqlite3_bind_int64(st->w[W_CHECK_SAYS], 1, v->attempt);
        bind_text(st->w[W_CHECK_SAYS], 2, v->text);
        if (run(st, W_CHECK_SAYS) < 0)
            return -1;
    }
    if (v->to == JOB_DONE && v->length > INLINE_MAX && !v->at.keep_body &&
        run_id(st, W_DROP_BODY, v->job) < 0)
        return -1;
    return 0;
}

static int apply_learned(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_LEARNED];
    bind_text(q, 1, v->name);
    sqlite3_bind_int64(q, 2, v->now);
    sqlite3_bind_blob64(q, 3, v->at.message, v->at.message_len, SQLITE_STATIC);
    return run(st, W_LEARNED) < 0 ? -1 : 0;
}

static int apply_forget(struct store *st, struct move *v)
{
    (void)v;
    return run(st, W_FORGET) < 0 ? -1 : 0;
}

/* What was learned from needs its words no more, unless it may be sent again. */
static int apply_graded(struct store *st, struct move *v)
{
    return run_id(st, W_GRADED, v->job) < 0 || run_id(st, W_GRADED_BODY, v->job) < 0 ||
                   run_id(st, W_GRADED_APART, v->job) < 0
               ? -1
               : 0;
}

/* An attempt charged later; with it the job may be over. */
static int apply_count(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_CHARGE];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int(q, 2, v->at.attempts);
    sqlite3_bind_int(q, 3, v->at.silent);
    sqlite3_bind_int64(q, 4, v->count); /* revision */
    v->changed = run(st, W_CHARGE);
    if (v->changed != 1 || v->to == JOB_QUEUED)
        return v->changed < 0 ? -1 : 0;
    q = st->w[W_GIVE_UP];
    sqlite3_bind_int64(q, 1, v->job);
    sqlite3_bind_int(q, 2, v->to);
    sqlite3_bind_int(q, 3, v->outcome);
    sqlite3_bind_int64(q, 4, v->now);
    bind_text(q, 5, v->text);
    sqlite3_bind_int64(q, 6, st->next_seq);
    if (run(st, W_GIVE_UP) != 1)
        return -1;
    v->seq = st->next_seq++;
    return 0;
}

static int apply_park_source(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_PARK_SOURCE];
    sqlite3_bind_int64(q, 1, v->source);
    bind_text(q, 2, v->text);
    if (run(st, W_PARK_SOURCE) < 0)
        return -1;
    q = st->w[W_PARK_JOBS];
    sqlite3_bind_int64(q, 1, v->source);
    sqlite3_bind_int(q, 2, OUTCOME_MASS_FAILURE);
    bind_text(q, 3, v->text);
    sqlite3_bind_int64(q, 4, v->now);
    sqlite3_bind_int64(q, 5, v->limit);
    v->changed = run(st, W_PARK_JOBS);
    return v->changed < 0 ? -1 : 0;
}

static int apply_retry(struct store *st, struct move *v)
{
    bind_text(st->w[W_UNPARK], 1, v->name);
    if (run(st, W_UNPARK) < 0)
        return -1;
    /* What was kept of a half answer is no longer the job's: its next one is whole. */
    sqlite3_stmt *q = st->w[W_RETRY];
    bind_text(q, 1, v->name);
    sqlite3_bind_int(q, 2, OUTCOME_INVALID);
    v->changed = run(st, W_RETRY);
    return v->changed < 0 ? -1 : 0;
}

/* At most `limit` of them; a request that is answered goes with the last. */
static int apply_cancel(struct store *st, struct move *v)
{
    sqlite3_stmt *find = st->w[W_CANCELABLE], *q = st->w[W_CANCEL];
    int64_t last = 0;
    v->changed = 0;
    v->seq = st->next_seq; /* of the first; the others follow */
    while (v->limit == 0 || v->changed < v->limit) {
        bind_text(find, 1, v->name);
        sqlite3_bind_int64(find, 2, last);
        int rc = sqlite3_step(find);
        last = rc == SQLITE_ROW ? sqlite3_column_int64(find, 0) : 0;
        sqlite3_reset(find);
        if (rc == SQLITE_DONE)
            return v->count ? (run_id(st, W_DROP_REQUEST, v->count) < 0 ? -1 : 0) : 0;
        if (rc != SQLITE_ROW)
            return -1;
        sqlite3_bind_int64(q, 1, last);
        sqlite3_bind_int(q, 2, OUTCOME_CANCELED);
        sqlite3_bind_int64(q, 3, v->now);
        sqlite3_bind_int64(q, 4, st->next_seq++);
        if (run(st, W_CANCEL) != 1)
            return -1;
        v->changed++;
    }
    return 0;
}

static int apply_meta(struct store *st, const char *key, const char *value)
{
    bind_text(st->w[W_META], 1, key);
    bind_text(st->w[W_META], 2, value);
    return run(st, W_META) < 0 ? -1 : 0;
}

static int apply_results(struct store *st, struct move *v)
{
    char seq[24];
    snprintf(seq, sizeof seq, "%" PRId64, v->seq);
    return apply_meta(st, "results_seq", seq);
}

static int apply_result_file(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_RESULT_FILE];
    sqlite3_bind_int64(q, 1, v->source);
    sqlite3_bind_int64(q, 2, v->inode);
    sqlite3_bind_int64(q, 3, v->length);
    return run(st, W_RESULT_FILE) < 0 ? -1 : 0;
}

static int apply_run_begin(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_RUN_BEGIN];
    sqlite3_bind_int64(q, 1, v->run);
    sqlite3_bind_int64(q, 2, v->now);
    sqlite3_bind_int64(q, 3, v->attempt);
    return run(st, W_RUN_BEGIN) == 1 ? 0 : -1;
}

static int apply_run_totals(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_RUN_TOTALS];
    const struct usage *u = &v->at.usage;
    sqlite3_bind_int64(q, 1, v->run);
    sqlite3_bind_int64(q, 2, v->at.cost);
    sqlite3_bind_int64(
        q, 3, u->input + u->cache_read + u->cache_write_5m + u->cache_write_1h);
    sqlite3_bind_int64(q, 4, u->output);
    return run(st, W_RUN_TOTALS) == 1 ? 0 : -1;
}

static int apply_run_end(struct store *st, struct move *v)
{
    sqlite3_bind_int64(st->w[W_RUN_END], 1, v->now);
    bind_text(st->w[W_RUN_END], 2, v->text);
    return run(st, W_RUN_END) < 0 ? -1 : 0;
}

static int apply_set_lane(struct store *st, struct move *v)
{
    sqlite3_bind_int64(st->w[W_SET_LANE], 1, v->job);
    bind_text(st->w[W_SET_LANE], 2, v->name);
    return run(st, W_SET_LANE) < 0 ? -1 : 0;
}

static int apply_unroute(struct store *st, struct move *v)
{
    v->changed = run(st, W_UNROUTE);
    return v->changed < 0 ? -1 : 0;
}

static int apply_unstage(struct store *st, struct move *v)
{
    (void)v;
    return run(st, W_UNSTAGE_SOURCES) < 0 || run(st, W_UNSTAGE_ALL) < 0 ? -1 : 0;
}

static int apply_doubt_over(struct store *st, struct move *v)
{
    v->changed = run_id(st, W_DOUBT_OVER, v->attempt);
    if (v->changed <= 0)
        return (int)v->changed;
    return run_id(st, W_DOUBT_COST, v->attempt) < 0 ? -1 : 0;
}

static int apply_pause(struct store *st, struct move *v)
{
    v->changed = 1;
    return apply_meta(st, "paused", v->text ? v->text : "");
}

/* Rows (place, length) of answers that are about to lose their rows. */
static int forget_long(struct store *st, int which)
{
    sqlite3_stmt *q = st->w[which];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW)
        answers_forget(st->answers, sqlite3_column_int64(q, 0),
                       sqlite3_column_int64(q, 1));
    sqlite3_reset(q);
    return rc == SQLITE_DONE ? 0 : -1;
}

/* Some thousand rows at a time: a commit is never long. */
static int apply_prune(struct store *st, struct move *v)
{
    enum { ROWS_AT_ONCE = 5000 };
    static const int forget[] = {W_PRUNE_SUM,   W_PRUNE_ENDING, W_PRUNE_SENDING,
                                 W_PRUNE_BODY,  W_PRUNE_GRADE,  W_PRUNE_JOB,
                                 W_PRUNE_SOURCE};
    sqlite3_stmt *max = st->w[W_MAX_JOB], *pick = st->w[W_PRUNE_PICK];
    int64_t from = v->job, to = from + ROWS_AT_ONCE;
    static const int old[] = {W_OLD_LONG, W_PRUNE_ANSWERS};
    for (int i = 0; i < 2; i++) {
        sqlite3_bind_int64(st->w[old[i]], 1, from);
        sqlite3_bind_int64(st->w[old[i]], 2, to);
        sqlite3_bind_int64(st->w[old[i]], 3, v->now);
    }
    if (forget_long(st, W_OLD_LONG) < 0)
        return -1;
    v->changed = run(st, W_PRUNE_ANSWERS);
    if (from == 0 && run_id(st, W_PRUNE_HISTORY, v->now) < 0)
        return -1;
    sqlite3_bind_int64(pick, 1, from);
    sqlite3_bind_int64(pick, 2, to);
    sqlite3_bind_int64(pick, 3, v->now);
    sqlite3_bind_int64(pick, 4, st->next_seq - 1);
    if (v->changed < 0 || run(st, W_PRUNE_CLEAR) < 0)
        return -1;
    int64_t doomed = run(st, W_PRUNE_PICK);
    if (doomed > 0 &&
        (run(st, W_PRUNE_DOUBT) < 0 || forget_long(st, W_DOOMED_LONG) < 0))
        return -1;
    for (size_t i = 0; doomed > 0 && i < sizeof forget / sizeof forget[0]; i++)
        if (run(st, forget[i]) < 0)
            return -1;
    if (doomed < 0 || sqlite3_step(max) != SQLITE_ROW)
        return -1;
    v->changed += doomed;
    v->job = sqlite3_column_int64(max, 0) >= to ? to : 0;
    sqlite3_reset(max);
    return 0;
}

static int apply_request_done(struct store *st, struct move *v)
{
    return run_id(st, W_DROP_REQUEST, v->count) < 0 ? -1 : 0;
}

static int apply_meta_move(struct store *st, struct move *v)
{
    return apply_meta(st, v->name, v->text);
}

static void bind_history(sqlite3_stmt *q, const struct move *v)
{
    sqlite3_bind_int64(q, 1, v->run);
    sqlite3_bind_int(q, 2, v->history.kind);
    bind_text(q, 3, v->name);
}

/* Too many rows: those that lie in one part of the time are one from now on. */
static int merge_history(struct store *st, const struct move *v, int64_t first,
                         int64_t last)
{
    static const int which[] = {W_HISTORY_SPREAD, W_HISTORY_MERGE};
    for (size_t i = 0; i < sizeof which / sizeof which[0]; i++) {
        sqlite3_stmt *q = st->w[which[i]];
        bind_history(q, v);
        sqlite3_bind_int64(q, 4, last);
        sqlite3_bind_int64(q, 5, (last - first) / (STORE_HISTORY_MAX / 2) + 1);
        if (run(st, which[i]) < 0)
            return -1;
    }
    return 0;
}

static int apply_history(struct store *st, struct move *v)
{
    sqlite3_stmt *q = st->w[W_HISTORY];
    bind_history(q, v);
    sqlite3_bind_int64(q, 4, v->history.at);
    sqlite3_bind_int64(q, 5, v->history.until);
    sqlite3_bind_int64(q, 6, v->history.rpm);
    sqlite3_bind_int64(q, 7, v->history.itpm);
    sqlite3_bind_int64(q, 8, v->history.otpm);
    bind_text(q, 9, v->history.word ? v->history.word : "");
    bind_text(q, 10, v->text ? v->text : "");
    if (run(st, W_HISTORY) < 0)
        return -1;
    q = st->w[W_HISTORY_COUNT];
    bind_history(q, v);
    int rc = sqlite3_step(q);
    int64_t count = sqlite3_column_int64(q, 0), first = sqlite3_column_int64(q, 1),
            last = sqlite3_column_int64(q, 2);
    sqlite3_reset(q);
    if (rc != SQLITE_ROW)
        return -1;
    return count > STORE_HISTORY_MAX ? merge_history(st, v, first, last) : 0;
}

static int (*const appliers[])(struct store *, struct move *) = {
    [MOVE_SOURCE] = apply_source,
    [MOVE_TAKE_IN] = apply_take_in,
    [MOVE_SOURCE_END] = apply_source_end,
    [MOVE_SOURCE_GONE] = apply_source_gone,
    [MOVE_REVISE] = apply_revise,
    [MOVE_UNSTAGE] = apply_unstage,
    [MOVE_LANE] = apply_set_lane,
    [MOVE_UNROUTE] = apply_unroute,
    [MOVE_ADMIT] = apply_admit,
    [MOVE_SETTLE] = apply_settle,
    [MOVE_CHECKED] = apply_checked,
    [MOVE_LEARNED] = apply_learned,
    [MOVE_FORGET] = apply_forget,
    [MOVE_GRADED] = apply_graded,
    [MOVE_COUNT] = apply_count,
    [MOVE_PARK_SOURCE] = apply_park_source,
    [MOVE_RETRY] = apply_retry,
    [MOVE_CANCEL] = apply_cancel,
    [MOVE_ANSWERED_REQUEST] = apply_request_done,
    [MOVE_DOUBT_OVER] = apply_doubt_over,
    [MOVE_RESULTS] = apply_results,
    [MOVE_RESULT_FILE] = apply_result_file,
    [MOVE_RUN_BEGIN] = apply_run_begin,
    [MOVE_RUN_TOTALS] = apply_run_totals,
    [MOVE_RUN_END] = apply_run_end,
    [MOVE_META] = apply_meta_move,
    [MOVE_PAUSE] = apply_pause,
    [MOVE_PRUNE] = apply_prune,
    [MOVE_HISTORY] = apply_history,
};

static int apply_answers_end(struct store *st)
{
    char end[24];
    snprintf(end, sizeof end, "%" PRId64, answers_added(st->answers));
    return apply_meta(st, "answers_end", end);
}

int store_apply(struct store *st, struct moves *m, bool *full, struct err *e)
{
    int64_t seq = st->next_seq;
    struct err apart = {0};
    bool no_room = false;
    int rc = answers_begin(st->answers, &apart) < 0 || run(st, W_BEGIN) < 0 ? -1 : 0;
    struct move *v = m->first;
    for (; rc == 0 && v; v = v->next)
        rc = appliers[v->kind](st, v);
    /* A row never points to what is not there. */
    if (rc == 0)
        rc = answers_sync(st->answers, st->sync, &no_room, &apart);
    if (rc == 0 && answers_added(st->answers) > 0)
        rc = apply_answers_end(st);
    if (rc == 0) {
        effect_before("commit", (long long)m->count);
        rc = run(st, W_COMMIT) < 0 ? -1 : 0;
        effect_after("commit", (long long)m->count);
    }
    if (rc == 0) {
        answers_committed(st->answers);
        return 0;
    }

    int code = sqlite3_errcode(st->writer);
    if (full)
        *full = no_room || (code & 0xff) == SQLITE_FULL;
    if (apart.code)
        err_set(e, apart.code, "%s", apart.text);
    else if ((code & 0xff) == SQLITE_OK || (code & 0xff) == SQLITE_DONE ||
             (code & 0xff) == SQLITE_ROW)
        err_set(e, ERR_STORE, "a row is not in the state that its move leaves");
    else
        refused(st->writer, "the store could not be written", e);
    run(st, W_ROLLBACK);
    st->next_seq = seq;
    return -1;
}

int store_clip(struct store *st, int64_t now, struct err *e)
{
    sqlite3_bind_int64(st->w[W_CLIP], 1, now);
    return run(st, W_CLIP) < 0 ? refused(st->writer, st->path, e) : 0;
}

/* --- reading --- */

static void job_row(sqlite3_stmt *q, int c, struct store_job *j)
{
    *j = (struct store_job){
        .id = sqlite3_column_int64(q, c),
        .source = sqlite3_column_int64(q, c + 1),
        .revision = sqlite3_column_int64(q, c + 2),
        .line = sqlite3_column_int64(q, c + 3),
        .priority = sqlite3_column_int64(q, c + 4),
        .max_tokens = sqlite3_column_int64(q, c + 5),
        .bytes = sqlite3_column_int64(q, c + 6),
        .ready_at = sqlite3_column_int64(q, c + 7),
        .seq = sqlite3_column_int64(q, c + 8),
        .finished_at = sqlite3_column_int64(q, c + 9),
        .state = (enum job_state)sqlite3_column_int(q, c + 10),
        .outcome = (enum job_outcome)sqlite3_column_int(q, c + 11),
        .asks = (unsigned)sqlite3_column_int64(q, c + 12),
        .attempts = sqlite3_column_int(q, c + 13),
        .silent = sqlite3_column_int(q, c + 14),
        .gone = sqlite3_column_int(q, c + 15),
        .name = text_at(q, c + 16),
        .custom_id = text_at(q, c + 17),
        .lane = text_at(q, c + 18),
        .tier = text_at(q, c + 19),
        .model = text_at(q, c + 20),
        .effort = text_at(q, c + 21),
        .tags = text_at(q, c + 22),
        .says = text_at(q, c + 23),
        .type = text_at(q, c + 24),
        .path = text_at(q, c + 25),
        .bulk = sqlite3_column_int(q, c + 26),
        .rests = sqlite3_column_int64(q, c + 27),
        .first_started = sqlite3_column_int64(q, c + 28),
        .sendings = sqlite3_column_int64(q, c + 29),
        .cost = sqlite3_column_int64(q, c + 30),
        .max_cost = sqlite3_column_int64(q, c + 31),
        .raised = sqlite3_column_int64(q, c + 32),
        .check = text_at(q, c + 33),
        .route = text_at(q, c + 34),
        .climb = text_at(q, c + 35),
    };
}

static void attempt_row(sqlite3_stmt *q, int c, struct store_attempt *a)
{
    *a = (struct store_attempt){
        .id = sqlite3_column_int64(q, c),
        .job = sqlite3_column_int64(q, c + 1),
        .revision = sqlite3_column_int64(q, c + 2),
        .no = sqlite3_column_int64(q, c + 3),
        .run = sqlite3_column_int64(q, c + 4),
        .started_at = sqlite3_column_int64(q, c + 5),
        .ended_at = sqlite3_column_int64(q, c + 6),
        .state = (enum attempt_state)sqlite3_column_int(q, c + 7),
        .verdict = sqlite3_column_int(q, c + 8),
        .status = (long)sqlite3_column_int64(q, c + 9),
        .lane = text_at(q, c + 10),
        .tier = text_at(q, c + 11),
        .model = text_at(q, c + 12),
        .why = text_at(q, c + 13),
        .request_id = text_at(q, c + 14),
        .says = text_at(q, c + 15),
        .has_usage = sqlite3_column_type(q, c + 16) != SQLITE_NULL,
        .usage = {.input = sqlite3_column_int64(q, c + 16),
                  .output = sqlite3_column_int64(q, c + 17),
                  .cache_read = sqlite3_column_int64(q, c + 18),
                  .cache_write_5m = sqlite3_column_int64(q, c + 19),
                  .cache_write_1h = sqlite3_column_int64(q, c + 20)},
        .cost = sqlite3_column_int64(q, c + 21),
        .worst = sqlite3_column_int64(q, c + 22),
    };
}

/* The end of a read: SQLITE_DONE, a caller that stopped (ROW), or an error. */
static int finish(struct store *st, sqlite3_stmt *q, int rc, struct err *e)
{
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        refused(st->reader, st->path, e);
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -1;
}

static void source_row(sqlite3_stmt *q, struct store_source *s)
{
    *s = (struct store_source){
        .id = sqlite3_column_int64(q, 0),
        .path = text_at(q, 1),
        .stamp = text_at(q, 2),
        .refs = text_at(q, 3),
        .parked = text_at(q, 4),
        .bulk = sqlite3_column_int(q, 5),
        .whole = sqlite3_column_int(q, 6),
        .gone = sqlite3_column_int(q, 7),
    };
}

/* A statement left standing would pin what the reader sees, so what is lent beyond the
 * call is a copy. */
static void lend(struct store *st, const char **strings[], int n)
{
    for (int i = 0; i < n; i++) {
        char *copy = *strings[i] ? strdup(*strings[i]) : NULL;
        free(st->lent[i]);
        *strings[i] = st->lent[i] = copy;
    }
}

int store_source(struct store *st, const char *path, struct store_source *ret,
                 struct err *e)
{
    sqlite3_stmt *q = st->r[R_SOURCE_OF];
    bind_text(q, 1, path);
    int rc = sqlite3_step(q);
    bool found = rc == SQLITE_ROW;
    if (found) {
        source_row(q, ret);
        lend(st, (const char **[]){&ret->path, &ret->stamp, &ret->refs, &ret->parked},
             4);
    }
    return finish(st, q, rc, e) < 0 ? -1 : found;
}

int store_each_source(struct store *st, store_source_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_SOURCES];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_source s;
        source_row(q, &s);
        if (fn(arg, &s) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

/* Rows of a job query, each with its body. */
static int each_waiting(struct store *st, sqlite3_stmt *q, size_t limit,
                        store_skip_fn *skip, store_job_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *b = st->r[R_BODY];
    size_t n = 0;
    int rc = SQLITE_DONE;
    while (n < limit && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        if (skip && skip(arg, sqlite3_column_int64(q, 0)))
            continue;
        struct store_job j;
        bool apart = sqlite3_column_type(q, JOB_COLUMN_COUNT - 1) == SQLITE_NULL;
        sqlite3_stmt *at = apart ? b : q;
        job_row(q, 0, &j);
        if (apart)
            sqlite3_bind_int64(b, 1, j.id);
        if (!apart || sqlite3_step(b) == SQLITE_ROW) {
            j.body = sqlite3_column_blob(at, apart ? 0 : JOB_COLUMN_COUNT - 1);
            j.body_len = (size_t)sqlite3_column_bytes(at,
                                                      apart ? 0 : JOB_COLUMN_COUNT - 1);
        }
        int stop = fn(arg, &j);
        sqlite3_reset(b);
        n++;
        if (stop)
            break;
    }
    return finish(st, q, rc, e);
}

int store_ready(struct store *st, const char *lane, size_t limit, store_skip_fn *skip,
                store_job_fn *fn, void *arg, struct err *e)
{
    bind_text(st->r[R_READY], 1, lane);
    return each_waiting(st, st->r[R_READY], limit, skip, fn, arg, e);
}

int store_rested(struct store *st, int64_t now, size_t limit, store_skip_fn *skip,
                 store_job_fn *fn, void *arg, int64_t *next, struct err *e)
{
    sqlite3_bind_int64(st->r[R_RESTED], 1, now);
    if (each_waiting(st, st->r[R_RESTED], limit, skip, fn, arg, e) < 0)
        return -1;
    sqlite3_stmt *q = st->r[R_NEXT_REST];
    sqlite3_bind_int64(q, 1, now);
    int rc = sqlite3_step(q);
    *next = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    return finish(st, q, rc, e);
}

int store_lanes(struct store *st, store_name_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_LANES];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW)
        if (fn(arg, text_at(q, 0)) != 0)
            break;
    return finish(st, q, rc, e);
}

int store_waiting(struct store *st, store_waiting_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_WAITING];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW)
        if (fn(arg, text_at(q, 0), sqlite3_column_int64(q, 1)) != 0)
            break;
    return finish(st, q, rc, e);
}

static int attempts(struct store *st, int which, int64_t number, store_sent_fn *fn,
                    void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[which];
    int rc;
    sqlite3_bind_int64(q, 1, number);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_attempt a;
        attempt_row(q, 0, &a);
        if (fn(arg, &a) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_each_attempt(struct store *st, int64_t run_number, store_sent_fn *fn,
                       void *arg, struct err *e)
{
    return attempts(st, R_ATTEMPTS, run_number, fn, arg, e);
}

int store_each_attempt_of(struct store *st, int64_t job, store_sent_fn *fn, void *arg,
                          struct err *e)
{
    return attempts(st, R_ATTEMPTS_OF, job, fn, arg, e);
}

static int attempts_with_jobs(struct store *st, int which, store_attempt_fn *fn,
                              void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[which];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_attempt a;
        struct store_job j;
        attempt_row(q, 0, &a);
        job_row(q, ATTEMPT_COLUMN_COUNT, &j);
        if (fn(arg, &a, &j) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_each_out(struct store *st, store_attempt_fn *fn, void *arg, struct err *e)
{
    return attempts_with_jobs(st, R_OUT, fn, arg, e);
}

int store_each_doubt(struct store *st, store_attempt_fn *fn, void *arg, struct err *e)
{
    return attempts_with_jobs(st, R_DOUBTS, fn, arg, e);
}

int store_ledger(struct store *st, enum store_by by, store_entry_fn *fn, void *arg,
                 struct err *e)
{
    static const int which[BY_COUNT] = {
        [BY_DAY] = R_LEDGER_DAY,   [BY_MODEL] = R_LEDGER_MODEL,
        [BY_TIER] = R_LEDGER_TIER, [BY_LANE] = R_LEDGER_LANE,
        [BY_TAG] = R_LEDGER_TAG,   [BY_RUN] = R_LEDGER_RUN};
    sqlite3_stmt *q = st->r[which[by]];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_entry x = {.key = text_at(q, 0),
                                .attempts = sqlite3_column_int64(q, 1),
                                .done = sqlite3_column_int64(q, 2),
                                .usage = {.input = sqlite3_column_int64(q, 3),
                                          .output = sqlite3_column_int64(q, 4),
                                          .cache_read = sqlite3_column_int64(q, 5),
                                          .cache_write_5m = sqlite3_column_int64(q, 6),
                                          .cache_write_1h = sqlite3_column_int64(q, 7)},
                                .cost = sqlite3_column_int64(q, 8),
                                .doubt = sqlite3_column_int64(q, 9),
                                .doubt_low = sqlite3_column_int64(q, 10),
                                .doubt_high = sqlite3_column_int64(q, 11)};
        if (fn(arg, &x) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

/* One that cannot be read is that job's trouble, and stops nobody else. */
static void long_answer(struct store *st, sqlite3_stmt *q, int c,
                        struct store_result *r)
{
    struct err e = {0};
    r->message_len = (size_t)sqlite3_column_int64(q, c + 1);
    r->message = answers_read(st->answers, sqlite3_column_int64(q, c), r->message_len,
                              &e);
    if (r->message)
        return;
    r->message_len = 0;
    r->lost = true;
    snprintf(st->lost, sizeof st->lost,
             "its answer was stored and is lost: %.240s; a change of its file sends it "
             "again",
             e.text);
    r->job.type = "answer_lost";
    r->job.says = st->lost;
    log_error("job=%s %s", r->job.name, st->lost);
}

static int result_rows(struct store *st, sqlite3_stmt *q, store_result_fn *fn,
                       void *arg, struct err *e)
{
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_result r = {0};
        int c = JOB_COLUMN_COUNT;
        job_row(q, 0, &r.job);
        attempt_row(q, c, &r.last);
        c += ATTEMPT_COLUMN_COUNT;
        r.message = sqlite3_column_blob(q, c);
        r.message_len = (size_t)sqlite3_column_bytes(q, c);
        if (sqlite3_column_type(q, c + 1) != SQLITE_NULL && st->use != STORE_TRY)
            long_answer(st, q, c + 1, &r);
        if (fn(arg, &r) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_each_result(struct store *st, int64_t seq, int64_t source,
                      store_result_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[source ? R_RESULTS_OF : R_RESULTS];
    sqlite3_bind_int64(q, 1, seq);
    if (source)
        sqlite3_bind_int64(q, 2, source);
    return result_rows(st, q, fn, arg, e);
}

int store_result_of(struct store *st, int64_t job, store_result_fn *fn, void *arg,
                    struct err *e)
{
    sqlite3_bind_int64(st->r[R_RESULT], 1, job);
    return result_rows(st, st->r[R_RESULT], fn, arg, e);
}

int store_each_finished(struct store *st, store_number_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_FINISHED];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW)
        if (fn(arg, sqlite3_column_int64(q, 0)) != 0)
            break;
    return finish(st, q, rc, e);
}

int store_each_checking(struct store *st, store_result_fn *fn, void *arg, struct err *e)
{
    return result_rows(st, st->r[R_CHECKING], fn, arg, e);
}

int store_each_grade(struct store *st, size_t limit, store_grade_fn *fn, void *arg,
                     struct err *e)
{
    sqlite3_stmt *q = st->r[R_GRADES], *b = st->r[R_BODY];
    enum { JOB_AT = 2, MEMBERS_AT = JOB_AT + JOB_COLUMN_COUNT - 1 };
    int rc;
    sqlite3_bind_int64(q, 1, (int64_t)limit);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_job j;
        job_row(q, JOB_AT, &j);
        sqlite3_stmt *at = sqlite3_column_type(q, MEMBERS_AT) == SQLITE_NULL ? b : q;
        if (at == b)
            sqlite3_bind_int64(b, 1, j.id);
        if (at == q || sqlite3_step(b) == SQLITE_ROW) {
            j.body = sqlite3_column_blob(at, at == b ? 0 : MEMBERS_AT);
            j.body_len = (size_t)sqlite3_column_bytes(at, at == b ? 0 : MEMBERS_AT);
        }
        int stop = fn(arg, &j, text_at(q, 1), sqlite3_column_int(q, 0));
        sqlite3_reset(b);
        if (stop)
            break;
    }
    return finish(st, q, rc, e);
}

int store_grade(struct store *st, int64_t job, bool fine, int64_t now, struct err *e)
{
    sqlite3_stmt *q = st->r[R_GRADE];
    sqlite3_bind_int64(q, 1, job);
    sqlite3_bind_int(q, 2, fine);
    sqlite3_bind_int64(q, 3, now);
    return finish(st, q, sqlite3_step(q), e);
}

int store_learned(struct store *st, const char *key, store_learned_fn *fn, void *arg,
                  struct err *e)
{
    sqlite3_stmt *q = st->r[R_GET_LEARNED];
    bind_text(q, 1, key);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        fn(arg, sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0));
    return finish(st, q, rc, e);
}

int store_file(struct store *st, int64_t source, struct store_file *ret, struct err *e)
{
    sqlite3_stmt *q = st->r[R_FILE];
    sqlite3_bind_int64(q, 1, source);
    int rc = sqlite3_step(q);
    bool found = rc == SQLITE_ROW;
    if (found)
        *ret = (struct store_file){sqlite3_column_int64(q, 0),
                                   sqlite3_column_int64(q, 1),
                                   sqlite3_column_int64(q, 2)};
    return finish(st, q, rc, e) < 0 ? -1 : found;
}

int store_each_open_run(struct store *st, store_run_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_OPEN_RUNS];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_run run_row = {.id = sqlite3_column_int64(q, 0),
                                    .started_at = sqlite3_column_int64(q, 1),
                                    .spent = sqlite3_column_int64(q, 2)};
        if (fn(arg, &run_row) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_each_run(struct store *st, store_run_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_RUNS];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_run x = {.id = sqlite3_column_int64(q, 0),
                              .started_at = sqlite3_column_int64(q, 1),
                              .spent = sqlite3_column_int64(q, 2),
                              .ended_at = sqlite3_column_int64(q, 3),
                              .first_attempt = sqlite3_column_int64(q, 4),
                              .tokens_in = sqlite3_column_int64(q, 5),
                              .tokens_out = sqlite3_column_int64(q, 6),
                              .reason = text_at(q, 7)};
        if (fn(arg, &x) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_run_span(struct store *st, int64_t run_number, int64_t *first, int64_t *last,
                   struct err *e)
{
    sqlite3_stmt *q = st->r[R_RUN_SPAN];
    sqlite3_bind_int64(q, 1, run_number);
    int rc = sqlite3_step(q);
    *first = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    *last = rc == SQLITE_ROW ? sqlite3_column_int64(q, 1) : 0;
    return finish(st, q, rc, e);
}

int store_run_since(struct store *st, int64_t run_number, int64_t since,
                    int64_t *attempt, struct err *e)
{
    sqlite3_stmt *q = st->r[R_RUN_SINCE];
    sqlite3_bind_int64(q, 1, run_number);
    sqlite3_bind_int64(q, 2, since);
    int rc = sqlite3_step(q);
    *attempt = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : INT64_MAX;
    return finish(st, q, rc, e);
}

int store_each_sent(struct store *st, int64_t run_number, int64_t first,
                    store_run_sent_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_SENT];
    int rc;
    sqlite3_bind_int64(q, 1, run_number);
    sqlite3_bind_int64(q, 2, first);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_attempt a;
        struct store_job j;
        attempt_row(q, 0, &a);
        job_row(q, ATTEMPT_COLUMN_COUNT, &j);
        if (fn(arg, &a, &j,
               sqlite3_column_int(q, ATTEMPT_COLUMN_COUNT + JOB_COLUMN_COUNT)) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_each_before(struct store *st, int64_t attempt, store_result_fn *fn, void *arg,
                      struct err *e)
{
    sqlite3_stmt *q = st->r[R_BEFORE];
    int rc;
    sqlite3_bind_int64(q, 1, attempt);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_result r = {0};
        job_row(q, 0, &r.job);
        attempt_row(q, JOB_COLUMN_COUNT, &r.last);
        if (fn(arg, &r) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_each_failed(struct store *st, store_job_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_FAILED_ROWS];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_job j;
        job_row(q, 0, &j);
        if (fn(arg, &j) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_each_history(struct store *st, int64_t run_number, store_history_fn *fn,
                       void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_HISTORY];
    int rc;
    sqlite3_bind_int64(q, 1, run_number);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_history h = {.kind = (enum history_kind)sqlite3_column_int(q, 0),
                                  .lane = text_at(q, 1),
                                  .at = sqlite3_column_int64(q, 2),
                                  .until = sqlite3_column_int64(q, 3),
                                  .held = sqlite3_column_int64(q, 4),
                                  .times = sqlite3_column_int64(q, 5),
                                  .rpm = sqlite3_column_int64(q, 6),
                                  .itpm = sqlite3_column_int64(q, 7),
                                  .otpm = sqlite3_column_int64(q, 8),
                                  .word = text_at(q, 9),
                                  .says = text_at(q, 10)};
        if (fn(arg, &h) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

static int one_row(struct store *st, int which, int64_t *to, int n, struct err *e)
{
    sqlite3_stmt *q = st->r[which];
    int rc = sqlite3_step(q);
    for (int i = 0; rc == SQLITE_ROW && i < n; i++)
        to[i] = sqlite3_column_int64(q, i);
    return finish(st, q, rc, e);
}

int store_run_sent(struct store *st, int64_t *run_number, struct err *e)
{
    *run_number = 0;
    return one_row(st, R_RUN_SENT, run_number, 1, e);
}

int store_totals(struct store *st, struct store_totals *ret, struct err *e)
{
    *ret = (struct store_totals){0};
    int64_t jobs[4 + JOB_STATE_COUNT] = {0};
    sqlite3_bind_int(st->r[R_STATES], 1, OUTCOME_INVALID);
    int64_t doubt[3] = {0}, spent[3] = {0}, next[3] = {0}, staged[2] = {0};
    char seq[24];
    if (one_row(st, R_STATES, jobs, 4 + JOB_STATE_COUNT, e) < 0 ||
        one_row(st, R_DOUBT, doubt, 3, e) < 0 ||
        one_row(st, R_SPENT, spent, 3, e) < 0 ||
        one_row(st, R_NEXT_IDS, next, 3, e) < 0 ||
        one_row(st, R_STAGED_COUNT, staged, 2, e) < 0 ||
        store_meta(st, "results_seq", seq, sizeof seq, e) < 0)
        return -1;
    ret->known = jobs[0];
    ret->gone = jobs[1];
    ret->invalid = jobs[2];
    ret->last_turn = jobs[3 + JOB_STATE_COUNT];
    for (int i = 0; i < JOB_STATE_COUNT; i++)
        ret->jobs[i] = jobs[3 + i];
    ret->next_attempt = next[0];
    ret->next_run = next[1];
    ret->next_source = next[2];
    ret->staged = staged[0];
    ret->revisions = staged[1];
    ret->doubt = doubt[0];
    ret->doubt_low = doubt[1];
    ret->doubt_high = doubt[2];
    ret->spent = spent[0];
    ret->tokens_in = spent[1];
    ret->tokens_out = spent[2];
    ret->results_seq = strtoll(seq, NULL, 10);
    return 0;
}

int store_each_request(struct store *st, store_request_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_REQUESTS];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_request r = {sqlite3_column_int64(q, 0), text_at(q, 1),
                                  text_at(q, 2)};
        if (fn(arg, &r) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_ask(struct store *st, const char *verb, const char *job, int64_t now,
              struct err *e)
{
    sqlite3_stmt *q = st->r[R_ASK];
    bind_text(q, 1, verb);
    bind_text(q, 2, job);
    sqlite3_bind_int64(q, 3, now);
    return finish(st, q, sqlite3_step(q), e);
}

int store_find(struct store *st, const char *name, struct store_job *ret, struct err *e)
{
    sqlite3_stmt *q = st->r[R_FIND];
    bind_text(q, 1, name);
    int rc = sqlite3_step(q);
    bool found = rc == SQLITE_ROW;
    if (found) {
        job_row(q, 0, ret);
        lend(st,
             (const char **[]){&ret->name, &ret->custom_id, &ret->lane, &ret->tier,
                               &ret->model, &ret->effort, &ret->tags, &ret->says,
                               &ret->type, &ret->path, &ret->check, &ret->route,
                               &ret->climb},
             13);
    }
    return finish(st, q, rc, e) < 0 ? -1 : found;
}

int store_each_in(struct store *st, enum job_state state, size_t limit,
                  store_line_fn *fn, void *arg, struct err *e)
{
    sqlite3_stmt *q = st->r[R_IN_STATE];
    int rc;
    sqlite3_bind_int(q, 1, state);
    sqlite3_bind_int64(q, 2, (int64_t)limit);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_job j;
        job_row(q, 0, &j);
        if (fn(arg, &j) != 0)
            break;
    }
    return finish(st, q, rc, e);
}

int store_meta(struct store *st, const char *key, char *buf, size_t size, struct err *e)
{
    sqlite3_stmt *q = st->r[R_GET_META];
    bind_text(q, 1, key);
    int rc = sqlite3_step(q);
    snprintf(buf, size, "%s", rc == SQLITE_ROW ? text_at(q, 0) : "");
    return finish(st, q, rc, e);
}
