/* Two views of one size to a mixed one, as tinyvit_kd/views/mixing.py does it. */
#ifndef VIEWS_MIX_H
#define VIEWS_MIX_H

#include "view.h"

typedef struct {
    const uint8_t *own, *partner;
    uint8_t *out; /* may be own, but overlaps neither otherwise */
    size_t count; /* bytes of each */
} Pair;

/* Both answer 0 where the numbers do not fit; nothing is written then. */

/* Mixup; weight of own in 1/65536. */
int mixup(const Pair *pair, int weight, const Processor *processor);

/* CutMix; the partner fills [top, bottom) x [left, right) of views [3, size, size]. */
int cutmix(const Pair *pair, int size, const int box[4]);

#endif
