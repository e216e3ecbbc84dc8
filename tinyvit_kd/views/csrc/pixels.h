/* Part of a JPEG image, as planes of red, green and blue. */
#ifndef VIEWS_PIXELS_H
#define VIEWS_PIXELS_H

#include "header.h"

typedef struct {
    int left, top, width, height;
} Region;

enum { PIXELS_SLACK = 64 }; /* bytes behind the last plane that may be read */

typedef struct {
    uint8_t *planes[3]; /* of the region; the first is to be freed, the others are parts of it or the same */
    size_t stride;
    Region region;      /* what was decoded: at least what was asked for */
} Pixels;

/* 1, or 0 where the file is not for this decoder. */
typedef int DecodeRegion(const uint8_t *data, size_t size, const Header *header, Region wanted, Pixels *pixels);

#endif
