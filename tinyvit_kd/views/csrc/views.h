/* Views of an image from numbers that are checked here: all that the Python module does, without Python. */
#ifndef VIEWS_VIEWS_H
#define VIEWS_VIEWS_H

#include "view.h"

typedef struct {
    const uint8_t *data;
    size_t bytes;
    int width, height; /* of RGB; both 0: a JPEG file */
} Image;

/* All views' parameters, one view after the other: PARAMS_HEAD numbers, its operations, its boxes. */
typedef struct {
    const double *numbers;
    size_t count;
} Params;

typedef struct {
    uint8_t *views; /* [bytes / (3 * size * size), 3, size, size]; undefined where they are not made */
    size_t bytes;
} Out;

typedef enum {
    VIEWS_LEFT, /* the reference renderer must do it */
    VIEWS_MADE,
    VIEWS_INVALID, /* the arguments describe no views */
    VIEWS_NO_MEMORY,
} Outcome;

Outcome views_render(const Image *image, const Params *params, const Style *style, const Processor *processor, const Out *out);

/* 1 where a JPEG file may be decoded here, else 0. */
int views_header(const uint8_t *data, size_t bytes, Header *header);

/* A part of a JPEG file by one decoder; 0 where the part is none of the image, or the file is not for the decoder. */
int views_decode(const uint8_t *data, size_t bytes, DecodeRegion *decode, Region wanted, Pixels *pixels);

#endif
