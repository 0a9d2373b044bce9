#ifndef SHARED_H
#define SHARED_H

#include "jobs/share.h"
#include "runner/bucket.h"
#include "runner/lane.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What runners of this machine share of a lane while they run, and find again when they
 * start: its buckets and its hold. For `status`, which only looks.
 */
struct shared_lane {
    int32_t slot[SHARE_SLOTS]; /* of the buckets, for each slot of the share; -1 */
    int64_t hold_until;        /* monotonic, of this boot; 0: none */
    char why[LANE_WHY_MAX];
    struct buckets buckets;
};

/* A copy of what lies in the account store's directory. False: nothing that is sane. */
bool shared_look_at(const char *dir, const char *account, const char *lane,
                    struct shared_lane *ret);

#endif
