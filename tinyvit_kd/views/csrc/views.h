/* Views of an image from numbers, which are checked here: what the Python module does, without Python. */
#ifndef VIEWS_VIEWS_H
#define VIEWS_VIEWS_H

#include "view.h"

typedef struct {
    const uint8_t *data;
    size_t bytes;
    int width, height; /* of RGB pixels; both are 0 for a JPEG file */
} Image;

/* Parameters of all views, one view after the other: PARAMS_HEAD numbers, then operations, then boxes. */
typedef struct {
    const double *numbers;
    size_t count;
} Params;

typedef struct {
    uint8_t *views; /* [bytes / (3 * size * size), 3, size, size]; undefined unless VIEWS_MADE */
    size_t bytes;
} Out;

typedef enum {
    VIEWS_LEFT, /* left to the reference renderer */
    VIEWS_MADE,
    VIEWS_INVALID, /* the arguments do not describe views */
    VIEWS_NO_MEMORY,
} Outcome;

Outcome views_render(const Image *image, const Params *params, const Style *style, const Processor *processor, const Out *out);

/* Returns 1 if a JPEG file may be decoded here, else 0. */
int views_header(const uint8_t *data, size_t bytes, Header *header);

/* Decode part of a JPEG file; returns 0 if the part is not inside the image or the decoder cannot decode the file. */
int views_decode(const uint8_t *data, size_t bytes, DecodeRegion *decode, Region wanted, Pixels *pixels);

#endif
