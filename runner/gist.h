#ifndef GIST_H
#define GIST_H

#include <stddef.h>
#include <stdint.h>

/*
 * What a prompt looks like to the learner (learn.h): a sparse vector made in one pass
 * over its bytes, without allocation. Pure.
 *
 * In it: words and pairs of neighbouring words (hashed; 1 + ln of how often, the words and
 * the pairs each scaled to a length of their own, together 1), how the prompt begins and
 * how its first line ends (counted with the pairs), each word once more together with the
 * job's group, thirty numbers about its shape (length, digits, lines, answers to choose
 * from ...), alone and together with the group, the group itself, and a constant. Words are runs of ASCII letters (case ignored), ASCII
 * digits and bytes above 127: any bytes will do, nothing is decoded, so UTF-8 text keeps
 * its words and broken text does no harm.
 */
enum {
    GIST_READ_MAX = 16 *
                    1024, /* of a longer prompt: its first 3/4 of this, and its end */
    GIST_TERMS_MAX = 8 *
                     1024, /* different words and pairs; what comes later is left out */
    GIST_SHAPES = 30,
    GIST_COHORTS = 32,
    GIST_TEXT_SLOTS = 1 << 16,
    GIST_SHAPE_SLOTS = 1 << 13,
    GIST_SLOTS = GIST_TEXT_SLOTS + GIST_SHAPE_SLOTS, /* where features may fall */
    GIST_VERSION =
        3, /* what was learned from another version's features is of no use */
};

struct gist_feature {
    uint32_t slot; /* < GIST_SLOTS */
    float value;
};

/* Scratch of some 256 KiB, to be used again and again. */
struct gist;

struct gist *gist_new(void); /* NULL: no memory */
void gist_free(struct gist *g);

/* `group` 0: the job belongs to none. `prompt` is lent for the call. */
void gist_read(struct gist *g, const char *prompt, size_t len, uint64_t group);

/* Of the last prompt read; lent until the next. No slot is below another's feature twice
 * but by collision of hashes. */
const struct gist_feature *gist_features(const struct gist *g, size_t *len);

/* A coarse kind, 0 to GIST_COHORTS - 1: four lengths x code x mathematics x a choice of
 * answers, which is what a table can still count. */
int gist_cohort(const struct gist *g);

#endif
