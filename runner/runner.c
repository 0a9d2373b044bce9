#include "runner/machine.h"

#include "conf/catalog.h"
#include "conf/hours.h"
#include "jobs/job.h"
#include "jobs/textbuf.h"
#include "runner/key.h"
#include "runner/log.h"
#include "runner/messages.h"
#include "runner/when.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void tick(struct runner *r);

/* --- time, chance, small things --- */

/* The machine's own clock, the same for all runners until it reboots. */
int64_t runner_mono(const struct runner *r)
{
    return (int64_t)uv_now(&r->loop);
}

int64_t runner_elapsed(const struct runner *r)
{
    return runner_mono(r) - r->mono0;
}

/* Wall time that no clock change can move while the run lasts. */
int64_t runner_wall(const struct runner *r)
{
    return r->wall0 + runner_elapsed(r);
}

/* xorshift: chance enough to spread retries. */
uint64_t runner_random(struct runner *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static void on_wake(uv_timer_t *t)
{
    tick(t->data);
}

void runner_poke(struct runner *r)
{
    if (r->phase != PHASE_OVER)
        uv_timer_start(&r->wake, on_wake, 0, 0);
}

static void wake_at(struct runner *r, int64_t mono)
{
    int64_t now = runner_mono(r), in = mono > now ? mono - now : 0;
    if (r->phase != PHASE_OVER)
        uv_timer_start(&r->wake, on_wake, (uint64_t)in + 1, 0);
}

/* A lane that is new to this run takes up what the account store knows of it. */
struct lane *runner_lane(struct runner *r, const char *name)
{
    struct account_lane kept;
    struct err e = {0};
    for (struct lane *l = r->lanes; l; l = l->next)
        if (strcmp(l->name, name) == 0)
            return l;
    struct lane *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    lane_init(l, name, (int)r->conf->limits.in_flight);
    cache_init(&l->cache, r->turn);
    if (account_lane(r->o->accounts, r->account, name, runner_wall(r), &kept, &e) < 0)
        log_warn("%s", e.text);
    l->rpm = kept.rpm;
    l->itpm = kept.itpm;
    l->otpm = kept.otpm;
    if (kept.hold_until) {
        l->hold_until = runner_mono(r) + kept.hold_until - runner_wall(r);
        snprintf(l->why, sizeof l->why, "%.190s", kept.hold_why);
    }
    l->next = r->lanes;
    r->lanes = l;
    return l;
}

struct brake *runner_brake(struct runner *r, const struct store_job *j)
{
    for (struct brake *b = r->brakes; b; b = b->next)
        if (b->source == j->source)
            return b;
    struct brake *b = calloc(1, sizeof *b + strlen(j->path) + 1);
    if (b == NULL)
        return NULL;
    strcpy(b->path, j->path);
    b->source = j->source;
    b->next = r->brakes;
    r->brakes = b;
    return b;
}

void runner_begin_stop(struct runner *r, enum stop why, const char *says, int64_t until)
{
    if (r->stop)
        return; /* the first cause wins */
    if (r->watch)
        watch_ending(r->watch, why == STOP_RELOAD);
    r->stop = why;
    r->stop_until = until;
    snprintf(r->stop_says, sizeof r->stop_says, "%s", says);
    /* A signal is in a hurry. A halt is not: what left is paid for, and its own
     * watchdogs bound it. */
    bool hurry = why == STOP_SIGNAL || why == STOP_UNTIL;
    int64_t wait = hurry ? r->conf->limits.drain_ms
                         : r->conf->api.first_byte_ms + r->conf->limits.drain_ms;
    r->drain_at = runner_mono(r) + wait;
    ended_cancel_all(r, true);
    if (tell_wants_events(r->tell) && why != STOP_RELOAD) {
        struct textbuf text = {0};
        textbuf_json(&text, says);
        tell_event(r->tell, "halted", runner_wall(r), "\"account\":\"%s\",\"says\":%s",
                   r->account, text.at ? text.at : "null");
        textbuf_free(&text);
    }
    runner_poke(r);
}

void runner_finished(struct runner *r, struct live *l)
{
    l->where = LIVE_AT_REST;
    l->next = NULL;
    *r->finished_last = l;
    r->finished_last = &l->next;
}

/* --- results, off the loop --- */

static void on_write_work(uv_work_t *w)
{
    struct runner *r = w->data;
    r->write_rc = 0;
    for (struct live *l = r->writing_list; l && r->write_rc == 0; l = l->next)
        r->write_rc = results_write(r->results, &l->result, &r->write_err);
    if (r->write_rc == 0)
        r->write_rc = results_flush(r->results, &r->write_err);
    if (r->write_rc == 0 && r->write_sync)
        r->write_rc = results_sync(r->results, &r->write_moves, &r->write_err);
}

static void free_list(struct live *l)
{
    for (struct live *next; l; l = next) {
        next = l->next;
        live_free(l);
    }
}

static void on_written(uv_work_t *w, int status)
{
    struct runner *r = w->data;
    (void)status;
    r->writing = false;
    free_list(r->writing_list);
    r->writing_list = NULL;
    if (r->write_rc < 0) {
        log_error("results: %s", r->write_err.text);
        runner_begin_stop(r, STOP_RESULTS, r->write_err.text, 0);
        r->results_failed = true;
        r->final_sync = r->rebuilt = true; /* the next run makes them from the store */
    }
    runner_poke(r);
}

static void write_results(struct runner *r, bool sync)
{
    if (r->writing || r->results_failed) {
        if (r->results_failed && !r->writing) {
            free_list(r->finished);
            r->finished = NULL;
            r->finished_last = &r->finished;
        }
        return;
    }
    if (r->finished == NULL && !sync)
        return;
    r->writing = true;
    r->write_sync = sync;
    r->unsynced = !sync;
    r->writing_list = r->finished;
    r->finished = NULL;
    r->finished_last = &r->finished;
    r->write_work.data = r;
    uv_queue_work(&r->loop, &r->write_work, on_write_work, on_written);
}

/* While nothing is committed, as in a long hold, results are not left lying either. */
static void flush_results(struct runner *r)
{
    if (r->writing || (r->finished == NULL && !(r->unsynced && r->sync_due)))
        return;
    write_results(r, r->sync_due);
    if (r->writing)
        r->sync_due = false;
}

/* Results of jobs that came to rest on disk, not in memory: invalid, canceled, given
 * up. The store tells them; a copy is queued behind the others. */
static int on_row(void *arg, const struct store_result *x)
{
    struct runner *r = arg;
    struct live_table aside = {0};
    struct live *l = live_new(&aside, &x->job);
    if (l == NULL)
        return 1;
    l->result = *x;
    l->result.job = l->job;
    /* What lives beyond this call is copied into the places a live job has for it. */
    snprintf(l->judged.sentence, sizeof l->judged.sentence, "%s",
             x->job.says ? x->job.says : "");
    snprintf(l->judged.type, sizeof l->judged.type, "%s",
             x->job.type ? x->job.type : "");
    snprintf(l->judged.model, sizeof l->judged.model, "%s",
             x->last.model ? x->last.model : "");
    snprintf(l->judged.code, sizeof l->judged.code, "%s",
             x->last.tier ? x->last.tier : "");
    snprintf(l->why, sizeof l->why, "%s", x->last.why ? x->last.why : "");
    l->result.job.says = l->judged.sentence;
    l->result.job.type = *l->judged.type ? l->judged.type : NULL;
    l->result.last.model = x->last.model ? l->judged.model : NULL;
    l->result.last.tier = x->last.tier ? l->judged.code : NULL;
    l->result.last.why = x->last.why ? l->why : NULL;
    l->result.last.request_id = NULL;
    l->result.message = NULL;
    if (x->message) {
        l->message = strndup(x->message, x->message_len);
        l->result.message = l->message;
    }
    runner_finished(r, l);
    return 0;
}

static void finish_from_store(struct runner *r, const struct move *v)
{
    struct err e = {0};
    if (v->seq > 0 && store_result_of(r->o->store, v->job, on_row, r, &e) < 0)
        log_error("%s", e.text);
}

/* Everything that came to rest from `seq` on, in a commit that did nothing else. */
static void finish_since(struct runner *r, int64_t seq)
{
    struct err e = {0};
    if (store_each_result(r->o->store, seq - 1, 0, on_row, r, &e) < 0)
        log_error("%s", e.text);
}

/* --- the commit --- */

static void on_commit_work(uv_work_t *w)
{
    struct runner *r = w->data;
    r->commit_full = false;
    r->commit_err = (struct err){0};
    r->commit_rc = store_apply(r->o->store, &r->moves, &r->commit_full, &r->commit_err);
}

static void reserve_path(const struct runner *r, char *path, size_t size)
{
    snprintf(path, size, "%s/reserve", r->o->queue->state);
}

/* Disk space that is ours for the day the disk is full. */
static void reserve_take(struct runner *r)
{
    char path[4096];
    reserve_path(r, path, sizeof path);
    if (r->conf->store.reserve == 0)
        return;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, r->conf->store.reserve) != 0)
        log_warn("no room to set %" PRId64 " MiB aside in %s",
                 r->conf->store.reserve >> 20, r->o->queue->state);
    if (fd >= 0)
        close(fd);
}

static void reserve_give(struct runner *r)
{
    char path[4096];
    reserve_path(r, path, sizeof path);
    if (!r->reserve_gone && unlink(path) == 0)
        log_warn("the disk is full: the %" PRId64
                 " MiB that were set aside are given back",
                 r->conf->store.reserve >> 20);
    r->reserve_gone = true;
}

static void all_lanes_wet(struct runner *r)
{
    for (struct lane *l = r->lanes; l; l = l->next)
        l->dry = false;
}

static void uncommitted(struct runner *r)
{
    for (struct move *v = r->moves.first; v; v = v->next) {
        struct live *l = v->owner;
        if (v->kind == MOVE_ADMIT) {
            admit_undo(r, l);
            ready_push(l, true);
        } else if (v->kind == MOVE_LANE && l) {
            ready_push(l, true);
        } else if (v->kind == MOVE_SETTLE || v->kind == MOVE_CHECKED) {
            l->settling = false;
        } else if (v->kind == MOVE_RESULT_FILE || v->kind == MOVE_RESULTS) {
            /* What a sync told stays true, and is told with the next list. */
            struct move *kept = moves_add(&r->write_moves, v->kind);
            if (kept) {
                kept->source = v->source;
                kept->inode = v->inode;
                kept->length = v->length;
                kept->seq = v->seq;
            }
        } else if (v->kind == MOVE_TAKE_IN || v->kind == MOVE_SOURCE_END) {
            r->intake_lost = true;
        }
    }
    r->account_untold = true;
    history_untold(r);
    all_lanes_wet(r); /* what was taken out of memory for this list is on disk still */
    if (!r->sick)
        r->sick_since = runner_mono(r);
    if (!r->sick)
        log_error("%s; answers are kept in memory and tried again", r->commit_err.text);
    r->sick = true;
    r->sick_at = runner_mono(r) + SICK_RETRY_MS;
    if (r->commit_full)
        reserve_give(r);
    int64_t now = runner_mono(r);
    int64_t since = r->answer_at > r->sick_since ? r->answer_at : r->sick_since;
    if (now - since < r->conf->store.patience_ms && r->phase == PHASE_RUNNING &&
        r->signals < 2)
        return;
    for (struct live *l = r->noted; l; l = l->next)
        r->lost += l->note == NOTE_ANSWER;
    char says[ACCOUNT_SAYS_MAX];
    snprintf(says, sizeof says, "%.200s", r->commit_err.text);
    r->stop = STOP_NONE; /* whatever was the reason: this one counts */
    runner_begin_stop(r, STOP_STORE, says, 0);
    r->phase = PHASE_OVER;
}

static void taken_in(struct runner *r, const struct move *v)
{
    struct live *l;
    if (v->in.taken == TAKEN_KNOWN) {
        struct lane *back = v->in.lane ? runner_lane(r, v->in.lane) : NULL;
        if (back)
            back->dry = false; /* it may have been gone, and waits again */
        return;
    }
    if (v->in.taken == TAKEN_STAGED) {
        r->staged++;
        r->consented = false;
        return;
    }
    if (v->in.taken == TAKEN_CHANGED && (l = live_find(&r->table, v->job)) != NULL &&
        l->where == LIVE_READY) {
        ready_remove(l);
        live_forget(&r->table, l);
        live_free(l);
    }
    if (v->seq > 0) {
        r->tally.failed++;
        finish_from_store(r, v);
        return;
    }
    for (struct brake *b = r->brakes; b; b = b->next)
        if (b->source == v->source && b->parked)
            b->parking = true; /* what comes after the parking is parked as well */
    if (v->in.taken == TAKEN_NEW)
        r->tally.queued++;
    if (v->in.taken == TAKEN_CHANGED)
        log_info("job=%s changed: queued again", v->name);
    struct lane *lane = v->in.lane ? runner_lane(r, v->in.lane) : NULL;
    if (lane)
        lane->dry = false;
}

static int on_lane_known(void *arg, const char *name)
{
    if (strcmp(name, LANE_UNRECKONED) == 0)
        return 0;
    return runner_lane(arg, name) ? 0 : 1;
}

/* Jobs were queued again on disk, perhaps of lanes that this run has not met. */
static void again_on_disk(struct runner *r)
{
    struct err e = {0};
    if (store_lanes(r->o->store, on_lane_known, r, &e) < 0)
        log_error("%s", e.text);
    all_lanes_wet(r);
}

static void pause_told(struct runner *r, bool paused)
{
    if (r->paused == paused)
        return;
    r->paused = paused;
    tell_line(r->tell, false,
              paused ? "paused on request: nothing new is sent; `nightmill resume %s` "
                       "goes on"
                     : "resumed on request: %s goes on",
              r->o->queue->root);
}

static void committed(struct runner *r)
{
    if (r->sick)
        log_info("the store takes answers again");
    r->sick = false;
    for (struct move *v = r->moves.first; v; v = v->next) {
        switch (v->kind) {
        case MOVE_TAKE_IN:
            taken_in(r, v);
            break;
        case MOVE_ADMIT:
            admit_start(r, v->owner, v);
            break;
        case MOVE_SETTLE:
            ended_settled(r, v);
            break;
        case MOVE_CHECKED:
            ended_check_settled(r, v);
            break;
        case MOVE_FORGET:
            quality_forget(r);
            break;
        case MOVE_COUNT:
            if (v->seq > 0) {
                log_warn("job=%lld %s: %s", (long long)v->job,
                         job_outcome_name(v->outcome), v->text);
                r->tally.queued--;
                if (v->to == JOB_PARKED)
                    r->tally.parked++;
                else
                    r->tally.failed++;
            }
            finish_from_store(r, v);
            break;
        case MOVE_REVISE:
            r->staged = v->changed ? r->staged - v->changed : 0;
            r->tally.queued += v->changed;
            again_on_disk(r);
            break;
        case MOVE_LANE:
            if (v->owner) {
                r->unreckoned += strcmp(v->name, LANE_UNRECKONED) == 0;
                if (strcmp(v->name, LANE_UNRECKONED) != 0)
                    runner_lane(r, v->name)->dry = false;
                live_forget(&r->table, v->owner);
                live_free(v->owner);
            } else {
                all_lanes_wet(r);
            }
            break;
        case MOVE_RETRY:
            log_info("%" PRId64 " job%s queued again on request", v->changed,
                     plural(v->changed));
            r->tally.queued += v->changed;
            for (struct brake *b = r->brakes; b; b = b->next) {
                b->parked = b->parking = false;
                b->streak = 0;
            }
            again_on_disk(r);
            break;
        case MOVE_SOURCE: /* read anew: what was held against it is over */
            for (struct brake *b = r->brakes; b; b = b->next)
                if (b->source == v->source) {
                    b->parked = b->parking = false;
                    b->streak = 0;
                }
            break;
        case MOVE_PAUSE:
            pause_told(r, v->text != NULL);
            break;
        case MOVE_PRUNE:
            r->prune_from = v->job;
            if (v->changed > 0)
                log_info("store.keep: %" PRId64 " answer%s or job%s forgotten",
                         v->changed, plural(v->changed), plural(v->changed));
            break;
        case MOVE_CANCEL:
            log_info("%" PRId64 " waiting job%s canceled on request", v->changed,
                     plural(v->changed));
            r->tally.queued -= v->changed;
            if (v->changed > 0)
                finish_since(r, v->seq);
            break;
        case MOVE_PARK_SOURCE:
            r->tally.parked += v->changed;
            r->tally.queued -= v->changed;
            for (struct brake *b = r->brakes; b; b = b->next)
                if (b->source == v->source && v->changed < v->limit) {
                    b->parking = false;
                    b->parked = true;
                }
            break;
        default:
            break;
        }
    }
}

static void on_committed(uv_work_t *w, int status)
{
    struct runner *r = w->data;
    (void)status;
    r->committing = false;
    if (r->commit_rc < 0)
        uncommitted(r);
    else
        committed(r);
    shared_done(r);
    moves_clear(&r->moves);
    write_results(r, r->sync_due && r->phase == PHASE_RUNNING);
    if (r->writing && r->write_sync)
        r->sync_due = false;
    if (r->phase == PHASE_OVER)
        r->close = true;
    if (r->close)
        uv_stop(&r->loop);
    else
        runner_poke(r);
}

static void commit(struct runner *r)
{
    r->committing = true;
    r->commit_work.data = r;
    uv_queue_work(&r->loop, &r->commit_work, on_commit_work, on_committed);
}

/* --- what a tick asks --- */

/* Groups that share a prefix come one behind the other, however they are scattered. */
static int64_t turn_of(struct runner *r, struct lane *l, const struct job_spec *s,
                       const struct routed *to)
{
    struct prefix p = {.count = 0};
    if (r->conf->jobs.cache == CACHE_OFF)
        return 0;
    if (!(s->asks & ASKS_NO_CACHE) && s->body_len >= PREFIX_BYTES_MIN)
        prefix_find(&p, s->body, s->body_len);
    return cache_seen(&l->cache, &p, admit_rung(to),
                      catalog_find(r->o->catalog, to->model), 1, runner_mono(r));
}

static const char *on_lane_wanted(void *arg, const struct job_spec *s, const char *name,
                                  int64_t *turn, struct err *e)
{
    struct runner *r = arg;
    struct routed to;
    struct route_job j = {.name = name,
                          .tier = s->tier,
                          .model = s->model,
                          .effort = s->effort,
                          .tags = s->tags,
                          .check = s->check,
                          .route = s->route,
                          .asks = s->asks,
                          .bytes = (int64_t)s->body_len,
                          .max_tokens = s->max_tokens};
    if (route_decide(r->conf, r->o->catalog, &j, &to, e) < 0 ||
        (s->check && quality_words(r, s->check, e) < 0))
        return NULL;
    struct lane *l = runner_lane(r, to.lane);
    if (l == NULL)
        return NULL;
    *turn = turn_of(r, l, s, &to);
    return l->name;
}

static void consent_wanted(struct runner *r, const char *says)
{
    runner_begin_stop(r, STOP_CONSENT, says, 0); /* the scan ends here, too */
}

/* A queue that was full and is empty is more likely a mount that failed. */
static void walked(struct runner *r)
{
    struct store_totals t;
    struct err e = {0};
    char says[200];
    r->walked = true;
    if (r->watch && !watch_same_root(r->watch)) {
        snprintf(
            says, sizeof says,
            "%.120s is not the directory that it was: was it unmounted or replaced?",
            r->o->queue->root);
        runner_begin_stop(r, STOP_INPUT, says, 0);
        return;
    }
    if (intake_found(r->intake) > 0 || r->o->accept_empty || r->live)
        return;
    if (store_totals(r->o->store, &t, &e) < 0) {
        log_error("%s", e.text);
        return;
    }
    if (t.known - t.gone == 0) {
        tell_line(r->tell, false,
                  "no job files in %s; put .md, .txt, .json or .jsonl files there%s",
                  r->o->queue->root,
                  r->watch ? ": they are taken as they come"
                           : ", then run the same command");
        return;
    }
    snprintf(says, sizeof says,
             "no job files were found where %" PRId64
             " jobs are known; if that is meant, say --accept-empty",
             t.known - t.gone);
    consent_wanted(r, says);
}

/* Brakes that nothing hangs on any more: a service meets sources without end. */
static void forget_brakes(struct runner *r)
{
    for (struct brake *b = r->brakes; b; b = b->next)
        b->used = b->in_flight > 0 || b->parking || b->parked || b->streak > 0;
    for (size_t i = 0; i < LIVE_BUCKETS; i++)
        for (struct live *l = r->table.bucket[i]; l; l = l->hash_next)
            if (l->brake)
                l->brake->used = true;
    for (struct brake **at = &r->brakes; *at;) {
        struct brake *b = *at;
        if (b->used) {
            at = &b->next;
            continue;
        }
        *at = b->next;
        free(b);
    }
}

/* Watching: one scan is over, and another begins when it is time. */
static void scan_again(struct runner *r)
{
    struct err e = {0};
    int64_t at;
    if (!watch_scan_due(r->watch, &at))
        return;
    if (intake_again(r->intake, &e) < 0) {
        log_error("%s", e.text);
        return;
    }
    r->intake_ended = r->intake_lost = r->walked = false;
    watch_scan_begins(r->watch);
}

static void scan_ended(struct runner *r)
{
    bool first = !r->live;
    r->intake_ended = true;
    if (r->watch == NULL)
        return;
    watch_scan_ended(r->watch, intake_wake_at(r->intake), !intake_failed(r->intake));
    r->live = true;
    forget_brakes(r);
    if (first)
        watch_ready(r->watch);
}

static void take_in(struct runner *r, struct moves *m)
{
    enum intake_step step = INTAKE_MORE;
    struct err e = {0};
    if (r->watch && r->intake_ended && !r->sick)
        scan_again(r);
    if (r->intake_ended || r->sick)
        return;
    if (r->intake_lost && r->watch) { /* what was not stored is found again */
        intake_drop(r->intake);
        watch_scan_ended(r->watch, runner_wall(r), false);
        r->intake_ended = true;
        return;
    }
    if (r->intake_lost) {
        log_warn("taking in stopped where the store failed; the next run goes on");
        r->intake_ended = true;
        return;
    }
    if (intake_slice(r->intake, runner_wall(r), m, &step, &e) < 0) {
        r->intake_ended = true;
        runner_begin_stop(r, STOP_INPUT, e.text, 0);
        return;
    }
    bool waited = r->intake_waits;
    r->intake_waits = step == INTAKE_WAIT;
    if (r->intake_waits && !waited)
        tell_line(r->tell, false,
                  "%zu file%s changed just now; waiting until still for %g s",
                  intake_young(r->intake), plural((int64_t)intake_young(r->intake)),
                  (double)r->conf->intake.settle_ms / 1000);
    if (step == INTAKE_WALKED)
        walked(r);
    else if (step == INTAKE_END && m->count == 0)
        scan_ended(r);
    if (step == INTAKE_MORE || step == INTAKE_WALKED)
        r->again = true;
}

/*
 * Done jobs that changed are sent again only with consent, where they are more than a
 * tenth. Asked before the first sending, and again whenever more of them turn up.
 */
static bool consent_given(struct runner *r, struct moves *m)
{
    struct store_totals t;
    struct err e = {0};
    char says[240];
    if (store_totals(r->o->store, &t, &e) < 0) {
        log_error("%s", e.text);
        return false;
    }
    bool many = t.staged * 10 > t.jobs[JOB_DONE] && !r->o->accept_changes &&
                !r->accepted;
    if (many &&
        r->live) { /* a few at a time are a person's work; more is an accident */
        if (t.staged <= CHANGED_FREE)
            many = false;
        else if (!r->consent_missing)
            tell_line(
                r->tell, true,
                "%" PRId64 " of %" PRId64 " done jobs changed; they wait. If they "
                "are to be sent again, say `nightmill resume --accept-changes %s`",
                t.staged, t.jobs[JOB_DONE], r->o->queue->root);
        r->consent_missing = many;
        if (many)
            return false;
    }
    if (many) {
        moves_add(m, MOVE_UNSTAGE);
        snprintf(says, sizeof says,
                 "%" PRId64 " of %" PRId64
                 " done jobs changed and would be sent again; if that is meant, say "
                 "--accept-changes",
                 t.staged, t.jobs[JOB_DONE]);
        consent_wanted(r, says);
        return false;
    }
    if (t.staged > 0)
        tell_line(r->tell, false,
                  "%" PRId64 " done job%s changed and will be sent again", t.staged,
                  plural(t.staged));
    return true;
}

static void open_gate(struct runner *r, bool may, struct moves *m)
{
    if (r->stop || !may || r->gate_open)
        return;
    bool given = r->staged == 0 || consent_given(r, m);
    r->gate_open = given || r->live; /* there the changed ones alone wait */
    r->consented = given && r->staged > 0;
}

static void revise(struct runner *r, struct moves *m)
{
    int64_t now = runner_mono(r);
    if (r->staged == 0)
        r->accepted = r->consent_missing = false;
    if (r->staged == 0 || !r->gate_open || r->stop)
        return;
    /* In a service something is out at all times. */
    if ((r->out > 0 || r->checking > 0) && (!r->watch || now < r->revise_at))
        return;
    if (r->watch && now < r->revise_at)
        return;
    r->revise_at = now + REVISE_EVERY_MS;
    if (!r->consented && !consent_given(r, m))
        return;
    r->consented = true;
    struct move *v = moves_add(m, MOVE_REVISE);
    if (v)
        v->now = runner_wall(r);
    r->again = true;
}

struct asking {
    struct runner *r;
    struct moves *m;
};

static void cancel_in_memory(struct runner *r, const char *name)
{
    for (size_t i = 0; i < LIVE_BUCKETS; i++)
        for (struct live *l = r->table.bucket[i], *next; l; l = next) {
            next = l->hash_next;
            if (strcmp(l->job.name, name) != 0 && fnmatch(name, l->job.name, 0) != 0)
                continue;
            if (l->where == LIVE_OUT) {
                log_info("job=%s canceled on request; it was out", l->job.name);
                l->canceled = true;
                ended_cancel(r, l);
            } else if (l->where == LIVE_READY) {
                ready_remove(l);
                live_forget(&r->table, l);
                live_free(l);
            }
        }
}

/* The strings are lent for the call, the moves want them longer. */
static int on_request(void *arg, const struct store_request *q)
{
    struct asking *a = arg;
    struct runner *r = a->r;
    static const struct {
        const char *verb;
        enum move_kind kind;
    } verbs[] = {{"retry", MOVE_RETRY},
                 {"cancel", MOVE_CANCEL},
                 {"forget", MOVE_FORGET},
                 {"pause", MOVE_PAUSE},
                 {"resume", MOVE_PAUSE}};
    enum move_kind kind = MOVE_ANSWERED_REQUEST; /* "accept", and what nobody knows */
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(q->verb, verbs[i].verb) == 0)
            kind = verbs[i].kind;
    struct move *v = moves_add(a->m, kind), *done = v;
    if (v && kind != MOVE_CANCEL && kind != MOVE_ANSWERED_REQUEST)
        done = moves_add(a->m, MOVE_ANSWERED_REQUEST);
    if (v == NULL || done == NULL)
        return 1;
    if (strcmp(q->verb, "accept") == 0)
        r->accepted = true;
    if (strcmp(q->verb, "pause") == 0)
        v->text = "paused";
    v->limit = CANCEL_AT_ONCE;
    snprintf(r->request_job, sizeof r->request_job, "%s", q->job ? q->job : "");
    v->name = q->job ? r->request_job : NULL;
    v->now = runner_wall(r);
    done->count = q->id;
    if (kind == MOVE_CANCEL)
        cancel_in_memory(r, r->request_job);
    r->requests_left = true;
    return 1; /* one a tick: its name has one place */
}

static void requests(struct runner *r, struct moves *m)
{
    struct asking a = {r, m};
    struct err e = {0};
    if (!r->beat_due && !r->requests_left && !quality_grades_left(r))
        return;
    r->beat_due = r->requests_left = false;
    if (store_each_request(r->o->store, on_request, &a, &e) < 0)
        log_error("%s", e.text);
    if (!r->requests_left) {
        quality_grades(r, m);
        r->again = r->again || quality_grades_left(r);
    }
}

static void park_sources(struct runner *r, struct moves *m)
{
    for (struct brake *b = r->brakes; b; b = b->next) {
        struct move *v;
        if (!b->parking || b->in_flight > 0 ||
            (v = moves_add(m, MOVE_PARK_SOURCE)) == NULL)
            continue;
        v->source = b->source;
        v->text = b->says;
        v->limit = PARK_AT_ONCE;
        v->now = runner_wall(r);
    }
}

static void join_write_moves(struct runner *r, struct moves *m)
{
    if (r->writing || r->write_moves.first == NULL)
        return;
    *m->last = r->write_moves.first;
    m->last = r->write_moves.last;
    m->count += r->write_moves.count;
    moves_init(&r->write_moves);
}

/* `status` reads with the queue whose holds and halts concern it. */
static void tell_account(struct runner *r, struct moves *m)
{
    struct move *v;
    if (!r->account_untold || (v = moves_add(m, MOVE_META)) == NULL)
        return;
    v->name = "account";
    v->text = r->account;
    r->account_untold = false;
}

/* How long what left last may take: nothing leaves later than so long before the end. */
static int64_t time_out(struct runner *r, int64_t until)
{
    double longest = 0;
    if (runner_wall(r) + UNTIL_MARGIN_MAX < until)
        return 0;
    for (struct lane *l = r->lanes; l; l = l->next) {
        const struct buckets *b = l->in_flight > 0 || l->ready > 0
                                      ? shared_buckets(r, l)
                                      : NULL;
        if (b && b->all.outputs > 0 && b->all.took_ms > longest)
            longest = b->all.took_ms;
    }
    shared_done(r);
    return longest * 2 < UNTIL_MARGIN_MAX ? (int64_t)(longest * 2) : UNTIL_MARGIN_MAX;
}

/* Watching: outside of its hours nothing is sent, and what is out at their end has ended. */
static void keep_hours(struct runner *r)
{
    int64_t edge, wall = runner_wall(r);
    if (r->o->hours == NULL || wall < r->hours_at)
        return;
    bool open = hours_open(r->o->hours, wall, &edge);
    if (open == r->hours_over) {
        char at[32] = "";
        time_t t = (time_t)(edge / 1000);
        struct tm tm;
        strftime(at, sizeof at, "%a %H:%M", localtime_r(&t, &tm));
        r->hours_over = !open;
        tell_line(
            r->tell, false,
            open ? "window.open has begun: jobs are sent until %s"
                 : "outside of window.open: jobs are taken in, and sent from %s on",
            at);
    }
    r->closed = !open || (edge > 0 && wall + time_out(r, edge) >= edge);
    r->closed_until = edge; /* closed before its time: the edge is looked at again */
    r->hours_at = wall + 1000;
}

static void check_time(struct runner *r)
{
    int64_t now = runner_mono(r);
    keep_hours(r);
    if (!r->stop && r->o->until_wall &&
        runner_wall(r) + time_out(r, r->o->until_wall) >= r->o->until_wall)
        runner_begin_stop(r, STOP_UNTIL, r->o->until_says, 0);
    if (!r->stop && !r->watch && r->endpoint.open &&
        now - r->endpoint.since > r->conf->limits.outage_ms)
        runner_begin_stop(r, STOP_OUTAGE, r->endpoint_says, 0);
    for (const struct lane *l = r->lanes; l && !r->stop && !r->watch; l = l->next)
        if (l->breaker.open && now - l->breaker.since > r->conf->limits.outage_ms)
            runner_begin_stop(r, STOP_OUTAGE, l->why, 0);
    if (!r->disk_short || r->out > 0)
        r->disk_since = now;
    if (!r->stop && now - r->disk_since > r->conf->store.patience_ms)
        runner_begin_stop(r, STOP_DISK, r->disk_says, 0);
    if (r->stop && now >= r->drain_at) {
        ended_cancel_all(r, false);
        if (r->checking > 0)
            quality_stop(r);
    }
    if (now - r->synced_at > SYNC_EVERY_MS) {
        r->sync_due = true;
        r->synced_at = now;
    }
}

/*
 * The bill that all queues share, told from the queue's own rows, so that what a dead
 * run spent is told by the next one. Saying it twice is saying it once.
 */
static int on_open_run(void *arg, const struct store_run *x)
{
    struct runner *r = arg;
    struct err e = {0};
    if (r->run == 0 && bill_run(r->o->store, r->o->accounts, r->account,
                                r->o->queue->state, x->id, &e) < 0)
        log_warn("%s", e.text);
    else if (x->id == r->run)
        money_bill_own(r);
    return 0;
}

static void bill(struct runner *r)
{
    struct err e = {0};
    if (store_each_open_run(r->o->store, on_open_run, r, &e) < 0)
        log_warn("%s", e.text);
}

/* --- the end --- */

static bool idle(const struct runner *r)
{
    return r->out == 0 && r->noted == NULL && r->checking == 0;
}

/* See store.keep. Some rows a commit; `prune_from` moves on with it. */
static void prune(struct runner *r, struct moves *m)
{
    struct move *v = moves_add(m, MOVE_PRUNE);
    if (v == NULL)
        return;
    r->prune_at = runner_mono(r) + PRUNE_EVERY_MS;
    v->job = r->prune_from;
    v->now = runner_wall(r) - r->conf->store.keep_ms;
}

/* Watching: a pass an hour, a bit of it every second. */
static void prune_now_and_then(struct runner *r, struct moves *m)
{
    int64_t now = runner_mono(r);
    if (r->watch && r->live && r->conf->store.keep_ms > 0 &&
        (r->prune_from > 0 || now >= r->prune_at))
        prune(r, m);
}

/* Results durable, rebuilt where need be, the run's row closed: a step a tick. */
static void end_step(struct runner *r, struct moves *m)
{
    struct err e = {0};
    if (r->writing)
        return;
    if (r->finished || !r->final_sync) {
        r->final_sync = true;
        write_results(r, true);
        if (r->writing)
            return;
    }
    join_write_moves(r, m);
    if (m->count > 0)
        return;
    if (r->rebuilt == false && !r->watch && r->conf->store.keep_ms > 0 &&
        (r->prune_at == 0 || r->prune_from > 0)) {
        prune(r, m);
        return;
    }
    if (!r->rebuilt) {
        r->rebuilt = true;
        if (results_rebuild(r->results, m, &e) < 0) {
            log_error("results: %s", e.text);
            runner_begin_stop(r, STOP_RESULTS, e.text, 0);
            r->results_failed = true;
        }
        bill(r); /* before its row is closed: a row that is closed was billed */
        quality_save(r, m, true);
        struct move *v = moves_add(m, MOVE_RUN_END);
        if (v) {
            v->now = runner_wall(r);
            v->text = r->stop_says;
        }
        return;
    }
    r->phase = PHASE_OVER;
    r->close = true;
    uv_stop(&r->loop);
}

static bool canary_sung(const struct runner *r)
{
    return r->o->first > 0 && r->admitted >= r->o->first;
}

/* All that is left waits, and for longer than anybody wants to sit. */
static void too_long(struct runner *r, int64_t at)
{
    int64_t wall = runner_wall(r) + at - runner_mono(r);
    runner_begin_stop(r, STOP_WAIT, *r->waits ? r->waits : "jobs rest before a new try",
                      wall);
}

/* Watching: the next day or month, or a higher ceiling, lets it go on. */
static void money_waits(struct runner *r, const char *says)
{
    r->account_hold = runner_mono(r) + MONEY_LOOK_MS;
    snprintf(r->account_why, sizeof r->account_why, "%.190s", says);
    r->money_short = r->money_searched = false;
    r->money_wants = 0;
    if (!r->money_told)
        tell_line(
            r->tell, true,
            "%s. Nothing is sent until the next day or month, or until the ceiling "
            "is raised and SIGHUP tells so.",
            says);
    r->money_told = true;
}

/* Nothing was decided in this tick: is it over, or when does time change that? */
static void rest_or_end(struct runner *r)
{
    int64_t at = 0, now = runner_mono(r);
    char says[ACCOUNT_SAYS_MAX];
    if (!r->stop && now >= r->account_hold && money_stops(r, says, sizeof says)) {
        if (r->watch)
            money_waits(r, says);
        else
            runner_begin_stop(r, STOP_BUDGET, says, 0);
    }
    if (r->again)
        return;
    bool taking_in = !r->intake_ended;
    bool waiting = admit_waiting(r, &at, r->waits, sizeof r->waits);

    int64_t longest = r->conf->limits.longest_wait_ms;
    if (!r->stop && !r->watch && longest > 0 && idle(r) && !taking_in && waiting &&
        at - now > longest)
        too_long(r, at);
    if (r->stop || canary_sung(r)) {
        if (idle(r) && (r->stop || !taking_in || canary_sung(r))) {
            r->phase = PHASE_ENDING;
            r->again = true;
            return;
        }
        at = r->stop ? r->drain_at : 0;
    } else if (r->watch) {
        int64_t scan;
        if (!taking_in && !watch_scan_due(r->watch, &scan) && (at == 0 || scan < at))
            at = scan;
        else if (!taking_in && watch_scan_due(r->watch, &scan))
            r->again = true;
    } else if (idle(r) && !taking_in && !waiting && !r->unrouted && r->staged == 0) {
        r->phase = PHASE_ENDING;
        r->again = true;
        return;
    }
    if (r->intake_waits && taking_in && !r->stop) {
        int64_t look = now + intake_wake_at(r->intake) - runner_wall(r);
        if (at == 0 || look < at)
            at = look;
    }
    if (at > 0)
        wake_at(r, at);
}

static void tick(struct runner *r)
{
    struct moves *m = &r->moves;
    if (r->committing || r->phase == PHASE_OVER)
        return;
    if (r->sick && runner_mono(r) < r->sick_at) {
        wake_at(r, r->sick_at);
        return;
    }
    /* Asked before the next slice: what was read until now is committed and counted. */
    bool may_send = r->intake_ended || intake_may_send(r->intake);
    r->again = false;
    check_time(r);
    join_write_moves(r, m);
    tell_account(r, m);
    ended_headers(r);
    ended_settle(r, m);
    quality_settle(r, m);
    history_look(r, m);
    if (r->phase == PHASE_RUNNING)
        quality_save(r, m, false);
    if (r->phase == PHASE_RUNNING && !r->stop && m->count == 0 && r->second_due) {
        r->second_due = false;
        prune_now_and_then(r, m);
    }
    if (r->phase == PHASE_RUNNING && !r->stop && m->count == 0)
        requests(r, m); /* alone in its list: see finish_since() */
    bool asked = r->requests_left;
    if (r->phase == PHASE_RUNNING && !r->stop && !asked)
        take_in(r, m);
    if (asked) {
        commit(r);
        return;
    }
    if (r->phase == PHASE_RUNNING && !r->stop) {
        open_gate(r, may_send, m);
        revise(r, m);
        if (admit_reroute(r, m) == 0 && r->unrouted)
            r->again = true;
        park_sources(r, m);
        admit_fill(r, m);
        admit_some(r, m);
    } else if (r->phase == PHASE_RUNNING) {
        park_sources(r, m);
    }
    if (r->phase == PHASE_ENDING)
        end_step(r, m);
    else if (m->count == 0)
        rest_or_end(r);
    if (m->count > 0) {
        commit(r);
        return;
    }
    if (r->phase == PHASE_RUNNING)
        flush_results(r);
    if (r->again)
        runner_poke(r);
}

/* What bounds each lane that has work, in words; what bounds it newly goes to the log. */
static void lanes_say(struct runner *r, char *buf, size_t size)
{
    int64_t now = runner_mono(r), at;
    size_t len = 0;
    *buf = '\0';
    for (struct lane *l = r->lanes; l; l = l->next) {
        char says[LANE_WHY_MAX + 80];
        enum lane_state s = lane_state(l, now, &at);
        if (l->in_flight == 0 && l->ready == 0 && l->dry)
            continue;
        if (s == LANE_PACED) {
            struct buckets *b = shared_buckets(r, l);
            buckets_say(b, &l->look, now, l->pace_says, sizeof l->pace_says);
            shared_done(r);
        }
        if (s != LANE_OPEN && len + 1 < size)
            len += (size_t)snprintf(buf + len, size - len, "%s%.60s: %s",
                                    len ? "; " : "", l->name,
                                    lane_says(l, now, says, sizeof says));
        if (len >= size)
            len = size - 1;
        if (s != LANE_PACED || l->look.binds == l->bound) {
            l->bound_at = s == LANE_PACED ? 0 : l->bound_at;
            continue;
        }
        if (l->bound_at == 0)
            l->bound_at = now;
        if (now - l->bound_at < PACE_TOLD_MS)
            continue;
        log_info("lane=%s %s", l->name, l->pace_says);
        l->bound = l->look.binds;
        l->bound_at = 0;
    }
}

static void on_beat(uv_timer_t *t)
{
    struct runner *r = t->data;
    char paces[400];
    r->beat_due = true;
    r->tally.in_flight = 0;
    for (const struct lane *l = r->lanes; l; l = l->next)
        r->tally.in_flight += l->in_flight;
    shared_look(r);
    money_look(r);
    lanes_say(r, paces, sizeof paces);
    show_run(r, false);
    tell_progress(r->tell, &r->tally, runner_elapsed(r),
                  r->out == 0 && *r->waits ? r->waits : NULL, paces, r->watch != NULL);
    if (r->watch)
        watch_beat(r->watch);
    if (++r->beats % 5 == 0) {
        r->second_due = true;
        runner_poke(r);
    }
    if (r->watch && r->beats % 300 == 1)
        notify_meanwhile(r);
}

/* Under nohup, say. */
static bool ignores_hangup(void)
{
    struct sigaction was;
    return sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler == SIG_IGN;
}

static void on_signal(uv_signal_t *s, int number)
{
    struct runner *r = s->data;
    if (r->stop == STOP_RELOAD)
        r->stop = STOP_NONE; /* no going on after this */
    if (++r->signals == 1) {
        char says[64];
        snprintf(says, sizeof says, "%s asked for it",
                 number == SIGINT    ? "SIGINT"
                 : number == SIGTERM ? "SIGTERM"
                                     : "SIGHUP");
        tell_line(
            r->tell, false,
            "stopping: nothing new is sent, %d request%s still out (once more to leave "
            "at once)",
            r->out, plural(r->out));
        runner_begin_stop(r, STOP_SIGNAL, says, 0);
        return;
    }
    r->drain_at = runner_mono(r);
    runner_poke(r);
}

/* New settings: what is out is awaited, and then all begins anew with them. */
static void on_hangup(uv_signal_t *s, int number)
{
    struct runner *r = s->data;
    (void)number;
    if (r->stop || !r->o->reload(r->o->arg))
        return;
    tell_line(r->tell, false, "settings are read again: %d request%s still out", r->out,
              plural(r->out));
    runner_begin_stop(r, STOP_RELOAD, "settings are read again", 0);
}

/* --- the beginning --- */

struct doubting {
    struct runner *r;
    struct moves *m;
    int64_t count;
    bool failed;
};

/* What a dead run left out: nobody can say whether it was answered. */
static int on_left_out(void *arg, const struct store_attempt *a,
                       const struct store_job *j)
{
    struct doubting *d = arg;
    struct runner *r = d->r;
    if (r->sender->recover(r->sender, a->id) != RECOVER_DOUBT)
        return 0;
    struct move *v = moves_add(d->m, MOVE_SETTLE);
    bool hold = r->conf->jobs.in_doubt == IN_DOUBT_HOLD;
    if (v == NULL) {
        d->failed = true;
        return 1;
    }
    v->job = j->id;
    v->attempt = a->id;
    v->to = hold ? JOB_PARKED : JOB_QUEUED;
    v->outcome = hold ? OUTCOME_IN_DOUBT : OUTCOME_NONE;
    v->now = runner_wall(r);
    v->text = "a run died while it was out; it may have been answered";
    v->at.state = ATTEMPT_IN_DOUBT;
    v->at.verdict = -1;
    v->at.attempts = j->attempts;
    v->at.silent = j->silent;
    v->at.raised = j->raised;
    v->started = a->started_at;
    d->count++;
    return 0;
}

static int apply_now(struct runner *r, struct moves *m, struct err *e)
{
    int rc = m->count ? store_apply(r->o->store, m, NULL, e) : 0;
    moves_free(m);
    return rc;
}

static int take_up(struct runner *r, struct err *e)
{
    struct moves m;
    struct store_totals t;
    struct doubting d = {.r = r, .m = &m};
    char print[80], was[80];
    moves_init(&m);
    if (store_clip(r->o->store, r->wall0, e) < 0 ||
        store_each_out(r->o->store, on_left_out, &d, e) < 0 || d.failed)
        return d.failed ? err_set(e, ERR_NOMEM, "out of memory") : -1;
    if (d.count > 0)
        tell_line(r->tell, false,
                  "the last run died with %" PRId64
                  " request%s out: in doubt, and the jobs are %s",
                  d.count, plural(d.count),
                  r->conf->jobs.in_doubt == IN_DOUBT_HOLD ? "parked" : "sent again");
    bill(r);
    struct move *end = moves_add(&m, MOVE_RUN_END);
    if (end == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    end->now = r->wall0;
    end->text = "died";
    if (apply_now(r, &m, e) < 0 || store_totals(r->o->store, &t, e) < 0)
        return -1;

    r->run = t.next_run;
    r->next_attempt = r->first_attempt = t.next_attempt;
    r->spent_before = t.spent;
    r->turn = (t.last_turn >> 32) + 1;
    r->tally.queued = t.jobs[JOB_QUEUED];
    r->staged = t.revisions;
    r->next_rest = t.jobs[JOB_QUEUED] ? 1 : 0; /* asks the store at once */
    struct move *begin = moves_add(&m, MOVE_RUN_BEGIN);
    if (begin == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    begin->run = r->run;
    begin->now = r->wall0;
    begin->attempt = r->next_attempt;
    r->account_untold = true;
    route_print(r->conf, print, sizeof print - 16);
    if (money_ceilings(r))
        strcat(print,
               " ceiling"); /* jobs set aside for it are looked at again without */
    if (store_meta(r->o->store, "routing", was, sizeof was, e) < 0)
        return -1;
    if (strcmp(print, was) != 0) {
        struct move *v = moves_add(&m, MOVE_META);
        if (v == NULL || moves_add(&m, MOVE_UNROUTE) == NULL)
            return err_set(e, ERR_NOMEM, "out of memory");
        v->name = "routing";
        v->text = print;
    }
    if (results_recover(r->results, t.results_seq, &m, e) < 0 ||
        apply_now(r, &m, e) < 0)
        return -1;
    r->unrouted = true;
    if (store_meta(r->o->store, "paused", was, sizeof was, e) < 0)
        return -1;
    r->paused = *was != '\0';
    r->beat_due = true; /* requests that were left while nobody was at work */
    if (r->watch)
        watch_scan_begins(r->watch);
    r->intake = intake_new(&(struct intake_opts){.root = r->o->queue->root,
                                                 .conf = r->conf,
                                                 .store = r->o->store,
                                                 .scan = r->run,
                                                 .next_source = t.next_source,
                                                 .lane = on_lane_wanted,
                                                 .dir = r->watch ? watch_dir : NULL,
                                                 .watching = r->watch != NULL,
                                                 .arg = r},
                           e);
    return r->intake ? 0 : -1;
}

static int know_account(struct runner *r, struct err *e)
{
    struct account_halt h;
    key_fingerprint(r->o->key, r->fingerprint, sizeof r->fingerprint);
    if (account_name(r->o->accounts, r->fingerprint, r->account, sizeof r->account, e) <
        0)
        return -1;
    int halted = account_halt(r->o->accounts, r->account, &h, e);
    if (halted <= 0)
        return halted;
    r->probing = true;
    tell_line(r->tell, false,
              "the account was halted (%s: %s); one request goes out to see", h.reason,
              h.says);
    return 0;
}

static int start(struct runner *r, struct err *e)
{
    uv_loop_init(&r->loop);
    r->mono0 = (int64_t)uv_now(&r->loop);
    uv_timer_init(&r->loop, &r->wake);
    uv_timer_init(&r->loop, &r->beat);
    uv_signal_init(&r->loop, &r->sigint);
    uv_signal_init(&r->loop, &r->sigterm);
    uv_signal_init(&r->loop, &r->sighup);
    r->wake.data = r->beat.data = r->sigint.data = r->sigterm.data = r->sighup.data = r;
    if (r->o->watch && (r->watch = watch_new(r, e)) == NULL)
        return -1;
    r->live = r->o->again;
    r->results = results_open(r->o->queue->results, r->o->store, e);
    if (r->results == NULL || know_account(r, e) < 0 || shared_open(r, e) < 0 ||
        quality_open(r, e) < 0 ||
        (r->sender = messages_new(&r->loop, r->conf, r->o->key, &ended_told, e)) ==
            NULL ||
        take_up(r, e) < 0 || store_lanes(r->o->store, on_lane_known, r, e) < 0 ||
        quality_take_up(r, e) < 0)
        return -1;
    reserve_take(r);
    uv_signal_start(&r->sigint, on_signal, SIGINT);
    uv_signal_start(&r->sigterm, on_signal, SIGTERM);
    if (r->o->reload)
        uv_signal_start(&r->sighup, on_hangup, SIGHUP);
    else if (!ignores_hangup())
        uv_signal_start(&r->sighup, on_signal, SIGHUP); /* its terminal is gone */
    if (r->live)
        watch_ready(r->watch); /* a reload is over; what is there was known before */
    uv_timer_start(&r->beat, on_beat, 200, 200);
    tell_event(r->tell, "run_started", r->wall0,
               "\"run\":%" PRId64 ",\"queued\":%" PRId64, r->run, r->tally.queued);
    return 0;
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void let_go(struct runner *r)
{
    if (r->sender)
        r->sender->free(r->sender);
    if (r->quality)
        quality_stop(r);
    uv_run(&r->loop, UV_RUN_NOWAIT);
    while (r->checks_running > 0)
        uv_run(&r->loop, UV_RUN_ONCE);
    while (r->committing || r->writing)
        uv_run(&r->loop, UV_RUN_ONCE);
    watch_stop(r->watch);
    uv_walk(&r->loop, close_handle, NULL);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    uv_loop_close(&r->loop);
    watch_free(r->watch);
    shared_close(r);
    money_close(r);
    quality_close(r);
    intake_free(r->intake);
    results_close(r->results);
    history_free(r->history);
    for (size_t i = 0; i < LIVE_BUCKETS; i++)
        while (r->table.bucket[i]) {
            struct live *l = r->table.bucket[i];
            live_forget(&r->table, l);
            live_free(l);
        }
    free_list(r->finished);
    free_list(r->writing_list);
    moves_free(&r->moves);
    moves_free(&r->write_moves);
    for (struct lane *l = r->lanes, *next; l; l = next) {
        next = l->next;
        cache_clear(&l->cache);
        free(l);
    }
    for (struct brake *b = r->brakes, *next; b; b = next) {
        next = b->next;
        free(b);
    }
}

/* --- the last words --- */

/* Why it stopped, what to do, and what the next run will do. */
static void tell_why(struct runner *r, int64_t left)
{
    char says[ENDING_SAYS_MAX];
    ending_says(&(struct ending){.stop = r->stop,
                                 .says = r->stop_says,
                                 .state = r->o->queue->state,
                                 .until = r->stop_until,
                                 .left = left,
                                 .done = r->tally.done,
                                 .spent = r->tally.spent,
                                 .lost = r->lost,
                                 .sent = r->tally.sent > 0},
                says, sizeof says);
    if (*says)
        tell_line(r->tell, stop_needs_person(r->stop), "%s", says);
}

static bool tell_closed(struct runner *r)
{
    bool any = false;
    for (struct lane *l = r->lanes; l; l = l->next) {
        if (!l->closed || (l->ready == 0 && l->dry))
            continue;
        any = true;
        tell_line(
            r->tell, true,
            "%s is closed (%s): its jobs wait. Change the tier's model or give it a "
            "fallback, then run the same command.",
            l->name, l->why);
    }
    return any;
}

static int exit_code(const struct runner *r, const struct store_totals *t)
{
    int64_t left = t->jobs[JOB_QUEUED] + t->jobs[JOB_IN_FLIGHT];
    if (r->stop == STOP_CONSENT || (r->stop == STOP_INPUT && r->tally.sent == 0))
        return EXIT_USAGE;
    if (r->stop == STOP_STORE || r->results_failed || r->stop == STOP_DISK ||
        results_skipped(r->results) > 0)
        return EXIT_STORE;
    if (r->stop == STOP_KEY)
        return EXIT_KEY;
    if (left > 0 && !canary_sung(r))
        return EXIT_AGAIN;
    if (left > 0 && r->stop)
        return EXIT_AGAIN;
    if (r->intake_lost || r->stop == STOP_INPUT)
        return EXIT_AGAIN;
    bool failed = t->jobs[JOB_FAILED] + t->jobs[JOB_PARKED] > 0 ||
                  (r->intake && intake_failed(r->intake));
    return failed ? EXIT_SOME_FAILED : EXIT_ALL_DONE;
}

static int last_words(struct runner *r, struct err *e)
{
    struct store_totals t;
    char usd[CATALOG_USD_MAX], low[CATALOG_USD_MAX], high[CATALOG_USD_MAX],
        this_run[120], span[40];
    if (store_totals(r->o->store, &t, e) < 0)
        return EXIT_STORE;
    int64_t left = t.jobs[JOB_QUEUED] + t.jobs[JOB_IN_FLIGHT];
    int code = exit_code(r, &t);
    catalog_usd(r->tally.spent, usd);
    snprintf(this_run, sizeof this_run, ": %" PRId64 " done for $%s in %s",
             r->tally.done, usd, when_span(runner_elapsed(r), span, sizeof span));
    if (r->stop != STOP_CONSENT) /* there the sentence says it all */
        tell_line(r->tell, code != EXIT_ALL_DONE && code != EXIT_AGAIN,
                  "%" PRId64 " done, %" PRId64 " failed, %" PRId64 " parked, %" PRId64
                  " waiting; this run%s",
                  t.jobs[JOB_DONE], t.jobs[JOB_FAILED], t.jobs[JOB_PARKED], left,
                  r->tally.sent > 0 ? this_run : " sent nothing");
    beside_tell(r, &t);
    if (t.doubt > 0 && r->stop != STOP_CONSENT)
        tell_line(r->tell, false,
                  "%" PRId64
                  " attempt%s in doubt: between $%s and $%s may have been spent on "
                  "%s; once you have checked, `nightmill settle %s`",
                  t.doubt, t.doubt == 1 ? " is" : "s are",
                  catalog_usd(t.doubt_low, low), catalog_usd(t.doubt_high, high),
                  t.doubt == 1 ? "it" : "them", r->o->queue->root);
    tell_why(r, left);
    if (r->results_failed && r->stop != STOP_RESULTS)
        tell_line(
            r->tell, true,
            "results could not be written (%s). No answer is lost: make room, or the "
            "place writable, and the same command writes them from the store.",
            r->write_err.text);
    if (r->unreckoned > 0)
        tell_line(
            r->tell, true,
            "%" PRId64 " job%s: what %s may cost cannot be reckoned (files, URLs, "
            "the server's tools, a model without a price), and there is a ceiling. "
            "Say max_cost in the job, or mend the model's name or price (`nightmill "
            "check %s`), then run the same command.",
            r->unreckoned, r->unreckoned == 1 ? " waits" : "s wait",
            r->unreckoned == 1 ? "it" : "each", r->o->queue->root);
    else if (!r->stop && !tell_closed(r) && code == EXIT_AGAIN)
        tell_line(r->tell, true,
                  "%" PRId64 " job%s could not be moved; see `nightmill status %s`",
                  left, plural(left), r->o->queue->root);
    if (t.jobs[JOB_FAILED] + t.jobs[JOB_PARKED] > 0 && r->stop != STOP_CONSENT)
        tell_line(
            r->tell, code == EXIT_SOME_FAILED,
            "why jobs failed: `nightmill status %s`; to send them again: `nightmill "
            "retry %s`",
            r->o->queue->root, r->o->queue->root);
    if (r->stop != STOP_CONSENT && t.known > 0)
        tell_line(r->tell, false, "results are in %s", r->o->queue->results);
    tell_event(r->tell, "run_ended", runner_wall(r),
               "\"exit\":%d,\"done\":%" PRId64 ",\"failed\":%" PRId64
               ",\"parked\":%" PRId64 ",\"queued\":%" PRId64
               ",\"spent_usd\":\"%s\",\"in_doubt\":%" PRId64,
               code, t.jobs[JOB_DONE], t.jobs[JOB_FAILED], t.jobs[JOB_PARKED], left,
               usd, t.doubt);
    return code;
}

static int failed_to_start(const struct err *e)
{
    return e->code == ERR_STORE || e->code == ERR_SYSTEM ? EXIT_STORE : EXIT_USAGE;
}

int runner_run(const struct runner_opts *o, struct err *e)
{
    struct runner *r = calloc(1, sizeof *r);
    struct timespec ts;
    int code;
    if (r == NULL || (r->tell = tell_new(o->json, o->quiet)) == NULL) {
        free(r);
        err_set(e, ERR_NOMEM, "out of memory");
        return EXIT_STORE;
    }
    r->o = o;
    r->conf = o->conf;
    clock_gettime(CLOCK_REALTIME, &ts);
    r->wall0 = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    r->random = (uv_hrtime() ^ (uint64_t)ts.tv_nsec << 20 ^ (uint64_t)getpid()) | 1;
    r->noted_last = &r->noted;
    r->finished_last = &r->finished;
    r->headed_last = &r->headed;
    moves_init(&r->moves);
    moves_init(&r->write_moves);

    if (start(r, e) < 0) {
        code = failed_to_start(e);
        let_go(r);
    } else {
        if (!o->again)
            notify_begin(r);
        runner_poke(r);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        show_run(r, true);
        if (r->stop == STOP_RELOAD && r->signals == 0) {
            code = RUNNER_RELOAD;
        } else {
            code = last_words(r, e);
            notify_end(r, code);
        }
        let_go(r);
        store_checkpoint(o->store);
    }
    tell_free(r->tell);
    free(r);
    return code;
}
