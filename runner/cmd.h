#ifndef CMD_H
#define CMD_H

#include "conf/conf.h"
#include "jobs/queue.h"

#include <stdbool.h>
#include <stdint.h>

struct err;

/* What a command line says, read once for all subcommands. */
struct cmd_args {
    const char *dir;
    char **names; /* what follows DIR */
    int names_len;
    const char *conf_file;
    const char **sets; /* "section.key=value" */
    int sets_len;
    bool json, quiet, paid, accept_changes, accept_empty, forget, man, wait_for_credit;
    int64_t first;
    int64_t until_wall;
    const char *format, *only, *by, *since, *order, *field, *completion;
    const char *eval, *train; /* CSV files of `route` */
    int64_t folds, seed, rows;
    const char *out; /* a file; "-": standard output */
    int64_t run;     /* 0: not said */
};

typedef int cmd_fn(const struct cmd_args *a);

/* The tables of words in main.c, for whoever prints them. `arg` says what a value is:
 * NULL: none is taken; "a|b": one of these; FILE: a path. */
struct cmd_option {
    const char *name, *arg, *help;
};

struct cmd {
    const char *name, *usage, *help;
    const char *options; /* the long options it takes, "first json ..." */
    bool wants_dir, takes_names;
    cmd_fn *run;
};

cmd_fn cmd_run, cmd_watch, cmd_pause, cmd_resume, cmd_plan, cmd_check, cmd_status,
    cmd_results, cmd_costs, cmd_retry, cmd_cancel, cmd_settle, cmd_explain, cmd_grade,
    cmd_route, cmd_init, cmd_options, cmd_report;

const struct cmd *cmd_at(int i); /* NULL: there are no more */
const struct cmd_option *cmd_option_at(int i);
bool cmd_takes(const struct cmd *c, const char *option);

/* The configuration in its order, checked. Where it has several mistakes each is printed,
 * and `e` says how many. */
int cmd_conf(const struct cmd_args *a, struct conf *c, struct err *e);

/* The same (DIR may be NULL), each mistake told to `on_mistake` and nothing printed. */
int cmd_conf_each(const struct cmd_args *a, struct conf *c, conf_mistake_fn *on_mistake,
                  void *arg, struct err *e);

/* The built-in catalogue, and what `catalog.file` lays over it. NULL: `e` says why. */
struct catalog;
struct catalog *cmd_catalog(const struct conf *c, struct err *e);

/* Prices and models age: said where it bears on what is sent. */
void cmd_warn_of_age(const struct conf *conf, const struct catalog *catalog);

/* Print `e` and give the exit code that fits it. */
int cmd_failed(const struct err *e);

#endif
