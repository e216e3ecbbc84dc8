/* Part of an image, as planes of red, green and blue. */
#ifndef VIEWS_PIXELS_H
#define VIEWS_PIXELS_H

#include "header.h"

typedef struct {
    int left, top, width, height;
} Region;

enum { PIXELS_SLACK = 64 }; /* bytes after the last plane that may be read */

typedef struct {
    uint8_t *planes[3]; /* of the region; only the first must be freed, the others point into it or are equal to it */
    size_t stride;
    Region region;      /* what was decoded, which contains the wanted region */
} Pixels;

/* Returns 1, or 0 if this decoder cannot decode the file. */
typedef int DecodeRegion(const uint8_t *data, size_t size, const Header *header, Region wanted, Pixels *pixels);

#endif
