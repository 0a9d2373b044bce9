#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/store.h"

#include "runner/err.h"
#include "runner/log.h"
#include "runner/runner.h"

#include <curl/curl.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COMMON "conf set quiet help "

static const struct cmd cmds[] = {
    {"run", "DIR", "run what is queued in DIR, then exit",
     COMMON "json first until wait-for-credit accept-changes accept-empty", true, false,
     cmd_run},
    {"watch", "DIR", "keep running: take new and changed jobs as they come",
     COMMON "json accept-changes accept-empty", true, false, cmd_watch},
    {"plan", "DIR", "what a run would send, its cost and time as ranges; sends nothing",
     COMMON "json", true, false, cmd_plan},
    {"check", "[DIR]",
     "before the night: configuration, key, models, limits, credit, disk",
     COMMON "json paid", false, true, cmd_check},
    {"status", "DIR", "where the queue stands, and why what waits waits", COMMON "json",
     true, false, cmd_status},
    {"results", "DIR", "print the results, as JSON lines, CSV or text",
     COMMON "format only since order field", true, false, cmd_results},
    {"retry", "DIR [JOB...]", "queue failed and parked jobs again (JOB may be a glob)",
     COMMON, true, true, cmd_retry},
    {"cancel", "DIR JOB...", "take jobs out of the queue (JOB may be a glob)", COMMON,
     true, true, cmd_cancel},
    {"pause", "DIR", "send nothing of DIR until it is resumed", COMMON, true, false,
     cmd_pause},
    {"resume", "DIR", "go on after a pause", COMMON "accept-changes", true, false,
     cmd_resume},
    {"costs", "DIR", "what was spent, by day or by another property", COMMON "json by",
     true, false, cmd_costs},
    {"report", "DIR", "one page about a run, for the morning after: HTML in a file",
     COMMON "run since out", true, false, cmd_report},
    {"explain", "DIR JOB...", "one job's life: why, what was tried, what it cost",
     COMMON "json", true, true, cmd_explain},
    {"grade", "DIR [FILE]", "teach by your own labels: CSV with the columns job and ok",
     COMMON "forget", true, true, cmd_grade},
    {"settle", "DIR [JOB...]", "attempts in doubt were checked: no ceiling counts them",
     COMMON, true, true, cmd_settle},
    {"route", "", "how well jobs could be routed: a table of outcomes, judged",
     "eval train folds seed rows json help", false, false, cmd_route},
    {"init", "DIR", "make a queue to begin with: settings and example jobs", "help",
     true, false, cmd_init},
    {"options", "", "print nightmill.ini with every option at its default",
     "man completion help", false, false, cmd_options},
};
enum { CMDS = sizeof cmds / sizeof cmds[0] };

static const struct cmd_option option_helps[] = {
    {"conf", "FILE", "read this INI after DIR/nightmill.ini"},
    {"set", "SECTION.KEY=VALUE", "set one option; may be given many times"},
    {"first", "N", "a canary: send N jobs, then end"},
    {"until", "HH:MM", "send nothing after that time (local; up to 24 h ahead)"},
    {"paid", NULL, "send one request that costs a fraction of a cent, too"},
    {"wait-for-credit", NULL,
     "out of credit: stay, and try one request now and then, instead of ending"},
    {"accept-changes", NULL, "send changed jobs again though they are many"},
    {"accept-empty", NULL, "it is meant that the queue is empty"},
    {"json", NULL, "for programs: events, or one object, on standard output"},
    {"quiet", NULL, "say nothing unless a person is needed"},
    {"format", "jsonl|csv|text", "how results are printed (default jsonl)"},
    {"only", "done|failed|parked", "only results in that state"},
    {"since", "WHEN", "only what came after 8h ago, 2d, a date, a date and time"},
    {"order", "input|finished", "in the order of the jobs, or as they came to rest"},
    {"field", "NAME,...", "these fields alone, such as job,cost_usd,text"},
    {"run", "N", "the run that it is about (default: the last that sent anything)"},
    {"out", "FILE", "where to (default DIR/results/report.html); - is standard output"},
    {"by", "day|model|tier|lane|tag|run", "what costs are summed up by (default day)"},
    {"eval", "FILE.csv",
     "rows of group,prompt,weak_ok,strong_ok to judge the router by"},
    {"train", "FILE.csv", "such rows to learn from first, instead of folds of --eval"},
    {"folds", "N", "cross-validation in so many parts (default 5)"},
    {"seed", "N", "which rows fall into which part (default 1)"},
    {"rows", "N", "learn from N rows of --eval, judge by the others"},
    {"forget", NULL, "drop what was learned from this queue's outcomes"},
    {"man", NULL, "print the manual page instead"},
    {"completion", "bash|zsh|fish", "print that shell's completion instead"},
    {"help", NULL, "this help"},
};
enum { OPTIONS = sizeof option_helps / sizeof option_helps[0] };

bool cmd_takes(const struct cmd *c, const char *option)
{
    size_t n = strlen(option);
    for (const char *p = c->options; *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, option, n) == 0)
            return true;
        p += len + strspn(p + len, " ");
    }
    return false;
}

const struct cmd *cmd_at(int i)
{
    return i < CMDS ? &cmds[i] : NULL;
}

const struct cmd_option *cmd_option_at(int i)
{
    return i < OPTIONS ? &option_helps[i] : NULL;
}

static void print_usage(FILE *to)
{
    fputs("nightmill runs a directory of Claude jobs to the end, unattended.\n\n", to);
    for (int i = 0; i < CMDS; i++)
        fprintf(to, "  nightmill %-8s %-14s %s\n", cmds[i].name, cmds[i].usage,
                cmds[i].help);
    fputs("\nnightmill COMMAND --help tells a command's options.\n", to);
}

static int print_help(const struct cmd *c)
{
    printf("usage: nightmill %s [OPTION...] %s\n%s\n\n", c->name, c->usage, c->help);
    for (int i = 0; i < OPTIONS; i++)
        if (cmd_takes(c, option_helps[i].name)) {
            char left[64];
            snprintf(left, sizeof left, "--%s%s%s", option_helps[i].name,
                     option_helps[i].arg ? " " : "",
                     option_helps[i].arg ? option_helps[i].arg : "");
            printf("  %-26s %s\n", left, option_helps[i].help);
        }
    if (c->run == cmd_watch)
        puts(
            "\nIt ends on SIGTERM or SIGINT, and reads its settings again on SIGHUP. "
            "Where a\nrun would end (no credit, a ceiling, an outage, hours) it waits. "
            "exit: as run");
    if (c->run == cmd_run)
        puts(
            "\nexit: 0 all done; 1 some jobs failed or are parked; 2 wrong usage or\n"
            "configuration, or consent is needed; 74 the store or results could not "
            "be\n"
            "written; 75 stopped with work left: run it again; 77 the key was refused");
    if (c->run == cmd_check)
        puts(
            "\nexit: 0 ready; else what a run would exit with: 1 a job file cannot be\n"
            "read; 2 configuration; 74 disk; 75 credit, a limit, the network, or "
            "another\n"
            "runner; 77 the key is refused");
    return 0;
}

static int wrong(const struct cmd *c, const char *fmt, const char *what)
{
    fputs("nightmill: ", stderr);
    fprintf(stderr, "%s%s", fmt, what);
    if (c)
        fprintf(stderr, "; see nightmill %s --help\n", c->name);
    else
        fputs("; see nightmill --help\n", stderr);
    return EXIT_USAGE;
}

/* The next time the clock shows HH:MM. */
static int read_until(const char *text, int64_t *ret)
{
    int h, m;
    char more;
    time_t now = time(NULL);
    struct tm tm;
    if (sscanf(text, "%2d:%2d%c", &h, &m, &more) != 2 || h < 0 || h > 23 || m < 0 ||
        m > 59)
        return -1;
    localtime_r(&now, &tm);
    tm.tm_hour = h;
    tm.tm_min = m;
    tm.tm_sec = 0;
    tm.tm_isdst = -1;
    time_t t = mktime(&tm);
    if (t <= now) {
        tm.tm_mday++;
        tm.tm_isdst = -1;
        t = mktime(&tm);
    }
    *ret = (int64_t)t * 1000;
    return 0;
}

static int read_option(const struct cmd *c, struct cmd_args *a, const char *name,
                       const char *value)
{
    char *end;
    if (strcmp(name, "conf") == 0) {
        a->conf_file = value;
    } else if (strcmp(name, "set") == 0) {
        if (strchr(value, '=') == NULL)
            return wrong(c, "--set wants SECTION.KEY=VALUE, not ", value);
        a->sets[a->sets_len++] = value;
    } else if (strcmp(name, "first") == 0) {
        a->first = strtoll(value, &end, 10);
        if (*end || a->first < 1)
            return wrong(c, "--first wants a number of jobs, not ", value);
    } else if (strcmp(name, "until") == 0) {
        if (read_until(value, &a->until_wall) < 0)
            return wrong(c, "--until wants a time such as 07:00, not ", value);
    } else if (strcmp(name, "format") == 0) {
        if (strcmp(value, "jsonl") != 0 && strcmp(value, "text") != 0 &&
            strcmp(value, "csv") != 0)
            return wrong(c, "--format wants jsonl, csv or text, not ", value);
        a->format = value;
    } else if (strcmp(name, "only") == 0) {
        if (strcmp(value, "done") != 0 && strcmp(value, "failed") != 0 &&
            strcmp(value, "parked") != 0)
            return wrong(c, "--only wants done, failed or parked, not ", value);
        a->only = value;
    } else if (strcmp(name, "since") == 0) {
        a->since = value;
    } else if (strcmp(name, "field") == 0) {
        a->field = value;
    } else if (strcmp(name, "order") == 0) {
        if (strcmp(value, "input") != 0 && strcmp(value, "finished") != 0)
            return wrong(c, "--order wants input or finished, not ", value);
        a->order = value;
    } else if (strcmp(name, "by") == 0) {
        static const char *const words[] = {"day",  "model", "tier",
                                            "lane", "tag",   "run"};
        size_t i = 0;
        while (i < sizeof words / sizeof words[0] && strcmp(value, words[i]) != 0)
            i++;
        if (i == sizeof words / sizeof words[0])
            return wrong(c, "--by wants day, model, tier, lane, tag or run, not ",
                         value);
        a->by = value;
    } else if (strcmp(name, "out") == 0) {
        a->out = value;
    } else if (strcmp(name, "run") == 0) {
        a->run = strtoll(value, &end, 10);
        if (*end || a->run < 1)
            return wrong(c, "--run wants the number of a run, not ", value);
    } else if (strcmp(name, "eval") == 0) {
        a->eval = value;
    } else if (strcmp(name, "train") == 0) {
        a->train = value;
    } else if (strcmp(name, "folds") == 0 || strcmp(name, "seed") == 0 ||
               strcmp(name, "rows") == 0) {
        int64_t n = strtoll(value, &end, 10);
        if (*end || end == value || n < 0)
            return wrong(c, "a number is wanted, not ", value);
        *(*name == 'f' ? &a->folds : *name == 's' ? &a->seed : &a->rows) = n;
    } else if (strcmp(name, "json") == 0) {
        a->json = true;
    } else if (strcmp(name, "paid") == 0) {
        a->paid = true;
    } else if (strcmp(name, "quiet") == 0) {
        a->quiet = true;
    } else if (strcmp(name, "accept-changes") == 0) {
        a->accept_changes = true;
    } else if (strcmp(name, "accept-empty") == 0) {
        a->accept_empty = true;
    } else if (strcmp(name, "wait-for-credit") == 0) {
        a->wait_for_credit = true;
    } else if (strcmp(name, "man") == 0) {
        a->man = true;
    } else if (strcmp(name, "completion") == 0) {
        if (strcmp(value, "bash") != 0 && strcmp(value, "zsh") != 0 &&
            strcmp(value, "fish") != 0)
            return wrong(c, "--completion wants bash, zsh or fish, not ", value);
        a->completion = value;
    } else if (strcmp(name, "forget") == 0) {
        a->forget = true;
    }
    return 0;
}

static int read_args(const struct cmd *c, struct cmd_args *a, int argc, char **argv)
{
    struct option longs[OPTIONS + 1] = {0};
    int index, ch, n = 0;
    for (int i = 0; i < OPTIONS; i++)
        if (cmd_takes(c, option_helps[i].name))
            longs[n++] = (struct option){
                option_helps[i].name,
                option_helps[i].arg ? required_argument : no_argument, NULL, 1};
    opterr = 0;
    while ((ch = getopt_long(argc, argv, ":h", longs, &index)) != -1) {
        if (ch == 'h' || (ch == 1 && strcmp(longs[index].name, "help") == 0))
            exit(print_help(c));
        if (ch == ':')
            return wrong(c, "a value is missing behind ", argv[optind - 1]);
        if (ch != 1)
            return wrong(c, "unknown option ", argv[optind - 1]);
        int rc = read_option(c, a, longs[index].name, optarg);
        if (rc)
            return rc;
    }
    if (c->wants_dir && optind == argc)
        return wrong(c, "want a directory of job files", "");
    if (c->wants_dir)
        a->dir = argv[optind++];
    a->names = argv + optind;
    a->names_len = argc - optind;
    if (!c->takes_names && a->names_len > 0)
        return wrong(c, "one directory at a time; what is ", a->names[0]);
    return 0;
}

static int set_one(struct conf *c, const char *text, struct err *e)
{
    char name[256];
    struct err cause = {0};
    const char *eq = strchr(text, '=');
    snprintf(name, sizeof name, "%.*s", (int)(eq - text), text);
    if (conf_set(c, name, eq + 1, &cause) == 0)
        return 0;
    err_wrap(&cause, "--set");
    return conf_mistake(c, &cause, e);
}

int cmd_conf_each(const struct cmd_args *a, struct conf *c, conf_mistake_fn *on_mistake,
                  void *arg, struct err *e)
{
    char path[4200];
    int rc = 0;
    snprintf(path, sizeof path, "%s/nightmill.ini", a->dir ? a->dir : ".");
    if (conf_init(c, e) < 0)
        return -1;
    c->on_mistake = on_mistake;
    c->mistake_arg = arg;
    rc |= conf_read(c, "/etc/nightmill.ini", true, false, e);
    if (a->dir)
        rc |= conf_read(c, path, true, true, e);
    if (a->conf_file)
        rc |= conf_read(c, a->conf_file, false, false, e);
    rc |= conf_environment(c, e);
    for (int i = 0; i < a->sets_len; i++)
        rc |= set_one(c, a->sets[i], e);
    rc |= conf_check(c, e);
    c->on_mistake = NULL;
    if (rc == 0 && *c->budget.zone) { /* in which days and months begin */
        setenv("TZ", c->budget.zone, 1);
        tzset();
    }
    return rc;
}

/* One mistake is the error itself; of several each has a line. */
struct mistakes {
    int count;
    char first[sizeof(((struct err *)NULL)->text)];
};

static void on_mistake(void *arg, const char *sentence)
{
    struct mistakes *m = arg;
    if (m->count++ == 0) {
        snprintf(m->first, sizeof m->first, "%s", sentence);
        return;
    }
    if (m->count == 2)
        fprintf(stderr, "nightmill: %s\n", m->first);
    fprintf(stderr, "nightmill: %s\n", sentence);
}

int cmd_conf(const struct cmd_args *a, struct conf *c, struct err *e)
{
    struct mistakes m = {0};
    if (cmd_conf_each(a, c, on_mistake, &m, e) == 0)
        return 0;
    if (m.count > 1) {
        *e = (struct err){0};
        err_set(e, ERR_CONF,
                "%d mistakes in the configuration; mend them, then say it again",
                m.count);
    }
    return -1;
}

struct catalog *cmd_catalog(const struct conf *conf, struct err *e)
{
    struct catalog *c = catalog_new(e);
    if (c && *conf->catalog.file && catalog_add_file(c, conf->catalog.file, e) < 0) {
        catalog_free(c);
        return NULL;
    }
    return c;
}

int cmd_failed(const struct err *e)
{
    fprintf(stderr, "nightmill: %s\n", e->text);
    switch (e->code) {
    case ERR_STORE:
    case ERR_SYSTEM:
    case ERR_NOMEM:
        return EXIT_STORE;
    case ERR_BUSY:
        return EXIT_AGAIN;
    case ERR_KEY:
        return EXIT_KEY;
    default:
        return EXIT_USAGE;
    }
}

int main(int argc, char **argv)
{
    struct cmd_args a = {.format = "jsonl", .seed = 1};
    setlocale(LC_CTYPE, "");
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        puts("nightmill " NIGHTMILL_VERSION);
        return 0;
    }
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? EXIT_USAGE : 0;
    }
    const struct cmd *c = NULL;
    for (int i = 0; i < CMDS; i++)
        if (strcmp(cmds[i].name, argv[1]) == 0)
            c = &cmds[i];
    if (c == NULL)
        return wrong(NULL, "no such command: ", argv[1]);

    a.sets = calloc((size_t)argc, sizeof *a.sets);
    if (a.sets == NULL)
        return EXIT_STORE;
    int rc = read_args(c, &a, argc - 1, argv + 1);
    if (rc == 0) {
        log_setup(a.quiet ? LOG_ERROR : LOG_INFO);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGIO, SIG_IGN); /* a lease that was asked for is wanted back */
        store_set_up();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = c->run(&a);
        curl_global_cleanup();
    }
    free(a.sets);
    return rc;
}
