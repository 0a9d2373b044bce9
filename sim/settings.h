#ifndef SETTINGS_H
#define SETTINGS_H

#include "conf/catalog.h"
#include "sim/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;

/* Everything that can be set, from the file, the command line and while running. */

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

enum { FAMILY_LIMITS_MAX = 32, FAMILY_NAME_MAX = 48 };

enum spend_kind { SPEND_OWN, SPEND_WORKSPACE, SPEND_TIER };
enum rpm_enforced { RPM_BY_MINUTE, RPM_BY_SECOND };

/* Per minute; 0: none. In a row of a family -1: as everywhere. */
struct rates {
    int64_t rpm, itpm, otpm;
};

struct family_limits {
    char family[FAMILY_NAME_MAX];
    struct rates rates;
};

struct settings {
    int64_t port, connections;
    char *keys, *refused_keys;
    char *org_id, *workspace_id;
    struct rates rates;
    struct family_limits families[FAMILY_LIMITS_MAX];
    size_t family_count;
    int64_t count_rpm, concurrent, burst_ns;
    int64_t rpm_enforced;              /* enum rpm_enforced */
    int64_t change_ns, change_back_ns; /* 0: never */
    double change_factor;
    int64_t rounding;
    double acceleration;
    double tenant_share;
    int64_t tenant_period_ns;
    bool credit_endless;
    picodollars credit;
    bool spend_endless;
    picodollars spend_limit;
    int64_t spend_kind; /* enum spend_kind */
    char *spend_until;
    int64_t ttft_ns, per_token_ns;
    double output_median, output_sigma;
    int64_t output_seed, output_bytes;
    double bytes_per_token, input_jitter;
    char *truth_file, *truth_weak;
    double truth_errs;
    int64_t chunk_tokens;
    int64_t log_max, jobs_max;
    struct faults faults;
};

/* Every row at its default. */
int settings_init(struct settings *s, struct err *e);
void settings_free(struct settings *s);

/*
 * `section.key` to a value. Besides the rows of the table there are `fault.NAME.key`
 * (sim/fault.h) and `limits.FAMILY.rpm`, `.itpm`, `.otpm`.
 */
int settings_set(struct settings *s, const char *name, const char *value,
                 struct err *e);

/* An INI file of such settings; names in its errors are `file:line`. */
int settings_load(struct settings *s, const char *path, struct err *e);

/* The limits of one class of models. */
struct rates settings_rates(const struct settings *s, const char *family);

void settings_help(FILE *out);

#endif
