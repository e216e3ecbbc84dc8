/* Pillow's weights for resizing one side: which inputs make an output, and how much of each. */
#ifndef VIEWS_WEIGHTS_H
#define VIEWS_WEIGHTS_H

#include <stdint.h>

enum { PRECISION = 22 }; /* fractional bits of a weight */

/* `count` outputs from number `from` on, when `in` inputs are resized to `out` outputs. */
typedef struct {
    int in, out, from, count;
    int bicubic; /* else bilinear */
} Side;

typedef struct {
    int first, end;
} Span;

typedef struct {
    int taps;      /* slots per output */
    int *first;    /* index of the first input of each output */
    int *count;
    int32_t *weights;
} Weights;

/* The inputs that a side's outputs are made of. */
Span weights_span(const Side *side);

/* No output is made of more inputs. */
int weights_taps(const Side *side);

/* Numbers the inputs from the first that is needed. Returns 0 if memory is short. */
int weights_new(Weights *weights, const Side *side);

void weights_free(Weights *weights);

#endif
