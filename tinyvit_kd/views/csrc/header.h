/* Which JPEG files the fast decoder may touch. */
#ifndef VIEWS_HEADER_H
#define VIEWS_HEADER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int width, height;
    int components;   /* 1 or 3 */
    int progressive;
    int single_scan;  /* the first scan holds all components of a sequential file */
    int restarts;     /* a restart interval is set */
    int doubtful;     /* Pillow's own header parser may refuse what stands here */
    size_t scan;      /* where the first scan's coded data starts */
} Header;

/* 1 where everything up to the first scan is ordinary, else 0. */
int header_parse(const uint8_t *data, size_t size, Header *header);

/* 1 where the scan's coded data is followed by the end of the image and nothing else. */
int scan_ends_image(const uint8_t *data, size_t size, const Header *header);

#endif
