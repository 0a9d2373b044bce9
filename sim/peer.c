#include "sim/peer.h"

#include "sim/stats.h"

#include <stdlib.h>
#include <sys/ioctl.h>

static bool has_unread(int fd)
{
    int n = 0;
    return ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

struct peer *peers_opened(struct peers *ps, int fd)
{
    struct peer *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->fd = fd;
    /* It may have waited to be accepted while the refusal was written. */
    p->came_before = ps->refusal_round >= 0 && ps->round <= ps->refusal_round + 1 &&
                     has_unread(fd);
    p->next = ps->first;
    p->link = &ps->first;
    if (p->next)
        p->next->link = &p->next;
    ps->first = p;
    stats_connection(ps->stats, true);
    return p;
}

void peers_closed(struct peers *ps, struct peer *p)
{
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    free(p);
    stats_connection(ps->stats, false);
}

void peers_heard(struct peers *ps, struct peer *p, int64_t now_ns)
{
    p->first_byte_ns = now_ns;
    p->too_late = stats_is_refused(ps->stats) && !p->came_before;
    p->came_before = false;
    p->busy = true;
}

void peers_refused_credit(struct peers *ps, int64_t now_ns)
{
    if (!stats_credit_refused(ps->stats, now_ns))
        return;
    ps->refusal_round = ps->round;
    for (struct peer *p = ps->first; p; p = p->next)
        p->came_before = !p->busy && has_unread(p->fd);
}
