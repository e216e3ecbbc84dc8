#include "weights.h"

#include <math.h>
#include <stdlib.h>

/* What Pillow calculates for a whole side. */
typedef struct {
    double scale, support, inverse;
} Filter;

static double bilinear_weight(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double bicubic_weight(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static Filter filter_of(const Side *side) {
    double scale = (double)(float)side->in / side->out, stretch = scale < 1.0 ? 1.0 : scale;
    return (Filter){scale, (side->bicubic ? 2.0 : 1.0) * stretch, 1.0 / stretch};
}

static double centre_of(const Side *side, const Filter *filter, int i) { return 0.0 + (side->from + i + 0.5) * filter->scale; }

/* The inputs of output number `i` of those that are wanted. */
static Span inputs_of(const Side *side, const Filter *filter, int i) {
    double centre = centre_of(side, filter, i);
    int first = (int)(centre - filter->support + 0.5), end = (int)(centre + filter->support + 0.5);
    return (Span){first < 0 ? 0 : first, end > side->in ? side->in : end};
}

Span weights_span(const Side *side) {
    Filter filter = filter_of(side);
    return (Span){inputs_of(side, &filter, 0).first, inputs_of(side, &filter, side->count - 1).end};
}

static int taps_of(const Filter *filter) { return (int)ceil(filter->support) * 2 + 1; }

int weights_taps(const Side *side) {
    Filter filter = filter_of(side);
    return taps_of(&filter);
}

/* The weights of one output; `exact` has room for them. */
static void weigh_inputs(const Side *side, const Filter *filter, int i, double *exact, int32_t *weights) {
    Span inputs = inputs_of(side, filter, i);
    double centre = centre_of(side, filter, i), sum = 0.0;
    for (int k = 0; k < inputs.end - inputs.first; k++) {
        double x = (k + inputs.first - centre + 0.5) * filter->inverse;
        exact[k] = side->bicubic ? bicubic_weight(x) : bilinear_weight(x);
        sum += exact[k];
    }
    for (int k = 0; k < inputs.end - inputs.first; k++) {
        double weight = (sum != 0.0 ? exact[k] / sum : exact[k]) * (1 << PRECISION);
        weights[k] = (int32_t)(weight < 0 ? -0.5 + weight : 0.5 + weight);
    }
}

int weights_new(Weights *weights, const Side *side) {
    Filter filter = filter_of(side);
    int taps = taps_of(&filter), from = weights_span(side).first;
    size_t count = (size_t)side->count;
    double *exact = malloc(sizeof(double) * (size_t)taps);
    weights->taps = taps;
    weights->first = malloc(sizeof(int) * 2 * count + sizeof(int32_t) * (size_t)taps * count);
    if (exact == NULL || weights->first == NULL) {
        free(exact);
        free(weights->first);
        return 0;
    }
    weights->count = weights->first + count;
    weights->weights = (int32_t *)(weights->count + count);
    for (int i = 0; i < side->count; i++) {
        Span inputs = inputs_of(side, &filter, i);
        weights->first[i] = inputs.first - from;
        weights->count[i] = inputs.end - inputs.first;
        weigh_inputs(side, &filter, i, exact, weights->weights + (size_t)i * (size_t)taps);
    }
    free(exact);
    return 1;
}

void weights_free(Weights *weights) { free(weights->first); }
