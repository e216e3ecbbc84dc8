/* Mixing of two views of the same size, as in tinyvit_kd/views/mixing.py. */
#ifndef VIEWS_MIX_H
#define VIEWS_MIX_H

#include "view.h"

typedef struct {
    const uint8_t *own, *partner;
    uint8_t *out; /* may be own; otherwise it overlaps neither */
    size_t count; /* bytes of each */
} Pair;

/* Both return 0, and write nothing, if the arguments do not fit. */

/* Mixup; weight is own's, in 1/65536. */
int mixup(const Pair *pair, int weight, const Processor *processor);

/* CutMix; the partner fills [top, bottom) x [left, right) of views [3, size, size]. */
int cutmix(const Pair *pair, int size, const int box[4]);

#endif
