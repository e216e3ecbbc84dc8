/* Decoding by libjpeg-turbo of just the columns and rows that views need.
 *
 * Any warning ends the attempt; the reference renderer then decides what the file is.
 */
#include "decode.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

enum { ROWS_AT_ONCE = 16 };

typedef struct {
    struct jpeg_error_mgr manager;
    jmp_buf leave;
} Errors;

typedef struct {
    struct jpeg_decompress_struct jpeg;
    Errors errors;
    Pixels *pixels;
    uint8_t *rows; /* ROWS_AT_ONCE rows of RGB */
} Decoder;

static void on_error(j_common_ptr jpeg) { longjmp(((Errors *)jpeg->err)->leave, 1); }

static void on_message(j_common_ptr jpeg, int level) {
    if (level < 0) {
        longjmp(((Errors *)jpeg->err)->leave, 1);
    }
}

static void create(Decoder *decoder, const uint8_t *data, size_t size) {
    jpeg_create_decompress(&decoder->jpeg);
    jpeg_mem_src(&decoder->jpeg, (unsigned char *)data, (unsigned long)size);
    jpeg_read_header(&decoder->jpeg, TRUE);
}

static int sampling_is_usual(const struct jpeg_decompress_struct *jpeg) {
    const jpeg_component_info *info = jpeg->comp_info;
    if (jpeg->num_components == 1) {
        return info[0].h_samp_factor == 1 && info[0].v_samp_factor == 1;
    }
    for (int i = 1; i < 3; i++) {
        if (info[i].h_samp_factor != 1 || info[i].v_samp_factor != 1) {
            return 0;
        }
    }
    return info[0].h_samp_factor <= 2 && info[0].v_samp_factor <= 2;
}

static int is_usual(const struct jpeg_decompress_struct *jpeg, const Header *header) {
    J_COLOR_SPACE space = header->components == 1 ? JCS_GRAYSCALE : JCS_YCbCr;
    return jpeg->num_components == header->components && jpeg->jpeg_color_space == space &&
           (int)jpeg->image_width == header->width && (int)jpeg->image_height == header->height &&
           jpeg->data_precision == 8 && !jpeg->arith_code && sampling_is_usual(jpeg);
}

/* If coefficients of a progressive file are missing, libjpeg smooths its blocks, and versions differ in how. */
static int is_complete(const struct jpeg_decompress_struct *jpeg) {
    for (int i = 0; jpeg->progressive_mode && i < jpeg->num_components; i++) {
        for (int k = 0; k < DCTSIZE2; k++) {
            if (jpeg->coef_bits == NULL || jpeg->coef_bits[i][k] != 0) {
                return 0;
            }
        }
    }
    return 1;
}

/* Columns in whole blocks, with one more block on each side, because upsampling uses neighbours. */
static void crop_columns(struct jpeg_decompress_struct *jpeg, const Region *wanted, Region *region) {
    int block = jpeg->max_h_samp_factor * DCTSIZE, width = (int)jpeg->image_width;
    int left = wanted->left - block > 0 ? wanted->left - block : 0;
    int right = wanted->left + wanted->width + block < width ? wanted->left + wanted->width + block : width;
    JDIMENSION offset = (JDIMENSION)left, columns = (JDIMENSION)(right - left);
    if (columns < jpeg->image_width) {
        jpeg_crop_scanline(jpeg, &offset, &columns);
    }
    region->left = (int)offset;
    region->width = (int)columns;
}

/* Split RGB pixels into three planes. */
static void split(const uint8_t *rgb, int count, Pixels *pixels, size_t offset) {
    uint8_t *red = pixels->planes[0] + offset, *green = pixels->planes[1] + offset, *blue = pixels->planes[2] + offset;
    for (int i = 0; i < count; i++) {
        red[i] = rgb[3 * i];
        green[i] = rgb[3 * i + 1];
        blue[i] = rgb[3 * i + 2];
    }
}

static int read_rows(Decoder *decoder) {
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    Pixels *pixels = decoder->pixels;
    int top = pixels->region.top, width = pixels->region.width, height = pixels->region.height, row = 0;
    JSAMPROW rows[ROWS_AT_ONCE];
    if (top > 0 && jpeg_skip_scanlines(jpeg, (JDIMENSION)top) != (JDIMENSION)top) {
        return 0;
    }
    for (int i = 0; i < ROWS_AT_ONCE; i++) {
        rows[i] = decoder->rows + (size_t)i * 3 * (size_t)width;
    }
    while (row < height) {
        int count = height - row < ROWS_AT_ONCE ? height - row : ROWS_AT_ONCE;
        count = (int)jpeg_read_scanlines(jpeg, rows, (JDIMENSION)count);
        for (int i = 0; i < count; i++, row++) {
            split(rows[i], width, pixels, (size_t)row * pixels->stride);
        }
    }
    return 1;
}

static int memory_new(Decoder *decoder) {
    Pixels *pixels = decoder->pixels;
    size_t plane = (size_t)pixels->region.width * (size_t)pixels->region.height;
    pixels->stride = (size_t)pixels->region.width;
    decoder->rows = malloc((size_t)pixels->region.width * 3 * ROWS_AT_ONCE);
    pixels->planes[0] = malloc(3 * plane + PIXELS_SLACK);
    if (pixels->planes[0] == NULL || decoder->rows == NULL) {
        return 0;
    }
    pixels->planes[1] = pixels->planes[0] + plane;
    pixels->planes[2] = pixels->planes[1] + plane;
    return 1;
}

static int decode(Decoder *decoder, const uint8_t *data, size_t size, const Header *header, const Region *wanted) {
    Pixels *pixels = decoder->pixels;
    create(decoder, data, size);
    if (!is_usual(&decoder->jpeg, header)) {
        return 0;
    }
    decoder->jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&decoder->jpeg);
    if (!is_complete(&decoder->jpeg)) {
        return 0;
    }
    crop_columns(&decoder->jpeg, wanted, &pixels->region);
    pixels->region.top = wanted->top;
    pixels->region.height = wanted->height;
    return memory_new(decoder) && read_rows(decoder);
}

int decode_region(const uint8_t *data, size_t size, const Header *header, Region wanted, Pixels *pixels) {
    Decoder decoder;
    int done = 0;
    memset(&decoder, 0, sizeof decoder);
    memset(pixels, 0, sizeof *pixels);
    if (header->single_scan && !scan_ends_image(data, size, header)) {
        return 0;
    }
    decoder.pixels = pixels;
    decoder.jpeg.err = jpeg_std_error(&decoder.errors.manager);
    decoder.errors.manager.error_exit = on_error;
    decoder.errors.manager.emit_message = on_message;
    if (setjmp(decoder.errors.leave) == 0) {
        done = decode(&decoder, data, size, header, &wanted);
    } else {
        done = 0;
    }
    jpeg_destroy_decompress(&decoder.jpeg);
    free(decoder.rows);
    if (!done) {
        free(pixels->planes[0]);
        pixels->planes[0] = NULL;
    }
    return done;
}

int decode_coefficients(const uint8_t *data, size_t size) {
    Decoder decoder;
    int done = 0;
    memset(&decoder, 0, sizeof decoder);
    decoder.jpeg.err = jpeg_std_error(&decoder.errors.manager);
    decoder.errors.manager.error_exit = on_error;
    decoder.errors.manager.emit_message = on_message;
    if (setjmp(decoder.errors.leave) == 0) {
        create(&decoder, data, size);
        done = jpeg_read_coefficients(&decoder.jpeg) != NULL;
    } else {
        done = 0;
    }
    jpeg_destroy_decompress(&decoder.jpeg);
    return done;
}
